"""CKP013: no tokenizer beside the weights."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
                 "vocab.txt", "tiktoken.model", "qwen.tiktoken", "source.spm")  # fmt: skip


def tokenizer_absent(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """No tokenizer beside the weights.

    What it checks:
        Whether a tokenizer with a vocabulary lies with the weights, was given apart, or comes from the adapter's base.
    Why it matters:
        People then take the base's tokenizer, without the tokens and the chat template that training added; a merged
        model without its tokenizer answered worse than base and adapter apart.
    How it is measured:
        By file names.
    Known false alarms:
        A checkpoint of a trainer that was not given the tokenizer has none; that is only a warning.
    Fix:
        `tokenizer.save_pretrained(folder)` with the tokenizer of the training run, or give it apart: --tokenizer PATH.
    References:
        https://github.com/QwenLM/Qwen-VL/issues/302
    """
    checkpoint = subject.checkpoint
    own = checkpoint.tokenizer
    where = checkpoint.store.label
    if own.store is not None:
        vocabulary = [n for n in own.names if n in _VOCABULARIES]
        if vocabulary:
            yield ok(files=named(own.names), found=len(own.names))
        else:
            yield info("no_vocabulary", (own.store.label, list(own.names)), files=named(own.names))
    elif checkpoint.kind == "adapter" and subject.tokenizer_files.tokenizer.store is not None:
        yield info("tokenizer_of_base", (where, subject.tokenizer_files.store.label), base=subject.tokenizer_files.name)
    elif checkpoint.kind == "folder" and checkpoint.weight_names:
        yield warning("absent", (where, checkpoint.store.names()[:20]), folder=where)
    else:
        yield info("none_given", (where, "-"), given=checkpoint.given)
