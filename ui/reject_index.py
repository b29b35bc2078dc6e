"""Where each row of a candidates file begins, and what is counted of it: one pass as the file grows, no texts kept.

Eighteen bytes of memory a row and a few hundred a strategy, so that a row is one seek away in a file of any size. Rows
that are in no such file yet are those of ui/reject_live.py, which counts in the same way.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pipeline.json_file import parse_json
from ui.charts import finite_number

AT_ONCE = 0.4  # seconds of reading in one go: a page that asks waits no longer
MAX_STRATEGIES = 254
MAX_CANDIDATES = 200  # of one row are looked at
NO_STRATEGY = 255
HAS_REJECT, OFF_TOPIC, PROBLEM, NEW_CHOSEN = 1, 2, 4, 8
BIN_WIDTHS = {"length_ratio": 0.1, "rep_4": 0.05, "similarity": 0.05}
BINS = 31  # of each measure; the last one holds all that is larger
FILTERS = ("without", "off_topic", "problem", "chosen")


@dataclass
class Tally:
    """Of one strategy. on_topic, off_topic: measured ones only. bins: histograms by measure, of BIN_WIDTHS."""

    candidates: int = 0
    problems: int = 0
    on_topic: int = 0
    off_topic: int = 0
    ended: int = 0
    cut: int = 0
    rejected: int = 0
    tokens: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    bins: dict[str, array[int]] = field(default_factory=dict)

    def mean(self, measure: str) -> float | None:
        return self.sums[measure] / self.numbers[measure] if self.numbers[measure] else None

    def median(self, measure: str) -> float | None:
        """The middle of the bin that holds it; None where nothing was measured."""
        half, seen = self.numbers[measure] / 2, 0
        for place, n in enumerate(self.bins.get(measure, ())):
            seen += n
            if n and seen >= half:
                return (place + (0.5 if measure == "length_ratio" else 0.0)) * BIN_WIDTHS[measure]
        return None

    def add(self, record: dict[str, Any]) -> None:
        self.candidates += 1
        if record.get("problem"):
            self.problems += 1
            return
        if record.get("choice") == "rejected":
            self.rejected += 1
        self.tokens += int(finite_number(record.get("tokens")) or 0)
        ended = record.get("ended")
        self.ended += ended is True
        self.cut += ended is False
        measures = record.get("measures")
        if not isinstance(measures, dict):
            return
        topic = measures.get("on_topic")
        self.on_topic += topic is True
        self.off_topic += topic is False
        for name, width in BIN_WIDTHS.items():
            value = finite_number(measures.get(name))
            if value is None or value < 0:
                continue
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.numbers[name] += 1
            bins = self.bins.setdefault(name, array("Q", [0] * BINS))
            bins[min(BINS - 1, int(value / width + 1e-9))] += 1


class Counted:
    """What is counted of candidates. strategies, taken: of each strategy, and of the rejects that were taken."""

    def __init__(self) -> None:
        self.strategies: dict[str, Tally] = {}
        self.taken = Tally()

    def add(self, record: dict[str, Any]) -> tuple[int, int]:
        """Flags of the row that this candidate gives it, and the place of its strategy where it was taken."""
        name = str(record["strategy"])
        if name not in self.strategies and len(self.strategies) >= MAX_STRATEGIES:
            name = next(reversed(self.strategies))
        self.strategies.setdefault(name, Tally()).add(record)
        choice, measures = record.get("choice"), record.get("measures")
        flags, picked = 0, NO_STRATEGY
        if choice == "rejected":
            self.taken.add(record)
            flags, picked = HAS_REJECT, list(self.strategies).index(name)
        elif choice == "chosen":
            flags = NEW_CHOSEN
        if record.get("problem"):
            flags |= PROBLEM
        elif isinstance(measures, dict) and measures.get("on_topic") is False:
            flags |= OFF_TOPIC
        return flags, picked

    def counts(self, flags: bytes, picked: bytes) -> dict[str, int]:
        """How many rows each filter keeps. flags, picked: of each row."""
        by_flag, by_strategy = Counter(flags), Counter(picked)

        def having(bit: int) -> int:
            return sum(n for flag, n in by_flag.items() if flag & bit)

        found = {"all": len(flags), "without": len(flags) - having(HAS_REJECT), "off_topic": having(OFF_TOPIC),
                 "problem": having(PROBLEM), "chosen": having(NEW_CHOSEN)}  # fmt: skip
        return found | {f"by:{name}": by_strategy[place] for place, name in enumerate(self.strategies)}

    def matching(self, view: str, flags: Iterable[int], picked: Iterable[int]) -> array[int]:
        """Places of the rows that a filter other than `all` keeps: `without` a reject, `off_topic`, `problem`,
        `chosen`, or `by:STRATEGY` for rows whose reject that one made."""
        if view.startswith("by:"):
            names = list(self.strategies)
            wanted = names.index(view[3:]) if view[3:] in names else -1
            return array("Q", (n for n, one in enumerate(picked) if one == wanted))
        if view == "without":
            return array("Q", (n for n, flag in enumerate(flags) if not flag & HAS_REJECT))
        bit = {"off_topic": OFF_TOPIC, "problem": PROBLEM, "chosen": NEW_CHOSEN}.get(view, 0)
        return array("Q", (n for n, flag in enumerate(flags) if flag & bit))


class Rows(ABC):
    """Rows with their candidates, wherever they stand. Places are from 0, in order of the data.

    strategies, taken: what is counted of each strategy, and of the rejects that were taken. share: how much is counted,
    0 to 1. live: more may come.
    """

    share: float
    live: bool
    _counted: Counted

    @property
    def strategies(self) -> dict[str, Tally]:
        return self._counted.strategies

    @property
    def taken(self) -> Tally:
        return self._counted.taken

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def update(self, seconds: float = AT_ONCE) -> bool: ...

    @abstractmethod
    def counts(self) -> dict[str, int]: ...

    @abstractmethod
    def matching(self, view: str) -> array[int] | range: ...

    @abstractmethod
    def place_of(self, row: int) -> int | None: ...

    @abstractmethod
    def id_of(self, place: int) -> int | None: ...

    @abstractmethod
    def row(self, place: int) -> list[dict[str, Any]]: ...

    @abstractmethod
    def close(self) -> None: ...


class CandidateIndex(Rows):
    """The rows of one file of candidates. Every method may be called from several threads.

    share: how much of the file is read. damaged: lines that are no candidate.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._offsets = array("Q")
        self._ids = array("q")
        self._flags = bytearray()
        self._picked = bytearray()
        self._row: Any = None
        self._read = 0
        self._file: tuple[int, int] = (0, 0)
        self._counted = Counted()
        self.damaged = 0
        self.share = 1.0

    def __len__(self) -> int:
        return len(self._offsets)

    def update(self, seconds: float = AT_ONCE) -> bool:
        """Read on for at most so long. True when all that is there now is known. A file that was replaced is read
        anew. Raises OSError."""
        with self._lock:
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                self._begin_anew()
                return True
            if (there.st_dev, there.st_ino) != self._file or there.st_size < self._read:
                self._begin_anew()
                self._file = (there.st_dev, there.st_ino)
            if there.st_size == self._read:
                return True
            end = time.monotonic() + seconds
            with open(self._path, "rb") as file:
                file.seek(self._read)
                while True:
                    lines = file.readlines(1 << 20)
                    if not lines:
                        break
                    for line in lines:
                        if not line.endswith(b"\n"):  # still being written
                            self.share = 1.0
                            return True
                        self._take(line)
                        self._read += len(line)
                    if time.monotonic() > end:
                        break
            self.share = min(1.0, self._read / max(1, there.st_size))
            return self._read >= there.st_size

    def _take(self, line: bytes) -> None:
        try:
            record = _record(line)
            row, _ = int(record["row"]), str(record["strategy"])
        except (ValueError, TypeError, KeyError, OverflowError):
            self.damaged += 1
            return
        if row != self._row:
            self._row = row
            self._offsets.append(self._read)
            self._ids.append(row)
            self._flags.append(0)
            self._picked.append(NO_STRATEGY)
        flags, picked = self._counted.add(record)
        self._flags[-1] |= flags
        if picked != NO_STRATEGY:
            self._picked[-1] = picked

    def counts(self) -> dict[str, int]:
        """How many rows each filter keeps."""
        with self._lock:
            return self._counted.counts(bytes(self._flags), bytes(self._picked))

    def matching(self, view: str) -> array[int] | range:
        """Places of the rows that a filter keeps; `all` and what is no filter keep every one."""
        with self._lock:
            if view not in FILTERS and not view.startswith("by:"):
                return range(len(self._offsets))
            return self._counted.matching(view, self._flags, self._picked)

    def id_of(self, place: int) -> int | None:
        """The number of the row at a place."""
        with self._lock:
            return self._ids[place] if 0 <= place < len(self._ids) else None

    def place_of(self, row: int) -> int | None:
        """Where the row with this number stands, None where it has no candidates."""
        with self._lock:
            place = bisect_left(self._ids, row)
            return place if place < len(self._ids) and self._ids[place] == row else None

    def row(self, place: int) -> list[dict[str, Any]]:
        """The candidates of one row as they stand in the file; empty where there is no such row. Raises OSError."""
        with self._lock:
            if not 0 <= place < len(self._offsets):
                return []
            start = self._offsets[place]
            end = self._offsets[place + 1] if place + 1 < len(self._offsets) else self._read
        return [record for record in self._records(start, end) if isinstance(record, dict)]

    def _records(self, start: int, end: int) -> Iterator[Any]:
        with open(self._path, "rb") as file:
            file.seek(start)
            for _ in range(MAX_CANDIDATES):
                if file.tell() >= end:
                    return
                try:
                    yield _record(file.readline())
                except ValueError:
                    continue

    def close(self) -> None:
        """No file is open between two calls."""


def _record(line: bytes) -> Any:
    """One line as what it holds. Raises ValueError."""
    try:
        return orjson.loads(line)
    except ValueError:  # it refuses halves of characters, which a model's answer may end in
        return parse_json(line)
