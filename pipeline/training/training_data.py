"""The data of a run: from whatever the recipe names to `data/train.jsonl` and `data/eval.jsonl`, in the columns that
the method's trainer reads, with an account of every row. One row is in memory at a time, and eight bytes of each."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.pairs.mix_pairs import Mix, Source
from pipeline.pairs.open_source import OpenSource, refusing, rows_of
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairSource
from pipeline.pairs.write_pairs import together
from pipeline.refusal import Refused, Sentence
from pipeline.training.data_sources import DataSource, data_sources
from pipeline.training.job_folder import EVAL_ROWS, TRAIN_ROWS
from pipeline.training.recipe import Recipe
from pipeline.training.row_columns import COLUMNS, PREFERENCE, CannotUse, asked, prompt_key, training_rows
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = 5  # rows named for each reason
MOST_COLUMNS = 100  # beside those of the method
_HALF = re.compile("[\ud800-\udfff]")
_HALF_CHARACTER = "\ufffd"
_TICK = 5000  # rows between two lines of progress
# Which refusal says most where no row can be used, by the reason of most rows
_SAID_APART = {
    "answers_to_learn": "rows_have_one_answer", "one_side": "rows_have_labels", "no_answer": "rows_have_no_answer",
}  # fmt: skip

Progress = Callable[[str], None]


@dataclass
class Example:
    """Where a row stands that was left out. line: from 1, 0 where its file has none."""

    source: str
    line: int
    detail: str = ""


@dataclass
class LeftOutRows:
    """Rows that were not used for one reason. read: they couldn't be read; else the method has no use for them."""

    reason: str
    read: bool
    rows: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def why(self) -> Sentence:
        if self.read:
            return Sentence(f"row_{self.reason}", words="formats")
        return Sentence(f"rows_left_out/{self.reason}", words="training")


@dataclass
class SourceRead:
    """One source. format: of most of its rows. rows: that gave a pair; used: given to the run, again where a mix began
    it anew."""

    name: str
    format: str = ""
    rows: int = 0
    used: int = 0
    weight: float | None = None
    evaluation: bool = False


@dataclass
class RowsWritten:
    """What was written. train, eval: rows. prompts: different ones in `train`. wanted, unwanted: KTO's rows in `train`.

    eval_from: `eval_data`, `val_size`, or nothing. eval_also_trained: rows of `eval_data` whose prompt is trained on
    too. replaced: rows with half characters, which no file can hold; they stand as U+FFFD. not_kept: columns beside the
    first hundred.
    """

    method: str
    columns: list[str]
    conversational: bool
    train: int = 0
    eval: int = 0
    eval_from: str = ""
    eval_also_trained: int = 0
    prompts: int = 0
    wanted: int = 0
    unwanted: int = 0
    replaced: int = 0
    not_kept: list[str] = field(default_factory=list)
    sources: list[SourceRead] = field(default_factory=list)
    left_out: list[LeftOutRows] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self, lang: str) -> str:
        """A line for what was written, and one for each reason that rows were left out."""

        def line(entry: str, **params: Any) -> str:
            return Sentence(f"rows_account/{entry}", params, words="training").said(lang)

        lines = [line("written", train=self.train, eval=self.eval, prompts=self.prompts)]
        for one in self.left_out:
            where = ", ".join(f"{e.source}:{e.line}" for e in one.examples if e.line)
            lines.append(line("left_out", rows=one.rows, why=one.why, where=where or "-"))
        if self.eval_also_trained:
            lines.append(line("also_trained", rows=self.eval_also_trained))
        if self.replaced:
            lines.append(line("replaced", rows=self.replaced))
        return "\n".join(lines) + "\n"


def write_rows(
    recipe: Recipe,
    folder: Path,
    *,
    conversational: bool,
    encoder_decoder: bool,
    progress: Progress | None = None,
    public: bool = False,
    own: tuple[Path, ...] = (),
) -> RowsWritten:
    """Read `data` (and `eval_data`, which goes before `val_size`) and write `folder`'s train and eval rows.

    conversational: as lists of messages, for a model with a chat template; an encoder-decoder reads text. public: files
    of this machine are not read but those below the folders `own`. The same recipe and files give the same rows. Raises
    Refused.
    """
    started = time.monotonic()
    conversational = conversational and not encoder_decoder
    written = RowsWritten(recipe.method, list(COLUMNS[recipe.method]), conversational)
    train_path, eval_path = folder / TRAIN_ROWS, folder / EVAL_ROWS
    reading = _Reading(recipe, written, progress or (lambda line: None), public, own)
    try:
        train_path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=train_path.parent) as file:
            rows = _Aside(file, written)
            rows.put_all(reading.pairs("data"))
            if recipe.get("eval_data") is not None:
                with tempfile.TemporaryFile(dir=train_path.parent) as other:
                    held_out = _Aside(other, written)
                    held_out.put_all(reading.pairs("eval_data"))
                    held_out.write(eval_path, None)
                    written.eval, written.eval_from = held_out.rows, "eval_data"
                    written.eval_also_trained = held_out.shared_with(rows)
                kept = None
            else:
                kept, held = _split(rows, recipe["val_size"], int(recipe.get("seed", 42)))
                eval_path.unlink(missing_ok=True)
                if held is not None:
                    rows.write(eval_path, held)
                    written.eval, written.eval_from = int(held.sum()), "val_size"
            rows.write(train_path, kept)
            rows.account(kept)
    except OSError as failed:
        raise Refused("rows_not_written", path=train_path.parent, why=failed.strerror or failed) from None
    written.seconds = round(time.monotonic() - started, 2)
    return written


# --- reading -----------------------------------------------------------------------------------------------------


class _Reading:
    """Usable pairs of a field's sources, one after the other or mixed; what is left out goes to the account."""

    def __init__(
        self, recipe: Recipe, written: RowsWritten, progress: Progress, public: bool, own: tuple[Path, ...]
    ) -> None:  # fmt: skip
        self.recipe, self.written, self.progress, self.public, self.own = recipe, written, progress, public, own
        self.left_out: dict[tuple[bool, str], LeftOutRows] = {}
        self.seen = 0

    def pairs(self, name: str) -> Iterator[list[dict[str, Any]]]:
        """The rows of each usable pair. Raises Refused, also where no pair is usable."""
        sources = data_sources(self.recipe.get(name), name)
        opened = [one.opened(name, public=self.public, own=self.own, progress=self.progress) for one in sources]
        reads = [SourceRead(one.path, weight=one.weight, evaluation=name != "data") for one in sources]
        self.written.sources += reads
        self.left_out, before, seen = {}, len(self.written.left_out), self.seen
        firsts = set(range(len(sources)))

        def begin(n: int) -> Iterator[_Usable]:
            first = n in firsts  # a mix may begin a source anew; the account is of its first reading
            firsts.discard(n)
            found = self._usable(opened[n], sources[n], reads[n], first=first)
            return islice(found, sources[n].max_samples)

        given: Iterable[_Usable]
        if any(one.weight is not None for one in sources):
            given = Mix(
                [Source(one.path, partial(begin, n), one.weight or 1.0) for n, one in enumerate(sources)],
                seed=int(self.recipe.get("seed", 42)),
                strategy=self.recipe["mix_strategy"],
            )
        else:
            given = chain.from_iterable(map(begin, range(len(sources))))
        most = self.recipe.get("max_samples") if name == "data" else None
        used = 0
        for one in islice(given, most):
            used += 1
            one.read.used += 1
            yield one.rows
        self.written.left_out[before:] = sorted(self.left_out.values(), key=lambda one: -one.rows)
        if not used:
            raise self._nothing(sources, self.seen - seen)

    def _usable(self, opened: OpenSource, source: DataSource, read: SourceRead, *, first: bool) -> Iterator[_Usable]:
        method, conversational = self.recipe.method, self.written.conversational
        pairs = opened.open()
        pairs.name, pairs.otherwise = source.path, asked
        with refusing(pairs):
            kind = pairs.kind
        found: Iterator[Pair] = self._watched(pairs)
        if method in PREFERENCE and kind == "one-sided":
            found = together(found)
        for pair in found:
            read.rows += first
            try:
                rows = training_rows(pair, method, conversational=conversational, supervised=kind == "supervised")
            except CannotUse as failed:
                if first:
                    self._leave_out(failed.reason, False, Example(source.path, pair.line, failed.detail))
                continue
            yield _Usable(rows, read)
        if first:
            read.format = pairs.formats.most_common(1)[0][0] if pairs.formats else ""
            for one in pairs.left_out:
                self._leave_out(one.reason, True, Example(source.path, one.line, one.detail), rows=0)
            for reason, count in pairs.reasons.items():
                self._leave_out(reason, True, None, rows=count)

    def _watched(self, source: PairSource) -> Iterator[Pair]:
        for pair in rows_of(source):
            self.seen += 1
            if self.seen % _TICK == 0:
                self.progress(f"{self.seen:,} rows read")
            yield pair

    def _leave_out(self, reason: str, read: bool, example: Example | None, *, rows: int = 1) -> None:
        entry = self.left_out.setdefault((read, reason), LeftOutRows(reason, read))
        entry.rows += rows
        if example is not None and len(entry.examples) < EXAMPLES:
            entry.examples.append(example)

    def _nothing(self, sources: Sequence[DataSource], rows: int) -> Refused:
        """Why there is nothing to train on, by the reason of most rows, and what to do."""
        paths = ", ".join(one.path for one in sources)
        most = max(self.left_out.values(), key=lambda one: one.rows, default=None)
        if most is None:
            return Refused("rows_none", path=paths)
        said: dict[str, Any] = {"path": paths, "rows": f"{rows:,}", "method": self.recipe.method}
        if not most.read and most.reason in _SAID_APART:
            return Refused(_SAID_APART[most.reason], **said)
        first = most.examples[0] if most.examples else Example(paths, 0)
        return Refused("rows_not_usable", **said, why=most.why, source=first.source, line=first.line)


@dataclass
class _Usable:
    rows: list[dict[str, Any]]
    read: SourceRead


# --- putting aside, splitting, writing ---------------------------------------------------------------------------


class _Aside:
    """Rows that wait on disk until it is known which are held out and which columns there are."""

    def __init__(self, file: IO[bytes], written: RowsWritten) -> None:
        self.file, self.written = file, written
        self.keys = array("Q")  # of each row's prompt
        self.labels = bytearray()
        self.rows = 0
        self._columns: dict[str, None] = dict.fromkeys(written.columns)
        self._uniform = True

    def put_all(self, given: Iterable[list[dict[str, Any]]]) -> None:
        """The rows of each pair."""
        own = len(COLUMNS[self.written.method])
        for rows in given:
            for row in rows:
                if len(row) > own or len(self._columns) > own:
                    row = self._fitted(row)
                self.keys.append(_key(row["prompt"]))
                if "label" in row:
                    self.labels.append(row["label"])
                self.file.write(self._line(row))
                self.rows += 1
        self.written.columns = list(self._columns)

    def _fitted(self, row: dict[str, Any]) -> dict[str, Any]:
        new = [name for name in row if name not in self._columns]
        for name in new:
            if len(self._columns) < MOST_COLUMNS:
                self._columns[name] = None
            elif name not in self.written.not_kept and len(self.written.not_kept) < MOST_COLUMNS:
                self.written.not_kept.append(name)
        self._uniform = self._uniform and (not new or not self.rows) and len(row) == len(self._columns)
        return {name: row[name] for name in self._columns if name in row}

    def _line(self, row: Mapping[str, Any]) -> bytes:
        text = json.dumps(row, ensure_ascii=False)
        try:
            return f"{text}\n".encode()
        except UnicodeEncodeError:
            self.written.replaced += 1
            return f"{_HALF.sub(_HALF_CHARACTER, text)}\n".encode()

    def write(self, path: Path, which: np.ndarray[Any, Any] | None) -> None:
        """All rows, or those that `which` marks."""
        self.file.seek(0)
        with written_whole(path) as place, place.open("wb") as file:
            for n, line in enumerate(self.file):
                if which is None or which[n]:
                    file.write(line if self._uniform else self._whole(line))

    def _whole(self, line: bytes) -> bytes:
        """With an empty text in the columns that the row lacks: `datasets` takes the type of a column from its first
        rows, and a column that begins with nulls gets none."""
        row = json.loads(line)
        return f"{json.dumps({name: row.get(name, '') for name in self._columns}, ensure_ascii=False)}\n".encode()

    def account(self, which: np.ndarray[Any, Any] | None) -> None:
        """Counts of the rows trained on."""
        import numpy as np

        keys = np.frombuffer(self.keys, dtype=np.uint64)
        labels = np.frombuffer(bytes(self.labels), dtype=np.uint8)
        if which is not None:
            keys, labels = keys[which], labels[which] if len(labels) else labels
        self.written.train, self.written.prompts = len(keys), len(np.unique(keys))
        self.written.wanted = int(labels.sum())
        self.written.unwanted = len(labels) - self.written.wanted

    def shared_with(self, other: _Aside) -> int:
        """How many rows have a prompt that the other has too."""
        import numpy as np

        mine, theirs = (np.frombuffer(one.keys, dtype=np.uint64) for one in (self, other))
        return int(np.isin(mine, theirs).sum())


def _key(prompt: Any) -> int:
    digest = hashlib.blake2b(prompt_key(prompt).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _split(rows: _Aside, val_size: float, seed: int) -> tuple[Any, Any]:
    """(rows trained on, rows held out) as marks, (None, None) where none is to be held out. All rows of one prompt are
    on one side. Raises Refused where that leaves a side empty."""
    import numpy as np

    if not val_size:
        return None, None
    wanted = round(val_size * rows.rows) if val_size < 1 else int(val_size)
    wanted = max(1, wanted)
    keys = np.frombuffer(rows.keys, dtype=np.uint64)
    prompts, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    if wanted >= rows.rows or len(prompts) < 2:
        entry = "val_one_prompt" if len(prompts) < 2 and rows.rows > wanted else "val_too_large"
        raise Refused(entry, value=f"{val_size:g}", rows=f"{rows.rows:,}")
    order = np.random.default_rng(seed).permutation(len(prompts))
    few = order[counts[order] <= wanted]  # one prompt of very many rows ends nothing early
    held = np.zeros(len(prompts), dtype=bool)
    held[few[np.cumsum(counts[few]) <= wanted]] = True
    if not held.any():
        held[order[np.argmin(counts[order])]] = True
    marks = held[place.reshape(-1)]
    return ~marks, marks


