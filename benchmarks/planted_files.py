"""Faults planted by editing the files of a sound checkpoint: no training, a second or less each.

Every function takes the folder to make and the sound models, and returns what a user would give to the diagnosis
(keyword arguments of `diagnose_checkpoint`; `path` is the checkpoint).
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.sound_models import Sound

Given = dict[str, Any]
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d7a" * 16 + "\nsize 14244892\n"
HTML = "<!DOCTYPE html>\n<html><head><title>Access denied</title></head><body>" + "<p>Please log in.</p>" * 200


def copy(source: Path, target: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A copy of one folder's files."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.name not in without:
            shutil.copy(file, target / file.name)
    return target


def edit_json(file: Path, **changes: Any) -> None:
    """Set fields of one JSON file; None removes one. Makes the file if it is absent."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    content.update(changes)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}, ensure_ascii=False, indent=1))


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]], name: str = "") -> None:
    """Rewrite the weights of one folder through `change`."""
    from safetensors.torch import load_file, save_file

    file = folder / (name or "model.safetensors")
    changed = {k: v.clone().contiguous() for k, v in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})


def shard(folder: Path, parts: int = 3) -> None:
    """Split `model.safetensors` into shards with an index, as `save_pretrained` does."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for i in range(parts):
        file = f"model-{i + 1:05d}-of-{parts:05d}.safetensors"
        own = names[i * len(names) // parts : (i + 1) * len(names) // parts]
        save_file({n: tensors[n] for n in own}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    edit_json(folder / "model.safetensors.index.json", metadata={"total_size": total}, weight_map=weight_map)


def as_bare_state_dict(source: Path, file: Path, prefix: str = "") -> None:
    """The weights of a folder as one `.bin` of `torch.save`."""
    import torch
    from safetensors.torch import load_file

    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({prefix + k: v for k, v in load_file(source / "model.safetensors").items()}, file)


def with_data(sound: Sound, path: Path, **more: Any) -> Given:
    """What a user gives who wants to know why answers are bad: the checkpoint and rows it should answer."""
    return {"path": str(path), "data": (str(sound.held_out),), **more}


# --- files that are not there, not whole, or not what their name says


def weights_are_an_lfs_pointer(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    (target / "model.safetensors").write_text(LFS_POINTER)
    return {"path": str(target)}


def tokenizer_is_an_lfs_pointer(target: Path, sound: Sound) -> Given:
    copy(sound.t5, target)
    (target / "tokenizer.json").write_text(LFS_POINTER)
    return {"path": str(target)}


def second_shard_is_cut(target: Path, sound: Sound) -> Given:
    copy(sound.t5, target)
    shard(target)
    file = target / "model-00002-of-00003.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 4 // 5])
    return {"path": str(target)}


def zip_is_cut(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target, without=("model.safetensors",))
    as_bare_state_dict(sound.decoder, target / "pytorch_model.bin")
    content = (target / "pytorch_model.bin").read_bytes()
    (target / "pytorch_model.bin").write_bytes(content[: len(content) // 2])
    return {"path": str(target)}


def a_shard_is_missing(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    shard(target)
    (target / "model-00003-of-00003.safetensors").unlink()
    return {"path": str(target)}


def the_index_names_what_is_not_there(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    shard(target)
    edit_tensors(target, lambda t: dict(list(t.items())[:-3]), "model-00001-of-00003.safetensors")
    return {"path": str(target)}


def weights_have_no_bytes(target: Path, sound: Sound) -> Given:
    copy(sound.t5, target)
    (target / "model.safetensors").write_bytes(b"")
    return {"path": str(target)}


def weights_left_out(target: Path, sound: Sound) -> Given:
    """Everything but the weights: a clone without LFS, or an upload that stopped."""
    return {"path": str(copy(sound.decoder, target, without=("model.safetensors",)))}


def weights_are_a_web_page(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    (target / "model.safetensors").write_text(HTML)
    return {"path": str(target)}


def shapes_of_zero(target: Path, sound: Sound) -> Given:
    """What saving a ZeRO-3 model without gathering leaves (https://github.com/huggingface/peft/issues/453)."""
    copy(sound.decoder, target)
    edit_tensors(target, lambda t: {k: v.new_zeros(0) if v.dim() > 1 else v for k, v in t.items()})
    return {"path": str(target)}


def only_partitions_of_zero(target: Path, sound: Sound) -> Given:
    import torch

    copy(sound.decoder, target, without=("model.safetensors",))
    step = target / "global_step400"
    step.mkdir(exist_ok=True)
    for rank in range(2):
        torch.save({"optimizer_state_dict": {}}, step / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    (target / "latest").write_text("global_step400")
    (target / "zero_to_fp32.py").write_text("# gathers the partitions\n")
    return {"path": str(target)}


def an_image_with_a_weights_name(target: Path, sound: Sound) -> Given:
    target.mkdir(parents=True, exist_ok=True)
    (target / "pytorch_model.bin").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))
    return {"path": str(target / "pytorch_model.bin")}


def a_folder_of_data(target: Path, sound: Sound) -> Given:
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(sound.held_out, target / "train.json")
    (target / "README.md").write_text("training data")
    return {"path": str(target)}


def an_empty_folder(target: Path, sound: Sound) -> Given:
    target.mkdir(parents=True, exist_ok=True)
    return {"path": str(target)}


class _RunsACommand:
    """A pickle of this would create the canary when loaded without care."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.canary}",)


def a_pickle_that_runs_a_command(target: Path, sound: Sound) -> Given:
    """Its canary must not exist afterwards; planted_faults.py looks."""
    copy(sound.decoder, target, without=("model.safetensors",))
    (target / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": _RunsACommand(target / "CANARY")}, protocol=2))
    return with_data(sound, target)


def a_zip_that_runs_a_command(target: Path, sound: Sound) -> Given:
    import torch

    copy(sound.t5, target, without=("model.safetensors",))
    torch.save({"weight": torch.zeros(3), "more": _RunsACommand(target / "CANARY")}, target / "pytorch_model.bin")
    return with_data(sound, target)


# --- values that are not sound


def one_nan(target: Path, sound: Sound) -> Given:
    def change(t: dict[str, Any]) -> dict[str, Any]:
        name = next(n for n in sorted(t) if "mlp.down_proj" in n)
        t[name][3, 5] = float("nan")
        return t

    edit_tensors(copy(sound.decoder, target), change)
    return {"path": str(target)}


def infinities(target: Path, sound: Sound) -> Given:
    def change(t: dict[str, Any]) -> dict[str, Any]:
        name = next(n for n in sorted(t) if n.startswith("decoder") and n.endswith(".wo.weight"))
        t[name][:, 7] = float("inf")
        return t

    edit_tensors(copy(sound.t5, target), change)
    return {"path": str(target)}


def a_layer_of_zeros(target: Path, sound: Sound) -> Given:
    def change(t: dict[str, Any]) -> dict[str, Any]:
        return {n: v * 0 if ".layers.1." in n and v.dim() > 1 else v for n, v in t.items()}

    edit_tensors(copy(sound.decoder, target), change)
    return {"path": str(target)}


def noise_in_a_shard(target: Path, sound: Sound) -> Given:
    """Bytes of one tensor overwritten by others: every value finite or not as chance will have it."""
    from pipeline.file_store import LocalFolder
    from pipeline.weight_file import read_weight_file

    copy(sound.t5, target)
    tensors = read_weight_file(LocalFolder(target), "model.safetensors").tensors
    largest = max(tensors, key=lambda t: t.numel)
    with open(target / "model.safetensors", "r+b") as file:
        file.seek(largest.start)
        file.write(bytes(range(256)) * ((largest.end - largest.start) // 256 // 2))
    return {"path": str(target)}


def weights_too_large_for_half(target: Path, sound: Sound) -> Given:
    """Sound in float32: one projection in large units, the next in small ones. The declared dtype is float16."""

    def change(t: dict[str, Any]) -> dict[str, Any]:
        for name in [n for n in t if n.endswith("mlp.up_proj.weight")]:
            t[name] = t[name] * 3e5
            down = name.replace("up_proj", "down_proj")
            t[down] = t[down] / 3e5
        return t

    edit_tensors(copy(sound.decoder, target), change)
    edit_json(target / "config.json", dtype="float16", torch_dtype=None)
    return {"path": str(target)}


def activations_too_large_for_half(target: Path, sound: Sound) -> Given:
    """Every weight fits into float16, their products don't: what T5 is known for
    (https://github.com/huggingface/transformers/pull/10956)."""

    def change(t: dict[str, Any]) -> dict[str, Any]:
        for name in [n for n in t if n.endswith("mlp.up_proj.weight")]:
            t[name] = t[name] * 2e4
            down = name.replace("up_proj", "down_proj")
            t[down] = t[down] / 2e4
        return {n: v.half() for n, v in t.items()}

    edit_tensors(copy(sound.decoder, target), change)
    edit_json(target / "config.json", dtype="float16", torch_dtype=None)
    return with_data(sound, target)


# --- tensors that don't land in the model


def prefix_of_torch_compile(target: Path, sound: Sound) -> Given:
    edit_tensors(copy(sound.decoder, target), lambda t: {f"_orig_mod.{k}": v for k, v in t.items()})
    return {"path": str(target)}


def prefix_of_data_parallel(target: Path, sound: Sound) -> Given:
    """One state dict of DistributedDataParallel, tokenizer and configuration apart."""
    as_bare_state_dict(sound.t5, target / "chat_small.best.bin", "module.")
    return {
        "path": str(target / "chat_small.best.bin"),
        "tokenizer": str(sound.t5),
        "model_config": str(sound.t5 / "config.json"),
        "data": (str(sound.held_out),),
    }


def keys_of_another_program(target: Path, sound: Sound) -> Given:
    def change(t: dict[str, Any]) -> dict[str, Any]:
        def other(name: str) -> str:
            name = name.replace("model.layers", "transformer.h").replace("self_attn", "attn")
            return name.replace("mlp.up_proj", "mlp.w1").replace("mlp.down_proj", "mlp.w2")

        return {other(name): value for name, value in t.items()}

    edit_tensors(copy(sound.decoder, target), change)
    return {"path": str(target)}


def head_is_missing(target: Path, sound: Sound) -> Given:
    """The configuration says that the head is a tensor of its own; the file holds none."""
    copy(sound.decoder, target)
    edit_json(target / "config.json", tie_word_embeddings=False)
    edit_tensors(target, lambda t: {k: v for k, v in t.items() if "lm_head" not in k})
    return {"path": str(target)}


def configuration_of_another_size(target: Path, sound: Sound) -> Given:
    config = json.loads((sound.t5 / "config.json").read_text())
    as_bare_state_dict(sound.t5, target / "best.bin")
    config |= {"d_model": config["d_model"] * 2, "d_ff": config["d_ff"] * 2}
    (target / "config.json").write_text(json.dumps(config))
    return {
        "path": str(target / "best.bin"),
        "tokenizer": str(sound.t5),
        "model_config": str(target / "config.json"),
    }


def configuration_with_more_layers(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    config = json.loads((target / "config.json").read_text())
    edit_json(target / "config.json", num_hidden_layers=config["num_hidden_layers"] + 2, layer_types=None)
    return {"path": str(target)}


# --- adapters


def adapter_without_tensors(target: Path, sound: Sound) -> Given:
    """443 bytes: what `get_peft_model_state_dict` patched away leaves
    (https://github.com/tloen/alpaca-lora/issues/319)."""
    import torch

    copy(sound.adapter, target, without=("adapter_model.safetensors",))
    torch.save({}, target / "adapter_model.bin")
    return {"path": str(target), "base": str(sound.decoder_base)}


def adapter_with_shapes_of_zero(target: Path, sound: Sound) -> Given:
    copy(sound.adapter, target)
    edit_tensors(target, lambda t: {k: v.new_zeros(0) for k, v in t.items()}, "adapter_model.safetensors")
    return {"path": str(target), "base": str(sound.decoder_base)}


def adapter_never_moved(target: Path, sound: Sound) -> Given:
    copy(sound.adapter, target)
    edit_tensors(
        target, lambda t: {k: v * 0 if "lora_B" in k else v for k, v in t.items()}, "adapter_model.safetensors"
    )
    return {"path": str(target), "base": str(sound.decoder_base)}


def adapter_for_a_wider_base(target: Path, sound: Sound) -> Given:
    def change(t: dict[str, Any]) -> dict[str, Any]:
        import torch

        return {k: torch.cat([v, v], dim=1 if "lora_A" in k else 0) for k, v in t.items()}

    copy(sound.adapter, target)
    edit_tensors(target, change, "adapter_model.safetensors")
    return {"path": str(target), "base": str(sound.decoder_base)}


def adapter_for_a_deeper_base(target: Path, sound: Sound) -> Given:
    def change(t: dict[str, Any]) -> dict[str, Any]:
        return t | {k.replace("layers.0.", "layers.9."): v for k, v in t.items() if "layers.0." in k}

    copy(sound.adapter, target)
    edit_tensors(target, change, "adapter_model.safetensors")
    return {"path": str(target), "base": str(sound.decoder_base)}


# --- tokenizers and their settings


def tokenizer_beyond_the_embedding(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    _extend(target, [f"<extra_{i}>" for i in range(300)])
    return {"path": str(target)}


def _extend(folder: Path, tokens: list[str]) -> None:
    """Add special tokens to the tokenizer in `folder`, as `add_special_tokens` and `save_pretrained` would."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))


def pieces_permuted(target: Path, sound: Sound) -> Given:
    """The tokenizer of a later training of the vocabulary: the same pieces under other ids."""
    from random import Random

    copy(sound.t5, target)
    content = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    vocab: dict[str, int] = content["model"]["vocab"]
    special = {t["id"] for t in content["added_tokens"]}
    free = [i for i in vocab.values() if i not in special]
    moved = dict(zip(free, Random(0).sample(free, len(free)), strict=True))
    content["model"]["vocab"] = {piece: moved.get(i, i) for piece, i in vocab.items()}
    (target / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    return with_data(sound, target)


def ids_shifted(target: Path, sound: Sound) -> Given:
    """One token put in near the front: every later piece means its neighbour."""
    copy(sound.decoder, target)
    content = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    special = {t["id"] for t in content["added_tokens"]}
    vocab: dict[str, int] = content["model"]["vocab"]
    first, last = max(special) + 1, max(vocab.values())
    span = last + 1 - first
    content["model"]["vocab"] = {p: i if i < first else first + (i + 1 - first) % span for p, i in vocab.items()}
    (target / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    return with_data(sound, target)


def _generation(source: Path, target: Path, **settings: Any) -> Path:
    copy(source, target)
    edit_json(target / "generation_config.json", **settings)
    return target


def generate_waits_for_another_token(target: Path, sound: Sound) -> Given:
    """Turns end with <|im_end|>, generation waits for <|endoftext|>: the ordinary fault of a tuned Qwen base."""
    other = sound.id_of(sound.decoder, "<|endoftext|>")
    _generation(sound.decoder, target, eos_token_id=other)
    return {"path": str(target)}


def no_stop_token_anywhere(target: Path, sound: Sound) -> Given:
    _generation(sound.decoder, target, eos_token_id=None)
    edit_json(target / "config.json", eos_token_id=None)
    edit_json(target / "tokenizer_config.json", eos_token=None)
    edit_json(target / "special_tokens_map.json", eos_token=None)
    return with_data(sound, target)


def stops_on_the_wrong_id(target: Path, sound: Sound) -> Given:
    """T5 whose three files name an id that is no end marker at all."""
    _generation(sound.t5, target, eos_token_id=2)
    edit_json(target / "config.json", eos_token_id=2)
    return with_data(sound, target)


def template_of_another_model(target: Path, sound: Sound) -> Given:
    from pipeline.demo.vocabulary import INST

    _with_template(copy(sound.decoder, target), INST)
    return with_data(sound, target)


def template_with_other_words(target: Path, sound: Sound) -> Given:
    template = (
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] "
        "+ '\\n\\n' }}{% else %}{{ '### Response:\\n' + message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
    )
    _with_template(copy(sound.decoder, target), template)
    return with_data(sound, target)


def _with_template(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    edit_json(folder / "tokenizer_config.json", chat_template=template)


def pads_on_the_right(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target)
    edit_json(target / "tokenizer_config.json", padding_side="right")
    return with_data(sound, target)


def penalty_of_five(target: Path, sound: Sound) -> Given:
    return with_data(sound, _generation(sound.decoder, target, repetition_penalty=5.0))


def cap_of_three_tokens(target: Path, sound: Sound) -> Given:
    return with_data(sound, _generation(sound.t5, target, max_new_tokens=3))


def temperature_of_five(target: Path, sound: Sound) -> Given:
    settings = {"do_sample": True, "temperature": 5.0, "top_k": 0, "top_p": 1.0}
    return with_data(sound, _generation(sound.decoder, target, **settings))


def beams_that_prefer_short(target: Path, sound: Sound) -> Given:
    return with_data(sound, _generation(sound.t5, target, num_beams=4, length_penalty=-8.0))


def no_token_twice(target: Path, sound: Sound) -> Given:
    return with_data(sound, _generation(sound.decoder, target, no_repeat_ngram_size=1))


def base_instead_of_the_result(target: Path, sound: Sound) -> Given:
    return with_data(sound, copy(sound.t5_base, target), base=str(sound.t5_base))


def decoder_base_instead_of_the_result(target: Path, sound: Sound) -> Given:
    """The base under the result's tokenizer and settings, as a failed save leaves them."""
    copy(sound.decoder, target, without=("model.safetensors",))
    shutil.copy(sound.decoder_base / "model.safetensors", target / "model.safetensors")
    return with_data(sound, target, base=str(sound.decoder_base))


# --- nothing is wrong


def encoder_decoder_as_trained(target: Path, sound: Sound) -> Given:
    return with_data(sound, copy(sound.t5, target), base=str(sound.t5_base))


def decoder_as_trained(target: Path, sound: Sound) -> Given:
    return with_data(sound, copy(sound.decoder, target), base=str(sound.decoder_base))


def with_its_log(target: Path, sound: Sound) -> Given:
    return with_data(sound, copy(sound.t5, target), log=(str(sound.t5 / "trainer_state.json"),))


def bare_state_dict(target: Path, sound: Sound) -> Given:
    as_bare_state_dict(sound.t5, target / "chat_small.best.bin")
    return with_data(
        sound, target / "chat_small.best.bin", tokenizer=str(sound.t5), model_config=str(sound.t5 / "config.json")
    )


def training_checkpoint(target: Path, sound: Sound) -> Given:
    """Weights beside the optimiser's state under a key of their own, in one file."""
    import torch
    from safetensors.torch import load_file

    target.mkdir(parents=True, exist_ok=True)
    state = {"model": load_file(sound.t5 / "model.safetensors"), "epoch": 3, "optimizer": {"state": {}}}
    torch.save(state, target / "last.pt")
    return with_data(sound, target / "last.pt", tokenizer=str(sound.t5), model_config=str(sound.t5 / "config.json"))


def in_shards(target: Path, sound: Sound) -> Given:
    shard(copy(sound.decoder, target))
    return with_data(sound, target)


def as_pickle(target: Path, sound: Sound) -> Given:
    copy(sound.decoder, target, without=("model.safetensors",))
    as_bare_state_dict(sound.decoder, target / "pytorch_model.bin")
    return with_data(sound, target)


def in_bfloat16(target: Path, sound: Sound) -> Given:
    import torch

    edit_tensors(copy(sound.decoder, target), lambda t: {k: v.to(torch.bfloat16) for k, v in t.items()})
    edit_json(target / "config.json", dtype="bfloat16", torch_dtype=None)
    return with_data(sound, target)


def in_float16(target: Path, sound: Sound) -> Given:
    edit_tensors(copy(sound.t5, target), lambda t: {k: v.half() for k, v in t.items()})
    edit_json(target / "config.json", dtype="float16", torch_dtype=None)
    return with_data(sound, target)


def embedding_padded(target: Path, sound: Sound) -> Given:
    """Rows up to a round number, as most released models have; no token uses them."""
    import torch

    def change(t: dict[str, Any]) -> dict[str, Any]:
        for name in [n for n in t if "embed_tokens" in n or "lm_head" in n]:
            rows = -len(t[name]) % 512
            t[name] = torch.cat([t[name], torch.zeros(rows, t[name].shape[1], dtype=t[name].dtype)])
            edit_json(target / "config.json", vocab_size=len(t[name]))
        return t

    edit_tensors(copy(sound.decoder, target), change)
    return with_data(sound, target)


def tokens_added_but_not_used(target: Path, sound: Sound) -> Given:
    """Eight new tokens with zero rows that no text contains."""
    import torch

    def change(t: dict[str, Any]) -> dict[str, Any]:
        for name in [n for n in t if "embed_tokens" in n or "lm_head" in n]:
            t[name] = torch.cat([t[name], torch.zeros(8, t[name].shape[1], dtype=t[name].dtype)])
            edit_json(target / "config.json", vocab_size=len(t[name]))
        return t

    copy(sound.decoder, target)
    _extend(target, [f"<|reserved_{i}|>" for i in range(8)])
    edit_tensors(target, change)
    return with_data(sound, target)


def usual_sampling(target: Path, sound: Sound) -> Given:
    settings = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    return with_data(sound, _generation(sound.decoder, target, **settings))


def a_run_with_checkpoints(target: Path, sound: Sound) -> Given:
    for step in ("checkpoint-200", "checkpoint-300"):
        copy(sound.t5, target / step)
    return with_data(sound, target)


def adapter_as_trained(target: Path, sound: Sound) -> Given:
    return with_data(sound, copy(sound.adapter, target), base=str(sound.decoder_base))


def the_base_itself(target: Path, sound: Sound) -> Given:
    """A base model with no expectation of answers: only its files and weights are looked at."""
    return {"path": str(copy(sound.decoder_base, target))}
