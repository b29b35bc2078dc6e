"""RWD015: pairs whose label a sound reward model contradicts with confidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import ScoredSet, Share

LINES_LISTED = 200


def label_noise(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Pairs in which the rejected answer scores far above the chosen one, and whether there are more of them than the
        margins of the model allow for.
    Why it matters:
        Among pairs that a good model orders the other way round with confidence, labels that were exchanged or given
        carelessly are many times as frequent as elsewhere. They are the cheapest ones to look through.
    How it is measured:
        A temperature of the margins and a share of labels turned round are fitted together; a label is contradicted
        where the model gives it 5% or less. Every model errs now and then with confidence: an alarm needs a share of
        turned labels that is above 2% at the lower end of its 95% interval (profile likelihood), and more contradicted
        labels than margins of this kind allow for, beyond what a Poisson count reaches once in a thousand.
        None on pairs that were trained on, whose labels a model knows; with pairs worth fewer than 200 (several of one
        prompt count less); where the model is overfitted, whose margins mean nothing; where rewards crowd at the ends
        of their range (a bounded reward), whose margins stop growing; and where fewer than seven in ten are ordered
        rightly, or fewer than 77% would be without the turned labels: then the pairs may be hard, or the model bad and
        too sure.
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
        noise, allowed = one.label_noise, one.suspects_expected
        if noise is None or allowed is None or one.role == "train" or not _can_tell(subject, one, noise, limits):
            yield info("suspects", *evidence, **numbers)
            continue
        numbers |= {"allowed": allowed, "noise": noise.value, "low": noise.low, "high": noise.high}
        evidence.append(("contradicted labels, usual for such margins", [count, round(allowed, 1)]))
        evidence.append(("labels turned round", f"{noise.value:.3f} [{noise.low:.3f}, {noise.high:.3f}] n={noise.n}"))
        if noise.low > limits["score_noise_low"] and _chance_of(count, allowed) < limits["score_noise_chance"]:
            yield warning("more_than_allowed", *evidence, **numbers)
        else:
            yield info("suspects", *evidence, **numbers)


def _can_tell(subject: EvaluationSubject, one: ScoredSet, noise: Share, limits: Thresholds) -> bool:
    """Whether the model is good enough for its contradictions to speak of the labels. See `label_noise`."""
    share = one.accuracy.share if one.accuracy is not None else None
    if share is None or noise.n < limits["score_noise_least"] or share.value < limits["score_noise_accuracy"]:
        return False
    gap = subject.scores.gap
    if gap is not None and gap.low > limits["score_gap_warn"]:
        return False
    right = (share.value - noise.low) / max(1 - 2 * noise.low, 1e-9)
    return right >= limits["score_noise_right"]


def _chance_of(count: int, mean: float) -> float:
    """That a Poisson count with this mean reaches `count`."""
    from scipy.special import pdtrc

    return float(pdtrc(count - 1, max(mean, 1e-9)))
