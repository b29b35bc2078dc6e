"""Preference training of encoder-decoders on transformers' Trainer; TRL's trainers are for decoders alone.

Settings, losses and logged metrics have the names and meanings of TRL's DPOTrainer 1.16.
"""

from __future__ import annotations

import copy
import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, set_seed

from pipeline.refusal import Refused
from pipeline.training.seq2seq_dpo_config import Seq2SeqConfig, Seq2SeqDPOConfig
from pipeline.training.seq2seq_losses import LossSettings, PairLogps, dpo_loss, rewards
from pipeline.training.seq2seq_pairs import CHOSEN, IGNORED, PROMPT, REFERENCE, REJECTED, PairCollator, tokenised_rows
from pipeline.training.seq2seq_scores import AnswerScores, add_answer_scores, agrees_with_logits, probe_log_probs

logger = get_logger(__name__)

# Pre-trained in bfloat16 with activations beyond 65504: https://github.com/huggingface/transformers/issues/11735
OVERFLOW_IN_HALF = frozenset({"t5", "mt5", "umt5", "byt5", "longt5", "switch_transformers", "pix2struct"})
_UNCHANGED = 1e-4  # nats by which an adapter that does nothing may move a log-probability, by rounding
_DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "layerdrop", "classifier_dropout", "dropout_rate")
_START = "start"  # the frozen copy of an adapter
# What is added up over the answers of a batch; the metrics are ratios of these
_SUMS = (
    "pairs", "read_tokens", "tokens", "entropy", "chosen_tokens", "chosen_top1", "chosen_logits", "rejected_tokens",
    "rejected_logits", "chosen_logps", "rejected_logps", "chosen_rewards", "rejected_rewards", "ahead",
)  # fmt: skip


class Seq2SeqDPOTrainer(Trainer):
    """Trains on rows of `prompt`, `chosen`, `rejected` (texts, or turns), or on token ids as tokenised_rows makes them.

    model: a path, a model or a PeftModel. ref_model: another model as the reference. Without it the reference is, for
    an adapter the model without it (or what args.adapter_reference says), otherwise a frozen copy of the model; with
    columns `ref_chosen_logps`, `ref_rejected_logps` in the rows none is needed. Raises Refused.

    counts: by data set, rows that were cut, have an empty part or were left out, as tokenised_rows counts them.
    """

    args: Seq2SeqDPOConfig
    model: Any
    _signature_columns: Any
    loss_is_scaled_for_ga = False  # a mean of its batch

    def __init__(
        self, model: Any, ref_model: Any = None, args: Seq2SeqDPOConfig | None = None,
        train_dataset: Dataset | None = None, eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: Any = None, peft_config: Any = None, callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:  # fmt: skip
        args = args or Seq2SeqDPOConfig(output_dir="seq2seq-dpo")
        model, processing_class = open_model(model, processing_class, args)
        if args.pad_token is not None:
            processing_class.pad_token = args.pad_token
        if ref_model is model:
            raise ValueError("model and ref_model are one object, so nothing would be learned; leave ref_model out")
        suit_model(model, processing_class, args)
        if ref_model is not None:
            _refuse_half(ref_model.config, ref_model.dtype, args)
        given = isinstance(ref_model, torch.nn.Module)
        self.settings = LossSettings(
            args.loss_type, args.loss_weights, args.beta, args.label_smoothing, args.simpo_gamma, args.discopop_tau
        )
        self.counts: dict[str, Counter[str]] = {}
        self._read = functools.partial(
            tokenised_rows, tokenizer=processing_class, answers={CHOSEN: "chosen", REJECTED: "rejected"},
            prompt_room=args.prompt_room, answer_room=args.answer_room, processes=args.dataset_num_proc,
        )  # fmt: skip
        with args.main_process_first(desc="tokenising"):
            train_dataset = self._tokenised(train_dataset, "train")
            eval_dataset = _each(eval_dataset, "eval", self._tokenised)
        splits = [d for d in (train_dataset, *_flat(eval_dataset)) if d is not None]
        missing = args.needs_reference and any(not set(REFERENCE) <= set(d.column_names) for d in splits)
        base_precision = model.dtype
        model = wrapped(model, peft_config, args)
        self.adapter = bool(is_peft_model(model))
        base = model.get_base_model() if self.adapter else model
        sharded = args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3
        apart = missing and not given and not self.adapter
        # A sharded policy isn't whole before the training begins, so the reference is one of its own
        if apart and (not args.precompute_ref_log_probs or _fsdp(args)):
            ref_model = _again(base, base_precision, args) if sharded else copy.deepcopy(base)
        add_answer_scores(base)
        if not sharded and args.deepspeed_plugin is None and not agrees_with_logits(base):
            raise Refused("seq2seq_scores_differ", kind=base.config.model_type)
        self._reference_adapter: str | None = None
        self._starts_as_base = False  # whether the model without its adapter may be the reference
        if missing and self.adapter and not given:
            self._settle_adapter(model, base, args, sharded)
        if ref_model is not None:
            add_answer_scores(ref_model)
            ref_model.requires_grad_(False).eval()
        if args.disable_dropout:
            for one in (model, ref_model):
                if one is not None:
                    disable_dropout(one)
        super().__init__(
            model=model, args=args, data_collator=PairCollator(processing_class.pad_token_id, args.padded_to),
            train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=processing_class,
            callbacks=callbacks, optimizers=optimizers,
        )  # fmt: skip
        if args.n_gpu > 1:
            raise Refused("seq2seq_data_parallel")
        self.model_accepts_loss_kwargs = False  # so that nobody counts labels in advance
        self._sums: dict[str, list[Tensor]] = {"train": [], "eval": []}
        self.ref_model = self._prepared(ref_model) if ref_model is not None else None
        if args.precompute_ref_log_probs and missing:
            self._precompute(keep=given)

    # --- rows ---

    def _tokenised(self, rows: Dataset | None, name: str) -> Dataset | None:
        if rows is None or {PROMPT, CHOSEN, REJECTED} <= set(rows.column_names):
            return rows
        if not isinstance(rows, Dataset):
            raise TypeError(f"{name}: a {type(rows).__name__}, but a datasets.Dataset is needed")
        made, self.counts[name] = self._read(rows, what=name)
        if not len(made):
            raise Refused("seq2seq_no_rows", name=name)
        if self.counts[name]:
            told = ", ".join(f"{key} {n}" for key, n in sorted(self.counts[name].items()))
            logger.warning(f"{name}: of {len(rows)} rows {told}")
        return made

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [PROMPT, CHOSEN, REJECTED, *REFERENCE]

    # --- the reference ---

    def _settle_adapter(self, model: Any, base: Any, args: Seq2SeqDPOConfig, sharded: bool) -> None:
        """Decide what an adapter is compared with. Raises Refused for one that is trained already, as without it the
        model is not what the training begins with."""
        wanted = args.adapter_reference
        if wanted is None and _changes(model, base, sharded):
            raise Refused("seq2seq_trained_adapter")
        self._starts_as_base = wanted != _START
        if wanted != _START or args.precompute_ref_log_probs:
            return
        (active,) = model.active_adapters
        model.add_adapter(_START, model.peft_config[active])
        for name, parameter in model.named_parameters():
            if f".{active}." in name:
                model.get_parameter(name.replace(f".{active}.", f".{_START}.")).data.copy_(parameter.data)
            elif f".{_START}." in name:
                parameter.requires_grad_(False)
        model.save_pretrained = functools.partial(model.save_pretrained, selected_adapters=[active])
        self._reference_adapter = _START

    def _prepared(self, model: Any) -> Any:
        """A model that only reads, on this device, or in parts as the policy is."""
        if self.is_deepspeed_enabled:
            from trl.models.utils import prepare_deepspeed

            return prepare_deepspeed(model, self.accelerator)
        if self.is_fsdp_enabled:
            from trl.models.utils import prepare_fsdp

            return prepare_fsdp(model, self.accelerator)
        return self.accelerator.prepare_model(model, evaluation_mode=True)

    @contextmanager
    def _as_reference(self, *, start: bool = False) -> Iterator[None]:
        """The policy's own model as it is without its adapter, with the copy of its start in place of it, or (`start`)
        as it stands. Nothing is dropped and nothing computed twice meanwhile."""
        inner = self.accelerator.unwrap_model(self.model)
        training = inner.training
        with ExitStack() as stack:
            if training and not (self.args.disable_dropout and not self.args.activation_checkpointing):
                inner.eval()
                stack.callback(inner.train)
            if self._reference_adapter is not None:
                before = inner.active_adapter
                inner.set_adapter(self._reference_adapter)
                stack.callback(inner.set_adapter, before)
            elif self.adapter and not start:
                stack.enter_context(inner.disable_adapter())
            yield

    def _reference_logps(self, model: Any, inputs: Mapping[str, Tensor], *, start: bool = False) -> tuple[Tensor, ...]:
        """(chosen, rejected) of a batch by the reference, each (pairs,)."""
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad(), self.accelerator.autocast(), ExitStack() as stack:
            if self.ref_model is None:
                stack.enter_context(self._as_reference(start=start))
            scores = (self.ref_model or model)(**given, answer_labels=inputs["labels"], statistics=False)
        return tuple(scores.log_probs.sum(1).chunk(2))

    def _precompute(self, *, keep: bool) -> None:
        """The reference's log-probabilities as columns of all rows; then it is let go, unless the caller gave it."""
        args = self.args
        model: Any = self.model
        if self.ref_model is None and self.is_deepspeed_enabled:
            from trl.models.utils import prepare_deepspeed

            model = prepare_deepspeed(self.model, self.accelerator)
        elif self.ref_model is None:
            model.to(args.device)
        size = args.precompute_ref_batch_size
        compute = functools.partial(self._with_reference, model)
        self.train_dataset = compute(self.train_dataset, size or args.per_device_train_batch_size)
        self.eval_dataset = _each(
            self.eval_dataset, "eval", lambda rows, name: compute(rows, size or args.per_device_eval_batch_size)
        )
        if not keep:
            self.ref_model = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _with_reference(self, model: Any, rows: Dataset | None, size: int) -> Dataset | None:
        if rows is None or set(REFERENCE) <= set(rows.column_names):
            return rows
        loader = self.accelerator.prepare(
            DataLoader(
                rows.remove_columns([c for c in rows.column_names if c not in (PROMPT, CHOSEN, REJECTED)]),
                batch_size=size, collate_fn=self.data_collator, num_workers=self.args.dataloader_num_workers,
            )
        )  # fmt: skip
        start = self.adapter and self.args.adapter_reference == _START
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for inputs in loader:
            both = self._reference_logps(model, self._prepare_inputs(inputs), start=start)
            for column, values in zip(found, self.accelerator.gather_for_metrics(both), strict=True):
                column.append(values.float().cpu())
        for name, column in zip(REFERENCE, found, strict=True):
            if name in rows.column_names:
                rows = rows.remove_columns(name)
            rows = rows.add_column(name, torch.cat(column).numpy())
        return rows

    # --- the loss ---

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one batch of the collator; with `return_outputs` the scores of its answers behind it."""
        mode = "train" if model.training else "eval"
        reference = self._reference_of(model, inputs)
        scores = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], answer_labels=inputs["labels"]
        )
        chosen, rejected = scores.log_probs.sum(1).chunk(2)
        chosen_tokens, rejected_tokens = (inputs["labels"] != IGNORED).sum(1).chunk(2)
        if reference is None:
            reference = (torch.zeros_like(chosen), torch.zeros_like(rejected))
        pairs = PairLogps(chosen, rejected, reference[0], reference[1], chosen_tokens, rejected_tokens)
        loss = dpo_loss(pairs, self.settings)
        with torch.no_grad():
            self._sums[mode].append(self._summed(inputs, scores, pairs))
        return (loss, scores) if return_outputs else loss

    def _reference_of(self, model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        if not self.args.needs_reference:
            return None
        if set(REFERENCE) <= set(inputs):
            return tuple(inputs[name] for name in REFERENCE)
        if self.ref_model is None and not self._starts_as_base and self._reference_adapter is None:
            raise Refused("seq2seq_reference_gone")
        return self._reference_logps(model, inputs)

    def _summed(self, inputs: Mapping[str, Tensor], scores: AnswerScores, pairs: PairLogps) -> Tensor:
        """_SUMS of one batch, (len(_SUMS),), on its device."""
        counted = (inputs["labels"] != IGNORED).sum()
        chosen_rewards, rejected_rewards = rewards(pairs, self.settings, reference=self.args.needs_reference)
        assert scores.mean_logits is not None and scores.is_top1 is not None and scores.entropy is not None
        (chosen_logits, rejected_logits), (top1, _) = scores.mean_logits.chunk(2), scores.is_top1.chunk(2)
        found = (
            torch.tensor(len(pairs.chosen)), inputs["attention_mask"].sum() + counted, counted, scores.entropy.sum(),
            pairs.chosen_tokens.sum(), top1.sum(), chosen_logits.sum(), pairs.rejected_tokens.sum(),
            rejected_logits.sum(), pairs.chosen.sum(), pairs.rejected.sum(), chosen_rewards.sum(),
            rejected_rewards.sum(), (chosen_rewards > rejected_rewards).sum(),
        )  # fmt: skip
        return torch.stack([value.to(counted.device, torch.float32) for value in found])

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    # --- metrics ---

    def _metrics(self, mode: str) -> dict[str, float]:
        """Of all batches since the last call: ratios of each batch over all processes, averaged over the batches."""
        sums, self._sums[mode] = self._sums[mode], []
        if not sums:
            return {}
        everywhere = self.accelerator.gather(torch.stack(sums)).view(-1, len(sums), len(_SUMS)).double().sum(0)
        of = dict(zip(_SUMS, everywhere.unbind(1), strict=True))
        before = next((row["num_tokens"] for row in reversed(self.state.log_history) if "num_tokens" in row), 0)
        found = {
            "entropy": of["entropy"] / of["tokens"].clamp(min=1),
            "mean_token_accuracy": of["chosen_top1"] / of["chosen_tokens"].clamp(min=1),
            "rewards/accuracies": of["ahead"] / of["pairs"],
            "rewards/margins": (of["chosen_rewards"] - of["rejected_rewards"]) / of["pairs"],
        }
        for side in ("chosen", "rejected"):
            found[f"logits/{side}"] = of[f"{side}_logits"] / of[f"{side}_tokens"].clamp(min=1)
            for kind in ("logps", "rewards"):
                found[f"{kind}/{side}"] = of[f"{side}_{kind}"] / of["pairs"]
        read = float(of["read_tokens"].sum()) if mode == "train" else 0.0
        return {"num_tokens": before + read} | {name: float(value.mean()) for name, value in found.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._metrics("train"))
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """As Trainer does; rows may be texts as well."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = _each(eval_dataset, metric_key_prefix, self._tokenised)
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self, dataloader: Any, description: str, prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval",
    ) -> Any:  # fmt: skip
        self._sums["eval"] = []
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        found = {f"{metric_key_prefix}_{name}": value for name, value in self._metrics("eval").items()}
        return output._replace(metrics={**(output.metrics or {}), **found})


# --- what supervised training of encoder-decoders has as well ---


def open_model(model: Any, tokenizer: Any, args: Seq2SeqConfig) -> tuple[Any, Any]:
    """(model, tokenizer), read from a path where it is one. Seeds the run, as an adapter begins at random."""
    set_seed(args.seed)
    if isinstance(model, str):
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

        path, init = model, _init_kwargs(args)
        where = {name: init[name] for name in ("revision", "trust_remote_code") if init.get(name) is not None}
        config = AutoConfig.from_pretrained(path, **where)
        if not config.is_encoder_decoder:
            raise Refused("seq2seq_is_decoder", kind=config.model_type)
        model = AutoModelForSeq2SeqLM.from_pretrained(path, **init)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(path, **where)
    elif not model.config.is_encoder_decoder:
        raise Refused("seq2seq_is_decoder", kind=model.config.model_type)
    if tokenizer is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path)
    return model, tokenizer


def _init_kwargs(args: Seq2SeqConfig) -> dict[str, Any]:
    given: Any = args.model_init_kwargs or {}  # a dict by now: TrainingArguments has read what was text
    init = {"trust_remote_code": args.trust_remote_code, **given}
    if args.distributed_state is not None and args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        init["device_map"] = None
    return init


def suit_model(model: Any, tokenizer: Any, args: Seq2SeqConfig) -> None:
    """Make model and tokenizer agree on padding. Raises Refused for a precision in which the model overflows and for
    one that has no token its answers begin with."""
    _refuse_half(model.config, model.dtype, args)
    config, generation = model.config, model.generation_config
    if config.decoder_start_token_id is None:
        start = getattr(generation, "decoder_start_token_id", None)
        if start is None:
            raise Refused("seq2seq_no_start_token")
        config.decoder_start_token_id = start
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    if generation is not None:
        generation.pad_token_id = tokenizer.pad_token_id


def _refuse_half(config: Any, dtype: torch.dtype, args: Seq2SeqConfig) -> None:
    if config.model_type in OVERFLOW_IN_HALF and (args.fp16 or dtype == torch.float16):
        raise Refused("seq2seq_half", kind=config.model_type)


def wrapped(model: Any, peft_config: Any, args: Seq2SeqConfig) -> Any:
    """The model with a new adapter where one is wanted, ready for what `args` asks. Raises Refused."""
    if peft_config is not None:
        from peft import get_peft_model

        if is_peft_model(model):
            raise Refused("seq2seq_two_adapters")
        if getattr(peft_config, "is_prompt_learning", False):
            raise Refused("seq2seq_prompt_learning", kind=peft_config.peft_type.value)
        quantised = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
        zero3 = args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3
        # ZeRO-3 gathers parameters of one dtype together: https://github.com/deepspeedai/DeepSpeed/issues/8072
        model = get_peft_model(model, peft_config, autocast_adapter_dtype=not zero3 or quantised)
    elif is_peft_model(model) and model.active_peft_config.is_prompt_learning:
        raise Refused("seq2seq_prompt_learning", kind=model.active_peft_config.peft_type.value)
    if is_peft_model(model) and args.activation_checkpointing:
        if args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
            # A frozen weight is away again when the other kind compares it with what it was
            settings: Any = args.activation_checkpointing_kwargs or {}
            args.activation_checkpointing_kwargs = {**settings, "use_reentrant": True}
        model.enable_input_require_grads()
    return model


def disable_dropout(model: Any) -> None:
    """Nothing is dropped any more, by modules or by functions; the configuration keeps what it says."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
            continue
        for name in _DROPOUTS:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


# --- parts ---


def _fsdp(args: Seq2SeqConfig) -> bool:
    """Whether the policy will be in parts, asked before there is an accelerator to ask."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def _again(base: Any, dtype: torch.dtype, args: Seq2SeqDPOConfig) -> Any:
    """The model from its files: what is in parts can't be copied."""
    path = base.config._name_or_path
    if not path:
        raise Refused("seq2seq_no_path")
    init = _init_kwargs(args)
    return type(base).from_pretrained(path, **{**init, "dtype": init.get("dtype") or dtype})


def _changes(model: Any, base: Any, sharded: bool) -> bool:
    """Whether the adapter does anything yet."""
    if sharded:
        import deepspeed

        later = [p for n, p in model.named_parameters() if "lora_B" in n or "lora_embedding_B" in n]
        with deepspeed.zero.GatheredParameters(later):
            return any(bool(p.data.any()) for p in later)
    training = model.training
    model.eval()
    try:
        with_it = probe_log_probs(model, base)
        with model.disable_adapter():
            without = probe_log_probs(model, base)
    finally:
        model.train(training)
    return bool((with_it - without).abs().max() > _UNCHANGED)


def _flat(rows: Any) -> list[Dataset]:
    return list(rows.values()) if isinstance(rows, dict) else [rows]


def _each(rows: Any, name: str, do: Any) -> Any:
    """`do(rows, name)` for one data set or for each of several by name."""
    if isinstance(rows, Mapping):
        return {key: do(one, f"{name}_{key}") for key, one in rows.items()}
    return do(rows, name)
