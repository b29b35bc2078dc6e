"""ADP001: an adapter file with nothing in it."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import bytes_, named, parameters
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok
from diagnostics.thresholds import Thresholds
from pipeline.adapter_tensors import adapted_modules


def adapter_without_tensors(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An adapter file with nothing in it.

    What it checks:
        How many tensors the adapter holds, whether they have elements, and whether every A has its B.
    Why it matters:
        Scripts that replace state_dict and then call save_pretrained save a file of some 443 bytes; ZeRO-3 without
        gathering saves tensors of shape [0]. The adapter loads, does nothing, and every answer is the base's.
    How it is measured:
        By the header of the file.
    Known false alarms:
        None known: an adapter without elements changes nothing.
    Fix:
        Don't replace model.state_dict; call model.save_pretrained once. With ZeRO-3 set
        stage3_gather_16bit_weights_on_model_save=true, or take the last checkpoint-N, which is often whole.
    References:
        https://github.com/tloen/alpaca-lora/issues/446
        https://github.com/huggingface/peft/issues/453
        https://github.com/OpenRLHF/OpenRLHF/issues/839
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    if not checkpoint.weight_files:
        raise NotMeasured("no_weights")
    file = checkpoint.weight_files[0]
    tensors = checkpoint.tensors
    if file.problem not in (None, "unsafe_pickle", "trailing_bytes", "truncated"):
        raise NotMeasured("weights_unreadable", detail=file.name)
    elements = sum(t.numel for t in tensors.values())
    subject.metrics["files.adapter_tensors"] = len(tensors)
    subject.metrics["files.adapter_parameters"] = elements
    modules = adapted_modules(tensors)
    # A partitioned matrix is saved with no elements or, by newer versions, as a flat piece.
    flat = {t.name for m in modules.values() for t in m.sides.values() if len(t.shape) == 1}
    empty = [name for name, t in tensors.items() if t.numel == 0 or name in flat]
    size = bytes_(file.size)
    if not tensors:
        yield error("no_tensors", (file.name, {"bytes": file.size, "tensors": 0}), file=file.name, size=size)
    elif len(empty) == len(tensors):
        yield error("all_empty", (file.name, empty[:20]), file=file.name, found=len(empty), size=size)
    elif empty:
        yield error("some_empty", (file.name, empty[:20]), file=file.name, found=len(empty), of=len(tensors),
                    tensors=named(empty))  # fmt: skip
    halves = [m.path for m in modules.values() if ("A" in m.sides) != ("B" in m.sides)]
    if halves:
        yield error("halves", (file.name, halves[:20]), found=len(halves), of=len(modules), modules=named(halves))
    if tensors and not empty and not halves:
        yield ok(tensors=len(tensors), parameters=parameters(elements), modules=len(modules), size=size)
