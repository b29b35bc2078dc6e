"""Before there are pairs to look at: what one can begin with, what an import does, what it asks, why it failed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ui import pair_workspaces, report_view
from ui.interface_words import words
from ui.pair_case import COLUMNS
from ui.pair_import import Question
from ui.pair_jobs import Job, said_params
from ui.pair_workspaces import PAIRS, lasting
from ui.safe_html import tag, text
from ui.visitor_case import BadCase

_GUESSES = {
    "prompt": ("prompt", "question", "instruction", "query", "input", "问", "提示"),
    "chosen": ("chosen", "accept", "better", "good", "win", "preferred", "positive", "pos", "优", "好"),
    "rejected": ("reject", "worse", "bad", "lose", "dispreferred", "negative", "neg", "劣", "差"),
    "system": ("system",), "id": ("id", "uuid"),
}  # fmt: skip


def start(seen: Sequence[str], lang: str) -> str:
    """What this tab is for, and the sets this browser or machine knows. seen: ids that the browser remembers."""
    said = words(lang)
    steps = (tag("li", "", text(said[f"pairs_step_{n}"])) for n in (1, 2, 3, 4))
    card = tag("section", "dd-card dd-pairs-empty", tag("h2", "", text(said["pairs_empty_title"])),
               tag("p", "dd-dim", text(said["pairs_empty_text"])), tag("ol", "dd-steps", *steps))  # fmt: skip
    return card + _recent(seen, lang)


def gone(seen: Sequence[str], lang: str) -> str:
    """The address names a set that isn't here."""
    said = words(lang)
    why = said["pairs_gone_lasting" if lasting() else "pairs_gone_public"]
    card = tag(
        "section", "dd-card", tag("h2", "", text(said["pairs_gone_title"])), tag("p", "", text(why)), role="alert"
    )
    return card + _recent(seen, lang)


def _recent(seen: Sequence[str], lang: str) -> str:
    said = words(lang)
    found = pair_workspaces.recent()
    known_ids = {set_id for set_id, _, _ in found}
    for set_id in seen:
        if set_id not in known_ids:
            try:
                place = pair_workspaces.folder_of(set_id) / PAIRS
                found.append((set_id, pair_workspaces.about(set_id).name, place.stat().st_mtime))
            except (BadCase, OSError):
                continue
    if not found:
        return ""
    rows = (tag("button", "dd-recent", tag("b", "", text(name)), tag("span", "dd-dim", text(_ago(when, said))),
                type="button", data_open=set_id)
            for set_id, name, when in sorted(found, key=lambda one: -one[2])[:8])  # fmt: skip
    return tag("section", "dd-card dd-recents", tag("h3", "dd-h", text(said["pairs_recent"])), *rows)


def _ago(when: float, said: Any) -> str:
    minutes = max(0, int((time.time() - when) / 60))
    for unit, length in (("days", 1440), ("hours", 60), ("minutes", 1)):
        if minutes >= length:
            return str(said[f"pairs_ago_{unit}"]).format(n=minutes // length)
    return str(said["pairs_ago_now"])


def importing(job: Job, lang: str) -> str:
    """What an import does, or what it asks."""
    said = words(lang)
    if isinstance(job.question, Question) and not job.live:
        return _question(job.question, lang)
    name = ""
    with suppress(BadCase):
        name = pair_workspaces.about(job.set_id).name
    return tag(
        "section", "dd-card", tag("h2", "", text(said["pairs_importing"].format(name=name))), progress(job, lang)
    )


def progress(job: Job, lang: str) -> str:
    """A bar, a line, and a button that stops it."""
    said = words(lang)
    stopping = job.cancel.is_set()
    share = job.n / job.total if job.total else 0.0
    line = said["stopping"] if stopping else said[job.stage].format(n=f"{job.n:,}", total=f"{job.total:,}")
    css = "dd-fill" if job.total else "dd-fill dd-unknown"
    bar = tag("div", "dd-track", tag("div", css, style=f"width:{max(3, round(100 * min(1.0, share)))}%"))
    stop = tag("button", "dd-small", text(said["stop"]), type="button", data_cancel=job.kind, disabled=stopping)
    now = tag("span", "", tag("span", "dd-pulse"), text(line))
    return tag("div", "dd-progress", bar, tag("div", "dd-progress-line", now, stop), role="status", aria_live="polite")


def failed(job: Job, lang: str) -> str:
    entry, params = job.problem or ("pairs_job_stopped", {})
    card = report_view.problem(entry, said_params(params, lang), lang)
    return card + start([], lang)


def _question(question: Question, lang: str) -> str:
    said = words(lang)
    name = question.source.name
    if question.kind == "columns":
        inner = _columns(question.choices, said)
    else:
        inner = tag("div", "dd-choices", *(_choice(question.kind, value, number == 0, said)
                                           for number, value in enumerate(question.choices)))  # fmt: skip
    go = tag("button", "dd-do dd-primary", text(said["pairs_go_on"]), type="submit")
    stop = tag("button", "dd-do", text(said["pairs_give_up"]), type="button", data_new=True)
    head = tag("h2", "", text(said[f"pairs_ask_{question.kind}"])), \
        tag("p", "dd-dim", text(said[f"pairs_ask_{question.kind}_text"].format(name=name)))  # fmt: skip
    return tag(
        "section", "dd-card", *head, tag("form", "", inner, tag("div", "dd-form-end", go, stop), data_rpc="answer")
    )


def _choice(kind: str, value: str, first: bool, said: Any) -> str:
    field = tag("input", "", type="radio", name=kind, value=value, checked=first)
    about = tag("span", "dd-dim", text(said[f"pairs_{value}"])) if kind == "axis" else ""
    return tag("label", "dd-choice", field, tag("span", "", tag("b", "", text(value)), about))


def _columns(columns: dict[str, Any], said: Any) -> str:
    """For everything a pair has, which column holds it; below, what each column begins with."""
    names = list(columns)
    fields = []
    for wanted in COLUMNS:
        guess = _guess(wanted, names)
        options = [tag("option", "", text(said["pairs_no_column"]), value="", selected=not guess)]
        options += [tag("option", "", text(n), value=n, selected=n == guess) for n in names]
        must = " *" if wanted in ("prompt", "chosen", "rejected") else ""
        fields.append(tag("label", "dd-field", tag("span", "", text(said[f"pairs_part_{wanted}"] + must)),
                          tag("select", "dd-select", *options, name=f"columns.{wanted}")))  # fmt: skip
    rows = (
        tag("tr", "", tag("th", "", text(n), scope="row"), tag("td", "", text(_first(v)))) for n, v in columns.items()
    )
    table = tag("div", "dd-scroll", tag("table", "dd-evidence", tag("tbody", "", *rows)), tabindex=0)
    return tag("div", "dd-form", *fields) + tag("h3", "dd-also", text(said["pairs_columns_there"])) + table


def _guess(wanted: str, names: Sequence[str]) -> str:
    for sign in _GUESSES.get(wanted, ()):
        found = next((n for n in names if n.lower() == sign), None) or next(
            (n for n in names if sign in n.lower()), None
        )
        if found and (len(sign) > 2 or found.lower() == sign or not sign.isascii()):
            return found
    return ""


def _first(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 200 else shown[:200] + "…"
