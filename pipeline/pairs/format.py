"""What a format of preference data is to the rest: a way to know it, to read a record and to write one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.pairs.pair import Message, Pair, Side
from pipeline.pairs.turns import NotThisShape, apart, read_side, side_turns
from pipeline.refusal import Sentence

Record = Mapping[str, Any]

Kind = Literal["pairs", "one-sided", "supervised"]
"""What a row holds: both sides; one answer and whether it is wanted; one answer to learn."""


class CannotHold(Exception):
    """A pair that the format has no place for: (reason,)."""


@dataclass
class Written:
    """Records of one pair. dropped: what the format has no place for, by name. text: of a format with two layouts,
    whether this is the one of text."""

    records: list[dict[str, Any]]
    dropped: list[str] = field(default_factory=list)
    text: bool = False


@dataclass(frozen=True)
class Format:
    """recognise: whether a record looks like it. read: raises NotThisShape. write: raises CannotHold. told_by: what a
    record that looks like it shows: which of the format's variants, and the columns to name. in_turns: where `write`
    gives text or turns, as the pair needs, the record with turns in any case; a file holds one of both."""

    name: str
    recognise: Callable[[Record], bool]
    read: Callable[[Record], Pair]
    write: Callable[[Pair], Written]
    kind: Kind = "pairs"
    told_by: Callable[[Record], tuple[str, dict[str, Any]]] = lambda record: ("", {})
    in_turns: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def reason(self, record: Record) -> Sentence:
        """Why the record, which looks like this format, is in it."""
        variant, params = self.told_by(record)
        return Sentence("_".join(["is", *self.name.split("-"), *([variant] if variant else [])]), params, "formats")


SCORES = ("score_chosen", "score_rejected")


def build(
    record: Record,
    turns: Iterable[Message],
    chosen: Side | None,
    rejected: Side | None,
    used: Iterable[str],
    *,
    id_column: str = "id",
    scores: tuple[str, str] = SCORES,
) -> Pair:
    """A pair of what a format found; columns not in `used` go to `extra`."""
    system, prompt = apart(list(turns))
    taken = {*used, id_column}
    if "system" not in taken and isinstance(record.get("system"), str):
        taken.add("system")
        if record["system"]:
            if system and system != record["system"]:
                raise NotThisShape("two_systems")
            system = record["system"]
    found: dict[str, float] = {}
    for ours, theirs in zip(SCORES, scores, strict=True):
        theirs = theirs if theirs in record else ours
        number = as_number(record.get(theirs))
        if number is not None:
            found[ours] = number
            taken.add(theirs)
    if id_column not in record and "id" in record:
        id_column = "id"
        taken.add(id_column)
    name = record.get(id_column)
    if name is not None and not isinstance(name, (str, int)):
        taken.discard(id_column)
        name = None
    return Pair(
        prompt, chosen, rejected, system, None if name is None else str(name), found.get("score_chosen"),
        found.get("score_rejected"), extra={k: v for k, v in record.items() if k not in taken and v is not None},
    )  # fmt: skip


def as_number(value: Any) -> float | None:
    """A score: a number, or text of one as a CSV holds it; None for anything else and for NaN."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf


def rest(
    pair: Pair,
    record: dict[str, Any],
    *,
    id_column: str = "id",
    scores: tuple[str, str] = SCORES,
    system: bool = True,
    placed: Collection[str] = (),
) -> Written:
    """Adds what any format of named columns can hold. system: False when it is already in the record's turns. placed:
    columns of `extra` that the record already holds."""
    if pair.id is not None:
        record[id_column] = pair.id
    if system and pair.system is not None:
        record["system"] = pair.system
    for name, value in zip(scores, (pair.score_chosen, pair.score_rejected), strict=True):
        if value is not None:
            record[name] = value
    dropped = []
    for name, value in pair.extra.items():
        if name not in record:
            record[name] = value
        elif name not in placed:
            dropped.append(name)
    return Written([record], dropped)


def both(pair: Pair) -> tuple[Side, Side]:
    """Both sides. Raises CannotHold where one isn't there."""
    if pair.chosen is None or pair.rejected is None:
        raise CannotHold("one_side_only")
    return pair.chosen, pair.rejected


def with_system(pair: Pair) -> list[Message]:
    """The prompt's turns, the system's first."""
    return [*([{"role": "system", "content": pair.system}] if pair.system is not None else []), *pair.prompt]


def plain(side: Side) -> str:
    """An answer that is one text. Raises CannotHold."""
    if not isinstance(side, str):
        raise CannotHold("answer_of_several_turns")
    return side


def asks_once(pair: Pair) -> bool:
    """Whether the prompt is one text of the user."""
    return len(pair.prompt) == 1 and pair.prompt[0]["role"] == "user" and isinstance(pair.prompt[0]["content"], str)


def one_question(pair: Pair) -> str:
    """The prompt that is one text of the user. Raises CannotHold."""
    if not asks_once(pair):
        raise CannotHold("prompt_of_several_turns")
    return str(pair.prompt[0]["content"])


def two_columns_in_turns(record: dict[str, Any]) -> dict[str, Any]:
    """A record with turns in `prompt` and `completion`, also where they are text."""
    if not isinstance(record["prompt"], str):
        return record
    question = [{"role": "user", "content": record["prompt"]}]
    return {**record, "prompt": question, "completion": side_turns(record["completion"])}


def asked_text(record: Record, name: str) -> str:
    """The prompt of a column that holds text. Raises NotThisShape."""
    asked = record.get(name)
    if asked is None:
        raise NotThisShape("prompt_absent", name)
    if not isinstance(asked, str):
        raise NotThisShape("prompt_is_no_text", name)
    return asked


def sides(record: Record, chosen: str = "chosen", rejected: str = "rejected") -> tuple[Side, Side]:
    """Both sides of columns. Raises NotThisShape where one is absent."""
    found = read_side(record.get(chosen)), read_side(record.get(rejected))
    if found[0] is None or found[1] is None:
        raise NotThisShape("side_absent", chosen if found[0] is None else rejected)
    return found[0], found[1]


def whole(prompt: list[Message], side: Side) -> list[Message]:
    """A conversation that repeats the prompt before its answer."""
    return [*prompt, *side_turns(side)]
