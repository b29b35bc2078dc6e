"""The one place that knows what a path given as a checkpoint is and which files belong to it.

Shapes: a Hugging Face folder, a folder of checkpoints, a LoRA/PEFT adapter folder, a bare state-dict file with
configuration and tokenizer given apart, a Hub repository. Only names, JSON files and weight headers are read
here; torch is never imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.file_store import FileStore, LocalFile, LocalFolder
from pipeline.json_file import JsonFile, absent, read_json
from pipeline.refusal import Refused, Sentence
from pipeline.weight_file import TensorInfo, WeightFile, read_weight_file, sniff

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Beside the weights in a training folder, never weights of the model.
NOT_MODEL_WEIGHTS = re.compile(
    r"^(training_args|optimizer|scheduler|scaler|rng_state.*|random_states.*|trainer_state|zero_pp.*|.*optim_states"
    r"|mp_rank.*|consolidated\..*|tokenizer|preprocessor|pytorch_model_fsdp_\d+|sampler.*|dl_state.*|custom_checkpoint.*"
    r"|v(alue_)?head)\.(bin|pt|pth|ckpt|safetensors)$"
)
# Parts of the state of a distributed run, one per process.
SHARDED_STATE = re.compile(r"^(global_step\d*|(pytorch_model|optimizer)(_fsdp)?_\d+)$")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
    "chat_template.json", "tiktoken.model", "qwen.tiktoken", "source.spm", "target.spm",
)  # fmt: skip
MAX_FOLDERS = 10_000  # looked into for checkpoints: half a second
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?$")


class PathNotFound(Refused):
    """The named path exists neither here nor, as far as it could be asked, on the Hub; or what was given apart
    (tokenizer, configuration, base) lies there but is no such thing."""


@dataclass(frozen=True)
class TokenizerFiles:
    """Where the tokenizer lies and its small JSON files. `store` is None when there is no tokenizer at all."""

    store: FileStore | None
    names: tuple[str, ...] = ()
    config: JsonFile = field(default_factory=lambda: absent("tokenizer_config.json"))
    special_tokens_map: JsonFile = field(default_factory=lambda: absent("special_tokens_map.json"))
    added_tokens: JsonFile = field(default_factory=lambda: absent("added_tokens.json"))
    chat_template_file: str | None = None  # content of chat_template.jinja or chat_template.json
    not_files: tuple[tuple[str, str], ...] = ()  # names of tokenizer files that are no files, and what they are
    # (problem, file, detail) of that file when it is there and holds no text; of further templates likewise.
    chat_template_problem: tuple[str, str, str] | None = None
    other_template_problems: tuple[tuple[str, str, str], ...] = ()


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
    broken_links: tuple[str, ...] = ()  # weight files that are links to nothing
    problem: str | None = None
    detail: str = ""
    revision: str | None = None

    @property
    def name(self) -> str:
        """Last part of the path, or the repository id."""
        if HUB_ID.match(self.given):
            return self.given
        return os.path.basename(os.path.normpath(self.given)) or self.given

    @cached_property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """Headers of all weight files (read on first use; milliseconds each)."""
        if self.local_folder() is None and len(self.weight_names) > 1:  # a hundred shards, a round trip or two each
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(8) as pool:
                return tuple(pool.map(lambda name: read_weight_file(self.store, name), self.weight_names))
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
    def elements_by_dtype(self) -> dict[str, int]:
        """How many numbers are stored in each format."""
        counts: dict[str, int] = {}
        for tensor in self.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel
        return counts

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


def open_checkpoint(given: str, *, tokenizer: str | None = None, model_config: str | None = None) -> Checkpoint:
    """Find out what `given` is. Never raises for bad content, only `PathNotFound` for a name that leads nowhere.

    tokenizer: folder or file of a tokenizer given apart; it replaces the one beside the weights.
    model_config: a `config.json` given apart (file or folder).
    """
    for apart, option in ((tokenizer, "--tokenizer"), (model_config, "--model-config")):
        if apart is not None and not _exists(apart) and not HUB_ID.match(apart):
            raise PathNotFound("option_not_found", option=option, path=apart)
    if not given:
        raise PathNotFound("path_empty")
    if not _exists(given):
        if HUB_ID.match(given):
            return _open_hub(given, tokenizer, model_config)
        bare = re.fullmatch(r"[\w.-]+", given) is not None and not given.endswith(WEIGHT_SUFFIXES)
        raise PathNotFound("bare_name_not_found" if bare else "path_not_found", path=given)
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


def _exists(given: str) -> bool:
    try:
        return os.path.lexists(given)
    except ValueError:  # an embedded null byte
        return False


def open_base(given: str) -> Checkpoint:
    """The checkpoint given as the base. Raises PathNotFound also where something else lies there."""
    try:
        found = open_checkpoint(given)
    except PathNotFound as reason:
        if reason.sentence.entry == "bare_name_not_found":
            raise PathNotFound("base_bare_name", path=given) from None
        if reason.sentence.entry in ("path_empty", "path_not_found"):
            raise PathNotFound("option_not_found", option="--base", path=given) from None
        raise
    if found.problem is not None:
        raise PathNotFound("base_unusable", path=given, why=Sentence(found.problem, {"detail": found.detail}))
    if found.kind == "folder" and not found.weight_names and not found.config.present:  # a tokenizer, for one
        raise PathNotFound("base_unusable", path=given, why=Sentence("not_weights"))
    return found


def _nothing(given: str, store: FileStore, problem: str, detail: str = "") -> Checkpoint:
    return Checkpoint(
        given, "none", store, absent("config.json"), absent("generation_config.json"), absent("adapter_config.json"),
        absent("trainer_state.json"), TokenizerFiles(None), problem=problem, detail=detail,
    )  # fmt: skip


def _json(store: FileStore, names: Sequence[str], name: str) -> JsonFile:
    if name in names:
        return read_json(store, name)
    instead = in_place_of(store, name)
    return JsonFile(name, True, problem=instead) if instead else absent(name)


def in_place_of(store: FileStore, name: str) -> str:
    """What bears a file's name without being a file: `link_to_nothing`, `is_folder`, `special_file`; else empty."""
    if not isinstance(store, LocalFolder):
        return ""
    try:
        kinds = (("link_to_nothing", store.broken_links()), ("is_folder", store.folders()),
                 ("special_file", store.special_files()))  # fmt: skip
    except OSError:  # a folder that can't be listed
        return ""
    return next((kind for kind, names in kinds if name in names), "")


def _weight_names(store: FileStore, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(n for n in names if n.endswith(WEIGHT_SUFFIXES) and not NOT_MODEL_WEIGHTS.match(n))


def read_tokenizer_files(store: FileStore) -> TokenizerFiles:
    """The tokenizer in one folder; `store` of the result is None when there is none."""
    names = store.names()
    present = tuple(n for n in TOKENIZER_FILES if n in names)
    not_files = tuple((n, kind) for n in TOKENIZER_FILES if n not in present and (kind := in_place_of(store, n)))
    if not present:
        return TokenizerFiles(None, not_files=not_files)
    template, problem = None, None
    for name in ("chat_template.jinja", "chat_template.json"):
        if name in present:
            template, problem = _template_text(store, name)
            break
    return TokenizerFiles(
        store, present, _json(store, names, "tokenizer_config.json"), _json(store, names, "special_tokens_map.json"),
        _json(store, names, "added_tokens.json"), template, not_files, problem, _other_templates(store),
    )  # fmt: skip


def _template_text(store: FileStore, name: str) -> tuple[str | None, tuple[str, str, str] | None]:
    if name.endswith(".json"):
        file = read_json(store, name)
        text = file.get("chat_template")
        problem = None if file.value is not None else (file.problem or "unreadable", name, file.detail)
        return (text if isinstance(text, str) else None), problem
    try:
        with store.open(name) as template:
            raw = template.read(_MAX_TEMPLATE_BYTES)
    except OSError as error:
        return None, ("unreadable", name, error.strerror or str(error))
    wrong = wrong_byte(raw)
    if wrong and wrong != "BOM":  # transformers keeps the mark as the first character of every prompt
        return None, ("not_utf8", name, wrong)
    return raw.decode("utf-8", errors="ignore"), None  # a character may be cut in two at the limit


def _other_templates(store: FileStore) -> tuple[tuple[str, str, str], ...]:
    """What can't be read among the named templates in their own folder; only on this machine, where that is cheap."""
    if not isinstance(store, LocalFolder) or _OTHER_TEMPLATES not in store.folders():
        return ()
    try:
        folder = store.sub(_OTHER_TEMPLATES)
        found = [_template_text(folder, n)[1] for n in folder.names()[:100] if n.endswith(".jinja")]
    except OSError as error:
        return (("unreadable", _OTHER_TEMPLATES, error.strerror or str(error)),)
    return tuple((what, f"{_OTHER_TEMPLATES}/{name}", detail) for what, name, detail in filter(None, found))


_OTHER_TEMPLATES = "additional_chat_templates"
_MAX_TEMPLATE_BYTES = 2**22


def wrong_byte(raw: bytes) -> str:
    """The place of the first byte that is no UTF-8, `BOM` where a byte order mark begins the text, else empty."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(raw) - error.start < 4 and error.start > 2**20:
            return ""  # cut by the limit of what is read
        return str(error.start)
    return "BOM" if raw.startswith(b"\xef\xbb\xbf") else ""


def _open_folder(given: str, store: FileStore, revision: str | None = None) -> Checkpoint:
    names = store.names()
    outer = store
    chosen: str | None = None
    others: tuple[str, ...] = ()
    if not _has_weights(store):
        candidates = _checkpoint_folders(store)
        if candidates:
            chosen, others = candidates[0], tuple(candidates[1:])
            store = store.sub(chosen)
            names = store.names()
    weights = _weight_names(store, names)
    adapter = "adapter_config.json" in names or any(n in names for n in ADAPTER_WEIGHTS)
    index, unused = None, tuple(n for n in INDEX_NAMES if n in names)
    if adapter:
        weights = tuple(n for n in ADAPTER_WEIGHTS if n in weights)[:1]
    else:
        weights, index = _one_format(store, weights, unused)
        unused = tuple(n for n in unused if index is None or n != index.name)
    tokenizer = read_tokenizer_files(store)
    if tokenizer.store is None and chosen is not None:  # some trainers write it once, into the run's own folder
        tokenizer = read_tokenizer_files(outer)
    broken = tuple(n for n in _broken_links(store) if n.endswith(WEIGHT_SUFFIXES))
    found = Checkpoint(
        given, "adapter" if adapter else "folder", store, _json(store, names, "config.json"),
        _json(store, names, "generation_config.json"), _json(store, names, "adapter_config.json"),
        _json(store, names, "trainer_state.json"), tokenizer, weights, index, unused, chosen, others, broken,
        revision=revision,
    )  # fmt: skip
    if not names and not store.folders() and not _broken_links(store):
        return replace(found, kind="none", problem="empty_folder")
    known = weights or found.config.present or adapter or index or tokenizer.store or broken or run_remains(store)
    if not known:
        entries = [*names[:5], *(f"{folder}/" for folder in store.folders()[:5]), *_broken_links(store)[:5],
                   *(store.special_files()[:5] if isinstance(store, LocalFolder) else ())]  # fmt: skip
        shown = [name[:60] for name in entries[:5]]
        return replace(found, kind="none", problem="no_checkpoint_files", detail=", ".join(shown))
    return found


def _broken_links(store: FileStore) -> list[str]:
    return store.broken_links() if isinstance(store, LocalFolder) else []


def _has_weights(store: FileStore) -> bool:
    """Weights lie directly here, or ought to: an index that names them, links that lead nowhere."""
    names = {*store.names(), *_broken_links(store)}
    return any(n in INDEX_NAMES or (n.endswith(WEIGHT_SUFFIXES) and not NOT_MODEL_WEIGHTS.match(n)) for n in names)


def _holds_model(store: FileStore) -> bool:
    """Weights that are a model's. A single `*.bin` of any name, with nothing else of a model beside it, is not one:
    programs and firmware are called so too."""
    if not _has_weights(store):
        return False
    names = {*store.names(), *_broken_links(store)}
    weights = [n for n in names if n.endswith(WEIGHT_SUFFIXES) and not NOT_MODEL_WEIGHTS.match(n)]
    return (
        len(weights) != 1 or not weights[0].endswith(".bin") or weights[0] in (*ADAPTER_WEIGHTS, "pytorch_model.bin")
        or SHARD.match(weights[0]) is not None
        or not names.isdisjoint(("config.json", "adapter_config.json", *INDEX_NAMES, *TOKENIZER_FILES))
    )  # fmt: skip


def _number(folder: str) -> int:
    """The last number in a name: `checkpoint-1200` -> 1200; -1 without one."""
    numbers = re.findall(r"\d+", folder)
    return int(numbers[-1][:18]) if numbers else -1


def run_remains(store: FileStore) -> bool:
    """What a sharded save leaves when nobody gathered it: DeepSpeed's `global_step*` or FSDP's folders."""
    return "zero_to_fp32.py" in store.names() or any(SHARDED_STATE.match(folder) for folder in store.folders())


def _checkpoint_folders(store: FileStore) -> list[str]:
    """Sub-folders that hold a model, the one meant first: the trainer's best one if named, else the last step.
    Where none does, those that hold the remains of a sharded save."""
    # Highest number first: of tens of thousands only these are looked into.
    named = sorted((f for f in store.folders() if not SHARDED_STATE.match(f)), key=_number, reverse=True)
    inside = {folder: store.sub(folder) for folder in named[:MAX_FOLDERS]}

    def those(wanted: Callable[[FileStore], bool]) -> list[str]:
        found = []
        for folder, content in inside.items():
            try:
                if wanted(content):
                    found.append(folder)
            except OSError:
                continue
        return found

    found = those(_holds_model)
    if not found and "adapter_config.json" not in store.names():
        found = those(lambda content: "adapter_config.json" in content.names() or run_remains(content))

    def last_step(folder: str) -> tuple[int, float, str]:
        newest = max((inside[folder].modified(n) or 0.0 for n in inside[folder].names()), default=0.0)
        return (_number(folder), newest, folder)

    found.sort(key=last_step, reverse=True)
    state = _json(store, store.names(), "trainer_state.json")
    best = state.get("best_model_checkpoint")
    if isinstance(best, str) and os.path.basename(best) in found:
        found.remove(os.path.basename(best))
        found.insert(0, os.path.basename(best))
    return found


def _one_format(
    store: FileStore, weights: tuple[str, ...], indexes: tuple[str, ...]
) -> tuple[tuple[str, ...], JsonFile | None]:
    """The files `from_pretrained` would read, and the index it would read them by.

    Its order: model.safetensors, its index, pytorch_model.bin, its index
    (`_get_resolved_checkpoint_files` in transformers/modeling_utils.py).
    """
    for single, index_name in zip(("model.safetensors", "pytorch_model.bin"), INDEX_NAMES, strict=True):
        if single in weights:
            return (single,), None
        if index_name in indexes:
            index = read_json(store, index_name)
            listed = listed_shards(index)
            shards = tuple(n for n in weights if n in listed)
            # An index that can't be read: the shards are recognised by their names.
            return shards or tuple(n for n in weights if SHARD.match(n) and not index.value), index
    for shards in (tuple(n for n in weights if SHARD.match(n) and n.endswith(s)) for s in WEIGHT_SUFFIXES[:2]):
        if shards:
            return shards, None
    safe = tuple(n for n in weights if n.endswith(".safetensors"))
    return safe or weights, None


SHARD = re.compile(r"^(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)$")


def listed_shards(index: JsonFile) -> frozenset[str]:
    """File names an index refers to; whatever else stands there is left out."""
    weight_map = index.get("weight_map")
    files = weight_map.values() if isinstance(weight_map, dict) else ()
    return frozenset(file for file in files if isinstance(file, str))


def _open_file(given: str, path: Path) -> Checkpoint:
    store = LocalFile(path)
    folder = LocalFolder(path.parent)
    weights = read_weight_file(store, path.name)
    if weights.problem == "unreadable":
        return _nothing(given, store, "unreadable", weights.detail)
    if NOT_MODEL_WEIGHTS.match(path.name):
        return _nothing(given, store, "not_weights", path.name)
    if weights.problem == "not_weights" or (weights.format == "unknown" and not path.name.endswith(WEIGHT_SUFFIXES)):
        detail = weights.detail or sniff(_first_bytes(path))
        return _nothing(given, store, "image_or_other" if detail else "not_weights", detail)
    # A file of another name counts as weights only when it looks like them (blobs of the Hub cache have no suffix).
    looks_like = weights.problem is None or (weights.problem == "truncated" and _first_bytes(path)[8:9] == b"{")
    if weights.format == "safetensors" and not looks_like and not path.name.endswith(WEIGHT_SUFFIXES):
        return _nothing(given, store, "not_weights", sniff(_first_bytes(path)))
    try:
        names, tokenizer = folder.names(), read_tokenizer_files(folder)
    except OSError:  # the file may be read, its folder not listed
        names, tokenizer = [], TokenizerFiles(None)
    return Checkpoint(
        given, "adapter" if path.name in ADAPTER_WEIGHTS else "state_dict", store, _json(folder, names, "config.json"),
        _json(folder, names, "generation_config.json"), _json(folder, names, "adapter_config.json"),
        _json(folder, names, "trainer_state.json"), tokenizer, (path.name,),
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
        found = replace(found, tokenizer=_tokenizer_apart(tokenizer))
    if model_config is not None:
        found = replace(found, config=_config_apart(model_config))
    return found


def _tokenizer_apart(given: str) -> TokenizerFiles:
    """Raises PathNotFound where no file of a tokenizer lies there."""
    if os.path.lexists(given) and not os.path.isdir(given) and os.path.basename(given) not in TOKENIZER_FILES:
        raise PathNotFound("not_a_tokenizer_file", path=given)
    try:
        apart = read_tokenizer_files(_store_of(given))
    except OSError as failed:
        why = Sentence("unreadable", {"detail": failed.strerror or failed})
        raise PathNotFound("tokenizer_unreadable", path=given, why=why) from None
    if apart.store is None:
        raise PathNotFound("no_tokenizer_files", path=given)
    return apart


def _config_apart(given: str) -> JsonFile:
    """Raises PathNotFound where no configuration can be read there."""
    path = Path(given)
    if os.path.exists(given) and not path.is_dir() and not path.is_file():  # /dev/zero has no end
        raise PathNotFound("config_unusable", path=given, why=Sentence("special_file"))
    if os.path.lexists(given) and not path.is_dir():
        config = replace(read_json(LocalFolder(path.parent), path.name), name=path.name)
    else:
        try:
            store = _store_of(given)
            if "config.json" not in store.names():
                raise PathNotFound("no_config_there", path=given)
            config = read_json(store, "config.json")
        except OSError as failed:
            why = Sentence("unreadable", {"detail": failed.strerror or failed})
            raise PathNotFound("config_unusable", path=given, why=why) from None
    if config.value is None:
        why = Sentence(config.problem or "unreadable", {"detail": config.detail})
        raise PathNotFound("config_unusable", path=given, why=why)
    return config


def _open_hub(given: str, tokenizer: str | None, model_config: str | None) -> Checkpoint:
    from pipeline.hub_files import open_hub_repo

    store = open_hub_repo(given)
    return _with_apart(_open_folder(given, store, store.revision), tokenizer, model_config)
