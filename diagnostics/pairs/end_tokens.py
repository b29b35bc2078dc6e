"""PRF020, SFT012: the end token as the trainer makes it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok
from diagnostics.thresholds import Thresholds


def end_tokens(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers, tokenised as the trainer does, end with exactly one end token; and whether written end markers
        are tokens of this tokenizer at all.
    Why it matters:
        Without an end token the model never learns to stop. With two of them it learns to stop, and a second one after
        it; a marker that is no token is learned as letters, and generation doesn't stop at it.
    How it is measured:
        The last tokens of every answer before truncation: an end or end-of-turn token of this tokenizer, one behind
        another one, or a written marker that splits into several tokens.
    Known false alarms:
        Templates whose turns end with a token that is not declared as an end token anywhere.
    Fix:
        Strip written markers; use a chat template that ends the assistant's turn, or set eos_token to the token it
        writes.
    References:
        https://github.com/huggingface/trl/issues/2382
    """
    tokens = subject.model.tokens
    usable = tokens.problem == 0
    if not usable.any():
        raise NotMeasured("not_tokenised")
    sides = {"chosen": tokens.n_chosen, "rejected": tokens.n_rejected}
    there = usable & np.logical_or.reduce([sides[side] >= 0 for side in subject.answers])
    closed = np.logical_and.reduce(
        [getattr(tokens, f"closed_{side}") | (sides[side] < 0) for side in subject.answers]
    )
    quiet = True
    unclosed = subject.found(there & ~closed, there)
    if unclosed.count:
        quiet = False
        yield unclosed.observed("no_end_token", side="chosen")
    doubled = subject.found((tokens.end_doubled_chosen | tokens.end_doubled_rejected) & usable, there)
    if doubled.count:
        quiet = False
        yield doubled.observed("end_twice", side="chosen")
    spelled = subject.found((tokens.end_spelled_chosen | tokens.end_spelled_rejected) & usable, there)
    if spelled.count:
        quiet = False
        mark = tokens.spelled.most_common(1)[0][0] if tokens.spelled else ""
        yield spelled.observed("end_is_no_token", side="chosen", mark=mark)
    if quiet:
        yield ok(of=int(there.sum()))
