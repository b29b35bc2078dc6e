"""RWD012: an accuracy as preference data let one expect it."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject, numbers_of
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok
from diagnostics.thresholds import Thresholds


def reward_accuracy_usual(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Where the accuracy lies beside what human preferences allow.
    Why it matters:
        People agree with each other on two pairs in three to three in four. An accuracy of 0.7 on such pairs is not a
        bad model, and 1.0 on new pairs is more likely a feature that gives the label away.
    How it is measured:
        The accuracy on pairs that were not trained on, as far as the result says, against the band from 0.65 to 0.75
        that reward models reach on human preferences. Of so few pairs that the interval holds the whole band nothing is
        said.
    Known false alarms:
        Pairs whose sides differ by construction (correct against wrong answers, generated rejects) are ordered in 0.9
        of the cases and more, as they should be.
    Fix:
        Nothing to mend by itself. Below the band look at length, truncation and template; above it at single features
        (`python -m diagnostics pairs`).
    References:
        https://arxiv.org/abs/2203.02155
        https://arxiv.org/abs/2204.05862
    """
    tested = subject.tested
    if tested is subject.trained:
        raise NotMeasured("only_training_pairs")
    assert tested.accuracy is not None
    share = tested.accuracy.share
    if share.low < limits["score_usual_low"] and share.high > limits["score_usual_high"]:
        raise NotMeasured("accuracy_too_vague", n=share.n)
    numbers = {**numbers_of(share), "set": tested.name}
    evidence = [(f"accuracy: {tested.name}", f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}] n={share.n}")]
    if share.value < limits["score_usual_low"]:
        yield info("low", *evidence, **numbers)
    elif share.value <= limits["score_usual_high"]:
        yield info("usual", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
