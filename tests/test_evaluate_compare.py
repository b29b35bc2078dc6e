"""Before and after, blind votes and abilities in the tab Evaluate: figures and pages alone, and as a visitor meets them."""

from __future__ import annotations

import base64
import html
import json
import math
import random
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_in_browser import Server

from pipeline.demo.build import DemoFolder
from pipeline.evaluation.answer_file import read_answers
from pipeline.evaluation.compare_answers import Comparison, Contestant
from pipeline.evaluation.results import (
    AbilitiesResult,
    Ability,
    AbilityChange,
    Difference,
    ModelNamed,
    Share,
    to_json,
    write_result_file,
)
from pipeline.evaluation.task_check import TaskCheck
from ui import (
    evaluate_abilities,
    evaluate_case,
    evaluate_compare,
    evaluate_compare_view,
    evaluate_contests,
    evaluate_plots,
    evaluate_votes,
)
from ui.evaluate_cases import Wanted, cases_of
from ui.evaluate_panel import Shown
from ui.evaluate_plots import Bar, Points, interval_bars
from ui.visitor_case import BadCase

HOSTILE = "<img src=x onerror=window.hacked=1>\u202e$`{{value}}`__i18n__{\"key\":\"path\"}'\"</textarea></script>"
TAB = "button[role=tab]:nth-of-type(6)"


def answers(folder: Path, name: str, right: float, *, n: int = 120, seed: int = 0, loops: int = 0) -> Path:
    """A file of answers of which so many are right; every loops-th one goes round in circles."""
    chance, path = random.Random(seed), folder / f"{name}.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for i in range(n):
            prompt = f"What is {i} plus {i % 7}?" if i % 2 else f"{i} 加 {i % 7} 等于几？"
            said = i + i % 7 + (0 if chance.random() < right else 1)
            row = {"prompt": prompt, "response": f"{said} " * (30 if loops and i % loops == 0 else 1),
                   "label": str(i + i % 7), "category": "english" if i % 2 else "中文"}  # fmt: skip
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def comparison(folder: Path, before: Path, *afters: Path, check: str = "auto") -> Shown:
    """Files of answers compared as the command does it, as the page shows it."""
    def one(path: Path, role: str) -> Contestant:
        file = read_answers(path, name=path.stem, option=f"--{role}")
        return Contestant(ModelNamed(path.stem, str(path), role), file)

    made = Comparison(one(before, "before"), [one(after, "after") for after in afters])
    made.measure()
    made.check(TaskCheck(check))
    made.write_rows(folder / "comparison.rows.jsonl")
    result = made.result("comparison.rows.jsonl")
    write_result_file(result, folder / evaluate_compare.RESULT)
    return Shown("x" * 22, "comparison", to_json(result), None, folder, folder / "comparison.rows.jsonl")


@pytest.fixture
def better(tmp_path: Path) -> Shown:
    return comparison(tmp_path, answers(tmp_path, "sft", 0.4), answers(tmp_path, "dpo", 0.9, seed=1, loops=10))


# --- figures -----------------------------------------------------------------------------------------------------


def drawn(figure: str) -> dict[str, Any]:
    found = re.search(r'data-figure="([^"]*)"', figure)
    assert found is not None
    return json.loads(html.unescape(found.group(1)))


def numbers(kind: str, packed: dict[str, str]) -> list[float]:
    held = array(kind)
    held.frombytes(base64.b64decode(packed["bdata"]))
    return list(held)


def test_points_travel_with_their_rows_and_without_what_cannot_be_drawn() -> None:
    points = Points([0.5, math.nan, 2.25, math.inf], [1.5, 1, -3.75, 0], [7, 8, 9, 10], HOSTILE, "good")
    figure = evaluate_plots.scatter([points, Points([], [])], "en", x_title="before", y_title=HOSTILE, set_name="reward")
    assert "<img" not in figure and 'data-set="reward"' in figure
    made = drawn(figure)
    (one,) = made["points"]
    assert numbers("f", one["x"]) == [0.5, 2.25] and numbers("f", one["y"]) == [1.5, -3.75]
    assert numbers("i", one["rows"]) == [7, 9]
    assert "<" not in json.dumps([t.get("name", "") for t in made["data"]] + [made["layout"]["yaxis"]["title"]["text"]])
    x, y = made["layout"]["xaxis"]["range"], made["layout"]["yaxis"]["range"]
    assert x == y and x[0] < -3.75 and x[1] > 2.25  # one scale, so that the diagonal is one
    assert evaluate_plots.scatter([Points([math.nan], [1.0])], "en", x_title="x", y_title="y") == ""


def test_a_hundred_thousand_points_are_few_bytes() -> None:
    chance = random.Random(0)
    x = [chance.gauss(0, 1) for _ in range(100_000)]
    assert len(evaluate_plots.scatter([Points(x, x[::-1])], "zh", x_title="x", y_title="y")) < 2 * 2**20


@pytest.mark.parametrize("n", [2, 30, 5000])
def test_no_bar_of_a_histogram_lies_across_the_middle(n: int) -> None:
    chance = random.Random(n)
    values = sorted(chance.gauss(0.4, 1) for _ in range(n))
    edges, counts = evaluate_plots.binned(values, 0.0)
    assert sum(counts) == n and len(edges) == len(counts) + 1
    assert not any(a < -1e-9 < 1e-9 < b for a, b in zip(edges, edges[1:], strict=False))
    below = sum(c for c, (a, b) in zip(counts, zip(edges, edges[1:], strict=False), strict=True) if (a + b) / 2 < 0)
    assert below == sum(v < 0 for v in values)


def test_histogram_of_one_value_is_none() -> None:
    assert evaluate_plots.histogram([1.0, 1.0, math.nan], "en", x_title="x") == ""
    assert evaluate_plots.histogram([1.0, 1.0, 1e300], "en", x_title="x", middle=None)


def test_interval_bars_stand_where_their_numbers_are() -> None:
    shown = evaluate_plots.interval_bars([Bar(HOSTILE, 0.75, 0.5, 1.0, "n", "good", "category", HOSTILE)], "en")
    assert "left:75.0%" in shown and "left:50.0%;width:50.0%" in shown and "75.0%" in shown and "<img" not in shown
    assert 'data-ask="category"' in shown and shown.count("<button") == 1
    around = evaluate_plots.interval_bars([Bar("a", -2, -3, -1), Bar("b", 1)], "en", middle=0, ends=None, percent=False)
    assert "dd-int-mid" in around and "left:50.0%" in around and "−2" in around
    assert evaluate_plots.interval_bars([Bar("a", math.nan)], "en") == ""


def test_bins_without_a_value_are_left_out() -> None:
    share = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 40}
    assert evaluate_plots.calibration([{"predicted": None, "observed": share}], "en") == ""
    made = drawn(evaluate_plots.calibration([{"predicted": 0.8, "observed": share}, {"predicted": 0.6}], "zh"))
    assert made["data"][1]["x"] == [0.8] and made["data"][1]["y"] == [0.7]
    bins = [{"low": -math.log(2), "high": -math.log(1.5), "accuracy": share}, {"low": 0, "high": 1, "accuracy": None},
            {"low": -0.2, "high": 0.2, "accuracy": share}]  # fmt: skip
    ticks = drawn(evaluate_plots.length_bins(bins, "en"))["layout"]["xaxis"]["ticktext"]
    assert ticks == ["÷2 … ÷1.5", "alike"]


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0"), (1.0, "1"), (-0.25, "−0.25"), (1234.5, "1,234"), (None, "–"), (math.nan, "–"),
                                              (0.123456, "0.123"), (41.26, "41.3")])  # fmt: skip
def test_numbers_are_read_with_three_digits(value: float | None, shown: str) -> None:
    assert evaluate_plots.number(value) == shown


# --- who decides -------------------------------------------------------------------------------------------------


def contest(by: str, verdict: str, n: int = 100, after: str = "dpo") -> dict[str, Any]:
    return {"before": "sft", "after": after, "by": by, "verdict": verdict, "n": n, "wins": n, "ties": 0, "losses": 0,
            "win_rate": {"value": 0.5, "low": 0.4, "high": 0.6, "n": n}}  # fmt: skip


def test_who_judged_hardly_any_prompt_does_not_decide() -> None:
    result = {"models": [{"name": "sft"}, {"name": "dpo", "role": "after"}, {"name": "gpt", "role": "judge"}],
              "prompts": {"matched": 100},
              "contests": [contest("length_free_reward", "worse"), contest("reward", "better"), contest("task", "worse", 5)]}  # fmt: skip
    assert evaluate_contests.names_of(result) == ("sft", ["dpo"])
    decided = evaluate_contests.deciding(result, "dpo")
    assert decided is not None and decided["by"] == "reward"
    assert set(evaluate_contests.disagreeing(result, "dpo")) == {"task", "length_free_reward"}
    few = {**result, "contests": [contest("length_free_reward", "worse"), contest("task", "worse", 5)]}
    decided = evaluate_contests.deciding(few, "dpo")
    assert decided is not None and decided["by"] == "task"
    assert evaluate_contests.deciding({**result, "contests": [contest("length_free_reward", "worse")]}, "dpo") is None


# --- the page ----------------------------------------------------------------------------------------------------


def test_a_better_model_is_called_better_in_both_languages(better: Shown) -> None:
    english, chinese = (evaluate_compare_view.view(better, lang) for lang in ("en", "zh"))
    assert "dpo is better than sft" in english and "dpo 比 sft 更好" in chinese and "dd-healthy" in english
    wins = next(c["wins"] for c in better.result["contests"] if c["by"] == "task")
    assert f"{wins} wins" in english and 'data-value="中文"' in english
    assert "repeated 4-grams" in english and "dd-measured-worse" in english  # it goes round in circles now
    headline = evaluate_compare_view.headline(better.result, "en")
    assert headline.tone == "healthy" and "dpo" in headline.line


def test_a_worse_model_is_called_worse_and_too_few_prompts_nothing(tmp_path: Path) -> None:
    sft = answers(tmp_path, "sft", 0.9)
    worse = comparison(tmp_path, sft, answers(tmp_path, "dpo", 0.4, seed=1))
    assert "dpo is worse than sft" in evaluate_compare_view.view(worse, "en")
    assert evaluate_compare_view.headline(worse.result, "en").tone == "problems"
    few = comparison(tmp_path, answers(tmp_path, "sft", 0.5, n=30), answers(tmp_path, "dpo", 0.6, seed=5, n=30))
    shown = evaluate_compare_view.view(few, "en")
    assert "No difference between dpo and sft is shown" in shown
    needed = next(c["needed"] for c in few.result["contests"] if c["by"] == "task")
    assert f"about {needed:,} more prompts would decide" in shown


def test_without_a_judge_there_is_no_verdict_but_measures(tmp_path: Path) -> None:
    shown = comparison(tmp_path, answers(tmp_path, "sft", 0.9), answers(tmp_path, "dpo", 0.4), check="none")
    page = evaluate_compare_view.view(shown, "en")
    assert "Nothing has judged" in page and "characters" in page
    assert "dd-votes" in evaluate_compare_view.cases(shown, "en")
    assert evaluate_compare_view.headline(shown.result, "zh").line == "未评判"


def test_of_several_models_each_can_be_looked_at(tmp_path: Path) -> None:
    one = comparison(tmp_path, answers(tmp_path, "sft", 0.5), answers(tmp_path, "dpo", 0.9, seed=1),
                     answers(tmp_path, "harmful", 0.1, seed=2))  # fmt: skip
    page = evaluate_compare_view.view(one, "en")
    assert 'data-ask="after"' in page and "harmful is worse than sft" in page  # what the findings are of comes first
    assert "harmful" in evaluate_compare_view.cases(one, "en") and "dpo is better" not in page
    parts = evaluate_compare.another(one, {"value": "dpo"}, "en")["parts"]
    other = parts["compare"]
    assert "dpo" in parts["cases"] and ">harmful<" not in parts["cases"]
    assert "dpo is better" in other and "harmful is worse" not in other
    assert re.search(r'data-value="dpo" aria-pressed="true"', other)
    assert evaluate_compare_view.headline(one.result, "en").tone == "problems"


def test_names_and_answers_are_only_text(tmp_path: Path) -> None:
    rows = [{"prompt": HOSTILE, "response": HOSTILE, "label": "1", "category": HOSTILE}] * 12
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    one = comparison(tmp_path, tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    result = json.loads(json.dumps(one.result).replace('"b"', json.dumps(HOSTILE)))
    hostile = Shown("x", "comparison", result, None, tmp_path, one.rows)
    for page in (evaluate_compare_view.view(one, "en"), evaluate_compare_view.view(hostile, "zh"),
                 evaluate_compare_view.cases(one, "en"), evaluate_compare_view.cases(hostile, "zh")):  # fmt: skip
        assert "<img" not in page and "__i18n__" not in page


@pytest.mark.parametrize("broken", [
    {}, {"models": [], "contests": []}, {"models": [{"name": "a"}, {"name": "b", "role": "after"}], "contests": [{}], "measures": [{}]},
    {"models": "x", "contests": {"a": 1}, "prompts": [], "decoding": 3, "cases": [{"answers": []}]},
    {"models": [{"name": "a"}, {"name": "b", "role": "after"}], "contests": [{**contest("task", "better", after="b"), "win_rate": {}, "n": None}]},
])  # fmt: skip
def test_a_result_that_is_not_as_it_should_be_is_still_a_page(broken: dict[str, Any]) -> None:
    assert evaluate_compare_view.view(Shown("x", "comparison", broken), "en")
    evaluate_compare_view.cases(Shown("x", "comparison", broken), "en")
    evaluate_compare_view.headline(broken, "zh")
    evaluate_abilities.view(Shown("x", "abilities", broken), "en")
    evaluate_abilities.headline(broken, "en")


# --- cases -------------------------------------------------------------------------------------------------------


def test_cases_are_filtered_and_searched(better: Shown) -> None:
    cases = cases_of(better)
    assert len(cases) == 120 and cases.categories == ["中文", "english"]
    outcomes = {name: cases.matching(Wanted("dpo", "task", name)) for name in ("win", "tie", "loss")}
    held = next(c for c in better.result["contests"] if c["by"] == "task")
    assert [len(of) for of in outcomes.values()] == [held["wins"], held["ties"], held["losses"]]
    assert {cases.case(p)["outcome"]["task"] for p in outcomes["win"]} == {"win"}
    assert len(cases.matching(Wanted("dpo", "task", category="中文"))) == 60
    assert [cases.case(p)["prompt"] for p in cases.matching(Wanted("dpo", search="WHAT IS 33 PLUS"))] == ["What is 33 plus 5?"]
    assert cases.matching(Wanted("nobody")) == [] and cases.case(10**6) == {} and cases.case(-1) == {}


def test_broken_lines_of_the_rows_are_left_out(better: Shown) -> None:
    assert better.rows is not None
    with open(better.rows, "ab") as file:
        file.write(b"{broken\n[1]\n\xff\xfe\n" + b'{"after": "dpo", "row": "x", "scores": [], "outcome": 3}\n{"after": "dp')
    assert len(cases_of(better)) == 121
    assert evaluate_compare_view.view(better, "en") and evaluate_compare_view.cases(better, "en")


def test_pages_of_cases_and_a_point(better: Shown) -> None:
    fields = {"after": "dpo", "outcome": "loss", "category": "", "search": ""}
    first = evaluate_compare.filtered(better, {"fields": fields}, "en")["parts"]["listed"]
    assert first.count("dd-outcome-chip") == min(5, int(re.search(r"of (\d+)", first).group(1)))  # type: ignore[union-attr]
    later = evaluate_compare.turned(better, {"fields": {"after": "dpo"}, "value": "115"}, "en")["parts"]["listed"]
    assert "Cases 116–120 of 120" in later
    assert "Cases 116–120" in evaluate_compare.turned(better, {"fields": {}, "value": "1e9"}, "en")["parts"]["listed"]
    assert "Cases 1–5" in evaluate_compare.turned(better, {"value": HOSTILE}, "en")["parts"]["listed"]
    case = evaluate_compare.case(better, {"row": 10, "set": "task"}, "en")["parts"]["case"]
    assert "10 加 3 等于几？" in case and "dd-loop" in case and "data-close-case" in case
    gone = evaluate_compare.case(better, {"row": 999}, "en")["parts"]["case"]
    assert "not kept" in gone


def test_what_repeats_itself_is_marked_whole() -> None:
    said = {"compare_repeats": "{n}"}
    text = "Here it goes: " + "again and again " * 12 + "and done."
    shown = evaluate_compare_view.marked([(True, text[:30]), (False, text[30:])], "chosen", said)
    inside = re.search(r'<span class="dd-loop" title="(\d+)">(.*)</span>', shown)
    assert inside is not None and int(inside.group(1)) >= 11
    assert re.sub("<[^>]*>", "", shown) == text and "Here it" not in inside.group(2)
    assert "dd-loop" not in evaluate_compare_view.marked([(True, "A plain answer, said once...")], "chosen", said)


# --- people ------------------------------------------------------------------------------------------------------


def voted(one: Shown, n: int) -> evaluate_votes.BlindVotes:
    """n votes of somebody who always finds the right one."""
    votes = evaluate_votes.votes_of(one, "dpo", "me")
    for _ in range(n):
        case = votes.next()
        assert case is not None and case.reference is not None
        right = [str(case.reference) in text.split() for text in (case.left, case.right)]
        votes.vote(case, "tie" if right[0] == right[1] else "left" if right[0] else "right")
    return votes


def test_what_votes_say_is_hidden_until_there_are_enough(better: Shown) -> None:
    assert "Start voting" in evaluate_votes.card(better, "dpo", "en")
    votes = voted(better, 5)
    hidden = evaluate_votes.arena(better, votes, "en")
    assert "more votes" in hidden and "dd-int" not in hidden
    for name in ("sft", "dpo"):  # blind
        assert f">{name}<" not in hidden
    voted(better, 60)
    shown = evaluate_votes.arena(better, votes, "en")
    assert "dpo is better than sft" in shown and "dd-int" in shown and "Put into the report" in shown


def test_votes_become_a_judge_of_the_result(better: Shown) -> None:
    from diagnostics.report import Report

    votes = voted(better, 60)
    assert better.folder is not None
    evaluate_votes.put_into_result(better, votes, evaluate_compare.RESULT, "printed.json")
    result = json.loads((better.folder / evaluate_compare.RESULT).read_text(encoding="utf-8"))
    assert [c["by"] for c in result["contests"]] == ["task", "people"] and result["decided_by"] == "task"
    printed = json.loads((better.folder / "printed.json").read_text(encoding="utf-8"))
    assert Report.from_json(printed.pop("report")).subject.kind == "comparison" and printed == result
    counted = Shown(better.id, better.kind, result, None, better.folder, better.rows)
    assert "People" in evaluate_compare_view.win_rates(result, "dpo", "en")
    assert "Put into the report" not in evaluate_votes.arena(counted, votes, "en")
    evaluate_votes.put_into_result(counted, voted(counted, 3), evaluate_compare.RESULT, "printed.json")
    again = json.loads((better.folder / evaluate_compare.RESULT).read_text(encoding="utf-8"))
    assert [c["by"] for c in again["contests"]] == ["task", "people"]


def test_a_report_alone_has_nothing_to_vote_on(better: Shown) -> None:
    stored = Shown("x", "comparison", better.result)
    assert evaluate_votes.card(stored, "dpo", "en") == ""
    with pytest.raises(BadCase):
        evaluate_compare.vote(stored, {"value": "left", "fields": {"after": "dpo"}}, "en")


def test_a_stored_report_still_shows_its_cases(better: Shown) -> None:
    from diagnostics.diagnose_evaluation import diagnose_evaluation

    assert better.folder is not None
    report = diagnose_evaluation(better.folder / evaluate_compare.RESULT)
    stored = Shown("x", "comparison", report.curves["result"], report)
    cases = evaluate_compare_view.cases(stored, "en")
    assert "dpo is better than sft" in evaluate_compare_view.view(stored, "en")
    assert "dd-compare-case" in cases and "dd-votes" not in cases
    loss = next(sample for sample in report.samples if sample["kind"] == "loss")
    assert str(loss["sides"][0]["text"]).strip() in evaluate_compare.case(stored, {"row": loss["row"], "set": "task"}, "en")["parts"]["case"]


# --- the form ----------------------------------------------------------------------------------------------------


def test_form_becomes_a_command(tmp_path: Path) -> None:
    one, two = answers(tmp_path, "one", 0.5, n=3), answers(tmp_path, "two", 0.5, n=3)
    given = {"before": str(one), "after": f"{two}\ndemo:healthy_t5\nhttp://127.0.0.1:1/v1", "check": "regex:", "pattern": "^a b$",
             "judge": "http://127.0.0.1:2/v1", "judge_model": "m", "max_samples": "7", "seed": "3"}  # fmt: skip
    found = evaluate_compare.checked(given, "en")
    assert not found.problems
    assert found.arguments == (
        "compare", "--before", str(one), "--after", str(two), "--after", "demo:healthy_t5", "--after",
        "http://127.0.0.1:1/v1", "--check", "regex:^a b$", "--judge", "http://127.0.0.1:2/v1#m", "--max-samples", "7",
        "--seed", "3", "--output", "{folder}/comparison.json", "--overwrite",
    )  # fmt: skip
    assert "one" in found.name and "two" in found.name
    for lang in ("en", "zh"):
        assert 'name="before"' in evaluate_compare.form({}, lang) and 'name="after"' in evaluate_abilities.form({}, lang)


def test_the_prompts_the_form_begins_with_are_for_models(tmp_path: Path) -> None:
    one, two = str(answers(tmp_path, "one", 0.5, n=3)), str(answers(tmp_path, "two", 0.5, n=3))
    for after, prompts, sent in (
        (two, evaluate_compare.PROMPTS, False), (f"NAME={two}", evaluate_compare.PROMPTS, False),
        (f"{two}\nNAME=demo:healthy_t5", evaluate_compare.PROMPTS, True), ("http://127.0.0.1:1/v1", evaluate_compare.PROMPTS, True),
        (two, "demo:pairs", True), (two, one, True),
    ):  # fmt: skip
        found = evaluate_compare.checked({"before": one, "after": after, "prompts": prompts}, "en")
        assert not found.problems and ("--prompts" in found.arguments) is sent, after


@pytest.mark.parametrize(("form", "options"), [
    ({}, ()), ({"temperature": "0.7", "num_beams": "3", "samples": "2"}, ()),  # of the ways that aren't chosen
    ({"decoding": "beam"}, ("--num-beams", "5")), ({"decoding": "beam", "num_beams": "3"}, ("--num-beams", "3")),
    ({"decoding": "sampling"}, ("--temperature", "1")),
    ({"decoding": "sampling", "temperature": "0.7", "top_p": "0.9", "samples": "4", "max_new_tokens": "32", "seed": "5"},
     ("--temperature", "0.7", "--top-p", "0.9", "--samples", "4", "--max-new-tokens", "32", "--seed", "5")),
])  # fmt: skip
def test_how_models_answer_is_the_command(form: dict[str, str], options: tuple[str, ...]) -> None:
    given = {"before": "demo:healthy_decoder", "after": "demo:undertrained_decoder", "prompts": "demo:pairs", **form}
    found = evaluate_compare.checked(given, "en")
    assert not found.problems and found.arguments[7:-3] == options
    assert _parsed(found.arguments).temperature == (options[1] if "--temperature" in options else None)


def _parsed(arguments: tuple[str, ...]) -> Any:
    """As the command reads them, which refuses an option that it doesn't have."""
    import argparse

    from pipeline.commands import abilities, compare

    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    compare.add_parser(commands)
    abilities.add_parser(commands)
    return parser.parse_args(arguments)


def test_names_columns_and_a_database_are_taken_as_the_command_takes_them(tmp_path: Path) -> None:
    one = answers(tmp_path, "one", 0.5, n=3)
    (tmp_path / "shop.sqlite").write_bytes(b"")
    given = {"before": f"OLD={one}", "after": f"NEW=demo:healthy_t5\nx=y={one}\n对齐后={one}", "check": "sql", "category": "k",
             "database": str(tmp_path / "shop.sqlite"), "columns": "prompt=q\nanswer=text", "base": "demo:healthy_decoder"}  # fmt: skip
    found = evaluate_compare.checked(given, "en")
    assert set(found.problems) == {"after"}  # there is no file y=...
    found = evaluate_compare.checked({**given, "after": f"NEW=demo:healthy_t5\n对齐后={one}"}, "en")
    assert not found.problems and found.name == "OLD → NEW, 对齐后"
    read = _parsed(found.arguments)
    assert (read.before, read.after) == (f"OLD={one}", ["NEW=demo:healthy_t5", f"对齐后={one}"])
    assert read.column == ["prompt=q", "answer=text"] and read.database.endswith("shop.sqlite") and read.base == "demo:healthy_decoder"
    assert set(evaluate_compare.checked({**given, "columns": "q"}, "zh").problems) == {"columns", "after"}
    (tmp_path / "config.json").write_text("{}")
    kept = evaluate_abilities.checked({"before": "A=demo:healthy_t5", "after": f"B={tmp_path}"}, "en")
    assert not kept.problems and _parsed(kept.arguments).after == [f"B={tmp_path}"] and kept.name == "A → B"


def test_a_name_stays_with_what_is_made_a_path_of(tmp_path: Path, demo: DemoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from ui import uploads

    token, names, _ = uploads.keep_logs([str(answers(tmp_path, "one", 0.5, n=3))])
    for given, of in ((f"NEW=upload:{token}/{names[0]}", uploads.files(token)[0]), ("NEW=demo:healthy_decoder", None)):
        assert evaluate_case.is_named(given)
        named, _, path = evaluate_case.resolved(given).partition("=")
        assert named == "NEW" and Path(path).exists() and of in (None, path)
    assert not evaluate_case.is_named("prompt=question") and evaluate_case.resolved("a=b") == "a=b"


def test_a_name_hides_no_large_model_from_a_public_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    asked: list[str] = []
    monkeypatch.setattr(evaluate_case, "open_checkpoint", lambda named: asked.append(named) or _large())
    for given in ("owner/large", "SMALL=owner/large"):
        with pytest.raises(BadCase) as refused:
            evaluate_case.check_public(["compare", "--before", given])
        assert refused.value.entry == "evaluate_too_large" and asked.pop() == "owner/large"


def test_an_adapter_hides_neither_a_large_base_nor_one_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    (tmp_path / "here").mkdir()

    def at_hub(named: str) -> Any:  # an adapter that names its base, which is large
        return opened(str(tmp_path / "adapter")) if named == "owner/adapter" else _large()

    opened = evaluate_case.open_checkpoint
    monkeypatch.setattr(evaluate_case, "open_checkpoint", at_hub)
    for base, entry in (("owner/large", "evaluate_too_large"), (str(tmp_path / "here"), "base_refused"), ("configs/words", "base_refused")):
        (tmp_path / "adapter").mkdir(exist_ok=True)
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
        with pytest.raises(BadCase) as refused:
            evaluate_case.check_public(["replay", "--model", "owner/adapter"])
        assert refused.value.entry == entry
        evaluate_case.check_public(["score", "--reward-model", "owner/adapter", "--base", "demo:healthy_decoder"])


def _large() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(tensors={"w": SimpleNamespace(numel=evaluate_case.PUBLIC_PARAMETERS + 1)})


@pytest.mark.parametrize(("change", "place"), [
    ({"before": ""}, "before"), ({"after": "\n"}, "after"), ({"after": "./nowhere/at all"}, "after"), ({"after": "demo:unheard"}, "after"),
    ({"check": "regex:"}, "pattern"), ({"judge": "file:///etc"}, "judge"), ({"max_samples": "none"}, "max_samples"),
    ({"reward_model": "job:0"}, "reward_model"), ({"after": "NEW=./nowhere"}, "after"), ({"before": "OLD=demo:unheard"}, "before"),
    ({"top_p": "2"}, "top_p"), ({"samples": "0"}, "samples"), ({"num_beams": "1"}, "num_beams"), ({"base": "./nowhere"}, "base"),
    ({"database": "./nowhere.db"}, "database"), ({"prompts": ""}, "prompts"),
])  # fmt: skip
def test_form_says_what_is_wrong_at_its_field(change: dict[str, str], place: str) -> None:
    given = {"before": "demo:healthy_decoder", "after": "demo:undertrained_decoder", "prompts": "demo:pairs", **change}
    for lang in ("en", "zh"):
        assert set(evaluate_compare.checked(given, lang).problems) == {place}


def test_in_public_no_address_and_no_path_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    path = str(answers(tmp_path, "one", 0.5, n=3))
    given = {"before": path, "after": "X=http://127.0.0.1:1/v1", "judge": "http://169.254.169.254/", "max_new_tokens": "100000",
             "samples": "5", "database": path}  # fmt: skip
    found = evaluate_compare.checked(given, "en")
    assert {"before", "after", "max_new_tokens", "samples"} <= set(found.problems)
    assert not any("http" in one or one == path for one in found.arguments)
    assert "--max-samples" in found.arguments


# --- abilities ---------------------------------------------------------------------------------------------------


def abilities(name: str = "arithmetic") -> Shown:
    def ability(name: str, lang: str, verdict: str, before: float, after: float) -> Ability:
        scores = {"sft": Share(before, before - 0.1, before + 0.1, 40), "dpo": Share(after, after - 0.1, after + 0.1, 40)}
        change = AbilityChange("dpo", Difference(after - before, after - before - 0.1, after - before + 0.1, 40), verdict)
        lost = ({"item": "q1", "prompt": f"3 + 4? {HOSTILE}", "model": "dpo", "expected": "7", "answer": "12"},)
        return Ability(name, lang, "built_in", 40, 0.25, scores, (change,), lost if verdict == "lost" else ())

    result = AbilitiesResult(
        (ModelNamed("sft", "/m", "before"), ModelNamed("dpo", "/d", "after")),
        (ability("reading", "en", "kept", 0.7, 0.7), ability(name, "zh", "lost", 0.8, 0.3)),
        {"dpo": AbilityChange("dpo", Difference(-0.25, -0.4, -0.1, 80), "lost")},
    )  # fmt: skip
    return Shown("x" * 22, "abilities", to_json(result))


def test_a_lost_ability_is_named_with_its_questions() -> None:
    page = evaluate_abilities.view(abilities(), "en")
    assert "dpo can no longer do all that sft could" in page and "arithmetic (Chinese)" in page
    assert "Right before, wrong now: 1" in page and "<img" not in page and "left:25.0%" in page  # chance
    assert "dd-tone-bad" in page and "dd-measured-lost" in page and "dd-measured-kept" in page
    assert evaluate_abilities.headline(abilities().result, "zh").tone == "problems"
    assert "<img" not in evaluate_abilities.view(abilities(HOSTILE), "zh")


def test_where_the_model_guessed_before_nothing_is_said_to_be_lost() -> None:
    def guessing(name: str, verdict: str, shown_loss: float | None) -> dict[str, Any]:
        share = {"value": 0.5, "low": 0.3, "high": 0.7, "n": 6}
        return {"name": name, "lang": "en", "n": 6, "chance": 0.25, "scores": {"sft": share, "dpo": share},
                "changes": [{"after": "dpo", "verdict": verdict, "shown_loss": shown_loss}],
                "lost_items": [{"item": "1", "prompt": "q", "model": "dpo", "answer": "x"}]}  # fmt: skip

    result = {"models": [{"name": "sft"}, {"name": "dpo", "role": "after"}], "overall": {"dpo": {"after": "dpo", "verdict": "cannot_tell"}},
              "abilities": [guessing("facts", "cannot_tell", 0.5), guessing("code", "no_difference", 0.5), guessing("reading", "no_difference", None)]}  # fmt: skip
    page = evaluate_abilities.view(Shown("x", "abilities", result), "en")
    assert "sft hardly does better than guessing" in page and "In 1 of 3 abilities" in page
    assert "dd-is-lost" not in page and "dd-is-lost" in evaluate_abilities.view(abilities(), "en")
    assert page.count("a loss shows from 50% of them on") == 1 and page.count("too few to show a loss") == 1
    assert "guessed before" in page and evaluate_abilities.headline(result, "zh").tone == "neutral"


# --- in the browser ----------------------------------------------------------------------------------------------


@pytest.fixture
def tab(visit: Callable[..., Any], server: Server) -> Callable[..., Any]:
    def opened(**context: Any) -> Any:
        page = visit(server.url, **context)
        page.set_default_timeout(120_000)
        page.click(TAB)
        page.click("label:has([name=kind][value=comparison])")
        page.wait_for_selector("#dd-evaluate-form [name=before]")
        return page

    return opened


def test_files_are_compared_looked_at_and_voted_on(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = tab()
    page.fill("[name=before]", str(answers(tmp_path, "sft", 0.3, n=60)))
    page.fill("[name=after]", str(answers(tmp_path, "dpo", 0.9, n=60, seed=1)))
    page.fill("[name=prompts]", "")
    page.click("#dd-evaluate-start")
    page.wait_for_selector(".dd-compare .dd-verdict h2", timeout=180_000)
    assert page.inner_text(".dd-compare .dd-verdict h2") == "dpo is better than sft"
    page.click(".dd-outcome[data-value=loss]")
    page.wait_for_function("document.querySelector('[data-part=listed] select[name=outcome]')?.value === 'loss'")
    assert set(page.locator("[data-part=listed] .dd-outcome-chip").all_inner_texts()) == {"worse"}
    page.click("[data-ask=votes][data-value=open]")
    page.wait_for_selector(".dd-votes-open")
    page.wait_for_function("document.querySelector('[data-part=votes]').contains(document.activeElement)")  # Tab goes on here
    count = ".dd-votes-open .dd-move .dd-dim"
    for n, key in enumerate(("ArrowLeft", "t", "ArrowRight"), 1):
        page.keyboard.press(key)
        page.wait_for_function(f"document.querySelector('{count}')?.textContent.startsWith('{n} of')")
        page.wait_for_timeout(260)  # a held key votes once
    page.keyboard.press("r")
    page.wait_for_selector(".dd-vote-told b")
    assert sorted(re.findall(r"was (\w+)", page.inner_text(".dd-vote-told"))) == ["dpo", "sft"]
    page.wait_for_timeout(260)
    page.keyboard.press("u")
    page.wait_for_function(f"document.querySelector('{count}')?.textContent.startsWith('2 of')")
    page.reload()
    page.wait_for_selector(".dd-votes")
    assert "2 of" in page.inner_text(".dd-votes .dd-facts")
    page.click("label:has-text('中文')")
    page.wait_for_function("document.querySelector('.dd-compare .dd-verdict h2')?.textContent === 'dpo 比 sft 更好'")


OVERLAPPING = """() => [...document.querySelectorAll(".dd-compare-table tr")].filter((row) => {
    const boxes = [...row.children].map((cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect();
    }).filter((box) => box.width);
    return boxes.some((one, n) => boxes.slice(n + 1).some((other) =>
        one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1));
}).map((row) => row.innerText)"""  # rows of a table whose cells lie over each other


def test_a_point_opens_its_case_on_a_phone_too(visit: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    run = server.home / "evaluations" / ("p" * 22)
    run.mkdir(parents=True)
    one = comparison(run, answers(tmp_path, "sft", 0.4, n=40), answers(tmp_path, "dpo", 0.9, n=40, seed=1))
    lines = []
    for n, line in enumerate((run / "comparison.rows.jsonl").read_text(encoding="utf-8").splitlines()):
        case = json.loads(line)
        case["scores"]["reward"] = {"sft": math.sin(n), "dpo": math.sin(n) + math.cos(3 * n)}
        lines.append(json.dumps(case))
    (run / "comparison.rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = {**one.result, "contests": [*one.result["contests"], contest("reward", "no_difference", 40)]}
    (run / evaluate_compare.RESULT).write_text(json.dumps(result), encoding="utf-8")
    about = {"kind": "comparison", "name": "sft → dpo", "arguments": ["compare"], "created": 1.0, "lang": "en", "asked": {}}
    (run / "about.json").write_text(json.dumps(about), encoding="utf-8")
    (run / "command.txt").write_text("python -m pipeline compare\n", encoding="utf-8")
    (run / "status.json").write_text(json.dumps({"state": "ended", "exit": 0}), encoding="utf-8")
    for context in ({}, {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": "dark"}):
        page = visit(f"{server.url}?evaluate={'p' * 22}", ready=".dd-compare dd-figure.dd-drawn", **context)
        page.set_default_timeout(120_000)
        assert page.evaluate(OVERLAPPING) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        figure = page.locator("dd-figure[data-set=reward]")
        figure.scroll_into_view_if_needed()
        box = figure.locator(".nsewdrag").bounding_box()
        low, high = page.evaluate("document.querySelector('dd-figure .js-plotly-plot').layout.xaxis.range")
        x = box["x"] + box["width"] * (math.sin(5) - low) / (high - low)
        y = box["y"] + box["height"] * (1 - (math.sin(5) + math.cos(15) - low) / (high - low))
        page.mouse.click(x, y)
        page.wait_for_selector("[data-part=case] .dd-case-card")
        assert "What is 5 plus 5?" in page.inner_text("[data-part=case]")
        assert page.is_visible(".dd-point-ring")
        page.click("[data-close-case]")
        page.wait_for_selector("[data-part=case] .dd-case-card", state="detached")
        assert not page.is_visible(".dd-point-ring")
        bars = interval_bars([Bar("a_model_" * 12, 0.7, 0.6, 0.8, "better"), Bar("dpo", 0.4, 0.3, 0.5, "worse")], "en")
        wide = """(bars) => {
            const place = document.querySelector(".dd-compare .dd-int");
            place.outerHTML = bars;
            const card = document.querySelector(".dd-compare .dd-int").closest(".dd-card");
            return [...card.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > card.getBoundingClientRect().right + 1).length;
        }"""
        assert page.evaluate(wide, bars) == 0


def test_two_models_of_the_demo_are_compared(tab: Callable[..., Any], demo: DemoFolder) -> None:
    page = tab()
    page.fill("[name=before]", "demo:healthy_decoder")
    page.fill("[name=after]", "demo:never_stops_decoder")
    page.click("#dd-evaluate-more > summary")
    page.fill("[name=max_samples]", "8")
    page.click("#dd-evaluate-answers > summary")
    page.fill("[name=max_new_tokens]", "12")
    page.click("#dd-evaluate-start")
    page.wait_for_selector(".dd-compare .dd-verdict h2", timeout=240_000)
    assert "healthy_decoder → never_stops_decoder" in page.inner_text(".dd-compare .dd-verdict .dd-eyebrow, .dd-evaluate-head")
    rows = page.locator(".dd-evaluate-table tbody tr", has_text="ends by itself").all_inner_texts()
    assert rows and "worse" in rows[-1]
    assert page.locator(".dd-compare-case").count() == 5
