"""Real small training runs, sound and faulty, trained once with TRL in a process of their own and kept in the cache.

Each lies in a folder of its own in every form its log can be written in (tests/run_formats.py). By hand:
`python -m tests.training_runs FOLDER [RUN ...]`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from pipeline.config_files import load_config
from pipeline.demo.build import DemoFolder, build_demo, default_root
from pipeline.demo.cases import Row, demo_rows
from pipeline.demo.instructions import is_right, right_answers

HERE = Path(__file__).resolve().parent
WRITTEN_BY_TRL = ("trl", "transformers", "torch", "tensorboard")
HELD_OUT = 96  # rows evaluated on: enough for a loss to two digits
SECONDS = 900  # a machine four times slower than two usual cores still gets there


@dataclass(frozen=True)
class Recipe:
    """One run. kind: as `TrainingLog.kind` says it; cause: the diagnosis that is right, None where the run is sound;
    settings: of the trainer's configuration, beside those that all share."""

    kind: str
    cause: str | None
    settings: Mapping[str, Any]
    rows: int = 0  # rows trained on, 0 for all
    noise: float = 0.0  # share of pairs whose sides are swapped
    dtype: str = "float32"
    tuned: bool = False  # SFT goes on from the model that has learned the rows, not from the base
    stop_at: int = 0  # ends the run here, as a kill would


SFT = {"max_steps": 160, "learning_rate": 2e-3, "warmup_steps": 10, "lr_scheduler_type": "cosine", "logging_steps": 5,
       "eval_strategy": "steps", "eval_steps": 20}  # fmt: skip
DPO = {"num_train_epochs": 1, "learning_rate": 1e-4, "warmup_steps": 5, "logging_steps": 2, "eval_strategy": "steps",
       "eval_steps": 10, "beta": 0.1}  # fmt: skip
REWARD = {"num_train_epochs": 1, "learning_rate": 3e-4, "warmup_steps": 10, "logging_steps": 5,
          "eval_strategy": "steps", "eval_steps": 20}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "sft_healthy": Recipe("sft", None, SFT),
    # goes on from the sound model, so it begins low, and breaks while the rate warms up
    "sft_diverged": Recipe("sft", "diverged", SFT | {"learning_rate": 0.1, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 80, "max_steps": 100, "logging_steps": 2}, tuned=True),
    # weights in half precision and no loss scaling: AdamW's epsilon is zero there
    "sft_not_a_number": Recipe("sft", "numeric_overflow", SFT | {"max_steps": 40, "logging_nan_inf_filter": False}, dtype="float16"),
    "sft_not_a_number_filtered": Recipe("sft", "numeric_overflow", SFT | {"max_steps": 40}, dtype="float16"),
    "sft_stopped_early": Recipe("sft", "undertrained", SFT | {"learning_rate": 3e-4, "logging_steps": 1, "eval_steps": 4}, stop_at=16),
    "sft_overfitted": Recipe("sft", "overtrained", SFT | {"eval_strategy": "epoch", "logging_steps": 3, "num_train_epochs": 30, "max_steps": -1}, rows=96),
    "dpo_healthy": Recipe("dpo", None, DPO, noise=0.1),
    "dpo_beta_zero": Recipe("dpo", "dpo_no_signal", DPO | {"beta": 0.0}, noise=0.1),
    # margins grow while the chosen answers lose 60 nats: their tokens, once known at 96%, at 4%
    "dpo_rate_too_high": Recipe("dpo", "likelihood_displacement", DPO | {"learning_rate": 2e-2}, noise=0.1),
    "reward_healthy": Recipe("reward_model", None, REWARD, noise=0.05),
    "reward_overfitted": Recipe("reward_model", "reward_overfit", REWARD | {"num_train_epochs": 15, "learning_rate": 5e-4, "eval_strategy": "epoch"}, rows=200, noise=0.15),
    "grpo_equal_rewards": Recipe("grpo", "no_group_variance", {"max_steps": 12, "learning_rate": 1e-4, "logging_steps": 1}),
}  # fmt: skip


@dataclass(frozen=True)
class TrainingRun:
    """A run that took place. history: rows as they stand in its trainer_state.json, without the Trainer's summary."""

    name: str
    folder: Path
    recipe: Recipe

    @property
    def history(self) -> list[dict[str, Any]]:
        state = json.loads((self.folder / "trainer_state.json").read_text(encoding="utf-8"))
        return [row for row in state["log_history"] if "train_runtime" not in row]

    @property
    def formats(self) -> dict[str, list[Path]]:
        """Format -> the files to give."""
        files = {
            name: [self.folder / name]
            for name in ("trainer_state.json", "output.txt", "trainer_log.jsonl", "logging.jsonl", "history.csv",
                         "english.log", "chinese.log", "logging.log", "nanogpt.log")
        }  # fmt: skip
        files["tensorboard"] = [self.folder / "tensorboard"]
        files["wandb"] = sorted((self.folder / "wandb").glob("*.csv"))
        return files


def training_runs(progress: Callable[[str], None]) -> dict[str, TrainingRun]:
    """Every run by name, from the user's cache; the first call on a machine trains them, which takes minutes."""
    root = default_root().parent / f"training-runs-{_fingerprint()}"
    runs = {name: TrainingRun(name, root / name, recipe) for name, recipe in RECIPES.items()}
    missing = [name for name, run in runs.items() if not run.folder.is_dir()]
    if missing:
        build_demo(progress=progress)
        progress(f"training {', '.join(missing)}")
        command = [sys.executable, "-m", "tests.training_runs", str(root), *missing]
        done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=SECONDS, check=False)  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"the runs could not be trained:\n{done.stdout[-4000:]}")
    return runs


def _fingerprint() -> str:
    """Of the recipes, the demo they start from, and the programs that train."""
    digest = hashlib.sha256(default_root().name.encode())
    for file in (HERE / "training_runs.py", HERE / "run_formats.py"):
        digest.update(file.read_bytes())
    digest.update(" ".join(f"{name} {version(name)}" for name in WRITTEN_BY_TRL).encode())
    return digest.hexdigest()[:12]


# --- what is trained on ---


def _asked(row: Row) -> list[dict[str, str]]:
    return [{"role": "user", "content": row.question.prompt}]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def sft_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Prompt and completion as messages."""
    return [{"prompt": _asked(row), "completion": _said(row.answer)} for row in rows]


def preference_rows(rows: Sequence[Row], noise: float, seed: int = 5) -> list[dict[str, Any]]:
    """The whole sentence is preferred to the bare word; the model has learned both from half of its rows each.

    noise: share of pairs with their sides swapped, as annotators disagree.
    """
    rng = Random(seed)
    found = []
    for row in {row.question.prompt: row for row in rows}.values():
        answers = right_answers(row.question)
        if len(answers) < 2 or row.question.task == "sentence":
            continue
        chosen, rejected = answers[1], answers[0]
        if rng.random() < noise:
            chosen, rejected = rejected, chosen
        found.append({"prompt": _asked(row), "chosen": _said(chosen), "rejected": _said(rejected)})
    rng.shuffle(found)
    return found


def judged_rows(rows: Sequence[Row], noise: float, seed: int = 5) -> list[dict[str, Any]]:
    """A right answer is preferred to one that is right for another question of its kind."""
    rng = Random(seed)
    asked = list({row.question.prompt: row for row in rows}.values())
    alike: dict[tuple[str, str], list[Row]] = {}
    for row in asked:
        alike.setdefault((row.question.task, row.question.language), []).append(row)
    found = []
    for row in asked:
        others = alike[row.question.task, row.question.language]
        wrong = [other.answer for other in rng.sample(others, min(10, len(others)))]
        wrong = [answer for answer in wrong if not is_right(row.question, answer)]
        for rejected in wrong[:2]:
            sides = (row.answer, rejected) if rng.random() >= noise else (rejected, row.answer)
            found.append({"prompt": _asked(row), "chosen": _said(sides[0]), "rejected": _said(sides[1])})
    rng.shuffle(found)
    return found


# --- training: only in the process of its own ---


def train_all(root: Path, names: Sequence[str]) -> None:
    """Train these runs one after another; a folder appears by one rename, so one that is there is whole."""
    import torch

    torch.set_num_threads(1)  # operations this small gain nothing from more, and others want the cores
    demo = build_demo()
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        began = time.monotonic()
        making = root / f".making-{os.getpid()}-{name}"
        making.mkdir()
        try:
            train_run(making, RECIPES[name], demo, name)
            if not (root / name).is_dir():
                making.rename(root / name)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def train_run(folder: Path, recipe: Recipe, demo: DemoFolder, name: str) -> None:
    """Train one run into `folder`."""
    from tests.run_formats import RunRecorder, output_into, write_tables

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    with output_into(folder / "output.txt"):
        trainer = make_trainer(folder, recipe, demo)
        trainer.add_callback(RunRecorder(folder))
        if recipe.stop_at:
            trainer.add_callback(_stop_callback(recipe.stop_at))
        trainer.train()
    trainer.state.save_to_json(str(folder / "trainer_state.json"))
    write_tables(folder, trainer.state.log_history, name)
    shutil.rmtree(folder / "out", ignore_errors=True)


def _stop_callback(step: int) -> Any:
    from transformers import TrainerCallback

    class StopAt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step >= step

    return StopAt()


def make_trainer(folder: Path, recipe: Recipe, demo: DemoFolder) -> Any:
    """The trainer of TRL for this kind of run, on the demo's decoder and rows."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    healthy = demo.cases["healthy_decoder"].checkpoint
    rows, held_out = demo_rows(load_config("demo.yaml"))
    tokenizer = AutoTokenizer.from_pretrained(healthy)
    shared = {
        "output_dir": str(folder / "out"), "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 64, "save_strategy": "no",
        "report_to": ["tensorboard"], "dataloader_pin_memory": False, "seed": 1,
    }  # fmt: skip
    settings = shared | dict(recipe.settings)
    torch.manual_seed(1)
    if recipe.kind == "sft":
        source = healthy if recipe.tuned else demo.base_decoder
        model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, recipe.dtype))
        return trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(**settings),
            train_dataset=Dataset.from_list(sft_rows(rows)[: recipe.rows or None]),
            eval_dataset=Dataset.from_list(sft_rows(held_out[:HELD_OUT])),
            processing_class=tokenizer,
        )
    if recipe.kind == "grpo":
        return trl.GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(healthy),
            args=trl.GRPOConfig(num_generations=4, max_completion_length=12, **settings),
            reward_funcs=lambda completions, **columns: [1.0] * len(completions),
            train_dataset=Dataset.from_list([{"prompt": _asked(row)} for row in rows[:200]]),
            processing_class=tokenizer,
        )
    made = preference_rows if recipe.kind == "dpo" else judged_rows
    pairs = Dataset.from_list(made(rows, recipe.noise)[: recipe.rows or None])
    held_pairs = Dataset.from_list(made(held_out, recipe.noise))
    if recipe.kind == "dpo":
        return trl.DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(healthy),
            args=trl.DPOConfig(**settings),
            train_dataset=pairs,
            eval_dataset=held_pairs,
            processing_class=tokenizer,
        )
    return trl.RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(healthy, num_labels=1),
        args=trl.RewardConfig(**settings),
        train_dataset=pairs,
        eval_dataset=held_pairs,
        processing_class=tokenizer,
    )


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), sys.argv[2:] or list(RECIPES))
