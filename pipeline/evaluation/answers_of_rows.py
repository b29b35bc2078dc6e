"""The answers that one row of a data file holds: both sides of a pair, the one answer to a prompt, a list of them.

Files whose columns make no pairs and no supervised rows are read as files of answers are (answer_file)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.evaluation.answer_file import (
    FILTERED_AGAIN,
    AnsweredRow,
    AnswerReader,
    answer_sheet,
    has_later_turns,
    is_sheet,
)
from pipeline.pairs.asked_alone import read_asked
from pipeline.pairs.open_source import OpenSource, ask_for_axis, refusing
from pipeline.pairs.pair import Pair, Side, text_of
from pipeline.pairs.read_pairs import LeftOut, PairSource
from pipeline.pairs.turns import as_side, as_turns
from pipeline.record_files import Record
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
    """Iterate for the rows of a source, with those that hold no answer among them. most: rows with answers. asked: by
    id, the prompts of answers that have none.

    one_sided: whether each row has one side of a pair (KTO). left_out: rows without an answer, by reason, with their
    first lines; beside them `later_turns`, rows of which only the first turn is read. Raises Refused while iterated for
    what can't be read, and where nothing in it is an answer.
    """

    def __init__(
        self, source: OpenSource, *, most: int | None = None, asked: Mapping[str, AnsweredRow] | None = None
    ) -> None:  # fmt: skip
        self.source, self.most, self.asked = source, most, asked
        self.one_sided = False
        self.left_out: dict[str, int] = {}
        self.lines: dict[str, list[int]] = {}
        self.answered = 0
        self.format = ""

    def __iter__(self) -> Iterator[RowAnswers]:
        opened = opened_source(self.source)
        with refusing(opened):
            found_format = opened.format
        otherwise = _Otherwise(self.asked or {}, unknown=found_format is None)
        opened.otherwise = otherwise.read
        # the supervised answer may be what is right, with the model's own in another column: unless one is named
        beside = opened.kind == "supervised" and opened.recognised is not None and not opened.absent
        self.one_sided = opened.kind == "one-sided"
        self.format = found_format.name if found_format is not None else ""
        self.left_out, self.lines, self.answered = {}, {}, 0
        index = 0
        records = opened.with_records()
        while self.most is None or self.answered < self.most:
            otherwise.found = None
            try:
                with refusing(opened):
                    one = next(records, None)
            except Refused:
                if found_format is None and not self.answered and "no_prompt" in self.left_out:
                    unmatched = "" if self.asked is None else "_of_these_ids"
                    raise Refused(f"score_no_prompts{unmatched}", path=self.source.name) from None
                raise
            ask_for_axis(opened)
            if one is None:
                break
            record, found = one
            answered = otherwise.found
            if answered is None:
                row = _row(index, record.line, record.value, found, self.one_sided)
            else:
                row = _of_answers(index, record, found, answered)
            if beside and row.one is not None and not row.several:
                _put_own_answer(row)
            index += row.value is not None
            if row.reason:
                self._count(row.reason, row.line)
            else:
                self.answered += 1
                if answered is not None and has_later_turns(record.value):
                    self._count("later_turns", row.line)
            yield row
        if not self.answered and self.most != 0:
            raise Refused("score_no_answers", path=self.source.name, lists=", ".join(LISTS))

    def _count(self, reason: str, line: int) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1
        if len(lines := self.lines.setdefault(reason, [])) < NAMED:
            lines.append(line)


NAMED = 20
"""Lines named for each reason."""


def opened_source(source: OpenSource) -> PairSource:
    """A source whose file may also be a workbook."""
    opened, path = source.open(), source.path
    opened.name = source.name
    if path is not None and is_sheet(path):
        given = tuple(opened.absent)
        opened.records = lambda: answer_sheet(path, given)
    return opened


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


def _of_answers(index: int, record: Record, found: Pair | LeftOut, answered: AnsweredRow | str) -> RowAnswers:
    held = record.value if isinstance(record.value, dict) else None
    row = RowAnswers(index, record.line, held)
    if isinstance(answered, str):
        row.reason = found.reason if isinstance(found, LeftOut) and answered != FILTERED_AGAIN else answered
    elif answered.pair is None:
        row.reason = "no_prompt"
    else:
        row.pair = answered.pair
        _put(row, answered)
    return row


def _put(row: RowAnswers, answered: AnsweredRow) -> None:
    if len(answered.answers) == 1:
        row.one = answered.answers[0]
    else:
        row.one, row.several, row.listed = None, answered.answers, "answers"


def _put_own_answer(row: RowAnswers) -> None:
    """Of a supervised row that has the model's answer beside the right one, as compare reads it: the model's."""
    answered = AnswerReader().row(Record(row.line, row.value), row.index)
    text = text_of(row.one)
    if isinstance(answered, AnsweredRow) and text in answered.references and answered.answers != (text,):
        _put(row, answered)


class _Otherwise:
    """What rows are that make no pair. asked: prompts by id. unknown: whether the columns of the file are of no format
    of pairs or supervised rows. found: what the last record is as a row of answers, or why it is none; None where it
    was not read as such."""

    def __init__(self, asked: Mapping[str, AnsweredRow], *, unknown: bool) -> None:
        self._asked = asked
        self._reader = AnswerReader() if unknown else None
        self.found: AnsweredRow | str | None = None

    def read(self, value: Any) -> Pair | None:
        pair = _asked_with_answers(value)
        if pair is not None or self._reader is None:
            return pair
        found = self.found = self._reader.row(Record(0, value), 0)
        if isinstance(found, str):
            return None
        if found.pair is None and (own := self._asked.get(found.id)) is not None and own.pair is not None:
            found.pair = replace(own.pair)  # readers write into it where it stands
        return found.pair


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
