"""The project's own trainers for encoder-decoders, built from a recipe as TRL's are for decoders."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pipeline.refusal import Refused
from pipeline.training.decoder_trainers import Kinds, Settings, announce, lora_of, model_named, settings_of
from pipeline.training.policy_model import Policy
from pipeline.training.progress_file import ProgressFile
from pipeline.training.recipe import Recipe

METHODS = ("sft", "dpo")


def seq2seq_trainer_class(method: str) -> Kinds:
    """(trainer, its config, script arguments). Raises Refused for a method that encoder-decoders lack."""
    if method not in METHODS:
        raise Refused("train_not_for_encoder_decoders", method=method, names=", ".join(METHODS))
    trl: Any = importlib.import_module("trl")
    if method == "sft":
        from transformers import Seq2SeqTrainer

        from pipeline.training.seq2seq_sft import Seq2SeqSFTConfig

        return Seq2SeqTrainer, Seq2SeqSFTConfig, trl.ScriptArguments
    from pipeline.training.seq2seq_dpo import Seq2SeqDPOTrainer
    from pipeline.training.seq2seq_dpo_config import Seq2SeqDPOConfig

    return Seq2SeqDPOTrainer, Seq2SeqDPOConfig, trl.ScriptArguments


def build_seq2seq_trainer(
    recipe: Recipe, policy: Policy, kinds: Kinds, output: Path, data: dict[str, Any], progress: ProgressFile
) -> tuple[Any, Settings]:
    """The trainer, ready to train. data: `train`, and `test` where rows are held out."""
    kind, config, script = kinds
    settings = settings_of(recipe, output, config, script)
    if policy.prepared is not None:
        settings.training.model_init_kwargs["revision"] = None
    lora = lora_of(recipe, policy, settings.model)
    held_out = data.get("test") if settings.training.eval_strategy != "no" else None
    if recipe.method == "sft":
        from pipeline.training.seq2seq_sft import build_sft_trainer

        progress.phase("tokenising")
        trainer = build_sft_trainer(policy.model, policy.tokenizer, settings.training, data["train"], held_out, lora)
        return trainer, settings
    announce(kind, progress)
    reference = recipe.get("ref_model_name_or_path")
    if reference is not None:
        reference = model_named(reference, settings.training, kind="AutoModelForSeq2SeqLM")
    trainer = kind(
        model=policy.model, ref_model=reference, args=settings.training, train_dataset=data["train"],
        eval_dataset=held_out, processing_class=policy.tokenizer, peft_config=lora,
    )  # fmt: skip
    return trainer, settings
