"""One training log from files to report: reads them, runs the checks, ranks the causes, says it in words."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from diagnostics.check_table import LOG_CHECKS
from diagnostics.judge import judge
from diagnostics.log_subject import LogSubject
from diagnostics.report import Report, Subject
from diagnostics.run_checks import Event
from diagnostics.thresholds import load_thresholds
from pipeline.file_store import LocalFolder
from pipeline.json_file import read_json
from pipeline.logs.metric_names import meaning
from pipeline.logs.own_format import OwnFormat, remember
from pipeline.logs.read_log import read_log
from pipeline.logs.thin_out import as_json
from pipeline.logs.training_log import TrainingLog
from pipeline.refusal import Refused

# Checks at the head of the table that need no curve.
WITHOUT_METRICS = 4
# Curves of the report; a log may hold hundreds, those of names not known here come last.
MAX_CURVES = 60
TIMINGS = (
    "timing",
    "perf/",
    "mfu",
    "time",
    "memory",
    "throughput",
    "samples_per_second",
    "steps_per_second",
    "runtime",
)


def diagnose_log(
    paths: Sequence[str | Path],
    *,
    vocab_size: int | None = None,
    thresholds: Sequence[str] = (),
    lang: str = "en",
    max_bytes: int | None = None,
    name: str = "",
    own: OwnFormat | None = None,
    remembered: Sequence[OwnFormat] | None = None,
    cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Diagnose one run from its log: one or more files of it, a folder, or a glob.

    max_bytes: refuse larger files. own: the form of a log that no reader knows; one that fits is remembered.
    remembered: forms to try where no loss is found, as in `read_log`; where they are given nothing is remembered.
    Raises `Refused` for a path that leads nowhere, an unknown threshold and an expression that takes too long, and
    `diagnostics.judge.Interrupted` on Ctrl-C.
    """
    load_thresholds(thresholds)  # a wrong one is said before a long log is read
    try:
        log = read_log(paths, name=name, max_bytes=max_bytes, own=own, remembered=remembered)
    except FileNotFoundError as missing:
        raise Refused("log_not_found", path=str(missing)) from None
    fits = log.problem is None and not any(note.id == "own_form_unmatched" for note in log.notes)
    if own is not None and remembered is None and fits:
        remember(own)
    vocab_size = vocab_size or vocabulary_beside(paths)
    return judge_log(log, vocab_size=vocab_size, thresholds=thresholds, lang=lang, cancel=cancel, on_event=on_event)


def vocabulary_beside(paths: Sequence[str | Path]) -> int | None:
    """Size of the vocabulary by the config.json in the folder of the log, as in a checkpoint; None without one."""
    for path in paths:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        if (folder / "config.json").is_file():
            config = read_json(LocalFolder(folder), "config.json")
            inner = config.get("text_config")
            for size in (config.get("vocab_size"), inner.get("vocab_size") if isinstance(inner, dict) else None):
                if type(size) is int and 1 < size < 2**31:
                    return size
    return None


def judge_log(
    log: TrainingLog,
    *,
    vocab_size: int | None = None,
    thresholds: Sequence[str] = (),
    lang: str = "en",
    cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """The report on a log that was read already; one that is followed is judged again as it grows."""
    subject = LogSubject(log, vocab_size=vocab_size)
    _measure(subject)
    # Without a single metric only what the text itself says can be judged: LOG001 to LOG014 of the table.
    summary = isinstance(log.settings.get("mean_train_loss"), float)
    excerpt = bool(log.messages) and not subject.crashed  # lines that say something of the run, though not one loss
    usable = log.problem is None or (log.problem == "no_metrics" and (summary or excerpt))
    checks = LOG_CHECKS if log.problem is None or summary else LOG_CHECKS[: WITHOUT_METRICS if log.lines else 1]
    return judge(
        subject,
        checks,
        load_thresholds(thresholds),
        depth="files",
        lang=lang,
        usable=usable,
        cancel=cancel,
        on_event=on_event,
        about=lambda: Subject("log", log.name, None, fingerprint(log)),
    )


def _measure(subject: LogSubject) -> None:
    """Metrics and curves of the report, before anything is judged."""
    log = subject.log
    named = {
        "log.records": log.records,
        "log.rows": len(log.step),
        "log.last_step": log.last_step,
        "log.max_steps": log.max_steps,
        "log.last_epoch": log.last_epoch,
        "log.seconds": log.seconds,
        "log.steps_known": float(log.steps_known),
        "log.restarts": len(log.restarts),
        "log.bytes": log.size,
    }
    if subject.guessing is not None:
        named["log.ln_vocabulary"] = subject.guessing
    known = log.time[np.isfinite(log.time)]
    if len(known) and not log.time_is_elapsed:
        named |= {"log.started": float(known.min()), "log.ended": float(known.max())}
    for name in ("loss", "eval_loss", "reward", "learning_rate", "grad_norm"):
        trend = subject.trend(name)
        if trend is not None:
            named |= {
                f"log.{name}.points": len(log.curves[name]),
                f"log.{name}.first": float(trend.values[0]),
                f"log.{name}.last": float(trend.values[-1]),
                f"log.{name}.lowest": float(trend.values.min()),
                f"log.{name}.highest": float(trend.values.max()),
            }
    subject.metrics.update(
        {k: round(float(v), 8) if abs(v) < 1e6 else float(v) for k, v in named.items() if v is not None}
    )
    shown = sorted(log.curves.values(), key=lambda c: (_rank(c.name), c.name))[:MAX_CURVES]
    for curve in shown:
        subject.curves[curve.name] = as_json(log, curve)


def _rank(name: str) -> int:
    """Known curves first, timings and speeds last."""
    if any(word in name for word in TIMINGS):
        return 2
    return 0 if meaning(name).kind == "metric" or name.startswith("eval_") else 1


def fingerprint(log: TrainingLog) -> str:
    """`sha256:` over the steps and values of all curves."""
    digest = hashlib.sha256(repr((log.problem, log.detail, log.files if log.problem else ())).encode())
    rows = None
    for name in sorted(log.curves):
        curve = log.curves[name]
        digest.update(name.encode("utf-8", errors="replace"))
        if curve.rows is not rows:  # metrics that are logged together share their rows
            rows = curve.rows
            digest.update(log.steps_of(curve).tobytes())
        digest.update(curve.values.tobytes())
    return f"sha256:{digest.hexdigest()}"
