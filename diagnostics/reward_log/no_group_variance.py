"""RWD003: groups whose completions all get the same reward, so that nothing can be learned from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import ONLINE, LogSubject
from diagnostics.preference_log.preference_run import begins
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def no_group_variance(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many groups of completions get one and the same reward each.
    Why it matters:
        GRPO learns from the differences within a group. Without any the advantages, and with them the gradient, are 0.
    How it is measured:
        reward_std, and the share of groups without spread (frac_reward_zero_std). 0 spread in every row, even in a
        single one whose groups are all alike: no signal. A share above 0.8 over the last half: hardly any. Where spread
        isn't logged: one and the same reward and a gradient norm of exactly 0 in every row. A gradient norm and a KL of
        exactly 0 although rewards do differ: no gradient reaches the policy.
    Known false alarms:
        A loss of 0 alone says nothing: it starts there and stays near it while the gradient norm is above 0. Where the
        task is solved every completion gets the full reward, and the spread ends because of that.
    Fix:
        Check the reward function by hand on a few completions; harder or easier prompts, a higher temperature, more
        num_generations, a reward that gives partial credit.
    References:
        https://github.com/huggingface/trl/issues/3857
        https://github.com/huggingface/open-r1/issues/239
        https://huggingface.co/docs/trl/grpo_trainer
    """
    subject.only(*ONLINE)
    spread, alike = subject.trend("reward_std"), subject.trend("frac_reward_zero_std")
    reward, norm = subject.trend("reward"), subject.trend("grad_norm")
    judged = alike if alike is not None else spread
    still = _no_gradient(subject, limits)
    if still is not None:
        yield still
        return
    if judged is None:
        raise NotMeasured("no_curve", curve="reward_std")
    none = np.isclose(judged.values, 1.0) if judged is alike else judged.values == 0
    numbers: dict[str, Any] = {
        "curve": judged.name,
        "from_step": float(judged.steps[np.argmax(none)] if none.any() else judged.steps[0]),
        "to_step": float(judged.steps[-1]),
        "rows": len(judged),
        "percent": 100 * float(none.mean()),
    }
    if reward is not None:
        numbers["reward"] = reward.last
    numbers["step"] = f"{numbers['from_step']:g}"
    evidence = [(f"{judged.name} at the end", float(judged.values[-1]))]
    if spread is not None and judged is alike:
        evidence.append(("reward_std at the end", float(spread.values[-1])))
    if norm is not None:
        evidence.append(("grad_norm at the end", float(norm.values[-1])))
    sure = len(judged) >= 3 or (judged is alike and (spread is None or not spread.values.any()))
    if none.all():
        if not sure:
            raise NotMeasured("too_few_points", curve=judged.name, n=len(judged), least=3)
        if reward is not None and reward.last > 0 and np.ptp(reward.values) and not begins(subject, judged):
            yield info("none_here", *evidence, **numbers)
            return
        yield error("never_any" if reward is not None else "never_any_spread", *evidence, **numbers)
        return
    half = judged.values[len(judged) // 2 :]
    share = float(half.mean()) if judged is alike else float((half == 0).mean())
    numbers["share"] = 100 * share
    if len(judged) >= limits["group_points"] and share > limits["group_alike"]:
        if reward is not None and _solved(reward, judged is alike, judged):
            yield info("solved", *evidence, **numbers)
        elif _had_spread(judged, judged is alike) and reward is not None and _fell(reward):
            yield warning("spread_lost", *evidence, best=reward.highest.level, **numbers)
        else:
            yield warning("hardly_any", *evidence, **numbers)
        return
    yield ok("ok", *evidence, **numbers)


def _no_gradient(subject: LogSubject, limits: Thresholds) -> Observation | None:
    """A gradient norm of exactly 0 in every row: because every row has one and the same reward, or although rewards
    differ within groups and KL is exactly 0 too, so that the policy is still its reference."""
    norm, reward, kl = subject.trend("grad_norm"), subject.trend("reward"), subject.trend("kl")
    spread, alike = subject.trend("reward_std"), subject.trend("frac_reward_zero_std")
    if norm is None or reward is None or len(norm) < 3 or norm.values.any() or norm.not_finite:
        return None
    if kl is not None and kl.values.any():
        return None
    numbers: dict[str, Any] = {
        "curve": "grad_norm",
        "from_step": float(norm.steps[0]),
        "to_step": float(norm.steps[-1]),
        "step": f"{norm.steps[0]:g}",
        "rows": len(norm),
        "reward": reward.last,
    }
    evidence: list[tuple[str, Any]] = [("grad_norm in every row", 0.0), ("reward at the end", reward.last)]
    if spread is None and alike is None:
        if len(reward) >= limits["group_points"] and not np.ptp(reward.values) and not reward.not_finite:
            return error("reward_constant", *evidence, **numbers)
        return None
    if spread is None or not spread.values.all() or (alike is not None and alike.values.min() > 0.99):
        return None
    if alike is not None:
        evidence.append(("groups without spread", float(alike.values.mean())))
    return error("no_gradient", *evidence, ("reward_std", spread.last), spread=spread.last, **numbers)


def _fell(reward: Trend) -> bool:
    """Whether the reward ended below its best level by more than noise."""
    best = reward.highest
    return best.level - reward.last > 3 * (reward.error_of_level + best.error)


def _solved(reward: Trend, shares: bool, judged: Trend) -> bool:
    """The spread was there and ended while the reward came to its highest and stayed."""
    had = _had_spread(judged, shares)
    rose = reward.last - reward.first > max(4 * reward.error_of_level, 0.1 * float(np.ptp(reward.values)))
    levels = [s.level for s in reward.stretches]
    return had and rose and reward.last >= max(levels) - 0.1 * (max(levels) - min(levels)) - 2 * reward.error_of_level


def _had_spread(judged: Trend, shares: bool) -> bool:
    """Whether rewards differed within groups when the run began."""
    early = judged.values[: max(3, len(judged) // 5)]
    return bool(early.min() < 0.7 if shares else early.max() > 0)
