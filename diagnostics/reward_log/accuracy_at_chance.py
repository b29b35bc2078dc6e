"""RWD002: a reward model that orders pairs no better than a coin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.log_subject import LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok, warning
from diagnostics.thresholds import Thresholds


def accuracy_at_chance(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the accuracy of a reward model is still about one half when the run ends.
    Why it matters:
        Scores at chance teach a policy nothing.
    How it is measured:
        The last evaluations, or the last third of training accuracies where there are none, with the standard error
        that their own noise gives. Below 0.56 with the doubt counted, after ten rows or one evaluation that isn't the
        first.
    Known false alarms:
        Pairs labelled by disagreeing people have a ceiling of 0.65 to 0.75; that is not chance. An evaluation before
        training is at chance by design and is not judged.
    Fix:
        Start from the SFT model instead of the raw base, train longer or with a higher learning rate, raise max_length
        so that both answers are seen whole, and check that chosen and rejected are not swapped.
    References:
        https://github.com/CarperAI/trlx/issues/338
        https://github.com/hpcaitech/ColossalAI/issues/3534
    """
    subject.only("reward_model")
    held_out = subject.trend("eval_accuracy", "eval_rewards/accuracies")
    logged = subject.trend("accuracy", "rewards/accuracies")
    least = int(limits["reward_chance_points"])
    if held_out is not None and len(held_out) >= 2:
        judged, points = held_out, held_out.values[-max(1, len(held_out) // 3) :]
        doubt = max(held_out.noise, 0.02) / np.sqrt(len(points))
    elif logged is not None and len(logged) >= least:
        judged, points = logged, logged.values[-(len(logged) // 3) :]
        doubt = float(np.std(points)) / np.sqrt(len(points))
    elif logged is None and held_out is None:
        raise NotMeasured("no_curve", curve="accuracy")
    else:
        found = logged if logged is not None else held_out
        raise NotMeasured("too_few_points", curve="accuracy", n=len(found) if found else 0, least=least)
    level = float(points.mean())
    numbers: dict[str, Any] = {
        "curve": judged.name,
        "from_step": float(judged.steps[-len(points)]),
        "to_step": float(judged.steps[-1]),
        "step": f"{judged.steps[-len(points)]:g}",
        "accuracy": level,
        "points": len(points),
    }
    evidence = [(f"{judged.name} at the end", level)]
    trained = (
        float(logged.values[-max(5, len(logged) // 5) :].mean()) if logged is not None and len(logged) > 4 else None
    )
    if level + doubt < limits["reward_chance"]:
        if judged is held_out and trained is not None and trained > level + limits["reward_accuracy_gap"]:
            yield warning(
                "held_out_at_chance", *evidence, ("accuracy in training", trained), trained=trained, **numbers
            )
        elif level + 2 * doubt < 0.45:
            yield warning("below_chance", *evidence, **numbers)
        else:
            yield warning("at_chance", *evidence, **numbers)
        return
    yield ok("ok", *evidence, **numbers)
