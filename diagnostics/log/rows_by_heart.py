"""LOG008: a training loss near zero after many passes over the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def rows_by_heart(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the training loss went to almost nothing over many epochs.
    Why it matters:
        The model then repeats its rows word by word and has lost much of what it could do before.
    How it is measured:
        Epochs, the last level of the training loss, and its distance to the evaluation loss where there is one.
    Known false alarms:
        A task with one right answer (a label, a fixed form) has a loss near zero and is sound. An evaluation loss as
        low as the training loss shows that, and nothing is said then.
    Fix:
        Train one to three epochs; keep rows apart for evaluation and stop where their loss is lowest.
    References:
        https://arxiv.org/abs/2305.11206
    """
    subject.only("sft", "unknown")
    log = subject.log
    trend = subject.needed("loss", points=4)
    norm = log.get("grad_norm")
    if trend.last == 0 and norm is not None and not np.isfinite(norm.values[-max(1, len(norm) // 10) :]).any():
        raise NotMeasured("not_needed", detail="LOG002")  # the 0 stands for a NaN
    epochs, tested = log.last_epoch, subject.evaluation
    last, first = trend.last, max(trend.first, float(trend.values[0]))
    numbers = {
        "curve": "loss", "last": trend.end, "first": trend.begin, "epochs": epochs or 0.0,
        "from_step": trend.step_at(0.9),
        "to_step": float(trend.steps[-1]), "tested": float(tested.values[-1]) if tested is not None else 0.0,
        "step": f"{trend.steps[-1]:g}",
    }  # fmt: skip
    evidence = [("loss: median of the last tenth", round(last, 4)), ("epochs", epochs)]
    # A loss that was low from its first log on has been falling before that: many passes to a tenth of it say the same.
    fell = first >= limits["heart_first_loss"] or (first > 0 and last <= limits["heart_fell"] * first)
    low = last <= limits["heart_train_loss_log"] and fell
    if _left_behind(subject):
        yield warning("far_below_evaluation", *evidence, **numbers)
    elif not low:
        yield ok("ok", **numbers)
    elif tested is not None and float(tested.values[-1]) - last < limits["eval_gap"] / 2:
        yield info("task_is_easy", *evidence, **numbers)
    elif tested is not None and float(tested.values[-1]) - last < limits["eval_gap"]:
        yield ok("ok", **numbers)
    elif epochs is not None and epochs >= limits["heart_epochs_log"]:
        yield warning("by_heart" if tested is None else "by_heart_far_from_evaluation", *evidence, **numbers)
    else:
        yield info("near_zero", *evidence, **numbers)


def _left_behind(subject: LogSubject) -> bool:
    """The training loss halved again after the evaluation loss had stopped falling, and ended far below it."""
    trend, tested = subject.trend("loss"), subject.evaluation
    if trend is None or tested is None or len(tested) < 4 or len(trend) < 8:
        return False
    held_out, half = float(tested.values[-1]), float(tested.values[len(tested) // 2])
    stands = held_out >= 0.98 * half
    fell = trend.end <= 0.5 * trend.level(0.4, 0.6)
    return stands and fell and trend.end <= 0.3 * held_out and held_out - trend.end >= 1.0
