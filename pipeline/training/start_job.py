"""From a recipe to a running job.

The launcher is started first and waits, its imports done, for the data and the checks: importing trl takes longer than
either. What the checks find wrong ends it before its first step unless the user insists.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import processes
from pipeline.demo.demo_names import demo_model, is_demo
from pipeline.diagnostics_child import AskingCancelled, ask_diagnostics
from pipeline.json_file import parse_json
from pipeline.refusal import Refused
from pipeline.training.checkpoints import last_whole, step_of
from pipeline.training.job_folder import (
    ACCELERATE,
    ASKED,
    CHECKS,
    COMMAND,
    LOG,
    RECIPE,
    STOP,
    TRAIN_ROWS,
    WAITING,
    Job,
    Status,
    forget,
    new_job,
    read_status,
    write_status,
)
from pipeline.training.newest_record import METRICS
from pipeline.training.progress_file import PROGRESS
from pipeline.training.recipe import Recipe, parse_recipe
from pipeline.training.supervise import command_in, request_stop, start_supervisor
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    from pipeline.training.accelerate_files import AccelerateFile
    from pipeline.training.training_data import RowsWritten

PATHS = (
    "model_name_or_path", "adapter_name_or_path", "tokenizer_name_or_path", "ref_model_name_or_path",
    "reward_model_name_or_path", "reward_database", "chat_template", "resume_from_checkpoint", "deepspeed",
    "output_dir",
)  # fmt: skip
LOCAL = ("reward_database", "deepspeed")
LOCAL_OR_HUB = ("adapter_name_or_path", "tokenizer_name_or_path", "ref_model_name_or_path", "reward_model_name_or_path")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?")
HOW_TO_RUN = ("resume_from_checkpoint", "logging_steps", "save_steps", "save_total_limit", "report_to", "plot_loss")
Note = Callable[[str], None]
"""Told what is being done now: demo, data, checks."""


@dataclass(frozen=True)
class Started:
    """job; report: of the checks, as JSON; rows: what the data came to; refused: errors of the report ended the job
    before its start."""

    job: Job
    report: Mapping[str, Any]
    rows: RowsWritten
    refused: bool = False


@dataclass(frozen=True)
class Settled:
    """A recipe as this machine will run it. recipe: paths absolute, demo names replaced; encoder_decoder and
    conversational: what the model's own files say."""

    asked: Recipe
    recipe: Recipe
    encoder_decoder: bool = False
    conversational: bool = False


class Cancelled(Exception):
    """The one who asked gave up before the start."""


def settle(recipe: Recipe, note: Note = lambda text: None) -> Settled:
    """Demo names and relative paths replaced. Raises Refused where no model is named, or one that isn't there."""
    from pipeline.checkpoint import open_checkpoint
    from pipeline.declared_tokens import chat_template
    from pipeline.training.policy_model import chat_template as template_of
    from pipeline.training.policy_model import tokenizer_of

    model = recipe.get("model_name_or_path")
    if not model:
        raise Refused("recipe_without_model", path=recipe.name)
    settled = recipe.settled
    fields = dict(settled.fields)
    for name in PATHS:
        value = fields.get(name)
        if not isinstance(value, str):
            continue
        if is_demo(value):
            note("demo")
            fields[name] = str(demo_model(value, note))
        elif name == "output_dir" or os.path.exists(os.path.expanduser(value)):
            fields[name] = os.path.abspath(os.path.expanduser(value))
        elif name in LOCAL or name in LOCAL_OR_HUB and not _HUB_ID.fullmatch(value):
            raise Refused("field_path_missing", field=name, path=value)
    settled = replace(settled, fields=fields)
    if isinstance(given := settled.get("chat_template"), str):
        template_of(given)
    tokenizer = tokenizer_of(settled)
    apart = tokenizer if tokenizer != fields["model_name_or_path"] else None
    found = open_checkpoint(str(fields["model_name_or_path"]), tokenizer=apart)
    if found.adapter_config.value is not None:
        base = found.adapter_config.get("base_model_name_or_path")
        with suppress(Refused):  # what an adapter lacks is for the checks to say
            found = open_checkpoint(str(base))
    encoder_decoder = found.is_encoder_decoder
    template = settled.get("chat_template") or chat_template(found.tokenizer).text
    return Settled(recipe, settled, encoder_decoder, bool(template) and not encoder_decoder)


def start_job(
    recipe: Recipe, *, accelerate: str | None = None, command: str | None = None, insist: bool = False,
    note: Note = lambda text: None, cancel: threading.Event | None = None, lang: str = "en",
) -> Started:  # fmt: skip
    """Make the job, check it, and let it begin. Returns when the checks are through; the run goes on by itself.

    accelerate: a name of configs/accelerate or a file, before what the recipe says. command: a line that the user has
    edited in place of the one made here, `{job}` standing for the job's folder. Raises Refused for what can't be
    started at all, of which nothing is left then. Raises Cancelled.
    """
    settled = settle(recipe, note)
    _may_stop(cancel)
    output_dir = settled.recipe.fields.get("output_dir")
    job = new_job(recipe.name, output_dir)
    begun = False
    try:
        written = _write_files(job, settled, accelerate, command)
        write_status(job, Status(state="checking", created=time.time(), recipe_hash=recipe_hash(written)))
        supervisor = start_supervisor(job)
        begun = True
        _reaped(supervisor)
        note("data")
        rows = write_rows_of(settled, job.folder, note)
        _may_stop(cancel)
        note("checks")
        checked = check(job.path(RECIPE), job.folder, job.path(ACCELERATE), lang, cancel)
        report = checked.report
        with suppress(OSError), written_whole(job.path(CHECKS)) as path:
            path.write_bytes(checked.shown)
        if not insist and any(f.get("severity") == "error" for f in report.get("findings", ())):
            _end_before_start(job)
            return Started(job, report, rows, refused=True)
        _may_stop(cancel)
        job.path(WAITING).unlink(missing_ok=True)
        return Started(job, report, rows)
    except OSError as failed:
        _undo(job, begun)
        raise Refused("job_folder_failed", path=job.folder, why=failed.strerror or failed) from None
    except BaseException:
        _undo(job, begun)
        raise


def write_rows_of(
    settled: Settled, folder: Path, note: Note = lambda text: None, *, own: tuple[Path, ...] | None = None
) -> RowsWritten:  # fmt: skip
    """The data of a recipe as its trainer reads it. own: the folders whose files may be read, None for all of this
    machine. Raises Refused."""
    from pipeline.training.training_data import write_rows

    return write_rows(
        settled.recipe, folder, conversational=settled.conversational, encoder_decoder=settled.encoder_decoder,
        progress=note, public=own is not None, own=own or (),
    )  # fmt: skip


def resume_job(job: Job, *, insist: bool = False) -> str:
    """Go on from the newest whole checkpoint, from the beginning where there is none. Returns the checkpoint's name.

    Raises Refused for a job that is live or done, whose files are gone, or whose recipe was changed since (unless the
    user insists; how often it logs and saves may change).
    """
    status = read_status(job)
    if status.live:
        raise Refused("job_is_live", job=job.id)
    if status.state == "refused" and not insist:
        raise Refused("job_was_refused", job=job.id)
    if status.state == "done" and not insist:
        raise Refused("job_is_done", job=job.id)
    try:
        recipe = parse_recipe(job.path(RECIPE).read_text(encoding="utf-8"), job.path(RECIPE).stem)
    except (OSError, UnicodeDecodeError) as failed:
        why = failed.strerror if isinstance(failed, OSError) else "UTF-8"
        raise Refused("job_file_gone", job=job.id, path=job.path(RECIPE), why=why or failed) from None
    for name in (COMMAND, ACCELERATE, TRAIN_ROWS):
        if not job.path(name).is_file():
            raise Refused("job_file_gone", job=job.id, path=job.path(name), why=os.strerror(errno.ENOENT))
    command_in(job)
    if status.recipe_hash and recipe_hash(recipe) != status.recipe_hash and not insist:
        raise Refused("job_recipe_changed", job=job.id, path=job.path(RECIPE))
    whole = last_whole(job.output)
    try:
        if whole is not None:
            recipe = replace(recipe, fields={**recipe.fields, "resume_from_checkpoint": str(whole)})
            with written_whole(job.path(RECIPE)) as path:
                path.write_text(recipe.as_yaml(), encoding="utf-8")
        forget_steps_after(job, step_of(whole) if whole else 0)
        for name in (STOP, WAITING, PROGRESS):
            job.path(name).unlink(missing_ok=True)
        again = replace(
            status, state="checking", created=time.time(), attempt=status.attempt + 1, supervisor=None, training=None,
            end=0.0, exit_status=None, failure=None, asked_to_stop=0.0, recipe_hash=recipe_hash(recipe),
            checkpoint=whole.name if whole else "",
        )  # fmt: skip
        write_status(job, again)
        _reaped(start_supervisor(job))
    except OSError as failed:
        raise Refused("job_folder_failed", path=job.folder, why=failed.strerror or failed) from None
    return whole.name if whole else ""


def forget_steps_after(job: Job, step: int) -> None:
    """Drop the records of steps that will be done again, so that the curve has each once. Raises OSError."""
    path = job.path(METRICS)
    if not path.is_file():
        return
    with written_whole(path) as kept, path.open("rb") as old, kept.open("wb") as new:
        for line in old:
            try:
                record = parse_json(line)
            except (ValueError, RecursionError):
                continue  # cut in the middle when the run was killed
            if isinstance(record, dict) and isinstance(record.get("step"), int) and record["step"] <= step:
                new.write(line)


def recipe_hash(recipe: Recipe) -> str:
    """Of what decides on the result: not of how often it logs and saves."""
    kept = replace(recipe, name="", fields={k: v for k, v in sorted(recipe.fields.items()) if k not in HOW_TO_RUN})
    return hashlib.sha256(kept.as_yaml().encode("utf-8", errors="replace")).hexdigest()[:16]


def spread_of(recipe: Recipe, accelerate: str | None = None) -> AccelerateFile:
    """How it is spread on this machine. accelerate: a name or a file, before what the recipe says. Raises Refused."""
    from pipeline.training.accelerate_files import suited

    named = accelerate or recipe.get("accelerate")
    return suited(named, processes=recipe.get("num_processes"), cpu=recipe.get("use_cpu", False))


def command_of(job_folder: str, accelerate_file: str, spread: AccelerateFile) -> str:
    """The line that starts the training process, to copy."""
    from pipeline.training.launch_line import launch_line

    return launch_line(accelerate_file, ["-m", "pipeline.training.run", job_folder], spread).text


@dataclass(frozen=True)
class Checked:
    """Of the checks before a start. status: 0 nothing wrong, 1 errors, 2 not usable. shown: the report in the form that
    was asked for, report: as JSON."""

    status: int
    shown: bytes
    report: Mapping[str, Any]


def check(
    recipe: Path, rows: Path, accelerate: Path, lang: str = "en", cancel: threading.Event | None = None, *,
    format: str = "json",
) -> Checked:  # fmt: skip
    """What `python -m diagnostics recipe` says, which judges; this layer only makes. Raises Refused, Cancelled."""
    with tempfile.TemporaryDirectory(prefix="dpo-doctor-checks-") as made:
        beside = Path(made) / "report.json"
        words = ["recipe", str(recipe), "--rows", str(rows), "--accelerate", str(accelerate), "--format", format,
                 "--lang", lang]  # fmt: skip
        if format != "json":
            words += ["--json", str(beside)]
        try:
            told = ask_diagnostics(words, cancel)
        except AskingCancelled:
            raise Cancelled from None
        if not told.shown.strip():  # a report is printed whatever it says; without one the process itself failed
            raise Refused("checks_failed", why=told.last_line)
        return Checked(told.status, told.shown, parse_json(told.shown if format == "json" else beside.read_bytes()))


def _write_files(job: Job, settled: Settled, accelerate: str | None, command: str | None) -> Recipe:
    """Returns the recipe as it will be read back."""
    from pipeline.training.launch_line import in_folder

    recipe = settled.recipe
    spread = spread_of(recipe, accelerate)
    fields = {"output_dir": str(job.output), **recipe.fields}
    if spread.use_cpu:
        fields["use_cpu"] = True
    text = replace(recipe, fields=fields).as_yaml()
    job.path(RECIPE).write_text(text, encoding="utf-8")
    job.path(ASKED).write_text(settled.asked.as_yaml(), encoding="utf-8")
    job.path(ACCELERATE).write_text(spread.as_yaml(), encoding="utf-8")
    folder = str(job.folder)
    line = in_folder(command, folder) if command else command_of(folder, str(job.path(ACCELERATE)), spread)
    job.path(COMMAND).write_text(line + "\n", encoding="utf-8")
    job.path(LOG).touch()
    job.path(WAITING).write_text(f"{os.getpid()}\n", encoding="utf-8")
    return parse_recipe(text, recipe.name)


def _end_before_start(job: Job) -> None:
    with suppress(OSError):
        request_stop(job, firmly=True, save=False)
    until = time.monotonic() + 30
    while read_status(job).live and time.monotonic() < until:
        time.sleep(0.1)


def _undo(job: Job, begun: bool) -> None:
    """Nothing is left of a job that could not be started."""
    if begun:
        _end_before_start(job)
    forget(job)


def _may_stop(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled


def _reaped(supervisor: processes.Child) -> None:
    """Its end is awaited, so that it doesn't stay a zombie while the app lives."""
    threading.Thread(target=supervisor.wait, name=f"job-wait-{supervisor.pid}", daemon=True).start()

