"""The CKP checks on real tiny models: silent on healthy ones in every form, right on planted faults."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from judged_files import judged, made, signals
from safetensors.torch import load_file, save_file

from diagnostics.words import say_finding

ROOT = Path(__file__).resolve().parent.parent
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """llama (own head), qwen2 (tied head), t5, and llama in two shards."""
    root = tmp_path_factory.mktemp("models")
    made("llama").save_pretrained(root / "llama")
    made("qwen2", tie_word_embeddings=True).save_pretrained(root / "qwen2")
    made("t5").save_pretrained(root / "t5")
    made("llama").save_pretrained(root / "sharded", max_shard_size="12KB")
    for folder in root.iterdir():
        (folder / "tokenizer.json").write_text("{}")
        (folder / "tokenizer_config.json").write_text("{}")
    assert len(list((root / "sharded").glob("*.safetensors"))) > 2
    return {folder.name: folder for folder in root.iterdir()}


@pytest.fixture
def copy(originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def make(kind: str) -> Path:
        return Path(shutil.copytree(originals[kind], tmp_path / kind))

    return make


def rewrite(folder: Path, change: Callable[[State], State]) -> None:
    path = folder / "model.safetensors"
    save_file({n: t.contiguous() for n, t in change(load_file(path)).items()}, path, metadata={"format": "pt"})


def reconfigure(folder: Path, **changes: Any) -> None:
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def as_pickle(folder: Path, content: Any = None, **options: Any) -> None:
    path = folder / "model.safetensors"
    torch.save(load_file(path) if content is None else content, folder / "pytorch_model.bin", **options)
    path.unlink()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "t5", "sharded"])
def test_silent_on_healthy_models(kind: str, originals: dict[str, Path]) -> None:
    findings, skipped, metrics = judged(originals[kind])
    assert not signals(findings)
    assert {f.code for f in findings} >= {"CKP001", "CKP002", "CKP003", "CKP005", "CKP006", "CKP007", "CKP008", "CKP009"}
    assert {"CKP006/ok", "CKP007/ok", "CKP003/ok"} <= signals(findings, "ok")
    assert metrics["files.parameters"] == metrics["files.expected_parameters"]


def benign(case: str, folder: Path) -> None:
    if case == "torch zip":
        as_pickle(folder)
    elif case == "torch legacy":
        as_pickle(folder, _use_new_zipfile_serialization=False)
    elif case == "state dict with the tied head twice":
        state = load_file(folder / "model.safetensors")
        as_pickle(folder, {**state, "lm_head.weight": state["model.embed_tokens.weight"]})
    elif case == "prefix left out":
        rewrite(folder, lambda s: {n.removeprefix("model."): t for n, t in s.items()})
    elif case == "prefix once too often":
        rewrite(folder, lambda s: {f"model.{n}": t for n, t in s.items()})
    elif case == "only the head is stored":
        rewrite(folder, lambda s: {n.replace("model.embed_tokens", "lm_head"): t for n, t in s.items()})
    elif case == "rotary tables and further tensors":
        extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}
        rewrite(folder, lambda s: {**s, **extra, "v_head.summary.weight": torch.ones(1, 16)})
    elif case == "saved in half precision":
        rewrite(folder, lambda s: {n: t.bfloat16() for n, t in s.items()})
    elif case == "in float16":
        rewrite(folder, lambda s: {n: t.half() for n, t in s.items()})
    elif case == "old spellings in config.json":
        reconfigure(folder, torch_dtype="float32", dtype=..., num_key_value_heads=1, architectures=None)
    elif case == "quantised":
        reconfigure(folder, quantization_config={"quant_method": "gptq", "bits": 4})
        rewrite(folder, lambda s: {n.replace(".weight", ".qweight"): t.to(torch.int32)[:2] for n, t in s.items()})
    elif case == "calibration beside the weights":
        scales = {f"model.layers.{i}.self_attn.k_proj.k_scale": torch.ones(1) for i in range(3)}
        rewrite(folder, lambda s: {**s, **scales})
    elif case == "an index of the other format":
        index = {"metadata": {}, "weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    elif case == "unknown model type":
        reconfigure(folder, model_type="brand_new", architectures=["BrandNewForCausalLM"])
    elif case == "a class of one's own":
        reconfigure(folder, architectures=["MyQwen2Variant"])
    elif case == "no fields but the type's defaults":
        reconfigure(folder, attention_dropout=..., rms_norm_eps=..., use_cache=..., max_window_layers=...)


@pytest.mark.parametrize(
    "case",
    [
        "torch zip", "torch legacy", "state dict with the tied head twice", "prefix left out", "prefix once too often",
        "only the head is stored", "rotary tables and further tensors", "saved in half precision", "in float16",
        "old spellings in config.json", "quantised", "calibration beside the weights", "an index of the other format",
        "unknown model type", "a class of one's own", "no fields but the type's defaults",
    ],
)  # fmt: skip
def test_silent_on_benign_oddities(case: str, copy: Callable[[str], Path]) -> None:
    folder = copy("qwen2")
    benign(case, folder)
    findings, _, _ = judged(folder)
    assert not signals(findings), [f.to_json() for f in findings if f.severity in ("error", "warning")]


def drop(*parts: str) -> Callable[[State], State]:
    return lambda s: {n: t for n, t in s.items() if not any(p in n for p in parts)}


# name: (model, what is done to its folder, the finding that must come, errors that may come with it)
FAULTS: dict[str, tuple[str, Callable[[Path], object], str, set[str]]] = {
    "torch.compile": ("llama", lambda f: rewrite(f, lambda s: {f"_orig_mod.{n}": t for n, t in s.items()}), "CKP008/wrapped", set()),
    "DataParallel": ("qwen2", lambda f: rewrite(f, lambda s: {f"module.{n}": t for n, t in s.items()}), "CKP008/wrapped", set()),
    "PEFT without merging": ("llama", lambda f: rewrite(f, lambda s: {f"base_model.model.{n}": t for n, t in s.items()}),
                             "CKP008/wrapped", set()),
    "prefix thrice": ("llama", lambda f: rewrite(f, lambda s: {f"model.model.{n}": t for n, t in s.items()}), "CKP008/wrapped", set()),
    "own trainer's prefix": ("qwen2", lambda f: rewrite(f, lambda s: {f"generator.net.{n}": t for n, t in s.items()}),
                             "CKP008/wrapped", set()),
    "FSDP inside": ("llama", lambda f: rewrite(f, lambda s: {
        "_fsdp_wrapped_module." + n.replace(".self_attn", "._fsdp_wrapped_module.self_attn"): t for n, t in s.items()}),
        "CKP008/wrapped", set()),
    "checkpointing inside": ("llama", lambda f: rewrite(f, lambda s: {
        n.replace(".mlp.", "._checkpoint_wrapped_module.mlp."): t for n, t in s.items()}), "CKP008/wrapped", set()),
    "whole training checkpoint": ("qwen2", lambda f: as_pickle(f, {"model": load_file(f / "model.safetensors"), "step": 3}),
                                  "CKP008/nested_state", set()),
    "LoRA inside": ("llama", lambda f: rewrite(f, lambda s: {n.replace("q_proj.weight", "q_proj.base_layer.weight"): t
                                                             for n, t in s.items()}), "CKP008/unmerged_adapter",
                    {"CKP006/tensors_missing", "CKP006/parts_left_out"}),
    "untied head gone": ("llama", lambda f: rewrite(f, drop("lm_head")), "CKP009/head_missing", set()),
    "tied model untied by config": ("qwen2", lambda f: reconfigure(f, tie_word_embeddings=False), "CKP009/head_missing", set()),
    "embedding gone": ("llama", lambda f: rewrite(f, drop("embed_tokens")), "CKP009/embedding_missing", set()),
    "both gone": ("qwen2", lambda f: rewrite(f, drop("embed_tokens")), "CKP009/both_missing", {"CKP007/too_small"}),
    "a layer gone": ("llama", lambda f: rewrite(f, drop("layers.1.")), "CKP006/layers_missing", {"CKP007/too_small"}),
    "norms gone": ("llama", lambda f: rewrite(f, drop("input_layernorm")), "CKP006/tensors_missing", set()),
    "biases in another model's config": ("qwen2", lambda f: reconfigure(
        f, model_type="llama", architectures=["LlamaForCausalLM"]), "CKP006/parts_left_out", set()),
    "more rows than vocab_size": ("llama", lambda f: reconfigure(f, vocab_size=90), "CKP006/vocabulary_rows", set()),
    "fewer rows than vocab_size": ("qwen2", lambda f: reconfigure(f, vocab_size=128), "CKP006/vocabulary_rows",
                                   set()),
    "config of another size": ("llama", lambda f: reconfigure(f, hidden_size=32, intermediate_size=40), "CKP006/shapes_differ",
                               set()),
    "config with fewer layers": ("llama", lambda f: reconfigure(f, num_hidden_layers=2), "CKP006/layers_left_out",
                                 {"CKP007/too_large"}),
    "config of another architecture": ("t5", lambda f: (f / "config.json").write_text(json.dumps(
        {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 96})), "CKP006/other_architecture",
        {"CKP007/too_small"}),
    "ZeRO-3 leftovers": ("llama", lambda f: (rewrite(f, lambda s: {n: torch.zeros(0) for n in s}),
                                             (f / "zero_to_fp32.py").touch(), (f / "global_step8").mkdir()),
                         "CKP007/empty_tensors_zero3", set()),
    "tiny file": ("llama", lambda f: rewrite(f, lambda s: {"model.norm.weight": s["model.norm.weight"]}), "CKP007/too_small",
                  {"CKP006/few_tensors_land"}),
    "config with more layers": ("llama", lambda f: reconfigure(f, num_hidden_layers=5), "CKP006/config_has_more_layers",
                                {"CKP007/too_small"}),
    "Gemma 3 in half precision": ("llama", lambda f: (reconfigure(f, model_type="gemma3_text", dtype="float16"), rewrite(
        f, lambda s: {n: t.half() for n, t in s.items()})), "CKP010/float16_overflows",
        {"CKP006/tensors_missing", "CKP006/few_tensors_land", "CKP006/fewer_rows", "CKP004/class_of_other_type"}),
    "LFS pointer": ("llama", lambda f: (f / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n"), "CKP003/lfs_pointer", set()),
    "cut file": ("llama", lambda f: os.truncate(f / "model.safetensors", 9000), "CKP003/truncated", set()),
    "empty file": ("llama", lambda f: os.truncate(f / "model.safetensors", 0), "CKP003/empty", set()),
    "no tensors": ("llama", lambda f: rewrite(f, lambda s: {}), "CKP003/no_tensors", set()),
    "garbled header": ("llama", lambda f: (f / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{" + b"x" * 90),
                       "CKP003/header_not_json", set()),
    "pickle under the wrong name": ("llama", lambda f: (as_pickle(f), os.rename(
        f / "pytorch_model.bin", f / "model.safetensors")), "CKP003/other_suffix", set()),
    "dangling link": ("llama", lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").symlink_to(
        f / "gone")), "CKP002/links_to_nothing", set()),
    "weights gone": ("llama", lambda f: (f / "model.safetensors").unlink(), "CKP002/absent", set()),
    "only ZeRO parts": ("llama", lambda f: ((f / "model.safetensors").unlink(), (f / "global_step8").mkdir()),
                        "CKP002/deepspeed_state_only", set()),
    "only FSDP parts": ("llama", lambda f: ((f / "model.safetensors").unlink(), (f / "pytorch_model_fsdp_0").mkdir()),
                        "CKP002/fsdp_state_only", set()),
    "only GGUF": ("llama", lambda f: os.rename(f / "model.safetensors", f / "model.gguf"), "CKP002/other_format", set()),
    "no config": ("llama", lambda f: (f / "config.json").unlink(), "CKP004/no_config", set()),
    "tokenizer is a pointer": ("llama", lambda f: (f / "tokenizer.json").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n"), "CKP004/lfs_pointer", set()),
    "log is a pointer": ("llama", lambda f: (f / "trainer_state.json").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n"), "CKP004/optional_lfs_pointer", set()),
    "config in UTF-16": ("llama", lambda f: (f / "config.json").write_text((f / "config.json").read_text(), encoding="utf-16"),
                         "CKP004/not_utf8", set()),
    "config cut": ("llama", lambda f: os.truncate(f / "config.json", 100), "CKP004/not_json", set()),
    "no tokenizer": ("llama", lambda f: [p.unlink() for p in f.glob("tokenizer*")], "CKP013/absent", set()),
    "vocabulary forgotten": ("llama", lambda f: (f / "tokenizer.json").unlink(), "CKP013/vocabulary_missing", set()),
    "vocabulary is a folder": ("llama", lambda f: ((f / "tokenizer.json").unlink(), (f / "tokenizer.json").mkdir()),
                               "CKP004/is_folder", set()),
    "vocabulary is a pipe": ("llama", lambda f: ((f / "tokenizer.json").unlink(), os.mkfifo(f / "tokenizer.json")),
                             "CKP004/special_file", set()),
    "shard gone": ("sharded", lambda f: sorted(f.glob("model-*"))[1].unlink(), "CKP005/shard_missing", set()),
    "tensor not in its shard": ("sharded", lambda f: lose_one_tensor(f), "CKP005/tensor_missing",
                                {"CKP006/tensors_missing"}),
    "index gone": ("sharded", lambda f: (f / "model.safetensors.index.json").unlink(), "CKP005/index_absent", set()),
    "index without metadata": ("sharded", lambda f: edit_index(f, lambda i: i.pop("metadata")), "CKP005/no_metadata", set()),
    "index of text": ("sharded", lambda f: (f / "model.safetensors.index.json").write_text("[]"), "CKP005/index_unusable",
                      {"CKP004/wrong_type"}),
    "shard left out of the index": ("sharded", lambda f: save_file(
        {"x": torch.zeros(2)}, f / "model-00009-of-00009.safetensors"), "CKP005/unlisted_shards", set()),
    "one file beside shards": ("sharded", lambda f: save_file(
        load_all(f), f / "model.safetensors"), "CKP005/single_file_wins", set()),
}  # fmt: skip


def load_all(folder: Path) -> State:
    return {n: t for path in sorted(folder.glob("model-*.safetensors")) for n, t in load_file(path).items()}


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def lose_one_tensor(folder: Path) -> None:
    for path in sorted(folder.glob("model-*.safetensors")):
        tensors = load_file(path)
        lost = next((n for n in tensors if "layers.1.mlp" in n), None)
        if lost is not None:
            del tensors[lost]
            save_file(tensors, path)
            return
    raise AssertionError("no such tensor")


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_named(name: str, copy: Callable[[str], Path]) -> None:
    kind, plant, expected, others = FAULTS[name]
    folder = copy(kind)
    plant(folder)
    findings, _, _ = judged(folder)
    found = signals(findings)
    assert expected in found, [f.to_json() for f in findings]
    said = [say_finding(f, lang).message for f in findings for lang in ("en", "zh")]
    assert not [text for text in said if re.search(r"torch_(zip|legacy)|declared -|NoneType|lfs_pointer", text)]
    assert found - {expected} <= others, found


@pytest.mark.parametrize(
    ("file", "field", "value", "outcome"),
    [
        ("config.json", "vocab_size", -1, "wrong_field"), ("config.json", "vocab_size", 10**30, "wrong_field"),
        ("config.json", "num_hidden_layers", "12", "wrong_field"), ("config.json", "hidden_size", 16.0, "wrong_field"),
        ("config.json", "architectures", {"a": 1}, "wrong_field"), ("config.json", "architectures", "Llama", "wrong_field"),
        ("config.json", "num_attention_heads", True, "wrong_field"), ("config.json", "tie_word_embeddings", "no", "wrong_field"),
        ("config.json", "model_type", 5, "wrong_field"), ("config.json", "eos_token_id", "</s>", "wrong_token_field"),
        ("generation_config.json", "eos_token_id", "2", "wrong_token_field"),
        ("generation_config.json", "eos_token_id", [2, "x"], "wrong_token_field"),
        ("generation_config.json", "pad_token_id", -5, "wrong_token_field"),
        ("generation_config.json", "temperature", "0.7", "wrong_generation_field"),
        ("generation_config.json", "do_sample", "true", "wrong_generation_field"),
        ("config.json", "model_type", None, "no_model_type"),
    ],
)  # fmt: skip
def test_wrong_types_in_fields(file: str, field: str, value: Any, outcome: str, copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert f"CKP004/{outcome}" in signals(judged(folder)[0])


def edit(folder: Path, name: str, **changes: Any) -> None:
    value = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({k: v for k, v in value.items() if v is not ...}))


CODE = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}


@pytest.mark.parametrize(
    ("changes", "severity", "outcome"),
    [
        ({"dtype": "bfloat61"}, "error", "unknown_dtype"), ({"dtype": ..., "torch_dtype": "auto"}, "error", "unknown_dtype"),
        ({"dtype": "torch.bfloat16"}, "error", "unknown_dtype"), ({"dtype": "int8"}, "error", "unknown_dtype"),
        ({"hidden_act": "siluu"}, "error", "unknown_activation"), ({"hidden_act": 3}, "error", "wrong_field"),
        ({"model_type": "lama", "architectures": ["LamaForCausalLM"]}, "info", "unknown_type"),
        ({"model_type": "deepseek_v9", "architectures": ["DeepseekV9ForCausalLM"]}, "info", "unknown_type"),
        ({"model_type": "qwen3vl", "architectures": ["Qwen3VLForConditionalGeneration"]}, "warning", "type_misspelt"),
        ({"model_type": "Llama", "architectures": ...}, "warning", "type_misspelt"),
        ({"model_type": "brand_new", "architectures": ["LlamaForCausalLM"]}, "warning", "type_misspelt"),
        ({"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]}, "info", "unknown_type"),
        ({"model_type": "brand_new", "auto_map": CODE}, "info", "needs_own_code"),
        ({"auto_map": CODE}, "info", "code_ignored"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "warning", "class_of_other_type"),
        ({"architectures": ["MistralForCausalLM"]}, "info", "class_of_like_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "ok", "ok"),
        ({"dtype": "float8_e4m3fn"}, "ok", "ok"), ({"dtype": ..., "torch_dtype": "half"}, "ok", "ok"),
        ({"dtype": None, "hidden_act": "gelu_pytorch_tanh"}, "ok", "ok"),
    ],
)  # fmt: skip
def test_names_in_the_configuration(
    changes: dict[str, Any], severity: str, outcome: str, copy: Callable[[str], Path]
) -> None:
    folder = copy("llama")
    edit(folder, "config.json", **changes)
    found = {(f.severity, f.outcome) for f in judged(folder)[0] if f.code == "CKP004"}
    assert (severity, outcome) in found
    assert severity in ("error", "warning") or not {s for s, _ in found} & {"error", "warning"}
    if outcome == "unknown_dtype":
        assert judged(folder)[1]["CKP010"] == "unknown_dtype"


def test_code_of_a_tokenizer_is_mentioned(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    edit(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Tokenizer", None]})
    findings, _, _ = judged(folder)
    assert not signals(findings)
    said = next(f for f in findings if f.outcome == "tokenizer_code_ignored")
    assert "mine.Tokenizer" in say_finding(said, "zh").message


@pytest.mark.parametrize("activation", ["siluu", "gelu_pytorch_tanh"])
def test_activations_are_those_of_transformers(activation: str, copy: Callable[[str], Path]) -> None:
    """The list in configs/ says what the installed library does."""
    from transformers import AutoModelForCausalLM

    folder = copy("llama")
    edit(folder, "config.json", hidden_act=activation)
    known = activation in yaml.safe_load((ROOT / "configs/transformers_names.yaml").read_text())["activations"]
    if known:
        AutoModelForCausalLM.from_pretrained(folder)
    else:
        with pytest.raises(KeyError):
            AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(("text", "loads"), [("[1, 2]", False), ("null", False), ("3", False), ("{bad", True), ("", True)])
def test_generation_config_that_stops_the_loading(text: str, loads: bool, copy: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM

    folder = copy("llama")
    (folder / "generation_config.json").write_text(text)
    found = next(f for f in judged(folder)[0] if f.code == "CKP004")
    if loads:
        AutoModelForCausalLM.from_pretrained(folder)
        assert found.severity == "warning" and "loads without it" in say_finding(found, "en").message
    else:
        with pytest.raises(TypeError):
            AutoModelForCausalLM.from_pretrained(folder)
        assert (found.severity, found.outcome) == ("error", "generation_config_no_table")
        assert text in say_finding(found, "zh").message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "trainer_state.json"])
@pytest.mark.parametrize("kind", ["link_to_nothing", "is_folder", "special_file"])
def test_small_files_that_are_no_files(name: str, kind: str, copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    (folder / name).unlink(missing_ok=True)
    if kind == "link_to_nothing":
        (folder / name).symlink_to(folder / "blobs" / "gone")
    elif kind == "is_folder":
        (folder / name).mkdir()
    else:
        os.mkfifo(folder / name)
    wanted = f"optional_{kind}" if name == "trainer_state.json" else kind
    findings, _, _ = judged(folder)
    assert signals(findings) == {f"CKP004/{wanted}"}
    assert next(f for f in findings if f.outcome == wanted).params["file"] == name


def test_messages_hold_no_internal_words(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    kinds = {
        "[1]": "[1]", "null": "null", "{bad": "line 1", '{"a": ' + "9" * 5000 + "}": "4,300 digits",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n": "LFS",
    }  # fmt: skip
    for name in ("special_tokens_map.json", "config.json"):
        for text, wanted in kinds.items():
            (folder / name).write_text(text)
            for lang in ("en", "zh"):
                found = next(f for f in judged(folder)[0] if f.code == "CKP004" and f.params.get("file") == name)
                said = say_finding(found, lang).message
                assert wanted in said and not re.search(r"not_json|wrong_type|NoneType|lfs_pointer|sys\.", said), said
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf{}")
    found = next(f for f in judged(folder)[0] if f.code == "CKP004" and f.params.get("file") == "config.json")
    assert found.outcome == "byte_order_mark" and "BOM" in say_finding(found, "en").message


def test_small_files_too_large_are_not_read(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    (folder / "config.json").write_text('{"a": [' + "0," * 2**22 + "0]}")
    started = time.perf_counter()
    findings, _, _ = judged(folder)
    assert signals(findings) == {"CKP004/too_large"} and time.perf_counter() - started < 1


def test_long_names_and_numbers_are_clipped(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    rewrite(folder, lambda s: {("n" * 10_000 + str(i)): t for i, t in enumerate(s.values())})
    edit(folder, "config.json", vocab_size=10**300, model_type="brand_new")
    for finding in judged(folder)[0]:
        assert len(say_finding(finding, "en").message) < 500, finding


def test_every_field_survives_every_value(copy: Callable[[str], Path]) -> None:
    """No value in any JSON field ends a check with an exception; `judged` asserts that."""
    folder = copy("llama")
    before = {f: json.loads((folder / f).read_text()) for f in ("config.json", "generation_config.json")}
    values = [None, -1, 10**3000, 1.5, "x", "", True, [], ["x"], [[1]], {}, {"a": {"b": []}}, "\ud800", "a" * 100_000]
    for file, fields in before.items():
        for place, value in enumerate(values):
            changed = {k: values[(n + place) % len(values)] for n, k in enumerate(fields)}
            (folder / file).write_text(json.dumps(changed))
            judged(folder)
            (folder / file).write_text(json.dumps(dict.fromkeys(fields, value)))
            judged(folder)
        (folder / file).write_text(json.dumps(fields))
    for name in ("trainer_state.json", "model.safetensors.index.json", "adapter_config.json", "tokenizer_config.json"):
        for value in (*values, {"weight_map": [1]}, {"log_history": [None, 1, {"loss": []}], "global_step": "x"}):
            (folder / name).write_text(json.dumps(value if isinstance(value, dict) else {"a": value}))
            judged(folder)
        (folder / name).unlink()


def state(losses: list[float], evaluations: list[float] = [], **fields: Any) -> str:  # noqa: B006
    history = [{"step": 10 * i, "loss": v} for i, v in enumerate(losses)]
    return json.dumps({"log_history": history + [{"step": 50 * i, "eval_loss": v} for i, v in enumerate(evaluations)],
                       "global_step": 100, "max_steps": 100, "epoch": 1.0, **fields})  # fmt: skip


FALLING = [4.0 - 0.1 * i for i in range(20)]


@pytest.mark.parametrize(
    ("written", "outcome"),
    [
        (state(FALLING), "state"),  # still falling, but all planned steps are done: what it is worth others measure
        (state(FALLING, global_step=20), "stopped_early"),
        (state([2.0, 1.9], [1.8, 1.5], global_step=20), "stopped_early"),
        (state([1.0] * 20, [1.1, 1.1], global_step=20), "state_with_evaluation"),  # ended early, and rightly
        (state([4.0] * 10 + [9.0] * 10, [5.0, 9.0]), "loss_above_chance"),  # ln(96) is 4.56
        (state([16.0 - 0.3 * i for i in range(20)]), "state"),  # a sum over accumulation steps that falls
        (state([4.0 - 0.2 * i for i in range(15)] + [3.0] * 5), "loss_rose"),
        (state([0.02] * 20, [0.021, 0.019], global_step=20), "state_with_evaluation"),  # levelled off, at nothing
        (state([0.0] * 20, [0.0, 0.0], global_step=20), "state_with_evaluation"),
        (state([4.0 - 0.2 * i for i in range(20)], [1.6, 1.4, 2.4]), "evaluation_rose"),
        (state([0.4] * 20, global_step=6), "hardly_begun"),
        (state([0.4] * 20, [0.5, 0.5], global_step=6), "state_with_evaluation"),  # stopped by its evaluations
        (state([2.0] * 10 + [0.01] * 10, [0.9, 0.9], epoch=80.0), "known_by_heart"),
        (state([2.0] * 10 + [0.01] * 10, [0.9, 0.1], epoch=80.0), "state_with_evaluation"),  # it learned the task
        (state([2.0] * 20, [2.2, 2.1, 2.4]), "state_with_evaluation"),  # a little, as evaluations do
        (state([0.69] * 10 + [4.0] * 10).replace("}", ', "rewards/chosen": 0.1}', 1), "state"),  # preference training
    ],
)  # fmt: skip
def test_what_the_trainers_losses_say(written: str, outcome: str, copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    (folder / "trainer_state.json").write_text(written)
    found = [f for f in judged(folder)[0] if f.code == "CKP014"]
    assert found[0].outcome == outcome
    assert (found[0].severity in ("warning", "error")) == (not outcome.startswith("state"))


def test_unsafe_and_foreign_pickles(copy: Callable[[str], Path], tmp_path: Path) -> None:
    import argparse

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path}/executed",)

    folder = copy("qwen2")
    state = load_file(folder / "model.safetensors")
    as_pickle(folder, {**state, "x": Evil()})
    findings, _, _ = judged(folder)
    assert signals(findings) == {"CKP011/runs_code"}
    assert "posix.system" in say_finding(next(f for f in findings if f.code == "CKP011"), "en").message
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), folder / "pytorch_model.bin")
    findings, _, _ = judged(folder)
    assert "CKP011/whole_model" in signals(findings) and "CKP011/runs_code" not in signals(findings)
    said = say_finding(next(f for f in findings if f.code == "CKP011"), "en")
    assert "state_dict" in said.fix and "torch.nn.modules" in said.message and ".set" not in said.message
    torch.save({**state, "x": argparse.Namespace()}, folder / "pytorch_model.bin")
    assert signals(judged(folder)[0]) == {"CKP011/foreign_objects"}
    torch.save(state, folder / "pytorch_model.bin")
    torch.save({"x": Evil()}, folder / "extra.bin")
    assert signals(judged(folder)[0]) == {"CKP011/runs_code_beside"}
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("tensor", "outcome"),
    [(torch.empty(2, 2, device="meta"), "meta_tensors"), (torch.eye(2).to_sparse(), "unplain_tensors")],
)
def test_tensors_without_plain_values(tensor: torch.Tensor, outcome: str, copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    as_pickle(folder, {"model.norm.weight": tensor})
    assert f"CKP003/{outcome}" in signals(judged(folder)[0])


def test_bare_state_dict(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("llama")
    alone = tmp_path / "alone"
    alone.mkdir()
    torch.save({"model": load_file(folder / "model.safetensors"), "epoch": 2}, alone / "best.pt")
    findings, skipped, _ = judged(alone / "best.pt")
    assert not signals(findings) and skipped["CKP006"] == "no_config"
    assert {"CKP004/no_config_for_file", "CKP008/nested_state_file"} <= signals(findings, "info")
    config = str(folder / "config.json")
    findings, _, _ = judged(alone / "best.pt", model_config=config, tokenizer=str(folder))
    assert not signals(findings) and "CKP006/ok" in signals(findings, "ok")
    torch.save({f"_orig_mod.{n}": t for n, t in load_file(folder / "model.safetensors").items()}, alone / "best.pt")
    assert signals(judged(alone / "best.pt", model_config=config)[0]) == {"CKP008/wrapped"}


def test_one_shard_given(originals: dict[str, Path]) -> None:
    shard = sorted(originals["sharded"].glob("model-*"))[0]
    assert "CKP002/one_shard_given" in signals(judged(shard)[0])


def test_folder_of_checkpoints(copy: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (5, 10):
        shutil.copytree(copy("llama"), run / f"checkpoint-{step}")
        shutil.rmtree(tmp_path / "llama")
    findings, _, _ = judged(run)
    assert not signals(findings)
    said = next(f for f in findings if f.outcome == "folder_of_checkpoints")
    assert said.params["chosen"] == "checkpoint-10" and said.params["others"] == "checkpoint-5"
    (run / "checkpoint-10" / "model.safetensors").unlink()
    (run / "checkpoint-5" / "model.safetensors").unlink()
    (run / "checkpoint-10" / "global_step10").mkdir()
    assert signals(judged(run)[0]) == {"CKP002/deepspeed_state_only"}


def touch(folder: Path, hours_ago: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - 3600 * hours_ago,) * 2)


def test_result_in_a_sub_folder(copy: Callable[[str], Path]) -> None:
    outer = copy("llama")
    inner = Path(shutil.copytree(outer, outer / "sft"))
    (inner / "training_args.bin").touch()
    touch(outer, 48)
    touch(inner, 2)
    assert signals(judged(outer)[0]) == {"CKP012/newer_result_inside"}
    touch(inner, 47.9)  # copied in one go
    assert not signals(judged(outer)[0])
    touch(inner, 100)  # the trainer saves the final model after its checkpoints
    assert not signals(judged(outer)[0])
    touch(inner, 2)
    (outer / "training_args.bin").touch()
    assert not signals(judged(outer)[0])
    (outer / "training_args.bin").unlink()
    reconfigure(inner, hidden_size=32)  # another model altogether
    touch(inner, 2)
    assert not any(s.startswith("CKP012") for s in signals(judged(outer)[0]))


def test_run_that_began_here_is_only_mentioned(copy: Callable[[str], Path], tmp_path: Path) -> None:
    base = copy("llama")
    run = Path(shutil.copytree(base, tmp_path / "run"))
    (run / "trainer_state.json").write_text("{}")
    reconfigure(run, _name_or_path=str(base))
    findings, _, _ = judged(base)
    assert not signals(findings) and "CKP012/run_began_here" in signals(findings, "info")


def test_training_state(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    rows = [{"step": 1, "loss": 3.5, "grad_norm": float("inf")}, {"step": 2, "loss": "2.5"}, {"step": 2, "eval_loss": 2.75},
            {"step": 3, "loss": 1.25}, {"step": 3, "eval_loss": 3.0}]  # fmt: skip
    state = {"global_step": 3, "max_steps": 9, "epoch": 0.5, "log_history": rows}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    findings, _, metrics = judged(folder)
    assert not signals(findings) and "CKP014/state_with_evaluation" in signals(findings, "info")
    assert metrics["trainer.train_loss_last"] == 1.25 and metrics["trainer.eval_loss_first"] == 2.75
    rows.append({"step": 4, "loss": float("nan")})
    (folder / "trainer_state.json").write_text(json.dumps(state))
    assert signals(judged(folder)[0]) == {"CKP014/loss_not_finite"}


def test_size_is_said_in_words(originals: dict[str, Path]) -> None:
    findings, _, _ = judged(originals["qwen2"])
    said = say_finding(next(f for f in findings if f.code == "CKP007"), "en").message
    assert re.fullmatch(r"7\.5 K parameters as F32 = 3\d\.\d KB; config\.json makes 7\.5 K: plausible\.", said)


def test_every_problem_of_the_readers_has_words() -> None:
    from pipeline import checkpoint, json_file, weight_file

    for reader, code in ((weight_file.WeightFile, "CKP003"), (json_file.JsonFile, "CKP004"), (checkpoint.Checkpoint, "CKP001")):
        documented = set(re.findall(r"`([a-z_0-9]+)`", (reader.__doc__ or "").partition("Problems:")[2])) - {
            "unsafe_pickle", "missing_bytes", "value",
        }  # fmt: skip
        assert len(documented) > 5
        for lang in ("en", "zh"):
            words = yaml.safe_load((ROOT / f"configs/words/{lang}/CKP.yaml").read_text(encoding="utf-8"))
            assert documented <= set(words[code]), (lang, code)


def test_very_many_tensors_are_judged_quickly(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")

    def seconds(count: int) -> float:
        entry = '"t{0}": {{"dtype": "F32", "shape": [1], "data_offsets": [{1}, {2}]}}'
        header = ("{" + ", ".join(entry.format(i, 4 * i, 4 * i + 4) for i in range(count)) + "}").encode()
        data = len(header).to_bytes(8, "little") + header + bytes(4 * count)
        (folder / "model.safetensors").write_bytes(data)
        started = time.process_time()
        judged(folder)
        return time.process_time() - started

    seconds(1)
    assert seconds(50_000) < 2


def test_thousand_shards_are_judged_quickly(tmp_path: Path) -> None:
    names = [f"model-{n:05}-of-00400.safetensors" for n in range(1, 401)]
    for n, name in enumerate(names):
        save_file({f"model.layers.{n}.mlp.up_proj.weight": torch.zeros(4, 4)}, tmp_path / name)
    index = {"metadata": {}, "weight_map": {f"model.layers.{n}.mlp.up_proj.weight": f for n, f in enumerate(names)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"model_type": "brand_new", "vocab_size": 8, "num_hidden_layers": 400}')
    started = time.perf_counter()
    findings, _, _ = judged(tmp_path)
    assert time.perf_counter() - started < 3
    assert "CKP005/ok" in signals(findings, "ok")


def test_nothing_heavy_is_imported(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("qwen2")
    as_pickle(folder)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 16),
               "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": torch.zeros(16, 2)},
              adapter / "adapter_model.safetensors")  # fmt: skip
    settings = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(folder)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    code = (
        "import sys; from diagnostics.diagnose_checkpoint import diagnose_checkpoint\n"
        "for path in sys.argv[1:]: report = diagnose_checkpoint(path, depth='files')\n"
        "assert {'ADP003', 'CKP011'} <= {f.code for f in report.findings}, report.skipped\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'gradio', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(adapter)], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


@pytest.mark.parametrize("case", ["no weights", "bytes", "own code", "another vocabulary"])
def test_no_vocabulary_is_no_fault(case: str, copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    (folder / "tokenizer.json").unlink()
    if case == "no weights":
        (folder / "model.safetensors").unlink()
    elif case == "another vocabulary":
        (folder / "tekken.json").write_text("{}")
    else:
        own = {"tokenizer_class": "ByT5Tokenizer"} if case == "bytes" else {"auto_map": {"AutoTokenizer": ["a.B", None]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(own))
    findings, _, _ = judged(folder)
    assert {f.severity for f in findings if f.code == "CKP013"} == {"info"}
