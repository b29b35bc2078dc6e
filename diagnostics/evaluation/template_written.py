"""CMP012: answers that hold marks of a chat template."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation.measured_change import worst_changes
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok, warning
from diagnostics.thresholds import Thresholds


def template_written(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers hold role names or other marks of a chat template more often than before.
    Why it matters:
        Marks that stand in the training pairs are learned as text: users then see them, and answers go on with turns of
        their own.
    How it is measured:
        Share of answers with such marks, paired over the same prompts; the lower end of the 95% interval decides.
    Known false alarms:
        Prompts about chat templates.
    Fix:
        Look for template text in the pairs (`python -m diagnostics pairs`, PRF008), and train again without it.
    References:
        https://huggingface.co/docs/transformers/chat_templating
    """
    for change in worst_changes(subject, *TEMPLATE):
        if change.harm > limits["compare_template_warn"]:
            yield warning("more_marks", *change.evidence, **change.numbers)
        else:
            yield ok("ok", *change.evidence, **change.numbers)


TEMPLATE = ("template_text",)
