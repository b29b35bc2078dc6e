"""Which side is off topic, by the words answers share with prompts and with each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnostics.pairs_subject import PairsSubject
from diagnostics.thresholds import Thresholds


@dataclass(frozen=True)
class Share:
    """An estimated share off topic with its standard error, and the rows it comes from."""

    value: float
    error: float
    rows: int

    @property
    def sure(self) -> float:
        """Lower end of the 95% interval."""
        return self.value - 1.96 * self.error


@dataclass(frozen=True)
class Topics:
    """rejected_to_row: rejects that don't fit prompt and chosen answer together. chosen, rejected: answers that don't
    fit the prompt. judged: (n,) the rows looked at. different: prompts among them. times_as_long: the longer
    side of the shorter one, in the median.
    """

    rejected_to_row: Share
    chosen: Share
    rejected: Share
    judged: np.ndarray
    different: int
    times_as_long: float
    limits: Thresholds

    @property
    def shown(self) -> bool:
        """Whether words show what an answer is about: the chosen ones fit their prompts."""
        return self.chosen.rows > 0 and self.chosen.value <= self.limits["topics_shown"]

    @property
    def rejected_is_more_off(self) -> bool:
        """Whether rejected answers surely fit less than chosen ones do."""
        most = max(self.rejected_to_row, self.rejected, key=lambda share: share.value)
        return most.value - self.chosen.value > 1.96 * float(np.hypot(most.error, self.chosen.error))

    @property
    def chosen_is_off(self) -> bool:
        """Whether it is the chosen answers that don't belong: they fit the prompt less than the rejected ones do, and
        the two answers don't belong together either, as a short answer and a long one to the same question do."""
        gap = self.chosen.value - self.rejected.value
        spread = float(np.hypot(self.chosen.error, self.rejected.error))
        apart = gap - 1.96 * spread >= self.limits["topics_apart"]
        return (
            self.different >= self.limits["data_least_rows"] and apart
            and self.rejected_to_row.value >= self.limits["topics_unrelated"]
            and self.times_as_long <= self.limits["topics_times_as_long"]
        )  # fmt: skip


def topics(subject: PairsSubject, limits: Thresholds) -> Topics:
    """Of all pairs in which neither side refuses: a refusal shares words with every other one. Where words don't show
    what answers are about, also without answers made of stock phrases."""
    found = _of(subject, limits, np.ones(subject.table.rows, bool))
    if found.shown:
        return found
    stock = subject.table.stock
    return _of(subject, limits, np.maximum(stock["chosen"], stock["rejected"]) < limits["stock_share"])


def _of(subject: PairsSubject, limits: Thresholds, among: np.ndarray) -> Topics:
    table = subject.table
    usable = among & table.paired & ~table.flagged("empty_chosen", "empty_rejected", "empty_prompt")
    for side in ("chosen", "rejected"):
        usable &= table.features["refuses"][side] == 0
    judged = usable & np.isfinite(table.rejected_fit)
    # An answer that repeats its prompt fits it, whatever else it says.
    sides = ("chosen", "rejected")
    repeats = table.flagged(*(f"{how}_prompt_{side}" for how in ("starts_with", "holds") for side in sides))
    chosen, rejected = (_share(table.prompt_fit[side][usable & ~repeats], limits) for side in sides)
    lengths = [np.maximum(table.chars[side][judged], 1) for side in sides]
    ratio = float(np.median(lengths[0] / lengths[1])) if judged.any() else 1.0
    return Topics(
        _share(table.rejected_fit[judged], limits), chosen, rejected, judged,
        len(np.unique(table.hashes["prompt"][judged])), max(ratio, 1 / ratio), limits,
    )  # fmt: skip


def _share(fit: np.ndarray, limits: Thresholds) -> Share:
    """An answer off topic lies below the fit of chance as often as above it, so the share is that of those below,
    divided by it."""
    fit = fit[np.isfinite(fit)]
    if not len(fit):
        return Share(0.0, 1.0, 0)
    chance = max(1e-6, limits["fit_of_chance"])
    below = float((fit < chance).mean())
    variance = max(below * (1 - below), 0.25 / len(fit)) / len(fit)
    return Share(below / chance, float(np.sqrt(variance)) / chance, len(fit))


def answers_of_other_rows(subject: PairsSubject, limits: Thresholds) -> np.ndarray:
    """(n,) rejected answers that are, word for word, the chosen one of another prompt. Texts that are chosen under
    several prompts, as labels are, don't count."""
    table = subject.table
    chosen = np.flatnonzero(table.there["chosen"] & ~table.flagged("empty_chosen"))
    texts, first, count = np.unique(table.hashes["chosen"][chosen], return_index=True, return_counts=True)
    if not len(texts):
        return np.zeros(table.rows, bool)
    place = np.minimum(np.searchsorted(texts, table.hashes["rejected"]), len(texts) - 1)
    same = (texts[place] == table.hashes["rejected"]) & table.paired & (count[place] == 1)
    owner = chosen[first[place]]
    found: np.ndarray = same & (table.hashes["prompt"][owner] != table.hashes["prompt"])
    for side in ("chosen", "rejected"):
        found &= table.features["refuses"][side] == 0
    found &= table.chars["rejected"] >= limits["copied_characters"]
    # The text belongs to the prompt it fits better: where that is the one it is rejected under, the chosen ones moved.
    gap = table.prompt_fit["chosen"][owner[found]] - table.prompt_fit["rejected"][found]
    gap = gap[np.isfinite(gap)]
    return found if not len(gap) or gap.mean() >= -limits["copied_gap"] else np.zeros(table.rows, bool)
