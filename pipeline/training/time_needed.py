"""Time that a training run will take: a range from the arithmetic and the device's speed.

A forward pass costs 2 operations for each parameter and token, a backward pass twice that (Kaplan et al., arXiv
2001.08361, section 2.1); recomputing costs one more forward pass, and frozen weights need no gradient of their own.
Devices and the share of their peak that training reaches: configs/training_memory.yaml.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import ceil
from typing import Any

from pipeline.config_files import load_config
from pipeline.durations import about
from pipeline.refusal import Sentence
from pipeline.training.memory_needed import TrainingSettings
from pipeline.training.model_shape import ModelShape


@dataclass(frozen=True)
class TimeNeeded:
    """steps: optimizer steps. seconds_per_step, seconds: (least, most). basis: table | cpu | assumed; what the speed
    rests on. device: name in the table, else empty. tokens_per_step, operations_per_step: of all processes."""

    steps: int
    seconds_per_step: tuple[float, float]
    basis: str
    device: str = ""
    tokens_per_step: float = 0.0
    operations_per_step: float = 0.0

    @property
    def seconds(self) -> tuple[float, float]:
        least, most = self.seconds_per_step
        return least * self.steps, most * self.steps

    def said(self, lang: str) -> str:
        """One or two sentences: how long, and how sure that is."""
        least, most = self.seconds
        params = {"steps": f"{self.steps:,}", "least": about(least, lang), "most": about(most, lang),
                  "device": self.device}  # fmt: skip
        return Sentence(f"time/{self.basis}", params, "training").said(lang)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": list(self.seconds)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TimeNeeded:
        """Raises TypeError or KeyError for what as_json didn't make."""
        given = {k: v for k, v in value.items() if k != "seconds"}
        least, most = given["seconds_per_step"]
        return cls(**{**given, "seconds_per_step": (least, most)})


def steps_of(settings: TrainingSettings, rows: int, epochs: float = 1.0, max_steps: int = -1) -> int:
    """Optimizer steps as transformers' Trainer counts them: batches of an epoch divided by the accumulation, rounded
    up; for GRPO and RLOO rows are prompts, each answered num_generations times."""
    if max_steps >= 0:
        return max(max_steps, 1)  # 0 ends it after the first step
    samples = rows * settings.num_generations if settings.method in ("grpo", "rloo") else rows
    batches = ceil(samples / max(settings.per_device_train_batch_size * settings.processes, 1))
    each_epoch = max(ceil(batches / max(settings.gradient_accumulation_steps, 1)), 1)
    return ceil(epochs * each_epoch)


@dataclass(frozen=True)
class Speed:
    """What a device gives. operations: a second, (least, most) that training reaches. start: seconds to start one
    layer's kernels, (least, most). bandwidth: bytes a second, (least, most)."""

    basis: str
    device: str
    operations: tuple[float, float]
    start: tuple[float, float]
    bandwidth: tuple[float, float]
    factors: tuple[float, float] = (1.0, 1.0)
    notes: tuple[str, ...] = field(default_factory=tuple)


def speed_of(settings: TrainingSettings, device_name: str = "") -> Speed:
    """By the name that the driver gives the device; on a CPU by a product of matrices, measured once in 30 ms."""
    constants = load_config("training_memory.yaml")
    table = constants["time"]
    slow, fast = 1.0, 1.0
    if settings.device == "cpu":
        operations = _matrix_product()
        low, high = table["cpu_utilisation"]
        if settings.mixed != "no" or settings.dtype != "float32":
            slow, fast = table["cpu_half"]
        shared = max(settings.on_host, 1)  # processes share the cores
        start = (table["cpu_layer_start"][1], table["cpu_layer_start"][0])
        return Speed("cpu", "", (operations * low / shared, operations * high / shared), start,
                     tuple(table["cpu_bandwidth"]), (fast, slow))  # fmt: skip
    entry = next((d for d in constants["devices"] if d["name"].lower() in device_name.lower()), None)
    named = entry or next(d for d in constants["devices"] if d["name"] == "A100")
    peak = named["tflops"] * 1e12
    if settings.precision == "single":
        peak /= 8  # without tensor cores
    low, high = table["utilisation"]
    if entry is None:  # unlike the assumed one by as much as devices in use differ
        low, high = low / 3, high * 3
    if settings.finetuning in ("qlora", "lora_8bit"):
        slow, fast = table["quantised"]
    if settings.zero_stage >= 3:
        slow, fast = slow * table["zero3"][0], fast * table["zero3"][1]
    if settings.offload_optimizer or settings.offload_param:
        slow, fast = slow * table["zero_offload"][0], fast * table["zero_offload"][1]
    start = (table["layer_start"][1], table["layer_start"][0])
    read = named["bandwidth"] * 1e9
    return Speed("table" if entry else "assumed", named["name"], (peak * low, peak * high), start,
                 (read * table["generation"][0], read * table["generation"][1]), (fast, slow))  # fmt: skip


@cache
def _matrix_product() -> float:
    """Operations a second that float32 products reach here on all cores."""
    import numpy

    side = 384
    left = numpy.full((side, side), 0.5, dtype=numpy.float32)
    left @ left  # starts the library's threads
    ended = time.perf_counter() + 0.03
    best = 0.0
    while True:
        started = time.perf_counter()
        left @ left
        now = time.perf_counter()
        best = max(best, 2.0 * side**3 / max(now - started, 1e-9))
        if now > ended:
            return best


def operations_per_token(shape: ModelShape, settings: TrainingSettings, length: int) -> tuple[float, float]:
    """(of training on one token, of one forward pass on one), attention to `length` tokens included."""
    scores = sum(4.0 * layer.count * layer.query * length / 2 for layer in shape.layers)  # causal: half of them
    forward = 2.0 * shape.in_products + scores
    back = 1.0 if settings.finetuning != "full" else 2.0  # no gradients of frozen weights
    return forward * (1 + back + (1 if settings.gradient_checkpointing else 0)), forward


def time_needed(
    shape: ModelShape, settings: TrainingSettings, *, rows: int, epochs: float = 1.0, max_steps: int = -1,
    device_name: str = "", speed: Speed | None = None,
) -> TimeNeeded:  # fmt: skip
    """A range before the start. rows: of the training data; device_name: as the driver has it; speed: measured
    elsewhere."""
    speed = speed or speed_of(settings, device_name)
    longest = min(settings.lengths.get("max", settings.max_length or 1024), settings.max_length or float("inf"))
    typical = min(settings.lengths.get("mean", settings.lengths.get("p50", longest)), longest)
    generates = settings.method in ("grpo", "rloo")
    answer = settings.completion_length or 256
    if generates:
        typical = longest = typical + answer
    # A padded batch is as long as its longest row: between the typical row and the longest.
    padded = settings.sequences > 1 and not (settings.padding_free or settings.packing)
    widths = (typical, longest if padded else typical)
    if settings.packing:
        widths = (longest, longest)
    accumulation = max(settings.gradient_accumulation_steps, 1)
    micro = [settings.sequences * width for width in widths]  # tokens of one pass, least and most
    seconds = []
    operations = 0.0
    for fast, tokens in ((True, micro[0]), (False, micro[1])):
        train, forward = operations_per_token(shape, settings, int(tokens / max(settings.sequences, 1)))
        passes = 1.0
        cost = train
        methods = load_config("training_memory.yaml")["methods"]
        refers = settings.method in methods["reference"] and settings.beta != 0
        if refers and not settings.precompute_ref_log_probs:
            cost, passes = cost + forward, passes + 1 / 3
        if settings.method == "kto":  # its estimate of the divergence needs answers of other prompts too
            cost, passes = cost + forward, passes + 1 / 3
        if generates:  # log-probabilities of what was written, before the first update
            cost, passes = cost + forward, passes + 1 / 3
        operations = cost * tokens * accumulation * settings.processes
        rate = speed.operations[1] if fast else speed.operations[0]
        factor = speed.factors[0] if fast else speed.factors[1]
        start = (speed.start[0] if fast else speed.start[1]) * shape.depth * passes
        # Starting kernels overlaps with them where there is much to do.
        compute = cost * tokens / rate
        one = max(compute, start) if fast else compute + start
        whole = one * accumulation * factor
        if generates:
            read = speed.bandwidth[1] if fast else speed.bandwidth[0]
            each_token = max(2.0 * shape.active / read, start / 3)
            whole += answer * each_token * (0.5 if fast else 1.0)  # answers may end early
        seconds.append(whole)
    steps = steps_of(settings, rows, epochs, max_steps)
    return TimeNeeded(
        steps, (min(seconds), max(seconds)), speed.basis, speed.device,
        micro[0] * accumulation * settings.processes, operations,
    )  # fmt: skip
