"""CKP013: no tokenizer beside the weights."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import TokenizerFiles
from pipeline.config_files import load_config
from pipeline.declared_tokens import tokenizer_class
from pipeline.file_store import FileStore

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
                 "vocab.txt", "tiktoken.model", "qwen.tiktoken", "source.spm")  # fmt: skip
# Vocabularies under names that only the model's own code, or another library, reads.
_OTHER_VOCABULARY = re.compile(r"(?i)vocab|tekken|tiktoken|bpe|spm|sentencepiece|\.model$|\.codes$")


def tokenizer_absent(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """No tokenizer beside the weights.

    What it checks:
        Whether a tokenizer with a vocabulary lies with the weights, was given apart, or comes from the adapter's base.
    Why it matters:
        People then take the base's tokenizer, without the tokens and the chat template that training added; a merged
        model without its tokenizer answered worse than base and adapter apart.
    How it is measured:
        By file names. Weights with a tokenizer_config.json and no vocabulary are half a copy; small files without
        weights, and adapters, whose base has the vocabulary, are not.
    Known false alarms:
        A checkpoint of a trainer that was not given the tokenizer has none; that is only a warning. Tokenizers of bytes
        need no vocabulary, and those with code of their own may keep it under any name: both pass.
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
        elif checkpoint.kind != "adapter" and checkpoint.weight_names and _lacks_vocabulary(own, own.store):
            yield error("vocabulary_missing", (own.store.label, own.store.names()[:20]), files=named(own.names),
                        found=own.store.label)  # fmt: skip
        else:
            yield info("no_vocabulary", (own.store.label, list(own.names)), files=named(own.names))
    elif checkpoint.kind == "adapter" and subject.tokenizer_files.tokenizer.store is not None:
        yield info("tokenizer_of_base", (where, subject.tokenizer_files.store.label), base=subject.tokenizer_files.name)
    elif checkpoint.kind == "folder" and checkpoint.weight_names:
        yield warning("absent", (where, checkpoint.store.names()[:20]), folder=where)
    else:
        yield info("none_given", (where, "-"), given=checkpoint.given)


def _lacks_vocabulary(tokenizer: TokenizerFiles, store: FileStore) -> bool:
    """Whether a tokenizer that has small files and no vocabulary needs one."""
    if any(name in _VOCABULARIES for name, _ in tokenizer.not_files):
        return False  # a folder or a broken link of that name: CKP004 says so
    byte_level = load_config("tokenizer_classes.yaml")["without_vocabulary"]
    if tokenizer_class(tokenizer) in byte_level or tokenizer.config.get("auto_map"):
        return False
    return not any(_OTHER_VOCABULARY.search(name) for name in store.names())
