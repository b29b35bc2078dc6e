"""Tables of metrics within other text, as notebooks show them: `Step | Training Loss | Validation Loss`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.logs.metric_names import meaning

_RULE = re.compile(r"[\s|:+=-]*$")
_HEAD = re.compile(r"\s*\|?\s*(?:step|steps|epoch|iter|iteration|步数|轮次)\b[^\d:=({\[]*$", re.IGNORECASE)
_LONGEST = 2000


@dataclass(frozen=True)
class TextTable:
    """A table that has begun. names: of its columns; mark: what stands between cells, empty for blanks."""

    names: tuple[str, ...]
    mark: str

    def row(self, line: str) -> dict[str, str] | None:
        """Cells by column; nothing for a rule between rows; None where the table has ended."""
        if _RULE.match(line) and ("-" in line or "=" in line or not line.strip()):
            return {}
        cells = _cells(line, self.mark)
        if len(cells) != len(self.names) or not re.fullmatch(r"[\d,]+(?:\.\d+)?", cells[0]):
            return None
        return {name: cell.replace(",", "") for name, cell in zip(self.names, cells, strict=True)}


def text_table(line: str) -> TextTable | None:
    """The table whose head this line is: names of places and metrics and nothing else, a place first."""
    if len(line) > _LONGEST or not _HEAD.match(line):
        return None
    for mark in ("|", "\t"):
        if mark in line:
            names = _cells(line, mark)
            known = [meaning(name).kind for name in names]
            return TextTable(tuple(names), mark) if len(names) > 1 and "metric" in known[1:] else None
    names, words = [], line.split()
    while words:  # the shortest names known, as `Training Loss Validation` would be one too
        for length in range(1, min(4, len(words)) + 1):
            if meaning(" ".join(words[:length])).kind in ("metric", "place"):
                names.append(" ".join(words[:length]))
                words = words[length:]
                break
        else:
            return None
    kinds = [meaning(name).kind for name in names]
    return TextTable(tuple(names), "") if len(names) > 1 and kinds[0] == "place" and "metric" in kinds else None


def _cells(line: str, mark: str) -> list[str]:
    if not mark:
        return line.replace("No log", "-").split()
    cells = [cell.strip() for cell in line.strip("\r\n").split(mark)]
    if mark == "|":
        cells = cells[1:] if not cells[0] else cells
        cells = cells[:-1] if cells and not cells[-1] else cells
    return cells
