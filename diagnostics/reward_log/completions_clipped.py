"""RWD004: completions cut off at the length limit, so that the reward judges half answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def completions_clipped(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The share of completions that reach the length limit without ending.
    Why it matters:
        A cut answer can't be right, so the reward punishes length and not the answer, or punishes nothing at all.
    How it is measured:
        completions/clipped_ratio over the last third; without it the mean length against the limit, where the log says
        which that is. A share that goes from below a tenth to above a half is told too: the policy learns not to end.
    Known false alarms:
        Long reasoning is often cut early in training and recovers; only the end of the log is judged. Less than three
        rows are not judged.
    Fix:
        Raise max_completion_length, check that the model ends its answers (its end token, its chat template), or mask
        truncated completions (mask_truncated_completions).
    References:
        https://huggingface.co/docs/trl/grpo_trainer
        https://arxiv.org/abs/2503.14476
    """
    subject.only(*ONLINE)
    clipped, length = subject.trend("completions/clipped_ratio"), subject.trend("completions/mean_length")
    longest = subject.log.setting("max_completion_length")
    if clipped is not None:
        judged = clipped
    elif length is not None and longest:
        judged = length
    else:
        raise NotMeasured("no_curve", curve="completions/clipped_ratio")
    if len(judged) < 3:
        raise NotMeasured("too_few_points", curve=judged.name, n=len(judged), least=3)
    end, begin = judged.level(0.67, 1), judged.first
    share = (1.0 if end >= 0.97 * longest else 0.0) if judged is length and longest else end
    numbers: dict[str, Any] = {
        "curve": judged.name,
        "from_step": judged.step_at(0.67),
        "to_step": float(judged.steps[-1]),
        "step": f"{judged.step_at(0.67):g}",
        "percent": 100 * share,
        "first": 100 * begin if judged is clipped else begin,
    }
    if length is not None:
        numbers["length"] = length.last
    evidence: list[tuple[str, Any]] = [(f"{judged.name} at the end", end)]
    if share > limits["clipped_most"]:
        if judged is not clipped:
            yield warning("at_the_limit", *evidence, **numbers)
        else:
            yield warning("mostly_cut" if length is not None else "mostly_cut_by_share", *evidence, **numbers)
    elif judged is clipped and cut_ever_more(clipped, limits):
        numbers["percent"] = 100 * clipped.last
        yield warning("cut_ever_more", *evidence, **numbers)
    elif share > limits["clipped_many"]:
        yield info("many_cut", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)


def cut_ever_more(clipped: Trend, limits: Thresholds) -> bool:
    """Whether next to no completion was cut at first and most are at the end."""
    return (
        len(clipped) >= int(limits["rl_points"])
        and clipped.level(0, 0.1) < limits["clipped_few"]
        and clipped.last > limits["clipped_half"]
    )
