"""Names whose meaning only the rest of the log tells: `chosen_reward` of a reward model or of DPO, `loss_epoch`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.logs.training_log import Floats, Rows

Data = Mapping[str, tuple[Rows, Floats]]
_OF_DPO = {"chosen_score": "rewards/chosen", "rejected_score": "rewards/rejected", "margin": "rewards/margins"}
_OF_MODEL = {"rewards/margins": "margin", "rewards/accuracies": "accuracy"}


def settled(data: Data) -> Data:
    """The same curves under the names that the others among them speak for."""
    made = dict(data)
    for prefix in ("", "eval_"):
        mean = made.pop(f"{prefix}loss_of_epoch", None)
        if mean is not None:  # a mean over an epoch beside the losses of its steps is no point of the same curve
            made.setdefault(f"{prefix}loss", mean)
    # Rewards of DPO are differences from the reference: all exactly 0 before the first update. Scores are not.
    starts_at_zero = all(_first(made, name) == 0.0 for name in ("chosen_score", "rejected_score"))
    compared = any(name.endswith("logps/chosen") for name in made)
    scored = "chosen_score" in made and "rejected_score" in made
    for prefix in ("", "eval_"):
        if scored and not starts_at_zero and not compared and f"{prefix}rewards/chosen" not in made:
            _rename(made, _OF_MODEL, prefix)
        elif scored and (starts_at_zero or compared):
            _rename(made, _OF_DPO, prefix)
        if f"{prefix}rewards/chosen" in made or f"{prefix}rewards/margins" in made:
            _rename(made, {"accuracy": "rewards/accuracies"}, prefix)
    return made


def _first(data: Data, name: str) -> float:
    rows, values = data.get(name, (np.empty(0), np.empty(0)))
    return float(values[0]) if len(values) else float("nan")


def _rename(data: dict[str, tuple[Rows, Floats]], names: Mapping[str, str], prefix: str) -> None:
    for old, new in names.items():
        if f"{prefix}{old}" in data and f"{prefix}{new}" not in data:
            data[f"{prefix}{new}"] = data.pop(f"{prefix}{old}")
