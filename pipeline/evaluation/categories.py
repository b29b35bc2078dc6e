"""The column of a data set that sorts its rows into a few kinds: given, or recognised by its name and its values."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config_files import load_config


@dataclass
class _Column:
    """codes: of the rows up to the last one that has the column; -1 is none."""

    codes: array[int] = field(default_factory=lambda: array("i"))
    names: dict[str, int] = field(default_factory=dict)


class Categories:
    """Told of every row in its order. given: a column of the user's; without one those of configs/evaluation.yaml.

    Only numbers are kept: a code a row and column.
    """

    def __init__(self, given: str | None = None) -> None:
        settings = load_config("evaluation.yaml")["categories"]
        self.given = given
        self._most, self._longest = int(settings["most"]), int(settings["longest"])
        self._columns = {name: _Column() for name in ([given] if given else settings["columns"])}
        self._rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """row: its columns by name."""
        for name in row.keys() & self._columns.keys():
            value = row[name]
            label = str(value).strip() if isinstance(value, (str, int, bool)) else ""
            if label and not self._kept(name, label):
                del self._columns[name]
        self._rows += 1

    def _kept(self, name: str, label: str) -> bool:
        """Notes the label; False where it shows that the column sorts nothing."""
        column = self._columns[name]
        if len(label) > self._longest:
            if not self.given:
                return False
            label = label[: self._longest] + "…"
        column.codes.extend([-1] * (self._rows - len(column.codes)))
        column.codes.append(column.names.setdefault(label, len(column.names)))
        return bool(self.given) or len(column.names) <= self._most

    def named(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of a row may be its category."""
        return {name: row[name] for name in self._columns if name in row}

    def found(self) -> tuple[str, list[str]]:
        """The column and each row's category, empty where a row has none; "" where no column sorts the rows. Of a given
        column with many values the commonest are told apart, the others stand under `…`."""
        for name, column in self._columns.items():
            there = sum(code >= 0 for code in column.codes)
            if there * 2 < self._rows or (len(column.names) < 2 and not self.given):
                continue
            labels = list(column.names)
            if len(labels) > self._most:
                kept = {code for code, _ in Counter(c for c in column.codes if c >= 0).most_common(self._most - 1)}
                labels = [label if code in kept else "…" for code, label in enumerate(labels)]
            rest = [""] * (self._rows - len(column.codes))
            return name, [labels[code] if code >= 0 else "" for code in column.codes] + rest
        return "", []
