"""RWD005: a reward that rises with the length of the completions and with nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.preference_log.preference_run import beside
from diagnostics.report import Observation
from diagnostics.reward_log.completions_clipped import cut_ever_more
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds


def reward_by_length(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether reward and length of the completions rise together, also from one row to the next.
    Why it matters:
        A reward that pays for length is easily satisfied: answers get longer and not better.
    How it is measured:
        Length at the end at least 1.5 times that of the start, and a reward that rose beyond its noise. Then the rows
        are compared with their neighbours: where longer rows are better rows (correlation above 0.6 after the trend is
        taken out) and no evaluation rises along, length is what is paid for; so it is where the rise goes on while more
        than half of the completions come to be cut at the limit.
    Known false alarms:
        Reasoning grows longer as it gets better; that alone is a note.
    Fix:
        Score a few short and long completions by hand; take length out of the reward, penalise it, or normalise the
        loss by it (loss_type "dr_grpo").
    References:
        https://arxiv.org/abs/2310.03716
        https://arxiv.org/abs/2503.20783
    """
    subject.only(*ONLINE)
    reward = subject.needed("reward", points=int(limits["rl_points"]))
    length = subject.needed("completions/mean_length", points=int(limits["rl_points"]))
    early, late = length.level(0, 0.2), length.level(0.8, 1)
    gain, doubt = reward.last - reward.first, reward.error_of_level
    longer = late / early if early > 0 else 1.0
    step = next((s.first_step for s in length.stretches if s.level > 1.25 * early), float(length.steps[0]))
    numbers: dict[str, Any] = {
        "curve": "completions/mean_length",
        "from_step": step,
        "to_step": float(length.steps[-1]),
        "step": f"{step:g}",
        "early": early,
        "late": late,
        "times": longer,
        "reward_from": reward.first,
        "reward_to": reward.last,
    }
    evidence = [("mean length at first", early), ("at the end", late), ("reward at the end", reward.last)]
    if longer < limits["length_grew"] or gain < 4 * doubt:
        yield ok("ok", *evidence, **numbers)
        return
    together = _neighbours(subject)
    better = [t for t in (subject.trend(n) for n in subject.log.curves if n.startswith("eval_")) if t and _rises(t)]
    if together is not None:
        numbers["correlation"] = together
    clipped = subject.trend("completions/clipped_ratio")
    if clipped is not None and cut_ever_more(clipped, limits) and not better:
        numbers |= {"cut_first": 100 * clipped.level(0, 0.1), "cut": 100 * clipped.last}
        yield warning("paid_until_cut", *evidence, ("clipped_ratio at the end", clipped.last), **numbers)
    elif together is not None and together > limits["length_correlation"] and not better:
        yield warning("paid_by_length", *evidence, ("correlation from row to row", together), **numbers)
    else:
        yield info("both_rise", *evidence, **numbers)


def _rises(trend: Trend) -> bool:
    """An evaluation of how good answers are that rose; names of timings and lengths are left out."""
    if len(trend) < 2 or not any(word in trend.name for word in ("reward", "accuracy", "score", "pass")):
        return False
    return bool(trend.values[-1] > trend.values[0])


def _neighbours(subject: LogSubject) -> float | None:
    """Correlation of reward and length after each row's neighbours are taken off, None with fewer than 30 rows."""
    pair = beside(subject, "reward", "completions/mean_length")
    if pair is None or len(pair[0]) < 30:
        return None
    a, b = (np.diff(values, n=2) for values in pair)
    if not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])
