"""LOG010: a loss of exactly nothing: no token is supervised."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def labels_masked(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the training loss is exactly 0 from the beginning (no label is left: all are -100), or fell to exactly 0
        from one log to the next.
    Why it matters:
        A loss of 0 looks like success and is none: nothing is learned, or the forward pass broke down.
    How it is measured:
        Losses of exactly 0 in a row beside the gradient norm. 0 with a norm of 0 from the start: nothing supervised. 0
        with a norm that is NaN is LOG002. A fall from above `zero_from` to exactly 0 in one log is no learning.
    Known false alarms:
        Losses printed with few digits reach 0.0000 when rows are known by heart: then they fell there gradually. Reward
        and reinforcement training log a loss of 0 with good reason.
    Fix:
        Decode one batch and look at labels that are not -100. With train_on_responses_only or completion-only loss the
        response marker has to be the tokens that stand in the text; raise max_length if answers are cut away.
    References:
        https://github.com/huggingface/trl/issues/1820
        https://github.com/unslothai/unsloth/issues/1290
    """
    subject.except_for(*PREFERENCE, *ONLINE)
    if (found := _nan_without_gradient(subject)) is not None:
        yield found
        return
    trend = subject.needed("loss", points=2)
    values = trend.values
    norm = subject.trend("grad_norm")
    zero = values == 0
    if norm is None and "grad_norm" in subject.log.curves:
        raise NotMeasured("not_needed", detail="LOG002")  # the norm is NaN at every step
    still = norm is None or float(np.max(norm.values)) == 0.0
    numbers = {"curve": "loss", "found": int(zero.sum()), "of": len(values), "from_step": float(trend.steps[0]),
               "to_step": float(trend.steps[-1])}  # fmt: skip
    if not zero.any():
        yield ok("ok", points=len(values))
        return
    begins = int(np.argmax(zero))
    numbers |= {"from_step": float(trend.steps[begins]), "step": f"{trend.steps[begins]:g}"}
    evidence = [
        (f"loss at step {trend.steps[p]:g}", float(values[p]))
        for p in range(max(0, begins - 1), min(len(values), begins + 3))
    ]
    if norm is not None:
        evidence.append(("highest gradient norm", float(np.max(norm.values))))
    if zero.all() and (norm is None or still or trend.not_finite == 0):
        yield error("zero_from_the_start" if still else "zero_with_gradient", *evidence, **numbers)
        return
    tail = zero[begins:].all() and len(values) - begins >= limits["zero_logs"]
    before = float(values[begins - 1]) if begins else 0.0
    if tail and before >= limits["zero_from"]:
        yield error("fell_to_zero", *evidence, before=before, **numbers)
    elif zero.mean() >= limits["zero_share"] and _no_gradient_where(subject, zero) and trend.first >= 0:
        yield warning("rows_without_labels", *evidence, percent=100 * float(zero.mean()), **numbers)
    elif zero.mean() >= limits["zero_share"] and before >= limits["zero_from"]:
        yield warning("often_zero", *evidence, percent=100 * float(zero.mean()), **numbers)
    else:
        yield info("some_zeros", *evidence, **numbers)


def _nan_without_gradient(subject: LogSubject) -> Observation | None:
    """A loss that was never a number beside a gradient of exactly 0: a mean over no token at all."""
    loss, norm = subject.log.get("loss"), subject.trend("grad_norm")
    if loss is None or norm is None or len(loss) < 2 or np.isfinite(loss.values).any() or norm.values.any():
        return None
    step = float(subject.log.steps_of(loss)[0])
    return error(
        "nan_without_gradient", ("loss", "NaN"), ("highest gradient norm", 0.0), curve="loss", from_step=step,
        step=f"{step:g}", of=len(loss),
    )  # fmt: skip


def _no_gradient_where(subject: LogSubject, zero: np.ndarray) -> bool:
    """Whether the gradient norm is exactly 0 at nearly all rows with a loss of 0, and above 0 at others."""
    log = subject.log
    loss, norm = log.curves["loss"], log.curves.get("grad_norm")
    if norm is None or len(zero) != len(loss):
        return False
    _, at_loss, at_norm = np.intersect1d(loss.rows, norm.rows, return_indices=True)
    still, none = norm.values[at_norm] == 0, zero[at_loss]
    return bool(none.any() and still[none].mean() > 0.9 and (~still).any() and still[~none].mean() < 0.5)
