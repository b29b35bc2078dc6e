"""Runs on Hugging Face Jobs, found again: by the folders of one's own machine, in public by the visitor's login alone.

A token is handed through to each question and kept nowhere; what is remembered of an answer is kept by its fingerprint,
so that another login doesn't see it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostics.report_store import new_id
from pipeline.data_folder import data_folder
from pipeline.refusal import Refused
from pipeline.training import hub_jobs
from pipeline.training.hub_calls import hidden
from pipeline.training.hub_jobs import HubRun, HubStatus, read_run
from pipeline.training.hub_logs import follow_logs
from pipeline.training.hub_prepared import Prepared, log_tail, recovered
from pipeline.training.job_folder import LOG, RECIPE
from ui.allowed_paths import is_public
from ui.visitor_case import BadCase

PREFIX = "hf--"
ID = re.compile(r"hf--([A-Za-z0-9](?:[A-Za-z0-9_.]|-(?!-)){0,95})--([A-Za-z0-9][\w.-]{0,60})")
STATUS_SECONDS, TAIL_SECONDS = 4.0, 10.0  # how long an answer of the Hub is shown before it is asked again
MAX_KEPT, MAX_READERS, MAX_FOLDERS = 200, 8, 200
_lock = threading.Lock()


@dataclass
class _Kept:
    """What the Hub said last of one run to one login."""

    run: HubRun
    status: HubStatus | None = None
    asked: float = 0.0
    tail: str = ""
    problem: Refused | None = None
    read: float = 0.0
    reading: bool = False
    whole: bool = False


_kept: dict[str, _Kept] = {}


def id_of(run: HubRun) -> str:
    """As the address of the page has it."""
    return f"{PREFIX}{run.namespace}--{run.id}"


def _folders() -> Iterator[Path]:
    """Newest first; none in public."""
    if is_public():
        return
    root = data_folder() / "hub"
    with suppress(OSError):
        yield from sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: -p.stat().st_mtime)[:MAX_FOLDERS]


def own_runs() -> list[HubRun]:
    """That were started from this machine, newest first; none in public."""
    found = [run for run in map(read_run, _folders()) if run is not None]
    return sorted(found, key=lambda run: -run.created)


def started(made: Prepared, token: str, namespace: str | None) -> str:
    """Start it; its id. Raises Refused, OSError."""
    folder = None
    if not is_public():
        folder = data_folder() / "hub" / new_id()
        folder.mkdir(parents=True, mode=0o700)
        (folder / RECIPE).write_text(made.recipe.as_yaml(), encoding="utf-8")
    try:
        run = hub_jobs.start(made.recipe.as_yaml(), made.files, made.machine, made.timeout, token, namespace,
                             accelerate=made.accelerate, folder=folder)  # fmt: skip
    except BaseException:
        if folder is not None and read_run(folder) is None:  # what may run stays in the list
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return id_of(run)


def _key(job_id: str, token: str) -> str:
    return hashlib.blake2b(f"{job_id}\n{token}".encode()).hexdigest()


def found(job_id: Any, token: str) -> tuple[HubRun, Path | None]:
    """(the run, its folder here). Raises BadCase for no such id, Refused where the Hub shows this login no such run."""
    named = ID.fullmatch(job_id) if isinstance(job_id, str) else None
    if named is None:
        raise BadCase("train_gone")
    namespace, run_id = named.groups()
    for folder in _folders():
        run = read_run(folder)
        if run is not None and (run.id, run.namespace) == (run_id, namespace):
            return run, folder
    key = _key(job_id, token)
    with _lock:
        kept = _kept.get(key)
    if kept is None:
        kept = _keep(key, recovered(run_id, namespace, token))
    return kept.run, None


def _keep(key: str, run: HubRun) -> _Kept:
    with _lock:
        for old in list(_kept)[: max(0, len(_kept) - MAX_KEPT + 1)]:
            del _kept[old]
        return _kept.setdefault(key, _Kept(run))


def _of(run: HubRun, token: str) -> _Kept:
    key = _key(id_of(run), token)
    with _lock:
        kept = _kept.get(key)
    return kept or _keep(key, run)


def status_of(run: HubRun, token: str) -> HubStatus:
    """How it stands, as the Hub said some seconds ago at most. Raises Refused."""
    kept = _of(run, token)
    old = kept.status
    if old is not None and (old.end or time.monotonic() - kept.asked < STATUS_SECONDS):
        return old
    kept.status, kept.asked = hub_jobs.status(run, token), time.monotonic()
    return kept.status


def cancelled(run: HubRun, token: str) -> None:
    """Raises Refused."""
    hub_jobs.cancel(run, token)
    _of(run, token).asked = 0.0


def output_of(run: HubRun, folder: Path | None, token: str, over: bool) -> tuple[str, Refused | None]:
    """(the end of its output, why it can't be followed). With a folder followed into it, otherwise read anew."""
    if folder is not None:
        try:
            problem = follow_logs(run, token, folder / LOG).problem
        except Refused as refused:
            problem = refused
        with suppress(OSError), (folder / LOG).open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 16_000))
            return file.read().decode("utf-8", errors="replace"), problem
        return "", problem
    kept = _of(run, token)
    with _lock:
        busy = sum(one.reading for one in _kept.values())
        due = not kept.reading and not kept.whole and time.monotonic() - kept.read > TAIL_SECONDS
        if due and busy < MAX_READERS:
            kept.reading = True
            threading.Thread(target=_read, args=(kept, token, over), name="hub-tail", daemon=True).start()
    return kept.tail, kept.problem


def _read(kept: _Kept, token: str, over: bool) -> None:
    try:
        kept.tail = hidden(log_tail(hub_jobs.find(kept.run, token), token), token)[-16_000:]
        kept.whole, kept.problem = over and bool(kept.tail), None
    except Refused as refused:
        kept.problem = refused
    finally:
        kept.read, kept.reading = time.monotonic(), False
