"""Gathers rows from readers, one by one or in columns, and makes a `TrainingLog` of them."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.logs.metric_names import Meaning, meaning, setting_name
from pipeline.logs.training_log import MAX_CURVES, MAX_ROWS

NAN = math.nan
_WRAPPED = re.compile(
    r"^\s*(?:[A-Za-z_.]+\d*\()?\s*['\"]?([-+]?[\d.]+(?:[eE][-+]?\d+)?|nan|[-+]?inf(?:inity)?)['\"]?%?\)?\s*$",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*$")
_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)$")
_UNITS = re.compile(r"(?:(\d+)d)? ?(?:(\d+)h)? ?(?:(\d+)m)? ?(?:(\d+(?:\.\d+)?)s)?$")
# Keys that hold two numbers, as ms-swift writes them.
_PAIRS = {"global_step/max_steps": ("step", "max_steps")}
_ESTIMATE = "loss@evaluation"  # the training loss that an evaluation measured beside the evaluation loss


class RowCollector:
    """Columns that grow. One row is one record of the log: a step, an epoch, a time, and the values it holds."""

    def __init__(self, renamed: Mapping[str, Meaning] | None = None) -> None:
        self.renamed = dict(renamed or {})  # keys whose meaning the user gave
        self._told = {what.name for what in self.renamed.values()}
        self.step = array("d")
        self.epoch = array("d")
        self.time = array("d")
        self.bar = array("d")  # step of the last progress bar seen
        self.rows: dict[str, array[int]] = {}
        self.values: dict[str, array[float]] = {}
        self.settings: dict[str, Any] = {}
        self.keys: dict[str, None] = {}
        self.tables: list[int] = []  # the row at which each table begins
        self.elapsed = False
        self.records = 0
        self.full = False

    def __len__(self) -> int:
        return len(self.step)

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
        for name, value in values.items():
            self._column(name, row, value)

    def add_columns(
        self,
        count: int,
        columns: Mapping[str, Sequence[float]],
        step: Sequence[float] | None = None,
        epoch: Sequence[float] | None = None,
        time: Sequence[float] | None = None,
        bar: float = NAN,
    ) -> None:
        """`count` rows that all hold the same metrics, a sequence of that length for each."""
        if not columns or self.full or not count:
            return
        row = len(self.step)
        self.full = row + count >= MAX_ROWS
        nothing = [NAN] * count
        self.step.extend(step or nothing)
        self.epoch.extend(epoch or nothing)
        self.time.extend(time or nothing)
        self.bar.extend([bar] * count if bar == bar else nothing)
        for name, column in columns.items():
            if name not in self.rows:
                if len(self.rows) >= MAX_CURVES:
                    continue
                self.rows[name], self.values[name] = array("q"), array("d")
            self.rows[name].extend(range(row, row + count))
            self.values[name].extend(column)

    def add_records(self, records: Sequence[Mapping[str, Any]], bar: float = NAN) -> None:
        """Rows from records (JSON objects or Python dicts): keys by their aliases, numbers bare or quoted."""
        self.records += len(records)
        start = 0
        while start < len(records):  # records in a row with the same keys are read column by column
            keys = tuple(records[start])
            end = start + 1
            while end < len(records) and tuple(records[end]) == keys:
                end += 1
            self._add_alike(keys, records[start:end], bar)
            start = end

    def _add_alike(self, keys: tuple[str, ...], records: Sequence[Mapping[str, Any]], bar: float) -> None:
        meanings = [(key, self.meaning(key)) for key in keys if isinstance(key, str)]
        if any(m.kind == "summary" and m.name != "total_flos" for _, m in meanings):
            for record in records:
                self._add_summary(record)
            return
        many = len(records) > 1
        columns: dict[str, Sequence[float]] = {}
        places: dict[str, Sequence[float]] = {}
        settings = not any(m.kind == "metric" for _, m in meanings)
        exact: set[str] = set()
        for key, what in meanings:
            raw = [r[key] for r in records]
            if key in _PAIRS:
                self._add_pair(key, raw, places)
                continue
            if what.kind == "place" and what.name == "elapsed":
                seconds = [_seconds(v) for v in raw]
                if "time" not in places and any(s == s for s in seconds):
                    places["time"] = seconds
                    self.elapsed = True
                continue
            numbers = as_numbers(raw)
            if numbers is None:
                self._add_setting(key, raw[0])
                continue
            if what.kind == "place":
                if what.name == "total_steps":
                    self.settings["max_steps"] = numbers[-1]
                elif what.name not in places or key == what.name:
                    places[what.name] = numbers
                    self.elapsed = self.elapsed and what.name != "time"
            elif what.kind == "metric":
                # Of two keys that mean the same the one with the proper name counts, else the first.
                if what.name not in columns or (key.rpartition("/")[2] == what.name and what.name not in exact):
                    columns[what.name] = numbers
                    exact |= {what.name} if key == what.name else set()
            else:
                self.keys[what.name] = None
                columns.setdefault(what.name, numbers)
                if settings and not many:
                    self._add_setting(key, raw[0])
        present = [c for c in columns.values() if any(v is _ABSENT for v in c)]
        if present:  # null in some records: those rows lack that value
            for place in range(len(records)):
                step, epoch, time = (_at(places.get(p), place) for p in ("step", "epoch", "time"))
                self.add({n: c[place] for n, c in columns.items() if c[place] is not _ABSENT}, step, epoch, time, bar)
            return
        clean = {n: [NAN if v is _ABSENT else v for v in c] for n, c in places.items()}
        if columns and "step" not in clean and "epoch" not in clean and settings and not many and not _curves(columns):
            return  # a printed configuration
        self.add_columns(len(records), columns, clean.get("step"), clean.get("epoch"), clean.get("time"), bar)

    def meaning(self, key: str) -> Meaning:
        """What a key stands for: as the user said, else as the table of names has it."""
        if self.renamed:
            if (told := self.renamed.get(key)) is not None:
                return told
            what = meaning(key)
            return Meaning("other", key) if what.name in self._told and what.kind != "summary" else what
        return meaning(key)

    def _add_summary(self, record: Mapping[str, Any]) -> None:
        for key, value in record.items():
            number = as_numbers([value])
            if number is None or number[0] is _ABSENT:
                continue
            if key == "train_loss":
                self.settings["mean_train_loss"] = number[0]
            elif key in ("step", "epoch"):
                self.settings[f"end_{key}"] = number[0]
            elif key == "train_runtime":
                self.settings["train_runtime"] = number[0]

    def _add_pair(self, key: str, raw: Sequence[Any], places: dict[str, Sequence[float]]) -> None:
        place, total = _PAIRS[key]
        found = [_FRACTION.match(v) if isinstance(v, str) else None for v in raw]
        places[place] = [float(m[1]) if m else NAN for m in found]
        if found[-1]:
            self.settings[total] = float(found[-1][2])

    def _add_setting(self, key: str, value: Any) -> None:
        name = setting_name(key) if isinstance(key, str) else None
        if name is not None and name not in self.settings:
            number = as_numbers([value]) if not isinstance(value, bool) else None
            if number is not None and number[0] is not _ABSENT:
                self.settings[name] = number[0]
            elif isinstance(value, (str, bool)):
                self.settings[name] = value if isinstance(value, bool) else value[:200]

    def add_setting(self, key: str, value: Any) -> None:
        """What a line says of the configuration; the first mention of a name stays."""
        self._add_setting(key, value)

    def _column(self, name: str, row: int, value: float) -> None:
        if name not in self.rows:
            if len(self.rows) >= MAX_CURVES:
                return
            self.rows[name], self.values[name] = array("q"), array("d")
        self.rows[name].append(row)
        self.values[name].append(value)


class _Absent(float):
    """Stands for null: no value, unlike NaN, which is one."""


_ABSENT = _Absent("nan")


def as_numbers(raw: Sequence[Any]) -> list[float] | None:
    """The numbers of one column; null becomes `_ABSENT`. None where something else stands in it.

    >>> as_numbers([1, "2.5", "np.float64(3.0)", "NaN"])
    [1.0, 2.5, 3.0, nan]
    """
    try:
        if not any(isinstance(v, bool) for v in raw[:1]):
            return [float(v) for v in raw]
    except (TypeError, ValueError, OverflowError):
        pass
    numbers: list[float] = []
    for value in raw:
        if value is None or value == "":
            numbers.append(_ABSENT)
        elif isinstance(value, bool):
            return None
        elif isinstance(value, (int, float)):
            try:
                numbers.append(float(value))
            except OverflowError:
                numbers.append(math.inf)
        elif isinstance(value, str) and (found := _WRAPPED.match(value)):
            try:
                numbers.append(float(found[1]))
            except ValueError:
                return None
        elif isinstance(value, (list, tuple)) and len(value) in range(1, 17) and (inside := as_numbers(value[:1])):
            numbers.append(inside[0])  # one learning rate for each group of parameters
        else:
            return None
    return numbers


def _at(column: Sequence[float] | None, place: int) -> float:
    return NAN if column is None or column[place] is _ABSENT else column[place]


def _curves(columns: Mapping[str, Any]) -> bool:
    return any(name in ("loss", "eval_loss", "reward", "perplexity", "eval_perplexity") for name in columns)


def _seconds(value: Any) -> float:
    """Seconds of `0:01:03`, `3 days, 17:51:32`, `2m 32s`, or a number; NaN for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not value:
        return NAN
    if found := _DURATION.match(value.strip()):
        days, hours, minutes, seconds = (float(g or 0) for g in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if (found := _UNITS.match(value.strip())) and any(found.groups()):
        days, hours, minutes, seconds = (float(g or 0) for g in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return NAN


def metric(name: str) -> Meaning:
    """What a key stands for, for readers that know their columns beforehand."""
    return meaning(name)


def column(values: array[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A copy of a growing column as numpy holds it."""
    return np.array(values, dtype=np.float64)
