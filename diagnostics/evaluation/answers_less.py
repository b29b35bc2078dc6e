"""CMP008: prompts that are refused or left without an answer more often than before."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation.measured_change import worst_changes
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def answers_less(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the later model gives no answer, or refuses, more often.
    Why it matters:
        A model that ends at once or declines avoids every mistake a judge could count. It is of no use.
    How it is measured:
        Share of empty answers, and of answers that begin like a refusal, paired over the same prompts; the lower end of
        the 95% interval decides.
    Known false alarms:
        Training for safety on prompts that should be refused. Refusals are recognised by how they begin.
    Fix:
        Empty: look at the end token and at empty chosen answers in the pairs. Refusals: leave declined prompts out of
        the chosen side where they should be answered.
    References:
        https://arxiv.org/abs/2308.01263
    """
    measured = False
    try:
        for change in worst_changes(subject, *EMPTY):
            measured = True
            if change.harm > limits["compare_empty_error"]:
                yield error("far_more_empty", *change.evidence, **change.numbers)
            elif change.harm > limits["compare_empty_warn"]:
                yield warning("more_empty", *change.evidence, **change.numbers)
            else:
                yield ok("ok", *change.evidence, **change.numbers)
    except NotMeasured:
        measured = False
    try:
        for change in worst_changes(subject, *REFUSED):
            if change.harm > limits["compare_refuses_warn"]:
                yield warning("refuses_more", *change.evidence, **change.numbers)
            elif change.harm > 0:
                yield info("refuses_some_more", *change.evidence, **change.numbers)
            elif not measured:
                yield ok("refuses_no_more", *change.evidence, **change.numbers)
    except NotMeasured:
        if not measured:
            raise


EMPTY = ("empty",)
REFUSED = ("refusal",)
