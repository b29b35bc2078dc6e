"""What this machine has for a run: GPUs and their memory, main memory, room on disk, packages. Without torch."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.free_memory import free_memory, left_in_container
from pipeline.machine_devices import nvidia_smi, torch_build, visible_places

if TYPE_CHECKING:
    from pipeline.training.accelerate_files import AccelerateFile
    from pipeline.training.recipe import Recipe

_QUERY = "index,uuid,name,memory.total,memory.free,compute_cap"
# Libraries whose versions decide what a recipe does
STATED = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "tokenizers", "deepspeed", "bitsandbytes")
_TRACKERS = {
    "wandb": "wandb", "trackio": "trackio", "tensorboard": "tensorboard", "comet_ml": "comet-ml", "mlflow": "mlflow",
    "swanlab": "swanlab", "clearml": "clearml", "neptune": "neptune", "dvclive": "dvclive", "codecarbon": "codecarbon",
}  # fmt: skip
# Values of `optim` by what their names hold; transformers, trainer_optimizer.py
_OPTIMIZERS = (
    ("galore", "galore-torch"), ("lomo", "lomo-optim"), ("grokadamw", "grokadamw"), ("schedule_free", "schedulefree"),
    ("apollo", "apollo-torch"), ("stable_adamw", "torch-optimi"), ("adamw_torch_4bit", "torchao"),
    ("adamw_torch_8bit", "torchao"), ("8bit", "bitsandbytes"), ("paged_", "bitsandbytes"), ("bnb", "bitsandbytes"),
    ("lion", "bitsandbytes"), ("ademamix", "bitsandbytes"),
)  # fmt: skip


@dataclass(frozen=True)
class Gpu:
    """total, free: bytes. capability: of CUDA, (major, minor); None where the driver doesn't say."""

    name: str
    total: int
    free: int
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Package:
    """name: as pip installs it. reason: field of the recipe, or accelerate, that asks for it, with its value."""

    name: str
    module: str
    reason: str


def nvidia_gpus(allowed: str | None = None) -> tuple[Gpu, ...]:
    """Those that the driver names and CUDA_VISIBLE_DEVICES allows. allowed: in its place."""
    told = nvidia_smi(f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
    if told is None:
        return ()
    given = os.environ.get("CUDA_VISIBLE_DEVICES") if allowed is None else allowed
    return _visible(parse_gpus(told), given)


def parse_gpus(text: str) -> list[tuple[str, Gpu]]:
    """(uuid, GPU) of each line of nvidia-smi's CSV. Numbers are MiB; what the driver can't tell is `[N/A]`."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 6:
            continue
        total, free = (int(p) * 2**20 if p.isascii() and p.isdigit() else 0 for p in parts[3:5])
        level = re.fullmatch(r"(\d+)\.(\d+)", parts[5])
        capability = (int(level[1]), int(level[2])) if level else None
        found.append((parts[1], Gpu(parts[2], total, free or total, capability)))
    return found


def _visible(gpus: Sequence[tuple[str, Gpu]], allowed: str | None) -> tuple[Gpu, ...]:
    places = visible_places(len(gpus), allowed, [uuid for uuid, _ in gpus])
    return tuple(gpus[place][1] for place in places if place is not None)


def free_ram() -> int | None:
    """Bytes of main memory that can be had now, a container's limit counted."""
    known = [bytes_ for bytes_ in (free_memory("cpu"), left_in_container()) if bytes_ is not None]
    return min(known) if known else None


def existing_parent(path: Path) -> Path:
    """The nearest folder on the way to `path` that is there."""
    place = path.expanduser().absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def free_disk(path: Path) -> int | None:
    """Bytes that an ordinary user may still write where `path` is or will be; None where that can't be told."""
    try:
        return shutil.disk_usage(existing_parent(path)).free
    except OSError:
        return None


def versions(names: Sequence[str] = STATED) -> dict[str, str]:
    """Of those that are installed. Nothing is imported."""
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent that is missing, or one that is half loaded
        return False


def packages_needed(recipe: Recipe, spread: AccelerateFile | None) -> list[Package]:
    """What the recipe and its launch ask for beyond torch and transformers."""
    needed = [
        Package("trl", "trl", f"method: {recipe.method}"),
        Package("accelerate", "accelerate", "accelerate launch"),
    ]

    def also(name: str, reason: str, module: str = "") -> None:
        needed.append(Package(name, module or name.replace("-", "_"), reason))

    if recipe.get("use_peft", False) or recipe.get("adapter_name_or_path"):
        also("peft", "use_peft" if recipe.get("use_peft", False) else "adapter_name_or_path")
    for name in ("load_in_4bit", "load_in_8bit"):
        if recipe.get(name, False):
            also("bitsandbytes", name)
    if (spread is not None and spread.engine == "deepspeed") or recipe.get("deepspeed"):
        also("deepspeed", "distributed_type: DEEPSPEED")
    optimizer = str(recipe.get("optim", ""))
    own = next((package for part, package in _OPTIMIZERS if part in optimizer), None)
    if own:
        modules = {"galore-torch": "galore_torch", "lomo-optim": "lomo_optim", "apollo-torch": "apollo_torch",
                   "torch-optimi": "optimi"}  # fmt: skip
        also(own, f"optim: {optimizer}", modules.get(own, ""))
    for name in trackers(recipe):
        also(_TRACKERS[name], f"report_to: {name}", name)
    attention = str(recipe.get("attn_implementation", ""))
    if attention.startswith("flash_attention_"):
        number = attention.removeprefix("flash_attention_")[:1]
        also(
            "flash-attn", f"attn_implementation: {attention}", "flash_attn" if number == "2" else "flash_attn_interface"
        )
    if recipe.get("use_liger_kernel", False):
        also("liger-kernel", "use_liger_kernel", "liger_kernel")
    if recipe.get("use_vllm", False) and recipe.get("vllm_mode", "colocate") == "colocate":
        also("vllm", "use_vllm")
    return needed


def trackers(recipe: Recipe) -> list[str]:
    """Names of report_to that the project knows a package for."""
    given = recipe.get("report_to", "none")
    names = [given] if isinstance(given, str) else list(given)
    return [name for name in names if name in _TRACKERS]


def packages_missing(recipe: Recipe, spread: AccelerateFile | None) -> list[Package]:
    return [package for package in packages_needed(recipe, spread) if not is_installed(package.module)]


def older(version: str, than: str) -> bool:
    """By the numbers; what comes behind them (rc1, +cu128) is left out."""

    def numbers(text: str) -> tuple[int, ...]:
        found = re.match(r"\d+(?:\.\d+)*", text)
        return tuple(int(part) for part in found[0].split(".")) if found else ()

    return numbers(version) < numbers(than)


def as_json(gpus: Sequence[Gpu], found: Mapping[str, str]) -> dict[str, object]:
    """What a report keeps of the machine."""
    return {
        "gpus": [{"name": g.name, "total": g.total, "free": g.free, "capability": g.capability} for g in gpus],
        "versions": dict(found), "torch_build": torch_build(), "free_ram": free_ram(),
    }  # fmt: skip
