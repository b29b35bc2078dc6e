"""CMP006: answers that end by themselves less often, or run longer."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation.measured_change import worst_changes
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def ends_less(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers end by themselves as often as before, and how their length changed.
    Why it matters:
        An answer that is cut at the limit is half an answer, and costs as much as the longest one. Preference training
        on longer chosen answers makes a model wordy.
    How it is measured:
        Paired differences over the same prompts with their 95% interval, whose nearer end decides; the length as the
        ratio of the means.
    Known false alarms:
        A limit on new tokens that was already short for the model before. Longer answers may be better ones.
    Fix:
        Look whether the end token stands in the chosen answers and inside the loss; balance pairs by length.
    References:
        https://arxiv.org/abs/2403.19159
        https://arxiv.org/abs/2310.03716
    """
    measured = False
    try:
        for change in worst_changes(subject, *ENDED, more_is_worse=False):
            measured = True
            if change.harm > limits["compare_ends_error"]:
                yield error("ends_far_less", *change.evidence, **change.numbers)
            elif change.harm > limits["compare_ends_warn"]:
                yield warning("ends_less", *change.evidence, **change.numbers)
            else:
                yield ok("ok", *change.evidence, **change.numbers)
    except NotMeasured:
        measured = False
    try:
        for change in worst_changes(subject, *LENGTH):
            one = change.measure
            times = one.after.mean / one.before.mean if one.before.mean > 0 else float("nan")
            surely = (one.before.mean + change.harm) / one.before.mean if one.before.mean > 0 else 0.0
            if surely > limits["compare_longer_times"]:
                yield info("longer", *change.evidence, times=times, **change.numbers)
            elif not measured:
                yield ok("length_kept", *change.evidence, times=times, **change.numbers)
    except NotMeasured:
        if not measured:
            raise


ENDED = ("ended",)
LENGTH = ("characters",)
