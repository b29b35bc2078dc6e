"""RWD015: pairs whose label a sound reward model contradicts with confidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds

LINES_LISTED = 200


def label_noise(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Pairs in which the rejected answer scores far above the chosen one, and whether there are more of them than the
        margins of the model allow for.
    Why it matters:
        Among pairs that a good model orders the other way round with confidence, labels that were exchanged or given
        carelessly are many times as frequent as elsewhere. They are the cheapest ones to look through.
    How it is measured:
        Labels to which the model, its margins scaled by a temperature and a share of wrong labels fitted to them, gives
        a probability of 5% or less. Every model errs now and then with confidence: an alarm needs twice as many as
        such margins allow for, beyond what a Poisson count with that mean reaches once in a thousand, and an excess of
        one in a hundred pairs. None on pairs that were trained on, whose labels a model knows; with fewer than 800
        pairs, where temperature and wrong labels can't be told apart; and where fewer than three in four are ordered
        rightly, as the pairs may be hard.
    Known false alarms:
        A model that is wrong with confidence about one kind of pair, such as code, contradicts sound labels there.
    Fix:
        Read the listed pairs. Exchange the sides where they are turned round, leave out the ones nobody can decide.
    References:
        https://arxiv.org/abs/2401.06080
        https://jair.org/index.php/jair/article/view/12125
    """
    suspects = [(one, one.suspect_count) for one in subject.pair_sets]
    if not sum(count for _, count in suspects):
        yield ok("ok", of=sum(one.scored for one, _ in suspects))
        return
    for one, count in suspects:
        if not count:
            continue
        numbers: dict[str, Any] = {"rows": count, "of": one.scored, "set": one.name}
        evidence: list[tuple[str, Any]] = [("lines", [s.line for s in one.suspects[:LINES_LISTED]])]
        share = one.accuracy.share if one.accuracy is not None else None
        enough = share is not None and share.n >= limits["score_noise_least"]
        told = enough and share is not None and share.value >= limits["score_usual_high"]
        if one.suspects_expected is None or one.role == "train" or not told:
            yield info("suspects", *evidence, **numbers)
            continue
        allowed = one.suspects_expected
        numbers["allowed"] = allowed
        evidence.append(("contradicted labels, usual for such margins", [count, round(allowed, 1)]))
        many = count >= 2 * allowed and count - allowed >= limits["data_rows_warn"] * one.scored
        if many and _chance_of(count, allowed) < limits["score_noise_chance"]:
            yield warning("more_than_allowed", *evidence, **numbers)
        else:
            yield info("suspects", *evidence, **numbers)


def _chance_of(count: int, mean: float) -> float:
    """That a Poisson count with this mean reaches `count`."""
    from scipy.stats import poisson

    return float(poisson.sf(count - 1, max(mean, 1e-9)))
