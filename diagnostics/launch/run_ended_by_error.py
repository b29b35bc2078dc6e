"""RUN001: what ended the run."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.logs.log_messages import causes_of_messages
from pipeline.logs.training_log import Message

# What still matters after training has come to its end: its result may not have been saved whole.
_HURTS_SAVING = frozenset(
    ("out_of_memory", "oom_kill", "bad_alloc", "disk_full", "file_too_large", "half_written", "port_in_use",
     "missing_dependency", "cannot_import", "device_mismatch", "killed_by_signal", "segmentation_fault")
)  # fmt: skip
OUTCOMES = {name: name for name in causes_of_messages()}  # each message that ends a run is an outcome of this check


def run_ended_by_error(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the log ends in an error, and in which: out of memory, disk full, port in use, a missing package,
        versions that don't fit, devices, number formats, settings, files, data, killed by the system.
    Why it matters:
        A run that stopped by an error has no final model, and the newest checkpoint may be half written.
    How it is measured:
        By the expressions of configs/log_messages.yaml; of several the more telling counts, in the order of that file.
        Steps that were logged after the message show that the run went on or was started again.
    Known false alarms:
        An error that a program caught and survived: steps follow it, so it is only mentioned. Ctrl-C is no fault.
    Fix:
        See the sentence of each.
    References:
        https://pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
        https://pytorch.org/docs/stable/elastic/errors.html
    """
    log = subject.log
    if not log.lines:
        raise NotMeasured("no_text_lines")
    found = {m.id: m for m in log.messages}
    stopped = found.get("interrupted")
    ends = [found[name] for name in causes_of_messages() if name in found]
    ending = next((m for m in ends if not _survived(m, subject)), ends[0] if ends else None)
    if ending is None or (stopped is not None and ending.id == "traceback"):
        if stopped is not None:
            yield info("interrupted", (f"line {stopped.line}", stopped.text), line=stopped.line, text=stopped.text)
        else:
            yield ok("ok", lines=log.lines)
        return
    rows = len(log.step)
    numbers = {
        "line": ending.line,
        "text": ending.text,
        "found": ending.count,
        "step": f"{log.last_step:g}",
        "rows": rows,
    }
    if _survived(ending, subject):
        yield info("survived", (f"line {ending.line}", ending.text), **numbers)
        return
    if _was_finished(subject) and ending.id not in _HURTS_SAVING:
        yield info("after_training", (f"line {ending.line}", ending.text), **numbers)
        return
    yield error(ending.id, (f"line {ending.line}", ending.text), **numbers)


def _survived(message: Message, subject: LogSubject) -> bool:
    """Steps were logged after it."""
    return message.row + 2 < subject.log.records and message.count == 1


def _was_finished(subject: LogSubject) -> bool:
    """Training had come to its end: its summary is there, or the last step that was planned."""
    log = subject.log
    if "train_runtime" in log.settings or "mean_train_loss" in log.settings:
        return True
    epochs, done = log.setting("num_train_epochs"), log.last_epoch
    if log.max_steps and log.last_step >= 0.99 * log.max_steps:
        return True
    return bool(epochs and done and done >= 0.99 * epochs)
