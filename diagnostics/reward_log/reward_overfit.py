"""RWD001: a reward model that knows its own pairs and not held-out ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def reward_overfit(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        A reward model's accuracy and loss in training against those on held-out pairs.
    Why it matters:
        A reward model that learned its pairs by heart scores new answers by chance, and what is trained against it
        follows that chance.
    How it is measured:
        Level of the last rows: accuracy in training at least 20 points above that of evaluations, or an evaluation loss
        that rose by a fifth of ln 2 above its lowest while the training loss fell on.
    Known false alarms:
        Preference data hold 25 to 35% noise, so a held-out accuracy of 0.65 to 0.75 is usual and no fault by itself.
        Accuracies of single batches are noisy; only levels are compared.
    Fix:
        One epoch, a lower learning rate, more pairs; take the checkpoint with the lowest evaluation loss.
    References:
        https://arxiv.org/abs/2203.02155
        https://huggingface.co/docs/trl/reward_trainer
    """
    subject.only("reward_model")
    evaluated, held_out = subject.evaluation, subject.trend("eval_accuracy", "eval_rewards/accuracies")
    loss, accuracy = subject.trend("loss"), subject.trend("accuracy", "rewards/accuracies")
    if evaluated is None and held_out is None:
        if accuracy is not None and len(accuracy) >= 5 and accuracy.level(0.8, 1) >= 0.99:
            yield info(
                "known_without_evaluation",
                ("accuracy at the end", accuracy.level(0.8, 1)),
                accuracy=accuracy.level(0.8, 1),
            )
            return
        raise NotMeasured("no_curve", curve="eval_loss")
    trained, doubt = None, 0.0
    if accuracy is not None and len(accuracy) >= 3:
        end = accuracy.values[-max(5, len(accuracy) // 5) :]
        trained = float(end.mean())  # accuracies of small batches are 0, 0.5 or 1, and their median says little
        doubt = 2 * float(np.std(accuracy.values[len(accuracy) // 2 :])) / math.sqrt(len(end))
        if doubt == 0 and len(end) < 20:  # a few rows of single pairs happen to be all right
            doubt = 2 * math.sqrt(0.25 / len(end)) if np.isin(accuracy.values, (0.0, 1.0)).all() else 0.0
    tested = float(held_out.values[-2:].mean()) if held_out is not None else None
    evidence: list[tuple[str, Any]] = []
    numbers: dict[str, Any] = {}
    if trained is not None:
        evidence.append(("accuracy at the end", trained))
        numbers["trained"] = trained
    if tested is not None:
        evidence.append(("eval_accuracy at the end", tested))
        numbers["tested"] = tested
    rose = False
    if evaluated is not None and len(evaluated) >= 2:
        at = int(evaluated.values.argmin())
        lowest, last = float(evaluated.values[at]), float(evaluated.values[-1])
        rose = last - lowest > max(limits["reward_eval_rise"], 3 * evaluated.noise) and at < len(evaluated) - 1
        falls = loss is None or len(loss) < 3 or loss.last < min(loss.first, last - 0.05)
        rose = rose and falls
        step = float(evaluated.steps[at])
        numbers |= {
            "curve": evaluated.name,
            "from_step": step,
            "step": f"{step:g}",
            "lowest": lowest,
            "last": last,
            "loss": loss.last if loss is not None else float("nan"),
        }
        evidence += [(f"{evaluated.name} at step {step:g}", lowest), (f"{evaluated.name} at the end", last)]
    if trained is not None and tested is not None and trained - doubt - tested > limits["reward_accuracy_gap"]:
        numbers.setdefault("curve", held_out.name if held_out is not None else "eval_accuracy")
        yield warning("gap", *evidence, **numbers)
    elif rose:
        yield warning("evaluation_rose", *evidence, **numbers)
    elif evidence:
        yield ok("ok", *evidence, values=", ".join(f"{name} {value:.3g}" for name, value in evidence))
    else:
        raise NotMeasured("too_few_points", curve="eval_loss", n=len(evaluated) if evaluated else 0, least=2)
