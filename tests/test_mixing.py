"""Sources mixed by weight: the same order for the same seed, that of the library, and an account of what was taken."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest

from pipeline.pairs.mix_pairs import STRATEGIES, Mix, Source, Taken
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused


def source(name: str, rows: int, weight: float = 1.0) -> Source:
    return Source(name, lambda: (Pair([], f"{name}{n}", None) for n in range(rows)), weight)


def order(mixed: Mix) -> list[object]:
    return [pair.chosen for pair in mixed]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rows", [(3, 5, 9), (1, 1, 40), (700, 90, 1200)])
def test_order_is_that_of_datasets(strategy: str, rows: tuple[int, int, int]) -> None:
    from datasets import IterableDataset, interleave_datasets

    def generated(name: str, rows: int) -> Iterator[dict[str, str]]:
        yield from ({"text": f"{name}{n}"} for n in range(rows))

    weights = (0.5, 0.3, 0.2)
    theirs = [
        IterableDataset.from_generator(generated, gen_kwargs={"name": name, "rows": count})
        for name, count in zip("abc", rows, strict=True)
    ]
    for seed in (0, 42):
        expected = interleave_datasets(theirs, probabilities=list(weights), seed=seed, stopping_strategy=strategy)
        mixed = Mix([source(*one) for one in zip("abc", rows, weights, strict=True)], seed=seed, strategy=strategy)
        assert order(mixed) == [row["text"] for row in expected]


def test_weights_count_in_comparison() -> None:
    mixed = Mix([source("a", 10**6, 30), source("b", 10**6, 10)], seed=1)
    first = [pair.chosen for pair, _ in zip(mixed, range(4000), strict=False)]
    counts = Counter(str(one)[0] for one in first)
    assert abs(counts["a"] - 3000) < 4 * math.sqrt(4000 * 0.75 * 0.25)
    assert first == [pair.chosen for pair, _ in zip(mixed, range(4000), strict=False)]
    other = Mix(mixed.sources, seed=2)
    assert first != [pair.chosen for pair, _ in zip(other, range(4000), strict=False)]


def test_what_was_taken_is_counted() -> None:
    sources = [source("long", 100), source("short", 7)]
    first = Mix(sources, seed=3)
    got = Counter(str(one)[:4] for one in order(first))
    assert [one.rows for one in first.taken] == [got["long"], got["shor"]] and got["shor"] == 7
    every = Mix(sources, seed=3, strategy="all_exhausted")
    got = Counter(map(str, order(every)))
    assert {f"long{n}" for n in range(100)} <= got.keys() and got["short0"] > 10
    assert every.taken[0] == Taken("long", 100, 0) and every.taken[1].again == got["short0"] - 1
    once = Mix(sources, seed=3, strategy="all_exhausted_without_replacement")
    assert set(Counter(order(once)).values()) == {1} and [one.rows for one in once.taken] == [100, 7]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_empty_source_ends(strategy: str) -> None:
    mixed = Mix([source("a", 5), source("none", 0)], strategy=strategy)
    assert len(order(mixed)) <= 5 if strategy != "all_exhausted" else len(order(mixed)) >= 5
    assert mixed.taken[1].rows == 0
    assert order(Mix([source("none", 0)], strategy=strategy)) == order(Mix([], strategy=strategy)) == []


def test_a_rare_source_does_not_spin() -> None:
    mixed = Mix(
        [source("a", 5, 1e6), source("b", 3000)], strategy="all_exhausted_without_replacement"
    )
    assert [one.rows for one in mixed.taken] == [0, 0] and len(order(mixed)) == 3005


def test_sources_are_streamed() -> None:
    def rows() -> Iterator[Pair]:
        for n in range(3000):
            yield Pair([], "x" * 10_000 + str(n), None)

    mixed = Mix([Source("a", rows), Source("b", rows)], seed=1)
    tracemalloc.start()
    assert sum(1 for _ in mixed) > 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # of 30 MB


def test_a_source_that_fails_is_no_end_of_it() -> None:
    def broken() -> Iterator[Pair]:
        yield Pair([], "a", None)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        order(Mix([Source("a", broken), source("b", 100)]))


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
def test_weights_that_are_none(weight: float) -> None:
    with pytest.raises(Refused, match="a number above 0"):
        Mix([source("a", 1, weight)])


def test_weights_too_far_apart_and_unknown_strategies() -> None:
    with pytest.raises(Refused, match="times the smallest"):
        Mix([source("a", 1, 1e7), source("b", 1)])
    with pytest.raises(Refused) as refused:
        Mix([source("a", 1)], strategy="never")
    assert "first_exhausted" in str(refused.value)
