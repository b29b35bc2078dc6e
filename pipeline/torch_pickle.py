"""Names, shapes and byte ranges of the tensors in a `torch.save` file, without torch and without executing it.

The pickle inside is not unpickled: `pickletools` splits it into opcodes, and the few that `torch.save` writes are
followed here over plain values. No name in it is ever looked up; a call of anything but torch's own rebuilding
functions gives an inert value. Names that `torch.load(weights_only=True)` would refuse are reported.
"""

from __future__ import annotations

import pickletools
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from pipeline.weight_file import DTYPE_BYTES, MAX_DIMENSIONS, MAX_ELEMENTS, TensorInfo, WeightFile

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
    "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip
# What torch.load(weights_only=True) allows: torch/_weights_only_unpickler.py
_ALLOWED = re.compile(
    r"^(collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(bytearray|set|complex)"
    r"|torch\.((storage|cuda|sparse|xpu)\.)*\w+(Storage|Tensor)|torch\.(Size|Tensor|device|per_(tensor|channel)_\w+)"
    r"|torch\.(float|double|half|bfloat16|short|int|long|bool|cfloat|cdouble|chalf|q?u?int\d+(x\d+)?"
    r"|b?float\d+\w*|complex\d+|bits\w+)|torch\.serialization\._get_layout|torch\.torch_version\.TorchVersion"
    r"|torch\.nn\.(parameter\.)?(Parameter|UninitializedParameter)|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\._utils\._rebuild_\w+)$"
)
# Keys under which training scripts keep the weights beside the optimiser's state.
NESTED_STATE_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
# Names and shapes of forty thousand tensors need less of both; beyond it data was pickled as objects.
MAX_PICKLE_BYTES = 64 * 2**20
MAX_STEPS = 1_500_000
_NAME = re.compile(r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class _Damaged(Exception):
    """The bytes are not what a pickle of tensors looks like."""


class _TooLarge(Exception):
    """More objects than tensors need."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    numel: int
    first: int = 0  # where a legacy view of a storage begins, in elements


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


_INERT = object()
# Tensors without values of their own, or whose values are no plain table.
_UNPLAIN = {
    "_rebuild_meta_tensor_no_storage": "meta", "_rebuild_sparse_tensor": "sparse", "_rebuild_nested_tensor": "nested",
    "_rebuild_sparse_csr_tensor": "sparse", "_rebuild_qtensor": "quantised",
}  # fmt: skip


class _Reading:
    """Pickles followed to their end. `storages`: by key. `foreign`: names a state dict does not need. `unplain`: kinds
    of tensors seen that are no table of numbers. `magic`: the first value is the number that a torch file begins with.
    """

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self.foreign: dict[str, None] = {}
        self.unplain: dict[str, None] = {}
        self.steps = 0
        self.magic = False

    def value(self, file: BinaryIO) -> Any:
        """The value at the file's position; the position ends up behind it. Raises _Damaged, _TooLarge."""
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(file):
                self.steps += 1
                if self.steps > MAX_STEPS:
                    raise _TooLarge
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        # What genops and the stack raise depends on where the bytes are damaged; all of it means the same here.
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise _Damaged(f"{type(error).__name__}: {error}"[:160]) from None
        raise _Damaged("no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self.memo[argument])
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                if len(stack) < count:
                    raise IndexError("pop from an empty stack")
                stack[-count:] = [tuple(stack[-count:])]
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(_INERT)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "LIST":
                stack.append(list(self._since_mark()))
            case "DICT":
                items = self._since_mark()
                stack.append({})
                self._set(items)
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._since_mark())
            case "ADDITEMS":
                self._since_mark()
            case "FROZENSET":
                self._since_mark()
                stack.append(_INERT)
            case "GLOBAL":
                stack.append(self._global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not isinstance(attribute, str) or not isinstance(module, str):
                    raise _Damaged("a name that is no text")
                stack.append(self._global(f"{module}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "NEWOBJ_EX":
                stack.pop(), stack.pop(), stack.pop()
                stack.append(_INERT)
            case "INST":
                self._since_mark()
                self._global(argument.replace(" ", ".", 1))
                stack.append(_INERT)
            case "OBJ":
                self._since_mark()
                stack.append(_INERT)
            case "BUILD":  # state of an object: state_dict() hangs `_metadata` on its dictionary
                stack.pop()
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "POP":
                if self.marks and self.marks[-1] == len(stack):
                    self.marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PERSID" | "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise _Damaged(f"{name} in a state dict")
            case _:  # numbers, text, bytes
                stack.append(argument)

    def _since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        # Hashing a hostile key (tuples nested a million deep) would end the process; a state dict has no such keys.
        into = self.stack[-1]
        if isinstance(into, dict):
            into.update((k, v) for k, v in zip(items[::2], items[1::2], strict=False) if isinstance(k, (str, int)))

    def _global(self, name: str) -> _Global:
        if not _NAME.match(name):
            raise _Damaged("a name that is no name")
        if not _ALLOWED.match(name) and len(self.foreign) < 50:
            self.foreign[name[:120]] = None
        return _Global(name)

    def _storage(self, reference: Any) -> _Storage:
        """('storage', type, key, device, elements[, (view key, offset, elements)])"""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise _Damaged("unknown persistent id")
        kind, key, numel = reference[1], reference[2], reference[4]
        dtype = _STORAGE_DTYPES.get(kind.name.rpartition(".")[2]) if isinstance(kind, _Global) else None
        if dtype is None or not isinstance(key, (str, int)) or not _is_size(numel):
            raise _Damaged("unknown persistent id")
        storage = _Storage(str(key), dtype, numel)
        known = self.storages.get(storage.key)
        if known is None or known.numel < numel:
            self.storages[storage.key] = storage
        view = reference[5] if len(reference) > 5 else None
        if isinstance(view, tuple) and len(view) == 3 and _is_size(view[1]):
            return _Storage(storage.key, dtype, numel, view[1])
        return storage

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            return _INERT
        name = function.name.rpartition(".")[2]
        if function.name == "torch._tensor._rebuild_from_type_v2" and len(arguments) > 2:
            inner, arguments = arguments[0], arguments[2]
            name = inner.name.rpartition(".")[2] if isinstance(inner, _Global) else ""
            if not isinstance(arguments, tuple):
                return _INERT
        if name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3") and len(arguments) > 3:
            return self._tensor(name, arguments)
        if name in ("_rebuild_parameter", "_rebuild_parameter_with_state", "Parameter") and arguments:
            return arguments[0]
        if name in ("OrderedDict", "Counter"):
            made: dict[Any, Any] = {}
            # Python 2 wrote an OrderedDict as a call on its list of pairs.
            if arguments and isinstance(arguments[0], list):
                self.steps += len(arguments[0])
                for pair in arguments[0]:
                    if isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], (str, int)):
                        made[pair[0]] = pair[1]
            return made
        if unplain := _UNPLAIN.get(name):
            self.unplain[unplain] = None
        return _INERT

    def _tensor(self, name: str, arguments: tuple[Any, ...]) -> Any:
        storage, offset, shape, stride = arguments[:4]
        if not isinstance(storage, _Storage):
            return _INERT
        dtype = storage.dtype
        if name.endswith("v3"):  # its storage is untyped
            kind = arguments[6] if len(arguments) > 6 else None
            named = kind.name.removeprefix("torch.") if isinstance(kind, _Global) else ""
            if named not in _TORCH_DTYPES:
                return _INERT
            dtype = _TORCH_DTYPES[named]
        sizes = [v for v in (shape, stride) if isinstance(v, (tuple, list)) and len(v) <= MAX_DIMENSIONS]
        if len(sizes) != 2 or len(shape) != len(stride) or not all(map(_is_size, (offset, *shape, *stride))):
            raise _Damaged("a tensor with impossible shape or stride")
        return _Tensor(storage, offset + storage.first, tuple(shape), tuple(stride), dtype)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_ELEMENTS


# What zipfile raises depends on where the bytes are damaged. RuntimeError: encrypted; EOFError: cut inside.
_ZIP_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError, IndexError,
                OverflowError)  # fmt: skip


def read_torch_zip(file: BinaryIO, name: str, size: int) -> WeightFile:
    """Header of a `torch.save` zip file (the default since torch 1.6)."""
    broken = WeightFile(name, size, "torch_zip")
    try:
        archive = zipfile.ZipFile(file)
        members = {info.filename: info for info in archive.infolist()}
    except _ZIP_DAMAGED as error:
        if isinstance(error.__context__, OSError):  # zipfile calls a failed read "not a zip file" too
            raise error.__context__ from None
        # The directory of a zip file is its end: without it the file is cut.
        return _problem(broken, "truncated", str(error))
    pickles = [n for n in members if n == "data.pkl" or n.endswith("/data.pkl")]
    if not pickles:
        return _problem(broken, "not_weights", "a zip archive")
    root = pickles[0][: -len("data.pkl")]
    if any(n.startswith(f"{root}code/") for n in members):
        return _problem(broken, "not_weights", "a TorchScript program")
    if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
        return _problem(broken, "not_weights", "pickled objects")
    reading = _Reading()
    try:
        with archive.open(pickles[0]) as stream:
            content = reading.value(BytesIO(stream.read(MAX_PICKLE_BYTES)))
    except _TooLarge:
        return _problem(broken, "not_weights", "pickled objects")
    except (_Damaged, *_ZIP_DAMAGED) as error:
        return _unsafe(broken, reading) or _problem(broken, "bad_header", str(error)[:160])
    starts: dict[str, tuple[int, int]] = {}
    offsets = sorted(info.header_offset for info in members.values())
    followers = dict(zip(offsets, [*offsets[1:], archive.start_dir], strict=True))
    for key, storage in reading.storages.items():
        info = members.get(f"{root}data/{key}")
        if info is None:
            return _problem(broken, "truncated", f"storage {key}"[:160])
        if info.compress_type != zipfile.ZIP_STORED:
            return _problem(broken, "compressed", f"storage {key}"[:160])
        if not 0 <= info.header_offset <= size:
            return _problem(broken, "truncated", f"storage {key}"[:160])
        start = _data_start(file, info, followers[info.header_offset])
        if info.file_size < storage.numel * DTYPE_BYTES[storage.dtype] or start + info.file_size > size:
            return _problem(broken, "truncated", f"storage {key}"[:160])
        starts[key] = (start, info.file_size)
    return _with_tensors(broken, content, starts, reading)


def _data_start(file: BinaryIO, info: zipfile.ZipInfo, follower: int) -> int:
    """Where the bytes of one member begin. `follower`: offset of what comes after it in the file.

    torch pads every member to a multiple of 64 bytes, so directory alone tells the place; without this a remote
    file would cost one request per tensor. Anything else is read from the member's own header.
    """
    least = info.header_offset + 30 + len(info.filename.encode("utf-8", "replace"))  # 30 = fixed part of the header
    for descriptor in (0, 16, 24):  # sizes and checksum repeated after the data: absent, 32-bit, 64-bit
        start = follower - descriptor - info.file_size
        if start % 64 == 0 and least <= start < least + 128:
            return start
    file.seek(info.header_offset + 26)
    lengths = file.read(4)  # name and extra field may be longer than the directory says
    return info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def read_torch_legacy(file: BinaryIO, name: str, size: int) -> WeightFile:
    """Header of a `torch.save` file from before torch 1.6: five pickles, then the storages one after another."""
    broken = WeightFile(name, size, "torch_legacy")
    wanted = 2**20
    while True:  # the pickles come first and are small; a damaged one must not pull gigabytes into memory
        file.seek(0)
        head = BytesIO(file.read(wanted))
        whole = wanted >= min(size, MAX_PICKLE_BYTES)
        reading = _Reading()
        try:
            reading.magic = reading.value(head) == _LEGACY_MAGIC
            if not reading.magic:
                return _unsafe(broken, reading) or _problem(broken, "not_weights", "a Python pickle")
            reading.value(head), reading.value(head)
            content = reading.value(head)
            keys = reading.value(head)
            break
        except _TooLarge:
            return _problem(broken, "not_weights", "pickled objects")
        except _Damaged as error:
            if whole and reading.magic:
                cut = size <= MAX_PICKLE_BYTES
                return _unsafe(broken, reading) or _problem(broken, "truncated" if cut else "bad_header", str(error))
            if whole:
                return _unsafe(broken, reading) or _problem(broken, "not_weights", "")
        wanted = min(wanted * 8, MAX_PICKLE_BYTES)
    starts: dict[str, tuple[int, int]] = {}
    position = head.tell()
    for key in keys if isinstance(keys, list) else []:
        storage = reading.storages.get(str(key)) if isinstance(key, (str, int)) else None
        if storage is None:
            return _problem(broken, "bad_header", "a storage that no tensor uses")
        length = int(storage.numel * DTYPE_BYTES[storage.dtype])
        starts[storage.key] = (position + 8, length)  # a u64 element count stands before each storage
        position += 8 + length
    if position > size:
        return _problem(broken, "truncated", f"{position - size:,} bytes", missing=position - size)
    return _with_tensors(broken, content, starts, reading)


def _unsafe(file: WeightFile, reading: _Reading) -> WeightFile | None:
    """The verdict on a pickle that asks for foreign names, whatever else is wrong with it."""
    return _problem(file, "unsafe_pickle", ", ".join(reading.foreign)) if reading.foreign else None


def _problem(file: WeightFile, problem: str, detail: str, missing: int = 0) -> WeightFile:
    return WeightFile(file.name, file.size, file.format, problem=problem, detail=detail, missing_bytes=missing)


def _with_tensors(file: WeightFile, content: Any, starts: dict[str, tuple[int, int]], reading: _Reading) -> WeightFile:
    foreign = reading.foreign
    under, state = _state_dict(content)
    tensors = []
    for key, value in state.items():
        if not isinstance(value, _Tensor):
            continue
        base, length = starts.get(value.storage.key, (0, 0))
        width = DTYPE_BYTES[value.dtype]
        # A view (tied or sliced weights) may be strided: its bytes lie between its first and last element.
        last = sum((n - 1) * s for n, s in zip(value.shape, value.stride, strict=True)) if all(value.shape) else -1
        start = base + int(value.offset * width)
        end = start + int((last + 1) * width)
        if last >= 0 and end > base + length:
            return _problem(file, "bad_header", f"{key}: reaches beyond its storage"[:160])
        strided = not _contiguous(value.shape, value.stride)
        tensors.append(TensorInfo(_writable(key), value.shape, value.dtype, file.name, start, end, strided))
    if not tensors and not isinstance(content, dict) and not foreign:
        return _problem(file, "not_weights", "a pickle without tensors")
    return WeightFile(
        file.name, file.size, file.format, tuple(tensors), nested_under=under,
        problem="unsafe_pickle" if foreign else None,
        detail=", ".join(foreign) or ("" if tensors else ", ".join(reading.unplain)),
    )  # fmt: skip


def _writable(key: object) -> str:
    """A key as text that every encoding can write."""
    return str(key).encode("utf-8", errors="replace").decode()


def _contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for n, s in zip(reversed(shape), reversed(stride), strict=True):
        if n != 1 and s != expected:
            return False
        expected *= n
    return True


def _state_dict(content: Any) -> tuple[str, dict[Any, Any]]:
    """The dictionary of tensors, and the key it was found under in a whole training checkpoint."""
    if not isinstance(content, dict):
        return "", {}

    def count(state: Any) -> int:
        return sum(isinstance(v, _Tensor) for v in state.values()) if isinstance(state, dict) else 0

    inner = [(key, content[key]) for key in NESTED_STATE_KEYS if count(content.get(key))]
    if not inner and not count(content):  # any other key, as long as it is not the optimiser's
        inner = [(str(k), v) for k, v in content.items() if count(v) and "optim" not in str(k)]
    best = max(inner, key=lambda found: count(found[1]), default=("", content))
    return best if count(best[1]) > count(content) else ("", content)
