"""The tab Checkpoint: what to diagnose on the left, the report on the right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from diagnostics.report import Report
from diagnostics.report_store import ReportNotFound, load, read_report
from diagnostics.words import say
from pipeline.config_files import CONFIGS
from ui import charts, examples, report_details, report_view, uploads
from ui.allowed_paths import is_public
from ui.interface_words import words
from ui.labels import Labels
from ui.report_files import report_files
from ui.running_diagnosis import Case, Run, TooBusy, find_run, one_line, start
from ui.safe_html import tag, text
from ui.visitor_case import BadCase, checked_case, next_case

FOUNDING_CASE = CONFIGS / "examples" / "founding_case.json"  # made by the tool itself
FIELDS = ("path", "tokenizer", "model_config", "base", "data", "log", "depth", "max_rows", "device", "upload")
DEPTHS = ["depth_auto", "depth_files", "depth_weights", "depth_forward", "depth_samples"]
CHARTS = {
    "format_autopsy": charts.format_autopsy,
    "stop_probability": charts.stop_probability,
    "distance_to_base": charts.distance_to_base,
}
NOTHING: dict[str, Any] = {"kind": "example", "id": "", "seen": -1}


@dataclass
class CheckpointTab:
    """Components that app.py wires to the page: form and report are outputs, always in this order."""

    labels: Labels
    form: list[Any] = field(default_factory=list)
    report: list[Any] = field(default_factory=list)
    shown: Any = None


def build(labels: Labels, lang: gr.Radio, kept: gr.BrowserState) -> CheckpointTab:
    """Lay the tab out and wire its events. lang: the page's language; kept: what the browser remembers."""
    tab = CheckpointTab(labels)
    tab.shown = gr.State(NOTHING)
    with gr.Row(elem_id="dd-body"):
        with gr.Column(elem_id="dd-case"):
            buttons = _case(labels, tab)
        with gr.Column(elem_id="dd-report"):
            _report(labels, tab)
    timer = gr.Timer(0.6, active=False)
    stop = buttons["stop"]
    tab.report += [timer, stop]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    begin: dict[str, Any] = {
        "inputs": [lang, kept, *tab.form], "outputs": [tab.shown, kept, *tab.report], "concurrency_limit": 8, **quiet,
    }  # fmt: skip
    gr.on([buttons["diagnose"].click, tab.form[0].submit], _diagnose, **begin)
    for name in examples.NAMES:
        buttons[name].click(partial(_example, name), [lang], [tab.shown, *tab.report], **quiet)
    verdict = tab.report[0]
    verdict.test(_next_test, [lang, tab.shown], [tab.shown, *tab.report], **quiet)
    timer.tick(_follow, [lang, tab.shown], [tab.shown, *tab.report], concurrency_limit=None, **quiet)
    stop.click(_stop, [lang, tab.shown], [tab.shown, *tab.report], concurrency_limit=None, **quiet)
    buttons["drop"].upload(_keep_files, [lang, buttons["drop"]], [tab.form[-1], buttons["kept"]], **quiet)
    buttons["drop"].clear(lambda: ("", ""), None, [tab.form[-1], buttons["kept"]], **quiet)
    return tab


def _case(labels: Labels, tab: CheckpointTab) -> dict[str, Any]:
    """The left column. Fills tab.form in the order of FIELDS."""
    said = labels.said
    labels.said(gr.HTML, {"value": "case_line"}, elem_id="dd-case-line")

    def box(name: str, info: str, lines: int = 1, **said_more: str) -> gr.Textbox:
        shown = {"label": name, "info": info, **said_more}
        return said(gr.Textbox, shown, lines=1, max_lines=lines, elem_id=f"dd-{name}")

    path = box("path", "path_info_public" if is_public() else "path_info", placeholder="path_placeholder")
    drop = said(gr.File, {"label": "upload"}, file_count="multiple", elem_id="dd-upload", height=64)
    kept_files = gr.HTML("", elem_id="dd-kept")
    depth = said(
        gr.Radio, {"label": "depth", "info": "depth_info", "choices": DEPTHS}, value="auto", elem_id="dd-depth"
    )  # fmt: skip
    with said(gr.Accordion, {"label": "more"}, open=False, elem_id="dd-more"):
        tokenizer = box("tokenizer", "tokenizer_info")
        model_config = box("model_config", "model_config_info")
        base = box("base", "base_info")
        data = box("data", "data_info", lines=4)
        log = box("log", "log_info", lines=4)
        max_rows = said(gr.Number, {"label": "max_rows"}, value=64, minimum=1, maximum=100_000, precision=0)
        device = said(gr.Radio, {"label": "device"}, choices=["cpu", "cuda"], value="cpu")
    diagnose = said(gr.Button, {"value": "diagnose"}, variant="primary", elem_id="dd-diagnose")
    stop = said(gr.Button, {"value": "stop"}, variant="stop", visible=False, elem_id="dd-stop", size="sm")
    said(gr.HTML, {"value": "examples_head"}, elem_id="dd-examples-head")
    with gr.Column(elem_id="dd-examples"):
        shown = {name: said(gr.Button, {"value": f"example_{name}"}, size="sm") for name in examples.NAMES}
    upload = gr.Textbox(visible=False)  # the name of the folder that keeps the dropped files
    tab.form = [path, tokenizer, model_config, base, data, log, depth, max_rows, device, upload]
    return {"diagnose": diagnose, "stop": stop, "drop": drop, "kept": kept_files, **shown}


def _report(labels: Labels, tab: CheckpointTab) -> None:
    """The right column. Fills tab.report in the order `_page` returns."""
    on_test = (
        "element.addEventListener('click', e => { const b = e.target.closest('[data-test]');"
        " if (b) trigger('test', {test: b.dataset.test}); });"
    )
    verdict = gr.HTML("", elem_id="dd-verdict", js_on_load=on_test, apply_default_css=False)
    with gr.Row(elem_id="dd-bar", visible=False) as bar:
        counts = gr.HTML("", apply_default_css=False)
        labels.said(gr.Button, {"value": "copy_link"}, size="sm", elem_id="dd-link")
        files = [
            labels.said(gr.DownloadButton, {"label": f"download_{form}"}, size="sm", elem_id=f"dd-{form}")
            for form in ("json", "md", "html")
        ]
    figures = []
    for name in CHARTS:
        with gr.Column(visible=False, elem_classes="dd-chart", elem_id=f"dd-chart-{name}") as box:
            figures += [box, gr.HTML("", apply_default_css=False), gr.Plot(show_label=False, container=False)]
    details = gr.HTML("", elem_id="dd-details", apply_default_css=False)
    tab.report = [verdict, bar, counts, *files, *figures, details]


def open_page(report_id: str | None, lang: str) -> tuple[dict[str, Any], list[Any]]:
    """What a page shows first: the run or report its address names, else the finished example."""
    if not report_id:
        return _page(NOTHING, lang)
    return _page({"kind": "run" if find_run(report_id) else "report", "id": report_id, "seen": -1}, lang)


def in_language(shown: dict[str, Any], lang: str) -> list[Any]:
    """The same, said in another language; nothing runs again."""
    return _page({**shown, "seen": -1}, lang)[1]


def restored(case: Any) -> list[Any]:
    """Values of the form as the browser remembers them; what it can't have meant stays as it is."""
    case = case if isinstance(case, dict) else {}
    return [gr.update(value=case[f]) if isinstance(case.get(f), (str, int, float)) else gr.skip() for f in FIELDS]


def _page(shown: dict[str, Any], lang: str) -> tuple[dict[str, Any], list[Any]]:
    """Outputs for `tab.report` in the given language, and what is then shown."""
    said = words(lang)
    if shown["kind"] == "problem":
        return shown, _message(report_view.problem(shown["entry"], shown["params"], lang))
    if shown["kind"] == "run" and (run := find_run(shown["id"])) is not None:
        return _run_page(shown, run, lang)
    try:
        if shown["kind"] == "example":
            report, note, report_id = read_report(FOUNDING_CASE), said["example_note"], ""
        else:
            report, note, report_id = load(shown["id"]), "", shown["id"]
        return shown, _whole(say(report, lang), lang, report_id, note)
    except ReportNotFound:
        html = report_view.empty(lang) if shown["kind"] == "example" else report_view.problem("no_report", {}, lang)
        return shown, _message(html)
    except Exception as error:  # a report of another version may hold what this one can't show
        return shown, _message(report_view.problem("failed_text", {"error": one_line(error)}, lang))


def _run_page(shown: dict[str, Any], run: Run, lang: str) -> tuple[dict[str, Any], list[Any]]:
    shown = {**shown, "seen": run.version}
    if run.state == "done":
        if run.report is not None:
            note = words(lang)[run.problem[0]].format(**run.problem[1]) if run.problem else ""
            return shown, _whole(say(run.report, lang), lang, run.id, note)
        if run.problem is not None:
            return shown, _message(report_view.problem(*run.problem, lang))
        return shown, _message(report_view.empty(lang))
    report = run.report_so_far(lang)
    parts = _message(report_view.verdict(report, lang, report_id=run.id, run=run))
    parts[2] = report_view.counts(report, lang)
    parts[-3] = report_details.findings(report, lang, running=True)
    parts[-2:] = [gr.update(active=True), gr.update(visible=not run.cancel.is_set())]
    return shown, parts


def _message(html: str) -> list[Any]:
    """A page without a finished report."""
    hidden = gr.update(visible=False)
    return [html, hidden, "", None, None, None, *(hidden, "", None) * len(CHARTS), "", gr.update(active=False), hidden]


def _whole(report: Report, lang: str, report_id: str, note: str) -> list[Any]:
    """A finished report; `report` is already said in `lang`."""
    can_run = find_run(report_id) is not None
    parts: list[Any] = [
        report_view.verdict(report, lang, report_id=report_id, note=note, can_run=can_run), gr.update(visible=True),
        report_view.counts(report, lang), *report_files(report, report_id),
    ]  # fmt: skip
    for entry, draw in CHARTS.items():
        figure = draw(report, lang)
        parts += [gr.update(visible=figure is not None), report_details.chart_heading(entry, lang), figure]
    parts.append(report_details.samples(report, lang) + report_details.findings(report, lang))
    return [*parts, gr.update(active=False), gr.update(visible=False)]


def _diagnose(lang: str, kept: Any, *values: Any) -> list[Any]:
    fields = dict(zip(FIELDS, values, strict=True))
    kept = {**(kept if isinstance(kept, dict) else {}), "case": fields}
    shown, *page = _begin(lang, lambda: checked_case(
        **{**fields, "upload": uploads.found(fields["upload"])}, roots=examples.demo_roots()
    ))  # fmt: skip
    return [shown, kept, *page]


def _next_test(lang: str, shown: dict[str, Any], event: gr.EventData) -> list[Any]:
    """The button beside a cause's next test: the case of this report again, deeper or with more rows."""
    test = event._data.get("test", "") if isinstance(event._data, dict) else ""
    run = find_run(shown["id"])

    def make() -> Case:
        if run is None:
            raise BadCase("no_case")
        return next_case(run.case, str(test), examples.demo_roots())

    return _begin(lang, make)


def _begin(lang: str, make: Callable[[], Case], make_later: Callable[[Run], Case] | None = None) -> list[Any]:
    """Start what `make` makes, or say why not."""
    try:
        shown: dict[str, Any] = {"kind": "run", "id": start(make(), make_case=make_later).id, "seen": -1}
    except BadCase as bad:
        shown = {"kind": "problem", "id": "", "seen": -1, "entry": bad.entry, "params": bad.params}
    except TooBusy:
        shown = {"kind": "problem", "id": "", "seen": -1, "entry": "too_busy", "params": {}}
    shown, page = _page(shown, lang)
    return [shown, *page]


def _example(name: str, lang: str) -> list[Any]:
    return _begin(lang, lambda: Case(path=""), partial(examples.make_case, name))


def _follow(lang: str, shown: dict[str, Any]) -> list[Any]:
    """Each tick while a diagnosis runs: nothing is sent unless something was found."""
    run = find_run(shown["id"]) if shown["kind"] == "run" else None
    if run is not None and run.version == shown["seen"]:
        return [gr.skip()] * (1 + len(_message("")))
    shown, page = _page(shown, lang)
    return [shown, *page]


def _stop(lang: str, shown: dict[str, Any]) -> list[Any]:
    run = find_run(shown["id"])
    if run is not None:
        run.cancel.set()
        run.changed()
    return _follow(lang, {**shown, "seen": -1})


def _keep_files(lang: str, dropped: list[str] | None) -> tuple[str, str]:
    """Dropped files are copied at once: the page's own copies go when the page does."""
    said = words(lang)
    try:
        upload = uploads.keep(dropped or [])
    except OSError as error:
        return "", text(error.strerror or error)
    kinds = [(said[f"upload_as_{kind}"], names) for kind, names in
             (("checkpoint", upload.checkpoint), ("data", upload.data), ("log", upload.log)) if names]  # fmt: skip
    lines = []
    if kinds:
        named = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds)
        lines.append(said["upload_kept"].format(names=named))
    if upload.refused:
        lines.append(said["upload_refused"].format(names=", ".join(upload.refused)))
    return upload.token, "".join(tag("p", "", text(line)) for line in lines)
