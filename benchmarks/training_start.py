"""Time to the first step and of thirty steps, ours against bare `trl dpo --config` on the same recipe and data.

    python benchmarks/training_start.py [--rounds 3]

Runs alternate, so that what else the machine does hits both alike; the ratio is of medians. Ours includes reading the
data and every check before the start. What watching costs: the supervisor's processor time beside that of the run, from
the first step of a longer run on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.training.hand_over import hand_over  # noqa: E402
from pipeline.training.recipe import read_recipe  # noqa: E402

STEPS, LONG = 30, 600
CHANGES = {"max_steps": STEPS, "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no", "val_size": 0}


def bare(folder: Path) -> tuple[float, float, list[float]]:
    """(seconds to the first step's loss, to the end of the last step, losses) of `trl dpo`."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    began = time.monotonic()
    times, losses = [], []
    with subprocess.Popen(
        [str(Path(sys.executable).parent / "trl"), "dpo", "--config", "config.yaml"], cwd=folder, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if (at := line.find("{'loss'")) >= 0:
                times.append(time.monotonic() - began)
                losses.append(float(line[at:].split("'")[3]))
    if process.returncode or len(times) != STEPS:
        raise RuntimeError(f"trl dpo: exit status {process.returncode}, {len(times)} steps")
    return times[0], times[-1], losses


def ours(recipe: Path, folder: Path, home: Path, steps: int) -> tuple[float, float, list[float], float]:
    """The same of `python -m pipeline train`, and what part of processor time watching took after the first step."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    env["DPO_DOCTOR_HOME"] = str(home)
    began, at = time.monotonic(), time.time()
    first, last = (0.0, 0.0), (0.0, 0.0)  # processor time of supervisor and run: at the first step, at the last look
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", str(recipe), "--foreground", "--insist", "--format", "json",
         "--set", f"output_dir={folder / 'job'}", "--set", f"max_steps={steps}"],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None:
            try:
                held = json.loads((folder / "job" / "status.json").read_text())
                supervisor = psutil.Process(held["supervisor"]["pid"])
                children = supervisor.children(recursive=True)
                now = sum(supervisor.cpu_times()[:2]), sum(sum(c.cpu_times()[:2]) for c in children)
                if held["step"] and children:
                    first = first if first[1] else now
                    last = now[0], max(last[1], now[1])  # at the end the processes go one by one
            except (OSError, ValueError, KeyError, TypeError, psutil.Error):
                pass
            time.sleep(0.2)
        assert process.stdout is not None
        told = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"pipeline train: exit status {process.returncode}\n{told[-2000:]}")
    rows = [json.loads(line) for line in (folder / "job" / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "loss" in row]
    share = (last[0] - first[0]) / max(last[1] - first[1], 1e-9)
    assert time.monotonic() > began
    return logged[0]["time"] - at, logged[-1]["time"] - at, [row["loss"] for row in logged], share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", default="dpo_lora")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, ...]]] = {"bare": [], "ours": []}
    same = True
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        recipe = read_recipe(options.recipe).changed(CHANGES)
        file = root / "recipe.yaml"
        file.write_text(recipe.as_yaml(), encoding="utf-8")
        for number in range(options.rounds):
            folder = root / str(number)
            hand_over(recipe, "trl", folder)
            first, last, losses = bare(folder)
            mine, end, own, _ = ours(file, folder, root / "home", STEPS)
            found["bare"].append((first, last))
            found["ours"].append((mine, end))
            same = same and all(abs(a - b) < 1e-3 for a, b in zip(losses, own, strict=True))
            print(f"first step: trl {first:.1f} s, ours {mine:.1f}; {STEPS} steps: trl {last:.1f} s, ours {end:.1f}",
                  flush=True)  # fmt: skip
        *_, share = ours(file, root / "long", root / "home", LONG)
    medians = {k: [statistics.median(v) for v in zip(*rows, strict=True)] for k, rows in found.items()}
    for number, what in enumerate(("first step", f"{STEPS} steps")):
        ratio = medians["ours"][number] / medians["bare"][number]
        print(f"{what}: {ratio:.3f} of bare trl {'OK' if ratio <= 1.05 else 'NO'}")
    print(f"watching: {share:.2%} of the run's processor time {'OK' if share < 0.01 else 'NO'}")
    print(f"losses of all {STEPS} steps: {'the same' if same else 'NOT the same'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
