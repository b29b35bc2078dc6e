"""A replay from the command line: counts, files, languages, interrupts, what can't be used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import openpyxl
import pytest

from pipeline.__main__ import main
from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import all_questions, is_right
from pipeline.evaluation.replay import ReplayDecoding
from pipeline.evaluation.results import read_result_file
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


def test_interrupted(demo: DemoFolder, cases: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.json"
    many.write_text(json.dumps(json.loads(cases.read_text()) * 40, ensure_ascii=False))
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *argv(demo, many, tmp_path / "r.xlsx", "--progress", str(tmp_path / "p"))],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if (tmp_path / "p").exists() and json.loads((tmp_path / "p").read_text())["done"] > 2:
                break
            time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 3, err
    result = read_result_file(tmp_path / "r.replay.json")
    assert result["interrupted"] and 2 < len(result["rows"]) < 480 and result["summary"][1]["cases"] == 0
    assert openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[1].max_row == len(result["rows"]) + 1
    assert "Traceback" not in err and "written" in err and not (tmp_path / "r.rows.jsonl").exists()


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


def test_decodings() -> None:
    assert ReplayDecoding.of().as_json() == {
        "strategy": "beam", "num_beams": 5, "temperature": 0.0, "max_new_tokens": 256, "seed": 0
    }  # fmt: skip
    assert ReplayDecoding.of(greedy=True).kind == "greedy" and ReplayDecoding.of(num_beams=1).kind == "greedy"
    drawn = ReplayDecoding.of(temperature=0.7, more={"top_p": 0.9, "top_k": None})
    assert drawn.kind == "sampling" and drawn.parameters == {"temperature": 0.7, "top_p": 0.9}
    with pytest.raises(Refused):
        ReplayDecoding.of(temperature=0.7, num_beams=4)
