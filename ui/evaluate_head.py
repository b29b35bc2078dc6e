"""Around an evaluation: which one, how far it is, what was found wrong and what to do; the start page and the list."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from diagnostics.words import say
from pipeline.durations import exactly
from ui import evaluate_runs, report_details, report_view
from ui.allowed_paths import is_public, without_folders
from ui.command_runs import Status
from ui.evaluate_case import command_line
from ui.evaluate_panel import Checked, Form, Headline, Shown
from ui.evaluate_panels import panels
from ui.evaluate_runs import About, Progress
from ui.interface_words import known, words
from ui.reject_head import ago, state_sign
from ui.report_view import fix_line
from ui.safe_html import prose, tag, text
from ui.train_checks import severe

SHOWN_AT_ONCE = 5  # runs; the others are folded


# --- the start page ----------------------------------------------------------------------------------------------


def case(kind: str, form: Form, lang: str) -> str:
    """The left column: the kinds as choices, the fields of the one that is chosen."""
    said = words(lang)
    choices = []
    for name in panels():
        box = tag("input", "", type="radio", name="kind", value=name, checked=name == kind)
        about = tag("span", "dd-dim", text(said[f"evaluate_kind_{name}_line"]))
        choices.append(tag("label", "dd-choice dd-evaluate-kind", box,
                           tag("span", "", tag("b", "", text(said[f"evaluate_kind_{name}"])), about)))  # fmt: skip
    kinds = tag("fieldset", "dd-evaluate-kinds", tag("legend", "dd-above-name", text(said["evaluate_kinds"])), *choices)
    fields = tag("div", "dd-evaluate-form", panels()[kind].form(form, lang), data_fields=True, data_kind=kind)
    return kinds + fields


def intro(kind: str, lang: str) -> str:
    """What this kind of evaluation tells, before there is one."""
    said = words(lang)
    title = tag("h2", "", text(said[f"evaluate_kind_{kind}_title"]))
    lines = str(said[f"evaluate_kind_{kind}_text"]).split("\n")
    what = tag("ul", "dd-evaluate-tells", *(tag("li", "", prose(line)) for line in lines[1:]))
    note = tag("p", "dd-banner", text(said["evaluate_public_note"])) if is_public() else ""
    return tag("section", "dd-card dd-evaluate-intro", note, title, tag("p", "dd-lead", prose(lines[0])), what)


def command(checked: Checked, lang: str) -> str:
    """The command that the form stands for, to be run by hand."""
    said = words(lang)
    if checked.problems or not checked.arguments:
        return ""
    line = command_line(checked.arguments, ".")
    copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy=line, data_done=said["copied"])
    box = tag("div", "dd-fix dd-command", tag("code", "", text(line)), copy)
    summary = tag("summary", "", text(said["evaluate_command"]))
    return tag("details", "dd-card dd-evaluate-command", summary, box, id="dd-evaluate-command")


def recent(seen: Sequence[str], lang: str) -> str:
    """The evaluations this machine or browser knows, newest first; empty where there are none."""
    said = words(lang)
    rows = []
    for run_id, about, status in evaluate_runs.recent(seen):
        told = evaluate_runs.headline(run_id, about, lang) if not status.live else None
        kind = tag("span", "dd-evaluate-chip", text(said[f"evaluate_kind_{about.kind}"]))
        name = tag("span", "dd-recent-name", tag("span", "", kind, tag("b", "", text(about.name))),
                   tag("span", "dd-dim", text(ago(about.created, said))))  # fmt: skip
        rows.append(tag("button", "dd-recent", name, tag("span", "dd-recent-end", _outcome(run_id, status, told, said)),
                        type="button", data_open=run_id, data_live="1" if status.live else None))  # fmt: skip
    if not rows:
        return ""
    more = ""
    if len(rows) > SHOWN_AT_ONCE + 1:
        line = text(said["rejects_more_runs"].format(n=len(rows) - SHOWN_AT_ONCE))
        more = tag("details", "dd-more-facts", tag("summary", "", line), *rows[SHOWN_AT_ONCE:], id="dd-evaluate-runs")
        rows = rows[:SHOWN_AT_ONCE]
    return tag("section", "dd-card dd-recents", tag("h3", "dd-h", text(said["evaluate_runs"])), *rows, more)


def _outcome(run_id: str, status: Status, told: Headline | None, said: Mapping[str, Any]) -> str:
    if status.live:
        progress = evaluate_runs.progress(run_id)
        share = f" {progress.done / progress.total:.0%}" if progress.total else ""
        return tag("span", "dd-run-state dd-state-running", tag("i", "dd-pulse"),
                   text(said[f"rejects_state_{status.state}"] + share))  # fmt: skip
    if told is None:
        return tag("span", f"dd-run-state dd-state-{status.state}", state_sign(status),
                   text(said[f"rejects_state_{status.state}"]))  # fmt: skip
    judged = evaluate_runs.tone(run_id)  # sound figures may still leave the question open
    return tag("span", f"dd-judged dd-{told.tone if judged in ('', 'healthy') else judged}", text(told.line))


def gone(lang: str) -> str:
    """The address names an evaluation that isn't here."""
    said = words(lang)
    why = said["rejects_gone_lasting" if evaluate_runs.lasting() else "rejects_gone_public"]
    return tag("section", "dd-card", tag("h2", "", text(said["evaluations_gone"])), tag("p", "", text(why)),
               role="alert")  # fmt: skip


def unreadable(why: str, lang: str) -> str:
    """In place of a result that can't be drawn."""
    line = str(words(lang)["evaluate_unreadable"]).format(why=why)
    return tag("section", "dd-card dd-verdict dd-problems", tag("p", "", text(line)), role="alert")


# --- one evaluation ----------------------------------------------------------------------------------------------


def head(run_id: str, about: About, status: Status, lang: str) -> str:
    """Which evaluation this is, and what can be done with it at any time."""
    said = words(lang)
    facts = " · ".join((said[f"evaluate_kind_{about.kind}"], ago(about.created, said)))
    tools = []
    if not status.live:
        tools += [_tool(said["evaluate_again"], data_again=True), _tool(said["rejects_remove"], "dd-remove",
                  data_remove=said["evaluate_remove_sure"])]  # fmt: skip
    return _head(about.name, facts, [*tools, *_always(said)])


def stored_head(one: Shown, lang: str) -> str:
    """The same of a report whose folder is gone."""
    said = words(lang)
    created = one.report.created.replace("T", " ").removesuffix("Z") + " UTC" if one.report else ""
    bundle = one.result.get("bundle")
    left = said["evaluate_report_only"]
    if evaluate_runs.is_elsewhere(one.id):
        left = str(said["bundle_kept_in"]).format(name=bundle) if bundle else ""
    facts = " · ".join(part for part in (said[f"evaluate_kind_{one.kind}"], created, left) if part)
    return _head(one.report.subject.name if one.report else "", facts, _always(said))


def _always(said: Mapping[str, Any]) -> list[str]:
    return [tag("button", "dd-small", text(said["copy_link"]), type="button", data_share=True),
            _tool(said["evaluate_another"], data_new=True)]  # fmt: skip


def _head(name: str, facts: str, tools: list[str]) -> str:
    title = tag("div", "dd-head-title", tag("h2", "", text(name)), tag("p", "dd-dim", text(facts)))
    return tag("section", "dd-card dd-evaluate-head", tag("div", "dd-head-row", title,
               tag("div", "dd-head-tools", *tools)))  # fmt: skip


def _tool(line: str, css: str = "", **data: Any) -> str:
    return tag("button", f"dd-small {css}".strip(), text(line), type="button", **data)


def now(run_id: str, about: About, status: Status, lang: str) -> str:
    """What a run does and how far it is, or why it ended without its whole result; empty once it is done."""
    said = words(lang)
    if status.state == "done":
        return ""
    progress = evaluate_runs.progress(run_id)
    facts, buttons = _facts(progress, status, lang), []
    if status.live:
        late = status.asked_to_stop and time.time() - status.asked_to_stop > evaluate_runs.POLITE_SECONDS
        word = said["rejects_end_now" if late else "rejects_cancel"]
        buttons.append(tag("button", "dd-do dd-danger", text(word), type="button", data_stop=True,
                           disabled=status.state == "stopping" and not late))  # fmt: skip
    else:
        change = tag("button", "dd-do dd-primary", text(said["evaluate_change"]), type="button", data_again=True)
        buttons += [tag("button", "dd-do", text(said["rejects_try_again"]), type="button", data_repeat=True), change]
    line = _stage(progress, status, said)
    sentence = tag("span", f"dd-run-state dd-state-{status.state}", state_sign(status), text(line))
    bar = ""
    if status.live:
        share = progress.done / progress.total if progress.total and status.state != "preparing" else None
        width = 30 if share is None else max(2, min(100, round(100 * share)))
        bar = tag("div", "dd-track", tag("div", "dd-fill" if share is not None else "dd-fill dd-unknown",
                  style=f"width:{width}%"), role="progressbar", aria_valuemin=0, aria_valuemax=100,
                  aria_valuenow=width if share is not None else None)  # fmt: skip
    why = ""
    if status.state in ("failed", "broken"):
        why = tag("p", "dd-run-why", text(_failure(run_id, status, lang)), role="alert")
    elif status.state == "stopped":
        entry = "evaluate_stopped_partial" if evaluate_runs.has_result(run_id) else "evaluate_stopped_nothing"
        why = tag("p", "dd-dim dd-note", text(said[entry]))
    elif status.state == "preparing" and status.line:
        why = tag("p", "dd-dim dd-note", text(status.line))
    top = tag("div", "dd-run-line", tag("div", "", sentence, tag("span", "dd-run-facts", *facts)),
              tag("div", "dd-run-do", *buttons))  # fmt: skip
    return tag("section", f"dd-card dd-run dd-run-{status.state}", top, bar, why,
               data_live="1" if status.live else "", role="status")  # fmt: skip


def _stage(progress: Progress, status: Status, said: Mapping[str, Any]) -> str:
    if status.state == "preparing":
        return str(said["rejects_preparing"])
    if status.state == "running":
        stages = said["evaluate_stages"]
        return str(
            stages.get(progress.stage) or stages.get(progress.stage.split(":")[0]) or said["evaluate_stages"]["load"]
        )
    return str(said[f"rejects_state_{status.state}"])


def _facts(progress: Progress, status: Status, lang: str) -> list[str]:
    said, found = words(lang), []
    if status.live and progress.total:
        counted = said["evaluate_of"].get(progress.of, said["evaluate_of"]["rows"])
        found.append(str(counted).format(n=f"{progress.done:,}", of=f"{progress.total:,}"))
    if progress.left is not None and status.state == "running":
        found.append(str(said["rejects_left"]).format(time=exactly(progress.left, known(lang))))
    elif status.ended and status.began and status.ended > status.began:
        found.append(str(said["rejects_took"]).format(time=exactly(status.ended - status.began, known(lang))))
    return [tag("span", "", text(one)) for one in found]


def _failure(run_id: str, status: Status, lang: str) -> str:
    """Why a run failed, in one line; in public without the folders of this machine."""
    bad = evaluate_runs.refusal(run_id)
    if bad is not None:
        return str(words(lang)[bad.entry]).format(**bad.params)
    line = status.line or str(words(lang)["rejects_failed_silently"])
    return without_folders(line)


def verdict(one: Shown, headline: Headline, inner: str, lang: str) -> str:
    """The verdict card: the likeliest cause where something is wrong, else what came out; below it the figures."""
    said = words(lang)
    report = say(one.report, known(lang)) if one.report is not None else None
    tone = report.verdict if report is not None else headline.tone
    title, lead, fix = headline.line, "", ""
    if report is not None and report.causes:
        top = report.causes[0]
        title, lead, fix = top.title, headline.line, fix_line(top.fix, said)
    parts = [tag("h2", "", text(title)), tag("p", "dd-lead", text(lead)) if lead else "", inner, fix]
    return tag("section", f"dd-card dd-verdict dd-evaluate-verdict dd-{tone}", *parts)


# --- what the diagnosis says -------------------------------------------------------------------------------------


def findings(one: Shown, lang: str) -> str:
    """What is wrong with this result and what to do, then all that was looked at; empty without a report."""
    if one.report is None:
        return ""
    said, report = words(lang), say(one.report, known(lang))
    worst = severe(report.findings, lang)
    shown = []
    if report.causes and not panels()[one.kind].shows_cause:
        top = report.causes[0]
        shown.append(tag("section", f"dd-card dd-verdict dd-{report.verdict}", tag("h2", "", text(top.title)),
                         tag("p", "dd-lead", prose(top.explanation)), fix_line(top.fix, said)))  # fmt: skip
    if worst:
        shown.append(tag("section", "dd-card", tag("h3", "dd-h", text(said["evaluate_findings"])), worst))
    line = tag("summary", "", text(said["evaluate_all_findings"]), report_view.counts(report, lang))
    whole = tag("details", "dd-card dd-train-all", line, report_details.findings(report, lang), id="dd-evaluate-all")
    return "".join([*shown, whole])


def log(run_id: str, lang: str) -> str:
    """The command as it was run and the end of its log, folded; empty in public."""
    if is_public():
        return ""
    said = words(lang)
    folder = evaluate_runs.folder_of(run_id)
    try:
        line = (folder / evaluate_runs.COMMAND).read_text(encoding="utf-8").strip()
    except OSError:
        line = ""
    copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy=line, data_done=said["copied"])
    summary = tag("summary", "", text(said["evaluate_log"]))
    return tag("details", "dd-card dd-evaluate-command", summary,
               tag("p", "dd-dim", text(said["evaluate_folder"]), " ", tag("code", "", text(folder))),
               tag("div", "dd-fix dd-command", tag("code", "", text(line)), copy),
               tag("pre", "dd-log-end", text(evaluate_runs.log_end(run_id))), id="dd-evaluate-log")  # fmt: skip
