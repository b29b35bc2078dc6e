"""The pass over all weights: what it finds, where, in every dtype and file format, and what it must not miss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from weight_files import stored, tiny_llama, write_checkpoint, write_safetensors

from pipeline.checkpoint import open_checkpoint
from pipeline.embedding_rows import measure_rows
from pipeline.weight_distance import distance_to_base
from pipeline.weight_names import bare_name, embedding_tensor, head_tensor, layer_of
from pipeline.weight_scan import PIECE_BYTES, SECTION_BYTES, TensorScan, WeightScan, scan_weights
from pipeline.weight_values import WeightBytes, as_float32, as_stored

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
         "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}  # fmt: skip


def scan(path: Path) -> WeightScan:
    return scan_weights(open_checkpoint(str(path)))


def one(folder: Path, value: object) -> TensorScan:
    return scan(write_safetensors(folder / "model.safetensors", {"t": value})).tensors["t"]


def raw(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().view(torch.uint8).numpy().reshape(-1)


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_every_pattern_agrees_with_torch(dtype: str, tmp_path: Path) -> None:
    """All patterns of the narrow dtypes, a million random ones of the wide; torch says what each is."""
    width = torch.empty(0, dtype=TORCH[dtype]).element_size()
    if width <= 2:
        patterns = np.arange(2 ** (8 * width), dtype=f"<u{width}").view(np.uint8)
    else:
        patterns = np.random.default_rng(0).integers(0, 256, 2**20 * width, np.uint8)
        special = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-45], dtype=f"<f{width}")
        patterns[: special.nbytes] = special.view(np.uint8)
    tensor = torch.from_numpy(patterns.copy()).view(TORCH[dtype])
    wide = tensor.double()
    seen = one(tmp_path, (dtype, (len(tensor),), patterns.tobytes()))
    assert seen.nan == int(torch.isnan(wide).sum()) and seen.inf == int(torch.isinf(wide).sum())
    assert seen.first_bad == int((~torch.isfinite(wide)).nonzero()[0])
    assert seen.largest == float(wide[torch.isfinite(wide)].abs().max())
    ours = as_float32(patterns, dtype)
    assert np.array_equal(ours, tensor.float().numpy(), equal_nan=True)


def test_casts_agree_with_torch() -> None:
    random = np.random.default_rng(1).integers(0, 2**32, 2**20, np.uint32).view(np.float32)
    for dtype in ("F16", "BF16"):
        theirs = torch.from_numpy(random.copy()).to(TORCH[dtype])
        back = as_float32(as_stored(random, dtype).view(np.uint8), dtype)
        assert np.array_equal(back, theirs.float().numpy(), equal_nan=True), dtype


COUNT = SECTION_BYTES // 2 + 12_346  # one whole section of 16-bit numbers and a little more


@pytest.mark.parametrize("where", [0, PIECE_BYTES // 2 - 1, SECTION_BYTES // 2, COUNT - 1])
def test_one_bad_number_is_found_where_it_is(where: int, tmp_path: Path) -> None:
    """Across the edges of pieces and sections; a negative NaN."""
    values = np.full(COUNT, 0x3C00, np.uint16)
    values[where] = 0xFFC0
    seen = one(tmp_path, ("BF16", (COUNT // 9, 9), values.tobytes()))
    assert (seen.nan, seen.inf, seen.first_bad) == (1, 0, where)
    assert seen.index_of(where) == [where // 9, where % 9]


def test_zero_and_constant(tmp_path: Path) -> None:
    signed = np.zeros(1000, np.float32)
    signed[::2] = -0.0
    assert one(tmp_path, signed).zero and not one(tmp_path, signed).constant
    ones = np.ones(PIECE_BYTES, np.float32)
    assert one(tmp_path, ones).constant and not one(tmp_path, ones).zero
    ones[-1] = 1.0000001
    assert not one(tmp_path, ones).constant
    assert not one(tmp_path, np.zeros(10, np.int8)).has_values


def test_formats_share_one_fingerprint(tmp_path: Path) -> None:
    """The same tensors in safetensors, in a torch zip file, in a legacy one and in shards."""
    tensors = {n: torch.from_numpy(t).bfloat16() for n, t in tiny_llama().items()}
    by_hand = {n: ("BF16", tuple(t.shape), raw(t).tobytes()) for n, t in tensors.items()}
    write_safetensors(tmp_path / "a" / "model.safetensors", by_hand)
    for folder, new in (("b", True), ("c", False)):
        (tmp_path / folder).mkdir()
        torch.save(tensors, tmp_path / folder / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    names = list(tensors)
    for n, part in enumerate((names[:5], names[5:]), start=1):
        write_safetensors(
            tmp_path / "d" / f"model-0000{n}-of-00002.safetensors",
            {name: by_hand[name] for name in part},
        )
    prints = {scan(tmp_path / f).fingerprint for f in "abcd"}
    assert len(prints) == 1
    tensors[names[3]].view(-1)[-1] += 1
    torch.save(tensors, tmp_path / "b" / "pytorch_model.bin")
    assert scan(tmp_path / "b").fingerprint not in prints


def test_tied_and_transposed_views_of_a_torch_file(tmp_path: Path) -> None:
    matrix = torch.randn(20, 10)
    torch.save({"wte.weight": matrix, "lm_head.weight": matrix, "t.weight": matrix.t()}, tmp_path / "pytorch_model.bin")
    checkpoint = open_checkpoint(str(tmp_path))
    seen = scan_weights(checkpoint)
    assert seen.tensors["wte.weight"].digest == seen.tensors["lm_head.weight"].digest
    assert checkpoint.tensors["t.weight"].strided and not checkpoint.tensors["wte.weight"].strided
    with WeightBytes(checkpoint) as source:
        rows = source.rows(checkpoint.tensors["wte.weight"], [3, 0])
    assert rows is not None and np.array_equal(rows, matrix[[3, 0]].numpy())


def test_a_cut_file_leaves_the_rest_measured(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", tiny_llama())
    path.write_bytes(path.read_bytes()[:-1000])
    seen = scan(tmp_path)
    assert seen.unread == ("lm_head.weight",) and len(seen.tensors) == len(tiny_llama()) - 1


def test_a_header_that_lies_costs_nothing(tmp_path: Path) -> None:
    """A tensor of an exabyte, and one with rows of a petabyte; the sound one beside them is still read."""
    start, width = 16 + 2**60, 2**50
    header = {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [2**59], "data_offsets": [16, 16 + 2**60]},
        "model.embed_tokens.weight": {"dtype": "BF16", "shape": [2, width], "data_offsets": [start, start + 4 * width]},
    }
    head = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(1000))
    checkpoint = open_checkpoint(str(path))
    seen = scan_weights(checkpoint)
    assert list(seen.tensors) == ["a"] and len(seen.unread) == 2
    embedding = embedding_tensor(checkpoint.tensors)
    assert embedding is not None and measure_rows(checkpoint, embedding, [0, 1]) is None


def test_empty_and_scalar_tensors(tmp_path: Path) -> None:
    path = write_safetensors(
        tmp_path / "model.safetensors",
        {"empty": np.zeros((0, 5), np.float32), "one": np.full((), 3, np.float32), "row": np.ones((1, 5), np.float32)},
    )
    seen = scan(path).tensors
    assert not seen["empty"].has_values and seen["one"].largest == 3 and seen["row"].constant


def test_memory_stays_small(tmp_path: Path) -> None:
    """Peak of anonymous memory while half a GB (sparse) is scanned and compared with itself, sampled by the process."""
    header = b'{"a.weight":{"dtype":"BF16","shape":[16384,16384],"data_offsets":[0,536870912]}}'
    header += b" " * (-len(header) % 8)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        with open(tmp_path / folder / "model.safetensors", "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 2**29)
            file.seek(-2, 2)
            file.write(b"\x80\x3f" if folder == "x" else b"\x00\x3f")
    code = (
        "import sys, threading, time\n"
        "from pipeline.checkpoint import open_checkpoint\n"
        "from pipeline.weight_scan import scan_weights\n"
        "from pipeline.weight_distance import distance_to_base\n"
        "peak, going = 0, True\n"
        "def watch():\n"
        "    global peak\n"
        "    while going:\n"
        "        status = open('/proc/self/status').read()\n"
        "        peak = max(peak, int(status.split('RssAnon:')[1].split()[0]))\n"
        "        time.sleep(0.01)\n"
        "thread = threading.Thread(target=watch); thread.start()\n"
        "x, y = (open_checkpoint(p) for p in sys.argv[1:])\n"
        "a, b = scan_weights(x), scan_weights(y)\n"
        "d = distance_to_base(x, a, y, b)\n"
        "going = False; thread.join()\n"
        "print(peak // 1024, d.pairs[0].equal)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x"), str(tmp_path / "y")], capture_output=True, text=True,
        cwd=Path(__file__).parent.parent, timeout=120, check=True,
    )  # fmt: skip
    peak, equal = done.stdout.split()
    assert int(peak) < 100 and equal == "False"


def test_distance_is_what_it_says(tmp_path: Path) -> None:
    base = tiny_llama()
    moved = {n: (t * 1.01).astype(np.float32) if ".layers.1." in n and t.ndim == 2 else t for n, t in base.items()}
    ours = open_checkpoint(str(write_checkpoint(tmp_path / "ours", moved)))
    theirs = open_checkpoint(str(write_checkpoint(tmp_path / "base", {f"module.{n}": t for n, t in base.items()})))
    found = distance_to_base(ours, scan_weights(ours), theirs, scan_weights(theirs))
    layers = {d.layer: d for d in found.layers}
    assert layers["layers.0"].relative == 0 and layers["layers.1"].relative == pytest.approx(0.01, rel=1e-3)
    assert layers["layers.1"].cosine == pytest.approx(1.0)
    assert found.covered == 1.0 and not found.only_ours and not found.only_base
    assert sum(p.equal for p in found.pairs) == len(base) - 4


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_equal_after_a_cast_and_a_resize(dtype: str, tmp_path: Path) -> None:
    base = tiny_llama()
    cast = {n: stored(t, dtype) for n, t in base.items()}
    longer = np.concatenate([base["model.embed_tokens.weight"], np.ones((8, 32), np.float32)])
    cast["model.embed_tokens.weight"] = stored(longer, dtype)
    ours = open_checkpoint(str(write_checkpoint(tmp_path / "ours", cast)))
    theirs = open_checkpoint(str(write_checkpoint(tmp_path / "base", base)))
    found = distance_to_base(ours, scan_weights(ours), theirs, scan_weights(theirs))
    assert all(p.equal for p in found.pairs) and len(found.pairs) == len(base)
    back = distance_to_base(theirs, scan_weights(theirs), ours, scan_weights(ours))
    assert not all(p.equal for p in back.pairs)  # the finer one is not what the coarser one becomes


def test_names() -> None:
    assert bare_name("base_model.model.model.layers.3.mlp.up_proj.weight") == "layers.3.mlp.up_proj.weight"
    assert layer_of("module.transformer.h.11.attn.c_attn.weight") == "h.11"
    assert layer_of("decoder.block.2.layer.0.SelfAttention.q.weight") == "decoder.block.2"
    t5 = {"encoder.embed_tokens.weight": (9, 4), "shared.weight": (9, 4), "lm_head.weight": (9, 4)}
    infos = {
        n: t.tensor for n, t in
        ((n, TensorScan(_info(n, shape), "")) for n, shape in (t5 | {"h.0.output.weight": (4, 4)}).items())
    }  # fmt: skip
    embedding, head = embedding_tensor(infos), head_tensor(infos)
    assert embedding is not None and embedding.name == "shared.weight"
    assert head is not None and head.name == "lm_head.weight"


def _info(name: str, shape: tuple[int, ...]):
    from pipeline.weight_file import TensorInfo

    return TensorInfo(name, shape, "F32", "f", 0, 4 * shape[0] * shape[1])


def test_rows_that_resizing_leaves(tmp_path: Path) -> None:
    """The real resize_token_embeddings of transformers puts new rows where `from_mean` sees them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=5000, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, pad_token_id=0)  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight += 0.01  # trained embeddings have a mean
    model.resize_token_embeddings(5003)
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(str(tmp_path))
    for tensor in (embedding_tensor(checkpoint.tensors), head_tensor(checkpoint.tensors)):
        assert tensor is not None
        rows = measure_rows(checkpoint, tensor, [7, 4999, 5000, 5001])
        assert rows is not None
        assert min(rows.facts[7].from_mean, rows.facts[4999].from_mean) > 0.7
        assert max(rows.facts[5000].from_mean, rows.facts[5001].from_mean) < 0.03
