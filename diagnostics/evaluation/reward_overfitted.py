"""RWD010: a reward model that orders the pairs it was trained on and not others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.intervals import difference_of_shares


def reward_overfitted(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Accuracy on the pairs a reward model was trained on against accuracy on held-out pairs.
    Why it matters:
        A model that knows its pairs by heart scores new answers nearly by chance, and what is trained or chosen by it
        follows that chance.
    How it is measured:
        The difference of both accuracies with its 95% interval. The lower end of the interval decides, not the
        difference: a held-out set of twenty pairs is off by twenty points in one case of twenty.
    Known false alarms:
        Held-out pairs of another kind or another source than the training pairs: then the model is not overfitted but
        used elsewhere. A training set that was filtered until the model agreed with it.
    Fix:
        One epoch, a lower learning rate, more pairs, weight decay; take the checkpoint with the lowest evaluation loss.
    References:
        https://arxiv.org/abs/2203.02155
        https://arxiv.org/abs/2401.06080
    """
    trained, held_out = subject.trained, subject.held_out
    if trained is None or held_out is None or trained.accuracy is None or held_out.accuracy is None:
        raise NotMeasured("needs_both_sets")
    first, second = trained.accuracy.share, held_out.accuracy.share
    gap = subject.scores.gap or difference_of_shares(first, second)
    difference, low, high = gap.mean, gap.low, gap.high
    subject.metrics |= {"scores.gap": difference, "scores.gap.low": low, "scores.gap.high": high}
    numbers: dict[str, Any] = {
        "trained": first.value, "tested": second.value, "n_trained": first.n, "n_tested": second.n,
        "gap": 100 * difference, "gap_low": 100 * low, "gap_high": 100 * high,
    }  # fmt: skip
    evidence = [
        (f"accuracy: {trained.name}", f"{first.value:.3f} [{first.low:.3f}, {first.high:.3f}] n={first.n}"),
        (f"accuracy: {held_out.name}", f"{second.value:.3f} [{second.low:.3f}, {second.high:.3f}] n={second.n}"),
        ("difference", f"{difference:.3f} [{low:.3f}, {high:.3f}]"),
    ]
    if low > limits["score_gap_error"]:
        yield error("overfitted", *evidence, **numbers)
    elif low > limits["score_gap_warn"]:
        yield warning("overfits", *evidence, **numbers)
    elif difference >= limits["score_gap_seen"]:
        yield info("gap_unsure", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
