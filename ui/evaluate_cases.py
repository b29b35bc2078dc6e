"""The cases of a comparison: one pass over its file of rows keeps where each line lies, and what is filtered and drawn
by; a case itself is read again when it is shown, so that memory doesn't grow with the answers.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ui.charts import finite_number
from ui.evaluate_contests import names_of, objects
from ui.evaluate_panel import Shown

FINER = "reward"  # tells apart what the judge that decides finds alike
OUTCOMES = ("win", "tie", "loss")
UNJUDGED = 3
MOST_LINE = 8 * 2**20  # bytes of one row; a longer one is no row of ours
MOST_ROWS = 1_000_000
NAN = float("nan")


@dataclass
class Judged:
    """What one judge said of every case. outcome: place in OUTCOMES, UNJUDGED. before, after: its scores, NaN where it
    gave none."""

    outcome: array[int] = field(default_factory=lambda: array("b"))
    before: array[float] = field(default_factory=lambda: array("f"))
    after: array[float] = field(default_factory=lambda: array("f"))

    def pad(self, n: int) -> None:
        """Up to n cases, which nobody judged."""
        for _ in range(n - len(self.outcome)):
            self.outcome.append(UNJUDGED)
            self.before.append(NAN)
            self.after.append(NAN)


@dataclass(frozen=True)
class Wanted:
    """Which cases. outcome: of OUTCOMES, empty for any, by what `by` judged. search: in prompt, answers and reference,
    whatever the case of its letters."""

    after: str
    by: str = ""
    outcome: str = ""
    category: str = ""
    search: str = ""


class Cases:
    """All cases of one comparison. before: name of the model that the others are held against."""

    def __init__(
        self, records: Iterator[tuple[int, Mapping[str, Any]]], read: Callable[[int], Any], before: str
    ) -> None:  # fmt: skip
        """records: (where it lies, the case). read: the case that lies there."""
        self._read, self._before = read, before
        self._at: array[int] = array("q")
        self._after: array[int] = array("i")
        self._category: array[int] = array("i")
        self._row: array[int] = array("q")
        self.judged: dict[str, Judged] = {}
        afters: dict[str, int] = {}
        categories: dict[str, int] = {}
        for at, case in records:
            after = str(case.get("after", ""))
            self._at.append(at)
            self._after.append(afters.setdefault(after, len(afters)))
            row = finite_number(case.get("row"))
            self._row.append(int(row) if row is not None else len(self._at) - 1)
            self._category.append(categories.setdefault(str(case.get("category") or ""), len(categories)))
            self._judge(case, after)
        for one in self.judged.values():
            one.pad(len(self))
        self.afters, self.categories = list(afters), list(categories)

    def __len__(self) -> int:
        return len(self._at)

    def _judge(self, case: Mapping[str, Any], after: str) -> None:
        outcome, scores = _mapping(case.get("outcome")), _mapping(case.get("scores"))
        for by in {**outcome, **scores}:
            one = self.judged.setdefault(str(by), Judged())
            one.pad(len(self) - 1)
            given, of = outcome.get(by), _mapping(scores.get(by))
            one.outcome.append(OUTCOMES.index(given) if given in OUTCOMES else UNJUDGED)
            for values, name in ((one.before, self._before), (one.after, after)):
                value = finite_number(of.get(name))
                values.append(NAN if value is None else value)

    def of(self, after: str) -> list[int]:
        """Places of all cases of one model, in their order."""
        number = self.afters.index(after) if after in self.afters else -1
        return [place for place, one in enumerate(self._after) if one == number]

    def matching(self, wanted: Wanted) -> list[int]:
        """Places of the cases that are wanted, the clearest first where scores tell, else in their order."""
        places = self.of(wanted.after)
        judged = self.judged.get(wanted.by)
        if wanted.outcome:
            number = OUTCOMES.index(wanted.outcome) if wanted.outcome in OUTCOMES else UNJUDGED
            places = [p for p in places if (judged.outcome[p] if judged is not None else UNJUDGED) == number]
        if wanted.category:
            number = self.categories.index(wanted.category) if wanted.category in self.categories else -1
            places = [p for p in places if self._category[p] == number]
        if wanted.search.strip():
            needle = wanted.search.strip().casefold()
            places = [p for p in places if _holds(self.case(p), needle)]
        finer = self.judged.get(FINER)
        if judged is not None or finer is not None:
            places.sort(key=lambda p: (-_apart(judged, p), -_apart(finer, p)))
        return places

    def case(self, place: int) -> Mapping[str, Any]:
        """One case; empty where there is none at this place."""
        if not 0 <= place < len(self._at):
            return {}
        found = self._read(self._at[place])
        return found if isinstance(found, Mapping) else {}

    def place_of(self, row: int, after: str) -> int | None:
        """Place of the case of one prompt and model; None where it isn't here."""
        return next((place for place in self.of(after) if self._row[place] == row), None)

    def categories_by_row(self, after: str) -> dict[int, str]:
        """The category of each prompt."""
        return {self._row[place]: self.categories[self._category[place]] for place in self.of(after)}

    def points(self, after: str, by: str) -> dict[str, list[int]]:
        """Places of the cases that have both scores of one judge, by outcome."""
        judged = self.judged.get(by)
        found: dict[str, list[int]] = {name: [] for name in OUTCOMES}
        if judged is None:
            return found
        for place in self.of(after):
            before, now, outcome = judged.before[place], judged.after[place], judged.outcome[place]
            if before == before and now == now:
                if outcome == UNJUDGED:
                    outcome = 0 if now > before else 1 if now == before else 2
                found[OUTCOMES[outcome]].append(place)
        return found


def _apart(judged: Judged | None, place: int) -> float:
    if judged is None:
        return 0.0
    apart = abs(judged.after[place] - judged.before[place])
    return apart if apart == apart else -1.0


def _holds(case: Mapping[str, Any], needle: str) -> bool:
    texts = (case.get("prompt"), case.get("reference"), *_mapping(case.get("answers")).values())
    return any(needle in one.casefold() for one in texts if isinstance(one, str))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def cases_of(one: Shown) -> Cases:
    """From the file of rows where it is there, else those that the result holds."""
    before, _ = names_of(one.result)
    if one.rows is not None:
        try:
            there = one.rows.stat()
            found = _of_file(one.rows, there.st_mtime_ns, there.st_size, before)
            if len(found):
                return found
        except OSError:
            pass
    held = objects(one.result.get("cases")) or _samples(one)
    return Cases(iter(list(enumerate(held))), lambda at: held[at], before)


def _samples(one: Shown) -> list[Mapping[str, Any]]:
    """The cases that a stored report kept (diagnostics/evaluation_cases.py), as the result had them."""
    found: list[Mapping[str, Any]] = []
    for sample in one.report.samples if one.report is not None else ():
        sides = sample.get("sides") if isinstance(sample, Mapping) else None
        if not isinstance(sides, (list, tuple)) or len(sides) != 2 or not all(isinstance(s, Mapping) for s in sides):
            continue
        scores: dict[str, dict[str, Any]] = {}
        for side in sides:
            for by, value in _mapping(side.get("scores")).items():
                scores.setdefault(str(by), {})[str(side.get("name", ""))] = value
        answers = {str(side.get("name", "")): side.get("text", "") for side in sides}
        kept = {name: sample.get(name) for name in ("row", "prompt", "category", "reference", "outcome")}
        found.append({**kept, "after": str(sides[1].get("name", "")), "answers": answers, "scores": scores})
    return found


@lru_cache(maxsize=4)
def _of_file(path: Path, changed: int, size: int, before: str) -> Cases:
    """changed, size: of the file, so that it is read once. Raises OSError."""

    def records() -> Iterator[tuple[int, Mapping[str, Any]]]:
        at = 0
        with open(path, "rb") as file:
            for _ in range(MOST_ROWS):
                line = file.readline(MOST_LINE)
                if not line:
                    return
                case = _parsed(line)
                if isinstance(case, Mapping):
                    yield at, case
                at += len(line)

    def read(at: int) -> Any:
        try:
            with open(path, "rb") as file:
                file.seek(at)
                return _parsed(file.readline(MOST_LINE))
        except OSError:
            return None

    return Cases(records(), read, before)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
