"""Values of stored tensors as float32, read by byte range: no torch, and never a whole matrix at once.

Works on the files of one machine; bytes of a remote checkpoint are downloaded first (hub_files.downloaded).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint import Checkpoint
from pipeline.weight_file import TensorInfo

Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Bytes per element of the dtypes whose values can be read here; the quantised ones mean nothing without their scales.
VALUE_BYTES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


class WeightBytes:
    """Open weight files of one checkpoint. A context manager; reading is safe from several threads."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._files: dict[str, tuple[int, int]] = {}  # descriptor, size
        for name in checkpoint.weight_names:
            path = checkpoint.store.local_path(name)
            if path is not None:
                try:
                    descriptor = os.open(path, os.O_RDONLY)
                    self._files[name] = (descriptor, os.fstat(descriptor).st_size)
                except OSError:  # the header reader has said so; its tensors count as unread here
                    continue

    def __enter__(self) -> WeightBytes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def holds(self, tensor: TensorInfo, length: int | None = None) -> bool:
        """Whether the file reaches to the end of the tensor, or of its first `length` bytes: headers may lie."""
        reach = tensor.end if length is None else tensor.start + length
        return tensor.file in self._files and reach <= self._files[tensor.file][1]

    def fill(self, tensor: TensorInfo, offset: int, buffer: Bytes) -> bool:
        """Read `len(buffer)` bytes from byte `offset` of the tensor on. False when the file ends before."""
        if not self.holds(tensor, offset + len(buffer)):
            return False
        descriptor, _ = self._files[tensor.file]
        view, position = buffer.data, tensor.start + offset
        while len(view):
            try:
                got = os.preadv(descriptor, [view], position)
            except OSError:
                return False
            if got == 0:
                return False
            view, position = view[got:], position + got
        return True

    def values(self, tensor: TensorInfo, first: int, count: int) -> Float32 | None:
        """Elements [first, first + count) as float32, None where the file ends before or the dtype has no values."""
        width = VALUE_BYTES.get(tensor.dtype)
        if width is None or not self.holds(tensor, (first + count) * width):
            return None
        buffer = np.empty(count * width, np.uint8)
        return as_float32(buffer, tensor.dtype) if self.fill(tensor, first * width, buffer) else None

    def rows(self, tensor: TensorInfo, wanted: Sequence[int]) -> Float32 | None:
        """Rows of a matrix [n, columns] as float32 [len(wanted), columns]; None when one of them can't be read."""
        columns = tensor.numel // tensor.shape[0]
        if not self.holds(tensor):
            return None
        read = np.empty((len(wanted), columns), np.float32)
        for place, row in enumerate(wanted):
            values = self.values(tensor, row * columns, columns)
            if values is None:
                return None
            read[place] = values
        return read


def as_float32(raw: Bytes, dtype: str) -> Float32:
    """Little-endian bytes of one of `VALUE_BYTES` as float32 [n]. F64 beyond the range of float32 becomes infinite."""
    if dtype == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if dtype == "F16":
        return raw.view(np.float16).astype(np.float32)
    if dtype == "F32":
        return raw.view(np.float32)
    if dtype == "F64":
        with np.errstate(over="ignore", invalid="ignore"):
            return raw.view(np.float64).astype(np.float32)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "F8_E4M3":
        return _e4m3()[raw]
    raise ValueError(dtype)


def as_stored(values: Float32, dtype: str) -> NDArray[Any]:
    """Bit patterns of `values` [n] cast to F32, F16 or BF16, rounded to nearest even as torch does."""
    if dtype == "F32":
        return values.view(np.uint32)
    if dtype == "F16":
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float16).view(np.uint16)
    if dtype == "BF16":
        bits = values.view(np.uint32)
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
        # rounding would carry the payload of a NaN into an infinity
        return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)
    raise ValueError(dtype)


def _e4m3() -> Float32:
    """The 256 values of E4M3FN (arXiv 2209.05433, table 1): bias 7, no infinities, 0x7F is NaN."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    size[(code & 0x7F) == 0x7F] = np.nan
    return np.where(code & 0x80, -size, size).astype(np.float32)


def pieces(count: int, piece: int, at_most: int | None = None) -> Iterator[tuple[int, int]]:
    """(first, length) of pieces that cover [0, count), or of evenly spaced ones of about `at_most` elements in all."""
    if at_most is None or count <= at_most:
        for first in range(0, count, piece):
            yield first, min(piece, count - first)
        return
    number = max(1, at_most // piece)
    for place in range(number):
        yield (count - piece) * place // max(1, number - 1), piece
