"""CMP001: whether the model after is better, worse, or not shown to differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import Contest


def after_against_before(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Which of two models answers the same prompts better, by what says it most surely: checkable tasks, then people,
        then a judging model, then a reward model.
    Why it matters:
        This is what the training was for. A falling loss and growing margins go along with worse answers.
    How it is measured:
        The share of prompts on which the later model does better, a tie counted as half, with its 95% interval. Better
        or worse is said only where the interval leaves one half out. Otherwise no difference is shown, with the number
        of further prompts after which one of this size would be. From a win rate of 45% down, worse is an error.
    Known false alarms:
        One of forty comparisons of two equal models is called worse by chance. Prompts unlike those the model is for.
        A reward model judges by its own taste: the lengths (CMP004) and the cases tell.
    Fix:
        Keep the model from before. Then look why: the preference log, the pairs, and the cases that were lost.
    References:
        https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
        https://arxiv.org/abs/2310.03716
    """
    for contest in subject.main_contests:
        rate = contest.win_rate
        assert rate is not None  # of every main contest
        subject.metrics |= {
            f"comparison.win_rate.{contest.after}": rate.value, f"comparison.prompts.{contest.after}": contest.n,
        }  # fmt: skip
        numbers = numbers_of_contest(contest)
        evidence: list[tuple[str, Any]] = [
            ("wins, ties, losses", [contest.wins, contest.ties, contest.losses]),
            (f"win rate: {contest.by}", f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}] n={rate.n}"),
        ]
        if contest.difference is not None:
            d = contest.difference
            evidence.append(("mean difference of scores", f"{d.mean:.4g} [{d.low:.4g}, {d.high:.4g}] n={d.n}"))
        if contest.verdict == "better":
            yield ok("better", *evidence, **numbers)
        elif contest.verdict == "worse" and rate.value <= limits["compare_worse_error"]:
            yield error("worse", *evidence, **numbers)
        elif contest.verdict == "worse":
            yield warning("slightly_worse", *evidence, **numbers)
        elif contest.needed:
            yield info("no_difference", *evidence, needed=contest.needed, **numbers)
        else:
            yield info("alike", *evidence, **numbers)


def numbers_of_contest(contest: Contest) -> dict[str, Any]:
    """The params of a sentence about a contest whose win rate is there."""
    rate = contest.win_rate
    assert rate is not None
    return {
        "before": contest.before, "after": contest.after, "by": contest.by, "value": rate.value, "low": rate.low,
        "high": rate.high, "n": contest.n, "wins": contest.wins, "ties": contest.ties, "losses": contest.losses,
    }  # fmt: skip
