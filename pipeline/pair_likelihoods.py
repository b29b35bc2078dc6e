"""What a model thinks of pairs before any preference training: how probable it finds both answers, the same under
other rows' prompts, and how alike its hidden states for them are (CHES).

CHES is definition 2 of Razin et al., "Unintentional Unalignment: Likelihood Displacement in Direct Preference
Optimization", https://arxiv.org/abs/2410.08847; the variant by length is the one its section 6 chooses pairs with.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from pipeline.pair_tokens import Ids, SideName, TokenisedPair, TokenisedSample
from pipeline.pairs.pair import text_of
from pipeline.score_answers import Piece, Score, position_limit, score_answers
from pipeline.script_of_text import main_script

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.load_model import LoadedModel

SIDES: tuple[SideName, SideName] = ("chosen", "rejected")
_PAIRS_AT_ONCE = 256  # bounds the hidden states that wait for their other side


@dataclass(frozen=True)
class PairLikelihoods:
    """Arrays over the pairs asked about, in the order of their positions; float64, log-probabilities in nats.

    positions: which pairs, int64. logp: by side, the summed log-probability of the answer's tokens that the cut
    leaves, as DPOTrainer logs it. tokens: by side, how many these are, int32. others: by side (those that were asked
    for), of the same tokens under other rows' prompts, (pairs, others), NaN where there is no other prompt or no
    room; other_positions: whose prompts, -1 for none.

    ches: <S+, S-> - |S+|^2 with S the sum of the hidden states that the answer's tokens are predicted from. The higher
    it is, the more training on the pair pushes the chosen answer down as well. ches_by_length: the
    same with means instead of sums. NaN where the model shows no hidden states.

    left_out: pairs of the input that can't be asked about, by reason: those of TokenisedSample and `too_long`, for
    more tokens than the model has positions for. offered: pairs that could have been asked about.
    """

    positions: NDArray[np.int64]
    logp: Mapping[SideName, NDArray[np.float64]]
    tokens: Mapping[SideName, NDArray[np.int32]]
    others: Mapping[SideName, NDArray[np.float64]]
    other_positions: NDArray[np.int64]
    ches: NDArray[np.float64]
    ches_by_length: NDArray[np.float64]
    left_out: Counter[str] = field(default_factory=Counter)
    offered: int = 0

    def __len__(self) -> int:
        return len(self.positions)

    def per_token(self, side: SideName) -> NDArray[np.float64]:
        """Log-probability per token of one side."""
        return self.logp[side] / self.tokens[side]

    def gain_of_own_prompt(self, side: SideName) -> NDArray[np.float64]:
        """Nats per token that one side gains from its own prompt over other rows' prompts, on average; about 0 for an
        answer that has nothing to do with its prompt. NaN where no other prompt could be tried."""
        import numpy as np

        tried = self.others[side]
        counts = np.isfinite(tried).sum(1)
        means = np.where(counts > 0, np.nansum(tried, 1) / np.maximum(counts, 1), np.nan)
        return (self.logp[side] - means) / self.tokens[side]


def pair_likelihoods(
    loaded: LoadedModel, pairs: Iterable[TokenisedPair], *, max_pairs: int = 256, others: int = 2,
    others_for: Sequence[SideName] = ("rejected",), ches: bool = True, seed: int = 0,
    cancel: threading.Event | None = None, progress: Callable[[int, int], None] = lambda done, total: None,
) -> PairLikelihoods:  # fmt: skip
    """Asks the model about up to `max_pairs` of `pairs`, chosen by TokenisedSample with `seed`. Raises NotScored.

    pairs: tokenised with the model's tokenizer, `encoder_decoder` as the model is. others: how many other rows'
    prompts each side in `others_for` is tried under; of rows whose prompt is in the same writing system where there
    are any, as another language alone makes an answer unlikely. The answer's tokens stay those it has under its own
    prompt. progress: pieces done and all of them; a piece is one answer under one prompt.
    """
    import numpy as np

    sample = TokenisedSample(max_pairs, seed)
    for one in pairs:
        sample.add(one)
    asked, left_out = _askable(loaded, sample)
    partners = _partners(asked, others, seed)
    n = len(asked)
    logp: dict[SideName, NDArray[np.float64]] = {side: np.full(n, np.nan) for side in SIDES}
    tokens: dict[SideName, NDArray[np.int32]] = {side: np.zeros(n, np.int32) for side in SIDES}
    tried: dict[SideName, NDArray[np.float64]] = {side: np.full((n, others), np.nan) for side in others_for}
    scores_by_pair = np.full((2, n), np.nan)
    total = n * len(SIDES) + sum(len(p) for p in partners) * len(others_for)
    done = 0

    def told(now: int) -> None:
        progress(done + now, total)

    by_length = sorted(range(n), key=lambda i: max(piece_of(asked[i], side).length for side in SIDES))
    for start in range(0, n, _PAIRS_AT_ONCE):
        places = by_length[start : start + _PAIRS_AT_ONCE]
        own = [piece_of(asked[i], side) for i in places for side in SIDES]
        scores = score_answers(loaded, own, hidden=ches, cancel=cancel, progress=told)
        done += len(own)
        for at, i in enumerate(places):
            both = scores[2 * at : 2 * at + 2]
            for side, score in zip(SIDES, both, strict=True):
                logp[side][i], tokens[side][i] = -score.total, len(score.nats)
            scores_by_pair[:, i] = ches_scores(*both)
        swapped = [(side, i, column) for i in places for side in others_for for column in range(len(partners[i]))]
        moved = {at: _under(asked[partners[at[1]][at[2]]], asked[at[1]], at[0]) for at in swapped}
        fit = {at: piece for at, piece in moved.items() if piece is not None and _fits(loaded, piece)}
        found = score_answers(loaded, list(fit.values()), cancel=cancel, progress=told)
        done += len(swapped)
        for (side, i, column), score in zip(fit, found, strict=True):
            tried[side][i, column] = -score.total
    progress(total, total)
    other_positions = np.full((n, others), -1, np.int64)
    for i, chosen in enumerate(partners):
        other_positions[i, : len(chosen)] = [asked[other].position for other in chosen]
    return PairLikelihoods(
        np.array([one.position for one in asked], np.int64), logp, tokens, tried, other_positions,
        scores_by_pair[0], scores_by_pair[1], left_out, sample.seen,
    )  # fmt: skip


def piece_of(one: TokenisedPair, side: SideName) -> Piece:
    """What is scored of one side: its answer after the cut, behind its prompt.

    A decoder predicts nothing before its first token, so without a prompt the answer's first token becomes context.
    """
    context, answer = one.kept(side)
    if not context and not one.apart:
        context, answer = answer[:1], answer[1:]
    return Piece(context, answer)


def _under(other: TokenisedPair, one: TokenisedPair, side: SideName) -> Piece | None:
    """The same answer tokens behind another row's prompt; None where the cut leaves nothing of the own prompt, as then
    not all of them are scored."""
    context, answer = one.kept(side)
    if not context:
        return None
    if one.apart:
        return Piece(other.kept(side)[0], answer)
    return Piece(other.prompt if one.max_length is None else other.prompt[-one.max_length :], answer)


def ches_scores(chosen: Score, rejected: Score) -> tuple[float, float]:
    """CHES of two scored answers and its variant by length; NaN without hidden states or without a token."""
    import numpy as np

    if chosen.hidden is None or rejected.hidden is None or not chosen.nats or not rejected.nats:
        return float("nan"), float("nan")
    plus, minus = chosen.hidden.astype(np.float64), rejected.hidden.astype(np.float64)
    mean_plus, mean_minus = plus / len(chosen.nats), minus / len(rejected.nats)
    # <a, b> - |a|^2 as <a, b - a>: both terms are large and alike
    return float(plus @ (minus - plus)), float(mean_plus @ (mean_minus - mean_plus))


def _fits(loaded: LoadedModel, piece: Piece) -> bool:
    """Whether the model has positions for it."""
    limit = position_limit(loaded)
    longest = max(len(piece.context), len(piece.answer) + 1) if loaded.is_encoder_decoder else piece.length
    return limit is None or longest <= limit


def _askable(loaded: LoadedModel, sample: TokenisedSample) -> tuple[list[TokenisedPair], Counter[str]]:
    kept, left_out = [], Counter(sample.left_out)
    for one in sample.pairs:
        pieces = [piece_of(one, side) for side in SIDES]
        if not all(piece.answer for piece in pieces):
            left_out["nothing_left"] += 1
        elif not all(_fits(loaded, piece) for piece in pieces):
            left_out["too_long"] += 1
        else:
            kept.append(one)
    return kept, left_out


def _partners(asked: Sequence[TokenisedPair], count: int, seed: int) -> list[list[int]]:
    """For each pair up to `count` others whose prompt it is tried under: drawn by `seed` among those with another
    prompt, each prompt once, in the same writing system where there are any."""
    first_with: dict[Ids, int] = {}
    for i, one in enumerate(asked):
        first_with.setdefault(one.prompt, i)
    scripts = {i: main_script(text_of(asked[i].pair.prompt)) for i in first_with.values()}
    by_script: dict[str | None, list[int]] = {}
    for i, script in scripts.items():
        by_script.setdefault(script, []).append(i)
    everyone = list(first_with.values())
    random = Random(seed)
    found = []
    for one in asked:
        own = first_with[one.prompt]
        alike = by_script[scripts[own]]
        pool = alike if len(alike) > 1 else everyone
        drawn = random.sample(pool, min(len(pool), count + 1))
        found.append([i for i in drawn if i != own][:count])
    return found
