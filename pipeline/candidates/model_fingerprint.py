"""Tells models apart by what their files declare and a sample of their bytes, at any size in milliseconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline.checkpoint import Checkpoint

SHORT = 16  # hexadecimal digits: two of a thousand models meet with a chance of 1e-14
BLOCKS = 32
BLOCK_BYTES = 4096


def checkpoint_fingerprint(checkpoint: Checkpoint) -> str:
    """`sha256:` over names, shapes, dtypes and sizes of the weights and the text of the small files.

    Cheap at any size: it tells two uploads apart, not two trainings of equal shape.
    """
    seen = [
        [file.name, file.size, [(t.name, t.shape, t.dtype) for t in file.tensors]]
        for file in (checkpoint.weight_files if checkpoint.problem is None else ())
    ]
    small = [
        (f.name, f.value)
        for f in (checkpoint.config, checkpoint.generation_config, checkpoint.adapter_config,
                  checkpoint.tokenizer.config, checkpoint.tokenizer.special_tokens_map)
        if f.present
    ]  # fmt: skip
    text = json.dumps([seen, small, checkpoint.tokenizer.chat_template_file, checkpoint.problem], sort_keys=True,
                      default=str)  # fmt: skip
    return "sha256:" + hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()


def model_fingerprint(checkpoint: Checkpoint, adapter: Checkpoint | None = None) -> str:
    """`sha256:` with 16 digits, of a model and of the adapter on it.

    Of weights on this machine 32 blocks of 4 KiB a file come in, so that two steps of one training differ; of weights
    that are not, only what `checkpoint_fingerprint` sees.
    """
    digest = hashlib.sha256()
    for part in (checkpoint, adapter):
        if part is None:
            continue
        digest.update(checkpoint_fingerprint(part).encode())
        folder = part.local_folder()
        if folder is not None and part.problem is None:
            for name in part.weight_names:
                _add_blocks(digest, folder / name)
    return f"sha256:{digest.hexdigest()[:SHORT]}"


def _add_blocks(digest: hashlib._Hash, path: Path) -> None:
    """Blocks at even distances, the first and the last of the file among them; nothing of a file that can't be read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            for block in range(BLOCKS):
                file.seek(max(0, size - BLOCK_BYTES) * block // (BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    except OSError:
        return
