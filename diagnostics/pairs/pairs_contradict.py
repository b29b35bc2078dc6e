"""PRF006: the same two answers in both orders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def pairs_contradict(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the same prompt has the same two answers in both orders: once the one is chosen, once the other. In data
        with one answer a row: whether one answer to a prompt is labelled both wanted and unwanted.
    Why it matters:
        The gradients of such rows cancel, and what is left is noise. Often a file was merged with its own reversed
        copy, or labels of several annotators were not reduced to one.
    How it is measured:
        Hashes of prompt and answers (lower case, white space as one space) without their order; groups that hold both
        orders.
    Known false alarms:
        Disagreeing annotators that were kept on purpose: then a loss that allows for label noise fits (cDPO, robust).
    Fix:
        Keep the order that most rows, or the scores, speak for; drop rows that stay undecided.
    References:
        https://github.com/TIGER-AI-Lab/EditReward/issues/14
        https://arxiv.org/abs/2403.00409
    """
    table = subject.table
    chosen, rejected, prompt = table.hashes["chosen"], table.hashes["rejected"], table.hashes["prompt"]
    mixed = prompt * np.uint64(0x9E3779B97F4A7C15)
    if subject.kind == "one_sided":
        answer = np.where(table.there["chosen"], chosen, rejected)
        key, order, usable = mixed ^ answer, table.there["chosen"], np.ones(table.rows, bool)
    else:
        usable = subject.paired & (chosen != rejected)
        low, high = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
        key, order = (mixed ^ low) * np.uint64(0xBF58476D1CE4E5B9) ^ high, chosen < rejected
    _, group = np.unique(key, return_inverse=True)
    one, other = (np.bincount(group[usable & way], minlength=len(key)) for way in (order, ~order))
    both = usable & (one[group] > 0) & (other[group] > 0)
    if both.any():
        yield subject.found(both, usable).observed(
            "both_orders", side="prompt", groups=len(np.unique(group[both])), error="contradictions_error"
        )
    else:
        yield ok(of=int(usable.sum()))
