"""What the checks before a start found: the verdict, what to change, memory, time, and what the trainer will see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diagnostics.render import worst_first
from diagnostics.report import Finding, Report
from diagnostics.words import say
from pipeline.training.memory_needed import PARTS, gigabytes
from pipeline.training.run_needs import Estimate
from ui import report_details, report_view
from ui.interface_words import known, words
from ui.report_view import fix_line, mark
from ui.safe_html import prose, tag, text, with_specials
from ui.train_setup import said_problem
from ui.train_work import Work

STAGES = {"demo": "train_stage_demo", "data": "train_stage_data", "checks": "train_stage_checks",
          "hub": "train_stage_hub"}  # fmt: skip
SEVERE = ("error", "warning")


def panel(work: Work, lang: str) -> str:
    """Of a check, or of a start that is under way or did not come to one."""
    said = words(lang)
    if not work.done:
        entry = STAGES.get(work.stage)
        line = said[entry] if entry else work.stage or said["train_stage_waiting"]
        stop = tag("button", "dd-do dd-danger", text(said["rejects_cancel"]), type="button", data_cancel=True)
        running = tag("div", "dd-run-line", tag("span", "dd-run-state", tag("i", "dd-pulse"), text(line)), stop)
        bar = tag("div", "dd-track", tag("div", "dd-fill dd-unknown"), role="progressbar")
        return tag("section", "dd-card dd-run", running, bar, role="status")
    if work.problem is not None:
        return tag("section", "dd-card dd-verdict dd-problems", tag("h2", "", text(said[f"train_{work.kind}_failed"])),
                   tag("p", "", text(said_problem(work.problem, lang))), role="alert")  # fmt: skip
    if work.kind == "hub_quote":
        from ui.train_hub import quoted

        return quoted(work, lang)
    if work.kind == "hub_start":  # its page is opened
        return ""
    if work.kind == "hand_over":
        return _handed_over(work, lang)
    return _found(work, lang)


def _handed_over(work: Work, lang: str) -> str:
    said, made = words(lang), work.handed
    if made is None:
        return ""
    lines = [tag("h2", "", text(said["train_handed_over"].format(n=f"{made.rows:,}", eval=f"{made.eval_rows:,}")))]
    copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy=made.command, data_done=said["copied"])
    run = tag("div", "dd-fix", tag("span", "dd-label", text(said["train_run_there"])),
              tag("span", "", tag("code", "", text(made.command))), copy)  # fmt: skip
    for entry, names in (("train_handed_left", made.left_out), ("train_handed_local", made.local)):
        if names:
            lines.append(tag("p", "dd-dim", text(said[entry].format(names=", ".join(names)))))
    return tag("section", "dd-card dd-verdict dd-healthy", lines[0], run, *lines[1:])


def _found(work: Work, lang: str) -> str:
    said = words(lang)
    report = report_of(work.report, lang)
    estimates = memory(work.estimate, lang) if work.estimate is not None else ""
    if report is None:
        return estimates
    errors = sum(f.severity == "error" for f in report.findings)
    warnings = sum(f.severity == "warning" for f in report.findings)
    entry = "train_checks_errors" if errors else "train_checks_warnings" if warnings else "train_checks_fine"
    tone = "problems" if errors else "warnings" if warnings else "healthy"
    rows = rows_line(work.rows, lang)
    foot = ""
    if work.refused:
        insist = tag("button", "dd-do dd-danger", text(said["train_insist"]), type="button", data_insist=True)
        foot = tag("div", "dd-form-end", tag("span", "dd-dim", text(said["train_not_started"])), insist)
    head = tag("section", f"dd-card dd-verdict dd-{tone}",
               tag("h2", "", text(said[entry].format(n=errors or warnings or len(report.findings)))), rows,
               severe(report.findings, lang), report_view.counts(report, lang), foot, data_report=None)  # fmt: skip
    whole = tag("details", "dd-card dd-train-all", tag("summary", "", text(said["train_checks_all"])),
                report_details.findings(report, lang), id="dd-train-all-checks")  # fmt: skip
    return head + estimates + preview(report.samples, lang) + whole


def report_of(held: Mapping[str, Any] | None, lang: str) -> Report | None:
    """Said in the language of the page; None where there is none, or one of another version."""
    if held is None:
        return None
    try:
        return say(Report.from_json(held), known(lang))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def severe(findings: Iterable[Finding], lang: str, most: int = 12) -> str:
    """Errors and warnings with what to do, worst first."""
    said = words(lang)
    shown = []
    for finding in [f for f in worst_first(list(findings)) if f.severity in SEVERE][:most]:
        line = tag("div", "dd-train-finding", mark(finding.severity), tag("span", "dd-message", prose(finding.message)),
                   tag("span", "dd-code", text(finding.code)))  # fmt: skip
        shown.append(tag("li", "", line, fix_line(finding.fix, said)))
    return tag("ul", "dd-train-severe", *shown) if shown else ""


def rows_line(rows: Mapping[str, Any], lang: str) -> str:
    """How many rows are trained and evaluated on."""
    said = words(lang)
    if not rows.get("train"):
        return ""
    left = sum(int(one.get("rows", 0)) for one in rows.get("left_out", ()) if isinstance(one, Mapping))
    line = said["train_rows"].format(n=f"{rows['train']:,}", eval=f"{rows.get('eval', 0):,}")
    if left:
        line += " " + said["train_rows_left"].format(n=f"{left:,}")
    return tag("p", "dd-dim", text(line))


# --- memory and time ---


def memory(made: Estimate, lang: str) -> str:
    """A stacked bar of what one device needs against what is free there, and how long it takes."""
    said = words(lang)
    needed = made.needed
    parts = [(name, needed.part(name)) for name in PARTS if needed.part(name)]
    total = needed.host if made.on_cpu else needed.device
    scale = max(total, made.there or 0, 1)
    fits = made.there is None or total <= made.there
    from pipeline.config_files import load_config

    names = load_config(f"words/{known(lang)}/training.yaml")["memory"]["parts"]
    shown = total / max(needed.device, 1)  # on a CPU several processes stand in one memory
    bars, legend = [], []
    for place, (name, size) in enumerate(parts):
        width = 100 * size * shown / scale
        named = f"{names[name]} {gigabytes(size)}"
        bars.append(tag("i", f"dd-part-{place}", style=f"width:{width:.2f}%", title=named))
        legend.append(tag("span", "", tag("i", f"dd-part-{place}"), text(named)))
    entry = ("train_memory_cpu" if made.on_cpu else "train_memory_gpu") + ("" if made.there is not None else "_unknown")
    line = said[entry].format(n=gigabytes(total), free=gigabytes(made.there or 0))
    verdict = tag("p", "" if fits else "dd-train-too-much", text(line))
    bar = tag("div", "dd-memory" + ("" if fits else " dd-memory-over"), *bars, role="img", aria_label=line)
    lines = (tag("li", "", text(one.strip())) for one in needed.lines(known(lang)))
    more = tag("details", "dd-more-facts", tag("summary", "", text(said["train_memory_how"])),
               tag("ul", "dd-train-lines", *lines), id="dd-train-memory-how")  # fmt: skip
    change = _changes(made, lang) if not fits else ""
    took = tag("p", "", text(made.time.said(known(lang))))
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["train_memory"])), verdict, bar,
               tag("div", "dd-memory-legend", *legend), change, more,
               tag("h3", "dd-h dd-train-time", text(said["train_time"])), took)  # fmt: skip


def _changes(made: Estimate, lang: str) -> str:
    from pipeline.training.memory_needed import what_fits

    said = words(lang)
    changes = what_fits(made.needed, made.there or 0)
    if not changes:
        return ""
    rows = []
    for one in changes[:6]:
        rows.append(tag("li", "", text(one.said(known(lang)))))
    return tag("p", "", text(said["train_memory_change"])) + tag("ul", "dd-train-lines", *rows)


# --- what the trainer sees ---


def preview(samples: Iterable[Mapping[str, Any]], lang: str) -> str:
    """The first rows token by token: prompt, trained, cut away."""
    said = words(lang)
    rows = [sample for sample in samples if isinstance(sample, Mapping) and sample.get("kind") == "tokens"]
    if not rows:
        return ""
    shown = []
    for row in rows:
        if row.get("problem") or not row.get("sides"):
            why = said["train_tokens_problem"].format(n=row.get("line"))
            shown.append(tag("article", "dd-tokens", tag("p", "dd-dim", text(why))))
            continue
        sides = "".join(_side(side, said) for side in row["sides"] if isinstance(side, Mapping))
        dropped = tag("p", "dd-train-too-much", text(said["train_tokens_dropped"])) if row.get("dropped") else ""
        number = tag("h4", "", text(said["train_tokens_row"].format(n=row.get("line"))))
        shown.append(tag("article", "dd-tokens", number, dropped, sides))
    kinds = ("prompt", "trained", "cut")
    legend = (tag("span", f"dd-tok dd-tok-{kind}", text(said[f"train_tokens_{kind}"])) for kind in kinds)
    more = ""
    if len(shown) > 1:
        summary = tag("summary", "", text(said["train_tokens_more"].format(n=len(shown) - 1)))
        more = tag("details", "dd-more-facts", summary, *shown[1:], id="dd-train-tokens-more")
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["train_tokens"])),
               tag("p", "dd-dim", text(said["train_tokens_info"])), tag("div", "dd-tokens-legend", *legend), shown[0],
               more)  # fmt: skip


def _side(side: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    pieces = []
    for piece in side.get("pieces", ()):
        if piece.get("as") == "gap":
            pieces.append(tag("span", "dd-tok-gap", text(said["train_tokens_gap"].format(n=piece.get("tokens")))))
            continue
        kind = piece.get("as") if piece.get("as") in ("prompt", "trained", "cut") else "prompt"
        written = str(piece.get("text", ""))
        pieces.append(tag("span", f"dd-tok dd-tok-{kind}", with_specials(written.replace("\n", "⏎\n"))))
    stop = side.get("stop")
    facts = [said["train_tokens_counts"].format(n=side.get("trained"), of=side.get("tokens"))]
    if side.get("cut"):
        facts.append(said["train_tokens_cut_n"].format(n=side["cut"]))
    facts.append(said["train_tokens_stop"].format(token=stop) if stop else said["train_tokens_no_stop"])
    name = said["train_side"].get(side.get("name"), side.get("name"))
    head = tag("p", "dd-tokens-head", tag("b", "", text(name)), tag("span", "dd-dim", text(" · ".join(facts))))
    return tag("div", "dd-tokens-side", head, tag("div", "dd-tokens-text", *pieces))
