"""Rewards drawn with known accuracy, calibration, length bias and wrong labels give those figures back."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.intervals import share_of, win_rate
from pipeline.evaluation.reward_statistics import (
    accuracy_gap,
    accuracy_of,
    calibration_of,
    length_bias_of,
    statistics_of,
    statistics_of_answers,
    suspected,
)


def margins_of(n: int, temperature: float = 1.0, flipped: float = 0.0, seed: int = 0):
    """Margins of a model whose sigmoid(margin / temperature) is right, and which labels were turned around after."""
    generator = np.random.default_rng(seed)
    first = generator.normal(0, 3, n) * temperature
    wins = generator.random(n) < 1 / (1 + np.exp(-first / temperature))
    turned = generator.random(n) < flipped
    return np.where(wins ^ turned, 1, -1) * first, turned


def even(n: int):
    return np.full(n, 100), np.full(n, 100)


def test_figures_of_a_small_set() -> None:
    found = statistics_of([2.0, 1, 0, 5, math.nan], [1.0, 3, 0, 1, 1], [10, 20, 30, 40, 50], [5, 5, 5, 5, 5])
    assert (found.accuracy.wins, found.accuracy.ties, found.accuracy.losses) == (2, 1, 1)
    assert found.accuracy.share == win_rate(2, 1, 1) and found.accuracy.share.value == 0.625
    assert found.not_finite == 1 and found.chosen.mean == 2 and found.rejected.mean == 1.25 and found.chosen.n == 4
    assert found.margin.mean == 0.75 and found.margin_std == pytest.approx(np.std([1, -2, 0, 4], ddof=1))
    assert found.log_loss == pytest.approx(np.mean(np.log1p(np.exp([-1.0, 2, 0, -4]))))
    assert found.calibration == () and found.calibration_error is None and found.length is None and found.suspects is None


@pytest.mark.parametrize("rewards", [([], []), ([math.nan], [1]), ([math.inf], [math.inf])])
def test_nothing_scored_is_nothing_measured(rewards) -> None:
    found = statistics_of(*rewards, *even(len(rewards[0])))
    assert found.accuracy is None and found.margin is None and found.not_finite == len(rewards[0])


def test_one_pair_and_enormous_rewards_are_measured() -> None:
    assert statistics_of([1.0], [0.0], [3], [3]).accuracy.wins == 1
    huge = statistics_of([1e300] * 60, [-1e300] * 60, *even(60))
    assert huge.accuracy.share.value == 1 and huge.log_loss == 0 and huge.suspects.pairs == ()
    same = statistics_of([0.1] * 60, [0.1] * 60, *even(60))
    assert same.accuracy.share.value == 0.5 and same.suspects.pairs == () and same.length.pearson is None
    with pytest.raises(ValueError):
        statistics_of([1.0], [0.0, 1], [3], [3])


def test_a_calibrated_model_is_on_the_diagonal_and_a_sure_one_below() -> None:
    margins, _ = margins_of(20_000)
    bins, error = calibration_of(margins)
    assert len(bins) == 10 and error < 0.015
    assert sum(b.observed.low <= b.predicted <= b.observed.high for b in bins) >= 8
    assert all(b.predicted >= 0.5 and b.low <= b.high for b in bins) and sum(b.observed.n for b in bins) == 20_000
    bins, error = calibration_of(margins_of(20_000, temperature=4)[0])
    assert error > 0.1 and all(b.predicted > b.observed.high for b in bins[3:])


def test_bins_are_equal_in_number_and_keep_equal_values_together() -> None:
    bins, _ = calibration_of(np.r_[np.zeros(500), np.linspace(0.1, 3, 100)])
    assert bins[0].observed.n == 500 and bins[0].observed.value == 0.5 and sum(b.observed.n for b in bins) == 600
    assert [b.observed.n for b in calibration_of(np.linspace(0.1, 1, 100))[0]] == [20] * 5


def test_equal_ratios_of_length_stay_in_one_bin() -> None:
    """log2(3k) - log2(k) is not the same number for every k."""
    random = np.random.default_rng(4)
    shorter = random.integers(1, 400, 900)
    chosen, rejected = random.permutation(np.r_[1:6].repeat(180)) * shorter, shorter
    found = statistics_of(random.normal(1, 1, 900), random.normal(0, 1, 900), chosen, rejected).length
    assert found is not None and len(found.bins) > 3
    assert all(one.high < other.low - 1e-6 for one, other in pairwise(found.bins))
    assert sum(one.accuracy.n for one in found.bins) == 900


def biased(n: int, per_doubling: float, longer: float, seed: int = 0):
    """Chosen answers are longer by `longer` doublings on average and better by 1."""
    generator = np.random.default_rng(seed)
    prompt = generator.normal(0, 2, n)
    sizes = 2 ** generator.normal(8 + longer, 1, n), 2 ** generator.normal(8, 1, n)
    rewards = [prompt + better + per_doubling * np.log2(size) + generator.normal(0, 1, n)
               for better, size in zip((1, 0), sizes, strict=True)]  # fmt: skip
    return *rewards, *sizes


@pytest.mark.parametrize("longer", [0.0, 1.5])
@pytest.mark.parametrize("per_doubling", [0.0, 0.7])
def test_the_slope_is_what_length_is_worth_also_where_chosen_answers_are_longer(per_doubling, longer) -> None:
    bias = length_bias_of(*biased(4000, per_doubling, longer))
    assert bias.slope == pytest.approx(per_doubling, abs=0.06)
    assert bias.chosen_longer == pytest.approx(0.5 if not longer else 0.855, abs=0.03)
    unbiased = stats.norm.cdf(1 / 2**0.5)
    assert bias.corrected.share.value == pytest.approx(unbiased, abs=0.025)
    assert bias.corrected_chosen.mean - bias.corrected_rejected.mean == pytest.approx(1, abs=0.1)
    if per_doubling:
        assert bias.accuracy_chosen_longer.low > bias.accuracy_rejected_longer.high
        assert bias.bins[0].accuracy.high < bias.bins[-1].accuracy.low and bias.within > 0.4
    else:
        assert abs(bias.within) < 0.05


def test_corrected_rewards_keep_their_level() -> None:
    chosen, rejected, *sizes = biased(1000, 0.7, 0.5)
    bias = length_bias_of(chosen, rejected, *sizes)
    assert bias.corrected_chosen.mean + bias.corrected_rejected.mean == pytest.approx(chosen.mean() + rejected.mean())
    assert bias.corrected_chosen.std < chosen.std()


def test_correlations_are_those_of_scipy() -> None:
    chosen, rejected, *sizes = biased(500, 0.4, 0.3)
    bias = length_bias_of(chosen, rejected, *sizes)
    rewards, lengths = np.r_[chosen, rejected], np.log(np.r_[sizes[0], sizes[1]])
    assert bias.pearson == pytest.approx(stats.pearsonr(rewards, lengths).statistic)
    assert bias.spearman == pytest.approx(stats.spearmanr(rewards, lengths).statistic)
    alone = statistics_of_answers(rewards, np.r_[sizes[0], sizes[1]])
    assert alone.length.pearson == pytest.approx(bias.pearson) and alone.answers.n == 1000 and alone.length.slope is None


def test_answers_alone() -> None:
    found = statistics_of_answers([1.0, 2, math.nan], [0, 5, 5])
    assert found.answers.n == 2 and found.not_finite == 1 and found.length is None and found.accuracy is None
    assert statistics_of_answers([], []).answers is None
    assert statistics_of_answers([0.1] * 40, range(40)).length is None  # a constant reward goes with nothing


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_suspects_of_clean_labels_are_the_tail_that_is_expected(temperature: float) -> None:
    found = suspected(margins_of(20_000, temperature)[0])
    assert found.temperature == pytest.approx(temperature, rel=0.12) and found.noise.value < 0.01 and found.noise.low == 0
    assert abs(len(found.pairs) - found.expected) < 4 * found.expected**0.5


def test_wrong_labels_are_found_beyond_the_tail() -> None:
    margins, turned = margins_of(10_000, temperature=2, flipped=0.08)
    found = suspected(margins)
    indices = [pair.index for pair in found.pairs]
    assert found.noise.value == pytest.approx(0.08, abs=0.025) and found.noise.low > 0.04 and found.temperature == pytest.approx(2, rel=0.15)
    assert len(indices) > 2 * found.expected and turned[indices].mean() > 0.7
    excess = len(indices) - found.expected
    assert excess == pytest.approx(turned[indices].sum(), rel=0.2)
    assert all(p.margin < 0 and p.probability <= 0.05 and p.margin == margins[p.index] for p in found.pairs)
    assert [p.margin for p in found.pairs] == sorted(p.margin for p in found.pairs)
    assert suspected(margins) == found


def test_suspects_are_named_by_their_place_among_all_rows() -> None:
    margins, _ = margins_of(3000, flipped=0.1)
    chosen = np.r_[np.full(7, np.nan), margins]
    shifted = statistics_of(chosen, np.zeros(3007), *even(3007)).suspects
    assert [p.index - 7 for p in shifted.pairs] == [p.index for p in suspected(margins).pairs]
    assert shifted.pairs and all(chosen[p.index] == p.margin for p in shifted.pairs)


@pytest.mark.parametrize("n", [150, 300])
def test_few_sound_labels_are_not_called_wrong_and_their_tail_is_expected(n: int) -> None:
    found = [suspected(margins_of(n, seed=seed)[0]) for seed in range(40)]
    assert sum(one.noise.low > 0.02 for one in found) <= 2
    assert sum(len(one.pairs) for one in found) < 1.6 * sum(one.expected for one in found)


def test_a_model_that_errs_everywhere_has_no_sure_suspects() -> None:
    margins = np.random.default_rng(0).normal(0, 3, 5000)  # knows nothing
    found = suspected(margins)
    assert len(found.pairs) < 25


def test_accuracy_by_category_is_widened() -> None:
    margins, _ = margins_of(300)
    labels = ["数学"] * 150 + ["code"] * 140 + [""] * 8 + ["rare"] * 2
    found = statistics_of(margins, np.zeros(300), *even(300), categories=labels)
    assert list(found.by_category) == ["数学", "code"]
    alone = accuracy_of(margins[:150])
    within = found.by_category["数学"]
    assert (within.wins, within.losses) == (alone.wins, alone.losses) and within.share.low < alone.share.low


def test_the_gap_to_held_out_pairs() -> None:
    train, held_out = accuracy_of(np.r_[np.ones(400)]), accuracy_of(np.r_[np.ones(70), -np.ones(30)])
    gap = accuracy_gap(train, held_out)
    assert gap.mean == pytest.approx(0.3) and 0.2 < gap.low < 0.3 < gap.high < 0.4
    assert gap.low == pytest.approx(0.3 - math.hypot(1 - share_of(400, 400).low, share_of(70, 100).high - 0.7), abs=0.01)


def test_a_hundred_thousand_pairs_in_well_under_two_seconds() -> None:
    margins, _ = margins_of(100_000, flipped=0.03)
    generator = np.random.default_rng(1)
    base, sizes = generator.normal(size=100_000), generator.integers(1, 900, (2, 100_000))
    labels = [f"c{i % 30}" for i in range(100_000)]
    statistics_of(margins[:100], np.zeros(100), *sizes[:, :100])  # imports scipy
    started = time.perf_counter()
    found = statistics_of(base + margins, base, *sizes, categories=labels)
    assert time.perf_counter() - started < 2 and len(found.by_category) == 30 and found.suspects.pairs


def luck_of_prompts(prompts: int, each: int, seed: int):
    """Margins of pairs that mostly go as their prompt does, right in Phi(1 / sqrt(1.25)) of the cases."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(prompts), each)
    return generator.normal(1, 1, prompts)[groups] + generator.normal(0, 0.5, prompts * each), groups


def test_pairs_of_one_prompt_count_for_what_they_are_worth() -> None:
    truth, holds, naive = stats.norm.cdf(1 / 1.25**0.5), 0, 0
    for seed in range(200):
        margins, groups = luck_of_prompts(40, 6, seed)
        share, alone = accuracy_of(margins, groups).share, accuracy_of(margins).share
        assert (share.value, share.n) == (alone.value, 240) and share.high - share.low > alone.high - alone.low
        holds, naive = holds + (share.low <= truth <= share.high), naive + (alone.low <= truth <= alone.high)
    assert holds >= 182 and naive < 150

    margins, groups = luck_of_prompts(40, 6, 1)
    found = statistics_of(margins, np.zeros(240), *even(240), prompts=groups + 7)
    plain = statistics_of(margins, np.zeros(240), *even(240))
    assert (found.prompts, plain.prompts) == (40, 240) and found.margin.mean == plain.margin.mean
    assert found.margin.high - found.margin.low > 1.8 * (plain.margin.high - plain.margin.low)
    assert statistics_of(margins, np.zeros(240), *even(240), prompts=np.arange(240)) == plain


def test_equal_pairs_of_one_prompt_are_one() -> None:
    right = np.ones(60)
    assert accuracy_of(right, np.zeros(60, dtype=np.int64)).share.low < 0.01
    assert accuracy_of(right, np.repeat(np.arange(20), 3)).share.low == pytest.approx(accuracy_of(right[:20]).share.low, abs=0.03)


def of_quality(n: int, *, natural: float, paid: float, seed: int = 0):
    """Answers are `natural` doublings longer per unit of quality, which alone decides the label; the model reads quality
    with an error and pays `paid` per doubling beside it."""
    generator = np.random.default_rng(seed)
    quality = generator.normal(0, 1, (n, 2))
    sizes = 8 + natural * quality + generator.normal(0, 0.6, (n, 2))
    rewards = quality + generator.normal(0, 0.6, (n, 2)) + paid * sizes
    first = generator.random(n) < 1 / (1 + np.exp(-1.5 * (quality[:, 0] - quality[:, 1])))
    order = np.where(first[:, None], [0, 1], [1, 0])
    rewards, sizes = (np.take_along_axis(values, order, 1) for values in (rewards, sizes))
    return rewards[:, 0], rewards[:, 1], *(2 ** sizes.T).astype(int)


def test_length_is_overpaid_where_labels_do_not_follow_it() -> None:
    for seed in range(10):
        natural = length_bias_of(*map(np.asarray, of_quality(1500, natural=0.6, paid=0, seed=seed)))
        assert natural.within > 0.3 and natural.accuracy_chosen_longer.low > natural.accuracy_rejected_longer.high
        assert natural.favour.low > 0 and natural.right_for_longer.value > natural.right_for_shorter.value
        paid = length_bias_of(*map(np.asarray, of_quality(1500, natural=0.2, paid=1.5, seed=seed)))
        assert paid.favour.high < 0 and paid.favour.n > 1000
    unknown = length_bias_of(np.ones(40), np.zeros(40), np.full(40, 9.0), np.full(40, 9.0))
    assert unknown.favour is None and unknown.right_for_longer is None
