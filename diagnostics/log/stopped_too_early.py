"""LOG006: a run that would have gone on learning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def stopped_too_early(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the run ended while the loss was still falling, long before its planned end, or at a loss with which
        no model writes sentences.
    Why it matters:
        Answers that are off topic most often come from a model that was trained too little.
    How it is measured:
        Planned steps where the log tells them. The fall over the last quarter of the run, against the fall of the whole
        run, the level, and the curve's noise; where there are evaluations they have to fall too. A final loss above
        `loss_no_language` nats per token is a perplexity above 55.
    Known false alarms:
        A log of a run that still goes on looks like one that was stopped: it is said. A loss that falls because rows
        are seen for the fourth time is memorising, so beyond three epochs only the evaluation counts. Losses that are
        sums (LOG011) are not judged by their level.
    Fix:
        Train longer, or with a schedule that ends where the data ends; resume from the last checkpoint.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.num_train_epochs
    """
    log = subject.log
    subject.except_for(*ONLINE)
    mean = log.settings.get("mean_train_loss")
    trend = subject.trend("loss") or subject.evaluation
    if trend is None and isinstance(mean, float):
        steps = log.setting("end_step") or 0.0
        if mean > 2 * limits["guessing_most"]:
            yield error("mean_is_absurd", ("train_loss", mean), mean=mean, steps=f"{steps:g}")
            return
        if mean >= limits["loss_no_language"] and steps >= limits["steps_some"]:
            yield warning("mean_is_high", ("train_loss", mean), mean=mean, steps=f"{steps:g}")
            return
        raise NotMeasured("no_curve", curve="loss")
    if trend is None:
        raise NotMeasured("no_curve", curve="loss")
    if trend.not_finite > len(trend):
        raise NotMeasured("not_needed", detail="LOG002")
    last, planned = log.last_step or float(trend.steps[-1]), log.max_steps
    share = last / planned if planned and log.steps_known else None
    numbers = {
        "curve": trend.name, "last_step": f"{last:g}", "planned": f"{planned or 0:g}", "percent": 100 * (share or 0),
        "last": trend.end, "first": trend.begin, "from_step": float(trend.steps[int(len(trend) * 0.75)]),
        "to_step": float(trend.steps[-1]),
    }  # fmt: skip
    evidence: list[tuple[str, object]] = [(f"{trend.name}: median of the last tenth", round(trend.last, 4))]
    if share is not None:
        evidence.append(("steps done of steps planned", [last, planned]))
    falling = fall_at_the_end(trend, limits)
    numbers["fall"] = falling
    tested = subject.evaluation
    rising = (
        tested is not None
        and len(tested) >= 2
        and tested.values[-1] > tested.values.min() * (1 + limits["eval_rose_mild"])
    )
    rate = subject.trend("learning_rate")
    in_warm_up = rate is not None and len(rate) >= 3 and bool(rate.values[-1] >= rate.values.max()) and bool(
        np.all(np.diff(rate.values) >= 0)) and float(rate.values[-1]) > float(rate.values[0])  # fmt: skip
    if share is not None and share < limits["run_share_begun"] and not rising:
        outcome = "in_warm_up" if in_warm_up else "hardly_begun"
        yield warning(outcome, *evidence, **numbers)
        return
    if subject.kind in PREFERENCE:
        yield ok("ok", **numbers)
        return
    decayed = rate is not None and float(rate.values[-1]) < limits["rate_decayed"] * float(rate.values.max())
    gains = tested is not None and len(tested) >= 2 and fall_of_evaluation(tested, limits) > 0
    ended = falling > 0 or gains or (tested is None and (share or 0) < limits["early_share"])
    if share is not None and share < limits["run_share_early"] and not rising and not decayed and ended:
        yield warning("stopped_early", *evidence, **numbers)
        return
    if rising:
        yield ok("ok", **numbers)
        return
    final = float(trend.values[-1])
    came_down = final < float(trend.values[0]) or (len(trend) < 3 and (share or 0) >= limits["run_share_early"])
    if min(final, trend.last) >= limits["loss_no_language"] and _is_a_mean(subject, limits) and came_down:
        yield warning("level_high", *evidence, perplexity=float(np.exp(min(trend.last, 30))), **numbers)
        return
    epochs = log.last_epoch
    if log.steps_known and last < limits["steps_few"] and epochs is not None and epochs < limits["epoch_few"]:
        yield warning("few_steps", *evidence, epochs=epochs, **numbers)
        return
    again = epochs is not None and epochs > limits["epochs_fresh"]
    tested_falls = tested is not None and len(tested) >= 3 and fall_of_evaluation(tested, limits) > 0
    gaining = tested is not None and len(tested) >= 4 and last < limits["steps_few"] and not decayed and (
        float(tested.values[-2] - tested.values[-1]) >= limits["fall_share_of_level"] * float(tested.values[-1])
    )  # fmt: skip
    if gaining:
        numbers["fall"] = max(falling, float(tested.values[-2] - tested.values[-1])) if tested is not None else falling
    if gaining or (falling > 0 and (tested_falls or (tested is None and not again))):
        short = len(trend) < limits["trend_points"]
        yield (info if short else warning)("still_falling", *evidence, **numbers)
    else:
        yield ok("ok", **numbers)


def fall_at_the_end(trend: Trend, limits: Thresholds) -> float:
    """Nats by which the last eighth lies below the one a quarter before the end, where that is more than noise, more
    than a share of the whole fall and of the level; 0 otherwise."""
    if len(trend) < 8:
        return 0.0
    before, last = trend.level(0.7, 0.8), trend.level(0.9, 1.0)
    fall, whole = before - last, trend.first - last
    sure = limits["fall_noises"] * (2**0.5) * trend.error_of_level
    enough = max(sure, limits["fall_share_of_run"] * whole, limits["fall_share_of_level"] * last)
    if fall < enough or fall <= 0:
        return 0.0
    # coming down again after a rise is no sign that more steps would help
    earlier = [s.level for s in trend.stretches if s.last_step <= trend.step_at(0.75)]
    return fall if not earlier or last <= min(earlier) + sure else 0.0


def fall_of_evaluation(tested: Trend, limits: Thresholds) -> float:
    """Nats by which the last evaluation lies below the one before it, where that is a share of the level; else 0."""
    fall = float(tested.values[-2] - tested.values[-1])
    return fall if fall >= limits["fall_share_of_level"] / 3 * float(tested.values[-1]) else 0.0


def _is_a_mean(subject: LogSubject, limits: Thresholds) -> bool:
    """Whether the training loss can be a mean over tokens: not far above the evaluation loss, nor above guessing."""
    trend, tested = subject.trend("loss"), subject.evaluation
    if trend is None:
        return True
    rate = subject.trend("learning_rate")
    if rate is not None and float(rate.values.max()) >= 1:
        return False  # plain SGD from scratch, over words or characters: its level says nothing of a language model
    said = subject.trend("perplexity")
    if said is not None and abs(np.log(max(said.last, 1e-9)) - trend.last) > 0.1 * trend.last:
        return False  # the log's own perplexity has another base, or leaves out what the loss adds
    accumulated = subject.log.setting("gradient_accumulation_steps") or 1
    if accumulated > 1 and trend.first > 1.1 * (subject.guessing or limits["guessing_most"]):
        return False
    if tested is not None and trend.last > limits["scale_times"] * float(tested.values[-1]):
        return False
    return trend.last < (subject.guessing or limits["guessing_most"]) * 1.02
