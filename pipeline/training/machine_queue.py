"""One run at a time on a machine: who is next."""

from __future__ import annotations

from contextlib import suppress

from filelock import FileLock, Timeout

from pipeline.training.job_folder import Job, all_jobs, jobs_root, read_status


class Turn:
    """The right to train. Held as long as the object lives and its process does."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._lock = FileLock(jobs_root() / "machine.lock", thread_local=False)

    def taken(self) -> bool:
        """Whether it is this job's turn now. Asked again and again; the one that has waited longest comes first."""
        if self._lock.is_locked:
            return True
        if ahead_of(self.job):
            return False
        with suppress(Timeout, OSError):
            self._lock.acquire(timeout=0)
            return True
        return False

    def give_up(self) -> None:
        self._lock.release(force=True)


def ahead_of(job: Job) -> list[Job]:
    """Jobs that come before this one: those that wait longer, and runs whose supervisor was killed but which go on."""
    mine = read_status(job)
    found = []
    for other in all_jobs():
        if other.folder == job.folder:
            continue
        status = read_status(other)
        waits = status.state == "queued" and (status.created, other.id) < (mine.created, job.id)
        alone = status.live and (status.supervisor is None or not status.supervisor.alive)
        if waits or (alone and status.training is not None and status.training.alive):
            found.append(other)
    return found


def position(job: Job) -> int:
    """How many jobs come before this one, running ones with them."""
    mine = read_status(job)
    before = 0
    for other in all_jobs():
        status = read_status(other)
        if other.folder != job.folder and status.live and (
            status.state in ("starting", "running", "stopping")
            or (status.state == "queued" and (status.created, other.id) < (mine.created, job.id))
        ):  # fmt: skip
            before += 1
    return before


