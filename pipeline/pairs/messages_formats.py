"""Formats whose talk holds the chosen answer: ms-swift's, and what OpenAI's preference fine-tuning takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.pairs.format import Format, Record, Written, both, build, rest, whole, with_system
from pipeline.pairs.pair import Pair
from pipeline.pairs.turns import NotThisShape, as_side, as_turns, common_start, read_side, side_turns

# --- ms-swift: https://swift.readthedocs.io, custom datasets, RLHF ---

_REJECTED = ("rejected_response", "rejected_messages")


def _is_swift(record: Record) -> bool:
    return bool(as_turns(record.get("messages"))) and any(record.get(name) is not None for name in _REJECTED)


def _swift_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    return "", {"rejected": next(name for name in reversed(_REJECTED) if record.get(name) is not None)}


def _read_swift(record: Record) -> Pair:
    turns = as_turns(record.get("messages"))
    if not turns:
        raise NotThisShape("prompt_is_no_conversation")
    used = ("messages", *_REJECTED)
    others = as_turns(record.get("rejected_messages"))
    if others:
        same = common_start(turns, others)
        return build(record, turns[:same], as_side(turns[same:]), as_side(others[same:]), used)
    rejected = read_side(record.get("rejected_response"))  # stands for the last turn alone
    if rejected is None or len(turns) < 2 or turns[-1]["role"] == "user":
        raise NotThisShape("side_absent", "chosen" if rejected is not None else "rejected")
    return build(record, turns[:-1], as_side(turns[-1:]), rejected, used)


def _write_swift(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    before = with_system(pair)
    record: dict[str, Any] = {"messages": whole(before, chosen)}
    text = isinstance(chosen, str) and isinstance(rejected, str)
    if text:
        record["rejected_response"] = rejected
    else:
        record["rejected_messages"] = whole(before, rejected)
    return replace(rest(pair, record, system=False), text=text)


def _swift_in_turns(record: dict[str, Any]) -> dict[str, Any]:
    """ms-swift leaves out rows without a `rejected_response` where the file has that column."""
    if "rejected_messages" in record:
        return record
    talk = whole(record["messages"][:-1], record["rejected_response"])
    others = {name: value for name, value in record.items() if name not in ("messages", "rejected_response")}
    return {"messages": record["messages"], "rejected_messages": talk, **others}


# --- OpenAI: https://platform.openai.com/docs/guides/direct-preference-optimization ---

_OUTPUTS = ("preferred_output", "non_preferred_output")


def _is_openai(record: Record) -> bool:
    return all(name in record for name in ("input", *_OUTPUTS))


def _read_openai(record: Record) -> Pair:
    asked = record.get("input")
    turns = as_turns(asked.get("messages")) if isinstance(asked, dict) else None
    if not turns or not isinstance(asked, dict):
        raise NotThisShape("prompt_is_no_conversation")
    chosen, rejected = (read_side(record.get(name)) for name in _OUTPUTS)
    if chosen is None or rejected is None:
        raise NotThisShape("side_absent", _OUTPUTS[chosen is not None])
    pair = build(record, turns, chosen, rejected, ("input", *_OUTPUTS))
    if beside := {k: v for k, v in asked.items() if k != "messages"}:  # tools, parallel_tool_calls
        pair.extra["input"] = beside
    return pair


def _write_openai(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    beside = pair.extra.get("input")
    record: dict[str, Any] = {
        "input": {"messages": with_system(pair), **(beside if isinstance(beside, dict) else {})},
        "preferred_output": side_turns(chosen),
        "non_preferred_output": side_turns(rejected),
    }
    return rest(pair, record, system=False, placed=("input",) if isinstance(beside, dict) else ())


MS_SWIFT = Format(
    "ms-swift", _is_swift, _read_swift, _write_swift, told_by=_swift_told_by, in_turns=_swift_in_turns
)
OPENAI = Format("openai", _is_openai, _read_openai, _write_openai)
