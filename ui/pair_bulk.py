"""One action on every pair of a filter: what it would do first, then doing it, as one thing to undo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.pairs.pair import text_of
from ui import pair_filters, pair_jobs, pair_workspaces
from ui.interface_words import words
from ui.pair_difference import difference, spans_html
from ui.pair_jobs import Job, Stopped
from ui.safe_html import tag, text
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.pair_workspace import BulkDone, BulkPreview, Example, View, Workspace

ACTIONS = ("discard", "accept", "swap", "correct", "replace")
SIDES = ("chosen", "rejected", "prompt", "system")
MAX_FIND = 10_000
SHOWN = 1200  # characters of a text in an example


def checked(asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(action, its arguments). Raises BadCase where something is missing."""
    action = asked.get("action")
    if action not in ACTIONS:
        raise BadCase("pairs_no_answer")
    if action in ("discard", "accept", "swap"):
        return str(action), {}
    find, replace = (v[:MAX_FIND] if isinstance(v := asked.get(k), str) else "" for k in ("find", "replace"))
    if not find:
        raise BadCase("pairs_no_find")
    if action == "correct":
        return "correct", {"find": find, "replace": replace}
    side = asked.get("side")
    if side not in SIDES:
        raise BadCase("pairs_no_answer")
    return "replace", {"find": find, "replace": replace, "side": side}


def form(workspace: Workspace, view: View, asked: Mapping[str, Any], lang: str) -> str:
    """Which action, and what it would do once that was asked for."""
    said = words(lang)
    action = asked.get("action") if asked.get("action") in ACTIONS else "discard"
    matching = workspace.count(view)
    choices = (tag("label", "dd-choice", tag("input", "", type="radio", name="action", value=a, checked=a == action),
                   tag("span", "", tag("b", "", text(said[f"pairs_bulk_{a}"])),
                       tag("span", "dd-dim", text(said[f"pairs_bulk_{a}_info"])))) for a in ACTIONS)  # fmt: skip
    find, replace = (_typed(name, asked.get(name), said) for name in ("find", "replace"))
    side = asked.get("side")
    options = (tag("option", "", text(said[f"pairs_part_{s}"]), value=s, selected=s == side) for s in SIDES)
    within = tag("label", "dd-field dd-only-replace", tag("span", "", text(said["pairs_in_side"])),
                 tag("select", "dd-select", *options, name="side"))  # fmt: skip
    fields = tag("div", "dd-form dd-find", find, replace, within)
    shown, go = "", ""
    if asked.get("do") == "preview":
        name, arguments = checked(asked)
        found = workspace.preview(view, name, **arguments)  # type: ignore[arg-type]
        shown = _preview(found, lang)
        if found.changes:
            go = tag("button", "dd-do dd-primary", text(said[f"pairs_bulk_do_{name}"].format(n=f"{found.changes:,}")),
                     type="submit", name="do", value="start")  # fmt: skip
    look = tag("button", "dd-do" + ("" if go else " dd-primary"), text(said["pairs_preview"]), type="submit", name="do",
               value="preview")  # fmt: skip
    head = said["pairs_bulk_head_all" if pair_filters.is_whole(view) else "pairs_bulk_head"].format(n=f"{matching:,}")
    close = tag("button", "dd-link", "×", type="button", data_toggle="bulk", aria_label=said["pairs_close"])
    return tag("section", "dd-card dd-bulk", tag("div", "dd-plot-head", tag("h3", "dd-h", text(head)), close),
               tag("form", "", tag("div", "dd-choices", *choices), fields, shown, tag("div", "dd-form-end", look, go),
                   data_rpc="bulk", data_action=action))  # fmt: skip


def _typed(name: str, value: Any, said: Mapping[str, Any]) -> str:
    """A field for a text that may have several lines."""
    typed = value if isinstance(value, str) else ""  # a browser drops the first line end of a text area
    area = tag("textarea", "", "\n", text(typed), name=name, rows="1", maxlength=MAX_FIND, spellcheck="false")
    return tag("label", "dd-field", tag("span", "", text(said[f"pairs_{name}"])), area)


def _preview(found: BulkPreview, lang: str) -> str:
    said = words(lang)
    numbers = [said["pairs_preview_changes"].format(n=f"{found.changes:,}")]
    if found.already:
        numbers.append(said["pairs_preview_already"].format(n=f"{found.already:,}"))
    if found.left:
        numbers.append(said["pairs_preview_left"].format(n=f"{found.left:,}"))
    line = tag("p", "dd-preview-line", tag("b", "", text(numbers[0])), text(" " + " ".join(numbers[1:])))
    examples = "".join(_example(one, lang) for one in found.examples)
    return tag("div", "dd-preview", line, examples, role="status")


def _example(one: Example, lang: str) -> str:
    """A pair before and after; only what differs."""
    said = words(lang)
    name = tag("span", "dd-dim", text(said["pairs_pair"].format(n=one.position + 1)))
    rows = []
    for side in ("system", "prompt", "chosen", "rejected"):
        before, after = (
            p.system or "" if side == "system" else text_of(getattr(p, side)) for p in (one.before, one.after)
        )
        if before != after:
            both = difference(after[:SHOWN], before[:SHOWN])
            rows.append(tag("div", "dd-example-side", tag("span", "dd-label", text(said[f"pairs_part_{side}"])),
                            tag("div", "dd-was", spans_html(both.rejected, "rejected")), tag("i", "", "→"),
                            tag("div", "dd-is", spans_html(both.chosen, "chosen"))))  # fmt: skip
    status = ""
    if one.before.status != one.after.status:
        status = " → ".join(said[f"pairs_status_{p.status}"] for p in (one.before, one.after))
    asked = tag("span", "dd-row-prompt", text(" ".join(text_of(one.before.prompt).split())[:160]))
    return tag(
        "div", "dd-example", tag("div", "dd-example-head", name, asked, tag("span", "dd-dim", text(status))), *rows
    )


def start(set_id: str, view: View, asked: Mapping[str, Any], editor: str) -> Job:
    """Do it, in the background. Raises BadCase."""
    name, arguments = checked(asked)

    def work(job: Job) -> None:
        with pair_workspaces.opened(set_id) as workspace:
            job.at("pairs_job_bulk", workspace.count(view))
            done = workspace.bulk(view, name, editor, progress=job.progress, cancel=job.cancel, **arguments)  # type: ignore[arg-type]
            if done.cancelled:
                raise Stopped
            job.result = (name, done)
        pair_workspaces.touch(set_id)

    return pair_jobs.start(Job(set_id, "bulk"), work)


def outcome(result: tuple[str, BulkDone], lang: str) -> str:
    """One line about what was done."""
    said = words(lang)
    name, done = result
    line = str(said["pairs_bulk_done"]).format(action=said[f"pairs_did_{name}"], n=f"{done.changed:,}")
    if done.left:
        line += " " + said["pairs_preview_left"].format(n=f"{done.left:,}")
    return line
