"""A job as the page shows it: what it does now, what its curves say, its log; the list of jobs; jobs compared."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from diagnostics.render import worst_first
from pipeline.durations import exactly
from pipeline.refusal import Refused
from pipeline.training.checkpoints import checkpoints_in, last_whole, step_of
from pipeline.training.failures import advice
from pipeline.training.job_folder import (
    ASKED,
    COMMAND,
    LOG,
    RECIPE,
    TRAIN_ROWS,
    Job,
    Status,
    all_jobs,
    find_job,
    read_status,
)
from pipeline.training.job_words import failure_said, method_of, size, state_said
from pipeline.training.newest_record import METRICS
from pipeline.training.progress_file import read_progress
from pipeline.training.recipe import Recipe, parse_recipe
from ui import log_charts, log_view, train_live, train_setup
from ui.charts import finite_number
from ui.interface_words import known, words
from ui.log_charts import MAX_RUNS, spot_of
from ui.reject_head import ago
from ui.report_details import spot_button
from ui.report_view import fix_line, mark
from ui.safe_html import prose, tag, text
from ui.visitor_case import BadCase

MAX_LISTED, SHOWN_AT_ONCE = 40, 5  # jobs; the others are folded
LOG_END = 16_000  # bytes of log.txt that are shown
LATE_SECONDS = 8.0  # after being told politely, a run may be ended at once
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r"[^|\n]{0,80}\d+%\|")
SIGNS = {"done": "✓", "stopped": "❚❚", "failed": "✕", "refused": "✕", "interrupted": "✕"}
TONES = {"queued": "preparing", "checking": "preparing", "starting": "preparing", "refused": "failed",
         "interrupted": "broken"}  # fmt: skip
FACTS = ("loss", "eval_loss", "rewards/margins", "rewards/accuracies", "reward", "learning_rate")
FILES = (RECIPE, COMMAND, "accelerate.yaml", LOG, METRICS, "checks.json")


def job_of(job_id: Any) -> Job:
    """By its id. Raises BadCase."""
    try:
        if isinstance(job_id, str) and job_id and "/" not in job_id:
            found = find_job(job_id)
            if found.id == job_id:
                return found
    except Refused:
        pass
    raise BadCase("train_gone")


def recipe_of(job: Job, name: str = RECIPE) -> Recipe | None:
    """As it was run, or (ASKED) as it was asked for; None where it can't be read."""
    with suppress(OSError, UnicodeDecodeError, Refused):
        return parse_recipe(job.path(name).read_text(encoding="utf-8"), stem(job))
    return None


def stem(job: Job) -> str:
    """The recipe's name, which an id begins with."""
    return re.sub(r"-\d{8}-\d{6}-[0-9a-f]{4}$", "", job.id)


def title(job: Job) -> str:
    """What a job is called: its recipe and its model."""
    for name in (ASKED, RECIPE):
        with suppress(OSError):
            model = _model(job, name, job.path(name).stat().st_mtime_ns)
            if model is not None:
                return " · ".join(part for part in (stem(job), Path(model).name.removeprefix("demo:")) if part)
    return stem(job)


@lru_cache(maxsize=1024)
def _model(job: Job, name: str, changed: int) -> str | None:
    """Which model a recipe names; None where it can't be read. changed: of the file, so that one is read once."""
    recipe = recipe_of(job, name)
    return None if recipe is None else str(recipe.get("model_name_or_path", ""))


def _sign(status: Status) -> str:
    return tag("i", "dd-pulse") if status.live else tag("i", "", SIGNS.get(status.state, ""), aria_hidden="true")


def _state(status: Status, lang: str, line: str) -> str:
    return tag("span", f"dd-run-state dd-state-{TONES.get(status.state, status.state)}", _sign(status), text(line))


def recent(lang: str) -> str:
    """The jobs of this machine, newest first; empty where there are none."""
    said = words(lang)
    rows = []
    for job in islice(all_jobs(), MAX_LISTED):
        status = read_status(job)
        steps = f" {status.step}/{status.max_steps}" if status.max_steps else ""
        name = tag("span", "dd-recent-name", tag("b", "", text(title(job))), tag("span", "dd-dim", text(job.id)))
        now = _state(status, lang, state_said(status, known(lang)) + steps)
        end = tag("span", "dd-recent-end", now, tag("span", "dd-dim", text(ago(status.created, said))))
        rows.append(tag("button", "dd-recent", name, end, type="button", data_open=job.id,
                        data_live="1" if status.live else None))  # fmt: skip
    if not rows:
        return ""
    more = ""
    if len(rows) > SHOWN_AT_ONCE + 1:
        line = text(said["rejects_more_runs"].format(n=len(rows) - SHOWN_AT_ONCE))
        more = tag("details", "dd-more-facts", tag("summary", "", line), *rows[SHOWN_AT_ONCE:], id="dd-train-runs")
        rows = rows[:SHOWN_AT_ONCE]
    return tag("section", "dd-card dd-recents", tag("h3", "dd-h", text(said["train_runs"])), *rows, more)


def gone(lang: str) -> str:
    """The address names a job that isn't here."""
    said = words(lang)
    return tag("section", "dd-card", tag("h2", "", text(said["rejects_gone_title"])),
               tag("p", "", text(said["rejects_gone_lasting"])), role="alert")  # fmt: skip


def head(job: Job, partners: Sequence[Job], lang: str) -> str:
    """Which job this is, and what can be done with it at any time."""
    said, status = words(lang), read_status(job)
    facts = " · ".join((method_of(job), job.id, ago(status.created, said)))
    name = tag("div", "dd-head-title", tag("h2", "", text(title(job))), tag("p", "dd-dim", text(facts)))
    tools = [_tool(said["train_again"], data_again=True)]
    made = None if status.live else saved_model(job)
    if made is not None:
        tools.append(_tool(said["train_diagnose"], data_diagnose=str(made), data_rows=str(job.path(TRAIN_ROWS)),
                           data_log=str(job.path(METRICS))))  # fmt: skip
    tools += [tag("button", "dd-small", text(said["copy_link"]), type="button", data_share=True),
              _tool(said["train_another"], data_new=True)]  # fmt: skip
    there = {job.id, *(p.id for p in partners)}
    others = [one for one in islice(all_jobs(), MAX_LISTED) if one.id not in there]
    compare = ""
    if others and len(partners) < MAX_RUNS - 1:
        options = [tag("option", "", text(said["train_compare"]), value="")]
        for one in others:
            line = f"{title(one)} · {ago(read_status(one).created, said)}"
            options.append(tag("option", "", text(line), value=one.id))
        compare = tag("select", "dd-select dd-train-compare", *options, name="compare",
                      aria_label=said["train_compare"])  # fmt: skip
    row = tag("div", "dd-head-row", name, tag("div", "dd-head-tools", *tools))
    return tag("section", "dd-card dd-train-jobhead", row, tag("div", "dd-head-row dd-head-end", compare))


def saved_model(job: Job) -> Path | None:
    """The model that a run has saved, or else its newest whole checkpoint; None without either."""
    if any((job.output / name).is_file() for name in ("config.json", "adapter_config.json")):
        return job.output
    return last_whole(job.output)


def _tool(line: str, **data: Any) -> str:
    return tag("button", "dd-small", text(line), type="button", **data)


def now(job: Job, lang: str) -> str:
    """How it stands in a sentence, how far it is, what it takes, and the way on."""
    said, status = words(lang), read_status(job)
    share = status.step / status.max_steps if status.max_steps else None
    facts = [tag("span", "", text(fact)) for fact in _facts(job, status, lang)]
    sentence = _state(status, lang, state_said(status, known(lang)))
    top = tag("div", "dd-run-line", tag("div", "", sentence, tag("span", "dd-run-facts", *facts)),
              tag("div", "dd-run-do", *_buttons(status, said)))  # fmt: skip
    bar = ""
    if status.live or share is not None:
        known_share = share is not None and (status.step > 0 or not status.live)
        width = max(1, round(100 * share)) if known_share and share is not None else 30
        fill = "dd-fill" if known_share else "dd-fill dd-unknown"
        bar = tag("div", "dd-track", tag("div", fill, style=f"width:{width}%"), role="progressbar",
                  aria_valuenow=width if known_share else None, aria_valuemin=0, aria_valuemax=100)  # fmt: skip
    told = _told(job, status, lang)
    return tag("section", f"dd-card dd-run dd-run-{status.state}", top, bar, told, data_live="1" if status.live else "",
               role="status")  # fmt: skip


def _told(job: Job, status: Status, lang: str) -> str:
    """What the facts beside the state don't say: what is waited for, how it ended, why it failed and what to change."""
    said = words(lang)
    if status.state in ("running", "done"):
        return ""
    line = failure_said(replace(status, failure=None), known(lang))
    if status.state == "starting":
        line = said["train_phases"].get(read_progress(job.folder).phase, line)
    elif status.state in ("failed", "interrupted", "stopped") and not status.checkpoint:
        line = said["train_ended_unsaved" if status.step else "train_ended_early"].format(
            n=f"{status.step:,}", of=f"{status.max_steps:,}", time=exactly(status.seconds, known(lang))
        )
    elif status.state == "refused":
        line += " " + said["train_refused_info"]
    if status.failure is None:
        return tag("p", "dd-train-told", text(line))
    quoted = tag("pre", "dd-train-quoted", text(status.failure.text[:300])) if status.failure.text else ""
    return tag("div", "dd-train-failed", tag("p", "dd-run-why", text(line)), quoted,
               fix_line(advice(status.failure, known(lang)), said), role="alert")  # fmt: skip


def _buttons(status: Status, said: Mapping[str, Any]) -> list[str]:
    if status.live:
        late = status.state == "stopping" and time.time() - status.asked_to_stop > LATE_SECONDS
        word = said["rejects_end_now" if late else "train_stop"]
        return [tag("button", "dd-do dd-danger", text(word), type="button", data_stop="now" if late else "politely",
                    title=said["train_end_now_info" if late else "train_stop_info"],
                    disabled=status.state == "stopping" and not late)]  # fmt: skip
    if status.state in ("stopped", "failed", "interrupted"):
        word = said["rejects_resume" if status.checkpoint else "train_from_start"]
        return [tag("button", "dd-do dd-primary", text(word), type="button", data_resume=True)]
    return []


def _facts(job: Job, status: Status, lang: str) -> list[str]:
    said, facts = words(lang), []
    if status.max_steps:
        facts.append(said["train_step"].format(n=f"{status.step:,}", of=f"{status.max_steps:,}"))
    left = seconds_left(job, status)
    if left is not None:
        facts.append(said["rejects_left"].format(time=exactly(left, known(lang))))
    elif status.end and status.start:
        facts.append(said["rejects_took"].format(time=exactly(status.seconds, known(lang))))
    if status.peak_memory_bytes:
        facts.append(said["train_peak"].format(n=size(status.peak_memory_bytes)))
    if status.peak_gpu_memory_bytes:
        facts.append(said["train_peak_gpu"].format(n=size(status.peak_gpu_memory_bytes)))
    if status.attempt > 1:
        facts.append(said["train_attempt"].format(n=status.attempt))
    return facts


def seconds_left(job: Job, status: Status) -> float | None:
    """By the pace of this attempt so far; None before its second step and when it is over."""
    if status.state != "running" or not status.first_step or not status.max_steps:
        return None
    begun = 0
    recipe = recipe_of(job)
    if recipe is not None and recipe.get("resume_from_checkpoint"):
        begun = step_of(Path(str(recipe["resume_from_checkpoint"])))
    done = status.step - begun - 1  # steps since the first of this attempt
    if done < 1:
        return None
    return max(0.0, (time.time() - status.first_step) / done * (status.max_steps - status.step))


def numbers(job: Job, lang: str) -> str:
    """The newest values of what matters, in one line."""
    said, shown = words(lang), []
    for name in FACTS:
        value = _last(job, name)
        if value is not None:
            named = text(" " + log_charts.full_name(name, said))
            shown.append(tag("span", "", tag("b", "", text(f"{value:.4g}")), named))
    return tag("p", "dd-train-numbers", *shown) if shown else ""


def findings(job: Job, live: bool, lang: str) -> str:
    """What the curves say so far, and stopping where that is bad."""
    said = words(lang)
    run = train_live.shown_run(job, title(job), lang)
    if run is None:
        return ""
    report, rows, bad = run.report, [], False
    for finding in worst_first(report.findings):
        if finding.severity not in log_charts.SEVERE:
            continue
        bad = bad or finding.severity == "error"
        spot = spot_of(finding)
        line = tag("div", "dd-train-finding", mark(finding.severity), tag("span", "dd-message", prose(finding.message)),
                   tag("span", "dd-code", text(finding.code)))  # fmt: skip
        rows.append(tag("li", "", line, spot_button(spot, said) if spot else "", fix_line(finding.fix, said)))
    stop = ""
    if live and rows:
        question = tag("span", "", text(said["train_stop_question" if bad else "train_watch_on"]))
        button = tag("button", "dd-do dd-danger", text(said["train_stop"]), type="button", data_stop="politely")
        stop = tag("div", "dd-form-end", question, button)
    whole = tag("a", "dd-link", text(said["train_in_logs"]), href=f"?report={run.id}", data_logs=run.id)
    top = report.causes[0].title if report.causes and rows else ""
    fine = "train_curves_fine" if live else "train_curves_fine_end"
    entry = "train_curves_bad" if bad else "train_curves_warn" if rows else fine
    tone = "problems" if bad else "warnings" if rows else "healthy"
    heading = tag("div", "dd-headline", tag("h3", "dd-h", text(top or said[entry])), whole)
    listed = tag("ul", "dd-train-severe", *rows) if rows else ""
    note = tag("p", "dd-dim", text(said["train_curves_fine_info"])) if live and not rows else ""
    return tag("section", f"dd-card dd-verdict dd-{tone} dd-train-live", heading, listed, note, stop)


def curves(jobs: Sequence[Job], lang: str) -> str:
    """Data of the chart, for curves.js; empty before there is a curve."""
    names = [title(job) for job in jobs]
    named = [job.id if names.count(name) > 1 else name for job, name in zip(jobs, names, strict=True)]
    shown = (train_live.shown_run(job, name, lang) for job, name in zip(jobs, named, strict=True))
    runs = [run for run in shown if run is not None]
    drawn = log_charts.chart(runs, lang) if runs else ""
    marks = log_view.marks(runs, lang) if len(runs) == 1 else ""
    return tag("i", "", data_chart=drawn, hidden=True) + marks if drawn else ""


def versions(jobs: Sequence[Job]) -> str:
    """Another text whenever one of the jobs' curves says something new."""
    return ",".join(str(train_live.look(job)[1]) for job in jobs)


def log(job: Job, lang: str) -> str:
    """The end of all output, and the job's files."""
    said = words(lang)
    content = b""
    with suppress(OSError), job.path(LOG).open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - LOG_END))
        content = file.read()
        if end > LOG_END:
            content = content.partition(b"\n")[2]
    shown = readable(content.decode("utf-8", errors="replace"))
    tail = tag("pre", "dd-log-end", text(shown or said["train_log_empty"]), tabindex=0, data_tail=True)
    rows = []
    for name in FILES:
        with suppress(OSError):
            length = size(job.path(name).stat().st_size)
            rows.append(tag("li", "", tag("code", "", text(job.path(name))), tag("span", "dd-dim", text(length))))
    for folder in reversed(checkpoints_in(job.output)):
        kind = tag("span", "dd-dim", text(said["train_checkpoint"]))
        rows.append(tag("li", "", tag("code", "", text(folder)), kind))
    files = tag("details", "dd-more-facts", tag("summary", "", text(said["train_files"])), tag("ul", "dd-files", *rows),
                id="dd-train-files")  # fmt: skip
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["train_log"])), tail, files)


def readable(output: str) -> str:
    """A log's lines as a terminal leaves them: without its codes, of a bar that moves the last state alone."""
    lines: list[str] = []
    for line in _CODES.sub("", output).split("\n"):
        line = line.rstrip("\r").rpartition("\r")[2]
        if lines and _BAR.match(line) and _BAR.match(lines[-1]):
            lines.pop()
        if line.strip() or lines and lines[-1].strip():
            lines.append(line.rstrip())
    return "\n".join(lines).strip("\n")


def compared(jobs: Sequence[Job], lang: str) -> str:
    """How the jobs stand, and the fields of their recipes that differ."""
    said = words(lang)
    head_cells = [tag("th", "")]
    for place, job in enumerate(jobs):
        swatch = tag("i", f"dd-swatch dd-run-{place}")
        remove = tag("button", "dd-link dd-remove", "×", type="button", data_drop=job.id, aria_label=said["remove_run"],
                     title=said["remove_run"]) if place else ""  # fmt: skip
        open_it = tag("button", "dd-link", text(title(job)), type="button", data_open=job.id)
        which = tag("div", "dd-dim", text(job.id))
        head_cells.append(tag("th", "", swatch, open_it, remove, which, scope="col"))
    rows = [_row(said["train_row_state"], [state_said(read_status(job), known(lang)) for job in jobs])]
    for name in FACTS[:-1]:
        values = [_last(job, name) for job in jobs]
        if any(v is not None for v in values):
            shown = ["–" if v is None else f"{v:.4g}" for v in values]
            rows.append(_row(log_charts.full_name(name, said), shown, "dd-num"))
    took = [exactly(read_status(job).seconds, known(lang)) for job in jobs]
    rows.append(_row(said["train_row_took"], took, "dd-num"))
    recipes = [recipe_of(job) for job in jobs]
    names = dict.fromkeys(name for one in recipes if one is not None for name in one.fields)
    differ = []
    for name in ("method", *names):
        if name in ("output_dir", "resume_from_checkpoint"):
            continue
        values_of = ["–" if one is None else _value(one, name) for one in recipes]
        if len(set(values_of)) > 1:
            differ.append(_row(name, values_of, code=True))
    title_of_rest = said["train_differ" if differ else "train_same_recipe"]
    divider = tag("tr", "dd-train-divider", tag("th", "", text(title_of_rest), colspan=len(jobs) + 1, scope="rowgroup"))
    table = tag("table", "dd-health dd-train-table", tag("thead", "", tag("tr", "", *head_cells)),
                tag("tbody", "", *rows, divider, *differ))  # fmt: skip
    scrolled = tag("div", "dd-scroll", table, tabindex=0)
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["comparison"])), scrolled)


def _last(job: Job, name: str) -> float | None:
    """The curve's last value."""
    report, _ = train_live.look(job)
    curve = report.curves.get(name) if report is not None else None
    values = [v for v in map(finite_number, (curve or {}).get("value") or ()) if v is not None]
    return values[-1] if values else None


def _value(recipe: Recipe, name: str) -> str:
    if name == "method":
        return recipe.method
    value = recipe.get(name)
    return train_setup.value_text(value) or "–"


def _row(name: str, values: Sequence[str], css: str = "", *, code: bool = False) -> str:
    first = tag("code", "", text(name)) if code else text(name)
    return tag("tr", "", tag("th", "", first, scope="row"), *(tag("td", css, text(v)) for v in values))
