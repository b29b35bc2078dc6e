"""The ADP checks on adapters that peft itself saved: silent on every kind, right on planted faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from judged_files import judged, made, signals
from safetensors.torch import load_file, save_file

from diagnostics.words import say_finding
from pipeline.adapter_tensors import adapted_modules, full_copies, module_shapes
from pipeline.checkpoint import open_checkpoint

State = dict[str, torch.Tensor]


def base_model(kind: str, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM, GPT2Config

    if kind == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2Config(vocab_size=96, n_embd=16, n_layer=2, n_head=2, n_positions=32))
    return made(kind, **changes)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    base_model("llama").save_pretrained(root / "llama")
    base_model("llama", hidden_size=32).save_pretrained(root / "wider")
    base_model("llama", num_hidden_layers=5).save_pretrained(root / "deeper")
    base_model("qwen2", tie_word_embeddings=True).save_pretrained(root / "tied")
    base_model("gpt2").save_pretrained(root / "gpt2")
    base_model("t5").save_pretrained(root / "t5")
    return {folder.name: folder for folder in root.iterdir()}


def saved_adapter(base: Path, folder: Path, config: Any) -> Path:
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = AutoModelForSeq2SeqLM if base.name == "t5" else AutoModelForCausalLM
    get_peft_model(kind.from_pretrained(base), config).save_pretrained(folder)
    return folder


def methods() -> dict[str, tuple[str, Any]]:
    from peft import (
        AdaLoraConfig,
        IA3Config,
        LoHaConfig,
        LoraConfig,
        PromptTuningConfig,
        VeraConfig,
    )

    both = ["q_proj", "v_proj"]
    return {
        "lora": ("llama", LoraConfig(r=4, target_modules=both)),
        "all linear": ("llama", LoraConfig(r=2, target_modules="all-linear")),
        "pattern": ("llama", LoraConfig(r=2, target_modules=r".*\.(q|k)_proj")),
        "dora": ("llama", LoraConfig(r=2, target_modules=both, use_dora=True)),
        "rslora with bias": ("llama", LoraConfig(r=2, target_modules=both, use_rslora=True, lora_bias=True)),
        "pissa": ("llama", LoraConfig(r=2, target_modules=both, init_lora_weights="pissa")),
        "olora": ("llama", LoraConfig(r=2, target_modules=both, init_lora_weights="olora")),
        "embedding": ("llama", LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"])),
        "full copies": ("llama", LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])),
        "trainable tokens": ("llama", LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[1, 2])),
        "rank pattern": ("llama", LoraConfig(r=4, target_modules=both, rank_pattern={"v_proj": 2})),
        "some layers": ("llama", LoraConfig(r=2, target_modules=both, layers_to_transform=[0, 1])),
        "conv1d": ("gpt2", LoraConfig(r=2, target_modules=["c_attn", "c_proj"])),
        "t5": ("t5", LoraConfig(r=2, target_modules=["q", "v"])),
        "tied base": ("tied", LoraConfig(r=2, target_modules=both)),
        "ia3": ("llama", IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
        "adalora": ("llama", AdaLoraConfig(target_modules=both, total_step=10)),
        "loha": ("llama", LoHaConfig(r=2, target_modules=both)),
        "vera": ("llama", VeraConfig(r=2, target_modules=["q_proj"])),
        "prompt": ("llama", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
    }


@pytest.mark.parametrize("method", methods())
def test_silent_on_every_method(method: str, bases: dict[str, Path], tmp_path: Path) -> None:
    base, config = methods()[method]
    folder = saved_adapter(bases[base], tmp_path / "adapter", config)
    findings, _, metrics = judged(folder)
    assert not signals(findings), [f.to_json() for f in findings if f.severity in ("error", "warning")]
    assert metrics["files.adapter_parameters"] > 0
    assert {"ADP001/ok", "ADP002/ok"} <= signals(findings, "ok")
    compared = next(f for f in findings if f.code == "ADP003")
    assert compared.outcome == ("ok" if "lora" in type(config).__name__.lower() else "other_method")


def test_every_lora_module_is_found_in_its_base(bases: dict[str, Path], tmp_path: Path) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=2, target_modules="all-linear", modules_to_save=["embed_tokens"])
    folder = saved_adapter(bases["llama"], tmp_path / "adapter", config)
    tensors = open_checkpoint(str(folder)).tensors
    modules, shapes = adapted_modules(tensors), module_shapes(open_checkpoint(str(bases["llama"])))
    assert len(modules) == 21 and modules.keys() <= shapes.keys()
    assert all(module.adapts == shapes[path] and module.rank == 2 for path, module in modules.items())
    assert set(full_copies(tensors)) == {"embed_tokens.weight"}


@pytest.fixture
def adapter(bases: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    def make(base: str = "llama", **changes: Any) -> Path:
        from peft import LoraConfig

        options = {"r": 4, "target_modules": ["q_proj", "v_proj"], **changes}
        return saved_adapter(bases[base], tmp_path / "adapter", LoraConfig(**options))

    return make


def rewrite(folder: Path, change: Callable[[State], State]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def first_half(state: State, change: Callable[[torch.Tensor], torch.Tensor]) -> State:
    return {n: change(t) if "layers.0" in n else t for n, t in state.items()}


# name: (what is done to the adapter's folder, the findings that must come and no others)
FAULTS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "443 bytes": (lambda f: rewrite(f, lambda s: {}), {"ADP001/no_tensors"}),
    "empty pickle": (lambda f: ((f / "adapter_model.safetensors").unlink(), torch.save({}, f / "adapter_model.bin")),
                     {"ADP001/no_tensors"}),
    "all partitioned": (lambda f: rewrite(f, lambda s: {n: torch.zeros(0) for n in s}), {"ADP001/all_empty"}),
    "some partitioned": (lambda f: rewrite(f, lambda s: first_half(s, lambda t: torch.zeros(0))), {"ADP001/some_empty"}),
    "flat pieces": (lambda f: rewrite(f, lambda s: first_half(s, lambda t: t.flatten()[:3].clone())), {"ADP001/some_empty"}),
    "only A": (lambda f: rewrite(f, lambda s: {n: t for n, t in s.items() if "lora_A" in n}), {"ADP001/halves"}),
    "weights gone": (lambda f: (f / "adapter_model.safetensors").unlink(), {"CKP002/adapter_weights_absent"}),
    "config gone": (lambda f: (f / "adapter_config.json").unlink(), {"ADP003/no_adapter_config"}),
    "scaled to zero": (lambda f: reconfigure(f, lora_alpha=0), {"ADP003/scaled_to_zero"}),
    "another rank declared": (lambda f: reconfigure(f, r=8), {"ADP003/rank_differs"}),
    "fewer targets declared": (lambda f: reconfigure(f, target_modules=["q_proj"]), {"ADP003/not_targeted"}),
    "copies declared, none saved": (lambda f: reconfigure(f, modules_to_save=["lm_head"]), {"ADP003/saved_module_missing"}),
    "rank of text": (lambda f: reconfigure(f, r="4"), {"CKP004/wrong_field"}),
    "pointer": (lambda f: (f / "adapter_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n"), {"CKP003/lfs_pointer"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_named(name: str, adapter: Callable[..., Path]) -> None:
    folder = adapter()
    plant, expected = FAULTS[name]
    plant(folder)
    findings, _, _ = judged(folder)
    assert signals(findings) == expected, [f.to_json() for f in findings if f.severity in ("error", "warning")]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("wider", {"ADP003/shapes_differ"}), ("deeper", {"ADP003/layers_without_adapter"}),
        ("gpt2", {"ADP003/no_module_fits"}), ("t5", {"ADP003/no_module_fits"}), ("tied", set()), ("llama", set()),
    ],
)  # fmt: skip
def test_another_base(base: str, expected: set[str], adapter: Callable[..., Path], bases: dict[str, Path]) -> None:
    findings, _, _ = judged(adapter(), base=bases[base])
    assert signals(findings) == expected
    assert ("ADP002/other_name" in signals(findings, "info")) == (base != "llama")


def test_base_given_as_configuration_only(adapter: Callable[..., Path], bases: dict[str, Path], tmp_path: Path) -> None:
    folder = adapter()
    for name, expected in (("llama", set()), ("wider", {"ADP003/shapes_differ"})):
        alone = tmp_path / "configs" / name
        alone.mkdir(parents=True)
        shutil.copy(bases[name] / "config.json", alone)
        assert signals(judged(folder, base=alone)[0]) == expected


def test_base_that_is_not_here(adapter: Callable[..., Path]) -> None:
    folder = adapter()
    reconfigure(folder, base_model_name_or_path="/nowhere/llama")
    findings, skipped, _ = judged(folder)
    assert not signals(findings)
    assert {"ADP002/not_here", "ADP003/not_compared"} <= signals(findings, "info")
    reconfigure(folder, base_model_name_or_path=None)
    assert "ADP002/none_named" in signals(judged(folder)[0], "info")


def test_moved_base_is_found_beside_the_adapter(adapter: Callable[..., Path], bases: dict[str, Path]) -> None:
    folder = adapter()
    shutil.copytree(bases["llama"], folder / "base")
    reconfigure(folder, base_model_name_or_path="base")
    assert "ADP002/ok" in signals(judged(folder)[0], "ok")


def test_adapter_on_an_adapter(adapter: Callable[..., Path], tmp_path: Path) -> None:
    folder = adapter()
    other = Path(shutil.copytree(folder, tmp_path / "sft"))
    assert signals(judged(folder, base=other)[0]) == {"ADP002/base_is_adapter"}


def tokenizer(folder: Path, tokens: dict[int, str], **fields: Any) -> None:
    decoder = {str(number): {"content": text, "special": True} for number, text in tokens.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder, **fields}))
    (folder / "tokenizer.json").write_text("{}")


def test_new_tokens(adapter: Callable[..., Path], bases: dict[str, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(bases["llama"], tmp_path / "base"))
    tokenizer(base, {1: "<s>", 2: "</s>"})

    def found(folder: Path, *severities: str) -> set[str]:
        return {s for s in signals(judged(folder, base=base)[0], *severities) if s.startswith("ADP004")}

    folder = adapter()
    tokenizer(folder, {1: "<s>", 2: "</s>"})
    assert found(folder, "ok") == {"ADP004/ok"}
    tokenizer(folder, {1: "<s>", 2: "</s>", 96: "<|im_end|>"})
    assert found(folder) == {"ADP004/no_rows"}
    tokenizer(folder, {1: "<s>", 2: "</s>", 90: "<|im_end|>"})
    assert found(folder) == {"ADP004/untrained"}
    tokenizer(folder, {1: "<s>", 2: "</s>", 96: "[PAD]"}, pad_token="[PAD]", eos_token="</s>")
    assert not found(folder) and found(folder, "info") == {"ADP004/only_padding"}
    shutil.rmtree(folder)
    for options in ({"modules_to_save": ["embed_tokens", "lm_head"]}, {"trainable_token_indices": [90]},
                    {"target_modules": ["q_proj", "embed_tokens"]}):  # fmt: skip
        folder = adapter(**options)
        tokenizer(folder, {1: "<s>", 2: "</s>", 90: "<|im_end|>"})
        assert found(folder, "ok") == {"ADP004/trained"}, options
        shutil.rmtree(folder)


def test_resized_embedding(adapter: Callable[..., Path], bases: dict[str, Path]) -> None:
    folder = adapter(modules_to_save=["embed_tokens", "lm_head"])
    rewrite(folder, lambda s: {n: torch.cat([t, t[:2]]) if t.shape[0] == 96 else t for n, t in s.items()})
    findings, _, _ = judged(folder)
    assert signals(findings) == {"ADP003/rows_resized"}
    said = say_finding(next(f for f in findings if f.outcome == "rows_resized"), "en")
    assert "98" in said.message and "resize_token_embeddings(98)" in said.fix


def test_tied_pair_saved_twice(adapter: Callable[..., Path]) -> None:
    folder = adapter("tied", modules_to_save=["embed_tokens", "lm_head"])
    rewrite(folder, lambda s: {n: t + 1 for n, t in s.items()})
    assert signals(judged(folder)[0]) == {"ADP005/both_saved"}
    reconfigure(folder, ensure_weight_tying=True)
    assert not signals(judged(folder)[0])
    shutil.rmtree(folder)
    assert not signals(judged(adapter("llama", modules_to_save=["embed_tokens", "lm_head"]))[0])


def test_sft_adapter_left_out(adapter: Callable[..., Path], tmp_path: Path, bases: dict[str, Path]) -> None:
    folder = adapter()
    card = "# DPO\nThis model is a fine-tuned version of [org/llama-7b-sft-lora](https://huggingface.co/org/llama-7b-sft-lora)"
    (folder / "README.md").write_text(card)
    assert signals(judged(folder)[0]) == {"ADP006/card_names_stage"}
    (folder / "README.md").write_text(card.replace("llama-7b-sft-lora", "llama-moved"))
    assert not signals(judged(folder)[0])
    (folder / "README.md").write_text(card.replace("org/llama-7b-sft-lora", str(bases["llama"])))
    assert not signals(judged(folder)[0])
    (folder / "README.md").unlink()
    history = [{"step": 1, "loss": 0.6, "rewards/margins": 0.1}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert not signals(judged(folder)[0])
    sft = Path(shutil.copytree(folder, tmp_path / "sft"))
    assert not signals(judged(folder)[0])  # a sibling of the same kind: another run
    (sft / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "loss": 2.0}]}))
    assert signals(judged(folder)[0]) == {"ADP006/sibling_adapter"}
    assert not signals(judged(sft)[0])


def test_every_field_survives_every_value(adapter: Callable[..., Path]) -> None:
    folder = adapter()
    path = folder / "adapter_config.json"
    fields = json.loads(path.read_text())
    base = fields["base_model_name_or_path"]
    values = [None, -1, 10**3000, 1.5, "x", "", "(a+)+$", True, [], ["x"], [[1]], {}, {"a": {"b": []}}, "a" * 100_000]
    for place in range(len(values)):
        changed = {k: values[(n + place) % len(values)] for n, k in enumerate(fields)}
        for name in (base, changed["base_model_name_or_path"]):
            path.write_text(json.dumps({**changed, "base_model_name_or_path": name}))
            judged(folder)
    path.write_text(json.dumps({**fields, "target_modules": "(.*)*(.*)*(.*)*X" * 20}))
    judged(folder)  # a user's pattern is never run
