"""What `data` and `eval_data` of a recipe name: files, entries of a dataset_info.json, sets of the Hub, demo rows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.demo.demo_names import is_demo
from pipeline.pairs.all_formats import columns_given
from pipeline.pairs.open_source import OpenSource, open_source
from pipeline.pairs.rated_formats import AXES
from pipeline.refusal import Refused
from pipeline.training.demo_data import demo_data

KEYS = ("path", "weight", "columns", "format", "split", "axis", "max_samples")


@dataclass(frozen=True)
class DataSource:
    """One source as the recipe names it. weight: None where the sources are read one after the other."""

    path: str
    weight: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    split: str = "train"
    axis: str | None = None
    max_samples: int | None = None

    def opened(
        self, name: str, *, public: bool, own: tuple[Path, ...] = (), progress: Callable[[str], None] | None = None
    ) -> OpenSource:  # fmt: skip
        """Raises Refused. name: of the recipe's field, for what is said. public: files of this machine are not read but
        those below the folders `own`."""
        path = str(demo_data(self.path, progress)) if is_demo(self.path) else self.path
        if public and not is_demo(self.path) and not _below(self.path, own) and _is_here(self.path):
            raise Refused("data_not_public", path=self.path)
        found = open_source(
            path, option=name, program="python -m pipeline train", format=self.format, columns=self.columns or None,
            axis=self.axis, split=self.split,
        )  # fmt: skip
        return replace(found, name=self.path)


def _is_here(path: str) -> bool:
    return any(os.path.lexists(os.path.expanduser(one)) for one in (path, path.rpartition(":")[0]) if one)


def _below(path: str, folders: tuple[Path, ...]) -> bool:
    """Whether it is a file, links followed, below one of the folders."""
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return False
    return real.is_file() and any(real.is_relative_to(folder.resolve()) for folder in folders)


def data_sources(value: Any, name: str) -> list[DataSource]:
    """The sources of a field's value: one or a list, each a path or an object of KEYS. Raises Refused."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    found = [_one(one, name) for one in given]
    if not found or any(not one.path for one in found):
        raise Refused("data_needed", field=name)
    if any(one.weight is not None for one in found):
        found = [replace(one, weight=1.0 if one.weight is None else one.weight) for one in found]
    return found


def _one(value: Any, name: str) -> DataSource:
    if isinstance(value, str):
        return DataSource(value.strip())
    if not isinstance(value, Mapping):
        raise Refused("data_entry_wrong", field=name, value=value, keys=", ".join(KEYS))
    unknown = [key for key in value if key not in KEYS]
    if unknown or not isinstance(value.get("path"), str):
        raise Refused("data_entry_wrong", field=name, value=unknown[0] if unknown else "path", keys=", ".join(KEYS))
    made: dict[str, Any] = {"path": value["path"].strip()}
    for key in ("format", "split", "axis"):
        if value.get(key) is not None:
            made[key] = _checked(name, key, value[key], str)
    if (axis := made.get("axis")) is not None and axis not in AXES:
        raise Refused("data_part_wrong", field=name, key="axis", value=axis, wanted=", ".join(AXES))
    if (columns := value.get("columns")) is not None:
        if not isinstance(columns, Mapping):
            raise Refused("data_part_wrong", field=name, key="columns", value=columns, wanted="prompt: COLUMN, ...")
        made["columns"] = columns_given([f"{ours}={theirs}" for ours, theirs in columns.items()]) or {}
    if value.get("weight") is not None:
        weight = _number(name, "weight", value["weight"])
        if weight <= 0:
            raise Refused("weight_wrong", value=f"{weight:g}")
        made["weight"] = weight
    if value.get("max_samples") is not None:
        most = _number(name, "max_samples", value["max_samples"])
        if most < 1 or most != int(most):
            raise Refused("data_part_wrong", field=name, key="max_samples", value=f"{most:g}", wanted="1, 2, ...")
        made["max_samples"] = int(most)
    return DataSource(**made)


def _checked(name: str, key: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Refused("data_part_wrong", field=name, key=key, value=value, wanted=kind.__name__)
    return value


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Refused("data_part_wrong", field=name, key=key, value=value, wanted="0.5, 1, 2, ...")
    return float(value)
