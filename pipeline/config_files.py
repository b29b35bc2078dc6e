"""The one reader of the project's own `configs/` folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@cache
def load_config(name: str) -> Any:
    """Parsed content of `configs/NAME` (YAML). Cached: treat the result as read-only."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is about 8 times as fast where built in
    with open(CONFIGS / name, encoding="utf-8") as file:
        return yaml.load(file, Loader=loader)
