"""What is kept of the scored rows of one set: numbers alone, some 70 bytes a pair."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.categories import Categories
from pipeline.evaluation.score_rows import ScoredRow
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.pair import Pair, Side, content_text, text_of

NAMED = 20  # lines named for each reason

_Side = tuple[float, int, int, int, Mapping[str, Any]]  # reward, characters, row, line, what may be its category


class ScoredNumbers:
    """Told of every scored row of one set, in order.

    Of pairs with both scores: chosen, rejected (rewards), chosen_chars, rejected_chars, row and rejected_row (places
    among the rows of the file, the same unless each row is one side), line, asked (64 bits of the prompt). answers:
    rewards of answers that are no side of a pair, answer_chars: their lengths. unscored: answers by reason,
    unscored_rows: the rows they are of; lines: where the first of them stand. rows: all that were read; scored: those
    with an answer, all of whose answers have a score. prompts: 64 bits of each row's prompt. categories: of the pairs,
    a side's where each row is one.
    """

    def __init__(self, category: str | None = None) -> None:
        self.chosen, self.rejected = array("d"), array("d")
        self.chosen_chars, self.rejected_chars = array("q"), array("q")
        self.row, self.rejected_row, self.line = array("q"), array("q"), array("q")
        self.asked = array("Q")
        self.answers, self.answer_chars = array("d"), array("q")
        self.prompts, self.prompt_lines = array("Q"), array("q")
        self.unscored: Counter[str] = Counter()
        self.unscored_rows: Counter[str] = Counter()
        self.lines: dict[str, list[int]] = {}
        self.rows = self.scored = 0
        self.categories = Categories(category)
        # By prompt the sides that wait for one of the other kind: whether they are better ones, and their numbers.
        self._waiting: dict[int, tuple[bool, deque[_Side]]] = {}

    def add(self, row: ScoredRow) -> None:
        answers = row.answers
        self.rows += 1
        if answers.pair is None:
            return
        for problem in dict.fromkeys(filter(None, row.problems)):
            self.unscored[problem] += row.problems.count(problem)
            self.unscored_rows[problem] += 1
            if len(lines := self.lines.setdefault(problem, [])) < NAMED:
                lines.append(answers.line)
        whole = all(math.isfinite(score) for score in row.scores)
        self.scored += whole
        prompt = prompt_digest(answers.pair)
        self.prompts.append(prompt)
        self.prompt_lines.append(answers.line)
        index, line = answers.index, answers.line
        if answers.paired:
            if whole:
                chosen, rejected = row.scores
                sides = length(answers.pair.chosen), length(answers.pair.rejected)
                extra = answers.pair.extra
                self._pair(prompt, (chosen, sides[0], index, line, extra), (rejected, sides[1], index, line, extra))
            return
        if answers.wanted is not None and answers.one is not None and whole:
            kind = self.categories.named(answers.pair.extra)
            self._side(answers.wanted, prompt, (row.scores[0], length(answers.one), index, line, kind))
        for side, score in zip(answers.sides, row.scores, strict=True):
            if math.isfinite(score):
                self.answers.append(score)
                self.answer_chars.append(length(side))

    def _side(self, better: bool, prompt: int, side: _Side) -> None:
        """The first better answer to a prompt with its first worse one, and so on."""
        waits, sides = self._waiting.setdefault(prompt, (better, deque()))
        if waits == better:
            sides.append(side)
            return
        other = sides.popleft()
        if not sides:
            del self._waiting[prompt]
        self._pair(prompt, *((side, other) if better else (other, side)))

    @property
    def alone(self) -> int:
        """Sides of which there is no other under the same prompt."""
        return sum(len(sides) for _, sides in self._waiting.values())

    def _pair(self, prompt: int, chosen: _Side, rejected: _Side) -> None:
        self.asked.append(prompt)
        self.categories.add({**rejected[4], **chosen[4]} if chosen[4] is not rejected[4] else chosen[4])
        self.chosen.append(chosen[0])
        self.rejected.append(rejected[0])
        self.chosen_chars.append(chosen[1])
        self.rejected_chars.append(rejected[1])
        self.row.append(chosen[2])
        self.rejected_row.append(rejected[2])
        self.line.append(chosen[3])


def length(side: Side | None) -> int:
    """Characters."""
    return len(text_of(side))


def prompt_digest(pair: Pair) -> int:
    """64 bits that tell a prompt from others. Capitals and white space don't count, as where the trainer splits."""
    said = [" ".join((pair.system or "").casefold().split())]
    for turn in pair.prompt:
        more = {name: held for name, held in turn.items() if name not in ("role", "content")}
        words = content_text(turn.get("content")).casefold().split()
        said.append(f"{turn.get('role')}\0{' '.join(words)}{json_text(more) if more else ''}")
    text = "\0\0".join(said)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
