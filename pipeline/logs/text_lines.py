"""Rows of training logs written as text: dict lines of transformers, JSON lines, and `epoch 1, step 100, loss: 2.3`
with all its relatives.

A line is understood by the words in front of its numbers, so what it means depends on the line alone and hardly on
those around it. Lines that are alike but for their numbers become a form that is matched over whole blocks (see
line_forms.py); it is made from what the slow way understood, so both give the same.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from pipeline.logs.form_worker import FormWorker
from pipeline.logs.line_forms import Bars, LineForms, Part
from pipeline.logs.line_slots import NUMBER, TIME, TQDM, Slot, only_settings, own_columns, slots_of
from pipeline.logs.log_messages import SPEAKER, MessageCounter
from pipeline.logs.metric_names import setting_name
from pipeline.logs.model_card import RESULTS_FOLLOW, bullet
from pipeline.logs.own_format import OwnFormat, PatternSearch
from pipeline.logs.pasted_table import PastedTable, pasted_table
from pipeline.logs.row_collector import BESIDE, ESTIMATE, NAN, RowBlock, RowCollector
from pipeline.logs.wrapped_lines import unwrapped

_DICT = re.compile(r"\{\s*['\"][^'\"{}]{1,80}['\"]\s*:")
# Words of which one stands in every line worth a closer look.
_WORTH = re.compile(
    rb"(?i)loss|lr\b|lr[:=]|learning|reward|score|acc\b|accura|_acc|ppl|perplex|grad|norm|kl|entropy|margin|logp|skipped|len|ratio|\bval\b"
    rb"|\xe6\x8d\x9f\xe5\xa4\xb1|\xe5\xad\xa6\xe4\xb9\xa0|\xe5\xa5\x96\xe5\x8a\xb1|\xe5\x87\x86\xe7\xa1\xae|\xe5\x9b\xb0\xe6\x83\x91"
)
_EVALUATING = re.compile(r"(?i)\bevaluat(?:e|ing|ion)\b|\bvalidat(?:e|ing|ion)\b|评估|验证")
_TRAINING = re.compile(r"(?i)\b(?:beginning of epoch|start(?:ing)? epoch|training epoch|running training)\b|开始训练")
_EPOCH_SAID = re.compile(r"(?i)\bepoch[\s:\[#]*(\d+)(?:\s*/\s*(\d+))?")
_SETTING_LINE = re.compile(r"^[^:=]{0,60}?([A-Za-z][\w. ()]{1,60}?)\s*[:=]\s*(\S.{0,120}?)\s*,?\s*$")
_OPTION = re.compile(r"(?:--|\+)?([A-Za-z][\w.]{1,60})[ =]([^\s'\",\]]{1,120})")
_PENDING_LINES = 8  # a record that a terminal wrapped; longer ones are printed configurations
_PRETTY_LINES = 200  # of one that is printed a name a line
_MEMBER = re.compile(r'\s*(?:"[^"\n]{1,200}"\s*:|[}\]]|-?[\d.]+(?:[eE][-+]?\d+)?,?\s*$)')
_SETTING_LINES = 20_000  # configurations stand at the beginning of a log
_SMALLEST, _LARGEST = 2**13, 2**18  # bytes that are read at once
_LONGEST = 20_000  # characters of a line that are looked at
# One name of a printed record with its number.
_ENTRY = re.compile(
    r"\s*(['\"])([^'\"{}]{1,80})\1\s*:\s*(?:[A-Za-z_.]+\d*\()?['\"]?("
    + NUMBER.pattern
    + r")['\"]?\)?\s*(?:,(?!\s*\})|\}$|\}(?!\}))"
)
_PIECE = re.compile(r"['\"]([^'\"{}]{1,80})['\"]\s*:\s*['\"]?([-+\w.]+)['\"]?\s*[,}]")
_JSON_NAN = re.compile(rb"([:,\[]\s*)(-?(?:NaN|Infinity))(?=\s*[,}\]])")
# Quotes that a word processor or a chat made of straight ones.
_CURLY, _STRAIGHT = "\u2018".encode()[:2], str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_OBJECT = re.compile(rb"\{[^{}]{1,20000}\}")
# Of the block `***** train metrics *****` that Trainer.log_metrics prints, names padded to one width: the run's mean.
_CLOSING_LOSS = re.compile(r"  train_loss {4,}= ")
_SCALE_SAID = re.compile(r"(?i)overflow|attempted loss scale|reducing to")
_PLACES = ("step", "epoch")
# A line that says the step of the lines below it: `[step=10/1000,epoch=0]`, `step: 10`.
_STEP_LINE = re.compile(
    r"(?:(?:^|[\s\[(])(?:global_)?(?:step|iter|iteration)|^\s*\[batch)\s*[:=]\s*(\d+)(?:\s*/\s*(\d+))?\s*"
    r"(?:,\s*epoch\s*[:=]\s*\d+(?:/\d+)?\s*)?[\])]?:?\s*$"
)
_WORD = re.compile(r"\b[A-Za-z]{2,}\b")
_SENTENCE_WORDS = 12
_STEP_LINES = 40  # lines that belong to it at most


@dataclass
class _Beside:
    """Rows of the lines of one block that no form knows. places: the line of each; bars: (line, step, total)."""

    rows: RowCollector
    places: list[int] = field(default_factory=list)
    bars: list[tuple[int, float, float]] = field(default_factory=list)
    consumed: set[int] = field(default_factory=set)


class TextLines:
    """Reads blocks of whole lines into a `RowCollector`. Every block may be any number of lines."""

    def __init__(self, rows: RowCollector, messages: MessageCounter, own: OwnFormat | None = None) -> None:
        self.rows = rows
        self.messages = messages
        self.search = PatternSearch(own) if own is not None and own.pattern else None
        self._columns = own_columns(own) if own is not None else []
        self.lines = 0
        self.in_code = False  # the text is a program: only records that stand in its comments count
        self.formats: dict[str, int] = {}
        self._forms = LineForms()
        self.ahead: FormWorker | None = None  # matches the piece after the one that is read
        self._piece = _SMALLEST
        self._evaluating = False
        self._epoch = NAN
        self._bar = NAN
        self._bar_total = NAN
        self._bars: dict[float, int] = {}
        self._at = 0
        self._seen_bars: list[tuple[int, float, float]] | None = None
        self._pending: list[str] = []
        self._table: PastedTable | None = None
        self._head_step, self._head_line = NAN, 0  # of the last line that said the step of those below it
        self._below: set[str] = set()  # what those said since
        self._results: dict[str, float] = {}  # of a model card, and whether its bullets go on
        self._in_results = False

    def read(self, block: bytes) -> None:
        """All lines of `block`, which ends with a line end."""
        if not block:
            return
        if self.search is not None:
            self._searched(block, self.search)
            return
        start, size = 0, len(block)
        following: bytes | None = None
        while start < size:  # in small pieces while forms are being learned
            piece = following if following is not None else self._cut(block, start)
            start += len(piece)
            following = None
            if self.ahead is not None and self._piece == _LARGEST and start < size:
                following = self._cut(block, start)
                waits = self.ahead.waits_for(piece)
                if not waits:  # this piece is read here, the next one there meanwhile
                    self.ahead.send(following, self._forms)
            self._read_piece(piece)

    def _cut(self, block: bytes, start: int) -> bytes:
        """The lines of `block` from `start` on that are read at once."""
        size = len(block)
        end = size if start + self._piece >= size else block.rfind(b"\n", start, start + self._piece) + 1
        end = end or block.index(b"\n", start) + 1
        return block[start:end] if end - start < size else block

    def _read_piece(self, block: bytes) -> None:
        block = unwrapped(block, self.rows.is_judged)
        if block[:2] == b'{"' and not self._pending and self._json_lines(block):
            self._piece = _LARGEST
        elif self._forms.forms or b'\n{"' in block:
            self._by_forms(block)
        else:
            self._piece = _SMALLEST
            self._each(block.split(b"\n")[:-1])

    def finish(self) -> None:
        """Takes what was held back: the end of the log."""
        self._flush_pending()
        if self._results and not self.rows.names & {"eval_loss", *self._results}:  # a table says it with its step
            self._add_records([self._results])
            self._results = {}
        self.settle()

    def settle(self) -> None:
        """Says in the settings what was counted so far; more may be read after it."""
        totals = {total: n for total, n in self._bars.items() if n}
        if totals:
            self.rows.settings["bar_total"] = max(totals, key=lambda t: (totals[t], t))

    # Blocks

    def _searched(self, block: bytes, search: PatternSearch) -> None:
        """Rows by the user's expression alone; other lines still say what happened and what was configured."""
        for raw in block.split(b"\n")[:-1]:
            self.lines += 1
            if not raw or raw.isspace():
                continue
            line = raw[:_LONGEST].decode("utf-8", errors="replace")
            found = search.row(line)
            if found is not None:
                values, step, epoch = found
                self.rows.records += 1
                self.formats["own"] = self.formats.get("own", 0) + 1
                self.rows.add(values, step, epoch, bar=self._bar)
                continue
            self.messages.look(raw, self.lines, len(self.rows))
            self._context(line)

    def _json_lines(self, block: bytes) -> bool:
        """A block of nothing but JSON objects, one a line, read at once; False where it is anything else."""
        records = _json_values(block.split(b"\n")[:-1])
        if not records:
            return False
        self.lines += len(records)
        self._add_records(records)
        return True

    def _each(self, lines: Sequence[bytes]) -> None:
        batch: list[Any] = []
        for raw in lines:
            self.lines += 1
            if not raw or raw.isspace():
                continue
            if raw[:1] == b"{" and raw.rstrip()[-1:] == b"}" and not self._pending:
                try:
                    record = orjson.loads(raw)
                except ValueError:
                    record = None
                if type(record) is dict:
                    batch.append(record)
                    continue
            if batch:
                self._add_records(batch)
                batch = []
            self._line(raw)
        if batch:
            self._add_records(batch)

    def _add_records(self, records: Sequence[dict[str, Any]], *, python: bool = False) -> None:
        """Records of one form. python: printed dicts, of which only those count that hold a metric training is judged
        by."""
        self.formats["records"] = self.formats.get("records", 0) + len(records)
        self.rows.add_records(records, self._bar)
        if python:
            self.rows.records -= sum(not self.rows.is_judged(record) for record in records)

    def _by_forms(self, block: bytes) -> None:
        """A block in which lines of known forms stand: those are read in columns, the others one by one."""
        records: list[Any] = []
        at: list[int] = []
        others, places = block, None
        begin = block[:_SMALLEST]
        if not self._pending and begin.count(b'\n{"') * 4 > begin.count(b"\n"):
            all_lines = block.split(b"\n")[:-1]
            at = [n for n, raw in enumerate(all_lines) if raw[:2] == b'{"' and raw[-1:] == b"}"]
            records = _json_values([all_lines[n] for n in at])
            at = at if records else []
            if records:
                taken = set(at)
                left = [n for n in range(len(all_lines)) if n not in taken]
                others, places = b"".join([all_lines[n] + b"\n" for n in left]), np.array(left, dtype=np.int64)
        matched = None
        if self.ahead is not None and self.ahead.waits_for(others):
            matched = self.ahead.take(others, self._forms)
        matched = matched or self._forms.matched(others)
        if matched is None:  # something that is a number to the form only
            self._each(block.split(b"\n")[:-1])
            return
        parts = self._forms.parts_of(matched)
        count = matched.count + len(records)
        rest = dict(matched.rest)
        slow = list(rest)
        if places is not None:
            parts = [part.moved(places) for part in parts]
            slow = places[slow].tolist() if slow else []
            rest = dict(zip(slow, rest.values(), strict=True))
        self._piece = min(_LARGEST, 2 * self._piece) if len(slow) * 4 < count else max(_SMALLEST, self._piece // 4)
        bar, total = self._bar, self._bar_total
        beside = None
        if slow or self._pending:
            parts, beside = self._others(block, parts, rest, slow, at)
            if beside.consumed:
                whole = [n for n, place in enumerate(at) if place not in beside.consumed]
                at, records = [at[n] for n in whole], [records[n] for n in whole]
        self.lines += count
        self._take(parts, count, beside, bar, total, (records, at))

    def _others(
        self, block: bytes, parts: list[Part], rest: Mapping[int, bytes], slow: Sequence[int], records: Sequence[int]
    ) -> tuple[list[Part], _Beside]:
        """The lines of a block that no form knows, read one by one into rows of their own."""
        count, first_line = block.count(b"\n"), self.lines
        bars = _merged_bars([part.bars(count) for part in parts if part.form.bar is not None])
        trained = np.sort(np.concatenate([np.empty(0), *(p.places(count) for p in parts if p.form.trains)]))
        rows = np.sort(np.concatenate([np.array(records), *(p.places(count) for p in parts if p.form.slots)]))
        kept, base = self.rows, len(self.rows)
        beside = _Beside(kept.beside())
        self.rows = beside.rows
        self._seen_bars = beside.bars
        consumed = beside.consumed
        lines: list[bytes] = []
        waiting = set(slow)
        last = -1

        def take(at: int, raw: bytes) -> None:
            nonlocal last
            place = int(np.searchsorted(bars[0], at)) - 1
            if place >= 0 and bars[0][place] > last:
                self._bar, self._bar_total = float(bars[1][place]), float(bars[2][place])
            if self._evaluating and np.searchsorted(trained, at) > np.searchsorted(trained, last):
                self._evaluating = False
            last = self._at = at
            self.rows.before = base + int(np.searchsorted(rows, at))
            self.lines = first_line + at + 1
            if raw and not raw.isspace():
                self._line(raw)
            beside.places.extend([at] * (len(beside.rows) - len(beside.places)))

        try:
            at, queue = -1, iter(slow)
            while True:
                # what a record begun before goes on with is no line of its own, whatever its form
                while self._pending and at + 1 < count and at + 1 not in waiting:
                    at += 1
                    lines = lines or block.split(b"\n")
                    consumed.add(at)
                    take(at, lines[at])
                following = next(queue, None)
                if following is None:
                    break
                at = following
                take(at, rest[at])
        finally:
            self.rows, self._seen_bars = kept, None
        self.lines = first_line
        if len(trained) and trained[-1] > last:
            self._evaluating = False
        return ([part.without(consumed, count) for part in parts] if consumed else parts), beside

    def _take(
        self,
        parts: Sequence[Part],
        count: int,
        beside: _Beside | None,
        bar: float,
        total: float,
        json_lines: tuple[Sequence[dict[str, Any]], Sequence[int]],
    ) -> None:
        """Rows of one block in the order of its lines. bar, total: the progress bar before it; json_lines: records and
        the lines they stood in."""
        seen = [part.bars(count) for part in parts if part.form.bar is not None]
        if beside is not None and beside.bars:
            drawn = np.array(beside.bars)
            seen.append((drawn[:, 0], drawn[:, 1], drawn[:, 2]))
        when, step_at, total_at = _merged_bars(seen)
        blocks: list[RowBlock] = []
        for part in parts:
            form = part.form
            if not form.slots or not part.size:
                continue
            at = part.places(count)
            now, of = np.full(part.size, bar), np.full(part.size, total)
            if len(when):
                place = np.searchsorted(when, at, side="right") - 1
                now, of = np.where(place >= 0, step_at[place], now), np.where(place >= 0, total_at[place], of)
            if not np.isnan(now).all():
                for value, n in zip(*np.unique(of[now == now], return_counts=True), strict=True):
                    self._bars[float(value)] = self._bars.get(float(value), 0) + int(n)
            blocks.append(part.rows(at, now))
            self.formats[form.kind] = self.formats.get(form.kind, 0) + part.size
            self.rows.records += part.size if form.judged else 0
            if beside is None and form.trains:
                self._evaluating = False
        records, places = json_lines
        if records:
            at = np.array(places)
            now = np.full(len(at), bar)
            if len(when):
                before = np.searchsorted(when, at, side="right") - 1
                now = np.where(before >= 0, step_at[before], now)
            self.formats["records"] = self.formats.get("records", 0) + len(records)
            self.rows.records += len(records)
            blocks += self.rows.blocks_of(records, at, now)
        if beside is not None:
            self.rows.join(beside.rows)
            if len(beside.rows):
                blocks.append(beside.rows.as_block(np.array(beside.places)))
        self.rows.add_blocks(blocks)
        if len(when):
            self._bar, self._bar_total = float(step_at[-1]), float(total_at[-1])

    # One line

    def _line(self, raw: bytes) -> None:
        """A line on its own. What it turns out to be may become a form that later ones are matched by."""
        noted = not self.in_code and self.messages.look(raw, self.lines, len(self.rows) + self.rows.before)
        worth = (
            not self.in_code
            and _WORTH.search(raw) is not None
            or any(literal in raw for literal, _, _ in self._columns)
        )
        brace = b"{" in raw
        line = raw[:_LONGEST].decode("utf-8", errors="replace")
        if brace and _CURLY in raw:
            line = line.translate(_STRAIGHT)
        if self._pending and self._continued(line):
            return
        if self._in_results:
            if (found := bullet(line)) is not None:
                self._results[f"eval_{found[0].lower().removeprefix('eval_')}"] = found[1]
                return
            self._in_results = False
        elif RESULTS_FOLLOW.search(line) is not None:
            self._in_results = True
            return
        if (self._table is not None or worth) and self._table_row(line):
            return
        if self.in_code and not (brace and raw.lstrip()[:1] in (b"#", b"{")):
            return
        if not worth and not brace:
            if not self._context(line) and not noted:
                self._forms.learn_nothing(line)
            return
        if brace and line.strip() in ("{", "[{"):
            self._pending = ["{"]
            return
        if brace and "[{" in line and self._list_rows(raw):
            return
        bar = TQDM.search(line)
        if brace and (begin := _DICT.search(line)) is not None:
            end = line.rfind("}")
            if end > begin.start():
                if self._dict_row(line, begin.start(), end + 1, bar, noted):
                    return
            elif begin.start() == 0 or line[: begin.start()].isspace():
                self._pending = [line.rstrip("\n")]
                return
        if worth and self._text_row(line, bar, noted):
            return
        if not self._context(line) and not noted and not brace:
            self._forms.learn_nothing(line)

    def _table_row(self, line: str) -> bool:
        """A row of a table as a notebook shows it, or the head of one."""
        if self._table is not None:
            row = self._table.row(line)
            if row is not None:
                if row:
                    self.rows.add_records([row], self._bar)
                    self.formats["table"] = self.formats.get("table", 0) + 1
                return True
            self._table = None
        self._table = pasted_table(line, self.rows.meaning)
        return self._table is not None

    def _dict_row(self, line: str, start: int, end: int, bar: re.Match[str] | None, noted: bool) -> bool:
        record = _record(line[start:end].encode())
        if record is None or not (start == 0 or self._flat(record)):
            return False
        if bar is not None and bar.start() < start:
            self._see_bar(bar)
        self._count_bar()
        self._add_records([record], python=line[start + 1 :].lstrip()[:1] == "'")
        if not noted and (start == 0 or bar is not None) and (slots := self._slots_of_record(line, start, end)):
            judged = self.rows.is_judged(record) or line[start + 1] == '"'
            self._forms.learn(line, slots, kind="records", trains=False, judged=judged)
        return True

    def _list_rows(self, raw: bytes) -> bool:
        """A whole history on one line, as `print(trainer.state.log_history)` writes it."""
        records = [record for part in _OBJECT.findall(raw, raw.index(b"[{")) if (record := _record(part)) is not None]
        if len(records) < 2 or not any(self.rows.is_judged(record) for record in records):
            return False
        self._add_records(records, python=True)
        return True

    def _slots_of_record(self, line: str, start: int, end: int) -> list[Slot]:
        """Where the numbers of a printed record stand; empty where it is more than names with a number each."""
        slots: list[Slot] = []
        names: set[str] = set()
        at, known = start + 1, False
        while (entry := _ENTRY.match(line, at)) is not None:
            what = self.rows.meaning(entry[2])
            if (
                what.kind in ("summary", "speed")
                or what.name in names
                or (what.kind == "place" and what.name not in _PLACES)
            ):
                return []
            names.add(what.name)
            known = known or what.kind == "metric"
            slots.append(
                Slot(
                    what.name if what.kind == "place" else "", what.name, entry.start(3), entry.end(3), any_number=True
                )
            )
            at = entry.end()
        return slots if at == end and known else []

    def _flat(self, record: dict[str, Any]) -> bool:
        """Whether a dict inside a line is the row itself: it holds a metric; `reward_data: {...}` is only a part."""
        return any(
            k in record
            for k in ("loss", "eval_loss", "train_loss", "reward", "train/loss", "epoch", "step", *self.rows.renamed)
        )

    def _continued(self, line: str) -> bool:
        """Whether `line` belonged to a record begun before; the record is read when it is whole."""
        pretty = self._pending[0] == "{"
        if _DICT.match(line) or len(self._pending) > (_PRETTY_LINES if pretty else _PENDING_LINES):
            self._flush_pending()
            return False
        if pretty and (not _MEMBER.match(line) or line.rstrip().endswith("[")):
            self._pending = []  # what holds the records, not one of them
            return False
        self._pending.append(line)
        if "}" not in line or (pretty and sum(part.count("{") - part.count("}") for part in self._pending) > 0):
            return True
        text = "".join(self._pending)
        self._pending = []
        record = _record(text[: text.rfind("}") + 1].encode())
        if record is not None:
            self._add_records([record], python=text[1:].lstrip()[:1] == "'")
        else:
            self._in_pieces(text)
        return True

    def _flush_pending(self) -> None:
        if self._pending:
            text, self._pending = "".join(self._pending), []
            self._in_pieces(text)

    def _in_pieces(self, text: str) -> None:
        """A record that never ended, as of a run that was killed while it wrote: what is whole counts."""
        found = dict(_PIECE.findall(text[:_LONGEST]))
        if found:
            self._add_records([found], python=True)

    def _text_row(self, line: str, bar: re.Match[str] | None, noted: bool) -> bool:
        if line.lstrip().startswith("wandb:"):
            return False  # what W&B repeats at the end
        if SPEAKER.match(line):
            return False
        slots = slots_of(line, self._columns)
        names = {s.name for s in slots if not s.place}
        if not names:
            return False
        values: dict[str, float] = {}
        places: dict[str, float] = {}
        for slot in slots:
            number = float(line[slot.start : slot.end].replace(",", "")) / (100 if slot.percent else 1)
            (places if slot.place else values)[slot.place or slot.name] = number
        plain = "step" not in places and "epoch" not in places
        if plain and "loss" in values and _CLOSING_LOSS.match(line):
            self.rows.settings.setdefault("mean_train_loss", values["loss"])
            return True
        headed = plain and bar is None and self._headed(names)
        if headed:
            places["step"] = self._head_step
            self._below |= names
        if plain and not headed and bar is None and _is_sentence(line):
            return False
        if plain and not headed and only_settings(names) and not _SCALE_SAID.search(line):
            return False  # `learning_rate: 1e-06` of a configuration, not of a step
        if bar is not None:
            self._see_bar(bar)
        self._count_bar()
        evaluates = any(n.startswith("eval_") for n in names)
        if headed:
            pass
        elif plain and bar is None:
            if self._evaluating and not evaluates:
                values = {f"eval_{name}": value for name, value in values.items()}
            places["epoch"] = self._epoch
        elif not evaluates:
            self._evaluating = False
        if evaluates and "loss" in values:
            values[ESTIMATE] = values.pop("loss")
            slots = [replace(s, name=ESTIMATE) if s.name == "loss" else s for s in slots]
        time = TIME.search(line[:80])
        judged = not {n.removeprefix("eval_") for n in names} <= BESIDE
        self.rows.records += judged and not (headed and self._below - names)
        self.formats["text"] = self.formats.get("text", 0) + 1
        stamp = _stamp(time) if time is not None else NAN
        self.rows.add(values, places.get("step", NAN), places.get("epoch", NAN), stamp, self._bar)
        # Only lines that say all by themselves can be read by a form.
        if not noted and (not plain or bar is not None):
            self._forms.learn(line, slots, kind="text", trains=not evaluates, judged=judged)
        return True

    def _headed(self, names: set[str]) -> bool:
        """Whether a line that says these metrics is one of those below a step."""
        return (
            self._head_step == self._head_step
            and self.lines - self._head_line <= _STEP_LINES
            and not names & self._below
        )

    def _see_bar(self, bar: re.Match[str]) -> None:
        self._bar, self._bar_total = float(bar[1]), float(bar[2])
        if self._seen_bars is not None:
            self._seen_bars.append((self._at, self._bar, self._bar_total))

    def _count_bar(self) -> None:
        """Remembers which bar goes along with rows: others show the data being mapped or an evaluation."""
        if self._bar == self._bar:
            self._bars[self._bar_total] = self._bars.get(self._bar_total, 0) + 1

    def _context(self, line: str) -> bool:
        """Lines that are no row: settings, the epoch that begins, whether evaluation runs, a progress bar. Whether the
        line meant something for those that follow."""
        if (bar := TQDM.search(line)) is not None:
            self._see_bar(bar)
            self._forms.learn_bar()
            return True
        if len(line) < 200 and (head := _STEP_LINE.search(line)) is not None:
            self._head_step, self._head_line, self._below = float(head[1]), self.lines, set()
            if head[2]:
                self.rows.add_setting("max_steps", float(head[2]))
            return True
        if self.lines <= _SETTING_LINES:
            self._settings(line)
        meant = False
        if len(line) < 200:
            if _TRAINING.search(line):
                self._evaluating, meant = False, True
            elif _EVALUATING.search(line):
                self._evaluating, meant = True, True
            if (epoch := _EPOCH_SAID.search(line)) is not None:
                self._epoch, meant = float(epoch[1]), True
                if epoch[2]:
                    self.rows.add_setting("num_train_epochs", float(epoch[2]))
        return meant

    def _settings(self, line: str) -> None:
        if "--" in line:
            for name, value in _OPTION.findall(line.replace("', '", " ").replace('", "', " ")):
                if setting_name(name):
                    self.rows.add_setting(name, value)
            return
        if (found := _SETTING_LINE.match(line)) is None:
            return
        name = found[1].rsplit(">> ", 1)[-1].strip()
        words = name.split()
        for start in range(len(words)):
            key = "_".join(words[start:])
            if setting_name(key):
                value = found[2].split("#")[0].strip().strip("'\"").replace(",", "")
                if value and value.split()[0] not in ("None", "null"):
                    self.rows.add_setting(
                        key, {"True": True, "False": False, "true": True, "false": False}.get(value, value)
                    )
                return


def _is_sentence(line: str) -> bool:
    """Prose: a dozen words and more that end as a sentence does."""
    return line.rstrip(" \"')")[-1:] in ".!?" and len(_WORD.findall(line)) >= _SENTENCE_WORDS


def _json_values(lines: Sequence[bytes]) -> list[Any]:
    """The objects of these lines; nothing where one line is anything else."""
    if not lines:
        return []
    text = b",".join(lines)
    try:
        records = orjson.loads(b"[" + text + b"]")
    except ValueError:
        if b"NaN" not in text and b"Infinity" not in text:
            return []
        try:
            records = orjson.loads(b"[" + _JSON_NAN.sub(rb'\1"\2"', text) + b"]")
        except ValueError:
            return []
    return records if len(records) == len(lines) and set(map(type, records)) == {dict} else []


def _merged_bars(bars: Sequence[Bars]) -> Bars:
    """(lines, steps, totals) of all progress bars of a block in order."""
    if len(bars) == 1:
        return bars[0]
    at, step, total = (np.concatenate([np.empty(0), *(b[n] for b in bars)]) for n in range(3))
    order = np.argsort(at, kind="stable")
    return at[order], step[order], total[order]


def _record(raw: bytes) -> dict[str, Any] | None:
    """One JSON object or Python dict of plain values; None for anything else. Nothing is executed."""
    try:
        value = orjson.loads(raw)
    except ValueError:
        text = raw.decode("utf-8", errors="replace")
        try:
            value = orjson.loads(_NOT_JSON.sub(_as_json, text)) if '"' not in text or "'" not in text else None
        except ValueError:
            value = None
        if value is None:
            try:
                value = ast.literal_eval(_WRAPPER.sub(r"\1", _BARE_NAN.sub(r"\1'\2'", text)))
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                return None
    return value if isinstance(value, dict) and all(isinstance(k, str) for k in value) else None


_WRAPPER = re.compile(r"(?:np|numpy|torch)?\.?(?:float\d+|tensor|int\d+)\(([^()]*)\)")
_BARE_NAN = re.compile(r"([:,\[]\s*)(-?(?:nan|NaN|inf|Infinity|-inf))(?=\s*[,}\]])")
_NOT_JSON = re.compile(
    r"'|\b(?:np\.float\d+|np\.int\d+|tensor)\(([^()]*)\)"
    r"|(?<=[:,\[ ])-?(?:nan|NaN|inf|Infinity)(?=\s*[,}\]])|\bNone\b|\bTrue\b|\bFalse\b"
)


def _as_json(match: re.Match[str]) -> str:
    found = match[0]
    if found == "'":
        return '"'
    if match[1] is not None:
        inner = match[1].split(",")[0].strip()
        return f'"{inner}"'
    return {"None": "null", "True": "true", "False": "false"}.get(found, f'"{found}"')


def _stamp(found: re.Match[str]) -> float:
    """Seconds since 1970 of a time as logged, whole seconds; zones are seldom said, so all are taken as UTC."""
    try:
        year, month, day, hour, minute, second = (int(g) for g in found.groups()[:6])
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return NAN
