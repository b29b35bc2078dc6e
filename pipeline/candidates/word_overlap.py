"""By how much an answer's words are its own row's rather than other rows': rarity-weighted cosines, of many answers at
once.

The terms of other rows are taken apart once and kept as numbers, as the same rows serve thousands of others.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reference_rows import terms
from pipeline.pairs.pair import text_of

_MOST_ROWS = 4_096  # kept
_MOST_TERMS = 4_000_000  # of all rows kept, 6 bytes each
_MOST_WORDS = 500_000  # different ones of all rows kept, about 150 bytes each
_PLACES = 4
_PROMPT = 4_000  # last characters of a prompt; of answers the first ones


def about(prompt: str, answer: str) -> Counter[str]:
    """Terms of a prompt and its answer."""
    return terms(prompt[-_PROMPT:]) + terms(answer)


@dataclass(frozen=True)
class Overlap:
    """own: cosine with the row. gain: by how much that is more than the mean with other rows, None without any. units:
    of the smaller of the two texts."""

    own: float
    gain: float | None
    units: int


@dataclass(frozen=True)
class _Kept:
    """row: tells whether it is still the one whose `id` that was. prompt: its hash. numbers: of its terms, with how
    often each stands there."""

    row: weakref.ref[SourceRow]
    prompt: int
    script: str | None
    numbers: np.ndarray[Any, np.dtype[np.int32]]
    counts: np.ndarray[Any, np.dtype[np.uint16]]


class WordOverlap:
    """Keeps what it has seen of other rows, within bounds. For several threads. script_of: the writing system of a row.
    """

    def __init__(self, script_of: Callable[[SourceRow], str | None]) -> None:
        self._lock = threading.Lock()
        self._script_of = script_of
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[int, _Kept] = {}
        self._numbers: dict[str, int] = {}
        self._terms = 0
        # By term, all zero between two calls: other rows that hold it, and the sum of their unit vectors. The last
        # place stands for every term that no row kept holds.
        self._held = np.zeros(1024, np.int32)
        self._summed = np.zeros(1024)

    def measure(
        self, row: SourceRow, chosen: str | None, script: str | None, others: Sequence[SourceRow], least: int,
        texts: Sequence[str],
    ) -> list[Overlap]:  # fmt: skip
        """Of each text with `row`. Other rows with the same prompt or in another script than `script` don't count, and
        none where fewer than `least` do."""
        asked = text_of(row.pair.prompt)
        own = about(asked, chosen or "")
        bags = [terms(text) for text in texts]
        with self._lock:
            if len(self._rows) > _MOST_ROWS or self._terms > _MOST_TERMS or len(self._numbers) > _MOST_WORDS:
                self._forget()
            near = [
                kept for other in others
                if other.index != row.index and (kept := self._keep(other)).script == script
                and (kept.prompt != hash(asked) or text_of(other.pair.prompt) != asked)
            ]  # fmt: skip
            return self._measured(own, near if len(near) >= least else [], bags)

    def _keep(self, row: SourceRow) -> _Kept:
        kept = self._rows.get(id(row))
        if kept is not None and kept.row() is row:
            return kept
        prompt = text_of(row.pair.prompt)
        bag = about(prompt, row.gold or "")
        numbers = self._numbers
        found = np.fromiter((numbers.setdefault(term, len(numbers)) for term in bag), np.int32, len(bag))
        counts = np.fromiter(bag.values(), np.uint16, len(bag))
        kept = self._rows[id(row)] = _Kept(weakref.ref(row), hash(prompt), self._script_of(row), found, counts)
        self._terms += len(bag)
        if len(numbers) >= len(self._held):
            self._held = np.zeros(2 * len(numbers), np.int32)
            self._summed = np.zeros(2 * len(numbers))
        return kept

    def _measured(self, own: Counter[str], others: Sequence[_Kept], bags: Sequence[Counter[str]]) -> list[Overlap]:
        held, summed, numbers = self._held, self._summed, self._numbers
        unknown = len(held) - 1
        mine = np.fromiter(map(numbers.get, own, repeat(unknown)), np.int32, len(own))
        known = mine[mine != unknown]
        for other in others:
            held[other.numbers] += 1
        held[known] += 1
        try:
            total = 1 + len(others)
            # A term that none of these rows holds weighs as much as the rarest.
            fewest = [int(held[one].min()) for one in (known, *(other.numbers for other in others)) if len(one)]
            least = 1 if len(known) < len(mine) else min(fewest, default=0)
            weight = np.log1p(total / np.maximum(np.arange(total + 1), max(1, least)))
            weight[1:] = np.log1p(total / np.arange(1, total + 1))
            if not least:
                weight[0] = 1.0
            for other in others:
                heavy = weight[held[other.numbers]]
                vector = other.counts * heavy
                norm = float(np.sqrt(vector @ vector))
                if norm:
                    summed[other.numbers] += vector * heavy / norm
            heavy = np.fromiter(own.values(), np.float64, len(own)) * weight[held[mine]]
            own_norm = float(np.sqrt(heavy @ heavy))
            found = []
            for bag in bags:
                at = np.fromiter(map(numbers.get, bag, repeat(unknown)), np.int32, len(bag))
                count = np.fromiter(bag.values(), np.float64, len(bag))
                heavy = weight[held[at]]
                vector = count * heavy
                norm = float(np.sqrt(vector @ vector))
                shared = vector @ (heavy * np.fromiter(map(own.get, bag, repeat(0)), np.float64, len(bag)))
                cosine = float(shared) / (norm * own_norm) if norm and own_norm else 0.0
                gain = None
                if others:
                    gain = cosine - (float(count @ summed[at]) / norm / len(others) if norm else 0.0)
                units = min(bag.total(), own.total())
                found.append(Overlap(round(cosine, _PLACES), None if gain is None else round(gain, _PLACES), units))
            return found
        finally:
            held[known] = 0
            for other in others:
                held[other.numbers] = 0
                summed[other.numbers] = 0
