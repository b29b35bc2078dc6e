"""Which short piece of text tells the two sides apart best: a word, an ending, a mark that one side has and the other
lacks.

Counted is in how many answers of each side an n-gram of 2 or 4 characters or a single mark stands, under a hash, so
that memory doesn't grow with the text. For what is there or not, the area under the ROC curve of a pair is exactly
0.5 + (share of chosen - share of rejected) / 2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.pair_measures.text_block import LONG_PIECE, SPREAD, TextBlock, distinct_sorted

_BINS = 1 << 16
_SIZES = (1, 2, 4)
_CANDIDATES = 40  # best n-grams of each size that are looked for in the sample
STOCK = 0.04  # share of chosen answers that hold a piece from which it is a stock phrase
_LEAST_ROWS = 2
MAX_PIECE = 60  # characters of a piece that is shown


_LETTERS = np.array([chr(code).isalnum() or chr(code).isspace() for code in range(0x80)])


@dataclass(frozen=True)
class Piece:
    """text: as it stands in the answers. chosen, rejected: share of the answers of that side that hold it."""

    text: str
    chosen: float
    rejected: float

    @property
    def auc(self) -> float:
        """Between 0.5 and 1: how well its presence alone tells the sides apart."""
        return 0.5 + abs(self.chosen - self.rejected) / 2


class SharedWords:
    """Counts of all rows, block by block: 3 MB."""

    def __init__(self) -> None:
        self._counts = {n: (np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)) for n in _SIZES}
        self._answers = [0, 0]

    def add(self, chosen: TextBlock, rejected: TextBlock, there: tuple[np.ndarray, np.ndarray]) -> None:
        """The next rows. there: by side, (n,) whether a row's answer counts."""
        self._answers = [of + int(here.sum()) for of, here in zip(self._answers, there, strict=True)]
        for n, counts in self._counts.items():
            for side, count, here in zip((chosen, rejected), counts, there, strict=True):
                keys = side.keys(n) if n > 1 else side.keys_of(_sign(side.characters))
                if not here.all():
                    keys = keys[here[(keys >> np.uint64(48)).astype(np.int64)]]
                bins = distinct_sorted(keys >> np.uint64(32)) & np.uint64(_BINS - 1)
                count += np.bincount(bins.astype(np.int64), minlength=_BINS)

    def best(self, chosen: Sequence[str], rejected: Sequence[str]) -> Piece | None:
        """The piece that tells the sides apart best, named from a sample of both; None where none does at all."""
        found: Piece | None = None
        for n in reversed(_SIZES):  # of pieces that tell as much the longest
            wanted, unwanted = self._counts[n]
            gap = wanted / max(1, self._answers[0]) - unwanted / max(1, self._answers[1])
            for bin in np.argpartition(np.abs(gap), -_CANDIDATES)[-_CANDIDATES:]:
                if not gap[bin]:
                    continue
                shares = wanted[bin] / max(1, self._answers[0]), unwanted[bin] / max(1, self._answers[1])
                if found is not None and 0.5 + abs(shares[0] - shares[1]) / 2 <= found.auc + 0.01:
                    continue
                texts = chosen if gap[bin] > 0 else rejected
                if piece := _named(int(bin), n, texts):
                    found = Piece(piece, *map(float, shares))
        return found


class StockPhrases:
    """How much of an answer is phrases that many chosen answers hold, block by block: refusals, greetings, forms.

    In pieces of LONG_PIECE characters; half a megabyte.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._answers = 0

    def add(self, chosen: TextBlock, rejected: TextBlock) -> tuple[np.ndarray, np.ndarray]:
        """(n,) share of the pieces of chosen and of rejected that at least STOCK of the chosen answers so far hold."""
        keys = [distinct_sorted(side.keys(LONG_PIECE) >> np.uint64(32)) for side in (chosen, rejected)]
        bins = [(key & np.uint64(_BINS - 1)).astype(np.int64) for key in keys]
        self._counts += np.bincount(bins[0], minlength=_BINS)
        self._answers += len(chosen)
        often = self._counts >= max(_LEAST_ROWS, STOCK * self._answers)
        shares = []
        for key, found in zip(keys, bins, strict=True):
            rows = (key >> np.uint64(16)).astype(np.int64)
            pieces, stock = (np.bincount(at, minlength=len(chosen)) for at in (rows, rows[often[found]]))
            shares.append((stock / np.maximum(pieces, 1)).astype(np.float32))
        return shares[0], shares[1]


def _sign(characters: np.ndarray) -> np.ndarray:
    """Which characters are marks and pictures rather than letters: of letters, one alone tells nothing."""
    ascii_mark = (characters < 0x80) & ~_LETTERS[np.minimum(characters, 0x7F)]
    general = (characters >= 0x2000) & (characters < 0x2E80)
    wide = ((characters >= 0x3000) & (characters < 0x3020)) | ((characters >= 0xFF00) & (characters < 0xFFEF))
    marks: np.ndarray = ascii_mark | general | wide | ((characters >= 0x1F000) & (characters < 0x20000))
    return marks


def _named(bin: int, n: int, texts: Sequence[str]) -> str:
    """The n-gram of this bin, lengthened as far as most texts that hold it go on alike."""
    holders = []
    for text in texts:
        block = TextBlock([text])
        hashed = block.ngrams(n)[0] if n > 1 else block.characters[:-1].astype(np.uint64) * SPREAD
        places = np.flatnonzero((hashed >> np.uint64(48)) == bin)
        if len(places):
            holders.append((text, int(places[0])))
    if not holders:
        return ""
    behind = _agreed([text[at : at + MAX_PIECE] for text, at in holders])
    before = _agreed([text[max(0, at - MAX_PIECE) : at][::-1] for text, at in holders])[::-1]
    return (before + behind)[-MAX_PIECE:] or holders[0][0][holders[0][1] : holders[0][1] + n]


def _agreed(texts: Sequence[str]) -> str:
    """The longest beginning that nine in ten of the texts share."""
    ranked = sorted(texts)
    width = max(1, int(0.9 * len(ranked)))
    shared = (os.path.commonprefix([ranked[i], ranked[i + width - 1]]) for i in range(len(ranked) - width + 1))
    return max(shared, key=len)
