"""A few hundred texts as one array of characters, so that their n-grams are counted by numpy and not one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_CHARS = 20_000  # of one text; the measures here don't change any more behind it
LONG_PIECE = 10  # characters of a piece that says something by itself: two words, half a sentence of Chinese
_BETWEEN = "\0"
_ROW = np.uint64(48)  # a key is the row in the high bits and 48 bits of the n-gram's hash
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
SPREAD = np.uint64(0xBF58476D1CE4E5B9)


class TextBlock:
    """(n,) texts of at most MAX_CHARS each. Rows are numbered from 0; at most 65,536 of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        cut = [text if len(text) <= MAX_CHARS else text[:MAX_CHARS] for text in texts]
        joined = _BETWEEN.join(cut) + _BETWEEN
        self.characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self._wide = self.characters.astype(np.uint64)
        self.lengths = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
        self.starts = np.concatenate([[0], np.cumsum(self.lengths + 1)[:-1]]).astype(np.int64)
        self._rows = np.repeat(np.arange(len(cut)), self.lengths + 1)
        ends = np.repeat(self.starts + self.lengths, self.lengths + 1)
        self._left = ends - np.arange(len(self.characters))  # characters from here to the end of the text
        self._found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._keys: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def ngrams(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(m,) hashes (uint64) of all n-grams in order, and (m,) the row of each. Texts shorter than n have none."""
        hashed, rows, _ = self._ngrams(n)
        return hashed, rows

    def _ngrams(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if n not in self._found:
            size = max(0, len(self.characters) - n + 1)
            hashed = self._wide[:size].copy()
            for k in range(1, n):  # over whole slices: picking those within a text first costs more
                hashed *= _FACTOR
                hashed += self._wide[k : k + size]
            at = np.flatnonzero(self._left[:size] >= n)
            hashed = hashed[at]
            hashed ^= hashed >> np.uint64(32)
            hashed *= SPREAD  # what differs in few low bits differs in the high ones, which keys and bins are made of
            self._found[n] = hashed, self._rows[at], at
        return self._found[n]

    def keys(self, n: int) -> np.ndarray:
        """(m,) sorted distinct (row, n-gram) keys (uint64)."""
        if n not in self._keys:
            hashed, rows, _ = self._ngrams(n)
            self._keys[n] = distinct(keyed(hashed, rows))
        return self._keys[n]

    def keys_of(self, kind: np.ndarray) -> np.ndarray:
        """(m,) sorted distinct keys of single characters of a kind. kind: (characters,)."""
        at = np.flatnonzero(kind & (self._left > 0))
        return distinct(keyed(self._wide[at] * SPREAD, self._rows[at]))

    def keys_within(self, n: int, kind: np.ndarray) -> np.ndarray:
        """(m,) keys of the n-grams all of whose characters are of a kind, with repetitions. kind: (characters,)."""
        hashed, rows, at = self._ngrams(n)
        alike = kind[at]
        for k in range(1, n):
            alike &= kind[at + k]
        return keyed(hashed[alike], rows[alike])

    @property
    def fours(self) -> np.ndarray:
        """Keys of the 4-grams: long enough to tell texts apart, short enough to survive an edit nearby."""
        return self.keys(4)

    def repeated(self, n: int = LONG_PIECE) -> np.ndarray:
        """(n,) rep-n over characters: 1 - distinct/all n-grams (https://arxiv.org/abs/2202.06417); 0 without any.

        n: 10 characters seldom come again by chance, however long a text is; 4 do.
        """
        total = np.maximum(self.lengths - n + 1, 0)
        found = per_row(self.keys(n), len(self))
        return np.where(total > 0, 1 - found / np.maximum(total, 1), 0.0).astype(np.float32)

    def count(self, wanted: np.ndarray) -> np.ndarray:
        """(n,) how many characters of each text are in `wanted`, a boolean table over code points."""
        hit = wanted[np.minimum(self.characters, len(wanted) - 1)]
        return np.add.reduceat(hit.astype(np.int32), self.starts) if len(self) else np.zeros(0, np.int32)


def keyed(hashed: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(m,) keys of n-grams in rows: those of one row stand together when sorted."""
    found: np.ndarray = (rows.astype(np.uint64) << _ROW) | (hashed >> np.uint64(16))
    return found


def distinct(keys: np.ndarray) -> np.ndarray:
    """Sorted, each once. Faster than np.unique, which hashes."""
    return distinct_sorted(np.sort(keys))


def distinct_sorted(keys: np.ndarray) -> np.ndarray:
    """Of sorted keys, each once."""
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def per_row(keys: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) how many keys each row has."""
    return np.bincount((keys >> _ROW).astype(np.int64), minlength=rows)


def shared(left: np.ndarray, right: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) how many keys both sides have in common; each side sorted and distinct."""
    both = np.sort(np.concatenate([left, right]))
    return per_row(both[:-1][both[1:] == both[:-1]], rows)


def jaccard(left: np.ndarray, right: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) shared/all keys of both sides; NaN where neither has one."""
    common = shared(left, right, rows)
    together = per_row(left, rows) + per_row(right, rows) - common
    return np.where(together > 0, common / np.maximum(together, 1), np.nan).astype(np.float32)
