"""PRF001, SFT001: whether the file gives rows at all, and which of its rows it doesn't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.pairs_subject import PairsSubject, percent
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds

# Problems of a whole file by the outcome that names them; any other one is `unreadable`.
OUTCOMES = {
    "lfs_pointer": "lfs_pointer", "empty": "empty", "no_known_columns": "no_known_columns", "not_text": "not_text",
    "not_json": "not_json", "no_row_usable": "no_row_usable", "unknown_format": "unknown_format",
    "missing_dependency": "missing_dependency", "unreadable": "unreadable",
}  # fmt: skip


def data_unreadable(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the file can be read as preference pairs or supervised rows, and how many of its rows can't.
    Why it matters:
        Loaders drop or misread broken rows without a word: a set that came as a pointer, a page of a website or half a
        file trains on something else than was meant.
    How it is measured:
        Every record is read; broken ones are counted by reason, with the lines where they begin: also those in which a
        key stands twice (JSON keeps the last and says nothing). From `left_out_warn` and `left_out_error` of all
        records on it is a warning and an error. Rows of other formats than most are read as well and named.
    Known false alarms:
        Files in which a comment or a header of another tool stands as a row of its own.
    Fix:
        Download the file anew (git lfs pull for a pointer), repair or delete the lines named, or name the columns with
        --column.
    References:
        https://git-lfs.com
        https://jsonlines.org
    """
    rows = subject.table.rows
    if subject.problem is not None:
        if rows:
            yield error("reading_failed", (subject.name, subject.detail), rows=rows, detail=subject.detail)
        else:
            yield _unreadable(subject)
            return
    if subject.table.stopped:
        yield info("reading_stopped", rows=rows)
    undecided = subject.left_out.get("axes_disagree", 0)
    broken = sum(subject.left_out.values()) - undecided
    lines = subject.left_out_lines
    evidence_of = [
        (f"{reason}: {count}", lines.get(reason, []))
        for reason, count in subject.left_out.most_common() if reason != "axes_disagree"
    ]  # fmt: skip
    share = broken / max(1, rows + broken)
    first, reason, _ = subject.first_left_out
    numbers: dict[str, Any] = {
        "rows": rows, "left_out": broken, "of": rows + broken, "percent": percent(share), "line": first,
        "reason": reason,
    }  # fmt: skip
    cut_short = "cut_short" in subject.left_out
    if cut_short:
        line = lines["cut_short"][0]
        yield error("file_cut_short", ("line", line), line=line, rows=rows)
    if broken and share >= limits["left_out_error"]:
        yield error("many_left_out", *evidence_of, **numbers)
    elif broken and share >= limits["left_out_warn"] and broken >= limits["data_rows_least"]:
        yield warning("some_left_out", *evidence_of, **numbers)
    elif broken > cut_short:
        yield info("few_left_out", *evidence_of, **numbers)
    if undecided:
        yield warning("axis_not_given", ("lines", lines.get("axes_disagree", [])), found=undecided, of=rows + undecided)
    if len(subject.formats) > 1:
        yield info("mixed_formats", ("formats", dict(subject.formats)), formats=", ".join(subject.formats), rows=rows)
    if not (broken or undecided or subject.problem or subject.table.stopped or len(subject.formats) > 1):
        yield ok(rows=rows, format=subject.format)


def _unreadable(subject: PairsSubject) -> Observation:
    """Why there is not one row."""
    outcome = OUTCOMES.get(subject.problem or "", "unreadable")
    line, reason, detail = subject.first_left_out
    evidence = (f"line {line}", detail) if outcome == "no_row_usable" else (subject.name, subject.detail)
    return error(outcome, evidence, detail=subject.detail, line=line, reason=reason)
