"""WGT008: an output head that was made anew instead of loaded."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok
from diagnostics.thresholds import Thresholds
from pipeline.weight_names import head_tensor, is_embedding_or_head


def head_unrelated_to_base(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An output head that was made anew instead of loaded.

    What it checks:
        The cosine between the output head and the base's (or the base's tied embedding) on the rows both have, where
        the layers are close to the base.
    Why it matters:
        A head that was initialised again after `resize_token_embeddings` or for a missing key turns a good model into
        one that says random tokens, and fine-tuning for an epoch does not repair it.
    How it is measured:
        On evenly spaced pieces of the common rows, up to a million elements.
    Known false alarms:
        A base whose head is stored in another order of tokens. Heads trained anew on purpose, as for a new language.
    Fix:
        Copy the head from the base: `model.lm_head.weight.data[:n] = base.lm_head.weight.data[:n]`, or load again and
        resize only once.
    References:
        https://github.com/huggingface/transformers/pull/45079
    """
    distance = subject.distance_to_base
    head = head_tensor({n: t.tensor for n, t in subject.weight_scan.tensors.items()})
    pair = next((p for p in distance.pairs if head is not None and p.name == head.name), None)
    if head is None or pair is None or pair.cosine is None:
        raise NotMeasured("head_is_tied")
    body = [d.cosine for d in distance.layers if d.cosine is not None and not is_embedding_or_head(f"{d.layer}.weight")]
    if not body or median(body) < limits["close_cosine"]:
        raise NotMeasured("body_far_from_base")
    subject.metrics["weights.head_cosine_to_base"] = pair.cosine
    evidence = (f"{head.file}:{head.name}", {"cosine": pair.cosine, "compared_with": pair.base_name})
    if pair.cosine < limits["unrelated_cosine"]:
        yield error("head_is_new", evidence, cosine=pair.cosine, body=median(body), head=head.name,
                    compared=pair.base_name)  # fmt: skip
    else:
        yield ok("ok", evidence, cosine=pair.cosine)
