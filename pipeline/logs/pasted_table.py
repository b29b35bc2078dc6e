"""Tables of metrics within other text: model cards, notebooks, printed DataFrames and boxes.

`Step | Training Loss | Validation Loss`, for one. A head is a line of names, a place and a metric among them, and no
number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.logs.metric_names import Meaning, is_eval_word, meaning, plain

_RULE = re.compile(r"[\s|:+=─━═┌┬┐├┼┤└┴┘╔╦╗╠╬╣╚╩╝┏┳┓┡╇┩╒╤╕╞╪╡╘╧╛-]*$")
_BARS = str.maketrans("│┃║｜", "||||")
# Numbers that stand for themselves; those within names (`F1`, `P@5`, `Bleu-4`) do not.
_NUMBER = re.compile(r"(?<![\w@.\-])[-+]?\.?\d")
_PLACE_FIRST = re.compile(
    r"\s*(?:global_)?(?:step|steps|epoch|epochs|iter|iteration|步数|轮次|步|轮)\b[^:={\[]*$", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d][\w/@.%\-]*$|\.\.\.$")
_CELL = re.compile(r"([-+]?)(?:(\d[\d,]*)(\.\d*)?|(\.\d+))([eE][-+]?\d+)?\s*(%?)$")
_LONGEST, _MOST_COLUMNS = 4000, 200
# Metrics that are of training also where all others of a table are of evaluation.
_OF_TRAINING = frozenset(("loss", "learning_rate", "grad_norm", "num_tokens"))


@dataclass(frozen=True)
class PastedTable:
    """A table that has begun. names, kinds: of its columns (see `Meaning`), empty for those left out; mark: what
    stands between cells, empty for blanks."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    mark: str

    def row(self, line: str) -> dict[str, float] | None:
        """Numbers by column; nothing for a rule between rows or a row without a place; None where the table ended."""
        line = line.translate(_BARS)
        if _RULE.match(line):
            return {}
        cells = _cells(line, self.mark)
        if not self.mark and len(cells) == len(self.names) + 1 and cells[0].isdigit():
            cells = cells[1:]  # the index of a DataFrame
        if len(cells) != len(self.names):
            return None
        made: dict[str, float] = {}
        split = ""
        placed = False
        point = any(re.search(r"\d\.\d", cell) for cell in cells)
        for name, kind, cell in zip(self.names, self.kinds, cells, strict=True):
            number = _number(cell, whole=kind in ("place", ""), point=point, of=name)
            if number is None:
                # a column `Type` tells which rows are of evaluation
                split = "eval_" if len(cell) < 20 and is_eval_word(cell) else split
            elif kind:
                made[name] = number
                placed = placed or kind == "place"
        if not placed:
            return {} if self.mark == "|" else None
        return {_evaluated(name): v for name, v in made.items()} if split else made


def pasted_table(line: str, meaning_of: Callable[[str], Meaning] = meaning) -> PastedTable | None:
    """The table whose head this line is. meaning_of: what names stand for, where the user gave some a meaning."""
    if len(line) > _LONGEST or _NUMBER.search(line):
        return None
    line = line.translate(_BARS)
    for mark in ("|", "\t"):
        if mark in line:
            return _table(_cells(line, mark), mark, meaning_of)
    if not _PLACE_FIRST.match(line):
        return None
    names, words = [], line.split()
    while words:  # the shortest names known, as `Training Loss Validation` would be one too
        for length in range(1, min(4, len(words)) + 1):
            if meaning_of(" ".join(words[:length])).kind in ("metric", "place"):
                names.append(" ".join(words[:length]))
                words = words[length:]
                break
        else:
            if not _WORD.match(words[0]):
                return None
            names.append(words.pop(0))
    return _table(names, "", meaning_of)


def of_evaluation(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns of the Trainer's table: beside `Training Loss` and `Validation Loss` all others are of the
    evaluation. https://github.com/huggingface/transformers/blob/main/src/transformers/modelcard.py"""
    if not {"training_loss", "validation_loss"} <= {plain(name) for name in names}:
        return tuple(names)
    return tuple(_evaluated(name) for name in names)


def _evaluated(name: str) -> str:
    what = meaning(name)
    if what.kind == "place" or what.is_eval or (what.kind == "metric" and what.name in _OF_TRAINING - {"loss"}):
        return name
    if plain(name) in ("training_loss", "train_loss"):
        return name
    return f"eval_{name.strip()}"


def _table(names: list[str], mark: str, meaning_of: Callable[[str], Meaning]) -> PastedTable | None:
    if not 2 <= len(names) <= _MOST_COLUMNS:
        return None
    names = [name.strip("*_` ") if any(c.isalpha() for c in name) else "" for name in names]
    found = [meaning_of(name) if name else Meaning("", "") for name in names]
    if not any(what.kind == "metric" for what in found):
        return None
    if not any(what.kind == "place" and what.name in ("step", "epoch") for what in found):
        return None
    return PastedTable(of_evaluation(names), tuple(what.kind for what in found), mark)


def _cells(line: str, mark: str) -> list[str]:
    if not mark:
        return line.replace("No log", "-").split()
    cells = [cell.strip() for cell in line.strip("\r\n").split(mark)]
    if mark == "|":
        cells = cells[1:] if not cells[0] else cells
        cells = cells[:-1] if cells and not cells[-1] else cells
    return cells


def _number(cell: str, *, whole: bool, point: bool, of: str) -> float | None:
    """The number of a cell, also bold or of a country that writes `0,1446`; None for `No log`, `-` and other words.

    whole: steps and epochs; point: whether some number of the row has a decimal point."""
    cell = cell.strip("*_` \t")
    if cell.lower() in ("nan", "inf", "-inf"):
        return float(cell)
    found = _CELL.match(cell.replace("\u2212", "-"))
    if found is None:
        return None
    sign, digits, decimals, bare, power, percent = found.groups()
    digits = digits or ""
    if "," in digits:
        head, _, tail = digits.rpartition(",")
        thousands = re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+", digits) is not None
        if decimals or (thousands and (whole or point)):
            digits = digits.replace(",", "")
        elif "," in head:
            return None
        else:
            digits = f"{head}.{tail}"
    value = float(f"{sign}{digits}{decimals or bare or ''}{power or ''}")
    return value / 100 if percent and "acc" in of.lower() else value
