"""How often the intervals of pipeline/evaluation/intervals.py hold the truth: `python benchmarks/interval_coverage.py
[--repetitions N]`.

Win rates by simulation: prompts are won, tied or lost independently. Beside ours the usual interval where nothing is
tied. Win rates of several answers a prompt and accuracies of pairs that share prompts, which differ in how easily they
are won; win rates at equal length by judges who like length or don't. Means of paired differences for rewards of
several shapes, n = 30 to 300: Student's interval beside the BCa bootstrap of scipy (of fewer repetitions, it takes a
thousand samples each).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.evaluation.intervals import (
    contest,
    paired_difference,
    statistics_setting,
    tango_limits,
    win_rate_limits,
)
from pipeline.evaluation.length_control import equal_length_win_rate
from pipeline.evaluation.reward_statistics import accuracy_of

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
SIZES = (30, 50, 80, 100, 150, 200, 300, 500)
RATES = tuple(round(0.3 + 0.05 * i, 2) for i in range(13))
TIES = (0.0, 0.05, 0.1, 0.2, 0.4)
# Differences of rewards and their mean: symmetric, skewed, and a few answers that went wrong altogether
SHAPES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda g, s: g.normal(0.3, 1, s), 0.3),
    "exponential": (lambda g, s: g.exponential(1, s), 1.0),
    "log-normal": (lambda g, s: g.lognormal(0, 1, s), float(np.exp(0.5))),
    "15% far off": (lambda g, s: np.where(g.random(s) < 0.85, g.normal(0, 0.3, s), g.normal(-3, 1, s)), -0.45),
    "5% far off": (lambda g, s: np.where(g.random(s) < 0.95, g.normal(0, 0.3, s), g.normal(-4, 1, s)), -0.2),
    "Student, 3 degrees": (lambda g, s: g.standard_t(3, s), 0.0),
}


def win_rate_coverage(n: int, rate: float, tied: float, repetitions: int, generator: np.random.Generator,
                      limits: Callable[..., tuple[Array, Array]] = win_rate_limits) -> float:  # fmt: skip
    """Share of simulated contests whose interval holds the win rate they were drawn with."""
    shares = max(rate - tied / 2, 0), tied, max(1 - rate - tied / 2, 0)
    counts = generator.multinomial(n, shares, size=repetitions)
    low, high = limits(*(counts[:, i].astype(np.float64) for i in range(3)))
    return float(((low <= rate) & (rate <= high)).mean())


def possible(rate: float, tied: float) -> bool:
    return rate - tied / 2 >= -1e-9 and rate + tied / 2 <= 1 + 1e-9


def cluster_coverage(prompts: int, times: int, rate: float, tied: float, repetitions: int,
                     generator: np.random.Generator) -> tuple[float, float]:  # fmt: skip
    """Of the win rate of a contest with several answers a prompt, and of the accuracy of as many pairs of a prompt.
    Prompts differ in how easily they are won (a beta distribution of weight 2); a share of the answers is tied."""
    own = generator.beta(2 * rate, 2 * (1 - rate), size=(repetitions, prompts, 1))
    points = (generator.random((repetitions, prompts, times)) < own).astype(float)
    points[generator.random(points.shape) < tied] = 0.5
    truth, asked = rate * (1 - tied) + tied / 2, np.repeat(np.arange(prompts), times)
    even, held = np.full(len(asked), 0.5), np.zeros(2)
    for row in points.reshape(repetitions, -1):
        judged = contest(even, row, before_name="", after_name="", by="task", prompts=asked.tolist()).win_rate
        for at, share in enumerate((judged, accuracy_of(row - 0.5, asked).share)):
            held[at] += share is not None and share.low <= truth <= share.high
    return float(held[0] / repetitions), float(held[1] / repetitions)


def mean_coverage(shape: str, n: int, repetitions: int, generator: np.random.Generator) -> float:
    draw, mean = SHAPES[shape]
    found = [paired_difference(np.zeros(n), row) for row in draw(generator, (repetitions, n))]
    return float(np.mean([d.low <= mean <= d.high for d in found]))


def bca_coverage(shape: str, n: int, repetitions: int, generator: np.random.Generator) -> float:
    from scipy.stats import bootstrap

    draw, mean = SHAPES[shape]
    held = 0
    for row in draw(generator, (repetitions, n)):
        low, high = bootstrap((row,), np.mean, n_resamples=1000, batch=1000, rng=generator).confidence_interval
        held += bool(low <= mean <= high)
    return held / repetitions


def length_control_coverage(n: int, log_odds: float, slope: float, tied: float, times: int, repetitions: int,
                            generator: np.random.Generator) -> float:  # fmt: skip
    """A judge that also likes length by `slope`, ties a share and is asked so often about each prompt; the truth is
    what it would say at equal length."""
    truth, held = (1 - tied) / (1 + np.exp(-log_odds)) + tied / 2, 0
    for _ in range(repetitions):
        ratio = generator.normal(0.2, 0.4, n)
        won = 1 / (1 + np.exp(-log_odds - slope * np.tanh(ratio / 0.4)))
        points = (generator.random((times, n)) < won).astype(float)
        points[generator.random(points.shape) < tied] = 0.5
        share = equal_length_win_rate(points.mean(axis=0), ratio)
        held += share is not None and share.low <= truth <= share.high
    return held / repetitions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5_000)
    repetitions = parser.parse_args().repetitions
    generator = np.random.default_rng(0)
    print(f"Win rate, {repetitions} contests a cell, win rates .3 to .9: mean, least, most, cells within 94 to 96%")
    for name, limits, ties in (("ours", win_rate_limits, TIES), ("Tango (Wilson)", tango_limits, TIES[:1])):
        for n in SIZES:
            for tied in ties:
                cells = np.array([win_rate_coverage(n, rate, tied, repetitions, generator, limits)
                                  for rate in RATES if possible(rate, tied)])  # fmt: skip
                within = ((cells >= 0.94) & (cells <= 0.96)).mean()
                print(f"{name:15} n={n:<4} ties {tied:4.0%}  {cells.mean():.4f}  {cells.min():.4f}  {cells.max():.4f}"
                      f"  {within:4.0%}", flush=True)  # fmt: skip
    few = max(repetitions // 10, 10)
    print(f"\nSeveral answers a prompt, win rates .3 .5 .7 .9, {few} sets a cell: contest, accuracy of pairs")
    for prompts in (30, 100):
        for times, tied in ((2, 0.0), (4, 0.0), (4, 0.2)):
            both = [cluster_coverage(prompts, times, rate, tied, few, generator) for rate in (0.3, 0.5, 0.7, 0.9)]
            told = ("  ".join(f"{pair[at]:.3f}" for pair in both) for at in (0, 1))
            print(f"{prompts} prompts, {times} times, ties {tied:4.0%}  " + "    ".join(told), flush=True)
    print(f"\nMean of paired differences, {few} sets a cell: Student, BCa bootstrap (a fifth of the sets)")
    for shape in SHAPES:
        for n in (30, 100, 300):
            student = mean_coverage(shape, n, few, generator)
            print(f"{shape:20} n={n:<4} {student:.3f}  {bca_coverage(shape, n, few // 5, generator):.3f}", flush=True)
    print(f"\nWin rate at equal length, {2 * few} contests a cell, confidence {statistics_setting('confidence'):.0%}")
    for n in (50, 80, 100, 300):
        for tied, times in ((0.0, 1), (0.3, 1), (0.0, 4)):
            held = [length_control_coverage(n, log_odds, slope, tied, times, 2 * few, generator)
                    for log_odds, slope in ((0.0, 1.5), (0.85, 0.0), (1.5, 1.0), (2.2, 0.5))]  # fmt: skip
            print(f"n={n:<4} ties {tied:4.0%}, {times} times  " + "  ".join(f"{c:.3f}" for c in held), flush=True)


if __name__ == "__main__":
    main()
