"""One training log from files: which format each is, read by what stands in it, and joined into one run."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.json_file import LFS_START, collector_paused
from pipeline.logs.assemble import assemble
from pipeline.logs.form_worker import FormWorker, worth_a_worker
from pipeline.logs.json_history import looks_like_document, read_history
from pipeline.logs.log_messages import MessageCounter
from pipeline.logs.own_format import MAX_REMEMBERED, OwnFormat, remembered_formats
from pipeline.logs.raw_text import HEAD, RawText
from pipeline.logs.row_collector import RowCollector
from pipeline.logs.source_code import looks_like_source
from pipeline.logs.table_file import looks_like_table, read_table
from pipeline.logs.tensorboard_events import looks_like_events, read_events
from pipeline.logs.text_lines import TextLines
from pipeline.logs.training_log import Note, TrainingLog
from pipeline.record_files import GZIP
from pipeline.refusal import Refused

FIRST = HEAD  # bytes by which the format is told
BLOCK_PACKED = 2**12  # of compressed data, which may become a thousand times as much
BLOCK = 2**18  # small enough for the processor's cache, which is several times as fast
# Files of this name hold a log; a folder is searched for them, the newest checkpoint's first.
NAMES = ("trainer_state.json", "trainer_log.jsonl", "logging.jsonl", "training_history.json", "metrics.jsonl")
# Curves of which one must be there for a log to count as understood.
JUDGED = frozenset(
    ("loss", "reward", "accuracy", "perplexity", "rewards/chosen", "rewards/margins", "rewards/accuracies",
     "mean_token_accuracy", "chosen_score", "margin", "mean_reward", "sft_loss", "odds_ratio_loss", "value_loss")
)  # fmt: skip
_TRIED = 2**22  # bytes of a text by which a remembered form is tried
MAX_FOLDER_FILES = 20_000
MAX_FOLDER_DEPTH = 4


class LogProblem(Exception):
    """A file in which no log can be read. problem as in `TrainingLog.problem`."""

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(problem, detail)
        self.problem, self.detail = problem, detail


def read_log(
    paths: Sequence[str | Path],
    *,
    name: str = "",
    max_bytes: int | None = None,
    own: OwnFormat | None = None,
    remembered: Sequence[OwnFormat] | None = None,
) -> TrainingLog:
    """The log of one run from one or more files, folders or globs; several files join in their order in time.

    max_bytes: refuse files larger than this (a public page sets it); None for no limit. own: the form of a log that no
    reader knows. remembered: forms to try where no loss is found; None for those in the user's data folder.
    Never raises for bad content: `problem` says why nothing could be read. Raises FileNotFoundError for a path
    that leads nowhere, `Refused` for an expression that takes too long.
    """
    files = find_files(paths)
    shown = name or (files[0].name if len(files) == 1 else f"{files[0].name} +{len(files) - 1}")
    parts = in_order(files)
    reader = _read(parts, shown, own, max_bytes)
    log = reader.log(ended=True)
    if own is not None:
        if reader.given_up:
            raise Refused("pattern_too_slow", pattern=own.pattern)
        if log.problem != "no_metrics":
            return log
        without = _read(parts, shown, None, max_bytes).log(ended=True)
        return replace(without, notes=(*without.notes, Note("own_form_unmatched", {"file": shown, "form": own.given})))
    if is_judged(log) or log.problem not in (None, "no_metrics"):
        return log
    fitting = fitting_form(parts, remembered_formats() if remembered is None else remembered, shown, max_bytes)
    if fitting is None:
        return log
    form, found = fitting
    return replace(found, notes=(*found.notes, Note("remembered_format", {"file": shown, "form": form.given})))


def fitting_form(
    parts: Sequence[Path], forms: Sequence[OwnFormat], name: str = "", max_bytes: int | None = None
) -> tuple[OwnFormat, TrainingLog] | None:
    """The first of these forms by which something is read that training is judged by, and the log read by it. A form
    that finds nothing in the beginning of a file isn't tried on the rest."""
    for form in forms[:MAX_REMEMBERED]:
        if not is_judged(_read(parts, name, form, max_bytes, at_most=_TRIED).log(ended=True)):
            continue
        reader = _read(parts, name, form, max_bytes)
        log = reader.log(ended=True)
        if is_judged(log) and not reader.given_up:
            return form, log
    return None


def _read(
    parts: Sequence[Path], name: str, own: OwnFormat | None, max_bytes: int | None, at_most: int | None = None
) -> LogReader:
    reader = LogReader(name, own=own)
    for part in parts:
        reader.read_file(part, max_bytes=max_bytes, at_most=at_most)
    return reader


class LogReader:
    """Reads files, or pieces of one that grows, into one run. `log()` may be called at any time.

    Text that grows is read on from where the last read ended (`follow`); files of other formats are read whole.
    """

    def __init__(self, name: str, *, own: OwnFormat | None = None) -> None:
        self.name = name
        self._own = own
        self._rows = RowCollector(own.column_meanings if own is not None else None)
        self._messages = MessageCounter()
        self._text = TextLines(self._rows, self._messages, own)
        self._files: list[str] = []
        self._formats: dict[str, None] = {}
        self._notes: list[Note] = []
        self._problems: list[LogProblem] = []
        self._sizes: list[int] = []

    @property
    def given_up(self) -> bool:
        """Whether the user's expression took so long that it was no longer searched."""
        return self._text.search is not None and self._text.search.given_up

    def read_file(self, path: Path, *, max_bytes: int | None = None, at_most: int | None = None) -> None:
        """One whole file, whatever its format; of a text only its first `at_most` bytes."""
        self.name_file(path)
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                raise LogProblem("special_file", path.name)
            if max_bytes is not None and info.st_size > max_bytes:
                raise LogProblem("too_large", f"{info.st_size / 2**30:.1f} GiB > {max_bytes / 2**30:.1f} GiB")
            self.grow(info.st_size)
            with collector_paused():  # it would look through a million rows again and again
                self._read(path, at_most)
        except LogProblem as problem:
            self.problem(path, problem)
        except OSError as problem:
            self.problem(path, LogProblem("unreadable", problem.strerror or str(problem)))

    def name_file(self, path: Path) -> None:
        """A file that is read from now on."""
        self._files.append(path.name)
        self._sizes.append(0)

    def grow(self, size: int) -> None:
        """The size in bytes of the file named last."""
        self._sizes[-1] = size

    def problem(self, path: Path, problem: LogProblem) -> None:
        """Why a file could not be read."""
        self._problems.append(problem)
        self._notes.append(
            Note("file_not_read", {"file": path.name, "problem": problem.problem, "detail": problem.detail})
        )

    def feed(self, piece: bytes, raw: RawText, *, last: bool = False, decide: bool = False) -> None:
        """A piece of a text log; `raw` keeps what is unfinished between pieces (see `RawText.feed`)."""
        self._text.read(raw.feed(piece, last=last, decide=decide))
        if last:
            self._text.finish()

    def log(self, *, ended: bool = False) -> TrainingLog:
        """What was read so far. ended: nothing more will be read, which saves a copy of all of it."""
        self._text.settle()
        made = assemble(
            self.name,
            self._rows,
            files=self._files,
            formats=[*self._formats, *_text_formats(self._text)],
            messages=self._messages.messages(),
            notes=self._notes,
            lines=self._text.lines,
            size=sum(self._sizes),
            ended=ended,
        )
        if made.problem is not None and self._problems:
            return replace(made, problem=self._problems[0].problem, detail=self._problems[0].detail)
        return made

    def _read(self, path: Path, at_most: int | None) -> None:
        first = first_bytes(path)
        kind = format_of(first, self._own.column_meanings if self._own is not None else ())
        if kind in ("empty", "lfs_pointer", "not_text"):
            raise LogProblem(kind, path.name)
        if kind == "tensorboard":
            self._formats["tensorboard"] = None
            self._notes += read_events(path, self._rows)
        elif kind == "table":
            self._formats["table"] = None
            self._notes += read_table(path, self._rows)
        elif kind == "json":
            notes, found = read_history(path, self._rows)
            if found == "lines":
                self._read_text(path, at_most)
                return
            self._formats[found] = None
            self._notes += notes
        else:
            self._text.in_code = looks_like_source(first)
            self._read_text(path, at_most)

    def _read_text(self, path: Path, at_most: int | None) -> None:
        self._text.ahead = FormWorker() if at_most is None and worth_a_worker(path.stat().st_size) else None
        try:
            self._read_pieces(path, at_most)
        finally:
            if self._text.ahead is not None:
                self._text.ahead.close()
                self._text.ahead = None

    def _read_pieces(self, path: Path, at_most: int | None) -> None:
        raw = RawText()
        with open(path, "rb") as file:
            block = BLOCK_PACKED if file.read(2) == GZIP else BLOCK if self._text.ahead is None else 8 * BLOCK
            file.seek(0)
            while piece := file.read(block):
                if at_most is not None and file.tell() > at_most:
                    break
                self.feed(piece, raw)
                if raw.not_text:
                    raise LogProblem("not_text", path.name)
                if raw.too_much:
                    break
        self.feed(b"", raw, last=True)
        if raw.not_text:
            raise LogProblem("not_text", path.name)
        if raw.too_much:
            self._notes.append(Note("unpacks_to_too_much", {"file": path.name}))
        if raw.broken:
            self._notes.append(Note("damaged_gzip", {"file": path.name}))
        if raw.long_lines:
            self._notes.append(Note("long_lines", {"file": path.name, "n": raw.long_lines}))


def in_order(files: Sequence[Path]) -> list[Path]:
    """Files of one run in the order in which they were written."""
    if len(files) < 2:
        return list(files)
    parts = (_Part(file, first_bytes(file)) for file in files)
    return [part.path for part in sorted(parts, key=lambda part: part.order)]


@dataclass(frozen=True)
class _Part:
    """One file of a run and what its place among the others is told by."""

    path: Path
    first: bytes

    @property
    def order(self) -> tuple[Any, ...]:
        """By the first time that stands in it, else by its name with numbers as numbers."""
        found = re.search(rb"(\d{4}[-/]\d\d[-/]\d\d[ T_]\d\d:\d\d:\d\d)", self.first)
        name = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", str(self.path)))
        return (found[1].replace(b"/", b"-").replace(b"_", b" ").replace(b"T", b" ") if found else b"", name)


def is_judged(log: TrainingLog) -> bool:
    """Whether anything was read that training is judged by, and not only learning rates and the like."""
    return any(curve.removeprefix("eval_") in JUDGED for curve in log.curves)


def format_of(first: bytes, columns: Collection[str] = ()) -> str:
    """`tensorboard`, `json` (one document), `table`, `text`, `empty`, `lfs_pointer` or `not_text`, by the first bytes.

    columns: names the user gave a meaning to."""
    if not first.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        return "empty" if not first.strip() else "not_text"
    if first.startswith(LFS_START):
        return "lfs_pointer"
    if looks_like_events(first):
        return "tensorboard"
    raw = RawText()
    text = raw.feed(first, last=True)
    if raw.not_text:
        return "not_text"
    if not text.strip():
        return "empty"
    if looks_like_document(text):
        return "json"
    if looks_like_table(text, columns):
        return "table"
    if _mostly_control(text):
        return "not_text"
    return "text"


def _mostly_control(text: bytes) -> bool:
    """Bytes that are text in name only."""
    control = sum(text.count(bytes([c])) for c in (*range(1, 9), *range(14, 27), *range(28, 32)))
    return control > len(text) / 20


def first_bytes(path: Path) -> bytes:
    """The beginning of a file, by which its format is told; nothing of one that is none or can't be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(FIRST)
    except OSError:
        return b""


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that these paths mean: globs opened, folders searched for logs. Raises FileNotFoundError."""
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = files_in_folder(path)
            if not inside:
                raise FileNotFoundError(str(given))
            found += inside
        elif os.path.lexists(path):
            found.append(path)
        else:
            matched = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(given)) else []
            if not matched:
                raise FileNotFoundError(str(given))
            found += [Path(m) for m in matched if Path(m).is_file()]
    return list(dict.fromkeys(found))


def files_in_folder(folder: Path) -> list[Path]:
    """The log of a training folder: the trainer's own file of its newest state, else events, else text logs."""
    states: dict[str, list[Path]] = {}
    seen = 0
    for root, folders, names in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < MAX_FOLDER_DEPTH else []
        for name in sorted(names):
            seen += 1
            if seen > MAX_FOLDER_FILES:
                break
            kind = (
                name
                if name in NAMES
                else "events"
                if ".tfevents." in name
                else "log"
                if name.endswith((".log", ".log.gz", ".out"))
                else ""
            )
            if kind:
                states.setdefault(kind, []).append(Path(root) / name)
    if found := states.get("trainer_state.json"):
        return [max(found, key=lambda path: (_checkpoint_number(path), -len(path.parts)))]
    for kind in (*NAMES[1:], "events", "log"):
        if kind in states:
            return states[kind]
    return []


def _checkpoint_number(path: Path) -> float:
    """N of checkpoint-N; a state outside of any was written last."""
    found = re.fullmatch(r"checkpoint-(\d+)", path.parent.name)
    return float(found[1]) if found else float("inf")


def _text_formats(text: TextLines) -> list[str]:
    """Names of what the text lines were, most frequent first."""
    return sorted(text.formats, key=lambda f: -text.formats[f])
