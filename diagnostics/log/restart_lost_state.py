"""LOG012: a run that went on from a checkpoint without its optimizer or schedule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds

AROUND = 10
MOST = 20  # schedules begun anew in one run; more is how the rate is meant


def restart_lost_state(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Where the run was restarted: whether the loss went on where it was, and the learning rate with it.
    Why it matters:
        Weights alone are not the state of a run. Without the optimizer's moments and the schedule the loss jumps up,
        and the steps before the restart are partly undone.
    How it is measured:
        A restart is a step number that goes back, or a learning rate that begins its warm-up anew. The median of ten
        losses before it is compared with that of ten after it, against the noise of the curve.
    Known false alarms:
        Schedules with restarts (cosine_with_restarts) raise the rate on purpose; then the loss hardly jumps. A run that
        begins again at its first step is a new run, not a resumed one.
    Fix:
        Resume with `resume_from_checkpoint` and a checkpoint that holds optimizer.pt, scheduler.pt and rng_state (no
        save_only_model); with DeepSpeed keep the global_step folder.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.Trainer.train.resume_from_checkpoint
    """
    log = subject.log
    subject.except_for(*ONLINE)
    trend = subject.needed("loss", points=2 * AROUND)
    rate = subject.trend("learning_rate")
    told = False
    for place in log.restarts[:20]:
        anew = place.step <= float(trend.steps[0])
        numbers = {
            "curve": "loss",
            "from_step": place.step,
            "step": f"{place.step:g}",
            "reached": f"{place.step_before:g}",
            "dropped": place.dropped,
        }
        if anew:
            yield info("began_anew", ("step went back to", place.step), **numbers)
        else:
            yield _around(trend, rate, place.step, limits, numbers)
        told = True
    schedules = _warm_ups(rate, limits) if rate is not None else []
    for step in _apart([*schedules, *_said(subject)], trend):
        if any(abs(place.step - step) <= _stride(trend) * AROUND for place in log.restarts):
            continue  # told above
        numbers = {"curve": "loss", "from_step": step, "step": f"{step:g}", "reached": f"{step:g}", "dropped": 0}
        seen = _around(trend, rate, step, limits, numbers)
        if seen.severity != "warning" and step in schedules:
            seen = warning("schedule_began_anew", *((e.where, e.value) for e in seen.evidence), **seen.params)
        yield seen
        told = True
    if not told:
        yield ok("ok", restarts=len(log.restarts))


def _around(trend: Trend, rate: Trend | None, step: float, limits: Thresholds, numbers: dict) -> Observation:  # type: ignore[type-arg]
    """What the loss did at a restart."""
    before, after = trend.values[trend.steps < step][-AROUND:], trend.values[trend.steps >= step][:AROUND]
    if len(before) < 3 or len(after) < 3:
        return info("restarted", ("restart at step", step), **numbers)
    low, high = float(np.median(before)), float(np.median(after))
    jump = high - low
    sure = 4 * 1.25 * trend.noise * (1 / len(before) + 1 / len(after)) ** 0.5
    rates = {}
    if rate is not None:
        was, then = rate.values[rate.steps < step], rate.values[rate.steps >= step]
        rates = {"rate_before": float(was[-1]) if len(was) else 0.0, "rate_after": float(then[0]) if len(then) else 0.0}
    evidence = [("median loss before and after", [round(low, 4), round(high, 4)])]
    if rates:
        evidence.append(("learning rate before and after", [rates["rate_before"], rates["rate_after"]]))
    numbers |= {"before": low, "after": high, "jump": jump, "percent": 100 * jump / low if low > 0 else 0.0}
    anew = bool(rates) and (
        rates["rate_after"] < 0.5 * rates["rate_before"] or rates["rate_after"] > 1.5 * max(rates["rate_before"], 1e-30)
    )
    if jump > max(sure, limits["restart_jump"] * low):
        return warning("lost_with_schedule" if anew else "lost", *evidence, **numbers, **rates)
    return info("restarted", *evidence, **numbers)


def _said(subject: LogSubject) -> list[float]:
    """Steps at which the program itself says that it goes on from a checkpoint."""
    log = subject.log
    at = [m.row for m in log.messages if m.id in ("resumed", "optimizer_not_restored")]
    return [float(log.step[row]) for row in at if 0 < row < len(log.step)]


def _stride(trend: Trend) -> float:
    return float(np.median(np.diff(trend.steps))) if len(trend) > 1 else 1.0


def _apart(steps: list[float], trend: Trend) -> list[float]:
    """Steps in order, without those within ten logs of the one before."""
    kept: list[float] = []
    near = _stride(trend) * AROUND
    for step in sorted(steps):
        if not kept or step - kept[-1] > near:
            kept.append(step)
    return kept[:5]


def _warm_ups(rate: Trend, limits: Thresholds) -> list[float]:
    """Steps at which the learning rate fell out of the middle of its decay at once and rose again above where it had
    been: a schedule begun anew. One with restarts begins anew from near 0."""
    values = rate.values
    if len(values) < 8:
        return []
    peak = np.maximum.accumulate(values)
    at = np.arange(2, len(values) - 4)  # a few rates have to follow: a pasted log may repeat a line or two
    before = values[1:-5]
    fell = (values[2:-4] < 0.8 * before) & (before >= limits["rate_anew"] * peak[1:-5]) & (before < 0.97 * peak[1:-5])
    at = at[fell & (values[3:-3] > values[2:-4])]
    if len(at) > 50 * MOST:
        return []
    soon = np.max([values[np.minimum(at + k, len(values) - 1)] for k in range(1, AROUND + 1)], axis=0)
    at = at[soon >= 1.2 * values[at - 1]]
    found = rate.steps[at]
    return [float(step) for step in found] if len(found) <= MOST else []  # up and down by itself: no restart
