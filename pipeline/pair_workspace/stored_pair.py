"""A pair as the columns of a workspace, and back with nothing lost.

A column of text holds what can be read and searched. Where the value is more than that (turns, half characters, NUL,
a score that is no plain number), the whole value stands in `exact` besides.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from pipeline.pairs.pair import Message, Pair, Side, Status, text_of

STATUSES: tuple[Status, ...] = ("new", "accepted", "edited", "discarded")
"""By the number they are stored as."""
DISCARDED = STATUSES.index("discarded")
CONTENT_COLUMNS = (
    "strategy", "turns", "score_chosen", "score_rejected", "prompt", "chosen", "rejected", "system", "exact", "source",
)  # fmt: skip
"""Short ones first: SQLite doesn't follow a long row's further pages for columns that stand before."""
IMPORTED_COLUMNS = "i.line, (SELECT name FROM origins WHERE id = i.origin), i.id, i.extra"
"""What no edit changes, of an `imported i`."""
_EXACT = ("prompt", "chosen", "rejected", "system", "score_chosen", "score_rejected")
_MARKED = b"\x01"
_MOST_LEVELS = 100
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SCALARS = (str, int, float, bool, type(None))


class Damaged(Exception):
    """A value of the file that this package can't have written."""


# --- values ---


def clean(text: str) -> str:
    """The text as SQLite can hold and search it: U+FFFD for each half of a character (lone surrogate) and each NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text.replace("\0", "\ufffd")


def pack(value: Any) -> bytes:
    """Any JSON value and what tables hold besides (times, decimals, bytes, tuples), at any depth. What else there is
    becomes its text."""
    if _is_json(value):
        return _JSON.encode(value).encode("utf-8", "surrogatepass")
    return _MARKED + _JSON.encode(_postfix(value)).encode("utf-8", "surrogatepass")


def unpack(packed: bytes) -> Any:
    """What was packed. Raises Damaged."""
    try:
        text = packed.removeprefix(_MARKED).decode("utf-8", "surrogatepass")
        return _from_postfix(json.loads(text)) if packed.startswith(_MARKED) else json.loads(text)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as failed:
        raise Damaged(str(failed)) from None


def _is_json(value: Any) -> bool:
    """Whether JSON gives the same value back wherever it is read: how deep it may be depends on the stack there."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        deeper: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is list:
                deeper += one
            elif kind is dict:
                if not all(type(key) is str for key in one):
                    return False
                deeper += one.values()
            elif kind not in _SCALARS:
                return False
        if not deeper:
            return True
        level = deeper
    return False


_WRITTEN: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("bytes", lambda v: base64.b64encode(v).decode()),
    datetime.datetime: ("datetime", lambda v: v.isoformat()),
    datetime.date: ("date", lambda v: v.isoformat()),
    datetime.time: ("time", lambda v: v.isoformat()),
    datetime.timedelta: ("timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
}
_READ: dict[str, Callable[[Any], Any]] = {
    "bytes": base64.b64decode, "datetime": datetime.datetime.fromisoformat, "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat, "timedelta": lambda v: datetime.timedelta(*v), "decimal": Decimal,
    "uuid": UUID,
}  # fmt: skip


def _postfix(value: Any) -> list[Any]:
    """The value without nesting: scalars as they are, then [kind, number of those it is made of]."""
    todo, found = [value], []
    while todo:
        one = todo.pop()
        kind = type(one)
        if kind in _SCALARS:
            found.append(one)
        elif kind in (list, tuple):
            found.append([kind.__name__, len(one)])
            todo.extend(one)
        elif kind is dict:
            found.append(["dict", 2 * len(one)])
            for key, held in one.items():
                todo += (key, held)
        elif kind in _WRITTEN:
            name, write = _WRITTEN[kind]
            found.append([name, write(one)])
        else:
            found.append(str(one))
    return found[::-1]


def _from_postfix(tokens: list[Any]) -> Any:
    stack: list[Any] = []
    for token in tokens:
        if not isinstance(token, list):
            stack.append(token)
            continue
        kind, held = token
        if kind in _READ:
            stack.append(_READ[kind](held))
            continue
        parts = stack[len(stack) - held :]
        del stack[len(stack) - held :]
        if kind == "dict":
            stack.append(dict(zip(parts[::2], parts[1::2], strict=True)))
        else:
            stack.append(tuple(parts) if kind == "tuple" else parts)
    (value,) = stack
    return value


def cell(text: str) -> str | bytes:
    """A name as it is, or packed where SQLite can't hold it as text."""
    return text if clean(text) == text else pack(text)


def from_cell(held: Any) -> Any:
    return unpack(held) if isinstance(held, bytes) else held


# --- pairs ---


def strategy_of(pair: Pair) -> str:
    """How the rejected side was made, "" where the pair doesn't say."""
    made = pair.source.get("rejected") if isinstance(pair.source, dict) else None
    strategy = made.get("strategy") if isinstance(made, dict) else None
    return clean(strategy) if isinstance(strategy, str) else ""


def content_columns(pair: Pair, strategy: int) -> tuple[Any, ...]:
    """Values of CONTENT_COLUMNS. strategy: its number."""
    exact: dict[str, Any] = {}
    if len(pair.prompt) == 1 and list(pair.prompt[0]) == ["role", "content"] and pair.prompt[0]["role"] == "user":
        prompt = _text("prompt", pair.prompt[0]["content"], pair.prompt, exact)
    else:
        prompt = _text("prompt", None, pair.prompt, exact)
    chosen = None if pair.chosen is None else _text("chosen", pair.chosen, pair.chosen, exact)
    rejected = None if pair.rejected is None else _text("rejected", pair.rejected, pair.rejected, exact)
    turns = any(name in exact and not isinstance(exact[name], str) for name in ("chosen", "rejected"))
    turns |= len(pair.prompt) != 1
    system = None if pair.system is None else _text("system", pair.system, pair.system, exact)
    return (
        strategy, int(turns), _score("score_chosen", pair.score_chosen, exact),
        _score("score_rejected", pair.score_rejected, exact), prompt, chosen, rejected, system,
        pack(exact) if exact else None, pack(pair.source) if pair.source else None,
    )  # fmt: skip


def _text(name: str, text: Any, whole: Any, exact: dict[str, Any]) -> str:
    """The text for the column, and into `exact` the whole value where the text doesn't say it all."""
    if isinstance(text, str):
        held = clean(text)
        if held == text:
            return held
    else:
        held = clean(text_of(whole))
    exact[name] = whole
    return held


def _score(name: str, score: Any, exact: dict[str, Any]) -> float | None:
    """SQLite turns NaN into NULL and has no whole numbers beyond 64 bits."""
    if score is None or (type(score) is float and not math.isnan(score)):
        return score
    if type(score) is int and -(2**63) <= score < 2**63:
        return score
    exact[name] = score
    return None


def measured_columns(content: Sequence[Any]) -> tuple[Any, ...]:
    """Of values of CONTENT_COLUMNS those that a row repeats: strategy, turns, scores, and characters of the texts."""
    return (*content[:4], *(None if text is None else len(text) for text in content[4:7]))


def pair_from(content: Sequence[Any], imported: Sequence[Any], status: int, flags: Sequence[str]) -> Pair:
    """content: values of CONTENT_COLUMNS; imported: of IMPORTED_COLUMNS. Raises Damaged."""
    try:
        return _pair_from(content, imported, status, flags)
    except (TypeError, ValueError, LookupError, AttributeError) as failed:
        raise Damaged(str(failed)) from None


def _pair_from(content: Sequence[Any], imported: Sequence[Any], status: int, flags: Sequence[str]) -> Pair:
    _, _, score_chosen, score_rejected, prompt, chosen, rejected, system, exact, source = content
    line, origin, identity, extra = imported
    pair = Pair(
        [{"role": "user", "content": prompt}], chosen, rejected, system, from_cell(identity), score_chosen,
        score_rejected, unpack(source) if source else {}, list(flags), STATUSES[status],
        unpack(extra) if extra else {}, line, from_cell(origin),
    )  # fmt: skip
    if exact:
        for name, value in unpack(exact).items():
            if name not in _EXACT:
                raise ValueError(f"{name} in place of a text or score")
            setattr(pair, name, value)
    return pair


# --- changes of a pair ---


def swapped(pair: Pair) -> Pair:
    """Both sides with their scores and how they were made, the other way round."""
    names = {"chosen": "rejected", "rejected": "chosen"}
    return replace(
        pair, chosen=pair.rejected, rejected=pair.chosen, score_chosen=pair.score_rejected,
        score_rejected=pair.score_chosen,
        source={names.get(side, side): made for side, made in pair.source.items()},
    )  # fmt: skip


def with_texts(
    pair: Pair,
    prompt: str | list[Message] | None,
    chosen: Side | None,
    rejected: Side | None,
    system: str | None,
) -> Pair:
    """The pair with what is given; see Workspace.save."""
    changes: dict[str, Any] = {}
    if isinstance(prompt, list):
        changes["prompt"] = prompt
    elif prompt is not None and not _same(text_of(pair.prompt), prompt):
        last = pair.prompt[-1] if pair.prompt else {"role": "user", "content": ""}
        if not isinstance(last.get("content"), str) or not _same(last["content"], prompt):
            changes["prompt"] = [*pair.prompt[:-1], {**last, "content": prompt}]
    for name, given in (("chosen", chosen), ("rejected", rejected)):
        before = cast("Side | None", getattr(pair, name))
        if isinstance(given, list) or (given is not None and not _same(text_of(before), given)):
            changes[name] = given
    if system is not None and not _same(pair.system or "", system):
        changes["system"] = system or None
    return replace(pair, **changes)


def _same(before: str, given: str) -> bool:
    """A text field of a browser gives every line end as \\n."""
    return before == given or before.replace("\r\n", "\n").replace("\r", "\n") == given


def replaced(value: Side | Sequence[Message] | None, find: str, put: str) -> Any:
    """A text or turns with `find` replaced in what they say; None without it."""
    if isinstance(value, str):
        return value.replace(find, put) if find in value else None
    contents = [_content_replaced(turn.get("content"), find, put) for turn in value or ()]
    if all(content is None for content in contents):
        return None
    return [
        turn if content is None else {**turn, "content": content}
        for turn, content in zip(value or (), contents, strict=True)
    ]


def _content_replaced(content: Any, find: str, put: str) -> Any:
    if isinstance(content, str):
        return content.replace(find, put) if find in content else None
    if not isinstance(content, list):
        return None
    held = [isinstance(p, dict) and isinstance(p.get("text"), str) and find in p["text"] for p in content]
    if not any(held):
        return None
    return [
        {**part, "text": part["text"].replace(find, put)} if holds else part
        for part, holds in zip(content, held, strict=True)
    ]


def corrected(pair: Pair, find: str, put: str) -> Pair | None:
    """The rejected answer with `find` replaced as the chosen one, which has no score yet; None without `find` in it."""
    chosen = replaced(pair.rejected, find, put)
    if chosen is None or chosen == pair.chosen:
        return None if chosen is None else pair
    made = {"strategy": "correction", "find": find, "replace": put}
    return replace(pair, chosen=chosen, score_chosen=None, source={**pair.source, "chosen": made})


PARTS = ("prompt", "chosen", "rejected", "system", "scores", "source")


def parts_changed(before: Pair, after: Pair) -> tuple[str, ...]:
    """Which of PARTS differ; NaN is the same as NaN."""
    return tuple(part for part in PARTS if not _equal(_part(before, part), _part(after, part)))


def _part(pair: Pair, name: str) -> Any:
    return [pair.score_chosen, pair.score_rejected] if name == "scores" else getattr(pair, name)


def _equal(one: Any, other: Any) -> bool:
    return one == other or (not isinstance(one, str) and pack(one) == pack(other))
