"""A replay as an Excel workbook: a summary, one row for each case and model, and the models' answers side by side.

Whatever comes from data is written as a string cell, never as a formula; the workbook appears whole or not at all.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
import traceback
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config_files import load_config
from pipeline.evaluation.replay import CHANGES, STATUSES, listed_first
from pipeline.evaluation.replay_cases import left_out_said, unmeasured_said
from pipeline.evaluation.results import Replayed, ReplayResult, ReplaySummary
from pipeline.whole_file import written_whole

MOST_CHARACTERS = 32_767  # of a cell, in UTF-16 units: https://support.microsoft.com/office/1672b34d-7043-467e-8e27
MOST_ROWS = 1_048_575  # of a sheet beside its header
FILLS = {"fixed": "C6EFCE", "broken": "FFC7CE", "still_bad": "FFEB9C"}
"""Green, red and amber, as Excel's own cell styles Good, Bad and Neutral have them."""
_HEADER, _BASE, _DIM = "1F3864", "F2F2F2", "808080"
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # in XML 1.0, or not to be seen
# What a program may begin a formula with, also behind white space: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_SIGNS = frozenset("=+-@＝＋－＠")
_ESCAPE = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")  # Excel reads _x000D_ as the character of that number
_CUT_ESCAPE = re.compile(r"_x005F_x?[0-9A-Fa-f]{0,4}$|_(?:x(?:0(?:0(?:5F?)?)?)?)?$")  # half of one is none
_LINE = 15.0  # points of a line of text
_MOST_LINES = 12  # of a row's height; the rest is in the cell
_CASE_COLUMNS = (
    ("case", 7), ("model", 20), ("change", 12), ("status", 12), ("text", 44), ("standard_answer", 36), ("answer", 60),
    ("right", 9), ("checked_by", 12), ("repeats", 10), ("stopped", 10), ("tokens", 9), ("exact", 9),
    ("similarity", 11), ("chrf", 9), ("rep_2", 9), ("rep_3", 9), ("rep_4", 9), ("loop", 30), ("sql", 24),
    ("category", 14), ("problem", 30),
)  # fmt: skip
_COUNTS = ("cases", "good", "bad", "fixed", "broken", "still_bad", "still_good", *STATUSES)


def cell_text(text: str, *, whole_in: str = "", cut: str = "… [{n} / {all}]") -> str:
    """What a cell can hold of a text: control characters and halves of surrogate pairs as visible signs, at most
    MOST_CHARACTERS, cut with a mark. cut: that mark, of `n` shown and `all` characters and the file `whole_in`."""
    shown = _FORBIDDEN.sub(_visible, text.replace("\r\n", "\n").replace("\r", "␍"))
    escaped = _ESCAPE.sub("_x005F_", shown)
    if _units(escaped) <= MOST_CHARACTERS:
        return escaped
    mark = cut.format(n=f"{MOST_CHARACTERS:,}", all=f"{len(text):,}", path=whole_in)
    room = MOST_CHARACTERS - _units(mark) - 8
    kept = escaped[:room]
    while _units(kept) > room:
        kept = kept[: -max(1, (_units(kept) - room) // 2)]
    mark = cut.format(n=f"{len(kept):,}", all=f"{len(text):,}", path=whole_in)
    return _CUT_ESCAPE.sub("", kept) + mark


def _units(text: str) -> int:
    return len(text) + sum(char > "\uffff" for char in text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"\\u{code:04x}"


def write_workbook(result: ReplayResult, path: Path, *, lang: str = "en", whole_in: str = "") -> None:
    """whole_in: name of the JSON file that holds what cells are too small for. Raises OSError."""
    with written_whole(path, mode=0o666) as temporary:  # to be passed on
        _Book(result, lang, whole_in).write(temporary)


def is_replay_workbook(path: Path) -> bool:
    """Whether write_workbook may have made it, by the names of its sheets in either language."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True)
        names = set(book.sheetnames)
        book.close()
    except Exception:  # openpyxl raises whatever a damaged file leads it to
        return False
    return any(
        names == set(load_config(f"words/{lang}/evaluation.yaml")["replay_workbook"]["sheets"].values())
        for lang in ("en", "zh")
    )


def _of_the_disk(failed: Exception) -> OSError | None:
    """What the system said of a write that failed; None for a failure of another kind."""
    if isinstance(failed, OSError):
        return OSError(failed.errno or errno.EIO, failed.strerror or str(failed))
    if type(failed).__name__ != "SerialisationError":  # of lxml: IO_ENOSPC, IO_WRITE
        return None
    code = getattr(errno, str(failed).strip().removeprefix("IO_"), errno.EIO)
    return OSError(code, os.strerror(code))


class _Book:
    def __init__(self, result: ReplayResult, lang: str, whole_in: str) -> None:
        from openpyxl import Workbook

        self.result, self.lang, self.whole_in = result, lang, whole_in
        known = load_config(f"words/{lang}/evaluation.yaml")
        self.words: Mapping[str, Any] = known["replay_workbook"]
        self.absent = str(known["evaluation_not_measured"])
        self.book = Workbook(write_only=True)

    def write(self, path: Path) -> None:
        self._styles()
        rows = listed_first(self.result.rows)
        try:
            self._summary()
            self._cases(rows)
            self._side_by_side(rows)
            self.book.save(path)
        except Exception as failed:  # of a full disk lxml raises no OSError
            told = _of_the_disk(failed)
            self._let_go(failed)
            if told is None:
                raise
            raise OSError(told.errno, told.strerror) from None
        with zipfile.ZipFile(path) as made:  # a workbook that Excel would call damaged is none
            if made.testzip() is not None:
                raise OSError(f"{path.name}: written damaged")

    def _let_go(self, failed: BaseException) -> None:
        """Close here what was left half-written: later it fails again, with a traceback on standard error."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda told: None
        try:
            one: BaseException | None = failed
            while one is not None:
                traceback.clear_frames(one.__traceback__)
                one = one.__context__
            del self.book
            gc.collect()
        finally:
            sys.unraisablehook = hook

    def _styles(self) -> None:
        from openpyxl.styles import Alignment, Font, PatternFill

        self.bold, self.title, self.dim = Font(bold=True), Font(bold=True, size=14), Font(italic=True, color=_DIM)
        self.head_font, self.head_fill = Font(bold=True, color="FFFFFF"), PatternFill("solid", fgColor=_HEADER)
        self.fills = {name: PatternFill("solid", fgColor=colour) for name, colour in FILLS.items()}
        self.base_fill = PatternFill("solid", fgColor=_BASE)
        self.wrapped = Alignment(wrap_text=True, vertical="top")
        self.top = Alignment(vertical="top")
        self.middle = Alignment(vertical="center", wrap_text=True)

    def _cell(
        self, sheet: Any, value: Any, *, fill: Any = None, font: Any = None, wrap: bool = False, format: str = ""
    ) -> Any:  # fmt: skip
        """A cell: numbers as numbers, anything else as a string that no program takes for a formula."""
        from openpyxl.cell import WriteOnlyCell

        if value is None:
            cell = WriteOnlyCell(sheet)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            cell = WriteOnlyCell(sheet, value)
            if format:
                cell.number_format = format
        else:
            if isinstance(value, bool):
                value = self.words["is_so" if value else "is_not"]
            text = cell_text(str(value), whole_in=self.whole_in, cut=self.words["cut"])
            cell = WriteOnlyCell(sheet, text)
            cell.data_type = "s"  # not the formula or error that openpyxl takes some texts for
            if text.lstrip()[:1] in _FORMULA_SIGNS:
                cell.quotePrefix = True  # stays text when someone edits it
        cell.alignment = self.wrapped if wrap else self.top
        if fill is not None:
            cell.fill = fill
        if font is not None:
            cell.font = font
        return cell

    def _header(self, sheet: Any, names: Iterable[str]) -> list[Any]:
        cells = [self._cell(sheet, name, fill=self.head_fill, font=self.head_font) for name in names]
        for cell in cells:
            cell.alignment = self.middle
        return cells

    # --- sheets ---

    def _summary(self) -> None:
        words, result = self.words, self.result
        sheet = self.book.create_sheet(words["sheets"]["summary"])
        for column, width in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", [28, *[13] * 25], strict=True):
            sheet.column_dimensions[column].width = width
        line = "interrupted" if result.interrupted else "title"
        sheet.append([self._cell(sheet, words[line].format(cases=result.cases), font=self.title)])
        for line in unmeasured_said(result.unmeasured, result.answered, result.cases, self.lang):
            sheet.append([self._cell(sheet, line, fill=self.fills["still_bad"])])
        sheet.append([])
        columns = ["model", *_COUNTS, "good_share", "similarity", "chrf", "rep_2", "rep_3", "rep_4", "pooled_rep_4"]
        sheet.append(self._header(sheet, [words["columns"][name] for name in columns]))
        summaries = {one.model: one for one in result.summary}
        for named in result.models:
            if named.name in summaries:
                sheet.append(self._counts(sheet, summaries[named.name]))
            else:
                cells = [self._cell(sheet, self.absent, font=self.dim) for _ in columns[1:]]
                sheet.append([self._cell(sheet, named.name, font=self.bold), *cells])
        sheet.append([])
        for one in result.summary:
            if one.change is not None:
                sheet.append([self._cell(sheet, self._said(one))])
        sheet.append([])
        sheet.append([self._cell(sheet, words["legend_title"], font=self.bold)])
        for change in (*CHANGES, "unknown"):
            fill = self.fills.get(change)
            word = self._cell(sheet, words["changes"].get(change, words["unknown"]), fill=fill)
            sheet.append([word, self._cell(sheet, words["legend"][change])])
        for status in STATUSES:
            sheet.append([self._cell(sheet, words["statuses"][status]), self._cell(sheet, words["legend"][status])])
        sheet.append([])
        sheet.append([self._cell(sheet, words["settings_title"], font=self.bold)])
        for name, value in self._settings():
            sheet.append([self._cell(sheet, name), self._cell(sheet, value)])

    def _counts(self, sheet: Any, one: ReplaySummary) -> list[Any]:
        cells = [self._cell(sheet, one.model, font=self.bold)]
        base = one.model == self.result.models[0].name
        for name in _COUNTS:
            value = None if base and name in CHANGES else getattr(one, name)
            fill = self.fills.get(name) if value else None
            cells.append(self._cell(sheet, value, fill=fill))
        cells.append(self._cell(sheet, one.good_share.value if one.good_share is not None else None, format="0.0%"))
        cells += [self._cell(sheet, one.similarity, format="0.000"), self._cell(sheet, one.chrf, format="0.0")]
        cells += [self._cell(sheet, one.rep.get(f"rep_{n}"), format="0.000") for n in (2, 3, 4)]
        return [*cells, self._cell(sheet, one.rep_pooled.get("rep_4"), format="0.000")]

    def _said(self, one: ReplaySummary) -> str:
        assert one.change is not None
        entry = self.words["verdicts"][one.change.verdict]
        return str(entry).format(model=one.model, base=self.result.models[0].name, fixed=one.fixed, broken=one.broken)

    def _settings(self) -> Iterator[tuple[str, Any]]:
        words, result = self.words["settings"], self.result
        for model in result.models:
            yield words.get(model.role, model.role), f"{model.name}: {model.source}"
        for name, value in result.decoding.items():
            if name == "remarks":
                value = "; ".join(one.get(self.lang, "") for one in value)
            elif isinstance(value, Mapping):
                value = ", ".join(f"{key}: {one}" for key, one in value.items())
            yield words.get(name, name), value
        for reason, count in result.left_out.items():
            yield words["left_out"], f"{left_out_said(reason, self.lang)}: {count}"
        if result.bundle:
            yield words["bundle"], result.bundle
        yield words["created"], result.created
        if self.whole_in:
            yield words["whole_in"], self.whole_in

    def _cases(self, rows: Sequence[Replayed]) -> None:
        sheet = self.book.create_sheet(self.words["sheets"]["cases"])
        self._columns(sheet, [width for _, width in _CASE_COLUMNS], len(rows), "E2")
        sheet.append(self._header(sheet, [self.words["columns"][name] for name, _ in _CASE_COLUMNS]))
        base = self.result.models[0].name
        for number, row in enumerate(rows[:MOST_ROWS], 2):
            fill = self.fills.get(row.change or "", self.base_fill if row.model == base else None)
            self._height(sheet, number, ((row.text, 44), (row.standard_answer or "", 36), (row.answer, 60)))
            sheet.append([
                self._cell(sheet, self._value(row, name), fill=fill if name in ("model", "change", "status", "answer")
                           else None, wrap=width >= 24, format=_FORMATS.get(name, ""))
                for name, width in _CASE_COLUMNS
            ])  # fmt: skip

    def _value(self, row: Replayed, name: str) -> Any:
        if name == "case":
            return row.case + 1
        if name == "change":
            return None if row.change is None else self.words["changes"][row.change]
        if name == "status":
            return self.words["statuses"][row.status]
        if name == "checked_by":
            return self.words["checks"].get(row.checked_by, row.checked_by)
        if name == "sql":
            return None if row.sql is None else row.sql.get("verdict")
        if name.startswith("rep_"):
            return row.rep.get(name)
        return getattr(row, name) if getattr(row, name) != "" else None

    def _side_by_side(self, rows: Sequence[Replayed]) -> None:
        sheet = self.book.create_sheet(self.words["sheets"]["side_by_side"])
        models = [one.name for one in self.result.models]
        by_case: dict[int, dict[str, Replayed]] = {}
        for row in rows:
            by_case.setdefault(row.case, {})[row.model] = row
        self._columns(sheet, [7, 44, 36, *[48] * len(models)], len(by_case), "D2")
        names = [self.words["columns"][name] for name in ("case", "text", "standard_answer")]
        sheet.append(self._header(sheet, [*names, *models]))
        for number, (case, held) in enumerate(list(by_case.items())[:MOST_ROWS], 2):
            first = next(iter(held.values()))
            answers = [(held[name].answer if name in held else "", 48) for name in models]
            self._height(sheet, number, ((first.text, 44), (first.standard_answer or "", 36), *answers))
            cells = [self._cell(sheet, case + 1), self._cell(sheet, first.text, wrap=True),
                     self._cell(sheet, first.standard_answer, wrap=True)]  # fmt: skip
            for place, name in enumerate(models):
                made = held.get(name)
                fill = self.fills.get(made.change or "") if made is not None else None
                if made is not None and place == 0 and made.good is False:
                    fill = self.fills["still_bad"]
                if made is None:  # an empty cell is an empty answer
                    cells.append(self._cell(sheet, self.absent, font=self.dim, wrap=True))
                else:
                    cells.append(self._cell(sheet, made.answer, fill=fill, wrap=True))
            sheet.append(cells)

    @staticmethod
    def _columns(sheet: Any, widths: Sequence[int], rows: int, frozen: str) -> None:
        from openpyxl.utils import get_column_letter

        for number, width in enumerate(widths, 1):
            sheet.column_dimensions[get_column_letter(number)].width = width
        sheet.freeze_panes = frozen
        sheet.auto_filter.ref = f"A1:{get_column_letter(len(widths))}{min(rows, MOST_ROWS) + 1}"

    @staticmethod
    def _height(sheet: Any, number: int, texts: Iterable[tuple[str, int]]) -> None:
        """As much as its longest cell needs, up to _MOST_LINES: some programs don't fit rows when they open a file."""
        lines = 1
        for text, width in texts:
            shown = text[: width * _MOST_LINES]
            wide = len(shown) + sum(char > "\u2e7f" for char in shown)
            lines = max(lines, -(-wide // width) + shown.count("\n"))
        sheet.row_dimensions[number].height = _LINE * min(lines, _MOST_LINES)


_FORMATS = {"similarity": "0.000", "chrf": "0.0", "rep_2": "0.000", "rep_3": "0.000", "rep_4": "0.000"}
