"""One run: passes over the rows that make candidates, measure and score them, then the files that come of it.

Everything lies in a work folder beside the output until it is written; killed at any moment and resumed, the files are
those of an undisturbed run. What a row's candidates are depends on the row, the seed and the settings alone.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.candidates.candidate import Cancelled, Candidate, Maker, SourceRow
from pipeline.candidates.journal import Journal
from pipeline.candidates.plan import Group, Plan
from pipeline.candidates.run_progress import RunProgress
from pipeline.candidates.shards import LOCK, SILENT_SECONDS, Outcome, Shard
from pipeline.candidates.source_rows import SourceRows
from pipeline.candidates.write_candidates import (
    Choose,
    MeasuredRow,
    Written,
    asked,
    candidates_path,
    from_record,
    to_record,
    write_run,
)
from pipeline.json_file import parse_json
from pipeline.refusal import Refused, Sentence

Measure = Callable[[MeasuredRow], None]
"""Writes into the measures of a row's candidates, and into those of its chosen answer. Without an effect on other rows.
"""

_MOST_INFO = 2**24  # bytes of a run file


@dataclass(frozen=True)
class Opened:
    """maker: one that is ready, None where nothing is to be made. measure: what only its model can measure."""

    maker: Maker | None
    measure: Measure | None = None


class Makers(Protocol):
    """Opens what a pass needs, one at a time."""

    def open(self, group: Group) -> AbstractContextManager[Opened]: ...

    def scorer(self, name: str) -> AbstractContextManager[Measure]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where a run keeps its files, all beside `output`."""

    output: Path

    @property
    def candidates(self) -> Path:
        return candidates_path(self.output)

    @property
    def work(self) -> Path:
        return self.output.with_name(f"{self.output.name}.work")

    @property
    def progress(self) -> Path:
        return self.output.with_name(f"{self.output.name}.progress.json")

    @property
    def info(self) -> Path:
        return self.output.with_name(f"{self.output.name}.run.json")

    @property
    def files(self) -> tuple[Path, ...]:
        """What a run writes and keeps."""
        return self.output, self.candidates, self.progress, self.info

    def progress_paths(self, shard: Shard) -> tuple[Path, list[Path]]:
        """Where this process writes how far it is, and where the others do that it adds up."""
        paths = [self.work / f"progress-{rank}.json" for rank in range(1, shard.world)]
        return (self.progress, paths) if shard.rank == 0 else (paths[shard.rank - 1], [])

    def read_info(self) -> dict[str, Any] | None:
        """What the last run here said of itself; None where there was none."""
        try:
            with open(self.info, "rb") as file:
                found = parse_json(file.read(_MOST_INFO))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and isinstance(found.get("settings"), dict) else None

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Raises OSError."""
        text = json.dumps(info, indent=2, ensure_ascii=False).encode("utf-8", errors="replace")
        temporary = self.info.with_name(f".{self.info.name}.part")  # of one name: a killed run's is overwritten
        with open(temporary, "wb") as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.info)


@dataclass
class RunResult:
    """outcome: `preview`: the rows asked for are done and kept, nothing was written. already: it was done before."""

    outcome: Outcome | str
    written: Written | None = None
    rows: int = 0
    total: int | None = None
    already: bool = False
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """settings: what a run that goes on must agree with. measure: of every row's candidates, without a model of its
    own. preview: how many rows to stop after. choice: how pairs are chosen and written, in JSON. note: told one line.
    """

    place: Place
    rows: SourceRows
    plan: Plan
    makers: Makers
    measure: Measure
    choose: Choose
    format: str
    settings: Mapping[str, Any]
    progress: RunProgress
    shard: Shard = field(default_factory=Shard)
    cancel: threading.Event = field(default_factory=threading.Event)
    preview: int | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)
    note: Callable[[Sentence], None] = lambda sentence: None
    _info: dict[str, Any] = field(default_factory=dict)
    _goes_on: bool = False

    def __call__(self, *, resume: bool = False, overwrite: bool = False) -> RunResult:
        """Raises Refused: something lies there already, another run is at it, a resume with other settings, and what
        makers and sources raise; everything done so far is then kept."""
        with self.shard.holding(self.place.work, self.place.output):
            return self._run(resume, overwrite)

    def _run(self, resume: bool, overwrite: bool) -> RunResult:
        already = self._prepare(resume, overwrite) if self.shard.rank == 0 else self._join(resume, overwrite)
        if already is not None:
            return already
        outcome: Outcome = "failed"
        self.progress.passes = self.plan.passes
        shown = self.progress.tick

        def tick(state: dict[str, Any]) -> None:
            if not self.shard.rank:
                self.shard.answer()
            shown(state)

        self.progress.tick = tick
        if self._goes_on:
            self.progress.go_on()
        self.progress.start()
        try:
            outcome = self._passes()
            return self._end(outcome)
        except BaseException as failed:
            self._keep_state("stopped" if isinstance(failed, KeyboardInterrupt) else "failed", failed)
            raise
        finally:
            self.shard.leave(outcome)

    # --- before ---

    def _prepare(self, resume: bool, overwrite: bool) -> RunResult | None:
        place, before = self.place, self.place.read_info()
        there = [path for path in (place.output, place.candidates) if path.exists()]
        begun_rows = [path for path in sorted(place.work.glob("*.rows")) if path.stat().st_size]
        there += begun_rows[:1]
        if before is not None and before.get("state") != "done" and not there:
            before = None  # it ended before anything was made: a wrong adapter, a server that wasn't there
        if overwrite:
            before = None
            self._empty_work()
            for path in (place.info, place.progress):
                path.unlink(missing_ok=True)
        elif before is not None and before.get("state") == "done":
            if not resume:
                raise Refused("run_exists", path=there[0] if there else place.info)
            if different := differing(before["settings"], self.settings):
                raise Refused("run_differs", path=place.output, fields=different)
            self._empty_work()
            same = before.get("max_samples") == self.rows.most and before.get("choice") in (None, dict(self.choice))
            if place.output.exists() and same:
                return RunResult("done", already=True, info=before)
            raise Refused("run_finished" if place.candidates.exists() else "run_exists", path=place.output)
        elif before is not None and (resume or before.get("state") == "preview"):
            if different := differing(before["settings"], self.settings):
                raise Refused("run_differs", path=place.output, fields=different)
        elif there:
            raise Refused("run_exists" if before is not None or not resume else "run_unknown", path=there[0])
        self._goes_on = before is not None
        for left in (*place.work.glob("ready-*"), *place.work.glob("done-*"), *place.work.glob("progress-*")):
            left.unlink(missing_ok=True)
        begun = (before or {}).get("begun") or _now()
        self._info = {"schema": 1, "state": "running", "begun": begun, "settings": dict(self.settings),
                      "max_samples": self.rows.most, "choice": dict(self.choice), "processes": self.shard.world,
                      "sessions": (before or {}).get("sessions", [])}  # fmt: skip
        place.write_info(self._info)
        self.shard.folder = place.work
        return None

    def _empty_work(self) -> None:
        """But for what keeps other runs away."""
        for path in self.place.work.iterdir():
            if not path.name.startswith(LOCK):
                with suppress(OSError):
                    path.unlink()

    def _join(self, resume: bool, overwrite: bool) -> RunResult | None:
        """Of another process than the first: waits for it, unless all was done before. Raises Cancelled."""
        before = self.place.read_info()
        if resume and not overwrite and before is not None and before.get("state") == "done":
            return RunResult("done", already=True, info=before)
        try:
            self.shard.join(self.place.work, self.cancel, self._say_waiting)
        except Cancelled:
            return RunResult("stopped")
        return None

    def _say_waiting(self, seconds: float) -> None:
        if SILENT_SECONDS <= seconds < SILENT_SECONDS + 0.15:
            self.note(Sentence("run_waits_for_first", {"path": self.place.work}, "candidates"))

    # --- the passes ---

    def _passes(self) -> Outcome:
        try:
            with ExitStack() as stack:
                sides = [self._side(group, stack) for group in self.plan.side]
                main = self._journal("main", stack)
                self._main(main, sides)
                for name in self.plan.scorers:
                    self._score(name, main, stack)
        except Cancelled:
            return "stopped"
        return "done"

    def _journal(self, name: str, stack: ExitStack) -> Journal:
        journal = Journal(self.place.work, name, self.shard.rank)
        stack.callback(journal.close)
        return journal

    def _wanted(self) -> int | None:
        total = self.rows.count()
        return total if self.preview is None else min(self.preview, total if total is not None else self.preview)

    def _open_rows(self, journal: Journal) -> Iterator[SourceRow]:
        """The rows of this process that the pass hasn't done."""
        for row in self.rows:
            if self.preview is not None and row.index >= self.preview:
                return
            if self.cancel.is_set():
                raise Cancelled
            if self.shard.takes(row.index) and row.index not in journal:
                yield row

    def _begin(self, name: str, journal: Journal) -> bool:
        """Whether there is anything to do in a pass, whose model is only loaded then."""
        total = self._wanted()
        self.progress.begin_pass(name, journal.rows if self.shard.rank == 0 else 0, total)
        return total is None or any(self.shard.takes(row) and row not in journal for row in range(total))

    def _side(self, group: Group, stack: ExitStack) -> Journal:
        journal = self._journal(group.name, stack)
        if self._begin(group.name, journal):
            with self._timed(group.name), self.makers.open(group) as opened:
                assert opened.maker is not None
                made = opened.maker.make(self._open_rows(journal), cancel=self.cancel, counter=self.progress.counter)
                for row, candidates in made:
                    journal.write(row.index, [to_record(one) for one in candidates])
                    self.progress.rows += 1
        return journal

    def _main(self, journal: Journal, sides: Sequence[Journal]) -> None:
        if not self._begin("main", journal):
            return
        group = self.plan.main
        with self._timed("main"), ExitStack() as stack:
            opened = stack.enter_context(self.makers.open(group)) if group is not None else None
            rows = self._open_rows(journal)
            made: Iterator[tuple[SourceRow, list[Candidate]]]
            if opened is None or opened.maker is None:
                made = ((row, list[Candidate]()) for row in rows)
            else:
                made = opened.maker.make(rows, cancel=self.cancel, counter=self.progress.counter)
            for row, own in made:
                beside = [from_record(record) for side in sides for record in side.read(row.index) or ()]
                held = MeasuredRow(row, sorted((*own, *beside), key=lambda one: one.number))
                self.measure(held)
                if opened is not None and opened.measure is not None:
                    opened.measure(held)
                records = [to_record(one) for one in held.candidates]
                seen = {"asked": asked(row.pair), "gold": row.gold}  # for who looks on
                journal.write(row.index, {**seen, "candidates": records, "chosen": held.chosen_measures})
                self._show(held, last=not self.plan.scorers)

    def _score(self, name: str, main: Journal, stack: ExitStack) -> None:
        journal = self._journal(name, stack)
        if not self._begin(name, journal):
            return
        with self._timed(name), self.makers.scorer(name) as score:
            for row in self._open_rows(journal):
                held = _measured(row, main.read(row.index))
                for one in held.candidates:  # only what this pass adds is kept
                    one.measures = {}
                held.chosen_measures = {}
                score(held)
                added = [[one.number, one.measures] for one in held.candidates if one.measures]
                journal.write(row.index, {"measures": added, "chosen": held.chosen_measures})
                self.progress.rows += 1

    def _show(self, held: MeasuredRow, *, last: bool) -> None:
        if last:
            self.choose(held)
        self.progress.add(held.candidates)
        self.progress.rows += 1

    def _timed(self, name: str) -> AbstractContextManager[None]:
        return _Timed(self._info.setdefault("passes", {}), name)

    # --- after ---

    def done_rows(self) -> Iterator[MeasuredRow]:
        """Each row that all passes are done with, in order, as it was measured and scored."""
        with ExitStack() as stack:
            main = self._journal("main", stack)
            scored = [self._journal(name, stack) for name in self.plan.scorers]
            for row in self.rows:
                if row.index >= main.end() or (self.preview is not None and row.index >= self.preview):
                    return
                if row.index in main and all(row.index in journal for journal in scored):
                    held = _measured(row, main.read(row.index))
                    by_number = {one.number: one for one in held.candidates}
                    for journal in scored:
                        added: Any = journal.read(row.index)
                        held.chosen_measures |= added["chosen"]
                        for number, measures in added["measures"]:
                            by_number[number].measures |= measures
                    yield held

    def _end(self, outcome: Outcome) -> RunResult:
        if self.shard.rank:
            self.progress.close("done" if outcome == "done" else "stopped")
            return RunResult(outcome, rows=self.progress.rows, total=self.rows.count())
        if self.shard.world > 1:
            outcome = self._wait_for_others(outcome)
        total = self.rows.count()
        if self.preview is not None:
            self._keep_state("preview" if outcome == "done" else "stopped")
            if outcome != "done":
                return RunResult(outcome, rows=self.progress.rows, total=total, info=self._info)
            return RunResult("preview", rows=min(self.preview, total or self.preview), total=total, info=self._info)
        if outcome != "done" and next(self.done_rows(), None) is None:  # nothing yet that could be written
            self._keep_state("stopped")
            return RunResult(outcome, Written(format=self.format), 0, total, info=self._info)
        self.progress.begin_pass("write", 0, total)

        def progress(rows: int) -> None:
            self.progress.rows = rows

        try:
            written = write_run(
                self.done_rows(), self.place.output, self.format, self.choose, self.place.work, progress=progress
            )
        except OSError as failed:
            why = failed.strerror or failed
            raise Refused("run_not_written", path=self.place.output, work=self.place.work, why=why) from None
        if outcome == "done":
            self._info["account"] = account(written)
            self._keep_state("done")
            shutil.rmtree(self.place.work, ignore_errors=True)
        else:
            self._keep_state("stopped")
        return RunResult(outcome, written, written.rows, total, info=self._info)

    def _wait_for_others(self, outcome: Outcome) -> Outcome:
        said = [SILENT_SECONDS]

        def waiting(seconds: float, ranks: list[int]) -> None:
            if seconds >= said[0]:
                said[0] *= 4
                names = ", ".join(map(str, ranks))
                self.note(Sentence("run_waits_for_others", {"ranks": names, "path": self.place.work}, "candidates"))

        patience = threading.Event() if outcome != "done" else self.cancel
        if outcome != "done":  # they were stopped too; a moment for what they have in hand
            timer = threading.Timer(10.0, patience.set)
            timer.daemon = True
            timer.start()
        try:
            theirs = self.shard.others(patience, waiting)
        except Cancelled:
            return "stopped"
        return outcome if outcome != "done" else theirs

    def _keep_state(self, state: str, failed: BaseException | None = None) -> None:
        """In both small files. Never raises."""
        shown = "done" if state == "preview" else state
        message = failed.sentence if isinstance(failed, Refused) else None
        self.progress.close(shown, message)  # type: ignore[arg-type]
        if self.shard.rank or not self._info:
            return
        held = self.progress.as_json()
        session = {"ended": _now(), "state": state, "seconds": held["seconds"], "candidates": held["candidates"],
                   "tokens": held["tokens"], "cost": held["cost"]}  # fmt: skip
        self._info |= {"state": state, "sessions": [*self._info["sessions"], session]}
        with suppress(OSError):
            self.place.write_info(self._info)


def _measured(row: SourceRow, written: Any) -> MeasuredRow:
    """A row as the main pass left it."""
    return MeasuredRow(row, [from_record(record) for record in written["candidates"]], dict(written["chosen"]))


class _Timed:
    """Adds the seconds of a block to those of its name."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name, self._began = seconds, name, 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *failed: object) -> None:
        spent = time.monotonic() - self._began
        self._seconds[self._name] = round(self._seconds.get(self._name, 0.0) + spent, 1)


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings that aren't the same, with both values; "" where all are."""
    now = json.loads(json.dumps(now))  # as they were kept
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name}: {_short(before.get(name))} -> {_short(now.get(name))}" for name in names)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-36:]}"


def account(written: Written) -> dict[str, Any]:
    """What was written, for programs."""
    report = written.report
    return {
        "pairs": report.rows, "format": written.format, "columns": list(report.columns), "rows_written": written.rows,
        "candidates": written.candidates, "problems": dict(written.problems.most_common()),
        "rows_without_pair": written.without_pair, "rows_without_gold": written.without_gold,
        "strategies": dict(written.strategies.most_common()), "choices": dict(written.choices.most_common()),
        "reasons": dict(written.reasons.most_common()), "left_out": dict(report.left_out.most_common()),
        "dropped": dict(report.dropped.most_common()),
    }  # fmt: skip


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
