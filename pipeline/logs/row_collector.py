"""Gathers rows from readers, one by one or in columns, and makes a `TrainingLog` of them."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from pipeline.logs.metric_names import Meaning, meaning, setting_name
from pipeline.logs.training_log import MAX_CURVES, MAX_ROWS

NAN = math.nan
_WRAPPED = re.compile(
    r"^\s*(?:[A-Za-z_.]+\d*\()?\s*['\"]?([-+]?[\d.]+(?:[eE][-+]?\d+)?|nan|[-+]?inf(?:inity)?)['\"]?%?\)?\s*$",
    re.IGNORECASE,
)
_ENDS = frozenset("0123456789.nNfFyY)%'\" \t")  # what a number may end with
_FRACTION = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*$")
_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)$")
_UNITS = re.compile(r"(?:(\d+)d)? ?(?:(\d+)h)? ?(?:(\d+)m)? ?(?:(\d+(?:\.\d+)?)s)?$")
# Keys that hold two numbers, as ms-swift writes them.
_PAIRS = {"global_step/max_steps": ("step", "max_steps")}
_CONTAINERS = frozenset(("data", "metrics", "log", "logs", "values", "scalars", "stats", "record"))
_ELAPSED = 1000  # a rank behind any time of day
_DEPTH, _MOST_KEYS = 3, 400  # of records within records
MAX_GROUPS = 500
# Metrics that stand beside those a run is judged by: alone they are no record.
BESIDE = frozenset(
    ("learning_rate", "loss_scale", "skipped_steps", "grad_norm", "num_tokens", "completions/mean_length",
     "completions/max_length", "completions/clipped_ratio")
)  # fmt: skip
ESTIMATE = "loss@evaluation"  # the training loss that an evaluation measured beside the evaluation loss


@dataclass(frozen=True)
class RowBlock:
    """Rows read together. at: (n,) their order among others of the same block; metrics: by name (places in `at`, None
    for all of them; values); step, epoch, time, bar: (n,), None where unknown."""

    at: Any
    metrics: Mapping[str, tuple[Any, Any]]
    step: Any = None
    epoch: Any = None
    time: Any = None
    bar: Any = None


class _Group:
    """Metrics that always stand together: one list of rows for all of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.rows: array[int] = array("q")
        self.values: dict[str, array[float]] = {name: array("d") for name in names}


class RowCollector:
    """Columns that grow. One row is one record of the log: a step, an epoch, a time, and the values it holds."""

    def __init__(self, renamed: Mapping[str, Meaning] | None = None) -> None:
        self.renamed = dict(renamed or {})  # keys whose meaning the user gave
        self._told = {what.name for what in self.renamed.values()}
        self.step = array("d")
        self.epoch = array("d")
        self.time = array("d")
        self.bar = array("d")  # step of the last progress bar seen
        self.groups: dict[tuple[str, ...], _Group] = {}
        self.names: set[str] = set()
        self.settings: dict[str, Any] = {}
        self.keys: dict[str, None] = {}
        self.tables: list[int] = []  # the row at which each table begins
        self.elapsed = False
        self.records = 0
        self.before = 0  # rows of the collector that this one stands beside
        self.full = False

    def __len__(self) -> int:
        return len(self.step)

    def beside(self) -> RowCollector:
        """An empty one for rows that are put between others later (`as_block`, `join`); settings are shared."""
        other = RowCollector()
        other.renamed, other._told, other.settings, other.keys = self.renamed, self._told, self.settings, self.keys
        other.before = self.before + len(self)
        other.elapsed = self.elapsed
        return other

    def as_block(self, at: Any) -> RowBlock:
        """All rows as a block. at: (rows,) where they belong among others."""
        return RowBlock(at, self.columns(), *(np.array(c) for c in (self.step, self.epoch, self.time, self.bar)))

    def join(self, other: RowCollector) -> None:
        """Takes over what `beside` counted."""
        self.records += other.records
        self.elapsed = other.elapsed

    def add(
        self, values: Mapping[str, float], step: float = NAN, epoch: float = NAN, time: float = NAN, bar: float = NAN
    ) -> None:
        """One row. values: by the names used here; an empty one is no row."""
        if not values or self.full:
            return
        row = len(self.step)
        self.full = row + 1 >= MAX_ROWS
        self.step.append(step)
        self.epoch.append(epoch)
        self.time.append(time)
        self.bar.append(bar)
        for group in self._groups(tuple(values)):
            group.rows.append(row)
            for name, column in group.values.items():
                column.append(values[name])

    def add_blocks(self, blocks: Sequence[RowBlock]) -> None:
        """Rows of several blocks, in the order of `at` over all of them."""
        blocks = [block for block in blocks if len(block.at) and block.metrics]
        if not blocks or self.full:
            return
        base = len(self.step)
        many = len(blocks) > 1
        size = sum(len(block.at) for block in blocks)
        order = np.argsort(np.concatenate([block.at for block in blocks]), kind="stable") if many else None
        ranks = np.empty(size, dtype=np.int64)
        if order is not None:
            ranks[order] = np.arange(size)
        else:
            ranks = np.arange(size)
        self.full = base + size >= MAX_ROWS
        for own, columns in (
            (self.step, [b.step for b in blocks]),
            (self.epoch, [b.epoch for b in blocks]),
            (self.time, [b.time for b in blocks]),
            (self.bar, [b.bar for b in blocks]),
        ):
            filled = [
                np.full(len(block.at), NAN) if column is None else column
                for block, column in zip(blocks, columns, strict=True)
            ]
            joined = np.concatenate(filled)[order] if order is not None else filled[0]
            own.frombytes(np.ascontiguousarray(joined, dtype=np.float64).tobytes())
        start = 0
        for block in blocks:
            rows = base + ranks[start : start + len(block.at)]
            start += len(block.at)
            whole = tuple(name for name, (index, _) in block.metrics.items() if index is None)
            for group in self._groups(whole):
                group.rows.frombytes(rows.tobytes())
                for name, column in group.values.items():
                    column.frombytes(np.ascontiguousarray(block.metrics[name][1], dtype=np.float64).tobytes())
            for name, (index, values) in block.metrics.items():
                if index is not None:
                    for group in self._groups((name,)):
                        group.rows.frombytes(rows[index].tobytes())
                        group.values[name].frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())

    def _groups(self, names: tuple[str, ...]) -> list[_Group]:
        """The groups that hold these metrics of one row; names beyond the limit have none."""
        found = self.groups.get(names)
        if found is not None:
            return [found]
        if any(name not in self.names for name in names) and len(self.names) + len(names) > MAX_CURVES:
            allowed: list[str] = []
            for name in names:
                if name in self.names or len(self.names) + len(allowed) < MAX_CURVES:
                    allowed.append(name)
            names = tuple(allowed)
            if names in self.groups:
                return [self.groups[names]]
        if not names:
            return []
        self.names.update(names)
        if len(names) > 1 and len(self.groups) > MAX_GROUPS:  # records of ever other keys
            return [group for name in names for group in self._groups((name,))]
        self.groups[names] = _Group(names)
        return [self.groups[names]]

    def columns(self, *, ended: bool = False) -> dict[str, tuple[Any, Any]]:
        """By metric (rows, values); metrics that stand together share the array of rows. ended: nothing will be added,
        so no copies are made."""
        found: dict[str, list[tuple[Any, Any]]] = {}
        for group in self.groups.values():
            if not group.rows:
                continue
            index = np.frombuffer(group.rows, dtype=np.int64) if ended else np.array(group.rows, dtype=np.int64)
            if len(index) > 1 and (np.diff(index) < 0).any():
                order = np.argsort(index, kind="stable")
                index = index[order]
            else:
                order = None
            for name, values in group.values.items():
                column = np.frombuffer(values) if ended else np.array(values, dtype=np.float64)
                found.setdefault(name, []).append((index, column if order is None else column[order]))
        made = {}
        for name, parts in found.items():
            if len(parts) == 1:
                made[name] = parts[0]
                continue
            rows = np.concatenate([rows for rows, _ in parts])
            order = np.argsort(rows, kind="stable")
            made[name] = (rows[order], np.concatenate([values for _, values in parts])[order])
        return made

    # Records

    def add_records(self, records: Sequence[Mapping[str, Any]], bar: float = NAN) -> None:
        """Rows from records (JSON objects or Python dicts): keys by their aliases, numbers bare or quoted. What becomes
        of a record does not depend on those read together with it."""
        self.records += len(records)
        self.add_blocks(self.blocks_of(records, np.arange(len(records)), np.full(len(records), bar)))

    def blocks_of(self, records: Sequence[Mapping[str, Any]], at: Any, bar: Any, depth: int = 0) -> list[RowBlock]:
        """The same as blocks for `add_blocks`. at, bar: (records,) their order and the progress bar before each."""
        if not records:
            return []
        first = records[0]
        if len(set(map(len, records))) == 1:
            try:
                columns = [list(map(itemgetter(key), records)) for key in first]
            except KeyError:
                pass
            else:
                return self._alike(tuple(first), columns, records, at, bar, depth)
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, record in enumerate(records):
            alike.setdefault(tuple(record), []).append(place)
        blocks = []
        for keys, places in alike.items():
            some = [records[place] for place in places]
            columns = [list(map(itemgetter(key), some)) for key in keys]
            blocks += self._alike(keys, columns, some, at[places], bar[places], depth)
        return blocks

    def _alike(
        self,
        keys: tuple[str, ...],
        columns: Sequence[list[Any]],
        records: Sequence[Mapping[str, Any]],
        at: Any,
        bar: Any,
        depth: int,
    ) -> list[RowBlock]:
        """Blocks of records that hold the same keys."""
        if depth < _DEPTH and any(dict in set(map(type, column)) for column in columns):
            return self.blocks_of([_flattened(record) for record in records], at, bar, depth + 1)
        meanings = [self.meaning(key) for key in keys]
        if any(m.kind == "summary" and m.name != "total_flos" for m in meanings):
            for record in records:
                self._add_summary(record)
            return []
        size = len(records)
        metrics: dict[str, tuple[Any, Any]] = {}
        places: dict[str, Any] = {}
        said = [m.name.removeprefix("eval_") for m in meanings if m.kind == "metric"]
        placed = any(m.kind == "place" and m.name in ("step", "epoch") for m in meanings) or any(
            key in _PAIRS for key in keys
        )
        configured = all(name in BESIDE for name in said)  # not one value that training is judged by
        exact: set[str] = set()
        ranks: dict[str, int] = {}
        for key, what, raw in zip(keys, meanings, columns, strict=True):
            if key in _PAIRS:
                self._add_pair(key, raw, places)
                ranks[_PAIRS[key][0]] = 0
                continue
            if what.kind == "speed":
                continue
            if what.kind == "place" and what.name == "elapsed":
                seconds = np.array([_seconds(v) for v in raw])
                if "time" not in places and not np.isnan(seconds).all():
                    places["time"], ranks["time"] = seconds, _ELAPSED
                    self.elapsed = True
                continue
            numbers, known = column_of(raw)
            if numbers is None or (configured and (what.kind == "other" or not placed)):
                self._add_settings(key, raw)
            if numbers is None:
                continue
            if what.kind == "place":
                if what.name == "total_steps":
                    if known is None or known[-1]:
                        self.settings["max_steps"] = float(numbers[-1])
                elif what.name not in places or what.rank < ranks[what.name]:
                    places[what.name] = numbers
                    ranks[what.name] = what.rank
                    self.elapsed = self.elapsed and what.name != "time"
            elif what.kind == "metric":
                # Of two keys that mean the same the one with the proper name counts, else the first.
                if what.name not in metrics or (key.rpartition("/")[2] == what.name and what.name not in exact):
                    metrics[what.name] = (known, numbers)
                    exact |= {what.name} if key == what.name else set()
            elif what.kind == "other":
                self.keys[what.name] = None
                metrics.setdefault(what.name, (known, numbers))
        if not metrics or (configured and not placed):
            return []  # nothing, or a printed configuration
        full: dict[str, tuple[Any, Any]] = {}
        any_value = np.zeros(size, dtype=bool)
        for name, (known, numbers) in metrics.items():
            index = None if known is None else np.flatnonzero(known)
            full[name] = (index, numbers if index is None else numbers[index])
            any_value |= True if known is None else known
        if not any_value.all():  # records in which every value is null are no rows
            place = np.cumsum(any_value) - 1
            full = {n: (None if i is None else place[i], v) for n, (i, v) in full.items()}
            places = {n: c[any_value] for n, c in places.items()}
            at, bar = at[any_value], bar[any_value]
        return [RowBlock(at, full, places.get("step"), places.get("epoch"), places.get("time"), bar)]

    def meaning(self, key: str) -> Meaning:
        """What a key stands for: as the user said, else as the table of names has it."""
        if self.renamed:
            if (told := self.renamed.get(key)) is not None:
                return told
            what = meaning(key)
            return Meaning("other", key) if what.name in self._told and what.kind != "summary" else what
        return meaning(key)

    def is_judged(self, record: Mapping[str, Any]) -> bool:
        """Whether a record holds something that training is judged by; the summary at the end of a run does."""
        found = [self.meaning(key) for key in record]
        return any(
            m.name == "train_runtime" if m.kind == "summary" else m.name.removeprefix("eval_") not in BESIDE
            for m in found
            if m.kind in ("metric", "summary")
        )

    def _add_summary(self, record: Mapping[str, Any]) -> None:
        for key, value in record.items():
            number = as_number(value)
            if number is None:
                continue
            if key == "train_loss":
                self.settings["mean_train_loss"] = number
            elif key in ("step", "epoch"):
                self.settings[f"end_{key}"] = number
            elif key == "train_runtime":
                self.settings["train_runtime"] = number

    def _add_pair(self, key: str, raw: Sequence[Any], places: dict[str, Any]) -> None:
        place, total = _PAIRS[key]
        found = [_FRACTION.match(v) if isinstance(v, str) else None for v in raw]
        places[place] = np.array([float(m[1]) if m else NAN for m in found])
        if found[-1]:
            self.settings[total] = float(found[-1][2])

    def _add_settings(self, key: str, raw: Sequence[Any]) -> None:
        if setting_name(key) is not None:
            for value in raw:
                self.add_setting(key, value)

    def add_setting(self, key: str, value: Any) -> None:
        """What the log says of the configuration; the first mention of a name stays."""
        name = setting_name(key)
        if name is None or name in self.settings:
            return
        number = as_number(value)
        if number is not None:
            self.settings[name] = number
        elif isinstance(value, (str, bool)) and value != "":
            self.settings[name] = value if isinstance(value, bool) else value[:200]


def _flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    """`{"train": {"loss": 1}}` as `{"train/loss": 1}`, one level; `data` and the like say nothing of what they hold."""
    made: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            for inner, below in list(value.items())[:_MOST_KEYS]:
                made.setdefault(inner if key in _CONTAINERS else f"{key}/{inner}"[:200], below)
        else:
            made[key] = value
    return dict(list(made.items())[:_MOST_KEYS])


def as_number(value: Any) -> float | None:
    """The number that a value is, bare, quoted or wrapped; None for anything else.

    >>> as_number("np.float64(3.0)"), as_number("NaN"), as_number(True)
    (3.0, nan, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and value[-1:] in _ENDS and len(value) < 100 and (found := _WRAPPED.match(value)):
        try:
            return float(found[1])
        except ValueError:
            return None
    if isinstance(value, (list, tuple)) and 0 < len(value) < 17:  # one learning rate for each group of parameters
        return as_number(value[0]) if not isinstance(value[0], (list, tuple)) else None
    return None


def column_of(raw: Sequence[Any]) -> tuple[Any, Any]:
    """(numbers (n,), which of them there are (n,), None for all). (None, None) where not one is a number."""
    types = set(map(type, raw))
    try:
        if types <= {int, float}:
            return np.array(raw, dtype=np.float64), None
        if types == {str}:
            return np.array(list(map(float, raw)), dtype=np.float64), None
    except (ValueError, OverflowError):
        pass
    if types == {str} and not any(value[-1:] in _ENDS for value in raw):
        return None, None
    found = [as_number(value) for value in raw]
    known = np.array([number is not None for number in found])
    if not known.any():
        return None, None
    return np.array([NAN if n is None else n for n in found]), None if known.all() else known


def _seconds(value: Any) -> float:
    """Seconds of `0:01:03`, `3 days, 17:51:32`, `2m 32s`, or a number; NaN for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return NAN
    text = value.strip()
    found = _DURATION.match(text) or _UNITS.match(text)
    if found is None or not any(found.groups()):
        return NAN
    days, hours, minutes, seconds = (float(g or 0) for g in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def column(values: array[float], *, ended: bool = False) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A growing column as numpy holds it; a copy unless nothing will be added."""
    return np.frombuffer(values) if ended and len(values) else np.array(values, dtype=np.float64)
