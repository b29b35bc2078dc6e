"""RWD007: a reward that stays where it began."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds


def reward_does_not_rise(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the reward rose over the run, and how far the policy moved from its reference (KL).
    Why it matters:
        A run whose reward stays flat at a KL of nothing trained nothing yet.
    How it is measured:
        Means of the first and the last quarter, with the standard error of their rows. Flat: the gain is below 0.2 of
        the spread of rewards and not above what the noise gives, or so small at a KL below 0.01 that the policy hardly
        moved.
    Known false alarms:
        Rewards of single rows differ by the prompts in them. Short logs (below 20 rows) aren't judged, and a reward
        that began at its ceiling can't rise.
    Fix:
        Train longer, with a higher learning rate (1e-6 for all weights, 1e-5 for an adapter) or more generations a
        prompt; check that the reward tells good completions from bad ones.
    References:
        https://huggingface.co/docs/trl/grpo_trainer
    """
    subject.only(*ONLINE)
    reward = subject.needed("reward", points=int(limits["rl_points"]))
    quarter = max(3, len(reward) // 4)
    early, late = reward.values[:quarter], reward.values[-quarter:]
    gain = float(late.mean() - early.mean())
    doubt = math.hypot(float(early.std()), float(late.std())) / math.sqrt(quarter)
    spread = subject.trend("reward_std")
    unit = spread.level(0, 1) if spread is not None else float(reward.values.std())
    kl = subject.trend("kl")
    distance = abs(float(np.median(kl.values[-quarter:]))) if kl is not None else None
    numbers: dict[str, Any] = {
        "curve": "reward",
        "from_step": float(reward.steps[0]),
        "to_step": float(reward.steps[-1]),
        "step": f"{reward.steps[-1]:g}",
        "first": float(early.mean()),
        "last": float(late.mean()),
        "doubt": doubt,
        "kl": distance if distance is not None else float("nan"),
    }
    evidence: list[tuple[str, Any]] = [("reward at first", numbers["first"]), ("reward at the end", numbers["last"])]
    if distance is not None:
        evidence.append(("kl at the end", distance))
    small = unit > 0 and gain < limits["reward_gain"] * unit and gain > -3 * doubt
    within = gain < 2 * doubt
    if distance is not None and distance < limits["kl_nothing"] and small and not _at_ceiling(subject, reward):
        yield warning("hardly_moved", *evidence, **numbers)
    elif small and within:
        yield info("flat", *evidence, **numbers)
    elif gain < -3 * doubt:
        yield info("falls", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)


def _at_ceiling(subject: LogSubject, reward: Trend) -> bool:
    """The highest reward a row can have is known from the log, and the run began near it."""
    top = subject.trend("critic/rewards/max", "max_reward")
    return top is not None and reward.first > 0.9 * float(top.values.max())
