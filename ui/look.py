"""Theme, style sheet and script of the page. System fonts only: nothing is fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent / "assets"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif"]
SCRIPTS = (
    "page.js", "curves.js", "pairs.js", "pair_edit.js", "pair_plots.js", "pair_jobs.js", "rejects.js", "train.js",
    "evaluate.js", "evaluate_plots.js", "compare.js",
)  # fmt: skip
STYLES = ("page.css", "pairs.css", "rejects.css", "train.css", "evaluate.css", "compare.css")
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def look() -> dict[str, Any]:
    """Arguments of `launch()` that decide how the page looks."""
    scripts = "".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return {
        "theme": gr.themes.Base(primary_hue="teal", neutral_hue="stone", font=FONTS, font_mono=MONO),
        "css": "".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES),
        "head": f"<script>{scripts}</script>",
    }
