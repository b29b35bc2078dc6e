"""What answers show without anybody judging them, before and after: repetition, ends, length, script, refusals.

With both models at hand also DPO's implicit reward and the distance between the two per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.evaluation.intervals import paired_difference, spread_of
from pipeline.evaluation.matched_answers import Side
from pipeline.evaluation.results import Difference, MeasureChange, Spread

Wanted = Literal["lower", "higher", "same", "none"]
# Declining, length and distance are neither good nor bad by themselves: that depends on what was asked for.
WANTED: Mapping[str, Wanted] = {
    "rep_2": "lower", "rep_3": "lower", "rep_4": "lower", "loops": "lower", "ended": "higher", "characters": "none",
    "empty": "lower", "same_language": "higher", "refusal": "none", "template_text": "lower",
    "implicit_reward": "none", "kl_per_token": "none",
}  # fmt: skip
IMPLICIT_REWARD, KL = "implicit_reward", "kl_per_token"

Tokens = Callable[[str], Sequence[Hashable]]
"""An answer as the items that repetition is counted over."""


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Nats (log-probability, negative) of both answers of a side, all tokens together, under both models. tokens: of
    the answer of `after`. NaN where they can't be had."""

    before_by_before: float
    before_by_after: float
    after_by_before: float
    after_by_after: float
    tokens: int

    def implicit_rewards(self, beta: float) -> tuple[float, float]:
        """beta * log(pi_after / pi_before) of the answer of `before` and of `after` (https://arxiv.org/abs/2305.18290).
        Their difference is the margin that DPO's loss reads, with `before` as the reference."""
        return (
            beta * (self.before_by_after - self.before_by_before),
            beta * (self.after_by_after - self.after_by_before),
        )

    @property
    def kl(self) -> float:
        """Mean over the tokens of the answer of `after` of log pi_after - log pi_before: the estimate k1 of
        http://joschu.net/blog/kl-approx.html, unbiased for sampled answers, for greedy ones an indication."""
        return (self.after_by_after - self.after_by_before) / self.tokens if self.tokens else math.nan


class AnswerMeasures:
    """Measures single answers; equal ones to one prompt once. tokens: None counts repetition over words and marks, and
    single characters of scripts without spaces."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens
        self._known: dict[tuple[int, str], dict[str, Any]] = {}

    def of(self, side: Side, text: str, stopped: bool | None) -> dict[str, Any]:
        """By the names of WANTED; None where one can't be told."""
        key = (side.row, text)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._measured(side, text)
        return {**found, "ended": stopped}

    def _measured(self, side: Side, text: str) -> dict[str, Any]:
        from pipeline.candidates.text_measures import loop_in, same_script, template_text, text_units
        from pipeline.pair_measures.written_signs import refuses
        from pipeline.pairs.pair import content_text, text_of
        from pipeline.repetition import repeated_share

        asked = text_of(side.pair.prompt) if side.pair is not None else ""
        question = content_text(side.pair.prompt[-1].get("content")) if side.pair is not None else ""
        reference = side.references[0] if side.references else None
        items = text_units(text) if self._tokens is None else self._tokens(text)
        loop = loop_in(text)
        return {
            **{f"rep_{n}": round(repeated_share(items, n), 4) for n in (2, 3, 4)},
            "loops": loop is not None, "loop_text": loop["text"] if loop is not None else "",
            "characters": len(text), "empty": not text.strip(),
            "same_language": same_script(text, reference, question) if question or reference else None,
            "refusal": refuses(text), "template_text": template_text(text, asked, reference or "") is not None,
        }  # fmt: skip


def changes(
    sides: Sequence[Side], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]],
    names: tuple[str, str], *, likelihoods: Sequence[Likelihoods | None] | None = None, beta: float = 0.1,
) -> list[MeasureChange]:  # fmt: skip
    """One for each measure that is known of some prompts on both sides."""
    rows = [side.row for side in sides]
    found = []
    for name in WANTED:
        if name in (IMPLICIT_REWARD, KL):
            continue
        numbers = [np.array([_number(one.get(name)) for one in held]) for held in (before, after)]
        found.append(_change(name, names, numbers[0], numbers[1], rows))
    if likelihoods is not None:
        rewards = np.array([(math.nan,) * 2 if one is None else one.implicit_rewards(beta) for one in likelihoods])
        found.append(_change(IMPLICIT_REWARD, names, rewards[:, 0], rewards[:, 1], rows))
        kl = np.array([math.nan if one is None else one.kl for one in likelihoods])
        found.append(_change(KL, names, np.where(np.isnan(kl), math.nan, 0.0), kl, rows))
    return [one for one in found if one is not None]


def _change(
    name: str, names: tuple[str, str], before: Any, after: Any, rows: Sequence[int]
) -> MeasureChange | None:  # fmt: skip
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return None
    none = Spread(math.nan, math.nan, 0)
    old, new = (spread_of(np.where(known, side, math.nan)) or none for side in (before, after))
    difference, wanted = paired_difference(before, after, prompts=rows), WANTED[name]
    return MeasureChange(name, *names, old, new, difference, wanted, _verdict(difference, wanted))


def _verdict(difference: Difference, wanted: Wanted) -> str:
    if not (difference.low > 0 or difference.high < 0):
        return "no_difference"
    if wanted in ("none", "same"):
        return "changed"
    return "better" if (difference.mean > 0) == (wanted == "higher") else "worse"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
