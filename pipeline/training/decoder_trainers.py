"""TRL's trainers for decoders, built as its own scripts (trl/scripts/*.py) build them: same seed, same run."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.refusal import Refused
from pipeline.training.policy_model import Policy
from pipeline.training.progress_file import ProgressFile
from pipeline.training.recipe import Recipe

Kinds = tuple[type[Any], type[Any], type[Any]]
_SEQUENCE_PAIRS = ("orpo", "cpo", "simpo")  # of TRL's experimental part: they take a model, not a name


@dataclass(frozen=True)
class Settings:
    """TRL's objects of arguments. script: rewards of online methods; training: the trainer's; model: ModelConfig."""

    script: Any
    training: Any
    model: Any


def trainer_class(method: str) -> Kinds:
    """(trainer, its config, script arguments). This is the import that takes seconds."""
    trl: Any = importlib.import_module("trl")
    if method in _SEQUENCE_PAIRS:
        if method == "orpo":
            from trl.experimental.orpo import ORPOConfig, ORPOTrainer

            return ORPOTrainer, ORPOConfig, trl.ScriptArguments
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        return CPOTrainer, CPOConfig, trl.ScriptArguments
    if method == "grpo":
        from trl.scripts.grpo import GRPOScriptArguments

        return trl.GRPOTrainer, trl.GRPOConfig, GRPOScriptArguments
    if method == "rloo":
        from trl.scripts.rloo import RLOOScriptArguments

        return trl.RLOOTrainer, trl.RLOOConfig, RLOOScriptArguments
    name = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "reward": "Reward"}[method]
    return getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config"), trl.ScriptArguments


def settings_of(recipe: Recipe, output: Path, config: type[Any], script: type[Any]) -> Settings:
    """Read as `trl METHOD --config` reads its YAML. Raises what transformers raises for settings at odds."""
    trl: Any = importlib.import_module("trl")

    given = {"output_dir": str(output), **recipe.trainer_fields()}
    parser = trl.TrlParser((script, config, trl.ModelConfig))
    unknown = parser.set_defaults_with_config(**given)
    if unknown:
        raise Refused("field_unknown", field=unknown[0].removeprefix("--"), method=recipe.method)
    made = Settings(*parser.parse_args_into_dataclasses(args=[]))
    init = {
        "revision": made.model.model_revision, "trust_remote_code": getattr(made.training, "trust_remote_code", False),
        "attn_implementation": made.model.attn_implementation, "dtype": made.model.dtype,
    }  # fmt: skip
    made.training.model_init_kwargs = {**init, **(getattr(made.training, "model_init_kwargs", None) or {})}
    return made


def lora_of(recipe: Recipe, policy: Policy, model_args: Any) -> Any:
    """The adapter's configuration, None where the model is trained itself."""
    trl: Any = importlib.import_module("trl")
    if model_args.use_peft and "lora_task_type" not in recipe.fields:
        if recipe.method == "reward":
            model_args.lora_task_type = "SEQ_CLS"
        elif policy.encoder_decoder:
            model_args.lora_task_type = "SEQ_2_SEQ_LM"
    lora: Any = trl.get_peft_config(model_args)
    if lora is not None and policy.trained_whole and recipe.method != "reward":
        lora.modules_to_save = list(dict.fromkeys([*(lora.modules_to_save or ()), *policy.trained_whole]))
        if policy.tied and len(policy.trained_whole) > 1:
            lora.ensure_weight_tying = True  # else both would be trained apart and no longer be one tensor
    return lora


def build_trainer(
    recipe: Recipe, policy: Policy, kinds: Kinds, output: Path,
    data: dict[str, Any], progress: ProgressFile,
) -> tuple[Any, Settings]:  # fmt: skip
    """The trainer, ready to train. data: `train`, and `test` where rows are held out."""
    trl: Any = importlib.import_module("trl")
    kind, config, script = kinds
    settings = settings_of(recipe, output, config, script)
    if policy.prepared is not None:
        settings.training.model_init_kwargs["revision"] = None
    lora = lora_of(recipe, policy, settings.model)
    announce(kind, progress)
    more: dict[str, Any] = {"processing_class": policy.tokenizer}
    quantization = trl.get_quantization_config(settings.model)
    if recipe.method in ("grpo", "rloo"):
        from pipeline.training.training_rewards import check_columns, reward_functions

        check_columns(recipe, data["train"].column_names)
        more["reward_funcs"] = reward_functions(recipe)
    model: Any = policy.model
    if recipe.method in _SEQUENCE_PAIRS:
        model = model_named(policy.model, settings.training, quantization)
        settings.training.model_init_kwargs = None
        quantization = None
        more["processing_class"] = policy.tokenizer or _tokenizer(policy.model, settings)
    else:
        more["quantization_config"] = quantization
    if (reference := recipe.get("ref_model_name_or_path")) is not None:
        more["ref_model"] = model_named(reference, settings.training, quantization)
    trainer = kind(
        model=model, args=settings.training, train_dataset=data["train"],
        eval_dataset=data.get("test") if settings.training.eval_strategy != "no" else None, peft_config=lora, **more,
    )  # fmt: skip
    return trainer, settings


def model_named(named: str, training: Any, quantization: Any = None, kind: str = "AutoModelForCausalLM") -> Any:
    """A model as TRL's trainers load one that is given by name. kind: a class of transformers."""
    import transformers

    loading: Any = importlib.import_module("trl.trainer.utils")
    init = dict(training.model_init_kwargs)
    if quantization is not None:
        init["quantization_config"] = quantization
    if training.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        init["device_map"] = None
    if named.startswith(("/", ".")):
        init["revision"] = None
    return loading.create_model_from_path(named, getattr(transformers, kind), **init)


def _tokenizer(named: str, settings: Settings) -> Any:
    from transformers import AutoTokenizer

    revision = (settings.training.model_init_kwargs or {}).get("revision") or settings.model.model_revision
    return AutoTokenizer.from_pretrained(named, revision=revision, trust_remote_code=False)


def announce(kind: type[Any], progress: ProgressFile) -> None:
    """Have the trainer say when it turns rows into tokens and when it asks the reference. On the class, not on one made
    of it: `datasets` pickles trainers, which have to be found under their names."""
    for name, phase in (("_prepare_dataset", "tokenising"), ("_precompute_ref_logps", "reference")):
        own = getattr(kind, name, None)
        if own is not None:
            setattr(kind, name, _announced(getattr(own, "announces", own), phase, progress))


def _announced(method: Any, phase: str, progress: ProgressFile) -> Any:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = progress.held["phase"]
        progress.phase(phase)
        try:
            return method(*args, **kwargs)
        finally:
            progress.phase(before)

    wrapped.announces = method  # type: ignore[attr-defined]  # the next run in the same process starts from it
    return wrapped

