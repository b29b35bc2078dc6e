"""CKP007: weights too small, or too large, for the model that config.json describes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.dtype_unfit import main_dtype
from diagnostics.files.index_disagrees_with_shards import content_unknown, lost_tensors
from diagnostics.files.size_in_words import bytes_, named, parameters
from diagnostics.files.tensors_unlike_config import quantised
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint, run_remains
from pipeline.weight_file import DTYPE_BYTES


def size_implausible(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Weights too small, or too large, for the model that config.json describes.

    What it checks:
        Number of parameters and bytes in the files against those that config.json makes; tensors without elements.
    Why it matters:
        DeepSpeed ZeRO-3 that does not gather on saving writes a file of a few hundred kilobytes for a model of many
        gigabytes, after a run that looked perfect. Nothing in it can be loaded.
    How it is measured:
        Elements of all tensors by their headers, tied ones once, over the product of the shapes that config.json makes.
        For model types not in the table the embedding alone (vocab_size x hidden_size) is the least that must be there.
    Known false alarms:
        Quantised weights are smaller on purpose; their size is only stated.
    Fix:
        `python zero_to_fp32.py . out` in the checkpoint's folder gathers the parts where they were kept; for the next
        run set `stage3_gather_16bit_weights_on_model_save: true`.
    References:
        https://github.com/deepspeedai/DeepSpeed/issues/3841
        https://github.com/hiyouga/LlamaFactory/issues/253
        https://github.com/huggingface/transformers/issues/21482
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind == "adapter":
        raise NotMeasured("is_an_adapter")
    if not checkpoint.tensors:
        raise NotMeasured("no_weights")
    names = _counted(subject)
    found = sum(checkpoint.tensors[n].numel for n in names)
    size = sum(file.size for file in checkpoint.weight_files)
    subject.metrics["files.parameters"] = found
    subject.metrics["files.bytes"] = size
    empty = [t.name for t in checkpoint.tensors.values() if t.numel == 0]
    if empty:
        yield error(_zero3(checkpoint, "empty_tensors"), (checkpoint.weight_names[0], empty[:20]), found=len(empty),
                    of=len(checkpoint.tensors), tensors=named(empty, 2), size=bytes_(size))  # fmt: skip
        return
    dtype = main_dtype(checkpoint)
    stated = {"parameters": parameters(found), "dtype": dtype, "size": bytes_(size)}
    evidence = [(", ".join(checkpoint.weight_names[:3]), {"parameters": found, "bytes": size})]
    if content_unknown(checkpoint) or lost_tensors(checkpoint):
        yield info("part_of_it", *evidence, **stated)
        return
    try:
        architecture = subject.architecture
    except NotMeasured as unknown:
        yield from _against_embedding(checkpoint, found, stated, unknown, limits)
        return
    expected = architecture.parameters
    subject.metrics["files.expected_parameters"] = expected
    width = DTYPE_BYTES.get(dtype, 2)
    stated |= {"expected": parameters(expected), "expected_size": bytes_(int(expected * width))}
    evidence.append(("config.json", {"parameters": expected}))
    if method := quantised(checkpoint):
        yield info("quantised", *evidence, bits=8 * size / max(1, expected), method=method, **stated)
        return
    ends = {architecture.head, architecture.embedding} & set(subject.landing.missing)  # absent ones are CKP009's
    if subject.wrapping is None and found > limits["tensors_landed_min"] * expected:
        expected -= sum(prod(architecture.tensors[name]) for name in ends if name)
    ratio = found / max(1, expected)
    stated["percent"] = f"{100 * ratio:.3g}" if ratio >= 0.0001 else "< 0.01"
    if subject.landing.mismatched and not set(subject.landing.missing) - ends:
        yield info("other_size", *evidence, **stated)
    elif ratio < limits["size_ratio_min"]:
        yield error(_zero3(checkpoint, "too_small"), *evidence, **stated)
    elif ratio > limits["size_ratio_max"]:
        yield warning("too_large", *evidence, **stated)
    else:
        yield ok(**stated)


def _counted(subject: CheckpointSubject) -> list[str]:
    """Names whose elements count: each tied pair once."""
    tensors = subject.checkpoint.tensors
    try:
        same, places = subject.architecture.same, subject.landing.places
    except NotMeasured:
        return list(tensors)
    if subject.wrapping is not None:
        return list(tensors)
    there = set(places.values())
    return [n for n in tensors if (place := places.get(n)) is None or place not in same or same[place] not in there]


def _zero3(checkpoint: Checkpoint, outcome: str) -> str:
    return f"{outcome}_zero3" if run_remains(checkpoint.store) else outcome


def _against_embedding(
    checkpoint: Checkpoint, found: int, stated: dict[str, str], unknown: NotMeasured, limits: Thresholds
) -> Iterator[Observation]:
    rows, width = checkpoint.config.get("vocab_size"), checkpoint.config.get("hidden_size")
    known = type(rows) is int and type(width) is int and 0 < rows < 2**31 and 0 < width < 2**31
    if known and not quantised(checkpoint):
        if found < limits["size_ratio_min"] * rows * width:
            yield error(_zero3(checkpoint, "smaller_than_embedding"), ("config.json", {"embedding": rows * width}),
                        rows=rows, width=width, **stated)  # fmt: skip
            return
        yield ok("measured_only", **stated)
        return
    if unknown.reason_id == "no_config":
        yield info("measured_only", **stated)
        return
    raise unknown
