"""Rows of a run that stand in no candidates file yet: while it goes on, after a preview, where it was ended hard.

They are read from the run's journals, one line a row, with what the run's policy makes of them: the same that the run
writes at its end, since a choice takes no model. Nineteen bytes of memory a row.
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.choose import ChosenPair
from pipeline.candidates.journal import Journal
from pipeline.candidates.policy import Policy, parse_policy
from pipeline.candidates.reward_functions import reward_function
from pipeline.candidates.write_candidates import MeasuredRow, Written, chooser, from_record, row_line
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused
from ui import reject_runs
from ui.reject_index import AT_ONCE, FILTERS, NO_STRATEGY, CandidateIndex, Counted, Rows

MAIN = "main"
KNOWN = 128  # of a row's flags: it is among those that can be seen
WHILE_LIVE = 0.15  # seconds of counting in one go: the run itself needs the processor more
KEPT = 8  # runs whose rows are held ready
EXAMPLES = 3


_Judged = tuple[MeasuredRow, list[ChosenPair], dict[str, Any]]
"""A row, its pairs, and what it asks."""


@dataclass(frozen=True)
class Judging:
    """How the run judges a row. scorers: journals that add measures, without which it can't be judged."""

    policy: Policy | None
    dedup: str = "normalized"
    scorers: tuple[str, ...] = ()


def judging(arguments: tuple[str, ...]) -> Judging:
    """From the arguments of the command."""
    given = dict(zip(arguments, arguments[1:], strict=False))
    try:
        policy = parse_policy(given.get("--choose"))
        reward = given.get("--reward")
        by_model = reward is not None and reward_function(reward) is None
    except Refused:
        return Judging(None)
    scorers = [name for name, wanted in (("reward", by_model), ("embedding", "--embedding-model" in given)) if wanted]
    return Judging(policy, given.get("--dedup", "normalized"), tuple(scorers))


class LiveRows(Rows):
    """The finished rows of a run's work folder. Every method may be called from several threads.

    share: how many of them are counted, 0 to 1; every one can be looked at, counted or not. told: what the policy makes
    of the counted ones, as the run itself counts. examples: numbers of the first rows with a reject.
    """

    def __init__(self, work: Path, how: Judging, *, live: bool) -> None:
        self._work, self._how, self.live = work, how, live
        self._lock = threading.RLock()
        self._journals: dict[str, Journal] = {}
        self._ids = array("q")  # in order
        self._without_gap = 0  # rows up to here are all there, so that only the rest is looked through again
        self._flags = bytearray()  # by number of the row
        self._picked = bytearray()
        self._uncounted: deque[int] = deque()
        self._counted = Counted()
        self.told = Written()
        self.examples: list[int] = []
        self.share = 1.0

    def __len__(self) -> int:
        return len(self._ids)

    def update(self, seconds: float = AT_ONCE) -> bool:
        """See what was finished since, and count on for at most so long. True when all is counted; of a run that goes
        on always. Raises OSError."""
        with self._lock:
            try:
                self._see()
            except FileNotFoundError:  # just written and cleared away
                return True
            end = time.monotonic() + (min(seconds, WHILE_LIVE) if self.live else seconds)
            while self._uncounted and time.monotonic() < end:
                self._count(self._uncounted.popleft())
            self.share = 1 - len(self._uncounted) / max(1, len(self._ids))
            return self.live or not self._uncounted

    def _see(self) -> None:
        for name in (MAIN, *self._how.scorers):
            if name not in self._journals:
                self._journals[name] = Journal(self._work, name)
            else:
                self._journals[name].refresh()
        main = self._journals[MAIN]
        if main.rows == len(self._ids):
            return
        grown = main.end() - len(self._flags)
        self._flags += bytes(grown)
        self._picked += bytes([NO_STRATEGY]) * grown
        del self._ids[self._without_gap :]
        for row in range(self._without_gap, main.end()):
            if row in main:
                self._ids.append(row)
                if not self._flags[row] & KNOWN:
                    self._flags[row] |= KNOWN
                    self._uncounted.append(row)
        while self._without_gap < len(self._ids) and self._ids[self._without_gap] == self._without_gap:
            self._without_gap += 1

    def _count(self, row: int) -> None:
        judged = self._judged(row)
        if judged is None:
            return
        held, pairs, _ = judged
        self.told.add(held, pairs)
        for record in _lines(judged):
            flags, picked = self._counted.add(record)
            self._flags[row] |= flags
            if picked != NO_STRATEGY:
                self._picked[row] = picked
        if pairs and len(self.examples) < EXAMPLES:
            self.examples.append(row)

    def _judged(self, row: int) -> _Judged | None:
        """A row with what the policy makes of it, and what it asks; None where it isn't there, or can't be read."""
        main = self._journals.get(MAIN)
        line = None if main is None else main.read(row)
        if not isinstance(line, Mapping):
            return None
        try:
            asked, gold = dict(line["asked"]), line["gold"]
            candidates = [from_record(record) for record in line["candidates"]]
            chosen_measures = dict(line["chosen"])
        except (KeyError, TypeError, ValueError):  # another version's
            return None
        pair = Pair([{"role": "user", "content": str(asked.get("instruction") or "")}], gold, None)
        held = MeasuredRow(SourceRow(row, pair), candidates, chosen_measures)
        return held, self._choose(held) if self._score(row, held) else [], asked

    def _score(self, row: int, held: MeasuredRow) -> bool:
        """Add what models have measured since. Whether all of them have."""
        by_number = {one.number: one for one in held.candidates}
        for name in self._how.scorers:
            added = self._journals[name].read(row) if name in self._journals else None
            if not isinstance(added, Mapping):
                return False
            held.chosen_measures |= added["chosen"]
            for number, measures in added["measures"]:
                by_number[number].measures |= measures
        return True

    def _choose(self, held: MeasuredRow) -> list[ChosenPair]:
        pairs = chooser(self._how.policy, self._how.dedup)(held)
        return pairs if self._how.policy is not None else []  # what the run makes of it can't be told

    def counts(self) -> dict[str, int]:
        """How many rows each filter keeps."""
        with self._lock:
            flags = bytes(self._flags[row] for row in self._ids)
            return self._counted.counts(flags, bytes(self._picked[row] for row in self._ids))

    def matching(self, view: str) -> array[int] | range:
        """Places of the rows that a filter keeps; `all` and what is no filter keep every one."""
        with self._lock:
            if view not in FILTERS and not view.startswith("by:"):
                return range(len(self._ids))
            flags, picked = (self._flags[r] for r in self._ids), (self._picked[r] for r in self._ids)
            return self._counted.matching(view, flags, picked)

    def place_of(self, row: int) -> int | None:
        """Where the row with this number stands, None where it isn't finished."""
        with self._lock:
            place = bisect_left(self._ids, row)
            return place if place < len(self._ids) and self._ids[place] == row else None

    def id_of(self, place: int) -> int | None:
        """The number of the row at a place."""
        with self._lock:
            return self._ids[place] if 0 <= place < len(self._ids) else None

    def row(self, place: int) -> list[dict[str, Any]]:
        """The candidates of one row; empty where there is no such row, or no longer. Raises OSError."""
        with self._lock:
            row = self.id_of(place)
            judged = None if row is None else self._judged(row)
            return [] if judged is None else _lines(judged)

    def close(self) -> None:
        """Lets go of the journals' files."""
        with self._lock:
            for journal in self._journals.values():
                journal.close()
            self._journals.clear()


def _lines(judged: _Judged) -> list[dict[str, Any]]:
    """The candidates as lines of a candidates file."""
    held, pairs, asked = judged
    paired = {one.candidate: one for one in pairs}
    return [{**row_line(held, one, paired.get(one.number)), **asked} for one in held.candidates]


_held: dict[tuple[Any, ...], Rows] = {}
_lock = threading.Lock()


def rows_of(run_id: Any) -> Rows:
    """The rows of a run, wherever they stand now: the same object while nothing else is there. Raises BadCase."""
    path, work = reject_runs.candidates_of(run_id), reject_runs.work_of(run_id)
    live = reject_runs.status(run_id).live
    key: tuple[Any, ...] = (path,)
    if _in_work(path, work, live):
        key = (path, reject_runs.about(run_id).arguments, live)
    with _lock:
        found = _held.pop(key, None)
        if found is None:
            found = CandidateIndex(path) if len(key) == 1 else LiveRows(work, judging(key[1]), live=live)
        for other in [one for one in _held if one[0] == path and (len(one) > 1 or len(key) > 1)]:
            _held.pop(other).close()
        _held[key] = found
        while len(_held) > KEPT:
            _held.pop(next(iter(_held))).close()
    return found


def _in_work(path: Path, work: Path, live: bool) -> bool:
    """Whether the journals know more than the candidates file."""
    parts = list(work.glob(f"{MAIN}-*.rows"))
    if not parts or live:
        return bool(parts)
    with suppress(OSError):
        return path.stat().st_mtime_ns < max(part.stat().st_mtime_ns for part in parts)
    return True
