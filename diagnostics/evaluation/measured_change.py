"""Measures that need no reference, as checks ask for them: how sure it is that one got worse, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from pipeline.evaluation.results import MeasureChange


@dataclass(frozen=True)
class Change:
    """A measure of one after model. harm: by how much it got worse at least, by the nearer end of the interval; not
    above zero where it isn't shown that it did."""

    measure: MeasureChange
    harm: float

    @property
    def numbers(self) -> dict[str, Any]:
        one = self.measure
        return {
            "after": one.after_name, "before_value": one.before.mean, "after_value": one.after.mean,
            "difference": one.difference.mean, "low": one.difference.low, "high": one.difference.high,
            "n": one.difference.n, "measure": one.name,
        }  # fmt: skip

    @property
    def evidence(self) -> list[tuple[str, Any]]:
        one = self.measure
        d = one.difference
        return [
            (f"{one.name}: {one.before_name}", one.before.mean), (f"{one.name}: {one.after_name}", one.after.mean),
            ("difference", f"{d.mean:.4g} [{d.low:.4g}, {d.high:.4g}] n={d.n}"),
        ]  # fmt: skip


def worst_changes(subject: EvaluationSubject, *names: str, more_is_worse: bool = True) -> Iterator[Change]:
    """Of every after model the measure among `names` that got worse most surely. Raises NotMeasured without any."""
    by_after: dict[str, Change] = {}
    for one in subject.measures(*names):
        low, high = one.difference.low, one.difference.high
        harm = low if more_is_worse else -high
        if not math.isfinite(harm):
            continue
        if one.after_name not in by_after or harm > by_after[one.after_name].harm:
            by_after[one.after_name] = Change(one, harm)
    return iter(by_after.values())
