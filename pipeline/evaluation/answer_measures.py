"""What answers show without anybody judging them, before and after: repetition, ends, length, script, refusals.

With both models at hand also DPO's implicit reward and the distance between the two per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.evaluation.intervals import difference_of_paired_shares, paired_difference, spread_of
from pipeline.evaluation.matched_answers import Side
from pipeline.evaluation.results import Difference, MeasureChange, Spread

Wanted = Literal["lower", "higher", "same", "none"]
# Declining, length and distance are neither good nor bad by themselves: that depends on what was asked for.
WANTED: Mapping[str, Wanted] = {
    "rep_2": "lower", "rep_3": "lower", "rep_4": "lower", "loops": "lower", "ended": "higher", "characters": "none",
    "empty": "lower", "same_language": "higher", "refusal": "none", "template_text": "lower",
    "implicit_reward": "none", "kl_per_token": "none", "kl_k3_per_token": "none",
}  # fmt: skip
IMPLICIT_REWARD, KL, KL_K3 = "implicit_reward", "kl_per_token", "kl_k3_per_token"

Tokens = Callable[[str], Sequence[Hashable]]
"""An answer as the items that repetition is counted over."""


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Nats (log-probability, negative) of both answers of a side, all tokens together, under both models: of the tokens
    that the text is made of again. Of answers drawn from a model that writes badly 15 in 100 were written with others,
    which moved KL by 1% and the implicit reward by 6%; of greedy ones 1 in 100. tokens: of the answer of `after`. k3:
    sum over them of exp(d) - 1 - d, d = log pi_before - log pi_after. NaN where they can't be had."""

    before_by_before: float
    before_by_after: float
    after_by_before: float
    after_by_after: float
    tokens: int
    k3: float = math.nan

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
        http://joschu.net/blog/kl-approx.html, unbiased for answers that were drawn, but negative on many of them, and
        on all together where they are few or greedy."""
        return (self.after_by_after - self.after_by_before) / self.tokens if self.tokens else math.nan

    @property
    def kl_k3(self) -> float:
        """The same by the estimate k3, which is never negative."""
        return self.k3 / self.tokens if self.tokens else math.nan


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
        from pipeline.candidates.text_measures import loop_in, same_script, template_text, text_units, written_script
        from pipeline.pair_measures.written_signs import refuses
        from pipeline.pairs.pair import content_text, text_of
        from pipeline.repetition import repeated_share

        asked = text_of(side.pair.prompt) if side.pair is not None else ""
        question = content_text(side.pair.prompt[-1].get("content")) if side.pair is not None else ""
        reference = side.references[0] if side.references else None
        # a number or a letter is right in every language, so the question says which
        in_words = reference if reference is not None and written_script(reference) is not None else None
        items = text_units(text) if self._tokens is None else self._tokens(text)
        loop = loop_in(text)
        return {
            **{f"rep_{n}": round(repeated_share(items, n), 4) for n in (2, 3, 4)},
            "loops": loop is not None, "loop_text": loop["text"] if loop is not None else "",
            "characters": len(text), "empty": not text.strip(),
            "same_language": same_script(text, in_words, question) if question or in_words else None,
            "refusal": refuses(text), "template_text": template_text(text, asked, reference or "") is not None,
        }  # fmt: skip


def changes(
    sides: Sequence[Side], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]],
    names: tuple[str, str], *, likelihoods: Sequence[Likelihoods | None] | None = None, beta: float = 0.1,
) -> list[MeasureChange]:  # fmt: skip
    """One for each measure that is known of some prompts on both sides."""
    rows = [side.prompt for side in sides]
    found = []
    for name in WANTED:
        if name in (IMPLICIT_REWARD, KL, KL_K3):
            continue
        numbers = [np.array([_number(one.get(name)) for one in held]) for held in (before, after)]
        found.append(_change(name, names, numbers[0], numbers[1], rows))
    if likelihoods is not None:
        rewards = np.array([(math.nan,) * 2 if one is None else one.implicit_rewards(beta) for one in likelihoods])
        found.append(_change(IMPLICIT_REWARD, names, rewards[:, 0], rewards[:, 1], rows))
        kl = np.array([math.nan if one is None else one.kl for one in likelihoods])
        found.append(_change(KL, names, np.where(np.isnan(kl), math.nan, 0.0), kl, rows))
        found.append(_kl_of_tokens(names, likelihoods, rows))
    return [one for one in found if one is not None]


def _kl_of_tokens(
    names: tuple[str, str], likelihoods: Sequence[Likelihoods | None], rows: Sequence[int]
) -> MeasureChange | None:  # fmt: skip
    """KL(after || before) for each token of the answers of `after`: the mean over all tokens of the estimate k3 of
    http://joschu.net/blog/kl-approx.html, which no token makes negative; it has k1's expectation over drawn answers and
    a smaller variance, and of greedy answers tells how far apart both models are on them. The interval is that of a
    ratio of sums, with prompts as the units (W. G. Cochran 1977, Sampling Techniques, section 6.4), from 0 up.

    k3 less k1 is pi_before / pi_after - 1, 0 in the mean, but beyond about one nat nearly all of it comes from tokens
    too rare to be drawn: k3 is too low then (1.26 +- 0.11 where the whole distributions have 1.48). Where that shows,
    the interval goes up to the upper end of k1's."""
    known = [(row, one) for row, one in zip(rows, likelihoods, strict=True)
             if one is not None and one.tokens and math.isfinite(one.k3)]  # fmt: skip
    if not known:
        return None
    places = np.unique([row for row, _ in known], return_inverse=True)[1]
    sums = np.bincount(places, weights=[one.k3 for _, one in known])
    tokens = np.bincount(places, weights=[one.tokens for _, one in known])
    mean, n = float(sums.sum() / tokens.sum()), len(sums)
    logs = np.bincount(places, weights=[one.after_by_after - one.after_by_before for _, one in known])
    low, high = _limits_of_ratio(sums, tokens)
    if _limits_of_ratio(sums - logs, tokens)[1] < 0:
        high = max(high, _limits_of_ratio(logs, tokens)[1])
    difference = Difference(mean, max(low, 0.0), high, n)
    each = sums / tokens
    old, new = Spread(0.0, 0.0, n), Spread(mean, float(each.std(ddof=1)) if n > 1 else math.nan, n)
    return MeasureChange(KL_K3, *names, old, new, difference, WANTED[KL_K3], _verdict(difference, WANTED[KL_K3]))


def _limits_of_ratio(over: Any, under: Any) -> tuple[float, float]:
    """Of the ratio of both sums: Student's interval of the residuals has its width."""
    ratio = float(over.sum() / under.sum())
    off = paired_difference(np.zeros(len(over)), (over - ratio * under) / under.mean())
    return ratio + off.low - off.mean, ratio + off.high - off.mean


def _change(
    name: str, names: tuple[str, str], before: Any, after: Any, rows: Sequence[int]
) -> MeasureChange | None:  # fmt: skip
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return None
    none = Spread(math.nan, math.nan, 0)
    old, new = (spread_of(np.where(known, side, math.nan)) or none for side in (before, after))
    of_shares = set(np.unique(np.concatenate([before[known], after[known]])).tolist()) <= {0.0, 1.0}
    apart = difference_of_paired_shares if of_shares else paired_difference
    difference, wanted = apart(before, after, prompts=rows), WANTED[name]
    return MeasureChange(name, *names, old, new, difference, wanted, _verdict(difference, wanted))


def _verdict(difference: Difference, wanted: Wanted) -> str:
    if not (difference.low > 0 or difference.high < 0):
        return "no_difference"
    if wanted in ("none", "same"):
        return "changed"
    return "better" if (difference.mean > 0) == (wanted == "higher") else "worse"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
