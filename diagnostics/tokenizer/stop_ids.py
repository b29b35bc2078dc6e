"""Which ids `generate()` stops on, by the files alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostics.run_checks import NotMeasured
from pipeline.checkpoint import Checkpoint
from pipeline.json_file import JsonFile

# Architectures of these kinds never generate: they need no end token.
NOT_GENERATIVE = ("Classification", "MaskedLM", "QuestionAnswering", "NextSentencePrediction", "RewardModel",
                  "MultipleChoice", "EncoderModel", "ForScore")  # fmt: skip


@dataclass(frozen=True)
class StopIds:
    """`ids` empty: generation ends at the length limit only. `where` names the field that decides.

    source: `generation_config`, `config`, or `none` (no file has the key). unusable: values that are no token id.
    """

    ids: tuple[int, ...]
    where: str
    value: Any
    source: str
    unusable: tuple[Any, ...] = ()


def stop_ids(checkpoint: Checkpoint) -> StopIds:
    """As transformers builds the generation config (5.23, `PreTrainedModel.adjust_generation_fn`):
    generation_config.json when it can be read, and then a missing key means no end token; else config.json, and of
    that its text part. Raises NotMeasured when neither file is there or the model is no generator.
    """
    config, generation = checkpoint.config, checkpoint.generation_config
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        names = [str(a) for a in architectures]
        if all(any(kind in name for kind in NOT_GENERATIVE) for name in names):
            raise NotMeasured("not_a_generator", architecture=names[0])
    if generation.value is not None:
        return _stop_ids(generation, generation.get("eos_token_id"), "generation_config", "eos_token_id")
    if config.value is None:
        raise NotMeasured("no_config")
    value = config.get("eos_token_id")
    key = "eos_token_id"
    if value is None:
        for part in ("decoder", "generator", "text_config"):
            inner = config.get(part)
            if isinstance(inner, dict) and inner:
                value, key = inner.get("eos_token_id"), f"{part}.eos_token_id"
                break
    if value is None and "eos_token_id" not in config.value:
        return StopIds((), config.where("eos_token_id"), None, "none")
    return _stop_ids(config, value, "config", key)


def _stop_ids(file: JsonFile, value: Any, source: str, key: str) -> StopIds:
    values = value if isinstance(value, list) else [] if value is None else [value]
    good = tuple(v for v in values if type(v) is int and v >= 0)
    bad = tuple(v for v in values if not (type(v) is int and v >= 0))
    return StopIds(good, file.where(key), value, source, bad)
