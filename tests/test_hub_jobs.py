"""Runs on Hugging Face Jobs, through the real huggingface_hub and real HTTP, against a Hub on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback_jobs import Job, LoopbackJobs

from pipeline.refusal import Refused
from pipeline.training import hub_calls, hub_logs
from pipeline.training.hub_jobs import (
    HUB_RUN,
    HubRun,
    account,
    all_runs,
    cancel,
    find,
    read_run,
    requirements,
    start,
    status,
    usage,
)
from pipeline.training.hub_logs import follow_logs
from pipeline.training.hub_prices import Hardware, cost_estimate, hardware, timeout_for

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "hf_" + "aBcD1234" * 4 + "xy"
RECIPE = "method: dpo\nmodel_name_or_path: Qwen/Qwen3-0.6B\nmax_steps: 10\nbeta: 0.2\nuse_peft: true\n"
T4 = Hardware("t4-small", "Nvidia T4 - small", "4 vCPU", 15, "T4", 1, 16, 0.4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short waits, and no login of this machine."""
    held = {**hub_calls.settings(), "wait_seconds": 0.05, "call_seconds": 5}
    for name in ("hub_calls", "hub_jobs", "hub_prices", "hub_logs"):
        monkeypatch.setattr(f"pipeline.training.{name}.settings", lambda: held)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))


@pytest.fixture
def hub() -> Iterator[LoopbackJobs]:
    with LoopbackJobs({TOKEN: "me"}) as served:
        yield served


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "问", "chosen": "好", "rejected": "bad"}\n', encoding="utf-8")
    return {"data/train.jsonl": path}


def begin(hub: LoopbackJobs, rows: dict[str, Path], folder: Path | None = None, **more: Any) -> HubRun:
    given: dict[str, Any] = {"recipe_text": RECIPE, "data_files": rows, "hardware": T4, "timeout": 3600, "token": TOKEN}
    return start(**{**given, **more}, folder=folder, endpoint=hub.endpoint)


def line_of(action: Callable[[], Any]) -> str:
    """The English line; both languages say something else, on one line, without the token; nothing hangs on it."""
    with pytest.raises(Refused) as caught:
        action()
    error: BaseException | None = caught.value
    english, chinese = caught.value.said("en"), caught.value.said("zh")
    assert english != chinese and "\n" not in english + chinese
    while error is not None:
        assert TOKEN not in repr(error) + str(error) + repr(vars(error))
        error = error.__cause__
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return english


# prices


def test_hardware_of_the_hub(hub: LoopbackJobs) -> None:
    found = hardware(endpoint=hub.endpoint)
    assert [one.name for one in found] == ["cpu-basic", "t4-small", "l4x4"] and not found.date
    assert found.named("l4x4") == Hardware("l4x4", "4x Nvidia L4", "48 vCPU", 186, "L4", 4, 24, pytest.approx(3.8, abs=0.001))
    assert "t5-small: no machine" in line_of(lambda: found.named("t5-small"))


@pytest.mark.parametrize("kind", ["down", "nonsense", "empty", "units"])
def test_dated_prices_where_the_hub_gives_none(hub: LoopbackJobs, kind: str) -> None:
    if kind == "nonsense":
        hub.hardware = {"error": "?"}  # type: ignore[assignment]
    elif kind == "empty":
        hub.hardware = []
    elif kind == "units":  # a unit that isn't known: no price rather than a wrong one
        hub.hardware = [{**hub.hardware[0], "unitLabel": "fortnight"}]
        assert hardware(endpoint=hub.endpoint)[0].usd_per_hour is None
        return
    found = hardware(endpoint="http://127.0.0.1:9" if kind == "down" else hub.endpoint)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.date) and found.named("cpu-basic").usd_per_hour == 0.01
    assert kind == "nonsense" or kind == "empty" or "can't be reached" in str(found.why)


def test_cost_and_time_limit() -> None:
    estimate = cost_estimate(T4, 3600)
    assert estimate.timeout_seconds == timeout_for(3600) == 5820 and estimate.usd is not None
    assert estimate.seconds[0] < 3600 < estimate.seconds[1] < estimate.seconds[2] <= estimate.timeout_seconds
    assert estimate.usd[0] < estimate.usd[1] < estimate.usd[2] <= estimate.most_usd == pytest.approx(97 * 0.4 / 60)
    assert timeout_for(1) == 1800  # never below the Hub's own limit
    free = cost_estimate(Hardware("x", "X"), 10)
    assert free.usd is None and "price isn't known" in str(free.line) and "价格未知" in free.line.said("zh")
    assert "$0.65" in str(estimate.line)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        assert "number of seconds" in line_of(lambda given=wrong: cost_estimate(T4, given))


# start


def test_what_is_started(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path) -> None:
    run = begin(hub, rows, tmp_path, namespace="team")
    job = hub.jobs[run.job_id]
    assert job.spec["timeoutSeconds"] == 3600 and job.spec["flavor"] == "t4-small"
    assert job.spec["secrets"] == {"HF_TOKEN": TOKEN} and job.spec["labels"]["dpo-doctor"] == run.id
    assert run.url == f"{hub.endpoint}/jobs/team/{run.job_id}" and run.namespace == "team"
    # private places of the namespace, one commit that holds all
    assert hub.repos == {"datasets/team/dpo-doctor-runs": True, f"models/{run.output_repo}": True}
    files = {n.removeprefix(f"{run.id}/"): c for n, c in hub.files["datasets/team/dpo-doctor-runs"].items()}
    assert set(files) == {"recipe.yaml", "accelerate.yaml", "project.zip", "data/train.jsonl"}
    recipe = yaml.safe_load(files["recipe.yaml"])
    assert recipe["push_to_hub"] is True and recipe["hub_model_id"] == run.output_repo and recipe["hub_private_repo"] is True
    assert recipe["hub_strategy"] == "checkpoint" and recipe["beta"] == 0.2
    names = zipfile.ZipFile(BytesIO(files["project.zip"])).namelist()
    assert "pipeline/training/run.py" in names and "configs/training_fields.json" in names
    assert all(name.startswith(("pipeline/", "configs/")) and "__pycache__" not in name for name in names)
    # the token: in the secrets of the one request, and nowhere else
    without = json.dumps({**job.spec, "secrets": None})
    assert TOKEN not in without and sum(TOKEN.encode() in body for body in hub.bodies) == 1
    assert not any(TOKEN.encode() in content for held in hub.files.values() for content in held.values())
    assert TOKEN not in (tmp_path / HUB_RUN).read_text()
    assert read_run(tmp_path) == run


def test_versions_are_those_the_project_is_tested_with() -> None:
    wanted = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    pinned = dict(one.split("==") for one in requirements(with_deepspeed=True))
    assert {"trl", "peft", "accelerate", "deepspeed", "datasets", "transformers", "torch"} <= set(pinned)
    for name, version in pinned.items():
        if name in wanted:
            assert version == wanted[name], name


def test_several_gpus_and_what_can_not_run_there(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path) -> None:
    four = hardware(endpoint=hub.endpoint).named("l4x4")
    run = begin(hub, rows, hardware=four)
    spread = yaml.safe_load(hub.files["datasets/me/dpo-doctor-runs"][f"{run.id}/accelerate.yaml"])
    assert (spread["distributed_type"], spread["num_processes"]) == ("MULTI_GPU", 4)
    run = begin(hub, rows, hardware=four, accelerate="zero3")
    assert any(word.startswith("deepspeed==") for word in hub.jobs[run.job_id].spec["command"])
    assert "compiles parts" in line_of(lambda: begin(hub, rows, hardware=four, accelerate="zero3_offload"))
    assert "several machines" in line_of(lambda: begin(hub, rows, hardware=four, accelerate="several_machines"))
    assert len(hub.jobs) == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"token": None}, "no login"), ({"token": ""}, "no login"), ({"token": "hf_x\n" + TOKEN}, "characters"),
        ({"token": "hf_" + "z" * 34}, "doesn't accept this login"), ({"timeout": 0}, "number of seconds"),
        ({"recipe_text": RECIPE + f"hub_token: {TOKEN}\n"}, "holds a token"),
        ({"recipe_text": RECIPE + f"# {TOKEN}\n"}, "holds a token"),
        ({"recipe_text": RECIPE + "hub_token: secret\n"}, "recipe.yaml: hub_token: holds a token"),
        ({"recipe_text": RECIPE.replace("Qwen/Qwen3-0.6B", "/models/mine")}, "lies on this machine"),
        ({"recipe_text": RECIPE.replace("Qwen/Qwen3-0.6B", "demo:healthy_decoder")}, "lies on this machine"),
        ({"recipe_text": "method: dpo\n"}, "model"), ({"output_repo": "../x"}, "not a name of a repository"),
        ({"data_files": {}}, "data/train.jsonl is needed"),
        ({"data_files": {"data/train.jsonl": Path("/nowhere/rows")}}, "can't be read"),
        ({"namespace": "not/one"}, "not a name of a repository"),
    ],
)  # fmt: skip
def test_nothing_is_started_for_what_can_not_be(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path, change: dict[str, Any], line: str) -> None:
    assert line in line_of(lambda: begin(hub, rows, tmp_path, **change))
    assert not hub.jobs and not (tmp_path / HUB_RUN).exists()
    assert not any(TOKEN.encode() in body for body in hub.bodies)


def test_rows_with_the_token_stay_here(hub: LoopbackJobs, rows: dict[str, Path]) -> None:
    path = rows["data/train.jsonl"]
    path.write_bytes(b"x" * ((1 << 20) - 10) + TOKEN.encode())  # across two parts of the reading
    assert "data/train.jsonl: holds a token" in line_of(lambda: begin(hub, rows))
    for name in ("../up", "/abs", "recipe.yaml", "a\\b"):
        assert "name of a file" in line_of(lambda name=name: begin(hub, {name: path, **rows}))
    assert not hub.requests


def test_a_model_of_ones_own_travels(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    run = begin(hub, {**rows, "model/config.json": config}, recipe_text=RECIPE.replace("Qwen/Qwen3-0.6B", "model"))
    assert f"{run.id}/model/config.json" in hub.files["datasets/me/dpo-doctor-runs"]


def test_never_the_login_of_this_machine(hub: LoopbackJobs, rows: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for action in (lambda: begin(hub, rows, token=None), lambda: account(None, hub.endpoint), lambda: all_runs("", "me", hub.endpoint)):
        assert "no login" in line_of(action)
    hardware(endpoint=hub.endpoint)
    assert hub_calls.own_token() == TOKEN  # only where it is asked for
    assert hub.asked("/") == hub.asked("/api/jobs/hardware") == 1


def test_a_public_place_gets_nothing(hub: LoopbackJobs, rows: dict[str, Path]) -> None:
    hub.repos["datasets/me/dpo-doctor-runs"], hub.files["datasets/me/dpo-doctor-runs"] = False, {}
    assert "is public" in line_of(lambda: begin(hub, rows))
    assert not hub.files["datasets/me/dpo-doctor-runs"] and not hub.jobs


@pytest.mark.parametrize("auth", [{"role": "read"}, {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.write"]}]}}])
def test_a_token_that_may_not_start_jobs(hub: LoopbackJobs, rows: dict[str, Path], auth: dict[str, Any]) -> None:
    hub.auth = auth
    assert "(job.write)" in line_of(lambda: begin(hub, rows)) and not hub.repos


def test_account(hub: LoopbackJobs) -> None:
    for auth in ({"role": "write"}, {}):
        hub.auth = auth
        assert account(TOKEN, hub.endpoint).namespaces == ("me", "team")


# faults


@pytest.mark.parametrize(
    ("status_code", "message", "line"),
    [
        (401, "Invalid credentials in Authorization header", "doesn't accept this login"),
        (402, "Payment Required", "Add some at"), (403, "Forbidden: missing job.write", "missing job.write"),
        (403, "You must add a payment method to your account", "needs credit"),
        (400, "Invalid flavor: t4-small", "doesn't give this machine"), (404, "User not found", "no such job"),
        (400, f"bad body: {{'secrets': {{'HF_TOKEN': '{TOKEN}'}}}}", "hf_***"), (429, "slow down", "in 17 seconds"),
    ],
)  # fmt: skip
def test_refusals_of_the_hub(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path, status_code: int, message: str, line: str) -> None:
    hub.fail("/api/jobs/me", status_code, message, method="POST", ratelimit='"api";r=0;t=17')
    said = line_of(lambda: begin(hub, rows, tmp_path))
    assert line in said or (status_code == 404 and "shows this login no such" in said)
    assert not hub.jobs and hub.asked("/api/jobs/me", "POST") == 1 and not (tmp_path / HUB_RUN).exists()


def test_down_for_a_moment(hub: LoopbackJobs, rows: dict[str, Path]) -> None:
    for part in ("/api/whoami-v2", "/repos/create", "/api/jobs/me"):
        hub.fail(part, 500, method="POST" if part == "/api/jobs/me" else "")
    run = begin(hub, rows)
    assert list(hub.jobs) == [run.job_id] and hub.asked("/api/jobs/me", "POST") == 2
    hub.fail(run.job_id, 503)
    assert status(run, TOKEN).stage == "SCHEDULING"


def test_a_start_whose_answer_was_lost_is_found(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path) -> None:
    hub.fail("/api/jobs/me", lambda: None, method="POST")
    run = begin(hub, rows, tmp_path)
    assert list(hub.jobs) == [run.job_id] and read_run(tmp_path) == run


def test_a_start_of_which_nothing_is_known(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path) -> None:
    hub.fail("/api/jobs/me", lambda: None, method="POST")
    hub.fail("/api/jobs/me", 403, "Forbidden", method="GET")
    assert f"Look at {hub.endpoint}/jobs/me before" in line_of(lambda: begin(hub, rows, tmp_path))
    assert len(hub.jobs) == 1  # no second try
    kept = read_run(tmp_path)  # the app, started again
    assert kept is not None and not kept.job_id
    assert find(kept, TOKEN).job_id in hub.jobs and status(kept, TOKEN).stage == "SCHEDULING"


def test_slow_and_silent_and_no_hub(hub: LoopbackJobs, rows: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(hub, rows)
    held = {**hub_calls.settings(), "call_seconds": 0.2, "tries": 2}
    monkeypatch.setattr(hub_calls, "settings", lambda: held)
    hub.delay, before = 1.0, time.monotonic()
    assert "no answer within 0.2 s" in line_of(lambda: status(run, TOKEN))
    assert time.monotonic() - before < 1
    hub.delay = 0.0
    assert "can't be reached" in line_of(lambda: account(TOKEN, "http://127.0.0.1:9"))
    from huggingface_hub import get_session

    assert get_session().timeout.read is not None  # what the library leaves without a limit


# how it stands


def test_how_it_stands_and_what_it_costs(hub: LoopbackJobs, rows: dict[str, Path]) -> None:
    run = begin(hub, rows)
    job = hub.jobs[run.job_id]
    assert (status(run, TOKEN).end, status(run, TOKEN).usd) == ("", 0.0)
    assert usage(run, TOKEN) == {}
    job.begin()
    job.running = 61
    now = status(run, TOKEN)
    assert (now.stage, now.seconds, now.end) == ("RUNNING", 61, "") and now.usd == pytest.approx(2 * 0.4 / 60)
    assert now.started > 0 and "2 minutes, $0.01" in str(now.line) and "2 分钟" in now.line.said("zh")
    assert usage(run, TOKEN)["cpu_usage_pct"] == 7
    assert all_runs(TOKEN, None, hub.endpoint) == [(run.id, run.job_id, "RUNNING")]


@pytest.mark.parametrize(
    ("stage", "message", "running", "end"),
    [
        ("COMPLETED", None, 3599, "completed"), ("ERROR", "Job failed with exit code: 1", 90, "failed"),
        ("ERROR", "Job timeout", 90, "timeout"), ("ERROR", None, 3600, "timeout"), ("CANCELED", None, 9, "canceled"),
        ("DELETED", None, 9, "deleted"),
    ],
)  # fmt: skip
def test_how_it_ended(hub: LoopbackJobs, rows: dict[str, Path], stage: str, message: str | None, running: int, end: str) -> None:
    run = begin(hub, rows)
    hub.jobs[run.job_id].end(stage, message, running)
    found = status(run, TOKEN)
    assert found.end == end and found.finished and str(found.line) != found.line.said("zh")


def test_cancel_and_gone(hub: LoopbackJobs, rows: dict[str, Path]) -> None:
    run = begin(hub, rows)
    hub.jobs[run.job_id].begin()
    cancel(run, TOKEN)
    assert status(run, TOKEN).end == "canceled"
    cancel(run, TOKEN)  # over already: nothing to say
    hub.jobs.clear()
    for action in (lambda: status(run, TOKEN), lambda: cancel(run, TOKEN)):
        assert "knows no such job any more" in line_of(action)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"id": 1}', '{"job_id": "../../x"}', "null", "\xff"])
def test_a_file_edited_by_hand(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path, content: str) -> None:
    whole = json.dumps({**vars(begin(hub, rows)), "job_id": "../../whoami-v2"})
    for text in (content, whole):
        (tmp_path / HUB_RUN).write_text(text, encoding="latin-1")
        assert read_run(tmp_path) is None


# output


@pytest.fixture
def running(hub: LoopbackJobs, rows: dict[str, Path]) -> tuple[HubRun, Job]:
    run = begin(hub, rows)
    job = hub.jobs[run.job_id]
    job.begin()
    return run, job


def until(condition: Callable[[], bool], seconds: float = 8) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_output_is_followed_and_goes_on_after_a_restart(running: tuple[HubRun, Job], tmp_path: Path) -> None:
    run, job = running
    path = tmp_path / "log.txt"
    job.lines += ["same", "same", "loss 0.69"]
    follower = follow_logs(run, TOKEN, path)
    until(lambda: follower.lines == 3)
    follower.stop()
    assert not follower.alive
    job.lines += ["while nobody looked"]
    until(lambda: follower._ended.is_set())
    assert path.read_text() == "same\nsame\nloss 0.69\n"
    with path.open("a") as file:
        file.write("while no")  # cut short by a kill
    again = follow_logs(run, TOKEN, path)
    job.lines += ["same"]
    until(lambda: again.lines == 5)
    job.end()
    assert again.wait(8) and again.problem is None
    assert path.read_text() == "same\nsame\nloss 0.69\nwhile nobody looked\nsame\n"


def test_output_cut_in_the_middle(running: tuple[HubRun, Job], tmp_path: Path) -> None:
    run, job = running
    job.lines += [f"line {n}" for n in range(50)]
    job.cut = 20
    follower = follow_logs(run, TOKEN, tmp_path / "log.txt")
    until(lambda: follower.lines == 50)
    job.end()
    assert follower.wait(8) and follower.problem is None
    assert (tmp_path / "log.txt").read_text().splitlines() == [f"line {n}" for n in range(50)]


def test_a_silent_job_is_let_go_at_once_and_costs_one_connection(hub: LoopbackJobs, running: tuple[HubRun, Job], tmp_path: Path) -> None:
    run, job = running
    first = follow_logs(run, TOKEN, tmp_path / "log.txt")
    until(lambda: hub.streams == 1)
    for _ in range(5):
        before = time.monotonic()
        first.stop()
        assert time.monotonic() - before < 0.1
        assert follow_logs(run, TOKEN, tmp_path / "log.txt") is first and first.alive
    assert hub.streams == 1
    job.lines += ["x"]
    until(lambda: first.lines == 1)
    stopper = threading.Thread(target=first.stop)
    stopper.start()
    stopper.join(1)
    assert not stopper.is_alive() and not first.alive


def test_hostile_output(running: tuple[HubRun, Job], tmp_path: Path) -> None:
    run, job = running
    job.lines += ["a\nb", f"token {TOKEN} and hf_oauth_eyJhbGciOi.abc-def", "\x1b[2Jgone\x00", "\ud800 half", "10%\r20%",
                  "字" * 100_000, "a\u2028b\x85c", "", "}{", "训练 ok"]  # fmt: skip
    job.end()
    follower = follow_logs(run, TOKEN, tmp_path / "log.txt")
    assert follower.wait(8) and follower.problem is None
    content = (tmp_path / "log.txt").read_bytes()
    lines = content.decode().split("\n")
    assert len(lines) == len(job.lines) + 1 and TOKEN not in content.decode() and "eyJ" not in content.decode()
    assert lines[0] == "a\\nb" and lines[2] == "\\x1b[2Jgone\\x00" and lines[4] == "10%\r20%" and len(lines[5]) < 70_000
    assert lines[6] == "a\\u2028b\\x85c" and lines[7] == "" and lines[9] == "训练 ok"
    assert follow_logs(run, TOKEN, tmp_path / "log.txt").wait(8)
    assert (tmp_path / "log.txt").read_bytes() == content


def test_another_log_puts_the_file_aside(running: tuple[HubRun, Job], tmp_path: Path) -> None:
    run, job = running
    path = tmp_path / "log.txt"
    path.write_text("one\ntwo\n")
    job.lines += ["other", "lines", "here"]
    job.end()
    assert follow_logs(run, TOKEN, path).wait(8)
    assert path.read_text() == "other\nlines\nhere\n"
    assert (tmp_path / f"log.txt{hub_logs.PUT_ASIDE}").read_text() == "one\ntwo\n"


def test_why_following_ended(hub: LoopbackJobs, running: tuple[HubRun, Job], tmp_path: Path) -> None:
    run, _ = running
    hub.fail("/logs", 403, "Forbidden")
    follower = follow_logs(run, TOKEN, tmp_path / "log.txt")
    assert follower.wait(8) and "may not do that (Forbidden)" in str(follower.problem)
    follower = follow_logs(run, TOKEN, tmp_path / "no" / "log.txt")
    assert follower.wait(8) and follower.problem is not None and "continues where it stopped" in str(follower.problem)


# the job itself


def test_what_the_job_runs_really_runs(hub: LoopbackJobs, rows: dict[str, Path], tmp_path: Path) -> None:
    """The job's own command, all but `uv`, here: it fetches its commit, trains (a model that isn't there: refused),
    pushes what there is, and ends with the training's failure."""
    cpu = hardware(endpoint=hub.endpoint).named("cpu-basic")
    run = begin(hub, rows, hardware=cpu, recipe_text=RECIPE.replace("Qwen/Qwen3-0.6B", "me/none"))
    command = hub.jobs[run.job_id].spec["command"]
    arguments = command[command.index("python") + 1 :]
    assert command[0] == "uv" and arguments[0] == "-c"
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "PYTHONPATH"}
    (tmp_path / "tmp").mkdir()
    env |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0 and "me/none" in done.stderr and "pushed to" in done.stdout, done.stderr[-2000:]
    pushed = hub.files[f"models/{run.output_repo}"]
    assert {"run/recipe.yaml", "run/command.txt", "run/accelerate.yaml"} <= set(pushed)
    assert not any(TOKEN.encode() in content for content in pushed.values()) and TOKEN not in done.stdout + done.stderr
