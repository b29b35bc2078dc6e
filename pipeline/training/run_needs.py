"""What a settled recipe takes on this machine: memory against what is free, and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.refusal import Refused

if TYPE_CHECKING:
    from pipeline.training.accelerate_files import AccelerateFile
    from pipeline.training.memory_needed import MemoryNeeded
    from pipeline.training.recipe import Recipe
    from pipeline.training.time_needed import TimeNeeded


_LENGTHS = "rows.tokens."


@dataclass(frozen=True)
class Estimate:
    """there: bytes free on each device, or of main memory on a CPU; None where that isn't known. on_cpu: there is main
    memory alone."""

    needed: MemoryNeeded
    time: TimeNeeded
    there: int | None
    on_cpu: bool

    def as_text(self, lang: str) -> str:
        """A line for each part of the memory, and one for the time."""
        return "\n".join([*self.needed.lines(lang), self.time.said(lang)]) + "\n"


def estimate(
    recipe: Recipe, spread: AccelerateFile, rows: int, report: Mapping[str, Any] | None = None
) -> Estimate | None:  # fmt: skip
    """None where the model's files don't say enough. rows: of the training data. report: of the checks, as JSON, which
    have measured how long the rows are; without it each is taken to be as long as the recipe allows."""
    from pipeline.training import environment
    from pipeline.training.memory_needed import memory_needed, settings_of
    from pipeline.training.model_shape import shape_of_model
    from pipeline.training.time_needed import time_needed

    try:
        shape = shape_of_model(str(recipe.get("model_name_or_path")))
        launch: dict[str, Any] = dict(spread.memory_settings())
        measured = ((report or {}).get("metrics") or {}).items()
        lengths = {name.removeprefix(_LENGTHS): float(value) for name, value in measured if name.startswith(_LENGTHS)}
        if lengths:
            launch["lengths"] = lengths
        settings = settings_of(recipe, **launch)
        gpus = () if spread.use_cpu else environment.nvidia_gpus()
        named = gpus[0].name if gpus else ""
        there = min((gpu.free for gpu in gpus), default=None) if gpus else environment.free_ram()
        time = time_needed(
            shape, settings, rows=rows, epochs=float(recipe.get("num_train_epochs", 3)),
            max_steps=int(recipe.get("max_steps", -1)), device_name=named,
        )  # fmt: skip
        return Estimate(memory_needed(shape, settings), time, there, spread.use_cpu)
    except (Refused, ValueError, KeyError, TypeError, ZeroDivisionError, OSError):
        return None
