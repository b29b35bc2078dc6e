"""PRF002: pairs whose two sides are the same."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def sides_identical(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether chosen and rejected are the same text, or differ in white space and capital letters alone.
    Why it matters:
        Such a pair has the loss ln 2 and no gradient whatever the model does; where only a space differs, the model
        learns the space.
    How it is measured:
        Both texts are compared as they are, and in lower case with every run of white space as one space.
    Known false alarms:
        Tasks in which white space or capitals are the point (formatting code, spelling of names).
    Fix:
        Drop these rows. If they came from sampling, raise the temperature or sample again where the candidate equals
        the reference; if they came from ratings, leave out ties.
    References:
        https://arxiv.org/abs/2305.18290
    """
    table, paired = subject.table, subject.paired
    exact, nearly = table.flagged("identical"), table.flagged("identical_but_for_space")
    if exact.any():
        yield subject.found(exact, paired).observed(
            "identical", side="chosen", flags=["identical"], error="identical_error"
        )
    if nearly.any():
        yield subject.found(nearly, paired).observed(
            "identical_but_for_space", side="chosen", flags=["identical_but_for_space"], error="identical_error"
        )
    if not (exact | nearly).any():
        yield ok(of=int(paired.sum()))
