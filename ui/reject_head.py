"""Around the candidates: which run, what it does now and what can be done with it; the list of runs; the start page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.durations import exactly
from pipeline.refusal import Sentence
from ui import reject_runs
from ui.allowed_paths import without_folders
from ui.charts import finite_number
from ui.interface_words import known, words
from ui.reject_case import DEMO, alterations, policies_for
from ui.reject_index import Rows
from ui.reject_runs import About, Status
from ui.reject_view import strategy_name
from ui.safe_html import tag, text

PANES = ("rows", "spread", "files")
FOUNDING = ("rejects_founding_sick", "rejects_founding_sound")
SHOWN_AT_ONCE = 3  # runs; the others are folded
MAX_LISTED = 24  # strategies
_SIGNS = {"done": "✓", "stopped": "❚❚", "failed": "✕", "broken": "✕"}


def recent(seen: Sequence[str], lang: str) -> str:
    """The runs this machine or browser knows, newest first; empty where there are none."""
    said = words(lang)
    found = reject_runs.recent(seen)
    if not found:
        return ""
    rows = []
    for run_id, about, status in found:
        name = tag("b", "", text(run_name(about, lang)))
        facts = _about_data(about, said)
        now = tag("span", f"dd-run-state dd-state-{status.state}", state_sign(status), text(state_word(status, said)))
        share = _share(reject_runs.progress(run_id)) if status.live else None
        if share is not None:
            now = tag("span", f"dd-run-state dd-state-{status.state}", state_sign(status), text(f"{share:.0%}"))
        when = tag("span", "dd-dim", text(ago(about.created, said)))
        rows.append(tag("button", "dd-recent", tag("span", "dd-recent-name", name, tag("span", "dd-dim", text(facts))),
                        tag("span", "dd-recent-end", now, when), type="button", data_open=run_id))  # fmt: skip
    more = ""
    if len(rows) > SHOWN_AT_ONCE + 1:
        line = text(said["rejects_more_runs"].format(n=len(rows) - SHOWN_AT_ONCE))
        more = tag("details", "dd-more-facts", tag("summary", "", line), *rows[SHOWN_AT_ONCE:], id="dd-rejects-runs")
        rows = rows[:SHOWN_AT_ONCE]
    return tag("section", "dd-card dd-recents", tag("h3", "dd-h", text(said["rejects_runs"])), *rows, more)


def run_name(about: About, lang: str) -> str:
    """What a run is called, in the reader's language."""
    said = words(lang)
    if about.name in FOUNDING:
        return str(said[about.name])
    return f"{about.model.removeprefix(DEMO) or said['rejects_without_model']} · {policy_title(about, said)}"


def policy_title(about: About, said: Mapping[str, Any]) -> str:
    name = reject_runs.policy_of(about).partition(":")[0]
    return str(said["rejects_policies"].get(name, name)).partition(": ")[0]


def _about_data(about: About, said: Mapping[str, Any]) -> str:
    """What was answered, of a run that has a name of its own also by which model."""
    facts = [about.model if about.name in FOUNDING else "", about.data]
    if about.preview:
        facts.append(said["rejects_is_preview"].format(n=about.preview))
    return " · ".join(part for part in facts if part)


def gone(seen: Sequence[str], lang: str) -> str:
    """The address names a run that isn't here."""
    said = words(lang)
    why = said["rejects_gone_lasting" if reject_runs.lasting() else "rejects_gone_public"]
    return tag("section", "dd-card", tag("h2", "", text(said["rejects_gone_title"])), tag("p", "", text(why)),
               role="alert")  # fmt: skip


def state_word(status: Status, said: Mapping[str, Any]) -> str:
    return str(said[f"rejects_state_{status.state}"])


def state_sign(status: Status) -> str:
    return tag("i", "dd-pulse") if status.live else tag("i", "", _SIGNS.get(status.state, ""), aria_hidden="true")


def ago(when: float, said: Mapping[str, Any]) -> str:
    minutes = max(0, int((time.time() - when) / 60))
    for unit, length in (("days", 1440), ("hours", 60), ("minutes", 1)):
        if minutes >= length:
            return str(said[f"pairs_ago_{unit}"]).format(n=minutes // length)
    return str(said["pairs_ago_now"])


def head(run_id: str, about: About, status: Status, lang: str) -> str:
    """Which run this is, with what can be done now, and its panes."""
    said = words(lang)
    facts = [_about_data(about, said), ago(about.created, said)]
    title = tag(
        "div", "dd-head-title", tag("h2", "", text(run_name(about, lang))), tag("p", "dd-dim", text(" · ".join(facts)))
    )
    tools = []
    if about.partner:
        tools.append(_tool(said["rejects_compare"], data_compare=about.partner))
    if not status.live:
        if status.state != "failed":  # there it is the way on, and stands beside why
            tools.append(_tool(said["rejects_again"], data_again=True))
        tools.append(tag("button", "dd-small dd-remove", text(said["rejects_remove"]), type="button",
                         data_remove=said["rejects_remove_sure"]))  # fmt: skip
    tools.append(tag("button", "dd-small", text(said["copy_link"]), type="button", data_share=True))
    tools.append(_tool(said["rejects_another"], data_new=True))
    panes = (tag("button", "dd-pane", text(said[f"rejects_pane_{p}"]), type="button", data_pane=p) for p in PANES)
    bar = tag("nav", "dd-panes", *panes, aria_label=said["rejects_tab"])
    return tag("section", "dd-card dd-pairs-head",
               tag("div", "dd-head-row", title, tag("div", "dd-head-tools", *tools)),
               tag("div", "dd-head-row dd-head-end", bar))  # fmt: skip


def _tool(line: str, **data: Any) -> str:
    return tag("button", "dd-small", text(line), type="button", **data)


def again(about: About, lang: str) -> str:
    """Choosing anew from the candidates that are there, which takes no model."""
    said = words(lang)
    select = policy_select(about, lang)
    return tag("label", "dd-choose-again", tag("span", "dd-dim", text(said["rejects_policy_short"])), select,
               tag("button", "dd-do", text(said["rejects_choose_again"]), type="button", data_choose=True,
                   title=said["rejects_choose_again_info"]))  # fmt: skip


def policy_select(about: About, lang: str, **data: Any) -> str:
    """The policies that this run's candidates can be chosen by; with its own first where it changed one's rules."""
    said = words(lang)
    current = reject_runs.policy_of(about)
    names = policies_for(about.arguments)
    if current not in names:
        names.insert(0, current)

    def shown(name: str) -> str:
        base, _, changes = name.partition(":")
        title = str(said["rejects_policies"].get(base, base)).partition(": ")[0]
        return f"{title} ({changes[:60]})" if changes else title

    options = (tag("option", "", text(shown(name)), value=name, selected=name == current) for name in names)
    return tag("select", "dd-select", *options, name="again", aria_label=said["rejects_policy"], **data)


def now(run_id: str, about: About, status: Status, lang: str) -> str:
    """What the run does, or how it ended: counter, tokens a second, time left, problems, and the way on."""
    said = words(lang)
    progress = reject_runs.progress(run_id)
    share = _share(progress) if status.live else _rows_share(progress)
    facts = _facts(progress, status, lang)
    buttons = []
    if status.live:
        late = status.asked_to_stop and time.time() - status.asked_to_stop > reject_runs.POLITE_SECONDS
        word = said["rejects_end_now" if late else "rejects_cancel"]
        buttons.append(tag("button", "dd-do dd-danger", text(word), type="button", data_stop=True,
                           disabled=status.state == "stopping" and not late))  # fmt: skip
    elif status.state != "done" or (share is not None and share < 1 and not about.preview):
        word = "rejects_try_again" if status.state == "failed" else "rejects_resume"
        buttons.append(tag("button", "dd-do", text(said[word]), type="button", data_resume=True))
    if status.state == "failed":
        buttons.append(tag("button", "dd-do dd-primary", text(said["rejects_again"]), type="button", data_again=True))
    if about.preview and status.state == "done":
        buttons.insert(0, tag("button", "dd-do dd-primary", text(said["rejects_whole"]), type="button",
                              data_whole=True))  # fmt: skip
    elif status.state == "done" or (status.state == "stopped" and progress.get("candidates")):
        none = reject_runs.account(run_id).get("pairs") == 0
        buttons.insert(0, tag("button", "dd-do dd-primary", text(said["rejects_to_pairs"]), type="button",
                              data_pairs=True, disabled=none,
                              title=said["rejects_no_pairs"] if none else None))  # fmt: skip
    account = reject_runs.account(run_id) if not status.live else {}
    for key, entry in (("rows_without_pair", "rejects_without"), ("pairs", "rejects_pairs_made")):
        number = finite_number(account.get(key))
        if number:
            facts.insert(2, tag("span", "", text(said[entry].format(n=f"{int(number):,}"))))
    told = said["rejects_preview_done"] if about.preview and status.state == "done" else _line(status, said)
    line = tag("span", f"dd-run-state dd-state-{status.state}", state_sign(status), text(told))
    bar = ""
    if status.live or status.state in ("stopped", "broken"):
        known_share = share is not None and status.state != "preparing"
        width = max(2, round(100 * share)) if known_share and share is not None else 30
        css = "dd-fill" if known_share or not status.live else "dd-fill dd-unknown"
        bar = tag("div", "dd-track", tag("div", css, style=f"width:{width}%"), role="progressbar",
                  aria_valuenow=width if known_share else None, aria_valuemin=0, aria_valuemax=100)  # fmt: skip
    why = ""
    if status.state == "failed":
        why = tag("p", "dd-run-why", text(failure(progress, status, lang)), role="alert")
    elif status.state == "running" and share is None:
        why = tag("p", "dd-dim dd-note", text(said["rejects_loading"]))
    elif status.state == "preparing" and status.line:
        why = tag("p", "dd-dim dd-note", text(status.line))
    top = tag("div", "dd-run-line", tag("div", "", line, tag("span", "dd-run-facts", *facts)),
              tag("div", "dd-run-do", *buttons))  # fmt: skip
    table = by_strategy(progress, lang) if status.live else ""
    choose = again(about, lang) if status.state == "done" and not about.preview else ""
    return tag("section", f"dd-card dd-run dd-run-{status.state}", top, bar, why, table, choose,
               data_live="1" if status.live else "", role="status")  # fmt: skip


def message(progress: Mapping[str, Any], lang: str) -> str:
    """Why the command ended as it did, in the reader's language; empty where it said nothing."""
    held = progress.get("message")
    if not isinstance(held, dict) or not isinstance(held.get("params"), dict):
        return ""
    try:
        return Sentence(str(held["entry"]), held["params"], str(held["words"])).said(known(lang))
    except (KeyError, ValueError, IndexError, OSError):
        return ""


def failure(progress: Mapping[str, Any], status: Status, lang: str) -> str:
    """Why a run failed, in one line; in public without the folders of this machine."""
    line = message(progress, lang) or status.line or str(words(lang)["rejects_failed_silently"])
    return without_folders(line)


def by_strategy(progress: Mapping[str, Any], lang: str) -> str:
    """What the run has made so far, a line a strategy; empty before there is anything."""
    said = words(lang)
    held = progress.get("strategies")
    there = [(n, s) for n, s in held.items() if isinstance(s, dict)] if isinstance(held, dict) else []
    if not there:
        return ""
    heads = ("rejects_head_strategy", "rejects_head_candidates", "rejects_on_topic", "rejects_head_length",
             "rejects_measure_rep_4", "rejects_head_taken", "rejects_head_problems")  # fmt: skip
    head = tag("tr", "", *(tag("th", "dd-num" if n else "", text(said[h]), scope="col") for n, h in enumerate(heads)))
    rows = []
    there.sort(key=lambda held: (-(finite_number(held[1].get("candidates")) or 0), held[0]))
    for name, one in there[:MAX_LISTED]:
        topic, length, rep = (finite_number(one.get(key)) for key in ("on_topic", "length", "rep_4"))
        cells = (f"{int(finite_number(one.get('candidates')) or 0):,}", "–" if topic is None else f"{topic:.0%}",
                 "–" if length is None else f"{length:,.0f}", "–" if rep is None else f"{rep:.0%}",
                 f"{int(finite_number(one.get('rejected')) or 0):,}",
                 f"{int(finite_number(one.get('problems')) or 0):,}")  # fmt: skip
        rows.append(tag("tr", "", tag("th", "", text(strategy_name(name, lang)), scope="row"),
                        *(tag("td", "dd-num", text(cell)) for cell in cells)))  # fmt: skip
    table = tag("table", "dd-health dd-by-strategy", tag("thead", "", head), tag("tbody", "", *rows))
    return tag("div", "dd-scroll dd-only-spread", table)


def _line(status: Status, said: Mapping[str, Any]) -> str:
    if status.state == "preparing":
        return str(said["rejects_preparing"])
    return state_word(status, said)


def _facts(progress: Mapping[str, Any], status: Status, lang: str) -> list[str]:
    """What the command counts, each only where it is known."""
    said, facts = words(lang), []

    def add(entry: str, **values: Any) -> None:
        facts.append(tag("span", "", text(said[entry].format(**values))))

    done, total = rows_done(progress)
    if done is not None:
        add("rejects_rows_done" if total else "rejects_rows_only", n=f"{done:,}", of=f"{total or 0:,}")
    one = progress.get("pass")
    if (
        status.live
        and isinstance(one, dict)
        and finite_number(one.get("of"))
        and one["of"] > 1
        and one["number"] <= one["of"]
    ):
        add("rejects_step", n=one["number"], of=one["of"])
    made = finite_number(progress.get("candidates"))
    if made is not None:
        add("rejects_candidates_made", n=f"{int(made):,}")
    speed = finite_number(progress.get("tokens_per_second"))
    if speed:
        add("rejects_speed", n=f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}")
    left = finite_number(progress.get("seconds_left"))
    if left is not None and status.state == "running":
        add("rejects_left", time=exactly(left, known(lang)))
    elif status.ended and status.began and status.ended > status.began:
        add("rejects_took", time=exactly(status.ended - status.began, known(lang)))
    problems = failures(progress)
    if problems:
        facts.append(tag("span", "dd-run-problems", text(said["rejects_problems"].format(n=f"{problems:,}"))))
    cost = finite_number(progress.get("cost"))
    if cost:
        add("rejects_cost", n=f"{cost:.4g}")
    return facts


def failures(progress: Mapping[str, Any]) -> int:
    """Answers that a model owed and didn't give. A right answer in which there is nothing to alter is no failure."""
    held = progress.get("strategies")
    there = held.items() if isinstance(held, dict) else ()
    none = alterations()
    return sum(int(finite_number(one.get("problems")) or 0) for name, one in there
               if isinstance(one, dict) and name not in none)  # fmt: skip


def rows_done(progress: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """(rows done, rows in all), None where the command has not said."""
    rows = progress.get("rows")
    rows = rows if isinstance(rows, dict) else {}
    done, total = finite_number(rows.get("done")), finite_number(rows.get("total"))
    return None if done is None else int(done), None if total is None else int(total)


def _rows_share(progress: Mapping[str, Any]) -> float | None:
    """Of the rows; what an ended run wrote."""
    done, total = rows_done(progress)
    return min(1.0, done / total) if done is not None and total else None


def _share(progress: Mapping[str, Any]) -> float | None:
    """Of the passes together; the one that writes the files comes after them."""
    done, total = rows_done(progress)
    if done is None or not total:
        return None
    one = progress.get("pass")
    one = one if isinstance(one, dict) else {}
    number, of = finite_number(one.get("number")) or 1, max(1, finite_number(one.get("of")) or 1)
    if one.get("name") == "write" or number > of:
        return 1.0
    return min(1.0, (number - 1 + min(1.0, done / total)) / of)


def filters(index: Rows, view: str, place: int, matching: int, lang: str) -> str:
    """Which rows to go through, where one is among them, and the way on."""
    said = words(lang)
    counts = index.counts()
    choices = [(name, f"{said[f'rejects_view_{name}']} · {counts[name]:,}")
               for name in ("all", "without", "off_topic", "problem", "chosen")
               if name in ("all", view) or counts[name]]  # fmt: skip
    for name in index.strategies:
        if counts[f"by:{name}"] or view == f"by:{name}":
            line = said["rejects_view_by"].format(strategy=strategy_name(name, lang))
            choices.append((f"by:{name}", f"{line} · {counts[f'by:{name}']:,}"))
    options = (tag("option", "", text(name), value=value, selected=value == view) for value, name in choices)
    active = " dd-active" if view != "all" else ""
    select = tag("select", f"dd-select{active}", *options, data_view=True, aria_label=said["rejects_view"])
    at = tag("input", "dd-row-number", type="number", min="1", max=str(max(1, matching)), value=str(place + 1),
             data_place=True, aria_label=said["rejects_go_to"], disabled=not matching)  # fmt: skip
    of = tag("span", "dd-dim", text(said["rejects_of_rows"].format(n=f"{matching:,}")))
    move = tag("div", "dd-move", step("previous", "‹", "K", place <= 0, said), at, of,
               step("next", "›", "J", place + 1 >= matching, said))  # fmt: skip
    return tag("div", "dd-filter-row dd-rows-bar", select, move)


def step(way: str, sign: str, key: str, off: bool, said: Mapping[str, Any]) -> str:
    label = said[f"rejects_{way}"]
    return tag("button", "dd-small", sign, tag("kbd", "", key), type="button", data_go=way, title=label,
               aria_label=label, disabled=off)  # fmt: skip


def files(run_id: str, about: About, lang: str) -> str:
    """The command that made this, its output and its log."""
    said = words(lang)
    there = reject_runs.output_of(run_id).is_file()
    line = said["rejects_files_info" if there else "rejects_no_files"]
    top = tag("section", "dd-card", tag("h3", "dd-h", text(said["rejects_files"])), tag("p", "dd-dim", text(line)))
    log = ""
    if reject_runs.lasting():
        log = tag("details", "dd-more-facts", tag("summary", "", text(said["rejects_log"])),
                  tag("pre", "dd-log-end", text(reject_runs.log_end(run_id))), id="dd-rejects-log")  # fmt: skip
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["rejects_command"])),
               command(about.command, lang), log) + top  # fmt: skip


def command(line: str, lang: str) -> str:
    said = words(lang)
    copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy=line, data_done=said["copied"])
    return tag("div", "dd-fix dd-command", tag("code", "", text(line)), copy)
