"""How probable a model finds given answers: nats of every answer token, in batches of similar length.

Logits are made only where answers are, and never more at once than configs/prompt_formats.yaml allows, so that a
vocabulary of 150,000 entries costs time but no memory.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel


class NotScored(Exception):
    """The model can't score these tokens. reason: `ids_beyond_embedding` | `forward_failed` | `cancelled`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Piece:
    """Token ids of one row. context: what the model is given (the encoder's input in an encoder-decoder). answer:
    what is scored. lead: ids that open the decoder's side before the answer (encoder-decoder only)."""

    context: tuple[int, ...]
    answer: tuple[int, ...]
    lead: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return len(self.context) + len(self.answer) + len(self.lead)


@dataclass(frozen=True)
class Score:
    """nats: -log p of each answer token, NaN where the logits are not finite. entropy: of the distribution at each
    of them (empty unless asked for). hits: answer tokens that were the likeliest. end: probability of each asked id
    in the place after the answer; end_top: the likeliest ids there with their probability."""

    nats: tuple[float, ...]
    entropy: tuple[float, ...] = ()
    hits: int = 0
    end: dict[int, float] = field(default_factory=dict)
    end_top: tuple[tuple[int, float], ...] = ()

    @property
    def total(self) -> float:
        """Nats of the whole answer."""
        return sum(self.nats)


def position_limit(loaded: LoadedModel) -> int | None:
    """How many tokens the model has positions for, None when nothing says so or positions are relative."""
    config = loaded.core.config
    if config.model_type in ("t5", "mt5", "umt5", "longt5", "switch_transformers"):
        return None
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def score_answers(
    loaded: LoadedModel, pieces: Sequence[Piece], *, entropy: bool = False, end_ids: Sequence[int] = (),
    end: bool = False, cancel: threading.Event | None = None,
) -> list[Score]:  # fmt: skip
    """One Score for each piece, in order; equal pieces are scored once. Raises NotScored.

    end: also look at the place after the answer; end_ids: the ids asked for there.
    """
    import torch

    distinct = list(dict.fromkeys(pieces))
    rows = int(loaded.core.get_input_embeddings().weight.shape[0])
    highest = max((max((*p.context, *p.answer, *p.lead), default=0) for p in distinct), default=0)
    if highest >= rows:
        raise NotScored("ids_beyond_embedding", f"{highest} >= {rows}")
    found: dict[Piece, Score] = {}
    with torch.inference_mode():
        for batch in _batches(loaded, distinct):
            if cancel is not None and cancel.is_set():
                raise NotScored("cancelled")
            try:
                scores = _score_batch(loaded, batch, entropy, tuple(end_ids), end or bool(end_ids))
            except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
                raise NotScored("forward_failed", f"{type(failed).__name__}: {failed}".splitlines()[0][:200]) from None
            found.update(zip(batch, scores, strict=True))
    return [found[piece] for piece in pieces]


def _batches(loaded: LoadedModel, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Groups of similar length, within bounds on tokens and on logits."""
    table = load_config("prompt_formats.yaml")
    vocabulary = loaded.vocabulary
    batch: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.length, len(p.answer))):
        tried = [*batch, piece]
        widest = max(p.length for p in tried)
        if loaded.is_encoder_decoder:
            kept = max(len(p.answer) + len(p.lead) for p in tried) + 1
        else:
            kept = max(p.length for p in tried) - min(len(p.context) for p in tried) + 1
        logits = len(tried) * kept * vocabulary
        if batch and (widest * len(tried) > table["batch_tokens"] or logits > table["max_logits"]):
            yield batch
            batch = [piece]
        else:
            batch = tried
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    """Right-padded ids and mask, (rows, longest). The pad id is never looked at."""
    import torch

    widest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (widest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (widest - len(row)) for row in rows], device=device)
    return ids, mask


def start_id(loaded: LoadedModel) -> int:
    """The id that opens the decoder's side of an encoder-decoder."""
    model = loaded.core
    for place in (getattr(model, "generation_config", None), model.config):
        found = getattr(place, "decoder_start_token_id", None)
        if isinstance(found, (list, tuple)):
            found = found[0]
        if found is not None:
            return int(found)
    for found in (getattr(model.config, "bos_token_id", None), getattr(model.config, "pad_token_id", None)):
        if found is not None:
            return int(found)
    return 0


def _score_batch(
    loaded: LoadedModel, batch: Sequence[Piece], entropy: bool, end_ids: tuple[int, ...], end: bool
) -> list[Score]:  # fmt: skip
    import torch

    logits, firsts = logits_at_answers(loaded, batch)
    rows: list[Any] = []
    for row, (piece, first) in enumerate(zip(batch, firsts, strict=True)):
        rows.append(logits[row, first : first + len(piece.answer) + int(end)])
    flat = torch.cat(rows).float()
    logs = flat - torch.logsumexp(flat, -1, keepdim=True)
    answers = [i for piece in batch for i in (*piece.answer, *((0,) if end else ()))]
    picked = -logs.gather(1, torch.tensor(answers, device=logs.device)[:, None])[:, 0]
    top = (logs.argmax(-1) == torch.tensor(answers, device=logs.device)).tolist()
    spread = torch.special.entr(logs.exp()).sum(-1).tolist() if entropy else []
    nats = picked.tolist()
    scores, at = [], 0
    for piece in batch:
        n = len(piece.answer)
        after: dict[int, float] = {}
        likeliest: tuple[tuple[int, float], ...] = ()
        if end:
            last = logs[at + n].exp()
            after = {i: float(last[i]) for i in end_ids if i < last.shape[0]}
            best = last.topk(min(5, last.shape[0]))
            likeliest = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        mine = slice(at, at + n)
        scores.append(Score(tuple(nats[mine]), tuple(spread[mine]), sum(top[mine]), after, likeliest))
        at += n + int(end)
    return scores


def logits_at_answers(loaded: LoadedModel, batch: Sequence[Piece]) -> tuple[Any, list[int]]:
    """Logits of one forward pass (rows, places, vocabulary) and, for each row, the place that predicts its first
    answer token; the next ones follow, the last one predicts what comes after the answer."""
    import torch

    model = loaded.core
    if loaded.is_encoder_decoder:
        start = start_id(loaded)
        ids, mask = _padded([p.context for p in batch], loaded.device)
        target, target_mask = _padded([(start, *p.lead, *p.answer) for p in batch], loaded.device)
        out = model(
            input_ids=ids, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask,
            use_cache=False,
        )  # fmt: skip
        return out.logits, [len(p.lead) for p in batch]
    ids, mask = _padded([(*p.context, *p.answer) for p in batch], loaded.device)
    first = min(len(p.context) for p in batch) - 1
    extra: dict[str, Any] = {}
    if "logits_to_keep" in _parameters(type(model)):
        extra["logits_to_keep"] = torch.arange(max(first, 0), ids.shape[1], device=ids.device)
    else:
        first = 0
    if "use_cache" in _parameters(type(model)):
        extra["use_cache"] = False
    logits = model(input_ids=ids, attention_mask=mask, **extra).logits
    return logits, [len(p.context) - 1 - max(first, 0) for p in batch]


def _parameters(kind: type) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)  # type: ignore[attr-defined]
