"""Rows whose prompt and answers are nearly those of another row, by MinHash (rensa) and bands of its signature.

Broder 1997 (https://doi.org/10.1109/SEQUEN.1997.666900) for the signature; bands as in Leskovec, Rajaraman, Ullman,
Mining of Massive Datasets, chapter 3. Two rows are compared where a whole band agrees: at a similarity of 0.6 that
happens in 99 of 100 pairs, at 0.1 in 3 of 1,000.
"""

from __future__ import annotations

import numpy as np

from pipeline.pair_measures.text_block import TextBlock

SLOTS = 64  # of each text
SLOTS_OF_A_BAND = 4
LEAST_NGRAMS = 24  # of both answers together; fewer say yes and no, and equal ones are no duplicates of each other
SHORT = 160  # n-grams of both answers: in shorter ones one other word is another row and no copy
_SEED = 7


class Signatures:
    """MinHash signatures of all rows, block by block: 384 bytes a row."""

    def __init__(self) -> None:
        self._answers: list[np.ndarray] = []
        self._prompts: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []

    def add(self, prompts: TextBlock, chosen: TextBlock, rejected: TextBlock) -> None:
        """The next rows."""
        rows = len(prompts)
        digests, size = [], np.zeros(rows, np.int64)
        for side in (chosen, rejected):
            hashed, at = side.ngrams(4)
            counts = np.bincount(at, minlength=rows)
            size += counts
            digests.append(_digests(hashed, counts))
        self._answers.append(np.concatenate(digests, axis=1))
        self._sizes.append(size)
        hashed, at = prompts.ngrams(4)
        self._prompts.append(_digests(hashed, np.bincount(at, minlength=rows)))

    def groups(self, *, least_answers: float, least_prompts: float, least_short: float) -> np.ndarray:
        """(n,) the first row of the group of near-duplicates a row is in; its own number where there is none.

        least_answers, least_prompts: estimated Jaccard similarity of the 4-grams of either answer, and of prompts.
        least_short: of answers with fewer than SHORT of them together.
        """
        if not self._answers:
            return np.zeros(0, np.int64)
        answers, prompts = np.concatenate(self._answers), np.concatenate(self._prompts)
        sizes = np.concatenate(self._sizes)
        usable = np.flatnonzero(sizes >= LEAST_NGRAMS)
        needed = np.where(sizes < SHORT, max(least_answers, least_short), least_answers)
        first = np.arange(len(answers))
        bands = np.ascontiguousarray(answers).view(np.uint64)
        for band in range(bands.shape[1]):
            keys = bands[usable, band]
            order = np.argsort(keys, kind="stable")
            keys, rows = keys[order], usable[order]
            begins = np.concatenate([[True], keys[1:] != keys[:-1]])
            if begins.all():
                continue
            leaders = rows[np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))]
            # With the first of a bucket and with the neighbour: linear, however many rows one template wrote.
            for others in (leaders, np.concatenate([rows[:1], rows[:-1]])):
                candidates = np.flatnonzero(~begins & (first[rows] != first[others]))
                for part in np.array_split(candidates, max(1, len(candidates) // 4096)):
                    left, right = rows[part], others[part]
                    alike = _agreement(prompts, left, right) >= least_prompts
                    for side in (answers[:, :SLOTS], answers[:, SLOTS:]):
                        alike &= _agreement(side, left, right) >= needed[left]
                    for one, other in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
                        _join(first, one, other)
        for row in range(len(first)):  # roots have the lowest number of their group
            first[row] = first[first[row]]
        return first


def _digests(hashed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(rows, SLOTS) the low 16 bits of each signature."""
    import rensa

    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(np.ascontiguousarray(hashed), offsets, SLOTS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(counts), SLOTS).astype(np.uint16)


def _agreement(signatures: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(m,) estimated Jaccard similarity: the share of equal slots."""
    agreed: np.ndarray = (signatures[left] == signatures[right]).mean(axis=1)
    return agreed


def _root(first: np.ndarray, row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = int(first[row])
    return row


def _join(first: np.ndarray, one: int, other: int) -> None:
    left, right = _root(first, one), _root(first, other)
    first[max(left, right)] = min(left, right)
