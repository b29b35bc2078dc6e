"""RWD013: a reward that goes with the length of an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.intervals import difference_of_shares


def reward_pays_length(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether pairs whose chosen answer is the longer one are ordered rightly more often than those whose rejected one
        is, and by more than the labels account for.
    Why it matters:
        What is trained against such a reward writes longer answers and not better ones; what is filtered by it keeps
        the long ones.
    How it is measured:
        The difference of both accuracies with its 95% interval, whose nearer end must be 10 points or more, and a
        correlation of reward and log-length within pairs of 0.2 or more. A sound model shows both where longer answers
        are the better ones, and then it is right the more often for preferring them. So it is compared with the labels:
        of pairs with equal margins, those in which it prefers the longer answer against those in which it prefers the
        shorter one. Length is overpaid where it is right less often in the former (Mantel-Haenszel over bins of the
        margin, 95% interval), or where length alone makes up most of the margins, a correlation of 0.75 and more.
    Known false alarms:
        Rejected answers that are made by cutting the chosen ones: length is the quality there. Missed is a model whose
        labels themselves go by length, as its length is what they ask for; `python -m diagnostics pairs` sees those.
    Fix:
        Judge by the length-corrected reward that stands beside the raw one. For the next model balance the pairs by
        length (`python -m diagnostics pairs` says how they lean), or train with a length penalty.
    References:
        https://arxiv.org/abs/2310.03716
        https://arxiv.org/abs/2404.04475
        https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I
    """
    tested = subject.tested
    length = tested.length
    if length is None:
        raise NotMeasured("length_not_measured")
    if tested.accuracy is not None and tested.accuracy.share.high < 0.5:
        raise NotMeasured("order_turned")
    longer, shorter = length.accuracy_chosen_longer, length.accuracy_rejected_longer
    if longer is None or shorter is None or min(longer.n, shorter.n) < limits["score_length_least"]:
        n = min(longer.n if longer else 0, shorter.n if shorter else 0)
        raise NotMeasured("too_few_rows", n=n, least=int(limits["score_length_least"]))
    found = difference_of_shares(longer, shorter)
    gap, low, high = found.mean, found.low, found.high
    sure = low if gap > 0 else -high
    within = length.within if length.within is not None else 0.0
    leans = within * gap > 0 and abs(within) >= limits["score_length_within"] and sure > limits["score_length_warn"]
    favour = length.favour
    overpaid = favour is not None and (favour.high < 0 if gap > 0 else favour.low > 0)
    decides = _least_correlation(within, longer.n + shorter.n) > limits["score_length_decides"]
    subject.metrics |= {"scores.length.gap": gap, "scores.length.within": within}
    numbers: dict[str, Any] = {
        "longer": longer.value, "shorter": shorter.value, "gap": 100 * abs(gap), "within": within,
        "n_longer": longer.n, "n_shorter": shorter.n, "set": tested.name,
    }  # fmt: skip
    evidence: list[tuple[str, Any]] = [
        (f"accuracy where {side} is longer", f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}] n={share.n}")
        for side, share in (("chosen", longer), ("rejected", shorter))
    ]
    evidence += [
        ("difference", f"{gap:.3f} [{low:.3f}, {high:.3f}]"),
        ("correlation within pairs", within),
    ]
    if length.corrected is not None:
        numbers["corrected"] = length.corrected.share.value
        evidence.append(("accuracy at equal length", length.corrected.share.value))
    if favour is not None:
        evidence.append(("right for the longer less for the shorter, at equal margins",
                         f"{favour.mean:+.3f} [{favour.low:+.3f}, {favour.high:+.3f}]"))  # fmt: skip
    if leans and (overpaid or decides):
        if gap < 0:
            yield warning("leans_to_shortness", *evidence, **numbers)
        elif sure > limits["score_length_error"]:
            yield error("pays_for_length", *evidence, **numbers)
        else:
            yield warning("leans_to_length", *evidence, **numbers)
    elif leans:
        yield info("as_the_labels", *evidence, **numbers)
    elif sure > 0:
        yield info("some_lean", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)


def _least_correlation(value: float, n: int) -> float:
    """Lower end of the 95% interval of a correlation's size, by Fisher's z."""
    if n < 4 or abs(value) >= 1:
        return abs(value) if n >= 4 else 0.0
    return math.tanh(math.atanh(abs(value)) - 1.96 / math.sqrt(n - 3))
