"""Above the pairs: which set, how far one has come, how healthy it is, and how to get elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ui import pair_health, pair_workspaces
from ui.interface_words import words
from ui.pair_jobs import row_reason
from ui.pair_table import SIGNS
from ui.pair_workspaces import About
from ui.safe_html import tag, text

if TYPE_CHECKING:
    from pipeline.pair_workspace import Workspace

PANES = ("review", "health", "export")
KEYS = (("J", "next"), ("K", "previous"), ("A", "accept"), ("D", "discard"), ("S", "swap"), ("E", "edit_chosen"),
        ("R", "edit_rejected"), ("P", "edit_prompt"), ("Ctrl Enter", "save"), ("Esc", "cancel"), ("U", "undo"),
        ("Shift U", "redo"), ("/", "search"), ("T", "table"), ("?", "keys"))  # fmt: skip


def head(workspace: Workspace, set_id: str, about: About, lang: str) -> str:
    said = words(lang)
    counts = workspace.counts()
    done = counts.total - counts.new
    percent = round(100 * done / counts.total) if counts.total else 0
    shares = [(s, getattr(counts, s)) for s in ("accepted", "edited", "discarded", "new")]
    bar = tag(
        "div", "dd-shares", *(tag("i", f"dd-share-{s}", style=f"flex:{n}") for s, n in shares if n), aria_hidden="true"
    )
    legend = (_legend(s, n, said) for s, n in shares)
    facts = [said["pairs_total"].format(n=f"{counts.total:,}"), about.format]
    if about.left_out:
        facts.append(
            said["pairs_rows_left_out"].format(n=f"{about.left_out:,}", row=row_reason(about.left_out_why, lang))
        )
    facts.append(said["pairs_reviewed"].format(percent=percent))
    title = tag("div", "dd-head-title", tag("h2", "", text(about.name)), tag("p", "dd-dim", text(" · ".join(facts))))
    hint = said["pairs_name_hint"]
    name = tag(
        "input", "dd-editor-name", type="text", maxlength=40, data_editor_name=True, autocomplete="nickname",
        placeholder=said["pairs_your_name"], title=hint, aria_label=hint,
    )  # fmt: skip
    tools = tag(
        "div", "dd-head-tools", name,
        _small("↶", said["pairs_do_undo"], data_do="undo"), _small("↷", said["pairs_do_redo"], data_do="redo"),
        _small("?", said["pairs_do_keys"], data_keys="1"),
        tag("button", "dd-small", text(said["copy_link"]), type="button", data_share=True),
        tag("button", "dd-small", text(said["pairs_another"]), type="button", data_new=True),
    )  # fmt: skip
    badge = {"health": pair_health.badge(set_id, lang)}
    panes = (
        tag("button", "dd-pane", text(said[f"pairs_pane_{p}"]), badge.get(p, ""), type="button", data_pane=p)
        for p in PANES
    )
    return tag("section", "dd-card dd-pairs-head", tag("div", "dd-head-row", title, tools), bar,
               tag("div", "dd-head-row dd-head-end", tag("nav", "dd-panes", *panes, aria_label=said["pairs_tab"]),
                   tag("div", "dd-legends", *legend)))  # fmt: skip


def _legend(status: str, n: int, said: Any) -> str:
    """How many pairs have a status; shows only those."""
    line = text(f"{said[f'pairs_status_{status}']} {n:,}")
    return tag("button", f"dd-legend dd-status-{status}", tag("span", "", SIGNS[status]), line, type="button",
               data_status=status)  # fmt: skip


def _small(sign: str, label: str, **data: str) -> str:
    return tag("button", "dd-small", sign, type="button", title=label, aria_label=label, **data)


def notice(workspace: Workspace, lang: str) -> str:
    """Work that would be lost with the machine; the page's script asks before it is left then."""
    n = workspace.unexported()
    said = words(lang)
    if not n or pair_workspaces.lasting():
        return tag("i", "", hidden=True, data_unexported="0")
    line = text(said["pairs_not_exported"].format(n=f"{n:,}"))
    button = tag("button", "dd-link", text(said["pairs_pane_export"]), type="button", data_pane="export")
    return tag("p", "dd-banner dd-unexported", line, " ", button, data_unexported=str(n), role="status")


def keys(lang: str) -> str:
    """Every key, for the dialog that `?` opens."""
    said = words(lang)
    rows = []
    for key, do in KEYS:
        signs = (tag("kbd", "", k) for k in key.split())
        rows.append(tag("div", "", tag("dt", "", *signs), tag("dd", "", text(said[f"pairs_do_{do}"]))))
    close = tag("button", "dd-do", text(said["pairs_close"]), type="button", data_close=True)
    return tag("h3", "dd-h", text(said["pairs_do_keys"])) + tag("dl", "dd-keys", *rows) + \
        tag("p", "dd-dim", text(said["pairs_keys_info"])) + close  # fmt: skip
