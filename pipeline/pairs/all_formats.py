"""Every format by its name, the most particular first: the first that a record looks like is the one it is in."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.pairs.format import Format, Record, Written
from pipeline.pairs.kto_format import KTO, KTO_TALK
from pipeline.pairs.llamafactory_formats import ALPACA, SHAREGPT
from pipeline.pairs.messages_formats import MS_SWIFT, OPENAI
from pipeline.pairs.pair import Pair
from pipeline.pairs.rated_formats import ARGILLA, DISTILABEL, FARM, PKU, ULTRAFEEDBACK
from pipeline.pairs.supervised_formats import (
    KNOWN_COLUMNS,
    SFT_ALPACA,
    SFT_COLUMNS,
    SFT_MESSAGES,
    SFT_OWN_COLUMNS,
    SUPERVISED_ALIASES,
)
from pipeline.pairs.transcript_format import HH
from pipeline.pairs.trl_formats import TRL, TRL_CONVERSATIONAL, TRL_IMPLICIT
from pipeline.refusal import Refused, Sentence

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        OPENAI, PKU, FARM, ARGILLA, DISTILABEL, ULTRAFEEDBACK, MS_SWIFT, SHAREGPT, ALPACA, TRL_CONVERSATIONAL,
        TRL_IMPLICIT, HH, KTO, KTO_TALK, TRL,
    )
}  # fmt: skip
"""Of preference data."""

SUPERVISED: dict[str, Format] = {one.name: one for one in (SFT_ALPACA, SFT_MESSAGES, SFT_COLUMNS)}
"""Of supervised data, tried on what is no preference data."""

EVERY_FORMAT = {**FORMATS, **SUPERVISED}

# What a column of the user's own may be said to hold.
OWN_COLUMNS = (
    "prompt", "chosen", "rejected", "completion", "instruction", "input", "output", "history", "system", "id",
    "score_chosen", "score_rejected", "messages", "conversations", "label",
)  # fmt: skip


class UnknownFormat(Refused):
    """A name that no format has, or columns of the user's own that make no pair."""

    def __init__(self, name: str) -> None:
        near = ", ".join(difflib.get_close_matches(name, EVERY_FORMAT, n=3, cutoff=0.0))
        super().__init__("format_unknown", value=name, near=near, all=", ".join(EVERY_FORMAT))


def format_named(name: str) -> Format:
    """The format of that name, or of columns of the user's own: `prompt=question,chosen=good,rejected=bad`. Raises
    UnknownFormat."""
    if "=" not in name:
        if name in EVERY_FORMAT:
            return EVERY_FORMAT[name]
        raise UnknownFormat(name)
    own = {ours.strip(): theirs.strip() for ours, _, theirs in (one.partition("=") for one in name.split(","))}
    for base, needed in (
        (ALPACA, ("instruction", "chosen", "rejected")), (TRL, ("prompt", "chosen", "rejected")),
        (SFT_ALPACA, ("instruction", "output")), (SFT_OWN_COLUMNS, ("prompt", "completion")),
    ):  # fmt: skip
        if own.keys() >= set(needed) and own.keys() <= set(OWN_COLUMNS) and len({*own.values(), ""}) == len(own) + 1:
            return _in_own_columns(name, base, own)
    raise UnknownFormat(name)


def columns_given(words: Sequence[str]) -> dict[str, str] | None:
    """`NAME=COLUMN` words of a command as NAME by COLUMN, None for none. Raises Refused for words that are no such, and
    for a NAME that no format has."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, column = (part.strip() for part in word.partition("="))
        if not equals or not name or not column:
            raise Refused("column_form", given=word)
        if name not in OWN_COLUMNS:
            near = ", ".join(difflib.get_close_matches(name, OWN_COLUMNS, n=3, cutoff=0.0))
            raise Refused("column_name_unknown", given=word, name=name, near=near, all=", ".join(OWN_COLUMNS))
        before = next((theirs for theirs, ours in found.items() if name == ours or column == theirs), None)
        if before is not None:
            raise Refused("column_twice", given=word, column=before, name=found[before])
        found[column] = name
    return found or None


def _in_own_columns(name: str, base: Format, own: Mapping[str, str]) -> Format:
    back = {theirs: ours for ours, theirs in own.items()}

    def recognise(record: Record) -> bool:
        return base.recognise(under_own_names(record, back))

    def read(record: Record) -> Pair:
        return base.read(under_own_names(record, back))

    def write(pair: Pair) -> Written:
        written = base.write(pair)
        return replace(written, records=[under_own_names(record, own) for record in written.records])

    def in_turns(record: dict[str, Any]) -> dict[str, Any]:
        assert base.in_turns is not None
        return under_own_names(base.in_turns(under_own_names(record, back)), own)

    return replace(
        base, name=name, recognise=recognise, read=read, write=write, in_turns=in_turns if base.in_turns else None
    )


# What people and projects call the sides of a pair besides: NeMo (chosen_response), LLaMA-Factory v1
# (chosen_messages), hand-made tables.
ALIASES = {
    "reject": "rejected", "chosen_response": "chosen", "rejected_response": "rejected", "chosen_messages": "chosen",
    "rejected_messages": "rejected", "win": "chosen", "lose": "rejected", "preferred": "chosen",
    "dispreferred": "rejected", "question": "prompt", "query": "prompt",
    "问题": "prompt", "提示": "prompt", "选择": "chosen", "偏好": "chosen", "拒绝": "rejected",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The format of a record. columns: names of the record by the name they stand for. reason: why it is this one."""

    format: Format
    columns: dict[str, str]
    reason: Sentence = field(compare=False)


def format_of(record: Any, columns: Mapping[str, str] | None = None) -> Found | None:
    """The format one record is in, as far as it shows, with the reason.

    columns: names of the file by the name they stand for, given by the user; for what it doesn't name, the usual other
    names are tried too.
    """
    if not isinstance(record, Mapping):
        return None
    given = {k: v for k, v in (columns or {}).items() if k in record}
    for formats, renamed in _guesses(record, given):
        read_as = under_own_names(record, renamed) if renamed else record
        for one in formats.values():
            if one.recognise(read_as):
                return Found(one, renamed, _said(one.reason(read_as), renamed))
    return None


def _guesses(record: Mapping[str, Any], given: dict[str, str]) -> Iterator[tuple[dict[str, Format], dict[str, str]]]:
    for formats, aliases, known in (
        (FORMATS, ALIASES, ("prompt", "chosen", "rejected")),
        (SUPERVISED, SUPERVISED_ALIASES, KNOWN_COLUMNS),
    ):
        yield formats, given
        if (renamed := {**_otherwise_called(record, given, aliases, known), **given}) != given:
            yield formats, renamed


def _otherwise_called(
    record: Mapping[str, Any], given: Mapping[str, str], aliases: Mapping[str, str], known: Collection[str]
) -> dict[str, str]:
    """Columns of the record that are called otherwise but stand for known ones it lacks; the first of several."""
    there = {given.get(name, name) for name in record}
    found: dict[str, str] = {}
    for name in record:
        plain = name.strip().lower() if isinstance(name, str) and name not in given else ""
        meant = aliases.get(plain, plain)
        if meant in known and meant not in there:
            found[name] = meant
            there.add(meant)
    return found


def _said(reason: Sentence, renamed: Mapping[str, str]) -> Sentence:
    if not renamed:
        return reason
    names = ", ".join(f"{theirs} = {ours}" for theirs, ours in renamed.items())
    return Sentence("is_renamed", {"reason": reason, "names": names}, "formats")


def under_own_names(record: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """The record with its columns named as the format names them; one that had such a name before gets a number."""
    found = {renamed[name]: value for name, value in record.items() if name in renamed}
    for name, value in record.items():
        if name not in renamed:
            found[name if name not in found else free_name(name, record)] = value
    return found


def free_name(name: str, taken: Collection[str]) -> str:
    """`name_2`, or the first such name that isn't taken."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
