"""PRF014: rejected answers that are a few texts used again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import PairsSubject, percent
from diagnostics.report import Observation, Severity
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def rejected_from_templates(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the rejected answers are few different texts under many prompts, while the chosen ones are all
        different.
    Why it matters:
        The model learns to avoid those few sentences and nothing else; a fresh reject would be as likely as before.
    How it is measured:
        Different texts (lower case, white space as one space) by number of answers, for both sides, and the share of
        the one used most.
    Known false alarms:
        Classification and yes/no tasks, where chosen answers repeat as much: then both shares are low and nothing is
        said.
    Fix:
        Generate the rejects with the model that is to be trained, one prompt at a time.
    References:
        https://arxiv.org/abs/2404.14367
    """
    table = subject.table
    there = {side: table.there[side] & ~table.flagged(f"empty_{side}") for side in ("chosen", "rejected")}
    n = min(int(mask.sum()) for mask in there.values())
    subject.need_rows(n)
    shares, most, used_most = {}, {}, {}
    for side, mask in there.items():
        texts, counts = np.unique(table.hashes[side][mask], return_counts=True)
        prompts = len(np.unique(table.hashes["prompt"][mask]))
        shares[side] = min(1.0, len(texts) / min(int(mask.sum()), prompts))
        most[side], used_most[side] = int(counts.max()), texts[counts.argmax()]
    numbers: dict[str, Any] = {
        "different": len(np.unique(table.hashes["rejected"][there["rejected"]])), "rejects": n,
        "most": most["rejected"],
        "chosen_different": percent(shares["chosen"]),
    }  # fmt: skip
    subject.metrics |= {f"pairs.different_texts.{side}": round(share, 4) for side, share in shares.items()}
    rows = there["rejected"] & (table.hashes["rejected"] == used_most["rejected"])
    few = shares["rejected"] <= limits["templates_share"] * shares["chosen"]
    one = most["rejected"] / n >= limits["template_most"] and most["chosen"] / n < limits["template_most"] / 3
    if few or one:
        severity: Severity = "error" if shares["rejected"] <= limits["templates_share_error"] else "warning"
        found = subject.found(rows, there["rejected"])
        yield found.observed("few_texts", side="rejected", severity=severity, **numbers)
    else:
        yield ok(**numbers)
