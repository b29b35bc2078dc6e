"""Several sources of pairs as one, drawn by weight: the same seed gives the same order, and that of
`datasets.interleave_datasets` with these probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.refusal import Refused

STRATEGIES = ("first_exhausted", "all_exhausted", "all_exhausted_without_replacement")
"""Ends with the first source that ends; when each has ended once, those that end sooner beginning anew; when each has
given all its rows once. https://huggingface.co/docs/datasets/package_reference/main_classes"""

MOST_APART = 1_000_000  # times; with weights further apart it may draw for days before the rare source ends
_DRAWN_AT_ONCE = 1000  # as the library draws: another number would give another order


Given = TypeVar("Given")  # a pair, or what is made of one


@dataclass(frozen=True)
class Source(Generic[Given]):
    """open: the pairs from the beginning, at each call. weight: above 0, in comparison with the other sources'."""

    name: str
    open: Callable[[], Iterable[Given]]
    weight: float = 1.0


@dataclass
class Taken:
    """rows: given so far. again: how often the source was begun anew."""

    name: str
    rows: int = 0
    again: int = 0


class Mix(Generic[Given]):
    """Iterate for the pairs of all sources. One pair of each is held. Raises Refused for a weight or strategy that is
    none, and what the sources raise."""

    def __init__(self, sources: Sequence[Source[Given]], *, seed: int = 0, strategy: str = "first_exhausted") -> None:
        if strategy not in STRATEGIES:
            raise Refused("argument_choice", option="--strategy", value=strategy, choices=", ".join(STRATEGIES))
        for one in sources:
            if not math.isfinite(one.weight) or one.weight <= 0:
                raise Refused("weight_wrong", value=f"{one.weight:g}")
        weights = [one.weight for one in sources]
        if sources and max(weights) / min(weights) > MOST_APART:
            raise Refused("weights_apart", most=f"{MOST_APART:,}")
        self.sources, self.seed, self.strategy = tuple(sources), seed, strategy
        self.taken = [Taken(one.name) for one in sources]

    def __iter__(self) -> Iterator[Given]:
        self.taken = [Taken(one.name) for one in self.sources]
        running = [iter(one.open()) for one in self.sources]
        held: list[Given | None] = [None] * len(running)  # the next of each, which tells whether it has ended
        begun, ended = [False] * len(running), [False] * len(running)
        once = self.strategy == "all_exhausted_without_replacement"
        stop = any if self.strategy == "first_exhausted" else all
        for drawn in self._draws():
            if stop(ended):
                return
            if once and ended[drawn]:
                if ended.count(False) == 1:
                    yield from self._rest(ended.index(False), running, held)
                    return
                continue
            if not begun[drawn]:
                if ended[drawn]:
                    running[drawn] = iter(self.sources[drawn].open())
                    self.taken[drawn].again += 1
                held[drawn], begun[drawn] = next(running[drawn], None), True
            given, held[drawn] = held[drawn], next(running[drawn], None)
            if held[drawn] is None:
                ended[drawn], begun[drawn] = True, False
            if given is not None:
                self.taken[drawn].rows += 1
                yield given

    def _draws(self) -> Iterator[int]:
        """Which source gives next, without end."""
        import numpy as np

        if not self.sources:
            return
        total = sum(one.weight for one in self.sources)
        chances = [one.weight / total for one in self.sources]
        generator = np.random.default_rng(self.seed)
        while True:
            yield from generator.choice(len(chances), size=_DRAWN_AT_ONCE, p=chances).tolist()

    def _rest(self, only: int, running: list[Iterator[Given]], held: list[Given | None]) -> Iterator[Given]:
        """All of the one source that has not ended; drawing on would take for ever where its weight is small."""
        if (first := held[only]) is not None:
            self.taken[only].rows += 1
            yield first
        for pair in running[only]:
            self.taken[only].rows += 1
            yield pair
