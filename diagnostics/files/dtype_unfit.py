"""CKP010: a number format that the config does not declare, or that this kind of model does not bear."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.names_unknown import dtype_field, unknown_dtype
from diagnostics.files.size_in_words import clipped
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint
from pipeline.weight_file import FLOAT_DTYPES

_DECLARED = {"float32": "F32", "float": "F32", "float16": "F16", "half": "F16", "bfloat16": "BF16", "float64": "F64"}
# Activations beyond 65,504, where float16 ends: https://github.com/huggingface/transformers/issues/39972
_OVERFLOWS = ("gemma3", "gemma3_text")
# T5, its v1.1 and mT5 did so too (https://github.com/huggingface/transformers/issues/9295), until their outputs were
# clamped and `wo` kept in float32. Others are used in float16 by many, yet reported to overflow:
# https://github.com/LianjiaTech/BELLE/issues/412
_MAY_OVERFLOW = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "bloom", "gemma", "gemma2")


def dtype_unfit(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """A number format that the config does not declare, or that this kind of model does not bear.

    What it checks:
        The format most weights are stored in, the one config.json declares, and the kind of model.
    Why it matters:
        float16 ends at 65,504. Models trained in bfloat16 go beyond it inside, and the answers turn into NaN, `!!!!`
        or nothing, often only for long inputs.
    How it is measured:
        By the headers: elements per format. Values are not read here; see WGT002 and FWD008 for what they do.
    Known false alarms:
        A format other than the declared one is usual (saved in float32, meant for bfloat16) and only mentioned.
        T5 runs in float16 with current transformers unless its numbers are unusually large: only mentioned, and
        measured by FWD008.
    Fix:
        Load with dtype=torch.bfloat16 (or float32) and write that into config.json.
    References:
        https://github.com/huggingface/transformers/issues/9295
        https://github.com/huggingface/transformers/issues/39972
        https://github.com/LianjiaTech/BELLE/issues/412
    """
    checkpoint = subject.checkpoint
    if not checkpoint.tensors:
        raise NotMeasured("no_weights")
    stored = main_dtype(checkpoint)
    counts = checkpoint.elements_by_dtype
    config = checkpoint.config
    field = dtype_field(config)
    declared = config.get(field)
    if (unknown := unknown_dtype(config)) is not None:  # CKP004's
        raise NotMeasured("unknown_dtype", detail=clipped(unknown, 60))
    meant = _DECLARED.get(declared) if isinstance(declared, str) else None
    evidence = ((checkpoint.weight_names[0], counts), (config.where(field), declared))
    kind = config.get("model_type")
    params = {"stored": stored, "declared": declared, "type": kind if isinstance(kind, str) else "-"}
    method = config.get("quantization_config")
    if isinstance(method, dict):
        yield info("quantised", *evidence, method=str(method.get("quant_method", "?"))[:40], **params)
    elif stored.startswith("F8") or stored not in FLOAT_DTYPES:
        yield warning("numbers_without_scales", *evidence, **params)
    elif "F16" in (stored, meant) and kind in _OVERFLOWS:
        yield warning("float16_overflows", *evidence, **params)
    elif "F16" in (stored, meant) and kind in _MAY_OVERFLOW:
        yield info("float16_may_overflow", *evidence, **params)
    elif meant is None:
        yield ok("nothing_declared", **params)
    elif checkpoint.kind == "adapter" or meant == stored:
        yield ok(**params)
    else:
        yield info("declared_other", *evidence, **params)


def main_dtype(checkpoint: Checkpoint) -> str:
    """The format that holds most elements (`F32`, `BF16`, ...); of float formats where there are any."""
    counts = checkpoint.elements_by_dtype
    floats = {d: n for d, n in counts.items() if d in FLOAT_DTYPES}
    whole = sum(counts.values())
    # A few scales in float beside a body of packed integers don't make it a float checkpoint.
    chosen = floats if sum(floats.values()) * 2 >= whole else counts
    return max(chosen, key=lambda d: chosen[d], default="F32")
