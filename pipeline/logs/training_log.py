"""The data model of a training log: rows with their place in the run, curves over them, and what stood beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# How much of one log is held: a row more costs about 50 bytes.
MAX_ROWS = 20_000_000
MAX_CURVES = 400
LN2 = math.log(2.0)


@dataclass(frozen=True)
class Note:
    """Something about the reading itself. id names a sentence in words/*/LOG.yaml under `notes`."""

    id: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """A line of the log that says what happened. id: a row of configs/log_messages.yaml; line: its number from 1;
    row: metric rows read before it; count: how often it stands there; text: the first one, shortened."""

    id: str
    line: int
    row: int
    count: int
    text: str


@dataclass(frozen=True)
class Restart:
    """The run went back: rows from `row` on continue at `step`, those before had come to `step_before`.

    dropped: rows of the first attempt that the second repeats; they are no part of the curves."""

    row: int
    step_before: float
    step: float
    dropped: int
    dropped_not_finite: bool = False


@dataclass(frozen=True)
class Curve:
    """One metric. rows: (n,) indices into the log's rows, increasing; values: (n,) with NaN and infinity kept."""

    name: str
    rows: Rows
    values: Floats

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class TrainingLog:
    """One run. Curves bear the names of transformers and TRL; those of evaluation begin with `eval_`.

    step, epoch, time: (rows,), NaN where the log doesn't say; time in seconds since 1970, or since the run's start
    (time_is_elapsed). steps_known: False where `step` only numbers the rows. settings: what the log says was configured
    (learning_rate, max_steps, num_train_epochs, gradient_accumulation_steps, beta, vocab_size, ...), numbers as float.
    problem: None, or why nothing could be read: `unreadable`, `empty`, `not_text`, `lfs_pointer`, `too_large`,
    `special_file`, `no_metrics`. keys: names that stood in records but are no metric known here.
    """

    name: str
    files: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    step: Floats = field(default_factory=lambda: np.empty(0))
    epoch: Floats = field(default_factory=lambda: np.empty(0))
    time: Floats = field(default_factory=lambda: np.empty(0))
    curves: Mapping[str, Curve] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    restarts: tuple[Restart, ...] = ()
    notes: tuple[Note, ...] = ()
    steps_known: bool = False
    time_is_elapsed: bool = False
    records: int = 0  # rows as they stood in the files, before merging ranks and dropping what a restart repeats
    lines: int = 0
    size: int = 0
    keys: tuple[str, ...] = ()
    problem: str | None = None
    detail: str = ""

    def get(self, *names: str) -> Curve | None:
        """The first of these curves that is there."""
        return next((self.curves[name] for name in names if name in self.curves), None)

    def steps_of(self, curve: Curve) -> Floats:
        """(n,) step of each point of `curve`; the column itself for a curve that every row has a point of."""
        return self.step if len(curve.rows) == len(self.step) else self.step[curve.rows]

    @property
    def last_step(self) -> float:
        """The highest step, 0 for none."""
        return float(np.nanmax(self.step)) if self.steps_known and len(self.step) else 0.0

    @property
    def last_epoch(self) -> float | None:
        known = self.epoch[np.isfinite(self.epoch)]
        return float(known.max()) if len(known) else None

    @property
    def max_steps(self) -> float | None:
        """Steps planned, where the log tells."""
        return _positive(self.settings.get("max_steps"))

    def setting(self, name: str) -> float | None:
        """A configured number, None where the log doesn't tell or it is no number."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    @cached_property
    def kind(self) -> str:
        """What was trained: `sft`, `dpo` (with its family), `kto`, `orpo`, `reward_model`, `grpo`, `ppo`, `unknown`."""
        return kind_of(self)

    @property
    def seconds(self) -> float | None:
        """From the first to the last row that bears a time."""
        known = self.time[np.isfinite(self.time)]
        return float(known.max() - known.min()) if len(known) > 1 else None


def kind_of(log: TrainingLog) -> str:
    """What was trained, by the metrics that are logged; by what the log says of itself where they don't tell."""
    have = {name.removeprefix("eval_") for name in log.curves}
    said = str(log.settings.get("stage") or log.settings.get("loss_type") or log.settings.get("trainer") or "").lower()
    if have & {"odds_ratio_loss", "log_odds_chosen", "log_odds_ratio"}:
        return "orpo"
    if have & {"rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/chosen"}:
        return "kto" if "kl" in have and not said.startswith("dpo") else "dpo"
    if "rlhf_reward" in have:  # TRL's PPO and RLOO
        return "ppo"
    if "reward" in have and have & {"value_loss"} and "frac_reward_zero_std" not in have:
        return "ppo"
    if "reward" in have and (have & {"reward_std", "frac_reward_zero_std", "kl", "completions/mean_length", "entropy"}):
        return "grpo"
    if "reward" in have and "loss" in have and "percentage" in have:  # LLaMA-Factory writes it for PPO alone
        return "ppo"
    if have & {"chosen_score", "rejected_score", "margin", "mean_reward", "min_reward"}:
        return "reward_model"
    for word, kind in (
        ("dpo", "dpo"),
        ("simpo", "dpo"),
        ("ipo", "dpo"),
        ("kto", "kto"),
        ("orpo", "orpo"),
        ("rm", "reward_model"),
        ("reward", "reward_model"),
        ("grpo", "grpo"),
        ("ppo", "ppo"),
        ("sft", "sft"),
        ("pt", "sft"),
    ):
        if said.startswith(word):
            return kind
    if "reward" in have:
        return "grpo"
    if _looks_like_dpo(log):
        return "dpo"
    if _named_reward_model(log):
        return "reward_model"
    return "sft" if have & {"loss", "perplexity"} else "unknown"


def _named_reward_model(log: TrainingLog) -> bool:
    """A log that holds an evaluation's accuracy and a loss from ln 2 on, in a file named after reward models: a
    classifier of two classes logs the same."""
    loss = log.curves.get("loss")
    if loss is None or "eval_accuracy" not in log.curves:
        return False
    first = loss.values[: min(5, len(loss))]
    near = np.isfinite(first).all() and abs(float(np.median(first)) / LN2 - 1) < 0.15
    return bool(near and any(re.search(r"(?<![a-z])(?:rm|reward)(?![a-z])", file.lower()) for file in log.files))


def _looks_like_dpo(log: TrainingLog) -> bool:
    """Logs that hold only a loss: one that is ln 2 throughout, or starts at a multiple of it beside a beta or in a file
    named after DPO; and LLaMA-Factory's trainer_log.jsonl, which holds an accuracy for preference training alone."""
    loss = log.curves.get("loss")
    if loss is None or not len(loss):
        return False
    if "accuracy" in log.curves and "percentage" in log.curves:
        return True
    if len(loss) >= 5 and np.isfinite(loss.values).all() and np.abs(loss.values / LN2 - 1).max() < 1e-3:
        return True  # a policy that never leaves its reference; no other training keeps to ln 2 in every row
    first = float(np.nanmedian(loss.values[:10])) if np.isfinite(loss.values[:10]).any() else np.nan
    times = round(first / LN2) if np.isfinite(first) else 0
    near = 1 <= times <= 512 and abs(first / (times * LN2) - 1) < (0.15 if times == 1 else 0.02)
    named = any(re.search(r"(?<![a-z])dpo(?![a-z])", file.lower()) for file in log.files)
    return near and (log.setting("beta") is not None or (named and times == 1))


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None
