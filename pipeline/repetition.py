"""How much a text repeats itself: over token ids or over characters, never over words split at spaces.

A Chinese loop holds no space, so measures over words call it one word that never repeats
(https://github.com/yxuansu/SimCTG, simctg/evaluation.py splits at spaces). Everything here takes any sequence:
a list of token ids or a string.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from operator import eq

MAX_PERIOD = 64  # a loop longer than this is a repeated paragraph; rep-n still sees it


def ngrams(items: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All n-grams in order; none when there are fewer than `n` items."""
    return list(zip(*(items[i:] for i in range(n)), strict=False))


def repeated_share(items: Sequence[Hashable], n: int) -> float:
    """rep-n between 0 and 1: 1 - unique/total n-grams (https://arxiv.org/abs/2202.06417). 0 without n-grams."""
    found = ngrams(items, n)
    return 1.0 - len(set(found)) / len(found) if found else 0.0


def pooled_repeated_share(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """rep-n over a set: repeats are counted inside each text, then pooled, so long texts weigh more."""
    total = unique = 0
    for items in texts:
        found = ngrams(items, n)
        total += len(found)
        unique += len(set(found))
    return 1.0 - unique / total if total else 0.0


def diversity(items: Sequence[Hashable]) -> float:
    """Product of (1 - rep-n) for n = 2, 3, 4 (https://arxiv.org/abs/2202.06417). 1 is no repetition at all."""
    product = 1.0
    for n in (2, 3, 4):
        product *= 1.0 - repeated_share(items, n)
    return product


def distinct(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """distinct-n: unique/total n-grams over the whole set (https://arxiv.org/abs/1510.03055). 1 without n-grams."""
    found = [gram for items in texts for gram in ngrams(items, n)]
    return len(set(found)) / len(found) if found else 1.0


@dataclass(frozen=True)
class Loop:
    """One stretch of a text that only says the same again. start and length count items; repeats is length/period."""

    start: int
    period: int
    length: int
    share: float  # of the whole text
    at_end: bool

    @property
    def repeats(self) -> float:
        return self.length / self.period


def longest_loop(items: Sequence[Hashable], *, min_repeats: float = 3.0, max_period: int = MAX_PERIOD) -> Loop | None:
    """The longest stretch that repeats one unit of at most `max_period` items at least `min_repeats` times.

    None when there is none. Of equally long ones the shortest unit wins. Cost: len(items) * max_period.
    """
    size = len(items)
    best: Loop | None = None
    for period in range(1, min(max_period, int(size / min_repeats)) + 1):
        same = sum(map(eq, items[period:], items))
        if same < (min_repeats - 1) * period or (best is not None and same + period <= best.length):
            continue  # too few for a run that counts, however they lie
        run = 0
        for i in range(period, size + 1):
            if i < size and items[i] == items[i - period]:
                run += 1
                continue
            length = run + period if run else 0
            if length >= min_repeats * period and (best is None or length > best.length):
                best = Loop(i - length, period, length, length / size, i == size)
            run = 0
    return best
