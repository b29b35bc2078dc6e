"""One pass over the bytes of all weights: fingerprints, NaN and infinity, largest values, constant tensors.

The bit pattern of a float grows with its magnitude, so two integer maxima over the raw bytes (signed: the largest
positive pattern, unsigned: the largest negative one) give the absolute maximum and tell whether a value is not
finite, without one floating-point operation. Pieces fit into the processor's cache and several threads read at
once (numpy, xxhash and pread release the interpreter lock), so the pass runs at a good part of memory speed and
needs less than a megabyte a thread at any size of checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

from pipeline.checkpoint import Checkpoint
from pipeline.weight_file import TensorInfo
from pipeline.weight_values import Bytes, WeightBytes

# A piece and its reader's state fit into the L2 cache of one core. Measured: 512 KiB was the fastest of 128 KiB-4 MiB.
PIECE_BYTES = 512 * 2**10
# Work of one thread at a time; digests are per section, so this number is part of the fingerprint's definition.
SECTION_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Layout:
    """How a float dtype orders its patterns. infinity: pattern of +inf, None where the dtype has none."""

    width: int
    infinity: int | None
    first_nan: int


_LAYOUTS: Mapping[str, _Layout] = {
    "F64": _Layout(8, 0x7FF0_0000_0000_0000, 0x7FF0_0000_0000_0001), "F32": _Layout(4, 0x7F800000, 0x7F800001),
    "F16": _Layout(2, 0x7C00, 0x7C01), "BF16": _Layout(2, 0x7F80, 0x7F81), "F8_E5M2": _Layout(1, 0x7C, 0x7D),
    "F8_E4M3": _Layout(1, None, 0x7F), "C64": _Layout(4, 0x7F800000, 0x7F800001),
    "C128": _Layout(8, 0x7FF0_0000_0000_0000, 0x7FF0_0000_0000_0001),
}  # fmt: skip


@dataclass(frozen=True)
class TensorScan:
    """What one tensor holds.

    digest: xxh3-128 of the bytes, section by section. has_values: False for integers and packed formats, of which
    only the digest is known. largest: absolute maximum of the finite values. first_bad: flat index of the first value
    that is not finite. constant: every element has one bit pattern.
    """

    tensor: TensorInfo
    digest: str
    has_values: bool = False
    largest: float = 0.0
    nan: int = 0
    inf: int = 0
    first_bad: int | None = None
    constant: bool = False

    @property
    def zero(self) -> bool:
        """Every element is zero (of either sign)."""
        return self.has_values and self.largest == 0.0 and not self.nan and not self.inf

    def index_of(self, flat: int) -> list[int]:
        """`flat` as an index into the tensor's shape."""
        index = []
        for size in reversed(self.tensor.shape):
            flat, place = divmod(flat, size)
            index.append(place)
        return index[::-1]


@dataclass(frozen=True)
class WeightScan:
    """All tensors by name. unread: names of tensors whose bytes end early or can't be reached."""

    tensors: Mapping[str, TensorScan]
    unread: tuple[str, ...] = ()

    @property
    def bytes_read(self) -> int:
        return sum(t.tensor.end - t.tensor.start for t in self.tensors.values())

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:` over name, dtype, shape and digest of every tensor, sorted: the same in any file layout."""
        lines = sorted(
            f"{name}\t{t.tensor.dtype}\t{list(t.tensor.shape)}\t{t.digest}" for name, t in self.tensors.items()
        )
        return "sha256:" + hashlib.sha256("\n".join(lines).encode("utf-8", errors="replace")).hexdigest()


def scan_weights(
    checkpoint: Checkpoint, note: Callable[[str], None] = lambda text: None, stop: threading.Event | None = None
) -> WeightScan:
    """Read every byte of every tensor of a local checkpoint once.

    note: called with a line of progress. stop: once set, what is not read yet stays unread. Raises nothing for broken
    files: their tensors end up in `unread`.
    """
    stop = stop or threading.Event()
    tensors = checkpoint.tensors
    sections: dict[tuple[str, int, int], list[_Section | None]] = {}
    done = 0
    workers = min(4, os.cpu_count() or 1)
    with WeightBytes(checkpoint) as source, ThreadPoolExecutor(workers) as pool:
        places = _places(source, checkpoint)
        work = [
            (tensor, first, min(first + SECTION_BYTES, tensor.end - tensor.start))
            for tensor in sorted(places, key=lambda t: (t.file, t.start))
            for first in range(0, max(1, tensor.end - tensor.start), SECTION_BYTES)
        ]
        total = sum(last - first for _, first, last in work)
        results = pool.map(lambda item: None if stop.is_set() else _scan_section(source, *item), work)
        try:
            for (tensor, first, last), section in zip(work, results, strict=True):
                sections.setdefault((tensor.file, tensor.start, tensor.end), []).append(section)
                if done // 2**30 != (done + last - first) // 2**30:
                    note(f"weights: {(done + last - first) / 2**30:.0f} / {total / 2**30:.0f} GiB")
                done += last - first
        except BaseException:  # Ctrl-C: the pool would finish its whole queue first
            stop.set()
            raise
    scanned = {name: _joined(t, sections.get((t.file, t.start, t.end), [])) for name, t in tensors.items()}
    return WeightScan(
        {name: scan for name, scan in scanned.items() if scan is not None},
        tuple(name for name, scan in scanned.items() if scan is None),
    )


def _places(source: WeightBytes, checkpoint: Checkpoint) -> list[TensorInfo]:
    """One tensor for each range of bytes that is there: tied tensors of a torch file share theirs. A file whose
    tensors overlap without end is read four times at most."""
    left = 4 * sum(file.size for file in checkpoint.weight_files)
    found: dict[tuple[str, int, int], TensorInfo] = {}
    for tensor in checkpoint.tensors.values():
        place = (tensor.file, tensor.start, tensor.end)
        if place not in found and source.holds(tensor) and tensor.end - tensor.start <= left:
            found[place] = tensor
            left -= tensor.end - tensor.start
    return list(found.values())


@dataclass
class _Section:
    digest: bytes
    largest: int = 0  # pattern
    nan: int = 0
    inf: int = 0
    first_bad: int | None = None
    only: int | None = None  # the pattern that every element has


def _scan_section(source: WeightBytes, tensor: TensorInfo, first: int, last: int) -> _Section | None:
    layout = _LAYOUTS.get(tensor.dtype)
    buffer = np.empty(min(PIECE_BYTES, last - first), np.uint8)
    hashed = xxhash.xxh3_128()
    section = _Section(b"")
    still_constant = layout is not None
    for offset in range(first, last, PIECE_BYTES):
        piece = buffer[: min(PIECE_BYTES, last - offset)]
        if not source.fill(tensor, offset, piece):
            return None
        hashed.update(piece.data)
        if layout is not None:
            still_constant = _measure(piece, layout, offset // layout.width, section, still_constant)
    if not still_constant:
        section.only = None
    section.digest = hashed.digest()
    return section


def _measure(piece: Bytes, layout: _Layout, index: int, section: _Section, still_constant: bool) -> bool:
    """Add one piece to its section. Returns whether all elements of the section so far are the same."""
    patterns = piece.view(f"<u{layout.width}")
    sign = 1 << (8 * layout.width - 1)
    signed = int(piece.view(f"<i{layout.width}").max())
    unsigned = int(patterns.max())
    largest = max(signed, unsigned - sign if unsigned >= sign else 0, 0)
    if largest >= (layout.infinity or layout.first_nan):
        sizes = patterns & (sign - 1)
        bad = sizes >= (layout.infinity or layout.first_nan)
        nan = int((sizes >= layout.first_nan).sum())
        section.nan += nan
        section.inf += int(bad.sum()) - nan
        if section.first_bad is None:
            section.first_bad = index + int(bad.argmax())
        largest = int(sizes[~bad].max(initial=0))
    section.largest = max(section.largest, largest)
    if still_constant:
        if section.only is None:
            section.only = int(patterns[0])
        still_constant = unsigned == section.only == int(patterns.min())
    return still_constant


def _joined(tensor: TensorInfo, sections: list[_Section | None]) -> TensorScan | None:
    whole = [s for s in sections if s is not None]
    if not whole or len(whole) < len(sections):
        return None
    digest = whole[0].digest if len(whole) == 1 else xxhash.xxh3_128(b"".join(s.digest for s in whole)).digest()
    layout = _LAYOUTS.get(tensor.dtype)
    if layout is None or tensor.end == tensor.start:
        return TensorScan(tensor, digest.hex())
    return TensorScan(
        tensor, digest.hex(), True, _value(max(s.largest for s in whole), tensor.dtype, layout),
        sum(s.nan for s in whole), sum(s.inf for s in whole),
        next((s.first_bad for s in whole if s.first_bad is not None), None),
        len({s.only for s in whole}) == 1 and whole[0].only is not None,
    )  # fmt: skip


def _value(pattern: int, dtype: str, layout: _Layout) -> float:
    """The finite magnitude that a pattern without its sign stands for."""
    from pipeline.weight_values import as_float32

    raw = np.frombuffer(pattern.to_bytes(layout.width, "little"), np.uint8)
    if layout.width == 8:
        return float(raw.view(np.float64)[0])
    return float(as_float32(raw, {"C64": "F32"}.get(dtype, dtype))[0])
