"""CKP004: configuration and tokenizer files that can't be read, or whose fields can't be what they say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.names_unknown import names_unknown
from diagnostics.files.size_in_words import clipped, named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint
from pipeline.file_store import LocalFolder
from pipeline.json_file import LFS_START, JsonFile

# No model needs them to load.
_OPTIONAL_FILES = ("trainer_state.json", "generation_config.json", "added_tokens.json", "special_tokens_map.json")
_LARGEST = 2**31


def small_files_damaged(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Configuration and tokenizer files that can't be read, or whose fields can't be what they say.

    What it checks:
        config.json, generation_config.json, adapter_config.json and the tokenizer's files: readable, JSON, no Git LFS
        pointer, and the fields that decide shapes, token ids and generation of the right type. In config.json also the
        names: number format, activation, model type, class, and whether the files name code of their own.
    Why it matters:
        from_pretrained stops at such a file, or takes a text where it needs a number and fails far from the cause;
        an end token given as text never stops anything.
    How it is measured:
        Each file is parsed; numbers must be numbers (not "12"), sizes positive, token ids not negative. Names are
        compared with those of one version of transformers (configs/transformers_names.yaml). Code that the files name
        (auto_map) is mentioned and never run.
    Known false alarms:
        Fields of models with code of their own may hold lists where others hold numbers; lists of numbers pass. A pad
        id of -1 is an old habit and passes. A model type newer than the list is only mentioned, unless its class or
        its spelling says that another type is meant.
    Fix:
        Copy the file again from the base model or the last good checkpoint and correct the field by hand.
    References:
        https://github.com/turboderp/exllama/issues/242
    """
    checkpoint = subject.checkpoint
    files = [f for f in (checkpoint.config, checkpoint.generation_config, checkpoint.adapter_config,
                         checkpoint.trainer_state, checkpoint.tokenizer.config, checkpoint.tokenizer.special_tokens_map,
                         checkpoint.tokenizer.added_tokens, checkpoint.index)
             if f is not None and f.present]  # fmt: skip
    found = [*_unreadable(files), *_tokenizer_pointers(checkpoint, {f.name for f in files}), *_fields(checkpoint),
             *names_unknown(checkpoint)]  # fmt: skip
    yield from found
    yield from _config_absent(checkpoint)
    names = [f.name for f in files] + [n for n in checkpoint.tokenizer.names if n not in {f.name for f in files}]
    if not names:
        raise NotMeasured("no_small_files")
    if all(seen.severity == "info" for seen in found):
        yield ok(found=len(names), files=named(names))


def _unreadable(files: list[JsonFile]) -> Iterator[Observation]:
    for file in files:
        if file.problem is None:
            continue
        evidence = (file.name, file.detail or file.problem)
        # generation_config.json that is no JSON is passed over; one that holds another kind of value is not.
        loads = file.name != "generation_config.json" or file.problem != "wrong_type"
        if file.name in _OPTIONAL_FILES and loads:
            yield warning(f"optional_{file.problem}", evidence, file=file.name, detail=file.detail)
        elif not loads:
            yield error("generation_config_no_table", evidence, file=file.name, detail=file.detail)
        else:
            yield error(file.problem, evidence, file=file.name, detail=file.detail)


def _tokenizer_pointers(checkpoint: Checkpoint, already: set[str]) -> Iterator[Observation]:
    """LFS pointers, empty and unreadable files among the tokenizer's files that the probe reads."""
    store = checkpoint.tokenizer.store
    for name, kind in checkpoint.tokenizer.not_files:
        if name not in already:
            yield error(kind, (name, kind), file=name, detail="")
    for name in checkpoint.tokenizer.names if store is not None else ():
        if name in already or store is None:
            continue
        try:
            size = store.size(name)
            if size == 0 and name not in ("added_tokens.json", "merges.txt"):
                yield error("empty", (name, 0), file=name, detail="")
            elif size < 2048 or isinstance(store, LocalFolder):
                with store.open(name) as file:
                    if file.read(len(LFS_START)) == LFS_START:
                        yield error("lfs_pointer", (name, size), file=name, detail="")
        except OSError as failed:
            yield error("unreadable", (name, failed.strerror or str(failed)), file=name, detail=failed.strerror or "")


def _config_absent(checkpoint: Checkpoint) -> Iterator[Observation]:
    config = checkpoint.config
    if checkpoint.kind == "adapter":
        return
    if not config.present and checkpoint.weight_names:
        if checkpoint.kind == "state_dict":
            yield info("no_config_for_file", (checkpoint.given, "config.json"), given=checkpoint.given)
        else:
            yield error("no_config", (checkpoint.store.label, "config.json"), folder=checkpoint.store.label)
    elif config.value is not None and not config.get("model_type") and not config.get("auto_map"):
        yield error("no_model_type", (config.where("model_type"), config.get("model_type")), file=config.name)


def _whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < _LARGEST


def _size(value: Any) -> bool:
    return _whole(value, 1)


def _sizes(value: Any) -> bool:
    return _size(value) or (isinstance(value, list) and all(_whole(v) for v in value))


def _token(value: Any) -> bool:
    return value is None or _whole(value, -1)


def _tokens(value: Any) -> bool:
    return _token(value) or (isinstance(value, list) and all(_whole(v) for v in value))


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value == value)


def _switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))


Fits = Callable[[Any], bool]
# Field -> whether a value can be right.
_CONFIG: dict[str, Fits] = {
    "vocab_size": _size, "hidden_size": _size, "num_hidden_layers": _size, "num_attention_heads": _sizes,
    "num_key_value_heads": lambda v: v is None or _sizes(v), "intermediate_size": lambda v: v is None or _sizes(v),
    "d_model": _size, "n_embd": _size, "n_layer": _size, "n_head": _size,
    "max_position_embeddings": lambda v: v is None or _sizes(v), "architectures": _texts, "model_type": _text,
    "tie_word_embeddings": _switch, "torch_dtype": _text, "is_encoder_decoder": _switch,
    "hidden_act": _text,
}  # fmt: skip
_TOKEN_IDS: dict[str, Fits] = {
    "bos_token_id": _tokens, "eos_token_id": _tokens, "pad_token_id": _token, "decoder_start_token_id": _tokens,
}  # fmt: skip
_GENERATION: dict[str, Fits] = {
    "temperature": _number, "top_p": _number, "top_k": _number, "repetition_penalty": _number, "max_length": _number,
    "max_new_tokens": _number, "num_beams": _number, "do_sample": _switch,
}  # fmt: skip
_ADAPTER: dict[str, Fits] = {
    "r": lambda v: v is None or _size(v), "lora_alpha": _number, "base_model_name_or_path": _text, "peft_type": _text,
    "rank_pattern": lambda v: v is None or isinstance(v, dict), "modules_to_save": _texts,
    "target_modules": lambda v: isinstance(v, str) or _texts(v),
}  # fmt: skip


def _fields(checkpoint: Checkpoint) -> Iterator[Observation]:
    for file, table, outcome in (
        (checkpoint.config, _CONFIG, "wrong_field"),
        (checkpoint.config, _TOKEN_IDS, "wrong_token_field"),
        (checkpoint.generation_config, _TOKEN_IDS, "wrong_token_field"),
        (checkpoint.generation_config, _GENERATION, "wrong_generation_field"),
        (checkpoint.adapter_config, _ADAPTER, "wrong_field"),
    ):
        for field, fits in table.items():
            if file.value is None or field not in file.value or fits(file.value[field]):
                continue
            value = clipped(json.dumps(file.value[field], ensure_ascii=False), 60)
            yield error(outcome, (file.where(field), value), file=file.name, field=field, value=value)
