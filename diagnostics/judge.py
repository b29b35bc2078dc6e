"""Runs a table of checks over a subject and makes the report: findings, ranked causes, verdict, in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Protocol

from diagnostics import __version__
from diagnostics.causes import rank_causes
from diagnostics.report import Finding, Report, Skipped, Subject, verdict_of
from diagnostics.run_checks import Check, Event, run_checks
from diagnostics.thresholds import Thresholds
from diagnostics.words import say, say_finding, say_skipped

# Stated in every report: their versions change what a checkpoint does.
VERSIONS_STATED = ("torch", "transformers", "tokenizers", "peft", "safetensors", "huggingface_hub")


class Interrupted(Exception):
    """Ctrl-C while checks ran. `report` holds what was found by then; the checks left are skipped as cancelled."""

    def __init__(self, report: Report) -> None:
        super().__init__("interrupted")
        self.report = report


class Judged(Protocol):
    """What checks look at: they fill these, and they end up in the report under the same names."""

    metrics: dict[str, float]
    curves: dict[str, Any]
    samples: list[dict[str, Any]]


def judge(
    subject: Judged,
    checks: Sequence[Check],
    limits: Thresholds,
    *,
    about: Callable[[], Subject],
    depth: str,
    lang: str,
    usable: bool = True,
    cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """The report on `subject`. about: asked when all checks ran, as they may learn more of what they look at.

    usable: False where the subject can't be used as what it was given as. Raises `Interrupted` on Ctrl-C.
    """
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    seconds: dict[str, float] = {}
    interrupted = False
    try:
        for event in run_checks(checks, subject, limits, depth=depth, cancel=cancel, seconds=seconds):
            if event.finding is not None:
                findings.append(event.finding)
                event = replace(event, finding=say_finding(event.finding, lang))
            if event.skipped is not None:
                skipped.append(event.skipped)
                event = replace(event, skipped=say_skipped(event.skipped, lang))
            if on_event is not None:
                on_event(event)
    except KeyboardInterrupt:
        interrupted = True
        reported = {f.code for f in findings} | {s.code for s in skipped}
        skipped += [Skipped(c.code, "cancelled") for c in checks if c.code not in reported]
    cut_short = any(s.reason_id == "cancelled" for s in skipped)
    report = Report(
        subject=about(),
        verdict=verdict_of(findings, usable, cut_short),
        causes=rank_causes(findings, skipped, limits),
        findings=tuple(findings),
        skipped=tuple(skipped),
        metrics=subject.metrics,
        samples=tuple(subject.samples),
        curves=subject.curves,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions=versions(),
        tool_version=__version__,
        depth=depth,
        seconds=seconds,
        thresholds=dict(limits.changed),
        interrupted=cut_short,
    )
    said = say(report, lang)
    if interrupted:
        raise Interrupted(said)
    return said


def versions() -> Mapping[str, str]:
    """Versions of the libraries that matter, of those that are installed."""
    found = {}
    for name in VERSIONS_STATED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
