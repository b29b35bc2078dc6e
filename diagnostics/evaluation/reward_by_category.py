"""RWD019: kinds of pairs on which a reward model fails that orders the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.intervals import difference_of_shares, win_rate
from pipeline.evaluation.results import Accuracy


def reward_by_category(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether a category of pairs is ordered no better than by a coin, or the other way round, while the others are
        ordered rightly.
    Why it matters:
        The accuracy of the whole hides it. What is trained or filtered by the reward gets worse on just these prompts.
    How it is measured:
        The interval of the accuracy within every category, widened for their number (Bonferroni). Wholly below one
        half: turned round. Holding one half and ending below 0.65, and lower than in the other categories together by
        an interval of the difference that leaves out 0: the model fails there.
    Known false alarms:
        A category whose answers are equally good, or whose pairs go by another taste than the rest.
    Fix:
        Turned round: look which side is `chosen` in this category, sources often differ. Failing: train on more pairs
        of it, or take its rows out of what is filtered and trained with this reward.
    References:
        https://arxiv.org/abs/2403.13787
        https://doi.org/10.1080/01621459.1961.10482090
    """
    tested = subject.tested
    if len(tested.by_category) < 2 or tested.accuracy is None:
        raise NotMeasured("no_categories")
    whole = tested.accuracy
    turned, failing = [], []
    for name, own in tested.by_category.items():
        if own.share.high < 0.5:
            turned.append(name)
        elif own.share.low <= 0.5 and own.share.high < limits["score_chance_warn"] and _below_the_rest(own, whole):
            failing.append(name)
    numbers: dict[str, Any] = {"of": len(tested.by_category), "set": tested.name, "value": whole.share.value}
    evidence = [
        (f"accuracy: {name}", f"{own.share.value:.3f} [{own.share.low:.3f}, {own.share.high:.3f}] n={own.share.n}")
        for name, own in sorted(tested.by_category.items(), key=lambda item: item[1].share.value)
    ][:_LISTED]
    if whole.share.low <= 0.5:  # RWD011 speaks of the whole
        yield info("no_better_as_a_whole", *evidence, **numbers)
    elif turned:
        yield warning("turned", *evidence, categories=turned, **numbers)
    elif failing:
        yield warning("fails", *evidence, categories=failing, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)


_LISTED = 20


def _below_the_rest(own: Accuracy, whole: Accuracy) -> bool:
    rest = win_rate(whole.wins - own.wins, whole.ties - own.ties, whole.losses - own.losses)
    return rest.n > 0 and difference_of_shares(rest, own.share).low > 0
