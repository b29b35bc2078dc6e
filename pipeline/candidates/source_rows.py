"""The rows that are to be answered, read anew for each pass over them: of a million never more than one in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.candidates.candidate import SourceRow
from pipeline.pairs.asked_alone import read_asked
from pipeline.pairs.open_source import OpenSource, ask_for_axis, refusing
from pipeline.pairs.read_pairs import PairSource

HEAD_BYTES = 2**20  # of a file, whose digest tells that it is still the same one
NO_PROMPT = "no_prompt"


class SourceRows:
    """Iterate for the first `most` rows that ask something, numbered from 0, supervised or preference data or prompts
    alone. Raises Refused while iterated for what can't be read.

    formats, left_out: rows by format, and rows left out by reason, of the last reading that came to its end. opened:
    what the last reading reads from.
    """

    def __init__(self, source: OpenSource, *, most: int | None = None) -> None:
        self.source, self.most = source, most
        self.formats: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.opened: PairSource | None = None
        self._counted: int | None = None

    @property
    def name(self) -> str:
        return self.source.name

    def __iter__(self) -> Iterator[SourceRow]:
        opened = self.source.open()
        opened.name = self.source.name
        opened.otherwise = read_asked
        self.opened = opened
        index, silent = 0, 0
        pairs = iter(opened)
        while self.most is None or index < self.most:
            with refusing(opened):
                pair = next(pairs, None)
            ask_for_axis(opened)
            if pair is None:
                break
            row = SourceRow(index, pair)
            if not row.question.strip():
                silent += 1
                continue
            index += 1
            yield row
        self.formats, self.left_out = opened.formats.copy(), opened.reasons.copy()
        if silent:
            self.left_out[NO_PROMPT] += silent
        self._counted = index

    def known_count(self, rows: int | None) -> None:
        """How many rows there are, for whom has counted them already."""
        self._counted = rows

    def count(self) -> int | None:
        """How many rows there are; None where only reading them over a network would tell. Raises Refused."""
        if self._counted is None:
            if self.source.path is None:
                return self.most
            for _ in self:
                pass
        return self._counted

    def identity(self) -> dict[str, Any]:
        """What tells that the data is still the same: its size and the digest of its beginning, or its name on the
        Hub."""
        if self.source.path is None:
            return {"hub": self.source.name}
        with open(self.source.path, "rb") as file:
            head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
        return {"bytes": self.source.path.stat().st_size, "sha256_of_first_mib": head}
