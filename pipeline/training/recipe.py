"""A recipe: what a training run is to do, as one YAML of fields by the names of TRL, peft and transformers.

Fields of the trainers are those of the installed TRL: configs/training_fields.json, written by docs/training_fields.py,
as importing trl to look at its configs takes nine seconds. The project's own stand in configs/recipe_fields.yaml.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config_files import CONFIGS, load_config
from pipeline.json_file import parse_json
from pipeline.refusal import Refused, Sentence

RECIPES = CONFIGS / "recipes"
METHODS = ("sft", "dpo", "kto", "reward", "grpo", "rloo", "orpo", "simpo", "cpo")
ON_DEMO = "on_demo"
MAX_BYTES = 1_000_000  # of one recipe: more is another file by mistake
# SimPO is a loss of CPO's trainer
_SIMPO = {"loss_type": "simpo", "cpo_alpha": 0.0}
_CONFIG_OF = {"simpo": "cpo"}


@dataclass(frozen=True)
class Field:
    """types: of str int float bool null dict list list[str] list[float] ...; default: where the recipe is silent; own:
    the project's, not one of TRL's."""

    name: str
    types: tuple[str, ...]
    default: Any
    choices: tuple[Any, ...] = ()
    own: bool = False


@dataclass(frozen=True)
class Recipe:
    """name: of the file. fields: what was set, typed, in the order of the file. on_demo: set instead while the model is
    one of the demo's, which are far smaller than the models that the other values are for."""

    name: str
    method: str
    fields: Mapping[str, Any]
    on_demo: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """The value that will be used. Raises KeyError for a field that the method has not."""
        known = fields_of(self.method)[name]
        return self.fields.get(name, known.default)

    def get(self, name: str, default: Any = None) -> Any:
        """The value that will be used; `default` for a field that the method has not, or that is null."""
        known = fields_of(self.method).get(name)
        value = self.fields.get(name, known.default if known else None)
        return default if value is None else value

    @property
    def settled(self) -> Recipe:
        """The same with `on_demo` applied or dropped: what the run reads."""
        from pipeline.demo.demo_names import is_demo

        own = self.on_demo if is_demo(self.get("model_name_or_path", "")) else {}
        return replace(self, fields={**self.fields, **own}, on_demo={})

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """With other values. They hold on the demo too. Raises Refused."""
        if "method" in changes:
            raise Refused("recipe_method_fixed", method=self.method)
        typed = _typed(self.method, changes, self.name)
        kept = {k: v for k, v in self.on_demo.items() if k not in typed}
        return replace(self, fields={**self.fields, **typed}, on_demo=kept)

    def trainer_fields(self) -> dict[str, Any]:
        """What goes to TRL: fields that were set, by its names, without the project's own."""
        known = fields_of(self.method)
        given = {k: v for k, v in self.fields.items() if not known[k].own}
        return {**_SIMPO, **given} if self.method == "simpo" else given

    def as_yaml(self) -> str:
        """The file again: method, fields, on_demo."""
        whole: dict[str, Any] = {"method": self.method, **self.fields}
        if self.on_demo:
            whole[ON_DEMO] = dict(self.on_demo)
        return str(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False, width=1000))


@cache
def fields_of(method: str) -> Mapping[str, Field]:
    """Every field that a recipe of this method may have: the project's own, the model's, the trainer's."""
    path = CONFIGS / "training_fields.json"
    trl = parse_json(path.read_bytes())
    found = dict(trl["training"])
    if method == "dpo":  # the one trainer for encoder-decoders takes some more; TRL's own meaning comes first
        found.update(trl["methods"]["seq2seq_dpo"])
    found.update(trl["methods"][_CONFIG_OF.get(method, method)])
    found.update(trl["model"])
    if method in ("grpo", "rloo"):
        found.update(trl["rewards"])
    made = {k: Field(k, tuple(v["types"]), v["default"], tuple(v.get("choices", ()))) for k, v in found.items()}
    for name, choices in load_config("recipe_fields.yaml")["choices"].get(method, {}).items():
        made[name] = replace(made[name], choices=tuple(choices))
    for name, entry in load_config("recipe_fields.yaml")["fields"].items():
        if "methods" in entry and method not in entry["methods"]:
            continue
        types = tuple(entry["types"])
        made[name] = Field(name, types, entry.get("default"), tuple(entry.get("choices", ())), own=True)
    return made


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project, in alphabetical order."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_recipe(named: str) -> Recipe:
    """A recipe by its name or from a file. Raises Refused."""
    path = RECIPES / f"{named}.yaml" if named in recipe_names() else Path(named)
    try:
        if path.is_dir():
            raise Refused("recipe_is_folder", path=named)
        if path.exists() and not path.is_file():
            raise Refused("recipe_unreadable", path=named, why=Sentence("not_a_plain_file"))
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, ValueError):  # ValueError: a null byte in the name
        near = _nearest(named.removesuffix(".yaml"), recipe_names())
        known = ", ".join(recipe_names())
        entry = "recipe_not_found_near" if near else "recipe_not_found"
        raise Refused(entry, path=named, near=near, names=known) from None
    except OSError as failed:
        raise Refused("recipe_unreadable", path=named, why=failed.strerror or failed) from None
    if len(content) > MAX_BYTES:
        raise Refused("recipe_unreadable", path=named, why=Sentence("recipe_too_large"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as failed:
        raise Refused("recipe_unreadable", path=named, why=Sentence("not_utf8", {"position": failed.start})) from None
    return parse_recipe(text, path.stem)


def parse_recipe(text: str, name: str) -> Recipe:
    """A recipe from its YAML. Raises Refused, with the line where the YAML itself is broken."""
    try:
        whole = yaml.load(text, Loader=_OnceLoader)
    except yaml.YAMLError as failed:
        mark = getattr(failed, "problem_mark", None)
        why = getattr(failed, "problem", None) or str(failed).splitlines()[0]
        at = text[: getattr(failed, "position", 0) or 0].count("\n")  # of a character that YAML doesn't take
        why = getattr(failed, "reason", None) or why
        raise Refused("recipe_yaml", path=name, line=(mark.line if mark else at) + 1, why=why) from None
    except (ValueError, RecursionError) as failed:  # a date that is none, brackets without end
        raise Refused("recipe_yaml", path=name, line=1, why=str(failed).splitlines()[0]) from None
    if not isinstance(whole, dict):
        raise Refused("recipe_not_mapping", path=name)
    method = whole.pop("method", None)
    if method not in METHODS:
        near = _nearest(str(method), METHODS) if method is not None else ""
        raise Refused("recipe_method", path=name, method=method if method is not None else "-",
                      names=", ".join(METHODS), near=near)  # fmt: skip
    on_demo = whole.pop(ON_DEMO, None) or {}
    if not isinstance(on_demo, dict):
        raise Refused("recipe_not_mapping", path=f"{name}: {ON_DEMO}")
    return Recipe(name, method, _typed(method, whole, name), _typed(method, on_demo, name))


def parse_changes(given: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` words, the values read as YAML. Raises Refused."""
    changes: dict[str, Any] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise Refused("set_form", given=word)
        try:
            changes[key.strip()] = yaml.safe_load(value) if value.strip() else None
        except (yaml.YAMLError, ValueError):
            changes[key.strip()] = value
    return changes


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice: the later one would silently win. Aliases can grow without bound: none."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not taken", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a name is one word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _typed(method: str, given: Mapping[Any, Any], name: str) -> dict[str, Any]:
    known = fields_of(method)
    typed: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise _unknown(method, str(key), known)
        one = known[key]
        typed[key] = _value(one, value)
    return typed


def _unknown(method: str, key: str, known: Mapping[str, Field]) -> Refused:
    """What to say of a field that isn't one: its name here where another program's is known, or the nearest."""
    elsewhere: dict[str, str] = load_config("recipe_fields.yaml")["names_elsewhere"]
    if key in elsewhere:
        return Refused("field_named_elsewhere", field=key, here=elsewhere[key])
    others = [m for m in METHODS if key in fields_of(m)]
    if others:
        return Refused("field_of_other_method", field=key, method=method, names=", ".join(others))
    near = _nearest(key, known)
    return Refused("field_unknown_near" if near else "field_unknown", field=key, near=near, method=method)


def _nearest(word: str, known: Iterable[str]) -> str:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    found = process.extractOne(word, list(known), scorer=OSA.normalized_similarity, score_cutoff=0.6)
    return str(found[0]) if found else ""


_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def _value(one: Field, value: Any) -> Any:
    """The value in the field's type. YAML reads `1e-4` as text and `5` as a whole number: both are numbers here."""
    if value is None:
        if "null" in one.types or one.default is None:
            return None
        raise Refused("field_type", field=one.name, value="null", types=_types_said(one))
    if isinstance(value, bool):
        made: Any = value if "bool" in one.types else _said_by_bool(one, value)
    elif isinstance(value, (int, float)):
        made = _number(one, value)
    elif isinstance(value, str):
        made = _text(one, value)
    elif isinstance(value, list):
        made = _list(one, value)
    elif isinstance(value, dict):
        made = value if "dict" in one.types else _NONE
    else:
        made = str(value) if "str" in one.types else _NONE  # a date
    if made is _NONE:
        raise Refused("field_type", field=one.name, value=value, types=_types_said(one))
    if isinstance(made, float) and not math.isfinite(made):
        raise Refused("field_not_finite", field=one.name, value=value)
    if one.choices and not all(v in one.choices for v in (made if isinstance(made, list) else [made])):
        near = _nearest(str(made), [str(c) for c in one.choices])
        names = ", ".join(map(str, one.choices))
        entry = "field_choice_near" if near else "field_choice"
        raise Refused(entry, field=one.name, value=value, names=names, near=near)
    least = load_config("recipe_fields.yaml")["least"].get(one.name)
    if least is not None and isinstance(made, (int, float)) and made < least:
        raise Refused("field_too_small", field=one.name, value=value, least=least)
    return made


_NONE = object()


def _said_by_bool(one: Field, value: bool) -> Any:
    """YAML reads a bare `no` as false; `true` asks for the newest checkpoint, as in transformers' own trainer."""
    if one.name == "resume_from_checkpoint":
        return "true" if value else None
    return "no" if not value and "no" in one.choices else _NONE


def _types_said(one: Field) -> str:
    return ", ".join(t for t in one.types if t != "null")


def _number(one: Field, value: float) -> Any:
    if "int" in one.types and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if "float" in one.types:
        return value
    if any(t.startswith("list") for t in one.types):
        return _list(one, [value])
    return str(value) if "str" in one.types and not {"int", "float", "bool"} & set(one.types) else _NONE


def _text(one: Field, value: str) -> Any:
    for kind, make in (("int", int), ("float", float)):
        if kind in one.types:
            try:
                return make(value)
            except ValueError:
                continue
    if "bool" in one.types and "str" not in one.types:
        low = value.strip().lower()
        return True if low in _TRUE else False if low in _FALSE else _NONE
    if "str" in one.types:
        return value
    if any(t.startswith("list") for t in one.types):  # one name for a list of one, several with commas
        return _list(one, [part.strip() for part in value.split(",") if part.strip()])
    return _NONE


def _list(one: Field, value: list[Any]) -> Any:
    inner = next((t[5:-1] for t in one.types if t.startswith("list[")), None)
    if inner is None:
        return value if "list" in one.types else _NONE
    each = Field(one.name, (inner,), None)
    return [_value(each, v) for v in value]
