"""Curves of a log small enough for a terminal, a chat, and a file without scripts: loss and evaluation loss."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from diagnostics.report import Report

BLOCKS = "▁▂▃▄▅▆▇█"
LOST = "×"  # a stretch that holds a NaN or an infinity
COLUMNS = 48
STEEP = 5.0
SHOWN = (("reward", "eval_reward"), ("loss", "eval_loss"))  # the first pair of which the log has a curve
WIDTH, HEIGHT, LEFT = 760, 170, 56
Points = list[tuple[float, float | None]]
Scale = Callable[[float], float]


def small_curves(report: Report) -> dict[str, Points]:
    """(step, value or None where it is no number) of the curves worth a line; none where the subject is no log."""
    if report.subject.kind != "log":
        return {}
    for names in SHOWN:
        found = {name: points for name in names if (points := _points(report.curves.get(name)))}
        if found:
            return found
    return {}


def _points(curve: Any) -> Points:
    """Points of a curve as a report holds it, also one that was stored: there NaN is a string."""
    if not isinstance(curve, Mapping):
        return []
    steps, values = curve.get("step"), curve.get("value")
    if not isinstance(steps, (list, tuple)) or not isinstance(values, (list, tuple)):
        return []
    pairs = [(_number(s), _number(v)) for s, v in zip(steps, values, strict=False)]
    points = [(s, v) for s, v in pairs if s is not None]
    return points if sum(v is not None for _, v in points) > 1 else []


def _number(value: Any) -> float | None:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if ok else None


def sparklines(report: Report, words: Mapping[str, Any]) -> list[str]:
    """One line for each curve: its name, blocks on its own scale, first → last value. words: `around`."""
    curves = small_curves(report)
    if not curves:
        return []
    steps = [s for points in curves.values() for s, _ in points]
    names = {name: str(words["curves"].get(name, name)) for name in curves}
    wide = max(_cells(name) for name in names.values())
    lines = []
    for name, points in curves.items():
        values = [v for _, v in points if v is not None]
        blocks = sparkline(points, (min(steps), max(steps)), (min(values), max(values)))
        pad = " " * (wide - _cells(names[name]))
        lines.append(f"{names[name]}{pad}  {blocks}  {values[0]:.4g} → {values[-1]:.4g}")
    return lines


def sparkline(points: Points, steps: tuple[float, float], values: tuple[float, float]) -> str:
    """COLUMNS characters over the stretch of steps: the mean of each column, LOST where it holds no number, and a
    column that holds no point repeats the one before. values: (lowest, highest) of the scale, which is a logarithmic
    one where a steep start would leave the rest no room."""
    columns: list[list[float | None]] = [[] for _ in range(COLUMNS)]
    scale: Scale = math.log if values[0] > 0 and values[1] > STEEP * values[0] else float
    low, high = scale(values[0]), scale(values[1])
    span, height = (steps[1] - steps[0]) or 1.0, (high - low) or 1.0
    for step, value in points:
        columns[min(COLUMNS - 1, int((step - steps[0]) / span * COLUMNS))].append(value)
    made = ""
    for column in columns:
        finite = [v for v in column if v is not None]
        if len(finite) < len(column):
            made += LOST
        elif finite:
            share = (scale(sum(finite) / len(finite)) - low) / height
            made += BLOCKS[min(len(BLOCKS) - 1, int(share * len(BLOCKS)))]
        else:
            made += made[-1] if made and made[-1] != LOST else " "
    return made.rstrip() or made


def _cells(text: str) -> int:
    """Width on a terminal: a Chinese character takes two cells."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def curves_svg(report: Report, words: Mapping[str, Any]) -> str:
    """The same curves as an inline SVG, with what findings mark on them; empty for none."""
    curves = small_curves(report)
    if not curves:
        return ""
    known = [v for points in curves.values() for _, v in points if v is not None]
    steps = [s for points in curves.values() for s, _ in points]
    low, high, first, last = min(known), max(known), min(steps), max(steps)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 12) * (step - first) / ((last - first) or 1.0)

    def y(value: float) -> float:
        return 8 + (HEIGHT - 40) * (1 - (value - low) / ((high - low) or 1.0))

    parts = [
        f"<line class='axis' x1='{LEFT}' x2='{WIDTH - 12}' y1='{y(v):.1f}' y2='{y(v):.1f}'/>"
        f"<text x='{LEFT - 8}' y='{y(v) + 4:.1f}' font-size='11' text-anchor='end'>{v:.3g}</text>"
        for v in (low, high)
    ]
    for step, anchor in ((first, "start"), (last, "end")):
        where = f"x='{x(step):.1f}' y='{HEIGHT - 16}'"
        parts.append(f"<text {where} font-size='11' text-anchor='{anchor}'>{step:.10g}</text>")
    place = float(LEFT + 60)
    for number, (name, points) in enumerate(curves.items()):
        for run in _unbroken(points):
            shown = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in run)
            parts.append(f"<polyline class='curve c{number}' points='{shown}'/>")
        label = html.escape(str(words["curves"].get(name, name)))
        parts.append(
            f"<line class='curve c{number}' x1='{place}' x2='{place + 18}' y1='{HEIGHT - 20}' y2='{HEIGHT - 20}'/>"
            f"<text x='{place + 24}' y='{HEIGHT - 16}' font-size='12'>{label}</text>"
        )
        place += 200
    parts += _marks(report, curves, x, y)
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' role='img'>{''.join(parts)}</svg>"


def _unbroken(points: Points) -> list[list[tuple[float, float]]]:
    """Stretches without a point that is no number."""
    runs: list[list[tuple[float, float]]] = [[]]
    for step, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((step, value))
    return [run for run in runs if run]


def _marks(report: Report, curves: Mapping[str, Points], x: Scale, y: Scale) -> list[str]:
    made = []
    for finding in report.findings:
        points = curves.get(str(finding.params.get("curve")))
        start = _number(finding.params.get("from_step"))
        if finding.severity not in ("error", "warning") or not points or start is None:
            continue
        known = [(s, v) for s, v in points if v is not None]
        step, value = min(known, key=lambda point: abs(point[0] - start))
        where = f"x='{x(step) + 8:.1f}' y='{max(12.0, y(value) - 6):.1f}'"
        made.append(
            f"<circle class='spot {finding.severity}' cx='{x(step):.1f}' cy='{y(value):.1f}' r='5'/>"
            f"<text {where} font-size='11'>{html.escape(finding.code)}</text>"
        )
    return made
