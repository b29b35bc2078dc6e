"""Other rows of the same data, for whoever needs a stranger's prompt or answer: a bounded sample, the same for every
process, with an index that finds prompts near in words.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

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
        posted: dict[str, list[tuple[int, float]]] = {}
        lengths = np.zeros(len(bags))
        for place, bag in enumerate(bags):
            for term, count in bag.items():
                weight = self._weighed(term, count)
                posted.setdefault(term, []).append((place, weight))
                lengths[place] += weight**2
        self._lengths = np.sqrt(np.maximum(lengths, 1e-12))
        self._posted = {
            term: (np.array([p for p, _ in found]), np.array([w for _, w in found])) for term, found in posted.items()
        }

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
        bag = terms(row.question)
        known = sorted((t for t in bag if t in self._posted), key=lambda t: (-self._rarity[t], t))[:_QUERY_TERMS]
        scores = np.zeros(len(self.rows))
        for term in known:
            places, weights = self._posted[term]
            scores[places] += weights * self._weighed(term, bag[term])
        length = math.sqrt(sum(self._weighed(term, n) ** 2 for term, n in bag.items())) or 1.0
        scores /= self._lengths * length
        ranked = np.lexsort((np.arange(len(scores)), -scores))[: count + 8]
        near = [(self.rows[p], float(scores[p])) for p in ranked if scores[p] > 0 and self.rows[p].index != row.index]
        return near[:count]

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
