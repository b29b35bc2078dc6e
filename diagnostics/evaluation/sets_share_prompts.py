"""RWD017: held-out pairs whose prompts were trained on."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.pairs_subject import percent
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def sets_share_prompts(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Prompts of the held-out set that stand in the training set too.
    Why it matters:
        Such pairs are not new to the model: the accuracy on them says how well it remembers, and overfitting stays
        unseen.
    How it is measured:
        Exact prompts after white space is made one; the share of the held-out prompts that were seen.
    Known false alarms:
        Few fixed prompts with many answers: then only the answers can be new, and a split by prompt isn't possible.
    Fix:
        Split by prompt, not by row: all pairs of one prompt on the same side (`split` of the Pairs tab does).
    References:
        https://arxiv.org/abs/2107.06499
    """
    shared, of = subject.scores.shared_prompts, subject.scores.held_out_prompts
    if shared is None or not of:
        raise NotMeasured("needs_both_sets")
    share = shared / of
    numbers = {"rows": shared, "of": of, "percent": percent(share)}
    evidence = [("held-out prompts that were trained on", shared)]
    if share >= limits["score_shared_error"]:
        yield error("many_shared", *evidence, **numbers)
    elif share >= limits["score_shared_warn"]:
        yield warning("some_shared", *evidence, **numbers)
    elif shared:
        yield info("few_shared", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
