"""LOG001: what was found in the files given as a log."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds

JUDGED = ("loss", "eval_loss", "reward", "rewards/margins", "rewards/accuracies", "accuracy", "eval_accuracy")


def log_unreadable(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the files hold a training log, in which format, and how much of it is whole.
    Why it matters:
        What can't be read can't be judged; a run that was killed while it wrote leaves half a record.
    How it is measured:
        The format is told by the content. A JSON document that ends in the middle gives every record before that.
        Lines, records, rows and steps are counted.
    Known false alarms:
        None known: it says what was read.
    Fix:
        Give the file that the trainer writes (trainer_state.json, trainer_log.jsonl, logging.jsonl, event files), or
        the terminal's output as it was redirected.
    References:
        https://huggingface.co/docs/transformers/main_classes/callback
    """
    log = subject.log
    if log.problem == "no_metrics" and isinstance(log.settings.get("mean_train_loss"), float):
        yield info("only_a_summary", ("train_loss", log.settings["mean_train_loss"]), files=list(log.files))
        return
    if log.problem == "no_metrics" and log.messages and not subject.crashed:
        said = sorted({m.id for m in log.messages})
        yield info("messages_only", ("lines found", said), files=list(log.files), lines=log.lines)
        return
    if log.problem is not None:
        what = {"files": list(log.files), "detail": log.detail, "lines": log.lines}
        if log.problem == "no_metrics":
            keys = [k for k in log.keys if not k.startswith("eval_")][:8]
            outcome = "records_without_metrics" if keys else "no_metrics_but_crash" if subject.crashed else "no_metrics"
            yield error(outcome, ("names found", keys), keys=keys, **what)
        else:
            yield error(log.problem, ("files", list(log.files)), **what)
        return
    for note in log.notes:
        yield _note(note.id, dict(note.params))
    if not any(name in log.curves for name in JUDGED) and not any(n.endswith("_loss") for n in log.curves):
        names = list(log.curves)[:8]
        yield warning("no_loss", ("names found", names), keys=names, records=log.records)
        return
    unit = "steps" if log.steps_known else "rows"
    yield ok(
        "ok" if unit == "steps" else "ok_without_steps",
        ("formats", list(log.formats)),
        files=list(log.files),
        formats=list(log.formats),
        kind=log.kind,
        rows=log.records,
        last=f"{log.last_step:g}",
    )


def _note(outcome: str, params: dict[str, object]) -> Observation:
    """A note of the reading; a file that can't be read at all is a warning, as the rest of the run still counts."""
    if outcome == "file_not_read":
        return warning("file_not_read", (str(params["file"]), params["problem"]), **params)
    return info(outcome, (str(params["file"]), params.get("n")), **params)
