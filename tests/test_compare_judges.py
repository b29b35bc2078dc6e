"""`python -m pipeline compare` with a judging server, people's votes, tables as files, and a reward model without words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from openai_server import openai_server

from pipeline.__main__ import main
from pipeline.evaluation.blind_votes import open_votes
from pipeline.evaluation.results import read_result_file

ROWS = [{"prompt": f"Tell me about thing {n}.", "category": "odd" if n % 2 else "even"} for n in range(24)]
SHORT = [{**row, "response": f"thing {n}."} for n, row in enumerate(ROWS)]
LONG = [{**row, "response": f"thing {n} is large and green."} for n, row in enumerate(ROWS)]


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, Any, str]:
    status = main(["compare", *map(str, argv)])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out.startswith("{") else out, err


def table(rows: list[dict[str, Any]], path: Path) -> Path:
    frame = pd.DataFrame(rows)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def longer_is_better(body: dict[str, Any]) -> str:
    text = body["messages"][-1]["content"]
    mark = re.search(r"<<<[^\n]* (\w{8})\n", text)
    assert mark is not None
    *_, a, b = re.findall(rf"<<<[^\n]* {mark[1]}\n(.*?)\n[^\n]* {mark[1]}>>>", text, re.DOTALL)
    return f"[[{'A' if len(a) > len(b) else 'B'}]]"


def test_a_judging_server_decides_and_is_not_asked_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.parquet")
    output = tmp_path / "r.json"
    with openai_server(answer=longer_is_better) as served:
        argv = ["--before", before, "--after", after, "--judge", served.url, "--output", output, "--format", "json"]
        status, result, err = run(capsys, *argv)
        asked = sum("messages" in one for one in served.requests)
        again = run(capsys, *argv)[1]
        assert sum("messages" in one for one in served.requests) == asked
    assert status == 1, err
    assert (result["verdict"], result["decided_by"]) == ("worse", "judge")
    contest = next(one for one in result["contests"] if one["by"] == "judge")
    assert (contest["wins"], contest["ties"], contest["losses"]) == (0, 0, 24)
    assert set(contest["by_category"]) == {"odd", "even"}
    assert result["report"]["verdict"] == "problems"
    assert again["contests"] == result["contests"]


def test_a_judge_that_goes_by_place_shows_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.csv")
    with openai_server(answer=lambda body: "[[A]]") as served:
        status, result, _ = run(capsys, "--before", before, "--after", after, "--judge", served.url, "--format", "json")
    assert (status, result["verdict"]) == (0, "no_difference")
    named = {one["code"]: one["severity"] for one in result["report"]["findings"]}
    assert named["CMP011"] == "warning"


def test_votes_of_people_decide_over_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.csv")
    output = tmp_path / "r.json"
    argv = ["--before", before, "--after", after, "--output", output, "--format", "json"]
    assert run(capsys, *argv)[1]["verdict"] is None
    votes = open_votes(tmp_path / "r.rows.jsonl", tmp_path / "votes", seed=3)
    while (case := votes.next()) is not None:
        votes.vote(case, "left" if len(case.left) < len(case.right) else "right")
    with openai_server(answer=longer_is_better) as served:
        status, result, _ = run(capsys, *argv, "--votes", tmp_path / "votes", "--judge", served.url)
    assert (result["verdict"], result["decided_by"], status) == ("better", "people", 0)
    assert result["disagreeing"]
    assert read_result_file(output)["verdict"] == "better"


def test_a_server_that_answers_no_verdict_judges_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.csv")
    with openai_server(answer=lambda body: "Both are fine.") as served:
        _, result, _ = run(capsys, "--before", before, "--after", after, "--judge", served.url, "--format", "json")
    contest = next((one for one in result["contests"] if one["by"] == "judge"), None)
    assert result["verdict"] is None
    assert contest is None or (contest["n"] == 0 and sum(contest["unjudged"].values()) == 24)


def test_the_budget_of_a_judge_is_not_overrun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.csv")
    argv = ["--before", before, "--after", after, "--output", tmp_path / "r.json"]
    with openai_server(answer=longer_is_better, delay=0.02) as served:
        asked = [*argv, "--judge", served.url, "--most-cost", "2"]
        status, _, err = run(capsys, *asked)
        assert status == 2 and "--price-in" in err
        prices = ["--price-in", "1000", "--price-out", "1000", "--lang", "en"]
        said = run(capsys, *asked, *prices)[1]
    result = read_result_file(tmp_path / "r.json")
    [judged] = result["judge"].values()
    assert judged["stopped"] == "judge_budget_spent" and judged["problems"]["not_asked"] > 10
    assert 0.5 < judged["cost"] <= 2.4  # by the mean of the requests so far; one may be dearer
    assert isinstance(judged["position_dependent"], dict)
    assert "budget is spent" in said
    # what was not asked is no silence of the judge
    assert {one["code"]: one["severity"] for one in _findings(tmp_path / "r.json")}.get("CMP011") != "warning"


def _findings(path: Path) -> list[dict[str, Any]]:
    from diagnostics.diagnose_evaluation import diagnose_evaluation

    return [{"code": one.code, "severity": one.severity} for one in diagnose_evaluation(path).findings]


def test_all_models_share_the_budget_and_the_bound_on_requests_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.csv")
    other = table([{**row, "response": "No."} for row in SHORT], tmp_path / "other.csv")
    with openai_server(answer=longer_is_better, delay=0.02) as served:
        said = run(capsys, "--before", before, "--after", after, "--after", other, "--output", tmp_path / "r.json",
                   "--judge", served.url, "--most-cost", "4", "--price-in", "1000", "--price-out", "1000",
                   "--concurrency", "2")[1]  # fmt: skip
    first, second = read_result_file(tmp_path / "r.json")["judge"].values()
    assert first["stopped"] == second["stopped"] == "judge_budget_spent"
    assert first["cost"] + second["cost"] <= 4.4 and second["requests"] == 0
    assert said.count(f"({first['cost']:.2f})") == 2
    assert served.most_at_once <= 2


def test_equal_answers_are_equally_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ties whose answers differ in white space alone would else be ties of longer answers."""
    rows = [{"prompt": f"Tell me about thing {n}."} for n in range(60)]
    kinds = ["long"] * 24 + ["short"] * 6 + ["same"] * 30
    before = table([{**row, "response": f"thing {n}." if kind == "long" else f"thing {n} is large."}
                    for n, (row, kind) in enumerate(zip(rows, kinds, strict=True))], tmp_path / "b.csv")  # fmt: skip
    after = table([{**row, "response": f"thing {n}." if kind == "short" else f"thing  {n}\n is  large."}
                   for n, (row, kind) in enumerate(zip(rows, kinds, strict=True))], tmp_path / "a.csv")  # fmt: skip
    with openai_server(answer=longer_is_better) as served:
        result = run(capsys, "--before", before, "--after", after, "--judge", served.url, "--format", "json")[1]
    contest = next(one for one in result["contests"] if one["by"] == "judge")
    assert (contest["wins"], contest["ties"], contest["losses"]) == (24, 30, 6)
    fair = contest["length_controlled"]
    assert fair["low"] < 0.5 < fair["high"] and abs(fair["value"] - 0.5) < 0.05


def test_a_judge_that_dies_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = table(LONG, tmp_path / "long.csv"), table(SHORT, tmp_path / "short.csv")
    left = iter(range(100))
    with openai_server(
        answer=longer_is_better, faults=lambda key, attempt: "400" if next(left) > 10 else None
    ) as served:
        said = run(capsys, "--before", before, "--after", after, "--judge", served.url)[1]
    assert "run the same command again" in said and served.url in said and "--resume" not in said
