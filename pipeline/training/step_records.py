"""What a run tells while it trains: metrics.jsonl, one object for each logged step, and progress.json; and what it is
told: to stop after this step."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipeline.json_file import parse_json
from pipeline.refusal import Refused
from pipeline.training.job_folder import STOP
from pipeline.training.newest_record import METRICS
from pipeline.training.progress_file import ProgressFile

_GO_ON, _STOP, _STOP_UNSAVED = 0, 1, 2
COUNTERS = "counters.json"  # in a checkpoint: what TRL begins to count at zero again when a run is resumed


class Asked:
    """Whether the run is to stop: `stop` in the job's folder, or SIGTERM to any of its processes."""

    def __init__(self, folder: Path, main: bool) -> None:
        self.file = folder / STOP
        self.main = main
        self.by_signal = False

    def __call__(self) -> int:
        if self.main and self.file.exists():
            return _STOP_UNSAVED if self._unsaved() else _STOP
        return _STOP if self.by_signal else _GO_ON

    def _unsaved(self) -> bool:
        """A full disk: a checkpoint cut short would be all that is left of it."""
        try:
            told = parse_json(self.file.read_bytes()[:10_000])
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(told, dict) and told.get("save") is False


class StepRecords(TrainerCallback):
    """Raises Refused where the folder can't be written: a run that nobody can follow isn't begun or gone on with."""

    def __init__(self, folder: Path, progress: ProgressFile, asked: Asked) -> None:
        self.path, self.progress, self.asked = folder / METRICS, progress, asked
        self.stopped = False
        self.trainer: Any = None
        self._group: Any = None
        self._file: Any = None
        self._tokens = (0.0, 0.0)  # num_tokens as last logged, and when
        if progress.writes:
            try:
                _end_cut_line(self.path)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  # a line is one write
            except OSError as failed:
                raise self._unwritable(failed) from None

    def _unwritable(self, failed: OSError) -> Refused:
        return Refused("job_folder_failed", path=self.path, why=failed.strerror or failed)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import torch

        self.progress.held.update(step=state.global_step, max_steps=state.max_steps)
        self.progress.phase("training")
        # Processes have to agree on the step they stop at. Not through the GPU, which would have to wait for each
        # step's work.
        if args.world_size > 1 and torch.distributed.is_available() and torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self._file is None or not logs:
            return
        now = time.time()
        if isinstance(tokens := logs.get("num_tokens"), (int, float)) and math.isfinite(tokens):
            before, at = self._tokens
            if at and now > at and tokens > before:
                self.progress.held["tokens_per_second"] = round((tokens - before) / (now - at), 1)
            self._tokens = float(tokens), now
        try:
            self._file.write(record_line(state.global_step, state.epoch, now, logs))
        except OSError as failed:
            raise self._unwritable(failed) from None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress.due(state.global_step, state.max_steps):
            self.progress.step(state.global_step, state.max_steps, state.epoch, _peaks())
        told = self._agreed(self.asked())
        if told != _GO_ON and state.global_step < state.max_steps:  # after the last step it is done, not stopped
            self.stopped = control.should_training_stop = True
            control.should_save = told == _STOP
            args.load_best_model_at_end = False  # nothing is made of it
            self.progress.step(state.global_step, state.max_steps, state.epoch, _peaks())
            self.progress.phase("saving")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seen = getattr(self.trainer, "_total_train_tokens", None)
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.progress.writes and isinstance(seen, (int, float)) and folder.is_dir():
            with suppress(OSError):
                (folder / COUNTERS).write_text(json.dumps({"num_tokens": int(seen)}) + "\n", encoding="utf-8")

    def counts_on(self, trainer: Any, checkpoint: str | None) -> None:
        """Have `trainer` count on from where the checkpoint was."""
        self.trainer = trainer
        if checkpoint is None or not hasattr(trainer, "_total_train_tokens"):
            return
        with suppress(OSError, ValueError, RecursionError):
            held = parse_json((Path(checkpoint) / COUNTERS).read_bytes()[:10_000])
            if isinstance(held, dict) and isinstance(held.get("num_tokens"), int):
                trainer._total_train_tokens = held["num_tokens"]

    def _agreed(self, told: int) -> int:
        if self._group is None:
            return told
        import torch

        word = torch.tensor([told], dtype=torch.int32)
        torch.distributed.all_reduce(word, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(word.item())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def record_line(step: int, epoch: float | None, now: float, logs: dict[str, Any]) -> bytes:
    """One line of metrics.jsonl. Numbers that JSON has not (NaN, infinity) are null and named in `non_finite`."""
    record: dict[str, Any] = {"step": step, "epoch": epoch, "time": round(now, 3)}
    bad = []
    for name, value in logs.items():
        plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) in (1, ()) else value
        if isinstance(plain, float) and not math.isfinite(plain):
            bad.append(name)
            plain = None
        record[name] = plain
    if bad:
        record["non_finite"] = bad
    return (json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8", errors="replace")


def _end_cut_line(path: Path) -> None:
    """A run that was killed may have left half a line; the next one must not be glued to it."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _peaks() -> tuple[int, int]:
    """Bytes this process took at most: of memory, and of its GPU."""
    import torch

    try:
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:  # Windows
        memory = 0
    return memory, int(torch.cuda.max_memory_allocated()) if torch.cuda.is_initialized() else 0
