"""CKP009: no output head in the files, and none to take its place."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.index_disagrees_with_shards import content_unknown, lost_tensors
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def head_missing(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """No output head in the files, and none to take its place.

    What it checks:
        Whether lm_head is stored, or tied to an embedding that is stored.
    Why it matters:
        With tie_word_embeddings false and no lm_head in the files, from_pretrained makes a random head: every layer is
        as trained, and every answer is noise.
    How it is measured:
        By the names in the headers and tie_word_embeddings in config.json, with the default of the model type where
        the field is absent.
    Known false alarms:
        Most small models tie the head to the embedding and store one of the two; that is fine and reported so.
    Fix:
        If the model was trained with tied embeddings write "tie_word_embeddings": true into config.json; if not, save
        it again with its head (an FSDP or adapter save may have dropped it).
    References:
        https://github.com/huggingface/transformers/issues/3799
        https://github.com/huggingface/transformers/issues/41038
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind == "adapter":
        raise NotMeasured("is_an_adapter")
    if not checkpoint.tensors:
        raise NotMeasured("no_weights")
    if unknown := content_unknown(checkpoint):
        raise NotMeasured("weights_unreadable", detail=unknown)
    architecture, landing = subject.architecture, subject.landing
    if subject.wrapping is not None:
        raise NotMeasured("names_wrapped")
    if len(landing.landed) < limits["tensors_landed_min"] * len(architecture.tensors):
        raise NotMeasured("other_model")
    config = checkpoint.config
    evidence = ((config.where("tie_word_embeddings"), config.get("tie_word_embeddings")),)
    head, embedding = architecture.head, architecture.embedding
    if head is None:
        declared = (config.get("architectures") or ["?"])[0]
        named = (config.where("architectures"), declared)
        if any(n.startswith("score.") for n in architecture.tensors):
            yield info("classifier", named, declared=declared)
        elif architecture.tied:  # AutoModelForCausalLM ties the head to the embedding
            yield info("head_is_the_embedding", named, declared=declared)
        else:
            yield warning("class_without_head", named, declared=declared)
        return
    lost = {architecture.land(name) for name in lost_tensors(checkpoint)}
    twins = {embedding} | {n for n, source in architecture.same.items() if source == embedding and n != head}
    has_head, has_embedding = head in landing.landed, bool(twins & landing.landed.keys())
    if (not has_head and head in lost) or (not has_embedding and embedding in lost):
        raise NotMeasured("weights_unreadable", detail=checkpoint.index.name if checkpoint.index else "")
    if has_head and has_embedding:
        yield ok("own_head", head=landing.landed[head])
    elif has_embedding and architecture.tied:
        yield ok("tied", head=head, embedding=embedding)
    elif has_head and architecture.tied:
        yield info("only_head", (landing.landed[head], None), *evidence, head=landing.landed[head], embedding=embedding)
    elif has_embedding:
        yield error("head_missing", *evidence, ("missing", head), head=head)
    elif has_head:
        yield error("embedding_missing", *evidence, ("missing", embedding), head=head, embedding=embedding)
    else:
        yield error("both_missing", *evidence, ("missing", [head, embedding]), head=head, embedding=embedding)
