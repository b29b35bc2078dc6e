"""DPO007: a preference run that goes on improving on its own pairs and not on held-out ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import end_level, preference_run
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def preference_evaluation_worse(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Loss and accuracy on held-out pairs against those in training.
    Why it matters:
        What only holds for the training pairs is learned by heart; a checkpoint from before is better.
    How it is measured:
        The last evaluation loss against its lowest, and accuracy in training against that of evaluations. Overfitting
        needs both: a loss that rose and an accuracy that fell, or an accuracy far below that of training at a loss
        above an untouched policy's.
    Known false alarms:
        The evaluation loss often rises while accuracy still grows, as single pairs are wrong with confidence; that
        alone is a note.
    Fix:
        Take the checkpoint with the lowest evaluation loss; one epoch, a lower learning rate, more pairs.
    References:
        https://arxiv.org/abs/2310.16944
    """
    run = preference_run(subject)
    evaluated = subject.evaluation
    if evaluated is None:
        raise NotMeasured("no_curve", curve="eval_loss")
    if len(evaluated) < 2:
        raise NotMeasured("too_few_points", curve=evaluated.name, n=len(evaluated), least=2)
    start = run.start if run.start is not None else float(evaluated.values[0])
    lowest_at = int(evaluated.values.argmin())
    lowest, last = float(evaluated.values[lowest_at]), float(evaluated.values[-1])
    rise = last - lowest
    accuracies = subject.trend("rewards/accuracies", "accuracy")
    held_out = subject.trend("eval_rewards/accuracies", "eval_accuracy")
    fell = float(held_out.values.max() - held_out.values[-1]) if held_out is not None else None
    gap = None
    doubt = 0.0
    if accuracies is not None and held_out is not None and len(accuracies) >= 5:
        own = accuracies.values[-max(5, len(accuracies) // 3) :]
        gap = float(own.mean()) - float(held_out.values[-2:].mean())
        doubt = float(np.std(accuracies.values)) / math.sqrt(len(own))  # rows of one pair are 0 or 1
    step = float(evaluated.steps[lowest_at])
    numbers: dict[str, Any] = {
        "curve": evaluated.name,
        "from_step": step,
        "to_step": float(evaluated.steps[-1]),
        "step": f"{step:g}",
        "lowest": lowest,
        "last": last,
        "rise": rise,
    }
    if held_out is not None:
        numbers["accuracy"] = float(held_out.values[-1])
    if gap is not None:
        numbers["gap"] = 100 * gap
    evidence = [(f"{evaluated.name} at step {step:g}", lowest), (f"{evaluated.name} at the end", last)]
    if held_out is not None:
        evidence.append(("eval_rewards/accuracies at the end", float(held_out.values[-1])))
    rose = rise > limits["dpo_eval_rise"] * start and rise > 3 * evaluated.noise and lowest_at < len(evaluated) - 1
    sure = max(limits["dpo_eval_accuracy_fall"], 2 * held_out.noise if held_out is not None else 0.0)
    worse = fell is not None and fell > sure
    loss = subject.trend("loss")
    trained = end_level(loss) if loss is not None and len(loss) >= 5 else None
    falling = trained is None or trained < last - limits["dpo_eval_rise"] * start
    if rose and falling and (worse or last > 1.1 * start):
        yield warning("rose" if held_out is not None else "rose_by_loss", *evidence, **numbers)
    elif gap is not None and gap - 2 * doubt > limits["dpo_accuracy_gap"] and last > 1.02 * start and falling:
        yield warning("gap", *evidence, **numbers)
    elif rose:
        yield info("rose_while_accuracy_holds" if held_out is not None else "rose_somewhat", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
