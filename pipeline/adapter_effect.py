"""What an adapter does to the predictions of its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.score_answers import Piece, logits_at_answers

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel


@dataclass(frozen=True)
class AdapterEffect:
    """largest: largest absolute difference of a logit with and without the adapter. divergence: mean KL divergence
    in nats of the adapted distribution from the base's. changed: share of places whose likeliest token changes."""

    largest: float
    divergence: float
    changed: float
    places: int


def adapter_effect(loaded: LoadedModel, pieces: Sequence[Piece]) -> AdapterEffect:
    """Compare on the answer places of `pieces`. `loaded` holds an adapter."""
    import torch

    largest = divergence = changed = 0.0
    places = 0
    with torch.inference_mode():
        for piece in pieces:
            adapted, _ = logits_at_answers(loaded, [piece])
            with loaded.model.disable_adapter():
                plain, _ = logits_at_answers(loaded, [piece])
            rows = min(adapted.shape[-1], plain.shape[-1])
            one, other = adapted[..., :rows].float(), plain[..., :rows].float()
            largest = max(largest, float((one - other).abs().max()))
            a, b = torch.log_softmax(one, -1), torch.log_softmax(other, -1)
            divergence += float((a.exp() * (a - b)).sum())
            changed += float((a.argmax(-1) != b.argmax(-1)).sum())
            places += int(a.shape[0] * a.shape[1])
    return AdapterEffect(largest, divergence / max(1, places), changed / max(1, places), places)
