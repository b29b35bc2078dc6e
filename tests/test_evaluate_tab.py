"""The tab Evaluate: its forms and pages alone, and as a visitor meets it with real commands behind it."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from app_in_browser import FLAGS, Server, serve
from install_chromium import installed_chromium
from tiny_answering_models import ROWS, TEMPLATE, _tokenizer, train

from diagnostics import report_store
from diagnostics.diagnose_evaluation import diagnose_evaluation
from pipeline.evaluation.bundles import create_bundle, list_bundles, open_bundle
from pipeline.evaluation.results import (
    AbilitiesResult,
    Accuracy,
    ComparisonCase,
    ComparisonResult,
    Difference,
    LengthBias,
    ModelNamed,
    Replayed,
    ReplayResult,
    ReplaySummary,
    ScoredSet,
    ScoresResult,
    Share,
    Spread,
    Suspect,
    to_json,
    write_result_file,
)
from ui import (
    evaluate_case,
    evaluate_replay,
    evaluate_requests,
    evaluate_rows,
    evaluate_runs,
    evaluate_scores,
    evaluate_tab,
)
from ui.command_runs import write_object
from ui.evaluate_panel import Shown
from ui.evaluate_panels import panels

HOSTILE = "<img src=x onerror=window.hacked=1>\u202e$`{{value}}`__i18n__{\"key\":\"path\"}'\"</textarea></script>"
TAB = "button[role=tab]:nth-of-type(6)"


@pytest.fixture
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def scores(n: int = 40, *, right: int = 30, text: str = "Which?") -> ScoresResult:
    accuracy = Accuracy(Share(right / n, right / n - 0.1, min(1.0, right / n + 0.1), n), right, 0, n - right)
    suspects = (Suspect(3, 4, -2.5, 0.08, text, "yes", "no"),)
    one = ScoredSet(
        name=text, role="data", path="/somewhere/pairs.jsonl", holds="pairs", rows=n, scored=n, accuracy=accuracy,
        chosen=Spread(1.0, 0.5, n), rejected=Spread(0.2, 0.5, n), margin=Difference(0.8, 0.6, 1.0, n), suspect_count=1,
        suspects=suspects,
    )  # fmt: skip
    return ScoresResult(ModelNamed(text, "/somewhere/model", "reward"), "chat_template", (one,), rows_file="rows.jsonl")


def replayed(text: str = "Which?") -> ReplayResult:
    def row(case: int, model: str, status: str, change: str | None, answer: str) -> Replayed:
        return Replayed(case, model, text, "seven", answer, status, status == "right", change)

    rows = (row(0, "base", "repeats", None, "so so so so so"), row(0, "dpo", "right", "fixed", "seven"),
            row(1, "base", "right", None, "seven"), row(1, "dpo", "wrong", "broken", text))  # fmt: skip
    counts = dict.fromkeys(("right", "wrong", "repeats", "unended", "empty", "failed", "unchecked"), 0)
    changes = dict.fromkeys(("fixed", "broken", "still_bad", "still_good"), 0)
    base = ReplaySummary("base", 2, **{**counts, "right": 1, "repeats": 1}, good=1, bad=1, **changes)
    dpo = ReplaySummary("dpo", 2, **{**counts, "right": 1, "wrong": 1}, good=1, bad=1,
                        **{**changes, "fixed": 1, "broken": 1})  # fmt: skip
    return ReplayResult((ModelNamed("base", "b", "base"), ModelNamed("dpo", "d", "adapter")), (base, dpo), rows, cases=2)


def run_of(result: Any, kind: str, rows: list[dict[str, Any]] | None = None) -> str:
    """A finished run with this result; its id."""
    run_id, folder = evaluate_runs._runs.place_for(None)
    folder.mkdir()
    about = evaluate_runs.About(kind, "a name", (panels()[kind].result,), time.time())
    write_object(folder / "about.json", asdict(about))
    write_object(folder / "status.json", {"state": "ended", "exit": 0, "began": 1.0, "ended": 2.0})
    (folder / "command.txt").write_text("python -m pipeline\n")
    if rows is not None:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_result_file(result, folder / panels()[kind].result)
    return run_id


PAIR_ROWS = [{"prompt": f"Question {n}", "chosen": f"good {n}", "rejected": f"bad {n}", "score_chosen": 1.0,
              "score_rejected": -1.0 if n % 4 else 2.0} for n in range(40)]  # fmt: skip


# --- forms ---


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("kind", sorted(panels()))
def test_every_kind_is_a_form_and_a_command(kind: str, lang: str, own_home: Path) -> None:
    opened = evaluate_requests.evaluate_open({"kind": kind, "lang": lang})
    assert opened["state"] == "start" and f'data-kind="{kind}"' in opened["parts"]["form"]
    for panel in panels():
        assert f'value="{panel}"' in opened["parts"]["form"]
    hostile = evaluate_requests.evaluate_open({"kind": kind, "lang": lang, "form": {"data": HOSTILE, "model": HOSTILE, "cases": HOSTILE}})
    assert "<img" not in json.dumps(hostile["parts"]) and "__i18n__" not in json.dumps(hostile["parts"])


def test_scoring_form_is_the_command(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "my pairs.jsonl").write_text("{}\n")
    (tmp_path / "rm").mkdir()
    (tmp_path / "rm" / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    form = {"reward_model": str(tmp_path / "rm"), "data": str(tmp_path / "my pairs.jsonl"), "train": "demo:pairs",
            "columns": "prompt=q\nchosen=a", "max_samples": "50", "prompts": "demo:held_out"}  # fmt: skip
    found = evaluate_scores.checked(form, "en")
    assert not found.problems and found.name == "rm · my pairs.jsonl"
    given = found.arguments
    assert given[given.index("--train") + 1] == "demo:pairs" and given[given.index("--max-samples") + 1] == "50"
    assert given[given.index("--prompts") + 1] == "demo:held_out"
    assert [given[n + 1] for n, part in enumerate(given) if part == "--column"] == ["prompt=q", "chosen=a"]
    command = evaluate_requests.evaluate_form({"kind": "scores", "form": form, "lang": "en"})["parts"]["command"]
    assert "my pairs.jsonl&#x27;" in command and "{folder}" not in command


def test_replay_form_tells_adapters_from_models(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "config.json").write_text("{}")
    form = {"model": "demo:healthy_decoder", "others": f"{tmp_path / 'lora'}\n{tmp_path / 'whole'}", "cases": "demo:repetition",
            "decoding": "sampling", "temperature": "0.7", "check": "exact"}  # fmt: skip
    given = evaluate_replay.checked(form, "en").arguments
    assert given[given.index("--adapter") + 1].endswith("lora") and given[given.index("--also") + 1].endswith("whole")
    assert given[given.index("--temperature") + 1] == "0.7" and given[given.index("--check") + 1] == "exact"
    for options in ("beams=3", "top_k=-1", "top_k", "length_penalty=x"):
        assert set(evaluate_replay.checked({**form, "options": options}, "zh").problems) == {"options"}


@pytest.mark.parametrize(("form", "field"), [
    ({"reward_model": "", "data": "demo:pairs"}, "reward_model"), ({"reward_model": "owner/reward", "data": "demo:no"}, "data"),
    ({"reward_model": "/nowhere/at/all/x", "data": "demo:pairs"}, "reward_model"),
    ({"reward_model": "job:gone", "data": "demo:pairs"}, "reward_model"),
    ({"reward_model": "owner/reward", "data": "upload:AAAAAAAAAAAAAAAAAAAAAA/x"}, "data"),
    ({"reward_model": "owner/reward", "data": "demo:pairs", "max_samples": "-1"}, "max_samples"),
    ({"reward_model": "owner/reward", "data": "demo:pairs", "columns": "x"}, "columns"),
])  # fmt: skip
def test_form_says_what_is_wrong_at_its_field(form: dict[str, str], field: str, own_home: Path) -> None:
    for lang in ("en", "zh"):
        answer = evaluate_requests.evaluate_start({"kind": "scores", "form": form, "lang": lang})
        assert set(answer["problems"]) == {field} and answer["problems"][field]


def test_a_form_that_is_not_filled_in_yet_is_not_scolded(own_home: Path) -> None:
    answer = evaluate_requests.evaluate_form({"kind": "scores", "form": {"reward_model": "", "data": "demo:no"}, "lang": "en"})
    assert set(answer["problems"]) == {"data"}


def test_strangers_name_no_path_of_the_machine(monkeypatch: pytest.MonkeyPatch, own_home: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    monkeypatch.setattr(evaluate_runs._runs, "start", lambda *given: pytest.fail("something was started"))
    for kind, fields in (("scores", ("reward_model", "data", "train", "prompts", "base")), ("replay", ("model", "others", "cases", "database")),
                         ("comparison", ("before", "after", "prompts", "reward_model", "base")), ("abilities", ("before", "after", "items"))):
        for field in fields:
            names = ("A=/etc", "A=configs/words", "A=job:x") if field in ("before", "after") else ()
            for value in ("/etc/passwd", str(tmp_path), "configs/words", "job:x", "../x", *names):
                form = {"reward_model": "owner/name", "data": "demo:pairs", "model": "demo:healthy_t5", "cases": "demo:repetition",
                        "before": "demo:healthy_t5", "after": "demo:healthy_decoder", field: value}
                answer = evaluate_requests.evaluate_start({"kind": kind, "form": form, "lang": "en"})
                assert field in answer["problems"], (field, value)


# --- pages ---


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_page_of_scores_and_a_pair_of_it(lang: str, own_home: Path) -> None:
    run_id = run_of(scores(text=HOSTILE), "scores", PAIR_ROWS)
    answer = evaluate_requests.evaluate_open({"id": run_id, "lang": lang})
    page = "".join(answer["parts"].values())
    assert answer["state"] == "open" and "75.0%" in page and "dd-figure" in page and 'data-ask="to_pairs"' in page
    assert "<img" not in page and "__i18n__" not in page and not re.search(r"\{(n|of|share|low|high|std|why)\}", page)
    case = evaluate_requests.evaluate_panel({"id": run_id, "lang": lang, "does": "case", "row": 4, "set": "data"})["parts"]["case"]
    assert "Question 4" in case and "good 4" in case and "bad 4" in case and "−1" in case  # 1 - 2
    for row in (-1, 40, True, "4", None):
        assert evaluate_requests.evaluate_panel({"id": run_id, "lang": lang, "does": "case", "row": row, "set": "data"})["bad"]


def test_points_of_a_hundred_thousand_rows_come_at_once(own_home: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": n % 7 / 7, "score_rejected": n % 11 / 11}
            for n in range(100_000)]  # fmt: skip
    one = evaluate_runs.shown(run_of(scores(), "scores", rows))
    evaluate_scores.view(one, "en")
    read = evaluate_rows._score_rows.cache_info().misses
    shown = evaluate_scores.view(one, "en")
    assert evaluate_rows._score_rows.cache_info().misses == read  # once, however often it is shown
    assert len(shown) < 3_000_000  # 12 bytes a point, in base 64


def test_link_shows_a_report_without_its_folder(own_home: Path) -> None:
    run_id = run_of(scores(), "scores", PAIR_ROWS)
    assert evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})["now"]["link"] == "report"
    assert report_store.load(run_id).subject.kind == "scores" and evaluate_runs.is_evaluation(run_id)
    evaluate_runs.remove(run_id)
    answer = evaluate_requests.evaluate_open({"id": run_id, "lang": "zh"})
    page = "".join(answer["parts"].values())
    assert answer["state"] == "open" and "75.0%" in page and "<dd-figure" in page and "data-again" not in page
    case = evaluate_requests.evaluate_panel({"id": run_id, "lang": "zh", "does": "case", "row": 3, "set": "data"})
    assert "Which?" in case["parts"]["case"]
    assert evaluate_requests.evaluate_open({"id": "A" * 22, "lang": "en"})["state"] == "gone"


def test_a_case_of_a_report_has_the_rewards_of_its_own_set(own_home: Path) -> None:
    bare = scores().sets[0]
    suspects = (Suspect(3, 4, -2.5, 0.08, "Which?", "yes", "no"),)
    sets = tuple(replace(bare, role=role, rows_file=file, suspects=suspects)  # of one name
                 for role, file in (("held_out", "rows.jsonl"), ("train", "rows.train.jsonl")))  # fmt: skip
    run_id = run_of(replace(scores(), sets=sets, rows_file="rows.jsonl"), "scores", PAIR_ROWS)
    other = [{**row, "score_chosen": 7.0, "score_rejected": 5.0} for row in PAIR_ROWS]
    (evaluate_runs.folder_of(run_id) / "rows.train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})
    evaluate_runs.remove(run_id)
    one = evaluate_runs.shown(run_id)
    told = {name: evaluate_scores.case(one, {"row": 3, "set": name}, "en")["parts"]["case"] for name in ("held_out", "train")}
    assert "reward 1 ▲<" in told["held_out"] and "reward −1<" in told["held_out"]
    assert "reward 7 ▲<" in told["train"] and "reward 5<" in told["train"]
    drawn = [evaluate_scores._points(one, held)[0] for held in evaluate_scores._sets(one.result)]
    assert set(drawn[0]) == {1.0} and set(drawn[1]) == {7.0}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_page_of_a_replay(lang: str, own_home: Path) -> None:
    run_id = run_of(replayed(HOSTILE), "replay")
    answer = evaluate_requests.evaluate_open({"id": run_id, "lang": lang})
    page = "".join(answer["parts"].values())
    assert answer["state"] == "open" and "<img" not in page and "__i18n__" not in page
    assert page.index('data-case="1"') < page.index('data-case="0"')  # the regression first

    def listed(**fields: str) -> list[str]:
        made = evaluate_requests.evaluate_panel({"id": run_id, "lang": lang, "does": "cases", "fields": fields})
        return re.findall(r'data-case="(\d+)"', made["parts"]["listed"])

    assert listed(change="fixed") == ["0"] and listed(status="wrong") == ["1"] and listed(change="nonsense") == ["1", "0"]
    assert listed(status="repeats", of_model="dpo") == [] and listed(search="SO SO") == ["0"]
    case = evaluate_requests.evaluate_panel({"id": run_id, "lang": lang, "does": "case", "row": 0, "set": "cases"})["parts"]["case"]
    assert "seven" in case and "<img" not in case and 'data-way="next"' in case


@pytest.mark.parametrize(("lang", "line"), [
    ("en", "dpo-2: not measured: x/adapter.safetensors &lt;cut&gt;"), ("zh", "dpo-2：未测量：文件被截断"),
])  # fmt: skip
def test_model_that_answered_nothing_is_named_with_its_reason(lang: str, line: str, own_home: Path) -> None:
    why = {"en": "x/adapter.safetensors <cut>", "zh": "文件被截断"}
    page = evaluate_requests.evaluate_open({"id": run_of(replace(replayed(), unmeasured={"dpo-2": why}), "replay"), "lang": lang})
    assert line in page["parts"]["view"]


def test_why_a_row_is_no_case_is_said_in_the_language_of_the_page(own_home: Path) -> None:
    result = replace(replayed(), left_out={"no_text": 2, "not_json": 1, "beyond_limit": 3})
    page = evaluate_requests.evaluate_open({"id": run_of(result, "replay"), "lang": "zh"})["parts"]["view"]
    for reason in ("no text", "not json", "beyond limit"):
        assert reason not in page.lower().replace("不是 json", "")
    assert "没有可供提问的文字" in page and "超出一次回放的上限" in page


@pytest.mark.parametrize(("counts", "entry", "tone"), [
    ({"fixed": 3, "still_bad": 1, "still_good": 6}, "fixes 3 of 4 bad cases and breaks none", "healthy"),
    ({"fixed": 3, "broken": 1, "still_bad": 1, "still_good": 5}, "fixes 3 of 4 bad cases, but breaks 1 of 6 good ones", "warnings"),
    ({"fixed": 1, "broken": 2, "still_bad": 3, "still_good": 4}, "breaks 2 of 6 good cases and fixes 1 of 4 bad ones", "problems"),
    ({"broken": 1, "still_good": 9}, "breaks 1 of 10 cases; all were good before", "problems"),
    ({"still_bad": 4, "still_good": 6}, "fixes none of the 4 bad cases", "warnings"),
    ({"still_good": 10}, "answers as well as the base", "healthy"),
])  # fmt: skip
def test_headline_of_a_replay_counts_what_it_says(counts: dict[str, int], entry: str, tone: str) -> None:
    told = evaluate_replay.headline({"summary": [{"model": "base"}, {"model": "dpo", **counts}]}, "en")
    assert entry in told.line and told.tone == tone and "{" not in evaluate_replay.headline({"summary": [{}, counts]}, "zh").line


def test_replay_from_its_report_alone(own_home: Path, tmp_path: Path) -> None:
    write_result_file(replayed(), tmp_path / "x.replay.json")
    report = diagnose_evaluation(tmp_path / "x.replay.json")
    one = Shown("A" * 22, "replay", report.curves["result"], report)
    cases = evaluate_replay.cases_of(one)
    assert [(c.number, sorted(c.rows)) for c in cases] == [(1, ["base", "dpo"]), (0, ["base", "dpo"])]
    assert "dd-case-card" in evaluate_replay.case(one, {"row": 0}, "en")["parts"]["case"]


@pytest.mark.parametrize(("answer", "loop", "wanted"), [
    ("Yes. so so so so", "so", "Yes. <mark class=\"dd-repeat\">so so so so</mark>"),
    ("好的好的好的", "好的", "<mark class=\"dd-repeat\">好的好的好的</mark>"),
    ("red, red, red, re", "red,", "<mark class=\"dd-repeat\">red, red, red, re</mark>"),
    ("nothing here", "", "nothing here"), ("<b>", "<b>", "&lt;b&gt;"),
])  # fmt: skip
def test_repeated_stretch_is_marked(answer: str, loop: str, wanted: str) -> None:
    assert evaluate_replay.marked(answer, loop).replace("<mark>", "").replace("</mark>", "") == wanted.replace("</mark>", "")


def test_result_of_another_shape_leaves_the_page_alive(own_home: Path) -> None:
    run_id = run_of(scores(), "scores")
    place = evaluate_runs.folder_of(run_id) / panels()["scores"].result
    document = {**to_json(scores()), "sets": [{"role": 7, "accuracy": {"share": {"value": "x"}}, "suspects": 3}]}
    place.write_text(json.dumps(document))
    answer = evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})
    assert answer["state"] == "open" and answer["parts"]["view"]
    place.write_text("{")
    assert evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})["bad"] is True


@pytest.mark.parametrize("kind", ["scores", "comparison", "replay"])
def test_every_kind_is_read_in_one_order(kind: str, own_home: Path) -> None:
    made: Any = {"scores": scores(), "replay": replayed(), "comparison": ComparisonResult(
        (ModelNamed("sft", "s", "before"), ModelNamed("dpo", "d", "after")), None, None, (),
        cases=(ComparisonCase(0, "Which?", "dpo", answers={"sft": "a", "dpo": "b"}),),
    )}[kind]  # fmt: skip
    parts = evaluate_requests.evaluate_open({"id": run_of(made, kind), "lang": "en"})["parts"]
    assert [name for name in parts if name in ("view", "findings", "cases")] == ["view", "findings", "cases"]
    assert "Which?" in parts["cases"] and "Which?" not in re.sub(r"dd-figure.*?</dd-figure>", "", parts["view"])
    places = [evaluate_tab._lower().index(f'data-part="{name}"') for name in ("view", "findings", "cases")]
    assert places == sorted(places)


@pytest.mark.parametrize(("kind", "result", "tone"), [
    ("scores", scores(right=39), "dd-healthy"), ("replay", replayed(), "dd-warnings"),
    ("abilities", AbilitiesResult((ModelNamed("a", "a", "before"), ModelNamed("b", "b", "after")), (), {}), "dd-neutral"),
])  # fmt: skip
def test_list_colours_a_run_by_what_came_out(kind: str, result: Any, tone: str, own_home: Path) -> None:
    run_id = run_of(result, kind)
    evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})
    listed = evaluate_requests.evaluate_open({"lang": "en"})["parts"]["recent"]
    assert re.findall(r"dd-judged (dd-\w+)", listed) == [tone]


# --- bundles ---


def replay_run(tmp_path: Path, result: ReplayResult | None = None, **asked: str) -> str:
    """A finished replay of a file of two cases."""
    cases = [{"q": "What is 3 plus 4?", "standard_answer": "seven"}, {"q": "Which?", "standard_answer": "seven"},
             {"q": "not replayed", "standard_answer": ""}]  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    form = {"model": "demo:healthy_decoder", "others": "demo:never_stops_decoder", "cases": str(tmp_path / "cases.json"),
            "columns": "text=q", "max_samples": "2", "check": "exact", "decoding": "beam", "num_beams": "3",
            "max_new_tokens": "48", "options": "no_repeat_ngram_size=3", **asked}  # fmt: skip
    run_id = run_of(result or replayed(), "replay")
    folder = evaluate_runs.folder_of(run_id)
    write_object(folder / "about.json", {**json.loads((folder / "about.json").read_text()), "asked": form})
    (folder / "replay.xlsx").write_bytes(b"PK")
    return run_id


def keep(run_id: str, name: str) -> dict[str, Any]:
    return evaluate_requests.evaluate_panel({"id": run_id, "lang": "en", "does": "keep", "fields": {"bundle": name}})


def test_finished_replay_becomes_a_bundle_and_its_next_form(own_home: Path, tmp_path: Path) -> None:
    assert "data-bundle" not in evaluate_requests.evaluate_open({"kind": "replay", "lang": "en"})["parts"]["bundles"]
    run_id = replay_run(tmp_path)
    assert 'data-ask="keep"' in evaluate_requests.evaluate_open({"id": run_id, "lang": "zh"})["parts"]["cases"]
    assert 'data-bundle="loops"' in keep(run_id, "loops")["parts"]["bundle"]
    held = open_bundle("loops")
    assert [case["text"] for case in json.loads(held.cases.read_text())] == ["What is 3 plus 4?", "Which?"]
    assert held.settings.decoding == {"num_beams": 3, "max_new_tokens": 48, "no_repeat_ngram_size": 3}
    keep(run_id, "loops")
    assert len(held.replays) == 1 and held.replays[0].with_name(held.replays[0].name.replace(".replay.json", ".xlsx")).is_file()
    assert 'data-ask="keep"' not in evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})["parts"]["cases"]

    form = evaluate_requests.evaluate_bundle_form({"bundle": "loops", "lang": "en"})["form"]
    found = evaluate_replay.checked(form, "en")
    assert not found.problems and found.name == "healthy_decoder · loops"
    given = found.arguments
    assert given[given.index("--cases") + 1] == str(held.cases) and given[given.index("--bundle") + 1] == "loops"
    assert given[given.index("--num-beams") + 1] == "3" and given[given.index("--no-repeat-ngram-size") + 1] == "3"
    opened = evaluate_requests.evaluate_open({"kind": "replay", "bundle": "loops", "lang": "en"})["parts"]
    assert "What is 3 plus 4?" in opened["start"] and 'data-bundle="loops"' in opened["bundles"]
    named = re.search(r'data-value="(loops/[^"]+)"', opened["start"])
    assert named is not None
    shown = evaluate_requests.evaluate_bundle_replay({"replay": named.group(1), "lang": "en"})["id"]
    page = evaluate_requests.evaluate_open({"id": shown, "lang": "en"})["parts"]
    assert "in the bundle loops" in page["head"] and 'data-case="1"' in page["cases"] and report_store.load(shown)
    assert evaluate_requests.evaluate_bundle_remove({"bundle": "loops", "lang": "en"})["removed"]
    assert list_bundles() == [] and 'data-ask="keep"' in evaluate_requests.evaluate_open({"id": run_id, "lang": "en"})["parts"]["cases"]


def test_bundle_of_cases_that_are_gone_takes_those_of_the_result(own_home: Path, tmp_path: Path) -> None:
    run_id = replay_run(tmp_path, check="pattern", pattern="s.v", decoding="sampling", options="")
    (tmp_path / "cases.json").unlink()
    assert not keep(run_id, "loops").get("bad")
    [one, _] = json.loads(open_bundle("loops").cases.read_text())
    assert one == {"text": "Which?", "standard_answer": "seven", "check": "pattern", "pattern": "s.v"}
    assert open_bundle("loops").settings.decoding == {"temperature": 1, "max_new_tokens": 48}


@pytest.mark.parametrize("name", ["", "../up", "a b", ".x", HOSTILE, "/etc"])
def test_no_bundle_is_named_like_this(name: str, own_home: Path, tmp_path: Path) -> None:
    run_id = replay_run(tmp_path)
    assert keep(run_id, name)["bad"]
    for ask in (evaluate_requests.evaluate_bundle, evaluate_requests.evaluate_bundle_form, evaluate_requests.evaluate_bundle_remove):
        assert ask({"bundle": name, "lang": "en"})["bad"]
    for replay in (name, f"{name}/x", "loops/../x"):
        assert evaluate_requests.evaluate_bundle_replay({"replay": replay, "lang": "zh"})["bad"]
    assert list_bundles() == []


def test_hostile_bundle_is_only_text(own_home: Path, tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(json.dumps([{"text": HOSTILE, "standard_answer": HOSTILE}]))
    (tmp_path / "pairs.json").write_text(json.dumps([{"instruction": HOSTILE, "input": "", "chosen": HOSTILE, "rejected": "x"}]))
    bundle = create_bundle("loops", cases=tmp_path / "cases.json", pairs=tmp_path / "pairs.json", note=HOSTILE, model=HOSTILE)
    (bundle.folder / "replays" / "replay-1.replay.json").write_text("{")
    write_result_file(replayed(HOSTILE), bundle.folder / "replays" / "replay-2.replay.json")
    for lang in ("en", "zh"):
        parts = evaluate_requests.evaluate_open({"kind": "replay", "bundle": "loops", "lang": lang})["parts"]
        page = parts["start"] + parts["bundles"]
        assert "<img" not in page and "__i18n__" not in page and "dd-bundle-holds" in page


def test_strangers_meet_no_bundle(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = replay_run(tmp_path)
    keep(run_id, "loops")
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    opened = evaluate_requests.evaluate_open({"kind": "replay", "bundle": "loops", "lang": "en"})["parts"]
    assert opened["bundles"] == "" and "dd-bundle" not in opened["start"]
    for ask in (evaluate_requests.evaluate_bundle, evaluate_requests.evaluate_bundle_form, evaluate_requests.evaluate_bundle_remove):
        assert ask({"bundle": "loops", "lang": "en"})["bad"]
    form = {"model": "demo:healthy_t5", "cases": "bundle:loops"}
    assert "cases" in evaluate_requests.evaluate_start({"kind": "replay", "form": form, "lang": "en"})["problems"]
    assert list_bundles()


def test_doubts_about_labels_lengths_and_prompts_are_shown(own_home: Path) -> None:
    bare = scores()
    noise, longer, shorter = Share(0.09, 0.05, 0.14, 40), Share(0.6, 0.5, 0.7, 20), Share(0.9, 0.8, 0.95, 20)
    length = LengthBias(0.5, 0.5, 0.5, None, 0.5, None, None, None, right_for_longer=longer, right_for_shorter=shorter)
    doubted = replace(bare, sets=(replace(bare.sets[0], prompts=8, label_noise=noise, length=length),))
    for result, there in ((bare, False), (doubted, True)):
        one = evaluate_runs.shown(run_of(result, "scores", PAIR_ROWS))
        assert ("8 different prompts" in evaluate_scores.view(one, "en")) == there
        assert ("Right where it prefers the longer" in evaluate_scores.view(one, "en")) == there
        assert ("9.0% of all labels" in evaluate_scores.suspects(one, "en")) == there


def test_suspects_go_to_pairs(own_home: Path) -> None:
    from ui import pair_jobs, pair_workspaces

    run_id = run_of(scores(), "scores", PAIR_ROWS)
    set_id = evaluate_requests.evaluate_panel({"id": run_id, "lang": "en", "does": "to_pairs"})["set"]
    end = time.monotonic() + 120
    while (job := pair_jobs.find(set_id, "import")) is not None and job.state == "running" and time.monotonic() < end:
        time.sleep(0.05)
    with pair_workspaces.opened(set_id) as workspace:
        assert workspace.counts().total == 1 and workspace.get(0).pair.chosen == "yes"


# --- in the browser ---


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A decoder that never ends, a sound one, a reward model, and the rows they learned as cases and as pairs."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    root, tokenizer = tmp_path_factory.mktemp("models"), _tokenizer()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=256, bos_token_id=None, eos_token_id=1,
                         pad_token_id=0, num_labels=1)  # fmt: skip
    reward = LlamaForSequenceClassification(config)
    torch.nn.init.normal_(reward.score.weight)
    reward.eval().save_pretrained(root / "reward")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "reward")
    train(root / "endless", "llama", answer=lambda text: f"{text} " * 3, end="", steps=50)
    train(root / "sound", "llama", steps=50)
    cases = [{"text": q, "standard_answer": a} for q, a in ROWS]
    (root / "cases.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in cases), encoding="utf-8")
    pairs = [{"prompt": f"{q} ({n})", "chosen": a, "rejected": ROWS[(m + n + 1) % 16][1]} for n in range(4) for m, (q, a) in enumerate(ROWS)]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pairs), encoding="utf-8")
    return {name: root / name for name in ("reward", "endless", "sound", "cases.jsonl", "pairs.jsonl")}


@pytest.fixture
def tab(server: Server, visit: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    def opened(kind: str, address: str = server.url, **context: Any) -> Any:
        page = visit(address, **context)
        page.set_default_timeout(120_000)
        page.click(TAB)
        page.wait_for_selector("#dd-evaluate-form [data-kind]")
        page.check(f"#dd-evaluate-form [name=kind][value={kind}]", force=True)
        page.wait_for_selector(f"#dd-evaluate-form [data-kind={kind}]")
        return page

    yield opened


def evaluated(page: Any, **fields: str) -> None:
    """Fill the form in, start, and wait for the result."""
    for name, value in fields.items():
        place = f"#dd-evaluate-form [name={name}]"
        if not page.is_visible(place):
            page.locator("#dd-evaluate-form details", has=page.locator(f"[name={name}]")).locator("summary").click()
        (page.select_option if page.evaluate("(at) => document.querySelector(at).tagName", place) == "SELECT" else page.fill)(place, value)
    page.click("#dd-evaluate-start")
    page.wait_for_selector("#dd-evaluate-body[data-state=open]", state="attached")
    page.wait_for_selector("#dd-evaluate-body .dd-evaluate-verdict", timeout=180_000)
    page.wait_for_selector("#dd-evaluate-body[data-files] #dd-evaluate-file-0:not(.hidden)")


def test_scoring_from_the_form_to_a_pair_and_a_link(tab: Callable[..., Any], visit: Callable[..., Any], server: Server, models: dict[str, Path]) -> None:
    page = tab("scores")
    evaluated(page, reward_model=str(models["reward"]), data=str(models["pairs.jsonl"]), train="")
    page.wait_for_selector("dd-figure[data-set=data].dd-drawn")
    spot = page.evaluate("""() => {
        const figure = document.querySelector("dd-figure[data-set=data]"), place = figure.querySelector(".js-plotly-plot");
        figure.scrollIntoView({ block: "center" });
        const numbers = (kind, { bdata }) => new kind(Uint8Array.from(atob(bdata), (c) => c.charCodeAt(0)).buffer);
        const { x, y, rows } = JSON.parse(figure.dataset.figure).points[0], { xaxis, yaxis } = place._fullLayout;
        const box = place.querySelector(".nsewdrag").getBoundingClientRect();
        return { x: box.x + xaxis.d2p(numbers(Float32Array, x)[0]), y: box.y + yaxis.d2p(numbers(Float32Array, y)[0]) };
    }""")
    page.mouse.move(spot["x"], spot["y"])
    page.mouse.click(spot["x"], spot["y"])
    page.wait_for_selector(".dd-case-card")
    row = int(re.findall(r"\d+", page.inner_text(".dd-case-head h3"))[0])
    rows = [json.loads(line) for line in models["pairs.jsonl"].read_text(encoding="utf-8").splitlines()]
    assert rows[row - 1]["prompt"] in page.inner_text(".dd-case-card") and rows[row - 1]["chosen"] in page.inner_text(".dd-case-card")
    page.keyboard.press("j")
    page.wait_for_function(f"document.querySelector('.dd-case-head h3').textContent.includes('{row + 1}')")
    page.wait_for_function("location.search.startsWith('?report=')")
    with page.expect_download() as download:
        page.click("#dd-evaluate-file-0")
    assert len(Path(download.value.path()).read_text(encoding="utf-8").splitlines()) == 64

    link = page.url
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#dd-evaluate-body [data-remove]")
    page.wait_for_selector("#dd-evaluate-body[data-state=start]")
    other = visit(link, ready="#dd-evaluate-body .dd-evaluate-verdict", locale="zh-CN")
    other.wait_for_selector("dd-figure[data-set=data].dd-drawn")
    assert "只剩报告" in other.inner_text(".dd-evaluate-head") and other.url == link


def test_answers_of_a_batch_are_scored_with_their_prompts_apart(tab: Callable[..., Any], models: dict[str, Path], tmp_path: Path) -> None:
    asked = [{"custom_id": f"r{n}", "body": {"messages": [{"role": "user", "content": q}]}} for n, (q, _) in enumerate(ROWS)]
    answered = [{"custom_id": f"r{n}", "response": {"status_code": 200, "body": {"choices": [
        {"index": 0, "message": {"role": "assistant", "content": a}, "finish_reason": "stop"}]}}} for n, (_, a) in enumerate(ROWS)]  # fmt: skip
    for name, rows in (("in", asked), ("out", answered)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tab("scores", locale="zh-CN")
    evaluated(page, reward_model=str(models["reward"]), data=str(tmp_path / "out.jsonl"), train="", prompts=str(tmp_path / "in.jsonl"))
    assert "16" in page.inner_text("#dd-evaluate-body .dd-evaluate-verdict h2")
    assert "回答对应的提示" in evaluate_requests.evaluate_kind({"kind": "scores", "lang": "zh"})["parts"]["form"]


def test_back_and_forward_of_the_browser_stay_within_the_app(
    visit: Callable[..., Any], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(server.home))
    run_id = run_of(scores(text="back and forward"), "scores", PAIR_ROWS)
    page = visit(server.url)
    page.set_default_timeout(120_000)
    at_start, result = "#dd-evaluate-body[data-state=start]", "#dd-evaluate-body[data-state=open] .dd-evaluate-verdict"

    def row(n: int) -> None:
        page.wait_for_function(f"document.querySelector('.dd-case-head h3')?.textContent.includes('Row {n} ')")

    page.click(TAB)
    page.click(f"#dd-evaluate-body [data-open='{run_id}']")
    page.click("#dd-evaluate-lower [data-case='3']")
    row(4)
    page.keyboard.press("j")
    row(5)
    page.go_back()  # cases that were turned are one step
    page.wait_for_selector(".dd-case-card", state="detached")
    assert page.is_visible(".dd-case-none")
    page.go_back()
    page.wait_for_selector(at_start)
    page.wait_for_function("location.search === '?evaluate=scores'")
    page.go_back()
    page.wait_for_selector("button[role=tab]:nth-of-type(1)[aria-selected=true]")
    page.wait_for_function("!location.search")
    page.go_forward()
    page.wait_for_selector(at_start)
    page.go_forward()
    page.wait_for_selector(result)
    page.wait_for_function(f"location.search === '?report={run_id}'")
    page.go_forward()
    row(5)
    page.reload()
    row(5)
    page.click("#dd-evaluate-body [data-close-case]")
    page.wait_for_selector(".dd-case-none")
    page.go_back()
    row(5)
    before = page.evaluate("history.length")
    page.reload()
    row(5)
    assert page.evaluate("history.length") == before  # what the page opens by itself is no step


def test_form_says_at_the_field_what_no_command_can_use(own_home: Path, models: dict[str, Path], tmp_path: Path) -> None:
    def problems(kind: str, **form: str) -> dict[str, str]:
        return dict(panels()[kind].checked(form, "en").problems)

    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "model.bin").write_bytes(b"x")
    reward, sound, pairs = (str(models[name]) for name in ("reward", "sound", "pairs.jsonl"))
    assert problems("scores", reward_model=reward, data=pairs) == {}
    for path in (pairs, str(tmp_path), str(tmp_path / "bare")):
        assert "holds no model" in problems("scores", reward_model=path, data=pairs)["reward_model"]
        assert "holds no model" in problems("replay", model=path, cases=pairs)["model"]
    for path in (sound, "demo:healthy_decoder"):
        assert "has no head that scores" in problems("scores", reward_model=path, data=pairs)["reward_model"]
        assert "reward_model" in problems("comparison", before=sound, after=sound, prompts=pairs, reward_model=path)
    assert problems("scores", reward_model=reward, data=pairs, max_samples="0")["max_samples"].endswith("1 to 1,000,000,000, please.")
    assert list(problems("comparison", before=sound, after=f"new={sound}", prompts="")) == ["prompts"]
    assert problems("comparison", before=pairs, after=f"new={sound}", prompts="") == {}  # the file has its prompts
    assert problems("comparison", before=pairs, after=f"new={pairs}", prompts="") == {}
    assert list(problems("comparison", before=pairs, after=str(tmp_path / "none.jsonl"), prompts="")) == ["after"]
    for kind, form in (("comparison", {"before": pairs, "after": pairs, "check": "regex:"}),
                       ("replay", {"model": sound, "cases": pairs, "check": "pattern"})):  # fmt: skip
        assert "can't be used (missing" in problems(kind, **form, pattern="(")["pattern"]
        assert list(problems(kind, **form, pattern="")) == ["pattern"] and problems(kind, **form, pattern="a+") == {}
    offered = [choice.value for choice in evaluate_case.demo_models()]
    assert "demo:literal_eos_t5" not in offered and "demo:healthy_t5" in offered  # the first is a bare file


def test_address_keeps_the_form_that_is_open(tab: Callable[..., Any], visit: Callable[..., Any], server: Server) -> None:
    page = tab("scores")
    for kind in ("comparison", "replay", "abilities"):
        page.check(f"#dd-evaluate-form [name=kind][value={kind}]", force=True)
        page.wait_for_function(f"location.search === '?evaluate={kind}'")
    page.reload()
    page.wait_for_selector("#dd-evaluate-form [data-kind=abilities]")
    page.click("button[role=tab]:nth-of-type(2)")
    page.wait_for_function("!location.search")
    page.go_back()
    page.wait_for_selector("#dd-evaluate-form [data-kind=abilities]")
    page.wait_for_function("location.search === '?evaluate=abilities'")
    given = visit(f"{server.url}?evaluate=replay", ready="#dd-evaluate-form [data-kind=replay]")  # as a link
    assert given.get_attribute("#dd-evaluate-body", "data-state") == "start"
    given.wait_for_function("location.search === '?evaluate=replay'")


SPACE = "https://huggingface.co/spaces/someone/doctor"
AROUND = """<!doctype html><iframe src="{app}?{query}" width="1200" height="900"></iframe><script>
  addEventListener("message", ({{ data, origin }}) => {{
    if (origin + "/" !== "{app}" || typeof data?.queryString !== "string") return;
    history.replaceState(history.state, "", location.pathname + (data.queryString ? "?" + data.queryString : ""));
  }});
</script>"""


def test_page_around_a_space_has_its_address_on_the_way_back_too(browser: Any, tmp_path: Path) -> None:
    """That page takes the query by messages and gives its own with __sign, which must not get into a link."""
    app = serve(tmp_path / "home", SPACE_ID="someone/doctor", TMPDIR=str(tmp_path))
    flags = [*FLAGS, "--disable-features=LocalNetworkAccessChecks"]  # a page of the Hub may hold one of this machine
    chromium = browser.browser_type.launch(executable_path=installed_chromium(), args=flags)
    try:
        page = chromium.new_page(locale="en-US")
        page.set_default_timeout(120_000)

        def around(route: Any) -> None:
            query = "&".join(p for p in ("__theme=light", "__sign=secret", route.request.url.partition("?")[2]) if p)
            route.fulfill(content_type="text/html", body=AROUND.format(app=app.url, query=query))

        page.route(SPACE + "*", around)
        page.goto(SPACE)
        inside = page.frame_locator("iframe")
        inside.locator(".dd-verdict").first.wait_for(state="attached")
        inside.locator(TAB).click()
        page.wait_for_function("location.search === '?evaluate=scores'")
        inside.locator("#dd-evaluate-form [name=kind][value=replay]").check(force=True)
        page.wait_for_function("location.search === '?evaluate=replay'")
        page.go_back()
        page.wait_for_function("!location.search")
        page.go_forward()
        page.wait_for_function("location.search === '?evaluate=replay'")
        page.reload()
        inside.locator("#dd-evaluate-form [data-kind=replay]").wait_for()
    finally:
        chromium.close()
        app.stop()


def test_replay_from_the_form_to_a_case_and_the_workbook(tab: Callable[..., Any], models: dict[str, Path]) -> None:
    from openpyxl import load_workbook

    page = tab("replay", viewport={"width": 390, "height": 844})
    evaluated(page, model=str(models["endless"]), others=str(models["sound"]), cases=str(models["cases.jsonl"]),
              decoding="greedy", max_new_tokens="60")  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.select_option("#dd-evaluate-body [name=change]", "fixed")
    page.wait_for_function("document.querySelector('#dd-evaluate-body [name=change]').value === 'fixed'")
    page.click("#dd-evaluate-body .dd-replay-list [data-case]")
    page.wait_for_selector(".dd-case-card")
    sides = page.locator(".dd-case-card .dd-case-side")
    assert sides.count() == 3 and "sound" in sides.nth(2).inner_text()
    with page.expect_download() as download:
        page.click("#dd-evaluate-file-0")
    book = load_workbook(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert any(cell.value == ROWS[0][0] for sheet in book.worksheets for row in sheet.iter_rows() for cell in row)
    page.click("#dd-lang label:nth-of-type(2)")
    page.wait_for_function("document.querySelector('#dd-evaluate-body .dd-evaluate-verdict').textContent.includes('坏例')")
    page.click("#dd-evaluate-body [data-new]")
    page.wait_for_selector("#dd-evaluate-body [data-open]")
    assert "endless" in page.inner_text("#dd-evaluate-body [data-part=recent]")


def test_run_that_fails_says_why_and_leads_back_to_its_form(tab: Callable[..., Any], models: dict[str, Path], tmp_path: Path) -> None:
    page = tab("replay")
    (tmp_path / "empty.jsonl").write_text("[]")
    page.fill("#dd-evaluate-form [name=model]", str(models["sound"]))
    page.fill("#dd-evaluate-form [name=others]", "")
    page.fill("#dd-evaluate-form [name=cases]", str(tmp_path / "empty.jsonl"))
    page.click("#dd-evaluate-start")
    page.wait_for_selector("#dd-evaluate-body .dd-run-failed .dd-run-why")
    assert "empty.jsonl" in page.inner_text("#dd-evaluate-body .dd-run-why")
    page.click("#dd-evaluate-body .dd-run-do [data-again]")
    page.wait_for_selector("#dd-evaluate-body[data-state=start]")
    assert page.input_value("#dd-evaluate-form [name=cases]") == str(tmp_path / "empty.jsonl")


def test_replay_is_kept_in_a_bundle_and_replayed_again(
    visit: Callable[..., Any], server: Server, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(server.home))
    result = replayed()
    there = (result.models[0], replace(result.models[1], source=str(models["sound"])))
    run_id = replay_run(tmp_path, replace(result, models=there), model=str(models["endless"]), decoding="greedy",
                        max_new_tokens="20", options="")  # fmt: skip
    page = visit(f"{server.url}?evaluate={run_id}", ready="#dd-evaluate-body .dd-evaluate-verdict")
    page.set_default_timeout(120_000)
    page.fill("#dd-evaluate-lower [name=bundle]", "loops")
    page.click("#dd-evaluate-lower [data-ask=keep]")
    page.click("#dd-evaluate-lower [data-bundle=loops]")
    page.wait_for_selector(".dd-bundle-head h2")
    assert page.locator(".dd-evaluate-start-box [data-ask=bundle_replay]").count() == 1
    page.click("[data-bundle-form=loops]")
    page.wait_for_function("document.querySelector('#dd-evaluate-form [name=cases]')?.value === 'bundle:loops'")
    assert page.input_value("#dd-evaluate-form [name=others]") == str(models["sound"])
    assert page.evaluate("document.querySelector('#dd-evaluate-form [name=decoding]').value") == "greedy"
    evaluated(page)
    page.click("#dd-evaluate-lower [data-bundle=loops]")
    page.wait_for_selector(".dd-bundle-head h2")
    assert page.locator(".dd-evaluate-start-box [data-ask=bundle_replay]").count() == 2
    page.click("#dd-lang label:nth-of-type(2)")
    page.wait_for_function("document.querySelector('.dd-bundle-head')?.textContent.includes('回放')")
    page.locator(".dd-evaluate-start-box [data-ask=bundle_replay]").last.click()
    page.wait_for_selector("#dd-evaluate-body .dd-evaluate-verdict")
    assert "loops" in page.inner_text(".dd-evaluate-head") and page.locator(".dd-replay-list [data-case]").count() == 2
    page.click("#dd-evaluate-body [data-new]")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("[data-bundle-remove=loops]")
    page.wait_for_selector(".dd-evaluate-intro")
    assert not page.is_visible("[data-bundle=loops]")


def test_visitor_compares_files_of_their_own_and_sees_nobody_elses(
    tab: Callable[..., Any], visit: Callable[..., Any], public: Server, tmp_path: Path
) -> None:
    for name, right in (("sft", 2), ("dpo", 1)):
        rows = [{"prompt": f"What is {n} plus {n}?", "response": str(2 * n if n % 3 >= right else 1), "label": str(2 * n)} for n in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tab("comparison", address=public.url)
    assert page.is_visible(".dd-evaluate-intro .dd-banner") and not page.is_visible("[data-part=bundles] .dd-card")
    for name in ("judge", "judge_model", "database"):
        assert page.locator(f"#dd-evaluate-form [name={name}]").count() == 0
    for path in (str(tmp_path / "sft.jsonl"), "OLD=/etc", "configs/words", "http://127.0.0.1:9/v1"):
        page.fill("#dd-evaluate-form [name=before]", path)
        page.wait_for_function("document.querySelector('#dd-evaluate-form [data-problem=before]').textContent")
        page.click("#dd-evaluate-start")
        page.wait_for_function("!document.querySelector('#dd-evaluate-body[data-busy]')")
        assert page.is_visible("#dd-evaluate-form [data-problem=before]") and page.get_attribute("#dd-evaluate-body", "data-state") == "start"
        page.fill("#dd-evaluate-form [name=before]", "")
        page.wait_for_function("!document.querySelector('#dd-evaluate-form [data-problem=before]').textContent")
    for field, name in (("before", "sft"), ("after", "dpo")):
        page.fill(f"#dd-evaluate-form [name={field}]", "")
        page.set_input_files("#dd-evaluate-upload input[type=file]", str(tmp_path / f"{name}.jsonl"))
        page.wait_for_function(f"/^upload:.*{name}/.test(document.querySelector('#dd-evaluate-form [name={field}]').value)")
    evaluated(page, prompts="")
    assert page.inner_text(".dd-compare .dd-verdict h2") == "dpo is better than sft"
    shown = page.inner_text("#dd-evaluate-body")
    assert str(tmp_path) not in shown and str(public.home.parent) not in shown and not page.is_visible("#dd-evaluate-log")
    link = page.url
    page.click("#dd-evaluate-body [data-new]")
    page.wait_for_selector("#dd-evaluate-body [data-open]")
    assert page.locator("#dd-evaluate-body [data-open]").count() == 1

    stranger = tab("abilities", address=public.url)
    assert not stranger.is_visible("#dd-evaluate-body [data-open]")
    assert stranger.locator("#dd-evaluate-form [name=tasks]").count() == 0
    given = visit(link, ready=".dd-compare .dd-verdict h2")
    assert given.inner_text(".dd-compare .dd-verdict h2") == "dpo is better than sft"
