"""Rows that only ask: what a model is to answer needs no answer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.pairs.all_formats import SUPERVISED
from pipeline.pairs.format import build
from pipeline.pairs.llamafactory_formats import alpaca_prompt
from pipeline.pairs.pair import Message, Pair
from pipeline.pairs.supervised_formats import TALKS
from pipeline.pairs.turns import NotThisShape, as_turns

ASKING = (
    "prompt", "question", "query", "user", "human", "problem", "input", "source", "src", "text", "问题", "提示", "问",
    "指令",
)  # fmt: skip
_ANSWERS = ("chosen", "rejected")  # of which one is there but empty


def read_asked(value: Any) -> Pair | None:
    """A pair without a rejected answer, and without a chosen one where the row has none; None for a row that asks
    nothing. value: a record, or the text of a prompt."""
    if isinstance(value, str):
        return Pair([{"role": "user", "content": value}], None, None) if value.strip() else None
    if not isinstance(value, Mapping):
        return None
    for one in SUPERVISED.values():
        try:
            if one.recognise(value):
                return one.read(value)
        except NotThisShape:
            continue
    try:
        turns, used, second = _asked(value)
        pair = build(value, turns, None, None, (*used, *_ANSWERS)) if turns else None
    except NotThisShape:
        return None
    if pair is not None and second:
        pair.extra["input"] = second
    return pair if pair is not None and pair.prompt else None


def _asked(value: Mapping[str, Any]) -> tuple[list[Message], tuple[str, ...], str]:
    """The turns, the columns they stand in, and the `input` that an instruction ends with."""
    if isinstance(value.get("instruction"), str) and value["instruction"].strip():
        turns, second = alpaca_prompt(value)
        return turns, ("instruction", "input", "history"), second
    for name in (*TALKS, *ASKING):
        if turns := as_turns(value.get(name)) or []:
            while turns and turns[-1]["role"] == "assistant":
                turns = turns[:-1]
            return turns, (name,), ""
    for name in ASKING:
        if isinstance(text := value.get(name), str) and text.strip():
            return [{"role": "user", "content": text}], (name,), ""
    return [], (), ""
