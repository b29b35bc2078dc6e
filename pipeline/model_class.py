"""Which class of transformers a checkpoint is, by the head it is wanted with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pipeline.checkpoint import Checkpoint
from pipeline.refusal import Sentence

Head = Literal["generation", "reward", "embedding"]
"""What the model is wanted for: to write text, to score a text with one number, to turn a text into a vector."""

# Heads that can't write: their checkpoints are judges or encoders.
_NO_WRITER = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering",
              "ForMultipleChoice", "ForRewardModel", "RewardModel")  # fmt: skip
# The matrix whose rows are the labels, behind any prefix: of decoders, of encoders, of RoBERTa, of T5 and BART.
_LABELS = re.compile(r"(^|\.)(score|classifier|classifier\.out_proj|classification_head\.out_proj)\.weight$")
_IN_WRAPPER = re.compile(r"^base_model\.model\.|\.modules_to_save|\.original_module|\.default(?=\.)")


class ModelNotLoaded(Exception):
    """The checkpoint gives no model that runs here. reason_id names a sentence in words/*/report.yaml:

    no_weights, no_config, weights_unreadable, needs_remote_code, unknown_architecture, no_generation_head,
    no_reward_head, no_embedding_model, head_random, parts_random, labels_unclear, unknown_modules, no_tokenizer,
    too_large, no_adapter_base, adapter_not_loaded, model_not_loaded.
    """

    def __init__(self, reason_id: str, detail: str = "") -> None:
        super().__init__(f"{reason_id}: {detail}" if detail else reason_id)
        self.reason_id = reason_id
        self.detail = detail

    @property
    def sentence(self) -> Sentence:
        """The reason in either language."""
        return Sentence(f"skipped/{self.reason_id}", {"detail": self.detail}, "report")


def configuration(checkpoint: Checkpoint) -> Any:
    """The library's configuration object for this architecture. Raises ModelNotLoaded."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    value = checkpoint.config.value
    if value is None:
        raise ModelNotLoaded("no_config")
    model_type = value.get("model_type")
    known = CONFIG_MAPPING[model_type] if isinstance(model_type, str) and model_type in CONFIG_MAPPING else None
    if known is None and not model_type:  # a declared type decides: from_pretrained refuses one it doesn't know
        for name in value.get("architectures") or ():
            known = known or getattr(getattr(transformers, str(name), None), "config_class", None)
    if known is None:
        named = str(model_type or ", ".join(map(str, value.get("architectures") or ())) or "?")
        raise ModelNotLoaded("needs_remote_code" if "auto_map" in value else "unknown_architecture", named)
    return known.from_dict({k: v for k, v in value.items() if k != "auto_map"})


def model_class(config: Any, checkpoint: Checkpoint, head: Head = "generation") -> Any:
    """The class with that head. Raises ModelNotLoaded."""
    declared = next((str(name) for name in checkpoint.config.get("architectures") or ()), "")
    if head == "generation":
        return _writing_class(config, declared)
    from transformers.models.auto import modeling_auto as auto

    if head == "reward":
        if declared.endswith("RewardModel"):  # a class of the repository's own, with a head of its own
            remote = "auto_map" in (checkpoint.config.value or {})
            raise ModelNotLoaded("needs_remote_code" if remote else "no_reward_head", declared)
        found = _of(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, config)
        reason = "no_reward_head"
    else:
        found = _of(auto.MODEL_FOR_TEXT_ENCODING_MAPPING, config) or _of(auto.MODEL_MAPPING, config)
        reason = "no_embedding_model"
    if found is None:
        raise ModelNotLoaded(reason, str(config.model_type))
    return found


def _writing_class(config: Any, declared: str) -> Any:
    from transformers.models.auto import modeling_auto as auto

    if declared.endswith(_NO_WRITER):
        raise ModelNotLoaded("no_generation_head", declared)
    seq2seq = auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING
    for mapping in (seq2seq, causal) if getattr(config, "is_encoder_decoder", False) else (causal, seq2seq):
        if (found := _of(mapping, config)) is not None:
            return found
    raise ModelNotLoaded("no_generation_head", str(config.model_type))


def _of(mapping: Any, config: Any) -> Any:
    found = mapping.get(type(config), None)
    return found[0] if isinstance(found, (list, tuple)) else found


def labels_of(checkpoint: Checkpoint) -> int | None:
    """How many labels the head in these files has, None where there is none. A configuration with the default two
    leaves the number out."""
    for tensor in checkpoint.tensors.values():
        if len(tensor.shape) == 2 and _LABELS.search(own_name(tensor.name)):
            return int(tensor.shape[0])
    return None


def own_name(name: str) -> str:
    """The name of a parameter in the model itself, for a whole copy in an adapter's files or a PEFT wrapper."""
    return _IN_WRAPPER.sub("", name)


def refuse_random(model: Any, names: Iterable[str], head: Head) -> None:
    """Raises ModelNotLoaded for parameters that hold random values and count. names: as in the model.

    A pooler counts for no head but its own: masked language models are saved without it.
    """
    body = f"{getattr(model, 'base_model_prefix', '') or 'model'}."
    counting = sorted(name for name in names if head == "reward" or "pooler." not in name)
    if not counting:
        return
    heads = [] if head == "embedding" else [name for name in counting if not name.startswith((body, "transformer."))]
    shown = heads or counting
    more = f" (+{len(shown) - 3})" if len(shown) > 3 else ""
    raise ModelNotLoaded("head_random" if heads else "parts_random", ", ".join(shown[:3]) + more)
