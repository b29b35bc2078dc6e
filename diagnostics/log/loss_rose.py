"""LOG003: a training loss that ended well above where it once was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def loss_rose(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the training loss came down and stayed down, or rose again and did not recover.
    Why it matters:
        A run that diverged leaves a model that is worse than one of its own earlier steps, often worse than its base.
    How it is measured:
        Medians over twentieths of the run. The last tenth is compared with the lowest stretch and with the beginning;
        the difference has to exceed the curve's own noise many times over. A smaller rise counts only where the
        evaluation loss rose along with it.
    Known false alarms:
        Data in an order (easy rows first, one source after another) makes the loss step up where the source changes.
        A few points at the very end are not judged. In preference and reinforcement training the loss means something
        else (see DPO and RWD).
    Fix:
        Take the last checkpoint before the rise. Lower the learning rate by a factor of 3 to 10, warm up longer, clip
        the gradient at 1.0.
    References:
        https://arxiv.org/abs/2204.02311
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.max_grad_norm
    """
    subject.except_for(*PREFERENCE, *ONLINE)
    trend = subject.trend("loss")
    if trend is None or len(trend) < limits["trend_points"]:
        trend = subject.evaluation or trend
    if trend is None:
        raise NotMeasured("no_curve", curve="loss")
    if len(trend) < 5:
        raise NotMeasured("too_few_points", curve=trend.name, n=len(trend), least=5)
    low, last, first = trend.lowest, trend.last, trend.first
    few = len(trend) < limits["trend_points"]
    if few and last < limits["rise_few"] * max(low.level, float(trend.values.min())):
        raise NotMeasured("too_few_points", curve=trend.name, n=len(trend), least=limits["trend_points"])
    rise = last - low.level
    sure = limits["rise_noises"] * (low.error**2 + trend.error_of_level**2) ** 0.5
    numbers = {
        "curve": trend.name, "first": trend.begin, "last": trend.end, "lowest": low.level,
        "lowest_step": f"{low.last_step:g}",
        "rise": rise, "percent": 100 * rise / low.level if low.level > 0 else 0.0,
        "from_step": low.last_step, "to_step": float(trend.steps[-1]), "step": f"{low.last_step:g}",
    }  # fmt: skip
    evidence = [(f"{trend.name}: median at step {s.last_step:g}", round(s.level, 4)) for s in trend.stretches[::4]]
    evidence.append((f"{trend.name}: median of the last tenth", round(last, 4)))
    hump = None if few else _hump(trend, limits)
    big = rise >= max(limits["rise_nats"], limits["rise_share"] * low.level)
    # A low loss rises by few nats: there the curve's own noise is the measure.
    big = big or rise >= max(2 * sure, limits["rise_nats_low"], 1.6 * limits["rise_share"] * low.level)
    late = _late_rise(trend, limits)
    broke = _broke_at_once(trend, limits)
    if broke is not None:
        before, rest, step = broke
        numbers |= {"lowest": before, "peak": rest, "from_step": step, "step": f"{step:g}"}
        yield error("broke_at_once", *evidence, **numbers)
    elif late is not None:
        before, top, step = late
        numbers |= {"lowest": before, "last": top, "step": f"{step:g}", "from_step": step}
        yield error("blew_up_at_the_end", *evidence, **numbers)
    elif hump is not None and rise <= max(sure, limits["rise_share"] * low.level):
        before, top, step = hump
        numbers |= {"lowest": before, "peak": top, "step": f"{step:g}", "from_step": step}
        yield warning("rose_and_came_back", *evidence, **numbers)
    elif rise <= sure:
        yield ok("ok", **numbers)
    elif not few and last >= first - sure and rise >= max(limits["rise_nats"], 0.1 * low.level):
        worse = last >= first + limits["rise_nats"] and low.level >= first - sure
        yield error("rose_from_the_start" if worse else "back_where_it_began", *evidence, **numbers)
    elif big:
        yield error("rose", *evidence, **numbers)
    elif rise >= limits["rise_share_small"] * low.level and _evaluation_follows(subject, limits):
        yield warning("rose_slowly", *evidence, **numbers)
    elif rise >= limits["rise_share_small"] * low.level:
        yield info("rose_a_little", *evidence, **numbers)
    else:
        yield ok("ok", **numbers)


def _evaluation_follows(subject: LogSubject, limits: Thresholds) -> bool:
    """The evaluation loss rose too: not the order of the training rows, the model itself."""
    tested = subject.evaluation
    if tested is None or len(tested) < 4:
        return False
    best = float(tested.values.min())
    last = tested.last if len(tested) >= 20 else float(tested.values[-2:].mean())
    noise = tested.noise if len(tested) >= 20 else 0.0
    return last - best >= max(limits["rise_share_small"] * best, 3 * noise)


def _hump(trend: Trend, limits: Thresholds) -> tuple[float, float, float] | None:
    """(lowest level before, highest after it, its step) where the loss stayed far above what it had been before for a
    good part of the run, though it came back in the end. Spikes are too short for that."""
    stretches = trend.stretches
    lowest = stretches[0]
    best: tuple[float, float, float] | None = None
    above = 0
    for stretch in stretches[1:]:
        far = stretch.level - lowest.level
        if far >= max(limits["rise_nats"], limits["hump_share"] * lowest.level) and (
            far >= limits["rise_noises"] * (stretch.error**2 + lowest.error**2) ** 0.5
        ):
            above += stretch.points
            if best is None or stretch.level > best[1]:
                best = lowest.level, stretch.level, stretch.first_step
        if stretch.level < lowest.level:
            lowest = stretch
    return best if best is not None and above >= limits["hump_long"] * len(trend) else None


def _late_rise(trend: Trend, limits: Thresholds) -> tuple[float, float, float] | None:
    """(level before, level of the last few points, step at which they begin) where all of these lie far above the
    tenth before them: the last tenth's median hides a rise that short. A single late point is none."""
    count = max(3, min(9, len(trend) // 30))
    if len(trend) < 10 * count:
        return None
    tail, before = trend.values[-count:], trend.values[-3 * count - max(10, len(trend) // 10) : -3 * count]
    level, top = float(np.median(before)), float(np.median(tail))
    if tail.min() <= before.max() or top - level < max(limits["rise_nats"], limits["rise_share"] * level):
        return None
    begins = int(np.argmax(trend.values[-3 * count :] > before.max())) - 3 * count
    return level, top, float(trend.steps[begins])


def _broke_at_once(trend: Trend, limits: Thresholds) -> tuple[float, float, float] | None:
    """(highest of the first logs, lowest after them, step of the last of these) where the loss never again came near
    what it was in its first logs."""
    values = trend.values
    if len(values) < 10:
        return None
    first = np.maximum.accumulate(values)[: max(3, len(values) // 20)]
    rest = np.minimum.accumulate(values[::-1])[::-1][1 : len(first) + 1]
    broken = (rest >= limits["rise_few"] * first) & (rest - first >= limits["rise_nats"]) & (first > 0)
    if not broken.any():
        return None
    place = int(np.argmax(broken))
    return float(first[place]), float(rest[place]), float(trend.steps[place])
