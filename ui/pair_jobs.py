"""Work on a set of pairs that takes longer than a click: import, judging, bulk actions, export, push.

Each runs in a thread of this app, goes on when the page closes, and is found again by the id of its set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diagnostics.report_store import new_id
from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence
from ui.interface_words import known
from ui.pair_workspaces import without_places
from ui.running_diagnosis import one_line
from ui.visitor_case import BadCase

MAX_WAITING, KEPT = 24, 60
FORGOTTEN_SECONDS = 3600.0
# checking a large set takes minutes, and nobody waits for it to open or save another
_checking, _running = threading.Semaphore(1), threading.Semaphore(3)


class Stopped(Exception):
    """The visitor stopped the work before it was done."""


@dataclass
class Job:
    """kind: import | judge | bulk | export | push. stage: entry of interface.yaml that says what it does now, `n` being
    what is done of `total` (0 where that isn't known). question: what it has to be told before it can go on.
    problem: (entry of interface.yaml, its parameters) where it failed. note: what was left out of it, and why. result:
    what the kind makes.
    """

    set_id: str
    kind: str
    id: str = field(default_factory=new_id)
    state: str = "waiting"  # waiting | running | asking | done
    stage: str = "pairs_job_waiting"
    n: int = 0
    total: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)
    question: Any = None
    problem: tuple[str, dict[str, Any]] | None = None
    note: Sentence | None = None
    result: Any = None
    ended: float = 0.0

    @property
    def live(self) -> bool:
        return self.state in ("waiting", "running")

    def at(self, stage: str, total: int = 0) -> None:
        """Begin another stage. Raises Stopped."""
        self.stage, self.n, self.total = stage, 0, total
        self.progress(0)

    def progress(self, n: int) -> None:
        """Raises Stopped."""
        self.n = n
        if self.cancel.is_set():
            raise Stopped


_jobs: dict[str, Job] = {}
_lock = threading.Lock()


def start(job: Job, work: Callable[[Job], None]) -> Job:
    """Run `work(job)` in the background. Raises BadCase where too much waits, or the set has such work already."""
    with _lock:
        for old in [j for j in _jobs.values() if not j.live][: max(0, len(_jobs) - KEPT)]:
            del _jobs[old.id]
        if sum(j.state == "waiting" for j in _jobs.values()) >= MAX_WAITING:
            raise BadCase("too_busy")
        if any(j.live and j.kind == job.kind for j in _jobs.values() if j.set_id == job.set_id):
            raise BadCase("pairs_busy")
        _jobs[job.id] = job
    threading.Thread(target=_work, args=(job, work), name=f"pairs-{job.kind}", daemon=True).start()
    return job


def _work(job: Job, work: Callable[[Job], None]) -> None:
    turn = _checking if job.kind == "judge" else _running
    try:
        while not turn.acquire(timeout=0.2):
            if job.cancel.is_set():
                raise Stopped
        try:
            job.state = "running"
            work(job)
        finally:
            turn.release()
    except Stopped:
        job.problem = ("pairs_job_stopped", {})
    except BadCase as bad:
        job.problem = (bad.entry, dict(bad.params))
    except Refused as refused:
        job.problem = ("bad_setting", {"error": refused.sentence})
    except OSError as error:
        job.problem = ("bad_setting", {"error": error.strerror or str(error)})
    except Exception as error:
        job.problem = ("pairs_failed_text", {"error": one_line(error)})
    finally:
        job.ended = time.monotonic()
        job.state = "asking" if job.question is not None and job.problem is None else "done"


def find(set_id: Any, kind: str | None = None) -> Job | None:
    """The latest work on a set, of a kind where one is given; None where there is none or it ended long ago."""
    for job in reversed(list(_jobs.values())):
        if job.set_id == set_id and kind in (None, job.kind):
            recent = job.live or job.state == "asking" or time.monotonic() - job.ended < FORGOTTEN_SECONDS
            return job if recent else None
    return None


def forget(job: Job) -> None:
    """Its outcome was shown."""
    with _lock:
        _jobs.pop(job.id, None)


def said_params(params: dict[str, Any], lang: str) -> dict[str, str]:
    """Parameters of a problem in a language: a refusal among them is said in it, and so is why a file can't be read."""
    problems = load_config(f"words/{known(lang)}/report.yaml")["problems"]
    said = {k: without_places(v.said(known(lang))) if isinstance(v, Sentence) else str(v) for k, v in params.items()}
    if "problem" in said:
        said["problem"] = problems.get(said["problem"], said["problem"])
    if "row" in said:
        said["row"] = row_reason(said["row"], lang)
    return said


def row_reason(reason: str, lang: str) -> str:
    """Why a row gave no pair, in words."""
    return str(load_config(f"words/{known(lang)}/formats.yaml").get(f"row_{reason}", reason))
