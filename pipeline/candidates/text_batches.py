"""Token ids of whole texts in batches, for models that read a text and give one thing for it: a score, a vector."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from pipeline.config_files import load_config
from pipeline.load_model import LoadedModel
from pipeline.score_answers import position_limit

# Their positions are counted from behind the id of the padding: two of 514 are never used.
# https://github.com/huggingface/transformers, modeling_roberta.py, create_position_ids_from_input_ids
_POSITIONS_BEHIND_PADDING = frozenset(
    ("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer",
     "data2vec-text", "xmod", "esm", "ibert")
)  # fmt: skip


def token_limit(loaded: LoadedModel) -> int | None:
    """How many tokens a text may have, special ones counted. None where neither positions nor tokenizer set a limit."""
    config = loaded.core.config
    limits = []
    if (positions := position_limit(loaded)) is not None:
        behind = config.model_type in _POSITIONS_BEHIND_PADDING
        limits.append(positions - (int(config.pad_token_id or 0) + 1 if behind else 0))
    declared = getattr(loaded.tokenizer, "model_max_length", None)
    if config.model_type not in ("t5", "mt5", "umt5"):  # 512 was the length of pretraining; positions are relative
        limits += [int(declared)] if isinstance(declared, int) and 0 < declared < 10**9 else []
    return min(limits, default=None)


def tokens_at_once(loaded: LoadedModel) -> int:
    """How many tokens a pass of this model on its device reads best, by configs/reward_models.yaml."""
    table = load_config("reward_models.yaml")
    if not loaded.device.startswith("cpu"):
        return int(table["batch_tokens"])
    width = int(loaded.core.get_input_embeddings().weight.shape[-1])
    suited = max(int(table["batch_tokens_cpu"]), int(table["batch_numbers_cpu"]) // width)
    return min(suited, int(table["batch_tokens"]))


def batches(lengths: Sequence[int], most: int, kinds: Sequence[Hashable] | None = None) -> Iterator[list[int]]:
    """Places of texts in groups of similar length, of at most `most` tokens with the padding. kinds: texts of different
    kinds are not put together."""
    of = kinds if kinds is not None else [None] * len(lengths)
    groups: dict[Hashable, list[int]] = {}
    for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        group = groups.setdefault(of[place], [])
        if group and lengths[place] * (len(group) + 1) > most:
            yield group
            groups[of[place]] = group = []
        group.append(place)
    yield from (group for group in groups.values() if group)


def padded(rows: Sequence[Sequence[int]], fill: int, device: str) -> tuple[Any, Any]:
    """Right-padded ids and mask, (rows, longest)."""
    import numpy
    import torch

    widest = max(len(row) for row in rows)
    ids = numpy.full((len(rows), widest), fill, dtype=numpy.int64)
    mask = numpy.zeros((len(rows), widest), dtype=numpy.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
