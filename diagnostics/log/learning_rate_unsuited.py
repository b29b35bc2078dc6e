"""LOG009: a learning rate that is zero, never gets through its warm-up, or is another than configured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def learning_rate_unsuited(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The learning rate as it was logged: all zero, zero long before the end, still warming up at the end, above what
        was configured, or of a size at which nothing is trained or nothing survives.
    Why it matters:
        The optimizer's schedule often differs from the configuration: DeepSpeed's own scheduler, a wrong number of
        steps, a resume without its state. The loss curve alone doesn't show why.
    How it is measured:
        Every logged rate, beside `learning_rate` and the number of steps where the log states them.
    Known false alarms:
        The first step of a warm-up and the last step of a decay have rate 0. Prefix and prompt tuning take rates a
        hundred times as large as LoRA. Some programs print the rate with so few digits that it reads 0: a falling loss
        shows that.
    Fix:
        Set learning_rate, warmup_ratio and the number of steps to what was meant; in a DeepSpeed file use "auto" or no
        scheduler at all.
    References:
        https://www.deepspeed.ai/docs/config-json/#scheduler-parameters
        https://github.com/deepspeedai/DeepSpeed/issues/1787
    """
    rate = subject.needed("learning_rate")
    values, steps = rate.values, rate.steps
    peak = float(values.max())
    at_peak = float(steps[int(np.argmax(values))])
    configured = subject.log.setting("learning_rate")
    loss = subject.trend("loss")
    falls = loss is not None and len(loss) >= 3 and loss.last < 0.95 * loss.first
    numbers = {
        "curve": "learning_rate", "peak": peak, "last": float(values[-1]), "from_step": float(steps[0]),
        "to_step": float(steps[-1]), "step": f"{at_peak:g}", "configured": configured or 0.0, "points": len(values),
    }  # fmt: skip
    evidence = [("highest learning rate", peak), ("last learning rate", float(values[-1]))]
    if peak <= 0:
        if len(values) < 2:
            raise NotMeasured("too_few_points", curve="learning_rate", n=len(values), least=2)
        yield info("printed_as_zero", *evidence, **numbers) if falls else error("always_zero", *evidence, **numbers)
        return
    said = False
    if configured and configured > 0 and subject.kind not in ONLINE:
        times = peak / configured
        if times > limits["rate_above"]:
            yield warning(
                "above_configured", *evidence, ("learning_rate configured", configured), times=times, **numbers
            )
            said = True
    tail = len(values) - 1 - int(np.flatnonzero(values > 0)[-1])
    if tail >= max(3, limits["rate_zero_tail"] * len(values)) and _coarse(values, limits):
        yield info("printed_coarsely", *evidence, **numbers)
        said = True
    elif tail >= max(3, limits["rate_zero_tail"] * len(values)):
        numbers["from_step"] = float(steps[len(values) - tail])
        numbers["step"] = f"{numbers['from_step']:g}"
        yield warning("zero_before_the_end", *evidence, percent=100 * tail / len(values), **numbers)
        said = True
    elif _still_warming_up(subject, values, limits):
        yield warning("still_warming_up", *evidence, **numbers)
        said = True
    planned = subject.log.max_steps
    begins = planned is not None and subject.log.last_step < limits["run_share_early"] * planned and peak == values[-1]
    if len(values) < 3:
        pass  # a last rate alone says nothing of the highest
    elif subject.kind in ("sft", "unknown") and peak <= limits["rate_tiny"] and not falls and not begins:
        yield warning("tiny", *evidence, **numbers)
        said = True
    elif subject.kind == "sft" and peak >= limits["rate_huge"] and not falls:
        yield warning("huge", *evidence, **numbers)
        said = True
    elif subject.kind == "sft" and limits["rate_huge"] <= peak < 1 and loss and loss.last >= limits["loss_no_language"]:
        yield warning("huge_and_high", *evidence, ended=loss.end, **numbers)
        said = True
    if not said:
        yield ok("ok", **numbers)


def _coarse(values: np.ndarray, limits: Thresholds) -> bool:
    """Whether the rates are whole multiples of one last decimal digit, and few of them: 0.00000004, 0.00000003, ..."""
    digit = 10.0 ** np.floor(np.log10(float(values[values > 0].min())))
    multiples = values / digit
    return bool(
        values.max() / digit <= limits["rate_digits"] and np.allclose(multiples, np.round(multiples), atol=1e-6)
    )


def _still_warming_up(subject: LogSubject, values: np.ndarray, limits: Thresholds) -> bool:
    """The rate rose from step to step until the log ended, though the run had come near its end or plans no steps."""
    if len(values) < limits["warm_up_points"] or values[0] >= values[-1] * 0.5 or np.any(np.diff(values) < 0):
        return False
    if values[-1] <= np.median(values) * 1.2:  # it levelled off: a constant rate after its warm-up
        return False
    tail = values[-max(4, len(values) // 5) :]
    if np.any(np.diff(tail) <= 0):  # it has arrived
        return False
    planned = subject.log.max_steps
    return planned is None or subject.log.last_step >= limits["run_share_early"] * planned
