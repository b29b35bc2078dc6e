"""The tab Train: its parts alone, and as a visitor meets it with a run really training behind it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from app_in_browser import Server

from pipeline.demo.build import DemoFolder
from pipeline.running_process import this_process
from pipeline.training.job_folder import Failure, Job, Status, write_status
from pipeline.training.recipe import parse_recipe, recipe_names
from ui import train_case, train_requests, train_setup, train_view, train_work
from ui.train_yaml import with_values

HOSTILE = "<img src=x onerror=window.hacked=1>\u202e$`{{value}}`__i18n__{\"key\":\"path\"}'\"</textarea></script>"
TAB = "button[role=tab]:nth-of-type(5)"


def form(name: str = "dpo_lora", **more: Any) -> dict[str, Any]:
    return {"name": name, "yaml": train_case.recipe_text(name), **more}


# --- the YAML ---


@pytest.mark.parametrize("name", recipe_names())
def test_a_field_set_in_the_form_changes_that_field_alone(name: str) -> None:
    before = train_case.recipe_text(name)
    after = with_values(before, {"learning_rate": 3e-5, "seed": 7, "weight_decay": 0.1})
    was, now = yaml.safe_load(before), yaml.safe_load(after)
    own = {k: v for k, v in was.pop("on_demo", {}).items() if k != "learning_rate"}
    assert now.pop("on_demo", {}) == own
    assert now == {**was, "learning_rate": 3e-5, "seed": 7, "weight_decay": 0.1}
    assert after.count("#") == before.count("#")
    assert parse_recipe(after, name).settled["learning_rate"] == 3e-5


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        ("method: dpo\nbeta:\nseed: 1\n", {"beta": 0.2}, "method: dpo\nbeta: 0.2\nseed: 1\n"),
        ("method: dpo\nbeta: 0.1      # usual\n", {"beta": 0.25}, "method: dpo\nbeta: 0.25     # usual\n"),
        ("method: dpo\nloss_type:\n  - ipo\n  # both\n  - sft\nseed: 1\n", {"loss_type": ["hinge"]}, "method: dpo\nloss_type:\n  [hinge]\nseed: 1\n"),
        ("method: dpo\nbeta: 0.1\non_demo:\n  beta: 0.3\n", {"beta": 0.2}, "method: dpo\nbeta: 0.2\n"),
        ("method: dpo\nbeta: 0.1\nseed: 1", {"seed": None}, "method: dpo\nbeta: 0.1\n"),
        ("method: dpo\non_demo: {beta: 1}\n", {"data": "数据.jsonl: a"}, None),
    ],
)  # fmt: skip
def test_yaml_is_edited_in_place(text: str, changes: dict[str, Any], wanted: str | None) -> None:
    made = with_values(text, changes)
    assert wanted is None or made == wanted
    now = yaml.safe_load(made)
    assert all(now.get(name) == value for name, value in changes.items())


def test_fields_and_yaml_are_one_thing() -> None:
    answer = train_requests.train_form({"lang": "en", "form": form(), "set": {"beta": "0.3", "loss_type": "[ipo, sft]"}})
    text = answer["form"]["yaml"]
    assert yaml.safe_load(text)["beta"] == 0.3 and yaml.safe_load(text)["loss_type"] == ["ipo", "sft"]
    assert 'value="0.3"' in answer["parts"]["fields"] and not answer["problems"]
    other = train_requests.train_form({"lang": "zh", "form": {**form(), "yaml": text.replace("beta: 0.3", "beta: 0.15")}})
    assert 'value="0.15"' in other["parts"]["fields"] and "8 × 1 × 1 = " in other["parts"]["fields"]


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [({"beta": "much"}, "beta", "much"), ({"learning_rate": "-1"}, "learning_rate", "-1"),
     ({"accelerate": "zero9"}, "accelerate", "zero"), ({"report_to": HOSTILE}, "", "")],
)  # fmt: skip
def test_form_says_what_is_wrong_at_its_field(change: dict[str, str], place: str, says: str) -> None:
    for lang in ("en", "zh"):
        answer = train_requests.train_form({"lang": lang, "form": form(), "set": change})
        assert "toast" not in answer
        if place:
            assert says in answer["problems"][place]


@pytest.mark.parametrize("text", ["beta: 0.1", "method: dpo\nlerning_rate: 1", "method: dpo\n  - x: [", "\x00", "method: dpo\nbeta: &a 1\nx: *a", "[]", HOSTILE])
def test_yaml_that_is_no_recipe_is_answered_in_place(text: str) -> None:
    answer = train_requests.train_form({"lang": "en", "form": {"name": "dpo_lora", "yaml": text}})
    assert answer["problems"] and "toast" not in answer and set(answer["parts"]) == {"case"}
    assert "<img" not in json.dumps(answer["parts"])
    if "lerning" in text:
        assert "learning_rate" in next(iter(answer["problems"].values()))


def test_another_recipe_keeps_what_the_visitor_named() -> None:
    mine = with_values(train_case.recipe_text("dpo_lora"), {"data": "mine.jsonl"})
    made = train_case.picked(train_case.Form("dpo_lora", mine), "kto")
    recipe = parse_recipe(made.yaml, "kto")
    assert recipe.method == "kto" and recipe["data"] == "mine.jsonl"
    assert recipe["model_name_or_path"] == parse_recipe(train_case.recipe_text("kto"), "kto")["model_name_or_path"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_recipe_is_a_form(lang: str) -> None:
    for name in recipe_names():
        found = train_case.checked(train_case.form_of(form(name)))
        assert found.recipe is not None and not found.problems, name
        assert "name=\"learning_rate\"" in train_setup.fields(found, lang)
        title, about = train_case.described(name, lang)
        assert title != name and about, name


# --- a public page ---


def test_nothing_runs_for_strangers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    monkeypatch.setattr(train_work.threading.Thread, "start", lambda thread: pytest.fail("something was started"))
    for request in (train_requests.train_stop, train_requests.train_resume, train_requests.train_now, train_requests.train_again):
        assert request({"id": "last", "lang": "en"})["bad"] is True
    assert train_requests.train_begin({"does": "start", "form": form(), "lang": "en"})["bad"] is True
    assert train_requests.train_open({"lang": "en"})["parts"]["start"] == ""
    for changes in ({"data": "/etc/passwd"}, {"model_name_or_path": str(tmp_path)}, {"data": [{"path": "configs"}]},
                    {"accelerate": "/etc/hosts"}, {"reward_database": "/etc/hosts"}, {"chat_template": "/etc/hosts"},
                    {"eval_data": "../x"}, {"output_dir": "/tmp/x"}):  # fmt: skip
        name = "grpo_verifiable" if "reward_database" in changes else "dpo_lora"
        text = with_values(train_case.recipe_text(name), changes)
        answer = train_requests.train_begin({"does": "check", "form": {"name": name, "yaml": text}, "lang": "en"})
        assert answer["problems"], changes


# --- a job ---


def test_log_is_shown_as_a_terminal_leaves_it() -> None:
    written = "begin\n 10%|█   | 1/9 [00:01]\r 20%|██  | 2/9\n  0%|    | 0/4\x1b[A\n 50%|██  | 2/4\n\x1b[31mred\x1b[0m\n\n\n\nend\n"
    assert train_view.readable(written) == "begin\n 50%|██  | 2/4\nred\n\nend"


def test_page_of_a_job_edited_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    folder = tmp_path / "jobs" / "odd-20260101-000000-aaaa"
    folder.mkdir(parents=True)
    job = Job(folder.name, folder)
    write_status(job, Status(state="running", created=time.time() - 3600, step=4, max_steps=9))
    (folder / "log.txt").write_text(HOSTILE, encoding="utf-8")
    (folder / "recipe.yaml").write_text("[" * 50, encoding="utf-8")
    (folder / "metrics.jsonl").write_text("{\"loss\": NaN}\nnot json\n" + json.dumps({"loss": HOSTILE}), encoding="utf-8")
    for lang in ("en", "zh"):
        answer = train_requests.train_open({"id": job.id, "lang": lang})
        assert answer["state"] == "open" and answer["now"]["live"] is False and "toast" not in answer
        assert "<img" not in "".join(answer["parts"].values()) and "data-resume" in answer["parts"]["now"]
        assert job.id in train_requests.train_open({"lang": lang})["parts"]["start"]
    for named in ("last", "odd", "../jobs/" + job.id, str(folder), "\0", 7):
        assert train_requests.train_open({"id": named, "lang": "en"})["state"] == "gone"


@pytest.mark.parametrize(("state", "said"), [("running", False), ("stopped", True)])
def test_a_run_in_its_warm_up_is_not_said_to_have_ended_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, said: bool
) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    folder = tmp_path / "jobs" / "sft_full-20260101-000000-aaaa"
    folder.mkdir(parents=True)
    job = Job(folder.name, folder)
    write_status(job, Status(state=state, created=time.time(), step=60, max_steps=900, supervisor=this_process()))
    rows = [{"step": n, "loss": 2 - n / 100, "learning_rate": n * 1e-6, "epoch": n / 900} for n in range(1, 61)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parts = train_requests.train_open({"id": job.id, "lang": "en"})["parts"]
    assert ("LOG009" in parts["findings"]) is said and ("LOG009" in parts["curves"]) is said


def test_a_run_that_failed_before_its_first_step_says_why_and_what_to_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    folder = tmp_path / "jobs" / "dpo_lora-20260101-000000-aaaa"
    folder.mkdir(parents=True)
    line = "ValueError: Target modules {'nope'} not found in the base model."
    write_status(Job(folder.name, folder), Status(state="failed", created=time.time(), start=time.time() - 9, end=time.time(), failure=Failure("bad_config", "target_modules_missing", 3, line)))
    for lang, never in (("en", "step 0 of 0"), ("zh", "0 步（共 0 步）")):
        answer = train_requests.train_open({"id": folder.name, "lang": lang})
        now = answer["parts"]["now"]
        assert never not in now and "nope" in now and "dd-fix" in now and "data-resume" in now
        assert "data-diagnose" not in answer["parts"]["head"]  # nothing was made


# --- in the browser ---


@pytest.fixture
def tab(server: Server, visit: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    def opened(url: str = "", **context: Any) -> Any:
        page = visit(url or server.url, ready=".dd-verdict", **context)
        page.set_default_timeout(60_000)
        page.click(TAB)
        page.wait_for_selector(".dd-train-head h2")
        return page

    yield opened


def points(page: Any) -> int:
    """Points of the loss that are drawn."""
    return int(page.evaluate("document.querySelector('#dd-train-plot .js-plotly-plot')?.data?.[0]?.x?.length ?? 0"))


def drawn(page: Any, least: int) -> None:
    page.wait_for_function(
        f"(document.querySelector('#dd-train-plot .dd-drawn')?.data?.[0]?.x?.length ?? 0) >= {least}", timeout=120_000
    )


def put(page: Any, name: str, value: str) -> None:
    page.fill(f"#dd-train-body [name={name}]", value)
    page.press(f"#dd-train-body [name={name}]", "Tab")
    page.wait_for_function("!document.querySelector('#dd-train-body').dataset.busy")


def test_from_pairs_to_a_run_that_is_watched_stopped_and_resumed(
    server: Server, visit: Callable[..., Any], demo: DemoFolder
) -> None:
    page = visit(server.url)
    page.set_default_timeout(60_000)
    page.click("button[role=tab]:nth-of-type(3)")
    page.click("#dd-pairs-examples button")  # a set with sound pairs
    page.wait_for_selector(".dd-pairs[data-state=open] .dd-pair")
    page.click(TAB)
    page.click("[data-take]")
    page.wait_for_function("document.querySelector('#dd-train-body [name=data]').value.startsWith('pairs:')")
    put(page, "max_steps", "400")
    for name, value in (("logging_steps", "1"), ("save_steps", "10"), ("eval_steps", "200")):
        put(page, name, value)
    assert "max_steps: 400" in page.input_value("[name=yaml]") and "  max_steps" not in page.input_value("[name=yaml]")
    page.click("#dd-train-start")
    page.wait_for_function("location.search.includes('train=') || document.querySelector('[data-insist]')", timeout=120_000)
    if page.query_selector("[data-insist]"):  # the example's few rows may be an error by themselves
        page.click("[data-insist]")
        page.wait_for_function("location.search.includes('train=')", timeout=120_000)
    job = str(page.evaluate("ddTrain.state.id"))
    drawn(page, 2)
    before = points(page)
    drawn(page, before + 2)  # it moves
    page.wait_for_selector(".dd-run-running")
    page.reload()
    page.wait_for_selector(".dd-train[data-state=open] .dd-run-running")
    drawn(page, before + 2)
    page.click("[data-part=now] [data-stop]")
    page.wait_for_selector(".dd-run-stopped", timeout=90_000)
    folder = server.home / "jobs" / job
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "stopped" and 0 < status["step"] < 400 and status["checkpoint"]
    page.click("[data-resume]")
    page.wait_for_selector(".dd-run-running", timeout=120_000)
    page.wait_for_function(f"ddTrain.state.live && Number(document.querySelector('.dd-run-facts span').textContent.match(/\\d+/)[0]) > {status['step']}", timeout=120_000)
    page.click("[data-part=now] [data-stop]")
    page.wait_for_selector(".dd-run-stopped", timeout=90_000)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == sorted(set(steps)) and len(steps) > status["step"]  # one curve, each step once


def test_form_and_checks_in_chinese_on_a_phone(tab: Callable[..., Any], demo: DemoFolder) -> None:
    page = tab(locale="zh-CN", viewport={"width": 390, "height": 844})
    assert page.inner_text(".dd-train-head h2") == "DPO，LoRA"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("#dd-train-case-toggle")
    page.select_option("#dd-train-body [name=pick]", "kto")
    page.wait_for_function("document.querySelector('.dd-train-head h2').textContent === 'KTO'")
    put(page, "beta", "viel")
    assert "viel" in page.inner_text("[data-problem=beta]")
    put(page, "beta", "0.2")
    page.wait_for_function("!document.querySelector('#dd-train-body [data-problem=beta]').textContent")
    page.click("#dd-train-check")
    page.wait_for_selector(".dd-train-checks-box .dd-verdict", timeout=120_000)
    assert page.locator(".dd-memory i").count() >= 4 and page.locator(".dd-tok-trained").count() > 2
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    with page.expect_download() as download:
        page.click("[data-hand-over=trl]")
        page.click("#dd-train-file:not(.hidden)")
    assert download.value.suggested_filename.endswith("kto-trl.zip")


def test_visitor_sees_the_command_and_starts_nothing(tab: Callable[..., Any], public: Server) -> None:
    page = tab(public.url)
    assert "accelerate.commands.launch" in page.input_value("[name=command]") and not page.is_visible("#dd-train-start")
    assert str(Path.cwd()) not in page.inner_text(".dd-train") + page.input_value("[name=command]")
    assert not os.path.exists(public.home / "jobs")
