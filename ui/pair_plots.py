"""How the pairs of a view are spread: small histograms, drawn here as SVG, which the page's script lets one brush."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ui.interface_words import words
from ui.pair_filters import column_name
from ui.safe_html import tag, text

if TYPE_CHECKING:
    from pipeline.pair_workspace import Distribution, View, Workspace

FIRST = ("prompt_chars", "chosen_chars", "rejected_chars", "length_ratio", "similarity", "score_chosen",
         "score_rejected")  # fmt: skip
BINS, LEAST_BINS = 32, 8
FINE = 12  # bins that are counted for one that is drawn, so that a long tail can be told from the rest
TAIL = 0.01  # of the rows may stand in the last bar, where they would press the others together
HEIGHT = 48.0
MAX_PLOTS = 12


def frame(workspace: Workspace, lang: str) -> str:
    """A place for the histogram of every column. They come one by one: over half a million rows each takes a moment."""
    columns = list(dict.fromkeys((*FIRST, *workspace.measures())))[:MAX_PLOTS]
    places = (tag("div", "dd-plot", tag("div", "dd-plot-head", tag("b", "", text(column_name(column, lang)))),
                  tag("div", "dd-hist dd-waiting"), data_plot=column) for column in columns)  # fmt: skip
    info = tag("p", "dd-dim dd-plots-line", text(words(lang)["pairs_plots_info"]))
    return tag("div", "dd-plots", *places) + info


def histogram(workspace: Workspace, view: View, column: str, lang: str) -> str:
    """Of one column over a view without its own range, so that the range can be widened again; empty where the column
    has no two different values."""
    ends = view.ranges.get(column, (None, None))
    others = {c: range_ for c, range_ in view.ranges.items() if c != column}
    spread = _trimmed(workspace.distribution(column, replace(view, ranges=others), BINS * FINE))
    return _drawn(column, spread, ends, lang) if len(spread.counts) > 1 or column in view.ranges else ""


def _trimmed(fine: Distribution) -> Distribution:
    """Few bins for few rows: of the rows up to the last percent, and one more for all that lies beyond."""
    counts, edges = fine.counts, fine.edges
    bins = min(BINS, max(LEAST_BINS, math.ceil(2 * math.sqrt(sum(counts)))))
    total, seen, end = sum(counts), 0, 0
    while end < len(counts) and seen < total * (1 - TAIL):
        seen, end = seen + counts[end], end + 1
    if 2 * end > len(counts):
        end = len(counts)
    step = max(1, math.ceil(end / bins))
    starts = list(range(0, end, step))
    grouped = [sum(counts[a : min(a + step, end)]) for a in starts]
    cut = [edges[a] for a in starts] + [edges[end]] if counts else []
    if counts and end < len(counts):
        grouped, cut = [*grouped, sum(counts[end:])], [*cut, edges[-1]]
    return replace(fine, edges=tuple(cut), counts=tuple(grouped))


def _drawn(column: str, spread: Distribution, ends: tuple[float | None, float | None], lang: str) -> str:
    said = words(lang)
    name = column_name(column, lang)
    low, high = ends
    bars = []
    most = max(spread.counts, default=0)
    for place, n in enumerate(spread.counts):
        left, right = spread.edges[place], spread.edges[place + 1]
        inside = (low is None or right > low) and (high is None or left <= high)
        tall = 0.0 if not n else max(1.5, HEIGHT * n / most)
        bars.append(tag("rect", "" if inside else "dd-out", x=f"{place + 0.06:.2f}", y=f"{HEIGHT - tall:.2f}",
                        width="0.88", height=f"{tall:.2f}"))  # fmt: skip
    wide = max(1, len(spread.counts))
    first, last = (spread.edges[0], spread.edges[-1]) if spread.edges else (0.0, 0.0)
    picture = tag("svg", "", *bars, tag("rect", "dd-brushed", x="0", y="0", width="0", height=f"{HEIGHT:g}"),
                  viewBox=f"0 0 {wide} {HEIGHT:g}", preserveAspectRatio="none", aria_hidden="true")  # fmt: skip
    drag = tag("div", "dd-hist", picture, data_column=column, data_edges=json.dumps(spread.edges),
               data_whole="1" if column.endswith("_chars") else None, title=said["pairs_brush"])  # fmt: skip
    on = low is not None or high is not None
    clear = (
        tag("button", "dd-link", "×", type="button", data_unrange=column, aria_label=said["pairs_unrange"])
        if on
        else ""
    )
    head = tag("div", "dd-plot-head", tag("b", "", text(name)), clear)
    fields = [
        _limit(column, side, end, edge, lang) for side, end, edge in (("least", low, first), ("most", high, last))
    ]
    missing = said["pairs_missing"].format(n=f"{spread.missing:,}")
    without = (
        tag("span", "dd-dim", f"∅ {spread.missing:,}", title=missing, aria_label=missing) if spread.missing else ""
    )
    foot = tag("div", "dd-plot-ends", fields[0], without, fields[1])
    return head + drag + foot


def _limit(column: str, side: str, end: float | None, edge: float, lang: str) -> str:
    """A field for one end of a range: what a brush does, to be typed."""
    label = f"{column_name(column, lang)}: {words(lang)[f'pairs_{side}']}"
    value = "" if end is None else f"{end:.10g}"
    return tag("input", "", type="number", step="any", value=value, placeholder=_short(edge), data_range=column,
               data_end=side, aria_label=label)  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.10g}" if float(value).is_integer() else f"{value:.3g}"
