"""`python -m pipeline train` and `jobs` as a user meets them: real runs on the demo, kills, limits, edited folders."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.__main__ import main
from pipeline.demo.build import DemoFolder
from pipeline.refusal import Refused
from pipeline.running_process import Process, this_process
from pipeline.training.accelerate_files import check_port, read_accelerate
from pipeline.training.job_folder import (
    Job,
    Status,
    find_job,
    new_job,
    read_status,
    write_status,
)
from pipeline.training.recipe import parse_changes, read_recipe
from pipeline.training.start_job import resume_job
from pipeline.training.supervise import start_supervisor

ROOT = Path(__file__).resolve().parent.parent
STEPS = 12
QUICK = {
    "max_samples": 48,
    "val_size": 0,
    "eval_strategy": "no",
    "logging_steps": 1,
    "save_steps": 4,
    "max_steps": STEPS,
}
SECRETS = {"HF_TOKEN": "hf_" + "A1b2C3d4E5" * 4, "WANDB_API_KEY": "0123456789abcdef" * 3}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and kills of Linux")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo: DemoFolder) -> Iterator[Path]:
    """DPO_DOCTOR_HOME of all of these; the demo is built before anything is timed."""
    place = tmp_path_factory.mktemp("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_DOCTOR_HOME", str(place / "home"))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        yield place


def started(*arguments: str, limits: dict[int, int] | None = None, **more: Any) -> subprocess.Popen[str]:
    def limited() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in a shell's background inherit that it is ignored
        for kind, most in (limits or {}).items():
            resource.setrlimit(kind, (most, most))

    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, preexec_fn=limited, **more,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def arguments(output: Path | str, *more: str, recipe: str = "dpo_lora", **fields: Any) -> list[str]:
    held = {**QUICK, "output_dir": output, **fields}
    return ["train", recipe, *more, *(word for name, value in held.items() for word in ("--set", f"{name}={value}"))]


def curve(job: Path) -> list[dict[str, Any]]:
    """What has to be the same in two runs."""
    records = [json.loads(line) for line in (job / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in r.items() if k != "time"} for r in records if "loss" in r]


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(home: Path) -> tuple[Path, str, str]:
    """An undisturbed run in a folder whose name is hostile: (folder, standard output, standard error)."""
    place = home / "a 'b' \"c\" [d] * $HOME; 数据"
    code, out, err = ended(started(*arguments(place, "--foreground", "--format", "json", "--lang", "zh")))
    assert code == 0, err[-2000:]
    return place, out, err


# --- a run that goes well ---


def test_one_document_and_every_step_once(whole: tuple[Path, str, str]) -> None:
    place, out, err = whole
    account = json.loads(out)
    assert account["state"] == "done" and account["step"] == STEPS and account["folder"] == str(place)
    assert [r["step"] for r in curve(place)] == list(range(1, STEPS + 1))
    assert curve(place)[-1]["loss"] < curve(place)[0]["loss"]
    assert err.splitlines()[-1].startswith("pipeline: 完成")


def test_secrets_stand_nowhere(whole: tuple[Path, str, str], home: Path) -> None:
    files = [p for p in home.rglob("*") if p.is_file()]
    assert len(files) > 15
    for path in files:
        held = path.read_bytes()
        assert not any(secret.encode() in held for secret in SECRETS.values()), path
    assert not any(secret in text for secret in SECRETS.values() for text in whole[1:])


def test_the_exported_recipe_has_the_same_curve_in_trl(whole: tuple[Path, str, str], home: Path) -> None:
    folder = home / "trl"
    assert main([*arguments(home / "unused", "--export", f"trl={folder}", use_cpu="true")]) == 0
    program = Path(sys.executable).parent / "trl"
    done = subprocess.run([program, "dpo", "--config", "config.yaml"], cwd=folder, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    (state,) = folder.glob(f"output/checkpoint-{STEPS}/trainer_state.json")
    assert [r for r in json.loads(state.read_text())["log_history"] if "loss" in r] == curve(whole[0])


# --- kills ---


def test_everything_killed_then_resumed(whole: tuple[Path, str, str], home: Path) -> None:
    place = home / "killed"
    assert main(arguments(place)) == 0
    job = find_job(str(place))
    until(lambda: (place / "metrics.jsonl").exists() and len(curve(place)) >= 5)
    status = read_status(job)
    assert status.supervisor is not None and status.training is not None
    launcher = psutil.Process(status.training.pid)
    workers = launcher.children(recursive=True)
    for one in (psutil.Process(status.supervisor.pid), launcher):
        one.send_signal(signal.SIGSTOP)  # so that neither answers to the other's end
    assert read_status(job).live
    for pid in (status.supervisor.pid, *(w.pid for w in workers), launcher.pid):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert (status.state, status.checkpoint) == ("interrupted", "checkpoint-4") and status.step >= 5
    assert main(["jobs", "resume", str(place), "--foreground"]) == 0
    assert read_status(job).state == "done" and read_status(job).attempt == 2
    assert curve(place) == curve(whole[0])


def test_a_worker_that_outlives_its_launcher_is_running(home: Path) -> None:
    job = new_job("orphan")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        launcher = Process(2**22 - 1, this_process(worker.pid).began - 1)
        write_status(job, Status(state="starting", created=1.0, supervisor=launcher, training=launcher))
        told = {"phase": "training", "step": 3, "max_steps": 9, "pid": worker.pid, "time": time.time() + 1}
        job.path("progress.json").write_text(json.dumps(told))
        status = read_status(job)
        assert (status.state, status.step) == ("running", 3) and status.training == this_process(worker.pid)
        with pytest.raises(Refused, match="running"):
            resume_job(job)
        job.path("progress.json").write_text(json.dumps({**told, "time": 5.0}))  # its pid was given out again
        assert read_status(job).state == "interrupted"
        worker.communicate(b"\n")


PROGRAM = """
import json, os, subprocess, sys, time
def tell(phase):
    json.dump({"phase": phase, "step": 3, "max_steps": 3, "first_step_time": time.time()}, open("progress.json", "w"))
if sys.argv[1] == "aborts":
    tell("done"); os.abort()
if sys.argv[1] == "stops":
    tell("stopped")
if sys.argv[1] == "leaves a worker":
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    open("worker", "w").write(str(worker.pid))
    tell("training"); time.sleep(60)
"""


def small(home: Path, how: str, command: str | None = None) -> Job:
    """A job with a program of our own, as `start_job` leaves it."""
    program = home / "program.py"
    program.write_text(PROGRAM)
    job = new_job("small")
    job.path("command.txt").write_text(command or f"{sys.executable} {program} '{how}'\n")
    job.path("log.txt").touch()
    write_status(job, Status(created=time.time()))
    return job


def test_an_abort_after_all_was_saved_is_no_failure(home: Path, whole: tuple[Path, str, str]) -> None:
    job = small(home, "aborts")
    job.output.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (job.output / name).write_bytes((whole[0] / name).read_bytes())
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert (status.state, status.exit_status) == ("done", -signal.SIGABRT) and status.verified["tensors"] > 0
    (job.output / "adapter_model.safetensors").write_bytes(b"cut")
    write_status(job, Status(created=time.time()))
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    assert read_status(job).state == "failed"


def test_stopped_by_a_signal_to_the_trainer_is_stopped(home: Path) -> None:
    job = small(home, "stops")
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    assert read_status(job).state == "stopped"


def test_workers_in_sessions_of_their_own_end_with_their_launcher(home: Path) -> None:
    job = small(home, "leaves a worker")
    start_supervisor(job)
    until(lambda: read_status(job).state == "running" and read_status(job).peak_memory_bytes > 0)
    time.sleep(4)  # a look at the processes comes every few seconds
    status, worker = read_status(job), this_process(int(job.path("worker").read_text()))
    assert status.training is not None
    os.kill(status.training.pid, signal.SIGKILL)
    until(lambda: not read_status(job).live)
    assert read_status(job).state == "failed" and not worker.alive


# --- failures ---

FAILURES = {
    "file size": ({resource.RLIMIT_FSIZE: 200_000}, [], {}, ("disk_full", "file_too_large")),
    "memory": ({resource.RLIMIT_AS: 2**31 - 2**28}, [], {}, ("out_of_memory", "bad_alloc")),
    "package": (None, ["--insist"], {"attn_implementation": "flash_attention_2"}, ("missing_dependency", "package_needed")),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_classified(name: str, home: Path) -> None:
    limits, more, fields, expected = FAILURES[name]
    place = home / name
    code, out, err = ended(started(*arguments(place, "--foreground", *more, **fields), limits=limits))
    status = read_status(find_job(str(place)))
    assert code == 1 and status.state == "failed" and status.failure is not None
    assert (status.failure.cause, status.failure.message) == expected, status.failure
    (line,) = out.splitlines()
    assert err.splitlines()[-1] == f"pipeline: {line}"  # not the launcher's traceback


def test_what_the_checks_refuse_can_be_started_again_in_its_place(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = home / "refused"
    assert main(arguments(place, "--format", "json", lora_target_modules="nope_proj")) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["state"] == "refused" and "nope_proj" in err and "Traceback" not in err
    job = find_job(str(place))
    assert read_status(job).state == "refused" and not list(place.glob("checkpoint-*"))
    with pytest.raises(Refused, match="--insist"):
        resume_job(job)
    got: list[Job] = []
    refused: list[Refused] = []

    def claim() -> None:
        try:
            got.append(new_job("again", str(place)))
        except Refused as no:
            refused.append(no)

    claims = [threading.Thread(target=claim) for _ in range(6)]
    for one in claims:
        one.start()
    for one in claims:
        one.join()
    assert len(got) == 1 and len(refused) == 5


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lerning_rate": 1}, "learning_rate"), ({"learning_rate": "[1, 2]"}, "learning_rate"), ({"beta": "nan"}, "beta"),
        ({"data": "/nowhere/x.jsonl"}, "/nowhere/x.jsonl"), ({"model_name_or_path": "./nothing/here/x"}, "./nothing/here/x"),
        ({"output_dir": "/proc/nope/x"}, "/proc/nope/x"), ({"output_dir": __file__}, "output_dir"),
        ({"deepspeed": "/nowhere/ds.json"}, "deepspeed"), ({"chat_template": "/nowhere/t.jinja"}, "chat_template"),
        ({"adapter_name_or_path": "/nowhere/a"}, "adapter_name_or_path"), ({"accelerate": "zero9"}, "zero9"),
        ({"tokenizer_name_or_path": "./nowhere/t"}, "tokenizer_name_or_path"),
    ],
)  # fmt: skip
def test_what_cannot_be_started_is_one_line(
    fields: dict[str, Any], said: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for lang in ("en", "zh"):
        assert main(arguments(tmp_path / "out", "--lang", lang, **fields)) == 2
        out, err = capfd.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("pipeline: ")]
        assert out == "" and len(lines) == 1 and said in lines[0] and "Traceback" not in err
    assert not (tmp_path / "out/status.json").exists()


def test_a_list_of_runs_that_cannot_be_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", "/proc/nope")
    assert main(arguments(tmp_path / "out")) == 2
    assert "DPO_DOCTOR_HOME" in capfd.readouterr().err


LISTENER = """
import socket, sys
with socket.create_server(("", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    input()
"""


@pytest.mark.parametrize("own", [True, False])
def test_a_port_held_by_the_waiting_run_itself_is_not_taken(own: bool, tmp_path: Path) -> None:
    file = tmp_path / "accelerate.yaml"
    words = [sys.executable, "-c", LISTENER, "--config_file", str(file) if own else "another.yaml"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        port = int(launcher.stdout.readline())
        file.write_text(f"distributed_type: MULTI_GPU\nnum_processes: 2\nuse_cpu: true\nmain_process_port: {port}\n")
        if own:
            check_port(read_accelerate(file))
        else:
            with pytest.raises(Refused, match=str(port)):
                check_port(read_accelerate(file))
        launcher.communicate("\n")


def test_ctrl_c_before_the_start_leaves_nothing(home: Path) -> None:
    place = home / "interrupted"
    process = started(*arguments(place, "--foreground"))
    until(lambda: (place / "status.json").exists())
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = ended(process)
    assert code == 3 and out == "" and "Traceback" not in err and not place.exists()


def test_forms_of_set() -> None:
    recipe = read_recipe("dpo_lora")
    assert recipe.changed(parse_changes(["eval_strategy=no", "save_strategy=No"])).get("eval_strategy") == "no"
    assert recipe.changed({"resume_from_checkpoint": True}).get("resume_from_checkpoint") == "true"
    assert recipe.changed({"resume_from_checkpoint": False}).get("resume_from_checkpoint") is None
    for wrong in ({"eval_strategy": True}, {"beta": False}, {"model_name_or_path": False}):
        with pytest.raises(Refused):
            recipe.changed(wrong)


# --- job folders edited by hand ---


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("command.txt", "{old} ; touch hacked", ";"), ("command.txt", "", "no program"), ("command.txt", "/nowhere/python x", "/nowhere/python"),
        ("command.txt", "\udcff", "UTF-8"), ("command.txt", "HF_TOKEN=x {old}", "HF_TOKEN"), ("command.txt", None, "command.txt"),
        ("recipe.yaml", "{{", "YAML"), ("recipe.yaml", "{old}seed: 3\n", "twice"), ("recipe.yaml", None, "recipe.yaml"),
        ("data/train.jsonl", None, "train.jsonl"), ("accelerate.yaml", None, "accelerate.yaml"),
    ],
)  # fmt: skip
def test_an_edited_job_is_refused_and_stays_as_it_is(
    whole: tuple[Path, str, str], name: str, content: str | None, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    job = find_job(str(whole[0]))
    path, before, status = job.path(name), job.path(name).read_bytes(), read_status(job)
    try:
        write_status(job, replace(status, state="stopped"))
        if content is None:
            path.unlink()
        else:
            text = content.format(old=before.decode() if name != "command.txt" else before.decode().strip())
            path.write_bytes(text.encode(errors="surrogateescape"))
        assert main(["jobs", "resume", str(job.folder)]) == 2
        err = capfd.readouterr().err
        assert len(err.splitlines()) == 1 and said in err
        assert read_status(job).state == "stopped" and not job.path("hacked").exists()
    finally:
        path.write_bytes(before)
        write_status(job, status)


def test_a_command_edited_while_it_waits_fails_in_words(home: Path) -> None:
    job = small(home, "stops", command="python x | tee y")
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert status.state == "failed" and status.failure is not None and "|" in status.failure.text
    assert "Traceback" not in job.path("log.txt").read_text()
