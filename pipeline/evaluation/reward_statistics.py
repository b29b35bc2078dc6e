"""What the rewards of a set say: accuracy, margins, calibration, length bias, labels to suspect.

Works on numbers alone; nothing here is larger than a few arrays as long as the set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.intervals import (
    Floats,
    bonferroni,
    design_effect,
    difference_of_shares,
    normal_quantile,
    paired_difference,
    rows_by_category,
    spread_of,
    statistics_setting,
    win_rate,
    win_rate_limits,
)
from pipeline.evaluation.results import (
    Accuracy,
    CalibrationBin,
    Difference,
    LengthBias,
    LengthBin,
    RewardFigures,
    Share,
)

Groups = NDArray[np.int64]
"""Of each pair the number of its prompt."""

_FINEST = 2000  # margins that a fit looks at: medians of as many equal groups


@dataclass(frozen=True)
class SuspectPair:
    """index: place in the arrays. margin: negative. probability: of the label, see `suspected`."""

    index: int
    margin: float
    probability: float


@dataclass(frozen=True)
class Suspects:
    """pairs: the least probable label first. expected: labels of such probability that a model with these margins would
    contradict if all labels were right. temperature: what margins are divided by so that sigmoid(margin) is the
    probability of the label. noise: share of labels turned around that explains the margins best, with the interval of
    its profile likelihood; n: as many pairs of distinct prompts say as much."""

    pairs: tuple[SuspectPair, ...]
    expected: float
    temperature: float
    noise: Share


@dataclass(frozen=True, kw_only=True)
class RewardStatistics(RewardFigures):
    """not_finite: pairs (or answers) left out, as a reward of theirs is no number. suspects: None where nothing tells
    how far the margins can be trusted."""

    not_finite: int
    suspects: Suspects | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """The fields of RewardFigures by name, for another of them."""
        return {one.name: getattr(self, one.name) for one in fields(RewardFigures)}


@np.errstate(over="ignore", invalid="ignore")  # rewards may be as large as floats go
def statistics_of(
    chosen: ArrayLike, rejected: ArrayLike, chosen_chars: ArrayLike, rejected_chars: ArrayLike, *,
    categories: Sequence[str] | None = None, prompts: ArrayLike | None = None,
) -> RewardStatistics:  # fmt: skip
    """Of pairs: rewards and lengths of both answers, one of each a pair. Pairs with a reward that is NaN or infinite
    are left out and counted. categories: of each pair, "" for none. prompts: a number for each pair that says which
    pairs have the same; None: no two have. Raises ValueError for unequal lengths.

    Several pairs of one prompt say less than their number, and the intervals are as wide as that makes them. Those of
    categories are widened so that all of them hold together (Bonferroni).
    """
    better, worse = _floats(chosen), _floats(rejected)
    sizes = _floats(chosen_chars), _floats(rejected_chars)
    beside = [list_ for list_ in (categories, prompts) if list_ is not None]
    if len({len(one) for one in (better, worse, *sizes, *map(np.asarray, beside))}) > 1:
        raise ValueError(f"{len(better)} chosen, {len(worse)} rejected, {len(sizes[0])} and {len(sizes[1])} lengths")
    kept = np.flatnonzero(np.isfinite(better - worse))
    not_finite = len(better) - len(kept)
    better, worse = better[kept], worse[kept]
    if not len(kept):
        return RewardStatistics(not_finite=not_finite)
    margins = better - worse
    asked, groups_of = len(kept), None
    if prompts is not None:
        distinct, groups_of = np.unique(np.asarray(prompts)[kept], return_inverse=True)
        asked = len(distinct)
        groups_of = groups_of if asked < len(kept) else None
    bins, error = calibration_of(margins, groups_of)
    found = suspected(margins, groups_of)
    if found is not None and not_finite:
        found = replace(found, pairs=tuple(replace(p, index=int(kept[p.index])) for p in found.pairs))
    within: dict[str, Accuracy] = {}
    if categories is not None:
        groups = rows_by_category([categories[i] for i in kept.tolist()])
        within = {name: accuracy_of(margins[rows], _at(groups_of, rows), confidence=bonferroni(len(groups)))
                  for name, rows in groups.items()}  # fmt: skip
    spread = spread_of(margins)
    return RewardStatistics(
        not_finite=not_finite,
        accuracy=accuracy_of(margins, groups_of),
        chosen=spread_of(better),
        rejected=spread_of(worse),
        margin=_mean_margin(worse, better, groups_of),
        margin_std=spread.std if spread else None,
        log_loss=float(np.logaddexp(0, -margins).mean()),
        calibration=bins,
        calibration_error=error,
        length=length_bias_of(better, worse, sizes[0][kept], sizes[1][kept], groups_of),
        by_category=within,
        prompts=asked,
        suspect_count=len(found.pairs) if found is not None else 0,
        suspects_expected=found.expected if found is not None else None,
        label_noise=found.noise if found is not None and not bounded(np.concatenate([better, worse])) else None,
        suspects=found,
    )


@np.errstate(over="ignore", invalid="ignore")
def statistics_of_answers(rewards: ArrayLike, chars: ArrayLike) -> RewardStatistics:
    """Of answers that are no pairs: their spread and how the reward goes with length. Raises ValueError for unequal
    lengths."""
    scores, sizes = _floats(rewards), _floats(chars)
    if len(scores) != len(sizes):
        raise ValueError(f"{len(scores)} rewards, {len(sizes)} lengths")
    kept = np.isfinite(scores)
    pearson, spearman = _correlations(scores[kept], np.log(np.maximum(sizes[kept], 1)))
    bias = LengthBias(pearson, spearman, None, None, None, None, None, None) if pearson is not None else None
    return RewardStatistics(not_finite=int((~kept).sum()), answers=spread_of(scores), length=bias)


def accuracy_of(margins: Floats, prompts: Groups | None = None, *, confidence: float | None = None) -> Accuracy:
    """Of finite margins. Where pairs share prompts, the interval is that of as many pairs as they are worth."""
    wins, losses = int((margins > 0).sum()), int((margins < 0).sum())
    ties = len(margins) - wins - losses
    share = win_rate(wins, ties, losses, confidence=confidence)
    effect = design_effect(np.sign(margins), prompts, confidence=confidence)
    if effect > 1:
        low, high = win_rate_limits(*(np.array([n / effect]) for n in (wins, ties, losses)), confidence=confidence)
        share = Share(share.value, float(low[0]), float(high[0]), share.n)
    return Accuracy(share, wins, ties, losses)


def _mean_margin(worse: Floats, better: Floats, prompts: Groups | None) -> Difference:
    one = paired_difference(worse, better)
    wider = math.sqrt(design_effect(better - worse, prompts))
    below, above = wider * (one.mean - one.low), wider * (one.high - one.mean)
    return Difference(one.mean, one.mean - below, one.mean + above, one.n)


def _at(prompts: Groups | None, rows: Any) -> Groups | None:
    return None if prompts is None else prompts[rows]


def accuracy_gap(train: Accuracy, held_out: Accuracy) -> Difference:
    """Accuracy in training minus held out, of independent sets."""
    return difference_of_shares(train.share, held_out.share)


# --- calibration -------------------------------------------------------------------------------------------------


def calibration_of(margins: Floats, prompts: Groups | None = None) -> tuple[tuple[CalibrationBin, ...], float | None]:
    """Bins of |margin| with as many pairs in each, and the expected calibration error: the mean distance of predicted
    and observed. A margin of 0 is half right. It is above 0 for a calibrated model too, by chance, the more so the
    fewer pairs: about 0.03 with 1,000 pairs in 10 bins."""
    sizes = np.abs(margins)
    predicted = 1 / (1 + np.exp(-np.minimum(sizes, 700)))
    bins, error = [], 0.0
    for rows in _equal_bins(sizes, int(statistics_setting("calibration_bins"))):
        observed = accuracy_of(margins[rows], _at(prompts, rows)).share
        mean = float(predicted[rows].mean())
        bins.append(CalibrationBin(float(sizes[rows[0]]), float(sizes[rows[-1]]), mean, observed))
        error += abs(mean - observed.value) * len(rows) / len(margins)
    return tuple(bins), error if bins else None


def _equal_bins(values: Floats, most: int) -> list[NDArray[np.int64]]:
    """Places of the values, ascending, in as many bins as their number allows; equal values stay in one bin. Too few
    values: none."""
    fewest = int(statistics_setting("bin_min"))
    count = min(most, len(values) // fewest)
    if count < 1:
        return []
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    edges = [0]
    for cut in np.linspace(0, len(values), count + 1)[1:-1].astype(int):
        edge = int(np.searchsorted(ordered, ordered[cut], side="left"))
        if edge - edges[-1] < fewest:
            edge = int(np.searchsorted(ordered, ordered[cut], side="right"))
        if edges[-1] + fewest <= edge < len(values):
            edges.append(edge)
    if len(edges) > 1 and len(values) - edges[-1] < fewest:
        edges.pop()
    return [order[low:high] for low, high in zip(edges, [*edges[1:], len(values)], strict=True)]


# --- length ------------------------------------------------------------------------------------------------------


def length_bias_of(
    chosen: Floats, rejected: Floats, chosen_chars: Floats, rejected_chars: Floats, prompts: Groups | None = None
) -> LengthBias | None:
    """Of finite rewards; an empty answer counts as one character. None where there are too few pairs.

    slope: least squares of the margin on log2(len(chosen) / len(rejected)) with an intercept. The intercept takes up
    what being preferred is worth, so preferred answers that are simply longer are no bias; what remains is how far
    the margin grows where the chosen one is longer still, and shrinks where it is shorter. It can't tell a reward for
    length from one for what goes with length within pairs, such as an answer that is longer because it is more complete
    and is better by as much; answers of equal quality and different length would be needed for that.
    corrected: the lengths are taken from the mean log length of the set, so the rewards keep their level.
    """
    sizes = np.log2(np.maximum(chosen_chars, 1)), np.log2(np.maximum(rejected_chars, 1))
    margins, longer = chosen - rejected, sizes[0] - sizes[1]
    if len(margins) < statistics_setting("length_bias_min"):
        return None
    pearson, spearman = _correlations(np.concatenate([chosen, rejected]), np.concatenate(sizes))
    within = _pearson(margins, longer)
    alike = statistics_setting("alike_length") / math.log(2)
    first, second, equal = (accuracy_of(margins[rows], _at(prompts, rows)).share if rows.any() else None
                            for rows in (longer > alike, longer < -alike, np.abs(longer) <= alike))  # fmt: skip
    slope = corrected = corrected_chosen = corrected_rejected = None
    if within is not None:
        slope = within * float(margins.std() / longer.std())
        level = float(np.concatenate(sizes).mean())
        sides = [reward - slope * (size - level) for reward, size in zip((chosen, rejected), sizes, strict=True)]
        corrected = accuracy_of(margins - slope * longer)
        corrected_chosen, corrected_rejected = spread_of(sides[0]), spread_of(sides[1])
    natural = np.round(longer * math.log(2), 9)  # 2 to 1 is equal to 4 to 2, which rounding errors would part
    bins = tuple(LengthBin(float(natural[rows[0]]), float(natural[rows[-1]]),
                           accuracy_of(margins[rows], _at(prompts, rows)).share)
                 for rows in _equal_bins(natural, int(statistics_setting("length_bins"))))  # fmt: skip
    return LengthBias(pearson, spearman, within, slope, float((longer > 0).mean()), first, second, equal, bins,
                      corrected, corrected_chosen, corrected_rejected,
                      *_favoured(margins, np.abs(longer) > alike, longer > 0, prompts))  # fmt: skip


def _favoured(
    margins: Floats, differ: NDArray[np.bool_], chosen_longer: NDArray[np.bool_], prompts: Groups | None
) -> tuple[Share | None, Share | None, Difference | None]:
    """How often the model is right where it prefers the longer answer, where it prefers the shorter one, and the
    difference of both at equal margins.

    Longer answers may be the better ones, and then a sound model prefers them and is right more often where the labels
    do. What it must not be is right less often for the same margin where it preferred the longer one: then the margin
    has more of length in it than the labels. Strata are bins of |margin|; the difference of Mantel and Haenszel, its
    variance by S. Greenland and J. Robins 1985, Biometrics 41:55.
    """
    rows = np.flatnonzero(differ & (margins != 0))
    right = margins[rows] > 0
    longer = right == chosen_longer[rows]
    shares = tuple(accuracy_of(np.where(right[side], 1.0, -1.0), _at(prompts, rows[side])).share if side.any() else None
                   for side in (longer, ~longer))  # fmt: skip
    found = total = variance = 0.0
    parts = np.zeros(len(rows))
    for places in _equal_bins(np.abs(margins[rows]), int(statistics_setting("calibration_bins"))):
        sides = places[longer[places]], places[~longer[places]]
        n = [len(side) for side in sides]
        if not min(n):
            continue
        weight = n[0] * n[1] / (n[0] + n[1])
        means = [float(right[side].mean()) for side in sides]
        found += weight * (means[0] - means[1])
        total += weight
        for side, count, mean, sign in zip(sides, n, means, (1, -1), strict=True):
            near = (mean * count + 0.5) / (count + 1)  # all right or all wrong is no proof that they always are
            variance += weight**2 * near * (1 - near) / count
            parts[side] = sign * weight / count * (right[side] - mean)
    if not total:
        return *shares, None  # type: ignore[return-value]
    half = normal_quantile(None) * math.sqrt(variance * design_effect(parts, _at(prompts, rows))) / total
    mean = found / total
    return *shares, Difference(mean, max(mean - half, -1.0), min(mean + half, 1.0), len(rows))  # type: ignore[return-value]


def _correlations(values: Floats, others: Floats) -> tuple[float | None, float | None]:
    """Pearson's and Spearman's; None where there are too few numbers or one side doesn't vary."""
    if len(values) < statistics_setting("length_bias_min"):
        return None, None
    return _pearson(values, others), _pearson(_ranks(values), _ranks(others))


def _ranks(values: Floats) -> Floats:
    """From 1, equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _pearson(values: Floats, others: Floats) -> float | None:
    apart = values - values.mean(), others - others.mean()
    size = math.sqrt(float(apart[0] @ apart[0])) * math.sqrt(float(apart[1] @ apart[1]))
    # Equal numbers have deviations of rounding errors, which correlate with anything
    flat = any(float(np.abs(a).max()) <= 1e-9 * max(float(np.abs(v).max()), 1e-300)
               for a, v in zip(apart, (values, others), strict=True))  # fmt: skip
    return None if flat or not 0 < size < math.inf else float(np.clip(apart[0] @ apart[1] / size, -1, 1))


# --- labels to suspect -------------------------------------------------------------------------------------------


def suspected(margins: Floats, prompts: Groups | None = None) -> Suspects | None:
    """Pairs whose label the model contradicts with confidence. None: too few pairs to say how far margins can be
    trusted.

    probability of a label: sigmoid(margin / temperature) (temperature scaling: C. Guo et al. 2017,
    https://arxiv.org/abs/1706.04599). The temperature is fitted together with a share of labels turned around, as wrong
    labels would otherwise make every margin look less reliable than it is. Few pairs can't tell the two apart: the
    probability is the mean over all temperatures, each as far as the labels speak for it. A pair's own label would
    vouch for or against itself, so the set is halved and each half judged by the temperatures of the other. What that
    can't take out: a model that was trained on these pairs knows them by heart, finds fewer suspects and seems surer
    than it is; only a set it hasn't seen gives honest probabilities.

    Every model errs now and then with confidence: as many suspects as `expected` are the tail that it always has; it is
    the ones beyond that speak of labels.
    """
    n = len(margins)
    if n < statistics_setting("suspects_min"):
        return None
    halves = np.random.default_rng(0).permutation(n) % 2
    if prompts is not None:
        halves = halves[np.unique(prompts, return_index=True)[1]][prompts]  # pairs of a prompt stay together
    whole = _fitted(margins, prompts)
    probability = np.zeros(n)
    for half in (0, 1):
        mine, others = np.flatnonzero(halves == half), np.flatnonzero(halves != half)
        weights = (_fitted(margins[others], _at(prompts, others)) if len(others) else whole).temperatures
        for temperature, weight in weights:
            probability[mine] += weight / (1 + np.exp(-np.clip(margins[mine] / temperature, -700, 700)))
    limit = statistics_setting("suspect_probability")
    sure = np.minimum(probability, 1 - probability)
    found = np.flatnonzero((probability <= limit) & (margins < 0))
    found = found[np.argsort(margins[found], kind="stable")]
    pairs = tuple(SuspectPair(int(i), float(margins[i]), float(probability[i])) for i in found)
    return Suspects(pairs, float(sure[sure <= limit].sum()), whole.temperature, whole.noise)


def bounded(rewards: Floats) -> bool:
    """Whether rewards crowd at the ends of their range, as behind a sigmoid or a clip. Margins there stop growing while
    the model goes on being right more often, so its errors look like a share of labels that no margin explains."""
    low, high = float(rewards.min()), float(rewards.max())
    near = statistics_setting("bounded_near") * (high - low)
    ends = (rewards <= low + near) | (rewards >= high - near)
    return bool(ends.mean() >= statistics_setting("bounded_share"))


@dataclass(frozen=True)
class _Fit:
    """temperatures: those that the labels speak for with their weights, which add up to 1."""

    temperature: float
    noise: Share
    temperatures: tuple[tuple[float, float], ...]


_TEMPERATURES = np.geomspace(0.02, 50, 64)  # beside the typical margin
_NOISES = np.concatenate([np.arange(0, 0.05, 0.005), np.arange(0.05, 0.46, 0.01)])
_LEAST_WEIGHT = 1e-3


def _fitted(margins: Floats, prompts: Groups | None) -> _Fit:
    """The likelihood of temperature and noise on a grid, pairs that share a prompt counted for what they are worth.
    Where nearly all labels are met, any small temperature is as likely: the grid ends at a fiftieth of the typical
    margin."""
    n = len(margins)
    ordered = np.sort(margins)
    weights = np.ones(n)
    if n > _FINEST:
        edges = np.linspace(0, n, _FINEST + 1).astype(int)
        ordered, weights = ordered[(edges[:-1] + edges[1:]) // 2], np.diff(edges).astype(np.float64)
    effect = design_effect(np.sign(margins), prompts)
    weights, worth = weights / effect, round(n / effect)
    sizes = np.abs(ordered)
    typical = max(float(np.median(sizes)), float(sizes.mean()) / 1000)
    if not 0 < typical < 1e300:
        return _Fit(1.0, Share(0.0, 0.0, 1.0, worth), ((1.0, 1.0),))
    temperatures = typical * _TEMPERATURES
    right = 1 / (1 + np.exp(np.clip(-ordered / temperatures[:, None], -700, 700)))
    fit = np.stack([np.log(np.maximum(noise + (1 - 2 * noise) * right, 1e-300)) @ weights for noise in _NOISES])
    best = np.unravel_index(int(fit.argmax()), fit.shape)
    from scipy.special import chdtri

    profile = fit.max(axis=1)
    kept = _NOISES[profile >= fit[best] - chdtri(1, 1 - statistics_setting("confidence")) / 2]
    noise = Share(float(_NOISES[best[0]]), float(kept.min()), float(kept.max()), worth)
    # Before the labels speak it is as likely that all are right as that some share of them is turned around: few pairs
    # can be explained either way, and then a small temperature with some noise would seem the likelier one.
    prior = np.gradient(_NOISES)
    prior[0] = prior[1:].sum()
    posterior = (np.exp(fit - fit[best]) * prior[:, None]).sum(axis=0)
    posterior[posterior < _LEAST_WEIGHT * posterior.max()] = 0
    posterior /= posterior.sum()
    told = tuple((float(t), float(w)) for t, w in zip(temperatures, posterior, strict=True) if w)
    return _Fit(float(temperatures[best[1]]), noise, told)


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
