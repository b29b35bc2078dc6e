"""Checkpoints that a trainer left: which are whole, and which of them is the newest.

A run that is killed while it saves leaves a folder that looks like a checkpoint. The trainer writes trainer_state.json
after everything else (transformers, Trainer._save_checkpoint), so a folder without one was not finished.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.file_store import LocalFolder
from pipeline.json_file import parse_json
from pipeline.weight_file import read_weight_file

_NAME = re.compile(r"checkpoint-(\d{1,18})")
_BESIDE = ("optimizer", "scheduler", "rng_state", "training_args")
_WEIGHTS = (".safetensors", ".bin", ".pt")
MAX_STATE_BYTES = 500_000_000


def checkpoints_in(folder: Path) -> list[Path]:
    """Folders named checkpoint-N, by N, whole or not."""
    found: list[tuple[int, Path]] = []
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            if match and entry.is_dir():
                found.append((int(match[1]), Path(entry.path)))
    return [path for _, path in sorted(found)]


def step_of(checkpoint: Path) -> int:
    """The N of checkpoint-N, 0 for another name."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that a run can go on from; None where there is none."""
    return next((path for path in reversed(checkpoints_in(folder)) if why_not_whole(path) == ""), None)


def why_not_whole(checkpoint: Path) -> str:
    """`` for a checkpoint that is whole, else one of: no_state, bad_state, no_weights, cut_weights, no_optimizer."""
    state = _state(checkpoint)
    if state is None:
        return "no_state"
    if not isinstance(state.get("global_step"), int):
        return "bad_state"
    names = _names(checkpoint)
    weights = [n for n in names if n.endswith(_WEIGHTS) and not n.startswith(_BESIDE)]
    sharded = any(n.startswith("global_step") for n in names) or "pytorch_model_fsdp_0" in names
    if not weights and not sharded:
        return "no_weights"
    store = LocalFolder(checkpoint)
    if any(read_weight_file(store, name).problem for name in weights):
        return "cut_weights"
    if not sharded and not any(n.startswith("optimizer") for n in names):
        return "no_optimizer"
    return ""


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        with (checkpoint / "trainer_state.json").open("rb") as file:
            value = parse_json(file.read(MAX_STATE_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def size_of(checkpoint: Path) -> int:
    """Bytes of all its files."""
    total = 0
    for folder, _, names in os.walk(checkpoint):
        for name in names:
            with suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total
