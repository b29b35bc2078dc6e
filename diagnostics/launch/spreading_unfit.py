"""RUN019: processes, GPUs and DeepSpeed settings that don't fit the recipe or this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.machine_devices import torch_build
from pipeline.refusal import Refused


def spreading_unfit(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The accelerate file against the recipe and the machine: whole weights on saving, schedulers and batch sizes in a
        DeepSpeed file, processes and GPUs, device_map, a torch without CUDA on a machine with a GPU.
    Why it matters:
        ZeRO-3 without gathering saves tensors of size 0. A scheduler in the DeepSpeed file replaces that of the recipe:
        WarmupLR's own highest rate is 1e-3, two thousand times what DPO stands.
    How it is measured:
        The accelerate file and the DeepSpeed JSON it names; GPUs by nvidia-smi; torch's build by its files.
    Known false alarms:
        None known.
    Fix:
        As the sentence says.
    References:
        https://github.com/huggingface/transformers/issues/21482
        https://github.com/huggingface/accelerate/issues/2124
        https://huggingface.co/docs/transformers/deepspeed
    """
    spread = subject.spread
    if spread is None:
        raise NotMeasured("no_accelerate_file")
    found = False
    if not spread.saves_whole_weights:
        found = True
        name = "zero3_save_16bit_model" if spread.engine == "deepspeed" else "fsdp_state_dict_type"
        yield error("weights_not_gathered", (spread.name, name), engine=spread.engine, name=name)
    try:
        whole: Mapping[str, Any] = spread.deepspeed_json() or {}
    except Refused:
        whole = {}
    for name in ("scheduler", "optimizer"):
        block = whole.get(name)
        if isinstance(block, Mapping) and not _all_auto(block.get("params")):
            found = True
            kind = str(block.get("type", "?"))
            evidence = (f"DeepSpeed: {name}", dict(block))
            if name == "scheduler":
                yield warning("own_scheduler", evidence, kind=kind)
            else:
                yield warning("own_optimizer", evidence, kind=kind)
    found_size = [n for n in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
                  if whole.get(n) not in (None, "auto") and not _agrees(subject, n, whole[n])]  # fmt: skip
    if found_size:
        found = True
        yield error(
            "batches_disagree", *((f"DeepSpeed: {n}", whole[n]) for n in found_size), names=", ".join(found_size)
        )
    init = subject.get("model_init_kwargs")
    if (
        isinstance(init, Mapping)
        and init.get("device_map") is not None
        and (spread.processes > 1 or spread.engine != "ddp")
    ):
        found = True
        yield error("device_map_with_processes", ("model_init_kwargs", dict(init)), processes=spread.processes)
    if spread.use_cpu and subject.gpus and torch_build() == "cpu" and not subject.asked.fields.get("use_cpu"):
        found = True
        yield warning("torch_without_cuda", ("GPU", subject.gpus[0].name), name=subject.gpus[0].name)
    elif not spread.use_cpu and torch_build() == "cpu":
        found = True
        yield error("gpu_needed", (spread.name, spread.distributed_type), file=spread.name)
    if not spread.use_cpu and subject.gpus and len(subject.gpus) > spread.processes_here and spread.machines == 1:
        found = True
        yield info("gpus_idle", ("GPUs", len(subject.gpus)), gpus=len(subject.gpus), processes=spread.processes_here)
    if not found:
        yield ok(file=spread.name, processes=spread.processes)


def _all_auto(params: Any) -> bool:
    return isinstance(params, Mapping) and bool(params) and all(value == "auto" for value in params.values())


def _agrees(subject: RecipeSubject, name: str, value: Any) -> bool:
    size, steps = int(subject.get("per_device_train_batch_size", 8)), int(subject.get("gradient_accumulation_steps", 1))
    return bool(
        value
        == {"train_batch_size": size * steps * subject.processes, "gradient_accumulation_steps": steps}.get(name, size)
    )
