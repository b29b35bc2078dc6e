"""Curves and findings of a job while it trains, by the readers and checks of the tab Logs."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass, replace

from diagnostics.report import Report
from diagnostics.words import say
from pipeline.training.job_folder import Job, read_status
from pipeline.training.newest_record import METRICS
from ui import followed_logs
from ui.followed_logs import FollowedLog
from ui.log_charts import ShownRun

# What is said of a log that ends in its warm-up: this one only hasn't come further yet.
ONLY_AT_THE_END = ("LOG009/still_warming_up", "LOG006/in_warm_up", "LOG006/hardly_begun", "LOG006/stopped_early",
                   "DPO001/ends_in_warmup", "DPO001/stopped_in_warmup", "DPO001/within_warmup")  # fmt: skip


@dataclass
class _Live:
    followed: FollowedLog
    version: int = 0


_live: dict[str, _Live] = {}
_lock = threading.Lock()


def report_id(job: Job) -> str:
    """Of the report of a job's curves: the same as long as the job is there, so that a link to it lasts."""
    return hashlib.sha256(f"{job.id}\n{job.folder}".encode()).hexdigest()[:32]


def look(job: Job) -> tuple[Report | None, int]:
    """(what the metrics so far say, in no language yet; a number that is another one when they say something new).

    None, 0 before the first logged step.
    """
    key = report_id(job)
    path = str(job.path(METRICS))
    with _lock:
        held = _live.get(key)
        if held is None or followed_logs.find_followed(key) is not held.followed:
            try:
                held = _Live(followed_logs.follow([path], key), held.version if held else 0)
            except followed_logs.TooManyFollowed:
                return None, 0
            _live[key] = held
    with suppress(OSError, ValueError):
        if held.followed.poll():
            held.version += 1
    report = held.followed.report
    return (report, held.version) if report is not None and report.curves else (None, 0)


def shown_run(job: Job, name: str, lang: str) -> ShownRun | None:
    """A job's curves as the charts take them; None before there are any."""
    report, _ = look(job)
    if report is None:
        return None
    named = replace(report, subject=replace(report.subject, name=name))
    early = {f.code for f in report.findings if f.signal in ONLY_AT_THE_END} if read_status(job).live else set()
    if early:
        findings = tuple(f for f in named.findings if f.code not in early)
        causes = tuple(c for c in named.causes if not early.intersection(c.supporting))
        named = replace(named, findings=findings, causes=causes)
    return ShownRun(report_id(job), say(named, lang))
