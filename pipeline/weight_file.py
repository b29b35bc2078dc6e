"""What a weight file holds, read from its header alone: no torch, no numpy, nothing executed.

safetensors: https://github.com/huggingface/safetensors#format (u64 header length, JSON header, data).
torch zip and legacy files: see torch_pickle.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, BinaryIO, NamedTuple

from pipeline.file_store import FileStore
from pipeline.json_file import LFS_START, collector_paused, parse_json

# Bytes per element of every safetensors dtype; sub-byte types hold their share.
DTYPE_BYTES: dict[str, float] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1, "F4": 0.5, "F6_E2M3": 0.75, "F6_E3M2": 0.75, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8, "C128": 16,
}  # fmt: skip
FLOAT_DTYPES = frozenset(d for d in DTYPE_BYTES if d.startswith(("F", "BF")))
# The library refuses longer headers too (100 MB).
MAX_HEADER_BYTES = 100_000_000
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
# torch's own limit; and more than any machine holds.
MAX_DIMENSIONS = 64
MAX_ELEMENTS = 2**63


class TensorInfo(NamedTuple):
    """One tensor: where its bytes are and how to read them. `start`/`end` are offsets in the file.

    strided: a view whose rows don't lie one after another (only torch files hold such).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    start: int
    end: int
    strided: bool = False

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class WeightFile:
    """One file of weights. `problem` is None when every tensor in it can be reached.

    Problems: `unreadable`, `empty`, `lfs_pointer`, `not_weights`, `header_too_large`, `header_not_json`,
    `bad_header`, `truncated`, `trailing_bytes`, `unsafe_pickle` (its tensors are listed all the same), `compressed`.
    `missing_bytes`: how many bytes the header promises beyond the end of the file. Without a problem and without
    tensors the detail may say what is there instead: meta, sparse, nested, quantised.
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
            if size < 2048 and first == LFS_START[:16]:
                return WeightFile(name, size, "unknown", problem="lfs_pointer")
            # The length of a safetensors header may spell the start of another format, so what follows it decides.
            if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= MAX_HEADER_BYTES:
                with collector_paused():
                    return _read_safetensors(file, name, size, first)
            if first[:2] == b"PK":
                from pipeline.torch_pickle import read_torch_zip

                return read_torch_zip(file, name, size)
            what = sniff(first)
            if not what and (first[:1] == b"\x80" or name.endswith(PICKLE_SUFFIXES)):
                from pipeline.torch_pickle import read_torch_legacy

                return read_torch_legacy(file, name, size)
            if what or name.endswith(PICKLE_SUFFIXES):
                return WeightFile(name, size, "unknown", problem="not_weights", detail=what)
            return _read_safetensors(file, name, size, first)
    except OSError as error:
        return WeightFile(name, size, "unknown", problem="unreadable", detail=error.strerror or str(error))


def _read_safetensors(file: BinaryIO, name: str, size: int, first: bytes) -> WeightFile:
    broken = WeightFile(name, size, "safetensors")
    length = int.from_bytes(first[:8], "little")
    looks_right = first[8:9] == b"{" and length <= MAX_HEADER_BYTES
    if len(first) < 9:
        return replace(broken, problem="truncated", missing_bytes=9 - len(first))
    if length > min(size - 8, MAX_HEADER_BYTES):
        # A header that starts like JSON belongs to a file cut inside its header; anything else is no safetensors.
        return replace(
            broken,
            problem="truncated" if looks_right else "header_too_large",
            missing_bytes=8 + length - size if looks_right else 0,
            detail=f"{length:,}",
        )
    file.seek(8)
    try:
        header = parse_json(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("not an object")
    except ValueError as error:
        return replace(broken, problem="header_not_json", detail=str(error)[:120])
    metadata = header.pop("__metadata__", None)
    tensors = []
    for key, entry in header.items():
        tensor = _tensor(key, entry, name, 8 + length)
        if isinstance(tensor, str):
            return replace(broken, problem="bad_header", detail=f"{key[:80]}: {tensor}")
        tensors.append(tensor)
    notes = metadata if isinstance(metadata, dict) else {}
    if (metadata is not None and notes is not metadata) or not all(isinstance(v, str) for v in notes.values()):
        return replace(broken, problem="bad_header", detail="__metadata__ is not a table of texts")
    end_of_data = 8 + length
    for tensor in sorted(tensors, key=lambda t: (t.start, t.end)):
        if tensor.start != end_of_data:
            return replace(broken, problem="bad_header", detail=f"{tensor.name[:80]}: overlap or gap before it")
        end_of_data = tensor.end
    read = replace(broken, tensors=tuple(tensors), metadata=tuple(notes.items()))
    if end_of_data > size:
        return replace(read, problem="truncated", missing_bytes=end_of_data - size)
    if end_of_data < size:
        return replace(read, problem="trailing_bytes", detail=f"{size - end_of_data:,}")
    return read


def _tensor(key: str, entry: Any, file: str, data_start: int) -> TensorInfo | str:
    """One header entry, or what is wrong with it."""
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        return "dtype, shape or data_offsets missing"
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        return f"unknown dtype {str(dtype)[:40]!r}"
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        return "the shape is no list of sizes"
    for n in (*shape, start, end):
        if type(n) is not int or not 0 <= n < MAX_ELEMENTS:
            return "negative or non-integer shape or offset"
    if end < start:
        return "negative or non-integer shape or offset"
    bits = prod(shape) * int(8 * DTYPE_BYTES[dtype])
    if bits != 8 * (end - start):
        return f"shape {shape} of {dtype} does not take {end - start:,} bytes"[:160]
    return TensorInfo(key, tuple(shape), dtype, file, data_start + start, data_start + end)
