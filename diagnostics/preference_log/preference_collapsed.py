"""DPO005: a preference run that got worse than an untouched policy."""

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
    first_reward,
    mean_at_end,
    needed_loss,
    preference_run,
    step_beyond,
)
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def preference_collapsed(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the loss ended far above where an untouched policy has it, or rewards are large while half of the pairs
        or more are ordered wrongly.
    Why it matters:
        Such a policy is worse than the reference by the very measure it was trained on; its text is usually broken.
    How it is measured:
        Mean of the last fifth, by evaluations where there are three: the loss above 1.4 times its start and beyond its
        noise; accuracy below 0.5 with rewards beyond 5. The first step from which it stays above is named.
    Known false alarms:
        A run whose reference differs from the beginning also has a high loss at first; see DPO002. Losses of IPO (5 to
        25) are normal and are held against their own start.
    Fix:
        Lower the learning rate (5e-7 for all weights, 5e-6 to 1e-5 for an adapter), warm up over a tenth of the steps,
        clip gradients at 1, and take a checkpoint from before.
    References:
        https://huggingface.co/tsavage68/v1_1000_STEPS_1e5_rate_05_beta_DPO
        https://github.com/huggingface/trl/issues/1236
    """
    run = preference_run(subject)
    loss = subject.trend("eval_loss")
    few = _few_rows(subject, run, limits)
    if few is not None:
        yield few
        return
    if loss is None or len(loss) < 3:
        loss = needed_loss(subject, int(limits["dpo_collapse_points"]))
    began = run.start if run.start is not None else loss.first
    points = loss.values[-max(3, len(loss) // 5) :]
    end = float(np.mean(points))
    doubt = max(loss.noise, float(np.std(points))) / np.sqrt(len(points))
    accuracies = best_logged(subject, "rewards/accuracies")
    accuracy = float(np.mean(accuracies.values[-max(3, len(accuracies) // 5) :])) if accuracies else None
    paired = [best_logged(subject, name) for name in ("rewards/chosen", "rewards/rejected")]
    signed = max((end_level(t) for t in paired if t is not None), key=abs, default=None)
    reward = abs(signed) if signed is not None else None
    own = subject.trend("loss")
    from_start = all(begins(subject, t) for t in paired if t is not None)
    from_start = from_start or (own is not None and own.values[0] > 1.5 * began)
    first = first_reward(subject) if from_start else None  # a later first row has seen most of a collapse
    limit = limits["dpo_loss_above"] * began
    step = step_beyond(loss, limit, above=True)
    numbers: dict[str, Any] = {
        "curve": loss.name,
        "from_step": step,
        "step": f"{step:g}",
        "began": began,
        "end": end,
    }
    if accuracy is not None:
        numbers["accuracy"] = accuracy
    if signed is not None:
        numbers["reward"] = signed
    evidence = [(f"{loss.name} at the end", end), ("an untouched policy", began)]
    if accuracy is not None:
        evidence.append(("rewards/accuracies at the end", accuracy))
    if signed is not None:
        evidence.append(("largest reward at the end", signed))
    if subject.kind == "kto":
        limit = max(limit, 0.75)  # its terms are bounded by 1, and unequal weights shift the start
    grown = reward is None or first is None or reward > 3 * first
    high = end > limit and end - 3 * doubt > began
    half = loss.values[len(loss) // 2 :]
    wild = reward is not None and reward > limits["dpo_reward_wild"] and int((half > 5 * began).sum()) > 1
    if wild and half.mean() > 2 * began:  # too few rows for a level, and no doubt about rewards like these
        high, end, numbers["end"] = True, float(half.mean()), float(half.mean())
        numbers["from_step"] = float(loss.steps[np.argmax(loss.values > limit)])
        numbers["step"] = f"{numbers['from_step']:g}"
    large = reward is not None and reward > limits["dpo_reward_large"]
    shaken = not high and large and _shaken(loss, began)
    wrong = accuracy is not None and accuracies is not None and _below_half(accuracies, accuracy)
    broken = wrong and end > 3 * began
    if (
        high
        and not broken
        and loss.name != "loss"
        and own is not None
        and len(own) >= 5
        and mean_at_end(own) < 0.8 * began
    ):
        yield info("held_out_only", *evidence, ("loss at the end", mean_at_end(own)), own=mean_at_end(own), **numbers)
        return
    if high and grown and (reward is None or reward > limits["dpo_reward_small"]):
        if accuracy is None or reward is None:
            if wrong or end > 2 * began or (accuracy is None and reward is None):
                yield error("loss_above_start", *evidence, **numbers)
            else:
                yield warning("worse_by_loss", *evidence, **numbers)
        elif wrong or end > 2 * began:
            yield error("collapsed", *evidence, **numbers)
        else:
            yield warning("worse_than_untouched", *evidence, **numbers)
        return
    if shaken and accuracy is not None and reward is not None:
        bad = loss.values > 1.5 * began
        numbers |= {"from_step": float(loss.steps[np.argmax(bad)]), "rows": int(bad.sum()), "all_rows": len(loss)}
        numbers |= {"step": f"{numbers['from_step']:g}", "highest": float(loss.values.max())}
        yield warning("shaken", *evidence, **numbers)
        return
    if wrong and grown and large:
        numbers["curve"] = accuracies.name if accuracies else loss.name
        yield error("ordered_wrongly", *evidence, **numbers)
        return
    yield ok("ok" if run.start is not None and run.objective != "other" else "ok_other", *evidence, **numbers)


def _few_rows(subject: LogSubject, run: PreferenceRun, limits: Thresholds) -> Observation | None:
    """What one or two evaluations, or a handful of rows, can still say: a held-out loss far above its start with more
    than half of the pairs ordered wrongly, or not one loss below the start."""
    tested, held_out = subject.trend("eval_loss"), subject.trend("eval_rewards/accuracies", "rewards/accuracies")
    own = subject.trend("loss")
    if run.start is None or run.objective == "other" or tested is None or held_out is None or len(tested) > 2:
        return None
    last, accuracy = float(tested.values[-1]), float(held_out.values[-1])
    chosen = best_logged(subject, "rewards/chosen")
    if accuracy >= 0.5 or chosen is None:
        return None
    numbers: dict[str, Any] = {
        "curve": tested.name,
        "from_step": float(tested.steps[0]),
        "step": f"{tested.steps[0]:g}",
        "began": run.start,
        "end": last,
        "accuracy": accuracy,
        "reward": float(chosen.values[-1]),
    }
    evidence = [("eval_loss at the end", last), ("an untouched policy", run.start), ("accuracy at the end", accuracy)]
    if last > 3 * run.start and abs(numbers["reward"]) > limits["dpo_reward_large"]:
        return error("collapsed", *evidence, **numbers)
    above = own is not None and len(own) >= 3 and bool((own.values > 1.05 * run.start).all())
    if above and last > 1.1 * run.start:
        return warning("worse_than_untouched", *evidence, **numbers)
    return None


def _shaken(loss: Trend, began: float) -> bool:
    """At least a third of the rows far above the start, beside others near 0: pairs are thrown from one side to the
    other."""
    return bool((loss.values > 1.5 * began).mean() >= 1 / 3 and loss.values.mean() > 1.4 * began)


def _below_half(accuracies: Trend, level: float) -> bool:
    """Below a half, beyond what the noise of single rows gives."""
    count = max(3, len(accuracies) // 5)
    return level < 0.5 and level + accuracies.noise / np.sqrt(count) < 0.55
