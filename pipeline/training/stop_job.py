"""Ends a run, politely first."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from pipeline.config_files import load_config
from pipeline.refusal import Refused
from pipeline.running_process import Process
from pipeline.training.job_folder import STOP, Job, read_status, write_status
from pipeline.training.process_tree import end_tree, tree_of
from pipeline.training.supervise import request_stop


def stop_job(job: Job, *, firmly: bool = False) -> None:
    """Tell it to end its step, save and stop; told a second time, or firmly, it is ended at once. Returns at once.

    A run whose supervisor was killed is ended by this process itself, which then waits for it. Raises Refused for a job
    that isn't live.
    """
    status = read_status(job)
    if not status.live:
        raise Refused("job_not_live", job=job.id, state=status.state)
    try:
        request_stop(job, firmly=firmly or status.state == "stopping")
        if status.supervisor is not None and status.supervisor.alive:
            return
        if status.training is not None:
            _end_alone(job, status.training, firmly)
    except OSError as failed:
        raise Refused("job_folder_failed", path=job.folder, why=failed.strerror or failed) from None


def _end_alone(job: Job, training: Process, firmly: bool) -> None:
    limits = load_config("jobs.yaml")
    until = time.monotonic() + (0.0 if firmly else float(limits["polite_seconds"]))
    while training.alive and time.monotonic() < until:
        time.sleep(0.2)
    end_tree(tree_of(training), float(limits["firm_seconds"]))
    status = read_status(job)
    with suppress(OSError):
        write_status(job, replace(status, state="done" if status.state == "done" else "stopped", end=time.time()))
        job.path(STOP).unlink(missing_ok=True)


def wait_until_over(job: Job, seconds: float) -> bool:
    """Whether it was over within so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not read_status(job).live:
            return True
        time.sleep(0.2)
    return not read_status(job).live
