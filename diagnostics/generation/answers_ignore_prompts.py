"""GEN008: the same answer to every prompt, or answers to somebody else's question."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import enough, loud, own_words, quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.answer_overlap import largest_same_share, topic_fit
from pipeline.repetition import distinct


def answers_ignore_prompts(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether different prompts get different answers, and whether an answer fits its own question better than others.
    Why it matters:
        Answers that don't depend on the prompt come from weights that never learned to read it: training just begun,
        training gone too far, or another model than the one meant. As rejected answers they teach nothing.
    How it is measured:
        The share of the most frequent greedy answer, against the same share of the gold answers. With gold answers
        also the topic fit: how often an answer shares more rare words (characters in Chinese) with its own gold
        answer than with another row's. 50% is chance; judged by its mean plus two standard errors, on at least
        `gen_topic_rows` rows and among gold answers of one script.
    Known false alarms:
        Classifiers answer few labels rightly: short answers, short gold answers and equal gold answers are left out.
        Answers in another language than the gold share nothing with it (see GEN009).
    Fix:
        Check that the checkpoint is the result of the fine-tuning (--base, WGT006) and asked in its own prompt format
        (FWD004).
    References:
        https://github.com/huggingface/trl/issues/1884
        https://arxiv.org/abs/1510.03055
    """
    grid = subject.generations
    greedy = grid.answers["greedy"]
    if len({a.question for a in grid.asked}) < max(limits["gen_answers_min"], 4):
        raise NotMeasured("too_few_answers", n=len(grid.asked), least=int(limits["gen_answers_min"]))
    enough(grid, limits)
    written = [own_words(grid, a) for a in greedy]
    same, text = largest_same_share([t for t in written if t.strip()])
    golds = grid.golds()
    gold_same = largest_same_share(golds)[0] if len(golds) == len(greedy) else None
    subject.metrics["gen.same_answer_share"] = round(same, 4)
    subject.metrics["gen.distinct2"] = round(distinct([a.content_ids for a in greedy], 2), 4)
    fit = topic_fit(written, golds) if len(golds) == len(greedy) else None
    if fit is not None:
        subject.metrics["gen.topic_fit"] = round(fit.fit, 4)
        subject.metrics["gen.gold_overlap"] = round(fit.overlap, 4)
    bad, doubtful = loud(grid, limits)
    alike = [a for a in greedy if " ".join(own_words(grid, a).lower().split()) == text]
    long_enough = bool(alike) and len(alike[0].content_ids) >= limits["gen_same_tokens"]
    more_than_gold = same - gold_same >= limits["gen_same_above_gold"] if gold_same is not None else long_enough
    evidence = [(where(grid, a), quoted(a)) for a in (alike if more_than_gold else greedy)[:3]]
    numbers = {"percent": round(100 * same), "n": len(greedy)}
    sure = fit is not None and fit.rows >= limits["gen_topic_rows"] and fit.upper <= limits["gen_topic_fit"]
    if same >= limits["gen_same_share"] and len(alike) >= 3 and more_than_gold:
        yield bad("same", *evidence, text=text[:80], **numbers)
    elif fit is not None and sure and fit.fit <= limits["gen_topic_fit_low"]:
        yield error("off_topic", *evidence, fit=round(100 * fit.fit), rows=fit.rows)
    elif fit is not None and sure:
        yield warning("hardly_on_topic", *evidence, fit=round(100 * fit.fit), rows=fit.rows)
    elif same >= limits["gen_same_share"] / 2 and len(alike) >= 4 and more_than_gold and long_enough:
        yield doubtful("often_same", *evidence, text=text[:80], **numbers)
    elif fit is not None:
        yield ok("on_topic", fit=round(100 * fit.fit), rows=fit.rows, **numbers)
    else:
        yield ok("ok", **numbers)
