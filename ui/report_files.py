"""A report as files behind the download buttons."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostics import render
from diagnostics.report import Report
from diagnostics.report_store import new_id
from ui.private_folder import private_folder


def report_files(
    report: Report, report_id: str, more: Mapping[str, Callable[[], str]] | None = None
) -> list[str | None]:
    """Paths of the report as JSON, Markdown and HTML, then of `more` (suffix -> content); None where a file can't be
    written. `report` is already said in its language."""
    made: list[str | None] = []
    forms: dict[str, Callable[[], str]] = {
        "json": report.dumps, "md": lambda: render.to_markdown(report), "html": lambda: render.to_html(report),
        **(more or {}),
    }  # fmt: skip
    try:
        folder = private_folder("downloads") / f"{report_id or 'example'}-{report.lang}"
        folder.mkdir(exist_ok=True)
        for form, content in forms.items():
            path = folder / f"dpo-doctor-{report_id[:8] or 'example'}.{form}"
            draft = path.with_suffix(f".{new_id()}")  # another visitor may be served the same file right now
            draft.write_text(content(), encoding="utf-8", errors="replace")
            draft.replace(path)
            made.append(str(path))
    except OSError:
        return [None] * len(forms)
    return made
