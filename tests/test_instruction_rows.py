"""Rows of instruction data in every layout that people keep them in, and files that hold none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.instruction_rows import as_row, probe_rows, read_all_rows, read_rows
from pipeline.last_loss import read_loss_curve
from pipeline.prompt_file import read_prompts

USER = {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    ("record", "prompt", "answer"),
    [
        ({"instruction": "Q", "input": "", "output": "A"}, ["Q"], "A"),
        ({"instruction": "Q", "input": "more", "output": "A"}, ["Q\nmore"], "A"),
        ({"instruction": "Q", "input": None, "chosen": "A", "rejected": "B"}, ["Q"], "A"),
        ({"instruction": "Q", "output": "A", "history": [["q", "a"]], "system": "S"}, ["S", "q", "a", "Q"], "A"),
        ({"prompt": "Q", "response": "A"}, ["Q"], "A"),
        ({"prompt": [USER], "completion": [ANSWER]}, ["Q"], "A"),
        ({"prompt": "Q", "chosen": [USER, ANSWER], "rejected": [USER]}, ["Q"], "A"),
        ({"prompt": "Q", "chosen": [ANSWER], "rejected": [ANSWER]}, ["Q"], "A"),
        ({"messages": [{"role": "system", "content": "S"}, USER, ANSWER]}, ["S", "Q"], "A"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "A"}]}]}, ["Q"], "A"),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, ["Q"], "A"),
        ({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}}, ["Q"], "A"),
        ({"conversations": [{"from": "human", "value": "Q"}], "chosen": "A", "rejected": "B"}, ["Q"], "A"),
        ({"question": "Q", "answer": "A"}, ["Q"], "A"),
        ({"question": "Q", "query": "SELECT 1"}, ["Q"], "SELECT 1"),
        ({"query": "Q", "response": "A"}, ["Q"], "A"),
        ({"text": "Q", "standard_answer": "A"}, ["Q"], "A"),
        ({"Prompt": "Q", "Chosen": "A", "reject": ""}, ["Q"], "A"),
        ({"prompt": "Q", "response_0": "B", "response_1": "A", "better_response_id": 1}, ["Q"], "A"),
        ({"instruction": "Q", "output_1": "A", "output_2": "B", "preference": 1}, ["Q"], "A"),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: Q\n\nAssistant: A", "rejected": ""}, ["q", "a", "Q"], "A"),
        ({"prompt": "Q", "completion": 7}, ["Q"], "7"),
    ],
)
def test_layouts(record: dict[str, Any], prompt: list[str], answer: str) -> None:
    row = as_row(record, id="x")
    assert row is not None
    assert ([m["content"] for m in row.messages], row.answer) == (prompt, answer)
    assert row.messages[-1]["role"] == "user"


@pytest.mark.parametrize(
    "record",
    [
        None, 3, {}, {"text": "only text"}, {"prompt": "Q", "response": ""}, {"messages": [USER]},
        {"messages": [ANSWER]}, {"prompt": "Q", "completion": "A", "label": False}, {"instruction": "", "output": "A"},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, {"messages": "broken ["},
    ],
)  # fmt: skip
def test_rows_without_an_answer_are_left_out(record: Any) -> None:
    assert as_row(record, id="x") is None


def test_files(tmp_path: Path) -> None:
    rows = [{"instruction": f"Q{i}", "output": f"答{i}"} for i in range(30)]
    lines = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    files = {
        "array.json": json.dumps(rows).encode(),
        "wrapped.json": json.dumps({"version": 1, "data": rows}).encode(),
        "lines.json": lines.encode(),
        "marked.jsonl": b"\xef\xbb\xbf" + lines.encode(),
        "windows.jsonl": lines.encode("gb18030"),
        "wide.json": json.dumps(rows, ensure_ascii=False).encode("utf-16"),
        "table.csv": ("instruction,output\n" + "\n".join(f'"Q{i}","答{i}"' for i in range(30))).encode(),
        "cut.jsonl": lines.encode() + b'\n{"instruction": "Q30", "out',
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        found = read_rows(tmp_path / name)
        assert (found.problem, len(found.rows), found.rows[7].answer) == (None, 30, "答7"), name
    assert read_rows(tmp_path / "cut.jsonl").left_out == 1
    assert [r.question for r in read_rows(tmp_path / "array.json", limit=3).rows] == ["Q0", "Q10", "Q20"]
    both = read_all_rows([str(tmp_path / "array.json"), str(tmp_path / "table.csv")], limit=6)
    assert [r.id.partition(":")[0] for r in both.rows].count("table.csv") == 3


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"prompt": ["Q"], "response": ["A"]}), tmp_path / "rows.parquet")
    assert [r.answer for r in read_rows(tmp_path / "rows.parquet").rows] == ["A"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.json", b"", "empty"), ("list.json", b"[]", "empty"), ("other.json", b'[{"a": 1}]', "no_known_columns"),
        ("text.jsonl", b"not json\n" * 9, "not_json"), ("image.png", b"\x89PNG....", "unknown_format"),
        ("pointer.json", b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer"),
        ("deep.json", b"[" * 200_000, "not_json"), ("bad.parquet", b"PAR1 nothing", "unreadable"),
    ],
)  # fmt: skip
def test_problems_are_values(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = read_rows(tmp_path / name)
    assert (found.problem, found.rows) == (problem, ())
    assert read_rows(tmp_path / "absent.json").problem == "unreadable"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_text_is_read_in_the_encodings_people_save_it_in(tmp_path: Path, name: str, encoding: str) -> None:
    rows = [{"instruction": f"question {n}", "output": "ok"} for n in range(400)]
    rows.append({"instruction": "为什么回答跑题", "output": "因为格式不对"})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = f"[{','.join(lines)}]" if name.endswith(".json") else "\n".join(lines)
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = read_rows(tmp_path / name)
    assert (found.problem, len(found.rows), found.rows[-1].answer) == (None, 401, "因为格式不对")


def test_a_damaged_byte_does_not_double_the_rows(tmp_path: Path) -> None:
    rows = [json.dumps({"instruction": f"问题 {n}", "output": "答"}, ensure_ascii=False) for n in range(2000)]
    raw = "\n".join(rows).encode()
    (tmp_path / "rows.jsonl").write_bytes(raw[:-3] + b"\xff" + raw[-2:])
    assert 1999 <= len(read_rows(tmp_path / "rows.jsonl").rows) <= 2000


def test_what_is_no_text_is_no_data_and_no_log(tmp_path: Path) -> None:
    binary = tmp_path / "x"
    for content in (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(9000), bytes(range(256)) * 40):
        binary.write_bytes(content)
        assert read_rows(binary).problem == "not_text"
        assert read_prompts(binary).problem == "not_text"
        assert read_loss_curve(binary).problem == "not_text"
    binary.write_bytes("{'loss': 0.5}\r\n{'loss': 0.4}\r\n".encode("utf-16"))
    assert read_loss_curve(binary).train == (0.5, 0.4)


def test_probes_are_in_both_languages() -> None:
    languages = [row.id[:2] for row in probe_rows()]
    assert languages.count("zh") >= 10 and languages.count("en") >= 10
    assert len({row.question for row in probe_rows()}) == len(languages)


@pytest.mark.parametrize(
    ("name", "content", "train", "evaluation"),
    [
        ("trainer_state.json", json.dumps({"log_history": [{"loss": 2.0, "step": 1}, {"eval_loss": 1.5}, {"loss": 1.0},
                                                           {"train_loss": 9.0, "train_runtime": 3}]}), (2, 1), (1.5,)),
        ("t.log", "{'loss': '0.53', 'grad_norm': '1.2'}\n{'eval_loss': '0.6', 'epoch': '1'}\n", (0.53,), (0.6,)),
        ("t.log", "\r 3%|x| 1/9{'loss': 0.5312, 'learning_rate': 1e-05}\r{'loss': nan}\n", (0.5312,), ()),
        ("chat.log", "epoch 1, step 100, training loss: 2.345\nepoch 1, valid loss: 2.5\n", (2.345,), (2.5,)),
        ("t.jsonl", '{"current_steps": 5, "loss": 1.25, "lr": 1e-4}\n{"eval_loss": 1.5}\n', (1.25,), (1.5,)),
        ("nano.log", "step 0: train loss 10.98, val loss 10.97\niter 10: loss 9.5, time 3ms\n", (9.5,), (10.97,)),
    ],
)  # fmt: skip
def test_losses_of_logs(tmp_path: Path, name: str, content: str, train: tuple[float, ...], evaluation: Any) -> None:
    (tmp_path / name).write_text(content)
    curve = read_loss_curve(tmp_path / name)
    assert (curve.problem, curve.train, curve.evaluation) == (None, train, evaluation)


def test_logs_of_preference_training_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("{'loss': 0.69, 'rewards/chosen': 0.1}\n" * 2)
    (tmp_path / "dpo_train.log").write_text("{'loss': 0.69}\n{'loss': 0.6}\n")
    (tmp_path / "b.log").write_text("nothing here\n")
    assert [read_loss_curve(tmp_path / n).problem for n in ("a.log", "dpo_train.log", "b.log", "absent")] == [
        "preference_log", "preference_log", "no_loss", "unreadable",
    ]  # fmt: skip
