"""LLaMA-Factory's dataset_info.json: entries read as it reads them, added without touching others, never overwritten
broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.pairs.all_formats import EVERY_FORMAT
from pipeline.pairs.dataset_info import LAYOUTS, DatasetInfo, entries_for, llamafactory_layout, read_dataset_info
from pipeline.pairs.pair import Pair
from pipeline.pairs.write_pairs import together, write_pairs
from pipeline.refusal import Refused

Q = {"role": "user", "content": "Q"}
ONE = Pair([Q], "A", "B")


def info_of(folder: Path, entry: dict[str, Any], rows: list[Any], name: str = "rows.json") -> DatasetInfo:
    (folder / name).write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": name, **entry}}))
    return read_dataset_info(folder / "dataset_info.json")


READ: dict[str, tuple[dict[str, Any], dict[str, Any], str, Pair]] = {
    "plain": ({}, {"instruction": "Q", "input": "x", "output": "A"}, "supervised",
              Pair([{"role": "user", "content": "Q\nx"}], "A", None, extra={"input": "x"})),
    "columns": (
        {"columns": {"prompt": "ask", "response": "say", "system": "who", "history": "old"}},
        {"ask": "Q", "say": "A", "who": "S", "old": [["q", "a"]], "output": "no", "note": 1}, "supervised",
        Pair([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, Q], "A", None, "S",
             extra={"output_2": "no", "note": 1}),
    ),
    # LLaMA-Factory uses neither history nor system where the entry names no columns
    "unnamed are unused": ({}, {"instruction": "Q", "output": "A", "system": "S", "history": [["q", "a"]]}, "supervised",
                           replace(ONE, rejected=None, extra={"system_2": "S", "history_2": [["q", "a"]]})),
    "ranking": ({"ranking": True, "columns": {"prompt": "p", "chosen": "good", "rejected": "bad"}},
                {"p": "Q", "good": "A", "bad": "B"}, "pairs", ONE),
    "ranking without sides named": ({"ranking": True}, {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
                                    "pairs", ONE),
    "sharegpt": ({"formatting": "sharegpt"},
                 {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "supervised",
                 replace(ONE, rejected=None)),
    "sharegpt ranking": (
        {"formatting": "sharegpt", "ranking": True, "columns": {"messages": "talk", "chosen": "c", "rejected": "r"},
         "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "you", "system_tag": "top"}},
        {"talk": [{"who": "top", "what": "S"}, {"who": "me", "what": "Q"}], "c": {"who": "you", "what": "A"},
         "r": {"who": "you", "what": "B"}}, "pairs", replace(ONE, system="S"),
    ),
    "openai": (
        {"formatting": "openai", "columns": {"messages": "messages"},
         "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}},
        {"messages": [Q, {"role": "assistant", "content": "A"}]}, "supervised", replace(ONE, rejected=None),
    ),
    "kto": ({"columns": {"prompt": "p", "query": "more", "response": "a", "kto_tag": "ok"}},
            {"p": "Q", "more": "x", "a": "B", "ok": False}, "one-sided",
            Pair([{"role": "user", "content": "Q\nx"}], None, "B", extra={"input": "x"})),
    "kto talk": ({"formatting": "sharegpt", "columns": {"messages": "m", "kto_tag": "label"}},
                 {"m": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "label": True}, "one-sided",
                 replace(ONE, rejected=None)),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_entries_are_read_by_their_columns_and_tags(tmp_path: Path, name: str) -> None:
    entry, row, kind, pair = READ[name]
    source = info_of(tmp_path, entry, [row]).source("mine")
    assert source.kind == kind
    assert list(source) == [pair]


PAIRS = [
    Pair([{"role": "user", "content": f"问题 {n}"}], f"好 {n}", f"坏 {n}", "简短" if n % 2 else None) for n in range(6)
]
TALK = [
    Pair([*PAIRS[0].prompt, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "c", "d")
]


@pytest.mark.parametrize("format", LAYOUTS)
@pytest.mark.parametrize("rows", [PAIRS, PAIRS + TALK], ids=["questions", "talks"])
def test_what_was_written_is_read_by_its_entry(tmp_path: Path, format: str, rows: list[Pair]) -> None:
    file = tmp_path / "sub" / "rows.json"
    file.parent.mkdir()
    report = write_pairs(rows, file, format)
    path = tmp_path / "dataset_info.json"
    added = entries_for("mine", file, format, report.columns, beside=path)
    read_dataset_info(path, absent_is_empty=True).with_entries(added).write()
    info = read_dataset_info(path)
    assert info.entries["mine"]["file_name"] == "sub/rows.json"
    kind = EVERY_FORMAT[format].kind
    assert info.entries["mine"].get("ranking") is (True if kind == "pairs" else None)
    found = list(info.source("mine"))
    if kind == "one-sided":
        assert len(found) == 2 * len(rows) and info.source("mine").kind == kind
        found = list(together(found))
    learnt = [replace(pair, rejected=None) for pair in rows]
    assert found == (learnt if kind == "supervised" else rows)
    if format == "llamafactory-alpaca":
        assert "ranking" not in info.entries["mine_sft"]
        found = list(info.source("mine_sft"))
        assert [(one.prompt, one.chosen, one.rejected, one.system) for one in found] == [
            (one.prompt, one.chosen, None, one.system) for one in rows
        ]


def test_other_entries_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    before = {"z": {"hf_hub_url": "a/b", "odd": [1, {"x": None}]}, "中文": {"file_name": "中.json"}, "a": {"script_url": "s"}}
    path.write_text(json.dumps(before, ensure_ascii=False), encoding="utf-8")
    read_dataset_info(path).with_entries({"mine": {"file_name": "m.json"}}).write()
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after == {**before, "mine": {"file_name": "m.json"}} and list(after) == ["z", "中文", "a", "mine"]
    assert "中文" in path.read_text(encoding="utf-8") and [p.name for p in tmp_path.iterdir()] == [path.name]
    path.write_text(json.dumps(before))  # written in ASCII, as LLaMA-Factory opens it without saying in what
    read_dataset_info(path).with_entries({"数": {}}).write()
    assert path.read_bytes().isascii() and json.loads(path.read_text()) == {**before, "数": {}}


def test_an_entry_is_only_replaced_when_asked(tmp_path: Path) -> None:
    info = info_of(tmp_path, {"num_samples": 5}, [])
    same = {"mine": {"file_name": "rows.json", "num_samples": 5}}
    assert info.with_entries(same).entries == info.entries
    with pytest.raises(Refused, match="another entry mine"):
        info.with_entries({"mine": {"file_name": "rows.json"}})
    assert info.with_entries({"mine": {}}, replace=True).entries == {"mine": {}}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'{"a": {}, "a": {"x": 1}}', b'{"a": {"file_name": "x", "file_name": "y"}}', b"\xff\xfe{", b"[" * 100_000],
)  # fmt: skip
def test_a_broken_list_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        read_dataset_info(path, absent_is_empty=True)
    assert refused.value.sentence.entry == "info_broken" and "\n" not in refused.value.said("zh")
    assert path.read_bytes() == content


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    assert read_dataset_info(tmp_path / "x.json", absent_is_empty=True).entries == {}
    with pytest.raises(Refused, match="no such file"):
        read_dataset_info(tmp_path / "x.json")
    with pytest.raises(Refused, match="not a dataset_info"):
        read_dataset_info(tmp_path)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"columns": "prompt"}, "info_entry_broken"), ({"columns": {"prompt": 3}}, "info_entry_broken"),
        ({"tags": []}, "info_entry_broken"), ({"split": 3}, "info_entry_broken"), ([], "info_entry_broken"),
        ({"script_url": "x"}, "info_elsewhere"), ({"ms_hub_url": "x"}, "info_elsewhere"), ({"file_name": "."}, "info_is_folder"),
        ({"hf_hub_url": "no id"}, "dataset_id_wrong"), (None, "info_no_entry"),
    ],
)  # fmt: skip
def test_entries_without_data_here(tmp_path: Path, entry: Any, reason: str) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps({"mine": entry, "other": {}}))
    with pytest.raises(Refused) as refused:
        read_dataset_info(path).source("mine" if entry is not None else "min")
    assert refused.value.sentence.entry == reason and str(refused.value)


@pytest.mark.parametrize(
    ("format", "file"),
    [("trl", "x.json"), ("kto", "x.json"), ("prompt=a,completion=b", "x.json"), ("messages", "x.csv"),
     ("llamafactory-sharegpt", "x.csv"), ("llamafactory-kto", "x.csv")],
)  # fmt: skip
def test_formats_without_an_entry(tmp_path: Path, format: str, file: str) -> None:
    with pytest.raises(Refused, match="has no entry"):
        entries_for("x", tmp_path / file, format, ["history"], beside=tmp_path / "dataset_info.json")


def test_kto_is_written_as_llamafactory_reads_it(tmp_path: Path) -> None:
    assert (llamafactory_layout("kto"), llamafactory_layout("trl")) == ("llamafactory-kto", "trl")
    [entry] = entries_for("x", tmp_path / "x.json", llamafactory_layout("kto"), ["messages", "label"], beside=tmp_path / "d").values()
    assert entry["columns"] == {"messages": "messages", "kto_tag": "label"} and entry["formatting"] == "sharegpt"
    # it takes a wanted answer without a text for an unwanted one
    report = write_pairs([replace(ONE, chosen=""), replace(ONE, rejected=""), ONE], tmp_path / "x.json", "llamafactory-kto")
    assert (report.rows, report.left_out) == (2, {"wanted_answer_empty": 1})


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [3], [None], [{"from": 3}], {"from": "gpt"}, [{"value": "x"}]])
@pytest.mark.parametrize("name", READ)
def test_hostile_rows_are_left_out(tmp_path: Path, name: str, value: Any) -> None:
    entry, row, _, _ = READ[name]
    rows = [{**row, column: value} for column in row] + [row]
    source = info_of(tmp_path, entry, rows).source("mine")
    found = list(source)
    assert found[-1].line and len(found) + len(source.left_out) == len(rows)
