"""Supervised sets: a prompt with the one answer to learn, as alpaca's columns, as a talk, or as two columns.

https://github.com/hiyouga/LLaMA-Factory, data/README.md; https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.pairs.format import (
    CannotHold,
    Format,
    Record,
    Written,
    asks_once,
    build,
    plain,
    rest,
    two_columns_in_turns,
    whole,
    with_system,
)
from pipeline.pairs.llamafactory_formats import alpaca_prompt, alpaca_record
from pipeline.pairs.pair import Message, Pair, Side
from pipeline.pairs.turns import NotThisShape, as_side, as_turns, read_side, side_turns

ALPACA_ANSWERS = ("output", "response", "chosen", "completion", "answer")
# (prompt column, answer column), the first of both that are there.
COLUMNS = (
    ("prompt", "chosen"), ("prompt", "response"), ("prompt", "completion"), ("prompt", "chosen_response"),
    ("prompt", "answer"), ("prompt", "output"), ("prompt", "target"), ("question", "chosen"), ("question", "answer"),
    ("question", "response"), ("question", "output"), ("question", "query"), ("query", "response"),
    ("query", "answer"), ("query", "chosen"), ("input", "output"), ("input", "chosen"), ("input", "target"),
    ("input", "answer"), ("source", "target"), ("src", "tgt"), ("text", "standard_answer"), ("user", "assistant"),
    ("human", "assistant"), ("problem", "solution"), ("problem", "answer"), ("问题", "回答"), ("问题", "答案"),
    ("问", "答"),
)  # fmt: skip
TALKS = ("messages", "conversations", "conversation", "dialog", "chosen_messages", "chosen")
_BESIDE_TALK = ("chosen", "completion", "response", "output", "answer")  # the answer to a talk without one
_WORSE = ("rejected", "reject", "rejected_response", "rejected_messages", "kto_tag")
_WANTED = (True, False, "true", "false", "True", "False")  # a `label` of KTO; other labels are about something else
_AFTER = "turns_after"  # in `extra`: what a talk goes on with behind its last answer
_ANSWERING = ("assistant", "tool_call")

# Other names of the columns that have a meaning here; names that differ in capitals alone need no entry.
SUPERVISED_ALIASES = {
    "system_prompt": "system", "指令": "instruction", "输入": "input", "输出": "output", "系统": "system",
    "历史": "history",
}  # fmt: skip
KNOWN_COLUMNS = frozenset(
    {"id", "system", "history", "instruction", "input", *ALPACA_ANSWERS, *TALKS, *(c for two in COLUMNS for c in two)}
)


def _one_answer(record: Record) -> bool:
    """Whether nothing in the record speaks for preference data."""
    label = record.get("label")
    wanted = isinstance(label, (bool, str)) and label in _WANTED
    return not wanted and all(record.get(name) is None for name in _WORSE)


# --- alpaca: instruction, input, output, history, system ---


def _alpaca_answer(record: Record) -> str | None:
    return next((name for name in ALPACA_ANSWERS if record.get(name) is not None), None)


def _is_alpaca(record: Record) -> bool:
    return isinstance(record.get("instruction"), str) and _alpaca_answer(record) is not None and _one_answer(record)


def _alpaca_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    return "", {"answer": _alpaca_answer(record)}


def _read_alpaca(record: Record) -> Pair:
    name = _alpaca_answer(record)
    answer = read_side(record.get(name)) if name else None
    if name is None or answer is None:
        raise NotThisShape("answer_absent", "output")
    turns, second = alpaca_prompt(record)
    pair = build(record, turns, answer, None, ("instruction", "input", "history", name))
    if second:
        pair.extra["input"] = second
    return pair


def _write_alpaca(pair: Pair) -> Written:
    record, placed = alpaca_record(pair, {"output": plain(_answer(pair))})
    return _without_rejected(pair, record, placed=placed)


def _answer(pair: Pair) -> Side:
    if pair.chosen is None:
        raise CannotHold("answer_absent")
    return pair.chosen


def _without_rejected(
    pair: Pair, record: dict[str, Any], *, system: bool = True, placed: tuple[str, ...] = ()
) -> Written:
    written = rest(pair, record, system=system, placed=placed)
    if pair.rejected is not None:
        written.dropped.append("rejected")
    return written


# --- messages: the last answer of a talk ---


def _talk(record: Record) -> tuple[str, list[Message]] | None:
    """Column and turns of the talk."""
    for name in TALKS:
        turns = as_turns(record.get(name))
        if turns and (len(turns) > 1 or name not in ("chosen", "chosen_messages")):
            return name, turns
    return None


def _is_messages(record: Record) -> bool:
    return _talk(record) is not None and _one_answer(record)


def _messages_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    found = _talk(record)
    return "", {"talk": found[0] if found else ""}


def _read_messages(record: Record) -> Pair:
    found = _talk(record)
    if found is None:
        raise NotThisShape("prompt_is_no_conversation")
    talk, turns = found
    used = [talk]
    beside = next((n for n in _BESIDE_TALK if n != talk and record.get(n) is not None), None)
    if turns[-1]["role"] == "user" and beside is not None:
        used.append(beside)
        answer, after = read_side(record[beside]), list[Message]()
    else:
        last = max((n for n, turn in enumerate(turns) if turn["role"] in _ANSWERING), default=-1)
        answer = as_side(turns[last : last + 1]) if last >= 0 else None
        turns, after = turns[: max(last, 0)], turns[last + 1 :]
    if answer is None:
        raise NotThisShape("answer_absent", talk)
    if not any(turn["role"] != "system" for turn in turns):
        raise NotThisShape("prompt_absent")
    pair = build(record, turns, answer, None, used)
    if after:
        pair.extra[_AFTER] = after
    return pair


def _write_messages(pair: Pair) -> Written:
    after = pair.extra.get(_AFTER)
    talk = [*whole(with_system(pair), _answer(pair)), *(after if isinstance(after, list) else [])]
    written = _without_rejected(pair, {"messages": talk}, system=False)
    if isinstance(after, list):
        del written.records[0][_AFTER]
    return written


# --- two columns: prompt and completion ---


def _two_columns(record: Record) -> tuple[str, str] | None:
    for asked, answered in COLUMNS:
        prompt = record.get(asked)
        if record.get(answered) is not None and (isinstance(prompt, str) or bool(as_turns(prompt))):
            return asked, answered
    return None


def _is_columns(record: Record) -> bool:
    return _two_columns(record) is not None and _one_answer(record)


def _columns_told_by(record: Record) -> tuple[str, dict[str, Any]]:
    return "", dict(zip(("prompt", "answer"), _two_columns(record) or ("", ""), strict=True))


def _read_columns(record: Record) -> Pair:
    found = _two_columns(record)
    if found is None:
        raise NotThisShape("prompt_absent")
    asked, answered = record[found[0]], record[found[1]]
    turns = as_turns(asked) or [{"role": "user", "content": asked}]
    talk = as_turns(answered) or []
    repeated = talk[: len(turns)] == turns and len(talk) > len(turns)
    answer = as_side(talk[len(turns) :]) if repeated else read_side(answered)
    if answer is None:
        raise NotThisShape("answer_absent", found[1])
    return build(record, turns, answer, None, found)


def _write_columns(pair: Pair) -> Written:
    """Text where prompt and answer are one text each and no system's text goes before them, else turns, as TRL takes
    both and reads no column `system`."""
    answer = _answer(pair)
    if pair.system is None and asks_once(pair) and isinstance(answer, str):
        return _write_with_system_apart(pair)
    return _without_rejected(pair, {"prompt": with_system(pair), "completion": side_turns(answer)}, system=False)


def _write_with_system_apart(pair: Pair) -> Written:
    answer = _answer(pair)
    if asks_once(pair) and isinstance(answer, str):
        record = {"prompt": pair.prompt[0]["content"], "completion": answer}
        return replace(_without_rejected(pair, record), text=True)
    return _without_rejected(pair, {"prompt": pair.prompt, "completion": side_turns(answer)})


SFT_ALPACA = Format("alpaca", _is_alpaca, _read_alpaca, _write_alpaca, "supervised", _alpaca_told_by)
SFT_MESSAGES = Format("messages", _is_messages, _read_messages, _write_messages, "supervised", _messages_told_by)
SFT_COLUMNS = Format(
    "prompt-completion", _is_columns, _read_columns, _write_columns, "supervised", _columns_told_by,
    two_columns_in_turns,
)  # fmt: skip
SFT_OWN_COLUMNS = replace(SFT_COLUMNS, write=_write_with_system_apart)
"""For columns of the user's naming, one of which may be the system's text."""
