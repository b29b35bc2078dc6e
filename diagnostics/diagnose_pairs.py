"""A set of preference pairs or supervised rows from file to report: reads it once, runs the checks, ranks causes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diagnostics.check_table import PAIR_CHECKS, SUPERVISED_CHECKS
from diagnostics.judge import Interrupted, judge
from diagnostics.pair_model import MAX_LENGTH, PairModel
from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Report, Subject
from diagnostics.run_checks import Event
from diagnostics.thresholds import Thresholds, load_thresholds
from pipeline.pair_measures.pair_table import PairTable, measure_pairs
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairFile
from pipeline.record_files import Unreadable, records
from pipeline.refusal import Refused

_LINES_NAMED = 50
_COLUMNS_NAMED = 12
# What a value is, in the words of JSON: the same in both languages.
_JSON_TYPES = {
    type(None): "null", str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object",
}  # fmt: skip


@dataclass
class PairsDiagnosis:
    """The report, and what it says of each row.

    rows: positions (order of reading, from 0) of the rows of a finding, by `CODE/outcome`. measures: (n,) float32 by
    name, NaN where not measured.
    """

    report: Report
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    measures: dict[str, np.ndarray] = field(default_factory=dict)


def diagnose_pairs(
    path: str | Path,
    *,
    tokenizer: str | None = None,
    model: str | None = None,
    max_length: int | None = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    axis: str | None = None,
    thresholds: Sequence[str] = (),
    lang: str = "en",
    name: str = "",
    seed: int = 0,
    device: str = "cpu",
    cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_rows: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> PairsDiagnosis:
    """Diagnose one file of pairs or supervised rows.

    tokenizer, max_length: to simulate how a trainer cuts. model: for likelihoods, with its tokenizer where none is
    given. format, columns, axis: as in PairFile. on_rows: called with the rows read so far, on_note with one line about
    longer work. cancel: when set, reading ends soon and the checks left are skipped. Raises `Refused` for a path that
    leads nowhere and an unknown threshold, and `diagnostics.judge.Interrupted` after Ctrl-C: while reading, with what
    the checks that need no tokenizer say of the rows read by then.
    """
    limits = load_thresholds(thresholds)
    place = Path(path)
    if not place.exists():
        raise Refused("data_not_found", path=str(path))

    def rows() -> PairFile:
        return PairFile(place, format=format, columns=columns, axis=axis)

    def again() -> Iterator[Pair]:
        """The rows that were measured: a file that grows or breaks off gives no others."""
        return islice(rows(), subject.table.rows)

    source = rows()
    beside = PairModel(
        again, tokenizer, model, max_length or MAX_LENGTH, seed=seed, device=device, cancel=cancel, note=on_note
    )
    beside.open()
    subject = _measured(source, limits, seed=seed, cancel=cancel, on_rows=on_rows)
    subject.name = name or place.name
    _tell_of_source(subject, source)
    if subject.problem == "no_known_columns":
        subject.detail = _columns_of(place) or subject.detail
    beside.format, beside.rows = subject.format, subject.table.rows
    subject.model = beside
    return _judged(subject, lang=lang, cancel=cancel, on_event=on_event)


def diagnose_rows(
    pairs: Iterable[Pair],
    *,
    name: str,
    supervised: bool = False,
    thresholds: Sequence[str] = (),
    lang: str = "en",
    seed: int = 0,
    cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> PairsDiagnosis:
    """Diagnose pairs that are held already, as a workspace has them. supervised: they are rows with one answer to
    learn, also where there are none. cancel, and what is raised: as in diagnose_pairs."""
    subject = _measured(pairs, load_thresholds(thresholds), seed=seed, cancel=cancel, on_rows=on_rows)
    subject.name = name
    subject.kind = "supervised" if supervised else _kind(subject.table)
    if subject.problem is None and not subject.table.rows and not subject.table.stopped:
        subject.problem, subject.detail = "empty", name
    return _judged(subject, lang=lang, cancel=cancel, on_event=on_event)


def _measured(
    pairs: Iterable[Pair], limits: Thresholds, *, seed: int, cancel: threading.Event | None,
    on_rows: Callable[[int], None] | None,
) -> PairsSubject:  # fmt: skip
    least = limits["near_answers"], limits["near_prompts"], limits["near_answers_short"]
    failure: Unreadable | OSError | None
    try:
        table = measure_pairs(pairs, least_similar=least, seed=seed, progress=on_rows, cancel=cancel)
    except (Unreadable, OSError) as reason:
        table, failure = PairTable(), reason
    else:
        failure = table.failure
    subject = PairsSubject(table, limits)
    if isinstance(failure, Unreadable):
        subject.problem, subject.detail = str(failure.args[0]), str(failure.args[1])
    elif failure is not None:
        subject.problem, subject.detail = "unreadable", failure.strerror or str(failure)
    return subject


def _tell_of_source(subject: PairsSubject, source: PairFile) -> None:
    """What the reader knows: formats and the rows it left out."""
    subject.formats = source.formats
    subject.format = source.formats.most_common(1)[0][0] if source.formats else ""
    subject.left_out = source.reasons
    for one in source.left_out:
        lines = subject.left_out_lines.setdefault(one.reason, [])
        if len(lines) < _LINES_NAMED:
            lines.append(one.line)
    if source.left_out:
        first = min(source.left_out, key=lambda one: one.line)
        subject.first_left_out = first.line, first.reason, first.detail
    subject.kind = _kind(subject.table, subject.format)
    if subject.problem is None and not subject.table.rows and not subject.table.stopped:
        subject.problem, subject.detail = "no_row_usable" if source.reasons else "empty", subject.name


def _columns_of(place: Path) -> str:
    """The columns of the first record that has some, with what they hold there: `chosen (null)`."""
    try:
        first: Mapping[str, Any] = next(
            one.value for one in islice(records(place), 1000) if isinstance(one.value, Mapping) and one.value
        )
    except (StopIteration, Unreadable, OSError):
        return ""
    held = [f"{str(name)[:40]} ({_JSON_TYPES.get(type(value), type(value).__name__)})" for name, value in first.items()]
    more = f", … ({len(held)})" if len(held) > _COLUMNS_NAMED else ""
    return ", ".join(held[:_COLUMNS_NAMED]) + more


def _kind(table: PairTable, format: str = "") -> str:
    if not table.rows or table.paired.any():
        return "pairs"
    return "one_sided" if table.there["rejected"].any() or "kto" in format else "supervised"


def _judged(
    subject: PairsSubject, *, lang: str, cancel: threading.Event | None, on_event: Callable[[Event], None] | None
) -> PairsDiagnosis:
    table, rows = subject.table, dict[str, np.ndarray]()

    def filed(event: Event) -> None:
        if event.finding is not None and event.finding.outcome in subject.pending:
            rows[event.finding.signal] = subject.pending.pop(event.finding.outcome)
        if on_event is not None:
            on_event(event)

    checks = SUPERVISED_CHECKS if subject.kind == "supervised" else PAIR_CHECKS
    if table.rows:
        _measure(subject)
    elif table.stopped:
        cancel = threading.Event()
        cancel.set()
    else:
        checks = checks[:1]
    subject.model.stopped = table.interrupted
    report = judge(
        subject, checks, subject.limits, about=lambda: Subject("pairs", subject.name, None, fingerprint(table)),
        depth="forward", lang=lang, usable=bool(table.rows) or table.stopped, cancel=cancel, on_event=filed,
    )  # fmt: skip
    if table.interrupted:
        raise Interrupted(report)
    return PairsDiagnosis(report, rows, _measures(subject))


def _measures(subject: PairsSubject) -> dict[str, np.ndarray]:
    """What was measured of each row and is worth a plot or a filter."""
    table = subject.table
    if not table.rows:
        return {}
    found = {"similarity": table.similarity, "rejected_fit": table.rejected_fit}
    asked = subject.model.answered
    if asked is not None:
        by_side = {f"logps_{side}": asked.logp[side] for side in ("chosen", "rejected")}
        for name, values in {**by_side, "ches": asked.ches_by_length}.items():
            whole = np.full(table.rows, np.nan, np.float32)
            whole[asked.positions] = values
            found[name] = whole
    return found


def _measure(subject: PairsSubject) -> None:
    """Metrics of the report, before anything is judged."""
    table = subject.table
    found: dict[str, float] = {
        "pairs.rows": table.rows,
        "pairs.left_out": sum(subject.left_out.values()),
        "pairs.different_prompts": len(np.unique(table.hashes["prompt"])),
        "pairs.several_turns": int((table.turns > 1).sum()),
    }
    for side in ("prompt", *subject.answers):
        lengths = table.chars[side][table.there[side]]
        if len(lengths):
            found |= {
                f"pairs.chars.{side}.median": float(np.median(lengths)),
                f"pairs.chars.{side}.p95": float(np.percentile(lengths, 95)),
                f"pairs.chars.{side}.max": int(lengths.max()),
            }
    if subject.kind == "pairs":
        similarity = table.similarity[np.isfinite(table.similarity)]
        if len(similarity):
            found["pairs.similarity.median"] = round(float(np.median(similarity)), 4)
    subject.metrics.update(found)


def fingerprint(table: PairTable) -> str:
    """`sha256:` over the hashes of all texts in order; of an unreadable file of nothing."""
    digest = hashlib.sha256()
    for side in ("prompt", "chosen", "rejected"):
        if side in table.hashes:
            digest.update(table.there[side].tobytes())
            digest.update(table.hashes[side].tobytes())
    return f"sha256:{digest.hexdigest()}"
