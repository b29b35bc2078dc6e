"""How a column is spread over a view."""

from __future__ import annotations

import math
import sqlite3

import numpy as np

from pipeline.pair_workspace.outcomes import Distribution
from pipeline.pair_workspace.select_rows import column_expression, selection
from pipeline.pair_workspace.text_search import TextSearch
from pipeline.pair_workspace.view import View

WHOLE = ("prompt_chars", "chosen_chars", "rejected_chars")


def distribution(
    connection: sqlite3.Connection, column: str, view: View, bins: int, search: TextSearch
) -> Distribution:
    """A histogram of `bins` equal bins from the least value to the most."""
    if bins < 1:
        raise ValueError("at least one bin")
    rows = selection(connection, view, search if view.search else None)
    found = connection.execute(rows.query(column_expression(connection, column)), rows.values)
    values = np.array([np.nan if value is None else value for (value,) in found])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Distribution((), (), values.size)
    edges = _edges(float(finite.min()), float(finite.max()), bins, whole=column in WHOLE)
    # not np.histogram, for which the distance from least to most may be too large
    places = np.clip(np.searchsorted(edges, finite, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(places, minlength=len(edges) - 1)
    return Distribution(edges, tuple(counts.tolist()), values.size - finite.size)


def _edges(low: float, high: float, bins: int, *, whole: bool) -> tuple[float, ...]:
    """Of whole numbers in bins of equal whole width, as otherwise one bin would hold 3 lengths and the next 4."""
    if whole:
        each = max(1, math.ceil((high + 1 - low) / bins))
        return tuple(low + n * each for n in range(math.ceil((high + 1 - low) / each) + 1))
    if low == high:
        half = max(0.5, abs(low) * 1e-6)
        return (low - half, low + half)
    if math.isfinite(high - low):
        return (low, *(low + n * ((high - low) / bins) for n in range(1, bins)), high)
    return (low, *(low * ((bins - n) / bins) + high * (n / bins) for n in range(1, bins)), high)
