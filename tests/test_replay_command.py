"""A replay from the command line: counts, files, languages, interrupts, what can't be used."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from diagnostics.check_table import EVALUATION_CHECKS
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from pipeline.__main__ import main
from pipeline.checkpoint import open_checkpoint
from pipeline.commands.replay import _place_of_rows
from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import all_questions, is_right
from pipeline.evaluation.adapters_on_base import ModelsOnBase
from pipeline.evaluation.format_of_first import FormatTaken
from pipeline.evaluation.replay import Replay, ReplayDecoding, summary_of
from pipeline.evaluation.replay_answers import KeptAnswers
from pipeline.evaluation.replay_cases import read_cases
from pipeline.evaluation.replay_judging import Answered, CaseJudge
from pipeline.evaluation.results import ModelNamed, Replayed, ReplayResult, read_result_file, to_json
from pipeline.prompt_formats import Variant
from pipeline.refusal import Refused
from pipeline.repetition import repeated_share

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = {question.prompt: question for question in all_questions()}


@pytest.fixture(scope="module")
def cases(demo: DemoFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve held-out questions whose answers are one word or a number, and lists."""
    path = tmp_path_factory.mktemp("cases") / "cases.json"
    rows = []
    for question in QUESTIONS.values():
        if len(rows) < 12 and question.task in ("opposite", "translate", "sum", "list") and hash_of(question.prompt) < 8:
            answer = "、".join(question.wanted[: question.count]) if question.task == "list" else question.wanted[0]
            rows.append({"text": question.prompt, "standard_answer": answer, "category": question.task})
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def hash_of(prompt: str) -> int:
    return sum(prompt.encode()) % 100


def argv(demo: DemoFolder, cases: Path, output: Path, *more: str) -> list[str]:
    return ["replay", "--model", str(demo.cases["never_stops_decoder"].checkpoint), "--also",
            str(demo.cases["healthy_decoder"].checkpoint), "--cases", str(cases), "--output", str(output),
            "--max-new-tokens", "40", "--num-beams", "2", "--device", "cpu", *more]  # fmt: skip


def test_counts_are_those_of_an_independent_look(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(argv(demo, cases, tmp_path / "r.xlsx", "--format", "json"))
    told = json.loads(capsys.readouterr().out)
    result = read_result_file(tmp_path / "r.replay.json")
    assert status == 0 and told["kind"] == "replay" and told["report"]["subject"]["kind"] == "replay"
    assert {k: v for k, v in told.items() if k not in ("output", "result_file", "report")} == result
    base, other = (one["name"] for one in result["models"])
    asked = json.loads(cases.read_text())
    rows = {(row["case"], row["model"]): row for row in result["rows"]}
    assert len(rows) == 2 * len(asked)
    changes: Counter[str] = Counter()
    for number, case in enumerate(asked):
        before, after = rows[number, base], rows[number, other]
        assert before["text"] == case["text"] and before["category"] == case["category"]
        looped = repeated_share(before["answer"], 4) > 0.3 or before["stopped"] is False
        right = is_right(QUESTIONS[case["text"]], after["answer"])
        if case["category"] != "list":
            assert after["right"] is right and after["status"] == ("right" if right else "wrong")
        assert before["good"] is not looped
        changes[after["change"]] += 1
        good = after["good"]
        assert after["change"] == ("fixed" if good else "still_bad") if looped else good
    told_of = result["summary"][1]
    assert {name: told_of[name] for name in ("fixed", "broken", "still_bad", "still_good")} == {
        name: changes[name] for name in ("fixed", "broken", "still_bad", "still_good")
    }
    assert told_of["fixed"] >= 8 and told_of["change"]["verdict"] == "better" and result["summary"][0]["change"] is None
    assert result["decoding"]["num_beams"] == 2 and result["decoding"]["temperature"] == 0.0
    sheet = openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[1]
    assert sheet.max_row == len(rows) + 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r.replay.json", "r.xlsx"]


def test_greedy_in_chinese_with_progress(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = argv(demo, cases, tmp_path / "r.json", "--greedy", "--max-samples", "3", "--lang", "zh", "--progress",
                str(tmp_path / "p.json"))  # fmt: skip
    line = [word for place, word in enumerate(line) if "--num-beams" not in (word, line[place - 1])]
    (tmp_path / "r.json").mkdir()
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert "3 个案例，2 个模型，贪心解码" in out and "修好" in out and "r-2.json" in out and "r-2.json" in err
    assert json.loads((tmp_path / "p.json").read_text()) == {"stage": "writing", "done": 6, "total": 6, "of": "answers"}
    assert read_result_file(tmp_path / "r-2.json")["decoding"]["strategy"] == "greedy"


def test_what_got_worse_is_listed_first(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = argv(demo, cases, tmp_path / "r.xlsx", "--check", "repetition", "--max-samples", "5")
    line[2], line[4] = line[4], line[2]  # the healthy one is the base
    assert main(line) == 1
    out = capsys.readouterr().out
    assert "was good with healthy_decoder and is bad now" in out
    sheet = openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[1]
    assert sheet.cell(3, 3).value == "broken" and sheet.cell(3, 3).fill.fgColor.rgb.endswith("FFC7CE")


def test_rows_of_the_result_begin_with_what_got_worse(demo: DemoFolder, tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([{"text": f"{n} + 1?", "standard_answer": str(n + 1)} for n in range(4)]))
    base, other = (open_checkpoint(str(demo.cases[name].checkpoint)) for name in ("healthy_decoder", "never_stops_decoder"))
    cases = read_cases(path)
    replay = Replay(ModelsOnBase(base, [other], names=["a", "b"]), cases, CaseJudge(), ReplayDecoding.of())
    for case, (before, after) in zip(cases.cases, ("90", "91", "93", "49"), strict=True):
        replay._take("a", case, Answered(before, ended=True))
        replay._take("b", case, Answered(after, ended=True))
    told = [(row.case, row.model, row.change) for row in replay.result().rows]
    assert told[1::2] == [(3, "b", "broken"), (2, "b", "fixed"), (0, "b", "still_bad"), (1, "b", "still_bad")]
    assert told[::2] == [(case, "a", None) for case in (3, 2, 0, 1)]


def _stopped_after(line: list[str], progress: Path, done: int) -> tuple[int, str, str]:
    """Exit status and output of a replay that is stopped once so many answers are there."""
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *line, "--progress", str(progress)], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        until = time.monotonic() + 600  # only ends what hangs
        while time.monotonic() < until:
            if progress.exists() and json.loads(progress.read_text())["done"] > done:
                break
            time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=600)
    finally:
        child.kill()
    return child.returncode, out, err


def test_an_interrupted_replay_goes_on(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = tmp_path / "many.json"
    many.write_text(json.dumps(json.loads(cases.read_text()) * 2, ensure_ascii=False))
    line = argv(demo, many, tmp_path / "r.xlsx", "--max-new-tokens", "16", "--batch-size", "4")
    status, _, err = _stopped_after(line, tmp_path / "p", 2)
    assert status == 3, err
    stopped = read_result_file(tmp_path / "r.replay.json")
    made = len(stopped["rows"])
    assert stopped["interrupted"] and 2 < made < 48 and sum(one["cases"] for one in stopped["summary"]) == made
    assert openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[1].max_row == made + 1
    assert "Traceback" not in err and "goes on from there" in err
    kept = tmp_path / "r.replay.answers.jsonl"
    with open(kept, "ab") as file:
        file.write(b'{"by": "cut sh')

    first = json.loads(kept.read_bytes().splitlines()[1])
    lines = [x.replace(json.dumps(first["text"]).encode(), b'"kept"') for x in kept.read_bytes().splitlines(True)]
    kept.write_bytes(b"".join(lines))  # a sign that answers are taken from here
    assert main(line) in (0, 1)
    said = capsys.readouterr().out
    assert f"{made} of 48 answers were made before the last run stopped" in said
    whole = read_result_file(tmp_path / "r.replay.json")
    assert len(whole["rows"]) == 48 and not whole["interrupted"] and not kept.exists()
    [of_first] = [row for row in whole["rows"] if row["case"] == first["case"] and row["model"] == whole["models"][0]["name"]]
    assert of_first["answer"] == "kept"
    assert sum(whole["decoding"]["reused"].values()) == made
    before = {(row["case"], row["model"]): row for row in stopped["rows"] if row["answer"] != json.loads(lines[1])["text"]}
    same = [row for row in whole["rows"] if row["answer"] == before.get((row["case"], row["model"]), {}).get("answer")]
    assert len(same) >= made - 4 and all(row["rep"] == before[row["case"], row["model"]]["rep"] for row in same)


def test_what_a_full_disk_took_in_part_spoils_no_other_answer(tmp_path: Path) -> None:
    kept = KeptAnswers(tmp_path / "r.replay.answers.jsonl")
    kept.add("by", 0, Answered("first", (1,), True, 1))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kept.path.stat().st_size + 30, usual[1]))
    try:
        kept.add("by", 1, Answered("cut", (1,), True, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    kept.add("by", 2, Answered("room again", (1,), True, 1))
    kept.close()
    assert {case: one.text for case, one in kept.of("by")[1].items()} == {0: "first", 2: "room again"}


def broken_adapter(adapter: Path, place: Path, **config: object) -> Path:
    """Its files are sound, and peft finds no place for its matrices."""
    shutil.copytree(adapter, place)
    (place / "adapter_config.json").write_text(
        json.dumps({**json.loads((adapter / "adapter_config.json").read_text()), **config})
    )
    return place


def test_an_adapter_that_can_not_be_loaded_ends_nothing_else(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = demo.cases["healthy_decoder_lora"].checkpoint
    ranks = broken_adapter(sound, tmp_path / "ranks", r=32)
    cut = broken_adapter(sound, tmp_path / "cut")
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    line = ["replay", "--model", str(demo.base_decoder), "--adapter", str(ranks), "--adapter", str(sound), "--adapter",
            str(cut), "--cases", str(cases), "--max-samples", "3", "--greedy", "--max-new-tokens", "12", "--device",
            "cpu", "--output", str(tmp_path / "r.xlsx")]  # fmt: skip
    assert main(line) == 3
    out, err = capsys.readouterr()
    assert "ranks: not measured: " in out and "cut: not measured: " in out and "2 of 4 models" in out + err
    assert "CMP040" in out and "same command again" in err and out.count("cut: ") >= 2
    result = read_result_file(tmp_path / "r.replay.json")
    assert [one["name"] for one in result["models"]] == ["base_decoder", "ranks", "healthy_decoder_lora", "cut"]
    assert sorted(result["unmeasured"]) == ["cut", "ranks"] and not result["interrupted"]
    assert [(one["model"], one["cases"]) for one in result["summary"]] == [
        ("base_decoder", 3), ("healthy_decoder_lora", 3)
    ]  # fmt: skip
    assert result["cases"] == 3 and {row["model"] for row in result["rows"]} == {"base_decoder", "healthy_decoder_lora"}
    summary, sheet, beside = openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets
    rows = {row[0]: row[1:] for row in summary.iter_rows(values_only=True)}
    assert set(rows["ranks"]) == {"not measured", None} or set(rows["ranks"]) == {"not measured"}
    assert rows["base_decoder"][0] == 3 and any(str(name).startswith("cut: not measured: ") for name in rows)
    assert sheet.max_row == 7
    assert [cell.value for cell in beside[1]][3:] == ["base_decoder", "ranks", "healthy_decoder_lora", "cut"]
    assert {row[4] for row in beside.iter_rows(min_row=2, values_only=True)} == {"not measured"}

    (ranks / "adapter_config.json").write_bytes((sound / "adapter_config.json").read_bytes())
    assert main([*line, "--lang", "zh"]) == 3  # only what is missing is made
    assert "cut：未测量：" in capsys.readouterr().out
    again = read_result_file(tmp_path / "r.replay.json")
    assert again["decoding"]["reused"]["base_decoder"] == 3 and list(again["unmeasured"]) == ["cut"]
    answers = {(row["case"], row["model"]): row["answer"] for row in again["rows"]}
    assert all(answers[case, "ranks"] == answers[case, "healthy_decoder_lora"] for case in range(3))
    weights.write_bytes((sound / weights.name).read_bytes())
    assert main(line) in (0, 1) and not (tmp_path / "r.replay.answers.jsonl").exists()


def test_one_adapter_alone_that_does_not_fit_is_refused(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["replay", "--model", str(demo.base_t5), "--cases", str(cases), "--output", str(tmp_path / "r.json")]
    line += ["--adapter", str(demo.cases["healthy_decoder_lora"].checkpoint)]
    assert main(line) == 2 and main([*line, *line[-2:]]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 2 and "none of the 2 models" in err and not list(tmp_path.iterdir())


def test_a_model_that_can_not_be_asked_in_the_first_ones_format_is_not_asked_anew(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["replay", "--model", str(demo.base_decoder), "--also", str(demo.base_t5), "--adapter",
            str(broken_adapter(demo.cases["healthy_decoder_lora"].checkpoint, tmp_path / "ranks", r=32)), "--cases",
            str(cases), "--max-samples", "2", "--greedy", "--max-new-tokens", "4", "--device", "cpu", "--output",
            str(tmp_path / "r.json"), "--format", "json"]  # fmt: skip
    assert main(line) == 3
    first = json.loads(capsys.readouterr().out)["decoding"]["prompt_format"]
    assert main(line) == 3
    again = json.loads(capsys.readouterr().out)["decoding"]
    assert first["base_decoder"] != first["base_t5"] and again["prompt_format"] == first
    assert again["reused"] == {"base_decoder": 2, "base_t5": 2}


def test_rows_that_are_no_case_are_told_in_words(
    demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"text": "1 + 1?", "standard_answer": "2"}\n{"text": ""}\n{"text": "cut\n')
    main(argv(demo, path, tmp_path / "r.xlsx", "--lang", "zh", "--max-new-tokens", "4"))
    told = capsys.readouterr().out
    shown = " ".join(str(v) for row in openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[0].values for v in row)
    for text in (told, shown):
        assert "没有可供提问的文字" in text and "不是 JSON" in text and "no_text" not in text and "not_json" not in text
    path.write_text('{"text": ""}\n')
    assert main(argv(demo, path, tmp_path / "r.xlsx", "--lang", "zh")) == 2
    assert "no_text" not in capsys.readouterr().err


def test_answers_made_otherwise_are_not_used(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = argv(demo, cases, tmp_path / "r.json", "--max-samples", "2", "--greedy", "--format", "json")
    line = [word for place, word in enumerate(line) if "--num-beams" not in (word, line[place - 1])]
    assert main(line) in (0, 1)
    right = json.loads(capsys.readouterr().out)
    kept = tmp_path / "r.replay.answers.jsonl"
    models = ModelsOnBase(*(open_checkpoint(line[at]) for at in (2,)), ())
    journal = KeptAnswers(kept)
    decoding = ReplayDecoding.of(greedy=True, max_new_tokens=40)
    for change in ({}, {"max_new_tokens": 41}, {"system": "be kind"}):
        replay = Replay(models, read_cases(cases, most=2), CaseJudge(), replace(decoding, **change), kept=journal)
        name = models.names[0]
        assert not replay._from_kept(name)
        journal.begin(replay._by(name), name, FormatTaken("x", "declared", Variant(), "another template"))
        for case in range(2):
            journal.add(replay._by(name), case, Answered(f"old {change}", (5, 6), True, 2))
    journal.close()
    assert main([*line]) in (0, 1)
    again = json.loads(capsys.readouterr().out)
    base = [row["answer"] for row in again["rows"] if row["model"] == name]
    assert base == ["old {}", "old {}"] and again["decoding"]["reused"] == {name: 2}
    kept.write_text('{"prompt": "a", "response": "mine"}\n')
    assert main(line) == 2
    assert "r.replay.answers.jsonl" in capsys.readouterr().err and "mine" in kept.read_text()
    assert main([*line, "--overwrite"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["rows"] == right["rows"]


@pytest.mark.parametrize("name", ["r.json", "r.xlsx"])
def test_a_file_of_another_kind_is_not_replaced(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = tmp_path / name
    if name.endswith("json"):
        mine.write_text('{"mine": 1}')
    else:
        openpyxl.Workbook().save(mine)
    before = mine.read_bytes()
    assert main(argv(demo, cases, mine)) == 2
    err = capsys.readouterr().err
    assert "--overwrite" in err and err.count("\n") == 1 and mine.read_bytes() == before


@pytest.mark.parametrize(("change", "entry"), [
    ({"--output": "r.docx"}, ".xlsx"), ({"--output": "no/such/r.xlsx"}, "no/such"), ({"--cases": "none.json"}, "--cases"),
    ({"--model": "none"}, "none"), ({"--similarity": "2"}, "--similarity"), ({"--pattern": "("}, "("),
    ({"--temperature": "0.7"}, "--num-beams"), ({"--dialect": "klingon"}, "klingon"), ({"--adapter": "none"}, "none"),
    ({"--database": "none.sqlite"}, "--database"),
])  # fmt: skip
def test_refused(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str],
    entry: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = argv(demo, cases, Path("r.xlsx"))
    for option, value in change.items():
        line = [word for place, word in enumerate(line) if option not in (word, line[place - 1])] + [option, value]
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert out == "" and entry in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_output_is_not_the_cases(demo: DemoFolder, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = cases.read_bytes()
    assert main(argv(demo, cases, cases)) == 2 and cases.read_bytes() == before
    assert "--cases" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["r.replay.json", "r.replay.answers.jsonl", "r.rows.jsonl"])
def test_what_stands_beside_the_output_is_not_the_cases(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = tmp_path / name
    mine.write_bytes(cases.read_bytes())
    assert main(argv(demo, mine, tmp_path / "r.xlsx", "--overwrite", "--max-samples", "1")) == 2
    assert "--cases" in capsys.readouterr().err and mine.read_bytes() == cases.read_bytes()


def test_a_result_beside_that_is_someone_elses(
    demo: DemoFolder, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "r.replay.json"
    mine.write_text('{"mine": 1}')
    assert main(argv(demo, cases, tmp_path / "r.xlsx", "--max-samples", "1")) == 2
    assert "r.replay.json" in capsys.readouterr().err and mine.read_text() == '{"mine": 1}'


def test_rows_of_a_large_result_find_a_place(tmp_path: Path) -> None:
    place = tmp_path / "r.rows.jsonl"
    assert _place_of_rows(tmp_path / "r.xlsx") == place
    place.write_text(json.dumps(to_json(Replayed(0, "base", "q", "a", "b", "wrong", False))) + "\n")
    assert _place_of_rows(tmp_path / "r.xlsx") == place
    place.write_text('{"mine": 1}\n')
    assert _place_of_rows(tmp_path / "r.xlsx") == tmp_path / "r-2.rows.jsonl"


def test_a_model_that_was_not_asked_is_not_judged() -> None:
    row = Replayed(0, "base", "q", "a", "b", "wrong", False)
    named = (ModelNamed("base", "b", "base"), ModelNamed("one", "o", "adapter"), ModelNamed("two", "t", "adapter"))

    def told(*rows: Replayed) -> dict[str, list[str]]:
        summary = tuple(summary_of(one.name, [r for r in rows if r.model == one.name], base="base") for one in named)
        result = ReplayResult(named, summary, rows, cases=2, interrupted=True)
        limits = load_thresholds()
        subject = EvaluationSubject(Path("r.json"), limits, result, to_json(result))
        found: dict[str, list[str]] = {}
        for event in run_checks(EVALUATION_CHECKS["replay"], subject, limits, depth="files"):
            if event.finding is not None:
                found.setdefault(event.finding.code, []).append(event.finding.message)
        return found

    found = told(row, replace(row, model="one", good=True, status="right", change="fixed"))
    for code in ("CMP020", "CMP023"):
        assert found[code] and not [message for message in found[code] if "two" in message]
    assert "CMP020" not in told(row)


def test_decodings() -> None:
    assert ReplayDecoding.of().as_json() == {
        "strategy": "beam", "num_beams": 5, "temperature": 0.0, "max_new_tokens": 256, "seed": 0
    }  # fmt: skip
    assert ReplayDecoding.of(greedy=True).kind == "greedy" and ReplayDecoding.of(num_beams=1).kind == "greedy"
    drawn = ReplayDecoding.of(temperature=0.7, more={"top_p": 0.9, "top_k": None})
    assert drawn.kind == "sampling" and drawn.parameters == {"temperature": 0.7, "top_p": 0.9}
    with pytest.raises(Refused):
        ReplayDecoding.of(temperature=0.7, num_beams=4)
