"""progress.json of a job: where the training process is, for the one that watches it.

phase: importing | waiting | loading | tokenising | reference | training | saving | stopped | done. The supervisor reads
it twice a second, so no more is written.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.json_file import parse_json
from pipeline.refusal import Refused

PROGRESS = "progress.json"
EVERY = 0.5  # seconds between two writings of the same phase


class ProgressFile:
    """Written by rank 0 alone; with `writes` false every call does nothing."""

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.path = folder / PROGRESS
        self.writes = writes
        self.held: dict[str, Any] = {
            "phase": "", "step": 0, "max_steps": 0, "epoch": 0.0, "first_step_time": 0.0, "tokens_per_second": None,
            "peak_memory_bytes": 0, "peak_gpu_memory_bytes": 0, "pid": os.getpid(), "time": 0.0,
        }  # fmt: skip
        self._written = 0.0

    def phase(self, name: str) -> None:
        """Raises Refused where the folder can't be written."""
        if self.writes and name != self.held["phase"]:
            self.held["phase"] = name
            self._write()

    def step(self, step: int, max_steps: int, epoch: float | None, peaks: tuple[int, int]) -> None:
        """peaks: bytes that this process took at most, of memory and of its GPU. Raises Refused."""
        now = time.time()
        self.held.update(step=step, max_steps=max_steps, epoch=epoch)
        self.held.update(peak_memory_bytes=peaks[0], peak_gpu_memory_bytes=peaks[1])
        first = not self.held["first_step_time"]
        if first:
            self.held["first_step_time"] = now
        if self.writes and (first or step >= max_steps or now - self._written >= EVERY):
            self._write()

    def due(self, step: int, max_steps: int) -> bool:
        """Whether `step` would write: what costs something to find out is asked for then alone."""
        late = time.time() - self._written >= EVERY
        return self.writes and (late or step >= max_steps or not self.held["first_step_time"])

    def _write(self) -> None:
        """By renaming, without waiting for the disk: what is lost with the machine is of no use after it."""
        self.held["time"] = self._written = time.time()
        temporary = self.path.with_name(f".{PROGRESS}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.held) + "\n", encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError as failed:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise Refused("job_folder_failed", path=self.path, why=failed.strerror or failed) from None


@dataclass(frozen=True)
class Progress:
    """What a training process last said of itself, as the supervisor needs it."""

    phase: str = ""
    step: int = 0
    max_steps: int = 0
    first_step: float = 0.0
    memory: int = 0
    gpu_memory: int = 0
    pid: int = 0
    time: float = 0.0


def read_progress(folder: Path) -> Progress:
    """Blank where nothing or nothing sensible was written."""
    try:
        held = parse_json((folder / PROGRESS).read_bytes()[:100_000])
    except (OSError, ValueError, RecursionError):
        return Progress()
    if not isinstance(held, dict):
        return Progress()

    def whole(name: str) -> int:
        value = held.get(name)
        return int(value) if isinstance(value, (int, float)) and value == value and abs(value) < 1e18 else 0

    def moment(name: str) -> float:
        value = held.get(name)
        return float(value) if isinstance(value, (int, float)) and abs(value) < 1e18 else 0.0

    return Progress(
        str(held.get("phase", "")), whole("step"), whole("max_steps"),
        moment("first_step_time"), whole("peak_memory_bytes"), whole("peak_gpu_memory_bytes"),
        whole("pid"), moment("time"),
    )  # fmt: skip
