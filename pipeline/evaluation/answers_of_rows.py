"""The answers that one row of a data file holds: both sides of a pair, the one answer to a prompt, a list of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.pairs.asked_alone import read_asked
from pipeline.pairs.open_source import OpenSource, ask_for_axis, refusing
from pipeline.pairs.pair import Pair, Side
from pipeline.pairs.read_pairs import LeftOut
from pipeline.pairs.turns import as_side, as_turns
from pipeline.refusal import Refused

LISTS = ("candidates", "responses", "completions", "generations", "outputs", "answers", "samples")
"""Columns that hold several answers to one prompt."""
_TEXTS = ("text", "content", "response", "answer", "completion", "output", "generation")
_CANDIDATE = ("row", "number", "strategy")  # of a line of OUTPUT.candidates.jsonl, whose `chosen` is the data's own


@dataclass
class RowAnswers:
    """A row with what can be scored of it.

    value: the record itself, None where it is none that a row can be made of. pair: its prompt and sides, None where
    nothing can be scored; reason: why. one: its only answer. several: of the column `listed`, None where an item is no
    answer. wanted: of data in which every row has one side of a pair, whether it is the better one.
    """

    index: int
    line: int
    value: dict[str, Any] | None
    pair: Pair | None = None
    reason: str = ""
    one: Side | None = None
    several: tuple[Side | None, ...] = ()
    listed: str = ""
    wanted: bool | None = None

    @property
    def sides(self) -> list[Side]:
        """All its answers, in the order in which they are scored."""
        if self.pair is None:
            return []
        answers = [self.pair.chosen, self.pair.rejected] if self.paired else [self.one, *self.several]
        return [one for one in answers if one is not None]

    @property
    def paired(self) -> bool:
        return self.pair is not None and self.pair.paired and self.one is None


class AnswerRows:
    """Iterate for the rows of a source, with those that hold no answer among them. most: rows with answers.

    one_sided: whether each row has one side of a pair (KTO). left_out: rows without an answer, by reason, with their
    first lines. Raises Refused while iterated for what can't be read, and where nothing in it is an answer.
    """

    def __init__(self, source: OpenSource, *, most: int | None = None) -> None:
        self.source, self.most = source, most
        self.one_sided = False
        self.left_out: dict[str, int] = {}
        self.lines: dict[str, list[int]] = {}
        self.answered = 0
        self.format = ""

    def __iter__(self) -> Iterator[RowAnswers]:
        opened = self.source.open()
        opened.name = self.source.name
        opened.otherwise = _asked_with_answers
        with refusing(opened):
            found_format = opened.format
        self.one_sided = opened.kind == "one-sided"
        self.format = found_format.name if found_format is not None else ""
        self.left_out, self.lines, self.answered = {}, {}, 0
        index = 0
        records = opened.with_records()
        while self.most is None or self.answered < self.most:
            with refusing(opened):
                one = next(records, None)
            ask_for_axis(opened)
            if one is None:
                break
            record, found = one
            row = _row(index, record.line, record.value, found, self.one_sided)
            index += row.value is not None
            if row.reason:
                self.left_out[row.reason] = self.left_out.get(row.reason, 0) + 1
                if len(lines := self.lines.setdefault(row.reason, [])) < NAMED:
                    lines.append(row.line)
            else:
                self.answered += 1
            yield row
        if not self.answered and self.most != 0:
            raise Refused("score_no_answers", path=self.source.name, lists=", ".join(LISTS))


NAMED = 20
"""Lines named for each reason."""


def _row(index: int, line: int, value: Any, found: Pair | LeftOut, one_sided: bool) -> RowAnswers:
    held = value if isinstance(value, dict) else None
    if isinstance(found, LeftOut):
        return RowAnswers(index, line, held, None, found.reason)
    if not found.prompt and not found.system:
        return RowAnswers(index, line, held, None, "no_prompt")
    row = RowAnswers(index, line, held, found)
    listed = _listed(held) if held is not None else None
    if held is not None and _is_candidate(held):
        row.one = held["text"]
    elif found.paired:
        return row
    elif found.chosen is not None or found.rejected is not None:
        row.one = found.chosen if found.chosen is not None else found.rejected
        row.wanted = (found.chosen is not None) if one_sided else None
    if listed is not None:
        row.listed, row.several = listed
    if not row.sides:
        row.pair, row.reason = None, "answer_absent"
    return row


def _is_candidate(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("text"), str) and all(name in value for name in _CANDIDATE)


def _listed(value: Mapping[str, Any]) -> tuple[str, tuple[Side | None, ...]] | None:
    for name in LISTS:
        held = value.get(name)
        if isinstance(held, list) and not as_turns(held):
            answers = tuple(_answer(one) for one in held)
            if any(one is not None for one in answers):
                return name, answers
    return None


def _answer(value: Any) -> Side | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return next((value[name] for name in _TEXTS if isinstance(value.get(name), str)), None)
    turns = as_turns(value)
    return as_side(turns) if turns else None


def _asked_with_answers(value: Any) -> Pair | None:
    """A prompt whose answers stand in a list, or a candidate of a run; None for a row that only asks."""
    if not isinstance(value, Mapping) or (_listed(value) is None and not _is_candidate(value)):
        return None
    return read_asked({name: held for name, held in value.items() if name not in LISTS})
