"""WGT009: embedding and output head declared to be one, but stored as two that differ."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.weight_names import embedding_tensor, head_tensor


def tied_pair_differs(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Embedding and output head declared to be one, but stored as two that differ.

    What it checks:
        With `tie_word_embeddings: true` in config.json: whether a stored head equals the stored embedding.
    Why it matters:
        What such a file means depends on who reads it: transformers 5 keeps both with a warning, transformers 4 and
        several inference servers throw the head away and use the embedding. The same checkpoint then answers well in
        one program and badly in the other.
    How it is measured:
        xxh3-128 of both; where they differ, their relative distance on up to a million elements.
    Known false alarms:
        None known; a head that is stored twice and equal is fine.
    Fix:
        If both were trained, set `"tie_word_embeddings": false` in config.json. If the tie was meant, drop
        `lm_head.weight` from the file.
    References:
        https://github.com/hiyouga/LlamaFactory/issues/6446
        https://github.com/huggingface/transformers/issues/41038
    """
    from pipeline.weight_distance import compare_within

    if subject.checkpoint.kind == "adapter":
        raise NotMeasured("is_an_adapter")
    scan = subject.weight_scan
    config = subject.checkpoint.config
    if config.value is None:
        raise NotMeasured("no_config")
    nested = config.get("text_config")
    tied = config.get("tie_word_embeddings", nested.get("tie_word_embeddings") if isinstance(nested, dict) else None)
    if tied is not True:
        raise NotMeasured("not_tied")
    tensors = {n: t.tensor for n, t in scan.tensors.items()}
    embedding, head = embedding_tensor(tensors), head_tensor(tensors)
    if embedding is None or head is None:
        raise NotMeasured("only_one_stored")
    pair = compare_within(subject.local_checkpoint, scan, head.name, embedding.name)
    evidence = [(config.where("tie_word_embeddings"), True), (f"{head.file}:{head.name}", list(head.shape)),
                (f"{embedding.file}:{embedding.name}", list(embedding.shape))]  # fmt: skip
    if pair is None or pair.resized:
        yield warning("shapes_differ", *evidence, head=list(head.shape), embedding=list(embedding.shape))
    elif pair.equal:
        yield ok(head=head.name, embedding=embedding.name)
    else:
        yield warning("differs", *evidence, head=head.name, embedding=embedding.name, relative=100 * pair.relative)
