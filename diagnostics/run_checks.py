"""Runs checks one after another, cheapest first, and turns what they yield into findings.

A check that can't measure raises `NotMeasured`; one that crashes becomes a skipped entry with its reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from diagnostics.report import Evidence, Finding, Observation, Severity, Skipped
from diagnostics.thresholds import Thresholds
from pipeline.tokenizer_not_loaded import TokenizerNotLoaded

DEPTHS = ("files", "weights", "forward", "samples")


class NotMeasured(Exception):
    """Raised by a check that lacks what it needs. `reason_id` names a sentence in words/*/report.yaml."""

    def __init__(self, reason_id: str, **params: Any) -> None:
        super().__init__(reason_id)
        self.reason_id = reason_id
        self.params = params


CheckFunction = Callable[[Any, Thresholds], Iterator[Observation]]


@dataclass(frozen=True)
class Check:
    """One row of the table of checks: code, name as the user sees it, the module below diagnostics/, the depth it
    needs."""

    code: str
    name: str
    module: str
    depth: str

    @property
    def function(self) -> CheckFunction:
        """The check itself, imported on first use; it bears its module's name."""
        found: CheckFunction = getattr(import_module(f"diagnostics.{self.module}"), self.module.rpartition(".")[2])
        return found


@dataclass(frozen=True)
class Event:
    """What happens while checks run. kind: `depth` (a depth begins), `check` (one begins), `finding`, `skipped`,
    `note` (progress inside a check, already a sentence)."""

    kind: str
    code: str = ""
    depth: str = ""
    done: int = 0
    total: int = 0
    finding: Finding | None = None
    skipped: Skipped | None = None


def ok(outcome: str = "ok", *evidence: tuple[str, Any], **params: Any) -> Observation:
    """Measured and fine."""
    return _observation("ok", outcome, evidence, params)


def info(outcome: str, *evidence: tuple[str, Any], **params: Any) -> Observation:
    """Worth knowing, not wrong."""
    return _observation("info", outcome, evidence, params)


def warning(outcome: str, *evidence: tuple[str, Any], **params: Any) -> Observation:
    """Probably hurts."""
    return _observation("warning", outcome, evidence, params)


def error(outcome: str, *evidence: tuple[str, Any], **params: Any) -> Observation:
    """Wrong: it will fail or give bad output."""
    return _observation("error", outcome, evidence, params)


def _observation(
    severity: Severity, outcome: str, evidence: Sequence[tuple[str, Any]], params: Mapping[str, Any]
) -> Observation:
    return Observation(severity, outcome, params, tuple(Evidence(where, value) for where, value in evidence))


def run_checks(
    checks: Sequence[Check], subject: Any, limits: Thresholds, *, depth: str, cancel: threading.Event | None = None,
    seconds: dict[str, float] | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Yield events while running every check up to `depth`; deeper ones are skipped with the reason said.

    cancel: when set, the checks left are skipped as cancelled. seconds: filled with the time of each check.
    """
    wanted = DEPTHS.index(depth)
    total = sum(DEPTHS.index(c.depth) <= wanted for c in checks)
    done = 0
    current = ""
    for check in checks:
        if DEPTHS.index(check.depth) > wanted:
            yield _skip(check, "depth_not_asked", depth=check.depth)
            continue
        if cancel is not None and cancel.is_set():
            yield _skip(check, "cancelled")
            continue
        if check.depth != current:
            current = check.depth
            yield Event("depth", depth=current, done=done, total=total)
        yield Event("check", code=check.code, depth=current, done=done, total=total)
        started = time.perf_counter()
        yield from _run_one(check, subject, limits)
        if seconds is not None:
            seconds[check.code] = round(time.perf_counter() - started, 4)
        done += 1


def _skip(check: Check, reason_id: str, **params: Any) -> Event:
    return Event("skipped", code=check.code, skipped=Skipped(check.code, reason_id, params))


def _run_one(check: Check, subject: Any, limits: Thresholds) -> Iterator[Event]:
    try:
        for seen in check.function(subject, limits):
            finding = Finding(check.code, check.name, seen.severity, seen.outcome, seen.params, tuple(seen.evidence))
            yield Event("finding", code=check.code, finding=finding)
    except NotMeasured as reason:
        yield Event("skipped", code=check.code, skipped=Skipped(check.code, reason.reason_id, reason.params))
    except TokenizerNotLoaded:  # it loaded, and gave up on a text
        yield _skip(check, "tokenizer_not_loaded")
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as crash:  # Rust panics (tokenizers) derive from BaseException
        what = f"{type(crash).__name__}: {crash}".splitlines()[0][:200]
        yield _skip(check, "check_crashed", error=what)
