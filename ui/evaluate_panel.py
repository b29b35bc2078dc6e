"""What a panel of the tab Evaluate is: one kind of evaluation with its form, its command and the page of its result.

The tab (ui/evaluate_tab.py, ui/evaluate_requests.py, ui/assets/evaluate.js) does the rest: it lists the panels of
ui/evaluate_panels.py, keeps forms, starts and follows runs, stores reports for their links, and hands files out.

A panel's HTML stands between `tag("section", "dd-card", ...)` as everywhere. In it the page's script knows:

- figures of ui/evaluate_plots.py: a click on a point (`dd-point`, with its set and row) asks `Panel.requests["case"]`
  with `set` and `row`, and so does a button with `data-case=ROW` and `data-set=SET`.
- `<div data-part="NAME">`: a place that an answer to a request may fill: {"parts": {NAME: html}}. The tab owns `view`,
  `findings` and `cases`, in this order in every kind. `case` takes one case side by side, which the script scrolls to;
  a panel that shows any has this place in its view or its cases.
- `data-ask="WHAT"` on a button, select or input, with any further `data-value`: asks `Panel.requests[WHAT]` with
  `value` (of the field, or of the attribute) and `fields` (name -> value of all named fields of the result, whichever
  part they stand in). A script of a panel asks by `window.ddEvaluate.ask(WHAT, {...})`, which gives the answer.
- `data-share`, `data-again`, `data-remove`, `data-stop`, `data-new`, `data-open=ID`: what the tab does for all.
- an answer may hold `toast`, `bad`, `parts`, `set` (id of a set of the tab Pairs, which is opened) and whatever a
  script of the panel reads; requests raise BadCase or Refused, which are said as a toast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostics.report import Report

Form = Mapping[str, str]
"""Fields of a form as they were typed; a checked box is `1`, one that isn't is absent."""
Asked = dict[str, Any]
Answer = dict[str, Any]
FOLDER = "{folder}"
"""Stands in arguments for the folder of the run, which is known when it starts."""


@dataclass(frozen=True)
class Checked:
    """A form as a command. arguments: of `python -m pipeline`, from the subcommand on, with FOLDER in paths of what is
    written and with `demo:`, `job:`, `pairs:` and `upload:` names as they were typed (evaluate_case.resolved makes
    paths of them when the run starts). The tab adds --progress and --format. problems: sentences by field. name: what
    the run is called in the list, such as `good · pairs_held_out`."""

    arguments: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Shown:
    """What a page shows. result: the result document (pipeline/evaluation/results.py as JSON). folder: of the run, None
    where only its stored report is left: then result is what the report kept of it (curves["result"], without cases),
    points are in report.curves["points"] and cases in report.samples (see diagnostics/evaluation_points.py and
    evaluation_cases.py). rows: the file of rows, None where it is gone. asked: the form it came from."""

    id: str
    kind: str
    result: Mapping[str, Any]
    report: Report | None = None
    folder: Path | None = None
    rows: Path | None = None
    asked: Form = field(default_factory=dict)


@dataclass(frozen=True)
class Headline:
    """A result in one line. tone: healthy | warnings | problems | neutral; where the diagnosis has a verdict, that one
    is shown."""

    line: str
    tone: str = "neutral"


@dataclass(frozen=True)
class Panel:
    """kind: of its results. result: name of the result document in the run's folder. form: the fields with their values
    (evaluate_case.text_field and the like make them). checked: raises nothing, its problems say what is wrong.
    headline: for the list and the head. view: HTML of verdict, figures and plots, above the findings, which the tab
    makes. cases: HTML below the findings, of the single cases. requests: what is asked about a result. files: (entry of
    interface.yaml, file) to download beside the report. while_running: HTML of what a run has found so far, from its
    folder; nothing by default. shows_cause: whether its view says the likeliest cause itself (evaluate_head.verdict
    does)."""

    kind: str
    result: str
    form: Callable[[Form, str], str]
    checked: Callable[[Form, str], Checked]
    headline: Callable[[Mapping[str, Any], str], Headline]
    view: Callable[[Shown, str], str]
    cases: Callable[[Shown, str], str] | None = None
    requests: Mapping[str, Callable[[Shown, Asked, str], Answer]] = field(default_factory=dict)
    files: Callable[[Shown], list[tuple[str, Path]]] | None = None
    while_running: Callable[[Path, str], str] | None = None
    shows_cause: bool = False
