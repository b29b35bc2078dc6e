"""Finished reports on disk, found again by their id: what a share link opens, also after a restart.

One JSON file per report in the user's data folder ($DPO_DOCTOR_HOME, else the platform's). Whoever knows an id can
read that report, so ids are random and never listed.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnostics.report import Report
from pipeline.data_folder import data_folder
from pipeline.whole_file import written_whole

ID = re.compile(r"[A-Za-z0-9_-]{22,64}")
MAX_BYTES = 4 * 2**20
CLIPPED = 2000  # characters left of a string in a report that would be larger than MAX_BYTES


class ReportNotFound(Exception):
    """No readable report has this id."""


def new_id() -> str:
    """An id that can't be guessed: 128 random bits."""
    return secrets.token_urlsafe(16)


def save(report: Report, report_id: str | None = None) -> str:
    """Store `report`, whole or not at all. Returns its id. Raises ValueError for a malformed id, OSError."""
    report_id = report_id or new_id()
    path = _path(report_id)
    if path is None:
        raise ValueError(f"not a report id: {report_id!r}")
    text = report.dumps().encode("utf-8", errors="replace")
    if len(text) > MAX_BYTES:
        text = _clipped(report).dumps().encode("utf-8", errors="replace")
    if len(text) > MAX_BYTES:
        text = replace(_clipped(report), samples=(), curves={}).dumps().encode("utf-8", errors="replace")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with written_whole(path) as temporary:
        temporary.write_bytes(text)
    return report_id


def load(report_id: str) -> Report:
    """The report stored under this id. Raises ReportNotFound, whatever the reason."""
    path = _path(report_id)
    if path is None:
        raise ReportNotFound(report_id)
    return read_report(path)


def read_report(path: Path) -> Report:
    """A report from its JSON file. Raises ReportNotFound for anything that is none."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ReportNotFound(f"{path.name} is larger than a report")
        return Report.from_json(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportNotFound(f"{path.name}: {type(error).__name__}") from error


def _path(report_id: str) -> Path | None:
    if not isinstance(report_id, str) or not ID.fullmatch(report_id):
        return None
    return data_folder() / "reports" / f"{report_id}.json"


def _clipped(report: Report) -> Report:
    findings = tuple(
        replace(
            f, params=_clip(f.params), evidence=tuple(replace(e, value=_clip(e.value)) for e in f.evidence[:100])
        )
        for f in report.findings
    )  # fmt: skip
    return replace(report, findings=findings, samples=_clip(list(report.samples)), metrics=_clip(report.metrics))


def _clip(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= CLIPPED else value[:CLIPPED] + "…"
    if isinstance(value, dict):
        return {_clip(k): _clip(v) for k, v in list(value.items())[:1000]}
    if isinstance(value, (list, tuple)):
        return [_clip(v) for v in value[:1000]]
    return value
