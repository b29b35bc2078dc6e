"""PRF003, SFT002: answers and prompts with nothing in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def sides_empty(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether prompts or answers are empty or hold nothing that can be seen, whether rows lack one of the two answers
        while others have both, and whether answers with labels (KTO) all have the same one.
    Why it matters:
        An empty rejected answer teaches that any text is better than ending at once; an empty chosen one teaches to say
        nothing. Some trainers divide by the length of the answer and reach NaN. A row without one of its answers is no
        pair, and labels that are all the same say nothing.
    How it is measured:
        Characters left after white space and characters of no width are taken away.
    Known false alarms:
        An empty answer may be meant (stay silent, no tool call), an empty prompt in free continuation.
    Fix:
        Drop these rows, or generate the missing side. A column that is empty throughout was never filled: give the file
        to `python -m pipeline generate` or map the right column.
    References:
        https://github.com/huggingface/trl/issues/6548
    """
    table = subject.table
    nothing = True
    for side in (*subject.answers, "prompt"):
        rows = table.flagged(f"empty_{side}")
        if not rows.any():
            continue
        nothing = False
        found = subject.found(rows, table.there[side])
        if side == "chosen":
            yield found.observed("chosen_empty", side="prompt")
        elif side == "rejected" and found.share > 0.98:
            yield found.observed("rejected_never_filled", side="prompt", severity="error")
        elif side == "rejected":
            yield found.observed("rejected_empty", side="prompt")
        else:
            yield found.observed("prompt_empty", side="chosen")
    lacking = subject.found(~table.paired)
    if subject.kind == "pairs" and lacking.count:
        nothing = False
        yield lacking.observed("one_side_only", side="prompt")
    if subject.kind == "one_sided" and not all(table.there[side].any() for side in subject.answers):
        nothing = False
        label = "true" if table.there["chosen"].any() else "false"
        all_of_them = subject.found(np.ones(table.rows, bool))
        few = table.rows < limits["data_least_rows"]
        yield all_of_them.observed("one_label_only", severity="info" if few else "warning", label=label)
    if nothing:
        yield ok(of=table.rows)
