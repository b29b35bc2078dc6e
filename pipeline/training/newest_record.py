"""The newest records of a job's metrics.jsonl, read from its end."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.json_file import parse_json

METRICS = "metrics.jsonl"
END_BYTES = 65_536


def last_record(folder: Path, holding: str = "step") -> dict[str, Any]:
    """The newest whole line of metrics.jsonl that has this key; empty without one."""
    with suppress(OSError), (folder / METRICS).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - END_BYTES))
        for line in reversed(file.read().splitlines()):
            with suppress(ValueError, RecursionError):
                value = parse_json(line)
                if isinstance(value, dict) and holding in value:
                    return value
    return {}


def last_loss(folder: Path) -> float | None:
    """None before the first."""
    value = last_record(folder, "loss").get("loss")
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def last_step(folder: Path) -> int:
    """0 before the first."""
    value = last_record(folder).get("step")
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
