"""What the tab Train does that takes longer than a click: checks, starts, hand-overs, each in a thread.

Nobody has to stay: a start goes on when the page closes, and the job it made is in the list of jobs.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostics.report_store import ID, new_id
from pipeline.refusal import Refused
from pipeline.training.hand_over import HandedOver
from pipeline.training.hub_prepared import Prepared
from pipeline.training.hub_prices import Hardware
from pipeline.training.job_folder import TRAIN_ROWS
from pipeline.training.run_needs import Estimate, estimate
from pipeline.training.start_job import Cancelled
from ui import hub_runs, train_case
from ui.allowed_paths import is_public
from ui.private_folder import private_folder
from ui.running_diagnosis import one_line
from ui.train_case import Checked, Form
from ui.visitor_case import BadCase

KEPT, MAX_LIVE = 40, 4
PUBLIC_SECONDS = 600  # of a check on a public machine
_at_once = threading.Semaphore(2)


@dataclass
class Work:
    """kind: check | start | hand_over | hub_quote | hub_start. stage: demo, data, checks or hub, or a line of the work
    itself; empty while it waits. problem: what kept it from being done. report: of the checks, as JSON. estimate: of
    memory and time. rows: of the data, as JSON. job: id of the one that was started, or refused. file: of a hand-over,
    zipped. prepared: of a quote, what would be sent to Hugging Face, until it was; namespace: on whose account."""

    kind: str
    form: Form
    id: str = field(default_factory=new_id)
    stage: str = ""
    done: bool = False
    refused: bool = False
    problem: Refused | BadCase | str | None = None
    report: Mapping[str, Any] | None = None
    rows: Mapping[str, Any] = field(default_factory=dict)
    estimate: Estimate | None = None
    job: str = ""
    handed: HandedOver | None = None
    file: Path | None = None
    prepared: Prepared | None = None
    namespace: str = ""
    began: float = field(default_factory=time.time)
    cancel: threading.Event = field(default_factory=threading.Event)

    def note(self, stage: str) -> None:
        """Raises Cancelled."""
        self.stage = stage
        if self.cancel.is_set():
            raise Cancelled


_works: dict[str, Work] = {}
_lock = threading.Lock()


def find(work_id: Any) -> Work | None:
    """None where there is no such work, or no longer."""
    return _works.get(work_id) if isinstance(work_id, str) and ID.fullmatch(work_id) else None


def begin(kind: str, found: Checked, lang: str, **options: Any) -> Work:
    """Start it. Raises BadCase where too much is under way."""
    does: dict[str, Callable[..., None]] = {"check": _check, "start": _start, "hand_over": _hand_over,
                                          "hub_quote": _hub_quote, "hub_start": _hub_start}  # fmt: skip
    work = Work(kind, found.form)
    with _lock:
        if sum(not one.done for one in _works.values()) >= MAX_LIVE:
            raise BadCase("pairs_busy")
        for old in [i for i, one in _works.items() if one.done][: max(0, len(_works) - KEPT + 1)]:
            _works.pop(old)
        _works[work.id] = work

    def run() -> None:
        late = threading.Timer(PUBLIC_SECONDS, work.cancel.set)
        if is_public():
            late.daemon = True
            late.start()
        try:
            with _at_once:
                does[kind](work, found, lang, **options)
        except Cancelled:
            late_now = is_public() and time.time() - work.began >= PUBLIC_SECONDS
            work.problem = BadCase("train_public_time" if late_now else "train_cancelled", n=PUBLIC_SECONDS // 60)
        except (Refused, BadCase) as known:
            work.problem = known
        except OSError as failed:
            work.problem = failed.strerror or one_line(failed)
        except Exception as failed:  # a page must hear of it, whatever it was
            work.problem = one_line(failed)
        finally:
            late.cancel()
            work.done = True

    threading.Thread(target=run, name=f"train-{kind}-{work.id[:6]}", daemon=True).start()
    return work


def _check(work: Work, found: Checked, lang: str) -> None:
    """Everything that is looked at before a start, in a folder that is gone afterwards."""
    from pipeline.training.start_job import check, settle, write_rows_of

    assert found.recipe is not None and found.spread is not None
    asked = train_case.bounded(train_case.resolved(found.recipe), train_case.PUBLIC_ROWS)
    settled = settle(asked, work.note)
    with tempfile.TemporaryDirectory(prefix="dpo-doctor-train-") as made:
        folder = Path(made)
        (folder / "accelerate.yaml").write_text(found.spread.as_yaml(), encoding="utf-8")
        (folder / "recipe.yaml").write_text(settled.recipe.as_yaml(), encoding="utf-8")
        work.note("data")
        rows = write_rows_of(settled, folder, work.note, own=train_case.own_folders())
        work.rows = rows.as_json()
        work.estimate = estimate(settled.recipe, found.spread, rows.train)  # shown while the checks go on
        work.note("checks")
        work.report = check(folder / "recipe.yaml", folder, folder / "accelerate.yaml", lang, work.cancel).report
        work.estimate = estimate(settled.recipe, found.spread, rows.train, work.report)


def _start(work: Work, found: Checked, lang: str, insist: bool = False) -> None:
    from pipeline.training.start_job import start_job

    assert found.recipe is not None
    accelerate = None
    if found.form.accelerate is not None:
        folder = private_folder("train") / new_id()
        folder.mkdir(mode=0o700)
        accelerate = str(folder / "accelerate.yaml")
        Path(accelerate).write_text(found.form.accelerate, encoding="utf-8")
    try:
        started = start_job(
            train_case.resolved(found.recipe), accelerate=accelerate, command=found.form.command, insist=insist,
            note=work.note, cancel=work.cancel, lang=lang,
        )  # fmt: skip
    finally:
        if accelerate is not None:
            shutil.rmtree(Path(accelerate).parent, ignore_errors=True)
    work.report, work.refused = started.report, started.refused
    work.rows = started.rows.as_json()
    if started.refused and found.spread is not None:
        with suppress(Refused, BadCase, OSError):
            work.estimate = estimate(
                train_case.resolved(found.recipe).settled, found.spread, started.rows.train, started.report
            )
    work.job = started.job.id


def _hand_over(work: Work, found: Checked, lang: str, into: str = "trl") -> None:
    from pipeline.training.hand_over import hand_over

    assert found.recipe is not None
    place = private_folder("downloads") / f"train-{new_id()}"
    place.mkdir(mode=0o700)
    name = f"{found.form.name}-{into}"
    work.note("data")
    asked = train_case.bounded(train_case.resolved(found.recipe), train_case.PUBLIC_SENT + 1)
    work.handed = hand_over(asked, into, place / name, own=train_case.own_folders())
    _few_enough(work.handed.rows + work.handed.eval_rows)
    work.file = Path(shutil.make_archive(str(place / name), "zip", place, name))
    shutil.rmtree(place / name, ignore_errors=True)


def _few_enough(rows: int) -> None:
    """Raises BadCase where more rows would leave a public machine than it hands out."""
    if is_public() and rows > train_case.PUBLIC_SENT:
        raise BadCase("train_public_rows", most=f"{train_case.PUBLIC_SENT:,}")


def _hub_quote(
    work: Work, found: Checked, lang: str, machine: Hardware, minutes: int | None = None, namespace: str = ""
) -> None:  # fmt: skip
    """What the run takes and costs on a machine of Hugging Face; what would be sent is kept for the start."""
    from pipeline.training.hub_prepared import prepare

    assert found.recipe is not None
    place = private_folder("hub") / new_id()
    place.mkdir(mode=0o700)
    try:
        accelerate = None
        if found.form.accelerate is not None:
            (place / "accelerate.yaml").write_text(found.form.accelerate, encoding="utf-8")
            accelerate = str(place / "accelerate.yaml")
        asked = train_case.bounded(train_case.resolved(found.recipe), train_case.PUBLIC_SENT + 1)
        made = prepare(asked, place, machine, accelerate=accelerate, minutes=minutes, note=work.note,
                       own=train_case.own_folders())  # fmt: skip
        _few_enough(made.rows.train + made.rows.eval)
        work.rows, work.estimate = made.rows.as_json(), made.estimate
        work.namespace, work.prepared = namespace, made
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _hub_start(work: Work, found: Checked, lang: str, quote: Work, token: str) -> None:
    """Start what was quoted, once. In public nothing of it stays on this machine."""
    with _lock:  # a second click finds nothing to start
        made, quote.prepared = quote.prepared, None
    if made is None:
        raise BadCase("train_hub_quote_gone")
    try:
        work.note("hub")
        work.job = hub_runs.started(made, token, quote.namespace or None)
    except Refused as refused:
        if refused.sentence.entry != "hub_jobs_start_unsure":
            quote.prepared = made  # nothing runs: it may be tried again
        raise
    shutil.rmtree(made.files[TRAIN_ROWS].parent.parent, ignore_errors=True)
