"""Writes what one real training run logs in every form such logs come in, while the run goes on."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from transformers import TrainerCallback

END_OF_RUN = "train_runtime"  # stands only in the row that the Trainer adds at the end


@dataclass(frozen=True)
class Moment:
    """One row as a Trainer's callback gets it. seconds: since the run began."""

    logs: Mapping[str, float]
    step: int
    max_steps: int
    epoch: float
    seconds: float

    @property
    def is_eval(self) -> bool:
        return any(name.startswith("eval_") for name in self.logs)


def llamafactory_line(now: Moment) -> str:
    """`trainer_log.jsonl` of LLaMA-Factory: its names, no reward of a preference run but its accuracy."""
    left = now.seconds / max(1, now.step) * (now.max_steps - now.step)
    row = {
        "current_steps": now.step,
        "total_steps": now.max_steps,
        "loss": now.logs.get("loss"),
        "eval_loss": now.logs.get("eval_loss"),
        "predict_loss": None,
        "reward": now.logs.get("reward"),
        "accuracy": now.logs.get("rewards/accuracies"),
        "lr": now.logs.get("learning_rate"),
        "epoch": round(now.epoch, 4),
        "percentage": round(now.step / now.max_steps * 100, 2),
        "elapsed_time": str(timedelta(seconds=int(now.seconds))),
        "remaining_time": str(timedelta(seconds=int(left))),
    }
    return json.dumps({key: value for key, value in row.items() if value is not None})


def swift_line(now: Moment) -> str:
    """`logging.jsonl` of ms-swift: the step as a text of two numbers."""
    row = {key: round(value, 8) for key, value in now.logs.items()}
    row |= {"epoch": round(now.epoch, 8), "global_step/max_steps": f"{now.step}/{now.max_steps}"}  # type: ignore[dict-item]
    row |= {"percentage": f"{now.step / now.max_steps:.2%}", "elapsed_time": f"{now.seconds:.0f}s"}  # type: ignore[dict-item]
    return json.dumps(row)


def _rest(now: Moment, separator: str, assign: str) -> str:
    """Every other metric of the row, under the Trainer's own name."""
    left_out = ("loss", "eval_loss", "epoch", "learning_rate", "runtime", "per_second", "num_tokens")
    named = {k: v for k, v in now.logs.items() if not any(part in k for part in left_out)}
    return "".join(f"{separator}{key}{assign}{value:.6g}" for key, value in named.items())


def _pass(now: Moment) -> int:
    """Passes over the data counted from 1; the last step of one still belongs to it."""
    return max(1, math.ceil(now.epoch))


def english_line(now: Moment) -> str:
    """A print in a loop of one's own."""
    kind, key = ("validation", "eval_loss") if now.is_eval else ("training", "loss")
    reward = f", reward: {now.logs['reward']:.4f}" if "reward" in now.logs else ""
    return f"epoch {_pass(now)}, step {now.step}, {kind} loss: {now.logs[key]:.4f}{reward}"


def chinese_line(now: Moment) -> str:
    """The same in Chinese, with the rate."""
    head = f"第{_pass(now)}轮，第{now.step}步，"
    if now.is_eval:
        return f"{head}验证损失：{now.logs['eval_loss']:.4f}"
    return f"{head}训练损失：{now.logs['loss']:.4f}，学习率：{now.logs['learning_rate']:.3e}"


def logging_line(now: Moment) -> str:
    """Python's `logging` with everything in one line."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_760_000_000 + now.seconds))
    if now.is_eval:
        body = f"step={now.step} epoch={now.epoch:.3f} eval_loss={now.logs['eval_loss']:.5f}"
    else:
        body = f"step={now.step} epoch={now.epoch:.3f} loss={now.logs['loss']:.5f} lr={now.logs['learning_rate']:.3e}"
    return f"{stamp},{int(now.seconds * 1000) % 1000:03d} - INFO - {'eval' if now.is_eval else 'train'} - {body}{_rest(now, ' ', '=')}"


class NanoGpt:
    """`iter N: loss ...` for each row; training and evaluation loss together where evaluation takes place."""

    def __init__(self) -> None:
        self.loss = math.nan
        self.before = 0.0

    def __call__(self, now: Moment) -> str:
        if now.is_eval:
            return f"step {now.step}: train loss {self.loss:.4f}, val loss {now.logs['eval_loss']:.4f}"
        self.loss, took = now.logs["loss"], 1000 * (now.seconds - self.before)
        self.before = now.seconds
        return f"iter {now.step}: loss {self.loss:.4f}, time {took:.2f}ms, mfu -100.00%"


# file -> one line of it
LINES: dict[str, Callable[[], Callable[[Moment], str]]] = {
    "trainer_log.jsonl": lambda: llamafactory_line,
    "logging.jsonl": lambda: swift_line,
    "english.log": lambda: english_line,
    "chinese.log": lambda: chinese_line,
    "logging.log": lambda: logging_line,
    "nanogpt.log": NanoGpt,
}


class RunRecorder(TrainerCallback):
    """Writes a line to every file of LINES for each row that the Trainer logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began = time.monotonic()
        self.files: dict[str, TextIO] = {}
        self.lines = {name: make() for name, make in LINES.items()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.monotonic()
        self.files = {name: (self.folder / name).open("a", encoding="utf-8") for name in LINES}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or END_OF_RUN in logs:
            return
        now = Moment(logs, state.global_step, state.max_steps, state.epoch or 0.0, time.monotonic() - self.began)
        for name, line in self.lines.items():
            self.files[name].write(line(now) + "\n")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for file in self.files.values():
            file.close()


def write_tables(folder: Path, history: list[dict[str, Any]], run: str) -> None:
    """`history.csv` as pandas writes `log_history`, and `wandb/*.csv`: one chart's export for each metric."""
    rows = [row for row in history if END_OF_RUN not in row]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / "history.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names, restval="")
        table.writeheader()
        table.writerows(rows)
    (folder / "wandb").mkdir(exist_ok=True)
    for name in names:
        if name in ("step", "epoch") or "runtime" in name or "per_second" in name:
            continue
        shown = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
        with open(folder / "wandb" / f"{name.replace('/', '_')}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["Step", f"{run} - {shown}", f"{run} - {shown}__MIN", f"{run} - {shown}__MAX"])
            writer.writerows([[row["step"], *[row[name]] * 3] for row in rows if name in row])


@contextmanager
def output_into(file: Path) -> Iterator[None]:
    """What this process prints, on either stream, goes to `file`, as `python -u train.py > train.log 2>&1` does it."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, before in zip((1, 2), saved, strict=True):
            os.dup2(before, stream)
            os.close(before)
        os.close(target)
