"""One preference pair, as the whole project knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]
"""One turn: `role` and `content`, and what else its file keeps with it (`name`, `tool_calls`)."""

Side = str | list[Message]
"""An answer: its text, or its turns where it is more than one text of the assistant."""

Status = Literal["new", "accepted", "edited", "discarded"]


@dataclass(slots=True)
class Pair:
    """A prompt with a better and a worse answer.

    prompt: the turns before the answer without the system's, the last one the user's. chosen, rejected: None where the
    file has no such side: supervised rows have no `rejected`, a KTO row has one of both; an empty string is an answer
    that is there and empty. source: how each side was made, by `chosen` and `rejected`. extra: columns of the file that
    have no place in a pair, by name. line: where the file has it, from 1. origin: the name of that file.
    """

    prompt: list[Message]
    chosen: Side | None
    rejected: Side | None
    system: str | None = None
    id: str | None = None
    score_chosen: float | None = None
    score_rejected: float | None = None
    source: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    status: Status = "new"
    extra: dict[str, Any] = field(default_factory=dict)
    line: int = field(default=0, compare=False)
    origin: str = field(default="", compare=False)

    @property
    def paired(self) -> bool:
        """Whether both sides are there."""
        return self.chosen is not None and self.rejected is not None


def text_of(side: Side | Sequence[Message] | None) -> str:
    """The text of an answer or of turns, one below the other; what isn't text is left out."""
    if side is None or isinstance(side, str):
        return side or ""
    return "\n".join(text for turn in side if (text := content_text(turn.get("content"))))


def content_text(content: Any) -> str:
    """The text of one turn's content: a string, or a list of typed parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )
    return ""
