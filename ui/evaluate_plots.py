"""Figures of an evaluation: what needs axes as Plotly JSON, what is a row with an interval (interval_bars) as HTML.

scatter, histogram, calibration and length_bins give a <dd-figure>, HTML for any part of the page, empty where there is
nothing to draw. assets/evaluate_plots.js draws it once it is on the page and has a width. A click on a point sends the
event `dd-point`, which bubbles, with detail {set: set_name, row: one of Points.rows}; `element.mark(row)` rings one.
Plotly draws axes and lines; a hundred thousand points are too many for it without a graphics card (5 frames a second
while panning, 50 so), so the script draws those on a canvas. They travel as bytes of typed arrays, 4 bytes a number.
loader() makes the page load Plotly: a tab with figures lays it out once.
"""

from __future__ import annotations

import base64
import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.charts import ACCENT, OTHER, empty_plot, finite_number, label_text, plain_layout
from ui.interface_words import words
from ui.safe_html import tag, text

GOOD, BAD = "#0f9d8f", "#d6457f"  # told apart without red and green
TONES = {"good": GOOD, "even": OTHER, "bad": BAD, "plain": ACCENT}
MARKERS = ((300, 8.0, 0.8), (3_000, 6.0, 0.6), (20_000, 4.0, 0.45), (10**9, 3.0, 0.3))  # (most points, size, opacity)
MAX_BARS, LEAST_BARS = 40, 8
TAIL = 0.005  # of the values beyond each end of a histogram stand in its outermost bars


# --- points ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Points of one colour. x, y: of one length; a point with a NaN or infinity is not drawn. rows: what a click on
    each names, by default its place. tone: of TONES."""

    x: Sequence[float]
    y: Sequence[float]
    rows: Sequence[int] | None = None
    name: str = ""
    tone: str = "plain"


def scatter(
    points: Sequence[Points],
    lang: str,
    *,
    x_title: str,
    y_title: str,
    x_name: str = "",
    y_name: str = "",
    diagonal: bool = True,
    set_name: str = "",
    label: str = "",
) -> str:
    """Points in one square; a click on one sends its row. diagonal: a line where both are equal, and one scale for
    both axes. x_name, y_name: in the line at the pointer, as short as they can be. Empty without a finite point."""
    kept = [_finite(one) for one in points]
    kept = [one for one in kept if len(one.x)]
    total = sum(len(one.x) for one in kept)
    if not total:
        return ""
    said = words(lang)
    size, opacity = next((size, opacity) for most, size, opacity in MARKERS if total <= most)
    traces: list[dict[str, Any]] = []
    ends = [_ends([one.x for one in kept]), _ends([one.y for one in kept])]
    if diagonal:
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        ends = [(low, high), (low, high)]
        traces.append({
            "type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high], "hoverinfo": "skip",
            "showlegend": False, "line": {"color": "#7d848d", "width": 1.2, "dash": "dot"},
        })  # fmt: skip
    drawn = []
    for one in kept:
        traces.append({  # for the legend alone
            "type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip",
            "name": f"{label_text(one.name, 40)} ({len(one.x):,})", "showlegend": bool(one.name),
            "marker": {"color": TONES[one.tone], "size": 9},
        })  # fmt: skip
        drawn.append({"trace": len(traces) - 1, "colour": TONES[one.tone], "x": _bytes("f", one.x),
                      "y": _bytes("f", one.y), "rows": _bytes("i", one.rows or ())})  # fmt: skip
    layout = plain_layout(label_text(x_title), height=420)
    layout["xaxis"] |= {"range": list(ends[0]), "fixedrange": False}
    layout["yaxis"] |= {"range": list(ends[1]), "fixedrange": False,
                        "title": {"text": label_text(y_title), "font": {"size": 12}}}  # fmt: skip
    legend = {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "itemclick": "toggle",
              "itemdoubleclick": "toggleothers", "font": {"size": 12}}  # fmt: skip
    more = {"showlegend": any(one.name for one in kept), "legend": legend, "hovermode": False}
    told = label or said["plot_scatter_label"].format(x=x_title, y=y_title, n=f"{total:,}")
    names = [label_text(x_name or x_title, 24), label_text(y_name or y_title, 24)]
    points_drawn = {"points": drawn, "size": size, "opacity": opacity, "names": names}
    return figure(traces, layout | more, told, lang, set_name=set_name, moves=True, **points_drawn)


def _finite(points: Points) -> Points:
    """Without what can't be drawn."""
    rows = list(points.rows) if points.rows is not None else range(len(points.x))
    if all(map(math.isfinite, points.x)) and all(map(math.isfinite, points.y)):
        return Points(points.x, points.y, rows, points.name, points.tone)
    every = zip(points.x, points.y, rows, strict=True)
    kept = [one for one in every if math.isfinite(one[0]) and math.isfinite(one[1])]
    x, y, of = zip(*kept, strict=True) if kept else ((), (), ())
    return Points(x, y, of, points.name, points.tone)


def _bytes(kind: str, numbers: Sequence[float]) -> dict[str, str]:
    """As Plotly reads a typed array. kind: f for numbers, i for whole ones."""
    raw = array(kind, numbers if kind == "f" else map(int, numbers)).tobytes()
    return {"dtype": f"{kind}4", "bdata": base64.b64encode(raw).decode()}


def _ends(many: Sequence[Sequence[float]]) -> tuple[float, float]:
    low, high = min(min(one) for one in many), max(max(one) for one in many)
    room = 0.04 * (high - low) or max(0.5, abs(high) * 0.1)
    return low - room, high + room


# --- a value with its interval -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A row of interval_bars. note: what stands after the name, such as how many. ask, sent: `data-ask` and
    `data-value` of a row that is a button; without `ask` it is none. pressed: of a button that is one of a choice."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    tone: str = "plain"
    ask: str = ""
    sent: str = ""
    pressed: bool | None = None


def interval_bars(
    bars: Sequence[Bar],
    lang: str,
    *,
    middle: float | None = 0.5,
    ends: tuple[float, float] | None = (0.0, 1.0),
    percent: bool = True,
    below: str = "",
    above: str = "",
    filled: bool = False,
    css: str = "",
) -> str:
    """Each value as a dot with its interval on one common scale, with its numbers beside it. middle: a line to be
    compared with (one half, no difference, chance), None for none. ends: of the scale, None for what holds all with the
    middle in the middle. below, above: what lies on either side of the middle, over the scale. filled: a bar from the
    left end, for levels. Empty without a row."""
    bars = [bar for bar in bars if finite_number(bar.value) is not None]
    if not bars:
        return ""
    low, high = ends or _around(bars, middle)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - low) / span)), 3)

    rows = []
    for bar in bars:
        inside = [tag("i", "dd-int-mid", style=f"left:{at(middle)}%")] if middle is not None else []
        start, end = finite_number(bar.low), finite_number(bar.high)
        if filled:
            inside.append(tag("i", "dd-int-fill", style=f"width:{at(bar.value)}%"))
        if start is not None and end is not None:
            inside.append(tag("i", "dd-int-span", style=f"left:{at(start)}%;width:{round(at(end) - at(start), 3)}%"))
        inside.append(tag("i", "dd-int-dot", style=f"left:{at(bar.value)}%"))
        shown = number(bar.value, percent)
        between = f"{number(start, percent)} – {number(end, percent)}" if start is not None and end is not None else ""
        said = tag("span", "dd-int-value", tag("b", "", text(shown)), tag("span", "dd-dim", text(between)))
        name = tag("span", "dd-int-name", text(bar.name),
                   tag("span", "dd-dim", text(bar.note)) if bar.note else "")  # fmt: skip
        parts = (name, tag("span", "dd-int-track", *inside, aria_hidden="true"), said)
        css_row = f"dd-int-row dd-tone-{bar.tone}"
        if not bar.ask:
            rows.append(tag("div", css_row, *parts))
            continue
        on = None if bar.pressed is None else str(bar.pressed).lower()
        rows.append(tag("button", css_row, *parts, type="button", data_ask=bar.ask, data_value=bar.sent,
                        aria_pressed=on))  # fmt: skip
    ticks = [low, *((middle,) if middle is not None and low < middle < high else ()), high]
    scale = (tag("i", "", text(number(tick, percent, whole=True)), style=f"left:{at(tick)}%") for tick in ticks)
    under = tag("span", "dd-int-scale", *scale, aria_hidden="true")
    foot = tag("div", "dd-int-row dd-int-foot", tag("span", ""), under, tag("span", ""))
    sides = ""
    if below or above:
        ways = tag("span", "dd-int-ways", tag("span", "", text(f"← {below}")), tag("span", "", text(f"{above} →")))
        sides = tag("div", "dd-int-row dd-int-head", tag("span", ""), ways, tag("span", ""))
    return tag("div", f"dd-int {css}".strip(), sides, *rows, foot)


def _around(bars: Sequence[Bar], middle: float | None) -> tuple[float, float]:
    numbers = [n for bar in bars for n in (bar.value, bar.low, bar.high) if n is not None and math.isfinite(n)]
    if middle is None:
        return min(0.0, *numbers), max(0.0, *numbers)
    reach = 1.08 * max(abs(n - middle) for n in numbers) or 1.0
    return middle - reach, middle + reach


def number(value: float | None, percent: bool = False, *, whole: bool = False, signed: bool = False) -> str:
    """A figure as it is read: 3 digits, a share in percent with one decimal. –: not measured."""
    value = finite_number(value)
    if value is None:
        return "–"
    sign = "+" if signed else ""
    if percent:
        shown = f"{100 * value:{sign}.{0 if whole else 1}f}%"
    else:
        exact = value.is_integer() or abs(value) >= 1000
        digits = 0 if exact else max(0, 2 - math.floor(math.log10(abs(value))))
        shown = f"{value:{sign},.{min(digits, 6)}f}"
        if "." in shown and (whole or abs(value) < 1):
            shown = shown.rstrip("0").rstrip(".")
    return shown.replace("-", "−")


# --- distributions -----------------------------------------------------------------------------------------------


def histogram(
    values: Sequence[float], lang: str, *, x_title: str, middle: float | None = 0.0, label: str = "", height: int = 240
) -> str:
    """How differences (or rewards, with middle=None) are spread; below the middle in another colour than above it, no
    bar across it. Empty with fewer than two values or all of them equal."""
    kept = sorted(v for v in values if math.isfinite(v))
    if len(kept) < 2 or kept[0] == kept[-1]:
        return ""
    edges, counts = binned(kept, middle)
    centres = [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    colours = [ACCENT if middle is None else GOOD if c > middle else BAD for c in centres]
    trace = {
        "type": "bar", "x": centres, "y": counts, "width": [b - a for a, b in zip(edges, edges[1:], strict=False)],
        "marker": {"color": colours, "line": {"width": 0}}, "opacity": 0.85,
        "customdata": [f"{number(a)} … {number(b)}" for a, b in zip(edges, edges[1:], strict=False)],
        "hovertemplate": "%{customdata}: %{y:,}<extra></extra>",
    }  # fmt: skip
    layout = plain_layout(label_text(x_title), height=height)
    shapes = [] if middle is None else [_line(x=middle)]
    layout["yaxis"] |= {"rangemode": "tozero", **_beside(words(lang)["plot_count"])}
    return figure([trace], layout | {"shapes": shapes, "bargap": 0.04, "showlegend": False}, label or x_title, lang)


def _beside(title: str) -> dict[str, Any]:
    """The name of an upright axis, clear of its numbers."""
    return {"automargin": True, "title": {"text": label_text(title), "font": {"size": 12}, "standoff": 8}}


def binned(ordered: Sequence[float], middle: float | None) -> tuple[list[float], list[int]]:
    """(edges, counts) of numbers in order: bins of one width with an edge at the middle, far ends in the outermost."""
    cut = int(TAIL * len(ordered))
    low, high = ordered[cut], ordered[-1 - cut]
    if low == high:
        low, high = ordered[0], ordered[-1]
    wanted = min(MAX_BARS, max(LEAST_BARS, math.ceil(2 * len(ordered) ** (1 / 3))))
    width = (high - low) / wanted
    start = low if middle is None else middle + math.floor((low - middle) / width) * width
    bins = max(1, math.ceil((high - start) / width - 1e-9) + (0 if middle is None else 1))
    counts = [0] * bins
    for value in ordered:
        counts[min(bins - 1, max(0, math.floor((value - start) / width)))] += 1
    while counts and not counts[-1]:
        counts.pop()
    return [start + n * width for n in range(len(counts) + 1)], counts


def calibration(bins: Sequence[Mapping[str, Any]], lang: str, *, label: str = "") -> str:
    """How sure the model is against how often it is right; on the diagonal it is as right as it is sure. bins: the JSON
    of CalibrationBin."""
    said = words(lang)
    read = ((finite_number(b.get("predicted")), _value(b.get("observed")), b.get("observed")) for b in bins)
    dots = [(p, o, share) for p, o, share in read if p is not None and o is not None and share]
    if not dots:
        return ""
    trace = _dots([p for p, _, _ in dots], [o for _, o, _ in dots], [s for _, _, s in dots], said,
                  "%{x:.0%} → %{y:.0%}")  # fmt: skip
    ideal = {"type": "scatter", "mode": "lines", "x": [0.5, 1], "y": [0.5, 1], "hoverinfo": "skip",
             "line": {"color": "#7d848d", "width": 1.2, "dash": "dot"}}  # fmt: skip
    layout = plain_layout(said["plot_calibration_x"], height=320)
    low = min(0.5, *(finite_number(s.get("low")) or 0.5 for _, _, s in dots))
    layout["xaxis"] |= {"range": [0.48, 1.02], "tickformat": ".0%"}
    layout["yaxis"] |= {"range": [max(-0.02, low - 0.04), 1.04], "tickformat": ".0%",
                        **_beside(said["plot_calibration_y"])}  # fmt: skip
    return figure([ideal, trace], layout | {"showlegend": False}, label or said["plot_calibration_label"], lang)


def length_bins(bins: Sequence[Mapping[str, Any]], lang: str, *, label: str = "") -> str:
    """Accuracy by how much longer the chosen answer is. bins: the JSON of LengthBin, whose ends are log ratios."""
    said = words(lang)
    kept = [b for b in bins if isinstance(b, Mapping) and _value(b.get("accuracy")) is not None]
    if not kept:
        return ""
    places = list(range(len(kept)))
    shares = [b["accuracy"] for b in kept]
    names = [_times(b.get("low"), b.get("high"), said) for b in kept]
    trace = _dots(places, [float(s["value"]) for s in shares], shares, said, "%{y:.0%}")
    layout = plain_layout(said["plot_length_x"], height=300)
    layout["xaxis"] |= {"tickmode": "array", "tickvals": places, "ticktext": names, "showgrid": False,
                        "range": [-0.6, len(kept) - 0.4], "tickangle": "auto"}  # fmt: skip
    layout["yaxis"] |= {"range": [-0.02, 1.04], "tickformat": ".0%",
                        **_beside(said["plot_length_y"])}  # fmt: skip
    return figure([trace], layout | {"showlegend": False, "shapes": [_line(y=0.5)]}, label or said["plot_length_label"],
                  lang)  # fmt: skip


def _times(low: Any, high: Any, said: Mapping[str, Any]) -> str:
    """Ends of log ratios as how many times as long: `½–⅔` reads badly, so `÷2` and `×2`."""
    first, last = finite_number(low), finite_number(high)
    if first is None and last is None:
        return ""
    if first is not None and last is not None and abs(first + last) < 1e-9:
        return str(said["plot_length_alike"])
    return f"{_factor(first)} … {_factor(last)}"


def _factor(log: float | None) -> str:
    if log is None:
        return ""
    times = math.exp(min(50.0, abs(log)))
    shown = f"{times:,.0f}" if times >= 10 else f"{times:.1f}".rstrip("0").rstrip(".")
    return shown if shown == "1" else f"{'×' if log > 0 else '÷'}{shown}"


def _dots(x: Sequence[float], y: Sequence[float], shares: Sequence[Mapping[str, Any]], said: Mapping[str, Any],
          hover: str) -> dict[str, Any]:  # fmt: skip
    """Values with their intervals, larger where more stands behind them."""
    many = [finite_number(s.get("n")) or 0 for s in shares]
    most = max(many) or 1
    return {
        "type": "scatter", "mode": "markers+lines", "x": list(x), "y": list(y), "line": {"color": ACCENT, "width": 1.5},
        "marker": {"color": ACCENT, "size": [7 + 9 * math.sqrt(n / most) for n in many], "opacity": 1},
        "error_y": {"type": "data", "symmetric": False, "thickness": 1.4, "width": 4, "color": "#7d848d",
                    "array": [_gap(s.get("high"), s.get("value")) for s in shares],
                    "arrayminus": [_gap(s.get("value"), s.get("low")) for s in shares]},
        "customdata": [said["plot_of_n"].format(n=f"{n:,.0f}") for n in many],
        "hovertemplate": hover + " · %{customdata}<extra></extra>",
    }  # fmt: skip


def _value(share: Any) -> float | None:
    return finite_number(share.get("value")) if isinstance(share, Mapping) else None


def _gap(high: Any, low: Any) -> float:
    top, bottom = finite_number(high), finite_number(low)
    return 0.0 if top is None or bottom is None else max(0.0, top - bottom)


def _line(*, x: float | None = None, y: float | None = None) -> dict[str, Any]:
    ends = ({"xref": "x", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1} if x is not None else
            {"xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y})  # fmt: skip
    return {"type": "line", "layer": "above", "line": {"color": "#7d848d", "width": 1.2, "dash": "dot"}, **ends}


# --- on the page -------------------------------------------------------------------------------------------------


def figure(
    traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], label: str, lang: str, *, set_name: str = "",
    moves: bool = False, **points: Any,
) -> str:  # fmt: skip
    """Any figure. moves: it can be panned and zoomed, and has buttons for it. label: said to who can't see it. points:
    what the script draws itself."""
    said = words(lang)
    named = {name: said[f"plot_{name}"] for name in ("closer", "farther", "whole", "picture")}
    drawn = {"data": list(traces), "layout": dict(layout), "label": label, "moves": moves, "words": named, **points}
    return tag("dd-figure", "dd-figure", data_figure=json.dumps(drawn, ensure_ascii=False, allow_nan=False),
               data_set=set_name or None, style=f"min-height:{layout.get('height', 240)}px")  # fmt: skip


def loader() -> gr.Plot:
    """Lay out an unseen plot, which has the page load the Plotly that draws all figures of its tab."""
    return gr.Plot(empty_plot(), show_label=False, container=False, elem_classes="dd-plot-loader")
