"""Whether the ids that the configuration uses are tokens of this tokenizer at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.run_checks import NotMeasured
from diagnostics.tokenizer.embedding_size import embedding_size
from pipeline.config_files import load_config
from pipeline.json_file import JsonFile

_KEYS = ("eos_token_id", "bos_token_id", "pad_token_id")


@dataclass(frozen=True)
class ForeignIds:
    """ids: place in the configuration -> id. names: what this tokenizer has there. kind: `absent`, no such tokens;
    `reserved`, tokens that this tokenizer's maker keeps free."""

    kind: str
    ids: Mapping[str, int]
    names: tuple[str, ...]


def foreign_ids(subject: CheckpointSubject) -> ForeignIds | None:
    """None where at least one id fits, or where it can't be known. Raises NotMeasured without a tokenizer."""
    probe, rows = subject.probe, embedding_rows(subject)
    named = configured_ids((subject.model_files.generation_config, subject.model_files.config), _KEYS)
    stops = {where: number for where, number in named.items() if "eos_token_id" in where}
    if not stops or not probe.lists_special_tokens:
        return None
    if rows is not None and any(number >= rows for number in named.values()):
        return None  # a wrong number in the configuration says nothing of the tokenizer
    pieces = dict(zip(named.values(), probe.tokens(list(named.values())), strict=True))
    if all(piece is None for piece in pieces.values()):
        return ForeignIds("absent", named, ())
    eos = probe.special.get("eos", ("", None))[1]
    kept_free = re.compile(load_config("chat_markers.yaml")["reserved"])
    if eos is not None and eos not in stops.values() and all(kept_free.search(pieces[i] or "") for i in stops.values()):
        return ForeignIds("reserved", stops, tuple(str(pieces[i]) for i in stops.values()))
    return None


def embedding_rows(subject: CheckpointSubject) -> int | None:
    """Rows of the embedding, None where neither weights nor configuration tell."""
    try:
        return embedding_size(subject).rows
    except NotMeasured:
        return None


def configured_ids(files: Sequence[JsonFile], keys: Sequence[str]) -> dict[str, int]:
    """Where a token id is configured -> that id, file by file; ids that are none are left to CKP004."""
    found: dict[str, int] = {}
    for file in files:
        for key in keys:
            value = file.get(key)
            for place, number in enumerate(value if isinstance(value, list) else [value]):
                if type(number) is int and number >= 0:
                    found[file.where(f"{key}[{place}]" if isinstance(value, list) else key)] = number
    return found
