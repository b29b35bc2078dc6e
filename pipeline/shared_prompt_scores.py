"""How probable answers are behind a few prompts that many of them share: each prompt goes through the model once.

The plain way (score_answers.py) reads a prompt again for every answer behind it. Here a decoder's answers are scored on
top of the prompts' cache, an encoder-decoder's beside the encoder's output.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config
from pipeline.score_answers import NotScored, Piece, forward_parameters, padded, score_answers, start_id

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

# Two ways to compute one number in float32, and in half precision; a way that reads other positions is off by more.
AGREE = {"float32": 1e-3, "float64": 1e-3}
AGREE_HALF = 0.15

Ids = tuple[int, ...]


def shares_prompts(loaded: LoadedModel) -> bool:
    """Whether this model's answers can be scored on shared prompts: tried on a few tokens against the plain way, as
    architectures differ in what their caches and positions allow."""
    top = int(loaded.core.get_input_embeddings().weight.shape[0])
    ids = [(7 * i + 3) % top for i in range(24)]
    contexts, answers = (tuple(ids[:9]), tuple(ids[9:13])), (tuple(ids[13:19]), tuple(ids[19:21]), tuple(ids[21:22]))
    pieces = [Piece(context, answer) for context in contexts for answer in answers]
    if not loaded.is_encoder_decoder and not {"attention_mask", "past_key_values"} <= _takes(loaded):
        return False
    try:
        shared = shared_prompt_nats(loaded, pieces)
        plain = [score.nats for score in score_answers(loaded, pieces)]
    except (NotScored, AttributeError):
        return False
    bound = AGREE.get(loaded.dtype, AGREE_HALF)
    pairs = [(a, b) for one, other in zip(shared, plain, strict=True) for a, b in zip(one, other, strict=True)]
    return all(math.isfinite(a) and abs(a - b) <= bound * max(1.0, abs(b)) for a, b in pairs)


def shared_prompt_nats(loaded: LoadedModel, pieces: Sequence[Piece]) -> list[tuple[float, ...]]:
    """-log p of each answer token of each piece, in order. Raises NotScored.

    All that goes through the model at once is decided by `pieces` alone, within the bounds of
    configs/prompt_formats.yaml on tokens and on logits.
    """
    import torch

    rows = int(loaded.core.get_input_embeddings().weight.shape[0])
    highest = max((max((*p.context, *p.answer, *p.lead), default=0) for p in pieces), default=0)
    if highest >= rows:
        raise NotScored("ids_beyond_embedding", f"{highest} >= {rows}")
    found: dict[Piece, tuple[float, ...]] = {}
    by_context: dict[Ids, list[Piece]] = {}
    for piece in dict.fromkeys(pieces):
        by_context.setdefault(piece.context, []).append(piece)
    way = _on_encoder if loaded.is_encoder_decoder else _on_cache
    with torch.inference_mode():
        try:
            for contexts in _within(sorted(by_context, key=len)):
                found.update(way(loaded, contexts, by_context))
        except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
            raise NotScored("forward_failed", f"{type(failed).__name__}: {failed}".splitlines()[0][:200]) from None
    return [found[piece] for piece in pieces]


def _takes(loaded: LoadedModel) -> frozenset[str]:
    return forward_parameters(type(loaded.core))


def _within(contexts: Sequence[Ids]) -> Iterator[list[Ids]]:
    """Groups of contexts whose tokens, padding included, go through the model at once."""
    most = load_config("prompt_formats.yaml")["batch_tokens"]
    group: list[Ids] = []
    for context in contexts:  # sorted: the last one is the widest
        if group and len(context) * (len(group) + 1) > most:
            yield group
            group = []
        group.append(context)
    if group:
        yield group


def _chunks(loaded: LoadedModel, pieces: Sequence[Piece], width: int) -> Iterator[list[Piece]]:
    """Groups of answers to score at once; width: tokens of a context with its padding."""
    table = load_config("prompt_formats.yaml")
    chunk: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: len(p.answer)):
        length = len(piece.lead) + len(piece.answer) + 1
        size = len(chunk) + 1
        logits = size * length * loaded.vocabulary
        if chunk and (size * (width + length) > table["batch_tokens"] or logits > table["max_logits"]):
            yield chunk
            chunk = []
        chunk.append(piece)
    if chunk:
        yield chunk


def _on_cache(
    loaded: LoadedModel, contexts: Sequence[Ids], by_context: dict[Ids, list[Piece]]
) -> Iterator[tuple[Piece, tuple[float, ...]]]:  # fmt: skip
    import torch
    from transformers import DynamicCache

    model, takes, device = loaded.core, _takes(loaded), loaded.device
    width = max(map(len, contexts))
    ids = torch.tensor([[0] * (width - len(c)) + list(c) for c in contexts], device=device)
    mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in contexts], device=device)
    extra: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    if "position_ids" in takes:
        extra["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)
    cache = DynamicCache(config=model.config)
    out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
    first = torch.log_softmax(out.logits[:, -1].float(), -1)  # of the token after each context
    del out
    row_of = {context: row for row, context in enumerate(contexts)}
    pieces = [piece for context in contexts for piece in by_context[context]]
    for chunk in _chunks(loaded, pieces, width):
        rows = torch.tensor([row_of[p.context] for p in chunk], device=device)
        begins = -first[rows, torch.tensor([p.answer[0] for p in chunk], device=device)]
        rest = [p.answer[:-1] for p in chunk]
        if not any(rest):
            yield from ((piece, (nats,)) for piece, nats in zip(chunk, begins.tolist(), strict=True))
            continue
        ids, own = padded(rest, device)
        extra = {}
        if "position_ids" in takes:
            lengths = torch.tensor([len(p.context) for p in chunk], device=device)
            extra["position_ids"] = lengths[:, None] + torch.arange(ids.shape[1], device=device)
        logits = model(
            input_ids=ids, attention_mask=torch.cat((mask[rows], own), 1), past_key_values=_picked(cache, rows),
            use_cache=True, **extra,
        ).logits  # fmt: skip
        following = _nats(logits, [p.answer[1:] for p in chunk])
        yield from ((p, (b, *f)) for p, b, f in zip(chunk, begins.tolist(), following, strict=True))


def _picked(cache: Any, rows: Any) -> Any:
    """A cache with these rows of another one, which stays as it is: its layers bind new tensors, they change none."""
    made = copy.copy(cache)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    made.batch_select_indices(rows)
    return made


def _on_encoder(
    loaded: LoadedModel, contexts: Sequence[Ids], by_context: dict[Ids, list[Piece]]
) -> Iterator[tuple[Piece, tuple[float, ...]]]:  # fmt: skip
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    model, device = loaded.core, loaded.device
    ids, mask = padded(contexts, device)
    states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    row_of = {context: row for row, context in enumerate(contexts)}
    pieces = [piece for context in contexts for piece in by_context[context]]
    start = start_id(loaded)
    for chunk in _chunks(loaded, pieces, ids.shape[1]):
        rows = torch.tensor([row_of[p.context] for p in chunk], device=device)
        target, target_mask = padded([(start, *p.lead, *p.answer[:-1]) for p in chunk], device)
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states[rows]), attention_mask=mask[rows],
            decoder_input_ids=target, decoder_attention_mask=target_mask, use_cache=False,
        ).logits  # fmt: skip
        found = _nats(logits, [p.answer for p in chunk], [len(p.lead) for p in chunk])
        yield from zip(chunk, found, strict=True)


def _nats(logits: Any, wanted: Sequence[Ids], firsts: Sequence[int] | None = None) -> list[tuple[float, ...]]:
    """-log p of tokens that follow each other. logits: (rows, places, vocabulary); firsts: the place that predicts the
    first of them."""
    import torch

    firsts = firsts if firsts is not None else [0] * len(wanted)
    spans = enumerate(zip(firsts, wanted, strict=True))
    flat = torch.cat([logits[row, first : first + len(ids)] for row, (first, ids) in spans]).float()
    picked = flat.gather(1, torch.tensor([i for ids in wanted for i in ids], device=flat.device)[:, None])[:, 0]
    nats = (torch.logsumexp(flat, -1) - picked).tolist()
    found, at = [], 0
    for ids in wanted:
        found.append(tuple(nats[at : at + len(ids)]))
        at += len(ids)
    return found
