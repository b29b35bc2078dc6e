"""Texts that begin alike laid out as one row, so that a decoder reads their common beginning once.

A row holds the beginning and behind it the rest of each text; a token sees the tokens before it in its own text alone,
and its position is that in its own text. What the model says of a text's last token is then what it says of the text
read by itself, for every model whose layers mix tokens by attention only (tree attention as of arXiv 2305.09781).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.same_beginning import same_beginning

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """texts: their places in what was given, in order; begins: tokens all of them share; lengths: of each text."""

    texts: tuple[int, ...]
    begins: int
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Of the whole row."""
        return self.begins + sum(length - self.begins for length in self.lengths)

    def column(self, which: int, at: int) -> int:
        """Where token `at` of the text number `which` stands in the row."""
        return at if at < self.begins else at + sum(length - self.begins for length in self.lengths[:which])


def rows_of(texts: Sequence[Ids], *, width: int, most: int) -> list[Row]:
    """Texts in rows, in their order: a text joins the row of the one before it where reading their beginning once saves
    more than it costs. width: hidden numbers of the model; most: tokens of a row of several texts.

    The cost, by layer and in products of numbers: a token 12 * width^2 (a layer with 4 * width inside holds as many
    parameters), a token that sees another 2 * width; alone a text skips the half of them that lies ahead, under a mask
    nothing is skipped. So a text of n tokens that shares s joins a row of t where 6 * width * s > (t + n - s)^2 - t^2 -
    n^2 / 2.
    """
    found: list[Row] = []
    row: Row | None = None
    for place, ids in enumerate(texts):
        if row is not None:
            shared = min(row.begins, same_beginning(texts[row.texts[0]], ids))
            joined = Row((*row.texts, place), shared, (*row.lengths, len(ids)))
            before, after = row.tokens, joined.tokens
            saved = before + len(ids) - after  # less than `shared` where the row's beginning becomes shorter by it
            alone = before**2 / (2 if len(row.texts) == 1 else 1) + len(ids) ** 2 / 2
            if after <= most and 6 * width * saved > after**2 - alone:
                row = joined
                continue
            found.append(row)
        row = Row((place,), len(ids), (len(ids),))
    return [*found, row] if row is not None else found


def laid_out(rows: Sequence[Row], texts: Sequence[Sequence[Ids]], fill: int) -> tuple[Any, Any, Any]:
    """Arrays of `rows`, padded on the right: ids and positions (rows, longest) as int64, and which tokens each one sees
    (rows, 1, longest, longest) as bool. texts: those of each row."""
    import numpy

    widest = max(row.tokens for row in rows)
    ids = numpy.full((len(rows), widest), fill, dtype=numpy.int64)
    positions = numpy.tile(numpy.arange(widest), (len(rows), 1))
    sees = numpy.tile(numpy.tri(widest, dtype=bool), (len(rows), 1, 1, 1))
    for at, (row, own) in enumerate(zip(rows, texts, strict=True)):
        end = row.begins
        ids[at, :end] = own[0][:end]
        for one in own:
            start, end = end, end + len(one) - row.begins
            ids[at, start:end] = one[row.begins :]
            positions[at, start:end] = numpy.arange(row.begins, len(one))
            sees[at, 0, start:end, row.begins : start] = False
        positions[at, end:] = 0
    return ids, positions, sees
