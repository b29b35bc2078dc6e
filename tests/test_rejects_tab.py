"""The tab Rejects: its parts alone, and as a visitor meets it with the command really running behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from app_in_browser import Server

from pipeline.candidates.journal import Journal
from pipeline.config_files import load_config
from pipeline.demo.build import DemoFolder
from ui import reject_case, reject_plots, reject_runs, reject_view, safe_html
from ui.command_runs import read_object
from ui.reject_index import CandidateIndex
from ui.reject_live import LiveRows, judging, rows_of
from ui.reject_pairs import MadePairs

HOSTILE = "<img src=x onerror=window.hacked=1>\u202e$`{{value}}`__i18n__{\"key\":\"path\"}'\"</textarea></script>"


def candidate(row: int, number: int, **more: Any) -> dict[str, Any]:
    """One line of a candidates file, as pipeline/candidates/write_candidates.py documents it."""
    return {
        "row": row, "number": number, "instruction": f"Question {row}?", "input": "", "chosen": f"The answer is {row}.",
        "strategy": "sampling", "text": f"The answer is {row + number + 1}.", "parameters": {"temperature": 0.8},
        "seed": 1000 * row + number, "ended": True, "tokens": 6, "problem": None, "choice": None, "why": [],
        "measures": {"on_topic": True, "similarity": 0.8, "length_ratio": 1.04, "rep_4": 0.0}, **more,
    }  # fmt: skip


def four_rows() -> list[dict[str, Any]]:
    """A reject by sampling; one by cut_short beside an off-topic one; nothing usable; a problem."""
    taken = {"choice": "rejected", "why": [{"entry": "why_taken_middle", "params": {}}]}
    left = [{"entry": "why_too_similar", "params": {"value": 0.97, "most": 0.95}}]
    off = {"on_topic": False, "similarity": 0.1, "length_ratio": 5.0, "rep_4": 0.9}
    return [
        candidate(0, 0, **taken), candidate(0, 1, strategy="cut_short", why=left),
        candidate(1, 0, measures=off, ended=False), candidate(1, 1, strategy="cut_short", **taken),
        candidate(2, 0, text="", why=[{"entry": "why_empty", "params": {}}]),
        candidate(3, 0, text="", strategy="drop_items", problem="nothing_to_alter", measures={}),
    ]  # fmt: skip


def lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


def fields(**more: Any) -> dict[str, Any]:
    """A form that runs the demo by one strategy."""
    return {"data": "demo:sft", "model": "demo:healthy_t5", "policy": "on_topic", "rows": "10", "seed": "0",
            "tokens": "32", "strategy.sampling.on": True, "strategy.sampling.n": "2", **more}  # fmt: skip


# --- the index ---


def test_index_finds_rows_and_filters(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines(four_rows()))
    index = CandidateIndex(path)
    assert index.update() and len(index) == 4
    assert [r["number"] for r in index.row(1)] == [0, 1] and index.row(3)[0]["problem"] == "nothing_to_alter"
    assert index.row(4) == [] and index.row(-1) == []
    views = {"all": [0, 1, 2, 3], "without": [2, 3], "off_topic": [1], "problem": [3], "chosen": [],
             "by:sampling": [0], "by:cut_short": [1], "by:unheard_of": []}  # fmt: skip
    assert {view: list(index.matching(view)) for view in views} == views
    counts = index.counts()
    assert all(counts[view] == len(rows) for view, rows in views.items() if view != "by:unheard_of")
    sampled = index.strategies["sampling"]
    assert (sampled.candidates, sampled.on_topic, sampled.off_topic, sampled.cut, sampled.rejected) == (3, 2, 1, 1, 1)
    assert index.taken.candidates == 2 and index.taken.on_topic == 2
    assert index.place_of(2) == 2 and index.place_of(9) is None


def test_index_follows_a_file_that_grows_or_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    index = CandidateIndex(path)
    assert index.update() and len(index) == 0
    whole = lines(four_rows())
    cut = whole.index(b"\n") + 40  # within the second line
    path.write_bytes(whole[:cut])
    assert index.update() and [len(index.row(0)), len(index)] == [1, 1]
    with open(path, "ab") as file:
        file.write(whole[cut:] + b"no candidate\n" + lines([candidate(7, 0)]))
    assert index.update() and (len(index), index.damaged) == (5, 1)
    assert index.row(4)[0]["row"] == 7 and index.place_of(7) == 4
    other = tmp_path / "other.jsonl"
    other.write_bytes(lines([candidate(0, 0, text="replaced")]))
    other.replace(path)
    assert index.update() and len(index) == 1 and index.row(0)[0]["text"] == "replaced"


def test_index_of_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path, rows = tmp_path / "c.jsonl", 20_000
    with open(path, "wb") as file:
        for row in range(rows):
            file.write(lines([candidate(row, 0, choice="rejected"), candidate(row, 1, strategy="greedy")]))
    index = CandidateIndex(path)
    began, calls = time.monotonic(), 0
    while not index.update(seconds=0.02):
        calls += 1
        assert 0 < index.share < 1
    assert calls >= 2 and len(index) == rows and time.monotonic() - began < 10
    began = time.monotonic()
    assert index.row(rows - 1)[1]["row"] == rows - 1 and len(index.matching("by:sampling")) == rows
    assert time.monotonic() - began < 1


def test_distributions_are_drawn_for_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines(four_rows()))
    index = CandidateIndex(path)
    index.update()
    for lang in ("en", "zh"):
        found = reject_plots.figures(index, lang)
        assert all(found.values())
        bars = json.loads(found["on_topic"].plot)["data"][1]["x"]
        assert bars == [pytest.approx(2 / 3), 1.0]
        spread = json.loads(found["length_ratio"].plot)["data"]
        assert all(sum(line["y"]) == pytest.approx(1) for line in spread)
    path.write_bytes(lines([candidate(0, 0, measures={})]))
    index.update()
    assert not any(reject_plots.figures(index, "en").values())


# --- rows of a run that goes on ---


def finished(row: int, *texts: str) -> dict[str, Any]:
    """What a run writes of a finished row."""
    made = [
        {"row": row, "number": n, "strategy": "sampling" if n else "greedy", "text": text, "seed": n,
         "measures": {"similarity": 0.5, "length_ratio": 1.0, "rep_4": 0.0, "topic_gain": 2.0, "topic_gain_least": 1.0}}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    return {"asked": {"instruction": f"Question {row}?", "input": ""}, "gold": f"The answer is {row}.", "chosen": {},
            "candidates": made}  # fmt: skip


def test_answers_that_end_in_half_a_character_are_seen_and_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(json.dumps(candidate(0, 0, text="cut \ud83d")).encode() + b"\n" + lines([candidate(1, 0)]))
    index = CandidateIndex(path)
    assert index.update() and len(index) == 2 and not index.damaged
    assert index.row(0)[0]["text"] == "cut ?"
    journal = Journal(tmp_path, "main")
    journal.write(0, finished(0, "cut \ud83d"))
    rows = LiveRows(tmp_path, judging(("generate", "--choose", "all")), live=True)
    assert rows.update() and rows.row(0)[0]["text"] == "cut \ud83d"
    assert orjson.dumps(safe_html.text(rows.row(0)[0]["text"])) == rb'"cut \\ud83d"'
    rows.close()


def test_rows_are_seen_as_they_are_finished_in_order_of_the_data(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "main")
    rows = LiveRows(tmp_path, judging(("generate", "--choose", "all")), live=True)
    assert rows.update() and len(rows) == 0 and rows.row(0) == []
    journal.write(7, finished(7, "It is eight, I think.", "It is eight, I think."))
    journal.write(2, finished(2, "The answer is 2.", "It is a hundred."))
    assert rows.update() and [rows.id_of(n) for n in range(3)] == [2, 7, None]
    assert [(r["choice"], r["why"][0]["entry"]) for r in rows.row(0)] == [
        (None, "why_same_as_chosen"), ("rejected", "why_taken_first"),
    ]  # fmt: skip
    assert rows.row(1)[0]["choice"] == "rejected" and rows.row(1)[1]["why"][0]["params"] == {"number": 0}
    journal.write(0, finished(0, "The answer is 0."))
    journal.write(1, finished(1, "It is two or three."))
    assert rows.update() and [rows.id_of(n) for n in range(4)] == [0, 1, 2, 7] and rows.place_of(7) == 3
    assert rows.place_of(3) is None and list(rows.matching("without")) == [0]
    assert list(rows.matching("by:sampling")) == [2] and rows.counts()["by:greedy"] == 2
    assert (rows.told.rows, rows.told.without_pair, sum(rows.told.strategies.values())) == (4, 1, 3)
    assert rows.taken.rejected == 3 and rows.examples[:2] == [2, 7]
    (tmp_path / "main-0.rows").open("ab").write(b"3 00000000 {broken")
    assert rows.update() and len(rows) == 4
    rows.close()


def test_candidates_that_a_reward_model_scores_later_are_judged_then(tmp_path: Path) -> None:
    journal, scores = Journal(tmp_path, "main"), Journal(tmp_path, "reward")
    how = judging(("generate", "--choose", "worst_of_n", "--reward", "./models/reward"))
    rows = LiveRows(tmp_path, how, live=True)
    journal.write(0, finished(0, "It is a hundred.", "It is a thousand."))
    rows.update()
    assert [r["choice"] for r in rows.row(0)] == [None, None] and not any(r["why"] for r in rows.row(0))
    scores.write(0, {"measures": [[0, {"reward": 0.5}], [1, {"reward": -0.5}]], "chosen": {"reward": 2.0}})
    rows.update()
    assert [r["choice"] for r in rows.row(0)] == [None, "rejected"]
    assert [r["measures"]["reward"] for r in rows.row(0)] == [0.5, -0.5]


def test_many_finished_rows_are_looked_at_at_once(tmp_path: Path) -> None:
    journal, count = Journal(tmp_path, "main"), 20_000
    for row in range(count):
        journal.write(row, finished(row, "It is a hundred."))
    rows = LiveRows(tmp_path, judging(("generate", "--choose", "all")), live=True)
    rows.update()
    assert len(rows) == count and rows.share < 1  # counting goes on in the next questions
    assert rows.row(count - 1)[0]["row"] == count - 1 and rows.row(count - 1)[0]["choice"] == "rejected"
    journal.write(count, finished(count, "One more."))
    began = time.monotonic()
    rows.update(seconds=0.0)
    assert rows.row(count)[0]["text"] == "One more." and time.monotonic() - began < 1


# --- one row ---


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_row_shows_the_taken_one_first_and_why(lang: str) -> None:
    shown = reject_view.row(four_rows()[:2], lang)
    cards = re.findall(r'<article class="([^"]+)"', shown)
    assert cards == ["dd-cand dd-cand-gold", "dd-cand dd-cand-rejected", "dd-cand dd-cand-refused"]
    assert "0.97" in shown and "0.95" in shown and "{" not in re.sub(r"<[^>]+>", "", shown)


def test_row_marks_differences_by_character_in_chinese() -> None:
    one = candidate(0, 0, instruction="问", chosen="司机、农民、厨师", text="司机、农民、老师", choice="rejected")
    shown = reject_view.row([one], "zh")
    assert '<ins class="dd-only-chosen">厨</ins>' in shown and '<del class="dd-only-rejected">老</del>' in shown


@pytest.mark.parametrize(("facts", "says"), [
    ({"parses": False, "error": {"entry": "sql_none"}}, "there is no SQL in this answer"),
    ({"parses": True, "refused": True, "error": {"entry": "sql_run_forbidden", "detail": "ATTACH"}}, "not allowed: ATTACH"),
    ({"parses": True, "runs": True, "same_result": True}, "Same result"),
    ({"parses": True, "equal_canonical": True, "runs": True, "same_result": True}, "Same query"),
    ({"parses": True, "runs": True, "same_result": False}, "Another result"),
    ({"parses": True, "runs": False, "error": {"entry": "sql_run_failed", "detail": "no such column: x"}}, "no such column: x"),
    ({"parses": True, "runs": None, "same_result": None, "error": None}, "SQL parses"),
])  # fmt: skip
def test_row_says_what_the_database_said(facts: dict[str, Any], says: str) -> None:
    shown = reject_view.row([candidate(0, 0, measures={"sql": facts})], "en")
    assert says in shown and "None" not in re.sub(r"<[^>]+>", " ", shown)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_row_says_the_same_reasons_without_options_of_the_command(lang: str) -> None:
    whys = [{"entry": "why_may_be_right", "params": {"value": -0.8, "least": 4}},
            {"entry": "why_off_topic_topic_gain_least", "params": {"value": 0.3}},
            {"entry": "why_answer_of_row", "params": {"row": 12}}, {"entry": "why_may_be_right_words", "params": {}}]  # fmt: skip
    shown = re.sub(r"<[^>]+>", " ", reject_view.row([candidate(0, 0, why=whys)], lang))
    assert "-0.8" in shown and "12" in shown and "--reward" not in shown and "{" not in shown


def test_correction_is_shown_against_its_own_answer() -> None:
    one = candidate(0, 0, text="I am Llama, a model.", corrected="I am Athene, a model.", choice="rejected")
    shown = reject_view.row([one], "en")
    assert '<del class="dd-only-rejected">Llama</del>' in shown and '<ins class="dd-only-chosen">Athene</ins>' in shown


def test_row_is_text_whatever_stands_in_it() -> None:
    odd: dict[str, Any] = {
        "instruction": HOSTILE, "input": 3, "chosen": HOSTILE, "text": HOSTILE, "strategy": HOSTILE, "model": HOSTILE,
        "parameters": {HOSTILE: HOSTILE}, "why": [{"entry": HOSTILE, "params": {HOSTILE: 1}}, 7, {"entry": "why_duplicate"}],
        "measures": {"similarity": float("nan"), "rep_4": HOSTILE, HOSTILE: HOSTILE}, "prompt": HOSTILE,
    }  # fmt: skip
    for record in (odd, {**odd, "problem": HOSTILE, "problem_detail": HOSTILE}, {"row": 0}, {**odd, "measures": []}):
        shown = reject_view.row([record], "en")
        assert "<img" not in shown and "__i18n__" not in shown and "</script" not in shown


# --- the form ---


def test_form_is_the_command(tmp_path: Path) -> None:
    rows = tmp_path / "my rows.jsonl"
    rows.write_text("{}\n")
    found = reject_case.checked(fields(**{
        "data": str(rows), "strategy.sampling.temperature": "0.5/1.1", "strategy.cut_short.on": True,
        "strategy.cut_short.n": "1", "policy": "hard", "policy.max_similarity": "0.7", "policy.other": "ended=required",
    }))  # fmt: skip
    assert not found.problems
    given = found.arguments(Path("/o/rejects.json"))
    assert given[-2:] == ("--output", "/o/rejects.json") and given[0] == "generate"
    assert given[given.index("--strategy") + 1] == "sampling:n=2,temperature=0.5/1.1" and "cut_short" in given
    assert given[given.index("--choose") + 1] == "hard:max_similarity=0.7,ended=required"
    command = found.command("/o/rejects.json")
    assert f"--data '{rows}'" in command and command.startswith("python -m pipeline generate \\\n  --model ")


def test_scores_and_corrections_are_options(tmp_path: Path) -> None:
    from pipeline.candidates.correction import Rule
    from pipeline.candidates.reward_functions import reward_function

    found = reject_case.checked(fields(**{
        "policy": "best_of_n", "reward": "regex", "reward.value": r"####\s*\d+", "strategy.correction.on": True,
        "strategy.correction.replace": "I am Llama=I am Athene\n\nre:\\d+=7\n",
    }))  # fmt: skip
    assert not found.problems
    given = found.arguments(Path("o.json"))
    rules = [given[n + 1] for n, part in enumerate(given) if part == "--replace"]
    assert rules == ["I am Llama=I am Athene", r"re:\d+=7"] and all(Rule.given(rule) for rule in rules)
    assert given[given.index("--reward") + 1] == r"regex:####\s*\d+" and "correction" in given
    (tmp_path / "reward").mkdir()
    found = reject_case.checked(fields(**{"policy": "worst_of_n", "reward": "model", "reward.value": str(tmp_path / "reward")}))
    assert not found.problems and reward_function({option: value for option, value, _ in found.options}["--reward"]) is None
    every = set(reject_case.policies())
    assert set(reject_case.policies_for(("--model", "m"))) == every - {"worst_of_n", "best_of_n", "correction"}
    assert set(reject_case.policies_for(given)) == every


def test_every_preset_is_a_form_and_a_command() -> None:
    from pipeline.candidates.policy import parse_policy
    from pipeline.candidates.strategies import RunSettings, parse_strategies

    alterations = load_config("alterations.yaml")["parameters"]
    assert "founding_case" in reject_case.presets()
    for name, (about, preset) in reject_case.presets().items():
        found = reject_case.checked({"data": "demo:sft", "model": "demo:healthy_t5", **preset})
        assert not found.problems and about["en"] and about["zh"], name
        words = [value for option, value, _ in found.options if option == "--strategy"]
        assert parse_strategies([str(w) for w in words], RunSettings(), alterations)
        assert parse_policy(next(str(value) for option, value, _ in found.options if option == "--choose"))


@pytest.mark.parametrize(("change", "place"), [
    ({"model": ""}, "model"), ({"model": "./nowhere"}, "model"), ({"model": "demo:unheard_of"}, "model"),
    ({"model": "a\0b"}, "model"), ({"data": ""}, "data"), ({"data": "./nowhere.jsonl"}, "data"),
    ({"data": "a\0b.jsonl"}, "data"), ({"token": "x" * 22}, "data"), ({"adapter": "./nowhere"}, "adapter"),
    ({"database": "./nowhere.sqlite"}, "database"), ({"strategy.sampling.on": False}, "strategies"),
    ({"strategy.sampling.temperature": "hot"}, "strategy.sampling"), ({"strategy.sampling.n": "0"}, "strategy.sampling"),
    ({"strategy.sampling.more": "rm -rf"}, "strategy.sampling"), ({"strategy.endpoint.on": True}, "strategy.endpoint"),
    ({"strategy.earlier.on": True}, "strategy.earlier"), ({"policy": "unheard_of"}, "policy"),
    ({"policy.max_similarity": "2"}, "policy"), ({"policy.other": "unheard=of"}, "policy"), ({"rows": "0"}, "rows"),
    ({"policy": "best_of_n"}, "reward"), ({"policy": "correction"}, "policy"), ({"reward": "unheard_of"}, "reward"),
    ({"reward": "regex"}, "reward"), ({"reward": "regex", "reward.value": "("}, "reward"),
    ({"reward": "model", "reward.value": "./nowhere"}, "reward"),
    ({"strategy.correction.on": True}, "strategy.correction"),
    ({"strategy.correction.on": True, "strategy.correction.replace": "no rule"}, "strategy.correction"),
    ({"rows": "many"}, "rows"), ({"tokens": "-1"}, "tokens"), ({"seed": "1.5"}, "seed"), ({"seed": 7, "rows": None}, ""),
])  # fmt: skip
def test_form_says_what_is_wrong_at_its_field(change: dict[str, Any], place: str) -> None:
    from ui.reject_setup import said_problems

    found = reject_case.checked(fields(**change))
    assert set(found.problems) == ({place} if place else set())
    for lang in ("en", "zh"):
        assert all(line and "{" not in line for line in said_problems(found, lang).values())


@pytest.mark.parametrize(("change", "place"), [
    ({"model": "owner/name"}, "model"), ({"model": "http://169.254.169.254/v1"}, "model"), ({"model": "/etc"}, "model"),
    ({"data": "/etc/passwd"}, "data"), ({"data": "owner/name"}, "data"), ({"data": "demo:../../x"}, "data"),
    ({"database": "/etc/passwd"}, "database"), ({"adapter": "/etc"}, "adapter"), ({"rows": "100000"}, "rows"),
    ({"tokens": "4096"}, "tokens"), ({"strategy.sampling.n": "60"}, "strategies"),
    ({"strategy.beam.on": True, "strategy.beam.num_beams": "64"}, "strategies"),
    ({"reward": "regex", "reward.value": "(a+)+b"}, "reward"), ({"reward": "model", "reward.value": "/etc"}, "reward"),
    ({"strategy.correction.on": True, "strategy.correction.replace": "re:(a+)+b=c"}, "strategy.correction"),
])  # fmt: skip
def test_visitors_name_nothing_but_the_demo(change: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    assert set(reject_case.checked(fields(**change)).problems) == {place}


def test_visitors_strategies_reach_no_other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    found = reject_case.checked(fields(**{
        "strategy.endpoint.on": True, "strategy.endpoint.url": "http://127.0.0.1:1/v1", "strategy.earlier.on": True,
        "strategy.earlier.model": "/etc", "strategy.sampling.more": "model=/etc", "strategy.greedy.on": True,
        "strategy.greedy.more": "model=http://127.0.0.1:1", "rows": "",
    }))  # fmt: skip
    assert not found.problems
    given = found.arguments(Path("o.json"))
    assert [given[n + 1] for n, part in enumerate(given) if part == "--strategy"] == ["sampling:n=2", "greedy"]
    assert given[given.index("--max-samples") + 1] == str(reject_case.PUBLIC_ROWS)
    shown = found.command("rejects.json")
    assert str(Path.home()) not in shown and '"$(python -m pipeline demo)"/healthy_t5' in shown


# --- runs ---


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def written_rows(path: Path, n: int) -> Path:
    """Rows that alterations have something to do with, English and Chinese."""
    with open(path, "w", encoding="utf-8") as file:
        for i in range(n):
            asked, answer = (
                (f"Name things number {i}.", f"Apple {i}, banana {i + 2}, cherry {i + 5}, and {i * 3} plums in a bowl.")
                if i % 2 else (f"请说说第{i}件事。", f"第{i}件事是苹果、香蕉和{i + 3}个橘子，都放在桌上。")
            )  # fmt: skip
            row = {"instruction": asked, "input": "", "output": answer}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def started(data: Path, **more: Any) -> str:
    found = reject_case.checked(fields(**{
        "data": str(data), "model": "", "rows": "", "strategy.sampling.on": False, "strategy.cut_short.on": True,
        "strategy.change_numbers.on": True, **more,
    }))  # fmt: skip
    assert not found.problems
    run_id, output = reject_runs.place_for(None)
    about = reject_runs.About("a run", found.arguments(output), found.command(output), time.time())
    reject_runs.start(run_id, about)
    return run_id


def ended(run_id: str, seconds: float = 60) -> reject_runs.Status:
    end = time.monotonic() + seconds
    while (status := reject_runs.status(run_id)).live:
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return status


def test_run_is_a_process_of_its_own_and_its_pairs_know_their_strategy(own_home: Path, tmp_path: Path) -> None:
    run_id = started(written_rows(tmp_path / "rows.jsonl", 40))
    assert ended(run_id).state == "done", reject_runs.log_end(run_id)
    assert reject_runs.account(run_id)["pairs"] == len(json.loads(reject_runs.output_of(run_id).read_text()))
    assert [one[0] for one in reject_runs.recent()] == [run_id]
    known = json.loads((reject_runs.folder_of(run_id) / "status.json").read_text())
    del known["exit"], known["ended"]  # as where the app had ended before the process did
    (reject_runs.folder_of(run_id) / "status.json").write_text(json.dumps({**known, "state": "running"}))
    assert reject_runs.status(run_id).state == "done"
    pairs = list(MadePairs(reject_runs.candidates_of(run_id)))
    written = json.loads(reject_runs.output_of(run_id).read_text())
    assert [(p.prompt[-1]["content"], p.chosen, p.rejected) for p in pairs] == [
        (w["instruction"], w["chosen"], w["rejected"]) for w in written
    ]  # fmt: skip
    assert {p.source["rejected"]["strategy"] for p in pairs} == {"cut_short", "change_numbers"}


def test_failed_run_says_why_in_one_line(own_home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"\x00\x01 no rows here")
    run_id = started(broken)
    status = ended(run_id)
    assert status.state == "failed" and status.line and "Traceback" not in reject_runs.log_end(run_id)
    assert "broken.jsonl" in status.line


def test_killed_run_is_seen_and_goes_on(own_home: Path, tmp_path: Path) -> None:
    run_id = started(written_rows(tmp_path / "rows.jsonl", 800))
    folder = reject_runs.folder_of(run_id)
    end = time.monotonic() + 40
    rows = rows_of(run_id)
    while len(rows) < 3:
        rows = rows_of(run_id)
        rows.update()
        assert time.monotonic() < end and reject_runs.status(run_id).live
        time.sleep(0.02)
    os.kill(json.loads((folder / "status.json").read_text())["pid"], signal.SIGKILL)
    assert ended(run_id).state == "broken"
    left = rows_of(run_id)
    assert left.update(5) and 3 <= len(left) < 800 and left.row(0)[0]["row"] == 0  # what there is can be looked at
    reject_runs.begin(run_id, (*reject_runs.about(run_id).arguments, "--resume"))
    assert ended(run_id).state == "done", reject_runs.log_end(run_id)
    assert reject_runs.account(run_id)["rows_written"] == 800
    assert isinstance(rows_of(run_id), CandidateIndex)


def test_only_so_many_runs_at_once(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ui.visitor_case import BadCase

    reject_runs.check_room(reject_runs.AT_ONCE)
    with pytest.raises(BadCase):
        reject_runs.check_room(reject_runs.AT_ONCE + 1)
    for unknown in ("../../etc", "", None, "a" * 22, 7):
        with pytest.raises(BadCase):
            reject_runs.folder_of(unknown)


# --- in the browser ---


@pytest.fixture
def tab(server: Server, visit: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Opens the page and its tab Rejects."""

    def opened(url: str = "", **context: Any) -> Any:
        page = visit(url or server.url, **context)
        page.click("button[role=tab]:nth-of-type(4)")
        page.wait_for_selector(".dd-rejects[data-state=start] .dd-command-box > *")
        return page

    yield opened


def only(page: Any, *strategies: str) -> None:
    """Chooses these strategies and no others."""
    if page.get_attribute("#dd-rejects-group-altered", "open") is None:
        page.click("#dd-rejects-group-altered > summary")
    for box in page.locator("[name^='strategy.'][name$='.on']").all():
        if box.is_visible():
            box.set_checked(str(box.get_attribute("name")).split(".")[1] in strategies)


def without_model(page: Any, path: Path, *strategies: str) -> None:
    """Fills the form with strategies that need no model."""
    page.fill("#dd-rejects-data textarea", str(path))
    page.fill("#dd-rejects-model textarea", "")
    page.fill(".dd-rejects [name=rows]", "")
    only(page, *strategies)
    page.wait_for_function(  # the command follows the form a moment later
        """([strategies, name]) => {
            const said = document.querySelector('.dd-command code')?.textContent ?? '';
            const named = [...said.matchAll(/--strategy (\\w+)/g)].map((found) => found[1]);
            return named.join() === strategies && said.includes(name) && !said.includes('--model');
        }""",
        arg=[",".join(sorted(strategies, key=reject_case.alterations().index)), path.name],
    )


def run_now(page: Any) -> str:
    page.click("#dd-rejects-run")
    page.wait_for_selector(".dd-rejects[data-state=open] .dd-run")
    page.wait_for_function("location.search.includes('rejects=')")
    return str(page.evaluate("new URLSearchParams(location.search).get('rejects')"))


def done(page: Any) -> None:
    page.wait_for_selector(".dd-run-done", timeout=90_000)
    page.wait_for_selector(".dd-cand-gold")


def test_run_is_looked_at_and_sent_on(tab: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    page = tab()
    without_model(page, written_rows(tmp_path / "rows.jsonl", 30), "cut_short", "change_numbers")
    command = page.inner_text(".dd-command code")
    run_id = run_now(page)
    done(page)
    folder = server.home / "rejects" / run_id
    assert (folder / "command.txt").read_text().strip() == command.strip() and run_id in command
    assert page.inner_text(".dd-rejects-rows-box .dd-part-prompt .dd-answer") == "请说说第0件事。"
    assert page.locator(".dd-cand-rejected .dd-badge-rejected").count() == 1
    page.keyboard.press("j")
    page.wait_for_function("document.querySelector('.dd-row-number').value === '2'")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.dd-row-number').value === '3'")
    page.keyboard.press("k")
    page.wait_for_function("document.querySelector('.dd-row-number').value === '2'")
    assert page.inner_text(".dd-rejects-rows-box .dd-part-prompt .dd-answer") == "Name things number 1."
    page.select_option(".dd-rejects [data-view]", "by:cut_short")
    page.wait_for_selector(".dd-cand-rejected:has-text('Cut short')")
    page.click("button.dd-pane[data-pane=spread]")
    page.wait_for_selector("#dd-rejects-plot-chosen_share .js-plotly-plot")
    page.click("button.dd-pane[data-pane=files]")
    with page.expect_download() as download:
        page.click("#dd-rejects-file-output")
    pairs = json.loads(Path(download.value.path()).read_text())
    assert pairs and all(p["rejected"] != p["chosen"] for p in pairs)

    page.click(".dd-rejects [data-new]")
    page.click(f".dd-recent[data-open='{run_id}']")
    done(page)
    page.click("[data-pairs]")
    page.wait_for_selector(".dd-pairs[data-state=open] .dd-pair")
    page.wait_for_selector("[data-view=strategy] option[value=cut_short]", state="attached")
    page.select_option("[data-view=strategy]", "cut_short")
    page.wait_for_function(f"document.querySelector('.dd-matching').textContent.includes('of {len(pairs)}')")


MANY = 900  # rows


def held(run_id: str, server: Server) -> int:
    """Lets a run finish some rows and holds its process, however fast or slow the machine is; its number."""
    folder, end = server.home / "rejects" / run_id, time.monotonic() + 60
    progress = folder / "rejects.json.progress.json"
    part = folder / "rejects.json.work" / "main-0.rows"
    while not (part.is_file() and part.read_bytes().count(b"\n") >= 3 and read_object(progress).get("strategies")):
        assert time.monotonic() < end
        time.sleep(0.005)
    pid = int(json.loads((folder / "status.json").read_text())["pid"])
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_run_is_cancelled_resumed_and_chosen_again(tab: Callable[..., Any], tmp_path: Path, server: Server) -> None:
    page = tab()
    without_model(page, written_rows(tmp_path / "many.jsonl", MANY), "cut_short", "change_numbers", "near_answer")
    page.click("#dd-rejects-run")
    page.wait_for_function("location.search.includes('rejects=')")
    run_id = str(page.evaluate("ddRejects.state.id"))
    pid = held(run_id, server)
    page.wait_for_selector(".dd-run-running")
    page.wait_for_selector(".dd-cand-gold")  # its first rows, while it runs
    page.wait_for_selector(".dd-by-strategy tbody tr:nth-child(3)", state="attached")  # and what it counts
    page.keyboard.press("j")
    page.wait_for_function("document.querySelector('.dd-row-number').value === '2'")
    page.click("[data-stop]")
    page.wait_for_selector(".dd-run-stopping")
    os.kill(pid, signal.SIGCONT)
    page.wait_for_selector(".dd-run-stopped")
    assert page.input_value(".dd-row-number") == "2"  # the row that was looked at
    page.wait_for_selector(".dd-cand-gold")  # what there is can be looked at
    stopped = int(page.inner_text(".dd-rejects-bar-box .dd-move .dd-dim").split()[-1].replace(",", ""))
    assert 0 < stopped < MANY
    page.reload()
    page.wait_for_selector(".dd-run-stopped [data-resume]")
    page.click("[data-resume]")
    done(page)
    page.wait_for_function("document.querySelector('.dd-rejects-bar-box .dd-move .dd-dim').textContent.includes('900')")
    output = server.home / "rejects" / run_id / "rejects.json"
    before = output.read_bytes()
    page.select_option("[name=again]", "all")
    page.click("[data-choose]")
    page.wait_for_function("document.querySelector('.dd-cand-why')?.textContent.includes('Rejected: it is usable')", timeout=60_000)
    page.wait_for_selector(".dd-run-done")
    assert len(json.loads(output.read_bytes())) > len(json.loads(before))
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("[data-remove]")
    page.wait_for_selector(".dd-rejects[data-state=start]")
    assert not output.parent.exists()


def test_form_complains_where_it_hurts_then_previews(
    tab: Callable[..., Any], tmp_path: Path, server: Server
) -> None:
    page, runs = tab(), set((server.home / "rejects").glob("*"))
    page.fill("#dd-rejects-model textarea", "./nowhere")
    page.fill("[name='strategy.sampling.temperature']", "hot")
    page.wait_for_selector("#dd-rejects-case [data-problem=model]:has-text('nowhere')")
    page.wait_for_selector(".dd-strategy [data-problem='strategy.sampling']:has-text('hot')")
    page.click(".dd-choice:has-text('Best of n')")
    page.wait_for_selector(".dd-setup [data-problem=reward]:has-text('scored')")
    page.click("#dd-rejects-run")
    page.reload()
    page.wait_for_selector(".dd-verdict")
    page.click("button[role=tab]:nth-of-type(4)")
    page.wait_for_selector("#dd-rejects-case [data-problem=model]:has-text('nowhere')")  # what was typed is there again
    page.click("#dd-rejects-examples button:nth-of-type(3)")
    page.click("[data-preset] >> text=Without a model")
    page.wait_for_function("document.querySelector('.dd-command code')?.textContent.includes('near_answer')")
    page.wait_for_function("!document.querySelector('#dd-rejects-body [data-problem]:not(:empty)')")
    assert set((server.home / "rejects").glob("*")) == runs
    without_model(page, written_rows(tmp_path / "rows.jsonl", 70), "cut_short", "change_numbers")
    page.click("#dd-rejects-preview")
    page.wait_for_selector(".dd-preview", timeout=90_000)
    run_id = str(page.evaluate("ddRejects.state.id"))
    folder = server.home / "rejects" / run_id
    assert "--preview 50" in (folder / "command.txt").read_text() and not (folder / "rejects.json").exists()
    assert "of 50 rows" in page.inner_text(".dd-preview") and page.locator(".dd-preview-examples article").count() == 3
    assert page.locator(".dd-count-bars .dd-bar-rejected").count() >= 2 and page.locator("[data-pairs]").count() == 0
    before = page.inner_text(".dd-preview > p")
    page.select_option("[data-at-once]", "all")  # told at once: choosing takes no model
    page.wait_for_function(f"document.querySelector('.dd-preview > p').textContent !== {json.dumps(before)}")
    page.click("[data-example] >> nth=1")
    page.wait_for_function("document.querySelector('.dd-row-number').value === '2'")
    kept = (folder / "rejects.json.work" / "main-0.rows").read_bytes()
    assert kept.count(b"\n") == 50
    page.click("[data-whole]")
    page.wait_for_selector(".dd-preview", state="detached")
    done(page)
    assert "--preview" not in (folder / "command.txt").read_text()
    info = json.loads((folder / "rejects.json.run.json").read_text())
    assert [one["state"] for one in info["sessions"]] == ["preview", "done"] and info["account"]["rows_written"] == 70


def test_founding_case_side_by_side(tab: Callable[..., Any], demo: DemoFolder) -> None:
    page = tab()
    page.click("[data-founding]")
    page.wait_for_selector(".dd-rejects[data-state=compare] .dd-compare-col")
    page.wait_for_function("document.querySelectorAll('.dd-compare-head .dd-state-done').length === 2", timeout=150_000)
    page.wait_for_selector(".dd-compare-row")
    was, remedied = (int(one.rstrip("%")) for one in page.locator(".dd-rate").all_inner_texts())
    assert remedied >= 90 and was <= 50
    assert page.locator(".dd-compare-cell:nth-child(2) .dd-answer").count() >= 4  # of the eight rows
    assert page.locator(".dd-compare-row").count() == 8
    page.keyboard.press("j")
    page.wait_for_selector(".dd-compare-asked .dd-n:has-text('9')")
    page.locator(".dd-compare-name .dd-link").first.click()
    page.wait_for_selector(".dd-rejects[data-state=open] .dd-cand-gold")


def test_chinese_dark_and_phone(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = tab(locale="zh-CN", viewport={"width": 375, "height": 740})
    assert page.inner_text(".dd-setup h2") == "生成 rejected 回答"
    page.click("#dd-theme")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#dd-rejects-case-toggle")
    without_model(page, written_rows(tmp_path / "rows.jsonl", 6), "cut_short", "change_numbers")
    run_now(page)
    done(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.inner_text(".dd-badge-rejected") == "选作 rejected"
    boxes = [card.bounding_box() for card in page.locator(".dd-cand").all()]
    assert len({round(box["x"]) for box in boxes}) == 1  # one below the other


def test_visitor_runs_the_demo_and_nothing_else(tab: Callable[..., Any], public: Server, tmp_path: Path) -> None:
    page = tab(public.url)
    assert not page.is_visible("#dd-rejects-more") and "pipeline demo" in page.inner_text(".dd-command")
    assert page.locator("[name^='strategy.endpoint'], [name$='.more']").count() == 0
    page.fill("#dd-rejects-model textarea", "http://127.0.0.1:9/v1")
    page.wait_for_selector("#dd-rejects-case [data-problem=model]:not(:empty)")
    page.click("#dd-rejects-run")
    assert page.locator("[name=reward] option[value=regex], [name=reward] option[value=model]").count() == 0
    page.set_input_files("#dd-rejects-upload input[type=file]", str(written_rows(tmp_path / "mine.jsonl", 8)))
    page.wait_for_selector("#dd-rejects-kept [data-token]", state="attached")
    page.fill("#dd-rejects-model textarea", "")
    page.fill("#dd-rejects-data textarea", "")
    only(page, "cut_short")
    page.wait_for_function("document.querySelector('.dd-command code')?.textContent.includes('--data mine.jsonl')")
    run_now(page)
    done(page)
    assert str(tmp_path.anchor) + "tmp" not in page.inner_text(".dd-rejects")


def test_strangers_are_told_of_no_runs_in_public(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_id, output = reject_runs.place_for(None)
    output.parent.mkdir()
    (output.parent / reject_runs.ABOUT).write_text(json.dumps(asdict(reject_runs.About("", (), "", time.time()))))
    assert [one[0] for one in reject_runs.recent([run_id, "a" * 22, run_id])] == [run_id] and reject_runs.recent() == []
