"""Did it help? The demo's answer is known: its questions have right answers, and who gives how many is counted here.

    python benchmarks/evaluation_on_demo.py

Trains two reward models by the recipe, one of them on few pairs for long, and DPO on three models' worth of pairs:
one that helps a half-trained model, one that does nothing to a good one, one whose pairs are the wrong way round. Then
`score` must find the reward model at 0.9 or more and name the over-trained one, and `compare` must say of each DPO what
the counted answers say, by its own checks, and not the opposite by the reward model. Takes about eight minutes on two
cores. NO stands behind what isn't so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.demo.instructions import is_right  # noqa: E402
from pipeline.training.demo_data import demo_data, demo_questions  # noqa: E402

SFT = "demo:healthy_decoder"


def main() -> int:
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        wrong = _reward_models(place)
        wrong += _before_and_after(place)
    return 1 if wrong else 0


def _reward_models(place: Path) -> int:
    good = _train("reward_model", place / "reward")
    over = _train("reward_model", place / "over", data="demo:pairs", max_samples=200, max_steps=400)
    wrong = 0
    held_out = demo_data("demo:pairs_held_out")
    for name, model in (("reward model", good), ("over-trained", over)):
        found = _json(
            "score", "--reward-model", model, "--data", held_out, "--train", model / "data" / "train.jsonl",
            "--output", place / f"{model.name}.jsonl",
        )  # fmt: skip
        accuracy = {one["role"]: one["accuracy"]["share"] for one in found["sets"]}
        codes = [one["code"] for one in found["report"]["findings"] if one["severity"] in ("warning", "error")]
        causes = [one["id"] for one in found["report"]["causes"]]
        held = accuracy["held_out"]
        named = "reward_overfit" in causes
        right = (held["value"] >= 0.9 and not named) if model is good else named
        wrong += not right
        print(f"{name:14} {'ok' if right else 'NO'}: held out {held['value']:.3f} "
              f"({held['low']:.3f} to {held['high']:.3f}), train {accuracy['train']['value']:.3f}, "
              f"warnings {codes}, causes {causes}", flush=True)  # fmt: skip
    return wrong


def _before_and_after(place: Path) -> int:
    swapped = place / "swapped.jsonl"
    with open(demo_data("demo:pairs"), encoding="utf-8") as rows, open(swapped, "w", encoding="utf-8") as out:
        for line in rows:
            row = json.loads(line)
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    weak = _train("sft_full", place / "half_trained", model_name_or_path="demo:base_decoder", max_steps=60)
    helped = _train(
        "dpo_lora", place / "helped", model_name_or_path=weak, max_steps=150, learning_rate=1.5e-3,
        loss_type="[sigmoid, sft]", loss_weights="[1.0, 1.0]",
    )  # fmt: skip
    idle = _train("dpo_lora", place / "idle", max_steps=15)
    harmful = _train("dpo_lora", place / "harmful", data=swapped, max_steps=150)
    wrong = 0
    for name, before, after in (("helped", weak, helped), ("idle", SFT, idle), ("harmful", SFT, harmful)):
        verdicts = {}
        for by in ("task", "reward"):
            more: list[Any] = ["--reward-model", place / "reward", "--check", "none"] if by == "reward" else []
            output = place / f"{name}-{by}.json"
            found = _json(
                "compare", "--before", before, "--after", after, "--prompts", demo_data("demo:held_out"),
                "--output", output, *more,
            )  # fmt: skip
            verdicts[by] = found["verdict"]
            contest = next(one for one in found["contests"] if one["by"] == by)
            verdicts[by + "_rate"] = contest["win_rate"]["value"]
        counted, wins, losses = _counted(output.with_suffix(".rows.jsonl"))
        # the reward model is 95% right and may take more prompts than there are; it must not say the opposite
        right = verdicts["task"] == counted and {verdicts["reward"], counted} != {"better", "worse"}
        wrong += not right
        print(f"{name:14} {'ok' if right else 'NO'}: counted {wins} wins, {losses} losses: {counted}; by task checks "
              f"{verdicts['task']} ({verdicts['task_rate']:.3f}), by the reward model {verdicts['reward']} "
              f"({verdicts['reward_rate']:.3f})", flush=True)  # fmt: skip
    return wrong


def _counted(rows: Path) -> tuple[str, int, int]:
    """What the right answers say, by a sign test that shares no code with the comparison's intervals."""
    from scipy.stats import binomtest

    questions = {one.prompt: one for one in demo_questions()[1]}
    wins = losses = 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        before, after = (is_right(questions[row["prompt"]], text) for text in row["answers"].values())
        wins, losses = wins + (after and not before), losses + (before and not after)
    shown = wins + losses > 0 and binomtest(wins, wins + losses).pvalue < 0.05
    return ("no_difference" if not shown else "better" if wins > losses else "worse"), wins, losses


def _train(recipe: str, place: Path, **fields: object) -> Path:
    changes = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    _run("train", recipe, "--foreground", "--set", f"output_dir={place}", *changes)
    return place


def _json(*words: object) -> dict[str, Any]:
    return json.loads(_run(*words, "--format", "json"))


def _run(*words: object) -> str:
    argv: Sequence[str] = [sys.executable, "-m", "pipeline", *map(str, words)]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):  # 1: an error was found, which some of this is about
        raise SystemExit(f"{' '.join(argv[2:])}: exit status {ended.returncode}: {ended.stderr.strip()[-400:]}")
    return ended.stdout


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
