"""LOG007: an evaluation loss that turned upwards while training went on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def evaluation_rises(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the evaluation loss ended above its lowest value while the training loss went on falling.
    Why it matters:
        From there on the model learns its rows by heart and loses the rest.
    How it is measured:
        Last evaluation against the lowest, in per cent and against the noise of the evaluations. Up to
        `eval_rose_mild` it is usual at the end of a good run; from `eval_rose_much` on it is overfitting.
    Known false alarms:
        Instruction tuning over two or three epochs often raises the evaluation loss by a few per cent while answers get
        better. Few evaluations say little: two are only mentioned unless the rise is large.
    Fix:
        Take the checkpoint of the lowest evaluation loss (load_best_model_at_end, save_steps = eval_steps), train fewer
        epochs, add data, or lower the learning rate or LoRA rank.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.load_best_model_at_end
        https://arxiv.org/abs/2203.02155
    """
    subject.except_for(*PREFERENCE, *ONLINE, "reward_model")
    tested = subject.evaluation
    if tested is None:
        raise NotMeasured("no_evaluation")
    if len(tested) < 2:
        raise NotMeasured("too_few_points", curve=tested.name, n=len(tested), least=2)
    place = int(np.argmin(tested.values))
    best, last = (
        float(tested.values[place]),
        float(np.median(tested.values[-2:]) if len(tested) > 8 else tested.values[-1]),
    )
    rose = last / best - 1 if best > 0 else 0.0
    trend = subject.trend("loss", "eval_train_loss")
    numbers = {
        "curve": tested.name, "best": best, "last": last, "percent": 100 * rose, "step": f"{tested.steps[place]:g}",
        "from_step": float(tested.steps[place]), "to_step": float(tested.steps[-1]), "tests": len(tested),
        "train": trend.end if trend is not None else 0.0,
    }  # fmt: skip
    evidence = [(f"{tested.name} at step {tested.steps[place]:g}", round(best, 4)),
                (f"{tested.name} at step {tested.steps[-1]:g}", round(float(tested.values[-1]), 4))]  # fmt: skip
    after = np.diff(tested.values[place:])
    steady = len(after) >= 3 and bool(np.all(after > 0))  # up at every evaluation since the lowest: no noise
    noisy = len(tested) >= 5 and not steady and last - best < 3 * tested.noise
    if rose < limits["eval_rose_none"] or noisy:
        yield ok("ok", **numbers)
        return
    if trend is not None and _training_rose_too(subject):
        raise NotMeasured("not_needed", detail="LOG003")  # diverged, not learned by heart
    follows = trend is None or trend.end < trend.begin
    if (
        rose < limits["eval_rose_much"]
        or last - best < limits["eval_rose_nats"]
        or not follows
        or len(tested) == 2
        and rose < 2 * limits["eval_rose_much"]
    ):
        yield info("mild", *evidence, **numbers)
    elif rose >= limits["eval_rose_extreme"]:
        yield error("rose_far", *evidence, **numbers)
    else:
        yield warning("rose", *evidence, **numbers)


def _training_rose_too(subject: LogSubject) -> bool:
    """The training loss turned along with it: an unstable run, not rows known by heart."""
    trend, tested = subject.trend("loss"), subject.evaluation
    if trend is None or tested is None or len(trend) < 10:
        return False
    at = float(tested.steps[int(np.argmin(tested.values))])
    before = trend.values[(trend.steps <= at) & (trend.steps >= at - (trend.steps[-1] - trend.steps[0]) * 0.15)]
    if not len(before):
        return False
    return trend.last > float(np.median(before)) + 2 * trend.error_of_level
