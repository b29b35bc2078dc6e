"""The numbers that judge, from configs/thresholds.yaml, with what the user set instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.config_files import load_config


class UnknownThreshold(Exception):
    """A `--threshold NAME=VALUE` that names nothing or is no number. Carries one line."""


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
        name, _, number = setting.partition("=")
        if name not in values:
            import difflib

            near = difflib.get_close_matches(name, values, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(values))}"
            raise UnknownThreshold(f"--threshold {setting}: no threshold is called {name!r}{hint}")
        try:
            changed[name] = float(number)
        except ValueError:
            raise UnknownThreshold(f"--threshold {setting}: {number!r} is not a number") from None
    return Thresholds({**values, **changed}, changed)
