"""CMP030: abilities that were there before and are gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject, afters
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.results import Ability, AbilityChange, Difference


def abilities_lost(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether what the model could do before, by fixed sets of small tasks in both languages and your own, it can do
        still.
    Why it matters:
        Training on a narrow task takes abilities away that nobody looks at while it is trained.
    How it is measured:
        Paired difference of the share of items that are right, with its 95% interval, of all items together and of
        every ability. Lost is said where the interval lies below zero; of an ability where it does so corrected for the
        number of abilities (Bonferroni), by itself or in all languages together. A loss of ten points or more is an
        error, a smaller one a warning. Kept is said only where a loss of the configured size is ruled out.
    Known false alarms:
        Tasks in another format than the model was trained for: what is lost may be the format. Of comparisons in which
        nothing differs one in forty shows a loss in all items together.
    Fix:
        Mix rows of the first training in, use a smaller rank or rate or fewer steps, or merge the adapter at a lower
        weight.
    References:
        https://arxiv.org/abs/2308.08747
        https://arxiv.org/abs/2405.09673
    """
    seen = False
    for after in afters(subject.abilities):
        lost = [(a, c) for a, c in _changes(subject, after) if c.verdict == "lost" and c.difference is not None]
        told = [c for _, c in _changes(subject, after) if c.verdict != "cannot_tell"]
        whole = subject.abilities.overall.get(after)
        if whole is not None and whole.difference is not None:
            subject.metrics[f"abilities.difference.{after}"] = whole.difference.mean
        if not told and (whole is None or whole.verdict == "cannot_tell"):
            continue
        seen = True
        numbers: dict[str, Any] = {
            "after": after, "lost": len(lost), "of": len(told), "abilities": [label_of(a) for a, _ in lost],
        }  # fmt: skip
        evidence = [(f"difference: {label_of(a)}", _said(c.difference)) for a, c in lost]
        if whole is not None and whole.difference is not None:
            numbers |= {"points": 100 * whole.difference.mean, "n": whole.difference.n}
            evidence.append(("difference over all items", _said(whole.difference)))
        far = limits["ability_lost_error"]
        by_much = [c for _, c in lost if c.difference is not None and c.difference.mean <= -far]
        if whole is not None and whole.verdict == "lost" and whole.difference is not None:
            if whole.difference.mean <= -far:
                yield error("much_lost", *evidence, **numbers)
            elif by_much:
                yield error("some_lost_much_of_these", *evidence, **numbers)
            else:
                yield warning("some_lost", *evidence, **numbers)
        elif by_much:
            yield error("ability_lost", *evidence, **numbers)
        elif lost:
            yield warning("abilities_weaker", *evidence, **numbers)
        elif whole is not None and whole.verdict == "kept":
            yield ok("kept", *evidence, **numbers)
        else:
            yield info("no_loss_shown", *evidence, **numbers)
    if not seen:
        raise NotMeasured("abilities_at_chance")


def _changes(subject: EvaluationSubject, after: str) -> Iterator[tuple[Ability, AbilityChange]]:
    for ability in subject.abilities.abilities:
        for change in ability.changes:
            if change.after == after:
                yield ability, change


def label_of(ability: Ability) -> str:
    """Its name, with its language where it has one."""
    return f"{ability.name} ({ability.lang})" if ability.lang else ability.name


def _said(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] n={difference.n}"
