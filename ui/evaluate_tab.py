"""The tab Evaluate: did it help? The kinds of evaluation and their form on the left; a result on the right.

What a kind is, and how one is added, stands in ui/evaluate_panel.py; what the page asks in ui/evaluate_requests.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from diagnostics.report_store import ID, new_id
from diagnostics.words import say
from ui import evaluate_plots, evaluate_runs, uploads
from ui.evaluate_case import UPLOAD
from ui.evaluate_panel import Shown
from ui.evaluate_panels import panels
from ui.evaluate_requests import REQUESTS
from ui.interface_words import known, words
from ui.labels import Labels
from ui.pair_export import size_of
from ui.private_folder import private_folder
from ui.report_files import report_files
from ui.safe_html import tag, text
from ui.visitor_case import BadCase

NOTHING: dict[str, Any] = {"id": ""}
TOP_PARTS = ("start", "command", "recent", "bundles", "head", "now")
LOWER_PARTS = ("view", "findings", "cases", "log")
SCRIPT_WORDS = ("pairs_no_answer_came",)
FORMS = ("json", "md", "html")  # of a report
MOST_FILES = 5  # beside the report


@dataclass
class EvaluateTab:
    """Components that app.py wires to the page. work: whose events `pairs` and `train` ask for those tabs. form,
    report: outputs, always in this order."""

    labels: Labels
    form: list[Any] = field(default_factory=list)
    report: list[Any] = field(default_factory=list)
    shown: Any = None
    work: Any = None


def build(labels: Labels, lang: gr.Radio) -> EvaluateTab:
    """Lay the tab out and wire its events. lang: the page's language."""
    tab, said = EvaluateTab(labels), labels.said
    tab.shown = gr.State(NOTHING)
    with gr.Row(elem_id="dd-evaluate-body"):
        with gr.Column(elem_id="dd-evaluate-case", elem_classes="dd-open"):
            gr.HTML(tag("form", "dd-pairs", data_part="form", autocomplete="off"), elem_id="dd-evaluate-form",
                    apply_default_css=False)  # fmt: skip
            drop = said(gr.File, {"label": "evaluate_upload"}, elem_id="dd-evaluate-upload", height=64)
            kept = gr.HTML("", elem_id="dd-evaluate-kept")
            said(gr.Button, {"value": "evaluate_start"}, variant="primary", elem_id="dd-evaluate-start")
            gr.HTML(tag("p", "dd-field-problem", data_problem="start", role="alert"), elem_classes="dd-problem-place",
                    apply_default_css=False)  # fmt: skip
        with gr.Column(elem_id="dd-evaluate-work"):
            anchor = gr.HTML("", elem_id="dd-evaluate-anchor", apply_default_css=False,
                             js_on_load="watch('value', () => window.ddEvaluate?.anchor(element));"
                                        " window.ddEvaluate?.anchor(element);")  # fmt: skip
            work = gr.HTML(_skeleton(), elem_id="dd-evaluate-app", apply_default_css=False, server_functions=REQUESTS,
                           js_on_load="window.ddEvaluate?.mount(element, server, { files: (id) =>"
                                      " trigger('files', {id}), pairs: (id) => trigger('pairs', {id}),"
                                      " train: () => trigger('train') });")  # fmt: skip
            with gr.Row(elem_id="dd-evaluate-downloads"):
                files = [said(gr.DownloadButton, {"label": f"download_{form}"}, size="sm", visible="hidden",
                              elem_id=f"dd-evaluate-{form}") for form in FORMS]  # fmt: skip
                files += [gr.DownloadButton("", size="sm", visible="hidden", elem_id=f"dd-evaluate-file-{n}")
                          for n in range(MOST_FILES)]  # fmt: skip
            gr.HTML(_lower(), elem_id="dd-evaluate-lower", apply_default_css=False)
            evaluate_plots.loader()
    tab.report, tab.work = [anchor], work

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    drop.upload(_keep_files, [lang, drop], [kept, drop], **quiet).then(None, js="() => window.ddEvaluate?.uploaded()")
    given = work.files(_files, [lang], files, trigger_mode="multiple", **quiet)
    given.then(None, js="() => window.ddEvaluate?.handed()")
    return tab


def _skeleton() -> str:
    """Places that the page's script fills; the same in every language, so that nothing redraws them."""
    parts = (tag("div", f"dd-evaluate-{name}-box", data_part=name) for name in TOP_PARTS)
    no_report = tag("i", "dd-verdict", data_report="", hidden=True)  # so that the address names none
    return tag("div", "dd-pairs dd-evaluate", no_report, *parts,
               tag("div", "dd-toast", role="status", aria_live="polite"), data_state="")  # fmt: skip


def _lower() -> str:
    """Below the files to take along, which are components of their own."""
    parts = (tag("div", f"dd-evaluate-{name}-box", data_part=name) for name in LOWER_PARTS)
    return tag("div", "dd-pairs dd-evaluate dd-evaluate-result", *parts, data_fields=True)


def _anchor(run_id: str, lang: str, kind: str = "") -> str:
    """What the page's script goes by: which evaluation or form the address names, in which language."""
    said = {name: words(lang)[name] for name in SCRIPT_WORDS}
    return tag("i", "", hidden=True, data_evaluate=run_id, data_kind=kind, data_lang=known(lang),
               data_words=json.dumps(said))  # fmt: skip


def open_page(named: str | None, lang: str) -> tuple[bool, dict[str, Any], list[Any]]:
    """(whether the address names this tab, which evaluation, outputs for `tab.report`). named: `?evaluate=`, which is
    an evaluation or the kind whose form is open, or a report."""
    run_id = named if isinstance(named, str) and ID.fullmatch(named) else ""
    kind = named if isinstance(named, str) and named in panels() else ""
    return bool(run_id or kind), {"id": run_id}, [_anchor(run_id, lang, kind)]


def named_by(evaluation: str | None, report: str | None) -> str | None:
    """What the address asks this tab for: an evaluation, or a report that is of one."""
    return evaluation or (report if evaluate_runs.is_evaluation(report) else None)


def in_language(shown: dict[str, Any], lang: str) -> list[Any]:
    """The same, said in another language."""
    return [_anchor(shown["id"], lang)]


def _keep_files(lang: str, dropped: Any) -> tuple[str, None]:
    """Dropped files are copied at once: the page's own copies go when the page does. The place takes the next one."""
    files = [dropped] if isinstance(dropped, str) else list(dropped or [])
    try:
        token, names, _ = uploads.keep_logs(files)
    except OSError as error:
        return tag("p", "", text(error.strerror or error)), None
    line = text(words(lang)["upload_kept"].format(names=", ".join(names)))
    return tag("p", "", line, data_value=f"{UPLOAD}{token}/{names[0]}" if names else None), None


def _files(lang: str, event: gr.EventData) -> list[Any]:
    """The report in its forms, and the files of a run, behind their buttons."""
    hidden: list[Any] = [gr.update(visible="hidden")] * (len(FORMS) + MOST_FILES)
    given = event._data.get("id") if isinstance(event._data, dict) else None
    try:
        one = evaluate_runs.shown(given)
    except BadCase:
        return hidden
    made: list[Any] = []
    paths = report_files(say(one.report, known(lang)), one.id) if one.report is not None else [None] * len(FORMS)
    for form, path in zip(FORMS, paths, strict=True):
        line = f"{words(lang)['evaluate_download_report']} · {words(lang)[f'download_{form}']}"
        made.append(gr.update(value=path, visible=True, label=line) if path else hidden[0])
    made += [_button(one, entry, path, lang) for entry, path in _of_run(one)[:MOST_FILES]]
    return [*made, *hidden[len(made) :]]


def _of_run(one: Shown) -> list[tuple[str, Path]]:
    """The files of a run to take along: what the panel names, the result, the rows."""
    if one.folder is None:
        return []
    panel = panels()[one.kind]
    listed: Callable[[Shown], list[tuple[str, Path]]] = panel.files or (lambda _: [])
    found = [*listed(one), ("evaluate_download_result", one.folder / panel.result)]
    if one.rows is not None:
        found.append(("evaluate_download_rows", one.rows))
    return [(entry, path) for entry, path in {path: (entry, path) for entry, path in found}.values()
            if path.is_file()]  # fmt: skip


def _button(one: Shown, entry: str, path: Path, lang: str) -> Any:
    """A file linked into a folder that the page may serve."""
    with suppress(OSError):
        folder = private_folder("downloads") / f"evaluate-{new_id()}"
        folder.mkdir(mode=0o700)
        place = folder / path.name
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)
        return gr.update(value=str(place), visible=True, label=f"{words(lang)[entry]} · {size_of(path)}")
    return gr.update(visible="hidden")
