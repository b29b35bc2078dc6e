"""One base in memory and its adapters on it, switched by name; whole models beside them one after the other.

An adapter shares the base where that leaves the base as it is for the others: plain layer adapters (LoRA, rsLoRA,
DoRA, own heads and embeddings by `modules_to_save`). One that changes weights of the base while it is loaded (more rows
for added tokens, trained biases, an initialisation that takes its part out of the base, other kinds than LoRA) gets the
base for itself, when its turn comes. Answers are those of each adapter loaded alone, bit by bit.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.adapter_tensors import adapted_modules, full_copies, module_shapes
from pipeline.candidates.open_makers import ModelFiles, check_room, find_model
from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.refusal import Refused, Sentence
from pipeline.weight_names import bare_name

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

Way = Literal["base", "shared", "apart"]
_KEEPS_BASE = (True, False, None, "gaussian")  # init_lora_weights that leave the base's weights as they are
_CHANGES_BASE = ("trainable_token_indices", "target_parameters", "layer_replication", "megatron_config", "arrow_config",
                 "monteclora_config", "corda_config", "eva_config", "loftq_config")  # fmt: skip
# Last parts of paths that name no model: the folder above does.
_NO_NAMES = ("output", "outputs", "final", "adapter", "lora", "model", "best", "last", "merged")


@dataclass(frozen=True)
class Placed:
    """One model of several. checkpoint: the whole one; adapter: put on it. way: `base`, `shared` (on the base that is
    in memory), `apart` (loaded by itself); why: entry of evaluation.yaml that says why apart."""

    name: str
    checkpoint: Checkpoint
    adapter: Checkpoint | None
    way: Way
    why: str = ""

    @property
    def files(self) -> ModelFiles:
        return ModelFiles(self.checkpoint, self.adapter)

    @property
    def source(self) -> str:
        """The path it was given as."""
        return (self.adapter or self.checkpoint).given

    @property
    def tokenizer(self) -> Checkpoint:
        """Where its tokenizer and its chat template come from."""
        own = self.adapter is not None and self.adapter.tokenizer.store is not None
        return self.adapter if own and self.adapter is not None else self.checkpoint


class ModelsOnBase:
    """The base and others by name, at most one whole model in memory.

    others: adapters, or whole checkpoints of their own. names: of the base and of each of them; else made from their
    paths. apart: adapters that stand on another base, which is loaded for them. at_once: adapters are put on with the
    base, so that one that can't be is refused before anything is asked; else when their turn comes, so that it is the
    only one that fails. Nothing is loaded yet. Raises Refused for what is no model, and for an adapter that doesn't fit
    the base. remarks: what is worth saying about them.
    """

    def __init__(
        self, base: Checkpoint, others: Sequence[Checkpoint] = (), *, names: Sequence[str] | None = None,
        apart: Sequence[Placed] = (), device: str = "cpu", dtype: str | None = None, at_once: bool = True,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.device, self.dtype, self.at_once, self.note = device, dtype, at_once, note
        self.remarks: list[Sentence] = []
        named = list(names) if names is not None else short_names([base.given, *(one.given for one in others)])
        if len(named) != len(others) + 1 or len(set(named)) != len(named):
            raise ValueError(f"{len(others) + 1} different names are needed, not {named}")
        first = Placed(named[0], base, None, "base")
        placed = [first, *(self._place(base, one, name) for one, name in zip(others, named[1:], strict=True)), *apart]
        self.placed: Mapping[str, Placed] = {one.name: one for one in placed}
        self._inner = {one.name: f"adapter_{number:05d}" for number, one in enumerate(placed)}  # for peft: no dots
        self._held: str | None = None  # whose weights are in memory: the base's name, or that of one apart
        self._loaded: dict[str, LoadedModel] = {}
        self._in_use = False

    @property
    def names(self) -> tuple[str, ...]:
        """In the order given, the base first."""
        return tuple(self.placed)

    @property
    def order(self) -> tuple[str, ...]:
        """In an order in which nothing is loaded twice."""
        return tuple(sorted(self.placed, key=lambda name: self.placed[name].way == "apart"))

    @contextmanager
    def using(self, name: str) -> Iterator[LoadedModel]:
        """The model of that name; the LoadedModel is good inside the block only, since the next one is the same object
        switched. Raises Refused for what can't be loaded."""
        if self._in_use:
            raise RuntimeError("one model at a time: leave the block of the other first")
        one = self.placed[name]
        holder = name if one.way == "apart" else self.names[0]
        if self._held != holder:
            self.close()
            self._load(holder)
        if name not in self._loaded:
            self._put_on(one)
        self._switch(one)
        self._in_use = True
        try:
            yield self._loaded[name]
        finally:
            self._in_use = False

    def close(self) -> None:
        """Lets go of what is in memory."""
        self._loaded.clear()
        self._held = None
        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def __enter__(self) -> ModelsOnBase:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- what goes where ---

    def _place(self, base: Checkpoint, other: Checkpoint, name: str) -> Placed:
        if other.problem is not None:
            reason = Sentence(other.problem, {"detail": other.detail})
            raise Refused("model_unusable", option="--adapter", path=other.given, why=reason)
        if other.kind != "adapter":
            return Placed(name, other, None, "apart", "apart_whole_model")
        if not other.weight_names:
            raise Refused("adapter_is_none", path=other.given)
        self._fits(base, other)
        why = _changes_base(base, other)
        return Placed(name, base, other, "apart" if why else "shared", why)

    def _fits(self, base: Checkpoint, adapter: Checkpoint) -> None:
        """Raises Refused where a matrix has no place in the base; only says it where another base is named."""
        named = str(adapter.adapter_config.get("base_model_name_or_path") or "").removeprefix("None")
        shapes = module_shapes(base)
        for path, pair in adapted_modules(adapter.tensors).items() if shapes else ():
            wanted = [size for size in pair.adapts if size is not None]
            shape = shapes.get(path)
            if shape is None or (len(wanted) == len(shape) == 2 and sorted(wanted) != sorted(shape)):
                raise Refused(
                    "adapter_other_base", path=adapter.given, base=base.given, named=named or "?", module=path,
                    wanted=" x ".join(map(str, wanted)) or "?", found=" x ".join(map(str, shape or ())) or "-",
                )  # fmt: skip
        if named and not _same_place(named, base, adapter):
            params = {"path": adapter.given, "named": named, "base": base.given}
            self.remarks.append(Sentence("note_adapter_names_other_base", params, "evaluation"))

    # --- loading ---

    def _load(self, holder: str) -> None:
        from pipeline.load_model import ModelNotLoaded, load_model

        one = self.placed[holder]
        check_room(one.files, self.device, self.dtype)
        try:
            loaded = load_model(
                one.adapter or one.checkpoint, base=one.checkpoint if one.adapter is not None else None,
                device=self.device, dtype=self.dtype, note=self.note,
            )  # fmt: skip
        except ModelNotLoaded as reason:
            raise _unusable(one, reason.sentence) from None
        _is_whole(one.files, loaded)
        self._loaded, self._held = {holder: loaded}, holder
        for other in self.placed.values() if one.way == "base" and self.at_once else ():
            if other.way == "shared":
                self._put_on(other)

    def _put_on(self, one: Placed) -> None:
        """An adapter on the base that is in memory."""
        from pipeline.load_model import ModelNotLoaded, attach_adapter

        assert one.adapter is not None
        base = self._loaded[self.names[0]]  # with its tokenizer, for those without their own
        try:
            made = attach_adapter(base, one.adapter, name=self._inner[one.name], note=self.note)
            _is_whole(one.files, made)
        except BaseException as failed:
            self.close()  # what it left in the base would be in the answers of the others
            if isinstance(failed, ModelNotLoaded):
                raise _unusable(one, failed.sentence) from None
            raise
        self._loaded[one.name] = made
        self._loaded[self.names[0]] = replace(base, model=made.model)

    def _switch(self, one: Placed) -> None:
        wrapper = self._loaded[one.name].model
        if one.way == "apart" or not hasattr(wrapper, "peft_config"):
            return
        if one.adapter is None:
            wrapper.base_model.disable_adapter_layers()
        else:
            wrapper.set_adapter(self._inner[one.name], inference_mode=True)
            wrapper.base_model.enable_adapter_layers()
        wrapper.requires_grad_(False)  # peft switches the gradients on with the adapter


def _unusable(one: Placed, why: Sentence) -> Refused:
    option, path = ("--model", one.files.name) if one.adapter is None else ("--adapter", one.source)
    return Refused("model_unusable", option=option, path=path, why=why)


def files_beside(source: str, first: Checkpoint | None, *, base: str | None = None, option: str) -> ModelFiles:
    """One of several models that are compared. An adapter stands on `base`, else on what its files name, and where that
    isn't there on what the first model stands on, which ModelsOnBase says. first: that, None where it has none. Raises
    Refused."""
    try:
        return find_model(source, base=base, option=option)
    except Refused as refused:
        if refused.sentence.entry != "adapter_base_needed" or first is None or base is not None:
            raise
        return ModelFiles(first, open_checkpoint(source))


def place_of(checkpoint: Checkpoint) -> str:
    """The same for checkpoints that are the same files."""
    folder = checkpoint.local_folder()
    return str(folder.resolve()) if folder is not None else checkpoint.given


def _is_whole(files: ModelFiles, loaded: LoadedModel) -> None:
    """Raises Refused where parts of it would be random, or where it has no usable tokenizer."""
    lost = len(loaded.adapter_missing_keys) + len(loaded.adapter_unexpected_keys)
    if lost and files.adapter is not None:
        raise Refused("adapter_does_not_fit", path=files.adapter.given, base=files.checkpoint.given, n=lost)
    if loaded.random_parts:
        names = ", ".join(loaded.random_parts[:3])
        raise Refused("model_partly_random", path=files.name, n=len(loaded.random_parts), names=names)
    if loaded.tokenizer is not None and not loaded.tokenizer.encode("A a 1 。", add_special_tokens=False):
        raise Refused("model_without_tokenizer", path=files.name, why=Sentence("tokenizer_empty"))


def _changes_base(base: Checkpoint, adapter: Checkpoint) -> str:
    """The entry that says why this adapter can't share the base with others; empty where it can."""
    config = adapter.adapter_config
    if str(config.get("peft_type") or "").upper() != "LORA":
        return "apart_other_kind"
    if str(config.get("bias") or "none") != "none":
        return "apart_biases"
    if config.get("init_lora_weights") not in _KEEPS_BASE or any(config.get(name) for name in _CHANGES_BASE):
        return "apart_changes_base"
    own = [str(name) for name in config.get("modules_to_save") or ()]
    shapes = module_shapes(base)
    for name, tensor in full_copies(adapter.tensors).items():
        path = name.rpartition(".")[0]
        if not any(f".{path}".endswith(f".{module}") or f".{module}." in f".{path}." for module in own):
            return "apart_changes_base"  # it would land in the base itself
        if path in shapes and tuple(tensor.shape) != shapes[path]:
            return "apart_more_tokens"
    return ""


def _same_place(named: str, base: Checkpoint, adapter: Checkpoint) -> bool:
    """Whether the base an adapter names is the one given, as far as names tell."""
    places = [named]
    if (folder := adapter.local_folder()) is not None:
        places.append(str(folder / named))
    here = base.local_folder()
    for place in places:
        try:
            if here is not None and os.path.exists(place) and os.path.samefile(place, here):
                return True
        except (OSError, ValueError):
            continue
    return Path(named.rstrip("/\\")).name.casefold() == Path(base.given.partition("@")[0].rstrip("/\\")).name.casefold()


def short_names(paths: Sequence[str]) -> list[str]:
    """A short name for each path, all different: its last part, with the parts before it where that says too little
    (`checkpoint-20`, `output`) or isn't the only one; numbered where paths are equal."""
    parts = [[part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [path] for path in paths]
    counts = [2 if _says_little(one[-1]) and len(one) > 1 else 1 for one in parts]
    for _ in range(8):
        names = ["/".join(one[-count:]) for one, count in zip(parts, counts, strict=True)]
        twice = {name for name in names if names.count(name) > 1}
        longer = [
            count + (name in twice and count < len(one)) for one, count, name in zip(parts, counts, names, strict=True)
        ]
        if longer == counts:
            break
        counts = longer
    names = ["/".join(one[-count:]) for one, count in zip(parts, counts, strict=True)]
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return made


def _says_little(part: str) -> bool:
    bare = bare_name(part).casefold()
    return bare in _NO_NAMES or bare.startswith(("checkpoint-", "checkpoint_", "global_step", "epoch-", "step-"))

