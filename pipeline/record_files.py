"""Records of data files: .json (an array, JSON lines, or an object that holds the array), .jsonl, .csv, .tsv, .parquet.

One record at a time and with its line, so that a file may be larger than the memory and a bad place be named. What
can't be read is a `Record` with a problem; what stands around it is kept. Text may be UTF-8, UTF-16, GB18030 or
Windows-1252, and gzipped.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pipeline.json_file import LFS_START

WRAPPERS = ("data", "rows", "train", "examples", "instances", "items", "records")
MAX_VALUE = 2**30  # characters of one JSON value or line: it has to be parsed whole
GZIP = b"\x1f\x8b"
FIRST_BYTES = 4096  # enough to tell text from anything else
CHUNK = 1 << 20
_GAP = re.compile(r"[\s,]*")
_NEXT_OBJECT = re.compile(r"\}\s*,\s*(?=\{)")
_NUMBER_TAIL = 16  # characters: an error this near to the end of what was read may only be an unfinished literal
_TRIES = 1000  # places looked at for the next sound record behind a broken one
_TURN = {"role", "from", "content", "value", "type", "text"}  # keys of a message, which is no record
_DELIMITERS = ",\t;|"
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")


class Unreadable(Exception):
    """No records in this file: (problem, detail)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. line: where it begins, from 1; in parquet its row. value: any JSON value, None with a problem.

    problem: `not_json`, `cut_short` (the file ends inside it), `too_many_cells` (of a table), `not_csv`; or
    `duplicate_key` (detail names it), where value holds the last of them.
    """

    line: int
    value: Any
    problem: str | None = None
    detail: str = ""


def records(path: Path) -> Iterator[Record]:
    """Records of one file, chosen by content where the name leaves it open. Raises Unreadable, OSError."""
    if path.is_dir():
        raise Unreadable("unknown_format", f"{path.name}: a folder")
    with open(path, "rb") as file:
        first = file.read(FIRST_BYTES)
    packed = first.startswith(GZIP)
    suffix = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if packed:
        with _opened(path) as file:
            first = file.read(FIRST_BYTES)
    if not first.strip():
        raise Unreadable("empty", path.name)
    if first.startswith(LFS_START[:23]):
        raise Unreadable("lfs_pointer", path.name)
    if first[:4] == b"PAR1":
        yield from _parquet(path)
    elif encoding_of(first) is None:
        raise Unreadable("not_text", path.name)
    elif suffix in (".csv", ".tsv"):
        yield from _table(path, suffix)
    elif suffix in (".json", ".jsonl", ".ndjson", ".txt", "") or first.lstrip()[:1] in (b"{", b"["):
        yield from _json(path, lines=suffix in (".jsonl", ".ndjson"))
    else:
        raise Unreadable("unknown_format", path.name)


# --- text ---


def encoding_of(first: bytes) -> str | None:
    """What the text that begins with these bytes is written in, as far as they tell; None for what is no text."""
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" not in first:
        return "utf-8-sig"
    pairs = max(1, len(first) // 2)
    for encoding, zeros, others in (("utf-16-le", first[1::2], first[::2]), ("utf-16-be", first[::2], first[1::2])):
        if zeros.count(0) > pairs / 4 and not others.count(0):  # no byte order mark, but every second byte is zero
            return encoding
    return None


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a text with their ends, which are `\\n` or `\\r\\n`. Raises Unreadable where it is none."""
    held: list[str] = []
    size = 0
    for text in text_chunks(path):
        *whole, rest = text.split("\n")
        if whole:
            held.append(whole[0])
            yield "".join(held) + "\n"
            for line in whole[1:]:
                yield line + "\n"
            held, size = [], 0
        if rest:
            held.append(rest)
            size += len(rest)
            if size > MAX_VALUE:
                raise Unreadable("too_large", f"{path.name}: one line of more than {MAX_VALUE >> 30} GiB")
    if held:
        yield "".join(held)


def text_chunks(path: Path) -> Iterator[str]:
    """The text of a file in pieces of about a million characters. Raises Unreadable where it is none."""
    with _opened(path) as file:
        first = file.read(FIRST_BYTES)
        encoding = encoding_of(first)
        if encoding is None:
            raise Unreadable("not_text", path.name)
        yield from _old_line_ends(_decoded(path, file, first, encoding))


def _opened(path: Path) -> IO[bytes]:
    file = open(path, "rb")  # noqa: SIM115 - the caller closes what is returned, which closes this one
    packed = file.read(2) == GZIP
    file.seek(0)
    return io.BufferedReader(_Unpacked(file), CHUNK) if packed else file


class _Unpacked(io.RawIOBase):
    """A gzipped file that ends where it is damaged."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._gzip = file, gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._gzip.read1(len(buffer))  # read() would lose what stands before the damage
        except (OSError, EOFError, ValueError, zlib.error):
            return 0
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def _decoded(path: Path, file: IO[bytes], raw: bytes, encoding: str) -> Iterator[str]:
    utf8 = encoding == "utf-8-sig"
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    plain = True
    while True:
        try:
            text = decoder.decode(raw, not raw)
        except UnicodeDecodeError:
            if not utf8:
                raise Unreadable("not_text", path.name) from None
            held = decoder.getstate()[0]
            decoder = _after_damage(held + raw, plain)
            utf8 = False
            text = decoder.decode(held + raw, not raw)
        plain = plain and raw.isascii()
        if text:
            yield text
        if not raw:
            return
        raw = file.read(CHUNK)


def _after_damage(raw: bytes, plain: bool) -> codecs.IncrementalDecoder:
    """For text that is no UTF-8 from here: written by Chinese or Western Windows when nothing before spoke for UTF-8,
    else UTF-8 with a damaged place."""
    if plain:
        runs = _HIGH_RUN.findall(raw)
        paired = sum(len(run) % 2 == 0 for run in runs)
        with_errors = "gb18030" if paired * 2 >= len(runs) else "cp1252"
        try:
            codecs.getincrementaldecoder(with_errors)("strict").decode(raw, False)
            return codecs.getincrementaldecoder(with_errors)("replace")
        except UnicodeDecodeError:
            pass
    return codecs.getincrementaldecoder("utf-8")("replace")


def _old_line_ends(chunks: Iterator[str]) -> Iterator[str]:
    """Lines that end in `\\r` alone, as a Macintosh once wrote them, end in `\\n`."""
    old: bool | None = None
    for chunk in chunks:
        if old is None and ("\r" in chunk[:-1] or "\n" in chunk):
            old = "\n" not in chunk
        yield chunk.replace("\r", "\n") if old else chunk


# --- JSON ---


class _Decoder:
    """json with the key that one object held twice, which Python and pandas drop without a word."""

    def __init__(self) -> None:
        self._twice = ""
        self._json = json.JSONDecoder(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs) and not self._twice:
            seen: set[str] = set()
            self._twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return found

    def decode(self, text: str, at: int) -> tuple[Any, int]:
        """The value at `at` and where it ends. Raises ValueError, RecursionError."""
        self._twice = ""
        return self._json.raw_decode(text, at)

    def record(self, line: int, value: Any) -> Record:
        """Of the value decoded last."""
        return Record(line, value, "duplicate_key", self._twice[:80]) if self._twice else Record(line, value)


def _json(path: Path, *, lines: bool) -> Iterator[Record]:
    found = _lines(path) if lines or _is_lines(path) else _Values(path).records()
    sound, broken, held = False, 0, list[Record]()
    for record in found:
        if sound or record.value is not None or record.problem is None:
            yield from held
            held, sound = [], True
            yield record
            continue
        held.append(record)
        broken += 1
        if broken == 5:  # nothing of it is JSON
            break
    if not sound and held:
        raise Unreadable("not_json", f"{path.name} line {held[0].line}: {held[0].detail}")


def _is_lines(path: Path) -> bool:
    """Whether the first line is a whole object and another line follows."""
    if next(text_chunks(path), "").lstrip().startswith("["):  # perhaps all of it in one line, not to be read as such
        return False
    lines = (line for line in text_lines(path) if line.strip())
    first = next(lines, "").strip()
    if not first.startswith("{") or next(lines, None) is None:
        return False
    try:
        return _Decoder().decode(first, 0)[1] == len(first)
    except (ValueError, RecursionError):
        return not first.rstrip().endswith(("{", "[", ",")) and len(first) > 2


def _lines(path: Path) -> Iterator[Record]:
    decoder = _Decoder()
    for number, raw in enumerate(text_lines(path), 1):
        line = raw.strip()
        if not line:
            continue
        if number == 1 and line.startswith("[") and (not line.endswith("]") or not _goes_on(path)):
            yield from _Values(path).records()  # an array under the name of lines
            return
        at, ended = 0, raw.endswith("\n")
        try:
            while at < len(line):  # more than one where two writers wrote at once
                value, at = decoder.decode(line, at)
                yield decoder.record(number, value)
                gap = _GAP.match(line, at)
                at = gap.end() if gap else at
        except (ValueError, RecursionError) as failed:
            yield Record(number, None, "not_json" if ended else "cut_short", _said(failed))


def _goes_on(path: Path) -> bool:
    """Whether more than one line holds something."""
    lines = (line for line in text_lines(path) if line.strip())
    return next(lines, None) is not None and next(lines, None) is not None


def _said(failed: Exception) -> str:
    return str(failed)[:80] if isinstance(failed, ValueError) else "nested too deeply"


class _Values:
    """JSON values one after the other, in an array or loose, read from pieces of text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks = text_chunks(path)
        self._text, self._at, self._ended = "", 0, False
        self._line, self._counted = 1, 0
        self._keys: set[str] = set()
        self._told_cut = False

    def records(self) -> Iterator[Record]:
        """The elements of the array; the rows inside a single object that holds them, else the object itself."""
        self._skip_gap()
        if self._text[self._at : self._at + 1] == "[":
            self._at += 1
            yield from self._elements()
            if self._text[self._at : self._at + 1] != "]" and not self._told_cut:
                yield Record(self._count_lines(), None, "cut_short", "the array has no end")
            return
        first: Record | None = None
        for record in self._elements():
            if first is None:
                first = record
                continue
            if first.line:
                yield first
                first = Record(0, None)
            yield record
        if first is not None and first.line:
            yield from _unwrapped(first)

    def _more(self) -> None:
        """As much again as is held, so that one long value is parsed a handful of times and not once a piece."""
        wanted = max(CHUNK, len(self._text) - self._at)
        self._count_lines()
        pieces, got = [self._text[self._at :]], 0
        self._at = self._counted = 0
        while got < wanted:
            piece = next(self._chunks, None)
            if piece is None:
                self._ended = True
                break
            pieces.append(piece)
            got += len(piece)
        self._text = "".join(pieces)

    def _count_lines(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _skip_gap(self) -> None:
        while True:
            gap = _GAP.match(self._text, self._at)
            self._at = gap.end() if gap else self._at
            if self._at < len(self._text) or self._ended:
                return
            self._more()

    def _elements(self) -> Iterator[Record]:
        decoder = _Decoder()
        while True:
            self._skip_gap()
            if self._at >= len(self._text) or self._text[self._at] == "]":
                return
            try:
                value, end = decoder.decode(self._text, self._at)
            except (ValueError, RecursionError) as failed:
                if self._unfinished(failed) and not self._ended:
                    if len(self._text) - self._at > MAX_VALUE:
                        said = f"{self._path.name}: one value of more than {MAX_VALUE >> 30} GiB"
                        raise Unreadable("too_large", said) from None
                    self._more()
                    continue
                problem = "cut_short" if self._unfinished(failed) else "not_json"
                self._told_cut = problem == "cut_short"
                yield Record(self._count_lines(), None, problem, _said(failed))
                if not self._find_next():
                    return
                continue
            if end == len(self._text) and not self._ended and not isinstance(value, (dict, list, str)):
                self._more()  # a number may go on
                continue
            if isinstance(value, dict) and not self._keys:
                self._keys = set(value)
            yield decoder.record(self._count_lines(), value)
            self._at = end

    def _unfinished(self, failed: Exception) -> bool:
        if not isinstance(failed, json.JSONDecodeError):
            return False
        return failed.msg.startswith("Unterminated string") or failed.pos >= len(self._text) - _NUMBER_TAIL

    def _find_next(self) -> bool:
        """Go to the next record behind a broken one: the next object as far to the right, or, in an array without
        line ends, the next one with a key of a record."""
        start = self._text.rfind("\n", 0, self._at) + 1
        margin = self._text[start : self._at]
        at_margin = margin if start and not margin.strip() else None
        decoder = _Decoder()
        self._at += 1
        for _ in range(_TRIES):
            place = self._place_of_object(at_margin)
            if place < 0:
                self._at = len(self._text)
                return False
            self._at = place
            if at_margin is not None:
                return True
            try:
                value, _end = decoder.decode(self._text, place)
            except (ValueError, RecursionError):
                self._at += 1
                continue
            keys = set(value) if isinstance(value, dict) else set()
            if keys & self._keys if self._keys else not keys <= _TURN:
                return True
            self._at += 1
        return False

    def _place_of_object(self, margin: str | None) -> int:
        while True:
            if margin is not None:
                found = self._text.find(f"\n{margin}{{", self._at)
                place = found + 1 + len(margin) if found >= 0 else -1
            else:
                match = _NEXT_OBJECT.search(self._text, self._at)
                place = match.end() if match else -1
            if place >= 0 or self._ended:
                return place
            self._at = max(self._at, len(self._text) - CHUNK)  # the mark may lie across two pieces
            self._more()


def _unwrapped(record: Record) -> Iterator[Record]:
    if isinstance(record.value, Mapping):
        for key in WRAPPERS:
            rows = record.value.get(key)
            if isinstance(rows, list):
                for row in rows:
                    yield Record(record.line, row)
                return
    yield record


# --- tables ---


def _table(path: Path, suffix: str) -> Iterator[Record]:
    csv.field_size_limit(2**27)
    lines = text_lines(path)
    first = next(lines, "")
    delimiter = "\t" if suffix == ".tsv" else max(_DELIMITERS, key=lambda mark: _columns(first, mark))
    reader = csv.reader(chain([first], lines), delimiter=delimiter)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as failed:
            yield Record(line, None, "not_csv", str(failed)[:80])
            continue
        if not cells:
            continue
        if not names:
            names = _named_apart(cells)
        elif len(cells) > len(names):
            yield Record(line, None, "too_many_cells", f"{len(cells)} > {len(names)}")
        else:
            yield Record(line, dict(zip(names, [*cells, *[None] * (len(names) - len(cells))], strict=True)))


def _columns(header: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _named_apart(cells: list[str]) -> list[str]:
    names: list[str] = []
    for cell in cells:
        name, number = cell.strip(), 2
        while name in names:
            name, number = f"{cell.strip()}_{number}", number + 1
        names.append(name)
    return names


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise Unreadable("missing_dependency", "pyarrow") from None
    row = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            for value in batch.to_pylist():
                row += 1
                yield Record(row, value)
    except Exception as failed:  # pyarrow's errors share no base with each other
        raise Unreadable("unreadable", f"{path.name}: {str(failed).splitlines()[0][:120]}") from None
