"""Records of a workbook (.xlsx), as record_files gives those of other files: rows of its first sheet with columns."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.config_files import load_config
from pipeline.record_files import Record, Unreadable

_HEADER_ROWS = 20  # of a sheet, in which its names are looked for: titles may stand above


def sheet_records(path: Path, is_named: Callable[[str], bool]) -> Iterator[Record]:
    """Rows of the first sheet that has a column for which is_named, else of the first that has any, formulas as the
    values they had when the file was saved. Raises Unreadable, OSError."""
    from openpyxl import load_workbook

    if sum(part.file_size for part in _parts(path)) > int(load_config("evaluation.yaml")["replay"]["most_excel_bytes"]):
        raise Unreadable("too_large", path.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and validations that openpyxl doesn't know
            book = load_workbook(path, read_only=True, data_only=True)
            try:
                for starts in (lambda texts: any(map(is_named, texts)), lambda texts: sum(map(bool, texts)) > 1):
                    for sheet in book.worksheets:
                        yield from (made := list(_rows(sheet, starts)))
                        if made:
                            return
            finally:
                book.close()
    except (KeyError, zipfile.BadZipFile, SyntaxError, TypeError, AttributeError, IndexError) as failed:
        raise Unreadable("unreadable", f"{path.name}: {type(failed).__name__}") from None


def _parts(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as packed:
            return packed.infolist()
    except zipfile.BadZipFile:
        raise Unreadable("unreadable", path.name) from None


def _rows(sheet: Any, starts: Callable[[list[str]], bool]) -> Iterator[Record]:
    """starts: whether the names stand in this row."""
    names: list[str] = []
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        if not names:
            texts = ["" if cell is None else str(cell).strip() for cell in cells]
            if starts(texts):
                names = texts
            elif number >= _HEADER_ROWS:
                return
        elif any(cell is not None for cell in cells):
            yield Record(number, {n: c for n, c in zip(names, cells, strict=False) if n and c is not None})
