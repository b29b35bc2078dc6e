"""The folder of one training run (a job): what was asked, what was started, how it stands, and what it wrote.

    recipe.yaml      what was asked, settled        status.json    state, pids, times, exit status (class Status)
    command.txt      what was started, to copy      log.txt        all output, of every attempt
    accelerate.yaml  how it was spread              metrics.jsonl  one object for each logged step
    data/            rows as the trainer reads them checks.json    report of the checks before the start
    output/          the trainer's own folder, unless the recipe named an output_dir: then the job lies in that

Jobs lie below `jobs_root()`; one whose recipe named an output_dir is a line in `jobs_root()/ID.at` there. A status is
true only as long as its processes live: `read_status` looks at them, so that a killed run isn't called running.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.data_folder import data_folder
from pipeline.json_file import parse_json
from pipeline.refusal import Refused
from pipeline.running_process import Process, process_of, this_process
from pipeline.training.checkpoints import last_whole
from pipeline.training.newest_record import METRICS, last_step
from pipeline.training.progress_file import read_progress
from pipeline.whole_file import written_whole

RECIPE, COMMAND, STATUS, LOG = "recipe.yaml", "command.txt", "status.json", "log.txt"
ACCELERATE, CHECKS, ASKED = "accelerate.yaml", "checks.json", "asked.yaml"  # ASKED: the recipe before it was settled
DATA, OUTPUT = "data", "output"
TRAIN_ROWS, EVAL_ROWS = "data/train.jsonl", "data/eval.jsonl"
STOP, WAITING = "stop", "waiting"  # marks for the training process: end after this step; don't begin yet
FOLDERS_LOCK = "folders.lock"  # below jobs_root(): held while a place is taken or freed
_ELSEWHERE = ".at"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
MAX_STATUS_BYTES = 1_000_000

# checking: data and checks before the start; queued: another job has the machine; starting: processes run, no step yet
LIVE = ("checking", "queued", "starting", "running", "stopping")
# refused: the checks ended it; interrupted: its processes are gone and nobody wrote why (killed, machine restarted)
OVER = ("done", "stopped", "failed", "refused", "interrupted")


@dataclass(frozen=True)
class Failure:
    """Why a run failed. cause: id of the contract; message: id of configs/log_messages.yaml, and entry of the advice;
    line: where it stands in log.txt, from 1; text: that line."""

    cause: str
    message: str
    line: int = 0
    text: str = ""


@dataclass(frozen=True)
class Status:
    """How a job stands. Times: seconds since 1970, 0 where not yet. bytes of memory: of all its processes together.

    supervisor, training: the processes, None where not started. attempt: 1, then one more for each resume.
    exit_status: of the launcher, negative for a signal. checkpoint: name of the newest whole one. verified: of what was
    saved, `problem` empty where it is sound.
    """

    state: str = "checking"
    created: float = 0.0
    start: float = 0.0
    end: float = 0.0
    supervisor: Process | None = None
    training: Process | None = None
    attempt: int = 1
    exit_status: int | None = None
    step: int = 0
    max_steps: int = 0
    first_step: float = 0.0
    peak_memory_bytes: int = 0
    peak_gpu_memory_bytes: int = 0
    checkpoint: str = ""
    failure: Failure | None = None
    verified: Mapping[str, Any] = field(default_factory=dict)
    recipe_hash: str = ""
    asked_to_stop: float = 0.0

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def seconds(self) -> float:
        """How long this attempt has run, or ran."""
        return (self.end or time.time()) - self.start if self.start else 0.0

    def as_json(self) -> dict[str, Any]:
        """With `pid` of the training process, by the contract's name."""
        return {**asdict(self), "pid": self.training.pid if self.training is not None else None}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Status:
        """What of `value` is a status; what was edited by hand into something else is left at its default."""
        made: dict[str, Any] = {}
        blank = Status()
        for one in fields(Status):
            given = value.get(one.name)
            usual = getattr(blank, one.name)
            if one.name in ("supervisor", "training"):
                made[one.name] = process_of(given)
            elif one.name == "failure":
                made[one.name] = _failure(given)
            elif one.name == "exit_status":
                made[one.name] = given if isinstance(given, int) and not isinstance(given, bool) else None
            elif isinstance(usual, float):
                number = isinstance(given, (int, float)) and not isinstance(given, bool) and given == given
                made[one.name] = float(given) if number and given is not None else usual
            elif isinstance(given, type(usual)) and not (isinstance(given, bool) and isinstance(usual, int)):
                made[one.name] = given
        if made.get("state") not in (*LIVE, *OVER):
            made["state"] = "interrupted"
        return Status(**made)


def _failure(value: Any) -> Failure | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("cause"), str):
        return None
    line = value.get("line")
    message, text = str(value.get("message", "")), str(value.get("text", ""))
    return Failure(value["cause"], message, line if isinstance(line, int) else 0, text)


@dataclass(frozen=True)
class Job:
    """id: unique on this machine; folder: absolute."""

    id: str
    folder: Path

    @property
    def output(self) -> Path:
        """The trainer's own folder."""
        return self.folder if (self.folder / ".job").is_file() else self.folder / OUTPUT

    def path(self, name: str) -> Path:
        return self.folder / name


def jobs_root() -> Path:
    """Where jobs are found again. Raises OSError where it can't be made."""
    root = data_folder() / "jobs"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def new_job(name: str, output_dir: str | None = None) -> Job:
    """A folder for a new job: below `jobs_root()`, or `output_dir` itself, which must not hold another job.

    Raises Refused where the place is taken or can't be written.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40] or "job"
    made = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    place: Path | str = output_dir or ""
    try:
        root = jobs_root()
    except OSError as failed:
        raise Refused("jobs_root_failed", path=data_folder() / "jobs", why=failed.strerror or failed) from None
    try:
        if output_dir is None:
            place = root / made
            place.mkdir(mode=0o700)
            return Job(made, place)
        place = Path(output_dir).expanduser().absolute()
        with FileLock(root / FOLDERS_LOCK):  # of two starts at the same moment one gets it
            if (place / STATUS).exists():
                _free(place, output_dir)
            place.mkdir(parents=True, exist_ok=True)  # after freeing it: a place with nothing else in it goes too
            with (place / ".job").open("x", encoding="utf-8") as file:
                file.write(made + "\n")
        (root / f"{made}{_ELSEWHERE}").write_text(f"{place}\n", encoding="utf-8")
        return Job(made, place)
    except FileExistsError:
        entry = "output_has_job" if Path(place).is_dir() else "output_not_folder"
        raise Refused(entry, path=output_dir) from None
    except NotADirectoryError:
        raise Refused("output_not_folder", path=place) from None
    except OSError as failed:
        raise Refused("job_folder_failed", path=place, why=failed.strerror or failed) from None
    except ValueError:  # a null byte
        raise Refused("job_folder_failed", path=output_dir, why="null byte") from None


def _free(place: Path, said: str | None) -> None:
    """Make room where only a job lies that the checks ended before its start. Raises Refused for any other."""
    standing = find_job(str(place))
    state = read_status(standing)
    if state.state != "refused" or state.attempt > 1:
        raise Refused("output_has_running_job" if state.live else "output_has_job", path=said)
    _clear(standing)


def forget(job: Job) -> None:
    """Free the place of a job that never began: its marks and small files, never what a trainer wrote."""
    with suppress(OSError), FileLock(jobs_root() / FOLDERS_LOCK):  # not between another start's folder and its mark
        _clear(job)


def _clear(job: Job) -> None:
    for name in (".job", STATUS, RECIPE, ASKED, COMMAND, ACCELERATE, CHECKS, LOG, STOP, WAITING, TRAIN_ROWS, EVAL_ROWS):
        with suppress(OSError):
            (job.folder / name).unlink(missing_ok=True)
    for name in (DATA, "."):
        with suppress(OSError):
            (job.folder / name).rmdir()
    with suppress(OSError):
        (jobs_root() / f"{job.id}{_ELSEWHERE}").unlink(missing_ok=True)


def find_job(named: str) -> Job:
    """By id, by the beginning of one where it is the only one, `last`, or the folder. Raises Refused."""
    if ID.fullmatch(named):
        if (job := _job_of(named)) is not None:
            return job
        known = list(all_jobs())
        if named == "last" and known:
            return known[0]
        near = [job for job in known if job.id.startswith(named)]
        if len(near) == 1:
            return near[0]
        if near:
            raise Refused("job_ambiguous", given=named, names=", ".join(job.id for job in near[:5]))
    with suppress(OSError, ValueError):
        folder = Path(named).expanduser().absolute()
        if (folder / STATUS).is_file():
            mark = folder / ".job"
            name = mark.read_text(encoding="utf-8", errors="replace").strip() if mark.is_file() else folder.name
            return Job(name if ID.fullmatch(name) else folder.name, folder)
    raise Refused("job_not_found", given=named)


def _job_of(name: str) -> Job | None:
    with suppress(OSError):
        root = jobs_root()
        if (root / name / STATUS).is_file():
            return Job(name, root / name)
        at = root / f"{name}{_ELSEWHERE}"
        if at.is_file():
            with at.open(encoding="utf-8", errors="replace") as file:
                folder = Path(file.readline().strip())
            return Job(name, folder) if folder.is_absolute() and (folder / STATUS).is_file() else None
    return None


def all_jobs() -> Iterator[Job]:
    """Newest first, by when they were made."""
    with suppress(OSError):
        found = {}
        for entry in os.scandir(jobs_root()):
            name = entry.name.removesuffix(_ELSEWHERE)
            if ID.fullmatch(name) and (job := _job_of(name)) is not None:
                with suppress(OSError):
                    found[job] = entry.stat().st_ctime if entry.name.endswith(_ELSEWHERE) else _created(job)
        yield from sorted(found, key=lambda job: (-found[job], job.id))


def _created(job: Job) -> float:
    return _stored(job).created


def _stored(job: Job) -> Status:
    try:
        with job.path(STATUS).open("rb") as file:
            value = parse_json(file.read(MAX_STATUS_BYTES))
    except (OSError, ValueError, RecursionError):
        value = None
    return Status.from_json(value) if isinstance(value, Mapping) else Status(state="interrupted")


def read_status(job: Job) -> Status:
    """How it stands now: what was written last, corrected by which of its processes live."""
    status = _stored(job)
    if not status.live:
        return status
    if status.supervisor is not None and status.supervisor.alive:
        return status
    if status.training is not None and (running := _running(job, status.training)) is not None:
        return _as_told(job, replace(status, training=running))  # its supervisor is gone; the run goes on by itself
    again = _stored(job)  # it may have ended between the two looks
    if not again.live:
        return again
    if again.supervisor is None and time.time() - again.created < 60:
        return again  # its supervisor has not said so yet
    phase = read_progress(job.folder).phase  # of a run that ended by itself after its supervisor was killed
    state = phase if phase in ("done", "stopped") else "interrupted"
    return replace(_as_told(job, again), state=state, end=again.end or _last_sign(job))


def _running(job: Job, launcher: Process) -> Process | None:
    """The launcher, or the process that trains where the launcher alone was killed; None where neither lives."""
    if launcher.alive:
        return launcher
    import psutil

    told = read_progress(job.folder)
    with suppress(psutil.Error):
        began = psutil.Process(told.pid).create_time() if told.pid > 0 else 0.0
        if launcher.began - 2 < began < told.time:  # a later process may have been given its pid
            worker = this_process(told.pid)
            return worker if worker.alive else None
    return None


def _as_told(job: Job, status: Status) -> Status:
    """With what the run itself has written since its supervisor was killed."""
    told = read_progress(job.folder)
    if not told.max_steps:
        return status
    step = max(told.step, last_step(job.folder))
    state = "running" if status.state == "starting" and step else status.state
    newest = last_whole(job.output)
    return replace(status, state=state, step=step, max_steps=told.max_steps, first_step=told.first_step,
                   checkpoint=newest.name if newest else "")  # fmt: skip


def _last_sign(job: Job) -> float:
    """When the run last wrote something."""
    times = [0.0]
    for name in (LOG, METRICS, STATUS):
        with suppress(OSError):
            times.append(job.path(name).stat().st_mtime)
    return max(times)


def write_status(job: Job, status: Status) -> None:
    """Raises OSError."""
    with written_whole(job.path(STATUS)) as path:
        path.write_text(json.dumps(status.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
