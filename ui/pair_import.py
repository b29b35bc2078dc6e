"""From a source to a set that can be worked on: recognised or asked about, read in, then judged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.pairs.hub_pairs import HubPairs
from pipeline.pairs.pair import Pair, text_of
from pipeline.pairs.rated_formats import PKU_AXES
from pipeline.pairs.read_pairs import LOOKED_AT, PairFile, PairSource
from pipeline.record_files import Unreadable
from ui import pair_hub, pair_jobs, pair_workspaces
from ui.allowed_paths import is_public
from ui.pair_case import PUBLIC_BYTES, GivenSet, check_size, checked_columns
from ui.pair_health import judge_later
from ui.pair_jobs import Job, Stopped
from ui.pair_workspaces import PAIRS, About
from ui.visitor_case import BadCase

MAX_COLUMNS = 60
MAX_STRATEGIES = 50
ROOM_FACTOR, ROOM_LEAST = 4, 200 * 2**20  # bytes of disk that a file of one byte needs, and what must stay free


@dataclass(frozen=True)
class Question:
    """What only the visitor knows. kind: `columns` (choices: their names with a value of each) or `axis`.

    source: as far as it is known.
    """

    kind: str
    source: GivenSet
    choices: dict[str, Any] = field(default_factory=dict)


def begin(source: GivenSet) -> str:
    """Start to import; the id of the set, which its page can be opened with at once. Raises BadCase, OSError."""
    set_id, _ = pair_workspaces.new_folder()
    pair_workspaces.keep_about(set_id, About(source.name, tokenizer=source.tokenizer, max_length=source.max_length,
                                             demo=source.demo))  # fmt: skip
    pair_jobs.start(Job(set_id, "import"), lambda job: _import(job, source))
    return set_id


def answer(job: Job, given: dict[str, Any]) -> None:
    """Go on with what the visitor answered. Raises BadCase where that is no answer to the question."""
    question = job.question
    if job.state != "asking" or not isinstance(question, Question):
        raise BadCase("pairs_gone")
    source = question.source
    if question.kind == "columns":
        source = replace(source, columns=checked_columns(given.get("columns"), question.choices))
    elif given.get("axis") in question.choices:
        source = replace(source, axis=given["axis"])
    else:
        raise BadCase("pairs_no_answer")
    pair_jobs.forget(job)
    pair_jobs.start(Job(job.set_id, "import"), lambda again: _import(again, source))


def _import(job: Job, source: GivenSet) -> None:
    try:
        job.at("pairs_job_looking")
        pair_hub.check_open(source.hub)
        job.question = _unknown(source)
        if job.question is None:
            _read(job, source)
    except Unreadable as reason:
        problem, detail = reason.args
        raise BadCase("pairs_unreadable", problem=problem, detail=detail) from None
    if job.question is None:
        judge_later(job.set_id, source)


def _parts(source: GivenSet, note: Any = None) -> Sequence[PairSource]:
    given: dict[str, Any] = {"columns": source.columns or None, "axis": source.axis or None, "prepare": note}
    if source.made is not None:
        return [source.made]
    if source.hub:
        return [HubPairs(source.hub, split=source.split, **given)]
    return [PairFile(path, **given) for path in source.paths]


def _unknown(source: GivenSet) -> Question | None:
    """What has to be asked before anything can be read: which columns, or which of PKU's two judgements."""
    columns: dict[str, Any] = {}
    looked_at = 0

    def note(record: dict[str, Any]) -> dict[str, Any]:
        nonlocal looked_at
        looked_at += 1
        for name, value in record.items() if looked_at <= LOOKED_AT else ():
            if len(columns) < MAX_COLUMNS and columns.get(str(name)) in (None, ""):
                columns[str(name)] = value
        return record

    kind = _parts(source, note)[0].kind
    if kind is None and columns and not source.columns:
        return Question("columns", source, columns)
    if not source.axis and "response_0" in columns and all(axis in columns for axis in PKU_AXES):
        return Question("axis", source, {axis: axis for axis in PKU_AXES})
    return None


def _read(job: Job, source: GivenSet) -> None:
    from pipeline.pair_workspace import Cancelled, Workspace

    folder = pair_workspaces.folder_of(job.set_id)
    size = sum(p.stat().st_size for p in source.paths)
    if shutil.disk_usage(folder).free < ROOM_FACTOR * size + ROOM_LEAST:
        raise BadCase("pairs_no_room")
    job.at("pairs_job_reading")
    parts = _parts(source)
    strategies: dict[str, None] = {}
    try:
        workspace = Workspace.create(folder / PAIRS, _noting(chain.from_iterable(parts), strategies),
                                     source_name=source.name, progress=job.progress, cancel=job.cancel)  # fmt: skip
    except Cancelled:
        raise Stopped from None
    total = workspace.counts().total
    workspace.close()
    reasons = sum((p.reasons for p in parts[1:]), parts[0].reasons)
    reason = reasons.most_common(1)[0][0] if reasons else ""
    if not total:
        (folder / PAIRS).unlink(missing_ok=True)
        raise BadCase("pairs_none_read", row=reason, n=f"{reasons.total():,}")
    formats = sum((p.formats for p in parts[1:]), parts[0].formats)
    pair_workspaces.keep_about(
        job.set_id, pair_workspaces.about(job.set_id), format=formats.most_common(1)[0][0],
        left_out=reasons.total(), left_out_why=reason, strategies=tuple(strategies),
        suffix=_suffix(source.paths),
    )  # fmt: skip


def _noting(pairs: Iterator[Pair], strategies: dict[str, None]) -> Iterator[Pair]:
    """The same pairs; which strategies they name is noted. Raises BadCase where a public machine takes no more."""
    characters = 0
    for pair in pairs:
        made = pair.source.get("rejected")
        name = made.get("strategy") if isinstance(made, dict) else None
        if isinstance(name, str) and name and len(strategies) < MAX_STRATEGIES:
            strategies[name] = None
        if is_public():
            characters += len(text_of(pair.prompt)) + len(text_of(pair.chosen)) + len(text_of(pair.rejected))
            check_size(min(characters, 2 * PUBLIC_BYTES))
        yield pair


def _suffix(paths: tuple[Path, ...]) -> str:
    suffix = paths[0].suffix.lower() if paths else ""
    return suffix if suffix in (".json", ".jsonl", ".csv", ".parquet") else ".jsonl"
