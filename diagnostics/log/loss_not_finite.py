"""LOG002: a loss, gradient or log-probability that stopped being a number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds

LOSSES = ("loss", "eval_loss", "sft_loss")
OTHERS = ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected", "reward", "kl", "entropy")


def loss_not_finite(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        NaN and infinity in the losses, in the gradient norm, and in what preference training logs beside them. Also a
        loss of exactly 0 beside a gradient norm that is NaN: the Trainer writes 0 for a NaN that it filters.
    Why it matters:
        From the first NaN that reaches the weights on, every later step trains nothing.
    How it is measured:
        Every logged value. Lost: the loss is never a number again, or most of it isn't. Passing: numbers come back.
    Known false alarms:
        The gradient norm of the first fp16 steps is infinite while the loss scale is found, and single ones later when
        it is tried higher. An evaluation over rows without a supervised token is NaN while training is sound (see
        LOG010).
    Fix:
        Go back to the last checkpoint before the first NaN; train in bf16 instead of fp16, or lower the learning rate.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.logging_nan_inf_filter
        https://github.com/huggingface/transformers/issues/11735
    """
    log = subject.log
    named = [n for n in (*LOSSES, "grad_norm", *OTHERS) if n in log.curves]
    named += [n for n in log.curves if n.startswith("eval_") and n not in named and n.removeprefix("eval_") in OTHERS]
    if not named:
        raise NotMeasured("no_curve", curve="loss")
    loss, norm = log.get("loss", "reward"), log.get("grad_norm")
    hidden = _hidden(subject)
    if hidden is not None:
        yield hidden
        return
    bad = {n: np.flatnonzero(~np.isfinite(log.curves[n].values)) for n in named}
    bad = {n: places for n, places in bad.items() if len(places)}
    if not bad:
        yield ok("ok", points=sum(len(log.curves[n]) for n in named))
        return
    first = min(bad, key=lambda n: log.curves[n].rows[bad[n][0]])
    step = float(log.steps_of(log.curves[first])[bad[first][0]])
    share = {n: len(places) / len(log.curves[n]) for n, places in bad.items()}
    evidence = [
        (f"{n} at step {log.steps_of(log.curves[n])[p[0]]:g}", float(log.curves[n].values[p[0]]))
        for n, p in bad.items()
    ]
    numbers = {
        "curve": first,
        "from_step": step,
        "step": f"{step:g}",
        "found": len(bad[first]),
        "of": len(log.curves[first]),
        "names": list(bad),
    }
    if "loss" in bad and loss is not None:
        ends = not np.isfinite(loss.values[-max(1, len(loss) // 50) :]).any()
        if ends or share["loss"] > limits["not_finite_lost"]:
            outcome = "lost_from_the_start" if bad["loss"][0] == 0 else "lost"
            yield error(outcome, *evidence, percent=100 * share["loss"], **numbers)
            return
        late = bad["loss"][-1] >= 0.98 * len(loss)  # too few rows follow to show that the weights survived it
        if (
            not late
            and len(bad["loss"]) <= 2
            and share["loss"] < limits["not_finite_seldom"]
            and set(bad) <= {"loss", "grad_norm"}
        ):
            yield info("once", *evidence, percent=100 * share["loss"], **numbers)
            return
        yield warning("passing", *evidence, percent=100 * share["loss"], **numbers)
        return
    if share.get("grad_norm", 0.0) > limits["not_finite_lost"]:
        yield error("gradient_lost", *evidence, percent=100 * share["grad_norm"], **numbers)
        return
    if set(bad) == {"grad_norm"} and norm is not None:
        early = bad["grad_norm"][-1] < max(3, limits["loss_scale_steps"] * len(norm))
        outcome = "gradient_early" if early else "gradient_seldom"
        yield info(outcome, *evidence, percent=100 * share["grad_norm"], **numbers)
        return
    if set(bad) <= {"eval_loss", "grad_norm"}:
        all_of_them = share["eval_loss"] == 1
        say = error if all_of_them else warning
        yield say(
            "evaluation_only" if all_of_them else "evaluation_sometimes",
            *evidence,
            percent=100 * share["eval_loss"],
            **numbers,
        )
        return
    worst = max(share.values())
    if worst > limits["not_finite_lost"]:
        yield error("values_lost", *evidence, percent=100 * worst, **numbers)
    else:
        yield warning("values_sometimes", *evidence, percent=100 * worst, **numbers)


def _hidden(subject: LogSubject) -> Observation | None:
    """A loss of exactly 0 with a gradient norm that is no number, in a row."""
    log = subject.log
    loss, norm = log.get("loss"), log.get("grad_norm")
    if loss is None or norm is None or np.isfinite(norm.values).all() or loss.values.all():
        return None
    _, at_loss, at_norm = np.intersect1d(loss.rows, norm.rows, return_indices=True)
    zero = (loss.values[at_loss] == 0) & ~np.isfinite(norm.values[at_norm])
    if zero.sum() < 2 and not (len(zero) == 1 and zero.all()):
        return None
    places = np.flatnonzero(zero)
    steps = log.steps_of(loss)[at_loss][places]
    return error(
        "zero_beside_nan",
        (f"loss at step {steps[0]:g}", 0.0),
        (f"grad_norm at step {steps[0]:g}", float("nan")),
        curve="loss",
        from_step=float(steps[0]),
        step=f"{steps[0]:g}",
        found=len(places),
        of=len(loss),
    )
