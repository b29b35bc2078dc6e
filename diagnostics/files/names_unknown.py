"""Names in config.json that transformers does not know, or that contradict one another: part of CKP004."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from diagnostics.files.size_in_words import clipped, named
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, warning
from pipeline.architecture import classes_of_types, known_families
from pipeline.checkpoint import Checkpoint
from pipeline.config_files import load_config
from pipeline.json_file import JsonFile

# transformers looks the name up in torch; whole numbers stop the loading too.
_DTYPE = re.compile(r"float|double|half|b?float16|float(32|64)|float[48]_\w+")
# One's class runs the other's weights unchanged.
_ALIKE = ({"t5", "mt5"}, {"llama", "mistral"})
_ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation")


def names_unknown(checkpoint: Checkpoint) -> Iterator[Observation]:
    """What no model can be built from although each field has the right type."""
    config = checkpoint.config
    if config.value is not None:
        yield from _dtype(config)
        yield from _activation(config)
        yield from _type(config)
    tokenizer = checkpoint.tokenizer.config
    if code := _code(tokenizer):
        yield info("tokenizer_code_ignored", (tokenizer.where("auto_map"), code), file=tokenizer.name, code=named(code))


def unknown_dtype(config: JsonFile) -> str | None:
    """The number format that config.json declares, when torch has no float of that name."""
    declared = config.get(dtype_field(config))
    return declared if isinstance(declared, str) and not _DTYPE.fullmatch(declared) else None


def dtype_field(config: JsonFile) -> str:
    """The field transformers takes the number format from."""
    return "torch_dtype" if config.get("dtype") is None else "dtype"


def _dtype(config: JsonFile) -> Iterator[Observation]:
    declared = unknown_dtype(config)
    if declared is not None:
        field = dtype_field(config)
        yield error("unknown_dtype", (config.where(field), clipped(declared)), file=config.name, field=field,
                    value=clipped(declared, 60))  # fmt: skip


def _activation(config: JsonFile) -> Iterator[Observation]:
    """Only for types of the table of architectures: models with code of their own bring their own activations."""
    if config.get("model_type") not in known_families():
        return
    names = load_config("transformers_names.yaml")
    for field in (*_ACTIVATIONS, "feed_forward_proj"):
        value = config.get(field)
        if not isinstance(value, str):
            continue
        if (value.removeprefix("gated-") if field == "feed_forward_proj" else value) not in names["activations"]:
            close = get_close_matches(value[:40], names["activations"], 1, 0.6)
            yield error("unknown_activation", (config.where(field), clipped(value)), file=config.name, field=field,
                        value=clipped(value, 60), meant=close[0] if close else "silu",
                        version=names["version"])  # fmt: skip


def _type(config: JsonFile) -> Iterator[Observation]:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        return
    names = load_config("transformers_names.yaml")
    known = model_type in names["model_types"]
    code = _code(config)
    declared = config.get("architectures")
    first = declared[0] if isinstance(declared, list) and declared and isinstance(declared[0], str) else ""
    others = classes_of_types().get(first, ())
    params = {"file": config.name, "type": clipped(model_type, 60), "version": names["version"]}
    where = ((config.where("model_type"), clipped(model_type)), (config.where("architectures"), clipped(first)))
    if known and code:
        yield info("code_ignored", (config.where("auto_map"), code), code=named(code), **params)
    elif code:
        yield info("needs_own_code", (config.where("auto_map"), code), *where, code=named(code), **params)
    elif not known:
        if meant := (others[0] if others else _misspelt(model_type, first, names["model_types"])):
            yield warning("type_misspelt", *where, meant=meant, **params)
        else:
            yield info("unknown_type", *where, **params)
    if known and others and model_type in known_families() and model_type not in others:
        shown = {"declared": clipped(first, 60), "other": others[0], **params}
        if any({model_type, others[0]} <= alike for alike in _ALIKE):
            yield info("class_of_like_type", *where, **shown)
        else:
            yield warning("class_of_other_type", *where, **shown)


def _misspelt(model_type: str, declared: str, known: list[str]) -> str:
    """The known type that is meant; empty when it may as well be a new one. A new type has another number, or a class
    of its own."""
    for close in get_close_matches(model_type[:40].lower(), known, 3, 0.8):
        stem = re.escape(re.sub(r"[_-]", "", close))
        same_class = not declared or re.match(rf"{stem}(for|model|lmhead)", declared.lower())
        if same_class and re.findall(r"\d+", model_type) == re.findall(r"\d+", close):
            return close
    return ""


def _code(file: JsonFile) -> list[str]:
    """The classes of its own that a file asks for: `modeling_phi3.Phi3ForCausalLM`."""
    named_code = file.get("auto_map")
    values = named_code.values() if isinstance(named_code, dict) else [named_code]
    flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return [clipped(v, 80) for v in dict.fromkeys(v for v in flat[:20] if isinstance(v, str))]
