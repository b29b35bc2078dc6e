"""PRF005, SFT004: rows that are nearly copies of others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs.pairs_repeated import row_key
from diagnostics.pairs_subject import PairsSubject, sure_share
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok
from diagnostics.thresholds import Thresholds


def pairs_nearly_repeated(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether rows are copies of others but for a few characters: prompt and answers alike.
    Why it matters:
        They weigh like repeated rows and leak from training into evaluation, but exact comparison passes them by.
    How it is measured:
        MinHash over the 4-grams of prompt and of each answer (64 slots each): rows whose estimated Jaccard similarity
        reaches `near_answers` (`near_answers_short` where both answers have fewer than 160 of them) and `near_prompts`
        belong together; all but the first of a group are counted. Rows whose answers have fewer than 24 such n-grams
        are left out, and exact copies are counted in PRF004 and SFT003.
    Known false alarms:
        Rows that one template wrote (same sentence, other number) look like copies. Where they are many, and many of
        one kind, they are called so and no fault.
    Fix:
        Keep one of each group, the best by score where there are scores; split training and evaluation by group.
    References:
        https://arxiv.org/abs/2107.06499
        https://doi.org/10.1109/SEQUEN.1997.666900
    """
    table = subject.table
    if table.duplicate_of is None:
        raise NotMeasured("cancelled")
    number = np.arange(table.rows)
    near = table.duplicate_of != number
    _, first, where = np.unique(row_key(subject), return_index=True, return_inverse=True)
    near &= first[where] == number
    if not near.any():
        yield ok(of=table.rows)
        return
    pairs = [
        (f"line {int(table.line[row])}", f"like line {int(table.line[table.duplicate_of[row]])}")
        for row in np.flatnonzero(near)[:5]
    ]
    leaders, sizes = np.unique(table.duplicate_of[near], return_counts=True)
    in_many = near & np.isin(table.duplicate_of, leaders[sizes >= limits["template_rows"]])
    if subject.found(in_many).share >= limits["template_rows_share"]:
        yield subject.found(in_many).observed("from_templates", evidence=pairs, severity="info", groups=len(leaders))
        near &= ~in_many
        if not near.any():
            return
    found = subject.found(near)
    few = found.count < limits["near_least"] or sure_share(found.share, found.of) < limits["near_sure"]
    yield found.observed(
        "nearly_repeated", evidence=pairs, side="chosen", groups=len(np.unique(table.duplicate_of[near])),
        warn="near_warn", error="near_error", severity="info" if few else None,
    )  # fmt: skip
