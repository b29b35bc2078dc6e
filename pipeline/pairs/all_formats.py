"""Every format by its name, the most particular first: the first that a record looks like is the one it is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.pairs.format import Format
from pipeline.pairs.kto_format import KTO
from pipeline.pairs.llamafactory_formats import ALPACA, SHAREGPT
from pipeline.pairs.messages_formats import MS_SWIFT, OPENAI
from pipeline.pairs.rated_formats import ARGILLA, DISTILABEL, PKU, ULTRAFEEDBACK
from pipeline.pairs.transcript_format import HH
from pipeline.pairs.trl_formats import TRL, TRL_CONVERSATIONAL, TRL_IMPLICIT

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        OPENAI, PKU, ARGILLA, DISTILABEL, ULTRAFEEDBACK, MS_SWIFT, SHAREGPT, ALPACA, TRL_CONVERSATIONAL, TRL_IMPLICIT,
        HH, KTO, TRL,
    )
}  # fmt: skip


# What people and projects call the sides of a pair besides: NeMo (chosen_response), LLaMA-Factory v1
# (chosen_messages), hand-made tables.
ALIASES = {
    "reject": "rejected", "chosen_response": "chosen", "rejected_response": "rejected", "chosen_messages": "chosen",
    "rejected_messages": "rejected", "win": "chosen", "lose": "rejected", "preferred": "chosen",
    "dispreferred": "rejected", "question": "prompt", "query": "prompt",
    "问题": "prompt", "提示": "prompt", "选择": "chosen", "偏好": "chosen", "拒绝": "rejected",
}  # fmt: skip


def format_of(record: Any, columns: Mapping[str, str] | None = None) -> tuple[Format, dict[str, str]] | None:
    """The format one record is in, and the columns that stand there under other names, as far as it shows.

    columns: names of the file by the name they stand for, given by the user; none of ALIASES is tried then.
    """
    if not isinstance(record, Mapping):
        return None
    renamed = {k: v for k, v in (columns or {}).items() if k in record}
    if columns is None:
        if found := _of(record):
            return found, {}
        for name in record:
            plain = name.strip().lower() if isinstance(name, str) else ""
            meant = ALIASES.get(plain, plain)
            if meant != name and meant in ("prompt", "chosen", "rejected") and meant not in record:
                renamed[name] = meant
    found = _of(under_own_names(record, renamed))
    return (found, renamed) if found else None


def under_own_names(record: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """The record with its columns named as the format names them."""
    return {renamed.get(name, name): value for name, value in record.items()}


def _of(record: Mapping[str, Any]) -> Format | None:
    return next((one for one in FORMATS.values() if one.recognise(record)), None)
