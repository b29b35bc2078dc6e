"""How healthy a set is: the report of it as it was read, beside that of what became of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostics.report import Finding, Report
from diagnostics.report_store import ReportNotFound, read_report
from diagnostics.words import say
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole
from ui import pair_jobs, pair_workspaces, report_details, report_view
from ui.interface_words import words
from ui.pair_case import GivenSet
from ui.pair_filters import finding_name
from ui.pair_jobs import Job
from ui.report_view import MARKS
from ui.safe_html import tag, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnostics.diagnose_pairs import PairsDiagnosis
    from pipeline.pair_workspace import Workspace

BEFORE, NOW = "before.json", "now.json"
_ORDER = ("error", "warning", "info", "ok")


def judge_later(set_id: str, source: GivenSet | None = None) -> Job:
    """Judge a set in the background; its rows get their findings and measures. Raises BadCase.

    source: where it was just read from, whose report is the one to compare with.
    """
    return pair_jobs.start(Job(set_id, "judge"), lambda job: _judge(job, source))


def _judge(job: Job, source: GivenSet | None) -> None:
    from diagnostics.diagnose_pairs import diagnose_rows

    folder = pair_workspaces.folder_of(job.set_id)
    known = pair_workspaces.about(job.set_id)
    first = not (folder / BEFORE).is_file()
    with pair_workspaces.opened(job.set_id) as workspace:
        job.at("pairs_job_judging", workspace.counts().total)
        watched: dict[str, Any] = {"name": known.name, "cancel": job.cancel, "on_rows": job.progress}
        positions: list[int] | None = None
        if first and source is not None and len(source.paths) == 1:
            found = _of_file(job, source.paths[0], source, watched)
        else:
            positions = []
            found = diagnose_rows(_kept(workspace, positions, discarded=first), **watched)
        job.progress(job.n)
        _mark(workspace, found, positions)
    for name in (BEFORE, NOW) if first else (NOW,):
        with written_whole(folder / name) as temporary:
            temporary.write_text(found.report.dumps(), encoding="utf-8", errors="replace")


def _of_file(job: Job, path: Path, source: GivenSet, watched: dict[str, Any]) -> PairsDiagnosis:
    """Where the tokenizer can't be had, the rest is judged without it, and the job's note says so."""
    from diagnostics.diagnose_pairs import diagnose_pairs

    given = {"columns": source.columns or None, "axis": source.axis or None, **watched}
    if source.tokenizer:
        try:
            return diagnose_pairs(path, tokenizer=source.tokenizer, max_length=source.max_length, **given)
        except Refused as refused:
            job.note = refused.sentence
    return diagnose_pairs(path, **given)


def _kept(workspace: Workspace, positions: list[int], discarded: bool) -> Iterator[Pair]:
    """Pairs as they are now. positions: filled with where each stands."""
    for position, pair in enumerate(workspace.pairs(discarded=True)):
        if discarded or pair.status != "discarded":
            positions.append(position)
            yield pair


def _mark(workspace: Workspace, found: PairsDiagnosis, positions: list[int] | None) -> None:
    """Findings and measures onto the rows."""
    import numpy as np

    total = workspace.counts().total
    places = np.arange(total) if positions is None else np.asarray(positions, dtype=np.int64)
    severe = {f.signal for f in found.report.findings if f.severity != "ok"}
    workspace.set_flags({name: places[rows].tolist() for name, rows in found.rows.items() if name in severe})
    measures = {}
    for name, values in found.measures.items():
        spread = np.full(total, np.nan, dtype=np.float32)
        spread[places[: len(values)]] = values[: len(places)]
        measures[name] = spread
    workspace.set_measures(measures)


def reports(set_id: str) -> tuple[Report | None, Report | None]:
    """As it was read, and as it was when judged last."""
    found: list[Report | None] = [None, None]
    for place, name in enumerate((BEFORE, NOW)):
        with suppress(ReportNotFound):
            found[place] = read_report(pair_workspaces.folder_of(set_id) / name)
    return found[0], found[1]


def stale(set_id: str) -> bool:
    """Whether something was changed since it was judged last."""
    try:
        return pair_workspaces.changed_at(set_id) > (pair_workspaces.folder_of(set_id) / NOW).stat().st_mtime
    except OSError:
        return False


def older_than(set_id: str, changed_at: str) -> bool:
    """Whether the last check was before this time (ISO 8601): what it found in a pair changed since may be gone."""
    try:
        judged = (pair_workspaces.folder_of(set_id) / NOW).stat().st_mtime
        return datetime.fromisoformat(changed_at).timestamp() > judged
    except (OSError, ValueError):
        return False


def badge(set_id: str, lang: str) -> str:
    """Errors and warnings before and now, for the button that opens the whole."""
    before, now = reports(set_id)
    if now is None:
        return ""
    parts = [_counts(before)] if before is not None and _numbers(before) != _numbers(now) else []
    parts.append(_counts(now))
    return tag("span", "dd-badge", " → ".join(parts))


def _numbers(report: Report) -> tuple[int, int]:
    return sum(f.severity == "error" for f in report.findings), sum(f.severity == "warning" for f in report.findings)


def _counts(report: Report) -> str:
    shown = (
        tag("span", f"dd-chip dd-{s}", f"{MARKS[s]} {n}") for s, n in zip(_ORDER, _numbers(report), strict=False) if n
    )
    return " ".join(shown) or tag("span", "dd-chip dd-ok", MARKS["ok"])


def page(workspace: Workspace, set_id: str, lang: str) -> str:
    """Before and after, finding by finding, then the verdict on the set as it is."""
    said = words(lang)
    before, now = reports(set_id)
    job = pair_jobs.find(set_id, "judge")
    if now is None or before is None:
        if job is not None and job.live:
            return tag("section", "dd-card", tag("p", "dd-dim", text(said["pairs_judging_first"])))
        again = _judge_button("pairs_judge", said)
        return tag("section", "dd-card", tag("p", "dd-dim", text(said["pairs_not_judged"])), again)
    line = said["pairs_stale" if stale(set_id) else "pairs_fresh"]
    head = tag(
        "div", "dd-plot-head", tag("h3", "dd-h", text(said["pairs_health"])), _judge_button("pairs_judge_again", said)
    )
    both = _both(say(before, lang), say(now, lang))
    unchecked = {entry.code for entry in now.skipped}
    rows = [_compared(s, old, new, s.partition("/")[0] in unchecked, workspace, lang) for s, old, new in both]
    shown = tag("p", "dd-dim", text(said["pairs_health_fine"]))
    if rows:
        names = ("pairs_health_finding", "pairs_health_before", "pairs_health_now", "")
        heads = tag("tr", "", *(tag("th", "", text(said[n]) if n else "", scope="col") for n in names))
        shown = tag(
            "div", "dd-scroll", tag("table", "dd-health", tag("thead", "", heads), tag("tbody", "", *rows)), tabindex=0
        )
    table = tag("section", "dd-card", head, tag("p", "dd-dim", text(line)), shown)
    current = say(now, lang)
    return table + report_view.verdict(current, lang) + report_details.findings(current, lang)


def _judge_button(entry: str, said: Any) -> str:
    return tag("button", "dd-do", text(said[entry]), type="button", data_judge=True)


def _both(before: Report, now: Report) -> list[tuple[str, Finding | None, Finding | None]]:
    """Findings that are not fine in one of both, the worst first."""
    old, new = ({f.signal: f for f in r.findings if f.severity != "ok"} for r in (before, now))

    def weight(signal: str) -> int:
        return min(_ORDER.index(f.severity) for f in (old.get(signal), new.get(signal)) if f is not None)

    return [(s, old.get(s), new.get(s)) for s in sorted({*old, *new}, key=lambda s: (weight(s), s))]


def _compared(
    signal: str, old: Finding | None, new: Finding | None, unchecked: bool, workspace: Workspace, lang: str
) -> str:  # fmt: skip
    """One finding before and now. unchecked: its check did not run now, so that nothing can be said of it."""
    said = words(lang)
    name = tag("th", "", text(finding_name(signal, lang)), " ", tag("span", "dd-code", text(signal.partition("/")[0])),
               scope="row")  # fmt: skip
    held = workspace.flags().get(signal, 0) if new is not None else 0
    show = tag("button", "dd-link", text(said["pairs_show_them"]), type="button", data_finding=signal) if held else ""
    after = tag("span", "dd-dim", text(said["pairs_unchecked"])) if unchecked and new is None else _amount(new, said)
    return tag("tr", "", name, tag("td", "", _amount(old, said)), tag("td", "", after), tag("td", "", show))


def _amount(finding: Finding | None, said: Any) -> str:
    if finding is None:
        return tag("span", "dd-mark dd-ok", MARKS["ok"], aria_label=said["pairs_gone_finding"])
    n = finding.params.get("rows")
    shown = f"{n:,}" if isinstance(n, int) else ""
    percent = finding.params.get("percent")
    share = f" · {percent:.3g} %" if shown and isinstance(percent, (int, float)) else ""
    return report_view.mark(finding.severity) + " " + text(shown) + tag("span", "dd-share-of", text(share))
