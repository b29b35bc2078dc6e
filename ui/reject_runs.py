"""Runs that make rejected answers: each a process with a folder of its own, which goes on when page and app end.

The folder holds what was asked (`about.json`), the command (`command.txt`), all output (`log.txt`), what became of the
process (`status.json`) and the command's own files. On one's own machine it lies in the user's data folder, in public
below the temporary folder for a day. Whoever knows an id may see that run, so ids are random.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from diagnostics.report_store import ID, new_id
from pipeline import processes
from pipeline.data_folder import data_folder
from pipeline.running_process import Process, process_of, this_process
from pipeline.training.launch_line import project_path
from pipeline.whole_file import written_whole
from ui.allowed_paths import is_public
from ui.private_folder import private_folder
from ui.visitor_case import BadCase

ABOUT, STATUS, COMMAND, LOG, OUTPUT = "about.json", "status.json", "command.txt", "log.txt", "rejects.json"
PUBLIC_RUNS = 100  # folders on a public machine
PUBLIC_AT_ONCE, AT_ONCE = 2, 4  # processes: more would only make each other slow
PUBLIC_CPU_SECONDS = 900
MAX_SHOWN = 12
LOG_END = 4000  # bytes of the log's end that are looked at
POLITE_SECONDS = 15.0  # after that a run that was told to stop may be ended
LIVE = ("preparing", "running", "stopping")


@dataclass(frozen=True)
class About:
    """What was asked. arguments: of `python -m pipeline`, with the paths of this machine. command: the same as a line
    to copy. demo: names of demo models that are built first. preview: only so many rows, 0 for a whole run. asked: the
    form it came from. partner: id of the run it is compared with.
    """

    name: str
    arguments: tuple[str, ...]
    command: str
    created: float
    demo: tuple[str, ...] = ()
    preview: int = 0
    model: str = ""
    data: str = ""
    partner: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """state: preparing | running | stopping | done | stopped | failed | broken. line: why it failed, or what it is
    preparing. began, ended: seconds since 1970, 0 where not yet."""

    state: str
    line: str = ""
    began: float = 0.0
    ended: float = 0.0
    asked_to_stop: float = 0.0

    @property
    def live(self) -> bool:
        return self.state in LIVE


@dataclass
class _Preparing:
    cancel: threading.Event = field(default_factory=threading.Event)
    line: str = ""


_preparing: dict[str, _Preparing] = {}
_lock = threading.RLock()


def lasting() -> bool:
    """Whether a run is still there in a week."""
    return not is_public()


def _root() -> Path:
    if is_public():
        return private_folder("rejects")
    root = data_folder() / "rejects"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def folder_of(run_id: Any) -> Path:
    """The folder of a run. Raises BadCase where there is none under this id."""
    if isinstance(run_id, str) and ID.fullmatch(run_id):
        with suppress(OSError):
            folder = _root() / run_id
            if (folder / ABOUT).is_file():
                return folder
    raise BadCase("rejects_gone")


def output_of(run_id: Any) -> Path:
    """Raises BadCase."""
    return folder_of(run_id) / OUTPUT


def candidates_of(run_id: Any) -> Path:
    """Raises BadCase."""
    return folder_of(run_id) / f"{OUTPUT}.candidates.jsonl"


def work_of(run_id: Any) -> Path:
    """Where a run keeps what isn't written yet. Raises BadCase."""
    return folder_of(run_id) / f"{OUTPUT}.work"


def place_for(run_id: str | None) -> tuple[str, Path]:
    """An id for a run, the one given where it is free, and where its output will lie. Raises OSError."""
    root = _root()
    made = run_id if run_id is not None and not (root / run_id).exists() else new_id()
    return made, root / made / OUTPUT


def has_begun(run_id: Any) -> bool:
    """Whether its command has written anything yet that it can go on from. Raises BadCase."""
    folder = folder_of(run_id)
    return (folder / f"{OUTPUT}.run.json").is_file()


def check_room(more: int = 1) -> None:
    """Raises BadCase where as many runs are live as this machine takes, or in public as many are kept."""
    if is_public() and len(_folders()) + more > PUBLIC_RUNS:
        raise BadCase("rejects_too_many")
    with _lock:
        live = len(_preparing) + sum(_alive(folder) for folder in _folders())
    if live + more > (PUBLIC_AT_ONCE if is_public() else AT_ONCE):
        raise BadCase("rejects_busy")


def start(run_id: str, about: About, build: Callable[[Callable[[str], None]], None] | None = None) -> None:
    """Begin a new run. build: makes what it needs first, telling each step. Raises OSError."""
    folder = _root() / run_id
    folder.mkdir(mode=0o700)
    _write(folder / ABOUT, asdict(about))
    (folder / COMMAND).write_text(about.command + "\n", encoding="utf-8")
    begin(run_id, about.arguments, build)


def begin(
    run_id: str, arguments: Sequence[str], build: Callable[[Callable[[str], None]], None] | None = None
) -> None:  # fmt: skip
    """Start the process of a run that has its folder, or prepare what it needs and start it then. Raises BadCase where
    it is live already, OSError."""
    folder = folder_of(run_id)
    with _lock:
        if run_id in _preparing or _alive(folder):
            raise BadCase("pairs_busy")
        if build is None:
            _start_process(folder, arguments)
            return
        _preparing[run_id] = _Preparing()
        _write(folder / STATUS, {"state": "preparing", "began": time.time()})
    threading.Thread(
        target=_prepare, args=(run_id, arguments, build), name=f"rejects-{run_id[:6]}", daemon=True
    ).start()


class Stopped(Exception):
    """The visitor stopped the run before its process began."""


def _prepare(run_id: str, arguments: Sequence[str], build: Callable[[Callable[[str], None]], None]) -> None:
    mine = _preparing[run_id]

    def tell(line: str) -> None:
        mine.line = line
        if mine.cancel.is_set():
            raise Stopped

    folder = folder_of(run_id)
    problem: dict[str, Any] = {"state": "ended", "ended": time.time()}
    try:
        tell("")
        build(tell)
        tell("")
        with _lock:
            _start_process(folder, arguments)
        return
    except Stopped:
        problem["exit"] = 3
    except Exception as error:
        problem |= {"exit": 2, "line": (str(error) or type(error).__name__).splitlines()[0][:300]}
    finally:
        with _lock:
            _preparing.pop(run_id, None)
    with suppress(OSError):
        _write(folder / STATUS, problem)


def _start_process(folder: Path, arguments: Sequence[str]) -> None:
    import psutil

    with open(folder / LOG, "ab") as log:
        log.write(f"$ {(folder / COMMAND).read_text(encoding='utf-8').strip()}\n".encode())
        log.flush()
        process = processes.start(
            [sys.executable, "-m", "pipeline", *arguments], stdout=log, stderr=log, own_session=True,
            cpu_seconds=PUBLIC_CPU_SECONDS if is_public() else None,
            env=project_path(),
        )  # fmt: skip
    began = time.time()
    born = Process(process.pid, 0.0)
    with suppress(psutil.Error):  # it ended at once
        born = this_process(process.pid)
    known = {"state": "running", "pid": born.pid, "born": born.began, "since_boot": born.since_boot, "began": began}
    _write(folder / STATUS, known)

    def wait() -> None:  # also reaps it
        code = process.wait()
        with _lock, suppress(OSError, BadCase):
            now = _read(folder / STATUS)
            if now.get("pid") == process.pid:
                _write(folder / STATUS, {**now, "state": "ended", "exit": code, "ended": time.time()})

    threading.Thread(target=wait, name=f"rejects-wait-{process.pid}", daemon=True).start()


def _alive(folder: Path) -> bool:
    known = _read(folder / STATUS)
    process = process_of({**known, "began": known.get("born")})
    return known.get("state") == "running" and process is not None and process.alive


def about(run_id: Any) -> About:
    """Raises BadCase."""
    try:
        held = json.loads((folder_of(run_id) / ABOUT).read_text(encoding="utf-8"))
        return About(**{**held, "arguments": tuple(held["arguments"]), "demo": tuple(held["demo"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise BadCase("rejects_gone") from None


def keep_about(run_id: str, known: About, **changes: Any) -> About:
    """Write what is known, with `changes`. Raises OSError, BadCase."""
    folder, known = folder_of(run_id), replace(known, **changes)
    _write(folder / ABOUT, asdict(known))
    (folder / COMMAND).write_text(known.command + "\n", encoding="utf-8")
    return known


def policy_of(known: About) -> str:
    """The policy as the command names it."""
    given = known.arguments
    return given[given.index("--choose") + 1] if "--choose" in given[:-1] else "all"


def progress(run_id: Any) -> dict[str, Any]:
    """What the command wrote last of how far it is; empty before it did. Raises BadCase."""
    return _read(folder_of(run_id) / f"{OUTPUT}.progress.json")


def account(run_id: Any) -> dict[str, Any]:
    """What a finished run wrote, in numbers; empty before. Raises BadCase."""
    held = _read(folder_of(run_id) / f"{OUTPUT}.run.json").get("account")
    return held if isinstance(held, dict) else {}


def status(run_id: Any) -> Status:
    """What a run does now, or how it ended. Raises BadCase."""
    folder = folder_of(run_id)
    with _lock:
        mine = _preparing.get(str(run_id))
        known = _read(folder / STATUS)
        alive = mine is None and _alive(folder)
    began, ended = float(known.get("began") or 0.0), float(known.get("ended") or 0.0)
    stop = float(known.get("stop") or 0.0)
    if mine is not None:
        return Status("stopping" if mine.cancel.is_set() else "preparing", mine.line, began)
    if alive:
        return Status("stopping" if stop else "running", "", began, 0.0, stop)
    code = known.get("exit")
    if code is None:  # the app ended before the process did: its own last word counts
        said = _read(folder / f"{OUTPUT}.progress.json").get("state")
        code = {"done": 0, "stopped": 3, "failed": 2}.get(str(said))
    if code in (0, 1):
        return Status("done", "", began, ended)
    if code == 3:
        return Status("stopped", "", began, ended)
    if code == 2 or (isinstance(code, int) and code > 0):
        return Status("failed", str(known.get("line") or last_line(folder)), began, ended)
    return Status("stopped" if stop else "broken", "", began, ended)


def last_line(folder: Path) -> str:
    """What the command said last."""
    try:
        with open(folder / LOG, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    return said[-1].removeprefix("pipeline: ")[:600] if said else ""


def log_end(run_id: Any) -> str:
    """The last lines of the log. Raises BadCase."""
    try:
        with open(folder_of(run_id) / LOG, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END))
            return log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def stop(run_id: Any) -> None:
    """Ask a run to stop; one that was asked long ago is ended. What it has made stays. Raises BadCase."""
    folder = folder_of(run_id)
    with _lock:
        mine = _preparing.get(str(run_id))
        if mine is not None:
            mine.cancel.set()
            return
        if not _alive(folder):
            return
        known = _read(folder / STATUS)
        asked = float(known.get("stop") or 0.0)
        hard = asked and time.time() - asked > POLITE_SECONDS
        if not asked:
            _write(folder / STATUS, {**known, "stop": time.time()})
        with suppress(OSError):
            if hard and hasattr(os, "killpg"):
                os.killpg(known["pid"], signal.SIGKILL)  # its session is its own, with all that it started
            else:
                os.kill(known["pid"], signal.SIGTERM)


def remove(run_id: Any) -> None:
    """Delete a run that isn't live, with all it made. Raises BadCase where it is live or unknown."""
    folder = folder_of(run_id)
    if status(run_id).live:
        raise BadCase("rejects_still_live")
    shutil.rmtree(folder, ignore_errors=True)


def _folders() -> list[Path]:
    try:
        return [folder for folder in _root().iterdir() if ID.fullmatch(folder.name)]
    except OSError:
        return []


def recent(seen: Sequence[str] = ()) -> list[tuple[str, About, Status]]:
    """Runs that a page may list, newest first: on one's own machine all, in public those its browser has seen."""
    ids = list(dict.fromkeys(seen)) if is_public() else [folder.name for folder in _folders()]
    found = []
    for run_id in ids:
        with suppress(BadCase):
            found.append((run_id, about(run_id), status(run_id)))
    return sorted(found, key=lambda one: -one[1].created)[:MAX_SHOWN]


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _write(path: Path, value: Any) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=True), encoding="ascii")
