"""What the rewards of a set say: accuracy, margins, calibration, length bias, labels to suspect.

Works on numbers alone; nothing here is larger than a few arrays as long as the set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.intervals import (
    Floats,
    bonferroni,
    difference_of_shares,
    paired_difference,
    rows_by_category,
    spread_of,
    statistics_setting,
    win_rate,
)
from pipeline.evaluation.results import Accuracy, CalibrationBin, Difference, LengthBias, LengthBin, Spread

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
    probability of the label. noise: share of labels turned around that explains the margins best."""

    pairs: tuple[SuspectPair, ...]
    expected: float
    temperature: float
    noise: float


@dataclass(frozen=True)
class RewardStatistics:
    """Fields named as in ScoredSet. not_finite: pairs (or answers) left out, as a reward of theirs is no number."""

    not_finite: int
    accuracy: Accuracy | None = None
    chosen: Spread | None = None
    rejected: Spread | None = None
    answers: Spread | None = None
    margin: Difference | None = None
    margin_std: float | None = None
    log_loss: float | None = None
    calibration: tuple[CalibrationBin, ...] = ()
    calibration_error: float | None = None
    length: LengthBias | None = None
    by_category: Mapping[str, Accuracy] = field(default_factory=dict)
    suspects: Suspects | None = None


@np.errstate(over="ignore", invalid="ignore")  # rewards may be as large as floats go
def statistics_of(chosen: ArrayLike, rejected: ArrayLike, chosen_chars: ArrayLike, rejected_chars: ArrayLike, *,
                  categories: Sequence[str] | None = None) -> RewardStatistics:  # fmt: skip
    """Of pairs: rewards and lengths of both answers, one of each a pair. Pairs with a reward that is NaN or infinite
    are left out and counted. categories: of each pair, "" for none. Raises ValueError for unequal lengths.

    The pairs count as independent: several pairs of one prompt say less than their number, which the intervals then
    don't know. The intervals of categories are widened so that all of them hold together (Bonferroni).
    """
    better, worse = _floats(chosen), _floats(rejected)
    sizes = _floats(chosen_chars), _floats(rejected_chars)
    if len({len(better), len(worse), *map(len, sizes)} | ({len(categories)} if categories is not None else set())) > 1:
        raise ValueError(f"{len(better)} chosen, {len(worse)} rejected, {len(sizes[0])} and {len(sizes[1])} lengths")
    kept = np.flatnonzero(np.isfinite(better - worse))
    not_finite = len(better) - len(kept)
    better, worse = better[kept], worse[kept]
    if not len(kept):
        return RewardStatistics(not_finite)
    margins = better - worse
    bins, error = calibration_of(margins)
    found = suspected(margins)
    if found is not None and not_finite:
        pairs = tuple(SuspectPair(int(kept[p.index]), p.margin, p.probability) for p in found.pairs)
        found = Suspects(pairs, found.expected, found.temperature, found.noise)
    within: dict[str, Accuracy] = {}
    if categories is not None:
        groups = rows_by_category([categories[i] for i in kept.tolist()])
        within = {name: accuracy_of(margins[rows], confidence=bonferroni(len(groups))) for name, rows in groups.items()}
    spread = spread_of(margins)
    return RewardStatistics(
        not_finite=not_finite,
        accuracy=accuracy_of(margins),
        chosen=spread_of(better),
        rejected=spread_of(worse),
        margin=paired_difference(worse, better),
        margin_std=spread.std if spread else None,
        log_loss=float(np.logaddexp(0, -margins).mean()),
        calibration=bins,
        calibration_error=error,
        length=length_bias_of(better, worse, sizes[0][kept], sizes[1][kept]),
        by_category=within,
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
    return RewardStatistics(int((~kept).sum()), answers=spread_of(scores), length=bias)


def accuracy_of(margins: Floats, *, confidence: float | None = None) -> Accuracy:
    """Of finite margins."""
    wins, losses = int((margins > 0).sum()), int((margins < 0).sum())
    ties = len(margins) - wins - losses
    return Accuracy(win_rate(wins, ties, losses, confidence=confidence), wins, ties, losses)


def accuracy_gap(train: Accuracy, held_out: Accuracy) -> Difference:
    """Accuracy in training minus held out, of independent sets."""
    return difference_of_shares(train.share, held_out.share)


# --- calibration -------------------------------------------------------------------------------------------------


def calibration_of(margins: Floats) -> tuple[tuple[CalibrationBin, ...], float | None]:
    """Bins of |margin| with as many pairs in each, and the expected calibration error: the mean distance of predicted
    and observed. A margin of 0 is half right. It is above 0 for a calibrated model too, by chance, the more so the
    fewer pairs: about 0.03 with 1,000 pairs in 10 bins."""
    sizes = np.abs(margins)
    predicted = 1 / (1 + np.exp(-np.minimum(sizes, 700)))
    bins, error = [], 0.0
    for rows in _equal_bins(sizes, int(statistics_setting("calibration_bins"))):
        right, wrong = int((margins[rows] > 0).sum()), int((margins[rows] < 0).sum())
        observed = win_rate(right, len(rows) - right - wrong, wrong)
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


def length_bias_of(chosen: Floats, rejected: Floats, chosen_chars: Floats, rejected_chars: Floats) -> LengthBias | None:
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
    first, second, equal = (accuracy_of(margins[rows]).share if rows.any() else None
                            for rows in (longer > alike, longer < -alike, np.abs(longer) <= alike))  # fmt: skip
    slope = corrected = corrected_chosen = corrected_rejected = None
    if within is not None:
        slope = within * float(margins.std() / longer.std())
        level = float(np.concatenate(sizes).mean())
        sides = [reward - slope * (size - level) for reward, size in zip((chosen, rejected), sizes, strict=True)]
        corrected = accuracy_of(margins - slope * longer)
        corrected_chosen, corrected_rejected = spread_of(sides[0]), spread_of(sides[1])
    natural = longer * math.log(2)
    bins = tuple(LengthBin(float(natural[rows[0]]), float(natural[rows[-1]]), accuracy_of(margins[rows]).share)
                 for rows in _equal_bins(natural, int(statistics_setting("length_bins"))))  # fmt: skip
    return LengthBias(pearson, spearman, within, slope, float((longer > 0).mean()), first, second, equal, bins,
                      corrected, corrected_chosen, corrected_rejected)  # fmt: skip


def _correlations(values: Floats, others: Floats) -> tuple[float | None, float | None]:
    """Pearson's and Spearman's; None where there are too few numbers or one side doesn't vary."""
    from scipy.stats import rankdata

    if len(values) < statistics_setting("length_bias_min"):
        return None, None
    return _pearson(values, others), _pearson(rankdata(values), rankdata(others))


def _pearson(values: Floats, others: Floats) -> float | None:
    apart = values - values.mean(), others - others.mean()
    size = math.sqrt(float(apart[0] @ apart[0])) * math.sqrt(float(apart[1] @ apart[1]))
    # Equal numbers have deviations of rounding errors, which correlate with anything
    flat = any(float(np.abs(a).max()) <= 1e-9 * max(float(np.abs(v).max()), 1e-300)
               for a, v in zip(apart, (values, others), strict=True))  # fmt: skip
    return None if flat or not 0 < size < math.inf else float(np.clip(apart[0] @ apart[1] / size, -1, 1))


# --- labels to suspect -------------------------------------------------------------------------------------------


def suspected(margins: Floats) -> Suspects | None:
    """Pairs whose label the model contradicts with confidence. None: too few pairs to say how far margins can be
    trusted.

    probability of a label: sigmoid(margin / temperature) (temperature scaling: C. Guo et al. 2017,
    https://arxiv.org/abs/1706.04599). The temperature is fitted together with a share of labels turned around, as wrong
    labels would otherwise make every margin look less reliable than it is. A pair's own label would vouch for
    or against itself, so the set is halved and each half judged by the temperature of the other. What that can't take
    out: a model that was trained on these pairs knows them by heart, finds fewer suspects and seems surer than it is;
    only a set it hasn't seen gives honest probabilities.

    Every model errs now and then with confidence: as many suspects as `expected` are the tail that it always has; it is
    the ones beyond that speak of labels.
    """
    n = len(margins)
    if n < statistics_setting("suspects_min"):
        return None
    halves = np.random.default_rng(0).permutation(n) % 2
    temperature, noise = _temperature_and_noise(margins)
    scaled = np.empty(n)
    for half in (0, 1):
        other, _ = _temperature_and_noise(margins[halves != half])
        scaled[halves == half] = margins[halves == half] / other
    probability = 1 / (1 + np.exp(np.clip(-scaled, -700, 700)))
    limit = statistics_setting("suspect_probability")
    sure = np.minimum(probability, 1 - probability)
    found = np.flatnonzero((probability <= limit) & (margins < 0))
    found = found[np.argsort(margins[found], kind="stable")]
    pairs = tuple(SuspectPair(int(i), float(margins[i]), float(probability[i])) for i in found)
    return Suspects(pairs, float(sure[sure <= limit].sum()), temperature, noise)


def _temperature_and_noise(margins: Floats) -> tuple[float, float]:
    """Likeliest pair of the two on a grid, then on a finer one about it. Where nearly all labels are met, any small
    temperature is as likely: the grid ends at a fiftieth of the typical margin."""
    ordered = np.sort(margins)
    weights = np.ones(len(ordered))
    if len(ordered) > _FINEST:
        edges = np.linspace(0, len(ordered), _FINEST + 1).astype(int)
        ordered, weights = ordered[(edges[:-1] + edges[1:]) // 2], np.diff(edges).astype(np.float64)
    sizes = np.abs(ordered)
    typical = max(float(np.median(sizes)), float(sizes.mean()) / 1000)
    if not 0 < typical < 1e300:
        return 1.0, 0.0

    def likeliest(temperatures: Floats, noises: Floats) -> tuple[float, float]:
        right = 1 / (1 + np.exp(np.clip(-ordered / temperatures[:, None], -700, 700)))
        best, at = -math.inf, (1.0, 0.0)
        for noise in noises:
            fit = np.log(np.maximum(noise + (1 - 2 * noise) * right, 1e-300)) @ weights
            i = int(fit.argmax())
            if fit[i] > best + 1e-9:
                best, at = float(fit[i]), (float(temperatures[i]), float(noise))
        return at

    coarse = typical * np.geomspace(0.02, 50, 40)
    temperature, noise = likeliest(coarse, np.array([0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35]))
    step = float(coarse[1] / coarse[0])
    fine = temperature * np.geomspace(1 / step, step, 11)
    return likeliest(fine, np.unique(np.clip(np.linspace(noise / 2 - 0.003, noise * 1.5 + 0.003, 9), 0, 0.4)))


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
