"""Several processes that share the rows of one run: who takes which, and how the first learns that the others are done.

They speak through small files in the run's work folder, which all of them must see. Every process greets with a word of
its own; process 0 repeats it once the folder is ready, so that nothing left by an earlier run is taken for an answer.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.candidates.candidate import Cancelled
from pipeline.refusal import Refused

Outcome = Literal["done", "stopped", "failed"]

# Number, how many, and number on this machine: by torchrun, Intel MPI, Open MPI.
_NAMES = (
    ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"), ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"),
    ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK"),
)  # fmt: skip
_POLL_SECONDS = 0.1
LOCK = "lock-"
SILENT_SECONDS = 60.0  # of waiting before it is said what is waited for


@dataclass
class Shard:
    """rank of world processes, local_rank of those on this machine. One process alone is 0 of 1."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    folder: Path | None = None
    _word: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def from_environment(cls) -> Shard:
        """As torchrun, `accelerate launch` and mpirun say it. Raises Refused for numbers that make no sense."""
        given = {name: os.environ[name] for names in _NAMES for name in names if os.environ.get(name)}
        found = [next((given[name] for name in names if name in given), default)
                 for names, default in zip(_NAMES, "010", strict=True)]  # fmt: skip
        try:
            rank, world, local = map(int, found)
        except ValueError:
            rank, world, local = -1, 0, 0
        if not 0 <= rank < world:
            raise Refused("shards_environment", given=", ".join(f"{name}={value}" for name, value in given.items()))
        return cls(rank, world, max(0, local))

    def takes(self, row: int) -> bool:
        return row % self.world == self.rank

    def device(self, device: str) -> str:
        """`cuda` as the one of this process."""
        return f"cuda:{self.local_rank}" if device == "cuda" and self.world > 1 else device

    # --- one run at a time ---

    @contextmanager
    def holding(self, folder: Path, output: Path) -> Iterator[None]:
        """Keeps other runs away from a work folder, which is made and, where nothing came into it, taken away again.
        Raises Refused where another run has this process's place in it, and where it can't be made."""
        from filelock import FileLock, Timeout

        lock = FileLock(folder / f"{LOCK}{self.rank}", blocking=False)
        try:
            folder.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout:
            raise Refused("run_going_on", path=output) from None
        except OSError as failed:
            raise Refused("output_failed", path=folder, why=failed.strerror or failed) from None
        try:
            yield
        finally:
            with suppress(OSError):
                if all(path.name == f"{LOCK}{self.rank}" for path in folder.iterdir()):
                    shutil.rmtree(folder)
            lock.release()

    # --- the processes to each other ---

    def join(self, folder: Path, cancel: threading.Event, waiting: Callable[[float], None]) -> None:
        """For all but process 0: returns when the work folder is ready. Raises Cancelled."""
        self.folder = folder
        hello, answer = folder / f"hello-{self.rank}", folder / f"ready-{self.rank}"
        began = time.monotonic()
        while _text(answer) != self._word:
            if _text(hello) != self._word:  # also where the folder was made anew
                with suppress(OSError):
                    folder.mkdir(parents=True, exist_ok=True)
                    _put(hello, self._word)
            _wait(cancel)
            waiting(time.monotonic() - began)

    def answer(self) -> None:
        """For process 0, to be called now and then: tells those that have come that the folder is ready."""
        if self.folder is None:
            return
        for rank in range(1, self.world):
            word = _text(self.folder / f"hello-{rank}")
            if word and _text(self.folder / f"ready-{rank}") != word:
                with suppress(OSError):
                    _put(self.folder / f"ready-{rank}", word)

    def leave(self, outcome: Outcome) -> None:
        """This process has no more to do. Process 0 is told by a file."""
        if self.rank and self.folder is not None:
            with suppress(OSError):
                _put(self.folder / f"done-{self.rank}", f"{self._word} {outcome}")

    def others(self, cancel: threading.Event, waiting: Callable[[float, list[int]], None]) -> Outcome:
        """For process 0: waits until all others have left. What the worst of them came to. Raises Cancelled."""
        outcomes: dict[int, str] = {}
        began = time.monotonic()
        while len(outcomes) < self.world - 1:
            assert self.folder is not None
            self.answer()
            for rank in range(1, self.world):
                word, _, outcome = _text(self.folder / f"done-{rank}").partition(" ")
                if rank not in outcomes and word and word == _text(self.folder / f"ready-{rank}"):
                    outcomes[rank] = outcome
            if len(outcomes) < self.world - 1:
                _wait(cancel)
                waiting(time.monotonic() - began, [n for n in range(1, self.world) if n not in outcomes])
        worst: tuple[Outcome, ...] = ("failed", "stopped")
        return next((one for one in worst if one in outcomes.values()), "done")


def _wait(cancel: threading.Event) -> None:
    if cancel.wait(_POLL_SECONDS):
        raise Cancelled


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(text, encoding="ascii")
    os.replace(temporary, path)
