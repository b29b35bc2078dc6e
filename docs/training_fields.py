"""Writes configs/training_fields.json: names, types and defaults of every field a recipe may have, read from the
installed trl and transformers. Run by `make docs`; the test of recipes says when it is out of date."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "configs" / "training_fields.json"
SIMPLE = {str: "str", int: "int", float: "float", bool: "bool", dict: "dict", list: "list"}


def kinds(hint: Any) -> tuple[list[str], list[Any]]:
    """Names of the types that a field takes, and its choices where it has any."""
    if hint is None or hint is type(None):
        return ["null"], []
    if hint in SIMPLE:
        return [SIMPLE[hint]], []
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [kinds(a) for a in arguments]
        return list(dict.fromkeys(k for p, _ in parts for k in p)), [c for _, cs in parts for c in cs]
    if origin is Literal:
        return list(dict.fromkeys(SIMPLE[type(a)] for a in arguments)), list(arguments)
    if origin in (list, tuple):
        inner = [SIMPLE[a] for a in arguments if a in SIMPLE]
        return [f"list[{inner[0]}]" if len(inner) == 1 else "list"], []
    if origin is dict:
        return ["dict"], []
    if isinstance(hint, type) and hasattr(hint, "__members__"):
        return ["str"], [m.value for m in hint]  # type: ignore[var-annotated]
    return ["str"], []


def plain(value: Any) -> Any:
    value = getattr(value, "value", value)
    return value if value is None or isinstance(value, (str, int, float, bool, list, dict)) else str(value)


def fields_of(config: type) -> dict[str, Any]:
    """{name: {types, default, choices?}} of a dataclass, in its order."""
    hints = typing.get_type_hints(config)
    found: dict[str, Any] = {}
    for one in dataclasses.fields(config):
        if not one.init or one.name.startswith("_"):
            continue
        types_, choices = kinds(hints[one.name])
        if not choices and one.metadata.get("choices"):
            choices = [c for c in one.metadata["choices"] if c is not None]
        if one.default is not dataclasses.MISSING:
            default = plain(one.default)
        elif one.default_factory is not dataclasses.MISSING:
            default = plain(one.default_factory())
        else:
            default = None
        found[one.name] = {"types": types_, "default": default}
        if choices:
            found[one.name]["choices"] = [plain(c) for c in choices]
    return found


def described() -> dict[str, Any]:
    """What the file holds: fields that every method has once, and those of each method beside them."""
    import transformers
    import trl
    from transformers import TrainingArguments
    from trl.experimental.cpo import CPOConfig
    from trl.experimental.orpo import ORPOConfig
    from trl.scripts.grpo import GRPOScriptArguments

    sys.path.insert(0, str(ROOT))
    from pipeline.training.seq2seq_dpo_config import Seq2SeqDPOConfig

    base = fields_of(TrainingArguments)
    configs = {
        "sft": trl.SFTConfig, "dpo": trl.DPOConfig, "kto": trl.KTOConfig, "reward": trl.RewardConfig,
        "grpo": trl.GRPOConfig, "rloo": trl.RLOOConfig, "orpo": ORPOConfig, "cpo": CPOConfig,
        "seq2seq_dpo": Seq2SeqDPOConfig,
    }  # fmt: skip
    methods = {name: {k: v for k, v in fields_of(c).items() if base.get(k) != v} for name, c in configs.items()}
    script = fields_of(GRPOScriptArguments)
    return {
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__},
        "training": base, "model": fields_of(trl.ModelConfig), "methods": methods,
        "rewards": {k: script[k] for k in ("reward_model_name_or_path", "reward_funcs")},
    }  # fmt: skip


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(described(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
