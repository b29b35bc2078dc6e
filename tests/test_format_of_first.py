"""compare and replay ask all models in one format, the one that `generate` takes for the first of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_answering_models import train, write_rows

from pipeline.__main__ import main
from pipeline.candidates.prompting import choose_prompting
from pipeline.checkpoint import open_checkpoint
from pipeline.evaluation.format_of_first import FormatOfFirst, FormatTaken, formats_said, template_of
from pipeline.evaluation.replay_cases import read_cases
from pipeline.load_model import load_model
from pipeline.prompt_formats import Variant


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that declare the same template; only `declared` was trained on it."""
    folder = tmp_path_factory.mktemp("models")
    train(folder / "declared", "llama", steps=45)
    train(folder / "another", "llama", steps=45, prompt="Human: {}\n\nAssistant: ")
    write_rows(folder / "prompts.json")
    return folder


def _of_generate(folder: Path, prompts: Path) -> FormatTaken:
    checkpoint = open_checkpoint(str(folder))
    rows = [case.row for case in read_cases(prompts).cases]
    with choose_prompting(load_model(checkpoint), checkpoint, rows) as prompting:
        return FormatTaken(prompting.label, prompting.name, prompting.variant, template_of(checkpoint))


def test_both_commands_take_what_generate_takes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other, prompts = "declared", "another", trained / "prompts.json"
    wanted, alone = (_of_generate(trained / name, prompts) for name in (first, other))
    assert wanted.template == alone.template and wanted.label != alone.label
    few = ["--max-new-tokens", "2", "--device", "cpu"]
    paths = [str(trained / name) for name in (first, other)]
    compared = ["compare", "--before", paths[0], "--after", paths[1], "--prompts", str(prompts), "--output",
                str(tmp_path / "c.json"), "--no-likelihoods", *few]  # fmt: skip
    main(compared)
    assert f"asked in: {wanted.label}: {first}, {other}" in capsys.readouterr().out
    main(["replay", "--model", paths[0], "--also", paths[1], "--cases", str(prompts), "--output",
          str(tmp_path / "r.json"), "--greedy", *few])  # fmt: skip
    assert f"asked in: {wanted.label}: {first}, {other}" in capsys.readouterr().out
    both = {first: wanted.label, other: wanted.label}
    decoding = json.loads((tmp_path / "c.json").read_text())["decoding"]
    assert decoding["prompt_formats"] == both
    replayed = json.loads((tmp_path / "r.json").read_text())
    assert replayed["decoding"]["prompt_format"] == both
    texts = {(row["case"], row["model"]): row["answer"] for row in replayed["rows"]}
    for number, line in enumerate((tmp_path / f"c.{other}.answers.jsonl").read_text().splitlines()):
        assert json.loads(line)["response"] == texts[number, other]

    # The answers of `other` were made in the format of `first`; now it comes first itself.
    compared[2], compared[4] = compared[4], compared[2]
    main([*compared, "--format", "json"])
    again = json.loads(capsys.readouterr().out)
    assert again["decoding"]["prompt_formats"] == dict.fromkeys(both, alone.label)
    assert again["decoding"]["reused"] == []
    main([*compared, "--format", "json"])
    same = json.loads(capsys.readouterr().out)
    assert same["decoding"]["reused"] == [other, first]
    assert same["decoding"]["prompt_formats"] == dict.fromkeys(both, alone.label)
    main(["replay", "--model", paths[1], "--also", paths[0], "--cases", str(prompts), "--output",
          str(tmp_path / "r.json"), "--greedy", *few])  # fmt: skip
    assert f"asked in: {alone.label}: {other}, {first}" in capsys.readouterr().out


def test_a_format_is_read_as_it_was_written() -> None:
    one = FormatTaken("chat_template", "declared", Variant(1, False, True), "abc")
    assert FormatTaken.read(json.loads(json.dumps(one.as_json()))) == one
    for broken in (None, {}, {"label": "x"}, {**one.as_json(), "variant": {"bos": "?"}}, {**one.as_json(), "name": 3}):
        assert FormatTaken.read(broken) is None


def test_only_the_same_template_is_bound_by_the_first() -> None:
    rule, one = FormatOfFirst(), FormatTaken("a", "declared", Variant(), "abc")
    assert not rule.is_another(one)
    rule.first = one
    other = FormatTaken("b", "alpaca", Variant(), "abc")
    assert rule.is_another(other) and not rule.is_another(FormatTaken("b", "alpaca", Variant(), "xyz"))
    named = FormatOfFirst("plain")
    named.first = one
    assert not named.is_another(other)
    assert formats_said({"a": "x", "b": "y", "c": "x"}) == "x: a, c; y: b"


def test_half_a_character_in_a_prompt_is_asked_as_a_sign(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No tokenizer takes the lone surrogate that a broken file's \\ud83d stands for."""
    rows = tmp_path / "p.jsonl"
    rows.write_text('{"prompt": "half \\ud83d of it", "reference": "\\ud83d"}\n{"prompt": "whole", "reference": "y"}\n')
    few = ["--max-new-tokens", "2", "--device", "cpu"]
    models = [str(trained / name) for name in ("declared", "another")]
    assert main(["compare", "--before", models[0], "--after", models[1], "--prompts", str(rows), "--output",
                 str(tmp_path / "c.json"), *few]) in (0, 1)  # fmt: skip
    assert main(["replay", "--model", models[0], "--cases", str(rows), "--output", str(tmp_path / "r.xlsx"), "--greedy",
                 *few]) in (0, 1)  # fmt: skip
    assert ": 2, matched" in capsys.readouterr().out
