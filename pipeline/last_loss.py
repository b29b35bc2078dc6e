"""Where a training log's loss began and ended, to hold a model against its log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.logs.read_log import read_log
from pipeline.logs.training_log import Curve

MAX_BYTES = 512 * 2**20
# Losses of these have another zero and can't be held against a model's own.
_OTHERS = ("dpo", "kto", "orpo", "reward_model", "grpo", "ppo")
_PREFERENCE_NAME = re.compile(r"(?<![a-z])(?:dpo|kto|orpo|simpo|grpo|ppo|rlhf|rloo|reward|rm)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class LossCurve:
    """Losses as logged, in order. problem: None, `unreadable`, `too_large`, `empty`, `not_text`,
    `no_loss`, `preference_log`, `lfs_pointer`."""

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
        log = read_log([place], max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return LossCurve(place.name, problem="unreadable")
    if log.problem is not None:
        known = {"no_metrics": "no_loss", "special_file": "unreadable"}
        return LossCurve(place.name, problem=known.get(log.problem, log.problem))
    if log.kind in _OTHERS or _PREFERENCE_NAME.search(place.name):
        return LossCurve(place.name, problem="preference_log")
    train, evaluation = _finite(log.get("loss")), _finite(log.get("eval_loss"))
    if not train and not evaluation:
        return LossCurve(place.name, problem="no_loss")
    return LossCurve(place.name, train, evaluation)


def _finite(curve: Curve | None) -> tuple[float, ...]:
    if curve is None:
        return ()
    return tuple(curve.values[np.isfinite(curve.values) & (curve.values >= 0)].tolist())
