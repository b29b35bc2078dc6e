"""CMP007: answers in another language or script than before."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation.measured_change import worst_changes
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, ok, warning
from diagnostics.thresholds import Thresholds


def language_switched(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers stay in the language of their prompt as often as before.
    Why it matters:
        A model trained on pairs of one language, or pushed too far from its reference, answers Chinese questions in
        English or mixes scripts; reward models often don't mind.
    How it is measured:
        Share of answers written in the script of the prompt, paired over the same prompts; the nearer end of the 95%
        interval decides.
    Known false alarms:
        Translation, and prompts that ask for code or another language.
    Fix:
        Balance the pairs by language; put answers in the wrong language among the rejected ones.
    References:
        https://arxiv.org/abs/2406.20052
    """
    for change in worst_changes(subject, *LANGUAGE, more_is_worse=False):
        if change.harm > limits["compare_language_error"]:
            yield error("switched", *change.evidence, **change.numbers)
        elif change.harm > limits["compare_language_warn"]:
            yield warning("switches_more", *change.evidence, **change.numbers)
        else:
            yield ok("ok", *change.evidence, **change.numbers)


LANGUAGE = ("same_language",)
