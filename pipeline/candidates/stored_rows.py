"""Rows of a run for whoever looks at them one by one, while it goes on and afterwards, at any size."""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import Candidate
from pipeline.candidates.journal import Journal
from pipeline.candidates.run import Place
from pipeline.candidates.write_candidates import from_record

_ASKED = ("instruction", "input", "system", "history", "messages")
_ROW = re.compile(rb'\{"row": (\d{1,12}),')


@dataclass
class StoredRow:
    """asked: instruction, input and, where there are any, system, history or messages. chosen: the right answer's text.
    chosen_measures: of that answer."""

    index: int
    asked: dict[str, Any]
    chosen: str | None
    chosen_measures: dict[str, Any]
    candidates: list[Candidate]


class StoredRows:
    """The rows that are finished, in order of the data. While a run goes on they have no choice yet: what a policy
    would make of them is the caller's to ask. Raises OSError where the files can't be read."""

    def __init__(self, output: Path) -> None:
        self.place = Place(output)
        self._journal: Journal | None = None
        self._at = array("q")
        self.finished = False
        self.refresh()

    def refresh(self) -> None:
        """Sees what was done since."""
        if any(self.place.work.glob("main-*.rows")):
            if self._journal is None:
                self._journal = Journal(self.place.work, "main")
            self._journal.refresh()
            self._at = array("q", (row for row in range(self._journal.end()) if row in self._journal))
            self.finished = False
        elif self.place.candidates.is_file() and not self.finished:
            self.close()
            self._at, self.finished = _places(self.place.candidates), True

    def __len__(self) -> int:
        return len(self._at)

    def read(self, number: int) -> StoredRow | None:
        """The row with that place among the finished ones, from 0; None where there is none, or no longer."""
        if not 0 <= number < len(self._at):
            return None
        if not self.finished:
            held = None if self._journal is None else self._journal.read(self._at[number])
            if held is None:
                return None
            candidates = [from_record(record) for record in held["candidates"]]
            return StoredRow(self._at[number], held["asked"], held["gold"], dict(held["chosen"]), candidates)
        with open(self.place.candidates, "rb") as file:
            file.seek(self._at[number])
            lines = [json.loads(file.readline())]
            while (raw := file.readline()) and (line := json.loads(raw))["row"] == lines[0]["row"]:
                lines.append(line)
        first = lines[0]
        asked = {name: first[name] for name in _ASKED if name in first}
        made = [from_record({**line, "chosen": line.get("corrected")}) for line in lines]
        return StoredRow(first["row"], asked, first.get("chosen"), dict(first.get("chosen_measures") or {}), made)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def _places(path: Path) -> array[int]:
    """Where the lines of each row begin."""
    found, offset, before = array("q"), 0, b""
    with open(path, "rb") as file:
        for line in file:
            row = _ROW.match(line)
            if row is not None and row[1] != before:
                found.append(offset)
                before = row[1]
            offset += len(line)
    return found
