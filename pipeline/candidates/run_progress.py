"""How far a run is, in a small file that whoever shows it reads: replaced whole about twice a second."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.candidates.candidate import Candidate, Counter
from pipeline.json_file import parse_json
from pipeline.refusal import Sentence

State = Literal["running", "done", "stopped", "failed"]
EVERY_SECONDS = 0.5
_WINDOW_SECONDS = 30.0  # that a rate is taken over
_MOST_BYTES = 2**20  # of a progress file that is read
# Measures whose mean is shown for each strategy.
SHOWN_MEASURES = ("on_topic", "length", "rep_4")


@dataclass
class StrategyState:
    """candidates: with those that are a problem. measured: by measure, how many have it and its sum; of on_topic the
    sum is how many are."""

    candidates: int = 0
    problems: int = 0
    cut_off: int = 0
    rejected: int = 0
    chosen: int = 0
    measured: dict[str, list[float]] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        self.candidates += 1
        self.problems += candidate.problem is not None
        self.cut_off += candidate.ended is False
        self.rejected += candidate.choice == "rejected"
        self.chosen += candidate.choice == "chosen"
        for name in SHOWN_MEASURES:
            value = candidate.measures.get(name)
            if isinstance(value, (bool, int, float)) and math.isfinite(value):
                held = self.measured.setdefault(name, [0, 0.0])
                held[0] += 1
                held[1] += float(value)

    def join(self, other: Mapping[str, Any]) -> None:
        """What another process counted, as `as_json` wrote it."""
        for name in ("candidates", "problems", "cut_off", "rejected", "chosen"):
            setattr(self, name, getattr(self, name) + int(other.get(name, 0)))
        for name, (count, total) in other.get("measured", {}).items():
            held = self.measured.setdefault(name, [0, 0.0])
            held[0] += count
            held[1] += total

    def as_json(self) -> dict[str, Any]:
        """With the mean of each measure under its name."""
        means = {name: round(total / count, 4) for name, (count, total) in sorted(self.measured.items()) if count}
        return {**asdict(self), **means}


class RunProgress:
    """Writes `path` until it is closed, and calls `tick` as often. Nothing here may end a run: a file that can't be
    written is not written.

    others: the same of other processes, which are added. Numbers are only ever changed by the thread that makes
    candidates.
    """

    def __init__(
        self, path: Path, *, others: Sequence[Path] = (), tick: Callable[[dict[str, Any]], None] = lambda state: None
    ) -> None:
        self.path, self._others, self.tick = path, tuple(others), tick
        self.counter = Counter()
        self.strategies: dict[str, StrategyState] = {}
        self.state: State = "running"
        self.message: Sentence | None = None
        self.pass_name, self.pass_number, self.passes = "", 0, 0
        self.rows, self.total = 0, None  # type: tuple[int, int | None]
        self.began = time.monotonic()
        self._earlier: Mapping[str, Any] = {}
        self._before = 0  # rows of this pass that an earlier process did
        self._seen: deque[tuple[float, int, int]] = deque()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run-progress", daemon=True)

    def go_on(self) -> None:
        """Counts on from what a run that ended wrote there, which may lack its last half second."""
        self._earlier = read_progress(self.path) or {}

    def start(self) -> None:
        self._thread.start()

    def begin_pass(self, name: str, rows: int, total: int | None) -> None:
        """rows: done in this pass already."""
        self.pass_name, self.pass_number = name, self.pass_number + 1
        self.rows, self.total, self._before = rows, total, rows
        self._seen.clear()

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Candidates of one row, measured or not yet chosen from."""
        for candidate in candidates:
            self.strategies.setdefault(candidate.strategy, StrategyState()).add(candidate)

    def close(self, state: State, message: Sentence | None = None) -> None:
        """The last state."""
        self.state, self.message = state, message
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self.write()

    def as_json(self) -> dict[str, Any]:
        now = time.monotonic()
        others = [held for path in self._others if (held := read_progress(path)) is not None]
        totals = {
            name: value + sum(held.get(name, 0) for held in (*others, self._earlier))
            for name, value in asdict(self.counter).items()
        }
        together = [held for held in others if held.get("pass", {}).get("name") == self.pass_name]
        rows = self.rows + sum(held["rows"]["done"] for held in together)
        if self.total is not None:
            rows = min(rows, self.total)
        strategies: dict[str, StrategyState] = {}
        for name, state in list(self.strategies.items()):
            strategies.setdefault(name, StrategyState()).join(asdict(state))
        for told in (*others, self._earlier):
            for name, counted in told.get("strategies", {}).items():
                strategies.setdefault(name, StrategyState()).join(counted)
        self._seen.append((now, totals["tokens"], rows))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        passed = now - self._seen[0][0]
        rate = (totals["tokens"] - self._seen[0][1]) / passed if passed > 0 else 0.0
        row_rate = (rows - self._seen[0][2]) / passed if passed > 0 else 0.0
        left = None if self.total is None or row_rate <= 0 else max(0, self.total - rows) / row_rate
        return {
            "schema": 1,
            "state": self.state,
            "pid": os.getpid(),
            "processes": 1 + len(self._others),
            "pass": {"name": self.pass_name, "number": self.pass_number, "of": self.passes},
            "rows": {"done": rows, "total": self.total},
            **totals,
            "tokens_per_second": round(max(0.0, rate), 1),
            "seconds": round(now - self.began, 1),
            "seconds_left": None if left is None or self.state != "running" else round(left, 1),
            "message": None if self.message is None else {
                "words": self.message.words, "entry": self.message.entry,
                "params": {name: _plain(value) for name, value in self.message.params.items()},
            },
            "strategies": {name: strategies[name].as_json() for name in sorted(strategies)},
        }  # fmt: skip

    def write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.part")  # of one name: a killed run's is overwritten
        with suppress(OSError):
            text = json.dumps(self.as_json(), ensure_ascii=False)
            temporary.write_text(f"{text}\n", encoding="utf-8", errors="replace")
            os.replace(temporary, self.path)

    def _run(self) -> None:
        while not self._closed.wait(EVERY_SECONDS):
            self.write()
            with suppress(Exception):
                self.tick(self.as_json())


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) or value is None else str(value)


def read_progress(path: Path) -> dict[str, Any] | None:
    """What `path` says, None where there is none or it is none."""
    try:
        with open(path, "rb") as file:
            found = parse_json(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    rows = found.get("rows") if isinstance(found, dict) else None
    return found if isinstance(rows, dict) and isinstance(rows.get("done"), int) else None
