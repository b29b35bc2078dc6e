"""Which answer of one file stands beside which of another: by prompt, repeated ones in order; without prompts by id
where every row of both files has one of its own, else by position. Ids that only number the rows, from 0 in one file
and from 1 in the other, are no ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.evaluation.answer_file import AnsweredRow, AnswerFile
from pipeline.pairs.pair import Pair, text_of
from pipeline.refusal import Refused

SHOWN = 5
"""Unmatched prompts that are named."""
_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Side:
    """Two answers to one prompt. row: of the file of `before`; sample: which of its answers. pair: the prompt, None
    where neither file has one. same_as: the first row with this prompt; rows of one prompt go together, so they are
    no independent ones."""

    row: int
    sample: int
    pair: Pair | None
    before: str
    after: str
    references: tuple[str, ...]
    category: str
    stopped_before: bool | None
    stopped_after: bool | None
    same_as: int | None = None

    @property
    def prompt(self) -> int:
        """A number that sides of the same prompt share."""
        return self.row if self.same_as is None else self.same_as


@dataclass
class Matching:
    """counts: matched, only_before, only_after, twice (rows whose prompt another row of the same file has),
    samples_left (answers that the other side has fewer of), prompts (different ones among the matched, where they are
    fewer); names: some prompts that only one file has. numbered_from: where both files number their rows and begin
    differently, at what."""

    by: Literal["prompt", "id", "position"]
    sides: list[Side]
    counts: dict[str, int]
    names: dict[str, list[str]] = field(default_factory=dict)
    numbered_from: tuple[int, int] | None = None

    def as_json(self) -> dict[str, Any]:
        numbered = {"numbered_from": list(self.numbered_from)} if self.numbered_from is not None else {}
        unmatched = {"unmatched": self.names} if any(self.names.values()) else {}
        return {**self.counts, "matched_by": self.by, **numbered, **unmatched}


def match(before: AnswerFile, after: AnswerFile, prompts: AnswerFile | None = None) -> Matching:
    """prompts: a file with prompts and what is right, for files that lack either.

    Raises Refused where nothing is in common, and where files without prompts have different numbers of rows.
    """
    known = _References(prompts)
    if before.with_prompts < len(before.rows) or after.with_prompts < len(after.rows):
        return _by_id(before, after, prompts, known) or _by_position(before, after, prompts, known)
    waiting: dict[bytes, deque[AnsweredRow]] = {}
    for row in after.rows:
        assert row.key is not None
        waiting.setdefault(row.key, deque()).append(row)
    twice = len(after.rows) - len(waiting)
    taken: list[tuple[AnsweredRow, AnsweredRow]] = []
    alone: list[AnsweredRow] = []
    for row in before.rows:
        assert row.key is not None
        others = waiting.get(row.key)
        if others:
            taken.append((row, others.popleft()))
        else:
            alone.append(row)
    asked = {row.key for row in before.rows}
    left = [row for key, rows in waiting.items() if key not in asked for row in rows]
    over = [row for row in alone if row.key in waiting]  # a prompt that the other file has fewer times
    over += [row for key, rows in waiting.items() if key in asked for row in rows]
    alone = [row for row in alone if row.key not in waiting]
    twice += len(before.rows) - len(asked)
    if not taken:
        raise Refused(
            "compare_nothing_common", before=before.path, after=after.path, one=_shown(before.rows[0]),
            other=_shown(after.rows[0]),
        )  # fmt: skip
    return _matching("prompt", taken, alone, left, twice, known, sum(len(row.answers) for row in over))


def _by_id(
    before: AnswerFile, after: AnswerFile, prompts: AnswerFile | None, known: _References
) -> Matching | None:  # fmt: skip
    """None where rows have no id, two have the same, or the files share none."""
    asked = by_id(prompts) if prompts is not None else None
    first, second = by_id(before), by_id(after)
    one, other = _begin(before), _begin(after)
    if one is not None and other is not None and {one, other} == {0, 1} and len(before.rows) == len(after.rows):
        for file, ids in ((before, first), (after, second)):
            if asked is not None and ids is not None and asked.keys() == ids.keys():  # the prompts' ids are this file's
                _ask(file.rows, asked)
                break
        found = _by_position(before, after, prompts, known)
        found.numbered_from = one, other
        return found
    if first is None or second is None or not (common := first.keys() & second.keys()):
        return None
    if asked is not None:
        _ask((*first.values(), *second.values()), asked)
    return _matching(
        "id", [(row, second[id]) for id, row in first.items() if id in common],
        [row for id, row in first.items() if id not in common],
        [row for id, row in second.items() if id not in common], 0, known,
    )  # fmt: skip


def _ask(rows: Iterable[AnsweredRow], asked: Mapping[str, AnsweredRow]) -> None:
    """Gives rows without a prompt that of their id."""
    for row in rows:
        if row.pair is None and row.id in asked:
            row.pair, row.key = asked[row.id].pair, asked[row.id].key


def by_id(file: AnswerFile) -> dict[str, AnsweredRow] | None:
    """Rows by their ids, None where one has none or two have the same."""
    found = {row.id: row for row in file.rows}
    return found if len(found) == len(file.rows) and "" not in found else None


def _begin(file: AnswerFile) -> int | None:
    """The first id where all are whole numbers, each one more than the one before; else None."""
    first = file.rows[0].id if file.rows else ""
    if not (first.isascii() and first.isdigit() and len(first) < 10):
        return None
    follow = all(row.id == str(number) for number, row in enumerate(file.rows, int(first)))
    return int(first) if follow else None


def _by_position(
    before: AnswerFile, after: AnswerFile, prompts: AnswerFile | None, known: _References
) -> Matching:  # fmt: skip
    counts = [len(before.rows), len(after.rows)]
    if counts[0] != counts[1]:
        without = before if before.with_prompts < len(before.rows) else after
        raise Refused(
            "compare_counts_differ", path=without.path, before=f"{counts[0]:,}", after=f"{counts[1]:,}"
        )  # fmt: skip
    if prompts is not None and len(prompts.rows) == counts[0]:
        for row, other, asked in zip(before.rows, after.rows, prompts.rows, strict=True):
            if row.pair is None and other.pair is None:
                row.pair, row.key = asked.pair, asked.key
    return _matching("position", list(zip(before.rows, after.rows, strict=True)), [], [], 0, known)


def _matching(
    by: Literal["prompt", "id", "position"], taken: Sequence[tuple[AnsweredRow, AnsweredRow]],
    alone: Sequence[AnsweredRow], left: Sequence[AnsweredRow], twice: int, known: _References, samples_left: int = 0,
) -> Matching:  # fmt: skip
    sides: list[Side] = []
    firsts: dict[bytes | int, int] = {}
    for row, other in taken:
        pair = row.pair or other.pair
        fewest = min(len(row.answers), len(other.answers))
        samples_left += len(row.answers) + len(other.answers) - 2 * fewest
        key = row.key or other.key
        references = row.references or other.references or known.of(key)
        category = row.category or other.category or known.category(key)
        same_as = firsts.setdefault(row.index if key is None else key, row.index)
        for at in range(fewest):
            sides.append(
                Side(row.index, at, pair, row.answers[at], other.answers[at], references, category, row.stopped[at],
                     other.stopped[at], same_as)
            )  # fmt: skip
    counts = {"matched": len(taken), "only_before": len(alone), "only_after": len(left), "twice": twice}
    if samples_left or len(sides) != len(taken):
        counts |= {"answers": len(sides), "samples_left": samples_left}
    if len(firsts) < len(taken):
        counts["prompts"] = len(firsts)
    names = {
        name: [_shown(row) for row in rows[:SHOWN]] for name, rows in (("before", alone), ("after", left)) if rows
    }  # fmt: skip
    return Matching(by, sides, counts, names)


def _shown(row: AnsweredRow) -> str:
    text = " ".join(text_of(row.pair.prompt).split()) if row.pair is not None else row.id
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…"


class _References:
    """What is right, by prompt."""

    def __init__(self, prompts: AnswerFile | None) -> None:
        self._rows: Mapping[bytes, AnsweredRow] = {
            row.key: row for row in reversed(prompts.rows if prompts is not None else []) if row.key is not None
        }

    def of(self, key: bytes | None) -> tuple[str, ...]:
        row = self._rows.get(key) if key is not None else None
        return row.references if row is not None else ()

    def category(self, key: bytes | None) -> str:
        row = self._rows.get(key) if key is not None else None
        return row.category if row is not None else ""
