"""What a weight file holds, read from its header alone: no torch, no numpy, nothing executed.

safetensors: https://github.com/huggingface/safetensors#format (u64 header length, JSON header, data).
torch zip and legacy files: see torch_pickle.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import prod
from typing import Any, BinaryIO

from pipeline.file_store import FileStore
from pipeline.json_file import LFS_START

# Bytes per element of every safetensors dtype; sub-byte types hold their share.
DTYPE_BYTES: dict[str, float] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1, "F4": 0.5, "F6_E2M3": 0.75, "F6_E3M2": 0.75, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8, "C128": 16,
}  # fmt: skip
FLOAT_DTYPES = frozenset(d for d in DTYPE_BYTES if d.startswith(("F", "BF")))
# The library refuses longer headers too (100 MB).
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: where its bytes are and how to read them. `start`/`end` are offsets in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    start: int
    end: int

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class WeightFile:
    """One file of weights. `problem` is None when every tensor in it can be reached.

    Problems: `unreadable`, `empty`, `lfs_pointer`, `not_weights`, `header_too_large`, `header_not_json`,
    `bad_header`, `truncated`, `trailing_bytes`, `unsafe_pickle`, `compressed`.
    `missing_bytes`: how many bytes the header promises beyond the end of the file.
    """

    name: str
    size: int
    format: str  # safetensors | torch_zip | torch_legacy | unknown
    tensors: tuple[TensorInfo, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    problem: str | None = None
    detail: str = ""
    missing_bytes: int = 0
    nested_under: str = ""  # a state dict found inside a training checkpoint: {"model": {...}, "optimizer": ...}


def sniff(first: bytes) -> str:
    """What a file is, by its first bytes, in plain words; empty when it could be anything."""
    known = {
        b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image",
        b"%PDF": "a PDF document", b"\x1f\x8b": "a gzip archive", b"<!DO": "an HTML page", b"<htm": "an HTML page",
        b"GGUF": "a GGUF model file", b"\x7fELF": "a program", b"RIFF": "an image, sound or video file",
        b"7z\xbc\xaf": "a 7-Zip archive", b"BZh": "a bzip2 archive", b"SQLi": "an SQLite database",
        b"PAR1": "a Parquet file", b"II*\x00": "a TIFF image", b"BM": "a bitmap image",
        b"Rar!": "a RAR archive", b"\xfd7zX": "an xz archive",
    }  # fmt: skip
    return next((words for magic, words in known.items() if first.startswith(magic)), "")


def read_weight_file(store: FileStore, name: str) -> WeightFile:
    """Read the header of one weight file by its content, whatever its suffix says."""
    size = 0
    try:
        size = store.size(name)
        if size == 0:
            return WeightFile(name, 0, "unknown", problem="empty")
        with store.open(name) as file:
            first = file.read(16)
            if size < 2048 and LFS_START.startswith(first[:15]):
                return WeightFile(name, size, "unknown", problem="lfs_pointer")
            if first[:2] == b"PK":
                from pipeline.torch_pickle import read_torch_zip

                return read_torch_zip(file, name, size)
            if first[:1] == b"\x80" and first[1:2] in b"\x02\x03\x04\x05" and not name.endswith(".safetensors"):
                from pipeline.torch_pickle import read_torch_legacy

                return read_torch_legacy(file, name, size)
            if name.endswith((".bin", ".pt", ".pth", ".ckpt")) and first[8:9] != b"{":
                return WeightFile(name, size, "unknown", problem="not_weights", detail=sniff(first))
            return _read_safetensors(file, name, size, first)
    except OSError as error:
        return WeightFile(name, size, "unknown", problem="unreadable", detail=error.strerror or str(error))


def _read_safetensors(file: BinaryIO, name: str, size: int, first: bytes) -> WeightFile:
    broken = WeightFile(name, size, "safetensors")
    if what := sniff(first):
        return replace(broken, format="unknown", problem="not_weights", detail=what)
    if len(first) < 9:
        return replace(broken, problem="truncated", missing_bytes=9 - len(first))
    length = int.from_bytes(first[:8], "little")
    if length > min(size - 8, MAX_HEADER_BYTES):
        # A header that starts like JSON belongs to a file cut inside its header; anything else is no safetensors.
        cut = first[8:9] == b"{" and length <= MAX_HEADER_BYTES
        return replace(
            broken,
            problem="truncated" if cut else "header_too_large",
            missing_bytes=8 + length - size if cut else 0,
            detail=f"{length:,}",
        )
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        return replace(broken, problem="header_not_json", detail=str(error)[:120])
    metadata = header.pop("__metadata__", None)
    tensors = []
    end_of_data = 0
    for key, entry in header.items():
        tensor = _tensor(key, entry, name, 8 + length)
        if isinstance(tensor, str):
            return replace(broken, problem="bad_header", detail=f"{key}: {tensor}")
        end_of_data = max(end_of_data, tensor.end - 8 - length)
        tensors.append(tensor)
    notes = tuple((str(k), str(v)) for k, v in metadata.items()) if isinstance(metadata, dict) else ()
    read = replace(broken, tensors=tuple(tensors), metadata=notes)
    surplus = size - 8 - length - end_of_data
    if surplus < 0:
        return replace(read, problem="truncated", missing_bytes=-surplus)
    if surplus > 0:
        return replace(read, problem="trailing_bytes", detail=f"{surplus:,}")
    return read


def _tensor(key: str, entry: Any, file: str, data_start: int) -> TensorInfo | str:
    """One header entry, or what is wrong with it."""
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        return "dtype, shape or data_offsets missing"
    if dtype not in DTYPE_BYTES:
        return f"unknown dtype {dtype!r}"
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)) or end < start:
        return "negative or non-integer shape or offset"
    if end - start != prod(shape) * DTYPE_BYTES[dtype]:
        return f"shape {list(shape)} of {dtype} needs {prod(shape) * DTYPE_BYTES[dtype]:,.0f} bytes, has {end - start:,}"
    return TensorInfo(key, shape, dtype, file, data_start + start, data_start + end)
