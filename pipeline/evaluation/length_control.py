"""Win rate at equal length: what a preference for longer answers adds or takes, taken out.

Length-controlled AlpacaEval (Y. Dubois et al. 2024, https://arxiv.org/abs/2404.04475) without its term for the prompt,
which needs many models: the log odds of a win are an intercept and a slope on tanh of the standardised difference in
length; the intercept alone is the answer. Lengths by their logarithm, as a sentence more matters less in a long answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Floats, statistics_setting
from pipeline.evaluation.results import Share

_STEPS = 25
_CHUNK = 2**20
"""Numbers that a step of the bootstrap holds, in each of a few arrays."""
_SIZES = 100  # steps of tanh between 0 and 1, and of outcomes, where prompts are counted in cells


def equal_length_win_rate(points: Floats, log_length_ratio: Floats, *, confidence: float | None = None,
                          seed: int = 0) -> Share | None:  # fmt: skip
    """points: outcome of each prompt for the after model, 0 to 1. log_length_ratio: log(after / before), NaN is left
    out. The interval: percentiles of a bootstrap over prompts. None: too few prompts, lengths that hardly differ, or
    one model almost always the longer, see configs/evaluation.yaml. With under 100 prompts the interval is a little
    narrow.

    It can't tell a judge that likes length from answers that are longer because they are better: where length goes with
    quality, it takes both out.
    """
    known = np.isfinite(points) & np.isfinite(log_length_ratio)
    points, ratio = points[known], log_length_ratio[known]
    n = len(points)
    if n < statistics_setting("length_control_min"):
        return None
    scale = float(ratio.std())
    sides = min(int((ratio <= 0).sum()), int((ratio >= 0).sum()))
    if scale < statistics_setting("length_control_spread") or sides < statistics_setting("length_control_each_side"):
        return None
    lengths, outcomes, counts = _cells(np.tanh(ratio / scale), points)
    value = float(_at_equal_length(lengths, outcomes, counts[None, :])[0])
    replicates = int(statistics_setting("length_control_replicates"))
    generator = np.random.default_rng(seed)
    drawn = []
    at_once = max(1, _CHUNK // len(counts))
    for start in range(0, replicates, at_once):
        weights = generator.multinomial(n, counts / n, size=min(at_once, replicates - start)).astype(np.float64)
        drawn.append(_at_equal_length(lengths, outcomes, weights))
    tail = (1 - (statistics_setting("confidence") if confidence is None else confidence)) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    return Share(value, min(float(low), value), max(float(high), value), n)


def _cells(lengths: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Prompts that are alike, counted; rounded only where there are many."""
    if len(points) <= statistics_setting("length_control_cells"):
        return lengths, points, np.ones(len(points))
    rows: NDArray[np.int64] = np.rint(np.stack([lengths, points]) * _SIZES).astype(np.int64)
    codes, counts = np.unique(rows[0] * (2 * _SIZES) + rows[1], return_counts=True)
    first = codes // (2 * _SIZES)
    return first / _SIZES, (codes - first * 2 * _SIZES) / _SIZES, counts.astype(np.float64)


def _at_equal_length(lengths: Floats, outcomes: Floats, weights: Floats) -> Floats:
    """Fits each row of weights; the win rate where the length term is 0. Newton's method on a penalised likelihood:
    concave in both coefficients, which the ridge bounds."""
    ridge = statistics_setting("length_control_ridge")
    intercept, slope = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(_STEPS):
        odds = intercept[:, None] + slope[:, None] * lengths
        predicted = 1 / (1 + np.exp(-odds))
        left = weights * (outcomes - predicted)
        spread = weights * predicted * (1 - predicted)
        gradient = left.sum(1) - ridge * intercept, left @ lengths - ridge * slope
        across = spread @ lengths
        own = spread.sum(1) + ridge, spread @ (lengths * lengths) + ridge
        determinant = own[0] * own[1] - across * across
        step = ((own[1] * gradient[0] - across * gradient[1]) / determinant,
                (own[0] * gradient[1] - across * gradient[0]) / determinant)  # fmt: skip
        # A step of more than 2 in log odds would leave the region where the curve is close to a parabola
        intercept += np.clip(step[0], -2, 2)
        slope += np.clip(step[1], -2, 2)
        if max(float(np.abs(step[0]).max()), float(np.abs(step[1]).max())) < 1e-6:
            break
    result: Floats = 1 / (1 + np.exp(-intercept))
    assert math.isfinite(float(result.sum()))
    return result
