"""CMP022: answers to replayed cases that still run in loops."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import ReplaySummary


def loops_remain(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many answers to the cases repeat themselves, with the base and with the model after.
    Why it matters:
        Repetition is what most bad cases are replayed for. More loops than before mean that the training made it worse.
    How it is measured:
        Answers that end in a loop, counted over the same cases and the same decoding.
    Known false alarms:
        Cases whose right answer repeats itself, such as a table or a song.
    Fix:
        Pairs whose rejected answers loop and whose chosen ones end (recipe dpo_repetition_badcase); a lower learning
        rate; look at GEN004 of the checkpoint.
    References:
        https://arxiv.org/abs/1908.04319
    """
    base_name = subject.replay.models[0].name if subject.replay.models else ""
    for one in subject.replayed:
        before = _loops_of_base(subject, base_name, one)
        numbers = {"model": one.model, "base": base_name, "before": before, "after": one.repeats, "cases": one.cases}
        evidence = [("answers in loops, before and after", [before, one.repeats])]
        many = one.repeats - before >= max(2.0, limits["replay_loops_error"] * one.cases)
        if one.repeats > before and many:
            yield error("many_more", *evidence, **numbers)
        elif one.repeats > before:
            yield warning("more", *evidence, **numbers)
        elif one.repeats == before and one.repeats:
            yield warning("as_many", *evidence, **numbers)
        elif one.repeats:
            yield info("fewer", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)


def _loops_of_base(subject: EvaluationSubject, base_name: str, one: ReplaySummary) -> int:
    """Of the base's answers to the cases that this model answered too, which are fewer where the run was ended."""
    base = next((s for s in subject.replay.summary if s.model == base_name), None)
    if base is None or base.cases == one.cases:
        return base.repeats if base is not None else 0
    answered = {row.case for row in subject.replay.rows if row.model == one.model}
    return sum(row.repeats for row in subject.replay.rows if row.model == base_name and row.case in answered)
