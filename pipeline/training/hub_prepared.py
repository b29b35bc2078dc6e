"""A run on Hugging Face Jobs before it costs anything: what is sent along, how long it takes on one machine, and at
what price; and a run found again by its label alone, where no `hub.json` is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.refusal import Refused
from pipeline.training.hub_calls import Unsure, api, asked, once, settings, usable_token
from pipeline.training.hub_jobs import LABEL, LABEL_SECONDS, HubRun
from pipeline.training.hub_logs import line_of
from pipeline.training.hub_prices import CostEstimate, Hardware, billed, cost_estimate, hardware, timeout_for
from pipeline.training.job_folder import EVAL_ROWS, TRAIN_ROWS
from pipeline.training.recipe import Recipe
from pipeline.training.start_job import Note, settle, write_rows_of

if TYPE_CHECKING:
    from pipeline.training.run_needs import Estimate
    from pipeline.training.training_data import RowsWritten

MODEL = "model"  # folder of the job that holds a model of one's own
MOST_MINUTES = 7 * 24 * 60  # of a time limit that is typed
_NOT_SENT = ("data", "eval_data", "output_dir", "accelerate")  # rows and accelerate file go along as files
_ONLY_HERE = ("chat_template", "deepspeed")
_LONGEST = 10**9  # seconds: stands for a time limit that isn't known


@dataclass(frozen=True)
class Prepared:
    """files: name in the job's folder -> file here. estimate: of memory and time on that machine, and cost: the range;
    None where the model's files don't say enough. timeout: seconds; most_usd: what they cost, None without a price."""

    recipe: Recipe
    machine: Hardware
    files: Mapping[str, Path]
    rows: RowsWritten
    timeout: int
    most_usd: float | None
    estimate: Estimate | None = None
    cost: CostEstimate | None = None
    accelerate: str | None = None


def prepare(
    recipe: Recipe, folder: Path, machine: Hardware, *, accelerate: str | None = None, minutes: int | None = None,
    note: Note = lambda text: None, own: tuple[Path, ...] | None = None,
) -> Prepared:  # fmt: skip
    """Write the rows into `folder`, and say what the run would take on `machine`. accelerate: a file in place of what
    the recipe names. minutes: of the time limit, None for what the estimate asks for. own: see `write_rows_of`. Raises
    Refused, OSError."""
    from pipeline.training.accelerate_files import suited

    if minutes is not None and not 0 < minutes <= MOST_MINUTES:
        raise Refused("hub_jobs_time", given=minutes * 60)
    settled = settle(recipe, note)
    note("data")
    rows = write_rows_of(settled, folder, note, own=own)
    files = {TRAIN_ROWS: folder / TRAIN_ROWS}
    if (folder / EVAL_ROWS).is_file():
        files[EVAL_ROWS] = folder / EVAL_ROWS
    sent, along = _sent(settled.recipe)
    named = accelerate or settled.recipe.get("accelerate")
    spread = suited(
        named, processes=recipe.get("num_processes"), cpu=settled.recipe.get("use_cpu", False),
        gpus=machine.accelerators,
    )  # fmt: skip
    made = _on_machine(settled.recipe, spread, rows.train, machine)
    cost = _range(machine, made.time.seconds) if made is not None else None
    timeout = minutes * 60 if minutes else cost.timeout_seconds if cost is not None else timeout_for(1.0)
    price = machine.usd_per_hour
    most = None if price is None else billed(timeout, price)
    if cost is not None:
        cost = replace(cost, timeout_seconds=timeout, most_usd=most)
    return Prepared(sent, machine, {**files, **along}, rows, timeout, most, made, cost, named)


def _sent(recipe: Recipe) -> tuple[Recipe, dict[str, Path]]:
    """(the recipe as it reads there, files of a model that lies here). Raises Refused for what else lies here."""
    fields = {name: value for name, value in recipe.fields.items() if name not in _NOT_SENT}
    for name in _ONLY_HERE:
        if isinstance(value := fields.get(name), str) and Path(value).is_absolute():
            raise Refused("hub_jobs_local_path", field=name, value=value)
    along: dict[str, Path] = {}
    model = Path(str(fields.get("model_name_or_path", "")))
    if model.is_absolute() and model.is_dir():
        along = {f"{MODEL}/{p.name}": p for p in sorted(model.iterdir()) if p.is_file() and not p.name.startswith(".")}
        fields["model_name_or_path"] = MODEL
    return replace(recipe, fields=fields), along


def _on_machine(recipe: Recipe, spread: Any, rows: int, machine: Hardware) -> Estimate | None:
    from pipeline.training.memory_needed import memory_needed, settings_of
    from pipeline.training.model_shape import shape_of_model
    from pipeline.training.run_needs import Estimate
    from pipeline.training.time_needed import time_needed

    try:
        shape = shape_of_model(str(recipe.get("model_name_or_path")))
        launch: dict[str, Any] = dict(spread.memory_settings())
        settled = settings_of(recipe, **launch)
        took = time_needed(
            shape, settled, rows=rows, epochs=float(recipe.get("num_train_epochs", 3)),
            max_steps=int(recipe.get("max_steps", -1)), device_name=machine.accelerator,
        )  # fmt: skip
        there = machine.accelerator_gb if machine.accelerators else machine.memory_gb
        return Estimate(memory_needed(shape, settled), took, int(there * 1e9) or None, spread.use_cpu)
    except (Refused, ValueError, KeyError, TypeError, ZeroDivisionError, OSError):
        return None


def _range(machine: Hardware, seconds: tuple[float, float]) -> CostEstimate | None:
    """From the cheapest to the dearest that the estimate of the time allows."""
    try:
        least, most = (cost_estimate(machine, one) for one in seconds)
    except Refused:
        return None
    middle = cost_estimate(machine, (seconds[0] + seconds[1]) / 2)
    usd = None
    if least.usd is not None and middle.usd is not None and most.usd is not None:
        usd = (least.usd[0], middle.usd[1], most.usd[2])
    return replace(most, seconds=(least.seconds[0], middle.seconds[1], most.seconds[2]), usd=usd)


def recovered(run_id: str, namespace: str, token: str | None, endpoint: str | None = None) -> HubRun:
    """A run of this project by its label, as the Hub shows it to this login. Raises Refused."""
    token = usable_token(token)
    client = api(token, endpoint)
    wanted: dict[str, Any] = {"labels": {LABEL: run_id}, "timeout": settings()["stall_seconds"]}
    told = asked(lambda: list(client.list_jobs(namespace=namespace, **wanted)), token)
    for one in told:
        labels = one.labels or {}
        if labels.get(LABEL) != run_id:
            continue
        command = [str(word) for word in one.command or ()]
        data_repo, commit, _, output = command[-4:] if len(command) >= 4 else ("", "", "", "")
        seconds = str(labels.get(LABEL_SECONDS, ""))
        flavor = str(getattr(one.flavor, "value", one.flavor) or "")
        price = next((m.usd_per_hour for m in hardware(None, endpoint) if m.name == flavor), None)
        return HubRun(
            run_id, str(one.id), namespace, flavor, int(seconds) if seconds.isdigit() else _LONGEST, data_repo, commit,
            output, one.created_at.timestamp() if one.created_at else 0.0, str(one.url), price, endpoint,
        )  # fmt: skip
    raise Refused("hub_jobs_gone", job=run_id)


def log_tail(run: HubRun, token: str | None, lines: int = 200) -> str:
    """The last lines of its output, kept nowhere; "" where there are none yet. Raises Refused."""
    token = usable_token(token)
    client = api(token, run.endpoint)

    def read() -> list[str]:
        events = client.fetch_job_logs(job_id=run.job_id, namespace=run.namespace, follow=False, tail=lines)
        return [line_of(event, token).decode("utf-8", errors="replace") for event in islice(events, 20 * lines)]

    try:
        return "".join(once(read, token)[-lines:])
    except Unsure as unsure:
        raise Refused("hub_jobs_log_cut", job=run.job_id, reason=unsure.args[0]) from None
