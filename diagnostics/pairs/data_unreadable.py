"""PRF001, SFT001: whether the file gives rows at all, and which of its rows it doesn't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def data_unreadable(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the file can be read as preference pairs or supervised rows, and how many of its rows can't.
    Why it matters:
        Loaders drop or misread broken rows without a word: a set that came as a pointer, a page of a website or half a
        file trains on something else than was meant.
    How it is measured:
        Every record is read; broken ones are counted by reason, with the lines where they begin. Duplicate keys within
        one object (JSON keeps the last) and rows of other formats than the rest are counted too.
    Known false alarms:
        Files in which a comment or a header of another tool stands as a row of its own.
    Fix:
        Download the file anew (git lfs pull for a pointer), repair or delete the lines named, or name the columns with
        --column.
    References:
        https://git-lfs.com
        https://jsonlines.org
    """
    if subject.problem is not None:
        name = subject.problem
        evidence = (subject.name, subject.detail)
        if name == "lfs_pointer":
            yield error("lfs_pointer", evidence, detail=subject.detail)
        elif name == "empty":
            yield error("empty", evidence, detail=subject.detail)
        elif name == "no_known_columns":
            yield error("no_known_columns", evidence, detail=subject.detail)
        elif name == "not_text":
            yield error("not_text", evidence, detail=subject.detail)
        elif name == "not_json":
            yield error("not_json", evidence, detail=subject.detail)
        elif name == "no_row_usable":
            yield error("no_row_usable", evidence, detail=subject.detail)
        else:
            yield error("unreadable", evidence, detail=subject.detail, problem=name)
        return
    rows = subject.table.rows
    undecided = subject.left_out.get("axes_disagree", 0)
    broken = sum(subject.left_out.values()) - undecided
    lines = subject.left_out_lines
    evidence_of = [(f"{reason}: {count}", lines.get(reason, [])) for reason, count in subject.left_out.most_common()]
    share = broken / max(1, rows + broken)
    numbers: dict[str, Any] = {"rows": rows, "left_out": broken, "of": rows + broken, "percent": round(100 * share, 2)}
    first = min((line for some in lines.values() for line in some), default=0)
    if "cut_short" in subject.left_out:
        line = lines["cut_short"][0]
        yield error("file_cut_short", ("line", line), line=line, rows=rows)
    if broken and share >= limits["left_out_error"]:
        yield error("many_left_out", *evidence_of, line=first, **numbers)
    elif broken and share >= limits["left_out_warn"] and broken >= limits["data_rows_least"]:
        yield warning("some_left_out", *evidence_of, line=first, **numbers)
    elif broken:
        yield info("few_left_out", *evidence_of, line=first, **numbers)
    if undecided:
        yield warning("axis_not_given", ("lines", lines.get("axes_disagree", [])), found=undecided, of=rows + undecided)
    if len(subject.formats) > 1:
        yield info("mixed_formats", ("formats", dict(subject.formats)), formats=", ".join(subject.formats), rows=rows)
    if not broken and not undecided:
        yield ok(rows=rows, format=subject.format)
