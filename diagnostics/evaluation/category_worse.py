"""CMP003: kinds of prompts that got worse beneath a whole that didn't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import Contest


def category_worse(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the later model does worse within a category of prompts although it does not on the whole.
    Why it matters:
        A gain in chat can be paid for with code or arithmetic; the mean hides it.
    How it is measured:
        The interval of the win rate within every category, widened for their number (Bonferroni): of comparisons in
        which nothing differs one in forty shows a category as worse, however many there are.
    Known false alarms:
        Categories of fewer than ten prompts have no figures; a loss in one of them stays unseen.
    Fix:
        Add pairs of this kind, or mix rows of the supervised data in; read the lost cases of the category.
    References:
        https://doi.org/10.1080/01621459.1961.10482090
    """
    if not any(c.by_category for c in subject.main_contests):
        raise NotMeasured("no_categories")
    for contest in subject.main_contests:
        if not contest.by_category:
            continue
        worse = [name for name, own in contest.by_category.items() if own.verdict == "worse"]
        if contest.verdict == "worse":
            if worse:
                yield info("worse_in_these", *_evidence(contest, worse), after=contest.after, categories=worse)
            continue
        if worse:
            yield warning("worse_within", *_evidence(contest, worse), after=contest.after, categories=worse,
                          of=len(contest.by_category))  # fmt: skip
        else:
            yield ok("ok", after=contest.after, of=len(contest.by_category))


def _evidence(contest: Contest, names: list[str]) -> list[tuple[str, Any]]:
    own = [(name, contest.by_category[name]) for name in names]
    return [(f"wins, ties, losses: {name}", [c.wins, c.ties, c.losses]) for name, c in own]
