"""What the tab Logs says around the curves: the line of facts, the marks, the comparison, the states without a log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from diagnostics.render import verdict_line
from diagnostics.report import Report
from pipeline.durations import exactly
from ui.charts import finite_number
from ui.interface_words import known, words
from ui.log_charts import SEVERE, ShownRun, full_name, spot_of, with_anchors
from ui.report_view import mark
from ui.safe_html import tag, text

# Outcomes of LOG001 that another reading may change: the log has lines, and no loss was seen in them.
NO_LOSS = ("no_metrics", "no_metrics_but_crash", "records_without_metrics", "no_loss")


def reading(name: str, lang: str) -> str:
    """While a log is read."""
    line = text(words(lang)["log_reading"].format(name=name[:200]))
    return tag("section", "dd-card dd-verdict dd-neutral", tag("p", "dd-reading", tag("span", "dd-pulse"), line),
               role="status", aria_live="polite", data_running="1")  # fmt: skip


def facts(report: Report, lang: str) -> str:
    """Steps, epochs, tokens, rows, begin, end and duration in one small line."""
    said = words(lang)
    metrics = report.metrics
    parts: list[str] = []
    if not report.curves:
        return ""
    last, planned = finite_number(metrics.get("log.last_step")), finite_number(metrics.get("log.max_steps"))
    if last:
        of = planned is not None and planned >= last
        parts.append(said["fact_steps_of" if of else "fact_steps"].format(n=f"{last:,.0f}", of=f"{planned or 0:,.0f}"))
    if epochs := finite_number(metrics.get("log.last_epoch")):
        parts.append(said["fact_epochs"].format(n=f"{epochs:.3g}"))
    if tokens := _tokens(report):
        parts.append(said["fact_tokens"].format(n=_large(tokens)))
    parts.append(said["fact_rows"].format(n=f"{finite_number(metrics.get('log.records')) or 0:,.0f}"))
    parts.append(said["fact_curves" if len(report.curves) > 1 else "fact_curve"].format(n=len(report.curves)))
    began, ended = finite_number(metrics.get("log.started")), finite_number(metrics.get("log.ended"))
    if began is not None and ended is not None and ended > began:
        first, second = _moment(began), _moment(ended)
        same_day = first[:10] == second[:10]
        parts.append(f"{first} → {second[11:] if same_day else second}")
    if length := duration(report, lang):
        parts.append(length)
    return tag("p", "dd-facts", text(" · ".join(parts)))


def duration(report: Report, lang: str) -> str:
    """How long the log spans; empty where it doesn't say."""
    seconds = finite_number(report.metrics.get("log.seconds")) or 0
    return exactly(seconds, known(lang)) if seconds >= 1 else ""


def marks(runs: Sequence[ShownRun], lang: str) -> str:
    """What is marked on the curves of the first run, as links a keyboard reaches."""
    if not runs:
        return ""
    said = words(lang)
    links = []
    for finding, anchor in with_anchors(runs[0].report.findings):
        spot = spot_of(finding)
        if finding.severity not in SEVERE or spot is None:
            continue
        line = said["mark_at"].format(code=finding.code, curve=full_name(spot[0], said), step=f"{spot[1]:.10g}")
        links.append(tag("button", "dd-chip-link", mark(finding.severity), text(line), type="button", data_jump=anchor,
                         title=finding.message))  # fmt: skip
    return tag("div", "dd-marks", *links) if links else ""


def pictures(lang: str) -> str:
    """Buttons that save the chart as it is shown."""
    said = words(lang)
    saved = [tag("button", "dd-small", text(name), type="button", data_picture=form)
             for name, form in (("PNG", "png"), ("SVG", "svg"))]  # fmt: skip
    brush = tag("button", "dd-small dd-brush", text(said["zoom_by_finger"]), type="button", data_brush="1",
                aria_pressed="false")  # fmt: skip
    return tag("div", "dd-pictures", tag("span", "dd-dim", text(said["zoom_info"])), brush, *saved)


def live_line(last_line: float | None, stopped: str, lang: str) -> str:
    """When the last line of a followed log came. stopped: entry of interface.yaml that says why following ended."""
    said = words(lang)
    if stopped:
        return tag("span", "dd-dim", text(said[stopped]))
    if last_line is None:
        return ""
    ago = exactly(time.time() - last_line, known(lang))
    return tag("span", "dd-live", tag("span", "dd-pulse"), text(said["last_line"].format(ago=ago)))


def comparison(runs: Sequence[ShownRun], lang: str) -> str:
    """A row of numbers for each run; the first is the one whose findings stand below."""
    if len(runs) < 2:
        return ""
    said = words(lang)
    head = ("run", "kind_steps", "last_loss", "lowest_evaluation", "took", "verdict")
    rows = []
    for place, run in enumerate(runs):
        report = run.report
        colour = tag("i", f"dd-swatch dd-run-{place}")
        choose = tag("button", "dd-link", colour, text(report.subject.name), type="button", data_run=str(place),
                     title=said["show_this_run"], aria_pressed="true" if place == 0 else "false")  # fmt: skip
        remove = tag("button", "dd-link dd-remove", "×", type="button", data_remove=str(place),
                     aria_label=said["remove_run"], title=said["remove_run"])  # fmt: skip
        values = [
            _count(report.metrics.get("log.last_step") or report.metrics.get("log.rows")),
            _value(report.metrics.get("log.loss.last")), _value(report.metrics.get("log.eval_loss.lowest")),
            duration(report, lang) or "–",
        ]  # fmt: skip
        judged = tag("span", f"dd-judged dd-{report.verdict}", text(verdict_line(report)))
        cells = [tag("th", "", choose, scope="row"), *(tag("td", "dd-num", text(v)) for v in values),
                 tag("td", "", judged), tag("td", "", remove)]  # fmt: skip
        rows.append(tag("tr", "", *cells))
    titles = [tag("th", "", text(said[f"column_{name}"]), scope="col") for name in head] + [tag("th", "")]
    table = tag("table", "dd-compare", tag("thead", "", tag("tr", "", *titles)), tag("tbody", "", *rows))
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["comparison"])),
               tag("div", "dd-scroll", table, tabindex=0))  # fmt: skip


def no_loss_names(report: Report) -> list[str] | None:
    """Names found in a log that seems to hold no loss; None where that is not what is wrong with it."""
    for finding in report.findings:
        if finding.code == "LOG001" and finding.outcome in NO_LOSS:
            keys = finding.params.get("keys")
            return [str(k) for k in keys] if isinstance(keys, (list, tuple)) else []
    return None


def own_form(names: Sequence[str], lang: str) -> str:
    """Asks for the form of a log in which no loss was seen, and says what was."""
    said = words(lang)
    found = said["own_found"].format(names=", ".join(names)) if names else said["own_found_nothing"]
    return tag("h3", "dd-h", text(said["own_title"])) + tag("p", "dd-dim", text(found))


def _tokens(report: Report) -> float | None:
    """Tokens seen, where the log counts them."""
    curve = report.curves.get("num_tokens")
    values = curve.get("value") if isinstance(curve, Mapping) else None
    known = [v for v in map(finite_number, values or ()) if v is not None]
    return max(known) if known else None


def _large(number: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "?"


def _count(value: Any) -> str:
    number = finite_number(value)
    return "–" if number is None else f"{number:,.0f}"


def _value(value: Any) -> str:
    number = finite_number(value)
    return "–" if number is None else f"{number:.4g}"
