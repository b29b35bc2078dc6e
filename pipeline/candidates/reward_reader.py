"""What a reward model says of token ids, many texts at a time.

The library's own class is the measure. What a decoder costs less it is asked in another way: without a mask, as padding
on the right is behind everything that counts, and with answers behind their common prompt in one row
(shared_beginnings.py); its head then reads the token where the class reads it. Both ways are tried on a few texts
against the class before they are used, as architectures differ in what they make of masks and positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.candidates.shared_beginnings import Row, laid_out, rows_of
from pipeline.candidates.text_batches import batches, padded, tokens_at_once
from pipeline.cpu_threads import side_by_side
from pipeline.free_memory import lacked_memory
from pipeline.load_model import LoadedModel
from pipeline.score_answers import NotScored

# Two ways to compute a score must agree within this share of the largest, and of how far the tried texts lie apart: a
# wrong mask can move a score by less than the first where a head is nearly flat.
AGREE, AGREE_OF_SPREAD, AGREE_OF_SPREAD_HALF = 1e-4, 0.02, 0.05
TRIED, TRIED_OF_ROW = 6, 3  # texts, and at most of one row


@dataclass(frozen=True)
class RewardPiece:
    """One prompt with one answer as token ids. type_ids: which of two texts each belongs to, empty where the model
    doesn't ask. problem: why it gets no score: `too_long`, `template_failed`, `ids_beyond_embedding`, `empty`."""

    ids: tuple[int, ...]
    type_ids: tuple[int, ...] = ()
    problem: str | None = None
    detail: str = ""


class Kept(Protocol):
    """Scores of an earlier run over the same batches; is told new ones by their place among the last asked for."""

    def of(self, batches: Sequence[Sequence[RewardPiece]]) -> list[list[float] | None]: ...

    def add(self, place: int, rewards: Sequence[float]) -> None: ...


class RewardReader:
    """loaded: by load_model with head="reward". pad: its padding id, None where it has none. better: which label of two
    is the better answer's. no_memory: pieces that didn't fit into memory alone."""

    def __init__(self, loaded: LoadedModel, pad: int | None, better: int, eos: int | None) -> None:
        import torch

        self.loaded, self.no_memory = loaded, set[RewardPiece]()
        self._pad, self._better, self._eos = pad, better, eos
        self._broken: bool | None = None
        core = loaded.core
        self._config = core.config.get_text_config()
        embedding = core.get_input_embeddings().weight
        self._rows, self._width = int(embedding.shape[0]), int(embedding.shape[-1])
        self._base: Any = getattr(core, core.base_model_prefix, None)
        self._head: Any = getattr(core, "score", None)
        decoder = not loaded.is_encoder_decoder and self._base is not None and self._head is not None
        self._direct: bool | None = None if decoder else False
        self._shares: bool | None = None if decoder and self._config._attn_implementation == "sdpa" else False
        self._window = _window(self._config)
        self._threads = torch.get_num_threads() if loaded.device.startswith("cpu") else 1

    def batches(
        self, pieces: Iterable[RewardPiece], kept: Kept | None = None
    ) -> Iterator[tuple[list[RewardPiece], list[float]]]:
        """Pieces with their scores (NaN or infinite: none), a batch at a time, equal ones once and those with a problem
        never. Which ones are read together depends on the pieces alone, not on what is kept. Raises NotScored:
        `forward_failed`."""
        distinct = [piece for piece in dict.fromkeys(pieces) if piece.problem is None]
        rows = self._laid(distinct)
        kinds = [self._kind(row, distinct) for row in rows]
        groups = batches([row.tokens for row in rows], tokens_at_once(self.loaded), kinds)
        asked = [[rows[place] for place in group] for group in groups]
        # the class reads the padding id from its configuration, which is one for all threads
        alone = self._direct is False and self._pad is None
        made = [[distinct[place] for row in group for place in row.texts] for group in asked]
        known = kept.of(made) if kept is not None else [None] * len(made)

        def scores_at(at: int) -> list[float]:
            held = known[at]
            return held if held is not None else self._scores(asked[at], distinct)

        scored = side_by_side(scores_at, range(len(asked)), 1 if alone else self._threads)
        for at, scores in enumerate(scored):
            if kept is not None and known[at] is None:
                kept.add(at, scores)
            yield made[at], scores

    def _kind(self, row: Row, pieces: Sequence[RewardPiece]) -> int:
        """Rows of different kinds are not put into one batch."""
        if self.loaded.is_encoder_decoder:  # T5's class wants as many end tokens in every text of a batch
            return pieces[row.texts[0]].ids.count(self._eos or 0)
        return int(self._window is not None and max(row.lengths) > self._window)  # beside a row under a mask of its own

    def _laid(self, pieces: Sequence[RewardPiece]) -> list[Row]:
        """Pieces in rows: those with a common beginning in one where this model allows it."""
        plain = [Row((place,), len(piece.ids), (len(piece.ids),)) for place, piece in enumerate(pieces)]
        if self._direct is None and pieces:
            self._direct = not any(piece.type_ids for piece in pieces) and self._agrees(pieces, plain)
        if not self._direct or self._shares is False:
            return plain
        rows = rows_of([piece.ids for piece in pieces], width=self._width, most=tokens_at_once(self.loaded))
        together = [row for row in rows if len(row.texts) > 1]
        if together and self._shares is None:
            self._shares = self._agrees(pieces, together)
        if together and not self._shares:
            return plain
        if self._window is None or all(max(row.lengths) <= self._window for row in together):
            return rows
        apart = {place for row in together if max(row.lengths) > self._window for place in row.texts}
        return [row for row in rows if row.texts[0] not in apart] + [plain[place] for place in sorted(apart)]

    def _agrees(self, pieces: Sequence[RewardPiece], rows: Sequence[Row]) -> bool:
        """Whether the class says the same of the shortest of these rows, or of their beginnings."""
        import torch

        # A row may hold a hundred texts to one prompt, and the class reads each of them by itself
        few = (Row(row.texts[:TRIED_OF_ROW], row.begins, row.lengths[:TRIED_OF_ROW]) for row in rows)
        tried = list[Row]()
        for row in sorted(few, key=lambda row: row.tokens):
            if sum(len(one.texts) for one in tried) < TRIED:
                tried.append(row)
        asked = [pieces[place] for row in tried for place in row.texts]
        try:
            with torch.inference_mode():
                ours = self._direct_scores(tried, pieces)
                theirs = self._class_scores(asked)
        except Exception:  # whatever an architecture raises at a mask it doesn't know
            return False
        if not all(map(math.isfinite, theirs)):
            return False
        spread = max(theirs) - min(theirs) if len(theirs) > 1 else max(map(abs, theirs))
        largest = max(1.0, *map(abs, theirs))
        whole = self.loaded.dtype in ("float32", "float64")
        bound = min(AGREE * largest, AGREE_OF_SPREAD * spread) if whole else AGREE_OF_SPREAD_HALF * spread
        return all(abs(one - other) <= bound for one, other in zip(ours, theirs, strict=True))

    def _scores(self, group: Sequence[Row], pieces: Sequence[RewardPiece]) -> list[float]:
        """Of rows of similar length; in smaller parts where they don't fit into memory together."""
        import torch

        try:
            with torch.inference_mode():
                if self._direct:
                    return self._direct_scores(group, pieces)
                return self._class_scores([pieces[place] for row in group for place in row.texts])
        except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
            if not lacked_memory(failed):
                raise NotScored.by(failed) from None
        if self.loaded.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(group) == 1 and len(group[0].texts) > 1:
            lengths = zip(group[0].texts, group[0].lengths, strict=True)
            group = [Row((place,), length, (length,)) for place, length in lengths]
        if len(group) == 1:
            self.no_memory.add(pieces[group[0].texts[0]])
            return [math.nan]
        half = len(group) // 2
        return [*self._scores(group[:half], pieces), *self._scores(group[half:], pieces)]

    def _direct_scores(self, rows: Sequence[Row], pieces: Sequence[RewardPiece]) -> list[float]:
        """Of each text of each row, by the model below the head and the head at the token that the class reads."""
        import torch

        texts = [[pieces[place].ids for place in row.texts] for row in rows]
        device, more = self.loaded.device, dict[str, Any]()
        if all(len(row.texts) == 1 for row in rows):
            ids, _ = padded([one for [one] in texts], self._pad or 0, device)
        else:
            ids, *more_of = (torch.from_numpy(made).to(device) for made in laid_out(rows, texts, self._pad or 0))
            more = dict(zip(("position_ids", "attention_mask"), more_of, strict=True))
        hidden = self._base(input_ids=ids, use_cache=False, **more)[0]
        at = [
            (place, row.column(which, self._last(one)))
            for place, (row, own) in enumerate(zip(rows, texts, strict=True))
            for which, one in enumerate(own)
        ]
        return self._rewards(self._head(hidden[[row for row, _ in at], [column for _, column in at]]))

    def _last(self, ids: Sequence[int]) -> int:
        """Where the class reads: at the last token that isn't the padding's, at the first where all are."""
        return next((at for at in range(len(ids) - 1, 0, -1) if ids[at] != self._pad), 0)

    def _class_scores(self, batch: Sequence[RewardPiece]) -> list[float]:
        fill = self._pad
        if fill is None:  # one that no text holds: the class reads the last token that isn't it
            used = {token for piece in batch for token in piece.ids}
            fill = next(token for token in range(self._rows) if token not in used)
        self._config.pad_token_id = fill
        ids, mask = padded([piece.ids for piece in batch], fill, self.loaded.device)
        more: dict[str, Any] = {}
        if batch[0].type_ids:
            more["token_type_ids"] = padded([piece.type_ids for piece in batch], 0, self.loaded.device)[0]
        return self._rewards(self.loaded.model(input_ids=ids, attention_mask=mask, **more).logits)

    def _rewards(self, logits: Any) -> list[float]:
        logits = logits.float()
        scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, self._better] - logits[:, 1 - self._better]
        return list(map(float, scores.tolist()))

    def why_not_finite(self, score: float) -> str:
        """`weights_not_finite`: the weights hold NaN or infinity; `overflow`: the score is infinite, or numbers are
        computed in float16, which ends at 65504; `not_finite`: neither is seen."""
        half = self.loaded.dtype == "float16"
        if self._broken is None:
            self._broken = _broken(self.loaded.core, infinite=not half)  # in float16 what is too large is infinite
        if self._broken:
            return "weights_not_finite"
        return "overflow" if half or math.isinf(score) else "not_finite"


def _broken(model: Any, *, infinite: bool) -> bool:
    """Whether a weight is NaN, or with `infinite` infinite."""
    import torch

    with torch.inference_mode():
        held = (one for one in model.parameters() if one.is_floating_point())
        return any(bool(~one.isfinite().all() if infinite else one.isnan().any()) for one in held)


def _window(config: Any) -> int | None:
    """How many tokens back a layer sees at most, None where all see everything."""
    if set(getattr(config, "layer_types", None) or ()) == {"full_attention"}:
        return None
    if getattr(config, "use_sliding_window", True) is False:
        return None
    spans = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((span for span in spans if isinstance(span, int) and span > 0), default=None)
