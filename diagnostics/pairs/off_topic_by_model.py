"""PRF024: whether answers are any likelier under their own prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import PairsSubject, percent
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok
from diagnostics.thresholds import Thresholds


def off_topic_by_model(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether rejected answers are likelier under their own prompt than under other rows' prompts, to a model.
    Why it matters:
        As PRF013, and it sees what shares no words: an answer in other words is likelier under its own prompt all the
        same.
    How it is measured:
        Log-probability per token under the own prompt less the mean under two other prompts in the same script, of up
        to 256 pairs; the share of rejected answers that gain less than `gain_of_prompt`. Only judged where nearly all
        chosen answers do gain: otherwise the model itself passes over prompts, or knows nothing of such answers.
    Known false alarms:
        Answers that fit any prompt ("I don't know").
    Fix:
        Diagnose the model that wrote the rejected answers, then generate them anew.
    References:
        https://arxiv.org/abs/2404.14723
    """
    if subject.kind != "pairs":
        raise NotMeasured("no_pairs")
    found = subject.model.likelihoods
    gains = {side: found.gain_of_own_prompt(side) for side in ("chosen", "rejected")}
    sound = np.isfinite(gains["chosen"]) & np.isfinite(gains["rejected"])
    n = int(sound.sum())
    subject.need_rows(n)
    middle = {side: float(np.median(gain[sound])) for side, gain in gains.items()}
    nothing = sound & (gains["rejected"] < limits["gain_of_prompt"])
    share = float(nothing.sum()) / n
    rows = np.zeros(subject.table.rows, bool)
    rows[found.positions[nothing]] = True
    numbers: dict[str, Any] = {
        "chosen": round(middle["chosen"], 3), "rejected": round(middle["rejected"], 3), "asked": n,
        "off": percent(share),
    }  # fmt: skip
    subject.metrics |= {f"pairs.gain_of_prompt.{side}": round(value, 4) for side, value in middle.items()}
    chosen_off = float((gains["chosen"][sound] < limits["gain_of_prompt"]).mean())
    if middle["chosen"] < limits["gain_of_prompt"] or chosen_off >= limits["off_topic_by_model_warn"]:
        yield info("model_ignores_prompts", **numbers)
    elif share >= limits["off_topic_by_model_error"]:
        yield subject.found(rows).observed("off_topic", side="rejected", severity="error", **numbers)
    elif share >= limits["off_topic_by_model_warn"]:
        yield subject.found(rows).observed("partly_off_topic", side="rejected", severity="warning", **numbers)
    else:
        yield ok("ok", **numbers)
