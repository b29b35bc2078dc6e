"""Adapters that share one base answer as each does alone, whatever they are made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoint import open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.evaluation.adapters_on_base import ModelsOnBase, short_names
from pipeline.load_model import LoadedModel, load_model
from pipeline.refusal import Refused

IDS = torch.arange(4, 30)[None]
KINDS: dict[str, dict[str, Any]] = {
    "qv": {"target_modules": ["q_proj", "v_proj"]},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "head": {"target_modules": ["down_proj"], "modules_to_save": ["lm_head"], "use_rslora": True},
    "biases": {"target_modules": ["q_proj"], "bias": "lora_only"},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "pissa": {"target_modules": ["q_proj"], "init_lora_weights": "pissa"},
    "token_rows": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9, 20]},
}  # fmt: skip
APART = {"biases": "apart_biases", "embedding": "apart_changes_base", "pissa": "apart_changes_base",
         "token_rows": "apart_changes_base", "more_tokens": "apart_more_tokens", "whole": "apart_whole_model"}  # fmt: skip


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.core(IDS).logits


def _made(base: Path, place: Path, kind: dict[str, Any], *, more: int = 0) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(len(place.name))
    model = load_model(open_checkpoint(str(base))).model
    if more:
        model.resize_token_embeddings(model.get_input_embeddings().weight.shape[0] + more)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, **kind))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.05
    # as peft does by itself where the base's config has another vocabulary: with second copies of embedding and head
    model.save_pretrained(place, save_embedding_layers=True if more else "auto")
    return place


@pytest.fixture(scope="module")
def adapters(demo: DemoFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    made = {name: _made(demo.base_decoder, root / name, kind) for name, kind in KINDS.items()}
    both = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    made["more_tokens"] = _made(demo.base_decoder, root / "more_tokens", both, more=3)
    stored = open_checkpoint(str(made["more_tokens"])).tensors
    assert any(".modules_to_save." in name and name.replace(".modules_to_save", "") in stored for name in stored)
    made["chat"] = demo.cases["healthy_decoder_lora"].checkpoint
    made["whole"] = demo.cases["healthy_decoder"].checkpoint
    return made


def test_shared_is_alone_bit_by_bit(demo: DemoFolder, adapters: dict[str, Path]) -> None:
    base = open_checkpoint(str(demo.base_decoder))
    others = {name: open_checkpoint(str(path)) for name, path in adapters.items()}
    alone = {"base": logits(load_model(base))}
    for name, one in others.items():
        alone[name] = logits(load_model(one, base=base if one.kind == "adapter" else None))
    # every adapter here does something, so equal logits mean the right one was switched on
    pairs = [(a, b) for a in alone for b in alone if a < b and alone[a].shape == alone[b].shape]
    assert [pair for pair in pairs if torch.equal(alone[pair[0]], alone[pair[1]])] == []
    with ModelsOnBase(base, list(others.values()), names=["base", *others]) as models:
        assert {n: p.why for n, p in models.placed.items() if p.way == "apart"} == APART
        assert models.order[0] == "base" and set(models.order[-len(APART) :]) == set(APART)
        for name in (*models.order, *reversed(models.order)):
            with models.using(name) as loaded:
                assert torch.equal(logits(loaded), alone[name]), name
        own = {"chat", "whole"}  # have their own tokenizer beside them
        assert all((models.placed[n].tokenizer.given == str(demo.base_decoder)) == (n not in own) for n in models.names)


def test_one_at_a_time(demo: DemoFolder, adapters: dict[str, Path]) -> None:
    base, one = open_checkpoint(str(demo.base_decoder)), open_checkpoint(str(adapters["qv"]))
    with (
        ModelsOnBase(base, [one], names=["b", "a"]) as models, models.using("b"), pytest.raises(RuntimeError),
        models.using("a"),
    ):  # fmt: skip
        pass


def test_base_is_loaded_once(demo: DemoFolder, adapters: dict[str, Path]) -> None:
    shared = [open_checkpoint(str(adapters[name])) for name in ("qv", "dora", "head", "chat")]
    base = open_checkpoint(str(demo.base_decoder))
    with ModelsOnBase(base, shared) as models:
        held = set()
        for name in models.names:
            with models.using(name) as loaded:
                layer = loaded.core.model.layers[0].mlp.gate_proj
                held.add(getattr(layer, "base_layer", layer).weight.data_ptr())
        assert len(held) == 1
        with models.using(models.names[1]) as loaded:
            stored = {p.data_ptr(): p.numel() for p in loaded.model.parameters()}
        numbers = sum(stored.values())
    of_base = sum(t.numel for t in base.tensors.values())
    of_adapters = sum(t.numel for one in shared for t in one.tensors.values())
    tied = base.tensors["model.embed_tokens.weight"].numel if "lm_head.weight" not in base.tensors else 0
    assert numbers <= of_base + of_adapters + tied


def test_adapter_of_another_base(demo: DemoFolder, adapters: dict[str, Path], tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(LlamaConfig(vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                         num_attention_heads=4))  # fmt: skip
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(Refused) as refused:
        ModelsOnBase(open_checkpoint(str(tmp_path / "other")), [open_checkpoint(str(adapters["qv"]))])
    assert refused.value.sentence.entry == "adapter_other_base" and "q_proj" in str(refused.value)
    assert "32 x 32" in str(refused.value) and refused.value.said("zh") != str(refused.value)

    renamed = shutil.copytree(adapters["qv"], tmp_path / "renamed")
    config = json.loads((renamed / "adapter_config.json").read_text())
    for named, remarks in (("someone/else-7b", 1), (str(demo.base_decoder), 0), ("", 0), ("a/base_decoder/", 0)):
        (renamed / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": named}))
        models = ModelsOnBase(open_checkpoint(str(demo.base_decoder)), [open_checkpoint(str(renamed))])
        assert len(models.remarks) == remarks, named
        assert all("someone/else-7b" in remark.said(lang) for remark in models.remarks for lang in ("en", "zh"))


def test_broken_adapters_are_refused(demo: DemoFolder, adapters: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = open_checkpoint(str(demo.base_decoder))
    cut = shutil.copytree(adapters["qv"], tmp_path / "cut")
    state = load_file(cut / "adapter_model.safetensors")
    save_file(dict(list(state.items())[1:]), cut / "adapter_model.safetensors")
    with (
        ModelsOnBase(base, [open_checkpoint(str(p)) for p in (adapters["dora"], cut)]) as models,
        pytest.raises(Refused) as refused, models.using(models.names[0]),
    ):  # fmt: skip
        pass
    assert refused.value.sentence.entry == "adapter_does_not_fit" and refused.value.sentence.params["n"] == 1
    whole = (adapters["qv"] / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with (
        ModelsOnBase(base, [open_checkpoint(str(p)) for p in (adapters["dora"], cut)]) as models,
        pytest.raises(Refused) as refused, models.using(models.names[0]),
    ):  # fmt: skip
        pass
    assert refused.value.sentence.params["option"] == "--adapter" and refused.value.sentence.params["path"] == str(cut)
    (cut / "adapter_model.safetensors").unlink()
    with pytest.raises(Refused) as refused:
        ModelsOnBase(base, [open_checkpoint(str(cut))])
    assert refused.value.sentence.entry == "adapter_is_none"


@pytest.mark.parametrize(("paths", "names"), [
    (["/m/base", "/m/a", "/m/b"], ["base", "a", "b"]),
    (["base", "run1/checkpoint-20", "run2/checkpoint-20"], ["base", "run1/checkpoint-20", "run2/checkpoint-20"]),
    (["Qwen/Qwen3-4B", "out/dpo/output/"], ["Qwen3-4B", "dpo/output"]),
    (["a", "a", "a"], ["a", "a (2)", "a (3)"]), (["/"], ["/"]), ([r"C:\m\lora", r"C:\n\lora"], [r"m/lora", r"n/lora"]),
])  # fmt: skip
def test_short_names(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names
