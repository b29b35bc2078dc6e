"""PRF022: how probable the model that is to be trained finds both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok
from diagnostics.thresholds import Thresholds


def off_policy(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the chosen answers are much less probable to the model than the rejected ones.
    Why it matters:
        With chosen answers of a stronger model and its own answers as rejected, the loss falls fastest by pushing down
        what the model itself says. Reported falls of ability after such runs are large.
    How it is measured:
        Log-probability per token of both sides under --model, of up to 256 pairs; the median over pairs of the
        difference in nats.
    Known false alarms:
        The recipe is common and works with a low learning rate, few steps and an added SFT loss. Answers in another
        language or format are improbable too.
    Fix:
        Train on the chosen answers first (SFT), or take both sides from the model itself; add an SFT loss (rpo_alpha,
        loss_type with sft) and a low learning rate.
    References:
        https://github.com/hiyouga/LLaMA-Factory/issues/5484
        https://arxiv.org/abs/2404.14367
    """
    if subject.kind != "pairs":
        raise NotMeasured("no_pairs")
    found = subject.model.likelihoods
    chosen, rejected = found.per_token("chosen"), found.per_token("rejected")
    sound = np.isfinite(chosen) & np.isfinite(rejected)
    n = int(sound.sum())
    subject.need_rows(n)
    gap = rejected[sound] - chosen[sound]
    middle = float(np.median(gap))
    numbers: dict[str, Any] = {
        "gap": round(middle, 2), "chosen": round(float(np.median(-chosen[sound])), 2),
        "rejected": round(float(np.median(-rejected[sound])), 2), "asked": n,
    }  # fmt: skip
    subject.metrics |= {
        "pairs.nll.chosen": numbers["chosen"], "pairs.nll.rejected": numbers["rejected"],
        "pairs.off_policy_gap": numbers["gap"],
    }  # fmt: skip
    evidence = [("median nats per token", {"chosen": numbers["chosen"], "rejected": numbers["rejected"]})]
    rows = np.zeros(subject.table.rows, bool)
    rows[found.positions[sound][gap > limits["off_policy_gap"]]] = True
    if middle > limits["off_policy_gap"]:
        yield subject.found(rows).observed("chosen_improbable", evidence=evidence, severity="warning", **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
