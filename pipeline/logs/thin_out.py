"""Fewer points of a curve for a page or a report, with its extremes and its first not-a-number kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.logs.training_log import Curve, Rows, TrainingLog

POINTS = 1200  # more than a chart is wide


def points_kept(values: np.ndarray[Any, np.dtype[np.float64]], limit: int = POINTS) -> Rows:
    """Indices of at most about `limit` points: lowest, highest and first not finite of each stretch, and both ends."""
    count = len(values)
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, max(1, limit // 3) + 1).astype(np.int64)[:-1]
    finite = np.isfinite(values)
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    kept = [np.array([0, count - 1])]
    lengths = np.diff(np.append(edges, count))
    for extreme, over in ((np.minimum, low), (np.maximum, high)):
        best = np.repeat(extreme.reduceat(over, edges), lengths)
        hits = np.flatnonzero((over == best) & finite)
        kept.append(_first_of_each(hits, edges))
    kept.append(_first_of_each(np.flatnonzero(~finite), edges))
    return np.unique(np.concatenate(kept))


def _first_of_each(places: Rows, edges: Rows) -> Rows:
    """Of increasing places the first in each stretch that begins at an edge."""
    stretch = np.searchsorted(edges, places, side="right")
    return places[np.concatenate([[True], np.diff(stretch) > 0])] if len(places) else places


def as_json(log: TrainingLog, curve: Curve, limit: int = POINTS) -> dict[str, Any]:
    """One curve as the report holds it: `step`, `value`, and `epoch` and `time` where known, lists of one length; `n`
    points before thinning. Not-a-number stays as NaN here, the report writes it as a string."""
    kept = points_kept(curve.values, limit)
    rows = curve.rows[kept]
    made: dict[str, Any] = {"n": len(curve), "step": _rounded(log.step[rows]), "value": _rounded(curve.values[kept])}
    for name, column in (("epoch", log.epoch), ("time", log.time)):
        if np.isfinite(column[rows]).mean() > 0.5:
            made[name] = [None if v != v else v for v in _rounded(_filled(column[rows]))]
    return made


def _filled(column: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Between known values a straight line; unknown ends stay unknown."""
    known = np.isfinite(column)
    places = np.flatnonzero(known)
    filled = np.interp(np.arange(len(column)), places, column[known])
    filled[: places[0]] = np.nan
    filled[places[-1] + 1 :] = np.nan
    return filled


def _rounded(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Seven digits: more than anything is logged with."""
    return [float(f"{v:.7g}") if abs(v) < 1e7 else float(v) for v in values.tolist()]
