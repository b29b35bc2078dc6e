"""LOG011: a logged loss that is a sum over several batches and not their mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.preference_log.preference_run import preference_run
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.logs.training_log import LN2


def loss_scaled(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the training loss is many times the evaluation loss at the same steps, begins at a multiple of where it
        has to begin, or lies above the loss of guessing all along.
    Why it matters:
        Such a loss is summed over accumulation steps. The run looks bad and isn't, or the gradient is too large by the
        same factor; comparing it with any other number misleads.
    How it is measured:
        Median of the training losses around each evaluation, divided by that evaluation's loss: the factor has to be
        above `scale_times` at every evaluation. Preference training begins at ln 2, so k times ln 2 at the first log is
        a sum over k. A loss above ln(vocabulary) from beginning to end is no mean over tokens.
    Known false alarms:
        Evaluation on easier rows, dropout and label smoothing move the two apart by a tenth or two, not by factors.
        IPO, hinge, KTO and ORPO have other starting values.
    Fix:
        Update transformers (4.46 to 4.49 summed the loss of custom models), or divide the logged loss by
        gradient_accumulation_steps when reading it. If the gradient is summed too, divide the learning rate by it.
    References:
        https://github.com/huggingface/transformers/pull/34191
        https://unsloth.ai/blog/gradient
    """
    subject.except_for(*ONLINE)
    trend = subject.needed("loss", points=3)
    accumulated = subject.log.setting("gradient_accumulation_steps")
    numbers = {"curve": "loss", "first": trend.begin, "last": trend.end, "from_step": float(trend.steps[0]),
               "accumulated": accumulated or 0.0}  # fmt: skip
    if subject.kind in PREFERENCE:
        yield _preference(subject, trend.first, numbers)
        return
    tested = subject.evaluation
    if tested is not None:
        factors = []
        span = (trend.steps[-1] - trend.steps[0]) / 20 + 1e-9
        for step, value in zip(tested.steps, tested.values, strict=True):
            away = np.abs(trend.steps - step)
            near = trend.values[away <= max(span, away.min())]
            if len(near) and value > 0:
                factors.append(float(np.median(near)) / float(value))
        if factors:
            factor = float(np.median(factors))
            shown = [round(f, 2) for f in factors[:10]]
            evidence: list[tuple[str, object]] = [("training loss / evaluation loss", shown)]
            if accumulated:
                evidence.append(("gradient_accumulation_steps", accumulated))
            if min(factors) >= limits["scale_times"] and trend.last - float(tested.values[-1]) >= limits["scale_nats"]:
                fits = accumulated is not None and accumulated > 1 and 0.5 <= factor / accumulated <= 1.5
                outcome = "times_accumulation" if fits else "times_evaluation"
                yield warning(
                    outcome, *evidence, factor=factor, tests=len(factors), tested=float(tested.values[-1]), **numbers
                )
                return
            yield ok("ok", factor=factor, **numbers)
            return
    most = subject.guessing or limits["guessing_most"]
    if accumulated and accumulated > 1 and trend.first > 1.1 * most and trend.first / accumulated < most:
        evidence = [("loss at the beginning", round(trend.first, 3)), ("gradient_accumulation_steps", accumulated)]
        yield warning("above_guessing_by_accumulation", *evidence, most=most, mean=trend.end / accumulated, **numbers)
        return
    lowest = trend.lowest.level
    if lowest > 1.1 * most:
        evidence = [("lowest level of the loss", round(lowest, 3)), ("ln(vocabulary)", round(most, 3))]
        yield warning("above_guessing", *evidence, lowest=lowest, most=most, **numbers)
        return
    yield ok("ok_without_evaluation", **numbers)


def _preference(subject: LogSubject, first: float, numbers: dict) -> Observation:  # type: ignore[type-arg]
    """DPO begins at ln 2; a whole multiple of it is a sum."""
    run = preference_run(subject)
    if run.objective != "sigmoid":
        raise NotMeasured("another_training", kind=subject.kind)
    times, whole = first / LN2, run.times
    tested = subject.evaluation
    beside = tested is None or float(tested.values[0]) < 0.6 * first
    if whole > 1 and beside:
        return warning("times_ln2", ("first loss / ln 2", round(times, 3)), times=whole, **numbers)
    if times > 1.9 and tested is not None and float(tested.values[0]) < 0.6 * first:
        return info("unlike_evaluation", ("first loss / ln 2", round(times, 3)), times=times, **numbers)
    return ok("ok_without_evaluation", **numbers)
