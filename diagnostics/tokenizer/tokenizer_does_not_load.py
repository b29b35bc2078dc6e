"""TOK001: the tokenizer's files can't be read."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.probe import LOAD_SECONDS, TRIAL_SECONDS

# Nothing is wrong with the file: it is not here, or no reader for it is installed.
NOT_THE_FILES_FAULT = ("unsupported", "not_local", "missing_dependency")
# Those with a sentence of their own; every other problem is a file that the library refuses.
NAMED = ("lfs_pointer", "empty", "unreadable", "not_utf8", "timeout", "memory", "crashed", "encode_timeout",
         "encode_memory", "encode_crashed")  # fmt: skip


def tokenizer_does_not_load(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the vocabulary beside the weights can be read, how many tokens it has, and whether it encodes a plain
        sentence.
    Why it matters:
        Without it nothing can be encoded; a cut or half-downloaded tokenizer.json fails only when training starts.
    How it is measured:
        A child process with limited memory and time loads tokenizer.json, a SentencePiece model, vocab.json with
        merges.txt, or vocab.txt, adds the declared tokens as transformers does, and encodes three sentences within
        seconds.
    Known false alarms:
        tiktoken and Mistral's tekken files are not read here; that is said and is no fault.
    Fix:
        Copy the tokenizer again from the base model, or save it with save_pretrained beside the weights.
    References:
        https://huggingface.co/docs/tokenizers
    """
    probe = subject.probe
    if probe.problem is None:
        subject.metrics["tokenizer.size"] = probe.vocab_size
        yield ok("ok", (probe.source, probe.vocab_size), size=probe.vocab_size, file=probe.source, model=probe.model)
    elif probe.problem == "no_vocabulary":
        names = list(subject.tokenizer_files.tokenizer.names)
        if any(n.startswith(("tokenizer_config", "special_tokens")) for n in names):
            yield info("only_declared", files=names, known=len(probe.added))
        else:
            raise NotMeasured("no_tokenizer")
    elif probe.problem in NOT_THE_FILES_FAULT:
        yield info(probe.problem, detail=probe.detail)
    else:
        where = probe.source or probe.detail
        outcome = probe.problem if probe.problem in NAMED else "broken"
        if outcome == "not_utf8" and probe.detail == "BOM":
            outcome = "byte_order_mark"
        seconds = TRIAL_SECONDS if outcome.startswith("encode") else LOAD_SECONDS
        yield error(outcome, (where, probe.detail), file=where, detail=probe.detail, seconds=seconds)
