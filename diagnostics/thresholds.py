"""The numbers that judge, from configs/thresholds.yaml, with what the user set instead."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.config_files import load_config
from pipeline.refusal import Refused


class UnknownThreshold(Refused):
    """A `--threshold NAME=VALUE` that names nothing or is no finite number."""


@dataclass(frozen=True)
class Thresholds:
    """`limits["stop_rate_min"]`. Every number stands in configs/thresholds.yaml with where it comes from."""

    values: Mapping[str, float]
    changed: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.values[name]


def load_thresholds(settings: Sequence[str] = ()) -> Thresholds:
    """Defaults, and `settings` like `stop_rate_min=0.5` over them. Raises UnknownThreshold."""
    table = load_config("thresholds.yaml")
    values = {name: float(entry["value"]) for name, entry in table.items()}
    changed: dict[str, float] = {}
    for setting in settings:
        name, given, number = setting.partition("=")
        if name not in values:
            near = ", ".join(difflib.get_close_matches(name, values, n=3, cutoff=0.0))
            entry = "threshold_unknown" if given else "threshold_unknown_without_value"
            raise UnknownThreshold(entry, setting=setting, name=name, near=near)
        if not number:
            raise UnknownThreshold("threshold_without_value", setting=name)
        try:
            changed[name] = float(number)
        except ValueError:
            raise UnknownThreshold("threshold_not_a_number", setting=setting, value=number) from None
        if not math.isfinite(changed[name]):
            raise UnknownThreshold("threshold_not_finite", setting=setting)
    return Thresholds({**values, **changed}, changed)
