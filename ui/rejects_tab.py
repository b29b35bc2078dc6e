"""The tab Rejects: data and model on the left; how rejected answers are made, and what came of it, on the right."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from diagnostics.report_store import ID, new_id
from ui import pairs_tab, reject_case, reject_plots, reject_runs, uploads
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.labels import Labels
from ui.pair_export import size_of
from ui.private_folder import private_folder
from ui.reject_case import DEMO
from ui.reject_live import rows_of
from ui.reject_requests import REQUESTS
from ui.report_details import chart_heading
from ui.safe_html import tag, text
from ui.visitor_case import BadCase

NOTHING: dict[str, Any] = {"id": ""}
PARTS = ("start", "setup", "head", "now", "preview", "bar", "rows", "files", "compare")
SCRIPT_WORDS = ("pairs_no_answer_came", "rejects_last_row", "rejects_first_row")
EXAMPLES = {"sick": "off_topic_t5", "endless": "never_stops_decoder", "healthy": "healthy_t5",
            "decoder": "healthy_decoder"}  # fmt: skip
FILES = ("output", "candidates")


@dataclass
class RejectsTab:
    """Components that app.py wires to the page. work: whose event `pairs` asks for the tab Pairs. form, report:
    outputs, always in this order."""

    labels: Labels
    form: list[Any] = field(default_factory=list)
    report: list[Any] = field(default_factory=list)
    shown: Any = None
    work: Any = None


def build(labels: Labels, lang: gr.Radio) -> RejectsTab:
    """Lay the tab out and wire its events. lang: the page's language."""
    tab = RejectsTab(labels)
    tab.shown = gr.State(NOTHING)
    with gr.Row(elem_id="dd-rejects-body"):
        with gr.Column(elem_id="dd-rejects-case"):
            made = _case(labels)
        with gr.Column(elem_id="dd-rejects-work"):
            anchor = gr.HTML(_anchor("", "en"), elem_id="dd-rejects-anchor", apply_default_css=False,
                             js_on_load="watch('value', () => window.ddRejects?.anchor(element));"
                                        " window.ddRejects?.anchor(element);")  # fmt: skip
            work = gr.HTML(_skeleton(), elem_id="dd-rejects-app", apply_default_css=False, server_functions=REQUESTS,
                           js_on_load="window.ddRejects?.mount(element, server,"
                                      " { draw: (id) => trigger('draw', {id}), files: (id) => trigger('files', {id}),"
                                      " pairs: (id) => trigger('pairs', {id}) });")  # fmt: skip
            figures = []
            with gr.Row(elem_id="dd-rejects-spread"):
                for name in reject_plots.NAMES:
                    with gr.Column(visible=False, elem_classes="dd-chart", elem_id=f"dd-rejects-plot-{name}") as box:
                        heading = gr.HTML("", apply_default_css=False)
                        figures += [box, heading, gr.Plot(show_label=False, container=False)]
            with gr.Row(elem_id="dd-rejects-downloads"):
                files = [
                    labels.said(gr.DownloadButton, {"label": f"rejects_download_{name}"}, size="sm", visible="hidden",
                                elem_id=f"dd-rejects-file-{name}")
                    for name in FILES
                ]  # fmt: skip
    tab.report, tab.work = [anchor], work

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    changed = "() => window.ddRejects?.changed()"
    kept = [made["token"], made["kept"]]
    made["drop"].upload(_keep_files, [lang, made["drop"]], kept, **quiet).then(None, js=changed)
    made["drop"].clear(lambda: ("", ""), None, kept, **quiet).then(None, js=changed)
    for name, model in EXAMPLES.items():
        filled = [made["data"], made["model"], made["adapter"]]
        made[name].click(partial(_example, model), None, filled, **quiet).then(None, js=changed)
    for name in ("run", "preview"):
        more = "{preview: true}" if name == "preview" else "{}"
        made[name].click(None, js=f"() => window.ddRejects?.start({more})")
    work.draw(_draw, [lang], figures, **quiet)
    work.files(_files, [lang], files, **quiet)
    return tab


def _case(labels: Labels) -> dict[str, Any]:
    """The left column: rows, model, adapter, database, and examples."""
    said = labels.said
    said(gr.HTML, {"value": "rejects_case_line"}, elem_id="dd-rejects-case-line")
    public = "_public" if is_public() else ""
    made: dict[str, Any] = {}

    def box(name: str, value: str = "", **more: str) -> Any:
        made_box = said(gr.Textbox, {"label": f"rejects_{name}", "info": f"rejects_{name}_info{more.get('info', '')}"},
                        value=value, lines=1, max_lines=3, interactive=True, elem_id=f"dd-rejects-{name}")  # fmt: skip
        gr.HTML(tag("p", "dd-field-problem", data_problem=name, role="alert"), elem_classes="dd-problem-place",
                apply_default_css=False)  # fmt: skip
        return made_box

    made["data"] = box("data", f"{DEMO}sft", info=public)
    made["drop"] = said(gr.File, {"label": "pairs_upload"}, elem_id="dd-rejects-upload", height=64)
    made["kept"] = gr.HTML("", elem_id="dd-rejects-kept")
    made["token"] = gr.Textbox(visible=False)
    made["model"] = box("model", f"{DEMO}{reject_case.DEMO_MODELS[1]}", info=public)
    with said(gr.Accordion, {"label": "rejects_more"}, open=False, elem_id="dd-rejects-more", visible=not is_public()):
        made["adapter"] = box("adapter")
        made["database"] = box("database")
    made["run"] = said(gr.Button, {"value": "rejects_run"}, variant="primary", elem_id="dd-rejects-run")
    made["preview"] = said(gr.Button, {"value": "rejects_preview_short"}, size="sm", elem_id="dd-rejects-preview")
    gr.HTML(tag("p", "dd-field-problem", data_problem="start", role="alert"), elem_classes="dd-problem-place",
            apply_default_css=False)  # fmt: skip
    said(gr.HTML, {"value": "rejects_examples_head"}, elem_id="dd-rejects-examples-head")
    with gr.Column(elem_id="dd-rejects-examples"):
        for name in EXAMPLES:
            made[name] = said(gr.Button, {"value": f"rejects_example_{name}"}, size="sm")
    return made


def _skeleton() -> str:
    """Places that the page's script fills; the same in every language, so that nothing redraws them."""
    parts = {name: tag("div", f"dd-rejects-{name}-box", data_part=name) for name in PARTS}
    no_report = tag("i", "dd-verdict", data_report="", hidden=True)  # so that the address names none
    panes = tag("div", "dd-pairs-panes", parts["now"], parts["preview"],
                tag("div", "dd-pane-rows", parts["bar"], parts["rows"]),
                tag("div", "dd-pane-files", parts["files"]))  # fmt: skip
    return tag("div", "dd-pairs dd-rejects", no_report, parts["start"], parts["setup"], parts["head"], panes,
               parts["compare"], tag("div", "dd-toast", role="status", aria_live="polite"), data_state="",
               data_pane="rows")  # fmt: skip


def _anchor(run_id: str, lang: str) -> str:
    """What the page's script goes by: which run the address names, in which language."""
    said = {name: words(lang)[name] for name in SCRIPT_WORDS}
    return tag("i", "", hidden=True, data_rejects=run_id, data_lang=known(lang), data_words=json.dumps(said))


# --- what is shown ---


def open_page(run_id: str | None, lang: str) -> tuple[bool, dict[str, Any], list[Any]]:
    """(whether the address names a run, which, outputs for `tab.report`)."""
    named = run_id if isinstance(run_id, str) and ID.fullmatch(run_id) else ""
    return bool(named), {"id": named}, [_anchor(named, lang)]


def in_language(shown: dict[str, Any], lang: str) -> list[Any]:
    """The same, said in another language."""
    return [_anchor(shown["id"], lang)]


def to_pairs(lang: str, event: gr.EventData) -> list[Any]:
    """Outputs for the tab Pairs and the page's tabs: the set that a run's pairs are read into, opened."""
    given = event._data.get("id") if isinstance(event._data, dict) else None
    is_set, shown, page = pairs_tab.open_page(given, lang)
    return [shown, *page, gr.Tabs(selected="pairs") if is_set else gr.skip()]


def _keep_files(lang: str, dropped: Any) -> tuple[str, str]:
    """Dropped files are copied at once: the page's own copies go when the page does."""
    said = words(lang)
    files = [dropped] if isinstance(dropped, str) else list(dropped or [])
    try:
        token, names, _ = uploads.keep_logs(files)
    except OSError as error:
        return "", tag("p", "", text(error.strerror or error))
    return token, tag("p", "", text(said["upload_kept"].format(names=", ".join(names))), data_token=token)


def _example(model: str) -> list[str]:
    return [f"{DEMO}sft", f"{DEMO}{model}", ""]


def _named(event: gr.EventData) -> str:
    given = event._data.get("id") if isinstance(event._data, dict) else None
    return given if isinstance(given, str) else ""


def _draw(lang: str, event: gr.EventData) -> list[Any]:
    """How the candidates of a run are spread; nothing where none is named."""
    found: dict[str, Any] = {}
    with suppress(BadCase, OSError):
        index = rows_of(_named(event))
        index.update()
        found = reject_plots.figures(index, lang)
    shown: list[Any] = []
    for name in reject_plots.NAMES:
        figure = found.get(name)
        heading = chart_heading(f"rejects_plot_{name}", lang) if figure is not None else ""
        shown += [gr.update(visible=figure is not None), heading, figure]
    return shown


def _files(lang: str, event: gr.EventData) -> list[Any]:
    """Output and candidates of a run behind their buttons: linked into a folder that the page may serve."""
    hidden: list[Any] = [gr.update(visible="hidden")] * len(FILES)
    try:
        run_id = _named(event)
        sources = [reject_runs.output_of(run_id), reject_runs.candidates_of(run_id)]
        if not all(source.is_file() for source in sources):
            return hidden
        folder = private_folder("downloads") / f"rejects-{new_id()}"
        folder.mkdir(mode=0o700)
        return [
            gr.update(value=str(_linked(source, folder)), visible=True,
                      label=f"{words(lang)[f'rejects_download_{name}']} · {size_of(source)}")
            for name, source in zip(FILES, sources, strict=True)
        ]  # fmt: skip
    except (BadCase, OSError):
        return hidden


def _linked(source: Path, folder: Path) -> Path:
    """The same file at another place, without its bytes where the disk allows it."""
    try:
        os.link(source, folder / source.name)
    except OSError:
        shutil.copyfile(source, folder / source.name)
    return folder / source.name
