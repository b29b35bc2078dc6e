"""What of a result can be plotted, as curves of a report: its figures, and thinned points of rewards."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diagnostics.evaluation_subject import EvaluationSubject, afters
from pipeline.evaluation.results import ComparisonResult, ScoresResult
from pipeline.record_files import Unreadable, records

MOST_POINTS = 2000
OUTLIERS = 200
MOST_ROWS = 5_000_000
_LEFT_OUT = ("rows", "cases", "suspects", "lost_items")  # they are samples, or in the file of rows
_MOST_NAMED = 200  # entries of a mapping, such as categories
_MOST_TEXT = 500
_MOST_RESULT = 512 * 2**10  # bytes


def points_of(subject: EvaluationSubject) -> dict[str, Any]:
    """`result` without its cases, and `points` where the rows beside it can be read: {"axes": [x, y], "series": names,
    "rows": how many there are, "points": [[x, y, row, series], ...]}."""
    made: dict[str, Any] = {"result": _bounded(subject.document)}
    result = subject.result
    try:
        if isinstance(result, ScoresResult):
            names = [one.name for one in result.sets]
            keep = {s.row for one in result.sets for s in one.suspects}
            points = thinned(_of_scores(subject.path.parent, result), ["chosen", "rejected"], names, keep)
        elif isinstance(result, ComparisonResult):
            keep = {case.row for case in result.cases}
            points = thinned(_of_comparison(subject.path.parent, result), ["before", "after"], afters(result), keep)
        else:
            return made
    except (Unreadable, OSError):
        return made
    return {**made, "points": points} if points["points"] else made


def _beside(folder: Path, named: str) -> Path | None:
    """A file of rows, by a plain name in the folder of the result: a result from elsewhere opens nothing else."""
    if not named or Path(named).name != named:
        return None
    return folder / named if (folder / named).is_file() else None


def _of_scores(folder: Path, result: ScoresResult) -> Iterator[tuple[float, float, int, int]]:
    for series, one in enumerate(result.sets):
        place = _beside(folder, one.rows_file or (result.rows_file if len(result.sets) == 1 else ""))
        for at, row in _rows(place):
            yield _number(row.get("score_chosen")), _number(row.get("score_rejected")), at, series


def _of_comparison(folder: Path, result: ComparisonResult) -> Iterator[tuple[float, float, int, int]]:
    before, names = result.models[0].name, afters(result)
    for at, row in _rows(_beside(folder, result.rows_file)):
        scores = row.get("scores")
        own = scores.get("reward") if isinstance(scores, Mapping) else None
        if isinstance(own, Mapping) and row.get("after") in names:
            told, after = row.get("row"), row["after"]
            place = told if isinstance(told, int) and not isinstance(told, bool) else at
            yield _number(own.get(before)), _number(own.get(after)), place, names.index(after)


def _rows(place: Path | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Objects of a file with their number, as `Suspect.row` counts them; no more than MOST_ROWS."""
    if place is None:
        return
    objects = (record.value for record in records(place) if isinstance(record.value, Mapping))
    yield from enumerate(islice(objects, MOST_ROWS))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def thinned(
    points: Iterator[tuple[float, float, int, int]], axes: list[str], series: list[str], keep: set[int]
) -> dict[str, Any]:
    """At most MOST_POINTS of (x, y, row, series): those of the rows to keep, those farthest from the diagonal and from
    the middle, and the rest by chance with a fixed seed."""
    flat = (value for point in points if math.isfinite(point[0] + point[1]) for value in point)
    table = np.fromiter(flat, dtype=np.float64).reshape(-1, 4)
    chosen = np.arange(len(table))
    if len(table) > MOST_POINTS:
        must = np.flatnonzero(np.isin(table[:, 2], list(keep)))[:OUTLIERS]
        gap = table[:, 1] - table[:, 0]
        spread = np.abs(table[:, :2] - np.median(table[:, :2], axis=0)).max(axis=1)
        far = np.concatenate([np.argsort(gap)[: OUTLIERS // 2], np.argsort(-gap)[: OUTLIERS // 2],
                              np.argsort(-spread)[:OUTLIERS]])  # fmt: skip
        first = np.unique(np.concatenate([must, far]))
        rest = np.setdiff1d(chosen, first)
        drawn = np.random.default_rng(0).choice(rest, MOST_POINTS - len(first), replace=False)
        chosen = np.sort(np.concatenate([first, drawn]))
    shown = [[float(f"{x:.6g}"), float(f"{y:.6g}"), int(row), int(one)] for x, y, row, one in table[chosen]]
    return {"axes": axes, "series": series, "rows": len(table), "points": shown}


def _bounded(document: Mapping[str, Any]) -> Any:
    made = _without_cases(document)
    if len(json.dumps(made)) > _MOST_RESULT:
        made = {k: v for k, v in made.items() if isinstance(v, (str, int, float, bool, type(None)))}
    return made


def _without_cases(value: Any, inside: str = "") -> Any:
    if isinstance(value, Mapping):
        kept = list(value.items())[:_MOST_NAMED]
        return {
            str(k)[:_MOST_TEXT]: _without_cases(v, str(k))
            for k, v in kept
            if not (k in _LEFT_OUT and isinstance(v, (list, tuple)))
        }
    if isinstance(value, (list, tuple)):
        return [_without_cases(v) for v in value[:_MOST_NAMED]]
    if isinstance(value, str):
        return value[:_MOST_TEXT]
    return value
