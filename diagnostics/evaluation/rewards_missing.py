"""RWD016: rows without a reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.pairs_subject import percent
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def rewards_missing(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Rows that got no reward: too long for the model, not a number, or unreadable.
    Why it matters:
        All figures are of the rows that are left. Long answers are the ones that fail most often, so what is left is
        not like the whole. A reward that is NaN comes from weights or numbers that overflow.
    How it is measured:
        Rows that lack the reward of one answer or more, as a share of the rows of each set; the reasons count answers,
        of which a row may have several. Rewards that are not numbers are an error from one row in ten.
    Known false alarms:
        Rows that are left out on purpose.
    Fix:
        Too long: raise the maximum length if the model has been trained for it, or cut answers in the data. Not a
        number: score in bfloat16 or float32 and diagnose the reward model.
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
        evidence = [(f"{one.name}: {reason}", count) for reason, count in lost.items()]
        not_numbers = min(missing, sum(count for reason, count in lost.items() if reason in NOT_NUMBERS))
        if not one.scored and rows:
            yield error("none_scored", *evidence, **numbers)
        elif not_numbers and not_numbers >= limits["left_out_error"] * rows:
            yield error("not_numbers", *evidence, **{**numbers, "rows": not_numbers})
        elif not_numbers:
            yield warning("some_not_numbers", *evidence, **{**numbers, "rows": not_numbers})
        elif share >= limits["left_out_error"]:
            yield warning("many_missing", *evidence, **numbers)
        elif missing:
            yield info("some_missing", *evidence, **numbers)
        else:
            yield ok("ok", *evidence, **numbers)


NOT_NUMBERS = ("not_finite",)
AGAIN = "filtered_again"  # rows that repeat answers which have their reward
# Rows that have their reward all the same: they make no pair, or more turns stand behind the one that is read.
SCORED = ("no_other_side", "later_turns", AGAIN)
