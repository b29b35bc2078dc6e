"""Preference losses from summed log-probabilities, by the names and formulae of TRL's DPOTrainer 1.16, and SimPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossSettings:
    """What a loss is made of, named as in Seq2SeqDPOConfig."""

    loss_type: Sequence[str] = ("sigmoid",)
    loss_weights: Sequence[float] | None = None
    beta: float = 0.1
    label_smoothing: float = 0.0
    simpo_gamma: float = 0.5
    discopop_tau: float = 0.05


@dataclass(frozen=True)
class PairLogps:
    """Of a batch of pairs, each (pairs,): log-probabilities in nats summed over an answer's tokens, by the policy and
    by the reference, and how many tokens each answer has."""

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_tokens: Tensor = field(repr=False)
    rejected_tokens: Tensor = field(repr=False)


def dpo_loss(pairs: PairLogps, settings: LossSettings) -> Tensor:
    """The weighted sum of the losses, each the mean over the batch: a scalar."""
    weights = settings.loss_weights or [1.0] * len(settings.loss_type)
    losses = [w * losses_of(name, pairs, settings).mean() for name, w in zip(settings.loss_type, weights, strict=True)]
    return sum(losses[1:], losses[0])


def losses_of(name: str, pairs: PairLogps, settings: LossSettings) -> Tensor:
    """One loss, (pairs,). `sft` is a mean over the tokens of the whole batch, the same for each pair."""
    import torch
    from torch.nn.functional import logsigmoid

    beta, smoothing = settings.beta, settings.label_smoothing
    chosen = pairs.chosen - pairs.ref_chosen
    rejected = pairs.rejected - pairs.ref_rejected
    delta = beta * (chosen - rejected)

    def per_token(chosen: Tensor, rejected: Tensor) -> Tensor:
        return chosen / pairs.chosen_tokens.clamp(min=1) - rejected / pairs.rejected_tokens.clamp(min=1)

    def smoothed(lead: Tensor) -> Tensor:
        """Section 3 of https://ericmitchell.ai/cdpo.pdf: `smoothing` is how probably the pair is wrong."""
        if not smoothing:
            return -logsigmoid(lead)
        return -(1 - smoothing) * logsigmoid(lead) - smoothing * logsigmoid(-lead)

    if name == "sigmoid":
        return smoothed(delta)
    if name == "robust":  # https://arxiv.org/abs/2403.00409
        return (-(1 - smoothing) * logsigmoid(delta) + smoothing * logsigmoid(-delta)) / (1 - 2 * smoothing)
    if name == "hinge":
        return torch.relu(1 - delta)
    if name == "ipo":  # by token, as the authors want it and TRL does it
        return (per_token(chosen, rejected) - 1 / (2 * beta)) ** 2
    if name == "sigmoid_norm":
        return -logsigmoid(beta * per_token(chosen, rejected))
    if name == "simpo":  # https://arxiv.org/abs/2405.14734
        return smoothed(beta * per_token(pairs.chosen, pairs.rejected) - settings.simpo_gamma)
    if name == "sft":
        return (-pairs.chosen.sum() / pairs.chosen_tokens.sum().clamp(min=1)).expand(len(pairs.chosen))
    if name == "exo_pair":  # https://arxiv.org/abs/2402.00856, equation 16
        right = torch.sigmoid(delta) * (logsigmoid(delta) - torch.log1p(delta.new_tensor(-smoothing)))
        return right + torch.sigmoid(-delta) * (logsigmoid(-delta) - torch.log(delta.new_tensor(smoothing)))
    if name == "nca_pair":
        down = logsigmoid(-beta * chosen) + logsigmoid(-beta * rejected)
        return -logsigmoid(beta * chosen) - 0.5 * down
    if name == "bco_pair":
        return -logsigmoid(beta * chosen) - logsigmoid(-beta * rejected)
    if name == "sppo_hard":
        return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2
    if name == "aot":
        ours, theirs = pairs.chosen - pairs.rejected, pairs.ref_chosen - pairs.ref_rejected
        return smoothed(beta * (ours.sort().values - theirs.sort().values))
    if name == "aot_unpaired":
        return smoothed(beta * (chosen.sort().values - rejected.sort().values))
    if name == "apo_zero":
        return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)
    if name == "apo_down":
        return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(delta)
    if name == "discopop":  # https://arxiv.org/abs/2406.08414, equation 5
        share = torch.sigmoid(delta / settings.discopop_tau)
        return -logsigmoid(delta) * (1 - share) + torch.exp(-delta) * share
    raise ValueError(f"no loss type is called {name}")


def rewards(pairs: PairLogps, settings: LossSettings, *, reference: bool) -> tuple[Tensor, Tensor]:
    """beta times how much more probable the policy finds (chosen, rejected) than the reference, each (pairs,), without
    gradient. Where there is no reference and the loss takes lengths out, by token, as SimPO defines its reward."""
    chosen, rejected = (pairs.chosen - pairs.ref_chosen).detach(), (pairs.rejected - pairs.ref_rejected).detach()
    if not reference and set(settings.loss_type) <= {"simpo", "sft"}:
        chosen, rejected = chosen / pairs.chosen_tokens.clamp(min=1), rejected / pairs.rejected_tokens.clamp(min=1)
    return settings.beta * chosen, settings.beta * rejected
