"""The one place that knows what a path given as a checkpoint is and which files belong to it.

Shapes: a Hugging Face folder, a folder of checkpoints, a LoRA/PEFT adapter folder, a bare state-dict file with
configuration and tokenizer given apart, a Hub repository. Only names, JSON files and weight headers are read
here; torch is never imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.file_store import FileStore, LocalFile, LocalFolder
from pipeline.json_file import JsonFile, absent, read_json
from pipeline.weight_file import TensorInfo, WeightFile, read_weight_file, sniff

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Beside the weights in a training folder, never weights of the model.
NOT_MODEL_WEIGHTS = re.compile(
    r"^(training_args|optimizer|scheduler|scaler|rng_state.*|random_states.*|trainer_state|zero_pp.*|.*optim_states"
    r"|consolidated\..*|tokenizer|preprocessor|pytorch_model_fsdp_\d+|sampler.*|dl_state.*|custom_checkpoint.*)"
    r"\.(bin|pt|pth|ckpt|safetensors)$"
)
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
    "chat_template.json", "tiktoken.model", "qwen.tiktoken", "source.spm", "target.spm",
)  # fmt: skip
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?$")


class PathNotFound(Exception):
    """The named path exists neither here nor, as far as it could be asked, on the Hub. Carries one line."""


@dataclass(frozen=True)
class TokenizerFiles:
    """Where the tokenizer lies and its small JSON files. `store` is None when there is no tokenizer at all."""

    store: FileStore | None
    names: tuple[str, ...] = ()
    config: JsonFile = field(default_factory=lambda: absent("tokenizer_config.json"))
    special_tokens_map: JsonFile = field(default_factory=lambda: absent("special_tokens_map.json"))
    added_tokens: JsonFile = field(default_factory=lambda: absent("added_tokens.json"))
    chat_template_file: str | None = None  # content of chat_template.jinja or chat_template.json


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint as found. `problem` is None when at least one of its parts can be judged.

    kind: `folder` | `adapter` | `state_dict` | `none`.
    Problems: `image_or_other`, `not_weights`, `empty_folder`, `no_checkpoint_files`, `unreadable`, `symlink_loop`,
    `special_file`.
    """

    given: str
    kind: str
    store: FileStore
    config: JsonFile
    generation_config: JsonFile
    adapter_config: JsonFile
    trainer_state: JsonFile
    tokenizer: TokenizerFiles
    weight_names: tuple[str, ...] = ()
    index: JsonFile | None = None
    stale_index_names: tuple[str, ...] = ()
    chosen_folder: str | None = None  # in a folder of checkpoints: the one taken
    other_folders: tuple[str, ...] = ()
    problem: str | None = None
    detail: str = ""
    revision: str | None = None

    @property
    def name(self) -> str:
        """Last part of the path, or the repository id."""
        return self.given if HUB_ID.match(self.given) else os.path.basename(os.path.normpath(self.given))

    @cached_property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """Headers of all weight files (read on first use; milliseconds each)."""
        return tuple(read_weight_file(self.store, name) for name in self.weight_names)

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """All tensors of all readable files by name. With an index, the shard the index names wins."""
        found = {t.name: t for file in self.weight_files for t in file.tensors}
        weight_map = self.index.get("weight_map") if self.index else None
        if isinstance(weight_map, dict):
            for file in self.weight_files:
                for tensor in file.tensors:
                    if weight_map.get(tensor.name) == file.name:
                        found[tensor.name] = tensor
        return found

    @cached_property
    def is_encoder_decoder(self) -> bool:
        """Declared by the configuration, or a T5-like name in it."""
        declared = self.config.get("is_encoder_decoder")
        if isinstance(declared, bool) and declared:
            return True
        return str(self.config.get("model_type", "")) in ENCODER_DECODER_TYPES

    def local_folder(self) -> Path | None:
        """Folder on this machine, None for a remote one."""
        if isinstance(self.store, LocalFolder):
            return self.store.path
        return self.store.path.parent if isinstance(self.store, LocalFile) else None


ENCODER_DECODER_TYPES = frozenset(
    ("t5", "mt5", "umt5", "longt5", "bart", "mbart", "pegasus", "marian", "m2m_100", "blenderbot", "led",
     "switch_transformers", "prophetnet", "encoder-decoder", "nllb-moe", "plbart", "t5gemma")
)  # fmt: skip


def open_checkpoint(
    given: str, *, tokenizer: str | None = None, model_config: str | None = None
) -> Checkpoint:
    """Find out what `given` is. Never raises for bad content, only `PathNotFound` for a name that leads nowhere.

    tokenizer: folder or file of a tokenizer given apart; it replaces the one beside the weights.
    model_config: a `config.json` given apart (file or folder).
    """
    for apart, option in ((tokenizer, "--tokenizer"), (model_config, "--model-config")):
        if apart is not None and not os.path.lexists(apart) and not HUB_ID.match(apart):
            raise PathNotFound(f"{option}: no such file or folder: {apart}")
    try:
        exists = os.path.lexists(given)
    except ValueError:  # an embedded null byte
        exists = False
    if not given or not exists:
        if HUB_ID.match(given):
            return _open_hub(given, tokenizer, model_config)
        raise PathNotFound(f"no such file or folder: {given!r}. Give a checkpoint folder, a weight file or owner/name")
    path = Path(given)
    try:
        path.stat()
        if path.is_dir():
            found = _open_folder(given, LocalFolder(path))
        elif path.is_file():
            found = _open_file(given, path)
        else:
            return _nothing(given, LocalFile(path), "special_file")
    except OSError as error:
        looped = error.errno == 40 or "symbolic link" in str(error)  # ELOOP
        what = "symlink_loop" if looped else "unreadable"
        return _nothing(given, LocalFile(path), what, error.strerror or str(error))
    return _with_apart(found, tokenizer, model_config)


def _nothing(given: str, store: FileStore, problem: str, detail: str = "") -> Checkpoint:
    return Checkpoint(
        given, "none", store, absent("config.json"), absent("generation_config.json"), absent("adapter_config.json"),
        absent("trainer_state.json"), TokenizerFiles(None), problem=problem, detail=detail,
    )  # fmt: skip


def _json(store: FileStore, names: Sequence[str], name: str) -> JsonFile:
    return read_json(store, name) if name in names else absent(name)


def _weight_names(store: FileStore, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(n for n in names if n.endswith(WEIGHT_SUFFIXES) and not NOT_MODEL_WEIGHTS.match(n))


def read_tokenizer_files(store: FileStore) -> TokenizerFiles:
    """The tokenizer in one folder; `store` of the result is None when there is none."""
    names = store.names()
    present = tuple(n for n in TOKENIZER_FILES if n in names)
    if not present:
        return TokenizerFiles(None)
    template = None
    for name in ("chat_template.jinja", "chat_template.json"):
        if name in present:
            template = _template_text(store, name)
            break
    return TokenizerFiles(
        store, present, _json(store, names, "tokenizer_config.json"), _json(store, names, "special_tokens_map.json"),
        _json(store, names, "added_tokens.json"), template,
    )  # fmt: skip


def _template_text(store: FileStore, name: str) -> str | None:
    if name.endswith(".json"):
        text = read_json(store, name).get("chat_template")
        return text if isinstance(text, str) else None
    try:
        with store.open(name) as file:
            return file.read(2**22).decode("utf-8", errors="replace")
    except OSError:
        return None


def _open_folder(given: str, store: FileStore, revision: str | None = None) -> Checkpoint:
    names = store.names()
    chosen: str | None = None
    others: tuple[str, ...] = ()
    if not _has_model(names):
        candidates = _checkpoint_folders(store)
        if candidates:
            chosen, others = candidates[0], tuple(candidates[1:])
            store = store.sub(chosen)
            names = store.names()
    weights = _weight_names(store, names)
    adapter = "adapter_config.json" in names or any(n in names for n in ADAPTER_WEIGHTS)
    if adapter:
        kept = tuple(n for n in weights if n in ADAPTER_WEIGHTS)
        weights = kept[:1]
    index, stale = None, []
    for name in INDEX_NAMES:
        if name in names and not adapter:
            candidate = read_json(store, name)
            if index is None:
                index = candidate
            else:
                stale.append(name)
    if not adapter:
        weights = _one_format(weights, index)
    found = Checkpoint(
        given, "adapter" if adapter else "folder", store, _json(store, names, "config.json"),
        _json(store, names, "generation_config.json"), _json(store, names, "adapter_config.json"),
        _json(store, names, "trainer_state.json"), read_tokenizer_files(store), weights, index, tuple(stale),
        chosen, others, revision=revision,
    )  # fmt: skip
    if not names and not store.folders():
        return replace(found, kind="none", problem="empty_folder")
    known = weights or found.config.present or adapter or index or found.tokenizer.store or _run_remains(store, names)
    if not known:
        return replace(found, kind="none", problem="no_checkpoint_files", detail=", ".join(names[:5]))
    return found


def _has_model(names: Sequence[str]) -> bool:
    """Weights, an index, or an adapter lie directly here."""
    here = set(names)
    if "adapter_config.json" in here or any(n in here for n in (*ADAPTER_WEIGHTS, *INDEX_NAMES)):
        return True
    return any(n.endswith(WEIGHT_SUFFIXES) and not NOT_MODEL_WEIGHTS.match(n) for n in names)


def _run_remains(store: FileStore, names: Sequence[str]) -> bool:
    """What a sharded save leaves when nobody gathered it: DeepSpeed's `global_step*` or FSDP's folders."""
    return "zero_to_fp32.py" in names or any(f.startswith(("global_step", "pytorch_model_fsdp")) for f in store.folders())


def _checkpoint_folders(store: FileStore) -> list[str]:
    """Sub-folders that hold a model, the one meant first: the trainer's best one if named, else the last step."""
    found = []
    for folder in store.folders()[:2000]:
        try:
            if _has_model(store.sub(folder).names()):
                found.append(folder)
        except OSError:
            continue

    def last_step(folder: str) -> tuple[int, float, str]:
        numbers = re.findall(r"\d+", folder)
        inside = store.sub(folder)
        newest = max((inside.modified(n) or 0.0 for n in inside.names()), default=0.0)
        return (int(numbers[-1]) if numbers else -1, newest, folder)

    found.sort(key=last_step, reverse=True)
    state = _json(store, store.names(), "trainer_state.json")
    best = state.get("best_model_checkpoint")
    if isinstance(best, str) and os.path.basename(best) in found:
        found.remove(os.path.basename(best))
        found.insert(0, os.path.basename(best))
    return found


def _one_format(weights: tuple[str, ...], index: JsonFile | None) -> tuple[str, ...]:
    """The files `from_pretrained` would read: the index's shards, else safetensors before pickles."""
    safe = tuple(n for n in weights if n.endswith(".safetensors") and not n.startswith("adapter_"))
    if index is not None and isinstance(index.get("weight_map"), dict):
        listed = {str(v) for v in index.get("weight_map").values()}
        shards = tuple(n for n in weights if n in listed)
        if shards:
            return shards
    if "model.safetensors" in safe:
        return ("model.safetensors",)
    if safe:
        sharded = tuple(n for n in safe if re.match(r"^model-\d+-of-\d+\.safetensors$", n))
        return sharded or safe
    if "pytorch_model.bin" in weights:
        return ("pytorch_model.bin",)
    return weights


def _open_file(given: str, path: Path) -> Checkpoint:
    store = LocalFile(path)
    folder = LocalFolder(path.parent)
    weights = read_weight_file(store, path.name)
    if weights.problem == "not_weights" or (weights.format == "unknown" and not path.name.endswith(WEIGHT_SUFFIXES)):
        detail = weights.detail or sniff(_first_bytes(path))
        return _nothing(given, store, "image_or_other" if detail else "not_weights", detail)
    if weights.problem in ("header_too_large", "header_not_json") and not path.name.endswith(WEIGHT_SUFFIXES):
        return _nothing(given, store, "not_weights", sniff(_first_bytes(path)))
    names = folder.names()
    adapter = path.name in ADAPTER_WEIGHTS
    return Checkpoint(
        given, "adapter" if adapter else "state_dict", store, _json(folder, names, "config.json"),
        _json(folder, names, "generation_config.json"), _json(folder, names, "adapter_config.json"),
        _json(folder, names, "trainer_state.json"), read_tokenizer_files(folder), (path.name,),
    )  # fmt: skip


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _store_of(place: str) -> FileStore:
    if os.path.lexists(place):
        path = Path(place)
        return LocalFolder(path if path.is_dir() else path.parent)
    from pipeline.hub_files import open_hub_repo

    return open_hub_repo(place)


def _with_apart(found: Checkpoint, tokenizer: str | None, model_config: str | None) -> Checkpoint:
    if found.kind == "none":
        return found
    if tokenizer is not None:
        found = replace(found, tokenizer=read_tokenizer_files(_store_of(tokenizer)))
    if model_config is not None:
        path = Path(model_config)
        if path.is_file():
            config = replace(read_json(LocalFolder(path.parent), path.name), name=path.name)
        else:
            config = read_json(_store_of(model_config), "config.json")
        found = replace(found, config=config)
    return found


def _open_hub(given: str, tokenizer: str | None, model_config: str | None) -> Checkpoint:
    from pipeline.hub_files import open_hub_repo

    store = open_hub_repo(given)
    return _with_apart(_open_folder(given, store, store.revision), tokenizer, model_config)
