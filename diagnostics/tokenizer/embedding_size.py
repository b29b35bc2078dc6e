"""How many tokens the model has rows for."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.run_checks import NotMeasured
from pipeline.checkpoint import Checkpoint
from pipeline.weight_names import embedding_tensor


@dataclass(frozen=True)
class EmbeddingSize:
    """rows of the input embedding and where that was read."""

    rows: int
    where: str


def embedding_size(subject: CheckpointSubject) -> EmbeddingSize:
    """The weights before the configuration. Raises NotMeasured when neither tells it."""
    own = _size(subject.checkpoint)
    if own is None and subject.checkpoint.kind == "adapter" and subject.base is not None:
        own = _size(subject.base)
    if own is None:
        raise NotMeasured("embedding_size_unknown")
    return own


def _size(checkpoint: Checkpoint) -> EmbeddingSize | None:
    tensor = embedding_tensor(checkpoint.tensors)
    if tensor is not None:
        return EmbeddingSize(tensor.shape[0], f"{tensor.file}:{tensor.name}")
    config = checkpoint.config
    for part in ("", "text_config", "decoder", "llm_config", "language_config"):
        inner = config.value if not part else config.get(part)
        if not isinstance(inner, dict):
            continue
        for key in ("padded_vocab_size", "vocab_size", "n_vocab"):
            value = inner.get(key)
            if type(value) is int and value > 0:
                return EmbeddingSize(value, config.where(f"{part}.{key}" if part else key))
    return None
