"""PRF019, SFT011: what a trainer cuts away at max_length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation, Severity
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def truncation(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        What is left of every row when the trainer cuts it to max_length tokens.
    Why it matters:
        Where the prompt alone fills max_length the row is dropped or no token of the answer is left; where the sides
        differ only behind the cut they become the same, with a loss of ln 2 and no gradient. Nothing is said about it
        in the log. Answers that lose their end token teach never to end.
    How it is measured:
        Rows are tokenised with the tokenizer given and cut as TRL's DPOTrainer does (prompt and answer together, from
        the right): rows dropped, sides that are the same afterwards but weren't before, answers with no token left, end
        tokens lost.
    Known false alarms:
        Trainers that cut otherwise (LLaMA-Factory shares cutoff_len between prompt and answer).
    Fix:
        Raise max_length to the length said here, or drop the long rows.
    References:
        https://github.com/OpenRLHF/OpenRLHF/issues/1311
        https://github.com/natolambert/rlhf-book/issues/503
        https://github.com/huggingface/trl/issues/6548
    """
    tokens = subject.model.tokens
    length = subject.model.max_length
    longest = np.maximum(tokens.n_prompt, 0) + np.maximum(np.maximum(tokens.n_chosen, tokens.n_rejected), 0)
    usable = tokens.problem == 0
    p95, most = int(np.percentile(longest, 95)), int(longest.max(initial=0))
    subject.metrics |= {
        "pairs.tokens.p95": p95, "pairs.tokens.max": most, "pairs.tokens.max_length": length,
        "pairs.tokens.truncated_share": round(float((longest > length).mean()), 4),
    }  # fmt: skip
    numbers: dict[str, Any] = {"max_length": length, "p95": p95, "most": most}
    quiet = True
    for rows, name in ((tokens.dropped, "dropped"), (tokens.same_kept & ~tokens.same, "same_after_cut")):
        found = subject.found(rows & usable)
        if not found.count:
            continue
        quiet = False
        if name == "dropped":
            yield found.observed("dropped", side="prompt", warn="cut_rows_warn", **numbers)
        else:
            yield found.observed("same_after_cut", side="chosen", **numbers)
    nothing = tokens.nothing_left & ~tokens.dropped & usable & ~subject.table.flagged("empty_chosen", "empty_rejected")
    found = subject.found(nothing)
    if found.count:
        quiet = False
        yield found.observed("nothing_left", side="prompt", **numbers)
    found = subject.found((tokens.end_cut_chosen | tokens.end_cut_rejected) & usable)
    if found.count:
        quiet = False
        severity: Severity = "warning" if found.share >= limits["end_cut_warn"] else "info"
        yield found.observed("end_cut", severity=severity, **numbers)
    if (tokens.problem > 0).any():
        quiet = False
        problem = tokens.problems[int(np.bincount(tokens.problem)[1:].argmax()) + 1]
        yield subject.found(tokens.problem > 0).observed(
            "not_tokenised", evidence=[(name, tokens.details.get(name, "")) for name in tokens.problems[1:]],
            problem=problem,
        )  # fmt: skip
    if quiet:
        yield ok(of=subject.table.rows, **numbers)
