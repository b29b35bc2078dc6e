"""DPO004: pairs told apart from the first steps on, or rewards driven far beyond what the objective asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import PreferenceRun, mean_at_end, needed_loss, preference_run
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def separated_at_once(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the loss goes to 0 and the accuracy to 1 within the first steps, margins end far beyond those at which
        a pair still gives gradient, or a small set is learned by heart over dozens of passes.
    Why it matters:
        Nothing is left to learn from such pairs but a surface feature that tells them apart (length, a marker,
        another model's style), and the policy is driven ever farther along it.
    How it is measured:
        Loss below 2% of its start with a margin above 8, where the pair's gradient is below 0.04% of what it was:
        reached within 50 steps or a tenth of the run it is `at once`. Margins above 15 at the end. More than half of
        the rows at such a loss. Evaluations alike to the last digit beside such a loss. More than 10 epochs at a fifth
        of the loss at the start.
    Known false alarms:
        An accuracy of 1 alone is no fault: Zephyr reached it in its second epoch and was best there. Label smoothing
        keeps the loss above 0 by design.
    Fix:
        Look for what tells the sides apart (`python -m diagnostics pairs FILE`), take rejected answers of the SFT model
        itself, fewer epochs, a lower learning rate or an earlier checkpoint.
    References:
        https://arxiv.org/abs/2310.16944
        https://github.com/huggingface/alignment-handbook/issues/45
        https://arxiv.org/abs/2406.02900
    """
    run = preference_run(subject)
    stands = _stands_still(subject, run, limits)
    if stands is not None:
        yield stands
        return
    loss = needed_loss(subject, 3)
    margins = subject.trend("rewards/margins", "eval_rewards/margins")
    accuracies = subject.trend("rewards/accuracies", "accuracy", "eval_rewards/accuracies")
    if run.objective not in ("sigmoid", "kto") or run.start is None:
        if run.objective == "without_reference":
            raise NotMeasured("no_reference_model")
        raise NotMeasured("start_unknown", objective=run.objective)
    start = run.start
    end = loss.last if len(loss) > 4 else float(loss.values[-1])
    margin = float(margins.values[-3:].max()) if margins is not None else None
    accuracy = mean_at_end(accuracies) if accuracies is not None and len(accuracies) > 4 else None
    gone = loss.values < limits["dpo_loss_gone_late"] * start
    step = float(loss.steps[np.argmax(gone)]) if gone.any() else float(loss.steps[-1])
    norm = subject.trend("grad_norm")
    numbers: dict[str, Any] = {
        "curve": loss.name,
        "from_step": step,
        "step": f"{step:g}",
        "start": start,
        "end": end,
        "percent": 100 * float(gone.mean()),
    }
    evidence: list[tuple[str, Any]] = [(f"{loss.name} at the end", end)]
    if margin is not None:
        evidence.append(("rewards/margins at the end", margin))
        numbers["margin"] = margin
    if norm is not None:
        evidence.append(("grad_norm at the end", float(norm.values[-1])))
    stays = gone.any() and gone[np.argmax(gone) :].mean() > 0.8 and loss.values[-1] < 0.1 * start
    wide = margin is not None and margin > limits["dpo_margin_gone"]
    if stays and (wide or (margins is None and accuracy is not None and accuracy >= 0.98)):
        soon = _soon(subject, loss, step)
        if soon and wide:
            yield error("at_once", *evidence, **numbers)
            return
        if soon:
            yield error("at_once_by_loss", *evidence, **numbers)
            return
        if gone.mean() > 0.5 and margin is not None:
            yield warning("nothing_left", *evidence, **numbers)
            return
    if margin is not None and margins is not None and margin > limits["dpo_margin_far"] and end < 0.1 * start:
        numbers["from_step"] = float(margins.steps[np.argmax(margins.values > limits["dpo_margin_far"])])
        numbers["curve"], numbers["step"] = margins.name, f"{numbers['from_step']:g}"
        yield warning("margins_far", *evidence, **numbers)
        return
    epochs = subject.log.last_epoch
    if epochs is not None and epochs >= limits["dpo_epochs_many"] and end < limits["dpo_loss_by_heart"] * start:
        yield warning("by_heart", *evidence, ("epochs", epochs), epochs=epochs, **numbers)
        return
    if accuracy is not None and accuracy >= 0.99:
        yield info("accuracy_one", *evidence, accuracy=accuracy, **numbers)
        return
    yield ok("ok", *evidence, **numbers)


def _stands_still(subject: LogSubject, run: PreferenceRun, limits: Thresholds) -> Observation | None:
    """Evaluations alike to the last digit, far from where an untouched policy has them, at a loss of training that is
    gone: nothing moves any more."""
    rewards, loss = subject.trend("eval_rewards/chosen"), subject.trend("loss")
    if rewards is None or loss is None or run.start is None or len(rewards) < 3:
        return None
    alike = not np.ptp(rewards.values) and abs(float(rewards.values[0])) > 1
    if not alike or loss.values.max() > limits["dpo_loss_gone_late"] * run.start:
        return None
    return warning(
        "stands_still",
        ("eval_rewards/chosen in every evaluation", float(rewards.values[0])),
        (f"{loss.name} at the end", float(loss.values[-1])),
        curve=rewards.name,
        from_step=float(rewards.steps[0]),
        to_step=float(rewards.steps[-1]),
        step=f"{rewards.steps[0]:g}",
        rows=len(rewards),
        reward=float(rewards.values[0]),
        end=float(loss.values[-1]),
    )


def _soon(subject: LogSubject, loss: Trend, step: float) -> bool:
    """Within 50 steps or a tenth of the run; where steps aren't known, within a tenth of the rows."""
    if subject.log.steps_known:
        length = subject.log.max_steps or float(loss.steps[-1])
        return step <= max(50.0, 0.1 * length)
    return step <= max(3.0, 0.1 * len(loss))
