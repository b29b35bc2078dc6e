"""CMP020: bad cases that were fixed, and good ones that broke."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds

CASES_NAMED = 50


def cases_broken(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Of the replayed cases, how many the later model gets right that were bad, and how many went wrong that were
        good.
    Why it matters:
        A bad case is fixed for good only where nothing else breaks for it.
    How it is measured:
        Every case is answered by both models with the same decoding and checked the same way. Any broken case is a
        warning; more broken than fixed ones are an error where so many can't be chance, as one of five cases can.
    Known false alarms:
        Sampling: with a temperature above 0 some cases change from run to run. A standard answer that names one of
        several right answers.
    Fix:
        Read the broken cases. Add them, and good cases like them, to the pairs or the supervised rows; train for fewer
        steps or with a larger beta.
    References:
        https://doi.org/10.1007/BF02295996
    """
    for one in subject.replayed:
        subject.metrics |= {f"replay.fixed.{one.model}": one.fixed, f"replay.broken.{one.model}": one.broken}
        numbers: dict[str, Any] = {
            "model": one.model, "cases": one.cases, "fixed": one.fixed, "broken": one.broken,
            "still_bad": one.still_bad, "still_good": one.still_good, "bad": one.bad, "good": one.good,
            "were_bad": one.fixed + one.still_bad,
        }  # fmt: skip
        evidence: list[tuple[str, Any]] = [
            ("fixed, broken, still bad, still good", [one.fixed, one.broken, one.still_bad, one.still_good])
        ]
        broken = [row.case + 1 for row in subject.replay.rows if row.model == one.model and row.change == "broken"]
        if broken:
            evidence.append(("broken cases", broken[:CASES_NAMED]))
        if one.broken > one.fixed:
            shown = one.change is not None and one.change.verdict == "worse"
            yield (error if shown else warning)("more_broken", *evidence, **numbers)
        elif one.broken:
            yield warning("some_broken", *evidence, **numbers)
        elif one.fixed:
            yield ok("fixed", *evidence, **numbers)
        else:
            yield info("nothing_changed", *evidence, **numbers)
