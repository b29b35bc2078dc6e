"""RUN013: a number format that this model or this device can't train in."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds

_OVERFLOWS = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
_BF16 = (8, 0)  # lowest CUDA capability with bfloat16 arithmetic: Ampere


def precision_unfit(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        fp16, bf16 and dtype against the model, the device and each other.
    Why it matters:
        T5 was trained in bfloat16 and overflows in float16: the loss becomes NaN or 0. transformers refuses bf16 on
        GPUs before Ampere after the model is loaded. Weights that are themselves kept in float16 lose small updates.
    How it is measured:
        model_type of config.json, the GPUs' capability by nvidia-smi, and the fields of the recipe.
    Known false alarms:
        T5 variants whose weights were rescaled for float16.
    Fix:
        bf16: true on Ampere and later, else float32 (bf16: false, fp16: false); fp16 only for models trained in it.
    References:
        https://github.com/huggingface/transformers/issues/11735
        https://pytorch.org/docs/stable/notes/amp_examples.html
    """
    fp16, bf16 = bool(subject.get("fp16", False)), _bf16(subject)
    dtype, found = str(subject.get("dtype", "float32")), False
    try:
        kind = str(subject.checkpoint.config.get("model_type") or "")
    except NotMeasured:
        kind = ""
    if fp16 and bf16:
        found = True
        yield error("both", ("fp16", True), ("bf16", True))
    if kind in _OVERFLOWS and (fp16 or dtype == "float16"):
        found = True
        yield error(
            "t5_in_fp16", ("fp16" if fp16 else "dtype", True if fp16 else dtype), ("model_type", kind), kind=kind
        )
    elif dtype == "float16" and not subject.lora:
        found = True
        yield warning("trained_in_float16", ("dtype", dtype))
    if fp16 and subject.on_cpu:
        found = True
        yield warning("fp16_on_cpu", ("fp16", True))
    if bf16 and not subject.on_cpu:
        old = [gpu for gpu in subject.gpus if gpu.capability is not None and gpu.capability < _BF16]
        if old:
            found = True
            yield error("bf16_unsupported", ("GPU", old[0].name), name=old[0].name)
    spread = subject.spread.mixed_precision if subject.spread is not None else "no"
    own = "fp16" if fp16 else "bf16" if bf16 else "no"
    if spread not in ("no", own) and subject.spread is not None:
        found = True
        evidence = (f"{subject.spread.name}: mixed_precision", spread)
        if subject.spread.engine == "deepspeed":
            yield error("deepspeed_disagrees", evidence, spread=spread, own=own)
        else:
            yield warning("files_disagree", evidence, spread=spread, own=own)
    if not found:
        yield ok(own=own, dtype=dtype)


def _bf16(subject: RecipeSubject) -> bool:
    """What the trainer makes of null: on, unless fp16 is."""
    given = subject.get("bf16")
    return not subject.get("fp16", False) if given is None else bool(given)
