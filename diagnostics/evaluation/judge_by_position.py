"""CMP011: a judge that goes by the place of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject, afters, count_of
from diagnostics.pairs_subject import percent
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def judge_by_position(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How often the judging model changed its mind when both answers were shown in the other order, and how often it
        gave no verdict.
    Why it matters:
        A judge that prefers what stands first measures nothing. What it changes its mind about is counted as a tie and
        hides differences.
    How it is measured:
        Every prompt is judged in both orders; prompts whose two verdicts name different answers, as a share of those
        judged twice. A warning needs more than half of them, and an interval above what a good judge has.
    Known false alarms:
        Answers that are equally good: then the place is all that is left.
    Fix:
        A stronger judge, a prompt that asks for reasons before the verdict, or people.
    References:
        https://arxiv.org/abs/2306.05685
        https://arxiv.org/abs/2305.17926
    """
    told = {after: subject.comparison.judge.get(after) for after in afters(subject.comparison)}
    from pipeline.evaluation.intervals import share_of

    judged = {after: fields for after, fields in told.items() if isinstance(fields, Mapping)}
    if not judged:
        raise NotMeasured("no_judge")
    for after, fields in judged.items():
        both, agreed = count_of(fields, "both_orders"), count_of(fields, "agreed")
        problems = fields.get("problems")
        not_asked = count_of(problems, "not_asked") if isinstance(problems, Mapping) else 0  # interrupted, budget spent
        torn, silent = both - agreed, count_of(fields, "problems") - not_asked
        asked = count_of(fields, "prompts") - not_asked
        numbers = {
            "after": after, "torn": torn, "both": both, "silent": silent, "asked": asked,
            "percent": percent(torn / max(1, both)), "percent_silent": percent(silent / max(1, asked)),
        }  # fmt: skip
        evidence: list[tuple[str, Any]] = [
            ("first place won twice, second place", [count_of(fields, n) for n in ("first_won", "second_won")]),
        ]
        if isinstance(problems, Mapping):
            evidence += [(f"no verdict: {problem}", count_of(problems, problem)) for problem in problems]
        often = torn > limits["compare_torn_warn"] * both and share_of(torn, both).low > limits["compare_torn_usual"]
        if both >= limits["compare_judged_least"] and often:
            yield warning("by_position", *evidence, **numbers)
        elif silent >= limits["compare_silent_warn"] * asked and silent > 1:
            yield warning("often_silent", *evidence, **numbers)
        elif torn or silent:
            yield info("sometimes", *evidence, **numbers)
        else:
            yield ok("ok", **numbers)
