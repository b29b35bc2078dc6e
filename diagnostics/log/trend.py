"""Where a noisy curve goes: its noise estimated from itself, levels over stretches of it, and how sure they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.logs.training_log import Curve, Floats, TrainingLog

STRETCHES = 20
FEW = 20  # points below which a reader compares every number with the log


@dataclass(frozen=True)
class Stretch:
    """Some points in a row. level: their median; error: its standard error by the curve's noise."""

    first_step: float
    last_step: float
    level: float
    error: float
    points: int


@dataclass(frozen=True)
class Trend:
    """A curve without its points that are no numbers. steps, values: (n,), n > 0."""

    name: str
    steps: Floats
    values: Floats
    not_finite: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of one point around its neighbours, by the median absolute second difference.

        Second differences leave out any straight slope; for noise alone their variance is 6 times that of a point."""
        if len(self.values) < 3:
            return 0.0
        bends = np.abs(np.diff(self.values, n=2))
        return float(1.4826 * np.median(bends) / math.sqrt(6))

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The curve in up to 20 parts of equally many points, each of at least 3 where there are that many."""
        count = max(1, min(STRETCHES, len(self.values) // 3))
        parts = zip(np.array_split(self.steps, count), np.array_split(self.values, count), strict=True)
        return tuple(
            Stretch(float(s[0]), float(s[-1]), float(np.median(v)), 1.25 * self.noise / math.sqrt(len(v)), len(v))
            for s, v in parts
        )

    @cached_property
    def first(self) -> float:
        """Where it began: the median of the first three points."""
        return float(np.median(self.values[:3]))

    @cached_property
    def last(self) -> float:
        """Where it ended: the median of the last tenth, of three points at least."""
        return self.level(0.9, 1.0)

    @property
    def begin(self) -> float:
        """Where it began, as a sentence says it: of few points the first itself."""
        return float(self.values[0]) if len(self.values) < FEW else self.first

    @property
    def end(self) -> float:
        """Where it ended, as a sentence says it: of few points the last itself."""
        return float(self.values[-1]) if len(self.values) < FEW else self.last

    @property
    def lowest(self) -> Stretch:
        """The stretch with the lowest level."""
        return min(self.stretches, key=lambda s: s.level)

    @property
    def highest(self) -> Stretch:
        """The stretch with the highest level."""
        return max(self.stretches, key=lambda s: s.level)

    def level(self, start: float, end: float) -> float:
        """Median of the points between two shares of the curve, of three at least."""
        n = len(self.values)
        low, high = int(start * n), max(1, math.ceil(end * n))
        if high - low < 3:
            low = max(0, min(low, high - 3)) if end >= 1 else low
            high = min(n, low + 3)
        return float(np.median(self.values[low:high]))

    def step_at(self, share: float) -> float:
        """The step at a share of the curve."""
        return float(self.steps[min(len(self.steps) - 1, int(share * len(self.steps)))])

    @property
    def error_of_level(self) -> float:
        """Standard error of the level of a tenth of the curve, by its noise."""
        return 1.25 * self.noise / math.sqrt(max(3, len(self.values) // 10))


def trend_of(log: TrainingLog, curve: Curve) -> Trend | None:
    """The trend of one curve; None where not one of its points is a number."""
    finite = np.isfinite(curve.values)
    steps = log.steps_of(curve)
    if not finite.any():
        return None
    if finite.all():  # no copies of what may be millions of points
        return Trend(curve.name, steps, curve.values)
    return Trend(curve.name, steps[finite], curve.values[finite], int((~finite).sum()))
