"""LOG014: steps that the fp16 loss scale skipped."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds

OVERFLOWS = ("overflow_step", "overflow_step_fused", "grad_overflow")


def steps_skipped(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many optimizer steps were skipped because a gradient overflowed.
    Why it matters:
        Dynamic loss scaling skips some twenty steps while it looks for its scale and a few in a thousand later. When
        most steps are skipped nothing is trained, and the learning rate schedule stands still.
    How it is measured:
        `skipped` of DeepSpeed's own lines beside the step, else the number of overflow lines beside the steps done.
    Known false alarms:
        Several ranks may each print the line, so lines alone are compared with the steps only where there are far more
        of them than a start explains.
    Fix:
        Train in bf16. Where only fp16 is possible: a lower initial_scale_power, a smaller learning rate, and weights of
        a model that was not trained in bf16 (T5, Gemma).
    References:
        https://www.deepspeed.ai/docs/config-json/#fp16-training-options
    """
    log = subject.log
    seen = {m.id: m for m in log.messages if m.id in OVERFLOWS}
    lines = max((m.count for m in seen.values()), default=0)
    at_minimum = next((m for m in log.messages if m.id == "min_loss_scale"), None)
    skipped = subject.trend("skipped_steps")
    if skipped is None and not seen and at_minimum is None:
        raise NotMeasured("no_overflow_lines")
    steps = max(log.last_step, float(skipped.steps[-1]) if skipped is not None else 0.0)
    count = float(skipped.values.max()) if skipped is not None else float(lines)
    share = count / steps if steps > 0 else 0.0
    first = min((m.line for m in seen.values()), default=0)
    numbers = {"skipped": f"{count:g}", "steps": f"{steps:g}", "percent": 100 * share, "line": first, "lines": lines,
               "curve": "loss", "from_step": float(log.step[0]) if len(log.step) else 0.0}  # fmt: skip
    evidence = [("steps skipped", count), ("steps", steps)]
    if at_minimum is not None:
        yield error("scale_at_minimum", (f"line {at_minimum.line}", at_minimum.text), **numbers)
    elif steps > 0 and count >= limits["skipped_least"] and share >= limits["skipped_share"]:
        outcome = "nearly_all" if share >= limits["skipped_lost"] else "many"
        yield (
            error(outcome, *evidence, **numbers) if outcome == "nearly_all" else warning(outcome, *evidence, **numbers)
        )
    elif steps > 0:
        yield ok("ok", **numbers) if count == 0 else info("few", *evidence, **numbers)
    else:
        yield info("steps_unknown", *evidence, **numbers)
