"""`python -m pipeline score` on pairs, answers and bad input, with a reward model whose rewards are computed here too."""

from __future__ import annotations

import csv
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from test_reward_scorer import llama_config, saved
from tiny_answering_models import ROWS
from tiny_answering_models import _tokenizer as tiny_tokenizer

from pipeline.__main__ import main
from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reward_scorer import RewardScorer
from pipeline.checkpoint import open_checkpoint
from pipeline.evaluation.kept_rewards import KeptRewards, kept_place
from pipeline.evaluation.results import read_result_file
from pipeline.evaluation.score_sets import ToScore, finished, score_sets
from pipeline.load_model import load_model
from pipeline.pairs.open_source import open_source
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

PAIRS = [
    {"prompt": f"{ROWS[n % len(ROWS)][0]} {n}", "chosen": ROWS[n % len(ROWS)][1],
     "rejected": ROWS[(n + 5) % len(ROWS)][1], "task": "ab"[n % 2], "n": n}
    for n in range(48)
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(8)
    config = llama_config(len(tiny_tokenizer()), num_labels=1, pad_token_id=0)
    return saved(LlamaForSequenceClassification(config), tmp_path_factory.mktemp("reward") / "rm")


@pytest.fixture(scope="module")
def rewards(model: Path) -> Any:
    """The reward of one answer alone."""
    with RewardScorer(load_model(open_checkpoint(str(model)), head="reward")) as scorer:
        yield lambda q, a: scorer.score(SourceRow(0, Pair([{"role": "user", "content": q}], None, None)), [a])[0]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def score(model: Path, *argv: object) -> int:
    return main(["score", "--reward-model", str(model), "--device", "cpu", *map(str, argv)])


def test_pairs_keep_their_columns_and_get_rewards(
    model: Path, rewards: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = write(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "scored.jsonl"
    status = score(model, "--data", data, "--output", output, "--format", "json", "--progress", tmp_path / "p.json")
    shown = json.loads(capsys.readouterr().out)
    assert status in (0, 1) and shown["kind"] == "scores" and shown["report"]["subject"]["kind"] == "scores"
    written = lines(output)
    assert [{k: row[k] for k in PAIRS[0]} for row in written] == PAIRS
    for row in written:
        assert row["score_chosen"] == pytest.approx(rewards(row["prompt"], row["chosen"]), abs=1e-4)
        assert row["score_rejected"] == pytest.approx(rewards(row["prompt"], row["rejected"]), abs=1e-4)
    [found] = read_result_file(tmp_path / "scored.jsonl.scores.json")["sets"]
    wins = sum(row["score_chosen"] > row["score_rejected"] for row in written)
    losses = sum(row["score_chosen"] < row["score_rejected"] for row in written)
    assert (found["accuracy"]["wins"], found["accuracy"]["losses"]) == (wins, losses) and wins and losses
    assert found["chosen"]["mean"] == pytest.approx(sum(r["score_chosen"] for r in written) / len(written))
    assert found["category_column"] == "task" and set(found["by_category"]) == {"a", "b"}
    assert found["rows_file"] == "scored.jsonl" and found["rows"] == found["scored"] == len(PAIRS)
    assert json.loads((tmp_path / "p.json").read_text())["stage"] == "judging"


def test_answers_one_or_several_a_row(model: Path, rewards: Any, tmp_path: Path) -> None:
    rows = [
        {"prompt": "q one", "response": "red"}, {"prompt": "q two", "responses": ["red", "blue", None, {"text": "苹果"}]},
        {"instruction": "q three", "output": "blue", "score": 3},
        {"prompt": [{"role": "user", "content": "q four"}], "completion": [{"role": "assistant", "content": "red"}]},
    ]  # fmt: skip
    output = tmp_path / "out.jsonl"
    assert score(model, "--data", write(tmp_path / "answers.jsonl", rows), "--output", output) in (0, 1)
    one, two, three, four = lines(output)
    assert one["score"] == pytest.approx(rewards("q one", "red"), abs=1e-4)
    several = [rewards("q two", text) for text in ("red", "blue", "苹果")]
    assert [s for s in two["scores"] if s is not None] == pytest.approx(several, abs=1e-4) and two["scores"][2] is None
    assert three["score"] == pytest.approx(rewards("q three", "blue"), abs=1e-4) and three["score_2"] == 3
    assert four["score"] == pytest.approx(rewards("q four", "red"), abs=1e-4)
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert found["holds"] == "answers" and found["answers"]["n"] == 6 and found["accuracy"] is None


def _talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _batch(answer: str) -> dict[str, Any]:
    return {"status_code": 200, "body": {"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}}


MAKERS: dict[str, dict[str, Any]] = {
    "llamafactory": {"prompt": "q one", "predict": "red", "label": "blue"},
    "alpacaeval": {"instruction": "q one", "output": "red", "generator": "m", "dataset": "koala"},
    "mt-bench": {"question_id": 81, "category": "math", "turns": ["q one", "again"],
                 "choices": [{"index": 0, "turns": ["red", "blue"]}]},
    "batch": {"custom_id": "1", "body": {"messages": _talk("q one", "")[:1]}, "response": _batch("red")},
    "ms-swift": {"response": "red", "labels": "blue", "logprobs": None, "messages": _talk("q one", "red")},
    "harness": {"doc_id": 0, "doc": {"question": "x"}, "target": "blue", "filter": "none", "resps": [["red"]],
                "filtered_resps": ["red"], "arguments": {"gen_args_0": {"arg_0": "q one", "arg_1": {}}}},
    "chinese": {"编号": 1, "用户问题": "q one", "模型回答": "red", "参考回答": "blue"},
    "spreadsheet": {"No": 1, "Question": "q one", "Model Answer": "red", "Reference": "blue"},
    "supervised, answered": {"instruction": "q one", "output": "blue", "model_answer": "red"},
    "plain": {"question": "q one", "prediction": "red", "answer": "blue"},
    "supervised": {"question": "q one", "answer": "red", "note": "blue"},
}  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
def test_answers_as_others_write_them(model: Path, rewards: Any, tmp_path: Path, maker: str) -> None:
    """The same answers that compare reads."""
    output, row = tmp_path / "out.jsonl", MAKERS[maker]
    assert score(model, "--data", write(tmp_path / "a.jsonl", [row, row]), "--output", output) in (0, 1)
    for written in lines(output):
        assert written.pop("score") == pytest.approx(rewards("q one", "red"), abs=1e-4)
        assert written == row
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert found["holds"] == "answers" and found["answers"]["n"] == found["scored"] == 2
    assert found["left_out"] == ({"later_turns": 2} if maker == "mt-bench" else {})


def test_samples_of_several_filters_are_scored_once(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [MAKERS["harness"], MAKERS["harness"] | {"filter": "strict", "filtered_resps": ["r"]}]
    output = tmp_path / "out.jsonl"
    assert score(model, "--data", write(tmp_path / "a.jsonl", rows), "--output", output, "--format", "json") in (0, 1)
    assert ["score" in row for row in lines(output)] == [True, False]
    shown = json.loads(capsys.readouterr().out)
    assert shown["sets"][0]["left_out"] == {"filtered_again": 1}
    [missing] = [one for one in shown["report"]["findings"] if one["code"] == "RWD016"]
    assert missing["severity"] == "ok" and "All 1 rows" in missing["message"]


def test_tables_of_answers_with_chinese_names(model: Path, rewards: Any, tmp_path: Path) -> None:
    import openpyxl

    head, said = ["序号", "用户问题", "模型回答", "日期"], [[1, "q one", "red"], [2, "q two", "苹果"], [3, "q three", None]]
    with open(tmp_path / "a.csv", "w", encoding="gb18030", newline="") as file:
        csv.writer(file).writerows([head, *said[:2]])
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["十月汇总"], head, [*said[0], datetime.date(2026, 10, 1)], *said[1:]):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    wanted = [rewards("q one", "red"), rewards("q two", "苹果")]
    for name, answered in (("a.csv", 2), ("a.xlsx", 2)):
        output = tmp_path / f"{name}.jsonl"
        assert score(model, "--data", tmp_path / name, "--output", output, "--category", "序号") in (0, 1)
        written = lines(output)
        assert [row["score"] for row in written[:answered]] == pytest.approx(wanted, abs=1e-4)
        assert [row["模型回答"] for row in written[:2]] == ["red", "苹果"] and str(written[0]["序号"]) == "1"
    assert len(written) == 3 and "score" not in written[2] and "2026-10-01" in str(written[0]["日期"])


def test_a_workbook_of_pairs_holds_pairs(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["prompt", "chosen", "rejected"], *([p["prompt"], p["chosen"], p["rejected"]] for p in PAIRS[:4])):
        sheet.append(row)
    book.save(tmp_path / "p.xlsx")
    assert score(model, "--data", tmp_path / "p.xlsx", "--output", tmp_path / "out.jsonl") in (0, 1)
    assert all("score_chosen" in row and "score_rejected" in row for row in lines(tmp_path / "out.jsonl"))
    assert score(model, "--data", tmp_path / "p.xlsx", "--output", tmp_path / "x.jsonl", "--category", "colour") == 2
    assert "colour" in capsys.readouterr().err
    (tmp_path / "broken.xlsx").write_bytes(b"PK no workbook")
    assert score(model, "--data", tmp_path / "broken.xlsx", "--output", tmp_path / "x.jsonl") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_beside_pairs_are_not_taken_for_answers(model: Path, tmp_path: Path) -> None:
    rows = [*PAIRS[:5], {"prompt": "q", "predict": "red"}, {"prompt": "q", "chosen": "red"}]
    kto = [{"prompt": f"q {n // 2}", "response": f"{ROWS[n][1]} {n}", "label": n % 2 == 0} for n in range(4)]
    for name, data, reason in (("p", rows, "side_absent"), ("k", [*kto, {"prompt": "q", "predict": "red"}], "label_absent")):
        output = tmp_path / f"{name}.out.jsonl"
        assert score(model, "--data", write(tmp_path / f"{name}.jsonl", data), "--output", output) in (0, 1)
        [found] = read_result_file(tmp_path / f"{name}.out.jsonl.scores.json")["sets"]
        assert found["holds"] == "pairs" and found["left_out"] == {reason: 2 if name == "p" else 1}


@pytest.mark.parametrize("rows", [
    [{"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["red", "blue"]}]}],
    [{"custom_id": "1", "response": _batch("red"), "error": None}], [{"id": 1, "response": "red"}], ["red", "blue"],
], ids=["mt-bench", "batch", "ids", "texts"])  # fmt: skip
def test_answers_without_prompts_are_refused(
    model: Path, tmp_path: Path, rows: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "a.jsonl", rows)
    for lang, says in (("en", "answers without their prompts"), ("zh", "没有提示")):
        assert score(model, "--data", data, "--output", tmp_path / "o.jsonl", "--lang", lang) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and says in told and "a.jsonl" in told
    write(data, [{"用户问题": "q", "模型回答": "red"}, *rows])  # among others they are counted
    assert score(model, "--data", data, "--output", tmp_path / "o.jsonl") in (0, 1)
    [found] = read_result_file(tmp_path / "o.jsonl.scores.json")["sets"]
    assert found["left_out"] == {"no_prompt": len(rows)} and found["scored"] == 1


@pytest.mark.parametrize(("answered", "questions"), [
    (lambda n: {"question_id": n, "choices": [{"index": 0, "turns": [ROWS[n][1], "blue"]}]},
     lambda n: {"question_id": n, "category": "math", "turns": [ROWS[n][0], "again"]}),
    (lambda n: {"custom_id": f"r{n}", "response": _batch(ROWS[n][1])},
     lambda n: {"custom_id": f"r{n}", "method": "POST", "body": {"messages": _talk(ROWS[n][0], "")[:1]}}),
], ids=["mt-bench", "batch"])  # fmt: skip
def test_answers_find_their_prompts_by_id(
    model: Path, rewards: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], answered: Any, questions: Any
) -> None:
    data, output = write(tmp_path / "a.jsonl", [answered(n) for n in (2, 0, 1, 5)]), tmp_path / "out.jsonl"
    prompts = write(tmp_path / "q.jsonl", [questions(n) for n in (0, 1, 2)])
    assert score(model, "--data", data, "--prompts", prompts, "--output", output) in (0, 1)
    written = lines(output)
    assert [row.pop("score", None) for row in written] == [pytest.approx(rewards(*ROWS[n]), abs=1e-4) for n in (2, 0, 1)] + [None]
    assert written == [answered(n) for n in (2, 0, 1, 5)]
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert found["left_out"]["no_prompt"] == 1 and found["lines"]["no_prompt"] == [4]
    capsys.readouterr()
    for held, says in (([questions(7)], "none has an id"), ([{"prompt": "q"}], "needs an id"), ([], "q.jsonl")):
        write(prompts, held)
        assert score(model, "--data", data, "--prompts", prompts, "--output", output, "--overwrite") == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and says in told, told
    assert score(model, "--data", data, "--prompts", prompts, "--output", prompts, "--overwrite") == 2


def test_kto_rows_are_paired_by_their_prompt(model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"q {n // 2}", "completion": f"{ROWS[n % 8][1]} {n}", "label": n % 2 == 0} for n in range(40)]
    for n, row in enumerate(rows):  # the category stands beside one side of every second pair
        row |= {"task": "ab"[n // 2 % 2]} if n % 4 < 3 else {}
    rows.append({"prompt": "alone", "completion": "red", "label": True})
    output = tmp_path / "out.jsonl"
    assert score(model, "--data", write(tmp_path / "kto.jsonl", rows), "--output", output) in (0, 1)
    scores = [row["score"] for row in lines(output)]
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert found["accuracy"]["wins"] == sum(scores[n] > scores[n + 1] for n in range(0, 40, 2))
    assert found["by_category"]["a"]["share"]["n"] == found["by_category"]["b"]["share"]["n"] == 10
    assert found["accuracy"]["share"]["n"] == 20 and found["left_out"] == {"no_other_side": 1}


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_other_files(model: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    assert score(model, "--data", write(tmp_path / "p.jsonl", PAIRS), "--output", output, "--max-samples", "7") in (0, 1)
    if suffix == ".csv":
        with open(output, encoding="utf-8", newline="") as file:
            rows: list[Any] = list(csv.DictReader(file))
    elif suffix == ".json":
        rows = json.loads(output.read_text("utf-8"))
    else:
        import pyarrow.parquet as parquet

        rows = parquet.read_table(output).to_pylist()
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in PAIRS[:7]]
    assert all(float(row["score_chosen"]) != float(row["score_rejected"]) for row in rows)


def test_training_against_held_out(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, held = write(tmp_path / "train.jsonl", PAIRS[:40]), write(tmp_path / "held.jsonl", PAIRS[37:])
    output = tmp_path / "out.jsonl"
    assert score(model, "--data", train, "--held-out", held, "--output", output) in (0, 1)
    assert "37" not in capsys.readouterr().err
    result = read_result_file(tmp_path / "out.jsonl.scores.json")
    first, second = result["sets"]
    assert (first["role"], second["role"]) == ("train", "held_out")
    assert len(lines(output)) == 40 and len(lines(tmp_path / "out.held_out.jsonl")) == len(PAIRS) - 37
    gap = first["accuracy"]["share"]["value"] - second["accuracy"]["share"]["value"]
    assert result["gap"]["mean"] == pytest.approx(gap)
    assert result["shared_prompts"] == 3 and second["lines"]["shared_prompt"] == [1, 2, 3]
    assert score(model, "--data", train, "--held-out", train, "--output", tmp_path / "x.jsonl") == 2
    assert "same file" in capsys.readouterr().err


def test_prompts_are_the_same_but_for_capitals_and_white_space(model: Path, tmp_path: Path) -> None:
    asked = [{"prompt": f"What is {n}?", "chosen": "red", "rejected": "blue"} for n in range(4)]
    turns = [{"role": "user", "content": "What  is\n0?\n"}]
    other: list[dict[str, Any]] = [{**asked[0], "prompt": turns}, {**asked[1], "prompt": " what is 1? "}, {**asked[2], "prompt": "What is 2"}]
    other.append({**asked[3], "prompt": [{"role": "system", "content": "Answer."}, {"role": "user", "content": "What is 3?"}]})
    train, held = write(tmp_path / "train.jsonl", asked), write(tmp_path / "held.jsonl", other)
    assert score(model, "--data", train, "--held-out", held, "--output", tmp_path / "out.jsonl") in (0, 1)
    result = read_result_file(tmp_path / "out.jsonl.scores.json")
    assert (result["shared_prompts"], result["held_out_prompts"]) == (2, 4)
    assert result["sets"][1]["lines"]["shared_prompt"] == [1, 2]


def test_pairs_of_one_prompt_are_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**row, "prompt": f"q {n // 6}"} for n, row in enumerate(PAIRS)]
    data, distinct = write(tmp_path / "p.jsonl", rows), write(tmp_path / "d.jsonl", PAIRS)
    assert score(model, "--data", data, "--output", tmp_path / "out.jsonl") in (0, 1)
    assert "distinct prompts         8;" in capsys.readouterr().out
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert found["prompts"] == 8 and found["accuracy"]["share"]["n"] == 48
    assert score(model, "--data", distinct, "--output", tmp_path / "other.jsonl") in (0, 1)
    assert "distinct prompts" not in capsys.readouterr().out


def test_one_pair_has_no_limits(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(model, "--data", write(tmp_path / "p.jsonl", PAIRS[:1]), "--output", tmp_path / "out.jsonl") in (0, 1)
    said = capsys.readouterr().out
    assert "chosen minus rejected" in said and "inf" not in said


def test_rows_keep_their_numbers_where_columns_begin_late(model: Path, tmp_path: Path) -> None:
    """Beyond 10 MB, rows with a column that no row before has."""
    rows: list[dict[str, Any]] = [{**row, "note": "x" * 250_000} for row in PAIRS]
    rows[-1]["late"] = 1
    output = tmp_path / "out.jsonl"
    assert score(model, "--data", write(tmp_path / "p.jsonl", rows), "--output", output) in (0, 1)
    assert [row["n"] for row in lines(output)] == [row["n"] for row in PAIRS] and lines(output)[-1]["late"] == 1


def test_bad_data_is_found_before_anything_is_scored(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = write(tmp_path / "p.jsonl", PAIRS), tmp_path / "out.jsonl"
    broken, empty = tmp_path / "broken.jsonl", write(tmp_path / "empty.jsonl", [])
    broken.write_text("no json\n{{{\n")
    plain = write(tmp_path / "plain.jsonl", [{k: v for k, v in row.items() if k != "task"} for row in PAIRS])
    for held, argv in ((broken, ()), (empty, ()), (plain, ("--category", "task"))):
        nowhere = tmp_path / "no_weights"  # would be told first, were it loaded
        shutil.copytree(model, nowhere, ignore=shutil.ignore_patterns("tokenizer*"), dirs_exist_ok=True)
        assert score(nowhere, "--data", data, "--held-out", held, "--output", output, *argv) == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1 and held.name in told.err and not output.exists(), told.err


def test_no_file_is_written_over_another(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = write(tmp_path / "p.jsonl", PAIRS), tmp_path / "out.jsonl"
    link, notes, before = tmp_path / "link.jsonl", tmp_path / "notes.txt", data.read_bytes()
    link.symlink_to(data)
    notes.write_text("mine")
    for argv in (
        ("--output", link), ("--output", output, "--suspects", data), ("--output", output, "--progress", data),
        ("--output", output, "--suspects", output), ("--output", output, "--progress", f"{output}.scores.json"),
        ("--output", output, "--suspects", tmp_path / "s.jsonl", "--progress", tmp_path / "s.jsonl"),
        ("--output", output, "--progress", notes), ("--output", output, "--progress", tmp_path),
    ):  # fmt: skip
        assert score(model, "--data", data, "--overwrite", *argv) == 2, argv
        assert capsys.readouterr().err.count("\n") == 1
        assert data.read_bytes() == before and notes.read_text() == "mine" and not output.exists()


def test_data_that_changed_meanwhile_gives_no_wrong_texts(model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{ROWS[n % 8][0]} {n}", "chosen": ROWS[n % 8][1], "rejected": ROWS[(n + 3) % 8][1]}
            for n in range(120)]  # fmt: skip
    data = write(tmp_path / "p.jsonl", rows)
    source = open_source(str(data))
    with RewardScorer(load_model(open_checkpoint(str(model)), head="reward")) as scorer:
        [one] = score_sets(scorer, [ToScore(source, "data", tmp_path / "o.jsonl")], cancel=threading.Event())
    numbers = one.numbers
    for n in range(120):  # margins of a sound model that contradicts two labels
        numbers.chosen[n], numbers.rejected[n] = (-9.0, 0.0) if n in (5, 50) else (5.0 + n / 100, 0.0)
    whole, _ = finished(one)
    assert sorted(s.row for s in whole.suspects) == [5, 50] and whole.suspects[0].chosen in {r["chosen"] for r in rows}
    write(data, [*rows[:20], *rows[:19:-1]])  # the second half the other way round
    changed, written = finished(one, suspects_file=tmp_path / "s.jsonl")
    assert changed.suspect_count == 2 and [s.row for s in changed.suspects] == [5] and written == 1
    data.unlink()
    gone, _ = finished(one)
    assert gone.suspect_count == 2 and gone.suspects == () and gone.accuracy == whole.accuracy


def test_suspects_are_pairs_again(model: Path, rewards: Any, tmp_path: Path) -> None:
    """Labels that are turned around where the model is surest are found, with their lines."""
    rows = []
    for n in range(120):
        question, answers = f"{ROWS[n % len(ROWS)][0]} {n}", (ROWS[n % len(ROWS)][1], ROWS[(n + 7) % len(ROWS)][1])
        chosen, rejected = sorted(answers, key=lambda a: -rewards(question, a))
        rows.append({"prompt": question, "chosen": chosen, "rejected": rejected, "id": n})
    surest = sorted(range(120), key=lambda n: rewards(rows[n]["prompt"], rows[n]["rejected"]) - rewards(rows[n]["prompt"], rows[n]["chosen"]))  # fmt: skip
    turned = sorted(surest[:4])
    for n in turned:
        rows[n]["chosen"], rows[n]["rejected"] = rows[n]["rejected"], rows[n]["chosen"]
    out, suspects = tmp_path / "out.jsonl", tmp_path / "suspects.jsonl"
    assert score(model, "--data", write(tmp_path / "p.jsonl", rows), "--output", out, "--suspects", suspects) in (0, 1)
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert sorted(one["line"] - 1 for one in found["suspects"]) == turned
    assert [one["id"] for one in lines(suspects)] == turned
    assert all(one["score_chosen"] < one["score_rejected"] for one in lines(suspects))
    worst = found["suspects"][0]
    assert rows[worst["row"]]["chosen"] == worst["chosen"] and rows[worst["row"]]["prompt"] == worst["prompt"]


def test_what_gets_no_reward_is_counted_and_stays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [*PAIRS[:5], {"prompt": "long", "chosen": "苹果" * 400, "rejected": ""}, {"other": 1}, *PAIRS[5:9]]
    data, output = write(tmp_path / "p.jsonl", rows), tmp_path / "out.jsonl"
    data.write_text(data.read_text("utf-8") + '\n{"prompt": "cut', encoding="utf-8")
    assert score(model, "--data", data, "--output", output, "--lang", "zh") in (0, 1)
    written = lines(output)
    assert len(written) == 11 and written[5]["score_chosen"] is None and isinstance(written[5]["score_rejected"], float)
    assert written[6] == {"other": 1}
    [found] = read_result_file(tmp_path / "out.jsonl.scores.json")["sets"]
    assert found["unscored"] == {"too_long": 1} and found["lines"]["too_long"] == [6]
    assert found["left_out"] == {"prompt_absent": 1, "cut_short": 1} and found["accuracy"]["share"]["n"] == 9
    assert "不做截断" in capsys.readouterr().out


def test_refusals_are_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from transformers import LlamaForCausalLM

    data, output = write(tmp_path / "p.jsonl", PAIRS), tmp_path / "out.jsonl"
    writer = saved(LlamaForCausalLM(llama_config(len(tiny_tokenizer()), pad_token_id=0)), tmp_path / "writer")
    two = shutil.copytree(model, tmp_path / "two")
    config = json.loads((two / "config.json").read_text())
    (two / "config.json").write_text(json.dumps(config | {"id2label": {"0": "A", "1": "B"}, "label2id": {}}))
    from safetensors.torch import load_file, save_file

    state = load_file(two / "model.safetensors")
    state["score.weight"] = torch.cat([state["score.weight"]] * 2)
    save_file(state, two / "model.safetensors", {"format": "pt"})
    nan = shutil.copytree(model, tmp_path / "nan")
    state = load_file(nan / "model.safetensors")
    state["score.weight"][0, 0] = float("nan")
    save_file(state, nan / "model.safetensors", {"format": "pt"})
    headless = shutil.copytree(model, tmp_path / "headless")
    state = load_file(headless / "model.safetensors")
    del state["score.weight"]
    save_file(state, headless / "model.safetensors", {"format": "pt"})
    capsys.readouterr()
    empty, asks = write(tmp_path / "empty.jsonl", []), write(tmp_path / "asks.jsonl", [{"prompt": "q"}])
    for path, argv, says in (
        (writer, (data,), "writes text (LlamaForCausalLM)"), (two, (data,), "id2label"), (nan, (data,), "NaN or infinity"),
        (headless, (data,), "score.weight"), (tmp_path / "nowhere", (data,), "no such file or folder"),
        (model, (empty,), "empty.jsonl"), (model, (asks,), "asks.jsonl"), (model, (tmp_path / "none.jsonl",), "none.jsonl"),
        (model, (data, "--category", "colour"), "colour"), (model, (data, "--adapter", model), "Nothing was scored"),
    ):  # fmt: skip
        assert score(path, "--output", output, "--data", *argv) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1 and says in told.err, told.err
        assert not output.exists()
    assert score(model, "--data", data, "--output", data, "--overwrite") == 2
    output.write_text("mine")
    assert score(model, "--data", data, "--output", output) == 2 and output.read_text() == "mine"
    for _ in range(2):
        assert score(model, "--data", data, "--output", output, "--overwrite") in (0, 1)
        output.unlink()  # a run that was stopped leaves one file of its own without the others


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_leaves_what_was_scored(model: Path, tmp_path: Path) -> None:
    rows = [{**PAIRS[n % len(PAIRS)], "prompt": f"{PAIRS[n % len(PAIRS)]['prompt']} {n}"} for n in range(60_000)]
    data, output, progress = write(tmp_path / "p.jsonl", rows), tmp_path / "out.jsonl", tmp_path / "progress.json"
    command = [sys.executable, "-m", "pipeline", "score", "--reward-model", str(model), "--data", str(data), "--output",
               str(output), "--device", "cpu", "--format", "json", "--progress", str(progress)]  # fmt: skip
    root = Path(__file__).resolve().parent.parent
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 600  # ends only what hangs
    while time.monotonic() < until:
        held = json.loads(progress.read_text()) if progress.exists() else {}
        if held.get("stage") == "scoring_data" and held["done"] > 200:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=600)
    assert child.returncode == 3, err
    result = json.loads(out)
    written = lines(output)
    assert result["interrupted"] and 0 < len(written) == result["sets"][0]["scored"] < 60_000
    assert all(isinstance(row["score_chosen"], float) for row in written)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_run_goes_on_to_the_same_result(model: Path, tmp_path: Path) -> None:
    rows = [{**PAIRS[n % len(PAIRS)], "prompt": f"{PAIRS[n % len(PAIRS)]['prompt']} {n}"} for n in range(6000)]
    data, output, whole = write(tmp_path / "p.jsonl", rows), tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    kept, root = tmp_path / "out.jsonl.kept-0.rows", Path(__file__).resolve().parent.parent

    def begun(place: Path, *argv: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipeline", "score", "--reward-model", str(model), "--data", str(data),
                   "--output", str(place), "--device", "cpu", *argv]  # fmt: skip
        return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    child = begun(whole)
    assert child.wait(timeout=600) in (0, 1) and not list(tmp_path.glob("*.kept-*"))
    for size, number, status in ((10_000, signal.SIGKILL, -9), (40_000, signal.SIGINT, 3)):
        child = begun(output)
        while child.poll() is None and not (kept.exists() and kept.stat().st_size > size):
            time.sleep(0.02)
        child.send_signal(number)
        _, said = child.communicate(timeout=600)
        assert child.returncode == status and kept.stat().st_size > size, said
        assert output.exists() == (number == signal.SIGINT) and (b"going on" in said) == (number == signal.SIGINT)
        with open(kept, "ab") as file:
            file.write(b'9 00000000 ["cut off by what ended the')
    child = begun(output, "--overwrite")  # as a page asks again; the rewards are the same ones
    _, said = child.communicate(timeout=600)
    assert child.returncode in (0, 1) and b"going on" in said and not kept.exists()
    assert output.read_bytes() == whole.read_bytes()
    one, other = (read_result_file(Path(f"{place}.scores.json")) for place in (output, whole))
    assert not one["interrupted"] and one["sets"][0]["accuracy"] == other["sets"][0]["accuracy"]
    child = begun(output)
    assert child.wait(timeout=600) == 2  # a whole result is not replaced


def test_kept_rewards_are_those_of_the_same_batches(model: Path, tmp_path: Path) -> None:
    data, output = write(tmp_path / "p.jsonl", PAIRS), tmp_path / "out.jsonl"
    kept = kept_place(output)

    def rewards(held: KeptRewards, path: Path = data) -> list[float]:
        with RewardScorer(load_model(open_checkpoint(str(model)), head="reward")) as scorer:
            scorer.kept = held
            [one] = score_sets(scorer, [ToScore(open_source(str(path)), "data", output)], cancel=threading.Event())
            return [*one.numbers.chosen, *one.numbers.rejected]

    first = KeptRewards(output, {"model": "a"})
    sound = rewards(first)
    first.close()
    changed = kept.read_bytes()
    lines_kept = changed.splitlines()
    assert len(lines_kept) > 1
    again = KeptRewards(output, {"model": "a"})
    assert again.found == len(lines_kept) - 1 and rewards(again) == sound
    again.close()
    assert kept.read_bytes() == changed  # nothing was scored again
    other = write(tmp_path / "other.jsonl", [{**row, "chosen": row["chosen"] + " red"} for row in PAIRS])
    held = KeptRewards(output, {"model": "a"})
    plain = KeptRewards(tmp_path / "plain.jsonl", {"model": "a"})
    assert rewards(held, other) == rewards(plain, other) != sound
    held.close()
    assert KeptRewards(output, {"model": "b"}).found == 0  # of another model
    kept.write_text("mine")
    with pytest.raises(Refused):
        KeptRewards(output, {"model": "a"})
    assert kept.read_text() == "mine" and score(model, "--data", data, "--output", output, "--overwrite") in (0, 1)
    assert not kept.exists()
