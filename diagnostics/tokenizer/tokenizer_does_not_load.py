"""TOK001: the tokenizer's files can't be read."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok
from diagnostics.thresholds import Thresholds

# Nothing is wrong with the file: it is not here, or no reader for it is installed.
NOT_THE_FILES_FAULT = ("unsupported", "not_local", "missing_dependency")


def tokenizer_does_not_load(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the vocabulary beside the weights can be read, and how many tokens it has.
    Why it matters:
        Without it nothing can be encoded; a cut or half-downloaded tokenizer.json fails only when training starts.
    How it is measured:
        A child process with limited memory and time loads tokenizer.json, a SentencePiece model, vocab.json with
        merges.txt, or vocab.txt, and adds the declared tokens as transformers does.
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
        yield error("broken" if probe.problem not in ("lfs_pointer", "empty") else probe.problem, (where, probe.detail),
                    file=where, problem=probe.problem, detail=probe.detail)  # fmt: skip
