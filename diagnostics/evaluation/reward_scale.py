"""RWD018: rewards that are all alike, or lie far from zero."""

from __future__ import annotations

import math
from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def reward_scale(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether rewards differ at all, and how far their mean lies from zero beside their spread.
    Why it matters:
        One reward for everything comes from a head that was never trained or not loaded, and gives no gradient. A large
        offset is harmless for pairs, and swamps a KL penalty or a fixed threshold.
    How it is measured:
        Standard deviation of all rewards; share of pairs in which both sides score exactly the same; mean over standard
        deviation. Of fewer than 20 answers nothing is said: they may be the same ones.
    Known false alarms:
        Rewards from a rule (0 or 1) tie often, as they should.
    Fix:
        Both sides alike: compare the texts, equal ones are no pairs. All alike: look whether the head was loaded
        (`python -m diagnostics checkpoint` on the reward model). Large offset: subtract the mean, or normalise rewards
        where they are used.
    References:
        https://arxiv.org/abs/2312.09244
        https://huggingface.co/docs/trl/reward_trainer
    """
    for one in subject.scores.sets:
        spreads = [s for s in (one.chosen, one.rejected, one.answers) if s is not None]
        sides = [s for s in spreads if s.n > 0 and math.isfinite(s.mean)]
        if not sides:
            continue
        n = sum(s.n for s in sides)
        mean = sum(s.mean * s.n for s in sides) / n
        # The standard deviation of one reward is none
        squares = ((s.std**2 if math.isfinite(s.std) else 0.0) + (s.mean - mean) ** 2 for s in sides)
        spread = math.sqrt(sum(square * s.n for square, s in zip(squares, sides, strict=True)) / n)
        accuracy = one.accuracy
        tied = accuracy.ties / accuracy.share.n if accuracy is not None and accuracy.share.n else 0.0
        numbers = {"mean": mean, "spread": spread, "tied": tied, "set": one.name, "n": n}
        evidence = [(f"mean of rewards: {one.name}", mean), ("standard deviation", spread), ("share of ties", tied)]
        many = n >= limits["score_spread_least"]
        if many and spread <= limits["score_spread_none"] * max(1.0, abs(mean)):
            yield error("all_alike", *evidence, **numbers)
        elif many and tied == 1.0:
            yield error("sides_alike", *evidence, **numbers)
        elif many and tied >= limits["score_ties_warn"]:
            yield warning("mostly_ties", *evidence, **numbers)
        elif abs(mean) > limits["score_offset"] * spread:
            yield info("far_from_zero", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)
    if not any(s.scored for s in subject.scores.sets):
        raise NotMeasured("no_pairs_scored")
