"""The app: `python app.py`, also what a Hugging Face Space runs. Only puts the page together."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from typing import Any

import gradio as gr

from ui import checkpoint_tab, evaluate_tab, logs_tab, pairs_tab, rejects_tab, train_tab
from ui.api import diagnose_checkpoint, diagnose_log, diagnose_pairs
from ui.interface_words import browser_language
from ui.labels import Labels
from ui.look import look
from ui.safe_html import tag

LANGUAGES = {"en": "EN", "zh": "中文"}
TABS: dict[str, Any] = {"checkpoint": checkpoint_tab, "logs": logs_tab, "pairs": pairs_tab, "rejects": rejects_tab,
                        "train": train_tab, "evaluate": evaluate_tab}  # fmt: skip
RESTORED = ("checkpoint", "logs", "pairs")  # what was typed there is kept by the browser's settings
UPLOAD_LIMIT = "512mb"


def build() -> tuple[gr.Blocks, dict[str, Any]]:
    """The page and the arguments of `launch()` that belong to it."""
    labels = Labels()
    with gr.Blocks(title="DPO Doctor", delete_cache=(86400, 86400), analytics_enabled=False) as page:
        # a fixed secret: what the browser keeps is its own settings, and must be readable after a restart
        kept = gr.BrowserState({}, storage_key="dpo_doctor", secret="dpo-doctor-settings")
        with gr.Row(elem_id="dd-head"):
            labels.said(gr.HTML, {"value": "title_html"}, elem_id="dd-title")
            choices = [(name, code) for code, name in LANGUAGES.items()]
            lang = gr.Radio(choices, value="en", label="Language", show_label=False, container=False, elem_id="dd-lang")
            gr.Button("◐", elem_id="dd-theme", size="sm")
        with gr.Tabs(selected="checkpoint") as tabs:
            made: dict[str, Any] = {}
            for name, tab in TABS.items():
                with labels.said(gr.Tab, {"label": f"{name}_tab"}, id=name):
                    made[name] = tab.build(labels, lang, *([kept] if name in RESTORED else []))
        space = os.environ.get("SPACE_ID")  # the page's script makes share links of it
        gr.HTML(tag("i", "", data_space=space) if space else "", elem_id="dd-space")

        def open_page(kept: Any, request: gr.Request) -> list[Any]:
            kept = kept if isinstance(kept, dict) else {}
            chosen, preferred = kept.get("lang"), request.headers.get("accept-language")
            lang = chosen if chosen in LANGUAGES else browser_language(preferred)
            asked = {name: request.query_params.get(name) for name in ("report", *TABS)}
            asked["logs"] = asked["report"]
            asked["evaluate"] = evaluate_tab.named_by(asked["evaluate"], asked["report"])
            found = {name: tab.open_page(asked[name], lang) for name, tab in TABS.items() if name != "checkpoint"}
            elsewhere = found["logs"][0] or asked["evaluate"] == asked["report"]
            opened = {"checkpoint": checkpoint_tab.open_page(None if elsewhere else asked["report"], lang)}
            opened |= {name: rest for name, (_, *rest) in found.items()}
            form = [*checkpoint_tab.restored(kept.get("case")), *logs_tab.restored(kept), *pairs_tab.restored(kept)]
            first = next((name for name in reversed(found) if found[name][0]), None)
            tab_named = gr.Tabs(selected=first) if first else gr.skip()  # a tab clicked meanwhile stays open
            pages = [part for shown, page in opened.values() for part in (shown, *page)]
            return [lang, *labels.updates(lang), *form, tab_named, *pages]

        def switch_language(lang: str, kept: Any, *shown: dict[str, Any]) -> list[Any]:
            kept = {**(kept if isinstance(kept, dict) else {}), "lang": lang}
            both = zip(TABS.values(), shown, strict=True)
            pages = [part for tab, now in both for part in tab.in_language(now, lang)]
            return [kept, *labels.updates(lang), *pages]

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        parts, pairs, logs = list(made.values()), made["pairs"], made["logs"]
        opened = [lang, *labels.components, *(f for t in parts for f in t.form), tabs]
        page.load(open_page, [kept], [*opened, *(c for t in parts for c in (t.shown, *t.report))], **quiet)
        said = [kept, *labels.components, *(c for t in parts for c in t.report)]
        lang.input(switch_language, [lang, kept, *(t.shown for t in parts)], said, **quiet)
        tabs.select(logs_tab.switched, [logs.shown, lang], [logs.shown, *logs.report], **quiet)
        for name in ("rejects", "evaluate"):
            made[name].work.pairs(rejects_tab.to_pairs, [lang], [pairs.shown, *pairs.report, tabs], **quiet)
        made["evaluate"].work.train(lambda: gr.Tabs(selected="train"), None, [tabs], **quiet)
        gr.api(diagnose_checkpoint, concurrency_limit=1, concurrency_id="diagnosis")
        gr.api(diagnose_log, concurrency_limit=2, concurrency_id="logs")
        gr.api(diagnose_pairs, concurrency_limit=1, concurrency_id="pairs")
    page.queue(max_size=64)
    return page, {**look(), "i18n": labels.translations()}


def main() -> None:
    """Serve the page on this machine, or wherever GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python app.py --port 7860")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument("--host", help="default: this machine only")
    options = parser.parse_args()
    page, appearance = build()
    page.launch(
        server_name=options.host, server_port=options.port, mcp_server=find_spec("mcp") is not None, ssr_mode=False,
        max_file_size=UPLOAD_LIMIT, run_history=False, show_error=True, footer_links=["api"], **appearance,
    )  # fmt: skip


if __name__ == "__main__":
    main()
