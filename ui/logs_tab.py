"""The tab Logs: which log to read on the left; its verdict, curves and findings on the right, several runs at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from diagnostics.report import Report
from diagnostics.report_store import ReportNotFound, load, new_id, save
from diagnostics.words import say
from pipeline.config_files import CONFIGS
from pipeline.refusal import Refused
from ui import charts, followed_logs, log_charts, log_view, report_details, report_view, uploads
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.labels import Labels
from ui.log_case import LogCase, checked_log, path_is_open
from ui.log_charts import MAX_RUNS, ShownRun
from ui.report_files import report_files
from ui.running_diagnosis import one_line
from ui.safe_html import tag, text
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.logs.own_format import OwnFormat

EXAMPLES = {"healthy": "log_healthy.json", "few_rows": "log_few_rows.json"}  # made by the tool itself
# runs: [{id, paths, grows, own}], the first one's findings are shown. live: id of the log that is followed.
NOTHING: dict[str, Any] = {"runs": [], "live": "", "problem": None, "more": [], "stopped": ""}
TAB_PLACE = 1  # among the page's tabs
FIRST_EXAMPLE = "example-log-a-few-rows-over-and-over"  # a report that is made anew instead of being stored
MAX_UNSAVED = 20
_unsaved: dict[str, Report] = {}  # reports that could not be stored, so that at least this page shows them


@dataclass
class LogsTab:
    """Components that app.py wires to the page: form and report are outputs, always in this order."""

    labels: Labels
    form: list[Any] = field(default_factory=list)
    report: list[Any] = field(default_factory=list)
    shown: Any = None


def build(labels: Labels, lang: gr.Radio, kept: gr.BrowserState) -> LogsTab:
    """Lay the tab out and wire its events. lang: the page's language; kept: what the browser remembers."""
    tab = LogsTab(labels)
    tab.shown = gr.State(NOTHING)
    with gr.Row(elem_id="dd-log-body"):
        with gr.Column(elem_id="dd-log-case"):
            made = _case(labels)
        with gr.Column(elem_id="dd-log-report"):
            made |= _report(labels, tab)
    timer = gr.Timer(2.0, active=False)
    tab.report.append(timer)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    shared: dict[str, Any] = {"concurrency_id": "logs", "concurrency_limit": 2, **quiet}
    whole = [tab.shown, *tab.report]
    fields = [made["path"], made["pasted"], made["token"], made["beside"]]
    emptied = [made["pasted"], made["token"], made["drop"], made["kept"], made["beside"]]
    gr.on([made["read"].click, made["path"].submit], _read, [lang, kept, tab.shown, *fields],
          [kept, *emptied, *whole], **shared)  # fmt: skip
    dropped = made["drop"].upload(_keep_files, [lang, made["drop"]], [made["token"], made["kept"]], **quiet)
    dropped.then(_read, [lang, kept, tab.shown, *fields], [kept, *emptied, *whole], **shared)
    made["drop"].clear(lambda: ("", ""), None, [made["token"], made["kept"]], **quiet)
    for name in EXAMPLES:
        made[name].click(partial(_example, name), [lang, tab.shown, made["beside"]], [made["beside"], *whole], **shared)
    made["again"].click(_read_own, [lang, tab.shown, made["pattern"], made["column"]], whole, **shared)
    made["table"].run(_choose_run, [lang, tab.shown], whole, **quiet)
    made["table"].remove(_remove_run, [lang, tab.shown], whole, **quiet)
    made["more"].input(_more_curves, [lang, tab.shown, made["more"]], [tab.shown, made["data"]], **quiet)
    made["live"].input(_switch_live, [lang, tab.shown, made["live"]], whole, **shared)
    timer.tick(_tick, [lang, tab.shown], whole, concurrency_limit=None, **quiet)
    made["axis"].change(None, [made["axis"]], js="(v) => { window.ddCurves?.set('axis', v); }", **quiet)
    for name in ("smooth", "log"):  # drawn by the browser alone, which also remembers it
        remember = f"(v, kept) => {{ window.ddCurves?.set('{name}', v); return {{...(kept ?? {{}}), log_{name}: v}}; }}"
        made[name].change(None, [made[name], kept], [kept], js=remember, **quiet)
    tab.form = [made["path"], made["smooth"], made["log"]]
    return tab


def _case(labels: Labels) -> dict[str, Any]:
    """The left column: path, dropped files or pasted text, and examples."""
    said = labels.said
    said(gr.HTML, {"value": "log_case_line"}, elem_id="dd-log-case-line")
    path = said(
        gr.Textbox, {"label": "log_path", "info": "log_path_info", "placeholder": "log_path_placeholder"},
        lines=1, max_lines=4, elem_id="dd-log-path", visible=path_is_open(),
    )  # fmt: skip
    drop = said(gr.File, {"label": "log_upload"}, file_count="multiple", elem_id="dd-log-upload", height=64)
    kept = gr.HTML("", elem_id="dd-log-kept")
    pasted = said(gr.Textbox, {"label": "log_paste", "placeholder": "log_paste_placeholder"}, lines=3, max_lines=8,
                  elem_id="dd-log-paste")  # fmt: skip
    beside = said(gr.Checkbox, {"label": "log_beside"}, value=False, visible=False, elem_id="dd-log-beside")
    read = said(gr.Button, {"value": "log_read"}, variant="primary", elem_id="dd-log-read")
    said(gr.HTML, {"value": "log_examples_head"}, elem_id="dd-log-examples-head")
    with gr.Column(elem_id="dd-log-examples"):
        shown = {name: said(gr.Button, {"value": f"log_example_{name}"}, size="sm") for name in EXAMPLES}
    token = gr.Textbox(visible=False)  # the name of the folder that keeps the dropped files
    return {"path": path, "drop": drop, "kept": kept, "pasted": pasted, "beside": beside, "read": read,
            "token": token, **shown}  # fmt: skip


def _report(labels: Labels, tab: LogsTab) -> dict[str, Any]:
    """The right column. Fills tab.report in the order `_page` returns."""
    said = labels.said
    verdict = gr.HTML("", elem_id="dd-log-verdict", apply_default_css=False)
    with gr.Row(elem_id="dd-log-bar", visible=False) as bar:
        counts = gr.HTML("", apply_default_css=False)
        said(gr.Button, {"value": "copy_link"}, size="sm", elem_id="dd-log-link")
        files = [said(gr.DownloadButton, {"label": f"download_{form}"}, size="sm", elem_id=f"dd-log-{form}")
                 for form in ("json", "md", "html")]  # fmt: skip
    with gr.Column(visible=False, elem_id="dd-own") as own:
        own_head = gr.HTML("", apply_default_css=False)
        with gr.Row():
            column = said(gr.Dropdown, {"label": "own_column"}, choices=[], allow_custom_value=True, value="",
                          elem_id="dd-own-column")  # fmt: skip
            pattern = said(gr.Textbox, {"label": "own_pattern"}, elem_id="dd-own-pattern", max_lines=3,
                           placeholder=r"step (?P<step>\d+) .* loss (?P<loss>\S+)")  # fmt: skip
        again = said(gr.Button, {"value": "own_read"}, size="sm", elem_id="dd-own-read")
    with gr.Column(visible=False, elem_classes="dd-chart", elem_id="dd-log-chart") as box:
        with gr.Row(elem_id="dd-log-controls"):
            smooth = said(gr.Slider, {"label": "smoothing"}, minimum=0, maximum=1, step=0.05, value=0.3,
                          elem_id="dd-smooth")  # fmt: skip
            axis = said(gr.Radio, {"label": "axis"}, choices=["step"], value="step", elem_id="dd-axis")
            log = said(gr.Checkbox, {"label": "log_scale"}, value=False, elem_id="dd-log-scale")
            live = said(gr.Checkbox, {"label": "follow"}, value=False, visible=False, elem_id="dd-follow")
        line = gr.HTML("", elem_id="dd-live-line", apply_default_css=False)
        marks = gr.HTML("", elem_id="dd-log-marks", apply_default_css=False)
        data = gr.HTML("", elem_id="dd-curves-data", apply_default_css=False)
        plot = gr.Plot(show_label=False, container=False, elem_id="dd-log-plot")
        with gr.Row(elem_id="dd-log-pictures"):
            more = said(gr.Dropdown, {"label": "more_curves"}, choices=[], value=[], multiselect=True, visible=False,
                        elem_id="dd-more-curves")  # fmt: skip
            pictures = gr.HTML("", apply_default_css=False)
            csv = said(gr.DownloadButton, {"label": "download_csv"}, size="sm", elem_id="dd-log-csv")
    on_click = (
        "element.addEventListener('click', e => { for (const name of ['run', 'remove']) {"
        " const b = e.target.closest(`[data-${name}]`); if (b) trigger(name, {place: b.dataset[name]}); } });"
    )
    table = gr.HTML("", elem_id="dd-log-table", js_on_load=on_click, apply_default_css=False)
    details = gr.HTML("", elem_id="dd-log-details", apply_default_css=False)
    tab.report = [verdict, bar, counts, *files, csv, own, own_head, column, box, axis, live, more, line, marks, data,
                  plot, pictures, table, details]  # fmt: skip
    return {"column": column, "pattern": pattern, "again": again, "smooth": smooth, "axis": axis, "log": log,
            "live": live, "more": more, "data": data, "table": table}  # fmt: skip


# --- what is shown ---


def open_page(ids: str | None, lang: str) -> tuple[bool, dict[str, Any], list[Any]]:
    """(whether the address names logs, what is then shown, outputs for `tab.report`). ids: of reports, with commas."""
    runs = [{"id": i, "paths": (), "grows": False, "own": None} for i in (ids or "").split(",")[:MAX_RUNS]]
    shown = {**NOTHING, "runs": [run for run in runs if _is_log(run["id"])]}
    return bool(shown["runs"]), shown, _page(shown, lang)


def in_language(shown: dict[str, Any], lang: str) -> list[Any]:
    """The same, said in another language; nothing is read again."""
    return _page(shown, lang)


def restored(kept: dict[str, Any]) -> list[Any]:
    """Values of path, smoothing and scale as the browser remembers them; what it can't have meant stays as it is."""
    kinds = {"log_path": str, "log_smooth": (int, float), "log_log": bool}
    return [gr.update(value=kept[k]) if isinstance(kept.get(k), kind) else gr.skip() for k, kind in kinds.items()]


def switched(shown: dict[str, Any], lang: str, event: gr.SelectData) -> list[Any]:
    """When a tab is opened. This one for the first time: a finished example. Another one: a log is no longer followed.
    Outputs for [shown, *report]."""
    if event.index == TAB_PLACE and not shown["runs"] and not shown["problem"]:
        shown = {**NOTHING, "runs": [{"id": FIRST_EXAMPLE, "paths": (), "grows": False, "own": None}]}
        return [shown, *_page(shown, lang)]
    if event.index == TAB_PLACE or not shown["live"]:
        return [gr.skip(), *_parts({}, rest=gr.skip())]
    return _switch_live(lang, shown, False)


def _is_log(report_id: str) -> bool:
    try:
        return _report_of(report_id).subject.kind == "log"
    except ReportNotFound:
        return False


@cache
def _first_example() -> Report:
    from diagnostics.diagnose_log import diagnose_log

    return diagnose_log([CONFIGS / "examples" / EXAMPLES["few_rows"]])


def _report_of(report_id: str) -> Report:
    if report_id == FIRST_EXAMPLE:
        return _first_example()
    followed = followed_logs.find_followed(report_id)
    if followed is not None and followed.report is not None:
        return followed.report
    return _unsaved[report_id] if report_id in _unsaved else load(report_id)


def _runs(shown: dict[str, Any], lang: str) -> list[ShownRun]:
    """The runs whose reports are still there."""
    runs = []
    for run in shown["runs"]:
        with contextlib.suppress(ReportNotFound):
            runs.append(ShownRun(run["id"], say(_report_of(run["id"]), lang)))
    return runs


def _page(shown: dict[str, Any], lang: str, *, with_files: bool = True) -> list[Any]:
    """Outputs for `tab.report`."""
    try:
        return _filled(shown, lang, with_files)
    except Exception as error:  # a report of another version may hold what this one can't show
        html = report_view.problem("log_failed_text", {"error": one_line(error)}, lang)
        return _parts({"verdict": html})


def _filled(shown: dict[str, Any], lang: str, with_files: bool) -> list[Any]:
    said = words(lang)
    runs = _runs(shown, lang)
    show = gr.update(visible=True)
    if not runs:
        problem = shown["problem"]
        html = report_view.problem(*problem, lang) if problem else report_view.empty(lang, "log_empty")
        return _parts({"verdict": html})
    report = runs[0].report
    parts: dict[str, Any] = {"verdict": _verdict(shown, runs, lang)}
    parts |= {"bar": show, "counts": report_view.counts(report, lang)}
    files: list[Any] = [gr.skip()] * 4
    if with_files:
        files = list(report_files(report, runs[0].id, {"csv": lambda: log_charts.to_csv(runs)}))
    parts |= dict(zip(("json", "md", "html", "csv"), files, strict=True))
    source = next(run for run in shown["runs"] if run["id"] == runs[0].id)
    names = log_view.no_loss_names(report)
    if names is not None and source["paths"]:
        parts |= {"own": show, "own_head": log_view.own_form(names, lang), "column": gr.update(choices=names)}
    drawn = log_charts.chart(runs, lang, shown["more"])
    if drawn:
        further = log_charts.further_curves(runs)
        choices = [(said[f"axis_{axis}"], axis) for axis in log_charts.axes(runs)]
        parts |= {
            "box": show, "axis": gr.update(choices=choices, visible=len(choices) > 1),
            "more": gr.update(choices=further, value=[m for m in shown["more"] if m in further], visible=bool(further)),
            "marks": log_view.marks(runs, lang), "data": _data(drawn), "plot": charts.empty_plot(),
            "pictures": log_view.pictures(lang),
        }  # fmt: skip
    live = bool(shown["live"])
    followed = followed_logs.find_followed(shown["live"]) if live else None
    parts |= {
        "live": gr.update(value=live, visible=bool(source["grows"])), "timer": gr.update(active=live),
        "line": log_view.live_line(followed.last_line if followed else None, shown["stopped"], lang),
        "table": log_view.comparison(runs, lang), "details": report_details.findings(report, lang),
    }  # fmt: skip
    if not drawn and source["grows"]:  # nothing to draw yet: the switch stands in the chart's box
        parts["box"] = show
    return _parts(parts)


def _verdict(shown: dict[str, Any], runs: Sequence[ShownRun], lang: str) -> str:
    said = words(lang)
    report, note = runs[0].report, ""
    if shown["problem"]:  # the log that was to be added
        entry, params = shown["problem"]
        note = said[entry].format(**params)
    elif runs[0].id == FIRST_EXAMPLE:
        note = said["log_example_note"]
    elif runs[0].id in _unsaved:
        note = said["log_not_saved"]
    return report_view.verdict(
        report, lang, report_id=",".join(run.id for run in runs), note=note, foot=log_view.facts(report, lang)
    )  # fmt: skip


def _data(drawn: str) -> str:
    return tag("i", "", data_chart=drawn, hidden=True)


def _parts(given: dict[str, Any], *, rest: Any = None) -> list[Any]:
    """Outputs in the order of `tab.report`; what is not given is hidden or empty, or `rest` where that is given."""
    hidden = gr.update(visible=False)
    parts: dict[str, Any] = {
        "verdict": "", "bar": hidden, "counts": "", "json": None, "md": None, "html": None, "csv": None,
        "own": hidden, "own_head": "", "column": gr.update(choices=[]), "box": hidden, "axis": gr.skip(),
        "live": gr.update(value=False), "more": gr.skip(), "line": "", "marks": "", "data": "", "plot": None,
        "pictures": "", "table": "", "details": "", "timer": gr.update(active=False),
    }  # fmt: skip
    if rest is not None:
        parts = dict.fromkeys(parts, rest)
    return list((parts | given).values())


# --- reading ---


def _keep_files(lang: str, dropped: list[str] | None) -> tuple[str, str]:
    """Dropped files are copied at once: the page's own copies go when the page does."""
    said = words(lang)
    try:
        token, names, refused = uploads.keep_logs(dropped or [])
    except OSError as error:
        return "", text(error.strerror or error)
    lines = [said["upload_kept"].format(names=", ".join(names))]
    if refused:
        lines.append(said["upload_refused"].format(names=", ".join(refused)))
    return token, "".join(tag("p", "", text(line)) for line in lines)


def _read(
    lang: str, kept: Any, shown: dict[str, Any], path: str, pasted: str, token: str, beside: bool
) -> Iterator[list[Any]]:
    """Says that it reads, then shows what was read; the fields that hold one log only are emptied."""
    kept = {**(kept if isinstance(kept, dict) else {}), "log_path": path}
    same: list[Any] = [gr.skip()] * 5
    try:
        case = checked_log(path, pasted, token)
    except BadCase as bad:
        shown = _with_problem(shown, bad.entry, bad.params, beside)
        yield [kept, *same, shown, *_page(shown, lang)]
        return
    reading = log_view.reading(os.path.basename(os.path.normpath(case.paths[0])), lang)
    yield [kept, *same, gr.skip(), *_parts({"verdict": reading}, rest=gr.skip() if beside else None)]
    shown = _added(shown, case, beside, lang)
    more = bool(shown["runs"])
    emptied = ["", "", None, "", gr.update(value=False, visible=more)] if not shown["problem"] else same
    yield [kept, *emptied, shown, *_page(shown, lang)]


def _example(name: str, lang: str, shown: dict[str, Any], beside: bool) -> list[Any]:
    case = LogCase((str(CONFIGS / "examples" / EXAMPLES[name]),))
    shown = _added(shown, case, beside, lang)
    return [gr.update(value=False, visible=bool(shown["runs"])), shown, *_page(shown, lang)]


def _with_problem(shown: dict[str, Any], entry: str, params: dict[str, str], beside: bool) -> dict[str, Any]:
    """What could not be read replaces the page, or stands above the runs that it was to stand beside."""
    if not beside:
        followed_logs.stop(shown["live"])
    return {**(shown if beside else NOTHING), "problem": (entry, params)}


def _added(
    shown: dict[str, Any], case: LogCase, beside: bool, lang: str, own: OwnFormat | None = None
) -> dict[str, Any]:
    """Read a log; show it alone, or beside the runs that are shown."""
    from diagnostics.diagnose_log import diagnose_log

    if beside and len(shown["runs"]) >= MAX_RUNS:
        return _with_problem(shown, "too_many_runs", {"most": str(MAX_RUNS)}, beside)
    try:
        # what a visitor of a public app taught it is for that visitor alone
        remembered = () if is_public() else None
        report = diagnose_log(case.paths, max_bytes=case.max_bytes, own=own, remembered=remembered, lang=lang)
    except Refused as refused:
        return _with_problem(shown, "bad_setting", {"error": refused.said(known(lang))}, beside)
    except Exception as error:
        return _with_problem(shown, "log_failed_text", {"error": one_line(error)}, beside)
    run = {"id": _stored(report), "paths": case.paths, "grows": case.grows, "own": own}
    if beside and shown["runs"]:
        return {**shown, "runs": [*shown["runs"], run], "problem": None}
    followed_logs.stop(shown["live"])
    return {**NOTHING, "runs": [run]}


def _stored(report: Report) -> str:
    report_id = new_id()
    try:
        return save(report, report_id)
    except OSError:
        while len(_unsaved) >= MAX_UNSAVED:
            _unsaved.pop(next(iter(_unsaved)))
        _unsaved[report_id] = report
        return report_id


def _read_own(lang: str, shown: dict[str, Any], pattern: str, column: str) -> list[Any]:
    """Read the first run's log again as its owner says it is written."""
    from pipeline.logs.own_format import OwnFormat

    source = shown["runs"][0] if shown["runs"] else {"paths": ()}
    if not source["paths"] or not (pattern or column):
        shown = {**shown, "problem": ("own_nothing", {})}
        return [shown, *_page(shown, lang)]
    try:
        own = OwnFormat((pattern or "").strip(), {"loss": column.strip()} if column and column.strip() else {})
        own.compiled  # noqa: B018  # a wrong expression is said before a long log is read
    except Refused as wrong:
        shown = {**shown, "problem": ("bad_setting", {"error": wrong.said(known(lang))})}
        return [shown, *_page(shown, lang)]
    again = _added(NOTHING, LogCase(source["paths"], grows=source["grows"]), False, lang, own)
    if again["problem"]:
        shown = {**shown, "problem": again["problem"]}
    else:
        shown = {**shown, "runs": [again["runs"][0], *shown["runs"][1:]], "problem": None}
    return [shown, *_page(shown, lang)]


# --- several runs, further curves ---


def _place(event: gr.EventData, shown: dict[str, Any]) -> int:
    """Which run a button of the table means."""
    given = event._data.get("place", "") if isinstance(event._data, dict) else ""
    place = int(given) if str(given).isdecimal() else 0
    return place if place < len(shown["runs"]) else 0


def _choose_run(lang: str, shown: dict[str, Any], event: gr.EventData) -> list[Any]:
    """Its findings are shown: it moves to the front."""
    place = _place(event, shown)
    return _rearranged(lang, shown, [shown["runs"][place], *shown["runs"][:place], *shown["runs"][place + 1 :]])


def _remove_run(lang: str, shown: dict[str, Any], event: gr.EventData) -> list[Any]:
    place = _place(event, shown)
    return _rearranged(lang, shown, [*shown["runs"][:place], *shown["runs"][place + 1 :]])


def _rearranged(lang: str, shown: dict[str, Any], runs: list[dict[str, Any]]) -> list[Any]:
    """Only the first run is followed: another one in its place ends that."""
    live = shown["live"]
    if live and (not runs or runs[0]["id"] != live):
        followed_logs.stop(live)
        live = ""
    shown = {**shown, "runs": runs, "live": live, "problem": None}
    return [shown, *_page(shown, lang)]


def _more_curves(lang: str, shown: dict[str, Any], more: list[str] | None) -> list[Any]:
    runs = _runs(shown, lang)
    shown = {**shown, "more": [m for m in more or [] if m in log_charts.further_curves(runs)]}
    return [shown, _data(log_charts.chart(runs, lang, shown["more"]))]


# --- a log that grows ---


def _switch_live(lang: str, shown: dict[str, Any], on: bool) -> list[Any]:
    followed_logs.stop(shown["live"])
    shown = {**shown, "live": "", "stopped": "", "problem": None}
    source = shown["runs"][0] if shown["runs"] else None
    if on and source is not None and source["grows"]:
        try:
            checked_log("\n".join(source["paths"]))
            followed = followed_logs.follow(source["paths"], source["id"], source["own"])
            followed.poll()
            shown = {**shown, "live": followed.id}
        except followed_logs.TooManyFollowed:
            shown = {**shown, "problem": ("too_many_followed", {})}
        except BadCase as bad:
            shown = {**shown, "problem": (bad.entry, bad.params)}
        except (OSError, ValueError) as error:
            shown = {**shown, "problem": ("bad_setting", {"error": str(error)})}
    return [shown, *_page(shown, lang)]


def _tick(lang: str, shown: dict[str, Any]) -> list[Any]:
    """Each tick: the line that says when the last line came; all the rest only when there is something new."""
    followed = followed_logs.find_followed(shown["live"])
    ended, new = "", False
    if followed is None:
        ended = "live_ended"
    else:
        try:
            new = followed.poll()
        except (OSError, ValueError):
            ended = "live_gone"
        if followed.silent:
            ended = "live_silent"
    if ended:
        followed_logs.stop(shown["live"])
        shown = {**shown, "live": "", "stopped": ended}
        return [shown, *_page(shown, lang)]
    if new:
        return [gr.skip(), *_page(shown, lang, with_files=False)]
    only_line = log_view.live_line(followed.last_line if followed else None, "", lang)
    return [gr.skip(), *_parts({"line": only_line}, rest=gr.skip())]
