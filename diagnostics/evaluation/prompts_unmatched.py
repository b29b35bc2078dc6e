"""CMP010: prompts that could not be compared, and comparisons too small to tell anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject, afters, count_of
from diagnostics.pairs_subject import percent
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import prompts_of


def prompts_unmatched(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the answers before and after are to the same prompts, and whether there are enough of them.
    Why it matters:
        Answers to different prompts can't be compared, and what is left of two files after matching is seldom a fair
        sample of either. With twenty prompts only a win rate beyond 70% can be shown.
    How it is measured:
        Prompts in only one of the files as a share of all; prompts matched by their place because the files hold no
        text of them; the number of prompts judged.
    Known false alarms:
        A file that was cut short on purpose, to compare its beginning.
    Fix:
        Ask both models the same prompts in one run (`python -m pipeline compare` with the models themselves).
    References:
        https://doi.org/10.1080/01621459.1927.10502953
    """
    counted = ("matched", "only_before", "only_after", "twice")
    each = {name: prompts_of(subject.comparison.prompts, name) for name in afters(subject.comparison)}
    # of several models the one that fewest prompts are shared with
    worst = max(each, key=lambda name: _alone(each[name]), default="")
    prompts = each.get(worst, subject.comparison.prompts)
    matched, before, after, twice = (count_of(prompts, name) for name in counted)
    contests = [c for own in subject.contests.values() for c in own[:1]]
    total = matched + before + after
    if not total and contests:  # a result that says nothing of its prompts
        total = matched = max(c.n for c in contests)
    numbers: dict[str, Any] = {
        "matched": matched, "only_before": before, "only_after": after, "of": total, "twice": twice,
        "percent": percent((before + after) / max(1, total)),
    }  # fmt: skip
    named = f": {worst}" if len(each) > 1 else ""
    evidence = [(f"matched, only before, only after, more than once{named}", [matched, before, after, twice])]
    if not matched:
        yield error("none_matched", *evidence, **numbers)
        return
    if (before + after) / total >= limits["compare_unmatched_warn"]:
        yield warning("many_unmatched", *evidence, **numbers)
    elif before + after:
        yield info("some_unmatched", *evidence, **numbers)
    elif prompts.get("matched_by") == "position":
        yield info("by_position", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
    fewest = min(contests, key=lambda c: c.n, default=None)
    if fewest is not None and fewest.n < limits["compare_least_prompts"]:
        told = {"n": fewest.n, "after": fewest.after}
        if fewest.shown_from is not None:
            yield info("few_prompts", **told, shown_from=fewest.shown_from)
        elif fewest.ties == fewest.n:
            yield info("all_tied", **told)
        else:
            yield info("too_few_prompts", **told, decided=fewest.n - fewest.ties)


def _alone(prompts: Mapping[str, Any]) -> float:
    """Share of prompts that only one of both models has answered."""
    matched, alone = count_of(prompts, "matched"), count_of(prompts, "only_before") + count_of(prompts, "only_after")
    return alone / max(1, matched + alone)
