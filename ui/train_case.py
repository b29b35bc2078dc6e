"""From the form of the tab Train to a recipe that may be run here, or to a line at each field that is wrong.

The YAML is the form: fields are read from it and written into it. `data: pairs:ID` means a set of the tab Pairs,
`data: upload:TOKEN` dropped files; both become a file before anything reads them. In public only the Hub, uploads and
the demo are named. Checked here, whatever a page sends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.checkpoint import HUB_ID
from pipeline.config_files import load_config
from pipeline.demo.demo_names import is_demo
from pipeline.refusal import Refused
from pipeline.training import start_job
from pipeline.training.accelerate_files import AccelerateFile, accelerate_names, parse_accelerate
from pipeline.training.recipe import RECIPES, Recipe, fields_of, parse_recipe, recipe_names
from ui import pair_export, pair_workspaces, uploads
from ui.allowed_paths import is_public
from ui.interface_words import known
from ui.pair_case import check_size
from ui.private_folder import private_folder
from ui.train_yaml import with_values
from ui.visitor_case import BadCase

FIRST = "dpo_lora"
PAIRS, UPLOAD = "pairs:", "upload:"
GROUPS: dict[str, tuple[str, ...]] = {
    "learning": ("learning_rate", "beta", "loss_type", "simpo_gamma", "reward_funcs", "num_train_epochs", "max_steps"),
    "batch": ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations", "max_length",
              "max_completion_length"),
    "lora": ("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
    "watching": ("val_size", "eval_steps", "save_steps", "logging_steps", "report_to"),
}  # fmt: skip
"""The fields that matter most, in the order they are shown; a method has those of them that its trainer knows."""
ABOVE = ("model_name_or_path", "data")  # in the column on the left
LAUNCH = ("accelerate", "num_processes")
SHOWN = (*ABOVE, *(name for names in GROUPS.values() for name in names), *LAUNCH)
CHOICES = {"report_to": ("none", "trackio", "wandb", "tensorboard")}
# methods for which a field hardly matters
NOT_OF = {"max_completion_length": ("dpo", "orpo", "simpo", "cpo"), "simpo_gamma": ("dpo", "cpo")}
OTHER_PATHS = ("model_config", "reward_model_name_or_path", "logging_dir", "hub_model_id")
PUBLIC_ROWS, PUBLIC_SENT, PUBLIC_SOURCES = 2000, 20_000, 8  # rows that are checked, rows that leave; sources
MAX_TEXT = 200_000  # characters of a recipe in the form


@dataclass(frozen=True)
class Form:
    """What a page sent. accelerate, command: edited texts, None where they are as they were made."""

    name: str
    yaml: str
    accelerate: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class Checked:
    """recipe: as it stands in the YAML, None where that is none. spread: how it is launched. problems: Refused or
    BadCase by the field they belong to, `yaml` for the whole."""

    form: Form
    recipe: Recipe | None = None
    spread: AccelerateFile | None = None
    problems: Mapping[str, Refused | BadCase] = field(default_factory=dict)

    @property
    def effective_batch(self) -> tuple[int, int, int, int] | None:
        """(rows of one process, accumulation, processes, product), None while there is no recipe."""
        if self.recipe is None:
            return None
        now = self.recipe.settled
        size, steps = int(now.get("per_device_train_batch_size", 8)), int(now.get("gradient_accumulation_steps", 1))
        processes = self.spread.processes if self.spread is not None else int(now.get("num_processes", 1))
        return size, steps, processes, size * steps * processes


def form_of(asked: Any) -> Form:
    """The form in a request; the first recipe where it has none."""
    given = asked if isinstance(asked, Mapping) else {}
    name = given.get("name")
    name = name if isinstance(name, str) and name in recipe_names() else FIRST
    text = given.get("yaml")
    text = text[:MAX_TEXT] if isinstance(text, str) and text.strip() else recipe_text(name)

    def edited(key: str) -> str | None:
        value = given.get(key)
        return value[:MAX_TEXT] if isinstance(value, str) and value.strip() else None

    return Form(name, text, edited("accelerate"), edited("command"))


def recipe_text(name: str) -> str:
    """The YAML of a recipe that comes with the project, without the lines on the command line above it."""
    lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return "".join(lines)


def picked(form: Form, name: Any) -> Form:
    """Another recipe, with the model and the data that the visitor named."""
    if not isinstance(name, str) or name not in recipe_names():
        raise BadCase("train_no_recipe")
    text = recipe_text(name)
    try:
        before = parse_recipe(form.yaml, form.name)
    except Refused:
        return Form(name, text)
    kept = {n: before.fields[n] for n in ABOVE if n in before.fields and not _of_demo(before.fields[n])}
    return Form(name, with_values(text, kept))


def _of_demo(value: Any) -> bool:
    return isinstance(value, str) and is_demo(value)


def changed(form: Form, changes: Any) -> tuple[Form, dict[str, Refused | BadCase]]:
    """(the form with fields as they were typed, what is wrong with them). An empty one goes back to its default."""
    given = changes if isinstance(changes, Mapping) else {}
    problems: dict[str, Refused | BadCase] = {}
    for name, value in given.items():
        if name not in SHOWN:
            continue
        try:
            recipe = parse_recipe(form.yaml, form.name)
            blank = value is None or isinstance(value, str) and not value.strip()
            typed = None if blank else recipe.changed({name: _read(name, value)}).fields[name]
            form = replace(form, yaml=with_values(form.yaml, {name: typed}))
        except Refused as refused:
            problems[name] = refused
        except yaml.YAMLError:
            problems["yaml"] = Refused("recipe_not_mapping", path=form.name)
    return form, problems


def _read(name: str, value: Any) -> Any:
    """A field's text as YAML has it: numbers, lists in brackets; a path stays as it was typed."""
    if not isinstance(value, str) or name in ABOVE:
        return value.strip() if isinstance(value, str) else value
    try:
        read = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value.strip()
    return read if isinstance(read, (int, float, bool, list)) else value.strip()


def checked(form: Form) -> Checked:
    """The recipe of the form and how it is launched, or what is wrong with them."""
    problems: dict[str, Refused | BadCase] = {}
    try:
        recipe = parse_recipe(form.yaml, form.name)
    except Refused as refused:
        problems[place_of(refused)] = refused
        return Checked(form, problems=problems)
    try:
        _check_named(recipe)
    except BadCase as bad:
        problems[str(bad.params.get("field", "yaml"))] = bad
    spread = None
    try:
        spread = spread_of(recipe, form.accelerate)
    except (Refused, BadCase) as refused:
        problems["accelerate"] = refused
    return Checked(form, recipe, spread, problems)


def place_of(refused: Refused) -> str:
    """The field that a refusal is about; `yaml` where it isn't one that is shown."""
    named = str(refused.sentence.params.get("field", ""))
    return named if named in SHOWN else "yaml"


def spread_of(recipe: Recipe, edited: str | None = None) -> AccelerateFile:
    """How the recipe is launched on this machine, or by the file that was edited. Raises Refused, BadCase."""
    now = recipe.settled
    if edited is not None:
        if is_public():
            _check_text(edited)
        return parse_accelerate(edited, "accelerate.yaml")
    named = now.get("accelerate")
    if is_public() and named is not None and named not in accelerate_names():
        raise BadCase("train_path_refused", path=str(named), field="accelerate")
    return start_job.spread_of(now)


def _check_named(recipe: Recipe) -> None:
    """Raises BadCase where a visitor of a public machine names what is not theirs to read."""
    if not is_public():
        return
    for where, value in _strings((recipe.fields, recipe.on_demo)):
        own = where in ("data", "eval_data") and value.startswith((PAIRS, UPLOAD))
        if not own and names_here(value):
            raise BadCase("train_path_refused", path=value, field=where if where in SHOWN else "yaml")
    now = recipe.settled
    for name in (*start_job.PATHS, *OTHER_PATHS, "eval_data", "data"):
        for value in map(str.strip, _paths(now.get(name))):
            own = name in ("data", "eval_data") and value.startswith((PAIRS, UPLOAD))
            allowed = own or is_demo(value) or (HUB_ID.match(value) is not None and not os.path.lexists(value))
            if not allowed and not (name == "chat_template" and value == "chatml"):
                raise BadCase("train_path_refused", path=value, field=name if name in SHOWN else "yaml")


def _check_text(edited: str) -> None:
    """Raises BadCase where a YAML file names a place of this machine. Comes before reading it, which may open that."""
    with suppress(yaml.YAMLError, ValueError, RecursionError):
        for part in yaml.scan(edited, Loader=yaml.SafeLoader):  # of its words: aliases are not followed
            if isinstance(part, yaml.ScalarToken) and names_here(part.value):
                raise BadCase("train_path_refused", path=part.value, field="accelerate")


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(field, text) of everything a recipe says, names of fields and numbers aside."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(inner, where or str(name))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one, where)


def names_here(value: str) -> bool:
    """Whether a text is a place of this machine: there, or of a form that no name on the Hub has."""
    value = value.strip()
    if is_demo(value) or "\n" in value:  # a text such as a chat template
        return False
    path = value.rpartition(":")[0]
    if value.startswith(("/", "~", "\\", "file:")) or ".." in value.replace("\\", "/").split("/"):
        return True
    return os.path.lexists(value) or bool(path) and os.path.lexists(path)


def _paths(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return _paths(value.get("path"))
    return [path for one in value for path in _paths(one)] if isinstance(value, list) else []


def resolved(recipe: Recipe) -> Recipe:
    """With files in place of `pairs:` and `upload:`. Raises BadCase where they are gone, OSError, Refused."""
    changes = {n: _resolved(recipe.fields[n]) for n in ("data", "eval_data") if recipe.fields.get(n) is not None}
    return replace(recipe, fields={**recipe.fields, **changes})


def own_folders() -> tuple[Path, ...] | None:
    """Where the files lie that a visitor may have read as data; None on one's own machine, where all may be."""
    return (private_folder("uploads"), private_folder("downloads")) if is_public() else None


def bounded(recipe: Recipe, most: int) -> Recipe:
    """In public with so many rows of each source at most. Raises BadCase where more is asked for than is read here."""
    if not is_public():
        return recipe
    now = recipe.settled
    changes = {n: _at_most(now.fields[n], most) for n in ("data", "eval_data") if now.fields.get(n) is not None}
    size = 0
    for path in (path for value in changes.values() for path in _paths(value)):
        with suppress(OSError, ValueError):
            size += os.path.getsize(path)
    check_size(size)
    return replace(now, fields={**now.fields, **changes})


def _at_most(value: Any, most: int) -> Any:
    if isinstance(value, list):
        if len(value) > PUBLIC_SOURCES:
            raise BadCase("train_public_sources", most=PUBLIC_SOURCES, field="data")
        return [_at_most(one, most) for one in value]
    if not isinstance(value, Mapping):
        return {"path": value, "max_samples": most}
    asked = value.get("max_samples")
    fewer = isinstance(asked, int) and not isinstance(asked, bool) and asked < most
    return value if fewer else {**value, "max_samples": most}


def _resolved(value: Any) -> Any:
    if isinstance(value, list):
        parts = [_resolved(one) for one in value]
        return [each for one in parts for each in (one if isinstance(one, list) else [one])]
    if isinstance(value, Mapping):
        return {**value, "path": _resolved(value.get("path"))}
    if not isinstance(value, str):
        return value
    if value.startswith(PAIRS):
        return str(pairs_file(value.removeprefix(PAIRS)))
    if value.startswith(UPLOAD):
        found = list(uploads.files(value.removeprefix(UPLOAD).partition("/")[0]))
        if not found:
            raise BadCase("upload_gone", field="data")
        return found[0] if len(found) == 1 else found  # several files are one source after the other
    return value


def pairs_file(set_id: str) -> Path:
    """A set of the tab Pairs written anew, for training: what is discarded is left out. Raises BadCase, OSError."""
    known_set = pair_workspaces.about(set_id)
    folder = pair_workspaces.folder_of(set_id) if pair_workspaces.lasting() else private_folder("downloads")
    path = folder / f"{uploads.safe_name(known_set.name).split('.')[0][:60] or 'pairs'}.{set_id[:8]}.training.jsonl"
    with pair_workspaces.opened(set_id) as workspace:
        report = pair_export.export_to(workspace, path, "trl-conversational")
    if not report.rows:
        raise BadCase("train_no_pairs", field="data")
    return path


def data_said(value: Any) -> tuple[str, dict[str, Any]] | None:
    """(entry of interface.yaml, its parameters) that says which pairs or files these are; None for a plain path."""
    if isinstance(value, str) and value.startswith(PAIRS):
        set_id = value.removeprefix(PAIRS)
        try:
            with pair_workspaces.opened(set_id) as workspace:
                counts = workspace.counts()
            total = counts.total - counts.discarded
            return "train_data_pairs", {"name": pair_workspaces.about(set_id).name, "n": f"{total:,}"}
        except (BadCase, Refused, OSError):
            return "pairs_gone", {}
    if isinstance(value, str) and value.startswith(UPLOAD):
        names = [Path(p).name for p in uploads.files(value.removeprefix(UPLOAD).partition("/")[0])]
        return ("upload_kept", {"names": ", ".join(names)}) if names else ("upload_gone", {})
    return None


def has(recipe: Recipe, name: str) -> bool:
    """Whether the form shows this field for the method."""
    return name in fields_of(recipe.method) and recipe.method not in NOT_OF.get(name, ())


def described(name: str, lang: str) -> tuple[str, str]:
    """(title, one line) of a recipe that comes with the project."""
    entry = load_config(f"words/{known(lang)}/interface.yaml")["train_recipes"].get(name, name)
    title, _, about = str(entry).partition(": ")
    return title, about
