"""Intervals hold the truth as often as they say, at the edges too, and verdicts follow from them."""

from __future__ import annotations

import math
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.interval_coverage import cluster_coverage, mean_coverage, possible, win_rate_coverage
from pipeline.evaluation.intervals import (
    bonferroni,
    contest,
    contest_of_outcomes,
    difference_of_shares,
    mean_outcome,
    more_prompts_needed,
    paired_difference,
    share_of,
    shown_from,
    spread_of,
    tango_limits,
    verdict_of,
    win_rate,
    win_rate_limits,
)
from pipeline.evaluation.results import to_json


def names(**more):
    return {"before_name": "before", "after_name": "after", "by": "reward", **more}


# --- shares


@pytest.mark.parametrize(("successes", "n"), [(3, 10), (0, 7), (7, 7), (61, 100), (1, 1)])
def test_a_share_has_wilsons_interval(successes: int, n: int) -> None:
    share = share_of(successes, n)
    theirs = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (share.low, share.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert (share.value, share.n) == (successes / n, n)


def test_a_share_of_nothing_is_unknown_and_of_too_many_an_error() -> None:
    nothing = share_of(0, 0)
    assert math.isnan(nothing.value) and (nothing.low, nothing.high, nothing.n) == (0, 1, 0)
    assert to_json(nothing)["value"] is None
    assert win_rate(0, 0, 0).n == 0
    for wrong in (lambda: share_of(3, 2), lambda: share_of(-1, 2), lambda: win_rate(1, -1, 3)):
        with pytest.raises(ValueError):
            wrong()


@pytest.mark.parametrize(("wins", "losses"), [(60, 40), (0, 40), (40, 0), (1, 0), (500, 499)])
def test_tangos_interval_is_wilsons_without_ties(wins: int, losses: int) -> None:
    low, high = tango_limits(np.array([float(wins)]), np.zeros(1), np.array([float(losses)]))
    share = share_of(wins, wins + losses)
    assert (low[0], high[0]) == pytest.approx((share.low, share.high), abs=1e-9)


@pytest.mark.parametrize(("wins", "ties", "losses"), [(12, 36, 2), (9, 2, 1), (0, 30, 4), (120, 200, 80)])
def test_limits_with_ties_are_where_the_score_test_turns(wins: int, ties: int, losses: int) -> None:
    """The likeliest shares under a difference are searched for here, not solved for."""
    share, n = win_rate(wins, ties, losses), wins + ties + losses

    def distance(d: float) -> float:
        def against(lost: float) -> float:
            return -sum(k * math.log(max(p, 1e-300)) for k, p in ((wins, lost + d), (losses, lost), (ties, 1 - 2 * lost - d)) if k)

        bounds = max(0.0, -d), (1 - d) / 2
        lost = optimize.minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return abs(wins - losses - n * d) / math.sqrt(n * (2 * lost + d - d * d))

    for limit in (share.low, share.high):
        assert distance(2 * limit - 1) == pytest.approx(stats.norm.ppf(0.975), rel=1e-3)


@pytest.mark.parametrize(("wins", "losses"), [(60, 40), (0, 40), (40, 0), (1, 0), (250, 249), (7, 3)])
def test_without_ties_each_limit_leaves_half_the_error_to_its_side(wins: int, losses: int) -> None:
    share, n = win_rate(wins, 0, losses), wins + losses
    if wins:
        above = stats.binom.sf(wins, n, share.low) + stats.binom.pmf(wins, n, share.low) / 2
        assert above == pytest.approx(0.025, abs=1e-9)
    else:
        assert share.low == 0
    if losses:
        below = stats.binom.cdf(wins - 1, n, share.high) + stats.binom.pmf(wins, n, share.high) / 2
        assert below == pytest.approx(0.025, abs=1e-9)
    else:
        assert share.high == 1


def test_every_count_gives_an_interval_around_its_rate_that_mirrors() -> None:
    n = 12
    counts = np.array([(w, t, n - w - t) for w in range(n + 1) for t in range(n + 1 - w)], dtype=float).T
    low, high = win_rate_limits(*counts)
    rate = (counts[0] + counts[1] / 2) / n
    assert np.all(low <= rate + 1e-12) and np.all(rate <= high + 1e-12)
    assert np.all(low >= 0) and np.all(high <= 1) and np.all(high > low)
    mirrored_low, mirrored_high = win_rate_limits(counts[2], counts[1], counts[0])
    assert np.allclose(low, 1 - mirrored_high, atol=1e-9) and np.allclose(high, 1 - mirrored_low, atol=1e-9)
    for lone in (win_rate(1, 0, 0), win_rate(0, 1, 0), win_rate(0, 0, 1)):
        assert verdict_of(lone) == "no_difference" and lone.n == 1


def test_ties_make_the_interval_narrower_at_one_rate() -> None:
    widths = [win_rate(50 - t // 2, t, 50 - t // 2) for t in (0, 40, 80, 100)]
    assert np.all(np.diff([s.high - s.low for s in widths]) < 0)


@pytest.mark.parametrize("tied", [0.0, 0.1, 0.2, 0.4])
def test_win_rate_intervals_hold_the_truth(tied: float) -> None:
    """3,000 contests a cell: one cell's simulated coverage is off by 0.4 points; counts come in steps without ties."""
    generator = np.random.default_rng(7)
    rates = [rate for rate in (0.3, 0.5, 0.55, 0.6, 0.7, 0.8) if possible(rate, tied)]
    cells = np.array([[win_rate_coverage(n, rate, tied, 3000, generator) for rate in rates]
                      for n in (30, 50, 100, 200, 500)])  # fmt: skip
    assert 0.945 <= cells.mean() <= 0.957
    assert cells[1:].min() >= 0.928 and cells[1:].max() <= 0.972
    assert np.all((cells.mean(axis=1) > 0.94) & (cells.mean(axis=1) < 0.962))


def test_a_narrower_interval_holds_it_less_often() -> None:
    """The simulation isn't blind: 80% intervals are told from 95% ones."""
    held = win_rate_coverage(100, 0.6, 0.2, 3000, np.random.default_rng(1),
                             lambda *c: win_rate_limits(*c, confidence=0.8))  # fmt: skip
    assert 0.77 < held < 0.83


@pytest.mark.parametrize("times", [2, 4])
def test_prompts_that_occur_several_times_count_once(times: int) -> None:
    generator = np.random.default_rng(3)
    cells = [held for prompts in (30, 100) for rate in (0.5, 0.8)
             for held in cluster_coverage(prompts, times, rate, 0.1, 400, generator)]  # fmt: skip
    assert 0.935 <= np.mean(cells) <= 0.967 and min(cells) > 0.915


def test_counting_repeated_prompts_as_independent_would_hold_it_less_often() -> None:
    """Ten answers to each of 40 prompts that are always won or always lost: 400 counts know as little as 40."""
    won = np.random.default_rng(5).random(40) < 0.6
    outcomes = [bool(w) for w in won for _ in range(10)]
    prompts = [i for i in range(40) for _ in range(10)]
    found = contest(np.zeros(400), np.array(outcomes, dtype=float) * 2 - 1, prompts=prompts, **names())
    assert found.n == 40 and found.win_rate == win_rate(int(won.sum()), 0, 40 - int(won.sum()))
    assert found.difference.n == 40


def test_means_of_outcomes_that_do_not_vary_leave_some_doubt() -> None:
    share = mean_outcome([0.75] * 20)
    assert share.value == 0.75 and 0.5 < share.low < 0.75 < share.high < 1
    assert mean_outcome([1, 0.5, 0, math.nan]) == win_rate(1, 1, 1)
    assert mean_outcome([0.3]).n == 1 and verdict_of(mean_outcome([0.9])) == "no_difference"


def test_the_gap_of_two_shares_has_newcombes_interval() -> None:
    """Newcombe 1998, table II, 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
    gap = difference_of_shares(share_of(56, 70), share_of(48, 80))
    assert (gap.mean, gap.low, gap.high, gap.n) == pytest.approx((0.2, 0.0524, 0.3339, 150), abs=1e-4)
    extreme = difference_of_shares(share_of(10, 10), share_of(0, 20))
    assert extreme.mean == 1 and extreme.high == 1 and 0.6 < extreme.low < 0.8


# --- means


def test_a_mean_difference_is_paired_and_leaves_out_what_is_no_number() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(0, 5, 60)
    after = before + generator.normal(0.5, 1, 60)
    theirs = stats.ttest_rel(after, before).confidence_interval()
    found = paired_difference([*before, math.nan, 1, math.inf], [*after, 1, math.nan, math.inf])
    assert (found.low, found.high, found.n) == pytest.approx((theirs.low, theirs.high, 60))
    assert paired_difference([1], [3]).mean == 2 and paired_difference([1], [3]).high == math.inf
    assert paired_difference([], []).n == 0 and to_json(paired_difference([], []))["mean"] is None
    assert paired_difference([1, 1], [2, 2]) == paired_difference([0, 0], [1, 1])


def test_a_mean_difference_counts_a_prompt_once() -> None:
    once = paired_difference([0, 0, 0], [1, 2, 4])
    assert paired_difference([0] * 6, [1, 1, 2, 2, 4, 4], prompts=list("aabbcc")) == once


def test_mean_differences_hold_the_truth() -> None:
    generator = np.random.default_rng(11)
    for shape, least in (("normal", 0.93), ("exponential", 0.905), ("15% far off", 0.905)):
        held = [mean_coverage(shape, n, 600, generator) for n in (50, 100, 300)]
        assert min(held) > least and max(held) < 0.975, shape


def test_spreads() -> None:
    spread = spread_of([1, 2, 3, math.nan, math.inf])
    assert (spread.mean, spread.std, spread.n) == (2, 1, 3)
    assert spread_of([math.nan]) is None and math.isnan(spread_of([1]).std)


# --- verdicts


def test_the_verdict_is_whether_one_half_is_left_out() -> None:
    assert verdict_of(win_rate(60, 0, 40)) == "better" and verdict_of(win_rate(40, 0, 60)) == "worse"
    assert verdict_of(win_rate(58, 0, 42)) == "no_difference" and verdict_of(None) == "no_difference"


@pytest.mark.parametrize("tied", [0.0, 0.02, 0.1, 0.3, 0.6])
def test_of_equal_models_one_in_twenty_is_called_different_at_most(tied: float) -> None:
    """By the probabilities of all counts; where they come in large steps, from 10 prompts on up to 6.5%."""
    for n in (3, 5, 6, 8, 9, 10, 11, 14, 19, 30, 50):
        counts = np.array([(w, n - w - lost, lost) for w in range(n + 1) for lost in range(n + 1 - w)])
        low, high = win_rate_limits(*counts.T)
        called = (low > 0.5) | (high < 0.5)
        chance = stats.multinomial.pmf(counts, n, [(1 - tied) / 2, tied, (1 - tied) / 2])
        assert chance[called].sum() <= (0.05 if n < 10 else 0.0575 if tied else 0.0655), n
        if n < 10:  # few prompts: only what the exact test shows
            exact = [w != lost and stats.binomtest(int(w), int(w + lost)).pvalue <= 0.05 for w, _, lost in counts]
            assert not (called & ~np.array(exact)).any(), n


@pytest.mark.parametrize(("n", "ties"), [(1, 0), (4, 0), (6, 0), (10, 4), (50, 0), (100, 0), (100, 30), (400, 399), (5001, 7)])
def test_shown_from_is_the_first_win_rate_that_is_shown(n: int, ties: int) -> None:
    wins = np.arange(n - ties + 1)
    low, _ = win_rate_limits(wins, np.full(len(wins), ties), n - ties - wins)
    rates = (wins[low > 0.5] + ties / 2) / n
    assert shown_from(n, ties=ties) == (pytest.approx(rates.min()) if len(rates) else None)
    assert shown_from(0) is None and shown_from(5, ties=5) is None


@pytest.mark.parametrize(("rate", "tied"), [(0.55, 0.0), (0.56, 0.3), (0.42, 0.1)])
def test_so_many_more_prompts_show_it_four_times_in_five(rate: float, tied: float) -> None:
    now = 60
    n = now + more_prompts_needed(rate, now, tied=tied)
    counts = np.random.default_rng(2).multinomial(n, (rate - tied / 2, tied, 1 - rate - tied / 2), size=4000).astype(float)
    low, high = win_rate_limits(*counts.T)
    assert 0.77 < ((low > 0.5) | (high < 0.5)).mean() < 0.83


def test_more_prompts_are_not_named_where_none_would_help() -> None:
    assert more_prompts_needed(0.5, 100) is None
    assert more_prompts_needed(0.5001, 100) is None
    assert more_prompts_needed(0.9, 0) is None
    assert more_prompts_needed(0.8, 6) >= 1


# --- contests


def test_a_contest_by_scores() -> None:
    before = [0.0, 0, 0, 0, 0, math.nan, 1, -math.inf]
    after = [1.0, 2, -1, 0.05, 0, 1, math.nan, 1]
    found = contest(before, after, tie=0.1, unjudged={"too_long": 2}, **names())
    assert (found.n, found.wins, found.ties, found.losses) == (5, 2, 2, 1)
    assert found.unjudged == {"too_long": 2, "not_scored": 3}
    assert found.win_rate == win_rate(2, 2, 1) and found.verdict == "no_difference"
    assert found.before_mean.mean == 0 and found.after_mean.mean == pytest.approx(2.05 / 5)
    assert found.difference.mean == pytest.approx(0.41) and found.needed > 0 and found.shown_from is None


def test_a_shown_difference_needs_no_more_prompts() -> None:
    found = contest(np.zeros(100), np.r_[np.ones(80), -np.ones(20)], **names())
    assert found.verdict == "better" and found.needed is None and found.shown_from == pytest.approx(0.6)
    assert contest(np.r_[np.ones(80), -np.ones(20)], np.zeros(100), **names()).verdict == "worse"


def test_a_contest_of_outcomes() -> None:
    found = contest_of_outcomes(["win", "tie", None, "loss", "win"], **names(by="people"))
    assert (found.n, found.wins, found.ties, found.losses, found.unjudged) == (4, 2, 1, 1, {"not_judged": 1})
    assert found.difference is None and found.by == "people"
    assert contest_of_outcomes([None, "win"], unjudged={"refused": 1}, **names()).unjudged == {"refused": 1}


@pytest.mark.parametrize("make", [lambda: contest([], [], **names()), lambda: contest([math.nan], [1], **names()),
                                  lambda: contest_of_outcomes([None], categories=["a"], **names())])  # fmt: skip
def test_a_contest_nobody_judged_shows_nothing(make) -> None:
    found = make()
    assert found.n == 0 and found.win_rate is None and found.verdict == "no_difference" and found.needed is None


def test_unequal_numbers_of_rows_are_an_error() -> None:
    with pytest.raises(ValueError):
        contest([1, 2, 3], [1, 2, 3], categories=["a"], **names())
    with pytest.raises(ValueError):
        contest([1, 2, 3], [1, 2, 3], lengths=([1], [2]), **names())


def test_a_prompt_won_half_of_the_times_is_a_tie() -> None:
    found = contest_of_outcomes(["win", "loss", "win", "win", "loss", None], prompts=list("aabbcc"), **names())
    assert (found.n, found.wins, found.ties, found.losses) == (3, 1, 1, 1)
    thirds = contest_of_outcomes(["win", "win", "loss"] * 30, prompts=[i // 3 for i in range(90)], **names())
    assert thirds.n == 30 and thirds.win_rate.value == pytest.approx(2 / 3) and thirds.wins == 30


def test_categories_have_wider_intervals_and_a_least_size() -> None:
    generator = np.random.default_rng(4)
    labels = ["math"] * 60 + ["写作"] * 40 + ["rare"] * 3 + [""] * 7
    after = generator.normal(0.2, 1, 110)
    found = contest(np.zeros(110), after, categories=labels, **names())
    assert list(found.by_category) == ["math", "写作"]
    alone = contest(np.zeros(60), after[:60], **names())
    within = found.by_category["math"]
    assert within.win_rate.value == alone.win_rate.value and not within.by_category
    assert within.win_rate.low < alone.win_rate.low and within.win_rate.high > alone.win_rate.high
    assert within.win_rate == win_rate(within.wins, 0, within.losses, confidence=bonferroni(2))


def test_equal_models_rarely_seem_better_in_one_of_many_categories() -> None:
    generator = np.random.default_rng(8)
    labels = [f"{i % 10}" for i in range(500)]
    wrong = sum(any(c.verdict != "no_difference" for c in found.by_category.values())
                for found in (contest(np.zeros(500), generator.normal(0, 1, 500), categories=labels, **names())
                              for _ in range(60)))  # fmt: skip
    assert wrong <= 8  # 3 expected at most; 24 without the correction


def test_a_hundred_thousand_prompts_take_a_second_and_little_memory() -> None:
    n = 100_000
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=n), generator.normal(0.02, 1, n)
    lengths = generator.integers(1, 900, n), generator.integers(1, 900, n)
    labels, prompts = [f"c{i % 40}" for i in range(n)], list(range(n))
    contest(before[:50], after[:50], **names())  # imports scipy
    started = time.perf_counter()
    found = contest(before, after, lengths=lengths, categories=labels, prompts=prompts, **names())
    assert time.perf_counter() - started < 4 and found.n == n and len(found.by_category) == 40
    tracemalloc.start()
    contest(before, after, lengths=lengths, **names())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20
