"""Jobs: folders, states, queue, stop, kills. The processes are real; most are small programs in place of a trainer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.refusal import Refused
from pipeline.running_process import Process, this_process
from pipeline.training.checkpoints import last_whole, why_not_whole
from pipeline.training.extension_locks import free_abandoned
from pipeline.training.job_folder import (
    COMMAND,
    LOG,
    RECIPE,
    STATUS,
    STOP,
    Job,
    Status,
    all_jobs,
    find_job,
    forget,
    new_job,
    read_status,
    write_status,
)
from pipeline.training.job_words import account, failure_said, summary, table
from pipeline.training.newest_record import METRICS
from pipeline.training.process_tree import end_tree
from pipeline.training.recipe import parse_recipe
from pipeline.training.start_job import forget_steps_after, recipe_hash, resume_job
from pipeline.training.stop_job import stop_job, wait_until_over
from pipeline.training.supervise import start_supervisor

# What a training process does, as far as its supervisor sees it: it tells its steps, and ends its step where it is told.
TRAINER = """
import json, os, sys, time
job, steps, pause, ending = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
def tell(phase, step):
    with open(job + "/progress.json.new", "w") as file:
        json.dump({"phase": phase, "step": step, "max_steps": steps, "first_step_time": time.time() - step * pause}, file)
    os.replace(job + "/progress.json.new", job + "/progress.json")
tell("loading", 0)
for step in range(1, steps + 1):
    time.sleep(pause)
    tell("training", step)
    with open(job + "/metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": 1.0 / step}) + "\\n")
    print({"loss": 1.0 / step}, flush=True)
    if os.path.exists(job + "/stop") and ending != "deaf":
        tell("stopped", step)
        sys.exit(0)
if ending == "fails":
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", flush=True)
    sys.exit(1)
tell("done", steps)
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    yield
    for job in all_jobs():  # nothing outlives its test
        status = read_status(job)
        for process in (status.supervisor, status.training):
            if process is not None and process.alive:
                with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                    for one in psutil.Process(process.pid).children(recursive=True):
                        one.kill()
                    psutil.Process(process.pid).kill()


def make(tmp_path: Path, *, steps: int = 3, pause: float = 0.1, ending: str = "ends", **more: object) -> Job:
    """A job as `start_job` leaves it once its checks are through, with a program of our own."""
    program = tmp_path / "trainer.py"
    program.write_text(TRAINER)
    job = new_job("test")
    recipe = parse_recipe("method: sft\nmodel_name_or_path: /nowhere\n", "test")
    job.path(RECIPE).write_text(recipe.as_yaml())
    job.path("accelerate.yaml").write_text("num_processes: 1\n")
    job.path("data").mkdir()
    job.path("data/train.jsonl").write_text("{}\n")
    command = " ".join([sys.executable, str(program), str(job.folder), str(steps), str(pause), ending])
    job.path(COMMAND).write_text(command + "\n")
    job.path(LOG).touch()
    write_status(job, Status(created=time.time(), recipe_hash=recipe_hash(recipe), **more))  # type: ignore[arg-type]
    return job


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def output(job: Job, text: str = "weights") -> None:
    """Something that a trainer would have saved."""
    import numpy as np
    from safetensors.numpy import save_file

    job.output.mkdir(exist_ok=True)
    (job.output / "config.json").write_text('{"model_type": "made_up"}')
    save_file({text: np.ones((2, 2), dtype="float32")}, job.output / "model.safetensors")


# --- folders ---


def test_new_job_is_found_by_id_beginning_last_and_folder(tmp_path: Path) -> None:
    job = make(tmp_path)
    assert find_job(job.id) == find_job(job.id[:-2]) == find_job("last") == job
    assert find_job(str(job.folder)) == job


def test_job_in_output_dir_is_listed_and_guards_its_place(tmp_path: Path) -> None:
    job = new_job("mine", str(tmp_path / "out"))
    assert job.folder == job.output == tmp_path / "out"
    write_status(job, Status(state="done", created=time.time()))
    assert find_job(job.id) == job and list(all_jobs()) == [job]
    with pytest.raises(Refused, match="out"):
        new_job("mine", str(tmp_path / "out"))


def test_output_dir_that_is_a_file_or_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "\0"):
        with pytest.raises(Refused):
            new_job("mine", str(place))


def test_forgotten_job_leaves_what_it_did_not_write(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "mine.txt").write_text("kept")
    job = new_job("mine", str(place))
    write_status(job, Status())
    forget(job)
    assert [p.name for p in place.iterdir()] == ["mine.txt"] and list(all_jobs()) == []


def refused_at(place: Path) -> Job:
    job = new_job("mine", str(place))
    write_status(job, Status(state="refused"))
    return job


def test_place_of_a_refused_job_is_taken_at_the_first_try(tmp_path: Path) -> None:
    for before in ((), ("mine.txt",)):  # with and without something that keeps the folder there
        place = tmp_path / f"out{len(before)}"
        old = refused_at(place)
        for name in before:
            (place / name).write_text("kept")
        job = new_job("again", str(place))
        write_status(job, Status())
        assert find_job(str(place)) == job != old
        assert {p.name for p in place.iterdir()} == {".job", STATUS, *before}


def claimed_by_six(place: Path) -> list[Job | str]:
    """What six starts at the same moment come to: a job, or the entry of what it was refused with."""
    together = threading.Barrier(6)

    def claim(_: int) -> Job | str:
        together.wait()
        try:
            return new_job("again", str(place))
        except Refused as no:
            return no.sentence.entry

    with ThreadPoolExecutor(6) as threads:
        return list(threads.map(claim, range(6)))


@pytest.mark.parametrize("taken_before", [False, True])
def test_of_many_claims_on_one_place_one_gets_it(tmp_path: Path, taken_before: bool) -> None:
    for turn in range(10):
        place = tmp_path / f"out{turn}"
        if taken_before:
            refused_at(place)
        ends = claimed_by_six(place)
        assert [type(end) for end in ends].count(Job) == 1 and ends.count("output_has_job") == 5, ends


def test_claims_while_the_place_is_freed_again_and_again(tmp_path: Path) -> None:
    """One start takes the place and gives it back, another wants it: it gets it or hears that it is taken."""
    place, said = tmp_path / "out", []

    def by_turns() -> None:
        for _ in range(60):
            try:
                forget(new_job("mine", str(place)))
            except Refused as no:
                said.append(no.sentence.entry)

    both = [threading.Thread(target=by_turns) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert set(said) <= {"output_has_job"} and list(all_jobs()) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"x"', "{}", '{"state": 3}', '{"state": "running", "step": "many", "supervisor": {"pid": "x"}}',
     '{"state": "running", "created": NaN}', '{"state": "done", "failure": {"cause": 1}, "verified": []}', "\xff" * 50,
     '{"state": "running", "supervisor": {"pid": 99999999, "began": 1}}', "[" * 100_000],
)  # fmt: skip
def test_status_edited_by_hand_is_read_as_far_as_it_goes(tmp_path: Path, content: str) -> None:
    job = make(tmp_path)
    job.path(STATUS).write_text(content, encoding="latin-1")
    status = read_status(job)
    assert status.state in ("done", "interrupted")
    assert summary(job)["job"] == job.id
    for lang in ("en", "zh"):
        assert account(job, lang) and table([summary(job)], lang) and failure_said(status, lang)


def test_status_round_trip() -> None:
    status = Status(state="running", created=1.5, supervisor=Process(3, 4.5), step=7, checkpoint="checkpoint-5", exit_status=-9)
    assert Status.from_json(json.loads(json.dumps(status.as_json()))) == status


def test_unknown_jobs_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path)
    for name in ("nope", "../x", "", "test-", str(tmp_path), "\0"):
        with pytest.raises(Refused):
            find_job(name)


# --- runs ---


def test_run_to_its_end(tmp_path: Path) -> None:
    job = make(tmp_path, steps=8)
    output(job)
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert (status.state, status.exit_status, status.step, status.max_steps) == ("done", 0, 8, 8)
    assert status.end > status.start > 0 and status.peak_memory_bytes > 1_000_000
    assert status.verified["tensors"] == 1 and not status.verified["problem"]
    assert "'loss': 1.0" in job.path(LOG).read_text()


def test_run_that_saved_nothing_or_empty_tensors_failed(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    job = make(tmp_path)
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    assert read_status(job).verified["problem"] == "nothing_saved"
    job = make(tmp_path)
    output(job)
    save_file({"w": np.ones((0,), dtype="float32")}, job.output / "model.safetensors")
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert status.state == "failed" and status.failure is not None
    assert status.failure.message == "saved_empty_tensors" and status.failure.cause == "incomplete_checkpoint"


def test_failure_is_classified(tmp_path: Path) -> None:
    job = make(tmp_path, ending="fails")
    start_supervisor(job)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert status.state == "failed" and status.exit_status == 1
    assert status.failure is not None and status.failure.cause == "out_of_memory"
    for lang in ("en", "zh"):
        assert "per_device_train_batch_size" in failure_said(status, lang)


def test_polite_stop_then_resume(tmp_path: Path) -> None:
    job = make(tmp_path, steps=200)
    start_supervisor(job)
    until(lambda: read_status(job).step >= 2)
    with pytest.raises(Refused, match="running"):
        resume_job(job)
    stop_job(job)
    assert wait_until_over(job, 20)
    status = read_status(job)
    assert status.state == "stopped" and 2 <= status.step < 200 and not job.path(STOP).exists()
    with pytest.raises(Refused):
        stop_job(job)
    resume_job(job)
    until(lambda: read_status(job).state == "running")
    assert read_status(job).attempt == 2
    stop_job(job)
    assert wait_until_over(job, 20)
    steps = [json.loads(line)["step"] for line in job.path(METRICS).read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))  # what will be done again was dropped


def test_deaf_run_is_ended_with_all_its_children(tmp_path: Path) -> None:
    job = make(tmp_path, steps=2000, ending="deaf")
    start_supervisor(job)
    until(lambda: read_status(job).step >= 1)
    training = read_status(job).training
    assert training is not None
    stop_job(job)
    time.sleep(1)
    assert read_status(job).state == "stopping" and training.alive
    stop_job(job)  # a second time: at once
    assert wait_until_over(job, 30)
    assert read_status(job).state == "stopped" and not training.alive


# As torch.utils.file_baton does it: made exclusively, held open, removed at the end.
BUILDER = "import os, sys, time; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL); print('holds', flush=True); time.sleep(600)"


@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.parametrize(("deaf", "status"), [(False, -signal.SIGTERM), (True, -signal.SIGKILL)])
def test_exit_status_of_what_is_ended_by_force_is_its_signal(deaf: bool, status: int) -> None:
    """waitpid gives it once: whoever else waits for the child leaves its Popen with 0."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    code = f"{ignore}import time; print('ready', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    end_tree([psutil.Process(child.pid)], 0.5)
    assert child.wait(60) == status
    child.stdout.close()


def test_locks_of_extensions_that_nobody_holds_are_freed(tmp_path: Path) -> None:
    held, left, named = tmp_path / "py311_cpu/held/lock", tmp_path / "py311_cpu/left/lock", tmp_path / "named/lock"
    source = tmp_path / "named/lock.cpp"
    for path in (held, left, named):
        path.parent.mkdir(parents=True)
    left.touch()
    named.touch()
    source.touch()
    before = time.time()
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(held)], stdout=subprocess.PIPE)
    try:
        assert builder.stdout is not None and builder.stdout.readline() == b"holds\n"
        assert free_abandoned(tmp_path, older_than=3600) == []
        os.utime(left, (before - 4000, before - 4000))
        os.utime(held, (before - 4000, before - 4000))
        assert free_abandoned(tmp_path, made_since=before - 5000, older_than=3600) == [left]
        os.utime(named, (before - 100, before - 100))
        assert free_abandoned(tmp_path, made_since=before - 50) == []
        assert free_abandoned(tmp_path) == [named] and held.exists() and source.exists()
    finally:
        builder.kill()
        builder.wait()
    assert free_abandoned(tmp_path) == [held] and free_abandoned(tmp_path / "nowhere") == []


def test_run_ended_while_it_built_an_extension_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "extensions/py311_cpu/cpu_adam/lock"
    lock.parent.mkdir(parents=True)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    job = make(tmp_path)
    program = tmp_path / "build.py"
    program.write_text(BUILDER)
    job.path(COMMAND).write_text(f"{sys.executable} {program} {lock}\n")
    start_supervisor(job)
    until(lock.exists)
    stop_job(job)
    assert wait_until_over(job, 60)
    assert not lock.exists()


def test_killed_run_and_killed_supervisor(tmp_path: Path) -> None:
    job = make(tmp_path, steps=500)
    start_supervisor(job)
    until(lambda: read_status(job).step >= 1)
    status = read_status(job)
    assert status.supervisor is not None and status.training is not None
    os.kill(status.supervisor.pid, signal.SIGKILL)
    until(lambda: not status.supervisor.alive)
    assert read_status(job).live  # it goes on by itself
    os.kill(status.training.pid, signal.SIGKILL)
    until(lambda: not read_status(job).live)
    assert read_status(job).state == "interrupted" and read_status(job).end > 0
    resume_job(job)
    until(lambda: read_status(job).state == "running")
    status = read_status(job)
    assert status.training is not None
    os.kill(status.training.pid, signal.SIGKILL)
    until(lambda: not read_status(job).live)
    status = read_status(job)
    assert (status.state, status.exit_status) == ("failed", -9) and status.failure is not None
    assert status.failure.cause == "out_of_memory"  # what ends processes without a word, most often


def test_run_without_its_supervisor_can_be_stopped(tmp_path: Path) -> None:
    job = make(tmp_path, steps=500)
    start_supervisor(job)
    until(lambda: read_status(job).step >= 1)
    status = read_status(job)
    assert status.supervisor is not None and status.training is not None
    os.kill(status.supervisor.pid, signal.SIGKILL)
    until(lambda: not status.supervisor.alive)
    stop_job(job)
    assert wait_until_over(job, 20) and read_status(job).state == "stopped" and not status.training.alive


def test_one_run_at_a_time_in_the_order_they_came(tmp_path: Path) -> None:
    first, second = make(tmp_path, steps=12), make(tmp_path, steps=3)
    for job in (first, second):
        output(job)
        start_supervisor(job)
        time.sleep(0.3)
    until(lambda: read_status(first).state == "running")
    assert read_status(second).state == "queued"
    third = make(tmp_path)
    start_supervisor(third)
    until(lambda: read_status(third).state == "queued")
    stop_job(third)
    assert wait_until_over(third, 10) and read_status(third).state == "stopped" and read_status(third).start == 0
    until(lambda: not read_status(second).live, 30)
    assert read_status(second).start >= read_status(first).end - 0.1
    assert read_status(first).state == read_status(second).state == "done"


def test_disk_that_fills_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make(tmp_path, steps=300)
    checkpoint = job.output / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    with (checkpoint / "optimizer.pt").open("wb") as file:  # as large as the disk: the next one would not fit
        file.truncate(10**13)
    start_supervisor(job)
    until(lambda: not read_status(job).live, 30)
    status = read_status(job)
    assert status.state == "failed" and status.failure is not None and status.failure.cause == "disk_full"


def test_changed_recipe_is_not_resumed_unasked(tmp_path: Path) -> None:
    job = make(tmp_path)
    write_status(job, replace(read_status(job), state="interrupted"))
    changed = parse_recipe(job.path(RECIPE).read_text(), "r").changed({"learning_rate": 0.5})
    job.path(RECIPE).write_text(changed.as_yaml())
    with pytest.raises(Refused, match="changed"):
        resume_job(job)
    job.path(RECIPE).write_text("method: [")
    with pytest.raises(Refused):
        resume_job(job)
    job.path(RECIPE).unlink()
    with pytest.raises(Refused):
        resume_job(job)


def test_records_cut_short_and_of_later_steps_are_dropped(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.path(METRICS).write_text('{"step": 1, "loss": 2}\n{"step": 2}\nnull\n{"step": 3}\n{"step": 4, "lo')
    forget_steps_after(job, 2)
    assert job.path(METRICS).read_text() == '{"step": 1, "loss": 2}\n{"step": 2}\n'


def test_whole_checkpoints(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    def checkpoint(step: int) -> Path:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"w": np.ones((4, 4), dtype="float32")}, folder / "model.safetensors")
        (folder / "optimizer.pt").write_bytes(b"x")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        return folder

    for step in (9, 10, 11, 12, 13):
        checkpoint(step)
    (tmp_path / "checkpoint-13" / "trainer_state.json").unlink()
    with (tmp_path / "checkpoint-12" / "model.safetensors").open("r+b") as file:
        file.truncate(70)
    (tmp_path / "checkpoint-11" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text("{")
    found = {step: why_not_whole(tmp_path / f"checkpoint-{step}") for step in (9, 10, 11, 12, 13)}
    assert found == {9: "", 10: "no_state", 11: "no_optimizer", 12: "cut_weights", 13: "no_state"}
    assert last_whole(tmp_path) == tmp_path / "checkpoint-9"
    assert last_whole(tmp_path / "absent") is None


def test_pids_are_not_mistaken_for_later_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = this_process(child.pid)
        assert known.alive and replace(known, began=known.began - 100).alive  # the clock was set
        assert not replace(known, began=known.began - 1e6).alive
        assert not replace(known, since_boot=known.since_boot - 1).alive
        assert not replace(known, began=known.began - 100, since_boot=0.0).alive
        child.kill()
    assert not known.alive
