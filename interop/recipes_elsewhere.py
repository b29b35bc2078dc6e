"""The recipes, exported, train unchanged in LLaMA-Factory and in the `trl` command: python interop/recipes_elsewhere.py

Three steps each on the demo's models. LLaMA-Factory in the environment that llamafactory_trains.py makes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "interop")]

from llamafactory_trains import SECONDS, environment, say  # noqa: E402

from pipeline.refusal import Refused  # noqa: E402
from pipeline.training.hand_over import hand_over  # noqa: E402
from pipeline.training.recipe import read_recipe, recipe_names  # noqa: E402

STEPS = 3
# Spread over several GPUs there; here the export is only looked at.
NOT_RUN = ("dpo_full_zero3",)
PROGRAMS = {"llamafactory": "llamafactory-cli", "trl": "trl"}


def losses(kind: str, folder: Path, programs: Path, command: str) -> list[float]:
    """What the run logged. Raises RuntimeError with the end of what it said."""
    words = [w for w in command.split() if "=" not in w]
    quiet = {
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        "HF_DATASETS_CACHE": str(folder / "cache"), "PYTHONPATH": "", "DISABLE_VERSION_CHECK": "1",
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
    }  # fmt: skip
    ended = subprocess.run(
        [str(programs / words[0]), *words[1:]], cwd=folder, env={**os.environ, **quiet}, timeout=SECONDS, check=False,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if ended.returncode != 0:
        raise RuntimeError(f"exit status {ended.returncode}\n{ended.stdout[-3000:]}")
    states = sorted((folder / "output").rglob("trainer_state.json"))
    if not states:
        raise RuntimeError(f"no trainer_state.json\n{ended.stdout[-3000:]}")
    history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"]
    found = [row["loss"] for row in history if "loss" in row]
    if not found or not all(math.isfinite(loss) for loss in found):
        raise RuntimeError(f"losses: {found}")
    return found


def main() -> int:
    llamafactory, wrong = environment(), 0
    for name in recipe_names():
        for kind, program in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made) / "export"
                changes = {"max_steps": STEPS, "logging_steps": 1, "save_steps": STEPS, "save_strategy": "steps",
                           "max_samples": 64, "val_size": 0, "eval_strategy": "no"}  # fmt: skip
                try:
                    done = hand_over(read_recipe(name).changed(changes), kind, folder)
                except Refused as reason:
                    print(f"{name:24} {program:17} not there: {reason}")
                    continue
                if name in NOT_RUN:
                    print(f"{name:24} {program:17} exported: {', '.join(done.files)}")
                    continue
                programs = llamafactory if kind == "llamafactory" else Path(sys.executable).parent
                try:
                    found = losses(kind, folder, programs, done.command)
                except (RuntimeError, subprocess.TimeoutExpired) as failed:
                    wrong += 1
                    print(f"{name:24} {program:17} FAILED {failed}")
                    continue
                print(f"{name:24} {program:17} losses {', '.join(f'{loss:.4f}' for loss in found)}", flush=True)
    say("all of them train" if not wrong else f"{wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
