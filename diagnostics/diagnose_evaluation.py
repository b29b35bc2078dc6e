"""An evaluation's result file to a report: rewards of a set, before and after, a replay, abilities."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from diagnostics.check_table import EVALUATION_CHECKS
from diagnostics.evaluation_cases import cases_of
from diagnostics.evaluation_points import points_of
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.judge import judge
from diagnostics.report import Report, Subject
from diagnostics.run_checks import Event
from diagnostics.thresholds import load_thresholds
from pipeline.evaluation.results import read_result_file
from pipeline.evaluation.typed_result import typed_result
from pipeline.refusal import Refused


def diagnose_evaluation(
    path: Path, *, lang: str = "en", thresholds: Sequence[str] = (), cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:  # fmt: skip
    """Diagnose the result file that `python -m pipeline score|compare|replay|abilities` wrote.

    subject.kind: scores, comparison, replay or abilities; evaluation where the file holds no result, which is a report
    too. curves: `result` holds the result without its cases, `points` what can be plotted; samples: the cases. Raises
    `Refused` for a path that leads nowhere and an unknown threshold, and `Interrupted` on Ctrl-C.
    """
    limits = load_thresholds(thresholds)
    subject = EvaluationSubject(path, limits)
    try:
        subject.document = read_result_file(path)
        subject.result = typed_result(subject.document, path)
    except Refused as refused:
        subject.problem, subject.document = str(refused.sentence.params["why"]), {}
    except FileNotFoundError:
        raise Refused("file_not_found", option="RESULT", path=path) from None
    except OSError as failed:
        subject.problem = failed.strerror or type(failed).__name__
    if subject.result is not None:
        subject.samples.extend(cases_of(subject.result))
        subject.curves |= points_of(subject)
    return judge(
        subject, EVALUATION_CHECKS[subject.kind], limits, depth="files", lang=lang, cancel=cancel, on_event=on_event,
        usable=subject.result is not None,
        about=lambda: Subject(subject.kind, subject.name, None, subject.fingerprint),
    )  # fmt: skip
