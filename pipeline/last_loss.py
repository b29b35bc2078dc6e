"""Where a training log's loss began and ended, training and evaluation apart: enough to hold a model against its log.

Read: trainer_state.json, JSON lines, dict lines of transformers with bare or quoted numbers, and lines of text like
`epoch 1, step 100, training loss: 2.345`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.instruction_rows import FIRST_BYTES, encoding_of

MAX_BYTES = 512 * 2**20
_NUMBER = r"['\"]?(?:np\.float\d+\()?([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf(?:inity)?))"
# 'loss': 0.53 | "eval_loss": "0.53" | training loss: 2.3 | val_loss=2.3 | loss 2.3
_PAIR = re.compile(
    r"(?:(?<![A-Za-z])(?P<kind>train(?:ing)?|valid(?:ation)?|val|eval(?:uation)?|test|dev)[ _/-]*"
    r"(?:(?:avg|mean|average)[ _]*)?"
    r"|(?<![A-Za-z_/]))"  # no other word before it: aux_loss, best_loss
    rf"loss['\"]?\s*(?:is\s+|[:=]\s*|\s){_NUMBER}",
    re.IGNORECASE,
)
_PREFERENCE = re.compile(r"rewards/(?:chosen|margins|accuracies)|logps/chosen|['\"]reward['\"]\s*:\s*['\"]?-?\d")
_PREFERENCE_NAME = re.compile(r"(?<![a-z])(?:dpo|kto|orpo|simpo|grpo|ppo|rlhf|rloo|reward|rm)(?![a-z])", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class LossCurve:
    """Losses as logged, in order. problem: None, `unreadable`, `too_large`, `empty`, `not_text`,
    `no_loss`, `preference_log`."""

    path: str
    train: tuple[float, ...] = ()
    evaluation: tuple[float, ...] = ()
    problem: str | None = None

    @property
    def first(self) -> float | None:
        """The first logged training loss."""
        return self.train[0] if self.train else None

    @property
    def last(self) -> float | None:
        """Mean over the last tenth of the training losses, at most 10: single batches jump."""
        n = max(1, min(10, len(self.train) // 10))
        return sum(self.train[-n:]) / n if self.train else None

    @property
    def still_falling(self) -> float:
        """Nats by which the mean training loss of the last quarter lies below that of the quarter before; 0 for
        fewer than 8 values."""
        n = len(self.train) // 4
        if n < 2:
            return 0.0
        quarters = [sum(self.train[-k * n : len(self.train) - (k - 1) * n]) / n for k in (4, 3, 2, 1)]
        # coming down again after a rise is no sign that more steps would help
        return quarters[2] - quarters[3] if quarters[3] <= min(quarters) else 0.0

    @property
    def last_evaluation(self) -> float | None:
        return self.evaluation[-1] if self.evaluation else None

    @property
    def best_evaluation(self) -> float | None:
        return min(self.evaluation, default=None)


def read_loss_curve(path: str | Path) -> LossCurve:
    """Losses of one log file; non-finite ones are left out. Never raises for bad content."""
    place = Path(path)
    try:
        if place.stat().st_size > MAX_BYTES:
            return LossCurve(place.name, problem="too_large")
        with open(place, "rb") as file:
            raw = file.read()
    except OSError:
        return LossCurve(place.name, problem="unreadable")
    if not raw.strip():
        return LossCurve(place.name, problem="empty")
    encoding = encoding_of(raw[:FIRST_BYTES])  # PowerShell's `> train.log` writes UTF-16
    text = raw.decode(encoding or "utf-8", errors="replace")
    if _PREFERENCE.search(text) or _PREFERENCE_NAME.search(place.name):
        return LossCurve(place.name, problem="preference_log")
    found: dict[str, list[float]] = {"train": [], "eval": []}
    for kind, value in _losses(text):
        if math.isfinite(value) and value >= 0:
            found[kind].append(value)
    if not found["train"] and not found["eval"]:
        return LossCurve(place.name, problem="no_loss" if encoding else "not_text")
    return LossCurve(place.name, tuple(found["train"]), tuple(found["eval"]))


def _losses(text: str) -> Iterator[tuple[str, float]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    rows = whole.get("log_history") if isinstance(whole, Mapping) else whole
    if isinstance(rows, list):
        for row in rows:
            yield from _of_record(row)
        return
    for line in re.split(r"[\r\n]+", _COLOURS.sub("", text)):
        if "loss" not in line.lower() or len(line) > 20_000:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, Mapping):
            yield from _of_record(record)
        else:
            yield from _of_text(line)


def _of_record(record: Any) -> Iterator[tuple[str, float]]:
    if not isinstance(record, Mapping):
        return
    for key, kind in (("loss", "train"), ("eval_loss", "eval"), ("train/loss", "train"), ("eval/loss", "eval"),
                      ("training_loss", "train"), ("valid_loss", "eval"), ("val_loss", "eval")):  # fmt: skip
        value = record.get(key)
        try:
            if value is not None and not isinstance(value, bool):
                yield kind, float(value)
        except (TypeError, ValueError):
            continue


def _of_text(line: str) -> Iterator[tuple[str, float]]:
    seen = set()
    for found in _PAIR.finditer(line):
        word = (found.group("kind") or "").lower()
        before = line[: found.start()].lower().rstrip(" '\"_:|,[")
        is_eval = word[:3] in ("val", "eva", "tes", "dev") or before.endswith(("eval", "valid", "val"))
        if word == "train" and "train_runtime" in line:  # the Trainer's mean over the whole run
            continue
        kind = "eval" if is_eval else "train"
        if kind not in seen:  # a line repeats its loss as running mean, per task and so on: the first is meant
            seen.add(kind)
            yield kind, float(found.group(2))
