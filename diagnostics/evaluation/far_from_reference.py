"""CMP009: a policy that moved far from the model it was trained from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import MeasureChange


def far_from_reference(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        KL divergence for each token of the later model's own answers, from the model before.
    Why it matters:
        With the distance from the reference a proxy reward goes on rising while answers get worse. A policy that is far
        away and worse was optimised too long, with too small a beta or too high a rate.
    How it is measured:
        Over the tokens of the later model's answers, in nats: the estimate k3, which no token makes negative; in
        results without it the mean log-ratio of both models. The lower end of its 95% interval decides; beyond about
        one nat k3 is too low, as what it lacks is in tokens too rare to be drawn. Far alone is
        worth knowing; far and worse (CMP001) is a warning.
    Known false alarms:
        Answers of a few tokens: a new format, such as an end token, moves much in few places. A model before that is
        not the one the training began from.
    Fix:
        Take an earlier checkpoint; raise beta, lower the learning rate, train one epoch.
    References:
        http://joschu.net/blog/kl-approx.html
        https://arxiv.org/abs/2210.10760
        https://arxiv.org/abs/2406.02900
        https://huggingface.co/docs/trl/how_to_train
    """
    verdicts = {after: own[0].verdict for after, own in subject.contests.items() if own}
    measured: dict[str, MeasureChange] = {}
    for one in sorted(subject.measures(*KL), key=lambda one: KL.index(one.name)):
        measured.setdefault(one.after_name, one)
    for one in measured.values():
        far = one.after.mean if math.isfinite(one.after.mean) else one.difference.mean
        subject.metrics[f"comparison.kl_per_token.{one.after_name}"] = far
        numbers: dict[str, Any] = {"after": one.after_name, "before": one.before_name, "kl": far, "n": one.difference.n}
        evidence = [(f"{one.name}: {one.after_name}", far)]
        surely = one.difference.low if math.isfinite(one.difference.low) else far
        if surely > limits["compare_kl_far"] and verdicts.get(one.after_name) == "worse":
            yield warning("far_and_worse", *evidence, **numbers)
        elif surely > limits["compare_kl_far"]:
            yield info("far", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)


KL = ("kl_k3_per_token", "kl_per_token")  # the first that a result has
