"""The one place that turns a checkpoint into a model that runs: folders, bare state dicts, adapters on their base.

Code that lies in a checkpoint is never run (`trust_remote_code` is never set), pickles are opened with
`weights_only=True`, and nothing is written beside the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapter_tensors import full_copies
from pipeline.checkpoint import Checkpoint
from pipeline.free_memory import free_memory
from pipeline.model_class import Head, configuration, labels_of, model_class, own_name, refuse_random
from pipeline.model_class import ModelNotLoaded as ModelNotLoaded
from pipeline.torch_pickle import NESTED_STATE_KEYS

_KNOWN_DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer, and what happened while its weights were put in.

    tokenizer: None when there is none or it can't be read; tokenizer_problem says why.
    dtype: of the weights now; declared_dtype: what the configuration says (None: nothing).
    missing_keys: parameters of the model that no tensor of the files filled (tied ones are filled by their twin),
    they are random now. unexpected_keys: tensors of the files that the model has no place for. mismatched_keys:
    (name, shape in the file, shape in the model), random now too.
    adapter_missing_keys, adapter_unexpected_keys: the same for the adapter's own tensors, without the second copies
    that peft writes of some.
    base_rows_before: rows of the base's embedding when it had to be resized for the adapter, else None.
    total_keys: how many tensors the model holds. head: what it was loaded for.
    """

    model: Any
    tokenizer: Any
    is_encoder_decoder: bool
    device: str
    dtype: str
    declared_dtype: str | None
    missing_keys: tuple[str, ...] = ()
    unexpected_keys: tuple[str, ...] = ()
    mismatched_keys: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    adapter: bool = False
    adapter_missing_keys: tuple[str, ...] = ()
    adapter_unexpected_keys: tuple[str, ...] = ()
    adapter_keys: int = 0
    base_rows_before: int | None = None
    tokenizer_problem: str = ""
    total_keys: int = 0
    head: Head = "generation"

    @property
    def core(self) -> Any:
        """The transformers model itself; inside a PEFT wrapper its layers already hold the adapter."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def random_parts(self) -> tuple[str, ...]:
        """Parameters that hold random values because no tensor of the files landed in them."""
        return (*self.missing_keys, *(name for name, _, _ in self.mismatched_keys))

    @property
    def vocabulary(self) -> int:
        """Rows of the output distribution."""
        head = self.core.get_output_embeddings()
        rows = getattr(head, "weight", None)
        if rows is not None:
            return int(rows.shape[0])
        return int(self.core.get_input_embeddings().weight.shape[0])


def load_model(
    checkpoint: Checkpoint, *, head: Head = "generation", base: Checkpoint | None = None, device: str = "cpu",
    dtype: str | None = None, note: Callable[[str], None] = lambda text: None,
) -> LoadedModel:  # fmt: skip
    """The model of `checkpoint` on `device`. Raises ModelNotLoaded; whatever the libraries raise becomes one.

    head: what it is wanted for. A model that writes may hold random parts, which its account names; one that scores
    or embeds is refused with them, as its numbers would mean nothing.
    base: for an adapter, what it is put on. dtype: float32, bfloat16, float16; None is float32, which is exact for
    every narrower one and the fastest on a CPU (on a GPU above 3e9 parameters: the declared one).
    note: told one line while files are fetched from the Hub.
    """
    if checkpoint.problem is not None:
        raise ModelNotLoaded("no_weights", checkpoint.detail)
    try:
        with _quiet():
            if checkpoint.kind == "adapter":
                return _load_adapter(checkpoint, base, head, device, dtype, note)
            loaded = _load_whole(checkpoint, head, device, dtype, note)
        if head != "generation":
            refuse_random(loaded.model, loaded.random_parts, head)
        return loaded
    except (ModelNotLoaded, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failed:  # a Rust panic of tokenizers or safetensors is no Exception
        raise ModelNotLoaded("model_not_loaded", _one_line(failed)) from None


def _one_line(failed: BaseException) -> str:
    lines = [line.strip() for line in str(failed).splitlines() if line.strip()]
    return f"{type(failed).__name__}: {' '.join(lines[:2])}"[:300] if lines else type(failed).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries report missing keys and progress in words; here they are values. Standard output is the result's
    alone: DeepSpeed, where installed, logs to it on its first import."""
    import contextlib
    import sys
    import warnings

    with contextlib.redirect_stdout(sys.stderr):
        from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _fetched(checkpoint: Checkpoint, note: Callable[[str], None]) -> Checkpoint:
    if checkpoint.local_folder() is not None and not hasattr(checkpoint.tokenizer.store, "fetch"):
        return checkpoint
    from pipeline.hub_files import downloaded

    try:
        return downloaded(checkpoint, note)
    except OSError as failed:
        raise ModelNotLoaded("model_not_loaded", failed.strerror or str(failed)) from None


def _load_whole(
    checkpoint: Checkpoint, head: Head, device: str, dtype: str | None, note: Callable[[str], None],
    labels: int | None = None,
) -> LoadedModel:  # fmt: skip
    """labels: of an adapter's own head, where its base has none."""
    import torch

    if not checkpoint.weight_names:
        raise ModelNotLoaded("no_weights")
    for file in checkpoint.weight_files:
        if file.problem is not None:
            raise ModelNotLoaded("weights_unreadable", f"{file.name}: {file.problem} {file.detail}".strip())
    config = configuration(checkpoint)
    kind = model_class(config, checkpoint, head)
    if head == "reward" and (labels := labels or labels_of(checkpoint)):
        config.num_labels = labels
    parameters = sum(t.numel for t in checkpoint.tensors.values())
    declared = _declared_dtype(checkpoint)
    chosen = dtype or ("float32" if device.startswith("cpu") or parameters < 3e9 else declared or "bfloat16")
    _check_memory(parameters * (4 if chosen == "float32" else 2), device)
    checkpoint = _fetched(checkpoint, note)
    state = _state_dict(checkpoint)
    with torch.random.fork_rng(devices=[]):  # parameters that nothing fills are drawn: the same ones every time
        torch.manual_seed(0)
        model, seen = _filled(kind, config, state, getattr(torch, chosen))
    state.clear()
    _take_generation_config(model, checkpoint)
    tokenizer, problem = load_tokenizer(checkpoint)
    return LoadedModel(
        model.eval().to(device), tokenizer, bool(model.config.is_encoder_decoder), device, chosen, declared,
        tuple(sorted(seen["missing_keys"])), tuple(sorted(seen["unexpected_keys"])),
        tuple(sorted((str(k), tuple(in_file), tuple(in_model)) for k, in_file, in_model in seen["mismatched_keys"])),
        tokenizer_problem=problem, total_keys=len(model.state_dict()), head=head,
    )  # fmt: skip


def _filled(kind: Any, config: Any, state: dict[str, Any], dtype: Any) -> tuple[Any, dict[str, Any]]:
    """The model with `state` in it, and the library's account of it."""

    def attempt() -> tuple[Any, dict[str, Any]]:
        model, seen = kind.from_pretrained(
            None, config=config, state_dict=state, output_loading_info=True, ignore_mismatched_sizes=True,
            dtype=dtype, local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
        return model, seen

    try:
        return attempt()
    except NotImplementedError:  # transformers 5 stumbles over a tied pair when both of its tensors have a wrong shape
        import torch

        with torch.device("meta"):
            expected = {name: tuple(t.shape) for name, t in kind(config).state_dict().items()}
        unfit = {n: tuple(t.shape) for n, t in state.items() if n in expected and expected[n] != tuple(t.shape)}
        if not unfit:
            raise
        for name in unfit:
            del state[name]
        model, seen = attempt()
        seen["missing_keys"] = set(seen["missing_keys"]) - set(unfit)
        seen["mismatched_keys"] = [*seen["mismatched_keys"], *((n, shape, expected[n]) for n, shape in unfit.items())]
        return model, seen


def _declared_dtype(checkpoint: Checkpoint) -> str | None:
    declared = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    name = str(declared).removeprefix("torch.")
    return name if name in _KNOWN_DTYPES else None


def _check_memory(needed: int, device: str) -> None:
    if not device.startswith("cpu"):
        return
    free = free_memory(device)
    if free is not None and needed > 0.9 * free:
        raise ModelNotLoaded("too_large", f"{needed / 2**30:.1f} GiB > {free / 2**30:.1f} GiB")


def _state_dict(checkpoint: Checkpoint) -> dict[str, Any]:
    """All tensors of all files by name. A state dict inside a training checkpoint is taken out of it; names stay
    as they are: a prefix that doesn't belong must show as missing and unexpected keys."""
    folder = checkpoint.local_folder()
    if folder is None:
        raise ModelNotLoaded("no_weights")
    wanted = checkpoint.tensors
    state: dict[str, Any] = {}
    for file in checkpoint.weight_files:
        for name, tensor in read_tensors(folder / file.name, nested_under=file.nested_under).items():
            if name in wanted and wanted[name].file == file.name:
                state[name] = tensor
    if not state:
        raise ModelNotLoaded("no_weights")
    return state


def read_tensors(path: Path, *, nested_under: str = "") -> dict[str, Any]:
    """The tensors of one safetensors or torch file, on the CPU, mapped instead of read where the format allows.

    Raises what safetensors and torch raise; a pickle that asks for more than tensors is refused by torch.
    """
    import torch

    with open(path, "rb") as file:
        first = file.read(2)
    if first == b"PK":
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    elif first[:1] == b"\x80":
        content = torch.load(path, map_location="cpu", weights_only=True)
    else:
        from safetensors.torch import load_file

        return dict(load_file(path))
    keys = (nested_under,) if nested_under else NESTED_STATE_KEYS
    if isinstance(content, Mapping) and not any(isinstance(v, torch.Tensor) for v in content.values()):
        content = next((content[k] for k in keys if isinstance(content.get(k), Mapping)), content)
    elif nested_under and isinstance(content, Mapping):
        content = content[nested_under]
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}


def _take_generation_config(model: Any, checkpoint: Checkpoint) -> None:
    """generation_config.json as `from_pretrained` on the folder would take it; a broken one leaves the defaults."""
    value = checkpoint.generation_config.value
    if value is None or not model.can_generate():
        return
    from transformers import GenerationConfig

    try:
        model.generation_config = GenerationConfig.from_dict(dict(value))
    except Exception:  # judged by the checks of generation_config.json
        return


def load_tokenizer(checkpoint: Checkpoint) -> tuple[Any, str]:
    """The tokenizer and "" , or None and why it can't be had."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    store = checkpoint.tokenizer.store
    if store is None:
        return None, "no_tokenizer"
    path = store.local_path(checkpoint.tokenizer.names[0])
    if path is None:
        return None, "no_tokenizer"
    folder = path.parent
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True), ""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failed:
        first = _one_line(failed)
    if "tokenizer.json" in checkpoint.tokenizer.names:
        try:  # nothing names its class: no tokenizer_config.json, or a config.json of an unknown architecture
            special = {
                f"{role}_token": token.get("content") if isinstance(token, dict) else token
                for role in ("bos", "eos", "pad", "unk")
                for source in (checkpoint.tokenizer.special_tokens_map, checkpoint.tokenizer.config)
                if (token := source.get(f"{role}_token"))
            }
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special), ""
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failed:
            first = _one_line(failed)
    return None, first


def attach_adapter(
    loaded: LoadedModel, checkpoint: Checkpoint, *, name: str = "default",
    note: Callable[[str], None] = lambda text: None,
) -> LoadedModel:  # fmt: skip
    """`loaded` with a layer adapter on it, in the memory that the base has already. Raises ModelNotLoaded.

    name: what peft calls it, where several lie on one base; none may be part of another's. The newest isn't switched
    on beside others: `set_adapter` of the model does. The model given is the one returned, wrapped.
    """
    try:
        with _quiet():
            return _attached(loaded, checkpoint, name, note)
    except (ModelNotLoaded, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failed:  # a Rust panic of tokenizers or safetensors is no Exception
        raise ModelNotLoaded("model_not_loaded", _one_line(failed)) from None


def _load_adapter(
    checkpoint: Checkpoint, base: Checkpoint | None, head: Head, device: str, dtype: str | None,
    note: Callable[[str], None],
) -> LoadedModel:  # fmt: skip
    named = str(checkpoint.adapter_config.get("base_model_name_or_path") or "")
    if base is None or base.problem is not None:
        raise ModelNotLoaded("no_adapter_base", named)
    _can_be_attached(checkpoint)
    if base.kind == "adapter":
        raise ModelNotLoaded("no_adapter_base", f"{base.name}: an adapter itself")
    whole = _load_whole(base, head, device, dtype, note, labels_of(checkpoint) if head == "reward" else None)
    brought = {own_name(name) for name in checkpoint.tensors}
    if head != "generation":
        refuse_random(whole.model, set(whole.random_parts) - brought, head)
    loaded = _attached(whole, checkpoint, "default", note)
    if head != "generation":
        brought -= {own_name(name) for name in loaded.adapter_unexpected_keys}
        missing = map(own_name, loaded.adapter_missing_keys)
        refuse_random(whole.model, {*set(whole.random_parts) - brought, *missing}, head)
    return loaded


def _can_be_attached(checkpoint: Checkpoint) -> None:
    if not checkpoint.weight_names:
        raise ModelNotLoaded("no_weights")
    for file in checkpoint.weight_files:
        if file.problem is not None:
            raise ModelNotLoaded("weights_unreadable", f"{file.name}: {file.problem} {file.detail}".strip())
    if checkpoint.adapter_config.value is None:
        raise ModelNotLoaded("no_config", "adapter_config.json")


def _attached(loaded: LoadedModel, checkpoint: Checkpoint, name: str, note: Callable[[str], None]) -> LoadedModel:
    import torch
    from peft import PeftConfig, PeftModel

    _can_be_attached(checkpoint)
    checkpoint = _fetched(checkpoint, note)
    folder = checkpoint.local_folder()
    assert folder is not None
    first = not isinstance(loaded.model, PeftModel)
    resized = _resize_for(loaded.model, checkpoint) if first else None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            if config.is_prompt_learning:  # its virtual tokens live in generate(), not in the layers
                raise ModelNotLoaded("adapter_not_loaded", f"{config.peft_type.value}: only layer adapters are run")
            model = (
                PeftModel(loaded.model, config, adapter_name=name, autocast_adapter_dtype=False) if first
                else loaded.model
            )  # fmt: skip
            result = model.load_adapter(
                str(folder), name, is_trainable=False, torch_device=loaded.device, autocast_adapter_dtype=False
            )
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError) as failed:
        raise ModelNotLoaded("adapter_not_loaded", _one_line(failed)) from None
    own, problem = load_tokenizer(checkpoint)
    return replace(
        loaded, model=model.eval().to(loaded.device), adapter=True, base_rows_before=resized,
        tokenizer=own if own is not None else loaded.tokenizer,
        tokenizer_problem="" if own is not None else loaded.tokenizer_problem if problem == "no_tokenizer" else problem,
        adapter_missing_keys=tuple(sorted(result.missing_keys)),
        adapter_unexpected_keys=tuple(sorted(n for n in result.unexpected_keys if not _is_twin(n, checkpoint))),
        adapter_keys=len(checkpoint.tensors),
    )  # fmt: skip


def _is_twin(name: str, adapter: Checkpoint) -> bool:
    """Whether it is the second copy that peft writes of an embedding or head when the vocabulary has grown, as
    `X.modules_to_save.weight` beside `X.weight`; peft itself reads the one and passes over the other."""
    parts = ("modules_to_save", "original_module")
    return any(f".{part}." in name and name.replace(f".{part}.", ".") in adapter.tensors for part in parts)


def _resize_for(model: Any, checkpoint: Checkpoint) -> int | None:
    """An adapter that carries embeddings for added tokens needs a base with as many rows.

    https://huggingface.co/docs/peft/developer_guides/troubleshooting#extending-the-vocabulary
    """
    names = ("embed_tokens", "lm_head", "shared", "wte", "embed_in", "embed_out", "word_embeddings")
    saved = {
        t.shape[0] for name, t in full_copies(checkpoint.tensors).items()
        if len(t.shape) == 2 and any(f".{n}." in f".{name}." for n in names)
    }  # fmt: skip
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(saved) != 1 or saved == {rows}:
        return None
    model.resize_token_embeddings(saved.pop(), mean_resizing=False)
    return rows
