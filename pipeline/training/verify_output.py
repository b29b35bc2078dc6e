"""Whether what a run saved is whole: weights without empty tensors, an adapter that was trained.

ZeRO-3 keeps every parameter cut up; saved without being gathered, tensors have the shape [0] while the loss fell as it
should (https://github.com/huggingface/peft/issues/453). Looks at headers, and at the values of an adapter's B matrices,
which are zero before the first step; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapter_tensors import adapted_modules
from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.refusal import Refused

MAX_NAMED = 5
SCAN_BYTES = 500_000_000  # of an adapter whose values are looked at; larger ones are seconds of reading


@dataclass(frozen=True)
class Verified:
    """problem: `` for sound weights, else nothing_saved | unreadable | empty_tensors | tensors_missing | not_finite |
    never_trained. cause: its id in the contract. names: tensors or files that show it. tensors, bytes: what was there.
    """

    problem: str = ""
    cause: str = ""
    names: tuple[str, ...] = ()
    tensors: int = 0
    bytes: int = 0
    kind: str = ""  # adapter | model

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verify_output(folder: Path) -> Verified:
    """Looks at the weights that lie in `folder` itself. Raises nothing."""
    try:
        found = open_checkpoint(str(folder))
    except Refused:
        return Verified("nothing_saved", "incomplete_checkpoint")
    kind = "adapter" if found.adapter_config.value is not None else "model"
    files = found.weight_files
    if not files or found.chosen_folder is not None:  # checkpoints below it, nothing in it
        return Verified("nothing_saved", "incomplete_checkpoint", kind=kind)
    size = sum(f.size for f in files)
    broken = [f.name for f in files if f.problem]
    if broken:
        return Verified("unreadable", "corrupt_weights", tuple(broken[:MAX_NAMED]), 0, size, kind)
    tensors = found.tensors
    empty = [name for name, tensor in tensors.items() if tensor.numel == 0]
    if empty or not tensors:
        cause = "adapter_empty" if kind == "adapter" else "incomplete_checkpoint"
        return Verified("empty_tensors", cause, tuple(empty[:MAX_NAMED]), len(tensors), size, kind)
    whole = Verified("", "", (), len(tensors), size, kind)
    if kind == "adapter":
        return _adapter(found, tensors, whole)
    return _missing(found, whole)


def _adapter(found: Checkpoint, tensors: Mapping[str, Any], whole: Verified) -> Verified:
    modules = adapted_modules(tensors)
    if whole.bytes > SCAN_BYTES:
        return whole
    from pipeline.weight_scan import scan_weights

    scans = scan_weights(found).tensors
    bad = [name for name, scan in scans.items() if scan.nan or scan.inf]
    if bad:
        return replace(whole, problem="not_finite", cause="corrupt_weights", names=tuple(bad[:MAX_NAMED]))
    sides = [t.name for m in modules.values() for side, t in m.sides.items() if side in ("B", "embedding_B")]
    if sides and all(name in scans and scans[name].zero for name in sides):
        return replace(whole, problem="never_trained", cause="adapter_empty", names=tuple(sides[:MAX_NAMED]))
    return whole


def _missing(found: Checkpoint, whole: Verified) -> Verified:
    """Fewer values than the configuration promises: half a model was gathered."""
    from pipeline.architecture import UnknownArchitecture, expected_architecture, land_tensors

    if found.config.value is None:
        return whole
    try:
        expected = expected_architecture(found.config.value, found.tensors)
    except UnknownArchitecture:
        return whole
    missing = land_tensors(expected, {name: t.shape for name, t in found.tensors.items()}).missing
    if len(missing) > len(expected.tensors) // 2:
        return replace(whole, problem="tensors_missing", cause="incomplete_checkpoint", names=missing[:MAX_NAMED])
    return whole
