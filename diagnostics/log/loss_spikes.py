"""LOG004: single losses far above those around them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds

WINDOW = 25
LONG = 20_000  # points from which stretches stand for neighbours


def loss_spikes(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Single training losses that stand far out of the curve around them.
    Why it matters:
        Huge spikes are the steps in which a run is thrown back: bad rows, a learning rate at its limit, fp16.
    How it is measured:
        Each loss against the running median of 25, in units of the curve's noise; only what also lies half again above
        the median counts. Spikes of ten times the median are called so; smaller ones are only mentioned.
    Known false alarms:
        With one or two rows a batch single losses are often three times the usual; the noise of the curve itself is
        the measure, so a noisy curve has few spikes.
    Fix:
        Look at the rows of those steps (very long, empty or damaged ones), clip the gradient at 1.0, train in bf16.
    References:
        https://arxiv.org/abs/2204.02311
    """
    subject.except_for(*PREFERENCE, *ONLINE)
    trend = subject.needed("loss", points=WINDOW)
    values = trend.values
    around = running_median(values, WINDOW)
    over = values - around
    limit = np.maximum(limits["spike_noises"] * max(trend.noise, 1e-9), limits["spike_share"] * np.abs(around))
    after_start = np.arange(len(values)) >= max(5, len(values) // 50)  # the fall of the first steps is no spike
    at = np.flatnonzero((over > limit) & after_start)
    if not len(at):
        yield ok("ok", points=len(values))
        return
    highest = int(at[np.argmax(over[at])])
    times = float(values[highest] / around[highest]) if around[highest] > 0 else 0.0
    numbers = {
        "curve": "loss", "found": len(at), "of": len(values), "step": f"{trend.steps[highest]:g}", "times": times,
        "highest": float(values[highest]), "around": float(around[highest]), "from_step": float(trend.steps[highest]),
        "steps": [float(s) for s in trend.steps[at][:20]],
    }  # fmt: skip
    evidence = [(f"loss at step {trend.steps[p]:g}", round(float(values[p]), 4)) for p in at[:5]]
    huge = times >= limits["spike_times"] and values[highest] > trend.first
    # One bad batch that the next step has forgotten is no divergence.
    again = int(np.sum(values[at] >= limits["spike_times"] * np.abs(around[at]))) > 2
    if huge and again:
        yield warning("huge", *evidence, **numbers)
    elif huge:
        yield info("huge_once", *evidence, **numbers)
    else:
        yield info("recovered", *evidence, **numbers)


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """(n,) medians over about `width` neighbours. Of long curves the medians of stretches, with straight lines between
    them: a million points take hundredths of a second."""
    if len(values) > LONG:
        count = len(values) // width
        levels = np.median(values[: count * width].reshape(count, width), axis=1)
        return np.interp(np.arange(len(values)), np.arange(count) * width + width // 2, levels)
    half = width // 2
    padded = np.pad(values, half, mode="reflect") if len(values) > half else np.pad(values, half, mode="edge")
    medians: np.ndarray = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    return medians
