"""`python -m pipeline generate` as a user meets it: what it takes, what it writes, one line for what can't be done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.candidates import open_makers
from pipeline.candidates.policy import parse_policy
from pipeline.candidates.presets import find_preset, preset_names
from pipeline.candidates.strategies import RunSettings, parse_strategies
from pipeline.candidates.write_candidates import pairs_made
from pipeline.checkpoint import open_checkpoint
from pipeline.config_files import load_config
from pipeline.demo.build import DemoFolder
from pipeline.pair_workspace.stored_pair import strategy_of
from pipeline.pairs.read_pairs import PairFile

ROOT = Path(__file__).resolve().parent.parent
WORDS = {lang: yaml.safe_load((ROOT / "configs" / "words" / lang / "refusals.yaml").read_text("utf-8")) for lang in ("en", "zh")}
FRUITS = "苹果、香蕉、橘子、菠萝、草莓"


def alpaca(count: int = 12) -> list[dict[str, Any]]:
    return [
        {"instruction": f"列出{n + 5}种不同的水果。", "input": "要好吃。" if n % 3 == 0 else "", "output": f"{FRUITS}、第{n}种水果、葡萄。",
         "topic": f"t{n}"}
        for n in range(count)
    ]  # fmt: skip


def lines(path: Path, rows: list[Any]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def generate(*argv: object) -> int:
    return main(["generate", *map(str, argv)])


def account(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> dict[str, Any]:
    """The one JSON document on standard output."""
    assert generate(*argv, "--format", "json") == status
    told = capsys.readouterr()
    assert told.err == ""
    return json.loads(told.out)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on standard error."""
    assert generate(*argv) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("pipeline: ") and told.err.count("\n") == 1, told.err
    return told.err


# --- what is written ---


def test_every_usable_candidate_as_indented_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = lines(tmp_path / "in.jsonl", alpaca()), tmp_path / "out.json"
    told = account(capsys, "--data", data, "--output", output, "--strategy", "cut_short:n=2", "--strategy", "drop_items")
    text = output.read_text(encoding="utf-8")
    records = json.loads(text)
    assert text.startswith('[\n  {\n    "instruction": "列出5种不同的水果。",\n    "input": "要好吃。",\n    "chosen"')
    assert list(records[0]) == ["instruction", "input", "chosen", "rejected", "topic"]
    assert told["outcome"] == "done" and told["pairs"] == len(records) == sum(told["strategies"].values())
    kept = [json.loads(line) for line in (tmp_path / "out.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert [(one["row"], one["number"]) for one in kept] == [(row, number) for row in range(12) for number in range(3)]
    usable = [one for one in kept if one["problem"] is None and one["measures"]["duplicate_of"] is None]
    assert [one["text"] for one in usable] == [one["rejected"] for one in records]
    assert {one["seed"] for one in kept} == {1000 * row + number for row in range(12) for number in range(3)}


@pytest.mark.parametrize(
    ("rows", "suffix", "columns", "format"),
    [
        ([{"question": "q", "answer": "one, two, three and four"}], ".jsonl", ["question", "answer", "rejected"], None),
        ([{"prompt": "q", "completion": "one, two, three and four"}], ".csv", ["prompt", "completion", "rejected"], None),
        ([{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "one, two, three and four"}]}],
         ".jsonl", ["prompt", "chosen", "rejected"], "trl-conversational"),
        ([{"prompt": "q", "chosen": "one, two, three and four", "rejected": "old"}], ".parquet", ["prompt", "chosen", "rejected"],
         "trl"),
        ([{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "one, two, three and four"},
           "rejected": {"from": "gpt", "value": "old"}}], ".jsonl", ["conversations", "chosen", "rejected"], "llamafactory-sharegpt"),
    ],
    ids=["two columns", "csv", "messages", "pairs", "sharegpt"],
)  # fmt: skip
def test_output_has_the_columns_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], suffix: str, columns: list[str], format: str | None
) -> None:
    data, output = lines(tmp_path / "in.jsonl", rows), tmp_path / f"out{suffix}"
    told = account(capsys, "--data", data, "--output", output, "--strategy", "cut_short")
    assert told["columns"] == columns and (format is None or told["format"] == format)
    [pair] = PairFile(output, columns={columns[0]: "prompt", columns[1]: "chosen"} if format is None else None)
    assert pair.chosen == "one, two, three and four" and isinstance(pair.rejected, str) and pair.rejected not in ("", "old")


def test_a_format_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines(tmp_path / "in.jsonl", alpaca())
    told = account(capsys, "--data", data, "--output", tmp_path / "o.parquet", "--to", "prompt=q,chosen=a,rejected=b",
                   "--strategy", "cut_short")  # fmt: skip
    assert told["columns"][:3] == ["q", "a", "b"]
    assert "has no place for" in refused(capsys, "--data", data, "--output", tmp_path / "x.json", "--to", "alpaca")


def test_rows_that_ask_nothing_or_can_not_be_read_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*alpaca(3), {"instruction": " ", "output": "x"}, "{broken", {"instruction": "no answer here"}, "\"a bare question\"",
            {"prompt": [{"role": "user", "content": "in turns"}]}, 7, *alpaca(1)]  # fmt: skip
    told = account(capsys, "--data", lines(tmp_path / "in.jsonl", rows), "--output", tmp_path / "out.json", "--strategy", "cut_short")
    assert told["source"]["left_out"] == {"not_json": 1, "not_an_object": 1, "no_prompt": 1}
    assert told["rows"] == {"done": 7, "total": 7} and told["rows_without_gold"] == 3
    assert told["problems"] == {"nothing_to_alter": 3} and told["pairs"] == 4
    kept = [json.loads(line) for line in (tmp_path / "out.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert [one["instruction"] for one in kept][3:6] == ["no answer here", "a bare question", "in turns"]


def test_the_same_rows_whatever_else_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines(tmp_path / "in.jsonl", alpaca())
    for name, more in (("a", []), ("b", ["--max-samples", 4]), ("c", ["--seed", 1])):
        account(capsys, "--data", data, "--output", tmp_path / f"{name}.json", "--strategy", "cut_short", *more)
    whole, first, other = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in "abc")
    assert first == whole[:4] and other != whole


def test_a_link_stays_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.json").symlink_to(tmp_path / "disk" / "real.json")
    account(capsys, "--data", lines(tmp_path / "in.jsonl", alpaca()), "--output", tmp_path / "out.json", "--strategy", "cut_short")
    assert (tmp_path / "out.json").is_symlink() and len(json.loads((tmp_path / "disk" / "real.json").read_text("utf-8"))) == 12


# --- choosing ---


def test_a_policy_takes_one_a_row_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = lines(tmp_path / "in.jsonl", alpaca()), tmp_path / "out.json"
    told = account(capsys, "--data", data, "--output", output, "--preset", "without_model")
    assert told["pairs"] == 12 and told["choices"] == {"rejected": 12}
    kept = [json.loads(line) for line in (tmp_path / "out.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert sum(one["choice"] == "rejected" for one in kept) == 12 and all(one["why"] for one in kept)


def test_pairs_keep_how_each_side_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the file of pairs has no place for stands in the file of candidates."""
    system = [{**row, "system": "be brief", "history": [["早", "好"]]} for row in alpaca(5)]
    data, output = lines(tmp_path / "in.jsonl", system), tmp_path / "out.jsonl"
    account(capsys, "--data", data, "--output", output, "--choose", "varied", "--strategy", "cut_short:n=2", "--strategy", "irrelevant_ending")
    made, plain = list(pairs_made(tmp_path / "out.jsonl.candidates.jsonl")), list(PairFile(output))
    assert len(made) == len(plain) >= 5
    for ours, theirs in zip(made, plain, strict=True):
        assert (ours.prompt, ours.system, ours.chosen, ours.rejected) == (theirs.prompt, theirs.system, theirs.chosen, theirs.rejected)
        assert ours.source["rejected"]["strategy"] in ("cut_short", "irrelevant_ending") and "seed" in ours.source["rejected"]
    assert {strategy_of(one) for one in made} == {"cut_short", "irrelevant_ending"}


def test_choosing_anew_makes_nothing_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = lines(tmp_path / "in.jsonl", alpaca()), tmp_path / "out.json"
    usual = ["--data", data, "--output", output, "--strategy", "cut_short:n=3", "--strategy", "drop_items"]
    account(capsys, *usual)
    every = output.read_bytes(), (tmp_path / "out.json.candidates.jsonl").read_bytes()
    told = account(capsys, "--data", data, "--output", output, "--choose-only", "--choose", "on_topic")
    assert told["pairs"] == len(json.loads(output.read_text("utf-8"))) == 12
    told = account(capsys, "--data", data, "--output", output, "--choose-only")
    assert (output.read_bytes(), (tmp_path / "out.json.candidates.jsonl").read_bytes()) == every
    lines(data, alpaca()[3:])
    assert "row 0 is not the one" in refused(capsys, "--data", data, "--output", output, "--choose-only")
    assert (output.read_bytes(), (tmp_path / "out.json.candidates.jsonl").read_bytes()) == every
    (tmp_path / "out.json.candidates.jsonl").write_text("[1, 2]")
    assert "not a file of candidates" in refused(capsys, "--data", data, "--output", output, "--choose-only")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_preview_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], lang: str) -> None:
    data, output = lines(tmp_path / "in.jsonl", alpaca()), tmp_path / "out.json"
    usual = ["--data", data, "--output", output, "--strategy", "cut_short", "--strategy", "near_answer", "--lang", lang]
    assert generate(*usual, "--choose", "on_topic", "--preview", 4) == 0
    told = capsys.readouterr().out
    words = yaml.safe_load((ROOT / "configs" / "words" / lang / "candidates.yaml").read_text("utf-8"))
    for entry in ("policy_on_topic", "policy_never", "policy_on_topic_required"):
        assert words[entry] in told
    assert "列出5种不同的水果。" in told and words["preview_head"].format(rows=4, total=12) in told
    assert "4" in told and not output.exists()
    assert generate(*usual, "--choose", "all", "--preview", "4", "--format", "json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["outcome"] == "preview" and shown["rows"] == {"done": 4, "total": 12} and len(shown["examples"]) == 4
    assert shown["policy"]["per_row"] == "all" and shown["pairs"] >= 4
    assert generate(*usual, "--resume", "--choose", "on_topic") == 0 and output.exists()


# --- presets ---


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_asked_for(name: str) -> None:
    preset = find_preset(name, weaker="./early")
    found = parse_strategies(preset.strategies, RunSettings(), load_config("alterations.yaml")["parameters"])
    assert found and not preset.left_out and set(preset.about) == {"en", "zh"} and parse_policy(preset.choose)
    assert ("{weaker}" in str(load_config("candidate_presets.yaml")["presets"][name])) == (name == "founding_case")


def test_a_preset_without_its_weaker_model_says_what_it_leaves_out() -> None:
    assert find_preset("founding_case").left_out and "weaker" not in str(find_preset("founding_case").strategies)


def test_a_preset_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines(tmp_path / "in.jsonl", alpaca())
    (tmp_path / "mine.yaml").write_text("strategies: ['cut_short:n=3']\nchoose: all\n")
    told = account(capsys, "--data", data, "--output", tmp_path / "o.json", "--preset", tmp_path / "mine.yaml")
    assert set(told["strategies"]) == {"cut_short"} and told["choices"]["rejected"] == told["pairs"]
    for text, why in (("strategies: []", "strategies"), ("strategies: [cut_short]\nspeed: 3", "speed"), ("[", "1:2"), ("- x", "strategies")):
        (tmp_path / "mine.yaml").write_text(text)
        assert why in refused(capsys, "--data", data, "--output", tmp_path / "p.json", "--preset", tmp_path / "mine.yaml")


# --- what can't be done ---


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--strategy", "greedy"], "needs a model"), (["--strategy", "cut_shrt"], "cut_short"), (["--choose", "on_topik"], "on_topic"),
        (["--choose", "best_of_n"], "--reward"), (["--model", "./nowhere"], "./nowhere"), (["--adapter", "./nowhere"], "--model"),
        (["--database", "./nowhere.db"], "--database"), (["--preset", "hard"], "hard_negatives"), (["--seed", "x"], "--seed x"),
        (["--max-samples", "0"], "--max-samples"), (["--num-candidates", "1001"], "--num-candidates"), (["--temperature", "hot"], "temperature"),
        (["--resume", "--overwrite"], "--overwrite"), (["--strategy", "correction"], "--replace"), (["--choose-only"], "candidates.jsonl"),
        (["--temperature-ladder", "0.5,x"], "temperature"), (["--replace", "a=b"], "needs a model"), (["--to", "nowhere"], "no format"),
        (["--strategy", "endpoint"], "url="), (["--preview", "-1"], "--preview"), (["--format", "xml"], "--format"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_one_line_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = lines(tmp_path / "in.jsonl", alpaca())
    assert says in refused(capsys, "--data", data, "--output", "out.json", *more)
    assert os.listdir(tmp_path) == ["in.jsonl"]


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "no row"), ("\x00\x01\x02", "text"), ("[1, 2, 3]", "no row"), ('{"a": 1}\n{"a": 2}\n', "no format known"),
     ('{"instruction": "", "output": "x"}\n', "asks anything"), ('[{"instruction": "q", "out', "JSON")],
    ids=["empty", "binary", "numbers", "columns", "asks nothing", "cut short"],
)  # fmt: skip
def test_data_that_asks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str) -> None:
    (tmp_path / "in.json").write_text(content)
    assert says in refused(capsys, "--data", tmp_path / "in.json", "--output", tmp_path / "out.json")


def test_places_that_can_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines(tmp_path / "in.jsonl", alpaca())
    (tmp_path / "folder.json").mkdir()
    for output, says in (("out.txt", "end in"), ("folder.json", "a folder"), ("no/out.json", "does not exist"), ("in.jsonl", "--data")):
        assert says in refused(capsys, "--data", data, "--output", tmp_path / output)
    assert refused(capsys, "--data", tmp_path / "none.json", "--output", tmp_path / "o.json").count("no such file") == 1


def test_an_earlier_run_is_not_replaced_by_accident(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = lines(tmp_path / "in.jsonl", alpaca()), tmp_path / "out.json"
    usual = ["--data", data, "--output", output, "--strategy", "cut_short"]
    account(capsys, *usual)
    before = output.read_bytes()
    said = refused(capsys, *usual)
    assert "--resume" in said and "--overwrite" in said and output.read_bytes() == before
    assert account(capsys, *usual, "--resume")["already"] is True
    assert "seed: 0 -> 3" in refused(capsys, *usual, "--resume", "--seed", 3)
    assert account(capsys, *usual, "--overwrite", "--seed", 3)["already"] is False
    assert output.read_bytes() != before


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_refusals_in_both_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str], lang: str) -> None:
    data = lines(tmp_path / "in.jsonl", alpaca())
    said = refused(capsys, "--data", data, "--output", tmp_path / "o.json", "--strategy", "greedy", "--lang", lang)
    assert said == f"pipeline: {WORDS[lang]['strategy_without_model'].format(given='greedy')}\n"


# --- with a model ---


def test_every_strategy_of_a_model(demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One load for all of them; the likelihoods of every candidate; corrections; a seed for each draw."""
    case = demo.cases["healthy_decoder"]
    words = [word for one in ("greedy", "sampling:n=3,temperature=0.5/1.0/1.5", "beam:n=2", "diverse_beam:n=2", "correction", "cut_short")
             for word in ("--strategy", one)]  # fmt: skip
    usual = ["--model", case.checkpoint, "--data", case.held_out_file, "--output", tmp_path / "out.json", "--max-samples", 6,
             "--max-new-tokens", 32, "--prompt-format", "declared", "--device", "cpu", *words, "--replace", r"re:(.+)=\1!"]  # fmt: skip
    assert generate(*usual, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    kept = [json.loads(line) for line in (tmp_path / "out.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert len(kept) == told["candidates"] == 6 * 10
    first = kept[:10]
    assert [one["strategy"] for one in first] == [
        "greedy", *["sampling"] * 3, "beam", "beam", "diverse_beam", "diverse_beam", "correction", "cut_short",
    ]  # fmt: skip
    assert [one["parameters"]["temperature"] for one in first[1:4]] == [0.5, 1.0, 1.5]
    assert [one["seed"] for one in first[1:4]] == [1, 2, 3]
    assert len({one["fingerprint"] for one in first[:8]}) == 1 and first[0]["fingerprint"].startswith("sha256:")
    assert first[0]["prompt"] and first[0]["prompt_format"] and first[0]["ended"] is True
    assert first[8]["text"] == first[0]["text"] and first[8]["corrected"] == first[0]["text"] + "!"
    answered = [one for one in kept if one["problem"] is None and one["text"]]
    assert len(answered) > 40 and all("logp_per_token" in one["measures"] for one in answered)
    assert all("logp_per_token" in one["chosen_measures"] for one in kept)


def test_a_wrong_adapter_is_said_and_nothing_is_made(demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The base alone would answer, and its answers would poison the data."""
    decoder, t5 = demo.base_decoder, demo.base_t5
    lora = demo.root / "healthy_decoder_lora"
    held_out = demo.cases["healthy_decoder"].held_out_file
    usual = ["--data", held_out, "--output", tmp_path / "out.json", "--strategy", "greedy", "--max-samples", 2, "--device", "cpu",
             "--prompt-format", "plain", "--max-new-tokens", 8]  # fmt: skip
    for model, adapter, says in (
        (decoder, "./nowhere", "no such folder"), (decoder, t5, "no adapter with weights"), (lora, lora, "an adapter itself"),
        (t5, lora, "can't be put on its base"),
    ):  # fmt: skip
        said = refused(capsys, *usual, "--model", model, "--adapter", adapter)
        assert says in said and not (tmp_path / "out.json").exists()
    assert generate(*usual, "--model", decoder, "--adapter", lora) == 0, "what ended before a row was made is in nobody's way"
    capsys.readouterr()
    kept = [json.loads(line) for line in (tmp_path / "out.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert [one["model"] for one in kept] == [f"{decoder} + {lora}"] * 2


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(
    demo: DemoFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The memory of this machine stands in for a smaller one."""
    case = demo.cases["healthy_decoder"]
    size = sum(tensor.numel for tensor in open_checkpoint(str(case.checkpoint)).tensors.values())
    usual = ["--model", case.checkpoint, "--data", case.held_out_file, "--output", tmp_path / "out.json", "--device", "cpu"]
    for free, says in ((3 * size, "--dtype bfloat16"), (size, "vllm serve")):
        monkeypatch.setattr(open_makers, "free_memory", lambda device, free=free: free)
        assert says in refused(capsys, *usual)
        assert os.listdir(tmp_path) == []
