"""Logs of a form nobody knows: an expression or columns given by the user, and forms remembered."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from diagnostics.command_line import run_command
from pipeline.logs.own_format import (
    MAX_REMEMBERED,
    OwnFormat,
    PatternSearch,
    columns_of,
    remember,
    remembered_formats,
)
from pipeline.logs.read_log import read_log
from pipeline.refusal import Refused

STRANGE = "".join(f"[w0] it {n} L~{2.5 - n / 100:.3f} E~{n / 50:.2f} spent {n * 3} s\n" for n in range(1, 41))
PATTERN = r"it (?P<step>\d+) L~(?P<loss>\S+) E~(?P<epoch>\S+)"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))


def _file(folder: Path, text: str, name: str = "run.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_expression_gives_the_curves(tmp_path: Path) -> None:
    path = _file(tmp_path, STRANGE)
    assert read_log([path]).problem == "no_metrics"
    log = read_log([path], own=OwnFormat(PATTERN))
    assert log.curves["loss"].values.tolist() == [round(2.5 - n / 100, 3) for n in range(1, 41)]
    assert log.step.tolist() == list(range(1, 41)) and log.steps_known
    assert log.epoch[-1] == 0.8 and set(log.curves) == {"loss"} and log.records == 40


def test_groups_name_any_metric(tmp_path: Path) -> None:
    path = _file(tmp_path, "a 1 -0.5 0.25 nan\na 2 -0.6 0.75 1,5\n")
    own = OwnFormat(r"a (?P<step>\d+) (?P<rewards__chosen>\S+) (?P<eval_loss>\S+) (?P<my_thing>\S+)")
    log = read_log([path], own=own)
    assert log.curves["rewards/chosen"].values.tolist() == [-0.5, -0.6]
    assert log.curves["eval_loss"].values.tolist() == [0.25, 0.75]
    assert len(log.curves["my_thing"]) == 1  # `1,5` is no number


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.csv", "n,objective,note\n1,2.5,a\n2,2.25,b\n"),
        ("own.jsonl", '{"n": 1, "objective": 2.5, "loss": 9}\n{"n": 2, "objective": 2.25, "loss": 9}\n'),
        ("own.json", '[{"n": 1, "objective": 2.5}, {"n": 2, "objective": 2.25}]'),
        ("own.txt", "run n=1 objective: 2.5\nrun n=2 objective: 2.25\n"),
    ],
)
def test_columns_of_any_format(tmp_path: Path, name: str, text: str) -> None:
    log = read_log([_file(tmp_path, text, name)], own=OwnFormat(columns=columns_of(["loss=objective", "step=n"])))
    assert log.curves["loss"].values.tolist() == [2.5, 2.25]
    assert log.step.tolist() == [1.0, 2.0]


def test_expression_that_fits_nothing_changes_nothing(tmp_path: Path) -> None:
    path = _file(tmp_path, "step 1, loss: 2.5\nstep 2, loss: 2.25\n")
    log = read_log([path], own=OwnFormat(r"no such line (?P<loss>\d+)"))
    assert log.curves["loss"].values.tolist() == [2.5, 2.25]
    assert [note.id for note in log.notes] == ["own_form_unmatched"]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    "wrong", ["(?P<loss>", r"step (?P<step>\d+)", "loss \\d+", "(?P<loss>[z-a])", "x" * 5000, "*(?P<loss>x)"]
)
def test_wrong_expressions_are_one_line(wrong: str, lang: str) -> None:
    with pytest.raises(Refused) as refused:
        OwnFormat(wrong)
    said = refused.value.said(lang)
    assert said and "\n" not in said


def test_wrong_columns_are_one_line() -> None:
    for wrong in (["loss"], ["=x"], ["loss="]):
        with pytest.raises(Refused):
            columns_of(wrong)
    with pytest.raises(Refused):
        OwnFormat(columns={"step": "n"})


def test_an_expression_that_explodes_is_ended(tmp_path: Path) -> None:
    path = _file(tmp_path, ("ab" * 40 + "!\n") * 5000)
    started = time.monotonic()
    with pytest.raises(Refused) as refused:
        read_log([path], own=OwnFormat(r"(?:(?:a|b|ab)*)*(?P<loss>\d+)$"))
    assert time.monotonic() - started < 20
    assert refused.value.sentence.entry == "pattern_too_slow"


def test_search_gives_up_and_stays_so() -> None:
    search = PatternSearch(OwnFormat(r"(?:(?:a|b|ab)*)*(?P<loss>\d+)$"))
    while not search.given_up:
        search.row("ab" * 60 + "!")
    assert search.row("1") is None


def test_forms_are_remembered_and_tried(tmp_path: Path) -> None:
    path = _file(tmp_path, STRANGE)
    remember(OwnFormat(r"nothing like it (?P<loss>\d+)"))
    remember(OwnFormat(PATTERN))
    log = read_log([path])
    assert len(log.curves["loss"]) == 40
    assert [note.id for note in log.notes] == ["remembered_format"]
    known = read_log([_file(tmp_path, "step 1, loss: 2.5\n", "known.txt")])
    assert not known.notes  # a log that is understood is left alone


def test_twenty_are_kept_and_none_twice(tmp_path: Path) -> None:
    for n in [*range(30), 29, 28]:
        assert remember(OwnFormat(rf"w{n} (?P<loss>\d+)"))
    kept = [own.pattern for own in remembered_formats()]
    assert len(kept) == len(set(kept)) == MAX_REMEMBERED
    assert kept[:2] == [r"w28 (?P<loss>\d+)", r"w29 (?P<loss>\d+)"]


@pytest.mark.parametrize("content", ["", "{", '[1, null, {}, {"pattern": "("}]', '{"a": 1}', "[" * 100_000])
def test_a_damaged_store_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "log_formats.json").write_text(content)
    assert remembered_formats() == []
    assert remember(OwnFormat(PATTERN)) and len(remembered_formats()) == 1


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(_file(tmp_path, STRANGE))
    assert run_command(["log", path]) == 2
    assert run_command(["log", path, "--pattern", PATTERN]) in (0, 1)
    assert run_command(["log", path]) in (0, 1)  # remembered
    assert "by the form you gave before" in capsys.readouterr().out
    assert run_command(["log", path, "--pattern", "("]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1
    table = str(_file(tmp_path, "n,objective\n1,2.5\n2,2.25\n", "t.csv"))
    assert run_command(["log", table, "--column", "loss=objective", "--column", "step=n"]) in (0, 1)
    assert run_command(["log", table, "--column", "loss"]) == 2
