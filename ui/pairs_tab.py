"""The tab Pairs: which set to open on the left; going through its pairs, their health and their export on the right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from diagnostics.report_store import ID
from pipeline.refusal import Refused
from ui import pair_export, pair_import, pair_jobs, pair_workspaces, report_view, uploads
from ui.interface_words import known, words
from ui.labels import Labels
from ui.log_case import path_is_open
from ui.pair_case import EXAMPLES, GivenSet, checked_source, example
from ui.pair_requests import REQUESTS
from ui.running_diagnosis import one_line
from ui.safe_html import tag, text
from ui.visitor_case import BadCase

TAB_PLACE = 2  # among the page's tabs
NOTHING: dict[str, Any] = {"id": ""}  # the id of the set that is open; all else is asked with each request
PARTS = ("start", "head", "notice", "filters", "plots", "bulk", "list", "pair", "health", "export")
# what the script says by itself, when there is no answer to show
SCRIPT_WORDS = ("pairs_no_answer_came", "pairs_unsaved_edit", "pairs_do_save", "pairs_do_cancel", "pairs_chars",
                "pairs_last_one", "pairs_first_one", "pairs_plots_head")  # fmt: skip


@dataclass
class PairsTab:
    """Components that app.py wires to the page. shown: the id of the open set, which other tabs may take it by
    (`pair_export.export_to`). form, report: outputs, always in this order."""

    labels: Labels
    form: list[Any] = field(default_factory=list)
    report: list[Any] = field(default_factory=list)
    shown: Any = None


def build(labels: Labels, lang: gr.Radio, kept: gr.BrowserState) -> PairsTab:
    """Lay the tab out and wire its events. lang: the page's language; kept: what the browser remembers."""
    tab = PairsTab(labels)
    tab.shown = gr.State(NOTHING)
    with gr.Row(elem_id="dd-pairs-body"):
        with gr.Column(elem_id="dd-pairs-case"):
            made = _case(labels)
        with gr.Column(elem_id="dd-pairs-work"):
            problem = gr.HTML("", elem_id="dd-pairs-problem", apply_default_css=False)
            anchor = gr.HTML(_anchor("", "en"), elem_id="dd-pairs-anchor", apply_default_css=False,
                             js_on_load="watch('value', () => window.ddPairs?.anchor(element));"
                                        " window.ddPairs?.anchor(element);")  # fmt: skip
            work = gr.HTML(_skeleton(), elem_id="dd-pairs-app", apply_default_css=False, server_functions=REQUESTS,
                           js_on_load="window.ddPairs?.mount(element, server,"
                                      " { fetch: () => trigger('fetch'), leave: () => trigger('leave'),"
                                      " take: (id) => trigger('take', {id}) });")  # fmt: skip
            file = labels.said(
                gr.DownloadButton, {"label": "pairs_download"}, elem_id="dd-pairs-file", visible="hidden"
            )
    tab.report = [problem, anchor]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    fields = [made["path"], made["split"], made["token"], made["tokenizer"], made["max_length"]]
    opened = [tab.shown, problem, anchor]
    emptied = [made["token"], made["drop"], made["kept"]]
    gr.on([made["open"].click, made["path"].submit], _open, [lang, kept, *fields], [kept, *emptied, *opened], **quiet)
    dropped = made["drop"].upload(_keep_files, [lang, made["drop"]], [made["token"], made["kept"]], **quiet)
    dropped.then(_open, [lang, kept, *fields], [kept, *emptied, *opened], **quiet)
    made["drop"].clear(lambda: ("", ""), None, [made["token"], made["kept"]], **quiet)
    for name in EXAMPLES:
        made[name].click(partial(_example, name), [lang], opened, **quiet)
    work.fetch(_file, [lang, tab.shown], [file], **quiet)
    work.leave(_left, None, [tab.shown], **quiet)
    work.take(_taken, None, [tab.shown], **quiet)
    file.click(_downloaded, [tab.shown], None, **quiet).then(None, js="() => window.ddPairs?.exported()")
    tab.form = [made["path"]]
    return tab


def _case(labels: Labels) -> dict[str, Any]:
    """The left column: path or Hub id, dropped files, what else belongs to it, and examples."""
    said = labels.said
    said(gr.HTML, {"value": "pairs_case_line"}, elem_id="dd-pairs-case-line")
    local = path_is_open()
    path = said(
        gr.Textbox, {"label": "pairs_path", "info": "pairs_path_info" if local else "pairs_path_info_public",
                     "placeholder": "pairs_path_placeholder" if local else "pairs_path_placeholder_public"},
        lines=1, max_lines=4, elem_id="dd-pairs-path",
    )  # fmt: skip
    drop = said(gr.File, {"label": "pairs_upload"}, file_count="multiple", elem_id="dd-pairs-upload", height=64)
    kept = gr.HTML("", elem_id="dd-pairs-kept")
    with said(gr.Accordion, {"label": "pairs_more"}, open=False, elem_id="dd-pairs-more"):
        split = said(gr.Textbox, {"label": "pairs_split", "info": "pairs_split_info"}, value="", placeholder="train",
                     max_lines=1, elem_id="dd-pairs-split")  # fmt: skip
        tokenizer = said(gr.Textbox, {"label": "tokenizer", "info": "pairs_tokenizer_info"}, max_lines=1,
                         elem_id="dd-pairs-tokenizer")  # fmt: skip
        length = {"label": "pairs_max_length", "info": "pairs_max_length_info"}
        max_length = said(gr.Number, length, value=0, precision=0, elem_id="dd-pairs-max-length")
    begin = said(gr.Button, {"value": "pairs_open"}, variant="primary", elem_id="dd-pairs-open")
    said(gr.HTML, {"value": "pairs_examples_head"}, elem_id="dd-pairs-examples-head")
    with gr.Column(elem_id="dd-pairs-examples"):
        shown = {name: said(gr.Button, {"value": f"pairs_example_{name}"}, size="sm") for name in EXAMPLES}
    token = gr.Textbox(visible=False)  # the name of the folder that keeps the dropped files
    return {"path": path, "drop": drop, "kept": kept, "split": split, "tokenizer": tokenizer, "max_length": max_length,
            "open": begin, "token": token, **shown}  # fmt: skip


def _skeleton() -> str:
    """Places that the page's script fills; the same in every language, so that nothing redraws them."""
    parts = {name: tag("div", f"dd-part-{name}-box", data_part=name) for name in PARTS}
    spread = tag("details", "dd-card dd-plots-box", tag("summary", "", ""), parts["plots"])
    split = tag("div", "dd-pairs-split", parts["list"], parts["pair"])
    panes = tag(
        "div", "dd-pairs-panes", parts["notice"], tag("div", "dd-job", role="status"),
        tag("div", "dd-pane-review", parts["filters"], spread, parts["bulk"], split),
        tag("div", "dd-pane-health", parts["health"]), tag("div", "dd-pane-export", parts["export"]),
    )  # fmt: skip
    no_report = tag("i", "dd-verdict", data_report="", hidden=True)  # so that the address names none
    return tag(
        "div", "dd-pairs", no_report, parts["start"], parts["head"], panes,
        tag("dialog", "dd-card dd-keys-box", data_part="help"),
        tag("div", "dd-toast", role="status", aria_live="polite"), data_state="", data_pane="review",
    )  # fmt: skip


def _anchor(set_id: str, lang: str) -> str:
    """What the page's script goes by: which set is open, in which language."""
    said = {name: words(lang)[name] for name in SCRIPT_WORDS}
    return tag("i", "", hidden=True, data_pairs=set_id, data_lang=known(lang), data_words=json.dumps(said),
               data_lasting="1" if pair_workspaces.lasting() else "")  # fmt: skip


# --- what is shown ---


def open_page(set_id: str | None, lang: str) -> tuple[bool, dict[str, Any], list[Any]]:
    """(whether the address names a set, what is then open, outputs for `tab.report`)."""
    named = set_id if isinstance(set_id, str) and ID.fullmatch(set_id) else ""
    return bool(named), {"id": named}, ["", _anchor(named, lang)]


def in_language(shown: dict[str, Any], lang: str) -> list[Any]:
    """The same, said in another language."""
    return ["", _anchor(shown["id"], lang)]


def restored(kept: dict[str, Any]) -> list[Any]:
    """The path as the browser remembers it."""
    path = kept.get("pairs_path")
    return [gr.update(value=path) if isinstance(path, str) else gr.skip()]


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


def _open(
    lang: str, kept: Any, path: str, split: str, token: str, tokenizer: str, max_length: float | None
) -> list[Any]:  # fmt: skip
    kept = {**(kept if isinstance(kept, dict) else {}), "pairs_path": path}
    opened = _begun(lang, lambda: checked_source(path, token, tokenizer, max_length, split))
    emptied = ["", None, ""] if opened[0] is not gr.skip() and not opened[1] else [gr.skip()] * 3
    return [kept, *emptied, *opened]


def _example(name: str, lang: str) -> list[Any]:
    return _begun(lang, lambda: example(name, lang))


def _begun(lang: str, make: Callable[[], GivenSet]) -> list[Any]:
    """Outputs for [shown, problem, anchor]: the set whose import began, or why none did."""
    try:
        set_id = pair_import.begin(make())
        return [{"id": set_id}, "", _anchor(set_id, lang)]
    except BadCase as bad:
        problem = (bad.entry, pair_jobs.said_params(dict(bad.params), lang))
    except Refused as refused:
        problem = ("bad_setting", {"error": refused.said(known(lang))})
    except OSError as error:
        problem = ("bad_setting", {"error": error.strerror or str(error)})
    except Exception as error:
        problem = ("pairs_failed_text", {"error": one_line(error)})
    return [gr.skip(), report_view.problem(*problem, lang), gr.skip()]


def _taken(event: gr.EventData) -> dict[str, Any]:
    """The script opened a set by itself, from the list of those that are known here."""
    given = event._data.get("id", "") if isinstance(event._data, dict) else ""
    return {"id": given} if isinstance(given, str) and ID.fullmatch(given) else NOTHING


def _left() -> dict[str, Any]:
    return NOTHING


def _file(lang: str, shown: dict[str, Any]) -> Any:
    """The file that was written last, behind the download button."""
    path = pair_export.last_file(shown["id"])
    if path is None:
        return gr.update(visible="hidden")
    return gr.update(value=str(path), label=words(lang)["pairs_download_name"].format(name=path.name), visible=True)


def _downloaded(shown: dict[str, Any]) -> None:
    try:
        pair_export.downloaded(shown["id"])
    except (BadCase, Refused):
        return
