"""How probable answers are behind a few prompts that many of them share: each prompt goes through the model once.

The plain way (score_answers.py) reads a prompt again for every answer behind it. Here a decoder's answers are scored on
top of the prompt's keys and values, an encoder-decoder's beside those of the encoder's output. A prompt is read by
itself, so what it leaves is the same whenever it is read, and prompts that come again can be kept.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config
from pipeline.score_answers import NotScored, Piece, forward_parameters, padded, score_answers, start_id

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

# Two ways to compute one number in float32, and in half precision; a way that reads other positions is off by more.
AGREE = {"float32": 1e-3, "float64": 1e-3}
AGREE_HALF = 0.15

# What one more call of the model costs, in tokens of a larger one: a product of few rows is slow (measured: 32 rows of
# a float32 product take as long as 54 rows of a larger one), and a tiny model is mostly Python.
CALL_TOKENS = 24
CALL_TOKENS_TINY = 2e7  # to be divided by the parameters
CALL_TOKENS_GPU = 1024

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
    """-log p of each answer token of each piece, in order. Raises NotScored."""
    return SharedPrompts(loaded).nats(pieces)


@dataclass(frozen=True)
class _Read:
    """What a prompt leaves. layers: keys and values of each, (1, heads, tokens, width of a head); first: (vocabulary,)
    log-probabilities of the token after it, None in an encoder-decoder."""

    layers: tuple[tuple[Any, Any], ...]
    first: Any
    length: int

    @property
    def bytes(self) -> int:
        tensors = [t for layer in self.layers for t in layer] + ([] if self.first is None else [self.first])
        return sum(t.numel() * t.element_size() for t in tensors)


class SharedPrompts:
    """Scores answers of one model. room: bytes of prompts kept for the next call; those used last stay."""

    def __init__(self, loaded: LoadedModel, *, room: int = 0) -> None:
        self.loaded, self.room = loaded, room
        self._kept: OrderedDict[Ids, _Read] = OrderedDict()
        self._used = 0
        self._rows = int(loaded.core.get_input_embeddings().weight.shape[0])
        parameters = sum(p.numel() for p in loaded.core.parameters())
        on_cpu = str(loaded.device).startswith("cpu")
        self._call = CALL_TOKENS + CALL_TOKENS_TINY / max(1, parameters) if on_cpu else CALL_TOKENS_GPU

    def nats(self, pieces: Sequence[Piece], *, keep: Collection[Ids] = ()) -> list[tuple[float, ...]]:
        """-log p of each answer token of each piece, in order. keep: contexts that come again. Raises NotScored.

        All that goes through the model at once is decided by `pieces` alone, within the bounds of
        configs/prompt_formats.yaml on tokens and on logits: the same pieces give the same numbers, whatever came
        before and whatever is kept.
        """
        import torch

        highest = max((max((*p.context, *p.answer, *p.lead), default=0) for p in pieces), default=0)
        if highest >= self._rows:
            raise NotScored("ids_beyond_embedding", f"{highest} >= {self._rows}")
        distinct = list(dict.fromkeys(pieces))
        found: dict[Piece, tuple[float, ...]] = {}
        with torch.inference_mode():
            try:
                for contexts in _alike({piece.context for piece in distinct}):
                    read = [self._read(context, context in keep) for context in contexts]
                    stacked = _stacked(read, left=not self.loaded.is_encoder_decoder)
                    place = {context: at for at, context in enumerate(contexts)}
                    for group in self._groups([p for p in distinct if p.context in place], len(contexts[-1])):
                        at = [place[piece.context] for piece in group]
                        way = self._beside if self.loaded.is_encoder_decoder else self._behind
                        found.update(zip(group, way(group, [read[i] for i in at], _rows(stacked, at)), strict=True))
            except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
                raise NotScored.by(failed) from None
        return [found[piece] for piece in pieces]

    # --- prompts ---

    def _read(self, context: Ids, keep: bool) -> _Read:
        if context in self._kept:
            self._kept.move_to_end(context)
            return self._kept[context]
        read = self._through_model(context)
        if keep and read.bytes <= self.room:
            self._kept[context] = read
            self._used += read.bytes
            while self._used > self.room:
                self._used -= self._kept.popitem(last=False)[1].bytes
        return read

    def _through_model(self, context: Ids) -> _Read:
        import torch

        from pipeline.generation.slot_cache import prefill_cache

        model, device = self.loaded.core, self.loaded.device
        ids = torch.tensor([context], device=device)
        cache = prefill_cache(encoder=self.loaded.is_encoder_decoder)
        takes = _takes(self.loaded)
        extra: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        if self.loaded.is_encoder_decoder:
            extra["decoder_input_ids"] = torch.tensor([[start_id(self.loaded)]], device=device)
        elif "position_ids" in takes:
            extra["position_ids"] = torch.arange(len(context), device=device)[None]
        logits = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True, **extra
        ).logits  # fmt: skip
        first = None if self.loaded.is_encoder_decoder else torch.log_softmax(logits[0, -1].float(), -1)
        layers = cache.cross_attention_cache.layers if self.loaded.is_encoder_decoder else cache.layers
        return _Read(tuple((layer.keys, layer.values) for layer in layers), first, len(context))

    # --- answers ---

    def _places(self, piece: Piece) -> int:
        """Tokens that go through the model for a piece, its prompt apart."""
        if self.loaded.is_encoder_decoder:
            return len(piece.lead) + len(piece.answer)
        return len(piece.answer) - 1  # the first one's probability the prompt says, and behind the last one comes none

    def _groups(self, pieces: Sequence[Piece], width: int) -> Iterator[list[Piece]]:
        """Pieces that go through the model together: of lengths so near that padding costs less than another call.
        width: tokens of the longest prompt."""
        table = load_config("prompt_formats.yaml")
        group: list[Piece] = []
        longest = waste = 0
        for piece in sorted(pieces, key=self._places, reverse=True):
            short, size = longest - self._places(piece), len(group) + 1
            tokens, logits = size * (width + longest), size * longest * self.loaded.vocabulary
            if group and (tokens > table["batch_tokens"] or logits > table["max_logits"] or waste + short > self._call):
                yield group
                group = []
            if not group:
                longest, waste, short = self._places(piece), 0, 0
            group.append(piece)
            waste += short
        if group:
            yield group

    def _behind(self, group: Sequence[Piece], prompts: Sequence[_Read], layers: Any) -> list[tuple[float, ...]]:
        """Of a decoder: the answers follow their prompts, which are padded on the left."""
        import torch
        from transformers.cache_utils import Cache

        device, takes = self.loaded.device, _takes(self.loaded)
        firsts = torch.stack([-r.first[p.answer[0]] for r, p in zip(prompts, group, strict=True)]).tolist()
        rest = [p.answer[:-1] for p in group]
        if not any(rest):
            return [(first,) for first in firsts]
        ids, own = padded(rest, device)
        lengths = torch.tensor([r.length for r in prompts], device=device)
        width = layers[0].get_seq_length()
        seen = torch.arange(width, device=device) >= width - lengths[:, None]
        extra: dict[str, Any] = {}
        if "position_ids" in takes:
            extra["position_ids"] = lengths[:, None] + torch.arange(ids.shape[1], device=device)
        logits = self.loaded.core(
            input_ids=ids, attention_mask=torch.cat((seen.long(), own), 1), past_key_values=Cache(layers=layers),
            use_cache=True, **extra,
        ).logits  # fmt: skip
        following = _nats(logits, [p.answer[1:] for p in group])
        return [(first, *nats) for first, nats in zip(firsts, following, strict=True)]

    def _beside(self, group: Sequence[Piece], prompts: Sequence[_Read], layers: Any) -> list[tuple[float, ...]]:
        """Of an encoder-decoder: the prompts, padded on the right, stand beside the answers."""
        import torch
        from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        device, start = self.loaded.device, start_id(self.loaded)
        lengths = torch.tensor([r.length for r in prompts], device=device)
        width = layers[0].get_seq_length()
        target, own = padded([(start, *p.lead, *p.answer[:-1]) for p in group], device)
        cache = EncoderDecoderCache(DynamicCache(), Cache(layers=layers))
        cache.is_updated = dict.fromkeys(range(len(layers)), True)
        unread = torch.zeros(1, 1, 1, device=device).expand(len(group), width, 1)  # its keys and values are there
        logits = self.loaded.core(
            encoder_outputs=BaseModelOutput(last_hidden_state=unread),
            attention_mask=(torch.arange(width, device=device) < lengths[:, None]).long(), decoder_input_ids=target,
            decoder_attention_mask=own, past_key_values=cache, use_cache=True,
        ).logits  # fmt: skip
        return _nats(logits, [p.answer for p in group], [len(p.lead) for p in group])


def _takes(loaded: LoadedModel) -> frozenset[str]:
    return forward_parameters(type(loaded.core))


def _alike(contexts: Collection[Ids]) -> Iterator[list[Ids]]:
    """Prompts that stand side by side, the longest last: beside a very long one short ones would be mostly padding."""
    together: list[Ids] = []
    for context in sorted(contexts, key=lambda ids: (len(ids), ids)):
        if together and len(context) > 2 * len(together[0]) + 256:
            yield together
            together = []
        together.append(context)
    if together:
        yield together


def _stacked(prompts: Sequence[_Read], *, left: bool) -> list[tuple[Any, Any]]:
    """Keys and values of each layer, (prompts, heads, longest, width of a head), padded on one side. The padding is
    zero: a masked column still enters the product, and 0 * NaN is NaN."""
    width = max(read.length for read in prompts)

    def stack(parts: Sequence[Any]) -> Any:
        made = parts[0].new_zeros((len(parts), parts[0].shape[1], width, parts[0].shape[3]))
        for row, part in enumerate(parts):
            begins = width - part.shape[2] if left else 0
            made[row, :, begins : begins + part.shape[2]] = part[0]
        return made

    by_layer = zip(*(read.layers for read in prompts), strict=True)
    return [(stack([keys for keys, _ in layer]), stack([values for _, values in layer])) for layer in by_layer]


def _rows(stacked: Sequence[tuple[Any, Any]], rows: Sequence[int]) -> list[Any]:
    """Cache layers that hold these prompts, each as often as it is named."""
    import torch
    from transformers.cache_utils import DynamicLayer

    made = []
    at = torch.tensor(rows, device=stacked[0][0].device)
    for keys, values in stacked:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys.index_select(0, at), values.index_select(0, at)
        made.append(layer)
    return made


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
