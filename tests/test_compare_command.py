"""`python -m pipeline compare` on files and on the demo's models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import all_questions, is_right

SHORT = ["--max-new-tokens", "24", "--format", "json"]


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any, str]:
    status = main(["compare", *argv])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out.startswith("{") else out, err


def test_a_worse_checkpoint_is_worse_as_counting_right_answers_says(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, prompts = tmp_path / "r.json", demo.root / "data" / "held_out.jsonl"
    argv = ["--before", str(demo.root / "healthy_decoder"), "--after", str(demo.root / "undertrained_decoder"),
            "--prompts", str(prompts), "--output", str(output), "--check", "demo", *SHORT]  # fmt: skip
    status, result, _ = _run(capsys, *argv)
    assert (status, result["verdict"], result["decided_by"]) == (1, "worse", "task")
    questions = {one.prompt: one for one in all_questions()}
    right = dict.fromkeys(("healthy_decoder", "undertrained_decoder"), 0)
    for line in (tmp_path / "r.rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        own = row["measures"]["undertrained_decoder"]
        assert own["implicit_reward"] * own["kl_per_token"] >= 0  # both are of the same log ratio
        assert own["kl_k3_per_token"] > -1e-9
        for name, answer in row["answers"].items():
            right[name] += is_right(questions[row["prompt"]], answer)
    task = result["contests"][0]
    assert task["n"] == 134
    assert task["losses"] - task["wins"] == right["healthy_decoder"] - right["undertrained_decoder"]
    measures = {one["name"]: one for one in result["measures"]}
    assert measures["kl_per_token"]["after"]["n"] == measures["kl_k3_per_token"]["after"]["n"] == 134
    assert measures["kl_k3_per_token"]["difference"]["low"] > 0
    # each answer is the likeliest of the model that wrote it, so the margin is positive
    assert measures["implicit_reward"]["difference"]["mean"] > 0

    again = _run(capsys, *argv, "--no-likelihoods")[1]
    assert again["decoding"]["reused"] == ["healthy_decoder", "undertrained_decoder"]
    assert again["contests"] == result["contests"]
    shorter = _run(capsys, *argv, "--no-likelihoods", "--max-new-tokens", "8", "--max-samples", "20")[1]
    assert shorter["decoding"]["reused"] == []


def test_an_answer_is_as_likely_as_what_was_written_its_end_included(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The undertrained model ends with <|endoftext|>, the healthy one with <|im_end|>; both are stop ids of both."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    healthy, undertrained = (str(demo.root / name) for name in ("healthy_decoder", "undertrained_decoder"))
    argv = ["--before", healthy, "--after", undertrained, "--prompts", str(demo.root / "data" / "held_out.jsonl"),
            "--max-samples", "12", "--output", str(tmp_path / "r.json"), *SHORT]  # fmt: skip
    result = _run(capsys, *argv)[1]
    tokenizer = AutoTokenizer.from_pretrained(healthy)
    models = [AutoModelForCausalLM.from_pretrained(path).eval() for path in (healthy, undertrained)]
    ends, compared = set(), 0
    for line in (tmp_path / "r.rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        text = tokenizer.apply_chat_template([{"role": "user", "content": row["prompt"]}], add_generation_prompt=True,
                                             tokenize=False)  # fmt: skip
        asked = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        ratios = []
        for model, name in zip(models, ("healthy_decoder", "undertrained_decoder"), strict=True):
            with torch.no_grad():
                whole = model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=24)
                wrote = whole[0, asked.shape[1] :]
                logs = [torch.log_softmax(one(whole).logits[0, asked.shape[1] - 1 : -1], -1) for one in models]
            old, new = (float(log.gather(1, wrote[:, None]).sum()) for log in logs)
            again = tokenizer(row["answers"][name], add_special_tokens=False).input_ids
            ratios.append((new - old, len(wrote), again == wrote[:-1].tolist()))
            ends.add((name, int(wrote[-1])))
        (first, _, alike), (ratio, length, same) = ratios
        if alike and same:  # what was read from a text has other tokens now and then
            compared += 1
            before, after = (row["measures"][name] for name in ("healthy_decoder", "undertrained_decoder"))
            assert after["kl_per_token"] == pytest.approx(ratio / length, abs=1e-4)
            assert after["implicit_reward"] == pytest.approx(0.1 * ratio, abs=1e-4)
            assert before["implicit_reward"] == pytest.approx(0.1 * first, abs=1e-4)
    assert compared >= 8 and len(ends) == 2 == len({end for _, end in ends})
    measures = {one["name"]: one for one in result["measures"]}
    assert 0 < measures["kl_k3_per_token"]["after"]["mean"] < 7.4  # log of the vocabulary


def test_a_model_with_a_name_of_its_own_leaves_the_others_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _file(tmp_path / "old.jsonl", [{"prompt": f"p{i}", "response": "no", "label": "yes"} for i in range(20)])
    result = _run(capsys, "--before", before, "--after", f"same={before}", "--format", "json")[1]
    assert [one["name"] for one in result["models"]] == ["old", "same"]


def test_an_adapter_whose_base_is_gone_stands_on_that_of_before_and_it_is_said(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`compare` and `abilities` put the same models together."""
    moved = shutil.copytree(demo.root / "healthy_decoder_lora", tmp_path / "lora")
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/someones-base"}))
    prompts, before = str(demo.root / "data" / "held_out.jsonl"), ["--before", str(demo.root / "base_decoder")]
    _, result, said = _run(capsys, *before, "--after", f"lora={moved}", "--prompts", prompts, "--max-samples", "6", *SHORT,
                           "--output", str(tmp_path / "r.json"))  # fmt: skip
    assert result["contests"][0]["n"] > 0 and "/gone/someones-base" in said
    assert "/gone/someones-base" in str(result["decoding"]["remarks"])
    answers = [json.loads(line)["response"] for line in (tmp_path / "r.lora.answers.jsonl").read_text().splitlines()]
    own = ["--before", str(demo.root / "healthy_decoder"), "--after", str(demo.root / "healthy_decoder_lora")]
    _run(capsys, *own, "--prompts", prompts, "--max-samples", "6", *SHORT, "--output", str(tmp_path / "own.json"))
    place = tmp_path / "own.healthy_decoder_lora.answers.jsonl"  # on the base its files name, here the same one
    assert [json.loads(line)["response"] for line in place.read_text().splitlines()] == answers
    assert main(["abilities", *before, "--after", str(moved), "--abilities", "facts", "--max-samples", "2",
                 "--output", str(tmp_path / "a.json"), "--format", "json"]) in (0, 1)  # fmt: skip
    assert "/gone/someones-base" in capsys.readouterr().err
    written = _file(tmp_path / "f.jsonl", [{"prompt": "1 + 1 =", "response": "2"}])
    status, _, said = _run(capsys, "--before", written, "--after", str(moved))  # nothing to put it on
    assert status == 2 and "/gone/someones-base" in said


def _file(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_the_account_says_who_is_better_in_both_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"p{i}", "label": "yes"} for i in range(20)]
    before = _file(tmp_path / "old.jsonl", [{**row, "response": "no"} for row in rows])
    after = _file(tmp_path / "new.jsonl", [{**row, "response": "yes"} for row in rows[:18]])
    status, said, _ = _run(capsys, "--before", before, "--after", after)
    assert status == 0
    assert "new is BETTER than old" in said
    assert "2 only before" in said
    assert (tmp_path / "new.comparison.json").is_file()
    assert (tmp_path / "new.comparison.rows.jsonl").is_file()
    assert "new 比 old 更好" in _run(capsys, "--before", before, "--after", after, "--lang", "zh")[1]


def test_the_account_says_what_was_not_judged_and_how_rows_were_matched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {3: "a text of more than a few words that nobody can check"}
    rows = [{"label": texts.get(i, str(i)), "response": str(i)} for i in range(20)]
    rows[5]["label"] = ""
    before = _file(tmp_path / "old.jsonl", [{"id": i, **row} for i, row in enumerate(rows)])
    after = _file(tmp_path / "new.jsonl", [{"id": i, **row} for i, row in enumerate(rows, 1)])
    said = _run(capsys, "--before", before, "--after", after)[1]
    assert "numbered from 0 in one file and from 1 in the other" in said
    assert ("new: answers that could not be judged by task check: 2: the right answer is a text that can't be checked 1, "
            "no right answer 1") in said  # fmt: skip
    said = _run(capsys, "--before", before, "--after", after, "--lang", "zh", "--check", "exact_answer")[1]
    assert "编号" in said and "new：1 个回答无法由任务检查判定：没有正确答案 1" in said
    whole = _file(tmp_path / "w.jsonl", [row for i, row in enumerate(rows) if i not in (3, 5)])
    assert "could not be judged" not in _run(capsys, "--before", whole, "--after", f"x={whole}")[1]


@pytest.mark.parametrize(
    ("after", "more", "says"),
    [
        ([{"prompt": "other", "response": "x"}], [], "not one prompt in common"),
        ([{"prompt": "p", "words": "x"}], [], "--column answer=NAME"),
        ([{"response": "x"}, {"response": "y"}], [], "1 before, 2 after"),
        ([{"prompt": "p", "response": "x"}], ["--samples", "4"], "--temperature"),
        ([{"prompt": "p", "response": "x"}], ["--check", "nonsense"], "nonsense"),
        ([{"prompt": "p", "response": "x"}], ["--after", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    after: list[Any], more: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _file(tmp_path / "b.jsonl", [{"prompt": "p", "response": "x"}])
    status, _, err = _run(capsys, "--before", before, "--after", _file(tmp_path / "a.jsonl", after), *more)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_comparison_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [_file(tmp_path / f"{n}.jsonl", [{"prompt": "p", "response": n}]) for n in "ba"]
    kept = tmp_path / "notes.json"
    kept.write_text('{"mine": 1}')
    argv = ["--before", files[0], "--after", files[1], "--output", str(kept)]
    assert _run(capsys, *argv)[0] == 2
    assert kept.read_text() == '{"mine": 1}'


def _stopped_at(stage: str, progress: Path, argv: list[str]) -> int:
    """Exit status of a comparison that gets Ctrl-C in its first step of that stage."""

    def stop() -> None:
        while not done.wait(0.01):
            with suppress(OSError, ValueError):
                state = json.loads(progress.read_text())
                if state["stage"] == stage and state["done"]:
                    os.kill(os.getpid(), signal.SIGINT)
                    return

    done = threading.Event()
    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        return main(["compare", *argv, "--progress", str(progress)])
    finally:
        done.set()
        watcher.join()


def test_ctrl_c_keeps_what_was_answered(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    argv = ["--before", str(demo.root / "healthy_decoder"), "--after", str(demo.root / "undertrained_decoder"),
            "--prompts", str(demo.root / "data" / "held_out.jsonl"), "--output", str(output), "--max-samples", "40",
            "--max-new-tokens", "12"]  # fmt: skip
    assert _stopped_at("answering", tmp_path / "p", [*argv, "--batch-size", "1", "--no-likelihoods"]) == 3
    err = capsys.readouterr().err
    assert "stopped before there was anything to compare" in err and str(output) in err
    assert not output.exists()
    kept = len((tmp_path / "r.healthy_decoder.answers.jsonl").read_text().splitlines())
    assert 0 < kept < 40
    assert _stopped_at("likelihoods", tmp_path / "p2", argv) == 3
    said = capsys.readouterr().out
    result = json.loads(output.read_text())
    assert result["interrupted"]
    # What was answered by then is checked all the same.
    assert [one["by"] for one in result["contests"]] == ["task"]
    assert "NO VERDICT" not in said
    again = _run(capsys, *argv, "--format", "json")[1]
    assert again["decoding"]["reused"][0] == "healthy_decoder"
    assert not again["interrupted"]
