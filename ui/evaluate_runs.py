"""Evaluations as the page knows them: runs of `python -m pipeline score|compare|replay|abilities`, as
ui/command_runs.py keeps them, and stored reports of which the folder is gone.

The command's standard output, one JSON document with the result and the report, lies in `printed.json`, how far it is
in `progress.json`. A finished run's report is stored under the run's own id, so that one link opens either.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from diagnostics import report_store
from diagnostics.report import Report
from diagnostics.report_store import ReportNotFound
from pipeline.evaluation.results import KINDS, MOST_BYTES, SCHEMA, read_result_file
from pipeline.evaluation.run_progress_file import read_progress_file
from pipeline.refusal import Refused
from ui.command_runs import (
    ABOUT,
    COMMAND,
    POLITE_SECONDS,
    CommandRuns,
    Status,
    Tell,
    lasting,
    read_object,
    write_object,
)
from ui.evaluate_case import check_public, command_line, is_named, resolved
from ui.evaluate_panel import FOLDER, Checked, Headline, Panel, Shown
from ui.evaluate_panels import panels
from ui.visitor_case import BadCase

__all__ = ["COMMAND", "POLITE_SECONDS", "Status", "lasting"]

PRINTED, PROGRESS, KEPT = "printed.json", "progress.json", "kept.json"
MAX_LISTED = 40


@dataclass(frozen=True)
class About:
    """What was asked. arguments: as the form made them, see Checked. asked: the form it came from."""

    kind: str
    name: str
    arguments: tuple[str, ...]
    created: float
    lang: str = "en"
    asked: dict[str, str] = field(default_factory=dict)


def _last_word(folder: Path) -> int | None:
    """What the result says, where nobody saw the process end."""
    try:
        kind = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["kind"]
        return 3 if read_result_file(folder / panels()[kind].result).get("interrupted") else 0
    except (OSError, ValueError, TypeError, KeyError, Refused):
        return None


_runs = CommandRuns("evaluations", _last_word, stdout=PRINTED)
folder_of, check_room, status, stop, log_end, refusal = (
    _runs.folder_of, _runs.check_room, _runs.status, _runs.stop, _runs.log_end, _runs.refusal,
)  # fmt: skip


def panel_of(kind: Any) -> Panel:
    """Raises BadCase."""
    found = panels().get(kind) if isinstance(kind, str) else None
    if found is None:
        raise BadCase("evaluations_gone")
    return found


def about(run_id: Any) -> About:
    """Raises BadCase."""
    try:
        held = json.loads((folder_of(run_id) / ABOUT).read_text(encoding="utf-8"))
        found = About(**{**held, "arguments": tuple(held["arguments"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise BadCase("evaluations_gone") from None
    panel_of(found.kind)
    return found


def command_of(arguments: Sequence[str]) -> tuple[str, ...]:
    """With what the page needs of a command."""
    return (*arguments, "--progress", f"{FOLDER}/{PROGRESS}", "--format", "json")


def start(kind: str, checked: Checked, asked: Mapping[str, str], lang: str) -> str:
    """Begin a run; its id. Names of the demo and of other tabs are made paths of first. Raises BadCase, OSError."""
    panel_of(kind)
    _runs.check_room()
    run_id, folder = _runs.place_for(None)
    known = About(kind, checked.name, tuple(checked.arguments), time.time(), lang, dict(asked))
    command = command_line(checked.arguments, ".")
    _runs.start(run_id, asdict(known), command, (), lambda tell: _prepared(known, folder, tell))
    return run_id


def again(run_id: str) -> None:
    """Run the same once more in the same folder. Raises BadCase, OSError."""
    known, folder = about(run_id), folder_of(run_id)
    _runs.check_room()
    _runs.begin(run_id, (), lambda tell: _prepared(known, folder, tell))


def _prepared(known: About, folder: Path, tell: Tell) -> list[str]:
    """The arguments with paths in place of names and FOLDER. Raises what `resolved` raises."""
    check_public(known.arguments)
    given = [resolved(one, tell) if is_named(one) else one for one in known.arguments]
    (folder / COMMAND).write_text(command_line(given, ".") + "\n", encoding="utf-8")
    more = (*command_of(given), "--lang", known.lang)
    return [one.replace(FOLDER, str(folder)) for one in more]


def remove(run_id: Any) -> None:
    """Delete a run with all it made; its stored report stays, whose link may have been given away. Raises BadCase."""
    _runs.remove(run_id)


def recent(seen: Sequence[str] = ()) -> list[tuple[str, About, Status]]:
    """Runs that a page may list, newest first: on one's own machine all, in public those its browser has seen."""
    found = []
    for run_id in _runs.listed(seen):
        with suppress(BadCase):
            found.append((run_id, about(run_id), status(run_id)))
    return sorted(found, key=lambda one: -one[1].created)[:MAX_LISTED]


# --- how far it is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """stage: slug; empty before the command said any. left: seconds, None where they can't be told."""

    stage: str = ""
    done: int = 0
    total: int | None = None
    of: str = ""
    left: float | None = None


_began: dict[tuple[str, str], tuple[float, int]] = {}  # (run, stage) -> when it was first seen, how far it was


def progress(run_id: str) -> Progress:
    """Raises BadCase."""
    found = read_progress_file(folder_of(run_id) / PROGRESS)
    if found is None:
        return Progress()
    stage, done, total = str(found.get("stage", ""))[:60], int(found["done"]), found.get("total")
    total = total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None
    if len(_began) > 500:
        _began.clear()
    at = time.monotonic()
    first, then = _began.setdefault((run_id, stage), (at, done))
    left = None
    if total and done > then and at - first > 2:
        left = (total - done) * (at - first) / (done - then)
    return Progress(stage, done, total, str(found.get("of", ""))[:20], left)


# --- results -----------------------------------------------------------------------------------------------------


def shown(run_id: Any) -> Shown:
    """What a page shows of a run that has a result, or of a stored report. Raises BadCase where there is neither."""
    try:
        known, folder = about(run_id), folder_of(run_id)
    except BadCase:
        return _stored(run_id)
    found = _result(folder, panel_of(known.kind).result)
    if found is None:
        raise BadCase("evaluate_no_result")
    result, report = found
    named = result.get("rows_file")
    rows = folder / named if isinstance(named, str) and named and Path(named).name == named else None
    return Shown(
        str(run_id), known.kind, result, report, folder, rows if rows and rows.is_file() else None, known.asked
    )


def has_result(run_id: Any) -> bool:
    """Also one of a run that was stopped. Raises BadCase."""
    return (folder_of(run_id) / panel_of(about(run_id).kind).result).is_file()


def _stored(run_id: Any) -> Shown:
    if isinstance(run_id, str) and is_elsewhere(run_id):
        path = _elsewhere[run_id]
        with suppress(OSError, ValueError, Refused):
            found = _read(path, path.stat().st_mtime_ns, path.stat().st_size)
            if found is not None:
                return Shown(run_id, str(found[0]["kind"]), *found)
    try:
        report = report_store.load(run_id)
    except ReportNotFound:
        raise BadCase("evaluations_gone") from None
    result = report.curves.get("result")
    if report.subject.kind not in panels() or not isinstance(result, Mapping):
        raise BadCase("evaluations_gone")
    return Shown(str(run_id), report.subject.kind, result, report)


_elsewhere: dict[str, Path] = {}  # results that are no run's, by the id that they are shown under


def opened_elsewhere(path: Path) -> str:
    """An id under which the page shows a result that is no run's. Its report is stored, so that the link lasts. Raises
    BadCase, OSError, Refused."""
    there = path.stat()
    found = _read(path, there.st_mtime_ns, there.st_size)
    if found is None:
        raise BadCase("evaluate_no_result")
    told = hashlib.blake2b(f"{path}\0{there.st_mtime_ns}".encode(), digest_size=16).digest()
    made = base64.urlsafe_b64encode(told).decode().rstrip("=")
    if found[1] is not None and made not in _elsewhere:
        report_store.save(found[1], made)
    _elsewhere[made] = path
    return made


def is_elsewhere(run_id: str) -> bool:
    """Whether it is a result that is no run's and still there."""
    return run_id in _elsewhere and _elsewhere[run_id].is_file()


def is_evaluation(report_id: Any) -> bool:
    """Whether a stored report is of an evaluation."""
    try:
        return isinstance(report_id, str) and report_store.load(report_id).subject.kind in KINDS
    except ReportNotFound:
        return False


def _result(folder: Path, name: str) -> tuple[Mapping[str, Any], Report | None] | None:
    """The result of a run and its report; None without a result."""
    for path in (folder / PRINTED, folder / name):
        with suppress(OSError, ValueError, Refused):
            there = path.stat()
            if there.st_size and (found := _read(path, there.st_mtime_ns, there.st_size)) is not None:
                return found
    return None


@lru_cache(maxsize=6)
def _read(path: Path, changed: int, size: int) -> tuple[Mapping[str, Any], Report | None] | None:
    """changed, size: of the file, so that one is read once. Raises OSError, ValueError, Refused."""
    if size > 2 * MOST_BYTES:
        return None
    result = json.loads(path.read_bytes())
    if not isinstance(result, dict) or result.get("schema") != SCHEMA or result.get("kind") not in KINDS:
        return None
    held = result.pop("report", None)
    report = None
    if isinstance(held, Mapping):
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            report = Report.from_json(held)
    if report is None and path.name == PRINTED:
        return None  # the result's own file is judged instead
    return result, report if report is not None else _diagnosed(path)


def _diagnosed(path: Path) -> Report | None:
    """What the command would have said, had it come to that: it was stopped, or its diagnosis failed."""
    from diagnostics.diagnose_evaluation import diagnose_evaluation

    try:
        return diagnose_evaluation(path)
    except Exception:  # figures without a diagnosis are better than a dead page
        return None


@lru_cache(maxsize=400)
def _headline(path: Path, changed: int, kind: str, lang: str) -> Headline:
    return panel_of(kind).headline(read_result_file(path), lang)


def headline(run_id: str, known: About, lang: str) -> Headline | None:
    """The result of a run in one line; None without one."""
    with suppress(OSError, Refused, BadCase, KeyError, TypeError, ValueError, AttributeError):
        path = folder_of(run_id) / panel_of(known.kind).result
        return _headline(path, path.stat().st_mtime_ns, known.kind, lang)
    return None


def keep_report(one: Shown) -> None:
    """Store the report of a finished run under the run's id. Raises OSError."""
    if one.folder is None or one.report is None:
        return
    changed = str((one.folder / panel_of(one.kind).result).stat().st_mtime_ns)
    if read_object(one.folder / KEPT).get("changed") != changed:  # new, or run anew
        report_store.save(one.report, one.id)
        write_object(one.folder / KEPT, {"changed": changed, "verdict": one.report.verdict})


def tone(run_id: str) -> str:
    """The verdict of a run's stored report; empty without one. Raises BadCase."""
    held = read_object(folder_of(run_id) / KEPT).get("verdict")
    return held if held in ("healthy", "warnings", "problems", "not_usable") else ""
