"""TOK012: the tokenizer beside the weights means other pieces than the base model's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.text_does_not_survive import SENTENCES
from pipeline.checkpoint import Checkpoint
from pipeline.config_files import load_config
from pipeline.probe import Probe, open_probe
from pipeline.weight_names import embedding_tensor


def tokenizer_of_another_model(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Piece by piece whether this tokenizer and the base model's mean the same by the same id.
    Why it matters:
        A fine-tuned model keeps the meaning of its base's ids. With another tokenizer every word is another word to the
        model: the loss starts far above that of the base and the answers are off topic.
    How it is measured:
        Both vocabularies are read; the share of common ids whose piece differs is compared with a threshold. Where all
        pieces agree, four sentences must also be cut alike.
    Known false alarms:
        Renamed reserved tokens and tokens added at the end are expected. Where the number of embedding rows differs
        from the base's the vocabulary was changed on purpose and a difference is only mentioned.
    Fix:
        Save the base model's tokenizer beside the weights, or name the right base.
    References:
        https://github.com/hiyouga/LLaMA-Factory/issues/6736
    """
    if subject.base is None:
        raise NotMeasured("no_base")
    if subject.base.tokenizer.store is None:
        raise NotMeasured("base_without_tokenizer")
    if subject.tokenizer_files is subject.base:
        raise NotMeasured("tokenizer_is_the_bases")
    probe = subject.probe
    if probe.problem is not None:
        raise NotMeasured("tokenizer_not_loaded")
    with open_probe(subject.base.tokenizer) as base:
        if base.problem is not None:
            raise NotMeasured("base_without_tokenizer")
        own, other = probe.vocabulary(), base.vocabulary()
        common = min(len(own), len(other))
        differing = [i for i in range(common) if own[i] != other[i]]
        share = len(differing) / max(1, common)
        subject.metrics["tokenizer.differs_from_base"] = round(share, 6)
        pairs = [(f"id {i}: here and in the base", [own[i], other[i]]) for i in differing[:3]]
        params = {"n": len(differing), "common": common, "percent": 100 * share, "here": len(own), "base": len(other)}
        spare = re.compile(load_config("chat_markers.yaml")["reserved"])
        renamed = all(
            other[i] is None or own[i] is None or own[i] in probe.added or spare.search(other[i] or "")
            for i in differing
        )
        if differing and (renamed or share < limits["tokenizer_pieces_differ"]):
            yield info("renamed", *pairs, **params)
        elif differing and _rows_differ(subject.checkpoint, subject.base):
            yield info("vocabulary_changed", *pairs, **params)
        elif differing:
            yield error("pieces_differ", *pairs, **params)
        else:
            yield _cut_alike(probe, base, params)


def _rows_differ(checkpoint: Checkpoint, base: Checkpoint) -> bool:
    own, other = (embedding_tensor(c.tensors) for c in (checkpoint, base))
    sizes = [t.shape[0] if t is not None else c.config.get("vocab_size") for t, c in ((own, checkpoint), (other, base))]
    return sizes[0] is not None and sizes[1] is not None and sizes[0] != sizes[1]


def _cut_alike(probe: Probe, base: Probe, params: Mapping[str, Any]) -> Observation:
    sentences = [s for group in SENTENCES.values() for s in group]
    for sentence, own, other in zip(sentences, probe.encode(sentences), base.encode(sentences), strict=True):
        if own != other:
            cut = (sentence, [own[:12], other[:12]])
            return warning("cut_differently", cut, sentence=sentence, k=len(own), m=len(other))
    return ok("ok", **params)
