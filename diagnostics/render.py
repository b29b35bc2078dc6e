"""The one renderer of reports: plain text, Markdown, and one self-contained HTML file.

All text that comes from the subject (names, tokens, generated answers) is shown as text: escaped in HTML, fenced
or back-quoted in Markdown, control characters made visible everywhere.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from diagnostics import evaluation_shown
from diagnostics.recipe_preview import STYLE as PREVIEW_STYLE
from diagnostics.recipe_preview import is_preview, preview_html, preview_lines
from diagnostics.report import Cause, Evidence, Finding, Report
from diagnostics.small_curves import curves_svg, sparklines
from diagnostics.thresholds import load_thresholds
from diagnostics.words import family_words
from pipeline.config_files import load_config

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_MARKS = {"ok": "✓", "info": "·", "warning": "!", "error": "✗"}
_ORDER = {"error": 0, "warning": 1, "info": 2, "ok": 3}


def visible(text: str) -> str:
    """`text` with control, bidirectional and half characters made visible: none acts on a terminal, all can be sent."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m.group()):02x}" if ord(m.group()) < 256 else f"\\u{ord(m.group()):04x}", text)


def _words(lang: str) -> Mapping[str, Any]:
    return load_config(f"words/{lang}/report.yaml")["around"]


# Reasons of skipped checks that a file would remove which was not given or can't be used. Rows, base and log are left
# out: most checks do without them, and the reasons say what is missing.
_LACKING = frozenset(("no_tokenizer", "no_config", "no_weights", "tokenizer_not_loaded", "no_small_files", "no_adapter_base",
                      "embedding_size_unknown", "unusable_config"))  # fmt: skip


def counts_line(report: Report) -> str:
    """`2 errors · 1 warning · 41 fine · 4 not run`."""
    words = _words(report.lang)
    numbers = {s: sum(f.severity == s for f in report.findings) for s in _ORDER}
    parts = [
        words["error" if numbers["error"] == 1 else "errors"].format(n=numbers["error"]),
        words["warning" if numbers["warning"] == 1 else "warnings"].format(n=numbers["warning"]),
        words["fine"].format(n=numbers["ok"] + numbers["info"]),
        words["not_run"].format(n=len(report.skipped)),
    ]
    return " · ".join(parts)


def verdict_line(report: Report) -> str:
    """The verdict as a sentence a person would say."""
    words = _words(report.lang)
    if lead := evaluation_shown.lead_sentence(report):
        sentence = lead
    elif report.causes:
        top = report.causes[0]
        sentence = f"{top.title} ({words['sure'].format(percent=round(100 * top.confidence))})"
    else:
        sentence = sentence_without_cause(report, report.lang)
    return f"{words['so_far']} {sentence}" if report.interrupted else sentence


def sentence_without_cause(report: Report, lang: str) -> str:
    """What the verdict says where no cause was found: never that all is fine where little was looked at."""
    words = _words(lang)
    lacking = sum(s.reason_id in _LACKING for s in report.skipped)
    if nothing_so_far(report):
        return str(words["nothing_so_far"])
    if report.verdict == "healthy" and lacking:
        return str(words["little_measured"].format(n=len({f.code for f in report.findings}), out=lacking))
    if report.verdict == "healthy" and answers_unjudged(report):
        return str(words["answers_unjudged"])
    if too_short(report):
        judged = len({f.code for f in report.findings})
        return str(words["log_too_short"].format(n=judged, out=len(report.skipped)))
    if too_few(report):
        return str(words["pairs_too_few"].format(n=int(report.metrics["pairs.rows"])))
    if lead := evaluation_shown.lead_sentence(report):
        return lead
    own = words.get(f"{report.subject.kind}_verdict", words["verdict"])
    if report.verdict == "healthy" and evaluation_shown.is_unjudged(report) and "unjudged" in own:
        return str(own["unjudged"])
    return str(own.get(report.verdict, report.verdict))


# Checks of a log that need no more than a value or a line.
_OF_ANY_LOG = frozenset(("LOG001", "LOG002", "LOG009", "LOG010", "LOG014", "LOG015", "RUN001", "DPO006"))


def too_short(report: Report) -> bool:
    """A log of which no curve was long enough to be judged, and in which nothing wrong stands."""
    judged = {f.code for f in report.findings} - _OF_ANY_LOG
    return report.verdict == "healthy" and report.subject.kind == "log" and len(judged) < 2


def too_few(report: Report) -> bool:
    """A set of pairs or rows too small to be judged by shares, in which nothing wrong stands."""
    rows = report.metrics.get("pairs.rows", 0)
    needed = report.thresholds.get("data_least_rows", load_thresholds()["data_least_rows"])
    return report.verdict == "healthy" and 0 < rows < needed


def answers_unjudged(report: Report) -> bool:
    """The model ran, but knew nothing of the built-in questions: its answers say nothing either way."""
    return any(s.code == "FWD002" and s.reason_id == "probes_not_known" for s in report.skipped)


def nothing_so_far(report: Report) -> bool:
    """Interrupted, and nothing bad was found by then."""
    return report.interrupted and not any(f.severity in ("error", "warning") for f in report.findings)


def interrupted_line(report: Report) -> str:
    """What an interrupted run did not look at; empty for one that came to its end."""
    left = list(dict.fromkeys(s.code for s in report.skipped if s.reason_id == "cancelled"))
    if not report.interrupted or not left:
        return ""
    return str(_words(report.lang)["interrupted"].format(n=len(left), codes=" ".join(left)))


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Errors, warnings, info, fine; within one severity in the order they were found."""
    return sorted(findings, key=lambda f: _ORDER[f.severity])


_IN_TEXT = 4  # pieces of evidence in a terminal
_RANGES = 12  # of line numbers
_OF_DATA = ("PRF", "SFT")
_LINE = re.compile(r"line (\d+)(?:: (\w+))?")


def _evidence_text(report: Report, finding: Finding) -> list[str]:
    """Evidence for a terminal; excerpts of data a line each."""
    words = _words(report.lang)
    shown = [
        (evidence_place(finding, e, report.lang), _short(evidence_value(finding, e, words))) for e in finding.evidence[:_IN_TEXT]
    ]
    if report.subject.kind == "pairs":
        return [f"{where}: {value}" for where, value in shown]
    return ["; ".join(f"{where} = {value}" for where, value in shown)] if shown else []


def evidence_place(finding: Finding, evidence: Evidence, lang: str) -> str:
    """Where a piece of evidence of data stands, in words: lines, sides, reasons why rows were left out; what a figure
    of an evaluation is."""
    if finding.code in evaluation_shown.CODES:
        return evaluation_shown.figure_place(finding.code, evidence.where, lang)
    if finding.code[:3] not in _OF_DATA:
        return evidence.where
    words = _words(lang)["places"]
    if (found := _LINE.fullmatch(evidence.where)) is not None:
        line, side = found.groups()
        side = "answer" if side == "chosen" and finding.code.startswith("SFT") else side
        return str(words["line"].format(n=line)) + (f": {words.get(side, side)}" if side else "")
    reason, between, count = evidence.where.partition(": ")
    said = load_config(f"words/{lang}/formats.yaml").get(f"row_{reason}") if between and count.isdigit() else None
    return f"{said} ({count})" if said else str(words.get(evidence.where, evidence.where))


def evidence_value(finding: Finding, evidence: Evidence, words: Mapping[str, Any]) -> Any:
    """What is shown of a piece of evidence: line numbers as ranges, with how many there are; text in one line.

    words: `around` of report.yaml.
    """
    value = evidence.value
    if isinstance(value, str):
        return re.sub(r"\r?\n", "⏎", value)
    if finding.code[:3] not in _OF_DATA:  # numbers may be ids of tokens
        return value
    if isinstance(value, dict):
        return ", ".join(f"{name}: {number}" for name, number in value.items())
    places = isinstance(value, (list, tuple)) and value and all(type(one) is int for one in value)
    if places and all(one < other for one, other in pairwise(value)):
        # The list in a report may be cut; the numbers of its sentence are whole.
        total = finding.params.get("rows", 0) if evidence.where == "lines" else 0
        return _ranges(value, max(len(value), total if isinstance(total, int) else 0), words)
    return value


def _ranges(numbers: Sequence[int], total: int, words: Mapping[str, Any]) -> str:
    """`3-10, 12, 15`: ascending numbers; of many the first ranges and the count."""
    ranges: list[list[int]] = []
    shown = 0
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        elif len(ranges) == _RANGES:
            break
        else:
            ranges.append([number, number])
        shown += 1
    said = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)
    return said if shown == total else str(words["lines_more"].format(shown=said, n=f"{total:,}"))


def _short(value: Any, limit: int = 120) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[:limit] + "…"


def to_text(report: Report, *, figures: bool = True) -> str:
    """For a terminal: verdict, causes, what is wrong, what was not measured; the fine ones in one line each family.

    figures: of an evaluation its tables and first cases too.
    """
    words = _words(report.lang)
    lines = [f"{report.subject.name}: {verdict_line(report)}", f"  {counts_line(report)}"]
    if stopped := interrupted_line(report):
        lines.append(f"  {stopped}")
    if curves := sparklines(report, words):
        lines += ["", *(f"  {line}" for line in curves)]
    for table in evaluation_shown.tables(report) if figures else ():
        lines += ["", f"{table.title}:", *(f"  {line}" for line in evaluation_shown.table_lines(_visible(table)))]
    for place, cause in enumerate(report.causes, 1):
        lines += ["", f"{place}. {cause.title}  {round(100 * cause.confidence)}%  [{cause.id}]", f"   {cause.explanation}"]
        lines.append(f"   {words['for']}: {' '.join(cause.supporting)}   {words['against']}: {' '.join(cause.opposing) or '–'}")
        lines.append(f"   {words['fix']}: {cause.fix}")
        if cause.next_test:
            lines.append(f"   {words['next_test']}: {cause.next_test}")
    shown = [f for f in worst_first(report.findings) if f.severity != "ok"]
    if shown:
        lines += ["", f"{words['findings']}:"]
    for finding in shown:
        lines.append(f"  {_MARKS[finding.severity]} {finding.code} {finding.message}")
        if finding.severity in ("error", "warning"):
            lines += [f"      {evidence}" for evidence in _evidence_text(report, finding)]
            if finding.fix:
                lines.append(f"      {words['fix']}: {finding.fix}")
    fine = [f.code for f in report.findings if f.severity == "ok"]
    if fine:
        lines += ["", f"{words['fine_codes']}: {' '.join(dict.fromkeys(fine))}"]
    if report.skipped:
        lines += ["", f"{words['skipped']}:"]
        by_reason: dict[str, list[str]] = {}
        for entry in report.skipped:
            by_reason.setdefault(entry.reason, []).append(entry.code)
        lines += [f"  {' '.join(codes)}: {reason}" for reason, codes in by_reason.items()]
    if seen := preview_lines(report.samples, words):
        lines += ["", f"{words['preview']}:", *(f"  {line}" for line in seen)]
    for head, texts in evaluation_shown.case_lines(report, evaluation_shown.CASES_IN_TEXT if figures else 0):
        lines += ["", f"{head}:", *(f"  {_short(text.replace(chr(10), '⏎'), 300)}" for text in texts)]
    return "\n".join(visible(line) for text in lines for line in text.split("\n")) + "\n"


def _visible(table: evaluation_shown.Table) -> evaluation_shown.Table:
    """The table with every cell in one line, so that its columns stay columns."""

    def cell(text: str) -> str:
        return visible(_short(text, 60)).replace("\n", "⏎")

    rows = tuple(tuple(cell(text) for text in row) for row in table.rows)
    return evaluation_shown.Table(table.title, tuple(cell(text) for text in table.head), rows)


def _md(text: str) -> str:
    """Text as Markdown shows it literally, links and HTML included."""
    escaped = re.sub(r"([\\`*_{}\[\]<>()#+|~!&])", r"\\\1", visible(text))
    return escaped.replace("\n", " ").replace("://", ":\u200b//")


def _md_code(text: str) -> str:
    """Text as an inline code span, whatever back-quotes it holds."""
    text = visible(text).replace("\n", "⏎")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if text else ""


def to_markdown(report: Report) -> str:
    """For an issue tracker or a chat."""
    words = _words(report.lang)
    lines = [f"# DPO Doctor: {_md(report.subject.name)}", "", f"**{_md(verdict_line(report))}**", "", counts_line(report), ""]
    if stopped := interrupted_line(report):
        lines += [_md(stopped), ""]
    for line in sparklines(report, words):
        lines += [_md_code(line), ""]
    for table in evaluation_shown.tables(report):
        lines += [f"## {_md(table.title)}", "", *_md_table(table), ""]
    for cause in report.causes:
        lines += [f"## {_md(cause.title)} ({round(100 * cause.confidence)}%)", "", _md(cause.explanation), ""]
        lines.append(f"- {words['for']}: {', '.join(cause.supporting)}; {words['against']}: {', '.join(cause.opposing) or '–'}")
        lines.append(f"- {words['fix']}: {_md(cause.fix)}")
        if cause.next_test:
            lines.append(f"- {words['next_test']}: {_md(cause.next_test)}")
        lines.append("")
    lines += [f"## {words['findings']}", ""]
    for finding in worst_first(report.findings):
        lines.append(f"- {_MARKS[finding.severity]} **{finding.code}** {_md(finding.message)}")
        for entry in finding.evidence[:6] if finding.severity in ("error", "warning") else ():
            value = _short(evidence_value(finding, entry, words), 300)
            lines.append(f"  - {_md_code(evidence_place(finding, entry, report.lang))} = {_md_code(value)}")
        if finding.fix:
            lines.append(f"  - {words['fix']}: {_md(finding.fix)}")
    if report.skipped:
        lines += ["", f"## {words['skipped']}", ""]
        lines += [f"- {s.code}: {_md(s.reason)}" for s in report.skipped]
    if seen := preview_lines(report.samples, words):
        lines += ["", f"## {words['preview']}", "", *(f"- {_md_code(line)}" for line in seen)]
    if shown := evaluation_shown.case_lines(report, evaluation_shown.CASES_IN_MARKDOWN):
        lines += ["", f"## {load_config(f'words/{report.lang}/report.yaml')['evaluation']['cases']}", ""]
        for head, texts in shown:
            lines += [f"- {_md(head)}", *(f"  - {_md_code(_short(text, 1000))}" for text in texts)]
    answers = [s for s in report.samples if not is_preview(s) and not evaluation_shown.is_evaluation(report)]
    if answers:
        lines += ["", f"## {words['samples']}", ""]
        for sample in answers:
            lines.append(f"- {_md_code(str(sample.get('prompt', '')))} · {sample.get('strategy', '')}")
            lines.append(f"  - {_md_code(str(sample.get('text', '')))}")
    versions = ", ".join(f"{n} {v}" for n, v in report.versions.items())
    lines += ["", f"{report.created} · DPO Doctor {report.tool_version} · {versions} · {report.subject.fingerprint}", ""]
    return "\n".join(lines)


def _md_table(table: evaluation_shown.Table) -> list[str]:
    rule = tuple("---" for _ in table.head)
    return ["| " + " | ".join(_md(cell) or " " if row is not rule else cell for cell in row) + " |"
            for row in (table.head, rule, *table.rows)]  # fmt: skip


_STYLE = """
:root{color-scheme:light dark;--bg:#fbfaf8;--card:#fff;--ink:#1f2328;--dim:#656d76;--line:#e4e1db;--accent:#0f766e;
--error:#c4314b;--warning:#b26a00;--info:#4a6fa5;--ok:#2e7d4f}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--card:#1d2126;--ink:#e6e8ea;--dim:#9aa4ae;--line:#30363d;
--accent:#2dd4bf;--error:#ff7b8e;--warning:#f0b429;--info:#8fb3e8;--ok:#6fcf97}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1rem 4rem}h1{font-size:1.6rem;line-height:1.3;margin:.2rem 0}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem}p{margin:.4rem 0}.dim{color:var(--dim);font-size:.9rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1.2rem;margin:.8rem 0}
.cause h3{margin:0;font-size:1.1rem}.sure{float:right;color:var(--accent);font-weight:600}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,"Noto Sans Mono CJK SC",monospace;font-size:.88em;
overflow-wrap:anywhere;white-space:pre-wrap}ul{list-style:none;padding:0;margin:0}
li.finding{border-left:4px solid var(--line);padding:.3rem .8rem;margin:.5rem 0}
.error{border-left-color:var(--error)!important}.warning{border-left-color:var(--warning)!important}
.info{border-left-color:var(--info)!important}.ok{border-left-color:var(--ok)!important}
.code{color:var(--dim);font-size:.8rem;margin-right:.5rem}table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{border-bottom:1px solid var(--line);padding:.4rem;text-align:left;vertical-align:top}
.axis{stroke:var(--line)}.curve{fill:none;stroke-width:1.6}.c0{stroke:var(--accent)}.c1{stroke:var(--warning)}
.spot{stroke:var(--card);stroke-width:2}.spot.error{fill:var(--error)}.spot.warning{fill:var(--warning)}
.bar{fill:var(--line)}.bar.best{fill:var(--accent)}.bar.declared{fill:var(--info)}text{fill:var(--ink)}
.scroll{overflow-x:auto}details summary{cursor:pointer}
"""


def _h(value: Any) -> str:
    return html.escape(visible(str(value)), quote=True)


def _html_head(title: str, lang: str) -> str:
    return (
        f'<!doctype html><html lang="{_h(lang)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>DPO Doctor: {_h(title)}</title><style>{_STYLE}</style></head><body><main>"
    )


def _with_code(text: str) -> str:
    """Our own prose, with what stands in back-quotes as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", _h(text))


def explanation_to_html(pages: Sequence[Mapping[str, Any]], lang: str) -> str:
    """Pages of `diagnostics.explain` (checks and causes) as one HTML file, made like a report."""
    words = _words(lang)
    title = f"{pages[0]['code']}: {pages[0]['title']}" if len(pages) == 1 else str(words["all_checks"])
    parts = [_html_head(title, lang), "" if len(pages) == 1 else f"<h1>{_h(title)}</h1>"]
    for page in pages:
        parts.append(f"<section class='card'><h2>{_h(page['code'])}: {_h(page['title'])}</h2>")
        if "depth" in page:
            parts.append(f"<p class='dim'><code>{_h(page['name'])}</code> · {_h(words['depth'])} <code>{_h(page['depth'])}</code></p>")
        parts.append(f"<p>{_with_code(str(page['about']).strip())}</p>" if page["about"] else "")
        for heading, text in (page.get("sections") or {}).items():
            if heading and text:
                parts.append(f"<p><b>{_h(heading)}</b> {_with_code(text)}</p>")
        if outcomes := page.get("outcomes"):
            rows = "".join(f"<tr><td><code>{_h(name)}</code></td><td>{_h(said)}</td></tr>" for name, said in outcomes.items())
            parts.append(f"<div class='scroll'><table>{rows}</table></div>")
        for side in ("for", "against"):
            if page.get(side):
                signals = ", ".join(f"{signal} ({weight:g})" for signal, weight in page[side].items())
                parts.append(f"<p><b>{_h(words[side])}</b> {_h(signals)}</p>")
        if page["fix"] and not (page.get("sections") or {}).get("Fix"):
            parts.append(f"<p><b>{_h(words['fix'])}</b> {_with_code(page['fix'])}</p>")
        parts.append("</section>")
    parts.append("</main></body></html>\n")
    return "".join(parts)


def to_html(report: Report) -> str:
    """One HTML file without scripts or outside links; a policy in its head forbids both."""
    words = _words(report.lang)
    parts = [
        _html_head(report.subject.name, report.lang),
        f'<p class="dim">DPO Doctor · {_h(report.subject.name)} · {_h(report.created)}</p>',
        f"<h1>{_h(verdict_line(report))}</h1><p>{_h(counts_line(report))}</p>",
    ]
    if stopped := interrupted_line(report):
        parts.append(f"<p class='card'>{_h(stopped)}</p>")
    if curves := curves_svg(report, words):
        parts.append(f"<div class='card scroll'>{curves}</div>")
    if evaluation_shown.is_evaluation(report):
        parts.append(f"<style>{evaluation_shown.STYLE}</style>{evaluation_shown.html_tables(report, _h)}")
        if plot := evaluation_shown.points_svg(report):
            parts.append(f"<div class='card scroll'>{plot}</div>")
    by_code = {f.code: f for f in reversed(worst_first(report.findings))}
    parts += [_cause_html(cause, by_code, words) for cause in report.causes]
    if autopsy := report.curves.get("format_autopsy"):
        parts.append(f"<h2>{_h(words['autopsy'])}</h2><div class='card scroll'>{_autopsy_svg(autopsy, words)}</div>")
    if seen := preview_html(report.samples, words, visible):
        parts.append(f"<style>{PREVIEW_STYLE}</style><h2>{_h(words['preview'])}</h2>{seen}")
    answers = [s for s in report.samples if not is_preview(s) and not evaluation_shown.is_evaluation(report)]
    if answers:
        parts.append(f"<h2>{_h(words['samples'])}</h2><div class='card scroll'><table>")
        for sample in answers:
            cells = (sample.get("prompt", ""), sample.get("strategy", ""), sample.get("text", ""))
            parts.append("<tr>" + "".join(f"<td><code>{_h(cell)}</code></td>" for cell in cells) + "</tr>")
        parts.append("</table></div>")
    parts.append(f"<h2>{_h(words['findings'])}</h2><ul>")
    parts += [_finding_html(f, report.lang, words) for f in worst_first(report.findings)]
    parts.append("</ul>")
    parts.append(evaluation_shown.html_cases(report, _h))
    if report.skipped:
        parts.append(f"<h2>{_h(words['skipped'])}</h2><ul>")
        parts += [f"<li><span class='code'>{_h(s.code)}</span>{_h(s.reason)}</li>" for s in report.skipped]
        parts.append("</ul>")
    versions = ", ".join(f"{n} {v}" for n, v in report.versions.items())
    parts.append(f"<p class='dim'>DPO Doctor {_h(report.tool_version)} · {_h(versions)}<br>{_h(report.subject.fingerprint)}</p>")
    parts.append("</main></body></html>\n")
    return "".join(parts)


def _cause_html(cause: Cause, by_code: Mapping[str, Finding], words: Mapping[str, Any]) -> str:
    def listed(codes: Sequence[str]) -> str:
        items = (f"<li><span class='code'>{_h(c)}</span>{_h(by_code[c].message) if c in by_code else ''}</li>" for c in codes)
        return "<ul>" + "".join(items) + "</ul>" if codes else "<p>–</p>"

    next_test = f"<p><b>{_h(words['next_test'])}</b> {_h(cause.next_test)}</p>" if cause.next_test else ""
    return (
        f"<section class='card cause'><span class='sure'>{round(100 * cause.confidence)}%</span>"
        f"<h3>{_h(cause.title)}</h3><p>{_h(cause.explanation)}</p><p><b>{_h(words['fix'])}</b> {_h(cause.fix)}</p>{next_test}"
        f"<details><summary>{_h(words['for'])} / {_h(words['against'])}</summary><b>{_h(words['for'])}</b>"
        f"{listed(cause.supporting)}<b>{_h(words['against'])}</b>{listed(cause.opposing)}</details></section>"
    )


def _finding_html(finding: Finding, lang: str, words: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{_h(evidence_place(finding, e, lang))}</code></td><td><code>{_h(_short(evidence_value(finding, e, words), 2000))}</code></td></tr>"
        for e in finding.evidence
    )
    evidence = f"<details><summary>{_h(words['evidence'])}</summary><div class='scroll'><table>{rows}</table></div></details>" if rows else ""
    fix = f"<p><b>{_h(words['fix'])}</b> {_h(finding.fix)}</p>" if finding.fix else ""
    title = family_words(finding.code, lang).get("title", finding.check)
    return (
        f"<li class='finding {finding.severity}'><span class='code' title='{_h(title)}'>{_h(finding.code)}</span>"
        f"{_h(finding.message)}{fix}{evidence}</li>"
    )


def _autopsy_svg(rows: Sequence[Mapping[str, Any]], words: Mapping[str, Any]) -> str:
    """Bars of nats per token by prompt format, best first."""
    kept = sorted((r for r in rows if isinstance(r.get("nats"), (int, float))), key=lambda r: r["nats"])[:14]
    if not kept:
        return ""
    widest = max(float(r["nats"]) for r in kept) or 1.0
    bars = []
    for place, row in enumerate(kept):
        kind = "best" if row.get("best") else "declared" if row.get("declared") else ""
        marks = " · ".join(words[m] for m in ("best", "declared") if row.get(m))
        y = 26 * place
        width = 340 * float(row["nats"]) / widest
        label = f"{row.get('label') or row.get('format')}"
        bars.append(
            f"<text x='0' y='{y + 16}' font-size='13'>{_h(_short(label, 34))}</text>"
            f"<rect class='bar {kind}' x='240' y='{y + 4}' width='{width:.1f}' height='16' rx='3'/>"
            f"<text x='{248 + width:.1f}' y='{y + 16}' font-size='12'>{float(row['nats']):.3f} {_h(marks)}</text>"
        )
    height = 26 * len(kept)
    return f"<svg viewBox='0 0 760 {height}' width='760' height='{height}' role='img'>{''.join(bars)}</svg>"
