"""LOG013: gradients that are nothing, or grow without end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.log_subject import ONLINE, PREFERENCE, LogSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def gradient_norm(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether a gradient reaches the trained parameters, and whether its norm stays of one order.
    Why it matters:
        A norm of 0 with a loss above 0 means that nothing is trained: frozen parameters, or a graph that was cut. A
        norm that grows a hundredfold announces divergence.
    How it is measured:
        The logged norm, its median over twentieths of the run; the loss beside it.
    Known false alarms:
        The norm is logged before clipping, so large numbers alone are no fault, and in a run that learns well it often
        doubles. Growth counts only where the loss stopped falling.
    Fix:
        Norm 0: `model.print_trainable_parameters()`, `model.enable_input_require_grads()` with gradient checkpointing
        and adapters. Growing: lower the learning rate, clip at 1.0, warm up longer.
    References:
        https://github.com/huggingface/peft/issues/137
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.max_grad_norm
    """
    norm = subject.needed("grad_norm", points=3)
    subject.except_for(*PREFERENCE, *ONLINE)
    loss, rate = subject.trend("loss"), subject.trend("learning_rate")
    zero = norm.values == 0
    numbers = {"curve": "grad_norm", "found": int(zero.sum()), "of": len(zero), "from_step": float(norm.steps[0]),
               "to_step": float(norm.steps[-1]), "highest": float(norm.values.max()),
               "step": f"{norm.steps[int(np.argmax(norm.values))]:g}"}  # fmt: skip
    if zero.all() and loss is not None and float(loss.values.min()) > 0:
        moving = rate is None or float(rate.values.max()) > 0
        yield error("no_gradient" if moving else "no_gradient_no_rate", ("highest gradient norm", 0.0),
                    ("loss", [float(loss.values[0]), float(loss.values[-1])]), **numbers)  # fmt: skip
        return
    parts = norm.stretches
    if len(norm) < limits["trend_points"] or len(parts) < 4:
        yield ok("ok", **numbers)
        return
    usual = float(np.median([s.level for s in parts[1 : len(parts) // 2 + 1]]))
    late = float(np.median([s.level for s in parts[-3:]]))
    numbers |= {"usual": usual, "late": late, "times": late / usual if usual > 0 else 0.0,
                "from_step": parts[-3].first_step}  # fmt: skip
    grew = usual > 0 and late >= limits["gradient_grew"] * usual
    falling = loss is not None and loss.last < loss.level(0.3, 0.6) - 2 * loss.error_of_level
    evidence = [("median norm in the first half and at the end", [round(usual, 4), round(late, 4)])]
    if grew and not falling:
        yield warning("grows", *evidence, **numbers)
    elif grew:
        yield info("grows_while_learning", *evidence, **numbers)
    else:
        yield ok("ok", **numbers)
