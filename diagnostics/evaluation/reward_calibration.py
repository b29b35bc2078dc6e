"""RWD014: margins that promise more, or less, than they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import ScoredSet


def reward_calibration(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether a margin of rewards means the probability that it stands for: sigmoid(1) = 73% right, sigmoid(3) = 95%.
    Why it matters:
        Training against the reward pays for margins, not for the order alone: a model that is too sure pays most where
        it is wrong. Thresholds for filtering mean nothing on such a scale.
    How it is measured:
        What the margins of all pairs promise on average (mean of sigmoid of the absolute margin) against the share that
        is ordered rightly with its interval; the difference counts from the nearer end. The expected calibration error
        is told and doesn't judge: it grows with fewer pairs. Not judged where the rejected answers are preferred.
    Known false alarms:
        Noisy labels: a good model seems too sure where the labels are wrong. Rewards of another scale than a
        log-odds, such as regression to grades.
    Fix:
        Divide the rewards by one temperature fitted on held-out pairs before thresholds are set; train for one epoch.
    References:
        https://arxiv.org/abs/1706.04599
        https://arxiv.org/abs/2204.05862
    """
    tested = subject.tested
    promised = promise_of(tested)
    assert tested.accuracy is not None
    share = tested.accuracy.share
    if share.high < 0.5:
        raise NotMeasured("order_turned")
    over, under = promised - share.high, share.low - promised
    subject.metrics |= {"scores.promised": promised}
    numbers: dict[str, Any] = {
        "promised": promised, "value": share.value, "low": share.low, "high": share.high, "n": share.n,
        "set": tested.name,
    }  # fmt: skip
    evidence: list[tuple[str, Any]] = [
        ("promised by the margins", promised),
        (f"accuracy: {tested.name}", f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"),
    ]
    if tested.calibration_error is not None:
        evidence.append(("expected calibration error", tested.calibration_error))
    if tested.log_loss is not None:
        evidence.append(("log loss", tested.log_loss))
    if over > limits["score_over_warn"]:
        yield warning("far_too_sure", *evidence, **numbers)
    elif over > limits["score_over_seen"]:
        yield info("too_sure", *evidence, **numbers)
    elif under > limits["score_over_seen"]:
        yield info("too_unsure", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)


def promise_of(one: ScoredSet) -> float:
    """Mean probability that the margins promise. Raises NotMeasured without a calibration curve."""
    bins = [b for b in one.calibration if b.observed.n > 0 and math.isfinite(b.predicted)]
    total = sum(b.observed.n for b in bins)
    if not total:
        raise NotMeasured("calibration_not_measured")
    return sum(b.predicted * b.observed.n for b in bins) / total
