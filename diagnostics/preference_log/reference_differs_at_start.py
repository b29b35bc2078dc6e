"""DPO002: rewards far from 0 before anything was trained: the policy did not begin as its reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import (
    SIDES,
    PreferenceRun,
    begins,
    nothing_trained_yet,
    off_throughout,
    preference_run,
)
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.logs.training_log import LN2


def reference_differs_at_start(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the rewards begin at 0. A reward is beta times how much likelier the policy finds an answer than the
        reference does, so it is 0 while nothing is trained.
    Why it matters:
        With another reference the run is pulled towards a model it never was: often the raw base instead of the SFT
        result, or the same weights in another quantisation.
    How it is measured:
        The first logged rewards against 0.1, the noise of dropout and half precision. In the first step, or at learning
        rate 0, that is all; a later first row may have moved, so it is held against how far the rewards go between the
        next rows, and only where it stands at the beginning of the run. Rewards above 2 on both sides that hardly
        change from the first row to the last are told wherever the log begins. Without rewards only a loss near 0 with
        an accuracy of 1 within the first ten steps is told.
    Known false alarms:
        Dropout and a reference in fp16 give rewards of some hundredths. Pairs that are told apart within a few steps
        also have large rewards in the first row; they are left to DPO004.
    Fix:
        Start policy and reference from the same weights in the same dtype: merge the SFT adapter into the base first,
        or give ref_model (or ref_adapter_name); with precomputed reference log-probabilities compute them anew.
    References:
        https://github.com/huggingface/trl/issues/1236
        https://github.com/huggingface/trl/pull/4723
        https://github.com/eric-mitchell/direct-preference-optimization/issues/34
        https://github.com/hiyouga/LlamaFactory/issues/8459
    """
    run = preference_run(subject)
    if run.objective == "without_reference":
        raise NotMeasured("no_reference_model")
    tolerance = limits["dpo_first_reward"] * (2 * run.supposed_beta if run.mean_logps else 1)
    evaluated = [t for t in (subject.trend(f"eval_rewards/{s}") for s in SIDES) if t is not None]
    logged = [t for t in (subject.trend(f"rewards/{s}") for s in SIDES) if t is not None]
    if evaluated and (not logged or nothing_trained_yet(subject, evaluated[0])):
        logged = evaluated
    if not logged:
        yield _by_loss(subject, run, limits)
        return
    first = [float(t.values[0]) for t in logged]
    largest = max(abs(v) for v in first)
    numbers: dict[str, Any] = {
        "curve": max(logged, key=lambda t: abs(float(t.values[0]))).name,
        "from_step": float(logged[0].steps[0]),
        "step": f"{logged[0].steps[0]:g}",
        "chosen": first[0],
        "rejected": first[-1],
        "tolerance": tolerance,
    }
    evidence = [(f"{t.name} at step {t.steps[0]:g}", v) for t, v in zip(logged, first, strict=True)]
    if largest <= tolerance:
        yield ok("ok", *evidence, largest=largest, **numbers)
        return
    if nothing_trained_yet(subject, logged[0]):
        say = error if largest > 5 * tolerance else warning
        yield say("differs", *evidence, **numbers)
        return
    if _rate_at_first(subject, logged[0]) > limits["dpo_rate_max"]:
        yield ok("moved_already", *evidence, largest=largest, **numbers)  # such a rate moves a policy in one step
        return
    if len(logged[0]) < 4:
        raise NotMeasured("too_few_points", curve=logged[0].name, n=len(logged[0]), least=4)
    if off_throughout(subject, run, logged):
        yield error("differs_throughout", *evidence, last=float(logged[0].values[-1]),
                    last_rejected=float(logged[-1].values[-1]), **numbers)  # fmt: skip
        return
    if not begins(subject, logged[0]):
        raise NotMeasured("not_the_beginning", step=numbers["step"])
    if _shifted(subject, logged, tolerance):
        yield error("differs_later", *evidence, **numbers)
        return
    yield ok("moved_already", *evidence, largest=largest, **numbers)


def _shifted(subject: LogSubject, logged: list[Trend], tolerance: float) -> bool:
    """Whether the first rewards are farther from 0 than the run could have come by then.

    The way from 0 to the first row is about that between the next rows, as the learning rate is lower in the warm-up.
    """
    accuracies = subject.trend("rewards/accuracies")
    told_apart = accuracies is not None and accuracies.first >= 0.98
    beyond = []
    for trend in logged:
        ways = np.abs(np.diff(trend.values[:6]))
        way = float(ways.max() if told_apart else np.median(ways))
        between = float(np.median(np.diff(trend.steps[:6])))
        longer = max(1.0, float(trend.steps[0]) / between) if subject.log.steps_known and between > 0 else 1.0
        first = float(np.median(trend.values[:3])) if len(trend) > 5 else float(trend.values[0])
        beyond.append(abs(first) > 5 * tolerance + (5 if told_apart else 3) * way * longer)
    # One side far off and the other not is what fast learning looks like; a wrong reference shifts both.
    signs = {np.sign(float(t.values[0])) for t in logged}
    if all(beyond) and (len(signs) == 1 or not told_apart):
        return True
    return _both_off(logged, tolerance)


def _rate_at_first(subject: LogSubject, trend: Trend) -> float:
    """The learning rate in the row of the first point, 0 where it isn't logged."""
    rate, curve = subject.log.get("learning_rate"), subject.log.get(trend.name)
    if rate is None or curve is None:
        return 0.0
    at = np.flatnonzero(rate.rows == curve.rows[0])
    return float(rate.values[at[0]]) if len(at) and np.isfinite(rate.values[at[0]]) else 0.0


def _both_off(logged: list[Trend], tolerance: float) -> bool:
    """Both rewards far off on the same side from the first row on, hardly growing, and now one ahead, now the other.

    Learning moves the margin first; and seldom does it make both sides likelier than the reference has them."""
    if len(logged) < 2 or min(len(t) for t in logged) < 4:
        return False
    count = min(8, *(len(t) for t in logged))
    chosen, rejected = (t.values[:count] for t in logged)
    common, margins = (chosen + rejected) / 2, chosen - rejected
    same_side = bool(np.all(np.sign(chosen) == np.sign(rejected)) and np.all(np.sign(chosen) == np.sign(chosen[0])))
    mixed = 0.25 <= float((margins > 0).mean()) <= 0.75
    grown = 0.5 if common[0] > 0 else 0.8
    settled = abs(common[0]) >= grown * float(np.median(np.abs(common[1:])))
    return same_side and mixed and settled and abs(common[0]) > 10 * tolerance


def _by_loss(subject: LogSubject, run: PreferenceRun, limits: Thresholds) -> Observation:
    loss, accuracy = subject.trend("loss"), subject.trend("rewards/accuracies", "accuracy")
    if loss is None or accuracy is None or run.objective not in ("sigmoid", "other"):
        raise NotMeasured("no_curve", curve="rewards/chosen")
    first, start = float(loss.values[0]), run.start if run.start is not None else LN2
    numbers = {
        "curve": "loss",
        "from_step": float(loss.steps[0]),
        "step": f"{loss.steps[0]:g}",
        "loss": first,
        "accuracy": float(accuracy.values[0]),
    }
    early = subject.log.steps_known and loss.steps[0] <= 10
    if early and first < limits["dpo_loss_gone"] * start and accuracy.values[0] >= 0.99:
        return error("loss_zero_at_start", (f"loss at step {loss.steps[0]:g}", first), **numbers)
    if early and abs(first - start) < 0.02 * start:
        return ok("ok_by_loss", (f"loss at step {loss.steps[0]:g}", first), **numbers)
    raise NotMeasured("no_curve", curve="rewards/chosen")
