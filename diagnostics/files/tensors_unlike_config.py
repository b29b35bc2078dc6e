"""CKP006: tensors that are not those config.json makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.index_disagrees_with_shards import content_unknown, lost_tensors
from diagnostics.files.size_in_words import clipped, named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.architecture import Architecture, Shape, family_of_names
from pipeline.checkpoint import Checkpoint
from pipeline.weight_names import embedding_tensor

_LAYER = re.compile(r"\.(?:layers|h|blocks?|layer)\.(\d+)\.")
# Layers that predict further tokens are stored behind the model's own.
_EXTRA_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
# Numbers that quantised or calibrated checkpoints store beside a weight.
_CALIBRATION = re.compile(r"(_scale(_inv)?|scales?|zeros?|zero_point|g_idx|qweight|absmax|quant_\w+|SCB|inv_freq)$")


def tensors_unlike_config(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Tensors that are not those config.json makes.

    What it checks:
        Name and shape of every tensor against those of the model that config.json describes, before anything is
        loaded.
    Why it matters:
        from_pretrained only warns about tensors that are absent or have no place: it fills the gaps with random
        numbers and leaves the rest out. The model then runs and answers nonsense.
    How it is measured:
        For the model types in configs/architectures.yaml names and shapes are computed from config.json; prefixes are
        added and taken away as from_pretrained does. For other types only the embedding and the number of layers are
        compared.
    Known false alarms:
        Tied output heads, rotary tables, attention masks and calibration numbers may be there or not. Quantised
        weights have other shapes and are not judged.
    Fix:
        Put the config.json that was saved with these weights beside them, or save model and configuration together
        with save_pretrained.
    References:
        https://github.com/huggingface/transformers/pull/35913
        https://github.com/sgl-project/sglang/pull/32279
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind == "adapter":
        raise NotMeasured("is_an_adapter")
    if not checkpoint.tensors:
        raise NotMeasured("no_weights")
    if method := quantised(checkpoint):
        raise NotMeasured("quantised_shapes", method=method)
    if unknown := content_unknown(checkpoint):
        raise NotMeasured("weights_unreadable", detail=unknown)
    if any(t.numel == 0 for t in checkpoint.tensors.values()):
        raise NotMeasured("empty_tensors")
    if subject.wrapping is not None:
        raise NotMeasured("names_wrapped")
    try:
        architecture = subject.architecture
    except NotMeasured as unknown_type:
        if unknown_type.reason_id == "no_config":
            raise
        seen = list(_coarse(checkpoint))
        if not seen:
            raise
        yield from seen
        return
    yield from _compare(subject, architecture, limits)


def quantised(checkpoint: Checkpoint) -> str:
    """How the weights are quantised, as config.json says or the tensors show; empty when they are not."""
    for key in ("quantization_config", "quantization"):  # the second is MLX's
        declared = checkpoint.config.get(key)
        if isinstance(declared, dict):
            return str(declared.get("quant_method", key))[:40]
    shown = (".qweight", ".weight.absmax", ".SCB", ".weight_packed", "_blocks", ".scales")
    first = next((n for n in checkpoint.tensors if n.endswith(shown)), "")
    return next((f"*{suffix}" for suffix in shown if first.endswith(suffix)), "")


def _compare(subject: CheckpointSubject, architecture: Architecture, limits: Thresholds) -> Iterator[Observation]:
    checkpoint, landing = subject.checkpoint, subject.landing
    lost = {architecture.land(name) for name in lost_tensors(checkpoint)}
    ends = {architecture.head, architecture.embedding} if architecture.head else set()  # these are CKP009's
    missing = [n for n in landing.missing if n not in lost and n not in ends]
    share = len(landing.landed) / max(1, len(architecture.tensors))
    where = checkpoint.config.where("model_type")
    family = architecture.family
    if share < limits["tensors_landed_min"]:
        shown = family_of_names(checkpoint.tensors)
        outcome = "other_architecture" if shown and shown != family else "few_tensors_land"
        yield error(
            outcome, (where, family), (checkpoint.weight_names[0], list(checkpoint.tensors)[:10]), family=family,
            other=shown or "?", landed=len(landing.landed), expected=len(architecture.tensors),
            example=clipped(next(iter(checkpoint.tensors))), wanted=next(iter(architecture.tensors)),
        )  # fmt: skip
        return
    sound = True
    for observation in (*_missing(architecture, missing), *_mismatched(checkpoint, architecture, landing.mismatched),
                        *_left_out(subject, architecture, landing.unexpected)):  # fmt: skip
        sound = sound and observation.severity == "info"
        yield observation
    if sound:
        yield ok(landed=len(landing.landed), expected=len(architecture.tensors), family=family)


def _missing(architecture: Architecture, missing: list[str]) -> Iterator[Observation]:
    if not missing:
        return
    layers: dict[str, int] = {}
    expected: dict[str, int] = {}
    for name in architecture.tensors:
        if place := _LAYER.search(name):
            key = name[: place.end()]
            expected[key] = expected.get(key, 0) + 1
            layers[key] = layers.get(key, 0)
    for name in missing:
        if place := _LAYER.search(name):
            layers[name[: place.end()]] += 1
    gone = [key for key, count in layers.items() if count and count == expected[key]]
    if gone:
        # Whole layers behind the last one stored, with nothing else amiss: a file that is complete in itself under
        # the config.json of a deeper model.
        deeper = len(missing) == sum(expected[g] for g in gone) and _only_the_last(gone, list(layers))
        yield error("config_has_more_layers" if deeper else "layers_missing",
                    ("config.json:layers", architecture.layers), layers=named([g[:-1] for g in gone]),
                    found=len(gone), of=len(expected), tensors=sum(expected[g] for g in gone))  # fmt: skip
    rest = [n for n in missing if not n.startswith(tuple(gone))]
    if rest:
        yield error("tensors_missing", ("weights", rest[:20]), found=len(rest), of=len(architecture.tensors),
                    tensors=named(rest))  # fmt: skip


def _only_the_last(gone: list[str], stacks: list[str]) -> bool:
    """Whether the layers `gone` are the last ones of each stack that lacks any, and none lacks all of its layers."""
    def numbers(keys: list[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key in keys:
            stack, number = key[:-1].rsplit(".", 1)
            found.setdefault(stack, []).append(int(number))
        return found

    there = numbers(stacks)
    return all(
        len(lost) < len(there[stack]) and sorted(lost) == sorted(there[stack])[-len(lost) :]
        for stack, lost in numbers(gone).items()
    )


def _mismatched(
    checkpoint: Checkpoint, architecture: Architecture, mismatched: tuple[tuple[str, Shape, Shape], ...]
) -> Iterator[Observation]:
    if not mismatched:
        return
    evidence = [(name, {"file": list(found), "config.json": list(wanted)}) for name, found, wanted in mismatched[:20]]
    tokens = {architecture.embedding, architecture.head, "lm_head.bias", *architecture.same}
    rows = [m for m in mismatched if architecture.land(m[0]) in tokens and m[1][1:] == m[2][1:]]
    if len(rows) == len(mismatched):
        name, found, wanted = rows[0]
        yield error("vocabulary_rows", *evidence, tensor=name, rows=found[0], vocab_size=wanted[0])
        return
    name, found, wanted = next(m for m in mismatched if m not in rows)
    yield error("shapes_differ", *evidence, found=len(mismatched), of=len(checkpoint.tensors), tensor=name,
                shape=_times(found), wanted=_times(wanted))  # fmt: skip


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "1"


def _left_out(subject: CheckpointSubject, architecture: Architecture, names: tuple[str, ...]) -> Iterator[Observation]:
    """Tensors with no place in the model."""
    names = tuple(n for n in names if not _CALIBRATION.search(n))
    if not names:
        return
    config = subject.checkpoint.config
    numbers = {name: int(m.group(1)) for name in names if (m := _LAYER.search(f".{name}")) and len(m.group(1)) < 7}
    beyond = {n for name, n in numbers.items() if n >= architecture.layers}
    if beyond and not any(config.get(key) for key in _EXTRA_LAYERS):
        yield error("layers_left_out", (config.where("layers"), architecture.layers), found=len(beyond),
                    highest=max(beyond), layers=architecture.layers)  # fmt: skip
    inside = [n for n, number in numbers.items() if number < architecture.layers]
    if inside:
        yield warning("parts_left_out", ("weights", inside[:20]), found=len(inside), tensors=named(inside),
                      family=architecture.family)  # fmt: skip
    others = [n for n in names if n not in numbers]
    if others:
        yield info("extra_tensors", ("weights", others[:20]), found=len(others), tensors=named(others))


def _coarse(checkpoint: Checkpoint) -> Iterator[Observation]:
    """What can be said of a model type that the table does not know."""
    config = checkpoint.config
    rows = config.get("vocab_size")
    embedding = embedding_tensor(checkpoint.tensors)
    agreed = []
    if embedding is not None and type(rows) is int and 0 < rows < 2**31:
        if embedding.shape[0] < rows:
            yield warning("fewer_rows", (f"{embedding.file}:{embedding.name}", list(embedding.shape)),
                          (config.where("vocab_size"), rows), tensor=embedding.name, rows=embedding.shape[0],
                          vocab_size=rows)  # fmt: skip
        else:
            agreed.append(f"vocab_size {rows}")
    layers = config.get("num_hidden_layers")
    lost = lost_tensors(checkpoint)
    numbers = {int(m.group(1)) for name in {*checkpoint.tensors, *lost} if (m := _LAYER.search(f".{name}"))}
    if type(layers) is int and numbers and config.get("is_encoder_decoder") is not True:
        if len(numbers) < layers:
            yield error("fewer_layers", (config.where("num_hidden_layers"), layers), found=len(numbers), layers=layers)
        else:
            agreed.append(f"num_hidden_layers {layers}")
    if agreed:
        yield ok("coarse", type=_type(config.value or {}), agreed=", ".join(agreed))


def _type(config: Mapping[str, object]) -> str:
    return str(config.get("model_type"))[:60]
