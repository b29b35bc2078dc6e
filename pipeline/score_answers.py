"""How probable a model finds given answers: nats of every answer token, in batches of similar length.

Logits are made only where answers are, and never more at once than configs/prompt_formats.yaml allows, so that a
vocabulary of 150,000 entries costs time but no memory.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

    @classmethod
    def by(cls, failed: BaseException) -> NotScored:
        """`forward_failed`, with the first line of what a pass raised."""
        return cls("forward_failed", f"{type(failed).__name__}: {failed}".splitlines()[0][:200])


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
    in the place after the answer; end_top: the likeliest ids there with their probability. hidden: sum over the
    answer's tokens of the hidden state that each is predicted from, as it enters the output layer, float32 (width,);
    None unless asked for, and where the model has no output layer that can be listened to."""

    nats: tuple[float, ...]
    entropy: tuple[float, ...] = ()
    hits: int = 0
    end: dict[int, float] = field(default_factory=dict)
    end_top: tuple[tuple[int, float], ...] = ()
    hidden: Any = field(default=None, compare=False, repr=False)

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
    end: bool = False, hidden: bool = False, cancel: threading.Event | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Score]:  # fmt: skip
    """One Score for each piece, in order; equal pieces are scored once. Raises NotScored.

    end: also look at the place after the answer; end_ids: the ids asked for there. hidden: also sum the hidden
    states. progress: told after each batch how many pieces are done, equal ones counted once.
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
                scores = _score_batch(loaded, batch, entropy, tuple(end_ids), end or bool(end_ids), hidden)
            except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as failed:
                raise NotScored.by(failed) from None
            found.update(zip(batch, scores, strict=True))
            progress(len(found))
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


def padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
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
    loaded: LoadedModel, batch: Sequence[Piece], entropy: bool, end_ids: tuple[int, ...], end: bool, hidden: bool
) -> list[Score]:  # fmt: skip
    listening: AbstractContextManager[list[Any]] = entering_output_layer(loaded) if hidden else nullcontext([])
    with listening as seen:
        logits, firsts = logits_at_answers(loaded, batch)
    states = seen[-1] if seen and seen[-1].shape[:2] == logits.shape[:2] else None
    rows = [_Row() for _ in batch]
    for spans in _spans(batch, int(end), loaded.vocabulary):
        _score_spans(logits, spans, batch, firsts, rows, entropy, end_ids)
    scores = []
    for place, (piece, first, row) in enumerate(zip(batch, firsts, rows, strict=True)):
        n = len(piece.answer)
        summed = None if states is None else states[place, first : first + n].float().sum(0).cpu().numpy()
        scores.append(
            Score(tuple(row.nats[:n]), tuple(row.entropy[:n]), sum(row.top[:n]), row.end, row.end_top, summed)
        )  # fmt: skip
    return scores


@dataclass
class _Row:
    """What was found so far of one piece of a batch."""

    nats: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    top: list[bool] = field(default_factory=list)
    end: dict[int, float] = field(default_factory=dict)
    end_top: tuple[tuple[int, float], ...] = ()


def _spans(batch: Sequence[Piece], end: int, vocabulary: int) -> Iterator[list[tuple[int, int, int]]]:
    """(row, first place, last place + 1) of all answers: together, or in parts where one answer alone is so long that
    the numbers made of its logits would pass the bound."""
    most = max(1, int(load_config("prompt_formats.yaml")["max_logits"] // vocabulary))
    spans = [(row, 0, len(piece.answer) + end) for row, piece in enumerate(batch)]
    if sum(stop for _, _, stop in spans) <= most:
        yield spans
        return
    for row, _, stop in spans:
        for start in range(0, stop, most):
            yield [(row, start, min(stop, start + most))]


def _score_spans(
    logits: Any, spans: Sequence[tuple[int, int, int]], batch: Sequence[Piece], firsts: Sequence[int],
    rows: Sequence[_Row], entropy: bool, end_ids: tuple[int, ...],
) -> None:  # fmt: skip
    """Adds what these places say to `rows`."""
    import torch

    flat = torch.cat([logits[row, firsts[row] + start : firsts[row] + stop] for row, start, stop in spans]).float()
    logs = flat - torch.logsumexp(flat, -1, keepdim=True)
    answers = [i for row, start, stop in spans for i in (*batch[row].answer, 0)[start:stop]]
    wanted = torch.tensor(answers, device=logs.device)
    nats = (-logs.gather(1, wanted[:, None])[:, 0]).tolist()
    top = (logs.argmax(-1) == wanted).tolist()
    spread = torch.special.entr(logs.exp()).sum(-1).tolist() if entropy else []
    at = 0
    for row, start, stop in spans:
        mine = slice(at, at + stop - start)
        at = mine.stop
        found = rows[row]
        found.nats += nats[mine]
        found.entropy += spread[mine]
        found.top += top[mine]
        if stop > len(batch[row].answer):  # the place after the answer
            last = logs[at - 1].exp()
            found.end = {i: float(last[i]) for i in end_ids if i < last.shape[0]}
            best = last.topk(min(5, last.shape[0]))
            found.end_top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))


@contextmanager
def entering_output_layer(loaded: LoadedModel) -> Iterator[list[Any]]:
    """Collects what enters the output layer in each forward pass, (rows, places, width): the last hidden states as
    they are multiplied with the output embeddings, whatever the architecture norms or scales before."""
    seen: list[Any] = []
    head = loaded.core.get_output_embeddings()
    if head is None or not hasattr(head, "register_forward_pre_hook"):
        yield seen
        return
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]) if inputs else None)
    try:
        yield seen
    finally:
        hook.remove()


def logits_at_answers(loaded: LoadedModel, batch: Sequence[Piece]) -> tuple[Any, list[int]]:
    """Logits of one forward pass (rows, places, vocabulary) and, for each row, the place that predicts its first
    answer token; the next ones follow, the last one predicts what comes after the answer."""
    import torch

    model = loaded.core
    if loaded.is_encoder_decoder:
        start = start_id(loaded)
        ids, mask = padded([p.context for p in batch], loaded.device)
        target, target_mask = padded([(start, *p.lead, *p.answer) for p in batch], loaded.device)
        out = model(
            input_ids=ids, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask,
            use_cache=False,
        )  # fmt: skip
        return out.logits, [len(p.lead) for p in batch]
    ids, mask = padded([(*p.context, *p.answer) for p in batch], loaded.device)
    first = min(len(p.context) for p in batch) - 1
    extra: dict[str, Any] = {}
    if "logits_to_keep" in forward_parameters(type(model)):
        extra["logits_to_keep"] = torch.arange(max(first, 0), ids.shape[1], device=ids.device)
    else:
        first = 0
    if "use_cache" in forward_parameters(type(model)):
        extra["use_cache"] = False
    logits = model(input_ids=ids, attention_mask=mask, **extra).logits
    return logits, [len(p.context) - 1 - max(first, 0) for p in batch]


def forward_parameters(kind: type) -> frozenset[str]:
    """Names that a model's forward takes."""
    return frozenset(inspect.signature(kind.forward).parameters)  # type: ignore[attr-defined]
