"""How fast the diagnosis is, as ratios measured in one run on this machine: python benchmarks/speed.py [--keep]

Makes its own files in a temporary folder (about 5 GB on disk; the 20 GB checkpoint is sparse) and removes them.
Absolute times depend on the machine, the ratios hardly do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3
GIB = 2**30


@dataclass(frozen=True)
class Row:
    """One line of the table. target: None where nothing is promised, else (least or most, number)."""

    what: str
    value: float
    unit: str = ""
    target: tuple[str, float] | None = None

    def __str__(self) -> str:
        promised, kept = "", ""
        if self.target is not None:
            side, number = self.target
            promised = f"{'>=' if side == 'least' else '<='} {number:g}"
            kept = "yes" if (self.value >= number if side == "least" else self.value <= number) else "NO"
        return f"{self.what:<72} {self.value:>10.3g} {self.unit:<6} {promised:>8} {kept:>4}"


@dataclass(frozen=True)
class Run:
    """One process: seconds, exit status, output, largest anonymous memory of it and its children in bytes."""

    seconds: float
    status: int
    output: str
    anonymous: int


def run(argv: Sequence[str]) -> Run:
    """Start `argv` in the repository and watch the anonymous memory of the whole process tree."""
    started = time.perf_counter()
    process = subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # compiled modules are kept, as they are for a user from the second start on
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""},
    )  # fmt: skip
    peak = 0
    going = True

    def watch() -> None:
        nonlocal peak
        while going:
            peak = max(peak, sum(_anonymous(pid) for pid in _tree(process.pid)))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    going = False
    watcher.join()
    if "Traceback" in errors:
        raise RuntimeError(errors)
    return Run(seconds, process.returncode, output, peak)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        try:
            text = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue
        found += map(int, text.split())
    return found


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((part for part in status.splitlines() if part.startswith("RssAnon")), "RssAnon: 0 kB")
    return int(line.split()[1]) * 1024


def median_of(*actions: Callable[[], Run]) -> list[Run]:
    """Each action `REPEATS` times, taking turns so that a busy moment hits all; the run of median time of each."""
    runs = [[action() for action in actions] for _ in range(REPEATS)]
    return [sorted(column, key=lambda r: r.seconds)[REPEATS // 2] for column in zip(*runs, strict=True)]


def diagnose(path: Path, depth: str) -> Callable[[], Run]:
    argv = [sys.executable, "-m", "diagnostics", "checkpoint", str(path), "--depth", depth, "--format", "json"]
    return lambda: run(argv)


# --- what is measured on ---


def write_sparse(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """A bf16 safetensors file with a real header and a hole for data."""
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + end)


def qwen2_tensors(hidden: int, inner: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    keys = hidden // 4
    made: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for n in range(layers):
        at = f"model.layers.{n}"
        made |= {
            f"{at}.self_attn.q_proj.weight": (hidden, hidden), f"{at}.self_attn.q_proj.bias": (hidden,),
            f"{at}.self_attn.k_proj.weight": (keys, hidden), f"{at}.self_attn.k_proj.bias": (keys,),
            f"{at}.self_attn.v_proj.weight": (keys, hidden), f"{at}.self_attn.v_proj.bias": (keys,),
            f"{at}.self_attn.o_proj.weight": (hidden, hidden), f"{at}.mlp.gate_proj.weight": (inner, hidden),
            f"{at}.mlp.up_proj.weight": (inner, hidden), f"{at}.mlp.down_proj.weight": (hidden, inner),
            f"{at}.input_layernorm.weight": (hidden,), f"{at}.post_attention_layernorm.weight": (hidden,),
        }  # fmt: skip
    return made | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def write_model(folder: Path, *, hidden: int, inner: int, layers: int, shards: int, tokenizer: Path) -> int:
    """A sharded Qwen2 with sparse weights and all small files. Returns the size of its weights in bytes."""
    folder.mkdir()
    vocabulary, heads = 152_064, hidden // 32
    tensors = qwen2_tensors(hidden, inner, layers, vocabulary)
    names = list(tensors)
    weight_map = {
        name: f"model-{1 + place * shards // len(names):05}-of-{shards:05}.safetensors"
        for place, name in enumerate(names)
    }
    for file in sorted(set(weight_map.values())):
        write_sparse(folder / file, {n: tensors[n] for n in names if weight_map[n] == file})
    total = sum(2 * int(np.prod(s)) for s in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads // 4,
        "vocab_size": vocabulary, "max_position_embeddings": 4096, "tie_word_embeddings": False, "dtype": "bfloat16",
        "eos_token_id": 151_001, "bos_token_id": 151_000,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 151_001, "pad_token_id": 151_000}))
    for file in tokenizer.iterdir():
        shutil.copy(file, folder / file.name)
    return total


def write_tokenizer(folder: Path, entries: int = 151_000) -> None:
    """A byte-level BPE of `entries` pieces made by as many merges, and a ChatML template."""
    from tokenizers import pre_tokenizers

    folder.mkdir()
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    letters, merges = list(pieces), []
    for left in pieces:  # grows while it is read: pairs, then triples
        for right in letters:
            if len(vocabulary) == entries:
                break
            if left + right not in vocabulary:
                vocabulary[left + right] = len(vocabulary)
                merges.append([left, right])
                pieces.append(left + right)
        if len(vocabulary) == entries:
            break
    marks = ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {"id": entries + n, "content": mark, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for n, mark in enumerate(marks)
    ]  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": merges},
    }))  # fmt: skip
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                "chat_template": template, "padding_side": "left"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_full(path: Path, gibibytes: int = 4) -> None:
    """One bf16 file with real numbers in it: an embedding and layers of matrices."""
    rows, width = 2**25 // 4096, 4096  # 64 MiB a matrix
    names = [f"model.layers.{n // 4}.mlp.part_{n % 4}.weight" for n in range(16 * gibibytes)]
    write_sparse(path, dict.fromkeys(names, (rows, width)))
    values = np.random.default_rng(0).standard_normal(rows * width, np.float32) * np.float32(0.02)
    block = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) - len(block) * len(names))
        for _ in names:
            file.write(block)


# --- measurements ---

AUTO_CLASSES = """
import sys
from transformers import AutoConfig, AutoTokenizer
AutoConfig.from_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(sys.argv[1])
"""
PLAIN_LOOP = """
import sys, time, torch
from safetensors import safe_open
started = time.perf_counter()
with safe_open(sys.argv[1], "pt") as f:
    for key in f.keys():
        t = f.get_tensor(key)
        torch.isfinite(t).all()
        t.abs().max()
print(time.perf_counter() - started)
"""


def measure_files(folder: Path) -> list[Row]:
    """Depth `files`: its time must not depend on the size of the weights, nor be more than loading the small files."""
    write_tokenizer(folder / "tokenizer")
    big = write_model(folder / "big", hidden=5120, inner=13_824, layers=32, shards=5, tokenizer=folder / "tokenizer")
    small = write_model(folder / "small", hidden=64, inner=8192, layers=4, shards=1, tokenizer=folder / "tokenizer")
    on_big, on_small, loaded = median_of(
        diagnose(folder / "big", "files"), diagnose(folder / "small", "files"),
        lambda: run([sys.executable, "-c", AUTO_CLASSES, str(folder / "big")]),
    )  # fmt: skip
    shutil.rmtree(folder / "big")
    shutil.rmtree(folder / "small")
    name = f"files depth, {big / 1e9:.0f} GB checkpoint with 151,000 tokens"
    return [
        Row(f"{name}: seconds", on_big.seconds, "s"),
        Row(f"{name}: time / on a {small / 1e6:.0f} MB checkpoint", on_big.seconds / on_small.seconds),
        Row(f"{name}: time / AutoConfig + AutoTokenizer", on_big.seconds / loaded.seconds),
        Row(f"{name}: anonymous memory with the probe", on_big.anonymous / 2**20, "MiB"),
    ]


def measure_weights(folder: Path) -> list[Row]:
    """Depth `weights`, the whole command, against a plain loop over the tensors and against reading the bytes."""
    path = folder / "model.safetensors"
    write_full(path)
    size = os.path.getsize(path)
    os.sync()  # no writing back while others are timed
    cat = ["sh", "-c", 'exec cat "$0" > /dev/null', str(path)]
    run(cat)
    whole, read = median_of(diagnose(path, "weights"), lambda: run(cat))
    if whole.status != 0:
        raise RuntimeError(f"the sound file was not found sound: {whole.output[:2000]}")
    loop = statistics.median(float(run([sys.executable, "-c", PLAIN_LOOP, str(path)]).output) for _ in range(REPEATS))
    with open(path, "r+b") as file:
        file.seek(-514, os.SEEK_END)
        file.write(b"\xc0\x7f")
    faulty = diagnose(path, "weights")()
    findings = json.loads(faulty.output)["findings"]
    found = [f for f in findings if f["code"] == "WGT001" and f["severity"] == "error"]
    path.unlink()
    name = f"weights depth, {size / 1e9:.1f} GB of bf16"
    return [
        Row(f"{name}: GB/s, whole command", size / 1e9 / whole.seconds, "GB/s"),
        Row(f"{name}: speed / safe_open, isfinite, abs().max()", loop / whole.seconds, "", ("least", 20)),
        Row(f"{name}: speed / cat FILE > /dev/null", read.seconds / whole.seconds, "", ("least", 0.25)),
        Row(f"{name}: anonymous memory", whole.anonymous / 2**20, "MiB", ("most", 500)),
        Row(f"{name}: one NaN in the last kilobyte found", float(len(found) == 1), "", ("least", 1)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", metavar="DIR", help="make the files there and leave what is left of them")
    options = parser.parse_args()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="speed-"))
    folder.mkdir(exist_ok=True)
    rows: list[Row] = []
    try:
        for measure in (measure_files, measure_weights):
            for row in measure(folder):
                rows.append(row)
                print(row, flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return int(any(str(row).endswith("NO") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
