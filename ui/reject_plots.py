"""How candidates are spread, by the strategy that made them: Plotly figures in the look of the other tabs."""

from __future__ import annotations

from typing import Any

from gradio.components.plot import PlotData

from ui.charts import ACCENT, OTHER, label_text, plain_layout, plotly
from ui.interface_words import words
from ui.reject_index import BIN_WIDTHS, BINS, Rows, Tally
from ui.reject_view import strategy_name

NAMES = ("on_topic", "chosen_share", "length_ratio", "rep_4")
COLOURS = ("#0f9d8f", "#d9730d", "#7c5cd6", "#2f7fd1", "#d6457f", "#8a8f1f")  # as --dd-tone of runs in page.css
LOOPS_FROM = 0.5  # repeated 4-grams, as the policies' max_rep_4
MAX_STRATEGIES = 12  # with more than that bars are too thin to be read


def figures(index: Rows, lang: str) -> dict[str, PlotData | None]:
    """A figure for each of NAMES, None where nothing of it was measured."""
    tallies = dict(sorted(index.strategies.items(), key=lambda one: -one[1].candidates)[:MAX_STRATEGIES])
    return {
        "on_topic": _rates({n: (t.on_topic, t.on_topic + t.off_topic) for n, t in tallies.items()}, lang),
        "chosen_share": _chosen(tallies, lang),
        "length_ratio": _spread(tallies, "length_ratio", lang),
        "rep_4": _loops(tallies, lang),
    }


def _rates(parts: dict[str, tuple[int, int]], lang: str) -> PlotData | None:
    """One bar a strategy: a share with its number."""
    there = {name: (n, of) for name, (n, of) in parts.items() if of}
    if not there:
        return None
    names = [strategy_name(name, lang) if name else words(lang)["rejects_plot_together"] for name in there]
    shares = [n / of for n, of in there.values()]
    labels = [f"<b>{n / of:.0%}</b>  {label_text(name, 28)}  ({n:,}/{of:,})"
              for name, (n, of) in zip(names, there.values(), strict=True)]  # fmt: skip
    return _bars(labels, shares, [ACCENT] * len(shares))


def _chosen(tallies: dict[str, Tally], lang: str) -> PlotData | None:
    """Where the rejects that were taken come from, as shares of all taken; the largest first."""
    taken = {name: t.rejected for name, t in tallies.items() if t.rejected}
    total = sum(taken.values())
    return _rates({n: (k, total) for n, k in sorted(taken.items(), key=lambda one: -one[1])}, lang)


def _loops(tallies: dict[str, Tally], lang: str) -> PlotData | None:
    """How many candidates of each strategy repeat themselves; of all together where none does."""
    first = round(LOOPS_FROM / BIN_WIDTHS["rep_4"])
    found = {n: (sum(t.bins["rep_4"][first:]), t.numbers["rep_4"]) for n, t in tallies.items() if t.numbers["rep_4"]}
    if found and not any(n for n, _ in found.values()):
        return _rates({"": (0, sum(of for _, of in found.values()))}, lang)
    return _rates(found, lang)


def _bars(labels: list[str], shares: list[float], colours: list[str]) -> PlotData:
    places = list(range(len(shares)))
    traces = [
        {"type": "bar", "orientation": "h", "y": places, "x": [1.0] * len(shares), "marker": {"color": OTHER},
         "opacity": 0.18, "hoverinfo": "skip", "width": 0.24},
        {"type": "bar", "orientation": "h", "y": places, "x": shares, "marker": {"color": colours},
         "hoverinfo": "skip", "width": 0.24},
    ]  # fmt: skip
    place_of_label = {"x": 0, "yshift": 17, "xref": "x", "yref": "y", "showarrow": False, "xanchor": "left",
                      "align": "left", "font": {"size": 13}}  # fmt: skip
    notes = [{**place_of_label, "y": place, "text": label} for place, label in enumerate(labels)]
    layout = plain_layout("", height=40 + 46 * len(shares))
    layout["margin"] |= {"b": 16}
    layout["yaxis"] |= {"range": [len(shares) - 0.6, -0.75], "showticklabels": False, "showgrid": False}
    layout["xaxis"] |= {"range": [0, 1.001], "showticklabels": False, "showgrid": False}
    return plotly(traces, layout | {"annotations": notes, "showlegend": False, "barmode": "overlay"})


def _spread(tallies: dict[str, Tally], measure: str, lang: str) -> PlotData | None:
    """One line a strategy: the share of its candidates in each bin."""
    width = BIN_WIDTHS[measure]
    there = {name: t for name, t in tallies.items() if t.numbers[measure]}
    if not there:
        return None
    last = max(place for t in there.values() for place, n in enumerate(t.bins[measure]) if n)
    last = min(BINS - 1, max(last + 1, 10))
    traces: list[dict[str, Any]] = []
    for place, (name, tally) in enumerate(there.items()):
        bins, n = tally.bins[measure], tally.numbers[measure]
        shown = label_text(strategy_name(name, lang), 28)
        traces.append({
            "type": "scatter", "mode": "lines", "name": shown, "line": {"color": COLOURS[place % len(COLOURS)],
            "width": 2, "shape": "hvh", "dash": "solid" if place < len(COLOURS) else "dot"},
            "x": [(b + 0.5) * width for b in range(last + 1)], "y": [bins[b] / n for b in range(last + 1)],
            "hovertemplate": f"{shown}<br>%{{x:.2f}}: %{{y:.0%}}<extra></extra>",
        })  # fmt: skip
    layout = plain_layout(words(lang)[f"rejects_axis_{measure}"], height=280)
    layout["yaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    layout["xaxis"] |= {"range": [0, (last + 1) * width]}
    layout["margin"] |= {"t": 12}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}}
    return plotly(traces, layout | {"showlegend": len(traces) > 1, "legend": legend})
