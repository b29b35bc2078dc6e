"""DPO003: margins that grow while the chosen answers themselves become far less likely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import (
    PreferenceRun,
    begins,
    best_logged,
    end_level,
    line_of,
    off_throughout,
    preference_run,
    step_beyond,
)
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def chosen_logps_falling(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How far the log-probability of the chosen answers fell while chosen and rejected were told apart ever better.
    Why it matters:
        The objective only asks for a distance. When both sides fall far, the probability goes to answers in neither
        column: repetition, other languages, nonsense.
    How it is measured:
        Fall in nats from the start, by evaluations where there are some, as they see the same rows each time: the
        chosen reward over beta, or the log-probability itself. The start is where the reward is 0, whenever the log
        begins: log-probabilities and rewards lie on a line whose slope is 1 / beta. It is compared with where it began
        (1.6 times the negative log-probability is far, 1.4 times where it costs three margins, 3 times an error) and
        has to exceed 5 nats an answer, or 0.5 a token where means are logged. Where only rewards are logged: a chosen
        reward that fell by 5 and by three margins.
    Known false alarms:
        A slight fall of both sides is normal and is what the objective does to a policy that was tuned on the chosen
        answers: a published sound run goes from -0.06 to -1.59 with a margin of 1.36.
    Fix:
        Add the SFT loss (rpo_alpha, pref_ftx, loss_type with "sft"), lower the learning rate or raise beta, and leave
        out pairs whose sides resemble each other most. Take an earlier checkpoint.
    References:
        https://arxiv.org/abs/2410.08847
        https://arxiv.org/abs/2402.13228
        https://github.com/eric-mitchell/direct-preference-optimization/issues/32
    """
    run = preference_run(subject)
    rewards = best_logged(subject, "rewards/chosen")
    logps = best_logged(subject, "logps/chosen")
    if rewards is None and logps is None:
        raise NotMeasured("no_curve", curve="logps/chosen")
    with_reference = rewards is not None and run.objective != "without_reference"
    sides = [t for t in (rewards, best_logged(subject, "rewards/rejected")) if t is not None]
    if with_reference and off_throughout(subject, run, sides):
        raise NotMeasured("not_needed", detail="DPO002")  # not a fall of this run
    line = _line(subject, run, rewards) if with_reference else None
    by_rewards = with_reference and (logps is None or bool(run.beta) or line is not None)
    judged = rewards if by_rewards else logps
    if judged is None:
        raise NotMeasured("no_curve", curve="logps/chosen")
    least = 2 if judged.name.startswith("eval_") else int(limits["dpo_fall_points"])
    if len(judged) < least:
        raise NotMeasured("too_few_points", curve=judged.name, n=len(judged), least=least)
    nats = (line[1] if line is not None else 1 / run.supposed_beta) if by_rewards else 1.0
    first = _zero(subject, judged) if by_rewards else _begin(judged)
    fall = (first - end_level(judged)) * nats
    began = None
    if logps is not None and line is not None:
        began = line[0] + first * nats
    elif logps is not None:
        began = _begin(logps) - ((_begin(judged) - first) * nats if by_rewards else 0.0)
    margin = _margin(subject, rewards)
    at_first = 0.0 if by_rewards else 1 / np.sqrt(1 if len(judged) < 12 else max(3, len(judged) // 10))
    noise = judged.noise * nats * (at_first + 1.25 / np.sqrt(max(3, len(judged) // 5)))
    numbers: dict[str, Any] = {
        "curve": judged.name,
        "from_step": step_beyond(judged, first - 0.5 * fall / nats, above=False),
        "to_step": float(judged.steps[-1]),
        "first": first,
        "last": end_level(judged),
        "nats": fall,
        "unit": "per token" if run.mean_logps else "per answer",
    }
    if margin is not None:
        numbers["margin"] = margin
    numbers["step"] = f"{numbers['from_step']:g}"
    evidence = [(f"{judged.name} at first", numbers["first"]), (f"{judged.name} at the end", numbers["last"])]
    grew = margin is None or margin > 0
    if fall <= 2 * noise or not grew or fall <= 0:
        yield ok("ok", *evidence, **numbers)
        return
    if logps is None or began is None or began >= 0:
        # Only rewards: no length to compare with, so the distance gained is the measure.
        dropped = end_level(judged) - first
        far = dropped < -limits["dpo_reward_fall"]
        if far and margin is None:
            yield warning("rewards_fall", *evidence, **numbers)
        elif far and margin is not None and -dropped > 3 * margin:
            yield warning("rewards_fall_together", *evidence, **numbers)
        else:
            yield ok("drifts", *evidence, **numbers)
        return
    share = fall / abs(began)
    dear = by_rewards and margin is not None and first - end_level(judged) > 3 * margin
    least_fall = limits["dpo_fall_token_nats"] if run.mean_logps else limits["dpo_fall_nats"]
    numbers |= {"times": 1 + share, "began": began, "ended": began - fall}
    evidence.append(("chosen log-probability at first", began))
    if fall > least_fall and share > limits["dpo_fall_share_error"]:
        yield error("falls_far" if margin is not None else "falls_far_alone", *evidence, **numbers)
    elif fall > least_fall and (share > limits["dpo_fall_share"] or (dear and share > limits["dpo_fall_share_dear"])):
        yield warning("falls" if margin is not None else "falls_alone", *evidence, **numbers)
    elif share > 0.2 and fall > least_fall:
        yield info("drifts_noticeably", *evidence, **numbers)
    else:
        yield ok("drifts", *evidence, **numbers)


def _line(subject: LogSubject, run: PreferenceRun, rewards: Trend | None) -> tuple[float, float] | None:
    """The line on which rewards and log-probabilities of the chosen answers lie, of the rows that are judged; of those
    of training where there are too few evaluations to see it."""
    if rewards is None:
        return None
    prefix = "eval_" if rewards.name.startswith("eval_") else ""
    return line_of(subject, prefix, run.beta) or line_of(subject, "", run.beta)


def _zero(subject: LogSubject, judged: Trend) -> float:
    """The reward before training: 0, where policy and reference are one. What the first row of the run says where it
    says otherwise; a first evaluation, or a log that begins later, has seen most of a fall already."""
    for trend in (subject.trend(judged.name.removeprefix("eval_")), judged):
        if trend is not None and begins(subject, trend):
            return float(trend.values[0]) if abs(trend.values[0]) > 0.1 else 0.0
    return 0.0


def _margin(subject: LogSubject, rewards: Trend | None) -> float | None:
    """The margin at the end, of the same rows as the rewards."""
    margins = best_logged(subject, "rewards/margins")
    if margins is not None:
        return end_level(margins)
    rejected = best_logged(subject, "rewards/rejected")
    return end_level(rewards) - end_level(rejected) if rewards is not None and rejected is not None else None


def _begin(trend: Trend) -> float:
    """Where it began. Rewards begin at the first row, before anything was trained; log-probabilities are noisy."""
    return float(trend.values[0]) if len(trend) < 12 or "rewards" in trend.name else trend.level(0, 0.1)
