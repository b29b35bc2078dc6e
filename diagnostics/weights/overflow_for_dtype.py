"""WGT002: weights that the declared precision can't hold."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.json_file import JsonFile


def declared_dtype(config: JsonFile) -> str | None:
    """`float16`, `bfloat16`, ... as config.json says it, of the language model inside where it is nested."""
    for fields in (config.value or {}, config.get("text_config"), config.get("llm_config")):
        if isinstance(fields, dict):
            named = fields.get("dtype", fields.get("torch_dtype"))
            if isinstance(named, str) and named != "auto":
                return named.removeprefix("torch.")
    return None


def overflow_for_dtype(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Weights that the declared precision can't hold.

    What it checks:
        Where float16 is declared or stored: values above 65,504 in a wider dtype, infinities and values that were
        clipped to the largest float16.
    Why it matters:
        float16 ends at 65,504. A larger weight becomes infinity when the model is loaded and the logits become NaN,
        while the file itself is sound.
    How it is measured:
        The absolute maximum of every tensor, from its bit patterns, against `fp16_max` and `dtype` in config.json.
    Known false alarms:
        None known for weights. Activations may still overflow in float16 (T5 does); the forward pass sees that.
    Fix:
        Load in bfloat16 or float32: set `"dtype": "bfloat16"` in config.json; save again from the wider weights.
    References:
        https://github.com/huggingface/transformers/issues/11735
        https://github.com/OpenBMB/MiniCPM-V/issues/549
    """
    scan = subject.weight_scan
    measured = [t for t in scan.tensors.values() if t.has_values]
    if not measured:
        raise NotMeasured("quantised_weights")
    largest = max(measured, key=lambda t: t.largest)
    declared = declared_dtype(subject.model_files.config)
    subject.metrics["weights.largest"] = largest.largest
    top = limits["fp16_max"]
    stored = [t for t in measured if t.tensor.dtype == "F16"]
    if infinite := [t for t in stored if t.inf and not t.nan]:
        yield error(
            "infinity_stored", (f"{infinite[0].tensor.file}:{infinite[0].tensor.name}", {"inf": infinite[0].inf}),
            bad_tensors=len(infinite), first=infinite[0].tensor.name, limit=top,
        )  # fmt: skip
    over = [t for t in measured if t.tensor.dtype != "F16" and t.largest > top]
    if declared == "float16" and over:
        worst = max(over, key=lambda t: t.largest)
        yield error(
            "too_large_for_float16", (f"{worst.tensor.file}:{worst.tensor.name}", worst.largest),
            (subject.model_files.config.where("dtype"), declared), bad_tensors=len(over), first=worst.tensor.name,
            largest=worst.largest, limit=top, stored=worst.tensor.dtype,
        )  # fmt: skip
    elif not infinite and (clipped := [t for t in stored if t.largest >= top]):
        yield warning(
            "clipped_to_float16", (f"{clipped[0].tensor.file}:{clipped[0].tensor.name}", clipped[0].largest),
            bad_tensors=len(clipped), first=clipped[0].tensor.name, limit=top,
        )  # fmt: skip
    elif not infinite:
        yield ok(largest=largest.largest, tensor=largest.tensor.name, dtype=declared or largest.tensor.dtype)
