"""The first screen of a report: verdict, causes, fix, next test, counts, and what a running diagnosis does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostics.render import answers_unjudged, nothing_so_far, sentence_without_cause, too_few, worst_first
from diagnostics.report import Cause, Finding, Report
from diagnostics.run_checks import DEPTHS
from diagnostics.words import family_words
from pipeline.config_files import load_config
from ui.interface_words import words
from ui.running_diagnosis import Run
from ui.safe_html import prose, tag, text

MARKS = {"error": "✗", "warning": "!", "info": "i", "ok": "✓"}
GIVEN_BY_FIELD = {"give_base": "base", "give_data": "data", "give_log": "log"}
# reason of a skipped check -> the field that would let it run
LACKING = {"no_data": "data", "probes_not_known": "data", "no_base": "base", "no_log": "log"}
RUN_BY_BUTTON = (*DEPTHS, "more_rows")
Said = Mapping[str, Any]


def mark(severity: str) -> str:
    """The round sign of a severity."""
    return tag("span", f"dd-mark dd-{severity}", MARKS[severity], aria_label=severity)


def fix_line(fix: str, said: Said) -> str:
    """A fix with its copy button; empty for none."""
    if not fix:
        return ""
    copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy=fix, data_done=said["copied"])
    return tag("div", "dd-fix", tag("span", "dd-label", text(said["fix"])), tag("span", "", prose(fix)), copy)


def counts(report: Report, lang: str) -> str:
    """`2 errors · 3 warnings · 41 fine · 4 not run`, each with its colour."""
    around = load_config(f"words/{lang}/report.yaml")["around"]
    tally = {s: sum(f.severity == s for f in report.findings) for s in MARKS}
    parts = [
        ("error", tally["error"], around["error" if tally["error"] == 1 else "errors"]),
        ("warning", tally["warning"], around["warning" if tally["warning"] == 1 else "warnings"]),
        ("ok", tally["ok"] + tally["info"], around["fine"]),
        ("off", len(report.skipped), around["not_run"]),
    ]
    shown = (
        tag("span", f"dd-count dd-{kind}{'' if n else ' dd-zero'}", text(sentence.format(n=n)))
        for kind, n, sentence in parts
    )
    return tag("div", "dd-counts", *shown)


def empty(lang: str, entry: str = "empty") -> str:
    """Before anything was diagnosed. entry: of interface.yaml, with `_title` and `_text`."""
    said = words(lang)
    return tag("section", "dd-card dd-verdict dd-neutral", tag("h2", "", text(said[f"{entry}_title"])),
               tag("p", "dd-dim", text(said[f"{entry}_text"])), data_report="")  # fmt: skip


def problem(entry: str, params: Mapping[str, str], lang: str) -> str:
    """What could not be done, and what to do instead. entry, params: a sentence of interface.yaml."""
    said = words(lang)
    shown = {name: value[:300] for name, value in params.items()}
    if "depth" in shown:
        shown["depth"] = said[f"depth_{shown['depth']}"]
    title = said.get(f"{entry}_title", said["problem_title"])
    absent = entry == "no_report"  # its address stays: it may be there again after a repair
    return tag("section", f"dd-card dd-verdict dd-{'neutral' if absent else 'problems'}", tag("h2", "", text(title)),
               tag("p", "", text(said[entry].format(**shown))), role="alert",
               data_report=None if absent else "")  # fmt: skip


def progress(run: Run, lang: str) -> str:
    """What a running diagnosis does now, and what is left."""
    said = words(lang)
    event = run.last
    share, left = 0.02, ""
    line = said.get(f"running_{run.state}", said["running_starting"])
    if run.state == "checking" and event is not None and event.total and event.depth:
        share = event.done / event.total
        line = said["running_check"].format(
            done=event.done + 1, total=event.total, depth=said[f"depth_{event.depth}"],
            title=family_words(event.code, lang).get("title", event.code),
        )  # fmt: skip
        later = DEPTHS[DEPTHS.index(event.depth) + 1 : DEPTHS.index(run.depth) + 1]
        left = said["running_left"].format(depths=", ".join(said[f"depth_{d}"] for d in later)) if later else ""
    if run.cancel.is_set():
        line, left = said["stopping"], ""
    bar = tag("div", "dd-track", tag("div", "dd-fill", style=f"width:{max(2, round(100 * share))}%"))
    now = tag("span", "", tag("span", "dd-pulse"), text(line))
    note = tag("div", "dd-dim dd-note", text(run.note)) if run.note else ""
    return tag("div", "dd-progress", bar, tag("div", "dd-progress-line", now, tag("span", "dd-dim", text(left))), note,
               role="status", aria_live="polite")  # fmt: skip


def verdict(
    report: Report, lang: str, *, report_id: str = "", note: str = "", run: Run | None = None, can_run: bool = False,
    foot: str = "",
) -> str:  # fmt: skip
    """The verdict and the top cause as a sentence, then the other causes.

    report_id: becomes the page's address. note: a line above, such as that this is an example. run: while it still
    runs, the verdict says `so far`. can_run: whether this machine can diagnose the same case again, deeper. foot: HTML
    below all.
    """
    said = words(lang)
    running = run is not None and run.state != "done"
    stopped = sum(s.reason_id == "cancelled" for s in report.skipped)
    parts = [progress(run, lang) if run is not None and running else ""]
    if stopped:
        parts.append(tag("p", "dd-banner", text(said["stopped"].format(n=stopped))))
    if note:
        parts.append(tag("p", "dd-banner", text(note)))
    parts.append(_eyebrow(report, said, running))
    if report.causes:
        parts.append(_causes(report, lang, running, can_run))
    else:
        parts += _no_cause(report, lang, running)
        if not running and report.verdict != "not_usable" and _has_form(report):
            parts += [_deeper(report, said) if can_run else "", _give_more(report, said)]
    parts.append(foot)
    unsure = report.verdict == "healthy" and (answers_unjudged(report) or too_few(report))
    tone = "neutral" if (running and not report.causes) or unsure else report.verdict
    return tag(
        "section", f"dd-card dd-verdict dd-{tone}", *parts, data_report=report_id, data_running="1" if running else ""
    )


def _has_form(report: Report) -> bool:
    """Whether the page has fields that could give this report more to measure."""
    return report.subject.kind == "checkpoint"


def _eyebrow(report: Report, said: Said, running: bool) -> str:
    """What was looked at, how deep, when."""
    parts = [report.subject.name, (report.subject.revision or "")[:12]]
    if report.depth and _has_form(report):
        parts.append(said["depth_reached"].format(depth=said.get(f"depth_{report.depth}", report.depth)))
    if report.created and not running:
        parts.append(report.created.replace("T", " ").removesuffix("Z") + " UTC")
    return tag("p", "dd-eyebrow", " · ".join(text(p) for p in parts if p))


def _no_cause(report: Report, lang: str, running: bool) -> list[str]:
    said = words(lang)
    title = sentence_without_cause(report, lang)
    lead = ""
    worst = worst_first(report.findings)
    if running:
        troubled = bool(worst) and worst[0].severity in ("error", "warning")
        title = worst[0].message if troubled else said["nothing_wrong_yet" if worst else "nothing_seen_yet"]
    elif report.verdict == "not_usable":
        lead = worst[0].message if worst else ""
    elif report.verdict == "healthy":
        lead = said["all_fine"].format(fine=len(report.findings))
        if report.skipped:
            lead += " " + said["all_fine_more"].format(left=len(report.skipped))
    elif not nothing_so_far(report):
        lead = said["no_cause"]
    return [tag("div", "dd-headline", tag("h2", "", text(title))), tag("p", "dd-lead", text(lead)) if lead else ""]


def _deeper(report: Report, said: Said) -> str:
    """Offers the next depth where nothing was found at a shallow one."""
    if report.depth not in DEPTHS[:-1]:
        return ""
    sentence = said["look_deeper_why"].format(depth=said[f"depth_{report.depth}"])
    button = tag("button", "dd-button", text(said["look_deeper"]), type="button",
                 data_test=DEPTHS[DEPTHS.index(report.depth) + 1])  # fmt: skip
    label = tag("span", "dd-label", text(said["next_test"]))
    return tag("div", "dd-fix dd-next", label, tag("span", "", text(sentence)), button)


def _give_more(report: Report, said: Said) -> str:
    """Names what kept checks from running, with how many each: without the training rows much can't be judged."""
    missing = [LACKING[s.reason_id] for s in report.skipped if s.reason_id in LACKING]
    if not missing:
        return ""
    buttons = []
    for field in dict.fromkeys(sorted(missing, key=missing.count, reverse=True)):
        named = f"{said[field]}  {said['checks'].format(n=missing.count(field))}"
        buttons.append(tag("button", "dd-button", text(named), type="button", data_give=field))
    return tag("div", "dd-fix dd-next dd-more", tag("span", "", text(said["give_more"])), *buttons)


def _causes(report: Report, lang: str, running: bool, can_run: bool) -> str:
    said = words(lang)
    by_code = {f.code: f for f in reversed(worst_first(report.findings))}
    top, *others = report.causes
    sure = load_config(f"words/{lang}/report.yaml")["around"]["sure"].format(percent=round(100 * top.confidence))
    if running:
        sure += f" · {said['so_far']}"
    side_codes = [
        text(said["for"]), " ", " ".join(_code_link(c) for c in top.supporting), tag("span", "dd-gap"),
        text(said["against"]), " ", " ".join(_code_link(c) for c in top.opposing) or "–",
    ]  # fmt: skip
    why = tag("summary", "", tag("b", "", text(said["why"])), tag("span", "dd-codes", *side_codes))
    parts = [
        tag("div", "dd-headline", tag("h2", "", text(top.title)), tag("span", "dd-sure", text(sure))),
        tag("p", "dd-lead", prose(top.explanation)),
        fix_line(top.fix, said),
        "" if running else _next_test(top, report, said, can_run),
        tag("details", "dd-why", why, _sides(top, by_code, said), id="dd-why"),
    ]
    if others:
        parts.append(tag("h3", "dd-also", text(said["also_possible"])))
    for place, cause in enumerate(others, 1):
        percent = round(100 * cause.confidence)
        meter = tag("span", "dd-meter", tag("i", "", style=f"width:{percent}%"))
        line = tag("summary", "", tag("span", "", text(cause.title)), tag("span", "dd-percent", meter, f"{percent}%"))
        more = [tag("p", "", prose(cause.explanation)), fix_line(cause.fix, said),
                "" if running else _next_test(cause, report, said, can_run), _sides(cause, by_code, said)]  # fmt: skip
        parts.append(tag("details", "dd-cause", line, *more, id=f"dd-cause-{place}"))
    return "".join(parts)


def _next_test(cause: Cause, report: Report, said: Said, can_run: bool) -> str:
    if not cause.next_test:
        return ""
    test, button = cause.next_test_id, ""
    if test in GIVEN_BY_FIELD and _has_form(report):
        button = tag("button", "dd-button", text(said["give_it"]), type="button", data_give=GIVEN_BY_FIELD[test])
    elif test in RUN_BY_BUTTON and can_run:
        button = tag("button", "dd-button", text(said["run_test"]), type="button", data_test=test)
    label = tag("span", "dd-label", text(said["next_test"]))
    return tag("div", "dd-fix dd-next", label, tag("span", "", prose(cause.next_test)), button)


def _sides(cause: Cause, by_code: Mapping[str, Finding], said: Said) -> str:
    """Sentences of the findings for and against a cause."""

    def listed(codes: Sequence[str]) -> str:
        rows = []
        for code in codes:
            known = by_code.get(code)
            message = tag("span", "", prose(known.message if known else ""))
            rows.append(tag("li", "", mark(known.severity) if known else "", message, _code_link(code)))
        return "".join(rows)

    against = listed(cause.opposing) or tag("li", "dd-dim", text(said["nothing_against"]))
    sides = ((said["for"], listed(cause.supporting)), (said["against"], against))
    return tag("div", "dd-sides", *(tag("div", "", tag("h4", "", text(h)), tag("ul", "", rows)) for h, rows in sides))


def _code_link(code: str) -> str:
    return tag("a", "dd-code", text(code), href=f"#dd-{code}", data_jump=f"dd-{code}")
