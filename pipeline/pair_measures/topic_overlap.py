"""Whether an answer fits its own prompt better than other rows' prompts, by the characters they share.

An answer off topic shares no more with its own prompt and the better answer than with any other row's; one that is on
topic nearly always shares more. What is compared is how answers weigh their n-grams by rarity (4 letters, or 2
characters of scripts without spaces), so that what every text holds counts for little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.pair_measures.text_block import TextBlock

_BINS = 4096
_OTHERS = 32  # rows of this block, and as many of earlier ones, that every answer is held against
LEAST_OTHERS = 8
LEAST_NGRAMS = 10  # of a text; shorter ones share something with nobody or everybody
_WIDE = 0x2E80  # code points from here on belong to scripts without spaces
_ROW = np.uint64(48)


@dataclass(frozen=True)
class Fits:
    """(n,) shares of other rows that an answer fits worse than its own; NaN where not measured.

    rejected: to prompt and chosen answer together. chosen_to_prompt, rejected_to_prompt: to the prompt alone.
    """

    rejected: np.ndarray
    chosen_to_prompt: np.ndarray
    rejected_to_prompt: np.ndarray


class TopicOverlap:
    """Fits of all rows, block by block."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._documents = 0
        self._frequency = np.zeros(_BINS, np.float32)
        self._room: list[np.ndarray] = []  # used again for every block: fresh memory would cost more than the work
        self._earlier: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(
        self, prompts: TextBlock, chosen: TextBlock, rejected: TextBlock, ids: np.ndarray
    ) -> Fits:
        """The next rows.

        ids: equal for rows with the same prompt.
        """
        rows = len(prompts)
        asked, better, worse = (self._presence(n, block) for n, block in enumerate((prompts, chosen, rejected)))
        either = np.maximum(asked, better)
        self._frequency += either.sum(axis=0)
        self._documents += rows
        # Squared, as a cosine of weighted presences takes it; what is there counts once.
        weight = np.log1p(self._documents / (1 + self._frequency)) ** 2
        wide = _mostly_wide(chosen)
        picked = np.sort(self._rng.permutation(rows)[:_OTHERS])
        fresh = (_unit(either[picked], weight), _unit(asked[picked], weight), ids[picked], wide[picked])
        references, questions, other_ids, other_wide = (
            fresh
            if self._earlier is None
            else (np.concatenate([old, new]) for old, new in zip(self._earlier, fresh, strict=True))
        )
        self._remember(fresh)
        comparable = (other_ids[None, :] != ids[:, None]) & (other_wide[None, :] == wide[:, None])
        rejected_fit = _rank(worse, either, references, weight, comparable)
        chosen_fit = _rank(better, asked, questions, weight, comparable)
        worse_fit = _rank(worse, asked, questions, weight, comparable)
        few = [matrix.sum(axis=1) < LEAST_NGRAMS for matrix in (asked, better, worse, either)]
        # In another script than the better answer it shares nothing with any row, which says nothing of its topic.
        rejected_fit[few[2] | few[3] | (_mostly_wide(rejected) != wide)] = np.nan
        chosen_fit[few[0] | few[1]] = np.nan
        worse_fit[few[0] | few[2]] = np.nan
        return Fits(rejected_fit, chosen_fit, worse_fit)

    def _presence(self, place: int, block: TextBlock) -> np.ndarray:
        """(n, _BINS) 1 where a text holds an n-gram of this hash: 2-grams of wide characters, 4-grams of others."""
        if len(self._room) <= place or len(self._room[place]) < len(block):
            self._room[place:] = [np.zeros((len(block), _BINS), np.float32)]
        matrix = self._room[place][: len(block)]
        matrix.fill(0)
        wide = block.characters >= _WIDE
        for n, kind in ((2, wide), (4, ~wide)):
            if kind.any():
                keys = block.keys_within(n, kind)
                matrix[(keys >> _ROW).astype(np.int64), (keys & np.uint64(_BINS - 1)).astype(np.int64)] = 1
        return matrix

    def _remember(self, fresh: tuple[np.ndarray, ...]) -> None:
        """Half of what was remembered gives way to rows of this block, once there are enough: blocks of long texts have
        few rows."""
        if self._earlier is None:
            self._earlier = tuple(part.copy() for part in fresh)  # type: ignore[assignment]
            return
        if (lacking := _OTHERS - len(self._earlier[0])) > 0:
            grown = (np.concatenate([old, new[:lacking]]) for old, new in zip(self._earlier, fresh, strict=True))
            self._earlier = tuple(grown)  # type: ignore[assignment]
            return
        places = self._rng.permutation(len(self._earlier[0]))[: min(_OTHERS // 2, len(fresh[0]))]
        for old, new in zip(self._earlier, fresh, strict=True):
            old[places] = new[: len(places)]


def _unit(present: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows weighted, and scaled so that a product with presences is their cosine but for the other side's length."""
    scaled: np.ndarray = present * weight / np.sqrt(np.maximum(present @ weight, 1e-9))[:, None]
    return scaled


def _mostly_wide(answers: TextBlock) -> np.ndarray:
    """(n,) whether a text is written without spaces; half as many such characters say as much as letters."""
    table = np.zeros(0x20001, bool)
    table[_WIDE:] = True
    return answers.count(table) * 3 > answers.lengths


def _rank(
    answers: np.ndarray, own: np.ndarray, others: np.ndarray, weight: np.ndarray, comparable: np.ndarray
) -> np.ndarray:
    """(n,) share of the others that an answer is less close to than to its own; equal ones count half."""
    mine = (answers * own) @ weight / np.sqrt(np.maximum(own @ weight, 1e-9))
    theirs = answers @ others.T
    margin = mine[:, None] - theirs
    tied = np.abs(margin) < 1e-4
    count = comparable.sum(axis=1)
    better = ((margin > 0) & ~tied & comparable).sum(axis=1) + 0.5 * (tied & comparable).sum(axis=1)
    return np.where(count >= LEAST_OTHERS, better / np.maximum(count, 1), np.nan).astype(np.float32)
