"""Runs of a command: each a process with a folder of its own, which goes on when page and app end.

The folder holds what was asked (`about.json`, as its owner writes it), the command (`command.txt`), all output
(`log.txt`), what became of the process (`status.json`) and the command's own files. On one's own machine it lies in the
user's data folder, in public below the temporary folder for a day. Whoever knows an id may see that run, so ids are
random.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
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

ABOUT, STATUS, COMMAND, LOG = "about.json", "status.json", "command.txt", "log.txt"
PUBLIC_RUNS = 100  # folders of one kind on a public machine
PUBLIC_AT_ONCE, AT_ONCE = 2, 4  # processes: more would only make each other slow
PUBLIC_CPU_SECONDS = 900
LOG_END = 4000  # bytes of the log's end that are looked at
POLITE_SECONDS = 15.0  # after that a run that was told to stop may be ended
LIVE = ("preparing", "running", "stopping")

Tell = Callable[[str], None]
Build = Callable[[Tell], Sequence[str] | None]
"""Makes what a run needs before its process starts, telling each step; gives the arguments where that changes them."""


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


class Stopped(Exception):
    """The visitor stopped the run before its process began."""


def lasting() -> bool:
    """Whether a run is still there in a week."""
    return not is_public()


class CommandRuns:
    """The runs of one kind.

    name: of their folder, and what the entries of interface.yaml begin with that say what is wrong: NAME_gone,
    NAME_too_many, NAME_busy, NAME_still_live. last_word: the exit status that a run's own files tell where the app
    ended before the process did, None where they tell none. stdout: name of the file that takes the command's standard
    output, empty for the log.
    """

    def __init__(self, name: str, last_word: Callable[[Path], int | None], stdout: str = "") -> None:
        self.name = name
        self._last_word = last_word
        self._stdout = stdout
        self._preparing: dict[str, _Preparing] = {}
        self._lock = threading.RLock()

    def root(self) -> Path:
        """Raises OSError."""
        if is_public():
            return private_folder(self.name)
        root = data_folder() / self.name
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return root

    def folder_of(self, run_id: Any) -> Path:
        """The folder of a run. Raises BadCase where there is none under this id."""
        if isinstance(run_id, str) and ID.fullmatch(run_id):
            with suppress(OSError):
                folder = self.root() / run_id
                if (folder / ABOUT).is_file():
                    return folder
        raise BadCase(f"{self.name}_gone")

    def place_for(self, run_id: str | None) -> tuple[str, Path]:
        """An id for a run, the one given where it is free, and its folder, which isn't made yet. Raises OSError."""
        root = self.root()
        made = run_id if run_id is not None and not (root / run_id).exists() else new_id()
        return made, root / made

    def folders(self) -> list[Path]:
        """Of all runs."""
        try:
            return [folder for folder in self.root().iterdir() if ID.fullmatch(folder.name)]
        except OSError:
            return []

    def check_room(self, more: int = 1) -> None:
        """Raises BadCase where as many runs are live as this machine takes, or in public as many are kept."""
        if is_public() and len(self.folders()) + more > PUBLIC_RUNS:
            raise BadCase(f"{self.name}_too_many")
        with self._lock:
            live = len(self._preparing) + sum(_alive(folder) for folder in self.folders())
        if live + more > (PUBLIC_AT_ONCE if is_public() else AT_ONCE):
            raise BadCase(f"{self.name}_busy")

    def start(
        self, run_id: str, about: Mapping[str, Any], command: str, arguments: Sequence[str], build: Build | None = None
    ) -> None:  # fmt: skip
        """Begin a new run in a folder of its own. Raises OSError, BadCase."""
        folder = self.root() / run_id
        folder.mkdir(mode=0o700)
        keep_about(folder, about, command)
        self.begin(run_id, arguments, build)

    def begin(self, run_id: str, arguments: Sequence[str], build: Build | None = None) -> None:
        """Start the process of a run that has its folder, or prepare what it needs and start it then. Raises BadCase
        where it is live already, OSError."""
        folder = self.folder_of(run_id)
        with self._lock:
            if run_id in self._preparing or _alive(folder):
                raise BadCase("pairs_busy")
            if build is None:
                self._start_process(folder, arguments)
                return
            self._preparing[run_id] = _Preparing()
            write_object(folder / STATUS, {"state": "preparing", "began": time.time()})
        threading.Thread(target=self._prepare, args=(run_id, arguments, build), name=f"{self.name}-{run_id[:6]}",
                         daemon=True).start()  # fmt: skip

    def _prepare(self, run_id: str, arguments: Sequence[str], build: Build) -> None:
        mine = self._preparing[run_id]

        def tell(line: str) -> None:
            mine.line = line
            if mine.cancel.is_set():
                raise Stopped

        folder = self.folder_of(run_id)
        problem: dict[str, Any] = {"state": "ended", "ended": time.time()}
        try:
            tell("")
            arguments = build(tell) or arguments
            tell("")
            with self._lock:
                self._start_process(folder, arguments)
            return
        except Stopped:
            problem["exit"] = 3
        except BadCase as bad:
            problem |= {"exit": 2, "said": bad.entry, "params": bad.params}
        except Exception as error:
            problem |= {"exit": 2, "line": (str(error) or type(error).__name__).splitlines()[0][:300]}
        finally:
            with self._lock:
                self._preparing.pop(run_id, None)
        with suppress(OSError):
            write_object(folder / STATUS, problem)

    def _start_process(self, folder: Path, arguments: Sequence[str]) -> None:
        import psutil

        with ExitStack() as open_files:
            log = open_files.enter_context(open(folder / LOG, "ab"))
            log.write(f"$ {(folder / COMMAND).read_text(encoding='utf-8').strip()}\n".encode())
            log.flush()
            out = open_files.enter_context(open(folder / self._stdout, "wb")) if self._stdout else log
            process = processes.start(
                [sys.executable, "-m", "pipeline", *arguments], stdout=out, stderr=log, own_session=True,
                cpu_seconds=PUBLIC_CPU_SECONDS if is_public() else None, env=project_path(),
            )  # fmt: skip
        began = time.time()
        born = Process(process.pid, 0.0)
        with suppress(psutil.Error):  # it ended at once
            born = this_process(process.pid)
        known = {"state": "running", "pid": born.pid, "born": born.began, "since_boot": born.since_boot, "began": began}
        write_object(folder / STATUS, known)

        def wait() -> None:  # also reaps it
            code = process.wait()
            with self._lock, suppress(OSError):
                now = read_object(folder / STATUS)
                if now.get("pid") == process.pid:
                    write_object(folder / STATUS, {**now, "state": "ended", "exit": code, "ended": time.time()})

        threading.Thread(target=wait, name=f"{self.name}-wait-{process.pid}", daemon=True).start()

    def status(self, run_id: Any) -> Status:
        """What a run does now, or how it ended. Raises BadCase."""
        folder = self.folder_of(run_id)
        with self._lock:
            mine = self._preparing.get(str(run_id))
            known = read_object(folder / STATUS)
            alive = mine is None and _alive(folder)
        began, ended = float(known.get("began") or 0.0), float(known.get("ended") or 0.0)
        stop = float(known.get("stop") or 0.0)
        if mine is not None:
            return Status("stopping" if mine.cancel.is_set() else "preparing", mine.line, began)
        if alive:
            return Status("stopping" if stop else "running", "", began, 0.0, stop)
        code = known.get("exit")
        if code is None:  # the app ended before the process did: its own last word counts
            code = self._last_word(folder)
        if code in (0, 1):
            return Status("done", "", began, ended)
        if code == 3:
            return Status("stopped", "", began, ended)
        if code == 2 or (isinstance(code, int) and code > 0):
            return Status("failed", str(known.get("line") or last_line(folder)), began, ended)
        return Status("stopped" if stop else "broken", "", began, ended)

    def refusal(self, run_id: Any) -> BadCase | None:
        """What kept a run from being prepared, where a sentence of interface.yaml says it. Raises BadCase."""
        known = read_object(self.folder_of(run_id) / STATUS)
        params = known.get("params")
        if not isinstance(known.get("said"), str):
            return None
        return BadCase(known["said"], **{str(k): str(v) for k, v in params.items()} if isinstance(params, dict) else {})

    def log_end(self, run_id: Any) -> str:
        """The last lines of the log. Raises BadCase."""
        try:
            with open(self.folder_of(run_id) / LOG, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END))
                return log.read().decode("utf-8", errors="replace")
        except OSError:
            return ""

    def stop(self, run_id: Any) -> None:
        """Ask a run to stop; one that was asked long ago is ended. What it has made stays. Raises BadCase."""
        folder = self.folder_of(run_id)
        with self._lock:
            mine = self._preparing.get(str(run_id))
            if mine is not None:
                mine.cancel.set()
                return
            if not _alive(folder):
                return
            known = read_object(folder / STATUS)
            asked = float(known.get("stop") or 0.0)
            hard = asked and time.time() - asked > POLITE_SECONDS
            if not asked:
                write_object(folder / STATUS, {**known, "stop": time.time()})
            with suppress(OSError):
                if hard and hasattr(os, "killpg"):
                    os.killpg(known["pid"], signal.SIGKILL)  # its session is its own, with all that it started
                else:
                    os.kill(known["pid"], signal.SIGTERM)

    def remove(self, run_id: Any) -> None:
        """Delete a run that isn't live, with all it made. Raises BadCase where it is live or unknown."""
        folder = self.folder_of(run_id)
        if self.status(run_id).live:
            raise BadCase(f"{self.name}_still_live")
        shutil.rmtree(folder, ignore_errors=True)

    def listed(self, seen: Sequence[str] = ()) -> list[str]:
        """Ids of the runs that a page may list: on one's own machine all, in public those its browser has seen."""
        return list(dict.fromkeys(seen)) if is_public() else [folder.name for folder in self.folders()]


def keep_about(folder: Path, about: Mapping[str, Any], command: str) -> None:
    """Write what is known of a run, and its command. Raises OSError."""
    write_object(folder / ABOUT, about)
    (folder / COMMAND).write_text(command + "\n", encoding="utf-8")


def _alive(folder: Path) -> bool:
    known = read_object(folder / STATUS)
    process = process_of({**known, "began": known.get("born")})
    return known.get("state") == "running" and process is not None and process.alive


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


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty where there is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Raises OSError."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=True), encoding="ascii")
