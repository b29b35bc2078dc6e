"""LOG005: a training loss that stays where it began, or where a random guess would be."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def loss_not_falling(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the training loss fell at all, and whether it left the level of random guessing.
    Why it matters:
        A flat loss means that no step changed anything, or that there is nothing in the rows left to learn.
    How it is measured:
        The level of the first tenth and of the last one, against the curve's noise. ln(vocabulary) is the loss of
        guessing, where the vocabulary is known.
    Known false alarms:
        Training that goes on with rows the model has seen, or with a strong base model on text like its own, falls by
        one or two per cent only: that is said, not called wrong, unless the learning rate explains it.
    Fix:
        Look at the learning rate and at which parameters are trained (`model.print_trainable_parameters()`), and
        decode a batch: are the labels the answers?
    References:
        https://karpathy.github.io/2019/04/25/recipe/
    """
    subject.except_for(*PREFERENCE, *ONLINE)
    trend = subject.needed("loss", points=int(limits["trend_points"]))
    start, last = max(trend.first, trend.level(0.0, 0.1)), trend.last
    fall = start - last
    sure = 2 * (2**0.5) * trend.error_of_level
    guessing = subject.guessing
    numbers = {
        "curve": "loss", "first": trend.begin, "last": trend.end, "fall": fall, "points": len(trend),
        "from_step": float(trend.steps[0]),
        "to_step": float(trend.steps[-1]), "steps": f"{trend.steps[-1] - trend.steps[0]:g}",
        "guessing": guessing or 0.0,
    }  # fmt: skip
    evidence = [
        ("loss: median of the first tenth", round(start, 4)),
        ("loss: median of the last tenth", round(last, 4)),
    ]
    rate = subject.trend("learning_rate")
    planned = subject.log.max_steps
    begins = planned is not None and subject.log.last_step < limits["run_share_early"] * planned
    tiny = rate is not None and float(rate.values.max()) <= limits["rate_tiny"] and not begins
    if guessing is not None and last >= limits["guessing_share"] * guessing and fall < limits["flat_share"] * start:
        yield error("at_guessing", *evidence, ("ln(vocabulary)", round(guessing, 3)), **numbers)
    elif last == 0 and start == 0:
        raise NotMeasured("not_needed", detail="LOG010")
    elif fall >= max(sure, limits["flat_share"] * start) or last <= limits["flat_low"] or fall >= 0.3:
        yield ok("ok", **numbers)
    elif fall < -sure:
        raise NotMeasured("not_needed", detail="LOG003")  # it rose
    elif tiny:
        yield warning("flat_rate_tiny", *evidence, rate=float(rate.values.max()) if rate else 0.0, **numbers)
    elif trend.steps[-1] - trend.steps[0] >= limits["flat_steps"] and len(trend) >= 2 * limits["trend_points"]:
        yield info("flat", *evidence, **numbers)
    else:
        yield info("flat_but_short", *evidence, **numbers)
