"""CMP021: bad cases that stay bad."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def cases_still_bad(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many of the cases that were bad before are bad still.
    Why it matters:
        An adapter trained to fix them that fixes none was not trained, not loaded, or trained on something else.
    How it is measured:
        Cases bad with the base and with the model, of those bad with the base. All of them is a warning; whether every
        answer is the base's, letter for letter, is told with it.
    Known false alarms:
        Cases the model was not trained for. Two or three cases say little.
    Fix:
        Look whether the adapter changes answers at all (`python -m diagnostics checkpoint` on it), then whether pairs
        like these cases were in the training data.
    References:
        https://arxiv.org/abs/2305.18290
    """
    seen = False
    for one in subject.replayed:
        were_bad = one.fixed + one.still_bad
        if not were_bad:
            continue
        seen = True
        numbers = {"model": one.model, "still_bad": one.still_bad, "were_bad": were_bad, "fixed": one.fixed}
        evidence = [("still bad, of", [one.still_bad, were_bad])]
        if not one.still_bad:
            yield ok("ok", *evidence, **numbers)
        elif one.fixed:
            yield info("some_still_bad", *evidence, **numbers)
        elif _as_the_base(subject, one.model) >= limits["replay_unchanged_cases"]:
            yield warning("answers_unchanged", *evidence, **numbers)
        else:
            yield warning("all_still_bad", *evidence, **numbers)
    if not seen:
        raise NotMeasured("no_bad_cases")


def _as_the_base(subject: EvaluationSubject, model: str) -> int:
    """Cases, if the model answered every one of them exactly as the base; else 0."""
    base = subject.replay.models[0].name
    answers = {row.case: row.answer for row in subject.replay.rows if row.model == base}
    own = [row for row in subject.replay.rows if row.model == model and row.case in answers]
    return len(own) if all(row.answer == answers[row.case] for row in own) else 0
