"""How the next token is taken from the scores: greedy or drawn, each row by its own settings and random numbers.

A draw needs one uniform number. It comes from a generator of the answer's own seed and the token's place, and is looked
up in the cumulative distribution in the order of token ids. So what is drawn depends on the scores alone, not on what
else is in the batch. Scores themselves differ in their last digits with the size of a batch; where such a difference
could turn a choice, the row is reported as undecided and its scores are computed alone (see slot_engine).

The order of the steps is that of transformers: penalties, temperature, top_k, top_p, min_p.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNIFORMS = 64
"""Uniform numbers drawn at a time: their stream doesn't depend on how many are asked for at once."""
CHUNK = 64
"""Width of the blocks whose largest values are looked at first: see `largest`."""
FIRST_LOOK = 256
"""How many of the likeliest tokens top_p is sought among before all are sorted."""


@dataclass(frozen=True)
class Decoding:
    """Fields of GenerationConfig, by its names. temperature: None or 0 is greedy; top_k: 0 is none."""

    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0

    @property
    def draws(self) -> bool:
        return bool(self.temperature)

    @property
    def penalised(self) -> bool:
        return self.repetition_penalty != 1.0 or self.no_repeat_ngram_size > 0 or self.min_new_tokens > 0

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Decoding:
        """From fields of GenerationConfig; others are left out. Raises ValueError for impossible values."""
        known = {name: parameters[name] for name in cls.__dataclass_fields__ if parameters.get(name) is not None}
        made = cls(**known)
        if made.temperature is not None and not 0 <= made.temperature < 1000:
            raise ValueError(f"temperature {made.temperature}")
        if not 0 < made.top_p <= 1 or not 0 <= made.min_p <= 1 or made.top_k < 0:
            raise ValueError(f"top_p {made.top_p}, min_p {made.min_p}, top_k {made.top_k}")
        if made.repetition_penalty <= 0 or made.no_repeat_ngram_size < 0:
            raise ValueError(f"repetition_penalty {made.repetition_penalty}")
        return made


class Uniforms:
    """Uniform numbers in [0, 1) for one answer, by the place of the token."""

    __slots__ = ("_made", "_stream")

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._stream = np.random.Generator(np.random.Philox(seed & (2**64 - 1)))
        self._made: list[float] = []

    def at(self, place: int) -> float:
        while place >= len(self._made):
            self._made += self._stream.random(UNIFORMS).tolist()
        return self._made[place]


class Settings:
    """The decoding of every row of a batch as tensors, (rows,)."""

    def __init__(self, rows: Sequence[Decoding], device: Any) -> None:
        import torch

        self.rows = list(rows)
        self.draws = torch.tensor([r.draws for r in rows], device=device)
        self.all_draw, self.none_draw = all(r.draws for r in rows), not any(r.draws for r in rows)
        self.temperature = torch.tensor([r.temperature or 1.0 for r in rows], device=device)
        self.top_k = torch.tensor([(r.top_k or 2**31 - 1) if r.draws else 1 for r in rows], device=device)
        self.top_p = torch.tensor([r.top_p for r in rows], device=device)
        self.min_p = torch.tensor([r.min_p for r in rows], device=device)
        self.penalised = [i for i, r in enumerate(rows) if r.penalised]
        drawing = [r for r in rows if r.draws]
        self.widest = max((r.top_k for r in drawing), default=0) if all(r.top_k for r in drawing) else 0
        self.cut = any(r.top_p < 1 or r.min_p > 0 or r.top_k for r in drawing)


def penalise(scores: Any, decoding: Decoding, before: Sequence[int], made: int, stops: Sequence[int]) -> None:
    """Changes one row's scores, (vocabulary,), as transformers' processors do. before: ids so far, the prompt's too;
    made: how many of them are new."""
    import torch

    if decoding.repetition_penalty != 1.0 and before:
        seen = torch.tensor(sorted({i for i in before if i < scores.shape[0]}), device=scores.device)
        values = scores[seen]
        penalty = decoding.repetition_penalty
        scores[seen] = torch.where(values < 0, values * penalty, values / penalty)
    size = decoding.no_repeat_ngram_size
    if size and len(before) + 1 >= size:
        head = tuple(before[len(before) - size + 1 :])
        places = range(len(before) - size + 1)
        banned = {before[i + size - 1] for i in places if tuple(before[i : i + size - 1]) == head}
        if banned:
            scores[torch.tensor(sorted(banned), device=scores.device)] = -float("inf")
    if made < decoding.min_new_tokens and stops:
        scores[torch.tensor(list(stops), device=scores.device)] = -float("inf")


def take(scores: Any, settings: Settings, uniforms: Any, doubt: float) -> tuple[Any, Any]:
    """The next token of every row, (rows,), and whether another batch could have given another, (rows,) of bool.

    scores: (rows, vocabulary) in float32, penalties applied, no NaN. uniforms: (rows,), unused where greedy. doubt: by
    how much a score may be off; 0 asks for no account of doubt.
    """
    import torch

    if settings.none_draw:
        return _greedy(scores, doubt)
    if settings.all_draw:
        return _drawn(scores, settings, uniforms, doubt)
    best, unsure = _greedy(scores, doubt)
    drawn, open_ = _drawn(scores, settings, uniforms, doubt)
    return torch.where(settings.draws, drawn, best), torch.where(settings.draws, open_, unsure)


def _greedy(scores: Any, doubt: float) -> tuple[Any, Any]:
    import torch

    if not doubt or scores.shape[1] < 2:
        return scores.argmax(-1), torch.zeros(scores.shape[0], dtype=torch.bool, device=scores.device)
    values, ids = largest(scores, 2)
    # equal scores: the lower id, as argmax has it
    first = torch.where(values[:, 0] == values[:, 1], torch.minimum(ids[:, 0], ids[:, 1]), ids[:, 0])
    return first, values[:, 0] - values[:, 1] < doubt


def _drawn(scores: Any, settings: Settings, uniforms: Any, doubt: float) -> tuple[Any, Any]:
    import torch

    vocabulary = scores.shape[1]
    scaled = scores / settings.temperature[:, None]
    slack = doubt / settings.temperature
    if not settings.cut:
        return _looked_up(torch.softmax(scaled, -1), None, uniforms, slack)
    width = min(vocabulary, settings.widest + 1 if settings.widest else FIRST_LOOK)
    values, ids = largest(scaled, width)
    whole = torch.logsumexp(scaled, -1, keepdim=True) if not settings.widest else None
    chances, kept, open_ = _narrowed(values, settings, whole, slack)
    if width < vocabulary and not settings.widest:
        # top_p may reach beyond the likeliest FIRST_LOOK: those rows are looked at whole
        beyond = kept[:, -1] & (settings.top_k > width)
        if bool(beyond.any()):
            values, ids = scaled.sort(-1, descending=True)
            chances, kept, open_ = _narrowed(values, settings, whole, slack)
    order = ids.argsort(-1)
    sorted_ids = ids.gather(1, order)
    token, unsure = _looked_up(torch.where(kept, chances, 0.0).gather(1, order), sorted_ids, uniforms, slack)
    if bool(open_.any()):
        rows = open_.nonzero()[:, 0]
        other = _other_borders(chances[rows], kept[rows])
        for border in other:
            held = torch.where(border, chances[rows], 0.0).gather(1, order[rows])
            again, close = _looked_up(held, sorted_ids[rows], uniforms[rows], slack[rows])
            unsure[rows] |= close | (again != token[rows])
    return token, unsure


def _other_borders(chances: Any, kept: Any) -> list[Any]:
    """What else could have been kept where the border is in doubt: one token fewer, one more, the next for the last."""
    import torch

    last = (kept.sum(-1, keepdim=True) - 1).clamp(min=0)
    following = (last + 1).clamp(max=kept.shape[1] - 1)
    fewer = kept.scatter(1, last, last == 0)
    more = kept.scatter(1, following, torch.ones_like(following, dtype=torch.bool))
    return [fewer, more, more.scatter(1, last, last == following)]


def _narrowed(values: Any, settings: Settings, whole: Any, slack: Any) -> tuple[Any, Any, Any]:
    """Chances of the likeliest tokens, which of them stay, and whether the border could lie elsewhere: two scores next
    to it nearly equal, or a sum nearly at top_p. Chances beyond top_k are those they would have. values: sorted,
    largest first. whole: log of the sum over all tokens, None where top_k bounds every row."""
    import torch

    place = torch.arange(values.shape[1], device=values.device)[None, :]
    within = place < settings.top_k[:, None]
    bounded = settings.top_k[:, None] < 2**31 - 1
    inner = torch.logsumexp(torch.where(within, values, -float("inf")), -1, keepdim=True)
    total = inner if whole is None else torch.where(bounded, inner, whole)
    chances = (values - total).exp()
    before = chances.double().cumsum(-1) - chances
    kept = within & (before < settings.top_p[:, None]) & (chances >= settings.min_p[:, None] * chances[:, :1])
    kept[:, 0] = True
    open_ = torch.zeros(values.shape[0], dtype=torch.bool, device=values.device)
    if bool((slack > 0).any()):
        last = kept.sum(-1, keepdim=True) - 1
        following = (last + 1).clamp(max=values.shape[1] - 1)
        gap = values.gather(1, last) - values.gather(1, following)
        narrower = (settings.top_p < 1) | (settings.min_p > 0) | bounded[:, 0]
        open_ = narrower & (gap[:, 0] < slack) & (following > last)[:, 0]
        edge = (before - settings.top_p[:, None]).abs().amin(-1)
        floor = (chances / chances[:, :1] - settings.min_p[:, None]).abs().amin(-1)
        open_ |= ((settings.top_p < 1) & (edge < slack)) | ((settings.min_p > 0) & (floor < slack))
    return chances, kept, open_


def _looked_up(chances: Any, ids: Any, uniforms: Any, slack: Any) -> tuple[Any, Any]:
    """The token at which the cumulative distribution passes the uniform number. chances: in the order of token ids."""
    import torch

    summed = chances.double().cumsum(-1)
    wanted = uniforms.to(summed.device, torch.float64)[:, None] * summed[:, -1:]
    at = torch.searchsorted(summed, wanted, right=True).clamp(max=summed.shape[1] - 1)
    # a chance of exactly 0 in the last place is never meant
    token = at if ids is None else ids.gather(1, at)
    above = summed.gather(1, at) - wanted
    below = torch.where(at > 0, wanted - summed.gather(1, (at - 1).clamp(min=0)), 1.0)
    return token[:, 0], torch.minimum(above, below)[:, 0] < slack * summed[:, -1]


def largest(scores: Any, count: int) -> tuple[Any, Any]:
    """`scores.topk(count)`, sorted. On a CPU several times as fast for a long row: the `count` largest values lie in
    the `count` blocks with the largest maxima, and a block's maximum costs a fraction of a selection."""
    import torch

    rows, width = scores.shape
    blocks = width // CHUNK
    if scores.device.type != "cpu" or blocks < 2 * count or count > 512:
        values, ids = scores.topk(min(count, width), -1)
        return values, ids
    head = scores[:, : blocks * CHUNK].view(rows, blocks, CHUNK)
    chosen = head.amax(-1).topk(count, -1).indices
    near = head.gather(1, chosen[:, :, None].expand(-1, -1, CHUNK)).view(rows, -1)
    places = (chosen[:, :, None] * CHUNK + torch.arange(CHUNK)).view(rows, -1)
    if width > blocks * CHUNK:
        near = torch.cat([near, scores[:, blocks * CHUNK :]], -1)
        places = torch.cat([places, torch.arange(blocks * CHUNK, width).expand(rows, -1)], -1)
    values, at = near.topk(count, -1)
    return values, places.gather(1, at)
