"""LOG015: lines in which a program itself says what went wrong."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds

# Ids of configs/log_messages.yaml that are judged here; overflow is LOG014's, the end of the run RUN001's.
WARNINGS = (
    "response_key_missing",
    "labels_all_masked",
    "no_requires_grad",
    "missing_adapter_keys",
    "weights_not_gathered",
    "head_not_saved",
    "right_padding",
    "sampling_not_finite",
    "loss_nan_said",
)
NOTICES = ("newly_initialized", "prompt_mismatch", "lr_before_scheduler")


def messages_in_log(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Known warnings of transformers, TRL, peft, DeepSpeed and unsloth among the lines of a text log.
    Why it matters:
        They name the fault outright and scroll past among thousands of lines.
    How it is measured:
        By the expressions of configs/log_messages.yaml, each with its source; counted, the first one shown.
    Known false alarms:
        `newly initialized` is right for the head of a reward model. A prompt mismatch of a few rows is harmless. Both
        are only mentioned.
    Fix:
        See the sentence of each message.
    References:
        https://github.com/huggingface/trl/issues/1820
        https://github.com/huggingface/peft/issues/137
        https://github.com/huggingface/transformers/issues/21482
    """
    log = subject.log
    if not log.lines:
        raise NotMeasured("no_text_lines")
    told = False
    for message in log.messages:
        evidence = (f"line {message.line}", message.text)
        numbers = {"line": message.line, "found": message.count, "text": message.text}
        if message.id in WARNINGS:
            yield warning(message.id, evidence, **numbers)
            told = True
        elif message.id in NOTICES:
            yield info(message.id, evidence, **numbers)
            told = True
    if not told:
        yield ok("ok", lines=log.lines)
