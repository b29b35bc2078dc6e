"""The distance between two models, estimated from the answers of one of them, against the true one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation.answer_measures import KL, KL_K3, AnswerMeasures, Likelihoods, changes
from pipeline.evaluation.matched_answers import Side
from pipeline.evaluation.results import MeasureChange
from pipeline.pairs.pair import Pair

BEFORE, AFTER = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.4, 0.25, 0.15, 0.2])
TRUE = float((AFTER * np.log(AFTER / BEFORE)).sum())


def _side(row: int, sample: int = 0) -> Side:
    return Side(row, sample, None, "a", "b", (), "", None, None)


def _drawn(
    generator: np.random.Generator, length: int, old: np.ndarray = BEFORE, new: np.ndarray = AFTER
) -> Likelihoods:
    """An answer of so many tokens from the later model."""
    tokens = generator.choice(4, size=length, p=new)
    before, after = np.log(old)[tokens], np.log(new)[tokens]
    k3 = float((np.expm1(before - after) - (before - after)).sum())
    return Likelihoods(-1.0, -1.0, float(before.sum()), float(after.sum()), length, k3)


def _changes(sides: list[Side], held: list[Likelihoods | None]) -> dict[str, MeasureChange]:
    none = [{} for _ in sides]
    return {one.name: one for one in changes(sides, none, none, ("before", "after"), likelihoods=held)}


def test_the_interval_holds_the_true_distance_and_no_answer_is_negative() -> None:
    held = inside = negative = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        answers = [_drawn(generator, int(length)) for length in generator.integers(1, 40, 60)]
        found = _changes([_side(row // 2, row % 2) for row in range(60)], [*answers])[KL_K3]
        assert found.before.mean == 0 and found.difference.n == 30 and found.verdict == "changed"
        assert found.difference.mean == pytest.approx(found.after.mean)
        inside += found.difference.low <= TRUE <= found.difference.high
        negative += sum(one.kl < 0 for one in answers)
        held += all(one.kl_k3 >= 0 for one in answers)
    assert held == 200 and negative > 1000
    assert 180 <= inside <= 198, inside


def test_the_interval_holds_a_distance_that_lies_in_tokens_hardly_ever_drawn() -> None:
    """What the model before mostly says the later one says once in 10,000 tokens: k3 alone is one nat too low."""
    old, new = np.array([0.96, 0.02, 0.01, 0.01]), np.array([0.0001, 0.4, 0.3, 0.2999])
    true, inside = float((new * np.log(new / old)).sum()), 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        answers = [_drawn(generator, int(length), old, new) for length in generator.integers(1, 40, 60)]
        found = _changes([_side(row) for row in range(60)], [*answers])[KL_K3]
        inside += found.difference.low <= true <= found.difference.high
    assert inside >= 90, inside


def test_tokens_count_and_not_answers() -> None:
    held = [Likelihoods(-1, -1, -2, -1, 1, 0.9), Likelihoods(-1, -1, -2, -1, 99, 9.9), None]
    found = _changes([_side(row) for row in range(3)], [*held, ])[KL_K3]
    assert found.after.mean == pytest.approx(10.8 / 100) and found.difference.low == 0 and found.difference.n == 2


def test_the_same_model_is_at_no_distance() -> None:
    found = _changes([_side(row) for row in range(5)], [Likelihoods(-1, -1, -3, -3, 4, 0.0)] * 5)
    assert found[KL_K3].difference.mean == found[KL].difference.mean == 0
    assert found[KL_K3].verdict == "no_difference"


def test_what_has_no_number_is_left_out() -> None:
    lost = Likelihoods(-1, -1, math.nan, math.nan, 0)
    assert math.isnan(lost.kl) and math.isnan(lost.kl_k3)
    assert KL_K3 not in _changes([_side(0)], [lost])


def test_shares_of_a_few_prompts_show_nothing() -> None:
    """Two models that end half of their answers differ in one direction on both of two prompts once in eight times."""
    for n, verdict in ((2, "no_difference"), (4, "no_difference"), (6, "worse"), (200, "worse")):
        both = ([{"ended": True}] * n, [{"ended": False}] * n)
        [found] = changes([_side(row) for row in range(n)], *both, ("before", "after"))
        assert (found.name, found.verdict, found.difference.mean, found.difference.n) == ("ended", verdict, -1, n)
        assert found.difference.low == -1 < found.difference.high
    several = [_side(row // 3, row % 3) for row in range(90)]
    held = [{"loops": False}] * 90, [{"loops": row % 3 == 0} for row in range(90)]
    [found] = changes(several, *held, ("before", "after"))
    assert found.difference.n == 30 and found.difference.mean == pytest.approx(1 / 3) and found.verdict == "worse"


def test_a_right_answer_without_words_leaves_the_language_to_the_question() -> None:
    asked = Pair([{"role": "user", "content": "小明有三个苹果，又买了两个，一共有几个？"}], None, None)

    def same(text: str, *references: str) -> bool | None:
        side = Side(0, 0, asked, text, text, references, "", None, None)
        found: bool | None = AnswerMeasures().of(side, text, None)["same_language"]
        return found

    english, chinese = "He has five apples in all.", "他一共有五个苹果。"
    assert [same(english, "5"), same(chinese, "5"), same("5", "5")] == [False, True, None]
    assert [same(english, "Five apples."), same(english)] == [True, False]
