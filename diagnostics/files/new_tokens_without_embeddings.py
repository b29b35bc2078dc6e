"""ADP004: an adapter that brings new tokens and no embeddings for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint, TokenizerFiles
from pipeline.weight_names import embedding_tensor

_EMBEDDING_WORDS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "lm_head", "embed_out",
                    "embedding", "output_layer")  # fmt: skip


def new_tokens_without_embeddings(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An adapter that brings new tokens and no embeddings for them.

    What it checks:
        Tokens that the tokenizer beside the adapter has and its base's has not, and whether the adapter holds anything
        for embedding or head.
    Why it matters:
        LoRA on attention leaves the embedding frozen. New tokens keep their random first rows, or have no row at all
        once the adapter is put on a fresh base, so the model neither understands nor writes them.
    How it is measured:
        Added tokens by id and text in tokenizer_config.json and added_tokens.json of both, rows of the base's
        embedding, names of the adapter's tensors.
    Known false alarms:
        A new padding token needs no training and is only mentioned. modules_to_save, LoRA on the embedding and
        trainable_token_indices all count as training it.
    Fix:
        Train with modules_to_save=["embed_tokens", "lm_head"] or trainable_token_indices={"embed_tokens": [...]}; or
        use tokens the base already knows.
    References:
        https://github.com/modelscope/ms-swift/issues/5998
        https://github.com/artidoro/qlora/issues/214
        https://huggingface.co/docs/peft/developer_guides/lora#efficiently-train-tokens-alongside-lora
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    if checkpoint.tokenizer.store is None:
        raise NotMeasured("no_tokenizer")
    base = subject.base
    if base is None or base.problem is not None:
        raise NotMeasured("no_adapter_base", detail=str(checkpoint.adapter_config.get("base_model_name_or_path") or ""))
    own = added_tokens(checkpoint.tokenizer)
    theirs = added_tokens(base.tokenizer)
    rows = _rows(base)
    trained = _trains_embeddings(checkpoint)
    beyond = {i: t for i, t in own.items() if rows is not None and i >= rows}
    known = set(theirs.values())
    # A base whose tokenizer lists no added tokens says nothing about which are new.
    new = {i: t for i, t in own.items() if theirs and t not in known} | beyond
    if not new:
        yield ok(found=len(own), rows=rows or 0)
        return
    padding = _padding(checkpoint.tokenizer)
    used = {i: t for i, t in new.items() if t not in padding}
    evidence = ("tokenizer_config.json:added_tokens_decoder", {str(i): t for i, t in list(new.items())[:20]})
    tokens = named([f"{t} ({i})" for i, t in (used or new).items()])
    if trained:
        yield ok("trained", tokens=tokens, found=len(new), by=trained)
    elif not used:
        yield info("only_padding", evidence, tokens=tokens)
    elif any(i in beyond for i in used):
        yield error("no_rows", evidence, (base.given, {"rows": rows}), tokens=tokens, found=len(used), rows=rows)
    else:
        yield warning("untrained", evidence, tokens=tokens, found=len(used), base=base.name)


def added_tokens(tokenizer: TokenizerFiles) -> dict[int, str]:
    """Added tokens by id, as the small files list them."""
    found: dict[int, str] = {}
    decoder = tokenizer.config.get("added_tokens_decoder")
    for key, entry in decoder.items() if isinstance(decoder, dict) else ():
        text = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(text, str) and key.isascii() and key.isdigit() and len(key) < 10:
            found[int(key)] = text
    for text, number in (tokenizer.added_tokens.value or {}).items():
        if type(number) is int and 0 <= number < 2**31:
            found.setdefault(number, text)
    return found


def _rows(base: Checkpoint) -> int | None:
    tensor = embedding_tensor(base.tensors)
    declared = base.config.get("vocab_size")
    return tensor.shape[0] if tensor is not None else declared if type(declared) is int else None


def _padding(tokenizer: TokenizerFiles) -> set[str]:
    def text(value: Any) -> str:
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else ""

    files = (tokenizer.config, tokenizer.special_tokens_map)
    return {text(file.get("pad_token")) for file in files} - {text(file.get("eos_token")) for file in files}


def _trains_embeddings(checkpoint: Checkpoint) -> str:
    """What in the adapter reaches embedding or head; empty when nothing does."""
    if checkpoint.adapter_config.get("trainable_token_indices"):
        return "trainable_token_indices"
    parts = (name for name in checkpoint.tensors if any(w in name.split(".") for w in _EMBEDDING_WORDS))
    return next(parts, "")
