"""Below the first screen: samples, findings by family with their evidence, and what did not run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from diagnostics.render import evidence_place, evidence_value
from diagnostics.report import Evidence, Finding, Report
from diagnostics.words import family_words
from pipeline.config_files import load_config
from ui.interface_words import words
from ui.log_charts import full_name, spot_of, with_anchors
from ui.report_view import MARKS, Said, fix_line, mark
from ui.safe_html import prose, tag, text, with_specials

MAX_VALUE = 4000  # characters of one piece of evidence; the JSON file holds it whole


def chart_heading(entry: str, lang: str) -> str:
    """Title and one line about a chart."""
    said = words(lang)
    return tag("h3", "dd-h", text(said[entry])) + tag("p", "dd-dim", text(said[entry + "_info"]))


def samples(report: Report, lang: str) -> str:
    """What the model wrote: one row for each prompt, one column for each strategy."""
    if not report.samples:
        return ""
    said = words(lang)
    strategies = list(dict.fromkeys(str(s.get("strategy", "")) for s in report.samples))
    by_prompt: dict[str, dict[str, Mapping[str, Any]]] = {}
    for sample in report.samples:
        by_prompt.setdefault(str(sample.get("prompt", "")), {}).setdefault(str(sample.get("strategy", "")), sample)
    head = [tag("th", "", text(said["prompt"]))]
    head += [tag("th", "", text(said.get(f"strategy_{name}", name))) for name in strategies]
    rows = []
    for prompt, answers in by_prompt.items():
        gold = next((s["gold"] for s in answers.values() if s.get("gold")), "")
        expected = tag("div", "dd-gold", tag("span", "", text(said["expected"])), " ", text(gold)) if gold else ""
        first = tag("th", "", tag("div", "dd-text", with_specials(prompt)), expected, scope="row")
        rows.append(tag("tr", "", first, *(tag("td", "", _answer(answers.get(s), said)) for s in strategies)))
    table = tag("table", "dd-samples", tag("thead", "", tag("tr", "", *head)), tag("tbody", "", *rows))
    heading = tag("h3", "dd-h", text(said["samples"])) + tag("p", "dd-dim", text(said["samples_info"]))
    return tag("section", "dd-card", heading, tag("div", "dd-scroll", table, tabindex=0))


def _answer(sample: Mapping[str, Any] | None, said: Said) -> str:
    if sample is None:
        return tag("span", "dd-dim", "–")
    answer = str(sample.get("text", ""))
    foot = []
    if sample.get("ended") is False:
        foot.append(said["stopped_by_limit"])
    elif sample.get("stop"):
        foot.append(f"{said['stopped_by_itself']} {sample['stop']}")
    if isinstance(sample.get("tokens"), int):
        foot.append(said["tokens"].format(n=sample["tokens"]))
    shown = with_specials(answer) if answer.strip() else tag("span", "dd-dim", text(said["empty_answer"]))
    cut = " dd-cut" if sample.get("ended") is False else ""
    return tag("div", "dd-text", shown) + tag("div", f"dd-foot{cut}", text(" · ".join(foot)))


def findings(report: Report, lang: str, *, running: bool = False) -> str:
    """All findings by family, worst first; each opens to its evidence. At the end what did not run, and why.

    running: every family stands open, so that findings are seen as they come.
    """
    said = words(lang)
    order = (name.removeprefix("family_") for name in said if name.startswith("family_"))
    families: dict[str, list[Finding]] = {family: [] for family in order}
    for finding in report.findings:
        families.setdefault(finding.code[:3], []).append(finding)
    parts = [_family(family, members, lang, running) for family, members in families.items() if members]
    if report.skipped and not running:
        parts.append(_not_run(report, lang))
    if not parts:
        return ""
    if report.tool_version:
        versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        made = f"{said['made_with']} DPO Doctor {report.tool_version} · {versions}"
        parts.append(tag("p", "dd-dim dd-made", text(made), "<br>", text(report.subject.fingerprint)))
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["findings"])), *parts)


def _family(family: str, members: list[Finding], lang: str, running: bool) -> str:
    said = words(lang)
    tally = {s: sum(f.severity == s for f in members) for s in ("error", "warning", "ok")}
    tally["ok"] += sum(f.severity == "info" for f in members)
    chips = (tag("span", f"dd-chip dd-{s}", f"{MARKS[s]} {n}") for s, n in tally.items() if n)
    name = tag("b", "", text(said.get(f"family_{family}", family)))
    rows = (_finding(f, anchor, lang) for f, anchor in with_anchors(members))
    return tag("details", "dd-family", tag("summary", "", name, tag("span", "dd-chips", *chips)),
               tag("ul", "dd-findings", *rows), id=f"dd-family-{family}",
               open=bool(running or tally["error"] or tally["warning"]))  # fmt: skip


def _finding(finding: Finding, anchor: str, lang: str) -> str:
    said = words(lang)
    line = tag("summary", "", mark(finding.severity), tag("span", "dd-message", prose(finding.message)),
               tag("span", "dd-code", text(finding.code)))  # fmt: skip
    about = family_words(finding.code, lang).get("about", "")
    table = ""
    if finding.evidence:
        head = tag("tr", "", tag("th", "", text(said["where"])), tag("th", "", text(said["value"])))
        rows = (_evidence(finding, e, lang) for e in finding.evidence)
        table = tag("table", "dd-evidence", tag("thead", "", head), tag("tbody", "", *rows))
        table = tag("div", "dd-scroll", table, tabindex=0)
    spot = spot_of(finding)
    if spot is not None:
        table = spot_button(spot, said) + table
    body = tag("div", "dd-body", fix_line(finding.fix, said), tag("p", "dd-dim", prose(about)) if about else "", table)
    return tag("li", "", tag("details", "dd-finding", line, body, id=anchor))


def _evidence(finding: Finding, one: Evidence, lang: str) -> str:
    around = load_config(f"words/{lang}/report.yaml")["around"]
    value = one.value if isinstance(one.value, str) else evidence_value(finding, one, around)
    return tag("tr", "", tag("td", "", text(evidence_place(finding, one, lang))), tag("td", "", _value(value)))


def spot_button(spot: tuple[str, float, float | None], said: Said) -> str:
    """Shows on the curve the place that a finding speaks of: (curve, first step, last step or None)."""
    curve, first, last = spot
    steps = f"{first:.10g}" if last is None else f"{first:.10g}–{last:.10g}"
    sentence = said["show_on_curve"].format(curve=full_name(curve, said), steps=steps)
    return tag("button", "dd-button dd-spot", text(sentence), type="button", data_spot=json.dumps(spot))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return tag("code", "", with_specials(value[:MAX_VALUE]))
    return tag("code", "", text(json.dumps(value, ensure_ascii=False, default=str)[:MAX_VALUE]))


def _not_run(report: Report, lang: str) -> str:
    """Checks that measured nothing, by reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in report.skipped:
        by_reason.setdefault(entry.reason, []).append(entry.code)
    rows = []
    for reason, codes in by_reason.items():
        named = (tag("span", "dd-code", text(c), title=family_words(c, lang).get("title", c)) for c in codes)
        sentence = tag("span", "dd-message", prose(reason))
        rows.append(tag("li", "dd-skip", sentence, tag("span", "dd-skipped-codes", *named)))
    chips = tag("span", "dd-chips", tag("span", "dd-chip dd-off", str(len(report.skipped))))
    line = tag("summary", "", tag("b", "", text(words(lang)["not_run"])), chips)
    return tag("details", "dd-family", line, tag("ul", "dd-findings", *rows), id="dd-not-run")
