"""Data of a run: every format and method, mixing, rows held out without a leak, what is left out and why."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import is_right
from pipeline.pairs.pair import Pair
from pipeline.pairs.write_pairs import write_pairs
from pipeline.refusal import Refused
from pipeline.training.demo_data import (
    demo_data,
    demo_data_names,
    demo_database,
    demo_questions,
    wrong_answer,
)
from pipeline.training.recipe import METHODS, parse_recipe
from pipeline.training.row_columns import COLUMNS, prompt_key
from pipeline.training.start_job import settle
from pipeline.training.training_data import RowsWritten, write_rows


def _pairs(count: int, start: int = 0) -> list[Pair]:
    return [
        Pair([{"role": "user", "content": f"问题 {n}?"}], f"right {n}", f"wrong {n}", id=str(n))
        for n in range(start, start + count)
    ]


def _file(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _write(
    folder: Path, method: str, data: Any, *, talk: bool = False, t5: bool = False, public: bool = False, **fields: Any
) -> tuple[RowsWritten, list[dict[str, Any]], list[dict[str, Any]]]:
    recipe = parse_recipe(json.dumps({"method": method, "data": data, **fields}), "test")
    written = write_rows(recipe, folder, conversational=talk, encoder_decoder=t5, public=public)
    json.dumps(written.as_json())
    return written, _rows(folder / "data" / "train.jsonl"), _rows(folder / "data" / "eval.jsonl")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def _reasons(written: RowsWritten) -> Mapping[str, int]:
    return {one.reason: one.rows for one in written.left_out}


def _refused(folder: Path, method: str, data: Any, **fields: Any) -> str:
    with pytest.raises(Refused) as refused:
        _write(folder, method, data, **fields)
    assert "{" not in refused.value.said("zh")
    return str(refused.value)


# --- methods and formats ---


@pytest.mark.parametrize("format", ["trl", "trl-conversational", "trl-implicit", "llamafactory-alpaca",
                                    "llamafactory-sharegpt", "kto", "hh", "ultrafeedback", "ms-swift"])  # fmt: skip
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_pairs_of_every_format(tmp_path: Path, format: str, suffix: str) -> None:
    path = tmp_path / f"pairs{suffix}"
    write_pairs(_pairs(9), path, format)
    written, train, _ = _write(tmp_path, "dpo", str(path))
    assert written.train == 9 and written.columns == ["prompt", "chosen", "rejected"]
    found = sorted((row["prompt"].strip(), row["chosen"].strip(), row["rejected"].strip()) for row in train)
    assert found == [(f"问题 {n}?", f"right {n}", f"wrong {n}") for n in range(9)]


def test_columns_of_each_method(tmp_path: Path) -> None:
    data = _file(tmp_path / "pairs.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "db_id": "shop", "n": 3}])
    for method in METHODS:
        written, train, _ = _write(tmp_path, method, data)
        assert set(COLUMNS[method]) <= set(train[0]) and list(train[0]) == written.columns
    assert _write(tmp_path, "sft", data)[1] == [{"prompt": "q", "completion": "a"}]
    written, train, _ = _write(tmp_path, "kto", data)
    assert [(r["completion"], r["label"]) for r in train] == [("a", True), ("b", False)]
    assert (written.wanted, written.unwanted) == (1, 1)
    assert _write(tmp_path, "grpo", data)[1] == [{"prompt": "q", "answer": "a", "db_id": "shop", "n": "3"}]


def test_talks_and_texts(tmp_path: Path) -> None:
    data = _file(tmp_path / "a.jsonl", [{
        "prompt": [{"role": "system", "content": "short"}, {"role": "user", "content": "hi"},
                   {"role": "assistant", "content": "hello"}, {"role": "user", "content": "then?"}],
        "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}],
    }])  # fmt: skip
    _, train, _ = _write(tmp_path, "dpo", data, talk=True)
    assert [turn["role"] for turn in train[0]["prompt"]] == ["system", "user", "assistant", "user"]
    assert train[0]["chosen"] == [{"role": "assistant", "content": "a"}]
    text = {"prompt": "short\nhi\nhello\nthen?", "chosen": "a", "rejected": "b"}
    assert _write(tmp_path, "dpo", data)[1] == [text]
    assert _write(tmp_path, "dpo", data, talk=True, t5=True)[1] == [text]


def test_kto_rows_as_they_are_and_together(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "completion": "good", "label": True}, {"prompt": "p", "completion": "bad", "label": False},
        {"prompt": "q", "completion": "bad", "label": False},
    ]  # fmt: skip
    data = _file(tmp_path / "kto.jsonl", rows)
    assert _write(tmp_path, "kto", data)[1] == rows
    written, train, _ = _write(tmp_path, "dpo", data)
    assert train == [{"prompt": "q", "chosen": "good", "rejected": "bad"}]
    assert _reasons(written) == {"one_side": 1} and written.left_out[0].examples[0].line == 2
    written, train, _ = _write(tmp_path, "sft", data)
    assert [row["completion"] for row in train] == ["good"] and _reasons(written) == {"unwanted_answer": 2}


def test_prompts_alone_are_enough_for_online_training(tmp_path: Path) -> None:
    data = _file(tmp_path / "p.jsonl", [{"prompt": "one"}, {"question": "two", "answer": "2"}, {"prompt": "three"}])
    written, train, _ = _write(tmp_path, "grpo", data)
    assert [(row["prompt"], row["answer"]) for row in train] == [("one", ""), ("two", "2"), ("three", "")]
    assert "python -m pipeline generate" in _refused(tmp_path, "sft", _file(tmp_path / "q.jsonl", [{"prompt": "one"}]))


def test_columns_that_begin_late_stand_in_every_row(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "answer": "a", **({"db_id": "x"} if n == 3 else {})} for n in range(5)]
    _, train, _ = _write(tmp_path, "grpo", _file(tmp_path / "p.jsonl", rows))
    assert [row["db_id"] for row in train] == ["", "", "", "x", ""]


def test_a_dataset_info_and_own_columns(tmp_path: Path) -> None:
    _file(tmp_path / "mine.jsonl", [{"frage": "q", "gut": "a", "schlecht": "b"}])
    info = {"mine": {"file_name": "mine.jsonl", "ranking": True,
                     "columns": {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}}}  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    wanted = [{"prompt": "q", "chosen": "a", "rejected": "b"}]
    assert _write(tmp_path, "dpo", f"{tmp_path / 'dataset_info.json'}:mine")[1] == wanted
    columns = {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}
    assert _write(tmp_path, "dpo", {"path": str(tmp_path / "mine.jsonl"), "columns": columns})[1] == wanted


def test_what_datasets_reads_is_what_was_written(tmp_path: Path) -> None:
    import datasets

    rows = [{"prompt": "a\ud83d b\u2028\x00", "chosen": "\udc00", "rejected": "x", "n": 1},
            {"prompt": "b", "chosen": "c", "rejected": ""}]  # fmt: skip
    written, train, _ = _write(tmp_path, "dpo", _file(tmp_path / "a.jsonl", rows), talk=True)
    assert written.replaced == 1 and train[0]["prompt"][0]["content"] == "a\ufffd b\u2028\x00"
    path = str(tmp_path / "data" / "train.jsonl")
    read = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    assert read.to_list() == train


_PIECES = ("a", "B", " ", "\n", "\t", "汉", "。", "é", "e\u0301", "😀", "\u200b", "\u2028", "\x00", "\x7f", "\\", '"', "'", "{", "[", "<|im_end|>",
           "\ufeff", "\ufffd", "\ud83d", "0", "null")  # fmt: skip


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(_PIECES) for _ in range(rng.randrange(7)))


@pytest.mark.parametrize("seed", range(30))
def test_texts_come_back_as_they_were(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    texts = [("q" + _text(rng), "a" + _text(rng), "a" + _text(rng)) for _ in range(20)]
    rows = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in texts]
    written, train, _ = _write(tmp_path, "dpo", _file(tmp_path / "a.jsonl", rows), talk=bool(seed % 2))
    assert written.train + sum(_reasons(written).values()) == len(texts)
    if seed % 2:
        train = [{k: v[0]["content"] for k, v in row.items()} for row in train]
    usable = [one for one in texts if one[1] != one[2]]
    assert written.replaced == sum("\ud83d" in "".join(one) for one in usable)
    assert [tuple(row.values()) for row in train] == [tuple(t.replace("\ud83d", "\ufffd") for t in one) for one in usable]


# --- sources ---


def test_mixing_by_weight(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("b", 5000)):
        write_pairs(_pairs(3000, start), tmp_path / f"{name}.jsonl", "trl")
    data = [{"path": str(tmp_path / "a.jsonl"), "weight": 3}, {"path": str(tmp_path / "b.jsonl"), "weight": "1"}]
    written, train, _ = _write(tmp_path, "dpo", data, seed=7)
    a, b = written.sources
    assert a.used + b.used == written.train == len(train) and 0.72 < a.used / written.train < 0.78
    assert train == _write(tmp_path, "dpo", data, seed=7)[1] != _write(tmp_path, "dpo", data, seed=8)[1]
    assert _write(tmp_path, "dpo", data, seed=7, max_samples=40)[1] == train[:40]
    again = _write(tmp_path, "dpo", [{"path": str(tmp_path / "a.jsonl"), "weight": 1, "max_samples": 10}, data[1]],
                   mix_strategy="all_exhausted")[0]  # fmt: skip
    assert again.sources[0].rows == 10 and again.sources[0].used > 1000


def test_sources_without_weights_follow_each_other(tmp_path: Path) -> None:
    one = _file(tmp_path / "a.jsonl", [{"prompt": "1", "chosen": "a", "rejected": "b"}])
    two = _file(tmp_path / "b.jsonl", [{"instruction": f"{n}", "input": "", "chosen": "a", "rejected": "b"} for n in (2, 3)])
    assert [r["prompt"] for r in _write(tmp_path, "dpo", [one, {"path": two, "max_samples": 1}])[1]] == ["1", "2"]


def test_entries_of_data_that_are_none(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.jsonl", [{"prompt": "1", "chosen": "a", "rejected": "b"}])
    for entry, said in (
        ({"path": path, "wieght": 1}, "wieght"), ({"weight": 1}, "path"), ([3], "3"), ({"path": path, "weight": 0}, "0"),
        ({"path": path, "weight": float("inf")}, "inf"), ({"path": path, "max_samples": 0.5}, "max_samples"),
        ({"path": path, "columns": {"promt": "x"}}, "promt"), ({"path": path, "format": "tlr"}, "tlr"),
        ({"path": path, "columns": "x"}, "columns"), ([], "--set data="), (None, "--set data="), ("", "--set data="),
        ({"path": path, "axis": "nicest"}, "axis"), ({"path": path, "split": 3}, "split"),
    ):  # fmt: skip
        with pytest.raises(Refused) as refused:
            recipe = parse_recipe("method: dpo", "test")
            write_rows(type(recipe)("test", "dpo", {"data": entry}), tmp_path, conversational=False, encoder_decoder=False)
        assert said in str(refused.value)


def test_public_reads_no_file_of_this_machine(tmp_path: Path, demo: DemoFolder) -> None:
    path = _file(tmp_path / "a.jsonl", [{"prompt": "1", "chosen": "a", "rejected": "b"}])
    assert "demo:NAME" in _refused(tmp_path, "dpo", path, public=True)
    assert "demo:NAME" in _refused(tmp_path, "dpo", f"{path}:x", public=True)
    assert _write(tmp_path, "dpo", "demo:pairs", public=True)[0].train > 2000


# --- what is left out, what can't be used ---


def test_rows_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "a"},
        {"prompt": "q", "chosen": " ", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": ""},
        {"prompt": "q", "chosen": "a", "rejected": "b", "status": "discarded"}, {"prompt": " ", "chosen": "a", "rejected": "b"},
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "a", "rejected": "b"},
    ]  # fmt: skip
    _file(path, rows)
    with path.open("ab") as file:
        file.write(b'{"prompt": "q", "chosen": "a", "rej\n[1]\n')
    written, train, _ = _write(tmp_path, "dpo", str(path))
    assert [row["rejected"] for row in train] == ["b", ""]
    assert _reasons(written) == {
        "same_answers": 1, "empty_answer": 1, "discarded": 1, "no_prompt": 1, "not_text": 1, "not_json": 1, "not_an_object": 1,
    }  # fmt: skip
    assert {one.reason: one.examples[0].line for one in written.left_out}["not_text"] == 7
    for one in written.left_out:
        assert one.why.said("en") != one.why.said("zh")


def test_data_for_another_method_says_which_fits(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "input": "", "output": "a"}, {"instruction": "p", "input": "", "output": "a"}]
    supervised = _file(tmp_path / "sft.jsonl", rows)
    for method in ("dpo", "kto", "reward", "orpo"):
        said = _refused(tmp_path, method, supervised)
        assert "python -m pipeline generate" in said and "method: sft" in said and "2 rows" in said
    labelled = _file(tmp_path / "kto.jsonl", [{"prompt": f"{n}", "completion": "x", "label": n > 1} for n in range(4)])
    assert "method: kto" in _refused(tmp_path, "dpo", labelled)


def test_a_supervised_row_among_labelled_ones_is_no_wish(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "x", "label": False}, {"instruction": "p", "input": "", "output": "a"}]
    written, train, _ = _write(tmp_path, "kto", _file(tmp_path / "kto.jsonl", rows))
    assert len(train) == 1 and _reasons(written) == {"answers_to_learn": 1}


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"{", b"[]", b"[1, 2]", b'{"a": 1}\n', "é".encode("latin-1")])
def test_files_that_hold_no_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    assert str(path) in _refused(tmp_path, "dpo", str(path))
    assert not (tmp_path / "data" / "train.jsonl").exists()


def test_places_that_lead_nowhere(tmp_path: Path) -> None:
    assert "nowhere.jsonl" in _refused(tmp_path, "dpo", str(tmp_path / "nowhere.jsonl"))
    assert str(tmp_path) in _refused(tmp_path, "dpo", str(tmp_path))
    assert "demo:pairs" in _refused(tmp_path, "dpo", "demo:nothing")
    assert "eval.jsonl" in _refused(tmp_path, "dpo", "demo:pairs", eval_data=str(tmp_path / "eval.jsonl"))
    (tmp_path / "file").write_text("")
    assert "file" in _refused(tmp_path / "file", "dpo", "demo:pairs")


# --- rows held out ---


@pytest.mark.parametrize("val_size", [0.1, 37, 0.00001])
def test_no_prompt_is_on_both_sides(tmp_path: Path, val_size: float) -> None:
    rng = random.Random(1)
    rows = [{"prompt": f"Q {rng.randrange(120)}" + " " * rng.randrange(3), "chosen": f"{n}", "rejected": "b"} for n in range(400)]
    data = _file(tmp_path / "a.jsonl", rows)
    written, train, held = _write(tmp_path, "dpo", data, val_size=val_size)
    wanted = max(1, round(val_size * 400) if val_size < 1 else val_size)
    assert written.train + written.eval == 400 and wanted - 8 <= written.eval <= max(wanted, 8)
    assert not {prompt_key(r["prompt"]) for r in train} & {prompt_key(r["prompt"]) for r in held}
    assert held == _write(tmp_path, "dpo", data, val_size=val_size)[2]
    assert held != _write(tmp_path, "dpo", data, val_size=val_size, seed=5)[2]
    assert written.prompts == len({prompt_key(r["prompt"]) for r in train})


def test_both_rows_of_a_kto_pair_stay_together(tmp_path: Path) -> None:
    written, train, held = _write(tmp_path, "kto", "demo:pairs", val_size=0.2, max_samples=200)
    assert written.wanted == written.unwanted == len(train) / 2
    assert sum(r["label"] for r in held) == len(held) / 2


def test_sides_that_would_be_empty(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": f"{n}", "rejected": "b"} for n in range(9)]
    data = _file(tmp_path / "a.jsonl", rows)
    assert "eval_data" in _refused(tmp_path, "dpo", data, val_size=0.1)
    assert "9" in _refused(tmp_path, "dpo", data, val_size=9)


def test_evaluation_data_and_prompts_also_trained(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}", "chosen": "a", "rejected": "b"} for n in range(9)]
    data, other = _file(tmp_path / "a.jsonl", rows), _file(tmp_path / "b.jsonl", [*rows[:2], {**rows[0], "prompt": "new"}])
    written, train, held = _write(tmp_path, "dpo", data, eval_data=other, val_size=0.5)
    assert (len(train), len(held), written.eval_from, written.eval_also_trained) == (9, 3, "eval_data", 2)
    assert [one.evaluation for one in written.sources] == [False, True]
    assert _write(tmp_path, "dpo", data)[2] == []  # those of the run before are gone


def test_twenty_thousand_rows(tmp_path: Path) -> None:
    write_pairs(_pairs(20_000), tmp_path / "a.jsonl", "trl")
    began = time.monotonic()
    written, _, _ = _write(tmp_path, "dpo", str(tmp_path / "a.jsonl"), val_size=0.05, talk=True)
    assert (written.train, written.eval) == (19_000, 1000) and time.monotonic() - began < 8


# --- demo data ---


@pytest.mark.parametrize("name", ["sft", "pairs", "repetition", "text2sql", "kto", "verifiable", "pairs_held_out"])
def test_demo_data_is_made_once(name: str, demo: DemoFolder) -> None:
    path = demo_data(f"demo:{name}")
    assert name in demo_data_names() and path == demo_data(f"demo:{name}") and len(_rows(path)) > 100


def test_demo_pairs_are_right_and_wrong(demo: DemoFolder) -> None:
    trained, held_out = ({one.prompt: one for one in part} for part in demo_questions())
    for name, questions in (("pairs", trained), ("pairs_held_out", held_out), ("repetition", trained)):
        for row in _rows(demo_data(f"demo:{name}")):
            question = questions[row["prompt"]]
            assert is_right(question, row["chosen"]) and not is_right(question, row["rejected"])
    for row in _rows(demo_data("demo:kto")):
        assert is_right(trained[row["prompt"]], row["completion"]) == row["label"]
    for row in _rows(demo_data("demo:verifiable")):
        assert is_right(trained[row["prompt"]], row["answer"])
    lengths = [(len(r["chosen"]), len(r["rejected"])) for r in _rows(demo_data("demo:pairs"))]
    longer = sum(a > b for a, b in lengths) / sum(a != b for a, b in lengths)
    assert 0.4 < longer < 0.6  # length alone tells nothing


def test_every_question_has_a_wrong_answer() -> None:
    rng = random.Random(3)
    for question in (*demo_questions()[0], *demo_questions()[1]):
        assert not is_right(question, wrong_answer(question, rng))


def test_wrong_sql_runs_and_gives_other_rows(demo: DemoFolder) -> None:
    rows = _rows(demo_data("demo:text2sql"))
    with closing(sqlite3.connect(f"file:{demo_database()}?mode=ro", uri=True)) as database:
        for row in rows:
            gold, other = (sorted(map(repr, database.execute(row[side]))) for side in ("chosen", "rejected"))
            assert gold != other
    assert any("一" <= c <= "鿿" for row in rows for c in row["prompt"].split("\n")[1])


def test_chat_templates_are_seen_without_loading(demo: DemoFolder, tmp_path: Path) -> None:
    def has(folder: Path) -> bool:
        return settle(parse_recipe(f"method: dpo\nmodel_name_or_path: {folder}\n", "r")).conversational

    seen = {name: has(demo.root / name) for name in ("healthy_decoder", "base_decoder", "healthy_t5")}
    assert seen == {"healthy_decoder": True, "base_decoder": False, "healthy_t5": False}
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert not has(tmp_path)
    with pytest.raises(Refused):
        has(tmp_path / "nothing")
    (tmp_path / "tokenizer_config.json").unlink()
    config = {"base_model_name_or_path": str(demo.root / "healthy_decoder")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert has(tmp_path)
