"""GEN003: answers run on instead of ending by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import (
    enough,
    faults_of,
    loud,
    other_end_place,
    quoted,
    room_to_end,
    said_all,
    share,
    where,
)
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.written_markers import written_end_marker


def answers_never_end(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many answers end by themselves, and which end token the others write without being stopped by it.
    Why it matters:
        A model that never ends fills every answer up to the limit with whatever comes. Either it was never taught to
        end, or it does end and generate() waits for another token; the first needs training, the second one line.
    How it is measured:
        Greedy and sampled answers get at least `gen_room` times the tokens of their gold answer where there is one.
        The share that ended is compared with `gen_stop_rate_min` and `gen_stop_rate_low`. Separately, answers are
        searched for tokens named like an end (<|im_end|>, <|eot_id|>, the tokenizer's eos) that are not among the
        stop ids and are followed by at least three more tokens. A low share counts against the model only where gold
        answers show that there was room; without them it is only told. Answers that were cut off although they begin
        with all of their gold answer are counted: those were complete and ran on. Where they spell an
        end marker out in characters, that is said instead (GEN002).
    Known false alarms:
        Long answers to open questions are cut off by any limit, so without gold answers nothing is judged. Greedy
        loops never end either: where sampling does end, the loops are the finding (GEN004).
    Fix:
        Stop on the token that the model writes (generation_config.eos_token_id); where it writes none, train with the
        end token in the labels.
    References:
        https://github.com/QwenLM/Qwen3/issues/927
        https://github.com/unslothai/unsloth/issues/419
        https://github.com/huggingface/trl/issues/1623
        https://github.com/huggingface/trl/issues/734
    """
    grid = subject.generations
    enough(grid, limits)
    for name in grid.answers:
        subject.metrics[f"gen.stop_rate.{name}"] = round(share([a.ended for a in grid.answers[name]]), 4)
    answers = [a for name in ("greedy", "sampling") for a in grid.answers.get(name, ())]
    ran_on = [(a, a.ids[place]) for a in answers if (place := other_end_place(grid, a)) is not None]
    if len(ran_on) >= max(2, limits["gen_other_end_share"] * len(answers)):
        token = Counter(t for _, t in ran_on).most_common(1)[0][0]
        shown = [a for a, t in ran_on if t == token]
        yield error(
            "other_end_token", *[(where(grid, a), quoted(a)) for a in shown[:3]],
            token=grid.token_names.get(token, str(token)), id=token, n=len(shown), total=len(answers),
            stops=_named(grid, grid.stops),
        )  # fmt: skip
        return
    judged = [a for a in answers if room_to_end(grid, a.row, limits)]
    greedy = [a for a in judged if a.strategy == "greedy"]
    if len(greedy) < limits["gen_answers_min"]:
        ended = sum(a.ended for a in answers)
        outcome = ok if ended >= limits["gen_stop_rate_min"] * len(answers) else info
        yield outcome("unjudged", n=ended, total=len(answers), cap=grid.cap)
        return
    rate = {n: share([a.ended for a in judged if a.strategy == n]) for n in ("greedy", "sampling") if n in grid.answers}
    best = max(rate.values())
    endless = [a for a in greedy if not a.ended]
    loops = share([faults_of(grid, a, limits).loop for a in endless])
    spelled = [marker for a in endless if (marker := written_end_marker(a.plain)) is not None]
    complete = share([said_all(grid, a, limits) for a in endless])
    evidence = [(where(grid, a), quoted(a)) for a in endless[:3]]
    numbers = {
        "greedy": round(100 * rate["greedy"]), "sampling": round(100 * rate.get("sampling", rate["greedy"])),
        "cap": grid.cap, "n": len(greedy), "stops": _named(grid, grid.stops),
    }  # fmt: skip
    bad, doubtful = loud(grid, limits)
    if best >= limits["gen_stop_rate_min"]:
        yield ok("ok", **numbers)
    elif len(spelled) >= limits["gen_marker_share"] * len(endless):
        yield bad("spells_its_end", *evidence, marker=spelled[0], **numbers)
    elif best <= limits["gen_stop_rate_low"] and complete >= limits["gen_ran_on_share"]:
        yield bad("ran_on", *evidence, complete=round(100 * complete), **numbers)
    elif loops >= 0.5:
        yield bad("loops_instead", *evidence, **numbers)
    elif best <= limits["gen_stop_rate_low"]:
        yield bad("never", *evidence, **numbers)
    else:
        yield doubtful("seldom", *evidence, **numbers)


def _named(grid: AnswerGrid, ids: tuple[int, ...]) -> str:
    return ", ".join(f"{grid.token_names.get(i, '?')} ({i})" for i in ids) or "–"
