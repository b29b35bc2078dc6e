"""The readers of checkpoint files: what the libraries write is read, everything else is a `problem`, never an
exception, and nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from pipeline.checkpoint import open_checkpoint
from pipeline.file_store import LocalFolder
from pipeline.json_file import MAX_DEPTH, read_json
from pipeline.torch_pickle import MAX_PICKLE_BYTES
from pipeline.weight_file import WeightFile, read_weight_file

ROOT = Path(__file__).resolve().parent.parent


class Bytes:
    """A store of one file that lies in memory."""

    label = "memory"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def size(self, name: str) -> int:
        return len(self.data)

    def open(self, name: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def read(data: bytes, name: str = "pytorch_model.bin") -> WeightFile:
    return read_weight_file(Bytes(data), name)


def torch_bytes(content: object, *, new: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def state() -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = OrderedDict(
        matrix=torch.randn(3, 4), half=torch.randn(5).half(), brain=torch.randn(3).bfloat16(),
        whole=torch.arange(6).view(2, 3), empty=torch.zeros(0), scalar=torch.tensor(3.0),
        flags=torch.tensor([True, False]),
        eighth=torch.randn(3).to(torch.float8_e4m3fn), unsigned=torch.zeros(3, dtype=torch.uint16),
    )  # fmt: skip
    tensors["tied"] = tensors["matrix"]
    tensors["view"] = tensors["matrix"][1:]
    tensors["transposed"] = tensors["matrix"].t()
    tensors["expanded"] = torch.randn(1, 4).expand(3, 4)
    tensors["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    return tensors


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_torch_files_are_read_to_the_byte(new: bool) -> None:
    tensors = state()
    data = torch_bytes(tensors, new=new)
    found = read(data)
    assert found.problem is None and found.format == ("torch_zip" if new else "torch_legacy")
    assert {t.name: t.shape for t in found.tensors} == {n: tuple(t.shape) for n, t in tensors.items()}
    for entry in found.tensors:
        tensor = tensors[entry.name]
        assert entry.strided == (entry.name in ("transposed", "expanded"))
        if not entry.strided:
            assert data[entry.start : entry.end] == bytes_of(tensor), entry.name
    by_name = {t.name: t for t in found.tensors}
    assert (by_name["tied"].start, by_name["tied"].end) == (by_name["matrix"].start, by_name["matrix"].end)


def test_safetensors_are_read_to_the_byte() -> None:
    tensors = {n: t.contiguous().clone() for n, t in state().items()}
    data = save(tensors, metadata={"format": "pt"})
    found = read(data, "model.safetensors")
    assert found.problem is None and found.metadata == (("format", "pt"),)
    assert {t.name for t in found.tensors} == set(tensors)
    for entry in found.tensors:
        assert data[entry.start : entry.end] == bytes_of(tensors[entry.name])


@pytest.mark.parametrize(
    "wrapped",
    [
        {"model": state(), "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}},
        {"step": torch.tensor(7), "model": state(), "optimizer_state_dict": {"a": torch.zeros(1)}},
        {"state_dict": state(), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
        {"module": state(), "dp_world_size": 8}, {"ema": state(), "optimizer": {"x": torch.zeros(2)}},
    ],
    ids=lambda w: next(k for k in w if k in ("model", "state_dict", "module", "ema")),
)  # fmt: skip
def test_weights_inside_a_training_checkpoint(wrapped: dict) -> None:
    found = read(torch_bytes(wrapped))
    assert found.problem is None and found.nested_under in ("model", "state_dict", "module", "ema")
    assert {t.name for t in found.tensors} == set(state())


class Evil:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    act = Evil(os.system, (f"touch {mark}",))
    protocol0 = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    hostile = {
        "zip": torch_bytes({"a": torch.zeros(2), "x": act}),
        "legacy": torch_bytes({"a": torch.zeros(2), "x": act}, new=False),
        "plain": pickle.dumps(act), "protocol 0": protocol0, "inst": f"(S'touch {mark}'\nios\nsystem\n.".encode(),
        "built in": pickle.dumps(Evil(eval, (f"open({str(mark)!r}, 'w')",))),
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    }  # fmt: skip
    for name, data in hostile.items():
        for file_name in ("pytorch_model.bin", "model.safetensors", "ckpt.pt"):
            found = read(data, file_name)
            assert found.problem is not None, name
            if file_name != "model.safetensors" or data[:1] in (b"\x80", b"P"):
                assert found.problem == "unsafe_pickle", (name, found)
                assert any(word in found.detail for word in ("system", "eval")), found.detail
    assert not mark.exists()


def test_objects_beside_tensors_are_named_and_tensors_listed() -> None:
    found = read(torch_bytes({"args": argparse.Namespace(a=1), "model": state(), "loss": numpy.float64(1.0)}))
    assert found.problem == "unsafe_pickle" and "argparse.Namespace" in found.detail and "numpy" in found.detail
    assert {t.name for t in found.tensors} == set(state())


def test_what_torch_allows_is_allowed() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    from pipeline.torch_pickle import _ALLOWED

    refused = [name for name in _get_allowed_globals() if not _ALLOWED.match(name)]
    assert not refused
    for name in ("os.system", "torch.load", "torch.hub.load", "torch._utils.import", "builtins.eval", "numpy.dtype",
                 "torch.serialization.load", "torch.storage._load_from_bytes"):  # fmt: skip
        assert not _ALLOWED.match(name), name


def deep_tuple(count: int) -> bytes:
    """A dictionary whose key is a tuple nested `count` deep: hashing it overflows the C stack."""
    return b"\x80\x02})" + b"\x85" * count + b"K\x01s."


def doubling(count: int) -> bytes:
    """A tuple of 2**count elements by reference; hashing, comparing or printing it never ends."""
    return b"\x80\x02}K\x01" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(count)) + b"K\x01s."


@pytest.mark.parametrize(
    "data",
    [
        deep_tuple(200_000), doubling(100), b"\x80\x02]" + b"]" * 50_000 + b"a" * 50_000 + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.", b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"abc.", b"\x80\x02" + b"(" * 200_000,
        b"\x80\x02" + b"N" * 10_000_000, b"c" * 5_000_000, b"\x80", b"\x80\x02.", b"\x80\x02h\x05.",
        b"(dp0\nI" + b"9" * 6000 + b"\ns.",
    ],
    ids=["deep key", "doubling key", "deep list", "huge bytes", "huge int", "huge text", "marks", "endless",
         "no newline", "one byte", "only stop", "no memo", "huge decimal"],
)  # fmt: skip
@pytest.mark.parametrize("inside_zip", [False, True], ids=["plain", "zip"])
def test_hostile_pickles_end_soon_and_as_values(data: bytes, inside_zip: bool) -> None:
    if inside_zip:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", data)
        data = file.getvalue()
    started = time.perf_counter()
    found = read(data)
    assert found.problem in ("not_weights", "bad_header", "truncated") or (found.problem is None and not found.tensors)
    assert time.perf_counter() - started < 20


def test_a_hostile_key_in_a_real_file_is_left_out() -> None:
    hostile = b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01X\x01\x00\x00\x00aK\x02u."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", hostile)
    assert read(file.getvalue()).tensors == ()


def test_a_zip_bomb_is_not_unpacked() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + bytes(MAX_PICKLE_BYTES))
    assert len(file.getvalue()) < 200_000
    started = time.perf_counter()
    assert read(file.getvalue()).problem == "not_weights"
    assert time.perf_counter() - started < 2


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        near = rng.randrange(min(len(changed), 600))
        match rng.randrange(7):
            case 0 | 1:
                changed[near] = rng.randrange(256)
            case 2:
                changed[near] = ord(rng.choice('0123456789[]{}",:-.eE '))
            case 3:
                del changed[rng.randrange(1, len(changed) + 1) :]
            case 4:
                changed[near:near] = rng.randbytes(rng.randrange(6))
            case 5:
                del changed[near : near + rng.randrange(1, 6)]
            case 6:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        if not changed:
            changed = bytearray(b"x")
    return bytes(changed)


def test_safetensors_reader_agrees_with_the_library(tmp_path: Path) -> None:
    """Whatever the library refuses is a problem, and nothing else is."""
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(5).half(), "c": torch.arange(6), "e": torch.zeros(0)}
    good = save(tensors, metadata={"format": "pt"})
    path = tmp_path / "model.safetensors"
    rng = random.Random(1)
    refused = 0
    for _ in range(3000):
        data = mutated(good, rng)
        path.write_bytes(data)
        try:
            with safe_open(path, "pt") as file:
                names = set(file.keys())
        except Exception:
            names = None
        found = read_weight_file(LocalFolder(tmp_path), path.name)
        assert (found.problem is None) == (names is not None), (found, data[:400])
        assert names is None or {t.name for t in found.tensors} == names
        refused += names is None
    assert 1000 < refused < 3000


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_garbled_torch_files_are_problems(new: bool) -> None:
    good = torch_bytes(state(), new=new)
    rng = random.Random(2)
    problems = {read(mutated(good, rng)).problem for _ in range(2500)}
    assert problems <= {None, "truncated", "bad_header", "not_weights", "compressed", "unsafe_pickle",
                        "header_too_large", "header_not_json"}  # fmt: skip
    assert "truncated" in problems and "bad_header" in problems
    for cut in range(0, len(good), max(1, len(good) // 300)):
        assert read(good[:cut]).problem is not None
    for size in (1, 7, 8, 9, 100, 5000):
        for _ in range(100):
            assert read(rng.randbytes(size), rng.choice(["a.bin", "a.safetensors", "a.pt", "a"])).problem is not None


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: object, start: object, end: object, dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (safetensors_bytes({"a": entry([2], 0, 8)}, bytes(8)), None),
        (safetensors_bytes({"a": entry([2], 0, 8)}, bytes(5)), "truncated"),
        (safetensors_bytes({"a": entry([2], 0, 8)}, bytes(9)), "trailing_bytes"),
        (safetensors_bytes({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([2], 0, 8), "b": entry([1], 12, 16)}, bytes(16)), "bad_header"),
        (safetensors_bytes({"a": entry([10**40, 10**40], 0, 8)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([10**18] * 64, 0, 8, "F4")}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([1] * 100_000, 0, 4)}, bytes(4)), "bad_header"),
        (safetensors_bytes({"a": entry([-2], 0, 8)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([2.0], 0, 8)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([True], 0, 4)}, bytes(4)), "bad_header"),
        (safetensors_bytes({"a": entry("2", 0, 8)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([2], "0", 8)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([2], 0, 8, ["F32"])}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": entry([2], 0, 8, "F31")}, bytes(8)), "bad_header"),
        (safetensors_bytes({"a": None}), "bad_header"),
        (safetensors_bytes({"a": entry([2], 8, 0)}, bytes(8)), "bad_header"),
        (safetensors_bytes({"__metadata__": {"a": 1}}), "bad_header"),
        (safetensors_bytes([1, 2]), "header_not_json"),
        (safetensors_bytes(b"{" + b"[" * 50_000), "header_not_json"),
        (safetensors_bytes(b'{"a":' * 5000 + b"1" + b"}" * 5000), "header_not_json"),
        (safetensors_bytes(b'{"a": ' + b"9" * 6000 + b"}"), "header_not_json"),
        (safetensors_bytes(b'{"\xff": 1}'), "header_not_json"),
        (struct.pack("<Q", 2**63) + b"{}", "header_too_large"),
        (struct.pack("<Q", 10_000) + b'{"a": 1}', "truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "lfs_pointer"),
        (b"", "empty"), (b"\x00", "truncated"), (bytes(8), "truncated"), (bytes(100), "header_not_json"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not_weights"), (b"GGUF" + bytes(100), "not_weights"),
        (b"<!DOCTYPE html><html>" + bytes(100), "not_weights"), (b"PK\x03\x04" + bytes(100), "truncated"),
    ],
)  # fmt: skip
def test_headers_of_every_kind(data: bytes, problem: str | None) -> None:
    assert read(data, "model.safetensors").problem == problem


def test_a_header_length_that_spells_another_format() -> None:
    """0x4D42 is both a header length of 19,778 bytes and the start of a bitmap image."""
    header = json.dumps({"a": entry([1], 0, 4)}).encode()
    data = safetensors_bytes(header + b" " * (0x4D42 - len(header)), bytes(4))
    assert data[:2] == b"BM" and read(data, "model.safetensors").problem is None


def test_text_that_no_encoding_can_write_is_mended(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"\\ud800": "\\udfff", "fine": "\\ud83d\\ude00"}')
    found = read_json(LocalFolder(tmp_path), "config.json")
    json.dumps(found.value, ensure_ascii=False).encode()
    assert found.problem is None and found.get("fine") == "\U0001f600"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{}", None), (b"", "empty"), (b"  \n", "empty"), (b"[1]", "wrong_type"), (b'"x"', "wrong_type"),
        (b"1", "wrong_type"), (b"null", "wrong_type"), (b"{", "not_json"), (b"{'a': 1}", "not_json"),
        (b"\xff\x00{}", "not_text"),
        (b"[" * 100_000, "not_json"), (b'{"a":' * 100_000, "not_json"), (b'{"a": ' + b"9" * 5000 + b"}", "not_json"),
        (b'{"a":' * (MAX_DEPTH + 2) + b"1" + b"}" * (MAX_DEPTH + 2), "not_json"), (b'{"a": NaN, "b": Infinity}', None),
        ('{"a": 1}'.encode("utf-16"), "not_utf8"), ('{"a": 1}'.encode("utf-8-sig"), "byte_order_mark"),
        (b"\xff\xfe{", "not_text"), (b"\x00" * 50, "not_json"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "lfs_pointer"),
    ],
)  # fmt: skip
def test_json_of_every_kind(raw: bytes, problem: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(raw)
    found = read_json(LocalFolder(tmp_path), "config.json")
    assert found.present and found.problem == problem
    assert (found.value is not None) == (problem in (None, "not_utf8", "byte_order_mark"))
    if problem in ("not_utf8", "byte_order_mark"):
        assert found.get("a") == 1


def test_folder_with_ten_thousand_files_opens_quickly(tmp_path: Path) -> None:
    for n in range(10_000):
        (tmp_path / f"rollout_{n}.json").touch()
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    started = time.perf_counter()
    found = open_checkpoint(str(tmp_path))
    assert found.weight_names == ("model.safetensors",) and found.tensors
    assert time.perf_counter() - started < 1.0


def test_run_folder_with_many_checkpoints_opens_quickly(tmp_path: Path) -> None:
    for n in range(1, 301):
        (tmp_path / f"checkpoint-{n}").mkdir()
        save_file({"a": torch.zeros(2)}, tmp_path / f"checkpoint-{n}" / "model.safetensors")
    started = time.perf_counter()
    assert open_checkpoint(str(tmp_path)).chosen_folder == "checkpoint-300"
    assert time.perf_counter() - started < 1.0


def test_the_newest_of_very_many_checkpoints_is_found(tmp_path: Path) -> None:
    for n in range(1, 3001):
        (tmp_path / f"checkpoint-{n}").mkdir()
        (tmp_path / f"checkpoint-{n}" / "model.safetensors").touch()
    assert open_checkpoint(str(tmp_path)).chosen_folder == "checkpoint-3000"


def test_a_program_in_a_sub_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valgrind.bin").write_bytes(b"\x7fELF" * 9)
    (tmp_path / "etc").mkdir()
    found = open_checkpoint(str(tmp_path))
    assert found.chosen_folder is None and found.problem == "no_checkpoint_files"
    assert found.detail == "bin/, etc/"
    (tmp_path / "bin" / "config.json").write_text("{}")
    assert open_checkpoint(str(tmp_path)).chosen_folder == "bin"


def test_links(tmp_path: Path) -> None:
    for name in ("loop", "dangling", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "loop" / "model.safetensors").symlink_to(tmp_path / "loop" / "model.safetensors")
    (tmp_path / "loop" / "inner").symlink_to(tmp_path / "loop", target_is_directory=True)
    (tmp_path / "dangling" / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    save_file({"a": torch.zeros(2)}, tmp_path / "blob")
    (tmp_path / "cache" / "model.safetensors").symlink_to(tmp_path / "blob")
    assert open_checkpoint(str(tmp_path / "loop")).broken_links == ("model.safetensors",)
    found = open_checkpoint(str(tmp_path / "dangling"))
    assert found.broken_links == ("model.safetensors",) and not found.weight_names and found.problem is None
    assert open_checkpoint(str(tmp_path / "cache")).tensors


AS_NOBODY = """
import os, sys, json
import pipeline.torch_pickle
from pipeline.checkpoint import open_checkpoint
os.setgid(65534); os.setuid(65534)  # after the imports: nobody may have no right to Python's own folder
found = {}
for path in sys.argv[1:]:
    c = open_checkpoint(path)
    found[os.path.basename(path)] = [c.kind, c.problem, [f.problem for f in c.weight_files], c.config.problem]
print(json.dumps(found))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_no_permission_is_a_value(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest", "popen")) or parent == tmp_path:
            parent.chmod(0o755)
    for name in ("closed", "listed", "file_closed", "config_closed"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "model.safetensors").chmod(0o644)
    (tmp_path / "file_closed" / "model.safetensors").chmod(0)
    (tmp_path / "config_closed" / "config.json").chmod(0)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "listed").chmod(0o744)
    names = ["closed", "listed", "file_closed", "config_closed", "file_closed/model.safetensors"]
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *(str(tmp_path / n) for n in names)], cwd=ROOT, capture_output=True,
        text=True, timeout=60, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["closed"][:2] == ["none", "unreadable"]
    assert found["listed"][:2] == ["none", "unreadable"]
    assert found["file_closed"] == ["folder", None, ["unreadable"], None]
    assert found["config_closed"] == ["folder", None, [None], "unreadable"]
    assert found["model.safetensors"][:2] == ["none", "unreadable"]


@pytest.mark.parametrize(
    ("present", "read_"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["model.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
         ["model.safetensors"]),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "pytorch_model.bin"],
         ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
        (["pytorch_model.bin", "optimizer.pt", "training_args.bin", "rng_state.pth"], ["pytorch_model.bin"]),
        (["best.pt"], ["best.pt"]),
        (["adapter_model.bin", "adapter_model.safetensors"], ["adapter_model.safetensors"]),
        (["consolidated.safetensors", "model.safetensors"], ["model.safetensors"]),
    ],
)  # fmt: skip
def test_the_files_from_pretrained_would_read(present: list[str], read_: list[str], tmp_path: Path) -> None:
    shards = [n for n in present if n.startswith("model-")]
    for name in present:
        save_file({"a": torch.zeros(2)}, tmp_path / name)
    if shards:
        index = {"metadata": {}, "weight_map": {f"t{n}": shard for n, shard in enumerate(shards)}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(open_checkpoint(str(tmp_path)).weight_names) == read_


def test_best_checkpoint_and_tokenizer_of_a_run(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    found = open_checkpoint(str(tmp_path))
    assert (found.chosen_folder, found.other_folders) == ("checkpoint-100", ("checkpoint-20", "checkpoint-9"))
    assert found.tokenizer.names == ("tokenizer.json",)
    state = {"best_model_checkpoint": "/elsewhere/run/checkpoint-20"}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert open_checkpoint(str(tmp_path)).chosen_folder == "checkpoint-20"


@pytest.mark.parametrize(
    "index",
    [
        b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b'{"weight_map": {"a": ["x"]}}', b"\x00",
        b'{"weight_map": {"a": "../../../etc/passwd", "b": "/etc/passwd"}}', b'{"weight_map": {"a": {"b": {}}}}',
    ],
)  # fmt: skip
def test_hostile_indexes(index: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00001-of-00001.safetensors")
    found = open_checkpoint(str(tmp_path))
    assert found.problem is None and set(found.weight_names) <= {"model-00001-of-00001.safetensors"}
    assert set(found.tensors) <= {"a"}
