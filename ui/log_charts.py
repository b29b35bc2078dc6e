"""Curves of one or several logs as data for the page's chart: which curves stand together, and what is marked on them.

The server chooses, thins and names; ui/assets/curves.js lays the panels out for the width it has, smooths, and draws
with Plotly, so that no setting of the chart asks the server.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostics.render import worst_first
from diagnostics.report import Finding, Report
from ui.charts import finite_number, label_text
from ui.interface_words import words

# One panel a row: its entry in interface.yaml, and the curves that may stand in it, strongest first. The first curve
# of each is drawn strongest; evaluation stands beside training in the same panel.
PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("loss", "eval_loss", "sft_loss", "value_loss")),
    ("reward", ("reward", "mean_reward", "min_reward", "max_reward", "eval_reward")),
    ("rewards", ("rewards/chosen", "rewards/rejected", "eval_rewards/chosen", "eval_rewards/rejected")),
    ("scores", ("chosen_score", "rejected_score", "eval_chosen_score", "eval_rejected_score")),
    ("margins", ("rewards/margins", "margin", "eval_rewards/margins", "eval_margin", "log_odds_chosen")),
    ("accuracies", ("rewards/accuracies", "accuracy", "mean_token_accuracy", "eval_rewards/accuracies", "eval_accuracy",
                    "eval_mean_token_accuracy")),
    ("logps", ("logps/chosen", "logps/rejected", "eval_logps/chosen", "eval_logps/rejected")),
    ("kl", ("kl",)),
    ("reward_std", ("reward_std", "frac_reward_zero_std")),
    ("length", ("completions/mean_length", "completions/max_length")),
    ("clipped", ("completions/clipped_ratio",)),
    ("entropy", ("entropy",)),
    ("learning_rate", ("learning_rate",)),
    ("grad_norm", ("grad_norm",)),
)  # fmt: skip
MAX_RUNS = 6
POINTS = 1200  # of one curve; several runs share them
SEVERE = ("error", "warning")


@dataclass(frozen=True)
class ShownRun:
    """One log on the page. id: of its report. report: said in the language of the page."""

    id: str
    report: Report


def chart(runs: Sequence[ShownRun], lang: str, more: Sequence[str] = ()) -> str:
    """JSON of the chart for `curves.js`: panels with their curves, marks, words. Empty where there is no curve.

    more: names of further curves that a visitor chose, each with a panel of its own.
    """
    said = words(lang)
    panels: list[dict[str, Any]] = []
    wanted = (*PANELS, *((name, (name,)) for name in more))
    if any("reward" in run.report.curves for run in runs):  # what such a run is for; its loss says little
        wanted = (wanted[1], wanted[0], *wanted[2:])
    points = max(200, POINTS // max(1, len(runs)))
    for entry, names in wanted:
        curves = [
            _curve(run.report, name, place, order, points, said)
            for place, run in enumerate(runs)
            for order, name in enumerate(_members(run.report, entry, names))
        ]
        curves = [curve for curve in curves if curve is not None]
        if curves:
            title = said.get(f"panel_{entry}") or label_text(entry)
            panels.append({"id": entry, "title": title, "curves": curves})
    if not panels:
        return ""
    labels = {key.removeprefix("chart_"): text for key, text in said.items() if key.startswith("chart_")}
    made = {
        "runs": [label_text(run.report.subject.name) for run in runs],
        "panels": panels,
        "marks": _marks(runs),
        "steps_known": all(run.report.metrics.get("log.steps_known", 1.0) for run in runs),
        "words": labels,
    }
    return json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def axes(runs: Sequence[ShownRun]) -> list[str]:
    """What the chart can be drawn over: `step`, and `epoch` and `time` where a log tells them."""
    curves = [c for run in runs for c in run.report.curves.values() if isinstance(c, Mapping)]
    known = [axis for axis in ("epoch", "time") if any(c.get(axis) for c in curves)]
    if not any((finite_number(run.report.metrics.get("log.seconds")) or 0) >= 1 for run in runs):
        known = [axis for axis in known if axis != "time"]  # single times, as of an evaluation, place nothing else
    return ["step", *known]


def further_curves(runs: Sequence[ShownRun]) -> list[str]:
    """Names of curves that stand in no panel."""
    shown = {name for _, names in PANELS for name in names}
    shown |= {n for run in runs for n in _members(run.report, "loss", ())}
    return sorted({n for run in runs for n in run.report.curves} - shown)


def to_csv(runs: Sequence[ShownRun]) -> str:
    """All curves of the reports, one row a point: run, curve, step, epoch, time, value."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("run", "curve", "step", "epoch", "time", "value"))
    for run in runs:
        for name, curve in run.report.curves.items():
            if not isinstance(curve, Mapping):
                continue
            columns = [_column(curve, key) for key in ("step", "epoch", "time")]
            for i, value in enumerate(curve.get("value") or ()):
                places = ("" if column is None or column[i] is None else f"{column[i]:.15g}" for column in columns)
                writer.writerow((_cell(run.report.subject.name), _cell(name), *places, value))
    return out.getvalue()


def _cell(value: str) -> str:
    """A spreadsheet runs what begins like a formula."""
    return f"'{value}" if value[:1] in "=+-@\t\r" else value


def _members(report: Report, entry: str, names: Sequence[str]) -> list[str]:
    """The panel's curves that the log has; the losses of several evaluation sets stand beside the first."""
    found = [name for name in names if name in report.curves]
    if entry == "loss":
        found += [
            n for n in report.curves if n.startswith("eval_") and n.endswith("_loss") and n not in (*found, "eval_loss")
        ][:4]
    return found


def _column(curve: Mapping[str, Any], name: str) -> list[float | None] | None:
    """`step`, `epoch` or `time` of each point, None where the curve has none or it is damaged."""
    values = curve.get(name)
    if not isinstance(values, (list, tuple)) or len(values) != len(curve.get("value") or ()):
        return None
    return [finite_number(v) for v in values]


def _curve(
    report: Report, name: str, run: int, order: int, points: int, said: Mapping[str, Any]
) -> dict[str, Any] | None:
    from numpy import array

    from pipeline.logs.thin_out import points_kept

    found = report.curves.get(name)
    steps = _column(found, "step") if isinstance(found, Mapping) else None
    if steps is None:
        return None
    values = [finite_number(v) for v in found["value"]]
    kept = points_kept(array([math.nan if v is None else v for v in values]), points).tolist() if values else []
    made: dict[str, Any] = {
        "name": said.get(f"curve_{name}") or label_text(name), "curve": name, "run": run, "order": order,
        "eval": name.startswith("eval_"), "step": [steps[i] for i in kept], "value": [values[i] for i in kept],
    }  # fmt: skip
    for axis in ("epoch", "time"):
        column = _column(found, axis)
        if column is not None:
            made[axis] = [column[i] for i in kept]
    return made


def _marks(runs: Sequence[ShownRun]) -> list[dict[str, Any]]:
    """Places on curves that findings speak of; of one run also what is fine or only told is left out."""
    made = []
    for place, run in enumerate(runs):
        for finding, anchor in with_anchors(run.report.findings):
            if finding.severity not in SEVERE or (spot := spot_of(finding)) is None:
                continue
            curve, first, last = spot
            made.append({
                "run": place, "curve": curve, "code": finding.code, "severity": finding.severity, "target": anchor,
                "from": first, "to": last, "message": label_text(finding.message, 300),
            })  # fmt: skip
    return made


def with_anchors(findings: Sequence[Finding]) -> list[tuple[Finding, str]]:
    """Findings worst first, each with the id of its place on the page; links lead to the first one of a code."""
    seen: Counter[str] = Counter()
    found = []
    for finding in worst_first(findings):
        repeat = seen[finding.code]
        found.append((finding, f"dd-{finding.code}-{repeat}" if repeat else f"dd-{finding.code}"))
        seen[finding.code] += 1
    return found


def full_name(curve: str, said: Mapping[str, Any]) -> str:
    """What a curve is called outside of its panel: `Loss: training`; its own name where no panel has it."""
    for entry, names in PANELS:
        if curve in names:
            panel, name = str(said[f"panel_{entry}"]), str(said.get(f"curve_{curve}", curve))
            return panel if len(names) == 1 or name.lower() == panel.lower() else said["curve_of_panel"].format(
                panel=panel, name=name
            )  # fmt: skip
    return curve


def spot_of(finding: Finding) -> tuple[str, float, float | None] | None:
    """(curve, first step, last step or None) that a finding speaks of; None where it names no place."""
    curve, first = finding.params.get("curve"), finite_number(finding.params.get("from_step"))
    if not isinstance(curve, str) or first is None:
        return None
    last = finite_number(finding.params.get("to_step"))
    return curve, first, last if last is not None and last > first else None
