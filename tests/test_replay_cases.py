"""Cases are read from every kind of file, under every usual name of a column, and what is none is counted."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from pipeline.evaluation.replay_cases import ReplayCase, columns_of_cases, read_cases
from pipeline.refusal import Refused

ROWS = [("问：1+1？", "2"), ("=cmd|x", "a,b\n\"c\""), ("hello", "")]


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def one(tmp_path: Path, row: Any) -> ReplayCase:
    return read_cases(written(tmp_path / "one.json", [row])).cases[0]


def test_every_kind_of_file(tmp_path: Path) -> None:
    import csv

    rows = [{"text": text, "standard_answer": answer} for text, answer in ROWS]
    written(tmp_path / "c.json", rows)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, mark in (("c.csv", ","), ("c.tsv", "\t")):
        with open(tmp_path / name, "w", newline="", encoding="gb18030") as file:
            csv.writer(file, delimiter=mark).writerows([("text", "standard_answer"), *ROWS])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    book = openpyxl.Workbook()
    book.active.append(["Bad cases of March"])  # a title above the header
    book.active.append([])
    book.active.append(["Text", "Standard Answer", None])
    for text, answer in ROWS:
        book.active.append([text, answer or None])
        book.active.cell(book.active.max_row, 1).data_type = "s"
    book.save(tmp_path / "c.xlsx")
    for suffix in ("json", "jsonl", "csv", "tsv", "parquet", "xlsx"):
        found = read_cases(tmp_path / f"c.{suffix}")
        assert [(c.text, c.standard_answer or "") for c in found.cases] == ROWS, suffix
        assert [c.index for c in found.cases] == [0, 1, 2] and not found.left_out
        assert set(found.columns.values()) == {"text", "standard_answer"}
    assert [c.text for c in read_cases(tmp_path / "c.csv", most=2).cases] == [text for text, _ in ROWS[:2]]


@pytest.mark.parametrize(("row", "text", "answers"), [
    ({"问题": "q", "标准答案": "a"}, "q", ("a",)), ({"prompt": "q", "chosen": "a", "rejected": "b"}, "q", ("a",)),
    ({"instruction": "q", "input": "w", "output": "a"}, "q\nw", ("a",)), ({"Question": "q", "Label": 5}, "q", ("5",)),
    ({"question": "q", "answer": ["a", "b"]}, "q", ("a", "b")), ({"question": "q", "query": "SELECT 1"}, "q", ("SELECT 1",)),
    ({"text": "q", "standard_answer": 5.0}, "q", ("5",)), ({"text": "q", "answer": True}, "q", ("true",)),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "q", ("a",)),
    ({"text": [{"from": "human", "value": "q"}], "standard_answer": "a"}, "q", ("a",)),
    ({"text": '[{"role": "user", "content": "q"}]', "standard_answer": "a"}, "q", ("a",)),
    ({"prompt": "q", "chosen": [{"role": "assistant", "content": "a"}]}, "q", ("a",)),
    ({"prompt": "q", "completion": "a", "label": True}, "q", ("a",)), ("q", "q", ()), ({"text": "[]"}, "[]", ()),
    ({"text": "q", "standard_answer": float("nan")}, "q", ()), ({"text": "q", "standard_answer": None}, "q", ()),
])  # fmt: skip
def test_names_and_shapes(tmp_path: Path, row: Any, text: str, answers: tuple[str, ...]) -> None:
    found = one(tmp_path, row)
    assert (found.text, found.answers) == (text, answers)
    assert found.row.pair.prompt[-1]["role"] == "user"


def test_what_else_a_row_says(tmp_path: Path) -> None:
    found = one(tmp_path, {"text": "q", "answer": "a", "类别": "数学", "检查": "数字", "regex": "x", "db_id": "shop",
                           "system": "s"})  # fmt: skip
    assert (found.category, found.check, found.pattern) == ("数学", "number", "x")
    assert found.row.pair.extra == {"db_id": "shop"} and found.row.pair.system == "s"
    talk = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]  # fmt: skip
    found = one(tmp_path, {"text": talk, "standard_answer": "4"})
    assert len(found.row.pair.prompt) == 3 and found.row.pair.system == "be kind" and found.text == "3"
    columns = columns_of_cases(["text=a", "standard_answer=b"])
    found = read_cases(written(tmp_path / "c.json", [{"a": "q", "b": "r", "text": "no"}]), columns=columns).cases[0]
    assert (found.text, found.standard_answer) == ("q", "r")
    for wrong in ("text", "nothing=a", "text="):
        with pytest.raises(Refused):
            columns_of_cases([wrong])


def test_what_is_no_case_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "q"}\n{"text": ""}\n{"other": 1}\n[1]\n5\n{"text": "cut\n{"text": "r"}\n')
    found = read_cases(path)
    assert [c.text for c in found.cases] == ["q", "r"]
    assert found.left_out["no_text"] == 4 and sum(found.left_out.values()) == 5


def test_sheet_under_a_title_with_names_of_its_own(tmp_path: Path) -> None:
    import openpyxl

    def saved(*names: str) -> Path:
        book = openpyxl.Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.append(["坏例汇总"])
        sheet.merge_cells("A1:D1")
        sheet.append([*names])
        sheet.append([1, "法国的首都是哪里？", "伦敦", "巴黎"])
        book.save(tmp_path / "cases.xlsx")
        return tmp_path / "cases.xlsx"

    known = read_cases(saved("编号", "用户问题", "模型错误输出", "正确答案")).cases
    assert [(case.text, case.answers, case.line) for case in known] == [("法国的首都是哪里？", ("巴黎",), 3)]
    path = saved("No", "Kunde fragt", "Bot", "Soll")
    with pytest.raises(Refused, match="No, Kunde fragt, Bot, Soll.*--column text="):
        read_cases(path)
    given = read_cases(path, columns={"text": "Kunde fragt", "standard_answer": "Soll"}).cases
    assert [(case.text, case.answers) for case in given] == [("法国的首都是哪里？", ("巴黎",))]


@pytest.mark.parametrize(("name", "content", "entry"), [
    ("a.json", b"[]", "cases_none"), ("b.json", b"", "data_unusable"), ("c.csv", b"a,b\n1,2\n", "cases_columns_unknown"),
    ("d.xlsx", b"PK\x03\x04 no zip", "data_unusable"), ("e.bin", b"\0\1\2", "data_unusable"),
    ("f.json", b'[{"text": "q", "check": "bleu"}]', "case_check_unknown"),
])  # fmt: skip
def test_refused(tmp_path: Path, name: str, content: bytes, entry: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused) as refused:
        read_cases(tmp_path / name)
    assert refused.value.sentence.entry == entry and str(tmp_path / name) in str(refused.value)
    assert refused.value.said("zh") and "{" not in refused.value.said("zh")
    for place in (tmp_path / "none", tmp_path, Path("a\0b")):
        with pytest.raises(Refused):
            read_cases(place)


def test_dates_of_a_sheet_are_dates(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (("text", "standard_answer"), ("when?", date(2024, 3, 5)), ("when?", datetime(2024, 3, 5, 7, 30))):
        book.active.append(row)
    book.save(tmp_path / "c.xlsx")
    assert [case.answers for case in read_cases(tmp_path / "c.xlsx").cases] == [
        ("2024-03-05",), ("2024-03-05 07:30:00",)
    ]  # fmt: skip


def test_a_packed_bomb_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    import pipeline.sheet_records as module

    real = module.load_config("evaluation.yaml")
    small = {**real, "replay": {**real["replay"], "most_excel_bytes": 1 << 20}}
    monkeypatch.setattr(module, "load_config", lambda name: small)
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", b"0" * (2 << 20))
    with pytest.raises(Refused) as refused:
        read_cases(tmp_path / "bomb.xlsx")
    assert refused.value.sentence.params["why"].entry == "too_large"
