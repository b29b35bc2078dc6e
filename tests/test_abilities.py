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
from pipeline.evaluation.abilities import Answered, _Asked, above_chance, change, shown_loss, verdict
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


def _asked(*answers: tuple[bool, bool], first: int = 0) -> list[_Asked]:
    return [_Asked("", "", 0.25, first + n, {"b": Answered("", was), "a": Answered("", now)})
            for n, (was, now) in enumerate(answers)]  # fmt: skip


def test_one_ability_of_many_is_not_called_lost_by_chance() -> None:
    four, none = [(True, False)] * 4 + [(True, True)] * 12, [(True, True)] * 16
    alone = change(_asked(*four), "b", "a")
    assert alone.verdict == "lost" and alone.shown_loss == 4 / 16
    of_many = change(_asked(*four), "b", "a", of=16, together=_asked(*four, *none), of_together=8)
    assert of_many.verdict == "no_difference" and of_many.difference == alone.difference
    assert of_many.shown_loss == 9 / 16
    # the same loss in both languages is none by chance
    both = change(_asked(*four), "b", "a", of=16, together=_asked(*four, *four), of_together=8)
    assert both.verdict == "lost"
    nine = [(True, False)] * 9 + [(True, True)] * 7
    assert change(_asked(*nine), "b", "a", of=16).verdict == "lost"
    assert shown_loss(256) == 4 / 256 and shown_loss(4, 16) is None


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
    assert "合计损失 6.2 个百分点以上" in out
    first = (tmp_path / "r.rows.jsonl").read_bytes()
    again = _run(capsys, *argv, "--max-samples", "4")[1]
    assert ": 16, in abilities: 4" in again
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


def _written(folder: Path, task: str, *lines: Any) -> Path:
    """As lm-evaluation-harness 0.4.13 names and writes its samples."""
    place = folder / "__models__one"
    place.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    (place / f"samples_{task}_2026-01-01T08-06-43.846554.jsonl").write_text(text, encoding="utf-8")
    return folder


def _choice_sample(document: int, scores: list[float], options: list[str], right: int, **more: Any) -> dict[str, Any]:
    asked = f"frage {document % 100}\n"
    return {"doc_id": document, "doc": {"question": asked.strip(), "options": options}, "target": str(right),
            "arguments": {f"gen_args_{n}": {"arg_0": asked, "arg_1": text} for n, text in enumerate(options)},
            "resps": [[[str(score), "False"]] for score in scores],
            "filtered_resps": [[str(score), "False"] for score in scores], "filter": "none",
            "metrics": ["acc", "acc_norm"], "doc_hash": f"h{document % 100}",
            "acc": float(scores.index(max(scores)) == right), **more}  # fmt: skip


def test_samples_of_lm_eval_are_paired_by_document(tmp_path: Path) -> None:
    options = ["volleyball", "tea"]
    before, _ = read_samples(_written(
        tmp_path / "a", "my_task", _choice_sample(0, [-8.5, -2.4], options, 1),
        _choice_sample(1, [-1.0, -2.0], options, 1), _choice_sample(2, [-1.0, -2.0], options, 1, acc=0.5),
        # the same question again, and one answered by its length: 5.0 / 10 letters is more than 3.0 / 3
        _choice_sample(100, [-1.0, -2.0], options, 1), _choice_sample(4, [-5.0, -3.0], options, 0, acc_norm=1.0),
        '{"doc_id": 5, "cut',
    ))  # fmt: skip
    after, untold = read_samples(_written(
        tmp_path / "b", "my_task", _choice_sample(1, [-2.0, -1.0], options, 1),
        _choice_sample(0, [-1.0, -3.0], options, 1), _choice_sample(3, [-1.0, -2.0], options, 0),
        _choice_sample(100, [-2.0, -1.0], options, 1), _choice_sample(4, [-9.0, -1.0], options, 0, acc_norm=0.0),
    ))  # fmt: skip
    made = paired("my_task", {"a": before["my_task"], "b": after["my_task"]})
    assert made is not None and untold == {}
    assert (made.questions, made.chance) == (["frage 0", "frage 1", "frage 0", "frage 4"], 0.5)
    assert made.expected == ["tea", "tea", "tea", "volleyball"]
    assert [one.right for one in made.answers["a"]] == [True, False, False, True]
    assert [one.answer for one in made.answers["a"]] == ["tea", "volleyball", "volleyball", "volleyball"]
    assert [(one.answer, one.right) for one in made.answers["b"]] == [
        ("volleyball", False), ("tea", True), ("tea", True), ("tea", False)]  # fmt: skip


def test_of_several_filters_of_lm_eval_the_one_that_reads_most_answers_counts(tmp_path: Path) -> None:
    def sample(document: int, name: str, said: str, right: float) -> dict[str, Any]:
        request = {"arg_0": "1加1等于几？\n", "arg_1": {"until": ["\n"], "max_gen_toks": 24, "do_sample": False}}
        return {"doc_id": document, "doc": {"question": "1加1等于几？", "answer": "2"}, "target": "2",
                "arguments": {"gen_args_0": request}, "resps": [["1加1等于2。"]], "filtered_resps": [said],
                "filter": name, "metrics": ["exact_match"], "doc_hash": "same", "exact_match": right}  # fmt: skip

    strict = [sample(n, "strict-match", "[invalid]", 0.0) for n in range(2)]
    read, _ = read_samples(_written(tmp_path, "sums", *strict, *(sample(n, "flexible", "2", 1.0) for n in range(2))))
    made = paired("sums", {"a": read["sums"], "b": read["sums"]})
    assert made is not None and made.chance == 0 and made.expected == ["2", "2"]
    assert [(one.answer, one.right) for one in made.answers["b"]] == [("2", True)] * 2
    assert paired("sums", {"a": read["sums"], "b": {}}) is None


def test_what_lm_eval_does_not_call_right_or_wrong_is_left_out_and_an_option_may_stand_within(tmp_path: Path) -> None:
    begins = "It was late because the "
    within = {"doc_id": 0, "doc": {"sentence": begins + "_ was slow."}, "target": "was slow.",
              "arguments": {f"gen_args_{n}": {"arg_0": begins + one, "arg_1": " was slow."}
                            for n, one in enumerate(("bus", "dog"))},
              "filtered_resps": [["-51.4", "False"], ["-54.8", "False"]], "filter": "none", "metrics": ["acc"],
              "doc_hash": "h", "acc": 1.0}  # fmt: skip
    _written(tmp_path, "chrf_task", {"doc_id": 0, "filter": "none", "metrics": ["chrf"], "chrf": ["2", "1加1等于2。"]})
    read, untold = read_samples(_written(tmp_path, "wino_task", within))
    assert untold == {"chrf_task": 1} and list(read) == ["wino_task"]
    made = paired("wino_task", {"a": read["wino_task"], "b": read["wino_task"]})
    assert made is not None and made.chance == 0.5
    assert (made.expected, made.answers["a"][0].answer) == ([begins + "bus"], begins + "bus")


def test_lm_eval_gets_short_names_for_folders_whose_own_it_would_split(demo: DemoFolder, tmp_path: Path) -> None:
    import os

    from pipeline.checkpoint import open_checkpoint
    from pipeline.evaluation.adapters_on_base import Placed
    from pipeline.evaluation.lm_eval_tasks import command

    odd = tmp_path / "run=1,dtype=float16"
    odd.symlink_to(demo.root / "healthy_decoder")
    place = tmp_path / "place"
    place.mkdir()
    adapter = open_checkpoint(str(demo.root / "healthy_decoder_lora"))
    placed = Placed("a", open_checkpoint(str(odd)), adapter, "shared")
    argv = command(["x", "y"], placed, place, device="cpu", folder="mine", limit=3)
    told = dict(one.split("=") for one in argv[argv.index("--model_args") + 1].split(","))
    assert os.path.samefile(told["pretrained"], demo.root / "healthy_decoder")
    assert os.path.samefile(told["peft"], demo.root / "healthy_decoder_lora")
    assert set(told) <= {"pretrained", "peft", "tokenizer"} and argv[-4:] == ["--include_path", "mine", "--limit", "3"]


_TASK = """task: demo_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
doc_to_text: "{{{{question}}}}\\n"
doc_to_target: answer
target_delimiter: ""
metadata: {{version: 1.0}}
"""
_AS_CHOICE = """output_type: multiple_choice
doc_to_choice: options
metric_list: [{metric: acc_norm, aggregation: mean, higher_is_better: true}]
"""
_AS_TEXT = """output_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def test_tasks_of_lm_eval_before_and_after(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "asked.jsonl"
    chosen = [_choice(one) for one in all_questions() if one.task == "kind"][::12]
    for one in chosen:
        one["answer"] = one["options"].index(one["answer"])
    file.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in chosen), encoding="utf-8")
    (tmp_path / "choice.yaml").write_text(_TASK.format(name="choice", file=file) + _AS_CHOICE)
    (tmp_path / "text.yaml").write_text(_TASK.format(name="text", file=file).replace("answer", '"{{options[answer]}}"')
                                        + _AS_TEXT)  # fmt: skip
    healthy, output = str(demo.root / "healthy_decoder"), tmp_path / "r.json"
    argv = ["--before", healthy, "--after", str(demo.root / "undertrained_decoder"), "--after",
            f"lora={demo.root / 'healthy_decoder_lora'}", "--abilities", "none", "--output", str(output),
            "--lm-eval-folder", str(tmp_path)]  # fmt: skip
    status, out, err = _run(capsys, *argv, "--lm-eval", "demo_choice,demo_tex")
    assert (status, out) == (2, "") and "did you mean demo_text?" in err and not output.exists()
    _run(capsys, *argv, "--lm-eval", "demo_choice", "--lm-eval", "demo_text")
    result = json.loads(output.read_bytes())
    assert [(one["name"], one["source"], one["n"]) for one in result["abilities"]] == [
        (name, "lm_eval", len(chosen)) for name in ("demo_choice", "demo_text")]  # fmt: skip
    assert all(set(one["scores"]) == {"healthy_decoder", "undertrained_decoder", "lora"} for one in result["abilities"])
    assert result["abilities"][0]["chance"] == pytest.approx(0.25, abs=0.02)
    assert result["abilities"][0]["scores"]["healthy_decoder"]["value"] > 0.5
    for line in (tmp_path / result["rows_file"]).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for model, right in row["right"].items():  # what is shown and what is counted say the same
            assert (row["answers"][model] == row["expected"]) is right, row


def test_an_adapter_stands_on_its_own_base_beside_another_model(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's adapter was trained on the base; on the whole model, which has learned the same, it would be another
    model."""
    own, scores = tmp_path / "own.jsonl", []
    own.write_text("\n".join(json.dumps(_choice(one)) for one in all_questions()[::40]))
    base, healthy, adapter = (demo.root / name for name in ("base_decoder", "healthy_decoder", "healthy_decoder_lora"))
    for before, more in ((base, ()), (healthy, ()), (healthy, ("--base", str(healthy)))):
        output = tmp_path / f"{len(scores)}.json"
        _run(capsys, "--before", str(before), "--after", f"lora={adapter}", "--abilities", "none", "--items", str(own),
             "--output", str(output), *more)  # fmt: skip
        rows = output.with_suffix(".rows.jsonl").read_text(encoding="utf-8").splitlines()
        scores.append([number for row in rows for number in json.loads(row)["scores"]["lora"]])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert max(abs(one - other) for one, other in zip(scores[0], scores[2], strict=True)) > 0.01


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
