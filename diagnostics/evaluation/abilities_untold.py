"""CMP031: abilities of which nothing could be told."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation.abilities_lost import label_of
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok
from diagnostics.thresholds import Thresholds


def abilities_untold(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Abilities in which the model before was no better than guessing, so that nothing could be lost, and those whose
        interval rules neither a loss out nor in.
    Why it matters:
        They are no sign that anything was kept.
    How it is measured:
        The share right before against the share right by guessing; the width of the interval of the difference.
    Known false alarms:
        Small models are at chance in most things; then only their own tasks say something.
    Fix:
        Give items of your own task (`--items FILE`), or more of them.
    References:
        https://arxiv.org/abs/2405.14782
    """
    every = [(a, c) for a in subject.abilities.abilities for c in a.changes]
    chance = [label_of(a) for a, c in every if c.verdict == "cannot_tell"]
    wide = [label_of(a) for a, c in every if c.verdict == "no_difference"]
    numbers = {"chance": list(dict.fromkeys(chance)), "wide": list(dict.fromkeys(wide)), "of": len(every)}
    if every and len(chance) == len(every):
        yield info("all_at_chance", **numbers)
    elif chance:
        yield info("some_at_chance", **numbers)
    elif wide:
        yield info("some_undecided", **numbers)
    else:
        yield ok("ok", **numbers)
