"""GEN004: answers go round in circles."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import standing_if_measured
from diagnostics.generation.answer_faults import enough, faults_of, loud, quoted, share, where
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.repetition import diversity, pooled_repeated_share


def answers_repeat(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How much answers repeat themselves, under greedy decoding and under sampling apart from each other.
    Why it matters:
        Loops under both mean that the model itself is stuck. Loops under greedy alone are common in small models and
        vanish with other decoding settings. Repetition is also what too strong a preference training leaves behind.
    How it is measured:
        A loop is one unit said at least `gen_loop_repeats` times that fills `gen_loop_share` of an answer, over token
        ids or characters (never words: a Chinese loop is one word). rep-4 is 1 - unique/total 4-grams of token ids,
        pooled over answers, minus the same number of the gold answers: tables and code repeat rightly.
    Known false alarms:
        Base models loop under greedy on any prompt; that alone is a warning only on the user's own data.
    Fix:
        Loops under greedy only: decode with sampling or a mild repetition_penalty. Loops under both: train longer
        when undertrained; after preference training lower the learning rate, add an SFT term, or put the loops into
        `rejected`.
    References:
        https://github.com/yxuansu/SimCTG
        https://github.com/hiyouga/LlamaFactory/issues/1347
        https://github.com/NJUNLP/MAPO/issues/3
        https://arxiv.org/abs/2202.06417
    """
    grid = subject.generations
    loops: dict[str, float] = {}
    for name, answers in grid.answers.items():
        loops[name] = share([faults_of(grid, a, limits).loop for a in answers])
        texts = [a.content_ids for a in answers]
        subject.metrics[f"gen.loop_share.{name}"] = round(loops[name], 4)
        for n in (1, 2, 3, 4):
            subject.metrics[f"gen.rep{n}.{name}"] = round(pooled_repeated_share(texts, n), 4)
        long_enough = [diversity(t) for t in texts if len(t) >= 4]
        if long_enough:
            subject.metrics[f"gen.diversity.{name}"] = round(sum(long_enough) / len(long_enough), 4)
    enough(grid, limits)
    golds = grid.golds()
    # Characters on both sides: golds are not tokenised here, and loops differ by far more than the unit does.
    gold_rep = pooled_repeated_share(golds, 4) if golds else None
    whole = [[a.plain for a in grid.answers.get(n, ()) if a.ended] for n in ("greedy", "sampling")]
    rep = min(pooled_repeated_share(texts, 4) for texts in whole)
    judged = min(len(texts) for texts in whole) >= limits["gen_answers_min"]  # of those cut off, GEN003 speaks
    looping = [a for n in ("greedy", "sampling") for a in grid.answers.get(n, ()) if faults_of(grid, a, limits).loop]
    evidence = [(where(grid, a), quoted(a)) for a in looping[:3]]
    numbers = {
        "greedy": round(100 * loops["greedy"]), "sampling": round(100 * loops.get("sampling", 0.0)),
        "rep_greedy": round(100 * subject.metrics["gen.rep4.greedy"]),
        "rep_sampling": round(100 * subject.metrics.get("gen.rep4.sampling", 0.0)), "n": len(grid.asked),
    }  # fmt: skip
    bad, doubtful = loud(grid, limits)
    many = limits["gen_loop_answers"]
    if loops["greedy"] >= many and loops.get("sampling", 0.0) >= limits["gen_loop_answers_sampling"]:
        # Nearly every answer, drawn ones too: no question is so foreign that a sound model answers so.
        always = min(loops["greedy"], loops.get("sampling", 0.0)) >= limits["gen_loop_always"]
        # A model that has learned its rows and loops all the same was taught to: it isn't short of training.
        known = standing_if_measured(subject, limits) if always else None
        learned = known is not None and known.source == "data" and known.level == "knows"
        yield (warning if always and bad is info else bad)("learned" if learned else "under_both", *evidence, **numbers)
    elif loops["greedy"] >= many:
        own_avoids = not grid.own.same_as_greedy and loops.get("own", 1.0) < many / 3
        yield (info if own_avoids or gold_rep is None else doubtful)("under_greedy", *evidence, **numbers)
    elif loops.get("sampling", 0.0) >= many:
        yield doubtful("under_sampling", *evidence, **numbers)
    elif judged and gold_rep is not None and rep - gold_rep >= limits["gen_rep4_excess"] and _long(grid):
        yield doubtful("more_than_gold", *evidence, gold=round(100 * gold_rep), percent=round(100 * rep), **numbers)
    else:
        yield ok("ok", **numbers)


def _long(grid: AnswerGrid) -> bool:
    """rep-4 of answers of a few tokens says nothing."""
    lengths = [len(a.content_ids) for a in grid.answers["greedy"]]
    return sum(lengths) / len(lengths) >= 12
