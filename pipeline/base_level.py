"""The same answers under a checkpoint and under the model its training started from."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.format_autopsy import Autopsy, Difference, paired
from pipeline.score_answers import score_answers

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

LEAST_ROWS = 6  # with fewer rows that the checkpoint can do, all are compared
FORMATS = 4  # how many of the checkpoint's best formats the base is given to choose from


@dataclass(frozen=True)
class BaseComparison:
    """difference: base minus checkpoint in nats per token, each under its best format; same_format: both under the
    checkpoint's best one. largest: the largest absolute difference of a row's nats under that."""

    difference: Difference | None
    same_format: Difference | None
    own_nats: float
    base_nats: float
    largest: float


def answers_under_base(loaded: LoadedModel, base: LoadedModel, autopsy: Autopsy) -> BaseComparison | None:
    """Compare on the rows of `autopsy`. base: the same object as `loaded` for an adapter, which is then switched off.

    None when the base has another kind of output. Raises NotScored.
    """
    if base is not loaded and base.is_encoder_decoder != loaded.is_encoder_decoder:
        return None
    if base is not loaded and abs(base.vocabulary - loaded.vocabulary) > 0.02 * loaded.vocabulary:
        return None
    rows = list(autopsy.understood if len(autopsy.understood) >= LEAST_ROWS else range(len(autopsy.rows)))
    tokens = [autopsy.tokens[r] for r in rows]
    fits = list(dict.fromkeys([*autopsy.fits[:FORMATS], *([autopsy.used] if autopsy.used else []),
                               *[f for f in autopsy.fits if f.format.family == "plain"][:1]]))  # fmt: skip
    switched_off: Any = loaded.model.disable_adapter() if base is loaded else nullcontext()
    totals = {}
    with switched_off:
        for fit in fits:
            totals[fit] = [s.total for s in score_answers(base, autopsy.pieces(fit, rows=rows))]
    own = dict(zip(autopsy.best.rows, autopsy.best.totals, strict=True))
    mine = [own[r] for r in rows]
    best = min(totals.values(), key=sum)
    same = [b - m for b, m in zip(totals[autopsy.best], mine, strict=True)]
    return BaseComparison(
        paired([b - m for b, m in zip(best, mine, strict=True)], tokens), paired(same, tokens), sum(mine) / sum(tokens),
        sum(best) / sum(tokens), max(map(abs, same)),
    )  # fmt: skip
