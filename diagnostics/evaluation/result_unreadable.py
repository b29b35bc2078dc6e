"""CMP040: whether the file holds a whole result of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import ReplayResult


def result_unreadable(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the file is the result of an evaluation, and whether that evaluation came to its end.
    Why it matters:
        Of anything else nothing can be judged. Figures of an interrupted run are of the rows it had reached, which are
        the first ones of the file and not a sample of all.
    How it is measured:
        The form that `python -m pipeline score`, `compare`, `replay` and `abilities` write; their mark of interruption,
        and the models that a replay could not measure.
    Known false alarms:
        A result written by a newer version with fields of another type.
    Fix:
        Give the result file that those commands name at their end, or run the evaluation again.
    References:
        https://json-schema.org/draft/2020-12/schema
    """
    if subject.result is None:
        yield error("unreadable", ("path", str(subject.path)), ("reason", subject.problem))
        return
    lacking = subject.result.unmeasured if isinstance(subject.result, ReplayResult) else {}
    if lacking:
        reasons = [{lang: f"{name}: {said}" for lang, said in why.items()} for name, why in lacking.items()]
        evidence = [("unmeasured", name) for name in lacking]
        yield warning("unmeasured", *evidence, reasons=reasons, count=len(lacking), of=len(subject.replay.models))
    if subject.result.interrupted:
        yield info("interrupted")
    elif not lacking:
        yield ok("ok", kind=subject.kind)
