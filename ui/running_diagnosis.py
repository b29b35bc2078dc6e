"""Diagnoses running in background threads: they go on when a page closes, and any page finds them again by id.

The id of a run is the id of the report it will store, so one address serves while it runs and ever after.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from diagnostics.causes import rank_causes
from diagnostics.report import Finding, Report, Skipped, Subject, verdict_of
from diagnostics.report_store import new_id, save
from diagnostics.run_checks import Event
from diagnostics.thresholds import load_thresholds
from diagnostics.words import say
from pipeline.refusal import Refused

ONE_AT_A_TIME = threading.Lock()  # one diagnosis per machine: two would only make each other slow
KEPT_RUNS, MAX_WAITING = 50, 16


class TooBusy(Exception):
    """MAX_WAITING diagnoses wait already."""


class Stopped(Exception):
    """The visitor stopped the run before there was anything to report."""


class CaseNotMade(Exception):
    """The case itself could not be prepared. Carries one line."""


@dataclass(frozen=True)
class Case:
    """What a visitor asked for. depth `auto`: as deep as this machine manages in about a minute.

    secret: part of a path that is taken out of the report, because whoever knows it can use the files below it.
    """

    path: str
    tokenizer: str = ""
    model_config: str = ""
    base: str = ""
    data: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    depth: str = "auto"
    max_rows: int = 64
    device: str = "cpu"
    secret: str = ""


@dataclass
class Run:
    """One diagnosis from click to report. version grows with every change worth showing.

    problem: (entry of interface.yaml, its parameters) when it could not be done.
    """

    id: str
    case: Case
    name: str
    cancel: threading.Event = field(default_factory=threading.Event)
    state: str = "waiting"  # waiting | demo | starting | checking | done
    version: int = 0
    last: Event | None = None
    note: str = ""
    depth: str = ""
    findings: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    report: Report | None = None
    problem: tuple[str, dict[str, str]] | None = None
    started: float = field(default_factory=time.monotonic)

    def changed(self, state: str | None = None) -> None:
        self.state = state or self.state
        self.version += 1

    def report_so_far(self, lang: str) -> Report:
        """What is known by now, judged as if it were all."""
        if self.report is not None:
            return say(self.report, lang)
        findings = tuple(self.findings)
        causes = rank_causes(findings, (), load_thresholds())
        subject = Subject("checkpoint", self.name)
        so_far = Report(subject, verdict_of(findings), causes, findings, tuple(self.skipped), depth=self.depth)
        return say(so_far, lang)


_runs: dict[str, Run] = {}


def find_run(run_id: str) -> Run | None:
    """The run with this id, of whoever knows it; None when it ended long ago or the app was started since."""
    return _runs.get(run_id)


def start(case: Case, *, make_case: Callable[[Run], Case] | None = None) -> Run:
    """Begin a diagnosis in the background. make_case: makes the case first, where that takes time (the demo).

    Raises TooBusy.
    """
    if sum(r.state == "waiting" for r in list(_runs.values())) >= MAX_WAITING:
        raise TooBusy
    name = os.path.basename(os.path.normpath(case.path)) if case.path else ""
    run = Run(new_id(), case, name)
    for old in [r for r in list(_runs.values()) if r.state == "done"][:-KEPT_RUNS]:
        _runs.pop(old.id, None)
    _runs[run.id] = run
    threading.Thread(target=_work, args=(run, make_case), name=f"diagnosis-{run.id[:6]}", daemon=True).start()
    return run


def _work(run: Run, make_case: Callable[[Run], Case] | None) -> None:
    try:
        while not ONE_AT_A_TIME.acquire(timeout=0.2):
            if run.cancel.is_set():
                return
        try:
            if make_case is not None:
                run.changed("demo")
                run.case = make_case(run)
                run.name = os.path.basename(os.path.normpath(run.case.path))
            run.changed("starting")
            run.report = diagnose_now(run)
        finally:
            ONE_AT_A_TIME.release()
        _store(run, run.report)
    except Stopped:
        pass
    except (Refused, CaseNotMade) as error:
        run.problem = ("bad_setting", {"error": str(error)})
    except Exception as error:
        run.problem = ("failed_text", {"error": one_line(error)})
    finally:
        run.changed("done")


def _store(run: Run, report: Report) -> None:
    try:
        save(report, run.id)
    except OSError as error:
        run.problem = ("not_saved", {"error": error.strerror or str(error)})


def one_line(error: Exception) -> str:
    """What an unforeseen error says, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def diagnose_now(run: Run) -> Report:
    """Diagnose `run.case` in this thread, which must hold ONE_AT_A_TIME. Raises what `diagnose_checkpoint` raises."""
    from diagnostics.diagnose_checkpoint import depth_for, diagnose_checkpoint  # all checks: not needed for a page

    case = run.case
    run.depth = depth_for(case.path, model_config=case.model_config or None) if case.depth == "auto" else case.depth

    def on_event(event: Event) -> None:
        if event.finding is not None:
            run.findings.append(event.finding)
        elif event.skipped is not None:
            run.skipped.append(event.skipped)
        else:
            run.last, run.note = event, ""
        run.changed("checking")

    def on_note(text: str) -> None:
        run.note = text
        run.changed()

    report = diagnose_checkpoint(
        case.path, tokenizer=case.tokenizer or None, model_config=case.model_config or None, base=case.base or None,
        data=case.data, log=case.log, depth=run.depth, max_rows=case.max_rows, device=case.device,
        cancel=run.cancel, on_event=on_event, on_note=on_note,
    )  # fmt: skip
    return Report.from_json(json.loads(report.dumps().replace(case.secret, ""))) if case.secret else report
