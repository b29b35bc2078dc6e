"""Watches one run from its start to its end: `python -m pipeline.training.supervise JOB_FOLDER`.

A process of its own that outlives whoever asked for the run. It waits for the machine, starts the launcher with its
output in log.txt (the launcher writes there itself, so the run goes on when this process is killed), keeps status.json
true, ends the run when it is told to or when the disk fills, and says at the end why it failed and what was saved.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import psutil

from pipeline import processes
from pipeline.config_files import load_config
from pipeline.json_file import parse_json
from pipeline.refusal import Refused
from pipeline.running_process import Process, this_process
from pipeline.training.checkpoints import checkpoints_in, last_whole, size_of
from pipeline.training.extension_locks import extensions_root, free_abandoned
from pipeline.training.job_folder import (
    COMMAND,
    LOG,
    STOP,
    WAITING,
    Failure,
    Job,
    Status,
    find_job,
    read_status,
    write_status,
)
from pipeline.training.machine_queue import Turn
from pipeline.training.newest_record import last_step
from pipeline.training.process_tree import end_tree, memory_of, tree_of
from pipeline.training.progress_file import PROGRESS, Progress, read_progress

_MARK = "── attempt {number}, {time} ──"


class Supervisor:
    """One run. `run()` returns when it is over."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.limits: dict[str, Any] = load_config("jobs.yaml")
        self.status = replace(read_status(job), supervisor=this_process(), state="queued")
        self.told = 0  # signals that said stop
        self.process: processes.Child | None = None
        self.disk_full = False
        self.ended = False  # by this process, not by itself
        self._tree: list[psutil.Process] = []
        self._extensions = extensions_root()
        self._disk_at = self._memory_at = 0.0
        self._written: Status | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signal)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._write()
        turn = Turn(self.job)
        try:
            if not self._wait_for(turn):
                return 3
            try:
                self._start()
            except (OSError, Refused) as failed:  # the command was edited while the job waited for the machine
                failure = Failure("bad_config", "refused", 0, str(failed))
                self._write(state="failed", end=time.time(), failure=failure)
                self._clean()
                return 1
            self._watch()
            return self._end()
        finally:
            turn.give_up()

    def _signal(self, number: int, frame: FrameType | None) -> None:
        self.told += 1
        with suppress(OSError):
            request_stop(self.job, firmly=self.told > 1)

    def _wait_for(self, turn: Turn) -> bool:
        """Whether the turn came before the job was told to stop."""
        while not turn.taken():
            if self.job.path(STOP).exists():
                refused = self.job.path(WAITING).exists()  # by the checks, before its turn came
                self._write(state="refused" if refused else "stopped", end=time.time())
                self._clean()
                return False
            time.sleep(float(self.limits["queue_seconds"]))
        return True

    def _start(self) -> None:
        command, argv, env = command_in(self.job)
        with suppress(OSError):
            self.job.path(PROGRESS).unlink(missing_ok=True)
        self._extensions = extensions_root(env)
        free_abandoned(self._extensions, older_than=float(self.limits["stale_lock_seconds"]))
        now = time.time()
        with self.job.path(LOG).open("ab") as log:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
            log.write(f"{_MARK.format(number=self.status.attempt, time=stamp)}\n$ {command}\n".encode())
            log.flush()
            self.process = processes.start(
                argv, env=env, cwd=self.job.folder, stdout=log, stderr=processes.STDOUT, own_session=True
            )
        training = Process(self.process.pid, now)
        with suppress(Exception):  # it may have ended at once
            training = this_process(self.process.pid)
        self._write(
            state="starting", start=now, training=training, end=0.0, exit_status=None, failure=None,
            verified={}, step=0, first_step=0.0,
        )  # fmt: skip

    def _watch(self) -> None:
        assert self.process is not None
        while self.process.poll() is None:
            self._look()
            with suppress(processes.TimeoutExpired):
                self.process.wait(float(self.limits["poll_seconds"]))
        self._leftovers()

    def _leftovers(self) -> None:
        """Workers whose launcher died without them. Those of torch's elastic launcher lead sessions of their own."""
        assert self.process is not None
        end_tree([one for one in self._tree if one.is_running()], float(self.limits["firm_seconds"]))
        if hasattr(os, "killpg"):
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        free_abandoned(self._extensions, made_since=self.status.start)  # ended while it built one: others would wait

    def _look(self) -> None:
        """One look: progress, memory, disk, whether it is to stop."""
        assert self.status.training is not None
        told = read_progress(self.job.folder)
        changes: dict[str, Any] = {
            "peak_memory_bytes": max(self.status.peak_memory_bytes, told.memory, self._memory()),
            "peak_gpu_memory_bytes": max(self.status.peak_gpu_memory_bytes, told.gpu_memory),
        }
        if told.max_steps:
            changes |= {"step": told.step, "max_steps": told.max_steps, "first_step": told.first_step}
        if self.status.state == "starting" and told.step > 0:
            changes["state"] = "running"
        self._watch_disk()
        if self.job.path(STOP).exists():
            changes |= {"state": "stopping", "asked_to_stop": self.status.asked_to_stop or time.time()}
        self._write(**changes)
        if self.status.state == "stopping":
            self._stop(told)

    def _memory(self) -> int:
        """Of all processes of the run together; 0 between two measurements, which read every process of the machine."""
        if time.monotonic() < self._memory_at or self.status.training is None:
            return 0
        self._memory_at = time.monotonic() + float(self.limits["memory_every_seconds"])
        self._tree = tree_of(self.status.training) or self._tree
        return memory_of(self._tree)

    def _watch_disk(self) -> None:
        if time.monotonic() < self._disk_at:
            return
        self._disk_at = time.monotonic() + float(self.limits["disk_every_seconds"])
        found = checkpoints_in(self.job.output)
        newest = found[-1] if found else None
        if newest is not None and newest.name != self.status.checkpoint:
            whole = last_whole(self.job.output)
            self._write(checkpoint=whole.name if whole else "")
        need = float(self.limits["free_disk_least"])
        if newest is not None:
            need = max(need, float(self.limits["free_disk_checkpoints"]) * size_of(newest))
        with suppress(OSError):
            free = min(shutil.disk_usage(p).free for p in (self.job.folder, self.job.output) if p.exists())
            if free < need and not self.disk_full:
                self.disk_full = True  # nothing more is saved: a checkpoint cut short would be all that is left of it
                request_stop(self.job, save=False)

    def _stop(self, told: Progress) -> None:
        """Ends the run where it doesn't end itself in time."""
        assert self.status.training is not None
        limits = self.limits
        waited = time.time() - self.status.asked_to_stop
        pace = (time.time() - told.first_step) / told.step if told.step and told.first_step else 0.0
        patience = max(float(limits["polite_seconds"]), float(limits["polite_steps"]) * pace)
        if told.step == 0 and told.phase != "training":
            patience = float(limits["starting_seconds"])
        firmly = stop_request(self.job).get("firmly") is True
        if told.phase in ("stopped", "done"):  # it has ended its steps; later than this it hangs
            patience += 3 * float(limits["polite_seconds"])
        if firmly or waited > patience:
            self.ended = True
            end_tree(tree_of(self.status.training), float(limits["firm_seconds"]))

    def _end(self) -> int:
        assert self.process is not None
        code = self.process.returncode
        told = read_progress(self.job.folder)
        whole = last_whole(self.job.output)
        asked = self.job.path(STOP).exists()
        changes: dict[str, Any] = {"exit_status": code, "end": time.time(), "checkpoint": whole.name if whole else ""}
        if told.max_steps:  # a killed run has recorded steps that it had not told yet
            step = max(told.step, last_step(self.job.folder))
            changes |= {"step": step, "max_steps": told.max_steps, "first_step": told.first_step}
        if self.disk_full:
            changes |= {"state": "failed", "failure": Failure("disk_full", "disk_full")}
        elif asked and self.job.path(WAITING).exists():
            changes |= {"state": "refused"}
        elif told.phase != "done" and (
            (asked and (code == 0 or self.ended)) or (code == 0 and told.phase == "stopped")  # by SIGTERM
        ):
            changes |= {"state": "stopped"}
        elif code == 0 or told.phase == "done":  # gloo may abort a process that has saved and is leaving
            changes |= self._saved()
        else:
            changes |= {"state": "failed", "failure": self._why(code)}
        self._write(**changes)
        self._clean()
        return 0 if self.status.state == "done" else 3 if self.status.state == "stopped" else 1

    def _clean(self) -> None:
        for name in (STOP, WAITING):
            with suppress(OSError):
                self.job.path(name).unlink(missing_ok=True)

    def _saved(self) -> dict[str, Any]:
        from pipeline.training.verify_output import verify_output

        found = verify_output(self.job.output)
        if found.problem:
            failure = Failure(found.cause, f"saved_{found.problem}", 0, ", ".join(found.names))
            return {"state": "failed", "verified": found.as_json(), "failure": failure}
        return {"state": "done", "verified": found.as_json()}

    def _why(self, code: int) -> Failure:
        from pipeline.training.failures import classify

        found = classify(self.job.path(LOG), code)
        return found or Failure("", "unknown")

    def _write(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
        if self.status == self._written:
            return
        with suppress(OSError):  # a full disk ends the run by itself; the next look tries again
            write_status(self.job, self.status)
            self._written = self.status


def command_in(job: Job) -> tuple[str, list[str], dict[str, str]]:
    """(line, argv, env) of command.txt, which may have been edited. Raises Refused."""
    from pipeline.training.launch_line import MAX_LINE, read_line

    path = job.path(COMMAND)
    try:
        with path.open(encoding="utf-8") as file:
            line = file.read(MAX_LINE + 1).strip()
    except (OSError, UnicodeDecodeError) as failed:
        why = failed.strerror if isinstance(failed, OSError) else "UTF-8"
        raise Refused("job_file_gone", job=job.id, path=path, why=why or failed) from None
    read = read_line(line)
    return line, list(read.argv), dict(read.env)


def request_stop(job: Job, *, firmly: bool = False, save: bool = True) -> None:
    """Leave the mark that tells a run to stop. firmly: don't wait for its step; save: write a checkpoint first.

    Raises OSError.
    """
    path = job.path(STOP)
    temporary = path.with_name(f".{STOP}.{os.getpid()}")
    temporary.write_text(json.dumps({"firmly": firmly, "save": save}), encoding="utf-8")
    os.replace(temporary, path)


def stop_request(job: Job) -> dict[str, Any]:
    """What the mark says; empty without one."""
    with suppress(OSError, ValueError):
        value = parse_json(job.path(STOP).read_bytes()[:1000])
        return value if isinstance(value, dict) else {}
    return {}


def start_supervisor(job: Job) -> processes.Child:
    """The process that watches `job`, on its own from now on; its own errors stand in log.txt. Raises OSError."""
    from pipeline.training.launch_line import project_path

    with job.path(LOG).open("ab") as log:
        return processes.start(
            [sys.executable, "-m", "pipeline.training.supervise", str(job.folder)], stdout=log, stderr=log,
            own_session=True, env=project_path(),
        )  # fmt: skip


def main() -> int:
    return Supervisor(find_job(sys.argv[1])).run()


if __name__ == "__main__":
    sys.exit(main())
