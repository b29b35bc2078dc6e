"""The model that a run begins with, as a folder or Hub id that any trainer opens by itself.

Where the recipe asks for more than a trainer does (an adapter merged in, a bare state dict, more rows in the
vocabulary), the model is made once and saved as `prepared_base` in the output folder: the reference is then read from
it too, and an adapter that was trained on it names a base that exists.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.refusal import Refused
from pipeline.training.recipe import Recipe

PREPARED = "prepared_base"
_MADE_FROM = "prepared.json"
MAX_TEMPLATE_BYTES = 1_000_000
# https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Note = Callable[[str], None]


@dataclass(frozen=True)
class Policy:
    """model: what the trainer opens. tokenizer: None where the trainer takes the model's own. prepared: the folder that
    was made, None where none had to be. trained_whole: modules to train in full beside an adapter."""

    model: str
    tokenizer: Any
    encoder_decoder: bool
    prepared: Path | None = None
    trained_whole: tuple[str, ...] = ()
    tied: bool = False


def open_policy(recipe: Recipe, output: Path, *, makes: bool, note: Note) -> Policy:
    """Look at the model and make what has to be made. Raises Refused.

    makes: whether this process is the one of its machine that makes it; the others wait for it.
    """
    model = str(recipe.get("model_name_or_path") or "")
    if not model:
        raise Refused("recipe_without_model", path=recipe.name)
    adapter, named = recipe.get("adapter_name_or_path"), recipe.get("tokenizer_name_or_path")
    found = open_checkpoint(model, tokenizer=named, model_config=recipe.get("model_config"))
    if found.kind == "adapter":
        base = found.adapter_config.get("base_model_name_or_path") or "?"
        raise Refused("train_model_is_adapter", path=model, base=base)
    if found.kind == "none":
        raise Refused("train_model_is_none", path=model, why=found.problem or "?")
    if (reference := recipe.get("ref_model_name_or_path")) and open_checkpoint(reference).kind != "folder":
        raise Refused("train_reference_is_none", path=reference)
    if adapter and open_checkpoint(adapter).kind != "adapter":
        raise Refused("train_adapter_is_none", path=adapter)
    tokenizer = _tokenizer(recipe, model)
    if tokenizer is None and (adapter or found.kind == "state_dict" or recipe.get("resize_vocab", False)):
        tokenizer = _load_tokenizer(tokenizer_of(recipe))
    wanted = _rows_wanted(found, tokenizer) if recipe.get("resize_vocab", False) else None
    names, tied = _embedding_names(found) if recipe.get("resize_vocab", False) else ((), False)
    prepared: Path | None = None
    if adapter or wanted or found.kind == "state_dict":
        prepared = output / PREPARED
        made_from = {
            "model": model, "adapter": adapter, "model_config": recipe.get("model_config"), "rows": wanted,
            "tokenizer": named, "seed": recipe.get("seed", 42),
        }  # fmt: skip
        if makes:
            _make(recipe, found, adapter, tokenizer, wanted, prepared, made_from, note)
        else:
            _wait_for(prepared, made_from)
    return Policy(str(prepared or model), tokenizer, found.is_encoder_decoder, prepared, names, tied)


def tokenizer_of(recipe: Recipe) -> str:
    """Where the tokenizer is: as the recipe names it, beside the adapter, which may bring a chat template or tokens,
    else the model's."""
    adapter = recipe.get("adapter_name_or_path")
    if adapter and os.path.isfile(os.path.join(adapter, "tokenizer_config.json")):
        model = adapter
    else:
        model = recipe["model_name_or_path"]
    return str(recipe.get("tokenizer_name_or_path") or model)


def _tokenizer(recipe: Recipe, model: str) -> Any:
    """None where the trainer's own way finds the same."""
    template, named = recipe.get("chat_template"), tokenizer_of(recipe)
    if named == model and template is None:
        return None
    tokenizer = _load_tokenizer(named)
    if template is not None:
        tokenizer.chat_template = chat_template(template)
    return tokenizer


def chat_template(named: str) -> str:
    """The Jinja template that a recipe names: `chatml`, or what stands in a file. Raises Refused."""
    if named == "chatml":
        return CHATML
    try:
        with open(named, "rb") as file:
            content = file.read(MAX_TEMPLATE_BYTES + 1)
        if len(content) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"> {MAX_TEMPLATE_BYTES:,} bytes")
        text = content.decode("utf-8")
        import jinja2

        jinja2.Environment().parse(text)
    except (OSError, ValueError) as failed:
        why = failed.strerror if isinstance(failed, OSError) else str(failed)
        raise Refused("train_template_unreadable", path=named, why=why or failed) from None
    except Exception as failed:  # jinja2.TemplateSyntaxError; an import may fail as well
        raise Refused("train_template_unreadable", path=named, why=str(failed).partition("\n")[0]) from None
    return text


def _load_tokenizer(named: str) -> Any:
    from transformers import AutoTokenizer

    folder = os.path.dirname(named) if os.path.isfile(named) else named
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failed:  # a Rust panic of tokenizers is no Exception
        raise Refused("train_no_tokenizer", path=named, why=str(failed).partition("\n")[0]) from None


def _rows_wanted(found: Checkpoint, tokenizer: Any) -> int | None:
    """Rows the embedding needs for every token of the tokenizer; None where it has them. Spare rows are never taken
    away: many models have them to make the number of rows a round one, and what grows stays round."""
    config = found.config.get("text_config") or found.config.value or {}
    rows = config.get("vocab_size") if isinstance(config, Mapping) else None
    needed = max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1)
    if not isinstance(rows, int) or rows >= needed:
        return None
    round_to = next((n for n in (128, 64) if rows % n == 0), 1)
    return -(-needed // round_to) * round_to


def _embedding_names(found: Checkpoint) -> tuple[tuple[str, ...], bool]:
    """Last names of the modules that hold a row for each token, and whether they are one tensor."""
    import torch

    from pipeline.model_class import configuration, model_class

    config = configuration(found)
    with torch.device("meta"):
        model: Any = model_class(config, found, "generation")(config)
    inside = {id(m): n.rpartition(".")[2] for n, m in model.named_modules() if n}
    pair = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = tuple(dict.fromkeys(inside[id(m)] for m in pair if m is not None and id(m) in inside))
    return names, bool(getattr(config, "tie_word_embeddings", False))


def _make(
    recipe: Recipe, found: Checkpoint, adapter: str | None, tokenizer: Any, rows: int | None, place: Path,
    made_from: Mapping[str, Any], note: Note,
) -> None:  # fmt: skip
    import torch

    from pipeline.load_model import ModelNotLoaded, load_model

    if _stands(place, made_from):
        note(f"{place}: kept from before")
        return
    declared = str(found.config.get("dtype") or found.config.get("torch_dtype") or "float32").removeprefix("torch.")
    asked = recipe.get("dtype", "float32")
    dtype = declared if asked in ("auto", "float32") and declared in ("float16", "bfloat16", "float32") else asked
    named = found.config.get("architectures") or ()
    scores = recipe.method == "reward" and any(str(a).endswith("Classification") for a in named)
    try:
        loaded = load_model(
            found if adapter is None else open_checkpoint(adapter), base=None if adapter is None else found,
            head="reward" if scores else "generation", dtype=dtype if dtype != "auto" else "float32", note=note,
        )  # fmt: skip
    except ModelNotLoaded as failed:
        raise Refused("train_model_not_loaded", path=adapter or found.name, why=failed) from None
    lost = (*loaded.random_parts, *loaded.adapter_missing_keys, *loaded.adapter_unexpected_keys)
    if lost:
        raise Refused("train_model_partly_random", path=adapter or found.name, n=len(lost), names=", ".join(lost[:3]))
    model = loaded.model
    if adapter is not None:
        model = model.merge_and_unload()
        note(f"{adapter} is merged into {found.name}")
    if rows is not None:
        before = model.get_input_embeddings().weight.shape[0]
        torch.manual_seed(int(recipe.get("seed", 42)))
        model.resize_token_embeddings(max(rows, before))
        note(f"the vocabulary has {max(rows, before)} rows now, {before} before")
    temporary = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        (temporary / _MADE_FROM).write_text(json.dumps(dict(made_from)), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(temporary, place)
    except OSError as failed:
        shutil.rmtree(temporary, ignore_errors=True)
        raise Refused("job_folder_failed", path=place, why=failed.strerror or failed) from None
    note(f"saved as {place}: the run begins with it, and an adapter trained on it needs it as its base")


def _stands(place: Path, made_from: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads((place / _MADE_FROM).read_text(encoding="utf-8")) == dict(made_from))
    except (OSError, ValueError):
        return False


def _wait_for(place: Path, made_from: Mapping[str, Any]) -> None:
    """The launcher ends this process where the one that makes it fails."""
    while not _stands(place, made_from):
        time.sleep(0.1)
