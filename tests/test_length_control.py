"""A judge that likes length is told from one that likes the answers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.interval_coverage import length_control_coverage
from pipeline.evaluation.intervals import contest, contest_of_outcomes
from pipeline.evaluation.length_control import equal_length_win_rate


def judged(n: int, log_odds: float, slope: float, longer: float = 0.35, seed: int = 0):
    """Outcomes and log length ratios; the judge's log odds grow by slope with the standardised difference."""
    generator = np.random.default_rng(seed)
    ratio = generator.normal(longer, 0.4, n)
    points = (generator.random(n) < 1 / (1 + np.exp(-log_odds - slope * ratio / 0.4))).astype(float)
    return points, ratio


def test_a_judge_that_only_likes_length_is_seen_through() -> None:
    points, ratio = judged(1500, 0, 1.6)
    share = equal_length_win_rate(points, ratio)
    assert points.mean() > 0.68
    assert abs(share.value - 0.5) < 0.06 and share.low < 0.5 + 0.03 and share.n == 1500


def test_a_judge_that_likes_the_answers_is_left_alone() -> None:
    points, ratio = judged(1500, 0.85, 0)
    share = equal_length_win_rate(points, ratio)
    assert abs(points.mean() - 0.7) < 0.03 and abs(share.value - points.mean()) < 0.02
    assert share.low > 0.63 and share.high < 0.77


def test_short_answers_that_are_better_are_worth_more_at_equal_length() -> None:
    points, ratio = judged(1500, 0.85, 1.2, longer=-0.35)
    share = equal_length_win_rate(points, ratio)
    assert points.mean() < 0.55 and share.value > 0.64


@pytest.mark.parametrize("n", [50, 100])
def test_its_interval_holds_the_truth(n: int) -> None:
    # nine in ten won: percentiles of a bootstrap hold the truth in 86% there
    for judge in ((0, 1.5), (0.85, 0), (2.2, 0.5)):
        assert 0.92 < length_control_coverage(n, *judge, 0.0, 1, 300, np.random.default_rng(n)) < 0.995


@pytest.mark.parametrize(("n", "longer", "spread"), [(100, 0.6, 0.4), (1000, 1.0, 0.5)])
def test_its_interval_holds_the_truth_where_answers_are_mostly_far_longer(
    n: int, longer: float, spread: float
) -> None:  # fmt: skip
    # a curve over all lengths holds it in 60% of the second; that judge's taste doesn't level off
    generator = np.random.default_rng(n)
    held = said = 0
    for _ in range(300):
        ratio = generator.normal(longer, spread, n)
        points = (generator.random(n) < 1 / (1 + np.exp(-0.5 + 1.5 * ratio))).astype(float)
        if (share := equal_length_win_rate(points, ratio)) is not None:
            said, held = said + 1, held + (share.low <= 1 / (1 + np.exp(-0.5)) <= share.high)
    assert said > 30 and held / said > 0.9


def test_not_said_where_the_data_cannot_tell() -> None:
    points, ratio = judged(100, 0, 1)
    assert equal_length_win_rate(points[:20], ratio[:20]) is None  # too few
    assert equal_length_win_rate(points, ratio / 100) is None  # lengths hardly differ
    assert equal_length_win_rate(points, np.abs(ratio) + 0.1) is None  # always longer
    assert equal_length_win_rate(points, np.full(100, np.nan)) is None
    far = np.where(np.arange(1000) % 10 == 0, -0.7, 0.9) + np.random.default_rng(3).normal(0, 0.05, 1000)
    assert equal_length_win_rate(judged(1000, 0, 1)[0], far) is None  # never near equal length


def test_length_that_separates_has_finite_figures() -> None:
    ratio = np.linspace(-1, 1, 60)
    share = equal_length_win_rate((ratio > 0).astype(float), ratio)
    assert abs(share.value - 0.5) < 0.05 and 0 < share.low < share.high < 1
    won = equal_length_win_rate(np.ones(60), ratio)
    assert won.value > 0.95 and won.high <= 1
    assert abs(equal_length_win_rate(np.full(60, 0.5), ratio).value - 0.5) < 1e-6


def test_twice_the_prompts_narrow_the_interval() -> None:
    points, ratio = judged(4000, 0.4, 0.8)
    few = equal_length_win_rate(points[:2000], ratio[:2000])
    twice = equal_length_win_rate(np.tile(points[:2000], 2), np.tile(ratio[:2000], 2))
    assert twice.value == pytest.approx(few.value, abs=0.002)
    assert (few.high - few.low) / (twice.high - twice.low) == pytest.approx(2**0.5, rel=0.12)


def test_ties_narrow_the_interval_and_ties_alone_leave_some_of_it() -> None:
    points, ratio = judged(200, 0.3, 0.5)
    decided = equal_length_win_rate(points, ratio)
    half_tied = equal_length_win_rate(np.where(np.arange(200) % 2 == 0, 0.5, points), ratio)
    alone = equal_length_win_rate(np.full(200, 0.5), ratio)
    widths = [share.high - share.low for share in (decided, half_tied, alone)]
    assert widths[1] == pytest.approx(widths[0] / 2**0.5, rel=0.1) and widths[1] > widths[2] > 0.01


def test_a_contest_has_it_where_lengths_are_given() -> None:
    points, ratio = judged(400, 0, 1.6)
    lengths = np.full(400, 200.0), 200 * np.exp(ratio)
    outcomes = ["win" if p else "loss" for p in points]
    found = contest_of_outcomes(outcomes, before_name="a", after_name="b", by="judge", lengths=lengths)
    assert found.verdict == "better" and found.length_controlled.low < 0.5 < found.length_controlled.high + 0.03
    by_score = contest(np.zeros(400), points * 2 - 1, before_name="a", after_name="b", by="reward", lengths=lengths)
    assert by_score.length_controlled == found.length_controlled
    assert contest_of_outcomes(outcomes, before_name="a", after_name="b", by="judge").length_controlled is None
    zeros = np.zeros(400), np.zeros(400)
    assert contest_of_outcomes(outcomes, before_name="a", after_name="b", by="judge", lengths=zeros).length_controlled is None
