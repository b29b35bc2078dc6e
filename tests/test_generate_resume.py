"""`generate` killed at any moment and resumed, and what the system does to it besides: a full disk, a polite kill."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).resolve().parent.parent
STRATEGIES = ("cut_short:n=2", "drop_items", "irrelevant_ending:n=2")
ROWS = 150
KILLS = int(os.environ.get("GENERATE_KILLS", "2"))  # rounds


def data_file(folder: Path) -> Path:
    """Rows with long answers: each takes a few milliseconds to measure."""
    draw = Random(7)
    words = [f"word{n}" for n in range(300)]
    lines = []
    for n in range(ROWS):
        answer = ". ".join(" ".join(draw.choices(words, k=8)) for _ in range(5))
        lines.append({"instruction": f"Tell story {n} about {draw.choice(words)}.", "input": "", "output": f"{answer}。"})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def command(folder: Path, *more: str) -> list[str]:
    named = [word for one in STRATEGIES for word in ("--strategy", one)]
    return [sys.executable, "-m", "pipeline", "generate", "--data", str(folder / "rows.jsonl"), "--output",
            str(folder / "out.json"), "--choose", "varied", "--seed", "5", *named, *more]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def finished(folder: Path, *more: str) -> tuple[bytes, bytes]:
    done = subprocess.run(command(folder, *more), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return (folder / "out.json").read_bytes(), (folder / "out.json.candidates.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, float]:
    """The files of an undisturbed run, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    data_file(folder)
    began = time.monotonic()
    files = finished(folder)
    assert len(json.loads(files[0])) > ROWS and not (folder / "out.json.work").exists()
    return *files, time.monotonic() - began


@pytest.mark.parametrize("round", range(KILLS))
def test_killed_at_any_moment_and_resumed(tmp_path: Path, whole: tuple[bytes, bytes, float], round: int) -> None:
    data_file(tmp_path)
    draw = Random(round)
    for _ in range(2):
        process = subprocess.Popen(command(tmp_path, "--resume"), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 0.9) * whole[2])
        process.kill()
        process.wait()
    assert finished(tmp_path, "--resume") == whole[:2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.json", "out.json.candidates.jsonl", "out.json.progress.json", "out.json.run.json", "rows.jsonl",
    ]  # fmt: skip


def test_killed_and_resumed_by_another_number_of_processes(tmp_path: Path, whole: tuple[bytes, bytes, float]) -> None:
    data_file(tmp_path)

    def launch(world: int) -> list[subprocess.Popen[bytes]]:
        return [
            subprocess.Popen(
                command(tmp_path, "--resume"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank)),
            )
            for rank in range(world)
        ]  # fmt: skip

    processes = launch(2)
    time.sleep(0.7 * whole[2])
    for process in processes:
        process.kill()
        process.wait()
    assert [process.wait(120) for process in launch(3)] == [0, 0, 0]
    assert ((tmp_path / "out.json").read_bytes(), (tmp_path / "out.json.candidates.jsonl").read_bytes()) == whole[:2]


def test_a_polite_kill_writes_what_is_finished(tmp_path: Path, whole: tuple[bytes, bytes, float]) -> None:
    data_file(tmp_path)
    process = subprocess.Popen(command(tmp_path), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    parts = tmp_path / "out.json.work" / "main-0.rows"
    deadline = time.monotonic() + 60
    while not (parts.exists() and parts.stat().st_size > 1000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert [line for line in err.decode().splitlines() if "stopped;" in line and "--resume" in line]
    progress = json.loads((tmp_path / "out.json.progress.json").read_text())
    assert progress["state"] == "stopped"
    lines = (tmp_path / "out.json.candidates.jsonl").read_bytes()
    assert 0 < len(lines) < len(whole[1]) and whole[1].startswith(lines)
    assert json.loads((tmp_path / "out.json").read_bytes())
    assert finished(tmp_path, "--resume") == whole[:2]


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path: Path, whole: tuple[bytes, bytes, float]) -> None:
    """A limit on the size of files stands in for the end of the disk: the same call fails in the middle of a line."""
    data_file(tmp_path)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_001, 60_001))

    done = subprocess.run(
        command(tmp_path), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, preexec_fn=limited
    )
    assert done.returncode == 2 and done.stdout == ""
    said = [line for line in done.stderr.splitlines() if "pass " not in line]
    assert len(said) == 1 and "the disk is full" in said[0] and "--resume" in said[0]
    assert not (tmp_path / "out.json").exists()
    kept = sum(path.stat().st_size for path in (tmp_path / "out.json.work").glob("*.rows"))
    assert kept > 50_000
    assert finished(tmp_path, "--resume") == whole[:2]


def test_files_that_can_not_be_written_at_the_end(tmp_path: Path, whole: tuple[bytes, bytes, float]) -> None:
    """All candidates are there and only their files don't fit: they are written by the next run."""
    data_file(tmp_path)
    limit = max(len(whole[1]) - 10, 0)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        command(tmp_path), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, preexec_fn=limited
    )
    assert done.returncode == 2 and "are made and kept in" in done.stderr
    assert finished(tmp_path, "--resume") == whole[:2]
