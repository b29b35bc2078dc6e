"""RWD006: a policy that ran away from its reference and lost its reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.preference_log.preference_run import nothing_trained_yet
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def policy_collapsed(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the reward fell back while KL to the reference exploded or the entropy vanished; and whether KL is large
        before anything was trained.
    Why it matters:
        Such a policy writes one answer to everything, or noise. It seldom comes back.
    How it is measured:
        Reward at the end below the best level by more than half of what was gained (or by two spreads of a group),
        beyond its noise; KL above ten times its median and above 0.5, or entropy below a tenth of the start. KL above 5
        in the first row: policy and reference are not the same model. KL below -5: no distance is negative, so what is
        sampled isn't what the policy gives. Without KL and entropy: a reward that climbed and fell below its start by
        more than it had gained.
    Known false alarms:
        Entropy falls in every sound run; alone it is a note. KL spikes of single rows come back and are not judged.
    Fix:
        Go back to the step with the best reward; lower the learning rate, raise beta (the weight of KL), clip ratios.
    References:
        https://github.com/huggingface/open-r1/issues/257
        https://arxiv.org/abs/2505.22617
    """
    subject.only(*ONLINE)
    reward, kl, entropy = subject.trend("reward"), subject.trend("kl"), subject.trend("entropy")
    if kl is not None and kl.values[0] > limits["kl_first"] and _large_from_start(kl, nothing_trained_yet(subject, kl)):
        step = float(kl.steps[0])
        yield error(
            "kl_from_start",
            (f"kl at step {step:g}", float(kl.values[0])),
            curve="kl",
            from_step=step,
            step=f"{step:g}",
            kl=float(kl.values[0]),
        )
        return
    if kl is not None and len(kl) >= 5 and kl.last < -limits["kl_first"] and kl.last < 2 * kl.first:
        below = kl.values < -limits["kl_first"]
        step = float(kl.steps[np.argmax(below)])
        yield warning(
            "kl_negative",
            ("kl at the end", kl.last),
            curve="kl",
            from_step=step,
            step=f"{step:g}",
            kl=kl.last,
        )
        return
    reward = subject.needed("reward", points=int(limits["rl_points"]))
    best, end = reward.highest, reward.last
    numbers: dict[str, Any] = {
        "curve": "reward",
        "from_step": best.last_step,
        "to_step": float(reward.steps[-1]),
        "step": f"{best.last_step:g}",
        "best": best.level,
        "end": end,
    }
    evidence = [(f"reward until step {best.last_step:g}", best.level), ("reward at the end", end)]
    if kl is None and entropy is None:
        yield _by_reward(reward, evidence, numbers)
        return
    gained = best.level - reward.first
    spread = subject.trend("reward_std")
    lost = best.level - end
    doubt = reward.error_of_level + best.error
    unit = spread.level(0, 0.3) if spread is not None else float(np.ptp([s.level for s in reward.stretches]))
    fell = lost > 4 * doubt and (lost > 0.5 * gained > 0 or gained <= 0) and lost > 0.5 * unit
    peak_kl = kl.level(0.9, 1) if kl is not None else None
    ran = (
        kl is not None
        and peak_kl is not None
        and peak_kl > 10 * float(np.median(np.abs(kl.values)))
        and peak_kl > limits["kl_large"]
    )
    early = _level_when_best(kl, best.last_step) if kl is not None else None
    ran = ran or (peak_kl is not None and early is not None and peak_kl > limits["kl_large"] and peak_kl > 10 * early)
    gone = entropy is not None and entropy.first > 0 and entropy.last < limits["entropy_gone"] * entropy.first
    if peak_kl is not None:
        numbers["kl"] = peak_kl
        evidence.append(("kl at the end", peak_kl))
    if entropy is not None:
        numbers |= {"entropy_from": entropy.first, "entropy_to": entropy.last}
        evidence.append(("entropy at the end", entropy.last))
    if kl is not None and _ran_at_once(kl, reward, limits):
        step = float(reward.steps[0])
        numbers |= {"from_step": step, "step": f"{step:g}", "best": float(reward.values[0])}
        yield error("kl_exploded", (f"reward at step {step:g}", numbers["best"]), *evidence[1:], **numbers)
        return
    if fell and ran:
        yield error("kl_exploded", *evidence, **numbers)
    elif fell and gone:
        yield error("entropy_gone", *evidence, **numbers)
    elif fell:
        yield warning("reward_fell_back", *evidence, **numbers)
    elif gone:
        yield info("entropy_low", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)


def _by_reward(reward: Trend, evidence: list[tuple[str, float]], numbers: dict[str, Any]) -> Observation:
    """Without KL and entropy only a reward that climbed and then fell below its start by more than it had gained."""
    best = reward.highest
    doubt = reward.error_of_level + best.error
    gained, below = best.level - reward.first, reward.first - reward.last
    numbers["first"] = reward.first
    if gained > 4 * doubt and below > max(gained, 4 * doubt):
        return warning("reward_collapsed", *evidence, **numbers)
    return ok("ok", *evidence, **numbers)


def _large_from_start(kl: Trend, untouched: bool) -> bool:
    """The first row is beyond what a few steps do: untouched, or not smaller than what follows."""
    return untouched or (len(kl) >= 3 and float(kl.values[0]) >= 0.5 * float(np.median(kl.values[1:4])))


def _ran_at_once(kl: Trend, reward: Trend, limits: Thresholds) -> bool:
    """Within the first rows KL went from nothing to very much, and the reward of the first row never came back."""
    rest = reward.values[max(2, len(reward) // 10) :]
    return bool(
        kl.values[0] < limits["kl_large"]
        and np.median(kl.values[1:]) > limits["kl_first"]
        and kl.values[1:4].max() > limits["kl_first"]
        and reward.values[0] > rest.max()
    )


def _level_when_best(kl: Trend, step: float) -> float | None:
    """Median KL up to the step at which the reward was best."""
    before = kl.values[kl.steps <= step]
    return float(np.median(np.abs(before))) if len(before) >= 3 else None
