"""How a job stands, as a sentence, as lines of a table, as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline.config_files import load_config
from pipeline.durations import exactly
from pipeline.training.job_folder import RECIPE, Job, Status, read_status
from pipeline.training.newest_record import last_loss


def words(lang: str) -> Mapping[str, Any]:
    """The section `jobs` of words/LANG/training.yaml."""
    section: Mapping[str, Any] = load_config(f"words/{lang}/training.yaml")["jobs"]
    return section


def method_of(job: Job) -> str:
    """As its recipe says; empty where that can't be read."""
    with suppress(OSError, UnicodeDecodeError), job.path(RECIPE).open(encoding="utf-8") as file:
        first = file.readline(200)
        if first.startswith("method:"):
            return first.removeprefix("method:").strip()
    return ""


def summary(job: Job) -> dict[str, Any]:
    """What `jobs list` and `jobs status` show, as JSON."""
    status = read_status(job)
    return {"job": job.id, "folder": str(job.folder), "output": str(job.output), "method": method_of(job),
            "loss": last_loss(job.folder), "seconds": round(status.seconds, 1), **status.as_json()}  # fmt: skip


def state_said(status: Status, lang: str) -> str:
    """One word or a few: running, stopped ..."""
    return str(words(lang)["states"][status.state])


def failure_said(status: Status, lang: str) -> str:
    """One or two sentences: how it ended, and where it failed why and what to change."""
    said = words(lang)
    text = str(said["ends"][status.state]).format(
        step=status.step, max_steps=status.max_steps, duration=exactly(status.seconds, lang),
        checkpoint=status.checkpoint or "-",
    )  # fmt: skip
    if status.failure is None:
        return text
    from pipeline.training.failures import advice

    shown = status.failure.text[:300]
    return " ".join(part for part in (text, advice(status.failure, lang), f"[{shown}]" if shown else "") if part)


def account(job: Job, lang: str) -> str:
    """Several lines for one job."""
    status, said = read_status(job), words(lang)
    rows = [
        ("job", job.id), ("folder", job.folder), ("state", state_said(status, lang)), ("method", method_of(job)),
        ("step", f"{status.step}/{status.max_steps}" if status.max_steps else "-"),
        ("loss", _number(last_loss(job.folder))), ("start", _moment(status.start)), ("end", _moment(status.end)),
        ("duration", exactly(status.seconds, lang)), ("memory", size(status.peak_memory_bytes)),
        ("gpu_memory", size(status.peak_gpu_memory_bytes)), ("checkpoint", status.checkpoint or "-"),
        ("attempt", status.attempt), ("exit_status", "-" if status.exit_status is None else status.exit_status),
    ]  # fmt: skip
    lines = [f"{said['rows'][name]}: {value}" for name, value in rows]
    if not status.live:
        lines.append(failure_said(status, lang))
    return "\n".join(lines) + "\n"


def table(found: Sequence[Mapping[str, Any]], lang: str) -> str:
    """One line a job: id, state, method, steps, loss, start, duration."""
    said = words(lang)
    names = ("job", "state", "method", "step", "loss", "start", "duration")
    rows = [[str(said["rows"][n]) for n in names]]
    for one in found:
        rows.append([
            str(one["job"]), str(said["states"][one["state"]]), str(one["method"]) or "-",
            f"{one['step']}/{one['max_steps']}" if one["max_steps"] else "-", _number(one["loss"]),
            _moment(one["start"]), exactly(one["seconds"], lang),
        ])  # fmt: skip
    widths = [max(_width(row[i]) for row in rows) for i in range(len(names))]
    lines = ["  ".join(cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def size(number: int) -> str:
    """In binary units, - for none."""
    if not number:
        return "-"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def _width(text: str) -> int:
    """Columns of a terminal: Chinese characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
