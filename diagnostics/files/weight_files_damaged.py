"""CKP003: weight files that can't be read to their end."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import bytes_, named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.weight_file import PICKLE_SUFFIXES, WeightFile

_FORMATS = {"safetensors": "safetensors", "torch_zip": "PyTorch (torch.save)", "torch_legacy": "PyTorch (torch.save)"}


def weight_files_damaged(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Weight files that can't be read to their end.

    What it checks:
        Every weight file: that it is no Git LFS pointer, not empty, not cut, and that its header describes exactly
        the bytes that follow.
    Why it matters:
        Loaders stop with messages like HeaderTooLarge or MetadataIncompleteBuffer that don't say what happened, and
        some servers leave out what they can't read and answer from random weights.
    How it is measured:
        The header names first and last byte of every tensor; they must join without a gap and end where the file ends.
        Pickles: every storage must lie inside the file.
    Known false alarms:
        None known: the safetensors library refuses the same files. Shards may well differ in size; sizes are never
        compared with one another.
    Fix:
        LFS pointer: `git lfs install && git lfs pull`. Cut or empty: download that file again and compare its size with
        the one the Hub shows; after a crash while saving, take the checkpoint before.
    References:
        https://github.com/huggingface/transformers/issues/27923
        https://github.com/microsoft/OmniParser/issues/34
        https://github.com/PersuGPT/PersuGPT.github.io/issues/2
    """
    files = subject.checkpoint.weight_files
    if not files:
        raise NotMeasured("no_weights")
    by_problem: dict[str, list[WeightFile]] = {}
    for file in files:
        if file.problem is not None and file.problem != "unsafe_pickle":  # that one is CKP011's
            by_problem.setdefault(_outcome(file), []).append(file)
        elif _wrong_suffix(file):
            by_problem.setdefault("other_suffix", []).append(file)
        elif not file.tensors and file.problem is None and subject.checkpoint.kind != "adapter":  # else ADP001's
            kind = "no_tensors" if not file.detail else "meta_tensors" if file.detail == "meta" else "unplain_tensors"
            by_problem.setdefault(kind, []).append(file)
    for problem, damaged in by_problem.items():
        yield (warning if problem == "compressed" else error)(
            problem,
            *((f.name, {"size": f.size, "missing": f.missing_bytes, "detail": f.detail}) for f in damaged[:20]),
            files=named([f.name for f in damaged]), found=len(damaged), of=len(files), size=bytes_(damaged[0].size),
            missing=bytes_(sum(f.missing_bytes for f in damaged)), detail=damaged[0].detail,
            format=_FORMATS.get(damaged[0].format, "?"),
        )  # fmt: skip
    if not by_problem:
        yield ok(found=len(files), tensors=sum(len(f.tensors) for f in files), size=bytes_(sum(f.size for f in files)))


def _outcome(file: WeightFile) -> str:
    if file.problem == "not_weights" and file.detail:
        return "not_weights_but"
    if file.problem == "truncated" and not file.missing_bytes:  # a zip file keeps its directory at the end
        return "truncated_somewhere"
    return str(file.problem)


def _wrong_suffix(file: WeightFile) -> bool:
    """from_pretrained picks its reader by the suffix alone."""
    if file.name.endswith(".safetensors"):
        return file.format != "safetensors"
    return file.name.endswith(PICKLE_SUFFIXES) and file.format == "safetensors"
