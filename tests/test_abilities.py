"""Abilities before and after: the built-in items, files of one's own, figures, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.commands.abilities_account import account_text
from pipeline.config_files import load_config
from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import Question, all_questions, right_answers
from pipeline.evaluation.abilities import above_chance, verdict
from pipeline.evaluation.ability_items import LANGS, ability_names, built_in_items, plain_question, read_items
from pipeline.evaluation.lm_eval_tasks import paired, read_samples
from pipeline.evaluation.results import Difference
from pipeline.refusal import Refused


def test_built_in_items_are_sound_and_alike_in_both_languages() -> None:
    items = built_in_items()
    held = {(lang, name): [one for one in items if (one.lang, one.ability) == (lang, name)]
            for lang in LANGS for name in ability_names()}  # fmt: skip
    assert {len(one) for one in held.values()} == {16}
    assert len({(one.question, one.lang) for one in items}) == len(items)
    for item in items:
        assert item.options[item.right] == item.answer
        assert len(set(item.options)) == 4 and all(item.options), item
        # of two options of which one begins with the other, likelihood prefers the shorter or the longer by itself
        assert not any(a != b and b.startswith(a) for a in item.options for b in item.options), item
    assert {item.right for item in items} == {0, 1, 2, 3}
    for lang in LANGS:
        assert set(load_config(f"words/{lang}/evaluation.yaml")["abilities"]["names"]) == set(ability_names())
        assert set(load_config(f"words/{lang}/interface.yaml")["abilities_names"]) == set(ability_names())
    chinese = [one for one in items if one.lang == "zh"]
    assert plain_question(chinese[0]).endswith("\n答案：") and plain_question(items[0]).endswith("\nAnswer:")


def test_arithmetic_answers_are_what_python_computes() -> None:
    import re

    signs = {"plus": "+", "加": "+", "minus": "-", "减": "-", "times": "*", "乘以": "*", "divided by": "//", "除以": "//"}
    seen = 0
    for item in built_in_items(["arithmetic"]):
        told = re.fullmatch(r"(?:What is )?(\d+) ?(plus|minus|times|divided by|加|减|乘以|除以) ?(\d+)\D*", item.question)
        if told:
            seen += 1
            assert str(eval(f"{told[1]}{signs[told[2]]}{told[3]}")) == item.answer  # noqa: S307
    assert seen == 14


def test_code_answers_are_what_python_prints(capsys: pytest.CaptureFixture[str]) -> None:
    seen = 0
    for item in built_in_items(["code"]):
        question, _, code = item.question.partition("\n")
        if question.startswith(("What does", "下面的 Python 输出")):
            exec(code, {})  # noqa: S102
            assert capsys.readouterr().out.strip() == item.answer
            seen += 1
    assert seen == 24


ROWS: tuple[dict[str, Any], ...] = (
    {"question": "a?", "options": ["x", "y", "z"], "answer": "y", "category": "mine"},
    {"question": "b?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
    {"question": "c?", "A": "x", "B": "y", "C": "z", "D": "w", "answer": "C", "lang": "en"},
    {"question": "d?", "options": "x|y|z", "answer": 0},
    {"question": "e?", "options": ["3", "0", "1"], "answer": "1"},
    {"question": "How much is 2 plus 3?", "answer": "5"},
    {"question": "no such option", "options": ["x", "y"], "answer": "neither"},
    {"question": "Write about it.", "answer": "It was a long day, and nobody knew how it would end for those who stayed."},
    {"question": "nothing is right"},
    {"options": ["x", "y"], "answer": "x"},
)  # fmt: skip


def test_a_file_may_name_options_and_answers_in_every_usual_way(tmp_path: Path) -> None:
    path = tmp_path / "own.set.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n{broken\n", encoding="utf-8")
    read = read_items(path, first=7)
    assert [(one.answer, one.right) for one in read.items] == [
        ("y", 1), ("y", 1), ("z", 2), ("x", 0), ("1", 2), ("5", -1)]  # fmt: skip
    assert [one.number for one in read.items] == list(range(7, 13))
    assert [one.ability for one in read.items] == ["mine", *["own"] * 5]
    assert [one.chance for one in read.items][:2] == [1 / 3, 1 / 2] and read.items[-1].chance == 0
    assert read.left_out["no_right_answer"] == 2 and read.left_out["cannot_check"] == 1
    assert read.left_out["no_text"] == 1 and sum(read.left_out.values()) == 5

    table = tmp_path / "own.csv"
    table.write_text('问题,选项,答案\n一加一？,"[""二"", ""三""]",二\n', encoding="gb18030")
    assert read_items(table).items[0].options == ("二", "三")
    assert len(read_items(path, most=2).items) == 4  # of each ability and language
    path.write_text('{"question": "?", "options": ["x"], "answer": "neither is there, nor could it be checked"}')
    with pytest.raises(Refused) as refused:
        read_items(path)
    assert "cannot_check 1" in refused.value.said("en")


def test_verdicts() -> None:
    assert not above_chance(7, 16, 0.25) and above_chance(8, 16, 0.25)
    assert not above_chance(0, 16, 0.0) and above_chance(1, 16, 0.0) and not above_chance(0, 0, 0.5)
    down, up = Difference(-0.4, -0.6, -0.1, 16), Difference(0.4, 0.1, 0.6, 16)
    level, wide = Difference(0.0, -0.19, 0.19, 16), Difference(0.0, -0.24, 0.24, 16)
    assert verdict(down, True, True) == "lost" and verdict(down, False, False) == "cannot_tell"
    assert verdict(up, False, True) == "gained" and verdict(up, False, False) == "cannot_tell"
    assert verdict(level, True, True) == "kept" and verdict(wide, True, True) == "no_difference"
    assert verdict(level, True, True, whole=True) == "no_difference"


# --- the command -------------------------------------------------------------------------------------------------


def _choice(question: Question) -> dict[str, Any]:
    """A question of the demo with wrong answers of the same kind."""
    others = [one for one in all_questions() if (one.task, one.language) == (question.task, question.language)]
    right = right_answers(question)
    wrong = list(dict.fromkeys(right_answers(one)[0] for one in others if one.wanted != question.wanted))
    picked = [one for one in wrong if not one.startswith(right[0]) and not right[0].startswith(one)][:3]
    return {"question": question.prompt, "options": [picked[0], right[0], *picked[1:]], "answer": right[0],
            "category": question.task, "lang": question.language}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.jsonl"
    rows = [_choice(one) for one in all_questions() if one.task in ("translate", "kind")][::12]
    written = [{"question": one.prompt, "answer": list(right_answers(one)), "category": "written"}
               for one in all_questions() if one.task == "translate"][::7]  # fmt: skip
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in (*rows, *written)), encoding="utf-8")
    return path


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["abilities", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_what_an_undertrained_model_lacks_is_lost(
    demo: DemoFolder, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, progress = tmp_path / "r.json", tmp_path / "progress.json"
    healthy, undertrained = str(demo.root / "healthy_decoder"), str(demo.root / "undertrained_decoder")
    status, out, _ = _run(
        capsys, "--before", healthy, "--after", undertrained, "--after", f"SAME={healthy}", "--items", str(own),
        "--abilities", "none", "--output", str(output), "--progress", str(progress), "--format", "json",
    )  # fmt: skip
    result = json.loads(out)
    assert status == 1 and result["report"]["verdict"] == "problems"
    assert {one["code"] for one in result["report"]["findings"] if one["severity"] == "error"} == {"CMP030"}
    assert result["overall"]["undertrained_decoder"]["difference"]["mean"] < 0
    assert result["overall"]["SAME"]["verdict"] == "kept" and result["overall"]["SAME"]["difference"]["mean"] == 0
    found = {one["name"]: [change["verdict"] for change in one["changes"]] for one in result["abilities"]}
    # it says other things, and yet finds the right one likelier: the pre-training left it that
    assert found["written"] == ["lost", "kept"]
    assert "lost" not in found["translate"] + found["kind"]
    assert json.loads(output.read_bytes())["abilities"] == result["abilities"]
    assert json.loads(progress.read_text())["stage"] == "diagnosing"

    rows = [json.loads(line) for line in (tmp_path / result["rows_file"]).read_text(encoding="utf-8").splitlines()]
    assert len(rows) == sum(one["n"] for one in result["abilities"])
    for ability in result["abilities"]:
        mine = [one for one in rows if (one["ability"], one["lang"]) == (ability["name"], ability["lang"])]
        right = [one["right"]["healthy_decoder"] for one in mine]
        assert ability["scores"]["healthy_decoder"]["value"] == pytest.approx(sum(right) / len(right))
        for item in ability["lost_items"]:
            row = rows[item["item"]]
            assert (row["prompt"], row["expected"]) == (item["prompt"], item["expected"])
            assert row["answers"]["healthy_decoder"] == item["before"] != item["answer"]
    assert all(one["answers"]["SAME"] == one["answers"]["healthy_decoder"] for one in rows)


def test_a_model_at_chance_has_nothing_to_lose_and_options_count_by_themselves(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--before", str(demo.root / "undertrained_decoder"), "--after", str(demo.root / "healthy_decoder"),
            "--abilities", "arithmetic,code", "--output", str(tmp_path / "r.json")]  # fmt: skip
    status, out, err = _run(capsys, *argv, "--lang", "zh")
    assert status == 0 and "算术 (zh)" in out and "无从判断" in out and "CMP031" in out, err
    first = (tmp_path / "r.rows.jsonl").read_bytes()
    again = _run(capsys, *argv, "--max-samples", "4")[1]
    assert "16 questions of 4 abilities" in again
    four = [json.loads(line)["scores"] for line in (tmp_path / "r.rows.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in first.decode().splitlines()]
    kept = [one["scores"] for at, one in enumerate(whole) if at % 16 < 4]
    for left, right in zip(four, kept, strict=True):  # the batches differ, so the last digits may
        for model in left:
            assert left[model] == pytest.approx(right[model], abs=1e-4)


@pytest.mark.parametrize(("more", "said"), [
    (["--abilities", "arithmetics"], "did you mean arithmetic?"),
    (["--abilities", "none"], "nothing is left to ask"),
    (["--items", "missing.jsonl"], "--items"),
    (["--output", "folder"], "folder"),
    (["--output", "taken.json"], "no result of abilities"),
    (["--max-samples", "0"], "--max-samples"),
    (["--after", "http://127.0.0.1:9/v1"], "compare takes servers"),
    (["--after", "healthy_decoder=nowhere"], "nowhere"),
])  # fmt: skip
def test_what_cannot_be_asked_is_one_line(
    more: list[str], said: str, demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken.json").write_text("{}")
    model = str(demo.root / "healthy_decoder")
    status, out, err = _run(capsys, "--before", model, "--after", model, *more)
    assert (status, out) == (2, "") and err.count("\n") == 1 and said in err
    assert (tmp_path / "taken.json").read_text() == "{}"


def test_lm_eval_says_how_to_install_it_where_it_is_not(demo: DemoFolder, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    if importlib.util.find_spec("lm_eval") is not None:
        pytest.skip("it is installed")
    model = str(demo.root / "healthy_decoder")
    status, out, err = _run(capsys, "--before", model, "--after", model, "--lm-eval", "hellaswag")
    assert (status, out) == (2, "") and "pip install lm-eval" in err and err.count("\n") == 1


def test_samples_of_lm_eval_are_paired_by_document(tmp_path: Path) -> None:
    def sample(document: int, right: float, likelier: int, **more: Any) -> dict[str, Any]:
        return {"doc_id": document, "doc": {"question": f"q{document}"}, "target": 1, "doc_hash": f"h{document}",
                "arguments": {f"gen_args_{n}": {"arg_0": "q", "arg_1": f" o{n}"} for n in range(2)},
                "filtered_resps": [["-2.0" if n != likelier else "-1.0", "False"] for n in range(2)],
                "acc": right, "acc_norm": right, "filter": "none", **more}  # fmt: skip

    held = {}
    for model, samples in (("a", [sample(0, 1.0, 1), sample(1, 0.0, 0), sample(2, 0.5, 0)]),
                           ("b", [sample(1, 1.0, 1), sample(0, 0.0, 0), sample(3, 1.0, 1)])):  # fmt: skip
        place = tmp_path / model / "pretrained__x"
        place.mkdir(parents=True)
        lines = [*map(json.dumps, samples), "{cut"]
        (place / "samples_my_task_2026-01-01T00-00-00.1.jsonl").write_text("\n".join(lines))
        held[model] = read_samples(tmp_path / model)["my_task"]
    made = paired("my_task", held)
    assert (made.questions, made.expected, made.chance) == (["q0", "q1"], ["o1", "o1"], 0.5)
    assert [one.right for one in made.answers["a"]] == [True, False]
    assert [(one.answer, one.right) for one in made.answers["b"]] == [("o0", False), ("o1", True)]


def test_an_interrupt_leaves_what_was_done(demo: DemoFolder) -> None:
    import threading

    from pipeline.checkpoint import open_checkpoint
    from pipeline.evaluation.abilities import Abilities
    from pipeline.evaluation.adapters_on_base import ModelsOnBase

    cancel = threading.Event()

    def told(stage: str, model: str, done: int, total: int) -> None:
        if model == "b" and done >= 4:
            cancel.set()

    models = ModelsOnBase(open_checkpoint(str(demo.root / "healthy_decoder")),
                          [open_checkpoint(str(demo.root / "undertrained_decoder"))], names=["a", "b"])  # fmt: skip
    asked = Abilities(models, ["a", "b"], built_in_items(["facts", "code"], most=4), max_new_tokens=8, told=told)
    asked.run(cancel=cancel)
    result = asked.result()
    assert result.interrupted and asked.comparable
    assert [one.changes[0].difference is not None for one in result.abilities] == [True, False, False, False]
    assert {one.changes[0].verdict for one in result.abilities[1:]} == {"cannot_tell"}
    assert "interrupted" in account_text(result, "en") and "已中断" in account_text(result, "zh")
