"""Log-probabilities of several answers to each prompt by an encoder-decoder, inside the model's own forward call, so
that every wrapper around it (adapters, DistributedDataParallel, DeepSpeed, FSDP) sees one call.

The encoder reads each prompt once, its states serve all answers. The logits exist for the answers' own tokens only, and
for no more of them at a time than _MOST_LOGITS.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import ModelOutput

from pipeline.training.seq2seq_pairs import IGNORED

_MOST_LOGITS = 1 << 25  # logits held at once, 128 MB in float32; where there are more, gradients have them made again
_AGREE = 1e-2  # nats a log-probability may differ by from the model's own logits: bfloat16 is no better


@dataclass
class AnswerScores(ModelOutput):
    """By token of the answers, each (answers, longest answer), 0 where the label is ignored. All but `log_probs` are
    without gradient, and None where they weren't asked for. entropy: nats. mean_logits: over the vocabulary. is_top1:
    whether the label is the likeliest token."""

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None


class _LogProbs(torch.autograd.Function):
    """log softmax(logits)[label], with one buffer of the logits' size kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, statistics: bool) -> tuple[Tensor, ...]:
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        highest, likeliest = wide.max(-1)
        shares = (wide - highest[:, None]).exp_()
        total = shares.sum(-1)
        log_total = total.log() + highest
        log_probs = wide.gather(-1, labels[:, None]).squeeze(-1) - log_total
        if logits.requires_grad:
            ctx.save_for_backward(shares, total, labels)
            ctx.kind = logits.dtype
        if not statistics:
            return (log_probs,)
        expected = torch.bmm(shares[:, None, :], wide[:, :, None]).flatten() / total
        others = (log_total - expected, wide.mean(-1), likeliest == labels)
        ctx.mark_non_differentiable(*others)
        return (log_probs, *others)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        shares, total, labels = ctx.saved_tensors
        gradient = gradients[0].to(shares.dtype)
        found = shares * (-gradient / total)[:, None]
        found.scatter_add_(-1, labels[:, None], gradient[:, None])
        return found.to(ctx.kind), None, None


def add_answer_scores(model: Any) -> None:
    """Give `model` (of transformers, not a wrapper) a second way to be called:
    `model(input_ids, attention_mask, answer_labels=(k * prompts, longest), statistics=True)` returns AnswerScores. Row
    r of the labels answers prompt `r % prompts`; IGNORED stands behind each answer. All other calls stay as they are.
    """
    plain = model.forward

    def forward(
        self: Any, *args: Any, answer_labels: Tensor | None = None, statistics: bool = True, **kwargs: Any
    ) -> Any:  # fmt: skip
        if answer_labels is None:
            return plain(*args, **kwargs)
        return _scores(self, plain, kwargs["input_ids"], kwargs["attention_mask"], answer_labels, statistics)

    forward.__signature__ = inspect.signature(type(model).forward)  # type: ignore[attr-defined]  # `generate` reads it
    model.forward = MethodType(forward, model)


def _scores(
    model: Any, plain: Any, prompts: Tensor, mask: Tensor, labels: Tensor, statistics: bool
) -> AnswerScores:  # fmt: skip
    copies = len(labels) // len(prompts)
    states = model.get_encoder()(input_ids=prompts, attention_mask=mask, return_dict=True).last_hidden_state
    head = model.get_output_embeddings()
    taken: list[Tensor] = []

    def take(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        taken.append(given[0])
        return (given[0][:, :0], *given[1:])

    # The head sees the states of no place: whatever the model does before it is done, and no logits are made
    hook = head.register_forward_pre_hook(take)
    try:
        plain(
            encoder_outputs=BaseModelOutput(last_hidden_state=states.repeat(copies, 1, 1)),
            attention_mask=mask.repeat(copies, 1), use_cache=False, return_dict=True,
            decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels),
        )  # fmt: skip
    finally:
        hook.remove()
    counted = labels != IGNORED
    found = _in_parts(model, head, taken[0][counted], labels[counted], statistics)
    spread = [part.new_zeros(labels.shape).masked_scatter(counted, part) for part in found]
    return AnswerScores(*spread)


def _in_parts(model: Any, head: Any, states: Tensor, labels: Tensor, statistics: bool) -> list[Tensor]:
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    bias = getattr(model, "final_logits_bias", None)
    cap = getattr(getattr(model.config, "decoder", model.config), "final_logit_softcapping", None)

    def scored(states: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        logits = head(states)
        if bias is not None:
            logits = logits + bias
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        return _LogProbs.apply(logits, labels, statistics)

    size = max(1, _MOST_LOGITS // model.config.get_text_config(decoder=True).vocab_size)
    if len(labels) <= size:
        return list(scored(states, labels))
    # A second forward pass of the head, in the middle of the backward pass, isn't for weights that are in parts then
    again = torch.is_grad_enabled() and not is_deepspeed_zero3_enabled()
    parts = [
        checkpoint(scored, *part, use_reentrant=False) if again else scored(*part)
        for part in zip(states.split(size), labels.split(size), strict=True)
    ]
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def probe_log_probs(model: Any, base: Any) -> Tensor:
    """What `model`, perhaps a wrapper of `base`, gives for a few arbitrary tokens, (2, 4)."""
    labels = torch.tensor([[5, 3, 8, 2], [4, 9, IGNORED, IGNORED]], device=base.device)
    prompts = torch.tensor([[3, 7, 4, 6, 2]], device=base.device)
    vocabulary = base.config.get_text_config(decoder=True).vocab_size
    labels = torch.where(labels == IGNORED, labels, labels % vocabulary)
    with torch.no_grad():
        given = {"input_ids": prompts % vocabulary, "attention_mask": torch.ones_like(prompts)}
        found: Tensor = model(**given, answer_labels=labels, statistics=False).log_probs
    return found


def agrees_with_logits(base: Any) -> bool:
    """Whether the scores of `base` are those that its own logits give: not so where an architecture does something
    behind its head that isn't known here. Leaves the model as it was."""
    training = base.training
    base.eval()
    try:
        found = probe_log_probs(base, base)
        vocabulary = base.config.get_text_config(decoder=True).vocab_size
        prompts = torch.tensor([[3, 7, 4, 6, 2]], device=base.device) % vocabulary
        worst = 0.0
        with torch.no_grad():
            for row, answer in enumerate(([5, 3, 8, 2], [4, 9])):
                labels = torch.tensor([answer], device=base.device) % vocabulary
                given = base.prepare_decoder_input_ids_from_labels(labels)
                logits = base(input_ids=prompts, decoder_input_ids=given, use_cache=False).logits.float()
                plain = logits.log_softmax(-1).gather(-1, labels[..., None]).flatten()
                worst = max(worst, float((plain - found[row, : len(answer)]).abs().max()))
        return worst <= _AGREE
    finally:
        base.train(training)
