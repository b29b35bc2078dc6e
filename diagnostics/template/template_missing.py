"""TPL003: a chat model without a chat template."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.config_files import load_config

CHAT_NAME = re.compile(r"(?i)(?:^|[-_./])(?:chat|instruct|it|sft|dpo|assistant)(?:$|[-_./\d])")


def template_missing(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether there is a chat template, and whether the model looks as if it needed one.
    Why it matters:
        Without a template everyone guesses the prompt format, and training and generation guess differently.
    How it is measured:
        chat_template.jinja, chat_template.json and tokenizer_config.json; the tokenizer's turn markers and the name.
    Known false alarms:
        Base models and encoder-decoders have none and need none. Some chat models build prompts in their own code.
    Fix:
        Save the template that training used: tokenizer.chat_template = ...; tokenizer.save_pretrained(folder).
    References:
        https://huggingface.co/docs/transformers/chat_templating
    """
    if subject.tokenizer_files.tokenizer.store is None:
        raise NotMeasured("no_tokenizer")
    probe = subject.probe
    if probe.template is not None:
        names = list(probe.template_names)
        yield ok("named" if len(names) > 1 else "ok", (probe.template_source, len(probe.template)),
                 file=probe.template_source, names=names)  # fmt: skip
        return
    if probe.template_problem is not None:
        raise NotMeasured("template_fails")
    markers = [t for t in load_config("chat_markers.yaml")["turn_ends"] if t in probe.added]
    name = says_chat(subject)
    if subject.model_files.is_encoder_decoder or not (markers or name):
        yield ok("not_needed")
    else:
        yield info("missing", ("turn markers", markers), ("name", name), markers=markers or ["-"], name=name or "-")


def says_chat(subject: CheckpointSubject) -> str | None:
    """The name that calls this a chat model: the checkpoint's own, or the one in its configuration."""
    declared = subject.model_files.config.get("_name_or_path")
    return next((n for n in (declared, subject.checkpoint.name) if isinstance(n, str) and CHAT_NAME.search(n)), None)
