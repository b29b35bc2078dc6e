"""Names and shapes of the tensors that a config.json makes, without building the model.

The families stand in configs/architectures.yaml. What from_pretrained does with names that differ follows
`rename_source_key` in https://github.com/huggingface/transformers/blob/main/src/transformers/core_model_loading.py
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product
from math import prod
from typing import Any

from pipeline.config_files import load_config

Shape = tuple[int, ...]
# Largest value a size may have, and the most tensors worth listing: beyond them the file describes no model.
MAX_SIZE = 2**31
MAX_TENSORS = 400_000


class UnknownArchitecture(Exception):
    """This config.json describes nothing the table knows. `reason_id`: `unknown_model_type` | `unknown_model_class` |
    `unusable_config`. `detail`: the type, the class or the field."""

    def __init__(self, reason_id: str, detail: str) -> None:
        super().__init__(f"{reason_id}: {detail}")
        self.reason_id = reason_id
        self.detail = detail


@dataclass(frozen=True)
class Architecture:
    """What one config.json makes.

    tensors: those `save_pretrained` writes, by name. same: name -> the tensor it shares its values with; one of the
    two on disk is enough. shapes: both of them. head: None for a class without one.
    """

    family: str
    prefix: str
    tensors: Mapping[str, Shape]
    same: Mapping[str, str]
    shapes: Mapping[str, Shape]
    embedding: str
    head: str | None
    tied: bool
    layers: int
    rename: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Tied ones counted once."""
        return sum(prod(shape) for shape in self.tensors.values())

    def land(self, name: str) -> str | None:
        """Where `from_pretrained` puts a tensor called `name`; None when it puts it nowhere."""
        for pattern, replacement in self.rename:
            name = re.sub(pattern, replacement, name)
        inner = name.removeprefix(f"{self.prefix}.")
        if inner != name and inner in self.shapes:
            return inner
        if f"{self.prefix}.{name}" in self.shapes:
            return f"{self.prefix}.{name}"
        return name if name in self.shapes else None

    def ignores(self, name: str) -> bool:
        """Whether the library passes over this name without a word."""
        return self._ignored is not None and self._ignored.search(name) is not None

    @cached_property
    def _ignored(self) -> re.Pattern[str] | None:
        return re.compile("|".join(f"(?:{pattern})" for pattern in self.ignore)) if self.ignore else None


@dataclass(frozen=True)
class Landing:
    """How the tensors of a file meet those of a model.

    landed: name in the model -> name in the file. places: the other way; two names may have one place. missing: names
    in the model. unexpected: names in the file. mismatched: (name in the file, its shape, the model's shape).
    """

    landed: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shape, Shape], ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


def land_tensors(architecture: Architecture, shapes: Mapping[str, Shape]) -> Landing:
    """Compare the tensors of a file (name -> shape) with what the configuration makes."""
    landed: dict[str, str] = {}
    places: dict[str, str] = {}
    unexpected = []
    mismatched = []
    for name, shape in shapes.items():
        place = architecture.land(name)
        if place is None:
            if not architecture.ignores(name):
                unexpected.append(name)
            continue
        landed[place] = name
        places[name] = place
        if shape != architecture.shapes[place]:
            mismatched.append((name, shape, architecture.shapes[place]))
    twins: dict[str, set[str]] = {}
    for name, source in architecture.same.items():
        twins.setdefault(source, {source}).add(name)
    missing = [n for n in architecture.tensors if n not in landed and not twins.get(n, set()) & landed.keys()]
    return Landing(landed, tuple(missing), tuple(unexpected), tuple(mismatched), places)


def known_families() -> tuple[str, ...]:
    """Model types (config.json:model_type) of the table."""
    return tuple(load_config("architectures.yaml"))


@cache
def classes_of_types() -> Mapping[str, tuple[str, ...]]:
    """Class name (config.json:architectures) -> the model types of the table that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for model_type in known_families():
        family = _family(model_type)
        for suffix in dict.fromkeys(("Model", *family["heads"])):
            found[family["class"] + suffix] = (*found.get(family["class"] + suffix, ()), model_type)
    return found


def expected_architecture(config: Mapping[str, Any], names: Collection[str] = ()) -> Architecture:
    """What `config` (a parsed config.json) makes. Raises UnknownArchitecture.

    names: tensor names of the file; they tell the two layouts of experts apart (one tensor each, or one for all).
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in load_config("architectures.yaml"):
        raise UnknownArchitecture("unknown_model_type", str(model_type)[:80])
    family = _family(model_type)
    head_kind = _head_kind(config, family)
    fields = _fields(config, family)
    fields["experts_fused"] = any(n.endswith(".experts.gate_up_proj") for n in names)
    try:
        if any(_evaluate(condition, _names(family, fields, {})) for condition in family["unless"]):
            raise UnknownArchitecture("unknown_model_type", model_type)
        shapes = _shapes(family, fields)
        layers = int(_evaluate(family["repeat"]["i"], _names(family, fields, {})))
    except (TypeError, ZeroDivisionError, KeyError) as error:
        raise UnknownArchitecture("unusable_config", str(error)) from error
    tied = bool(fields["tie_word_embeddings"])
    head = family["head"] if head_kind == "causal" else None
    same = dict(family["shared"]) | (dict(family["tied"]) if tied and head else {})
    if head is None:
        shapes = {n: s for n, s in shapes.items() if n.partition(".")[0] != family["head"].partition(".")[0]}
    if head_kind == "score":
        shapes["score.weight"] = (_labels(config), shapes[family["embedding"]][1])
    required = {n: s for n, s in shapes.items() if n not in same}
    everything = shapes | {n: shapes[source] for n, source in same.items()}
    return Architecture(
        model_type, family["prefix"], required, same, everything, family["embedding"], head, tied, layers,
        tuple((str(a), str(b)) for a, b in family["rename"]), tuple(family["ignore"]),
    )  # fmt: skip


def _labels(config: Mapping[str, Any]) -> int:
    named = config.get("id2label")
    number = len(named) if isinstance(named, dict) else config.get("num_labels", 2)
    return number if type(number) is int and 0 < number < MAX_SIZE else 2


def family_of_names(names: Collection[str]) -> str | None:
    """The model type whose tensors are named like these, whatever their shapes; None when none fits well."""
    numbers = re.compile(r"(?<=\.)(\d+|\{\w\})(?=\.)")
    numberless = {numbers.sub("0", name) for name in names}
    best, score = None, (0.0, 0)
    for model_type in known_families():
        family = _family(model_type)
        prefix = family["prefix"] + "."
        always = {numbers.sub("0", t) for t, text in family["tensors"].items() if " if " not in str(text)}
        found = sum(bool({n, n.removeprefix(prefix), prefix + n} & numberless) for n in always)
        if (found / len(always), found) > score:
            best, score = model_type, (found / len(always), found)
    return best if score[0] > 0.6 else None


_MERGED = ("fields", "aliases", "sizes", "repeat", "tied", "shared", "tensors")
_EMPTY: Mapping[str, Any] = {
    "fields": {}, "aliases": {}, "sizes": {}, "repeat": {}, "tied": {}, "shared": {}, "tensors": {}, "rename": [],
    "ignore": [], "unless": [], "heads": ["ForCausalLM"],
}  # fmt: skip


@cache
def _family(model_type: str) -> dict[str, Any]:
    """One entry of the table with everything it inherits; a null takes an inherited entry away."""
    entry = load_config("architectures.yaml")[model_type]
    merged = dict(_family(entry["like"]) if "like" in entry else _EMPTY)
    for key, value in entry.items():
        if key not in _MERGED:
            merged[key] = value
        elif key == "fields":  # a field may well be null by default
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = {k: v for k, v in {**merged[key], **value}.items() if v is not None}
    return merged


def _head_kind(config: Mapping[str, Any], family: Mapping[str, Any]) -> str:
    """`causal` | `score` (a reward model or classifier) | `none`, by the class that config.json declares."""
    declared = config.get("architectures")
    first = declared[0] if isinstance(declared, list) and declared else ""
    if not isinstance(first, str):
        raise UnknownArchitecture("unusable_config", "architectures")
    stem, heads = family["class"], family["heads"]
    if not first or first in {stem + suffix for suffix in heads}:
        return "causal"
    if first == f"{stem}Model":
        return "none"
    if first == f"{stem}ForSequenceClassification" and "ForConditionalGeneration" not in heads:
        return "score"
    # AutoModelForCausalLM goes by model_type alone, so the class of another family changes nothing.
    if any(first == other["class"] + s for other in map(_family, known_families()) for s in other["heads"]):
        return "causal"
    raise UnknownArchitecture("unknown_model_class", first[:80])


def _fields(config: Mapping[str, Any], family: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, default in family["fields"].items():
        spelled = next((s for s in (name, *family["aliases"].get(name, ())) if s in config), None)
        value = config[spelled] if spelled is not None else default
        if not _fits(value, default):
            raise UnknownArchitecture("unusable_config", f"{spelled} = {str(value)[:60]}")
        found[name] = value
    return found


def _fits(value: Any, default: Any) -> bool:
    """Whether a field has the type that its default has. Null stands for: derive it."""
    if value is None:
        return True
    if isinstance(default, (bool, str)):
        return type(value) is type(default)
    if isinstance(value, list):
        return default is None and len(value) <= 10_000 and all(type(n) is int for n in value)
    return type(value) is int and 0 <= value <= MAX_SIZE


def _names(family: Mapping[str, Any], fields: Mapping[str, Any], counters: Mapping[str, int]) -> Callable[[str], Any]:
    sizes = family["sizes"]

    def look_up(name: str) -> Any:
        if name in counters:
            return counters[name]
        return _evaluate(sizes[name], look_up) if name in sizes else fields[name]

    return look_up


def _shapes(family: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Shape]:
    plain = _names(family, fields, {})
    counts = {letter: int(_evaluate(text, plain)) for letter, text in family["repeat"].items()}
    found: dict[str, Shape] = {}
    for template, text in family["tensors"].items():
        letters = [letter for letter in counts if f"{{{letter}}}" in template]
        outer = [letter for letter in letters if letter != "e"]
        shape_text, _, condition = str(text).partition(" if ")
        if len(found) + prod(counts[letter] for letter in letters) > MAX_TENSORS:
            raise UnknownArchitecture("unusable_config", "more layers or experts than any model has")
        for numbers in product(*(range(counts[letter]) for letter in outer)):
            counters = dict(zip(outer, numbers, strict=True))
            look_up = _names(family, fields, counters)
            if condition and not _evaluate(condition, look_up):
                continue
            value = _evaluate(shape_text, look_up)
            shape = value if isinstance(value, tuple) else (value,)
            if not all(type(n) is int and 0 <= n <= MAX_SIZE**2 for n in shape):
                raise UnknownArchitecture("unusable_config", f"{template}: {shape_text}")
            name = template
            for letter, number in counters.items():
                name = name.replace(f"{{{letter}}}", str(number))
            for e in range(counts["e"]) if "e" in letters else (0,):
                found[name.replace("{e}", str(e))] = shape
    return found


_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Gt: operator.gt,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _evaluate(text: str, look_up: Callable[[str], Any]) -> Any:
    """Value of one expression of the table. Only the table's own text comes here, never a config.json's."""
    return _value(_parsed(str(text)), look_up)


def _value(node: ast.expr, look_up: Callable[[str], Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return look_up(node.id)
        case ast.Tuple():
            return tuple(_value(n, look_up) for n in node.elts)
        case ast.BinOp():
            return _OPERATORS[type(node.op)](_value(node.left, look_up), _value(node.right, look_up))
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, look_up)
        case ast.Compare(ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](_value(node.left, look_up), _value(right, look_up))
        case ast.BoolOp():
            result: Any = None
            for part in node.values:
                result = _value(part, look_up)
                if bool(result) is isinstance(node.op, ast.Or):
                    break
            return result
    raise ValueError(f"not an expression of the table: {ast.dump(node)}")
