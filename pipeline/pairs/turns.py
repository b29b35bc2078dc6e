"""Turns of a conversation: the two notations they are written in, and where the prompt ends and the answer begins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.pairs.pair import Message, Side

# ShareGPT's names (from/value), OpenAI's (role/content) and those of OpenAssistant, by the role they mean.
ROLES = {
    "human": "user", "user": "user", "prompter": "user", "question": "user", "answer": "assistant",
    "gpt": "assistant", "assistant": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "system": "system", "developer": "system",
    "observation": "tool", "tool": "tool", "function_response": "tool", "ipython": "tool",
    "function_call": "tool_call", "tool_call": "tool_call",
}  # fmt: skip
SHAREGPT = {
    "user": "human", "assistant": "gpt", "system": "system", "tool": "observation", "tool_call": "function_call",
}  # fmt: skip


class NotThisShape(Exception):
    """A record that isn't in the format it is read as: (reason, detail)."""


def as_turns(value: Any) -> list[Message] | None:
    """Turns in role/content form of either notation, one turn or a list, or either as JSON text (as a CSV holds it).

    Empty list: no turns. None: the value is no conversation. Keys beside role and content are kept.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return None
    found: list[Message] = []
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        name = turn.get("role", turn.get("from"))
        role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
        if role is None:
            return None
        content = turn.get("content", turn.get("value"))
        kept = {k: v for k, v in turn.items() if k not in ("role", "from", "content", "value") and v is not None}
        if kept.get("loss_weight") == float(role == "assistant"):  # LLaMA-Factory v1 writes what is the default
            del kept["loss_weight"]
        found.append({"role": role, "content": _content(content), **kept})
    return found


def _content(content: Any) -> Any:
    """A list of nothing but text parts is the text itself; TRL and LLaMA-Factory v1 write both."""
    if isinstance(content, list) and all(
        isinstance(p, Mapping)
        and p.get("type", "text") == "text"
        and all(name in ("type", "text", "value") or held is None for name, held in p.items())
        for p in content
    ):
        return "".join(str(p.get("text", p.get("value")) or "") for p in content)
    return "" if content is None else content


def as_side(turns: Sequence[Message]) -> Side:
    """The text where the turns are one plain text of the assistant, else the turns."""
    if len(turns) == 1 and set(turns[0]) == {"role", "content"} and turns[0]["role"] == "assistant":
        content = turns[0]["content"]
        if isinstance(content, str):
            return content
    return list(turns)


def side_turns(side: Side) -> list[Message]:
    """An answer as turns."""
    return [{"role": "assistant", "content": side}] if isinstance(side, str) else list(side)


def read_side(value: Any) -> Side | None:
    """An answer in any notation: text, a turn, a list of turns; None for none."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.lstrip()[:2] not in ("[{", "{\""):
        return value
    turns = as_turns(value)
    if turns:
        return as_side(turns)
    if isinstance(value, str):
        return value
    raise NotThisShape("side_is_no_answer", type(value).__name__)


def apart(turns: Sequence[Message]) -> tuple[str | None, list[Message]]:
    """The system's text, where the first turn is the system's, and the other turns."""
    if turns and turns[0]["role"] == "system" and isinstance(turns[0]["content"], str) and len(turns[0]) == 2:
        return turns[0]["content"], list(turns[1:])
    return None, list(turns)


def common_start(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """How many turns both conversations begin with; never so many that one has no answer."""
    same = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        same += 1
    return max(0, min(same, len(chosen) - 1, len(rejected) - 1))


def to_sharegpt(turns: Sequence[Message]) -> list[Message]:
    """The same turns as from/value."""
    return [
        {
            "from": SHAREGPT[turn["role"]],
            "value": turn["content"],
            **{k: v for k, v in turn.items() if k not in ("role", "content")},
        }
        for turn in turns
    ]
