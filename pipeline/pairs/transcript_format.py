"""HH-RLHF's transcripts: both sides repeat the whole talk, its turns marked in the text.

https://huggingface.co/datasets/Anthropic/hh-rlhf
"""

from __future__ import annotations

import re

from pipeline.pairs.format import CannotHold, Format, Record, Written, both, build, plain, rest
from pipeline.pairs.pair import Message, Pair
from pipeline.pairs.turns import NotThisShape, as_side, common_start

_TURN = re.compile(r"\n\n(Human|Assistant):")
_MARKS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}


def _is_transcript(record: Record) -> bool:
    return "prompt" not in record and all(
        isinstance(record.get(k), str) and record[k].lstrip().startswith("Human:") and "\n\nAssistant:" in record[k]
        for k in ("chosen", "rejected")
    )


def turns_of(text: str) -> list[Message]:
    """Turns of one transcript. One space behind a mark belongs to the mark. Raises NotThisShape."""
    first, *parts = _TURN.split(text if text.startswith("\n\n") else f"\n\n{text.lstrip()}")
    if first.strip() or not parts:
        raise NotThisShape("no_transcript")
    found: list[Message] = []
    for who, said in zip(parts[::2], parts[1::2], strict=True):
        role = "user" if who == "Human" else "assistant"
        content = said[1:] if said.startswith(" ") else said
        if found and found[-1]["role"] == role:  # the set has such turns, left by its own writers
            found[-1]["content"] += f"\n\n{who}: {content}"
        else:
            found.append({"role": role, "content": content})
    return found


def _read(record: Record) -> Pair:
    if not isinstance(record.get("chosen"), str) or not isinstance(record.get("rejected"), str):
        raise NotThisShape("no_transcript")
    chosen, rejected = turns_of(record["chosen"]), turns_of(record["rejected"])
    same = common_start(chosen, rejected)
    if not same:
        raise NotThisShape("nothing_in_common")
    return build(record, chosen[:same], as_side(chosen[same:]), as_side(rejected[same:]), ("chosen", "rejected"))


def _write(pair: Pair) -> Written:
    if pair.system is not None:
        raise CannotHold("system")
    before = ""
    for turn in pair.prompt:
        if turn["role"] not in _MARKS or not isinstance(turn["content"], str):
            raise CannotHold("roles")
        if _TURN.search(turn["content"]):
            raise CannotHold("marks_in_text")
        before += _MARKS[turn["role"]] + turn["content"]
    before += _MARKS["assistant"]
    chosen, rejected = map(plain, both(pair))
    if _TURN.search(chosen) or _TURN.search(rejected):
        raise CannotHold("marks_in_text")
    return rest(pair, {"chosen": before + chosen, "rejected": before + rejected})


HH = Format("hh", _is_transcript, _read, _write)
