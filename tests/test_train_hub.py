"""Hugging Face Jobs in the tab Train, by the requests of the page, against a Hub on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from app_in_browser import serve
from loopback_jobs import LoopbackJobs

from pipeline.demo.build import DemoFolder
from pipeline.training import hub_calls
from pipeline.training.hub_jobs import HUB_RUN
from ui import hub_runs, train_case, train_hub, train_requests, train_work
from ui.train_yaml import with_values

TOKEN, OTHER = "hf_" + "aBcD1234" * 4 + "xy", "hf_oauth_" + "zYxW9876" * 4
Made = dict[str, Any]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackJobs]:
    """Its login is that of this machine; what was remembered of another Hub is gone."""
    held = {**hub_calls.settings(), "wait_seconds": 0.05, "call_seconds": 8}
    for name in ("hub_calls", "hub_jobs", "hub_prices", "hub_logs", "hub_prepared"):
        monkeypatch.setattr(f"pipeline.training.{name}.settings", lambda: held)
    monkeypatch.setattr(hub_runs, "STATUS_SECONDS", 0.0)
    monkeypatch.setattr(hub_runs, "TAIL_SECONDS", 0.2)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(hub_runs, "_kept", {})
    with LoopbackJobs({TOKEN: "me", OTHER: "else"}) as served:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.endpoint)
        yield served


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")


def logged(token: str) -> gr.OAuthToken:
    return gr.OAuthToken(token, "jobs", 0)


def form(name: str = "dpo_lora", **changes: Any) -> Made:
    return {"name": name, "yaml": with_values(train_case.recipe_text(name), changes)}


def done(answer: Made, lang: str = "en") -> Made:
    """The answer once the work that was begun is over."""
    assert "work" in answer, answer
    until = time.monotonic() + 60
    while time.monotonic() < until:
        now = train_requests.train_work_now({"work": answer["work"], "lang": lang})
        if now["done"]:
            return {**now, "work": answer["work"]}
        time.sleep(0.05)
    raise AssertionError("the work did not end")


def quote(login: gr.OAuthToken | None = None, **more: Any) -> Made:
    asked = {"does": "quote", "form": form(max_steps=20), "machine": "t4-small", "namespace": "me", "lang": "en", **more}
    return train_hub.train_hub_begin(asked, login)


def begun(login: gr.OAuthToken | None = None) -> str:
    made = done(quote(login))
    assert "data-hub-start" in made["parts"]["checks"], made
    return str(done(train_hub.train_hub_begin({"does": "start", "quote": made["work"], "lang": "en"}, login))["job"])


def test_from_the_list_of_machines_to_the_end_of_a_run(hub: LoopbackJobs, demo: DemoFolder, tmp_path: Path) -> None:
    hub.hardware = [*hub.hardware, {**hub.hardware[0], "name": "odd", "prettyName": "Odd", "unitLabel": "parsec"}]
    look = train_hub.train_hub_look({"lang": "en"})["parts"]["hub"]
    assert "Nvidia T4 - small · $0.40 an hour" in look and "Odd · price unknown" in look and "team" in look
    made = done(quote(minutes="45"))
    shown = made["parts"]["checks"]
    assert "It costs $0.30 at most: after 45 minutes" in shown and "$0.30" in shown.split("data-hub-start")[1]
    assert "Rows to train on: " in shown and not hub.jobs and not hub.repos  # nothing was sent, nothing costs
    start = {"does": "start", "quote": made["work"], "lang": "en"}
    job_id = done(train_hub.train_hub_begin(start))["job"]
    assert train_hub.train_hub_begin(start)["bad"] and len(hub.jobs) == 1  # a second click pays nothing
    (job,) = hub.jobs.values()
    sent = next(iter(hub.files.values()))
    recipe = next(content for name, content in sent.items() if name.endswith("recipe.yaml")).decode()
    assert "max_steps: 20" in recipe and "model_name_or_path: model" in recipe and str(tmp_path) not in recipe
    assert any(name.endswith("model/model.safetensors") for name in sent) and job.spec["flavor"] == "t4-small"
    hub_runs._kept.clear()  # the app, started again
    assert f'data-open="{job_id}"' in train_requests.train_open({"lang": "zh"})["parts"]["start"]
    page = train_hub.train_hub_open({"id": job_id, "lang": "en"})
    assert page["state"] == "open" and page["now"]["watch"] and f"/jobs/me/{job.id}" in page["parts"]["now"]
    job.begin()
    job.running, job.lines = 61, ["step 1", f"token {TOKEN}"]
    until = time.monotonic() + 5
    while "step 1" not in (page := train_hub.train_hub_now({"id": job_id, "lang": "en"}))["parts"]["log"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "2 minutes, $0.01" in page["parts"]["now"] and "cost more than $0.30" in page["parts"]["now"]
    ended = train_hub.train_hub_cancel({"id": job_id, "lang": "zh"})
    assert ended["now"]["live"] is False and "data-hub-cancel" not in ended["parts"]["now"]
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.name == HUB_RUN for p in kept) and not any(TOKEN.encode() in p.read_bytes() for p in kept)
    assert TOKEN not in json.dumps([look, made, page, ended])


def test_a_visitor_runs_on_their_own_account_alone(hub: LoopbackJobs, public: None, demo: DemoFolder, tmp_path: Path) -> None:
    for request in train_hub.HUB_REQUESTS:  # the machine's login is nobody's
        assert request({"does": "quote", "form": form(), "id": "hf--me--x", "login": TOKEN, "lang": "en"})["bad"]
    assert not hub.requests
    job_id = begun(logged(TOKEN))
    assert [job.namespace for job in hub.jobs.values()] == ["me"] and not (tmp_path / "home").exists()
    assert not list(tmp_path.rglob("train.jsonl"))
    hub_runs._kept.clear()
    page = train_hub.train_hub_open({"id": job_id, "lang": "en"}, logged(TOKEN))  # found by its label
    assert page["state"] == "open" and "t4-small" in page["parts"]["head"] and "cost more than" in page["parts"]["now"]
    assert job_id in train_hub.train_hub_look({"lang": "en"}, logged(TOKEN))["parts"]["hub"]
    (job,) = hub.jobs.values()
    job.namespace = "me"
    job.lines = ["a line"]
    job.end()
    for _ in range(60):
        page = train_hub.train_hub_now({"id": job_id, "lang": "en"}, logged(TOKEN))
        if "a line" in page["parts"]["log"]:
            break
        time.sleep(0.1)
    assert "a line" in page["parts"]["log"] and not page["now"]["watch"]
    assert train_requests.train_open({"lang": "en"})["parts"]["start"] == ""
    assert not any(TOKEN.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize(("status", "message", "says"), [(402, "Payment Required", "needs credit"), (403, f"no {TOKEN}", "may not do that"), (401, "", "doesn't accept")])
def test_refusals_are_one_line_and_may_be_tried_again(hub: LoopbackJobs, demo: DemoFolder, status: int, message: str, says: str) -> None:
    made = done(quote())
    hub.fail("/api/jobs/me", status, message, method="POST")
    start = {"does": "start", "quote": made["work"], "lang": "en"}
    failed = done(train_hub.train_hub_begin(start))
    assert says in failed["parts"]["checks"].replace("&#x27;", "'") and "job" not in failed and TOKEN not in json.dumps(failed)
    assert not hub.jobs and not hub_runs.own_runs()
    assert done(train_hub.train_hub_begin(start))["job"] and len(hub.jobs) == 1


@pytest.mark.parametrize("named", ["hf--me--gone-1", "hf--me", "hf--../x--y", "hf--me--../../x", "dpo", None, 7, "hf--" + "a" * 500])
def test_addresses_that_name_no_run(hub: LoopbackJobs, named: Any) -> None:
    for request in (train_hub.train_hub_open, train_hub.train_hub_now, train_hub.train_hub_cancel):
        answer = request({"id": named, "lang": "en"})
        assert answer["bad"] and "\n" not in answer["toast"]


@pytest.mark.parametrize("minutes", ["-1", "0", "1e9", "99999999", "五", "<b>"])
def test_time_limits_that_are_none(hub: LoopbackJobs, minutes: str) -> None:
    answer = quote(minutes=minutes)
    assert answer.get("problems", {}).get("hub") or "hub_quote" in train_work.find(answer["work"]).kind and "can take" in done(answer)["parts"]["checks"]  # type: ignore[union-attr]


# --- what a public page reads ---


@pytest.mark.parametrize(
    "changes",
    [{"model_config": "/etc/hosts"}, {"model_config": "configs/hub_jobs.yaml"}, {"data": " configs/hub_jobs.yaml\n"},
     {"data": "README.md:x"}, {"report_to": "configs"}, {"data": ["demo:pairs", "~/x"]}, {"run_name": "../../x"},
     {"eval_data": {"path": "pyproject.toml", "weight": 1}}, {"tokenizer_name_or_path": "tests"}],
)  # fmt: skip
def test_no_field_names_a_place_of_a_public_machine(public: None, changes: Made) -> None:
    for does in ("check", "hand_over"):
        asked = {"does": does, "kind": "trl", "form": form(**changes), "lang": "en"}
        answer = train_requests.train_begin(asked)
        assert answer.get("problems") and "work" not in answer, changes


def test_no_accelerate_file_names_a_place_of_a_public_machine(public: None) -> None:
    text = "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: /etc/hosts}\n"
    answer = train_requests.train_begin({"does": "check", "form": {**form(), "accelerate": text}, "lang": "en"})
    assert "/etc/hosts" in answer["problems"]["accelerate"]


def test_uploads_are_read_in_public_and_no_more_than_a_few_rows(public: None, demo: DemoFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ui import uploads

    monkeypatch.setattr(train_case, "PUBLIC_SENT", 5)
    path = tmp_path / "rows.jsonl"
    rows = ({"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(9))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    token, _, _ = uploads.keep_logs([str(path)])
    asked = {"does": "hand_over", "kind": "script", "lang": "en"}
    failed = done(train_requests.train_begin({**asked, "form": form(data=train_case.UPLOAD + token)}))
    assert "More than 5 rows" in failed["parts"]["checks"] and "file" not in failed
    few = [{"path": train_case.UPLOAD + token, "max_samples": 4}]
    assert "file" in done(train_requests.train_begin({**asked, "form": form(data=few)}))


# --- in the browser ---


def test_a_run_is_priced_started_reloaded_and_cancelled(
    hub: LoopbackJobs, visit: Callable[..., Any], demo: DemoFolder, tmp_path: Path
) -> None:
    server = serve(tmp_path / "home", HF_ENDPOINT=hub.endpoint, HF_TOKEN=TOKEN, TMPDIR=str(tmp_path))
    try:
        page = visit(server.url)
        page.click("button[role=tab]:nth-of-type(5)")
        page.click("[data-hub-look]")
        page.select_option("[name=hub_machine]", "t4-small")
        page.fill("[name=hub_minutes]", "30")
        page.click("[data-hub-quote]")
        page.wait_for_selector("[data-hub-start]", timeout=60_000)
        assert "$0.20" in page.inner_text("[data-hub-start]") and not hub.jobs
        page.click("[data-hub-start]")
        page.wait_for_function("location.search.includes('train=hf--me--')", timeout=60_000)
        (job,) = hub.jobs.values()
        job.begin()
        job.running, job.lines = 61, ["first line <b>"]
        page.reload()
        page.wait_for_selector(".dd-run-running", timeout=60_000)
        page.wait_for_function("document.querySelector('.dd-log-end')?.textContent.includes('first line <b>')")
        assert page.get_attribute(".dd-hub-links a", "href") == f"{hub.endpoint}/jobs/me/{job.id}"
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("[data-hub-cancel]")
        page.wait_for_selector(".dd-run-stopped")
        assert job.stage == "CANCELED" and TOKEN not in page.content()
        page.click("[data-new]")
        page.wait_for_selector(".dd-recents [data-open^=hf--me--]")
    finally:
        server.stop()
