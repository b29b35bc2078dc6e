"""PRF011: what the length of the answers alone tells."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import PairsSubject, paired_auc, percent, unpaired_auc
from diagnostics.report import Observation, Severity
from diagnostics.run_checks import info, ok
from diagnostics.thresholds import Thresholds


def length_bias(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How often the chosen answer is the longer one, by how much, and how many pairs length alone would order rightly.
    Why it matters:
        A preference loss sums log-probabilities over tokens: length is the easiest thing to learn. Models trained on
        longer chosen answers grow wordy; on shorter ones they break off.
    How it is measured:
        Characters of both answers without white space at their edges, empty ones left out; the share of pairs whose
        chosen answer is longer (equal ones count half; where answers stand apart, as in KTO, of all comparisons of a
        wanted with an unwanted one), the median of the ratio, and Cohen's d of the log-lengths. An alarm needs both a
        share away from one half (with its 95% interval) and a ratio away from 1.
    Known false alarms:
        Tasks in which the better answer has to be shorter or longer (summaries, corrections, expansions). Human chat
        preferences prefer the longer answer in about 60%.
    Fix:
        Balance the pairs by length, drop the most uneven, use a length-normalised loss (SimPO, `sigmoid_norm`) or
        `ld_alpha`.
    References:
        https://arxiv.org/abs/2403.19159
        https://arxiv.org/abs/2310.03716
        https://github.com/princeton-nlp/SimPO/issues/20
    """
    table = subject.table
    there = table.paired if subject.kind == "pairs" else None
    lengths = [np.maximum(table.chars[side], 0).astype(float) for side in ("chosen", "rejected")]
    if there is not None:
        there = there & (lengths[0] > 0) & (lengths[1] > 0)  # an empty side is PRF003's
        chosen, rejected = (length[there] for length in lengths)
        auc, error_of = paired_auc(chosen, rejected)
    else:
        sides = zip(lengths, ("chosen", "rejected"), strict=True)
        chosen, rejected = (length[table.there[side] & (length > 0)] for length, side in sides)
        auc, error_of = unpaired_auc(chosen, rejected)
    n = min(len(chosen), len(rejected))
    subject.need_rows(n)
    logs = np.log(chosen), np.log(rejected)
    spread = math.sqrt((float(logs[0].var()) + float(logs[1].var())) / 2)
    d = (float(logs[0].mean()) - float(logs[1].mean())) / spread if spread > 1e-9 else 0.0
    ratio = float(np.median(chosen / rejected)) if there is not None else float(np.median(chosen) / np.median(rejected))
    numbers: dict[str, Any] = {
        "percent": percent(auc), "shorter": percent(1 - auc), "ratio": round(ratio, 2),
        "d": round(d, 2), "predicts": percent(max(auc, 1 - auc)), "of": n, "chosen": int(np.median(chosen)),
        "rejected": int(np.median(rejected)),
    }  # fmt: skip
    subject.metrics |= {
        "pairs.length.chosen_longer": round(auc, 4), "pairs.length.median_ratio": round(ratio, 4),
        "pairs.length.cohens_d": round(d, 4), "pairs.length.median_chosen": float(np.median(chosen)),
        "pairs.length.median_rejected": float(np.median(rejected)),
    }  # fmt: skip
    away, sure = abs(auc - 0.5), abs(auc - 0.5) - 1.96 * max(error_of, 0.25 / math.sqrt(n))
    times = max(ratio, 1 / max(ratio, 1e-9))
    uneven = sure >= limits["length_sure_away"] and away >= limits["length_away"] and times >= limits["length_ratio"]
    far = sure >= limits["length_sure_far"] and times >= limits["length_ratio_far"]
    evidence = [("median characters", {"chosen": numbers["chosen"], "rejected": numbers["rejected"]})]
    longer = auc > 0.5
    if uneven or far:
        extreme = away >= limits["length_away_error"] and times >= limits["length_ratio_error"]
        severity: Severity = "error" if extreme else "warning"
        rows = np.zeros(table.rows, bool)
        if there is not None:
            rows = there & ((lengths[0] > lengths[1]) if longer else (lengths[0] < lengths[1]))
            times_of = np.maximum(lengths[0], 1) / np.maximum(lengths[1], 1)
            rows &= np.maximum(times_of, 1 / times_of) >= limits["length_ratio"]
        found = subject.found(rows, there)
        numbers |= {"auc": numbers.pop("percent"), "pairs": numbers.pop("of")}
        if longer:
            yield found.observed("chosen_longer", evidence=evidence, severity=severity, **numbers)
        else:
            yield found.observed("chosen_shorter", evidence=evidence, severity=severity, **numbers)
    elif sure >= limits["length_sure_far"]:
        yield info("leans", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
