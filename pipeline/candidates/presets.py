"""Presets: mixes of strategies for one purpose, of the project (configs/candidate_presets.yaml) or in a user's file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config_files import load_config
from pipeline.refusal import Refused

CONFIG = "candidate_presets.yaml"
WEAKER = "{weaker}"
_OPTIONS = ("num_candidates", "temperature_ladder", "dedup", "dialect", "reward")
_MOST_BYTES = 100_000


@dataclass(frozen=True)
class Preset:
    """strategies: as --strategy takes them. choose: a policy, "" for none. options: values of options by name, as text.
    left_out: strategies that need a weaker model where none was given. about: by language."""

    name: str
    strategies: tuple[str, ...]
    choose: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)


def preset_names() -> list[str]:
    """Of the presets that come with the project, the default first."""
    table = load_config(CONFIG)
    return [table["default"], *(name for name in table["presets"] if name != table["default"])]


def default_preset(*, with_model: bool) -> str:
    table = load_config(CONFIG)
    return str(table["default" if with_model else "default_without_model"])


def find_preset(given: str, *, weaker: str | None = None) -> Preset:
    """A preset by its name, or from a YAML file. weaker: the model that stands for {weaker}. Raises Refused."""
    if given.lower().endswith((".yaml", ".yml")):
        return _made(Path(given).stem, _read(Path(given)), given, weaker)
    presets = load_config(CONFIG)["presets"]
    if given not in presets:
        near = ", ".join(difflib.get_close_matches(given, presets, n=3, cutoff=0.0))
        raise Refused("preset_unknown", value=given, near=near, all=", ".join(preset_names()))
    return _made(given, presets[given], given, weaker)


def _made(name: str, held: Mapping[str, Any], given: str, weaker: str | None) -> Preset:
    words = held.get("strategies")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise Refused("preset_wrong", path=given, why="strategies")
    unknown = next((str(key) for key in held if key not in ("about", "strategies", "choose", *_OPTIONS)), None)
    if unknown is not None:
        raise Refused("preset_wrong", path=given, why=unknown)
    kept = [word for word in words if WEAKER not in word or weaker]
    about = held.get("about")
    return Preset(
        name, tuple(word.replace(WEAKER, weaker or "") for word in kept), str(held.get("choose") or ""),
        {key: str(held[key]) for key in _OPTIONS if held.get(key) is not None},
        tuple(word for word in words if word not in kept),
        {str(lang): str(text) for lang, text in about.items()} if isinstance(about, Mapping) else {},
    )  # fmt: skip


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_MOST_BYTES + 1)
        found = yaml.safe_load(text) if len(text) <= _MOST_BYTES else None
    except OSError as failed:
        raise Refused("preset_wrong", path=path, why=failed.strerror or failed) from None
    except UnicodeDecodeError:
        raise Refused("preset_wrong", path=path, why="UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as failed:
        mark = getattr(failed, "problem_mark", None)
        where = "" if mark is None else f"{mark.line + 1}:{mark.column + 1} "
        raise Refused("preset_wrong", path=path, why=where + str(getattr(failed, "problem", "") or "YAML")) from None
    if not isinstance(found, Mapping):
        raise Refused("preset_wrong", path=path, why="strategies")
    return found
