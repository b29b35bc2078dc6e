"""The tab Train: recipe, model and data on the left; fields, checks and launch, then the job, on the right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from pipeline.training.job_folder import ID
from ui import charts, train_work, uploads
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.labels import Labels
from ui.pair_export import size_of
from ui.safe_html import tag, text
from ui.train_case import UPLOAD
from ui.train_hub import login_offered
from ui.train_requests import REQUESTS

NOTHING: dict[str, Any] = {"id": ""}
FORM_PARTS = ("fields", "yaml", "launch", "hub", "elsewhere")
JOB_PARTS = ("head", "now", "findings", "numbers", "compare", "curves")
SCRIPT_WORDS = ("pairs_no_answer_came", "train_hub_confirm_cancel", "train_insist_resume")


@dataclass
class TrainTab:
    """Components that app.py wires to the page. form, report: outputs, always in this order."""

    labels: Labels
    form: list[Any] = field(default_factory=list)
    report: list[Any] = field(default_factory=list)
    shown: Any = None


def build(labels: Labels, lang: gr.Radio) -> TrainTab:
    """Lay the tab out and wire its events. lang: the page's language."""
    tab, said = TrainTab(labels), labels.said
    tab.shown = gr.State(NOTHING)
    with gr.Row(elem_id="dd-train-body"):
        with gr.Column(elem_id="dd-train-case"):
            said(gr.HTML, {"value": "train_case_line"}, elem_id="dd-train-case-line")
            gr.HTML(tag("form", "dd-pairs", data_part="case", autocomplete="off"), elem_id="dd-train-form",
                    apply_default_css=False)  # fmt: skip
            drop = said(gr.File, {"label": "train_upload"}, elem_id="dd-train-upload", height=64)
            kept = gr.HTML("", elem_id="dd-train-kept")
            said(gr.Button, {"value": "train_start"}, variant="primary", elem_id="dd-train-start",
                 visible=not is_public())  # fmt: skip
            said(gr.Button, {"value": "train_check"}, size="sm", elem_id="dd-train-check")
            if is_public() and login_offered():
                gr.LoginButton(size="sm", elem_id="dd-train-login")
        with gr.Column(elem_id="dd-train-work"):
            anchor = gr.HTML(_anchor("", "en"), elem_id="dd-train-anchor", apply_default_css=False,
                             js_on_load="watch('value', () => window.ddTrain?.anchor(element));"
                                        " window.ddTrain?.anchor(element);")  # fmt: skip
            work = gr.HTML(_skeleton(), elem_id="dd-train-app", apply_default_css=False, server_functions=REQUESTS,
                           js_on_load="window.ddTrain?.mount(element, server, { draw: () => trigger('draw'),"
                                      " file: (id) => trigger('file', {id}) });")  # fmt: skip
            file = said(gr.DownloadButton, {"label": "train_download"}, elem_id="dd-train-file", visible="hidden")
            with gr.Column(elem_classes="dd-chart", elem_id="dd-train-chart"):
                said(gr.HTML, {"value": "train_chart_bar"}, elem_id="dd-train-chart-bar", apply_default_css=False)
                plot = gr.Plot(show_label=False, container=False, elem_id="dd-train-plot")
            gr.HTML(_lower(), elem_id="dd-train-lower", apply_default_css=False)
    tab.report = [anchor]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    named = "() => window.ddTrain?.uploaded()"
    drop.upload(_keep_files, [lang, drop], [kept], **quiet).then(None, js=named)
    drop.clear(lambda: "", None, [kept], **quiet)
    work.draw(charts.empty_plot, None, [plot], **quiet)
    work.file(_file, [lang], [file], **quiet)
    return tab


def _skeleton() -> str:
    """Places that the page's script fills; the same in every language, so that nothing redraws them."""
    names = ("start", "checks", *FORM_PARTS, *JOB_PARTS)
    parts = {name: tag("div", f"dd-train-{name}-box", data_part=name) for name in names}
    no_report = tag("i", "dd-verdict", data_report="", hidden=True)  # so that the address names none
    cards = (tag("section", f"dd-card dd-setup dd-train-{name}-card", parts[name]) for name in FORM_PARTS)
    form = tag("form", "dd-train-form", *cards, autocomplete="off")
    jobs = tag("div", "dd-train-job", *(parts[name] for name in JOB_PARTS))
    return tag("div", "dd-pairs dd-train", no_report, parts["start"], parts["checks"], form, jobs,
               tag("div", "dd-toast", role="status", aria_live="polite"), data_state="")  # fmt: skip


def _lower() -> str:
    """Below the curves, which are a component of their own."""
    return tag("div", "dd-pairs dd-train-below", tag("div", "dd-train-log-box", data_part="log"))


def _anchor(job_id: str, lang: str) -> str:
    """What the page's script goes by: which job the address names, in which language."""
    said = {name: words(lang)[name] for name in SCRIPT_WORDS}
    return tag("i", "", hidden=True, data_train=job_id, data_lang=known(lang), data_words=json.dumps(said))


def open_page(job_id: str | None, lang: str) -> tuple[bool, dict[str, Any], list[Any]]:
    """(whether the address names a job, which, outputs for `tab.report`)."""
    named = job_id if isinstance(job_id, str) and ID.fullmatch(job_id) else ""
    return bool(named), {"id": named}, [_anchor(named, lang)]


def in_language(shown: dict[str, Any], lang: str) -> list[Any]:
    """The same, said in another language."""
    return [_anchor(shown["id"], lang)]


def _keep_files(lang: str, dropped: Any) -> str:
    """A dropped file is copied at once: the page's own copy goes when the page does."""
    files = [dropped] if isinstance(dropped, str) else list(dropped or [])
    try:
        token, names, _ = uploads.keep_logs(files)
    except OSError as error:
        return tag("p", "", text(error.strerror or error))
    return tag("p", "", text(words(lang)["upload_kept"].format(names=", ".join(names))), data_value=UPLOAD + token)


def _file(lang: str, event: gr.EventData) -> Any:
    """The zipped files of a hand-over behind their button."""
    given = event._data.get("id") if isinstance(event._data, dict) else None
    work = train_work.find(given)
    if work is None or work.file is None or not work.file.is_file():
        return gr.update(visible="hidden")
    label = f"{words(lang)['train_download']} · {work.file.name} · {size_of(work.file)}"
    return gr.update(value=str(work.file), visible=True, label=label)
