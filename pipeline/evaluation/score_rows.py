"""Rewards of all answers of a data set, in windows of rows: tokenised together, sorted by length, scored in batches.

While one window is scored the next one is read and tokenised in a thread. Of all rows only numbers stay in memory.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.candidates.reward_reader import RewardPiece
from pipeline.candidates.reward_scorer import RewardScorer
from pipeline.evaluation.answers_of_rows import RowAnswers
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.pair import Pair, Side

WINDOW_ANSWERS = 4096
WINDOW_CHARACTERS = 4_000_000
REMEMBERED = 100_000  # answers whose scores are kept twice over, for rows that hold the same ones; some 30 MB
FIRST_WINDOW = 256  # answers: the first scores show soon that something works, or doesn't

_Key = bytes


@dataclass
class ScoredRow:
    """scores: of `answers.sides`, in that order, NaN where there is none; problems: why, empty where there is one."""

    answers: RowAnswers
    scores: list[float]
    problems: list[str]


@dataclass
class _Window:
    rows: list[RowAnswers]
    keys: list[list[_Key]] = field(default_factory=list)
    pieces: dict[_Key, RewardPiece] = field(default_factory=dict)
    """Of answers that no window before it holds."""


class WindowScorer:
    """Scores rows with one model. answers: how many got a score or a reason for none; forwards: of them read by the
    model itself, as equal ones are read once."""

    def __init__(self, scorer: RewardScorer, cancel: threading.Event) -> None:
        self._scorer, self._cancel = scorer, cancel
        # None: to be scored in a window that is prepared. Two generations, and what a window needs is in the younger
        # one: it is still there when that window's turn comes.
        self._known: dict[_Key, tuple[float, str] | None] = {}
        self._before: dict[_Key, tuple[float, str] | None] = {}
        self.answers = 0
        self.forwards = 0

    def rows(
        self, rows: Iterable[RowAnswers], progress: Callable[[int], None] = lambda rows: None
    ) -> Iterator[ScoredRow]:
        """Every row in its order, those without answers too. progress: told how many rows are done. Ends early once
        `cancel` is set: with the rows of the window whose answers all have scores by then. Raises NotScored, and what
        `rows` raises."""
        source = iter(rows)
        done = 0
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as ahead:
            coming = ahead.submit(self._prepared, source, FIRST_WINDOW)
            while True:
                window = coming.result()
                if not window.rows:
                    return
                coming = ahead.submit(self._prepared, source, WINDOW_ANSWERS)
                try:
                    stopped = False
                    for share in self._score(window):
                        progress(done + int(share * len(window.rows)))
                        if stopped := self._cancel.is_set():
                            break
                    for row, keys in zip(window.rows, window.keys, strict=True):
                        found = [self._found(key) for key in keys]
                        scored = [one for one in found if one is not None]
                        if len(scored) < len(found):
                            assert stopped
                            continue
                        self.answers += len(found)
                        yield ScoredRow(row, [score for score, _ in scored], [problem for _, problem in scored])
                    done += len(window.rows)
                    progress(done)
                    if stopped:
                        return
                finally:
                    if self._cancel.is_set():
                        coming.cancel()

    def _prepared(self, source: Iterator[RowAnswers], most: int) -> _Window:
        """The next rows with what the model reads of them. In the thread."""
        window = _Window([])
        answers = characters = 0
        new: dict[_Key, tuple[Pair, Side]] = {}
        if len(self._known) > REMEMBERED:
            self._before, self._known = self._known, {}
        while answers < most and characters < WINDOW_CHARACTERS and not self._cancel.is_set():
            row = next(source, None)
            if row is None:
                break
            keys = []
            if row.pair is not None:
                prompt = written_prompt(row.pair)
                asked = hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=16)
                for side in row.sides:
                    text = side if isinstance(side, str) else json_text(side)
                    digest = asked.copy()
                    digest.update(text.encode("utf-8", "surrogatepass"))
                    keys.append(key := digest.digest())
                    characters += len(prompt) + len(text)
                    if key in self._known:
                        continue
                    self._known[key] = self._before.get(key)
                    if key not in self._before:
                        new[key] = row.pair, side
            answers += max(1, len(keys))
            window.rows.append(row)
            window.keys.append(keys)
        window.pieces = dict(zip(new, self._scorer.pieces(list(new.values())), strict=True)) if new else {}
        return window

    def _score(self, window: _Window) -> Iterator[float]:
        """Scores of the window's new answers into what is known; the share of them that is done, after each batch."""
        by_piece: dict[RewardPiece, list[_Key]] = {}
        done = 0
        for key, piece in window.pieces.items():
            if piece.problem is not None:
                self._put(key, math.nan, piece.problem)
                done += 1
            else:
                by_piece.setdefault(piece, []).append(key)
        for batch, scores in self._scorer.score_batches(by_piece):
            for piece, score in zip(batch, scores, strict=True):
                reward, problem = round(score, 6), ""
                if not math.isfinite(score):
                    reward, problem = math.nan, self._scorer.why_none(piece, score)
                for key in by_piece[piece]:
                    self._put(key, reward, problem)
                    done += 1
            self.forwards += len(batch)
            yield done / len(window.pieces)

    def _put(self, key: _Key, score: float, problem: str) -> None:
        place = self._known if key in self._known else self._before
        place[key] = score, problem

    def _found(self, key: _Key) -> tuple[float, str] | None:
        found = self._known.get(key)
        return found if found is not None else self._before.get(key)


def written_prompt(pair: Pair) -> str:
    """The prompt as one text that tells it from every other."""
    if len(pair.prompt) == 1 and not pair.system and isinstance(text := pair.prompt[0].get("content"), str):
        return f"{pair.prompt[0].get('role')}\0{text}\0"
    return json_text([pair.system, pair.prompt])
