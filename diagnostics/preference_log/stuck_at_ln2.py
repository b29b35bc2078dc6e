"""DPO001: a preference loss that stays where an untouched policy has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import (
    REWARDS,
    SIDES,
    PreferenceRun,
    end_level,
    mean_at_end,
    needed_loss,
    peak_rate,
    preference_run,
    warming_up,
)
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def stuck_at_ln2(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the loss leaves the value it has while the policy is still its reference: ln 2 = 0.693 for DPO, 0.5 for
        KTO, 1 for hinge, 1/(4 beta²) for IPO, times the accumulation where losses are summed. Where it doesn't, which
        of the known reasons the other metrics show.
    Why it matters:
        Such a run changes nothing, however long it takes: the model that comes out is the one that went in.
    How it is measured:
        No completion token: log-probabilities of exactly 0. Policy is the reference: rewards of exactly 0 in every row
        after the first. beta 0: configured so, or rewards of 0 while the log-probabilities move. No gradient: a
        gradient norm of exactly 0 while the learning rate is above 0. A learning rate of 0 or far below the usual:
        rewards next to nothing. Where rewards aren't logged: a loss that keeps all its digits in five rows or more,
        with an accuracy of 0. Hardly moved: the loss at the end within 3% of the start and less than one nat between
        chosen and rejected.
    Known false alarms:
        The first row is logged before any update, so its rewards of 0 and its accuracy of 0 (ties) are as they should
        be. A log that ends within the warm-up is told apart. With a small beta the loss stays near ln 2 by definition;
        the margin is divided by beta where that is known.
    Fix:
        Print the trainable parameters; load the reference anew instead of copying the policy's object; check that
        completions survive truncation; beta 0.1 and a learning rate from 5e-7 (full) to 1e-5 (adapter).
    References:
        https://github.com/huggingface/trl/issues/1627
        https://github.com/huggingface/trl/issues/1311
        https://github.com/huggingface/trl/issues/4023
        https://arxiv.org/abs/2305.18290
    """
    run = preference_run(subject)
    empty = _no_completion(subject)
    if empty is not None:
        yield empty
        return
    found = _exactly_still(subject, run, limits) or _no_gradient(subject) or _loss_frozen(subject, run)
    if found is not None:
        yield found
        return
    if run.start is None:
        loss = needed_loss(subject, 5)
        free = run.objective == "without_reference"
        evidence = (f"{loss.name} at the end", end_level(loss))
        yield ok("ok_without_reference" if free else "ok_unknown_start", evidence, loss=evidence[1], start=loss.begin)
        return
    yield _moved(subject, run, limits)


def _no_completion(subject: LogSubject) -> Observation | None:
    """Log-probabilities of exactly 0: not one token of the completions is counted. One row is enough for both sides."""
    for prefix in ("", "eval_"):
        both = [subject.trend(f"{prefix}logps/{side}") for side in SIDES]
        none = [t for t in both if t is not None and not t.values.any() and not t.not_finite]
        if len(none) == 2 or (len(none) == 1 and len(none[0]) >= 3):
            first = none[0]
            return error(
                "no_completion_token" if len(none) == 2 else "no_completion_token_on_one_side",
                *((f"{t.name} in {len(t)} rows", 0.0) for t in none),
                curve=first.name,
                from_step=float(first.steps[0]),
                step=f"{first.steps[0]:g}",
                rows=len(first),
                side=first.name.rpartition("/")[2],
            )
    return None


def _exactly_still(subject: LogSubject, run: PreferenceRun, limits: Thresholds) -> Observation | None:
    """Rewards of exactly 0 in every row after the first, at a learning rate above 0 where that is logged."""
    rewards = [t for t in (subject.trend(name) for name in REWARDS) if t is not None]
    least = int(limits["dpo_still_rows"])
    if not rewards or min(len(t) for t in rewards) <= least or any(t.values[1:].any() for t in rewards):
        return None
    first = rewards[0]
    numbers: dict[str, Any] = {
        "curve": first.name,
        "from_step": float(first.steps[0]),
        "to_step": float(first.steps[-1]),
        "step": f"{first.steps[0]:g}",
        "last": f"{first.steps[-1]:g}",
        "rows": len(first),
    }
    evidence = [(f"{t.name} in {len(t)} rows", 0.0) for t in rewards]
    norm = subject.trend("grad_norm")
    configured = subject.log.setting("beta")
    if configured == 0:
        return error("beta_zero", ("beta", 0.0), *evidence, **numbers)
    if _rate_of_zero(subject):
        return error("learning_rate_zero", ("learning_rate", 0.0), *evidence, **numbers)
    if norm is not None and not norm.values.any():
        return error("no_gradient", ("grad_norm", 0.0), *evidence, **numbers)
    if warming_up(subject) and len(first) < 10:
        return None  # in bf16 the first, tiny updates are rounded away
    moving = _moving_logps(subject)
    if moving is not None:
        return error(
            "rewards_zero_while_moving",
            *evidence,
            (f"{moving.name} from", moving.first),
            ("to", end_level(moving)),
            logps_from=moving.first,
            logps_to=end_level(moving),
            **numbers,
        )
    return error("policy_is_reference", *evidence, **numbers)


def _rate_of_zero(subject: LogSubject) -> bool:
    """Whether the learning rate is logged as 0 throughout and is 0: programs that print few digits show 0 for 1e-8."""
    rate, configured = subject.trend("learning_rate"), subject.log.setting("learning_rate")
    if rate is None or rate.values.any() or rate.not_finite:
        return False
    return configured == 0 or (
        configured is None and any("json" in f or "state" in f or f == "records" for f in subject.log.formats)
    )


def _moving_logps(subject: LogSubject) -> Trend | None:
    """Log-probabilities that move: any difference between evaluations, or a drift far beyond their noise."""
    for side in SIDES:
        evaluated = subject.trend(f"eval_logps/{side}")
        if evaluated is not None and len(evaluated) > 1 and np.ptp(evaluated.values) > 0.01 * abs(evaluated.values[0]):
            return evaluated
        logged = subject.trend(f"logps/{side}")
        if logged is None or len(logged) < 12:
            continue
        early, late = logged.level(0, 0.25), logged.level(0.75, 1)
        error_of_both = 1.8 * logged.noise / np.sqrt(len(logged) / 4)
        if abs(late - early) > max(6 * error_of_both, 0.1 * abs(early)):
            return logged
    return None


def _no_gradient(subject: LogSubject) -> Observation | None:
    """A gradient norm of exactly 0 in every row although the learning rate is above 0, and a loss that stays."""
    norm, loss = subject.trend("grad_norm"), subject.trend("loss")
    if norm is None or loss is None or len(norm) < 3 or norm.values.any() or norm.not_finite:
        return None
    if abs(loss.last - loss.first) > max(0.02 * abs(loss.first), 4 * loss.error_of_level):
        return None
    peak = peak_rate(subject)
    if peak == 0:
        return None
    return error(
        "no_gradient",
        ("grad_norm", 0.0),
        ("loss", loss.last),
        curve="grad_norm",
        from_step=float(norm.steps[0]),
        to_step=float(norm.steps[-1]),
        step=f"{norm.steps[0]:g}",
        last=f"{norm.steps[-1]:g}",
        rows=len(norm),
    )


def _loss_frozen(subject: LogSubject, run: PreferenceRun) -> Observation | None:
    """Where no rewards are logged: a loss that is ln 2 to the last digit in every row, and no pair ordered.

    Pairs differ, so any movement of the policy shows in some row; ties count as wrong, hence an accuracy of 0."""
    if run.start is None or run.objective != "sigmoid" or any(subject.trend(name) is not None for name in REWARDS):
        return None
    losses = [t for t in (subject.trend("loss"), subject.evaluation) if t is not None]
    accuracies = [t for t in (subject.trend(n) for n in ("accuracy", "rewards/accuracies", "eval_accuracy")) if t]
    rows = sum(len(t) for t in losses)
    if rows < 5 or any(np.abs(t.values / run.start - 1).max() > 1e-4 or t.not_finite for t in losses):
        return None
    if any(t.values.any() for t in accuracies) or (warming_up(subject) and rows < 10):
        return None
    first = losses[0]
    evidence = (f"{first.name} in {rows} rows", float(first.values[-1]))
    numbers: dict[str, Any] = {
        "curve": first.name,
        "from_step": float(first.steps[0]),
        "to_step": float(first.steps[-1]),
        "step": f"{first.steps[0]:g}",
        "rows": rows,
        "start": run.start,
    }
    if _rate_of_zero(subject):
        return error("learning_rate_zero_by_loss", ("learning_rate", 0.0), evidence, **numbers)
    return error("loss_frozen", evidence, **numbers)


def _moved(subject: LogSubject, run: PreferenceRun, limits: Thresholds) -> Observation:
    loss = needed_loss(subject, 5)
    start = run.start if run.start is not None else float(loss.values[0])
    points = loss.values[-max(3, len(loss) // 3) :] if len(loss) > 5 else loss.values[-1:]
    end = float(points.mean())
    margins = subject.trend("eval_rewards/margins", "rewards/margins")
    margin = end_level(margins) if margins is not None else None
    rewards = [t for t in (subject.trend(name) for name in REWARDS) if t is not None]
    largest = max((abs(end_level(t)) for t in rewards), default=None)
    numbers: dict[str, Any] = {
        "curve": loss.name,
        "start": start,
        "end": end,
        "times": run.times,
        "step": f"{loss.steps[-1]:g}",
        "from_step": float(loss.steps[0]),
        "to_step": float(loss.steps[-1]),
    }
    evidence: list[tuple[str, Any]] = [("loss at the start of such a run", start), (f"{loss.name} at the end", end)]
    if margin is not None:
        evidence.append((f"{margins.name if margins else ''} at the end", margin))
    near = limits["dpo_hardly_moved"] * start
    unit = 0.05 if run.mean_logps else 1.0  # nats per token, or per answer
    apart = abs(margin) / run.supposed_beta if margin is not None else None
    doubt = 2 * loss.noise / float(np.sqrt(len(points))) if largest is None else 0.0
    planned = subject.log.max_steps
    share = subject.log.last_step / planned if planned and subject.log.steps_known else None
    still = abs(end - start) < max(near, doubt) and (apart is None or apart < unit)
    if not still:
        if share is not None and share < 0.5 and warming_up(subject) and len(loss) >= int(limits["dpo_warmup_rows"]):
            return warning("ends_in_warmup", *evidence, percent=100 * share, planned=f"{planned:g}", **numbers)
        if run.times > 1:
            return ok("ok_multiple", *evidence, **numbers)
        return ok("ok" if run.objective != "other" else "ok_from_first_row", *evidence, **numbers)
    if warming_up(subject) and (share is None or share < 0.5):
        if share is not None and len(loss) >= 30:
            return warning("stopped_in_warmup", *evidence, percent=100 * share, planned=f"{planned:g}", **numbers)
        return info("within_warmup", *evidence, **numbers)
    peak = peak_rate(subject)
    nothing = limits["dpo_nothing_nats"] * run.supposed_beta * unit
    if largest is not None and largest < nothing:
        if peak is not None and peak < limits["dpo_rate_min"]:
            evidence.append(("highest learning_rate", peak))
            return error("learning_rate_too_small", *evidence, peak=peak, largest=largest, **numbers)
        if subject.log.last_step >= 100 or (not subject.log.steps_known and len(loss) >= 30):
            return error("rewards_next_to_nothing", *evidence, largest=largest, **numbers)
    if share is not None and share < 0.5 and len(loss) < 30:
        return info("not_far_yet", *evidence, percent=100 * share, **numbers)
    if doubt > 2 * near:
        return info("within_noise", *evidence, doubt=doubt, **numbers)
    accuracies = subject.trend("eval_rewards/accuracies", "rewards/accuracies", "accuracy")
    if run.beta is None and accuracies is not None and mean_at_end(accuracies) > 0.7 and subject.log.last_step > 100:
        accuracy = mean_at_end(accuracies)
        return info("ordered_with_little_loss", *evidence, accuracy=accuracy, **numbers)
    return warning("hardly_moved", *evidence, **numbers)
