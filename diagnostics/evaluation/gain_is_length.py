"""CMP004: a gain that is gone at equal lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diagnostics.evaluation.after_against_before import numbers_of_contest
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import Contest, Share


def gain_is_length(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the later model still wins when the effect of longer answers is taken out.
    Why it matters:
        Judges and reward models prefer longer answers; preference training makes answers longer. The two together look
        like progress.
    How it is measured:
        The win rate by a judge or reward beside the win rate that a logistic regression on the difference of lengths
        predicts at equal lengths. An alarm needs a raw win rate that is shown, a corrected one that isn't, and at
        least half of the lead over one half gone.
    Known false alarms:
        Where longer answers are what was wanted, as for explanations, the correction takes away real quality.
    Fix:
        Say which answers you want by the corrected number. Train with length-normalised loss (SimPO, `ld_alpha`) or on
        pairs balanced by length.
    References:
        https://arxiv.org/abs/2404.04475
        https://arxiv.org/abs/2403.19159
    """
    seen = [
        (c, fair) for contests in subject.contests.values() for c in contests
        if c.by in LENGTH_MATTERS and (fair := at_equal_length(c, contests)) is not None
    ]  # fmt: skip
    if not seen:
        raise NotMeasured("no_length_control")
    for contest, fair in seen:
        raw = contest.win_rate
        assert raw is not None  # of all contests of a subject
        numbers = {**numbers_of_contest(contest), "fair": fair.value, "fair_low": fair.low, "fair_high": fair.high}
        evidence: list[tuple[str, Any]] = [
            ("win rate", f"{raw.value:.3f} [{raw.low:.3f}, {raw.high:.3f}]"),
            ("at equal lengths", f"{fair.value:.3f} [{fair.low:.3f}, {fair.high:.3f}]"),
        ]
        subject.metrics[f"comparison.length_controlled.{contest.after}.{contest.by}"] = fair.value
        gone = raw.value - 0.5 > 0 and fair.value - 0.5 <= limits["compare_length_left"] * (raw.value - 0.5)
        if raw.low > 0.5 and fair.high < 0.5:
            yield warning("worse_at_equal_length", *evidence, **numbers)
        elif raw.low > 0.5 and fair.low <= 0.5 and gone:
            yield warning("gone_at_equal_length", *evidence, **numbers)
        elif raw.high < 0.5 and fair.low > 0.5:
            yield info("better_at_equal_length", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)


LENGTH_MATTERS = ("people", "judge", "reward")


def at_equal_length(contest: Contest, others: Sequence[Contest]) -> Share | None:
    """The win rate at equal lengths; for rewards without one, that by rewards with the length taken off."""
    if contest.length_controlled is not None or contest.by != "reward":
        return contest.length_controlled
    return next((one.win_rate for one in others if one.by == "length_free_reward"), None)
