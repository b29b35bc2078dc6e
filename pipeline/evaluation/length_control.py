"""Win rate at equal length: what a preference for longer answers adds or takes, taken out.

Length-controlled AlpacaEval (Y. Dubois et al. 2024, https://arxiv.org/abs/2404.04475) without its term for the prompt,
which needs many models: the log odds of a win are an intercept and a slope on the difference in length; the intercept
alone is the answer. Lengths by their logarithm, as a sentence more matters less in a long answer. One curve over all
lengths would settle what happens at equal length by answers far from it: where the later model's are mostly two or
three times as long, 95% intervals of it held the truth in 52 to 97% of cases at 1,000 prompts. So prompts count by how
near to equal length they are, and the line only has to hold there (J. Fan and I. Gijbels 1996, Local Polynomial
Modelling and Its Applications, section 5.4).
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.evaluation.intervals import Floats, normal_quantile, statistics_setting
from pipeline.evaluation.results import Share

_STEPS = 50


def equal_length_win_rate(points: Floats, log_length_ratio: Floats, *, confidence: float | None = None
                          ) -> Share | None:  # fmt: skip
    """points: outcome of each prompt for the after model, 0 to 1. log_length_ratio: log(after / before), NaN is left
    out. None: too few prompts, too few near equal length, lengths that hardly differ, or one model almost always the
    longer, see configs/evaluation.yaml.

    The interval: of the intercept, whose variance is that of a weighted quasi-likelihood (P. McCullagh and J. Nelder
    1989, Generalized Linear Models, section 9.2). It holds the truth less often than it says where the judge turns
    sharply at equal length, as one who minds a few words less more than a few words more.

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
    # Narrower than n^(-1/5), which is best for the value: its bias must vanish beside its error
    near = max(scale, statistics_setting("length_control_near")) * (100 / n) ** (1 / 3)
    weights: Floats = np.exp(-0.5 * (ratio / near) ** 2)
    if weights.sum() < statistics_setting("length_control_near_min"):
        return None
    intercept, error = _fitted(ratio / near, points, weights)
    half = normal_quantile(confidence) * error
    value, low, high = (1 / (1 + math.exp(-odds)) for odds in (intercept, intercept - half, intercept + half))
    return Share(value, low, high, n)


def _fitted(lengths: Floats, outcomes: Floats, weights: Floats) -> tuple[float, float]:
    """Log odds where the length term is 0, and their standard error. Newton's method on a penalised likelihood: concave
    in both coefficients, which the ridge bounds."""
    ridge = statistics_setting("length_control_ridge")
    terms = np.stack([np.ones_like(lengths), lengths])
    found = np.zeros(2)
    for _ in range(_STEPS):
        predicted = 1 / (1 + np.exp(-found @ terms))
        spread = predicted * (1 - predicted)
        curved = (terms * (weights * spread)) @ terms.T + ridge * np.eye(2)
        # A step of more than 2 in log odds would leave the region where the curve is close to a parabola
        step = np.clip(np.linalg.solve(curved, terms @ (weights * (outcomes - predicted)) - ridge * found), -2, 2)
        found += step
        if float(np.abs(step).max()) < 1e-8:
            break
    binary = float((weights * spread).sum())
    # How far outcomes vary beside wins and losses of the same rates: ties less. By what is left of them, and by how far
    # each lies from 0 and 1, which a length that separates them can't make small; ties alone as in Tango's interval.
    n = float(weights.sum() ** 2 / (weights**2).sum())  # as many prompts of equal weight say as much
    left = float((weights * (outcomes - predicted) ** 2).sum()) / binary * n / (n - 2)
    between = 1 - float((weights * outcomes * (1 - outcomes)).sum()) / binary
    dispersion = max(left, between, 4 * n / (n + 4) ** 2)
    inverse = np.linalg.inv(curved)
    varied = inverse @ ((terms * (weights**2 * spread)) @ terms.T + ridge * np.eye(2)) @ inverse
    return float(found[0]), math.sqrt(dispersion * float(varied[0, 0]))
