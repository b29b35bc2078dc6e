"""RWD011: a reward model that is no better than a coin, or prefers what was rejected."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject, numbers_of
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def reward_at_chance(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the chosen answer scores higher in clearly more than half of the pairs.
    Why it matters:
        A reward at chance teaches nothing and filters by luck. One that prefers the rejected answers teaches the
        opposite of what was meant.
    How it is measured:
        Accuracy with its 95% interval, a tie counted as half a pair, on held-out pairs where there are some; several
        pairs of one prompt make the interval wider. Wholly below one half it says that the order is turned round; where
        it holds one half and doesn't reach a usual accuracy, that the model is no better than a coin. A wide interval
        says neither. Of very many pairs the interval is narrow: one wholly beside one half yet near it is still called
        a coin's. Where all pairs tie, RWD018 speaks of it.
    Known false alarms:
        Pairs of two answers that are equally good, and rewards of another taste (harmlessness against helpfulness).
        A score where less is better: below one half is then what it should be.
    Fix:
        Below one half: look which side `chosen` is and which label of the model means better. At one half: check the
        template and the truncation, then train longer or on more pairs.
    References:
        https://arxiv.org/abs/2403.13787
        https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
    """
    tested = subject.tested
    for one in subject.pair_sets:
        if one.accuracy is not None:
            subject.metrics[f"scores.accuracy.{one.role}"] = one.accuracy.share.value
            subject.metrics[f"scores.pairs.{one.role}"] = one.accuracy.share.n
    accuracy = tested.accuracy
    assert accuracy is not None  # of every pair set
    share = accuracy.share
    if accuracy.ties == share.n:
        raise NotMeasured("rewards_all_alike")
    numbers = {**numbers_of(share), "set": tested.name, "above": accuracy.losses, "ties": accuracy.ties}
    evidence = [
        (f"accuracy: {tested.name}", f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}] n={share.n}"),
        ("chosen above, tied, below", [accuracy.wins, accuracy.ties, accuracy.losses]),
    ]
    near = limits["score_chance_near"]
    if share.high < 0.5:
        turned = share.low < 0.5 - near
        yield error("prefers_rejected" if turned else "at_chance", *evidence, **numbers)
    elif share.low > 0.5 and share.high > 0.5 + near:
        yield ok("ok", *evidence, **numbers)
    elif share.low > 0.5:
        yield warning("hardly_above_chance", *evidence, **numbers)
    elif share.high < limits["score_chance_error"]:
        yield error("at_chance", *evidence, **numbers)
    elif share.high < limits["score_chance_warn"]:
        yield warning("hardly_above_chance", *evidence, **numbers)
    else:
        yield info("cannot_tell", *evidence, **numbers)
