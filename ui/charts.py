"""Figures of a report as Plotly JSON, which the page draws; the server needs no plotting library for it.

Texts and lines take the page's colours by CSS, so that one figure serves light and dark.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradio.components.plot import PlotData

from diagnostics.render import visible
from diagnostics.report import Report
from ui.interface_words import words

ACCENT, DECLARED, OTHER = "#0f9d8f", "#d98e04", "#9aa1aa"
MAX_BARS, MAX_LAYERS, MAX_LABEL = 8, 24, 60
_BLOCK = re.compile(r"^.*?\.\d+(?=\.|$)")


def format_autopsy(report: Report, lang: str) -> PlotData | None:
    """Bars of nats per answer token by prompt format, best on top, with 95% intervals; declared and best coloured."""
    rows = [r for r in _rows(report.curves.get("format_autopsy")) if finite_number(r.get("nats")) is not None]
    if not rows:
        return None
    said = words(lang)
    ranked = sorted(rows, key=lambda r: float(r["nats"]))
    kept = ranked[:MAX_BARS] + [r for r in ranked[MAX_BARS:] if r.get("declared")]
    names = []
    for row in kept:
        marks = [said[m] for m in ("best", "declared") if row.get(m)]
        names.append(" · ".join([f"<b>{row['nats']:.2f}</b>  {_label(row)}", *marks]))
    colours = [ACCENT if r.get("best") else DECLARED if r.get("declared") else OTHER for r in kept]
    spans = [(float(r["nats"]), r.get("low"), r.get("high")) for r in kept]
    return _bars(names, spans, colours, {"title": {"text": said["format_autopsy_axis"], "font": {"size": 12}}})


def stop_probability(report: Report, lang: str) -> PlotData | None:
    """Bars of how likely each token is where right answers end: median, whisker to the highest."""
    rows = [r for r in _rows(report.curves.get("stop_probability")) if finite_number(r.get("median")) is not None]
    if not rows:
        return None
    said = words(lang)
    names = [
        f"<b>{_percent(r['median'])}</b>  {_label(r)} · {said.get('stop_' + str(r.get('kind')), '')}" for r in rows
    ]
    colours = [ACCENT if r.get("kind") == "stops" else OTHER for r in rows]
    spans = [(float(r["median"]), r["median"], r.get("highest")) for r in rows]
    return _bars(names, spans, colours, {"range": [0, 1.02], "tickformat": ".0%"})


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _bars(
    names: list[str], spans: Sequence[tuple[float, Any, Any]], colours: list[str], axis: Mapping[str, Any]
) -> PlotData:
    """Horizontal bars with whiskers. names: what stands above each bar, in the little HTML that Plotly reads; beside
    the bars it would leave a phone no room. spans: (value, low, high)."""
    values = [value for value, _, _ in spans]
    places = list(range(len(names)))
    trace = {
        "type": "bar", "orientation": "h", "y": places, "x": values, "marker": {"color": colours}, "width": 0.34,
        "hovertemplate": "%{x:.3f}<extra></extra>",
        "error_x": {
            "type": "data", "symmetric": False, "thickness": 1.2, "width": 4, "color": "#7d848d",
            "array": [_gap(high, value) for value, _, high in spans],
            "arrayminus": [_gap(value, low) for value, low, _ in spans],
        },
    }  # fmt: skip
    labels = [
        {"x": 0, "y": place, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 7, "showarrow": False,
         "align": "left", "text": name, "font": {"size": 12.5}}
        for place, name in zip(places, names, strict=True)
    ]  # fmt: skip
    layout = plain_layout("", height=(64 if axis.get("title") else 46) + 42 * len(names))
    layout["yaxis"] |= {"range": [len(names) - 0.6, -0.75], "showticklabels": False, "showgrid": False}
    layout["xaxis"] |= {"rangemode": "tozero", **axis}
    return plotly([trace], layout | {"annotations": labels, "showlegend": False})


def distance_to_base(report: Report, lang: str) -> PlotData | None:
    """Relative distance of each layer to the base, in the order of the model; of many layers the mean of each block."""
    rows = [r for r in _rows(report.curves.get("distance_to_base")) if finite_number(r.get("relative")) is not None]
    if not rows:
        return None
    said = words(lang)
    stacks = list(dict.fromkeys(_stack(r) for r in rows))  # encoder and decoder apart, each in its order
    rows = sorted(rows, key=lambda r: stacks.index(_stack(r)))
    layers = [(_label(r), float(r["relative"])) for r in rows]
    if len(layers) > MAX_LAYERS:
        layers = _by_block(rows)
    trace = {
        "type": "bar", "x": list(range(len(layers))), "y": [value for _, value in layers], "marker": {"color": ACCENT},
        "customdata": [name for name, _ in layers], "hovertemplate": "%{customdata}: %{y:.4g}<extra></extra>",
    }  # fmt: skip
    layout = plain_layout("", height=260)
    layout["yaxis"] |= {"title": {"text": said["distance_axis"], "font": {"size": 12}}, "rangemode": "tozero"}
    if not any(value for _, value in layers):
        layout["yaxis"] |= {"range": [0, 0.01]}
    step = max(1, math.ceil(len(layers) / 12))
    layout["xaxis"] |= {"showgrid": False, "tickmode": "array", "tickvals": list(range(0, len(layers), step)),
                        "ticktext": [_short(layers[i][0]) for i in range(0, len(layers), step)],
                        "tickangle": -40}  # fmt: skip
    return plotly([trace], layout | {"showlegend": False, "bargap": 0.25})


def _stack(row: Mapping[str, Any]) -> str:
    return re.split(r"\d", str(row.get("layer", "")), maxsplit=1)[0]


def _by_block(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Mean of the layers whose names agree up to and with the first number: `model.layers.7`."""
    blocks: dict[str, list[float]] = {}
    for row in rows:
        name = str(row.get("layer", ""))
        match = _BLOCK.match(name)
        blocks.setdefault(match.group() if match else name, []).append(float(row["relative"]))
    return [(_label({"layer": name}), sum(values) / len(values)) for name, values in blocks.items()]


def _short(name: str) -> str:
    """The last parts of a layer's name, as many as fit under a bar."""
    while len(name) > 18 and "." in name:
        name = name.partition(".")[2]
    return name[-18:]


def _rows(curve: Any) -> Sequence[Mapping[str, Any]]:
    return [r for r in curve if isinstance(r, Mapping)] if isinstance(curve, (list, tuple)) else []


def finite_number(value: Any) -> float | None:
    """A number, None for NaN, infinity, and whatever else a stored report may hold."""
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if ok else None


def _gap(high: Any, low: Any) -> float:
    top, bottom = finite_number(high), finite_number(low)
    return 0.0 if top is None or bottom is None else max(0.0, top - bottom)


def _label(row: Mapping[str, Any]) -> str:
    return label_text(str(row.get("label") or row.get("format") or row.get("layer") or row.get("token") or ""))


def label_text(text: str, limit: int = MAX_LABEL) -> str:
    """Plotly reads a little HTML in labels: what could be markup is shown by characters that look alike."""
    label = visible(text).replace("&", "＆").replace("<", "‹").replace(">", "›").replace("$", "＄")
    return label if len(label) <= limit else label[:limit] + "…"


def plain_layout(x_title: str, height: int) -> dict[str, Any]:
    """What every figure here begins with."""
    return {
        "height": height, "margin": {"l": 8, "r": 16, "t": 8, "b": 44}, "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#7d848d"},
        "hoverlabel": {"font": {"color": "#fff"}, "bgcolor": "#333a42", "bordercolor": "#333a42"},
        "dragmode": False,
        "xaxis": {"title": {"text": x_title, "font": {"size": 12}}, "gridcolor": "rgba(127,127,127,.18)",
                  "zeroline": False, "fixedrange": True, "automargin": True},
        "yaxis": {"gridcolor": "rgba(127,127,127,.18)", "zeroline": False, "fixedrange": True, "automargin": True},
    }  # fmt: skip


def empty_plot() -> PlotData:
    """A figure without anything, for a chart that the page's script draws into."""
    return plotly([], {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "height": 320,
                      "xaxis": {"visible": False}, "yaxis": {"visible": False}})  # fmt: skip


def plotly(traces: list[dict[str, Any]], layout: dict[str, Any]) -> PlotData:
    """A figure as a plot component takes it."""
    figure = {"data": traces, "layout": layout, "config": {"displayModeBar": False, "displaylogo": False}}
    return PlotData(type="plotly", plot=json.dumps(figure, ensure_ascii=False, allow_nan=False))
