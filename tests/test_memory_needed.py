"""Memory and time of training: exact counts, what torch really keeps, published measurements, and the advice."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import yaml

from pipeline.config_files import CONFIGS, load_config
from pipeline.refusal import Refused, Sentence
from pipeline.training.memory_needed import (
    PARTS,
    MemoryNeeded,
    TrainingSettings,
    _Estimate,
    memory_needed,
    settings_of,
    what_fits,
)
from pipeline.training.model_shape import ModelShape, shape_of_config, shape_of_model, shape_of_tensors
from pipeline.training.recipe import parse_recipe
from pipeline.training.time_needed import TimeNeeded, speed_of, steps_of, time_needed

H, F, V = 64, 160, 97
DECODER = {"hidden_size": H, "intermediate_size": F, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
           "vocab_size": V, "max_position_embeddings": 512}  # fmt: skip
DECODERS = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "phi", "gpt_neox")
SMALL: dict[str, dict[str, Any]] = dict.fromkeys(DECODERS, DECODER)
SMALL |= {
    "mixtral": {**DECODER, "num_local_experts": 4}, "qwen3_moe": {**DECODER, "num_experts": 4, "moe_intermediate_size": 48},
    "gpt2": {"n_embd": H, "n_inner": F, "n_head": 4, "vocab_size": V, "n_positions": 512},
    "opt": {**DECODER, "ffn_dim": F, "word_embed_proj_dim": H},
    "t5": {"d_model": H, "d_ff": F, "num_heads": 4, "d_kv": 16, "vocab_size": V, "decoder_start_token_id": 0},
    "bart": {"d_model": H, "encoder_ffn_dim": F, "decoder_ffn_dim": F, "encoder_attention_heads": 4,
             "decoder_attention_heads": 4, "vocab_size": V, "max_position_embeddings": 512, "forced_eos_token_id": 1},
}  # fmt: skip
SMALL["mt5"] = SMALL["t5"]
DEPTH = {"gpt2": ("n_layer",), "t5": ("num_layers", "num_decoder_layers"), "mt5": ("num_layers", "num_decoder_layers"),
         "bart": ("encoder_layers", "decoder_layers")}  # fmt: skip


def built(model_type: str, layers: int, device: str = "meta", attention: str = "sdpa") -> Any:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    fields = SMALL[model_type] | dict.fromkeys(DEPTH.get(model_type, ("num_hidden_layers",)), layers)
    config = CONFIG_MAPPING[model_type](**fields, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device(device):
        return kind.from_config(config, attn_implementation=attention)


def shape_of(model: Any) -> ModelShape:
    return shape_of_config(json.loads(model.config.to_json_string()))


def qwen(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> ModelShape:
    fields = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
              "num_key_value_heads": heads, "vocab_size": 151_936, "tie_word_embeddings": False}  # fmt: skip
    return shape_of_config({"model_type": "qwen2", **fields, **more})


SIZES = {"1.8B": qwen(2048, 24, 16, 5504), "7B": qwen(4096, 32, 32, 11008), "14B": qwen(5120, 40, 40, 13696),
         "72B": qwen(8192, 80, 64, 24576)}  # fmt: skip
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
# README of Qwen (github.com/QwenLM/Qwen), "Profiling of Memory and Speed": GB of one A100 80GB (72B: one of four) and seconds
# of an iteration of 8 rows, recomputed, LoRA of rank 64 beside all products
PUBLISHED: dict[tuple[str, str, int], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("1.8B", "lora", 1): ((6.7, 7.4, 8.4, 11.0, 16.2, 21.8), (1.0, 1.0, 1.1, 1.7, 3.3, 6.8)),
    ("1.8B", "qlora", 1): ((5.8, 6.0, 6.6, 7.8, 10.2, 15.8), (1.4, 1.4, 1.4, 2.0, 3.4, 6.5)),
    ("1.8B", "full", 1): ((43.5, 43.5, 43.5, 43.5, 47.1, 48.3), (2.1, 2.2, 2.2, 2.3, 2.8, 5.6)),
    ("7B", "lora", 1): ((20.1, 20.4, 21.5, 23.8, 29.7, 36.6), (1.2, 1.5, 2.8, 5.2, 10.1, 21.3)),
    ("7B", "qlora", 1): ((11.5, 11.5, 12.3, 13.9, 16.9, 23.5), (3.0, 3.0, 3.5, 7.0, 11.6, 22.3)),
    ("7B", "full", 2): ((69.6, 74.0, 81.0), (4.0, 4.0, 4.5)),
    ("14B", "lora", 1): ((34.6, 35.1, 35.3, 37.4, 42.5, 55.2), (1.6, 2.4, 4.4, 8.4, 17.0, 36.0)),
    ("14B", "qlora", 1): ((18.7, 18.4, 18.9, 19.9, 23.0, 27.9), (5.3, 6.3, 8.2, 11.8, 20.1, 38.3)),
    ("72B", "lora", 4): ((53.9, 54.4, 55.7, 57.2, 62.3, 72.3), (17.6, 20.5, 29.4, 45.7, 83.4, 161.5)),
    ("72B", "qlora", 1): ((61.4, 61.4, 62.9, 64.1, 68.0, 75.6), (27.4, 31.5, 41.4, 59.5, 97.7, 179.8)),
}


def published_settings(finetuning: str, processes: int, length: int) -> TrainingSettings:
    deepspeed = finetuning != "lora" or processes > 1
    stage = 2 if finetuning == "qlora" else 3 if deepspeed else 0
    return TrainingSettings(
        finetuning=finetuning, lora_r=64, lora_target_modules=ALL, dtype="bfloat16", optim="adamw_torch",
        per_device_train_batch_size=1, gradient_accumulation_steps=8, max_length=length, head="full",
        attn_implementation="flash_attention_2", processes=processes, zero_stage=stage,
        engine="deepspeed" if deepspeed else "ddp",
    )  # fmt: skip


@pytest.mark.parametrize("model_type", sorted(SMALL))
def test_parameters_and_adapters_are_counted_exactly(model_type: str) -> None:
    from peft import LoraConfig, get_peft_model

    shape = shape_of(built(model_type, 3, attention="eager"))
    assert shape.parameters == sum(p.numel() for p in set(built(model_type, 3, attention="eager").parameters()))
    named = ["q", "v", "wo"] if "t5" in model_type else ["c_attn"] if model_type == "gpt2" else ["q_proj", "v_proj"]
    named = ["query_key_value"] if model_type == "gpt_neox" else named
    mapped = model_type in load_config("training_memory.yaml")["default_targets"] and model_type != "mixtral"
    for targets in ("all-linear", named, *((None,) if mapped else ())):
        kind = "SEQ_2_SEQ_LM" if shape.encoder_decoder else "CAUSAL_LM"
        adapted = get_peft_model(
            built(model_type, 3, attention="eager"), LoraConfig(r=4, target_modules=targets, task_type=kind)
        )
        assert shape.lora_parameters(4, targets) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_default_targets_are_those_of_peft() -> None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFTS

    for model_type, targets in load_config("training_memory.yaml")["default_targets"].items():
        assert PEFTS[model_type] == targets


def test_known_optimizers_are_those_of_transformers() -> None:
    from transformers.training_args import OptimizerNames

    known = load_config("training_memory.yaml")
    names = {name.value for name in OptimizerNames}
    for group in (known["optimizers"], known["eight_bit_keeps_embeddings"], known["step_copies_all"]):
        assert set(group) <= names
    unknown = names - set(known["optimizers"])
    assert all(name.startswith(("galore", "apollo")) for name in unknown), unknown


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "model_type", ["llama", "qwen3", "gemma", "mixtral", "gpt2", "opt", "phi", "t5", "mt5", "bart"]
)
def test_activations_are_what_torch_keeps(model_type: str, attention: str) -> None:
    """Bytes of the tensors that autograd saves for two more layers, parameters left out."""
    import torch

    torch.set_num_threads(1)

    def kept(layers: int, mode: str) -> int:
        torch.manual_seed(0)
        model = built(model_type, layers, "cpu", attention).train()
        model = model.bfloat16() if mode == "half" else model
        own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        seen: dict[int, torch.Tensor] = {}

        def save(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dim() and tensor.untyped_storage().data_ptr() not in own:
                seen[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address comes twice
            return tensor

        ids = torch.randint(3, V, (2, 64))
        mask = torch.ones_like(ids)
        mask[0, -3:] = 0
        more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        hooks = torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mode == "mixed"):
            model(input_ids=ids, attention_mask=mask, use_cache=False, **more)
        copies = 2 * sum(p.numel() for p in model.parameters()) if mode == "mixed" else 0
        return sum(t.untyped_storage().nbytes() for t in seen.values()) - copies

    for mode in ("single", "half", "mixed"):
        real = kept(3, mode) - kept(1, mode)
        settings = TrainingSettings(
            dtype="bfloat16" if mode == "half" else "float32", mixed="bf16" if mode == "mixed" else "no", device="cpu",
            per_device_train_batch_size=2, max_length=64, attn_implementation=attention, disable_dropout=False,
        )  # fmt: skip
        shape = shape_of(built(model_type, 3))
        estimate = _Estimate(shape, settings)
        assert estimate.settings.precision == mode
        sequences, encoder, _, decoder = estimate.tokens
        expected = (
            sum(layer.count * estimate.kept(layer, sequences * encoder, decoder) for layer in shape.layers) * 2 / 3
        )
        assert 0.7 < expected / real < 1.6, (mode, expected / real)
        if mode == "single":
            assert 0.85 < expected / real < 1.1


def test_a_plain_layer_has_the_published_formula() -> None:
    """Korthikanti et al.: s * b * h * (34 + 5 * a * s / h) for a layer with dropout, GELU and 16 bits."""
    hidden, heads, length, batch = 1024, 16, 512, 4
    shape = shape_of_config({"model_type": "gpt2", "n_embd": hidden, "n_head": heads, "n_layer": 1,
                             "activation_function": "gelu"})  # fmt: skip
    settings = TrainingSettings(dtype="bfloat16", per_device_train_batch_size=batch, max_length=length,
                                attn_implementation="eager", disable_dropout=False)  # fmt: skip
    tokens = batch * length
    eager = _Estimate(shape, settings).kept(shape.layers[0], 0, tokens)
    flash = _Estimate(shape, replace(settings, attn_implementation="flash_attention_2")).kept(
        shape.layers[0], 0, tokens
    )
    assert flash == pytest.approx(tokens * hidden * 34, rel=0.2)
    # scores, softmax and dropout: today's eager attention works in float32 and keeps twice the 5 bytes
    assert eager - flash == pytest.approx(2 * 5 * heads * length * tokens)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: "-".join(map(str, case)))
def test_published_measurements(case: tuple[str, str, int]) -> None:
    size, finetuning, processes = case
    ratios = []
    for length, measured, seconds in zip(LENGTHS, *PUBLISHED[case], strict=False):
        settings = published_settings(finetuning, processes, length)
        ratios.append(memory_needed(SIZES[size], settings).device / 1e9 / measured)
        least, most = time_needed(SIZES[size], settings, rows=8, device_name="NVIDIA A100-SXM4-80GB").seconds_per_step
        assert least <= seconds <= most, (length, least, seconds, most)
    assert all(0.7 < ratio < 1.45 for ratio in ratios), ratios


def test_model_states_are_those_of_zero() -> None:
    shape = SIZES["7B"]
    states = ("weights", "gradients", "optimizer")

    def of(**changes: Any) -> float:
        settings = TrainingSettings(dtype="bfloat16", engine="deepspeed", optim="adamw_torch", **changes)
        needed = memory_needed(shape, settings)
        return sum(needed.part(name) for name in states) / shape.parameters

    assert of() == pytest.approx(16)  # 112 GB for 7 billion
    assert of(zero_stage=1, processes=64) == pytest.approx(4 + 12 / 64)
    assert of(zero_stage=2, processes=64) == pytest.approx(2 + 14 / 64)
    plain = memory_needed(shape, TrainingSettings(optim="adamw_torch", mixed="bf16"))
    assert sum(plain.part(name) for name in states) / shape.parameters == pytest.approx(18)  # transformers docs


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("offload", [False, True])
def test_close_to_the_estimators_of_deepspeed(stage: int, offload: bool) -> None:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as stage3
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as stage2

    shape = SIZES["14B"]
    if stage == 3:
        host, device, _ = stage3(shape.parameters, shape.largest, 8, 1, cpu_offload=offload, cpu_offload_params=False)
    else:
        host, device = stage2(shape.parameters, 8, 1, cpu_offload=offload)
    settings = TrainingSettings(
        dtype="bfloat16", engine="deepspeed", optim="adamw_torch", zero_stage=stage, processes=8, offload_optimizer=offload,
        per_device_train_batch_size=1, max_length=16,
    )  # fmt: skip
    needed = memory_needed(shape, settings)
    ours = sum(needed.part(name) for name in ("weights", "gradients", "optimizer", "extra"))
    assert 0.8 < ours / device < 1.35, ours / device
    if offload:
        offloaded = sum(part.bytes for part in needed.host_parts if part.name != "processes")
        # at stage 2 theirs is the moment of loading: each process holds the whole model in float32
        assert (0.8 < offloaded / host < 1.25) if stage == 3 else offloaded <= host


def test_published_sizes_fit_where_they_are_known_to_fit() -> None:
    llama = shape_of_config({"model_type": "llama"})  # 6.7 billion
    qlora = TrainingSettings(finetuning="qlora", dtype="bfloat16", per_device_train_batch_size=1, max_length=2048,
                             lora_target_modules="all-linear", lora_r=64, optim="paged_adamw_32bit")  # fmt: skip
    assert memory_needed(llama, qlora).device < 24e9
    # LoRA and DPO with ZeRO-3 on eight cards of 80 GB, cut at 4,096 tokens
    large = TrainingSettings(
        method="dpo", finetuning="lora", lora_r=8, lora_target_modules=ALL, dtype="bfloat16", max_length=4096,
        per_device_train_batch_size=1, processes=8, engine="deepspeed", zero_stage=3, optim="adamw_torch",
    )  # fmt: skip
    needed = memory_needed(SIZES["72B"], large)
    assert 30e9 < needed.device < 75e9
    assert memory_needed(SIZES["72B"], large, zero_stage=2).device > 80e9
    assert memory_needed(llama, method="sft", per_device_train_batch_size=1).device > 112e9


def test_what_each_method_adds() -> None:
    shape = qwen(1024, 28, 16, 3072, num_key_value_heads=8, tie_word_embeddings=True)

    def of(**changes: Any) -> MemoryNeeded:
        return memory_needed(shape, TrainingSettings(dtype="bfloat16", max_length=1024, **changes))

    sft, dpo = of(), of(method="dpo")
    assert dpo.part("reference") == 2 * shape.parameters and not sft.part("reference")
    assert dpo.part("activations") == pytest.approx(2 * sft.part("activations"), rel=0.01)
    for without in ({"finetuning": "lora"}, {"precompute_ref_log_probs": True}):
        assert not of(method="dpo", **without).part("reference")
    assert of(method="dpo", finetuning="lora", reference="copy").part("reference") == 2 * shape.parameters
    assert not of(method="grpo", beta=0.0).part("reference") and of(method="grpo", beta=0.1).part("reference")
    assert not of(method="reward").part("logits")
    # the logits of a vocabulary of 150,000 are the largest part where they are not tiled
    simpo = of(method="simpo")
    assert simpo.part("logits") == max(part.bytes for part in simpo.parts)
    assert simpo.part("logits") > 4 * dpo.part("logits")
    writing = of(method="grpo", beta=0.0, completion_length=2048, steps_per_generation=16)
    assert writing.part("extra") and not of(method="grpo", beta=0.0, use_vllm=True, completion_length=2048).part(
        "extra"
    )
    assert of(method="grpo", beta=0.0, reward_bytes=10**9).part("reward") == 10**9
    eight, adam, factored, plain = (
        of(optim=o).part("optimizer") for o in ("adamw_8bit", "adamw_torch", "adafactor", "sgd")
    )
    assert plain == 0 and factored < eight / 50 and eight < adam


def test_only_the_experts_in_use_keep_activations() -> None:
    def of(experts: int, chosen: int) -> ModelShape:
        return shape_of_config({"model_type": "mixtral", **SMALL["mixtral"], "num_local_experts": experts,
                                "num_experts_per_tok": chosen, "num_hidden_layers": 2})  # fmt: skip

    few, many = of(4, 2), of(16, 2)
    assert many.parameters > 3 * few.parameters
    assert many.in_products - few.in_products == 2 * 12 * H  # the wider router
    assert memory_needed(few).part("activations") == memory_needed(many).part("activations")
    assert memory_needed(of(16, 8)).part("activations") > memory_needed(many).part("activations")


def test_longer_data_than_known_is_not_counted() -> None:
    shape = SIZES["1.8B"]
    known = memory_needed(shape, max_length=4096, lengths={"p50": 100, "max": 600})
    assert known.part("activations") == memory_needed(shape, max_length=600).part("activations")
    assert memory_needed(shape, max_length=512, lengths={"max": 600}).part("activations") < known.part("activations")
    assert memory_needed(shape, max_length=None, lengths={}).device > 0
    free = memory_needed(shape, max_length=4096, lengths={"p50": 100, "max": 600}, padding_free=True)
    assert free.part("activations") < known.part("activations") / 2


def test_json_round_trip() -> None:
    needed = memory_needed(SIZES["7B"], method="dpo", lora_target_modules=ALL, finetuning="lora", lengths={"p99": 900})
    again = MemoryNeeded.from_json(json.loads(json.dumps(needed.as_json())))
    assert again == needed and again.device == needed.device == needed.as_json()["device_bytes"]
    assert memory_needed(again.shape, again.settings) == needed
    expected = time_needed(SIZES["7B"], needed.settings, rows=100, device_name="NVIDIA H100 80GB HBM3")
    assert TimeNeeded.from_json(json.loads(json.dumps(expected.as_json()))) == expected


GPU = 24 * 10**9


def test_advice_makes_it_fit_with_the_same_batch() -> None:
    shape = qwen(1536, 28, 12, 8960, num_key_value_heads=2, tie_word_embeddings=True)  # 1.5B
    start = TrainingSettings(method="dpo", dtype="bfloat16", per_device_train_batch_size=16, max_length=2048,
                             gradient_checkpointing=False)  # fmt: skip
    needed = memory_needed(shape, start)
    assert needed.device > GPU
    changes = what_fits(needed, GPU, 10**12)
    assert changes[-1].fits and not any(change.fits for change in changes if change.entry != changes[-1].entry)
    by_name = {change.field: change for change in changes}
    # nothing that alters the result, as long as there is something that doesn't
    assert not by_name.keys() & {"use_peft", "load_in_4bit", "max_length", "optim"}
    if "per_device_train_batch_size" in by_name:
        batch, accumulation = by_name["per_device_train_batch_size"], by_name["gradient_accumulation_steps"]
        assert batch.before * accumulation.before == batch.after * accumulation.after
    made = replace(start, **{change.field: change.after for change in changes})
    assert memory_needed(shape, made).device == changes[-1].device <= GPU
    # each one is needed
    for name in by_name.keys() - {"gradient_accumulation_steps"}:
        without = replace(made, **{name: getattr(start, name)})
        assert memory_needed(shape, without).device > GPU, name
    assert what_fits(memory_needed(shape, made), GPU, 10**12) == []


def test_advice_goes_as_far_as_it_must() -> None:
    start = TrainingSettings(per_device_train_batch_size=1, max_length=1024, dtype="bfloat16")
    changes = what_fits(memory_needed(SIZES["7B"], start), GPU, 10**12)
    assert [change.field for change in changes] == ["use_peft"] and changes[-1].fits
    both = what_fits(memory_needed(SIZES["7B"], replace(start, per_device_train_batch_size=4)), 40 * 10**9, 10**12)
    assert [change.field for change in both] == [
        "use_peft"
    ]  # smaller batches alone are not enough, nor needed beside it
    four_bits = what_fits(memory_needed(SIZES["14B"], start), GPU, 10**12)
    assert four_bits[-1].field == "load_in_4bit" and four_bits[-1].fits
    spread = replace(start, processes=8, dtype="float32")
    shared = what_fits(memory_needed(SIZES["7B"], spread), 80 * 10**9, 10**12)
    assert {change.field: change.after for change in shared} == {"zero_stage": 1, "engine": "deepspeed"}
    never = what_fits(memory_needed(SIZES["72B"], start), 8 * 10**9, 16 * 10**9)
    assert never and not never[-1].fits
    cut = what_fits(memory_needed(SIZES["1.8B"], replace(start, finetuning="qlora", max_length=65536, head="full",
                                                        lengths={"p99": 700, "max": 60000})), GPU)  # fmt: skip
    assert {change.field: change.after for change in cut} == {"max_length": 704}


def test_advice_on_a_cpu_counts_all_processes() -> None:
    shape = shape_of(built("qwen3", 2))
    start = TrainingSettings(device="cpu", processes=4, per_device_train_batch_size=64, max_length=1024,
                             gradient_checkpointing=False)  # fmt: skip
    needed = memory_needed(shape, start)
    assert needed.host == 4 * needed.device
    changes = what_fits(needed, int(needed.host * 0.8))
    assert (
        changes and changes[-1].fits and {"load_in_4bit", "zero_stage"}.isdisjoint(change.field for change in changes)
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_everything_can_be_said(lang: str) -> None:
    settings = [
        TrainingSettings(), TrainingSettings(method="dpo", mixed="no", device="cpu"), TrainingSettings(processes=4),
        TrainingSettings(finetuning="qlora", optim="paged_adamw_8bit"), TrainingSettings(optim="adafactor", gradient_checkpointing=False),
        TrainingSettings(method="dpo", engine="deepspeed", zero_stage=3, processes=8),
        TrainingSettings(engine="deepspeed", zero_stage=3, processes=8, offload_optimizer=True, offload_param=True),
        TrainingSettings(method="grpo", completion_length=8192, steps_per_generation=64), TrainingSettings(method="cpo"),
        TrainingSettings(optim="adafactor", zero_stage=2, processes=2, engine="deepspeed"), TrainingSettings(finetuning="lora"),
        TrainingSettings(finetuning="lora", dtype="bfloat16"),
        TrainingSettings(optim="adamw_torch", per_device_train_batch_size=1, max_length=8, reward_bytes=5),
    ]  # fmt: skip
    said, used = [], set()
    for one in settings:
        needed = memory_needed(SIZES["7B"], one)
        said += needed.lines(lang)
        used |= {part.entry for part in (*needed.parts, *needed.host_parts)}
        assert [p.name for p in needed.parts] == sorted((p.name for p in needed.parts), key=PARTS.index)
        said += [change.said(lang) for change in what_fits(needed, 10**9, 10**9)]
    words = yaml.safe_load((CONFIGS / "words" / lang / "training.yaml").read_text(encoding="utf-8"))["memory"]
    missing = words["formula"].keys() - used
    assert missing <= {"gradients_offloaded"}, missing
    for entry in words["change"]:
        assert Sentence(f"memory/change/{entry}", {}, "training").said(lang)
    assert not any("{" in line or "}" in line for line in said)
    for expected in (
        time_needed(SIZES["7B"], TrainingSettings(), rows=10_000, device_name="NVIDIA L4"),
        time_needed(SIZES["7B"], TrainingSettings(), rows=10_000, device_name="Some Other Card"),
        time_needed(SIZES["7B"], TrainingSettings(device="cpu"), rows=10),
    ):
        assert expected is not None and "{" not in expected.said(lang)


def test_what_a_recipe_asks_for() -> None:
    recipe = parse_recipe(
        "method: dpo\nmodel_name_or_path: x\nuse_peft: true\nlora_r: 8\nlora_target_modules: [q_proj, v_proj]\ndtype: bfloat16\n"
        "per_device_train_batch_size: 3\nmax_length: 4096\nprecompute_ref_log_probs: true\noptim: adafactor\n", "r"
    )  # fmt: skip
    found = settings_of(recipe, processes=8, zero_stage=3, engine="deepspeed")
    assert (found.method, found.finetuning, found.lora_r, found.per_device_train_batch_size) == ("dpo", "lora", 8, 3)
    assert (found.max_length, found.dtype, found.optim, found.processes) == (4096, "bfloat16", "adafactor", 8)
    assert found.precompute_ref_log_probs and found.gradient_checkpointing and found.mixed == "bf16"
    four = settings_of(
        parse_recipe(
            "method: sft\nload_in_4bit: true\nuse_peft: true\nbf16: false\nlora_target_modules: all-linear\n", "r"
        )
    )
    assert four.finetuning == "qlora" and four.mixed == "no"
    assert SIZES["7B"].lora_parameters(8, four.lora_target_modules) > 0
    online = settings_of(parse_recipe("method: grpo\nmax_completion_length: 77\nnum_generations: 4\nbeta: 0.1\n", "r"))
    assert (online.completion_length, online.num_generations, online.beta) == (77, 4, 0.1)
    for method in ("sft", "dpo", "kto", "reward", "grpo", "rloo", "orpo", "simpo", "cpo"):
        plain = settings_of(parse_recipe(f"method: {method}\n", "r"))
        assert memory_needed(SIZES["1.8B"], plain).device > 0


def test_steps_are_those_of_the_trainer(tmp_path: Any) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    class Counted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: Any) -> dict[str, Any]:
            return {"loss": (self.weight * x.float().sum()).sum()}

    for rows, batch, accumulation, epochs in ((10, 3, 1, 1.0), (17, 4, 3, 2.0), (5, 8, 2, 1.5)):
        given = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            num_train_epochs=epochs, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(Counted(), given, train_dataset=[{"x": [1]}] * rows)
        trainer.train()
        settings = TrainingSettings(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
        assert steps_of(settings, rows, epochs) == trainer.state.global_step
    assert steps_of(TrainingSettings(), 100, max_steps=7) == 7


def test_more_work_takes_longer() -> None:
    start = TrainingSettings(method="sft", max_length=1024)

    def of(**changes: Any) -> float:
        return sum(time_needed(SIZES["7B"], replace(start, **changes), rows=1000, device_name="A100").seconds_per_step)

    assert of(gradient_checkpointing=False) < of() < of(method="dpo")
    assert of(method="dpo", precompute_ref_log_probs=True) < of(method="dpo")
    assert of(finetuning="lora") < of()
    assert of(method="grpo", completion_length=2048, beta=0.0) > of()
    assert speed_of(replace(start, device="cpu"), "").operations[1] > 1e8


def test_a_model_of_unknown_type_is_measured_by_its_headers() -> None:
    tensors = {"model.embed_tokens.weight": (1000, 64), "lm_head.weight": (1000, 64), "model.norm.weight": (64,)}
    for i in range(3):
        layer = f"model.layers.{i}."
        tensors |= {f"{layer}self_attn.{n}_proj.weight": s for n, s in zip("qkvo", [(64, 64), (32, 64), (32, 64), (64, 64)], strict=True)}  # fmt: skip
        tensors |= {f"{layer}mlp.{n}_proj.weight": (160, 64) for n in ("gate", "up")} | {
            f"{layer}mlp.down_proj.weight": (64, 160)
        }
        tensors |= {f"{layer}{n}.weight": (64,) for n in ("input_layernorm", "post_attention_layernorm")}
    found = shape_of_tensors(tensors, {"model_type": "brand_new"})
    layer = found.layers[0]
    assert (layer.count, layer.query, layer.key_value, layer.inner, layer.gated, layer.norms) == (
        3,
        64,
        32,
        160,
        True,
        2,
    )
    assert found.lora_parameters(4) == 3 * 4 * (128 + 96)
    for hostile in ({}, {"a": (3,)}, {"model.layers.0.x.weight": (2, 2)}):
        with pytest.raises(Refused):
            shape_of_tensors(hostile, {})


def test_fast_and_without_torch(demo: Any) -> None:
    code = (
        "import sys, time; started = time.perf_counter()\n"
        "from pipeline.training.model_shape import shape_of_model\n"
        "from pipeline.training.memory_needed import TrainingSettings, memory_needed, what_fits\n"
        "from pipeline.training.time_needed import time_needed\n"
        "for name in sys.argv[1:]:\n"
        "    shape = shape_of_model(name); s = TrainingSettings(device='cpu')\n"
        "    needed = memory_needed(shape, s); what_fits(needed, 10**6); time_needed(shape, s, rows=100)\n"
        "assert not {'torch', 'transformers', 'peft', 'trl'} & set(sys.modules)\n"
        "print(time.perf_counter() - started)"
    )
    folders = [str(demo.root / name) for name in ("healthy_decoder", "healthy_decoder_lora", "healthy_t5")]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2.0
    assert shape_of_model(folders[1]).parameters == shape_of_model(folders[0]).parameters
    with pytest.raises(Refused):
        shape_of_model(str(demo.root / "nowhere"))
