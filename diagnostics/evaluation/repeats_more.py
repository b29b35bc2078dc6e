"""CMP005: answers that loop more often than before."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation.measured_change import worst_changes
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, ok, warning
from diagnostics.thresholds import Thresholds


def repeats_more(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers repeat themselves more than before: the share of repeated n-grams, and of answers that end in a
        loop.
    Why it matters:
        Loops are the usual way in which preference training with too high a rate or too small a beta goes wrong, and
        the first thing users see.
    How it is measured:
        The mean of the paired differences over the same prompts with its 95% interval; the lower end decides.
    Known false alarms:
        Longer answers repeat more n-grams without looping; lists and tables do, too.
    Fix:
        Go back to an earlier checkpoint; lower the learning rate, raise beta or add an SFT term (`rpo_alpha`); use
        rejected answers that loop (recipe dpo_repetition_badcase).
    References:
        https://arxiv.org/abs/1908.04319
        https://arxiv.org/abs/2404.19733
    """
    for change in worst_changes(subject, *REPETITION):
        if change.harm > limits["compare_repeats_error"]:
            yield error("far_more", *change.evidence, **change.numbers)
        elif change.harm > limits["compare_repeats_warn"]:
            yield warning("more", *change.evidence, **change.numbers)
        else:
            yield ok("ok", *change.evidence, **change.numbers)


REPETITION = ("rep_4", "rep_3", "loops")  # short answers share pairs of words without looping
