"""Whether a difference is shown: shares, win rates and means with their intervals, and the verdict on them.

`python benchmarks/interval_coverage.py` measures how often these intervals hold the truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.config_files import load_config
from pipeline.evaluation.results import Contest, Difference, Share, Spread, Verdict

Floats = NDArray[np.float64]
Outcome = Literal["win", "tie", "loss"]
POINTS: Mapping[str | None, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0, None: math.nan}
_HALVINGS = 40  # leave 1e-12
_FEW = 10  # prompts from which on mid-P leaves one half out for 2 to 6.5% of equal models, Tango's for 2 to 5.7%


def statistics_setting(name: str) -> float:
    """A number of configs/evaluation.yaml, section statistics, which says what each means."""
    return float(load_config("evaluation.yaml")["statistics"][name]["value"])


# --- shares ------------------------------------------------------------------------------------------------------


def share_of(successes: float, n: float, *, confidence: float | None = None) -> Share:
    """Wilson's score interval (E. B. Wilson 1927, JASA 22:209). n = 0: value NaN between 0 and 1. Raises ValueError
    unless 0 <= successes <= n."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}")
    if n == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    low, high = _wilson(successes / n, n, normal_quantile(confidence))
    return Share(successes / n, 0.0 if successes == 0 else low, 1.0 if successes == n else high, round(n))


def win_rate(wins: int, ties: int, losses: int, *, confidence: float | None = None) -> Share:
    """Share of wins, a tie counted as half of one.

    With ties: the score interval for a difference of paired proportions (T. Tango 1998, Statistics in Medicine 17:891),
    moved from wins - losses in [-1, 1] to [0, 1]. Without any it would be Wilson's, which holds the truth in 93.4 to
    96.6% at n from 50 on, as counts come in steps; the exact binomial interval with half the weight on the observed
    count (mid-P: H. O. Lancaster 1961, JASA 56:223) stays closer to 95% and is taken there. With a
    few prompts both are too sure of a difference (Tango's interval leaves one half out for 8% of equal models at 5
    prompts, mid-P for 7% at 8): there the interval reaches one half where the exact sign test shows nothing.
    n = 0: value NaN between 0 and 1. Raises ValueError for a negative count.
    """
    if min(wins, ties, losses) < 0:
        raise ValueError(f"{wins} wins, {ties} ties, {losses} losses")
    n = wins + ties + losses
    if n == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    low, high = win_rate_limits(np.array([wins]), np.array([ties]), np.array([losses]), confidence=confidence)
    return Share((wins + ties / 2) / n, float(low[0]), float(high[0]), n)


def win_rate_limits(wins: NDArray[Any], ties: NDArray[Any], losses: NDArray[Any], *,
                    confidence: float | None = None) -> tuple[Floats, Floats]:  # fmt: skip
    """The interval of `win_rate` for arrays of counts, every n above 0."""
    wins, ties, losses = (np.asarray(a, dtype=np.float64) for a in (wins, ties, losses))
    untied = ties == 0
    low, high = np.zeros(wins.shape), np.ones(wins.shape)
    for chosen, limits in ((untied, _mid_p_limits), (~untied, tango_limits)):
        if chosen.any():
            low[chosen], high[chosen] = limits(wins[chosen], ties[chosen], losses[chosen], confidence)
    alike = _sign_test(wins, losses) > 1 - _confidence(confidence) + 1e-12
    alike &= wins + ties + losses < _FEW
    return np.where(alike, np.minimum(low, 0.5), low), np.where(alike, np.maximum(high, 0.5), high)


def _sign_test(wins: Floats, losses: Floats) -> Floats:
    """Two-sided, exact: how often equal models would come as far apart by wins and losses, ties left out."""
    from scipy.special import betainc

    fewer, more = np.minimum(wins, losses), np.maximum(wins, losses)
    tail: Floats = betainc(np.maximum(more, 1), fewer + 1, 0.5)
    return np.where(more > 0, np.minimum(2 * tail, 1.0), 1.0)


def tango_limits(wins: Floats, ties: Floats, losses: Floats, confidence: float | None = None) -> tuple[Floats, Floats]:
    """Tango's score interval, moved to [0, 1]; without ties it is Wilson's."""
    n, z = wins + ties + losses, normal_quantile(confidence)
    observed = (wins - losses) / n

    def inside(d: Floats) -> NDArray[np.bool_]:
        """Whether the score test keeps a difference of d. q: share of losses that is likeliest under it."""
        b = (2 * n - wins + losses) * d - wins - losses
        q = (np.sqrt(np.maximum(b * b + 8 * n * losses * d * (1 - d), 0)) - b) / (4 * n)
        variance = n * np.maximum(2 * q + d * (1 - d), 0)
        return (wins - losses - n * d) ** 2 <= z * z * variance

    limits = []
    for bound in (-1.0, 1.0):
        # At the bound itself the variance is 0, and so is the distance when all were won: nothing to bisect
        at_bound = wins == n if bound > 0 else losses == n
        kept, dropped = observed.copy(), np.full(n.shape, bound)
        for _ in range(_HALVINGS):
            middle = (kept + dropped) / 2
            stays = inside(middle)
            kept, dropped = np.where(stays, middle, kept), np.where(stays, dropped, middle)
        limits.append(np.where(at_bound, bound, kept))
    return (1 + limits[0]) / 2, (1 + limits[1]) / 2


def _mid_p_limits(wins: Floats, ties: Floats, losses: Floats, confidence: float | None) -> tuple[Floats, Floats]:
    from scipy.special import betainc

    tail = (1 - (_confidence(confidence))) / 2
    n = wins + losses
    some, not_all = wins > 0, losses > 0

    def above(p: Floats) -> Floats:
        """P(X > wins) + P(X = wins) / 2 where X ~ Binomial(n, p)."""
        reached = np.where(some, betainc(np.where(some, wins, 1), losses + 1, p), 1.0)
        passed = np.where(not_all, betainc(wins + 1, np.where(not_all, losses, 1), p), 0.0)
        return (reached + passed) / 2

    limits = []
    for target in (tail, 1 - tail):
        low, high = np.zeros(n.shape), np.ones(n.shape)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = above(middle) < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        limits.append((low + high) / 2)
    return np.where(some, limits[0], 0.0), np.where(not_all, limits[1], 1.0)


def mean_outcome(points: ArrayLike, *, confidence: float | None = None) -> Share:
    """Win rate of outcomes between 0 and 1 that are independent of one another, such as the mean of each prompt.

    Only 0, 1/2 and 1: `win_rate`. Otherwise Wilson's interval with Student's quantile for as many wins and losses as
    would vary like these (L. Kish 1965, Survey Sampling, section 8.2: the effective size). NaN is left out.
    """
    values = np.asarray(points, dtype=np.float64)
    values = values[np.isfinite(values)]
    wins, ties, losses = (int((values == p).sum()) for p in (1.0, 0.5, 0.0))
    n = len(values)
    if wins + ties + losses == n:
        return win_rate(wins, ties, losses, confidence=confidence)
    rate, t = float(values.mean()), _t(n - 1, confidence)
    low, high = _wilson(rate, _effective_size(values), t)
    return Share(rate, low, high, n)


def _effective_size(values: Floats) -> float:
    """Wins and losses whose rate would vary like the mean of these. Bounded by what Tango's interval gives for ties
    alone: equal values don't prove that the next is equal too."""
    n, rate = len(values), float(values.mean())
    most = (n + 4) ** 2 / 4
    variance = float(values.var(ddof=1)) if n > 1 else 0.25
    return min(n * rate * (1 - rate) / variance, most) if variance > 0 else most


def design_effect(values: ArrayLike, prompts: ArrayLike | None, *, confidence: float | None = None) -> float:
    """Of rows that share prompts: how many of them say as much on the mean of `values` as one independent row, at least
    1. prompts: a number for each row, None: each has its own.

    The variance between the sums of prompts beside that of as many independent rows (L. Kish 1965, Survey Sampling,
    section 8.2), widened from the normal to Student's quantile for the number of prompts (E. Korn and B. Graubard 1998,
    Survey Methodology 24:193). Where all values are equal nothing tells how far rows of a prompt go together: then a
    prompt counts once.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if prompts is None or not len(numbers):
        return 1.0
    found, places = np.unique(np.asarray(prompts), return_inverse=True)
    if len(found) == len(numbers):
        return 1.0
    apart = numbers - numbers.mean()
    own, sums = float(apart @ apart), np.bincount(places, weights=apart)
    groups = len(found)
    effect = len(numbers) / groups
    if own > 0 and groups > 1:
        effect = float(sums @ sums) / own * groups / (groups - 1)
    return max(effect, 1.0) * (_t(groups - 1, confidence) / normal_quantile(confidence)) ** 2


def difference_of_shares(first: Share, second: Share) -> Difference:
    """first - second, of independent samples: the hybrid score interval (R. G. Newcombe 1998, Statistics in Medicine
    17:873, method 10). n: of both."""
    difference = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Difference(difference, max(difference - below, -1.0), min(difference + above, 1.0), first.n + second.n)


# --- means -------------------------------------------------------------------------------------------------------


def spread_of(values: ArrayLike) -> Spread | None:
    """NaN and infinity are left out; None where nothing remains. std of one number: NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return None
    return Spread(float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan, len(numbers))


def paired_difference(before: ArrayLike, after: ArrayLike, *, prompts: Sequence[Hashable] | None = None,
                      confidence: float | None = None) -> Difference:  # fmt: skip
    """Mean of after - before; pairs with NaN or infinity are left out. prompts: several pairs of one prompt count as
    one, their mean.

    Student's interval: over differences of many shapes at n = 30 to 300 it holds the truth oftener than the BCa
    bootstrap (better only where one in twenty lies far off and n is about 100), needs no random numbers and no
    memory. Where a few far off make the mean and n is 30, either misses it in a quarter of cases. n = 0: mean NaN;
    n = 1: the limits are infinite.
    """
    with np.errstate(invalid="ignore"):
        differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    differences = _means_by_prompt(differences, prompts)[0]
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        mean = float(differences.mean()) if n else math.nan
        return Difference(mean, -math.inf, math.inf, n)
    mean = float(differences.mean())
    half = _t(n - 1, confidence) * float(differences.std(ddof=1)) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)


def difference_of_paired_shares(before: ArrayLike, after: ArrayLike, *, prompts: Sequence[Hashable] | None = None,
                                confidence: float | None = None) -> Difference:  # fmt: skip
    """As `paired_difference` where each number is 0 or 1. The interval is that of a win rate: Student's has no width
    where all differences are equal, as those of two prompts often are by chance."""
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    differences = _means_by_prompt(differences, prompts)[0]
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return Difference(math.nan, -math.inf, math.inf, 0)
    share = mean_outcome((1 + differences) / 2, confidence=confidence)
    return Difference(2 * share.value - 1, 2 * share.low - 1, 2 * share.high - 1, share.n)


# --- verdicts ----------------------------------------------------------------------------------------------------


def verdict_of(share: Share | None) -> Verdict:
    """Of a win rate: whether its interval leaves out one half. No win rate: no difference shown."""
    if share is None or share.low <= 0.5 <= share.high:
        return "no_difference"
    return "better" if share.low > 0.5 else "worse"


def more_prompts_needed(rate: float, n: int, *, tied: float = 0.0, variance: float | None = None,
                        confidence: float | None = None, power: float | None = None) -> int | None:  # fmt: skip
    """Prompts beyond the n there are until a win rate as far from one half as this one would be shown with the
    configured power, at least 1. tied: share of ties. variance: of one prompt's outcome, where it isn't that of wins,
    ties and losses. None: no difference, or more prompts than configs/evaluation.yaml allows.

    Size for a test of one mean (J. L. Fleiss 1981, Statistical Methods for Rates and Proportions, section 2.2), the
    spread under no difference that of the same ties.
    """
    from scipy.special import ndtri

    distance = abs(rate - 0.5)
    if not n or not distance > 0:
        return None
    if variance is None:
        variance = (1 - tied) / 4 - distance**2
    power = statistics_setting("power") if power is None else power
    z = normal_quantile(confidence)
    spread = z * math.sqrt(max(variance, 0) + distance**2) + float(ndtri(power)) * math.sqrt(max(variance, 0))
    needed = max(math.ceil((spread / distance) ** 2) - n, 1)
    return needed if needed <= statistics_setting("needed_most") else None


def shown_from(n: int, *, ties: int = 0, confidence: float | None = None) -> float | None:
    """Smallest win rate that n prompts, so many of them tied, show to be above one half. None: not even winning all."""
    decided = n - ties
    if decided <= 0:
        return None
    # Where the score test at one half turns
    near = int((decided + normal_quantile(confidence) * math.sqrt(decided)) / 2)
    wins = np.arange(max(near - 3, (decided + 1) // 2), min(near + 4, decided) + 1)
    low, _ = win_rate_limits(wins, np.full(len(wins), ties), decided - wins, confidence=confidence)
    shown = np.flatnonzero(low > 0.5)
    return float((wins[shown[0]] + ties / 2) / n) if len(shown) else None


# --- contests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """One entry a row (a prompt may have several). points: 1, 1/2, 0 of after, NaN where unjudged. scores, lengths:
    before and after."""

    points: Floats
    scores: tuple[Floats, Floats] | None
    lengths: tuple[Floats, Floats] | None
    prompts: Sequence[Hashable] | None

    def at(self, rows: NDArray[Any]) -> _Rows:
        prompts = self.prompts
        return _Rows(self.points[rows], _both(self.scores, rows), _both(self.lengths, rows),
                     None if prompts is None else [prompts[i] for i in rows.tolist()])  # fmt: skip


def contest(before: ArrayLike, after: ArrayLike, *, before_name: str, after_name: str, by: str,
            lengths: tuple[ArrayLike, ArrayLike] | None = None, categories: Sequence[str] | None = None,
            tie: float = 0.0, prompts: Sequence[Hashable] | None = None,
            unjudged: Mapping[str, int] | None = None) -> Contest:  # fmt: skip
    """Judged by scores, one of each model a row; higher wins, up to `tie` apart is a tie. Rows with a score that is NaN
    or infinite are unjudged (`not_scored`). lengths: of both answers, in characters. prompts: what says which rows have
    the same prompt; such rows count as one, with the mean of their outcomes. unjudged: rows that were left out before,
    by reason. Raises ValueError for unequal lengths.

    Within categories (of at least the configured number of prompts, "" is none) the intervals are widened by Bonferroni
    so that with the configured confidence all of them hold: one category in twenty would else seem better by chance.
    Several contests in one result, and looking again as prompts are added, are not corrected for.
    """
    scores = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    scored = np.isfinite(scores[0]) & np.isfinite(scores[1])
    with np.errstate(invalid="ignore"):
        apart = scores[1] - scores[0]
    points = np.where(np.abs(apart) <= tie, 0.5, np.where(apart > 0, 1.0, 0.0))
    points[~scored] = math.nan
    reasons = _with_count(unjudged, "not_scored", int((~scored).sum()))
    return _contest(_Rows(points, scores, _as_floats(lengths), prompts), (before_name, after_name), by, categories,
                    reasons)  # fmt: skip


def contest_of_outcomes(outcomes: Sequence[Outcome | None], *, before_name: str, after_name: str, by: str,
                        lengths: tuple[ArrayLike, ArrayLike] | None = None, categories: Sequence[str] | None = None,
                        prompts: Sequence[Hashable] | None = None,
                        unjudged: Mapping[str, int] | None = None) -> Contest:  # fmt: skip
    """Judged as win, tie or loss of the after model, a row each; None is unjudged (`not_judged`, unless `unjudged` says
    why: then all of them are in it). The rest as in `contest`."""
    points = np.array([POINTS[outcome] for outcome in outcomes], dtype=np.float64)
    missing = int(np.isnan(points).sum())
    reasons = dict(unjudged) if unjudged else _with_count(None, "not_judged", missing)
    return _contest(_Rows(points, None, _as_floats(lengths), prompts), (before_name, after_name), by, categories,
                    reasons)  # fmt: skip


def _contest(rows: _Rows, names: tuple[str, str], by: str, categories: Sequence[str] | None,
             unjudged: Mapping[str, int]) -> Contest:  # fmt: skip
    beside: list[Sequence[Any]] = [*(rows.scores or ()), *(rows.lengths or ())]
    for other in (*beside, rows.prompts, categories):
        if other is not None and len(other) != len(rows.points):
            raise ValueError(f"{len(other)} beside {len(rows.points)} outcomes")
    judged = rows.at(np.flatnonzero(~np.isnan(rows.points)))
    whole = replace(_figures(judged, names, by, None, fair=True), unjudged=unjudged)
    if categories is None:
        return whole
    kept = np.flatnonzero(~np.isnan(rows.points))
    groups = rows_by_category([categories[i] for i in kept.tolist()])
    minimum = int(statistics_setting("category_min"))
    prompts = judged.prompts
    if prompts is not None:
        groups = {name: places for name, places in groups.items()
                  if len({prompts[i] for i in places.tolist()}) >= minimum}  # fmt: skip
    confidence = bonferroni(len(groups))
    within = {name: _figures(judged.at(places), names, by, confidence) for name, places in groups.items()}
    return replace(whole, by_category=within)


def _figures(rows: _Rows, names: tuple[str, str], by: str, confidence: float | None, *,
             fair: bool = False) -> Contest:  # fmt: skip
    """fair: with the win rate at equal length."""
    points, group = _means_by_prompt(rows.points, rows.prompts)
    n = len(points)
    wins, losses = int((points > 0.5).sum()), int((points < 0.5).sum())
    ties = n - wins - losses
    if not n:
        return Contest(*names, by, "no_difference", 0, 0, 0, 0, None)
    rate = mean_outcome(points, confidence=confidence)
    verdict = verdict_of(rate)
    fractional = bool(np.any((points != 0) & (points != 0.5) & (points != 1)))
    variance = float(points.var(ddof=1)) if fractional and n > 1 else None
    needed = None
    if verdict == "no_difference":
        needed = more_prompts_needed(rate.value, n, tied=ties / n, variance=variance, confidence=confidence)
    controlled = None
    if rows.lengths is not None and fair:
        from pipeline.evaluation.length_control import equal_length_win_rate

        ratio = _means_by_prompt(log_ratio(*rows.lengths), rows.prompts, group)[0]
        controlled = equal_length_win_rate(points, ratio, confidence=confidence)
    difference = before_mean = after_mean = None
    if rows.scores is not None:
        before, after = (_means_by_prompt(side, rows.prompts, group)[0] for side in rows.scores)
        difference = paired_difference(before, after, confidence=confidence)
        before_mean, after_mean = spread_of(before), spread_of(after)
    shown = _shown_from_values(points, confidence) if fractional else shown_from(n, ties=ties, confidence=confidence)
    return Contest(*names, by, verdict, n, wins, ties, losses, rate, controlled, difference, before_mean, after_mean,
                   needed, shown)  # fmt: skip


def _shown_from_values(points: Floats, confidence: float | None) -> float | None:
    """`shown_from` of outcomes between win, tie and loss, as varied as these."""
    n = len(points)
    t = _t(n - 1, confidence)
    rate = 0.5 + t / (2 * math.sqrt(_effective_size(points)))
    return rate if rate < 1 else None


def rows_by_category(categories: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of each category that is large enough to judge, the commonest first, no more than configured."""
    minimum, most = int(statistics_setting("category_min")), int(statistics_setting("categories_most"))
    counts = Counter(name for name in categories if name)
    named = [name for name, count in counts.most_common(most) if count >= minimum]
    code = {name: i for i, name in enumerate(named)}
    codes = np.fromiter((code.get(name, -1) for name in categories), dtype=np.int64, count=len(categories))
    return {name: np.flatnonzero(codes == i) for i, name in enumerate(named)}


def bonferroni(comparisons: int) -> float:
    """Confidence of each of several intervals, so that all hold with the configured one."""
    return 1 - (1 - statistics_setting("confidence")) / max(comparisons, 1)


def log_ratio(before: Floats, after: Floats) -> Floats:
    """log(after / before) of lengths; an empty answer counts as one character."""
    ratio: Floats = np.log(np.maximum(after, 1)) - np.log(np.maximum(before, 1))
    return ratio


def _means_by_prompt(values: Floats, prompts: Sequence[Hashable] | None,
                     group: NDArray[np.int64] | None = None) -> tuple[Floats, NDArray[np.int64] | None]:  # fmt: skip
    """Mean of each prompt's finite values, in the order the prompts come, and the prompt of each row."""
    if prompts is None:
        return values, None
    if group is None:
        places: dict[Hashable, int] = {}
        group = np.fromiter((places.setdefault(p, len(places)) for p in prompts), dtype=np.int64, count=len(prompts))
    size = int(group.max()) + 1 if len(group) else 0
    finite = np.isfinite(values)
    sums = np.bincount(group[finite], weights=values[finite], minlength=size)
    with np.errstate(invalid="ignore"):
        return sums / np.bincount(group[finite], minlength=size), group


def _with_count(counts: Mapping[str, int] | None, reason: str, count: int) -> dict[str, int]:
    found = dict(counts or {})
    if count:
        found[reason] = found.get(reason, 0) + count
    return found


def _both(pair: tuple[Floats, Floats] | None, rows: NDArray[Any]) -> tuple[Floats, Floats] | None:
    return None if pair is None else (pair[0][rows], pair[1][rows])


def _as_floats(pair: tuple[ArrayLike, ArrayLike] | None) -> tuple[Floats, Floats] | None:
    return None if pair is None else (np.asarray(pair[0], dtype=np.float64), np.asarray(pair[1], dtype=np.float64))


def _wilson(rate: float, n: float, z: float) -> tuple[float, float]:
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _confidence(given: float | None) -> float:
    return statistics_setting("confidence") if given is None else given


def normal_quantile(confidence: float | None) -> float:
    """Of the interval that has this confidence on both sides; None: the configured one."""
    from scipy.special import ndtri

    return float(ndtri((1 + _confidence(confidence)) / 2))


def _t(degrees: int, confidence: float | None) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees, 1), (1 + _confidence(confidence)) / 2))
