"""CMP023: cases that got no answer, or whose answer nothing could check."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def cases_failed(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Cases whose generation failed, and cases of which it can't be told whether the answer is right.
    Why it matters:
        They are in no count of fixed or broken ones. A model that fails on all of them has not been replayed at all.
    How it is measured:
        Counts by model, with what went wrong. Cases without a standard answer are checked for loops, empty answers and
        answers that don't end, and nothing else.
    Known false alarms:
        Free text without one right answer can only be read.
    Fix:
        Failed: read the problem named (too long a prompt, memory). Unchecked: add a standard answer, or read these
        cases side by side.
    References:
        https://arxiv.org/abs/2306.05685
    """
    answered = [one for one in subject.replay.summary if one.cases]  # the run may have ended before a model's turn
    for one in answered or subject.replay.summary:
        failed = [row for row in subject.replay.rows if row.model == one.model and row.status == "failed"]
        problems = [row.problem for row in failed if row.problem]
        numbers = {"model": one.model, "failed": one.failed, "unchecked": one.unchecked, "cases": one.cases}
        evidence = [(problem, problems.count(problem)) for problem in list(dict.fromkeys(problems))[:10]]
        if one.cases and one.failed == one.cases:
            yield error("all_failed", *evidence, **numbers)
        elif one.failed:
            yield warning("some_failed", *evidence, **numbers)
        elif one.unchecked:
            yield info("some_unchecked", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)
