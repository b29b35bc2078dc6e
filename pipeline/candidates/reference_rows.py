"""Other rows of the same data, for whoever needs a stranger's prompt or answer: a bounded sample, the same for every
process, with an index that finds prompts near in words.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.answer_overlap import rarity
from pipeline.candidates.candidate import SourceRow
from pipeline.pairs.pair import Pair, content_text, text_of

MOST_ROWS = 2_000
_MOST_CHARACTERS = 20_000  # of one row; longer ones are no use as another row's answer
_ROOM = 20_000_000  # characters of all rows kept
_LOOKED_AT = 4_000  # characters of a prompt that are compared
_QUERY_TERMS = 256  # rarest terms of a prompt that are looked up
_SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
# A run of characters of scripts without spaces, or a word of others.
_RUN = re.compile(rf"([{_SINGLE}]+)|[^\W_{_SINGLE}]+")

_Numbers = np.ndarray[Any, np.dtype[Any]]


def terms(text: str) -> Counter[str]:
    """Words of a text in lower case; of scripts without spaces every two neighbouring characters."""
    found: Counter[str] = Counter()
    for run in _RUN.finditer(text[:_LOOKED_AT].lower()):
        word = run.group()
        if run.group(1) and len(word) > 1:
            found.update(word[at : at + 2] for at in range(len(word) - 1))
        else:
            found[word] += 1
    return found


class CountedRows:
    """Bags of terms, one a row, as numbers: 6 bytes for each term of a row."""

    def __init__(self, bags: Iterable[Mapping[str, int]]) -> None:
        self.numbers: dict[str, int] = {}
        held, counts = array("i"), array("H")
        ends = array("q", [0])
        for bag in bags:
            held.extend(self.numbers.setdefault(term, len(self.numbers)) for term in bag)
            counts.extend(bag.values())
            ends.append(len(held))
        self.held: _Numbers = np.frombuffer(held, np.int32) if held else np.zeros(0, np.int32)
        self.counts: _Numbers = np.frombuffer(counts, np.uint16) if counts else np.zeros(0, np.uint16)
        self.ends = ends
        self.totals = [int(self.counts[a:b].sum()) for a, b in pairwise(ends)]

    def lacking(self, bag: Mapping[str, int]) -> Lacking:
        return Lacking(self, bag)


class Lacking:
    """A bag beside the bags of many rows, asked one by one."""

    def __init__(self, rows: CountedRows, bag: Mapping[str, int]) -> None:
        self.total = sum(bag.values())
        self._rows = rows
        self._wanted = np.zeros(len(rows.numbers), np.uint16)
        for term, count in bag.items():
            if (number := rows.numbers.get(term)) is not None:
                self._wanted[number] = count

    def shared(self, place: int) -> int:
        """How many terms of the bag that row holds, each as often as both have it."""
        rows = self._rows
        here = slice(rows.ends[place], rows.ends[place + 1])
        return int(np.minimum(self._wanted[rows.held[here]], rows.counts[here]).sum())

    def __call__(self, place: int) -> int:
        """How many of the bag that row lacks."""
        return self.total - self.shared(place)


class ReferenceRows:
    """At most MOST_ROWS rows with a question and a right answer, no two the same, in an order that is random but fixed.

    Which rows they are depends on what the rows say alone: not on their order, on sharding or on where a run resumed.
    """

    def __init__(self, rows: Sequence[SourceRow]) -> None:
        """Takes the rows as they are; `gather` chooses among many."""
        self.rows: tuple[SourceRow, ...] = tuple(rows)
        bags = [terms(row.question) for row in self.rows]
        self._rarity = rarity(bags)
        self._most = math.log(1 + len(bags)) if bags else 1.0
        self._questions = CountedRows(bags)
        lengths = [sum(self._weighed(term, count) ** 2 for term, count in bag.items()) for bag in bags]
        self._lengths = np.sqrt(np.maximum(lengths, 1e-12))
        # The same by terms, to find the rows that hold one.
        held, counts, self._numbers = self._questions.held, self._questions.counts, self._questions.numbers
        order = np.argsort(held, kind="stable")
        self._places = np.repeat(np.arange(len(bags), dtype=np.int32), list(map(len, bags)))[order]
        self._weights = 1 + np.log(counts[order].astype(float))
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(held, minlength=len(self._numbers)))))

    @classmethod
    def gather(cls, rows: Iterable[SourceRow], limit: int = MOST_ROWS) -> ReferenceRows:
        """One pass over all rows of the data, holding no more than `limit` of them and 20 million characters."""
        kept: dict[bytes, SourceRow] = {}
        order: list[tuple[int, bytes]] = []  # the largest key first
        used = 0
        for row in rows:
            question, gold = row.question, row.gold
            if not question.strip() or not (gold or "").strip():
                continue
            size = _size(row)
            if size > _MOST_CHARACTERS:
                continue
            text = f"{question}\0{gold}".encode("utf-8", "surrogatepass")
            key = hashlib.blake2b(text, digest_size=12).digest()
            if key in kept:
                if row.index < kept[key].index:
                    used += size - _size(kept[key])
                    kept[key] = _slim(row)
                continue
            if len(kept) >= limit and -order[0][0] <= int.from_bytes(key, "big"):
                continue
            kept[key] = _slim(row)
            heapq.heappush(order, (-int.from_bytes(key, "big"), key))
            used += size
            while len(kept) > limit or used > _ROOM:
                used -= _size(kept.pop(heapq.heappop(order)[1]))
        return cls([kept[key] for key in sorted(kept)])

    def __len__(self) -> int:
        return len(self.rows)

    def others(self, index: int, count: int) -> list[SourceRow]:
        """Up to `count` rows other than row `index`, always the same ones for an index."""
        picked = random.Random(index).sample(self.rows, min(count + 1, len(self.rows)))
        return [row for row in picked if row.index != index][:count]

    def nearest(self, row: SourceRow, count: int) -> list[tuple[SourceRow, float]]:
        """Up to `count` other rows whose questions share the rarest words with that of `row`, the nearest first, each
        with the cosine of the two. Rows that share nothing are none of them."""
        near = self.nearest_places(terms(row.question), count + 8)
        return [(self.rows[p], cosine) for p, cosine in near if self.rows[p].index != row.index][:count]

    def nearest_places(self, bag: Mapping[str, int], count: int) -> list[tuple[int, float]]:
        """The places in `rows` of the questions nearest to one that holds these terms, itself perhaps among them."""
        known = sorted((t for t in bag if t in self._numbers), key=lambda t: (-self._rarity[t], t))[:_QUERY_TERMS]
        scores = np.zeros(len(self.rows))
        for term in known:
            number = self._numbers[term]
            here = slice(self._starts[number], self._starts[number + 1])
            scores[self._places[here]] += self._weights[here] * (self.weight(term) * self._weighed(term, bag[term]))
        length = math.sqrt(sum(self._weighed(term, n) ** 2 for term, n in bag.items())) or 1.0
        scores /= self._lengths * length
        ranked = np.lexsort((np.arange(len(scores)), -scores))[:count]
        return [(int(p), float(scores[p])) for p in ranked if scores[p] > 0]

    def lacking(self, bag: Mapping[str, int]) -> Lacking:
        """What the questions lack of a bag of terms."""
        return self._questions.lacking(bag)

    def weight(self, term: str) -> float:
        """ln(1 + rows / rows that hold the term); of one that no row holds, that of the rarest."""
        return self._rarity.get(term, self._most)

    def _weighed(self, term: str, count: int) -> float:
        return (1 + math.log(count)) * self.weight(term)


def _size(row: SourceRow) -> int:
    turns = sum(len(content_text(turn.get("content"))) for turn in row.pair.prompt)
    return turns + len(text_of(row.pair.chosen)) + len(row.pair.system or "")


def _slim(row: SourceRow) -> SourceRow:
    """The row without what nobody asks a reference for: its rejected side and the columns beside the pair."""
    pair = row.pair
    return replace(row, pair=Pair(pair.prompt, pair.chosen, None, system=pair.system, id=pair.id, line=pair.line))
