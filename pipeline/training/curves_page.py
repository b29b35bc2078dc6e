"""The curves of a run as one small page: static SVG, no script.

With plotly's script inside, a page is 4.6 MB for a few hundred points; with the script beside it, it breaks when it is
moved. Live curves are the tab's.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.json_file import parse_json
from pipeline.training.newest_record import METRICS
from pipeline.whole_file import written_whole

PAGE = "curves.html"
MAX_POINTS = 400  # of one curve; more than pixels says nothing more
MAX_LINE = 1_000_000
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560, 220, 62, 26, 10
# Drawn first, in this order; then all others by name
_FIRST = ("loss", "eval_loss", "rewards/margins", "rewards/accuracies", "reward", "logps/chosen", "logps/rejected")
_NOT_DRAWN = frozenset({
    "step", "epoch", "time", "num_tokens", "total_flos", "train_runtime", "train_samples_per_second", "train_loss",
    "train_steps_per_second",
})  # fmt: skip
_STYLE = """body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1180px;color:#222;background:#fff}
h1{font-size:1.2em}figure{display:inline-block;margin:0 12px 18px 0}figcaption{font-weight:600}
polyline{fill:none;stroke:#2563eb;stroke-width:1.6}.frame{stroke:#bbb}.grid{stroke:#eee}text{font-size:11px;fill:#555}
.bad{stroke:#dc2626}"""

Points = list[tuple[float, float]]


def write_curves(job_folder: Path, output: Path) -> Path:
    """curves.html in `output`, from the job's metrics.jsonl. Raises OSError."""
    curves, bad = read_curves(job_folder / METRICS)
    names = [n for n in _FIRST if n in curves] + sorted(set(curves) - set(_FIRST))
    figures = "".join(_figure(name, curves[name], bad.get(name, [])) for name in names)
    title = html.escape(job_folder.name)
    page = (
        f"<!doctype html><html><head><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{figures}</body></html>\n"
    )
    with written_whole(output / PAGE, mode=0o666) as path:
        path.write_text(page, encoding="utf-8")
    return output / PAGE


def read_curves(path: Path) -> tuple[dict[str, Points], dict[str, list[float]]]:
    """Points (step, value) of every number logged more than once, and the steps at which it was no number."""
    curves: dict[str, Points] = {}
    bad: dict[str, list[float]] = {}
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            try:
                record = parse_json(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(record, dict) or not isinstance(step := record.get("step"), int):
                continue
            for name, value in record.items():
                if name not in _NOT_DRAWN and isinstance(value, (int, float)) and not isinstance(value, bool):
                    curves.setdefault(name, []).append((float(step), float(value)))
            for name in record.get("non_finite") or ():
                bad.setdefault(str(name), []).append(float(step))
    kept = {n: _thinned(p) for n, p in curves.items() if len(p) > 1 and not n.endswith(("_runtime", "_per_second"))}
    return kept, bad


def _thinned(points: Points) -> Points:
    """The lowest and the highest of every stretch, so that no spike is lost."""
    if len(points) <= MAX_POINTS:
        return points
    size = math.ceil(2 * len(points) / MAX_POINTS)
    kept: Points = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def _figure(name: str, points: Points, bad: Sequence[float]) -> str:
    low, high = min(v for _, v in points), max(v for _, v in points)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def x(step: float) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - 8)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for part in range(5):
        value = low + (high - low) * part / 4
        parts.append(f"<line class='grid' x1='{_LEFT}' x2='{_WIDTH - 8}' y1='{y(value):.1f}' y2='{y(value):.1f}'/>")
        parts.append(f"<text x='{_LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:.4g}</text>")
    for step, anchor in ((first, "start"), (last, "end")):
        parts.append(f"<text x='{x(step):.1f}' y='{_HEIGHT - 8}' text-anchor='{anchor}'>{step:.0f}</text>")
    for step in bad[:200]:
        parts.append(f"<line class='bad' x1='{x(step):.1f}' x2='{x(step):.1f}' y1='{_TOP}' y2='{_HEIGHT - _BOTTOM}'/>")
    line = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in points)
    parts.append(f"<polyline points='{line}'/>")
    size = f"viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}'"
    picture = f"<svg {size} role='img'>{''.join(parts)}</svg>"
    return f"<figure><figcaption>{html.escape(name)}</figcaption>{picture}</figure>"
