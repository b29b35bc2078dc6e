"""Every recipe trained on the demo by `python -m pipeline train`: what its curve does.

    python benchmarks/recipes_on_demo.py [RECIPE ...]

Each as it is, through accelerate, with all checks. Takes about ten minutes on two cores. NO stands behind a recipe that
fails, whose checks are not quiet, or whose curve doesn't move as its method's should.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.training.recipe import read_recipe, recipe_names  # noqa: E402

# By method: what is looked at, and whether it should fall (-1) or rise (1)
MOVES = {"grpo": ("reward", 1), "rloo": ("reward", 1)}


def main() -> int:
    wrong = 0
    for name in sys.argv[1:] or recipe_names():
        with tempfile.TemporaryDirectory() as made:
            place = Path(made) / "run"
            ended = subprocess.run(
                [sys.executable, "-m", "pipeline", "train", name, "--foreground", "--format", "json", "--set",
                 f"output_dir={place}"],
                cwd=ROOT, env={**os.environ, "DPO_DOCTOR_HOME": f"{made}/home"}, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if ended.returncode:
                wrong += 1
                print(f"{name:24} NO: exit status {ended.returncode}: {ended.stderr.strip().splitlines()[-1][:200]}")
                continue
            status = json.loads(ended.stdout)
            report = json.loads((place / "checks.json").read_text())
            rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
            what, way = MOVES.get(read_recipe(name).method, ("loss", -1))
            curve = [row[what] for row in rows if row.get(what) is not None]
            third = max(1, len(curve) // 3)
            first, last = fmean(curve[:third]), fmean(curve[-third:])
            evaluated = [row for row in rows if "eval_loss" in row]
            held_out = {k: round(v, 3) for k, v in (evaluated[-1] if evaluated else {}).items() if "accurac" in k}
            good = (last - first) * way > 0 and report["verdict"] == "healthy" and not status["verified"]["problem"]
            wrong += not good
            seconds = status["end"] - status["start"]
            print(f"{name:24} {'ok' if good else 'NO'}: {status['step']} steps, {seconds:.0f} s, {what} {first:.3f} -> "
                  f"{last:.3f}, {held_out or ''} checks {report['verdict']}, {status['verified']['kind']} of "
                  f"{status['verified']['tensors']} tensors", flush=True)  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
