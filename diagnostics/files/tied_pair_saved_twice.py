"""ADP005: an adapter with copies of embedding and head for a base that ties the two."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.adapter_tensors import full_copies
from pipeline.architecture import UnknownArchitecture, expected_architecture
from pipeline.checkpoint import Checkpoint
from pipeline.weight_names import embedding_tensor, head_tensor


def tied_pair_saved_twice(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An adapter with copies of embedding and head for a base that ties the two.

    What it checks:
        Whether the adapter carries its own embedding and its own head while the base has one tensor for both.
    Why it matters:
        PEFT trains two copies; merging ties them again and keeps one. The merged model never writes the new tokens,
        though the adapter did.
    How it is measured:
        Names of the adapter's full copies, tie_word_embeddings of the base.
    Known false alarms:
        With ensure_weight_tying in adapter_config.json both copies are the same, which is fine.
    Fix:
        Before merging set model.config.tie_word_embeddings = False and save it so; or train embed_tokens alone.
    References:
        https://github.com/hiyouga/LlamaFactory/issues/6446
    """
    checkpoint, base = subject.checkpoint, subject.base
    if checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    if not checkpoint.tensors:
        raise NotMeasured("no_weights")
    copies = full_copies(checkpoint.tensors)
    embedding, head = embedding_tensor(copies), head_tensor(copies)
    if embedding is None or head is None:
        yield ok("not_both", found=len(copies))
        return
    if base is None:
        raise NotMeasured("no_adapter_base", detail=str(checkpoint.adapter_config.get("base_model_name_or_path") or ""))
    tied = _ties(base)
    if tied is None:
        raise NotMeasured("no_config")
    if tied and not checkpoint.adapter_config.get("ensure_weight_tying"):
        yield warning("both_saved", (base.config.where("tie_word_embeddings"), True),
                      (checkpoint.weight_names[0], [embedding.name, head.name]), base=base.name)  # fmt: skip
    else:
        yield ok(base=base.name)


def _ties(base: Checkpoint) -> bool | None:
    declared = base.config.get("tie_word_embeddings")
    if isinstance(declared, bool):
        return declared
    try:
        return expected_architecture(base.config.value).tied if base.config.value is not None else None
    except UnknownArchitecture:
        return None
