"""What the names of tensors say: the same tensor under another prefix, its layer, embeddings and output heads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline.weight_file import TensorInfo

# Put before every name by wrappers: DataParallel, torch.compile, PEFT, accelerate's and Lightning's modules.
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|_fsdp_wrapped_module|base_model\.model)\.)+")
_MODEL_PREFIXES = ("model.", "transformer.", "gpt_neox.", "language_model.", "bert.", "base_model.")
_LAYER = re.compile(r"^(.*?\b(?:layers|h|blocks?|layer)\.\d+)\.")
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|shared|tok_embeddings|token_embedding|"
    r"backbone\.embeddings|rwkv\.embeddings)"
    r"(?:\.modules_to_save(?:\.\w+)?)?\.weight$"
)
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_layer|output)(?:\.modules_to_save(?:\.\w+)?)?\.weight$")


def bare_name(name: str) -> str:
    """`name` without what wrappers put before it and without the model's own prefix, to match two checkpoints."""
    bare = _WRAPPERS.sub("", name)
    changed = True
    while changed:
        changed = False
        for prefix in _MODEL_PREFIXES:
            if bare.startswith(prefix):
                bare, changed = bare[len(prefix) :], True
    return bare


def by_bare_name(tensors: Iterable[str]) -> dict[str, str]:
    """Bare name -> name. Where two names share one bare name both keep their own."""
    found: dict[str, str] = {}
    twice = set()
    names = list(tensors)
    for name in names:
        bare = bare_name(name)
        if bare in found:
            twice.add(bare)
        found[bare] = name
    return {n: n for n in names if bare_name(n) in twice} | {b: n for b, n in found.items() if b not in twice}


def layer_of(name: str) -> str:
    """`layers.3` for a tensor of a layer, else its module: `embed_tokens`, `lm_head`, `norm`."""
    bare = bare_name(name)
    inside = _LAYER.match(bare)
    return inside.group(1) if inside else bare.rpartition(".")[0] or bare


def embedding_tensor(tensors: Mapping[str, TensorInfo]) -> TensorInfo | None:
    """The input embedding [vocabulary, width], None when there is none among `tensors`."""
    return _first(tensors, _EMBEDDING)


def head_tensor(tensors: Mapping[str, TensorInfo]) -> TensorInfo | None:
    """The output head [vocabulary, width] stored as a tensor of its own, else None (tied, or not there)."""
    return _first(tensors, _HEAD)


def is_embedding_or_head(name: str) -> bool:
    """Whether the rows of this tensor are tokens."""
    return bool((_EMBEDDING.search(name) or _HEAD.search(name)) and not _LAYER.match(name))


def _first(tensors: Mapping[str, TensorInfo], pattern: re.Pattern[str]) -> TensorInfo | None:
    found = [
        t for name, t in tensors.items()
        if pattern.search(name) and not _LAYER.match(name) and len(t.shape) == 2 and t.numel
    ]  # fmt: skip
    # an encoder's copy of the embedding is not the model's own
    return min(found, key=lambda t: (t.name.count("."), t.name), default=None)
