"""Names, shapes and byte ranges of the tensors in a `torch.save` file, without torch and without executing it.

The pickle inside is read by an unpickler whose only callables are the inert stand-ins below; any other global
ends the reading (`unsafe_pickle`). The list follows what `torch.load(weights_only=True)` allows, so what this
reader refuses torch refuses too.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.weight_file import DTYPE_BYTES, TensorInfo, WeightFile

_STORAGE_DTYPES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "ComplexDoubleStorage": "C128", "UntypedStorage": "U8",
    "Float8_e4m3fnStorage": "F8_E4M3", "Float8_e5m2Storage": "F8_E5M2",
}  # fmt: skip
_TORCH_DTYPES = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16", "int64": "I64", "long": "I64", "int32": "I32", "int": "I32", "int16": "I16", "int8": "I8",
    "uint8": "U8", "bool": "BOOL", "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip
# Keys under which training scripts keep the weights beside the optimiser's state.
NESTED_STATE_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
# Pickles of names and shapes are small; a pickle above this is data pickled as objects, not a state dict.
MAX_PICKLE_BYTES = 256 * 2**20


class UnsafePickle(Exception):
    """The pickle asks for a global that a state dict does not need. The message names it."""


@dataclass(frozen=True)
class _DType:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


class _Inert:
    """Stands for any allowed object whose content does not matter here (a device, an array of counters)."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass


class _InertDict(OrderedDict[Any, Any]):
    def __setstate__(self, state: object) -> None:  # state_dict() hangs `_metadata` on its OrderedDict
        pass


def _rebuild_tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: object) -> Any:
    if not isinstance(storage, _Storage):
        return _Inert()
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)), storage.dtype)


def _rebuild_tensor_v3(storage: Any, offset: int, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any,
                       *_: object) -> Any:  # fmt: skip
    if not isinstance(storage, _Storage) or not isinstance(dtype, _DType):
        return _Inert()
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)), dtype.name)


def _first(value: Any, *_: object) -> Any:
    return value


def _rebuild_from_type(function: Any, _type: Any, args: Any, _state: Any) -> Any:
    return function(*args) if function in (_rebuild_tensor, _rebuild_tensor_v3, _first) else _Inert()


_INERT_GLOBALS = {
    ("torch", "device"), ("torch", "Tensor"), ("torch", "Size"), ("torch.serialization", "_get_layout"),
    ("_codecs", "encode"), ("builtins", "bytearray"), ("builtins", "set"), ("builtins", "complex"),
    ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"), ("torch._utils", "_rebuild_nested_tensor"),
    ("torch._utils", "_rebuild_wrapper_subclass"), ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"), ("torch.torch_version", "TorchVersion"),
}  # fmt: skip


class _HeaderUnpickler(pickle.Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _InertDict
        if (module, name) == ("collections", "Counter"):
            return _InertDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_tensor_v3":
            return _rebuild_tensor_v3
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _first
        if (module, name) in (("torch.nn.parameter", "Parameter"), ("torch.nn", "Parameter")):
            return _first
        if (module, name) == ("torch._tensor", "_rebuild_from_type_v2"):
            return _rebuild_from_type
        if module in ("torch", "torch.storage", "torch.cuda") and name in _STORAGE_DTYPES:
            return _DType(_STORAGE_DTYPES[name])
        if module == "torch" and name in _TORCH_DTYPES:
            return _DType(_TORCH_DTYPES[name])
        if (module, name) in _INERT_GLOBALS:
            return _Inert
        raise UnsafePickle(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _DType):
            raise pickle.UnpicklingError("unknown persistent id")
        storage = _Storage(str(pid[2]), pid[1].name, int(pid[4]))
        self.storages[storage.key] = storage
        return storage


def _load(file: Any) -> tuple[Any, dict[str, _Storage]]:
    unpickler = _HeaderUnpickler(file)
    return unpickler.load(), unpickler.storages


# What a damaged pickle raises depends on where it is damaged; all of it means the same here.
_DAMAGED = (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            MemoryError, RecursionError, UnicodeDecodeError, ImportError, OverflowError)  # fmt: skip


def read_torch_zip(file: BinaryIO, name: str, size: int) -> WeightFile:
    """Header of a `torch.save` zip file (the default since torch 1.6)."""
    broken = WeightFile(name, size, "torch_zip")
    try:
        archive = zipfile.ZipFile(file)
        members = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        # The directory of a zip file is its end: without it the file is cut.
        return _problem(broken, "truncated", str(error))
    pickles = [n for n in members if n == "data.pkl" or n.endswith("/data.pkl")]
    if not pickles:
        return _problem(broken, "not_weights", "a zip archive")
    root = pickles[0][: -len("data.pkl")]
    if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
        return _problem(broken, "not_weights", "objects instead of tensors")
    try:
        with archive.open(pickles[0]) as stream:
            content, storages = _load(stream)
    except UnsafePickle as error:
        return _problem(broken, "unsafe_pickle", str(error))
    except (*_DAMAGED, zipfile.BadZipFile) as error:
        return _problem(broken, "bad_header", f"{type(error).__name__}: {error}"[:160])
    starts: dict[str, tuple[int, int]] = {}
    for key, storage in storages.items():
        info = members.get(f"{root}data/{key}")
        if info is None:
            return _problem(broken, "truncated", f"storage {key}")
        if info.compress_type != zipfile.ZIP_STORED:
            return _problem(broken, "compressed", f"storage {key}")
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
        # 30 = fixed part of a local file header; its name and extra field may differ from the directory's.
        start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        starts[key] = (start, info.file_size)
        if info.file_size < storage.numel * DTYPE_BYTES[storage.dtype]:
            return _problem(broken, "truncated", f"storage {key}")
    return _with_tensors(broken, content, starts)


def read_torch_legacy(file: BinaryIO, name: str, size: int) -> WeightFile:
    """Header of a `torch.save` file from before torch 1.6: five pickles, then the storages one after another."""
    broken = WeightFile(name, size, "torch_legacy")
    file.seek(0)
    try:
        magic, _ = _load(file)
        if magic != 0x1950A86A20F9469CFC6C:
            return _problem(broken, "not_weights", "a Python pickle")
        _load(file), _load(file)
        content, storages = _load(file)
        keys, _ = _load(file)
        starts = {}
        position = file.tell()
        for key in keys:
            storage = storages[str(key)]
            length = int(storage.numel * DTYPE_BYTES[storage.dtype])
            starts[storage.key] = (position + 8, length)  # a u64 element count stands before each storage
            position += 8 + length
    except UnsafePickle as error:
        return _problem(broken, "unsafe_pickle", str(error))
    except _DAMAGED as error:
        cut = isinstance(error, (EOFError, pickle.UnpicklingError))
        return _problem(broken, "truncated" if cut else "bad_header", f"{type(error).__name__}: {error}"[:160])
    if position > size:
        return _problem(broken, "truncated", f"{position - size:,} bytes", missing=position - size)
    return _with_tensors(broken, content, starts)


def _problem(file: WeightFile, problem: str, detail: str, missing: int = 0) -> WeightFile:
    return WeightFile(file.name, file.size, file.format, problem=problem, detail=detail, missing_bytes=missing)


def _with_tensors(file: WeightFile, content: Any, starts: dict[str, tuple[int, int]]) -> WeightFile:
    under, state = _state_dict(content)
    tensors = []
    for key, value in state.items():
        if not isinstance(value, _Tensor):
            continue
        base, length = starts[value.storage.key]
        width = DTYPE_BYTES[value.dtype]
        # A view (tied or sliced weights) may be strided: its bytes lie between its first and last element.
        last = sum((n - 1) * s for n, s in zip(value.shape, value.stride, strict=False)) if all(value.shape) else -1
        start = base + int(value.offset * width)
        end = start + int((last + 1) * width)
        if end > base + length or start < base:
            return _problem(file, "bad_header", f"{key}: reaches beyond its storage")
        tensors.append(TensorInfo(str(key), value.shape, value.dtype, file.name, start, end))
    if not tensors and not isinstance(content, dict):
        return _problem(file, "not_weights", "a pickle without tensors")
    return WeightFile(file.name, file.size, file.format, tuple(tensors), nested_under=under)


def _state_dict(content: Any) -> tuple[str, dict[Any, Any]]:
    """The dictionary of tensors, and the key it was found under in a whole training checkpoint."""
    if not isinstance(content, dict):
        return "", {}
    if any(isinstance(v, _Tensor) for v in content.values()):
        return "", content
    for key in NESTED_STATE_KEYS:
        inner = content.get(key)
        if isinstance(inner, dict) and any(isinstance(v, _Tensor) for v in inner.values()):
            return key, inner
    return "", content
