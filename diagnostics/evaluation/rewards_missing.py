"""RWD016: rows without a reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.pairs_subject import percent
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import ScoredSet


def rewards_missing(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Rows that got no reward: too long for the model, not a number, or unreadable.
    Why it matters:
        All figures are of the rows that are left. Long answers are the ones that fail most often, so what is left is
        not like the whole. A reward that is NaN or infinite comes from weights that are so, or from numbers that
        overflow on the way, as they do in float16 beyond 65504.
    How it is measured:
        Rows that lack the reward of one answer or more, as a share of the rows of each set; the reasons count answers,
        of which a row may have several. Rewards that are not numbers are an error from one row in ten. Weights are
        looked at once such a reward occurs; an overflow is one in float16, or an infinite reward from sound weights.
    Known false alarms:
        Rows that are left out on purpose.
    Fix:
        Too long: raise the maximum length if the model has been trained for it, or cut answers in the data. Broken
        weights: take another checkpoint. Overflow: score in bfloat16 or float32.
    References:
        https://huggingface.co/docs/trl/reward_trainer
    """
    for one in subject.scores.sets:
        lost = {str(reason): int(count) for reason, count in one.unscored.items() if count}
        for reason, count in one.left_out.items():
            if reason not in SCORED:
                lost[str(reason)] = lost.get(str(reason), 0) + int(count)
        rows = max(one.rows - int(one.left_out.get(AGAIN, 0)), one.scored)
        missing = rows - one.scored
        share = missing / max(1, rows)
        numbers: dict[str, Any] = {"rows": missing, "of": rows, "percent": percent(share), "set": one.name}
        numbers["reasons"] = lost
        evidence = [(f"{reason}: {one.name}", count) for reason, count in lost.items()]
        why = next((reason for reason in NOT_NUMBERS if lost.get(reason)), None)
        answers = sum(lost.get(reason, 0) for reason in NOT_NUMBERS)
        affected = _rows_of(one, answers, missing)
        of_these = {**numbers, "rows": affected, "answers": answers}
        many = affected >= limits["left_out_error"] * rows
        if why == "weights_not_finite":
            yield error("weights_not_finite", *evidence, **of_these)
        elif not one.scored and rows:
            yield error("none_scored", *evidence, **numbers)
        elif why == "overflow" and many:
            yield error("overflows", *evidence, **of_these)
        elif why == "overflow":
            yield warning("some_overflow", *evidence, **of_these)
        elif why is not None and many:
            yield error("not_numbers", *evidence, **of_these)
        elif why is not None:
            yield warning("some_not_numbers", *evidence, **of_these)
        elif share >= limits["left_out_error"]:
            yield warning("many_missing", *evidence, **numbers)
        elif missing:
            yield info("some_missing", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)


def _rows_of(one: ScoredSet, answers: int, missing: int) -> int:
    """Rows with an answer whose reward is no number. Results that don't tell rows by reason: all that lack a reward,
    where there is no other reason."""
    if one.unscored_rows:
        return min(missing, sum(int(one.unscored_rows.get(reason, 0)) for reason in NOT_NUMBERS))
    return min(missing, answers)


NOT_NUMBERS = ("weights_not_finite", "overflow", "not_finite")  # the first that occurs is said
AGAIN = "filtered_again"  # rows that repeat answers which have their reward
# Rows that have their reward all the same: they make no pair, or more turns stand behind the one that is read.
SCORED = ("no_other_side", "later_turns", AGAIN)
