"""PRF004, SFT003: rows that stand in the file more than once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def pairs_repeated(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether rows repeat earlier ones: the same prompt with the same answers.
    Why it matters:
        A repeated row counts twice in every epoch and is known by heart sooner; split into training and evaluation it
        makes the evaluation look better than it is.
    How it is measured:
        A hash of each text in lower case with white space as one space; rows whose hashes all agree with an earlier
        row's. One prompt with several different answers is no repetition.
    Known false alarms:
        Sets that were made larger on purpose by repeating rare rows.
    Fix:
        Keep the first of each group.
    References:
        https://arxiv.org/abs/2107.06499
    """
    table = subject.table
    key = row_key(subject)
    _, first, where = np.unique(key, return_index=True, return_inverse=True)
    repeats = first[where] != np.arange(table.rows)
    if not repeats.any():
        yield ok(of=table.rows)
        return
    yield subject.found(repeats).observed(
        "repeated", side="prompt", different=len(first), warn="repeated_warn", error="repeated_error"
    )


def row_key(subject: PairsSubject) -> np.ndarray:
    """(n,) one number for prompt and answers together; equal for equal rows."""
    table = subject.table
    key = table.hashes["prompt"] * np.uint64(0x9E3779B97F4A7C15)
    for n, side in enumerate(("chosen", "rejected"), 1):
        there = np.where(table.there[side], table.hashes[side], np.uint64(n))
        key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + there
    mixed: np.ndarray = key
    return mixed
