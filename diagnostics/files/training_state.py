"""CKP014: what the trainer wrote beside the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, warning
from diagnostics.thresholds import Thresholds


def training_state(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What the trainer wrote beside the checkpoint.

    What it checks:
        trainer_state.json: how far the run got, its losses, and whether they stayed finite, fell, and ended below
        the loss of guessing.
    Why it matters:
        It tells an early checkpoint from the end of a run, and a run whose loss became NaN from one that only answers
        badly.
    How it is measured:
        Steps, epochs and the first and last losses of log_history; text such as "NaN" counts as the number it names.
        Stopped too early: fewer than `run_share_early` of the planned steps, and the loss still falling. Guessing
        leaves ln(vocab_size). A rise is one of tenths of the run above the lowest of them; an evaluation that rose is
        judged from three values on, and only where the training loss is far below it. Learned by heart: dozens of
        passes over the data, a training loss near zero, and an evaluation loss far above it.
    Known false alarms:
        The gradient norm of the first fp16 steps is infinite while the loss scale is found; only losses are judged. A
        training loss may be a sum over accumulation steps: above the loss of guessing only the evaluation loss counts,
        or a training loss that did not fall. Losses of preference training have another zero and are left out.
    Fix:
        If a loss is not finite take the checkpoint before that step, lower the learning rate and train in bf16.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer
    """
    state = subject.checkpoint.trainer_state
    if state.value is None:
        raise NotMeasured("no_trainer_state")
    history = state.get("log_history")
    rows = [row for row in history if isinstance(row, dict)] if isinstance(history, list) else []
    step, most, epoch = (number(state.get(key)) for key in ("global_step", "max_steps", "epoch"))
    losses = [(number(row.get("step")), number(row["loss"])) for row in rows if "loss" in row]
    tests = [(number(row.get("step")), number(row["eval_loss"])) for row in rows if "eval_loss" in row]
    bad = [(s, v) for s, v in (*losses, *tests) if v is not None and not math.isfinite(v)]
    if bad:
        at = bad[0][0]
        seen = [("trainer_state.json:log_history", {"step": s, "loss": v}) for s, v in bad[:5]]
        yield error("loss_not_finite", *seen, found=len(bad), of=len(losses) + len(tests), step=_shown(at))
    named = {"global_step": step, "epoch": epoch, "train_loss_first": _value(losses, 0),
             "train_loss_last": _value(losses, -1), "eval_loss_first": _value(tests, 0),
             "eval_loss_last": _value(tests, -1)}  # fmt: skip
    subject.metrics.update({f"trainer.{key}": value for key, value in named.items() if value is not None})
    if not bad and not any("rewards/" in key or key == "reward" for row in rows for key in row):
        yield from _course(subject, [v for _, v in losses if v is not None], [v for _, v in tests if v is not None],
                           step, most, epoch, limits)  # fmt: skip
    params = {"step": _shown(step), "most": _shown(most), "epoch": _shown(epoch)}
    evidence = ("trainer_state.json:global_step", step)
    if tests:
        lowest = min(tests, key=lambda t: t[1] if t[1] is not None and math.isfinite(t[1]) else math.inf)
        yield info("state_with_evaluation", evidence, train=_shown(named["train_loss_last"]), tests=len(tests),
                   first=_shown(named["eval_loss_first"]), last=_shown(named["eval_loss_last"]),
                   lowest=_shown(lowest[1]), lowest_step=_shown(lowest[0]), **params)  # fmt: skip
    elif losses:
        yield info("state", evidence, first=_shown(named["train_loss_first"]), last=_shown(named["train_loss_last"]),
                   **params)  # fmt: skip
    else:
        yield info("state_without_losses", evidence, **params)


def _course(
    subject: CheckpointSubject, losses: list[float], tests: list[float], step: float | None, most: float | None,
    epoch: float | None, limits: Thresholds,
) -> Iterator[Observation]:  # fmt: skip
    """What the losses say of the run's end: worse than guessing, risen, or cut off while still falling."""
    rows = subject.model_files.config.get("vocab_size")
    guessing = math.log(rows) if type(rows) is int and 1 < rows < 2**31 else None
    ends = [values[-1] for values in (tests, losses) if values]
    tenths = _tenths(losses)
    where = "trainer_state.json:log_history"
    if guessing is not None and ends and all(v > limits["loss_above_chance"] * guessing for v in ends) and (
        tests or losses[-1] >= losses[0]
    ):  # fmt: skip
        yield error("loss_above_chance", (where, ends), last=ends[0], guessing=guessing, vocabulary=rows)
        return
    lowest = min(tenths, default=0.0)
    if tenths and tenths[-1] - lowest >= max(limits["loss_rose_nats"], limits["loss_rose_share"] * lowest):
        yield warning("loss_rose", (where, [round(v, 4) for v in tenths]), lowest=lowest, last=tenths[-1])
        return
    # The training loss at the end: the mean of the last tenth, the last value of a short log.
    end = tenths[-1] if tenths else losses[-1] if losses else math.inf
    if len(tests) >= 3:
        best, tested = min(tests), tests[-1]
        rose = tested >= best * (1 + 2 * limits["eval_rose"]) and tested >= best + limits["eval_gap"] / 2
        if rose and tested - end >= limits["eval_gap"]:
            yield warning("evaluation_rose", (where, tests[-5:]), best=best, last=tested, train=losses[-1],
                          rose=100 * (tested / best - 1) if best else 0.0)  # fmt: skip
            return
    if tests and epoch is not None and epoch >= limits["heart_epochs"] and end <= limits["heart_train_loss"] and (
        tests[-1] - end >= limits["eval_gap"]
    ):  # fmt: skip
        yield warning("known_by_heart", ("trainer_state.json:epoch", epoch), epoch=_shown(round(epoch, 1)), train=end,
                      last=tests[-1])  # fmt: skip
        return
    early = step is not None and most is not None and 0 < step < limits["run_share_early"] * most
    fall = max(_last_fall(losses, 4), _last_fall(tests, 1))
    last = (losses or tests or [0.0])[-1]
    if early and fall >= max(limits["run_fall_nats"], limits["log_fall_share"] * last):
        yield warning("stopped_early", ("trainer_state.json:global_step", step), step=_shown(step), most=_shown(most),
                      percent=100 * (step or 0) / (most or 1), fall=fall)  # fmt: skip
    elif early and not tests and (step or 0) < limits["run_share_begun"] * (most or 0):
        # without evaluations nothing can have ended it early for good
        yield warning("hardly_begun", ("trainer_state.json:global_step", step), step=_shown(step), most=_shown(most),
                      percent=100 * (step or 0) / (most or 1))  # fmt: skip


def _tenths(values: list[float]) -> list[float]:
    """Means of ten equal parts; nothing for fewer than 10 values."""
    n = len(values) // 10
    return [sum(values[i * n : (i + 1) * n]) / n for i in range(10)] if n else []


def _last_fall(values: list[float], parts: int) -> float:
    """By how much the last of `parts` equal parts (1: the last value) lies below the one before; 0 for too few."""
    n = len(values) // parts if parts > 1 else 1
    if n < 1 or len(values) < 2 * n:
        return 0.0
    return sum(values[-2 * n : -n]) / n - sum(values[-n:]) / n


def number(value: Any) -> float | None:
    """A number of a log, which may be quoted; None when it is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _value(rows: list[tuple[float | None, float | None]], place: int) -> float | None:
    return rows[place][1] if rows else None


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.7g}"
