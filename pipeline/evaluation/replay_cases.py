"""Bad cases to replay, from any file: a text to answer with the standard answer, under whatever names the columns have.

Files: .json .jsonl .csv .tsv .parquet .xlsx. A row is `text, standard_answer` (or prompt, question, instruction with
input, messages; answer, reference, chosen, label; 问题, 标准答案 ...), optionally with `category`, `check`, `pattern`,
`system` and what names a database (`db_id`). A text may be a list of messages; a standard answer may be a list of
texts, each of which is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import SourceRow
from pipeline.config_files import load_config
from pipeline.pairs.llamafactory_formats import alpaca_prompt
from pipeline.pairs.pair import Message, Pair, content_text, text_of
from pipeline.pairs.turns import NotThisShape, as_turns, read_side
from pipeline.record_files import Record, Unreadable, records
from pipeline.refusal import Refused, Sentence
from pipeline.sheet_records import sheet_records

CHECKS = ("exact", "number", "sql", "pattern", "similarity", "repetition")
"""How a case is judged; `auto` chooses among them."""
NAMED = ("text", "standard_answer", "category", "check", "pattern", "system")
"""What a column can be."""
_EXCEL = (".xlsx", ".xlsm")
_SEEN = 30  # columns named where none is known
_SHOWN = 80  # characters of a value inside a sentence


@dataclass(frozen=True)
class ReplayCase:
    """One case. row: as models are asked. text: the last turn. answers: what is right, the first one shown; empty where
    none is given. check: of CHECKS, empty where the row names none. line: in its file."""

    row: SourceRow
    text: str
    answers: tuple[str, ...] = ()
    check: str = ""
    pattern: str = ""
    category: str = ""
    line: int = 0

    @property
    def index(self) -> int:
        return self.row.index

    @property
    def standard_answer(self) -> str | None:
        return self.answers[0] if self.answers else None


@dataclass(frozen=True)
class ReplayCases:
    """cases: in the order of the file. left_out: rows that are no case, by reason (entries of refusals.yaml that
    readers use, and `no_text`, `beyond_limit`). columns: what the columns used are, by their names."""

    path: str
    cases: tuple[ReplayCase, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


def read_cases(
    path: Path, *, columns: Mapping[str, str] | None = None, most: int | None = None, option: str = "--cases"
) -> ReplayCases:  # fmt: skip
    """columns: of the file, by our name for what they are (of NAMED). most: cases wanted. Raises Refused where the file
    can't be read or holds no case, and for a check that is none."""
    limit = int(load_config("evaluation.yaml")["replay"]["most_cases"])
    found: list[ReplayCase] = []
    left_out: Counter[str] = Counter()
    used: dict[str, str] = {}
    seen: list[str] = []
    for record in _records(path, option, columns or {}):
        if not seen and isinstance(record.value, Mapping):
            seen = [str(name) for name in record.value][:_SEEN]
        if record.problem is not None and record.value is None:
            left_out[record.problem] += 1
            continue
        if len(found) == most:
            break
        if len(found) >= limit:
            left_out["beyond_limit"] += 1
            continue
        case = _case(record, len(found), columns or {}, used, path)
        if case is None:
            left_out["no_text"] += 1
        else:
            found.append(case)
    if not found:
        if seen:
            raise Refused("cases_columns_unknown", option=option, path=path, columns=", ".join(seen))
        raise Refused("cases_none", option=option, path=path, why=_LeftOut("", {"left_out": left_out.most_common(3)}))
    return ReplayCases(str(path), tuple(found), dict(left_out), used)


def left_out_said(reason: str, lang: str) -> str:
    """Why rows are no case, in words; a reason that is unknown here by its own name."""
    own = load_config(f"words/{lang}/evaluation.yaml")["replay"]["left_out_reasons"].get(reason)
    said = own or load_config(f"words/{lang}/formats.yaml").get(f"row_{reason}")
    return str(said or reason.replace("_", " "))


def unmeasured_said(models: Mapping[str, Any], answered: Mapping[str, int], cases: int, lang: str) -> list[str]:
    """Of each model that answered no case, or not all of them, that it did and why. models: why, by language, of each;
    answered: cases, by model."""
    lines = []
    for model, why in models.items():
        done = answered.get(model, 0)
        reason = why.get(lang, "") if isinstance(why, Mapping) else why
        params = {"model": model, "why": reason, "done": f"{done:,}", "total": f"{cases:,}"}
        entry = "replay/unmeasured_partly" if done else "replay/unmeasured"
        lines.append(Sentence(entry, params, "evaluation").said(lang))
    return lines


def columns_of_cases(given: Sequence[str]) -> dict[str, str]:
    """`--column NAME=COLUMN`, NAME one of NAMED. Raises Refused."""
    found = {}
    for word in given:
        name, equals, column = word.partition("=")
        if not equals or not column or name not in NAMED:
            raise Refused("cases_column_wrong", given=word, all=", ".join(NAMED))
        found[name] = column
    return found


class _LeftOut(Sentence):
    """The reasons for which rows are no case, with their numbers, in the language of whoever reads it."""

    def said(self, lang: str) -> str:
        return ", ".join(f"{left_out_said(reason, lang)} {n}" for reason, n in self.params["left_out"]) or "0"


# --- files ---


def _records(path: Path, option: str, columns: Mapping[str, str]) -> Iterator[Record]:
    try:
        if path.is_dir():
            raise Refused("data_is_folder", path=path)
        if not path.exists():
            raise Refused("option_not_found", option=option, path=path)
        if not path.is_file():
            raise Refused("file_is_special", option=option, path=path)
        with open(path, "rb") as file:
            packed = file.read(2) == b"PK"
        is_sheet = packed and path.suffix.lower() in (*_EXCEL, "")
        given = tuple(columns.values())
        yield from (
            sheet_records(path, lambda name: _meaning(name) == "text" or name in given) if is_sheet else records(path)
        )
    except Unreadable as reason:
        problem, detail = reason.args
        entry = "no_rows" if problem == "empty" else problem
        raise Refused("data_unusable", path=path, why=Sentence(entry, {"detail": detail})) from None
    except (OSError, ValueError) as failed:  # a null byte in the name
        raise Refused("data_unusable", path=path, why=getattr(failed, "strerror", None) or failed) from None


# --- one row ---


def _meaning(column: str) -> str | None:
    """What a column of that name is, None for one that says nothing here."""
    return _names().get(_folded(column))


def _folded(name: str) -> str:
    return "_".join(str(name).strip().casefold().replace("-", " ").split())


def _names() -> Mapping[str, str]:
    """Name -> what it is; the place in configs decides where a row has several."""
    table: Mapping[str, Sequence[str]] = load_config("evaluation.yaml")["replay"]["columns"]
    return {_folded(name): meaning for meaning, names in table.items() for name in names}


def _case(
    record: Record, index: int, columns: Mapping[str, str], used: dict[str, str], path: Path
) -> ReplayCase | None:  # fmt: skip
    value = record.value
    if isinstance(value, str):
        value = {"text": value}
    if isinstance(value, list) and as_turns(value):
        value = {"messages": value}
    if not isinstance(value, Mapping):
        return None
    row = {str(name): cell for name, cell in value.items() if not _is_none(cell)}
    picked = _picked(row, columns)
    turns = _turns(row, picked)
    answer_column = picked.get("standard_answer")
    answers = _answers(row.get(answer_column)) if answer_column is not None else ()
    while turns and turns[-1].get("role") == "assistant":
        last = turns.pop()
        if not answers and (text := content_text(last.get("content"))):
            answers = (text,)
    system = next((content_text(t.get("content")) for t in turns if t.get("role") == "system"), None)
    turns = [turn for turn in turns if turn.get("role") != "system"]
    if not turns or not content_text(turns[-1].get("content")).strip():
        return None
    system = system or _text(row.get(picked.get("system", ""))) or None
    check = _text(row.get(picked.get("check", ""))).strip().casefold()
    check = _CHECKS_ZH.get(check, check)
    if check not in ("", "auto", *CHECKS):
        raise Refused(
            "case_check_unknown", path=path, line=record.line, value=check[:_SHOWN], all=", ".join(("auto", *CHECKS))
        )
    for meaning, name in picked.items():
        used.setdefault(name, meaning)
    pair = Pair(
        turns, answers[0] if answers else None, None, system=system, line=record.line,
        extra={name: cell for name, cell in row.items() if name not in picked.values()},
    )  # fmt: skip
    text = content_text(turns[-1].get("content"))
    return ReplayCase(
        SourceRow(index, pair), text, answers, "" if check == "auto" else check,
        _text(row.get(picked.get("pattern", ""))), _text(row.get(picked.get("category", "")))[:_SHOWN], record.line,
    )  # fmt: skip


_CHECKS_ZH = {
    "自动": "auto", "完全一致": "exact", "精确": "exact", "数字": "number", "数值": "number", "正则": "pattern",
    "模式": "pattern", "相似度": "similarity", "相似": "similarity", "重复": "repetition",
}  # fmt: skip


def _picked(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """Which column is what: those named by the user, then the first name of configs that is there."""
    picked = {meaning: column for meaning, column in columns.items() if column in row}
    folded: dict[str, str] = {}
    for column in row:
        folded.setdefault(_folded(column), column)
    table: Mapping[str, Sequence[str]] = load_config("evaluation.yaml")["replay"]["columns"]
    for meaning, names in table.items():
        if meaning in picked:
            continue
        for name in names:
            there = folded.get(_folded(name))
            if there is None or there in picked.values():
                continue
            if not (name == "label" and isinstance(row[there], bool)):  # of KTO, which says whether an answer is good
                picked[meaning] = there
                break
    return picked


def _turns(row: Mapping[str, Any], picked: Mapping[str, str]) -> list[Message]:
    column = picked.get("text")
    if column is None:
        return []
    if _folded(column) in ("instruction", "指令"):
        second = next((row[c] for c in row if _folded(c) in ("input", "输入") and c not in picked.values()), None)
        try:
            asked = {"instruction": _text(row[column]), "input": _text(second), "history": row.get("history")}
            return list(alpaca_prompt(asked)[0])
        except NotThisShape:
            return []
    value = row[column]
    if turns := as_turns(value):
        return list(turns)
    text = _text(value)
    return [{"role": "user", "content": text}] if text.strip() else []


def _answers(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and not as_turns(value):
        return tuple(text for one in value for text in _answers(one))
    if isinstance(value, (list, Mapping)) or (isinstance(value, str) and value.lstrip()[:2] == "[{"):
        try:
            side = read_side(value)
        except NotThisShape:
            return ()
        last = side if isinstance(side, str) or not side else side[-1:]
        return (text,) if (text := text_of(last)).strip() else ()
    text = _text(value)
    return (text,) if text.strip() else ()


def _text(value: Any) -> str:
    """A cell as a person would write it: 5.0 of a sheet is 5, and the midnight of its dates is none."""
    if value is None or isinstance(value, (list, Mapping)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value)


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""
