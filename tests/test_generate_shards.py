"""Two processes of a real `accelerate launch` share the rows, and their files are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.__main__ import main
from pipeline.demo.build import DemoFolder

ROOT = Path(__file__).resolve().parent.parent
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "pipeline"]  # fmt: skip
ROWS = 6


def test_two_processes_write_what_one_does(demo: DemoFolder, tmp_path: Path) -> None:
    case = demo.cases["off_topic_t5"]

    def arguments(output: str) -> list[str]:
        # One answer at a time: side by side, the last digits of the scores depend on what else is in the batch.
        return ["generate", "--model", str(case.checkpoint), "--data", str(case.data_file), "--output", str(tmp_path / output),
                "--strategy", "sampling:n=3,temperature=1.0", "--strategy", "cut_short", "--max-new-tokens", "16", "--seed", "11",
                "--prompt-format", "plain", "--device", "cpu", "--max-samples", str(ROWS), "--choose", "varied:per_row=all",
                "--batch-size", "1"]  # fmt: skip

    done = subprocess.run(
        [*ACCELERATE, *arguments("two.json")], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "two.json.run.json").read_text("utf-8"))
    assert told["processes"] == 2 and told["state"] == "done" and not (tmp_path / "two.json.work").exists()
    assert main(arguments("one.json")) == 0
    for name in ("{}.json", "{}.json.candidates.jsonl"):
        assert (tmp_path / name.format("two")).read_bytes() == (tmp_path / name.format("one")).read_bytes()
    kept = [json.loads(line) for line in (tmp_path / "two.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert [(one["row"], one["number"]) for one in kept] == [(row, number) for row in range(ROWS) for number in range(4)]


def together(folder: Path, worlds: list[tuple[int, int]], *more: str) -> list[tuple[int, str]]:
    """Processes with the numbers that a launcher gives them: exit status and standard error of each."""
    command = [sys.executable, "-m", "pipeline", "generate", "--data", str(folder / "rows.jsonl"), "--output",
               str(folder / "out.json"), "--strategy", "cut_short:n=2", "--strategy", "irrelevant_ending", *more]  # fmt: skip
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)},
        )
        for rank, world in worlds
    ]  # fmt: skip
    return [(process.wait(), err) for process in processes for err in [process.communicate(timeout=60)[1]]]


def rows(folder: Path, count: int) -> None:
    answer = "First we boil the water. Then we add the tea leaves. Then we wait for four minutes. At last we pour it."
    lines = [{"instruction": f"How is tea number {n} made?", "output": f"{answer} This was tea {n}."} for n in range(count)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_no_process_waits_where_all_is_done(tmp_path: Path) -> None:
    rows(tmp_path, 30)
    assert [status for status, _ in together(tmp_path, [(0, 2), (1, 2)])] == [0, 0]
    assert together(tmp_path, [(0, 2), (1, 2)], "--resume") == [(0, ""), (0, "")]
    assert [status for status, _ in together(tmp_path, [(0, 2), (1, 2)], "--overwrite")] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.json", "out.json.candidates.jsonl", "out.json.progress.json", "out.json.run.json", "rows.jsonl",
    ]  # fmt: skip


def test_two_runs_on_one_output_at_the_same_time(tmp_path: Path) -> None:
    """One writes, whatever the others ask for; each of them says so and touches nothing."""
    rows(tmp_path, 300)
    done = together(tmp_path, [(0, 1), (0, 1), (0, 1)], "--overwrite")
    statuses = sorted(status for status, _ in done)
    assert statuses == [0, 2, 2]
    for status, err in done:
        assert err.count("\n") == (status == 2) and ("another run is writing it" in err) == (status == 2)
    kept = [json.loads(line) for line in (tmp_path / "out.json.candidates.jsonl").read_text("utf-8").splitlines()]
    assert [(one["row"], one["number"]) for one in kept] == [(row, number) for row in range(300) for number in range(3)]
    assert not (tmp_path / "out.json.work").exists()
