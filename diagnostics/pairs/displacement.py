"""PRF023: pairs whose two answers look alike to the model (CHES)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured
from diagnostics.thresholds import Thresholds


def displacement(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Which pairs are the likeliest to push down the chosen answer together with the rejected one.
    Why it matters:
        Preference training on pairs whose answers look alike to the model lowers the probability of both (likelihood
        displacement), and what gains may be neither.
    How it is measured:
        The centred hidden embedding similarity (CHES) of each pair from the model's last hidden states, by length. It
        ranks pairs and has no scale of its own, so it is information: the upper tenth is listed.
    Known false alarms:
        None: nothing is called wrong here.
    Fix:
        Leave out the pairs with the highest score; the paper that proposes it keeps the lower half.
    References:
        https://arxiv.org/abs/2410.08847
    """
    if subject.kind != "pairs":
        raise NotMeasured("no_pairs")
    found = subject.model.likelihoods
    scores = found.ches_by_length
    sound = np.isfinite(scores)
    subject.need_rows(int(sound.sum()))
    high = sound & (scores >= np.quantile(scores[sound], min(1.0, max(0.0, limits["ches_listed_from"]))))
    rows = np.zeros(subject.table.rows, bool)
    rows[found.positions[high]] = True
    middle = float(np.median(scores[sound]))
    subject.metrics["pairs.ches_by_length.median"] = round(middle, 4)
    yield subject.found(rows).observed(
        "ranked", severity="info", middle=round(middle, 3), highest=round(float(scores[sound].max()), 3),
        asked=int(sound.sum()),
    )  # fmt: skip
