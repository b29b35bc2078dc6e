"""RUN024: room on disk for the checkpoints of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.data_folder import data_folder
from pipeline.training.environment import free_disk
from pipeline.training.memory_needed import gigabytes


def disk_too_small(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Bytes that checkpoints and the final model will take against those that are free.
    Why it matters:
        A full disk ends the run while it saves, and the newest checkpoint is half written.
    How it is measured:
        Weights (of an adapter: its own), optimizer states beside them unless save_only_model, times save_total_limit
        + 1 (a new one is written before the oldest goes), no more than there are saves; the result once more.
    Known false alarms:
        Disks with quotas that can't be seen, or that grow.
    Fix:
        Set save_total_limit, save_only_model: true, or another output_dir.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.save_total_limit
    """
    place = subject.output or data_folder()
    free = free_disk(place)
    if free is None:
        raise NotMeasured("disk_unknown")
    needed, each, kept = _needed(subject)
    subject.metrics |= {"disk.needed": int(needed), "disk.free": free}
    numbers: dict[str, Any] = {"needed": gigabytes(needed), "free": gigabytes(free), "each": gigabytes(each),
               "kept": kept, "path": str(place)}  # fmt: skip
    evidence = (("free", free), ("needed", int(needed)))
    if needed > free:
        yield error("too_small", *evidence, **numbers)
    elif needed > limits["disk_share_warn"] * free:
        yield warning("nearly_full", *evidence, **numbers)
    else:
        yield ok(**numbers)


def _needed(subject: RecipeSubject) -> tuple[float, float, int]:
    """(bytes in all, of one checkpoint, checkpoints that lie there at one time)."""
    memory, settings = subject.memory, subject.settings
    stored = 2.0 if settings.precision == "half" else 4.0
    weights = memory.trained_parameters * stored if subject.lora else subject.shape.parameters * stored
    states = 0.0 if subject.get("save_only_model", False) else 8.0 * memory.trained_parameters
    if settings.engine == "deepspeed" and states:
        states += 4.0 * memory.trained_parameters  # master weights
    each = weights + states
    steps, strategy = subject.steps, str(subject.get("save_strategy", "steps"))
    saves = 1
    if strategy == "no":
        saves = 0
    elif strategy == "steps" and steps is not None:
        every = float(subject.get("save_steps", 500))
        saves = int(1 / every) if 0 < every < 1 else max(1, int(steps // max(every, 1)))
    elif strategy == "epoch":
        saves = max(1, int(float(subject.get("num_train_epochs", 3))))
    limit = subject.get("save_total_limit")
    kept = saves if limit is None else min(saves, int(limit) + 1)
    copied = (
        subject.shape.parameters * stored
        if subject.get("adapter_name_or_path") or subject.get("resize_vocab", False)
        else 0
    )
    return kept * each + weights + copied, each, kept
