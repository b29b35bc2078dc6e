"""Rows of training logs written as text: dict lines of transformers, JSON lines, and `epoch 1, step 100, loss: 2.3`
with all its relatives.

A line is understood by the words in front of its numbers, so what it means depends on the line alone and hardly on
those around it. Lines that are alike but for their numbers become one pattern that is matched over whole blocks; it is
made from what the slow way understood, so both give the same.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from pipeline.logs.log_messages import MessageCounter
from pipeline.logs.metric_names import Meaning, is_eval_word, meaning_in_text, setting_name
from pipeline.logs.own_format import OwnFormat, PatternSearch
from pipeline.logs.row_collector import _ESTIMATE, NAN, RowCollector

# A number that stands for itself: not inside a word, a version or a path.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?"
    r"|(?:[nN]a[nN]|NAN|[iI]nf(?:inity)?|INF))(?![A-Za-z0-9_])"
)
_NUMBER_IN_PATTERN = rb"([-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|[nN]a[nN]|NAN|[iI]nf(?:inity)?|INF))"
# The words before a number: name, brackets with an explanation, quote, separator, wrappers.
_BEFORE = re.compile(
    r"([A-Za-z_\u4e00-\u9fff@][\w/@.\-]*(?:[ \t]{1,2}[A-Za-z_\u4e00-\u9fff@][\w/@.\-]*){0,4})(?:\s*\([^()]{0,60}\))?"
    r"['\"`*]*\s*(:|=|：|->|=>|\||为|是|\bis\b|\bof\b)?\s*['\"`*]*(?:[A-Za-z_.]+\d*\()?['\"\[({]*\s*$"
)
_FRACTION_BEFORE = re.compile(r"(?:\]\s*[(\[]|[(\[]|\|\s*|^|\s)$")
# Chinese counts behind the number: 第3轮，第100步.
_ORDINAL = re.compile(r"(?:\s*/\s*\d+)?\s*个?\s*(轮|步|epoch|step)")
_ORDINALS = {"轮": "epoch", "epoch": "epoch", "步": "step", "step": "step"}
_TIME = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[ T_](\d\d):(\d\d):(\d\d)(?:[,.](\d{1,6}))?")
_DICT = re.compile(r"\{\s*['\"][^'\"{}]{1,80}['\"]\s*:")
_TQDM = re.compile(r"(?:^|[\s:])(\d+)/(\d+) \[[\d:?]+<")
# Words of which one stands in every line worth a closer look.
_WORTH = re.compile(
    rb"(?i)loss|lr\b|lr[:=]|learning|reward|score|acc\b|accura|_acc|ppl|perplex|grad|norm|kl|entropy|margin|logp|skipped|len|ratio"
    rb"|\xe6\x8d\x9f\xe5\xa4\xb1|\xe5\xad\xa6\xe4\xb9\xa0|\xe5\xa5\x96\xe5\x8a\xb1|\xe5\x87\x86\xe7\xa1\xae|\xe5\x9b\xb0\xe6\x83\x91"
)
_EVALUATING = re.compile(r"(?i)\bevaluat(?:e|ing|ion)\b|\bvalidat(?:e|ing|ion)\b|评估|验证")
_TRAINING = re.compile(r"(?i)\b(?:beginning of epoch|start(?:ing)? epoch|training epoch|running training)\b|开始训练")
_EPOCH_SAID = re.compile(r"(?i)\bepoch[\s:\[#]*(\d+)(?:\s*/\s*(\d+))?")
_SETTING = re.compile(r"(?:--|['\"]|\b)([A-Za-z][\w ]{1,40}?)['\"]?\s*(?:[:=]\s*|\s(?=\S))['\"]?([\w.+\-/]{1,120})")
_SETTING_LINE = re.compile(r"^[^:=]{0,60}?([A-Za-z][\w. ()]{1,60}?)\s*[:=]\s*(\S.{0,120}?)\s*,?\s*$")
_OPTION = re.compile(r"(?:--|\+)?([A-Za-z][\w.]{1,60})[ =]([^\s'\",\]]{1,120})")
_PENDING_LINES = 8  # a record that a terminal wrapped; longer ones are printed configurations
_SETTING_LINES = 20_000  # configurations stand at the beginning of a log
_LEARN_AFTER = 8
_TIMES_KEPT = 1024  # every row's time up to here, one in 64 later
_LONGEST = 20_000  # characters of a line that are looked at


@dataclass(frozen=True)
class _Slot:
    """One number of a line that means something. name: of a metric or place; start, end: where it stands."""

    place: str
    name: str
    start: int
    end: int
    percent: bool = False


@dataclass(frozen=True)
class _Pattern:
    """Lines that are alike but for their numbers, as one regular expression over a block."""

    source: bytes
    regex: re.Pattern[bytes]
    slots: tuple[_Slot, ...]  # in the order of the groups
    time: bool


class TextLines:
    """Reads blocks of whole lines into a `RowCollector`. Every block may be any number of lines."""

    def __init__(self, rows: RowCollector, messages: MessageCounter, own: OwnFormat | None = None) -> None:
        self.rows = rows
        self.messages = messages
        self.search = PatternSearch(own) if own is not None and own.pattern else None
        self._columns = _own_columns(own) if own is not None else []
        self.lines = 0
        self.formats: dict[str, int] = {}
        self._seen: dict[bytes, int] = {}
        self._pattern: _Pattern | None = None
        self._missed = 0
        self._evaluating = False
        self._epoch = NAN
        self._bar = NAN
        self._bar_total = NAN
        self._bars: dict[float, int] = {}
        self._pending: list[str] = []
        self._records: list[Any] = []

    def read(self, block: bytes) -> None:
        """All lines of `block`, which ends with a line end."""
        if not block:
            return
        if self.search is not None:
            self._searched(block, self.search)
            return
        if self._pattern is None:
            self._each(block.split(b"\n")[:-1])
            return
        found = self._pattern.regex.findall(block)
        if not found:
            return
        others = [place for place, groups in enumerate(found) if groups[-1]]
        if not others and len(found) == block.count(b"\n"):
            self._flush_pending()
            self._alike(found)
            return
        if len(others) * 2 > len(found):  # the log went on in another form
            self._missed += 1
            if self._missed > 2:
                self._pattern, self._missed = None, 0
        self._mixed(block)

    def finish(self) -> None:
        """Takes what was held back: the end of the log."""
        self._flush_pending()
        self._flush_records()
        totals = {total: n for total, n in self._bars.items() if n}
        if totals:
            self.rows.settings.setdefault("bar_total", max(totals, key=lambda t: (totals[t], t)))

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

    def _mixed(self, block: bytes) -> None:
        """A block in which some lines match the pattern: those in a row are taken together."""
        pattern = self._pattern
        run: list[Any] = []
        for line in block.split(b"\n")[:-1]:
            match = pattern.regex.match(line) if pattern is not None and line else None
            if match is not None and not match[match.re.groups]:
                run.append(match.groups())
                continue
            if run:
                self._flush_pending()
                self._alike(run)
                run = []
            self._each((line,))
        if run:
            self._flush_pending()
            self._alike(run)

    def _alike(self, found: Sequence[Sequence[bytes]]) -> None:
        """Rows of lines that match the pattern; each a tuple of its groups, the last one empty."""
        pattern = self._pattern
        assert pattern is not None
        self._flush_records()
        self.lines += len(found)
        first = len(self.rows)
        groups = list(zip(*found, strict=True))
        times = None
        if pattern.time:
            times = [
                _time_of(raw) if first + n < _TIMES_KEPT or not (first + n) % 64 else NAN
                for n, raw in enumerate(groups[0])
            ]
            groups = groups[1:]
        columns: dict[str, list[float]] = {}
        places: dict[str, list[float]] = {}
        for slot, raw in zip(pattern.slots, groups, strict=False):
            numbers = list(map(float, raw))
            if slot.percent:
                numbers = [n / 100 for n in numbers]
            (places if slot.place else columns)[slot.place or slot.name] = numbers
        self.formats["text"] = self.formats.get("text", 0) + len(found)
        self.rows.records += len(found)
        self._evaluating = False
        self.rows.add_columns(len(found), columns, places.get("step"), places.get("epoch"), times, self._bar)

    def _each(self, lines: Sequence[bytes]) -> None:
        for raw in lines:
            self.lines += 1
            if not raw or raw.isspace():
                continue
            first = raw[:1]
            if first == b"{" and raw.rstrip()[-1:] == b"}" and not self._pending:
                record = _record(raw)
                if record is not None:
                    self._records.append(record)
                    if len(self._records) >= 4096:
                        self._flush_records()
                    continue
            self._line(raw)

    def _flush_records(self) -> None:
        if self._records:
            records, self._records = self._records, []
            self.formats["records"] = self.formats.get("records", 0) + len(records)
            if self._bar == self._bar:
                self._bars[self._bar_total] = self._bars.get(self._bar_total, 0) + len(records)
            self.rows.add_records(records, self._bar)

    # One line

    def _line(self, raw: bytes) -> None:
        worth = _WORTH.search(raw) is not None or any(literal in raw for literal, _, _ in self._columns)
        self.messages.look(raw, self.lines, len(self.rows) + len(self._records))
        brace = b"{" in raw
        if not worth and not brace and not self._pending:
            if b"[" in raw or b"poch" in raw or b"valuat" in raw or b"alidat" in raw or self.lines <= _SETTING_LINES:
                self._context(raw[:_LONGEST].decode("utf-8", errors="replace"))
            return
        line = raw[:_LONGEST].decode("utf-8", errors="replace")
        if self._pending and self._continued(line):
            return
        bar = _TQDM.search(line)
        if bar is not None:
            self._see_bar(bar)
        if brace and (begin := _DICT.search(line)) is not None:
            end = line.rfind("}")
            if end > begin.start():
                record = _record(line[begin.start() : end + 1].encode())
                if record is not None and begin.start() == 0 or self._flat(record):
                    self._records.append(record)
                    self._flush_records()
                    return
            elif begin.start() == 0 or line[: begin.start()].isspace():
                self._pending = [line.rstrip("\n")]
                return
        if worth and self._text_row(raw, line):
            return
        self._context(line)

    def _flat(self, record: dict[str, Any] | None) -> bool:
        """Whether a dict inside a line is the row itself: it holds a metric; `reward_data: {...}` is only a part."""
        return record is not None and any(
            k in record
            for k in ("loss", "eval_loss", "train_loss", "reward", "train/loss", "epoch", "step", *self.rows.renamed)
        )

    def _continued(self, line: str) -> bool:
        """Whether `line` belonged to a record begun before; the record is read when it is whole."""
        if _DICT.match(line) or len(self._pending) > _PENDING_LINES:
            self._flush_pending()
            return False
        self._pending.append(line)
        if "}" not in line:
            return True
        text = "".join(self._pending)
        self._pending = []
        record = _record(text[: text.rfind("}") + 1].encode())
        if record is not None:
            self._records.append(record)
            self._flush_records()
        else:
            self._in_pieces(text)
        return True

    def _flush_pending(self) -> None:
        if self._pending:
            text, self._pending = "".join(self._pending), []
            self._in_pieces(text)

    def _in_pieces(self, text: str) -> None:
        """A record that never ended, as of a run that was killed while it wrote: what is whole counts."""
        found = dict(re.findall(r"['\"]([^'\"{}]{1,80})['\"]\s*:\s*['\"]?([-+\w.]+)['\"]?\s*[,}]", text))
        if found:
            self._flush_records()
            self.rows.add_records([found], self._bar)

    def _text_row(self, raw: bytes, line: str) -> bool:
        slots = _slots(line, self._columns)
        metrics = [s for s in slots if not s.place]
        if not metrics:
            return False
        self._flush_records()
        names = {s.name for s in metrics}
        values: dict[str, float] = {}
        places: dict[str, float] = {}
        for slot in slots:
            number = float(line[slot.start : slot.end].replace(",", "")) / (100 if slot.percent else 1)
            (places if slot.place else values)[slot.place or slot.name] = number
        if only_settings(names) and "step" not in places and "epoch" not in places:
            self._context(line)  # `learning_rate: 1e-06` of a configuration, not of a step
            return True
        time = _TIME.search(line[:80])
        bar = _TQDM.search(line)
        self._count_bar(bar)
        step, epoch = places.get("step", NAN), places.get("epoch", NAN)
        plain = "step" not in places and "epoch" not in places
        evaluated = plain and bar is None and self._evaluating and not any(n.startswith("eval_") for n in names)
        if evaluated:
            values = {f"eval_{name}": value for name, value in values.items()}
        if plain and bar is None:
            epoch = self._epoch
        elif not any(n.startswith("eval_") for n in values):
            self._evaluating = False
        if any(n.startswith("eval_") for n in values) and "loss" in values:
            values[_ESTIMATE] = values.pop("loss")
        first = len(self.rows)
        stamp = NAN
        if time is not None and (first < _TIMES_KEPT or not first % 64):
            stamp = _stamp(time)
        self.rows.records += 1
        self.formats["text"] = self.formats.get("text", 0) + 1
        self.rows.add(values, step, epoch, stamp, self._bar)
        # Only lines that say all by themselves can be read by a pattern.
        if self._pattern is None and not plain and bar is None and _ESTIMATE not in values and len(raw) < 2000:
            self._learn(raw, line, slots, time)
        return True

    def _learn(self, raw: bytes, line: str, slots: Sequence[_Slot], time: re.Match[str] | None) -> None:
        if time is not None and any(s.start < time.end() for s in slots):
            return
        source = _pattern_source(line, slots, time)
        if source is None:
            return
        if len(self._seen) > 256:
            self._seen.clear()
        self._seen[source] = self._seen.get(source, 0) + 1
        if self._seen[source] >= _LEARN_AFTER:
            regex = re.compile(rb"^(?:" + source + rb")$|^(.+)$", re.MULTILINE)
            self._pattern = _Pattern(source, regex, tuple(slots), time is not None)
            self._seen.clear()

    def _count_bar(self, bar: re.Match[str] | None) -> None:
        """Remembers which bar goes along with rows: others show the data being mapped or an evaluation."""
        if bar is not None or self._bar == self._bar:
            self._bars[self._bar_total] = self._bars.get(self._bar_total, 0) + 1

    def _see_bar(self, bar: re.Match[str]) -> None:
        """A progress bar. Records printed above it belong to it: tqdm draws the bar anew below what it prints, while
        the one before may lag some steps behind. A shorter bar is that of an evaluation."""
        at, total = float(bar[1]), float(bar[2])
        if not total < self._bar_total:
            self._bar, self._bar_total = at, total
        self._flush_records()
        self._bar, self._bar_total = at, total

    def _context(self, line: str) -> None:
        """Lines that are no row: settings, the epoch that begins, whether evaluation runs, a progress bar."""
        bar = _TQDM.search(line)
        if bar is not None:
            self._see_bar(bar)
            return
        if self.lines <= _SETTING_LINES:
            self._settings(line)
        if _TRAINING.search(line):
            self._evaluating = False
        elif _EVALUATING.search(line) and len(line) < 200:
            self._evaluating = True
        if (epoch := _EPOCH_SAID.search(line)) is not None and len(line) < 200:
            self._epoch = float(epoch[1])
            if epoch[2]:
                self.rows.add_setting("num_train_epochs", float(epoch[2]))

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


def only_settings(names: set[str]) -> bool:
    """Whether these metrics alone could as well be a line of a configuration."""
    return names <= {"learning_rate", "entropy", "kl", "completions/mean_length", "grad_norm"}


def _own_columns(own: OwnFormat) -> list[tuple[bytes, re.Pattern[str], Meaning]]:
    """(bytes that stand in the line, expression whose group is the number, meaning) of each column given."""
    return [
        (
            column.encode(),
            re.compile(rf"(?<![\w/.]){re.escape(column)}['\"\])]*\s*[:=|]?\s*['\"\[(]*(?={_NUMBER.pattern})"),
            what,
        )
        for column, what in own.column_meanings.items()
    ]


def _slots(line: str, own: Sequence[tuple[bytes, re.Pattern[str], Meaning]] = ()) -> list[_Slot]:
    """The numbers of a line that mean something, in order; of two with one meaning the first.

    own: names that the user gave a meaning to; they go first."""
    slots: list[_Slot] = []
    taken: set[str] = set()
    told: set[int] = set()
    for _, pattern, given in own:
        if (named := pattern.search(line)) and (number := _NUMBER.match(line, named.end())):
            place = given.name if given.kind == "place" else ""
            slots.append(_Slot(place, given.name, number.start(), number.end()))
            taken.add(given.name)
            told.add(number.start())
    end = 0
    line_is_eval: bool | None = None
    after_epoch = False
    for found in _NUMBER.finditer(line):
        gap = line[end : found.start()]
        end = found.end()
        if found.start() in told:
            continue
        follows = line[end : end + 1]
        what = _meaning_before(gap)
        if gap.rstrip().endswith("第") and (ordinal := _ORDINAL.match(line, end)):
            what = "place", _ORDINALS[ordinal[1]]
        if what is None:
            # A bare fraction is a place: `(20/4292)` behind an epoch, `9/24604 [` of a progress bar.
            if (
                follows == "/"
                and line[end + 1 : end + 2].isdigit()
                and _FRACTION_BEFORE.search(gap)
                and "step" not in taken
            ):
                total = re.match(r"/(\d+)\s*(\[|\]|\)|\(|,|:|$)", line[end:])
                if total and (after_epoch or total[2] == "["):
                    slots.append(_Slot("step", "step", found.start(), end))
                    taken.add("step")
            continue
        kind, name = what
        if kind == "place":
            after_epoch = after_epoch or name == "epoch"
            if (
                name in ("step", "epoch")
                and name not in taken
                and "." not in line[found.start() : end]
                or name == "epoch"
            ):
                if name in taken:
                    continue
                slots.append(_Slot(name, name, found.start(), end))
                taken.add(name)
            continue
        if not name.startswith("eval_"):
            if line_is_eval is None:
                line_is_eval = _line_is_eval(line)
            if line_is_eval and not re.search(r"(?i)train", gap):
                name = f"eval_{name}"
        if name in taken:
            continue
        taken.add(name)
        slots.append(
            _Slot("", name, found.start(), end, follows == "%" and "accura" in name or follows == "%" and "acc" in gap)
        )
    return sorted(slots, key=lambda slot: slot.start) if own else slots


_GAPS: dict[str, tuple[str, str] | None] = {}


def _meaning_before(gap: str) -> tuple[str, str] | None:
    if len(gap) > 120:
        gap = gap[-120:]
    if gap in _GAPS:
        return _GAPS[gap]
    result = None
    found = _BEFORE.search(gap)
    if found is not None:
        words = tuple(found[1].split())
        what = meaning_in_text(words, found[2] is not None and found[2] not in ("of", "|"))
        if what is not None:
            result = (what.kind, what.name)
    if len(_GAPS) > 20_000:
        _GAPS.clear()
    _GAPS[gap] = result
    return result


_EVAL_HEAD = re.compile(
    r"(?i)(?:^|[\s\[(|:>*#=\-])(eval\w*|valid\w*|val|test(?:ing)?|验证\w*|评估\w*|测试\w*)(?=[\s\])|:>*=\-]|$)"
)


def _line_is_eval(line: str) -> bool:
    """Whether the line says at its head that evaluation is meant: `[eval] step 100 loss 2.1`, `Validation: loss=2`."""
    head = line[:120]
    number = _NUMBER.search(head)
    found = _EVAL_HEAD.search(head)
    if found is None or re.search(r"(?i)\btrain", head[: found.start() + 1]):
        return False
    return is_eval_word(found[1]) and (number is None or found.start() < 60)


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


def _pattern_source(line: str, slots: Sequence[_Slot], time: re.Match[str] | None) -> bytes | None:
    """The line as a regular expression: its words literally, its numbers as numbers, those of slots captured."""
    wanted = {slot.start: slot for slot in slots}
    parts: list[bytes] = []
    end = 0
    if time is not None:
        parts += [_literal(line[: time.start()]), rb"(\d{4}[-/]\d\d[-/]\d\d[ T_]\d\d:\d\d:\d\d(?:[,.]\d{1,6})?)"]
        end = time.end()
    for found in _NUMBER.finditer(line, end):
        if found.start() < end:
            continue
        text = found[0]
        parts.append(_literal(line[end : found.start()]))
        if found.start() in wanted:
            if "," in text:
                return None
            parts.append(_NUMBER_IN_PATTERN)
        else:
            parts.append(_NUMBER_IN_PATTERN.replace(b"(", b"(?:", 1))
        end = found.end()
    parts.append(_literal(line[end:]))
    return b"".join(parts)


def _literal(text: str) -> bytes:
    """Text for a pattern. Digits inside words, as in `7B` or `cuda:0x1f`, may differ from line to line."""
    return b"".join(
        rb"\d+" if part.isdigit() else re.escape(part.encode()) for part in re.split(r"(\d+)", text) if part
    )


def _time_of(raw: bytes) -> float:
    found = _TIME.match(raw.decode("ascii", errors="replace"))
    return _stamp(found) if found is not None else NAN


def _stamp(found: re.Match[str]) -> float:
    """Seconds since 1970 of a time as logged; zones are seldom said, so all of one log are taken as UTC."""
    try:
        parts = [int(g) for g in found.groups()[:6]]
        fraction = float(f"0.{found[7]}") if found[7] else 0.0
        return datetime(*parts, tzinfo=UTC).timestamp() + fraction  # type: ignore[misc, arg-type]
    except ValueError:
        return math.nan
