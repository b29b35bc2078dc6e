"""WGT007: how far each layer has moved from the base."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.weight_names import is_embedding_or_head


def far_from_base(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """How far each layer has moved from the base.

    What it checks:
        The relative distance |ours - base| / |base| and the cosine of the weight matrices, layer by layer.
    Why it matters:
        Fine-tuning moves weights by a fraction of a percent up to some percent. Matrices without any resemblance
        (distance about 1.41, cosine about 0) come from another model: the base is not the one named, or the layers were
        created anew instead of loaded. Matrices many times the size of the base's were blown up by a learning rate far
        too high. No movement at all means that training did next to nothing.
    How it is measured:
        On evenly spaced pieces of each matrix, up to a million elements; norms and biases are left out. The curve
        `distance_to_base` holds all layers.
    Known false alarms:
        A base with permuted or fused projections compares as unrelated although it computes the same. Long further
        pre-training can move far; the cosine then still is well above zero.
    Fix:
        Give the base that adapter_config.json, the training configuration or the model card names. If the base is
        right, look for layers that were not loaded when training began.
    References:
        https://huggingface.co/docs/transformers/main_classes/model#transformers.PreTrainedModel.from_pretrained
    """
    distance = subject.distance_to_base
    layers = distance.layers
    subject.curves["distance_to_base"] = [
        {"layer": d.layer, "relative": round(d.relative, 8), "cosine": None if d.cosine is None else round(d.cosine, 6)}
        for d in layers
    ]
    subject.metrics["weights.distance_to_base"] = distance.typical
    body = [d for d in layers if not is_embedding_or_head(f"{d.layer}.weight") and d.cosine is not None]
    cosines = [d.cosine for d in body if d.cosine is not None]
    typical_cosine = median(cosines) if cosines else 1.0
    low, close = limits["unrelated_cosine"], limits["close_cosine"]
    strange = [d for d in body if d.cosine is not None and d.cosine < low]
    farthest = max(layers, key=lambda d: d.relative, default=None)
    if cosines and typical_cosine < low and distance.typical > limits["blown_up_distance"]:
        yield error(
            "blown_up", *((d.layer, {"relative": d.relative, "cosine": d.cosine}) for d in body[:5]),
            relative=distance.typical, layers=len(body),
        )  # fmt: skip
    elif cosines and typical_cosine < low:
        yield error(
            "unrelated", *((d.layer, {"relative": d.relative, "cosine": d.cosine}) for d in body[:5]),
            relative=distance.typical, cosine=typical_cosine, layers=len(body),
        )  # fmt: skip
    elif strange and typical_cosine > close:
        yield error(
            "layers_replaced", *((d.layer, {"relative": d.relative, "cosine": d.cosine}) for d in strange[:8]),
            strange=len(strange), layers=len(body), names=[d.layer for d in strange[:8]], cosine=typical_cosine,
        )  # fmt: skip
    elif distance.typical < limits["hardly_moved"] and (farthest is None or farthest.relative < limits["hardly_moved"]):
        yield info("hardly_moved", relative=distance.typical, limit=limits["hardly_moved"])
    else:
        yield ok(relative=100 * distance.typical, farthest=farthest.layer if farthest else "",
                 most=100 * farthest.relative if farthest else 0.0)  # fmt: skip
