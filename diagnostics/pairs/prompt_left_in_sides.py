"""PRF018: chosen and rejected that begin with the same stretch of conversation."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def prompt_left_in_sides(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether both answers begin alike for more than half of the shorter one, and hold turns of other speakers: part
        of the prompt was left in them.
    Why it matters:
        Cut at the first turn instead of the last, the rest of the conversation counts as answer on both sides: its
        gradients cancel at best, and users' turns are trained as answers.
    How it is measured:
        Characters both sides begin with, and speakers' names or template marks within them.
    Known false alarms:
        Answers that quote a dialogue.
    Fix:
        Cut the prompt at the last assistant marker that both sides share.
    References:
        https://github.com/huggingface/trl/issues/1858
    """
    table = subject.table
    paired = subject.paired
    found = subject.found(table.flagged("shared_turns"), paired)
    if found.count:
        yield found.observed(
            "shared_turns", side="chosen", flags=["shared_turns"], warn="shared_turns_warn",
            error="prompt_repeated_error",
        )  # fmt: skip
    else:
        yield ok(of=int(paired.sum()))
