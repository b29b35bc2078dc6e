"""Writes small checkpoints by hand, byte by byte, so that a test knows exactly what each tensor holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.weight_values import as_stored

DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int8": "I8", "uint8": "U8", "int64": "I64"}


def stored(values: Any, dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """One tensor for `write_safetensors`: `values` cast to dtype F32, F16 or BF16."""
    array = np.asarray(values, np.float32)
    return dtype, array.shape, as_stored(np.ascontiguousarray(array).reshape(-1), dtype).tobytes()


def write_safetensors(path: Path, tensors: Mapping[str, Any]) -> Path:
    """tensors: name -> numpy array, or (dtype, shape, bytes) as `stored` makes them."""
    header, blocks, end = {}, [], 0
    for name, value in tensors.items():
        if isinstance(value, np.ndarray):
            value = (DTYPES[str(value.dtype)], value.shape, value.tobytes())
        dtype, shape, raw = value
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(raw)]}
        blocks.append(raw)
        end += len(raw)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blocks))
    return path


def tiny_llama(
    *, layers: int = 2, width: int = 32, vocabulary: int = 96, seed: int = 0, tied: bool = False
) -> dict[str, np.ndarray]:
    """Float32 tensors named and shaped like a Llama's, with random values."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 0.05).astype(np.float32)

    made = {"model.embed_tokens.weight": matrix(vocabulary, width)}
    for n in range(layers):
        shapes = {"self_attn.q_proj": (width, width), "self_attn.o_proj": (width, width),
                  "mlp.up_proj": (2 * width, width), "mlp.down_proj": (width, 2 * width)}  # fmt: skip
        for name, (rows, columns) in shapes.items():
            made[f"model.layers.{n}.{name}.weight"] = matrix(rows, columns)
        made[f"model.layers.{n}.input_layernorm.weight"] = np.ones(width, np.float32)
    made["model.norm.weight"] = np.ones(width, np.float32)
    if not tied:
        made["lm_head.weight"] = matrix(vocabulary, width)
    return made


def write_checkpoint(folder: Path, tensors: Mapping[str, Any], **config: Any) -> Path:
    """A folder with model.safetensors and config.json."""
    write_safetensors(folder / "model.safetensors", tensors)
    settings = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 2, **config}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
