"""The table of architectures against the models that the installed transformers builds."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pipeline.architecture import (
    UnknownArchitecture,
    _family,
    expected_architecture,
    family_of_names,
    known_families,
    land_tensors,
)  # fmt: skip
from pipeline.config_files import load_config

SMALL: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32,
    "max_position_embeddings": 32, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "d_model": 16, "d_kv": 4,
    "d_ff": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "ffn_dim": 24, "num_experts": 4, "num_local_experts": 4,
    "moe_intermediate_size": 8, "shared_expert_intermediate_size": 12, "num_experts_per_tok": 2, "rotary_dim": 4,
    "attention_types": [[["global"], 2]], "decoder_start_token_id": 0, "forced_eos_token_id": 2,
}  # fmt: skip
# Switches that add, drop or reshape tensors.
VARIANTS = [
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}), ("llama", {"head_dim": 12}),
    ("qwen2", {"tie_word_embeddings": True}), ("qwen3", {"attention_bias": True}), ("gemma", {"attention_bias": True}),
    ("qwen2_moe", {"mlp_only_layers": [0], "qkv_bias": False}), ("qwen3_moe", {"decoder_sparse_step": 2}),
    ("glm", {"attention_bias": False}), ("cohere", {"use_qk_norm": True}), ("starcoder2", {"use_bias": False}),
    ("stablelm", {"use_qkv_bias": True, "use_parallel_residual": True}), ("phi", {"qk_layernorm": True}),
    ("phi3", {"tie_word_embeddings": True}), ("gpt2", {"n_inner": 40, "tie_word_embeddings": False}),
    ("gpt_bigcode", {"multi_query": False}), ("gpt_neox", {"attention_bias": False, "tie_word_embeddings": True}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {"parallel_attn": False, "bias": True}),
    ("falcon", {"multi_query": False, "ffn_hidden_size": 40}), ("opt", {"word_embed_proj_dim": 8}),
    ("opt", {"do_layer_norm_before": False}), ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    ("t5", {"feed_forward_proj": "gated-gelu"}), ("mt5", {"feed_forward_proj": "relu"}), ("mixtral", {"head_dim": 6}),
    ("seed_oss", {"attention_out_bias": True, "mlp_bias": True}), ("ernie4_5", {"use_bias": True}),
]  # fmt: skip


def built(model_type: str, **changes: Any) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], Any]:
    """config.json, what save_pretrained would write, and the model, all on the meta device."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    config = CONFIG_MAPPING[model_type](**changes)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
    state = revert_weight_conversion(model, remove_tied_weights_from_state_dict(model.state_dict(), model))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name != "final_logits_bias"}
    return json.loads(config.to_json_string()), shapes, model


def small(model_type: str) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    fields = CONFIG_MAPPING[model_type]().to_dict()
    chosen = {k: v for k, v in SMALL.items() if k in fields} | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if model_type == "gpt_bigcode":  # derived from multi_query there
        del chosen["num_key_value_heads"]
    return chosen


@pytest.mark.parametrize("model_type", known_families())
def test_every_family_is_as_transformers_saves_it(model_type: str) -> None:
    config, shapes, model = built(model_type, **small(model_type))
    found = expected_architecture(config)
    assert dict(found.tensors) == shapes
    assert found.prefix == model.base_model_prefix
    assert found.parameters == sum(p.numel() for p in set(model.parameters()))
    assert (found.head in shapes) != found.tied
    assert type(model).__name__ in {_family(model_type)["class"] + suffix for suffix in _family(model_type)["heads"]}
    assert not land_tensors(found, shapes).missing


@pytest.mark.parametrize(("model_type", "changes"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_switches_of_the_configuration(model_type: str, changes: dict[str, Any]) -> None:
    config, shapes, _ = built(model_type, **{**small(model_type), **changes})
    assert dict(expected_architecture(config).tensors) == shapes


@pytest.mark.parametrize("model_type", known_families())
def test_absent_fields_have_the_librarys_defaults(model_type: str) -> None:
    from transformers import CONFIG_MAPPING

    library = CONFIG_MAPPING[model_type]()
    used = _family(model_type)
    text = json.dumps([used["tensors"], used["sizes"], used["repeat"], used["unless"]])
    for field, default in used["fields"].items():
        if default is not None and field in text:
            assert getattr(library, field, default) == default, field
    assert expected_architecture({"model_type": model_type}).tensors.keys() == (
        expected_architecture(json.loads(library.to_json_string())).tensors.keys()
    )


@pytest.mark.parametrize(
    ("model_type", "changes", "parameters"),
    [
        # counts as on the models' pages
        ("llama", {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                   "num_attention_heads": 32, "num_key_value_heads": 8}, 8_030_261_248),
        ("qwen3", {"vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                   "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
         596_049_920),
        ("qwen3_moe", {"hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
                       "num_key_value_heads": 4, "head_dim": 128, "moe_intermediate_size": 768, "num_experts": 128},
         30_532_122_624),
    ],
)  # fmt: skip
def test_real_sizes(model_type: str, changes: dict[str, Any], parameters: int) -> None:
    config, shapes, _ = built(model_type, **changes)
    found = expected_architecture(config)
    assert dict(found.tensors) == shapes
    assert found.parameters == parameters


def test_experts_in_one_tensor() -> None:
    for model_type in ("qwen3_moe", "mixtral"):
        config, _, model = built(model_type, **small(model_type))
        fused = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        landing = land_tensors(expected_architecture(config, fused), fused)
        assert not landing.missing and not landing.unexpected and not landing.mismatched


def test_untied_t5_needs_its_head() -> None:
    found = expected_architecture({"model_type": "t5", "tie_word_embeddings": False})
    assert found.tensors["lm_head.weight"] == (32128, 512) and not found.tied
    assert "lm_head.weight" not in expected_architecture({"model_type": "t5"}).tensors


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "t5", "opt"])
def test_names_land_where_from_pretrained_puts_them(model_type: str) -> None:
    import torch

    config, shapes, model = built(model_type, **small(model_type))
    found = expected_architecture(config)
    prefix = f"{found.prefix}."
    for rename in (
        lambda n: n, lambda n: n.removeprefix(prefix), lambda n: prefix + n, lambda n: prefix * 2 + n,
        lambda n: "module." + n, lambda n: "_orig_mod." + n,
    ):  # fmt: skip
        state = {rename(name): torch.zeros(shape) for name, shape in shapes.items()}
        options = {"config": model.config, "state_dict": dict(state), "output_loading_info": True}
        _, seen = type(model).from_pretrained(None, **options)
        landing = land_tensors(found, {name: tuple(t.shape) for name, t in state.items()})
        assert bool(landing.missing) == bool(seen["missing_keys"]), rename("NAME")
        assert len(landing.unexpected) == len(seen["unexpected_keys"]), rename("NAME")


def test_classes_without_a_vocabulary() -> None:
    config = {"model_type": "llama", **{k: SMALL[k] for k in ("vocab_size", "hidden_size", "num_attention_heads")}}
    base = expected_architecture({**config, "architectures": ["LlamaModel"]})
    assert base.head is None and "lm_head.weight" not in base.tensors
    judge = expected_architecture({**config, "architectures": ["LlamaForSequenceClassification"], "num_labels": 1})
    assert judge.tensors["score.weight"] == (1, 16) and judge.head is None
    with pytest.raises(UnknownArchitecture, match="unknown_model_class"):
        expected_architecture({**config, "architectures": ["LlavaLlamaForCausalLM"]})


def test_families_are_recognised_by_names() -> None:
    for model_type in ("gpt2", "t5", "opt", "bloom", "gpt_neox", "qwen3_moe", "gemma2", "phi3"):
        names = expected_architecture({"model_type": model_type}).tensors
        assert family_of_names(names) == model_type
    assert family_of_names(["encoder.layer.0.attention.self.query.weight", "x"]) is None
    assert family_of_names([]) is None


@pytest.mark.parametrize("model_type", [None, 7, "", "chatglm", "gemma3", [], {"a": 1}])
def test_unknown_types_are_said_to_be_unknown(model_type: Any) -> None:
    with pytest.raises(UnknownArchitecture, match="unknown_model_type"):
        expected_architecture({"model_type": model_type})


def test_hostile_configurations_end_in_one_exception() -> None:
    values = [
        None, -1, 0, 1, 2.5, 10**30, 10**4000, "12", "", True, [], [1], ["x"], {}, {"a": {}}, float("nan"),
        float("inf"), 2**31, 3,
    ]  # fmt: skip
    rng = random.Random(0)
    fields = {t: list(_family(t)["fields"]) for t in known_families()}
    for _ in range(3000):
        model_type = rng.choice(list(fields))
        config = {"model_type": model_type, **small_without_library(model_type)}
        for field in rng.sample([*fields[model_type], "architectures", "num_labels", "id2label"], 3):
            config[field] = rng.choice(values)
        try:
            assert expected_architecture(config).parameters >= 0
        except UnknownArchitecture as unknown:
            assert unknown.reason_id in ("unusable_config", "unknown_model_class", "unknown_model_type")
            assert len(unknown.detail) < 200


def small_without_library(model_type: str) -> dict[str, Any]:
    return {k: v for k, v in SMALL.items() if k in _family(model_type)["fields"]}


def test_table_holds_no_unknown_keys() -> None:
    known = {"class", "heads", "prefix", "like", "fields", "aliases", "sizes", "repeat", "embedding", "head", "tied",
             "shared", "tensors", "rename", "ignore", "unless"}  # fmt: skip
    for name, entry in load_config("architectures.yaml").items():
        assert set(entry) <= known, name
