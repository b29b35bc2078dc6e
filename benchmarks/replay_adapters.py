"""What it costs to replay k adapters on one base, and what searching beams of several prompts together gains:
`python benchmarks/replay_adapters.py [--adapters K] [--prompts N] [--threads N]`.

Adapters: peak memory of the process and seconds, once with the base loaded for each of them and once for all; logits
must be equal bit by bit. Beams: prompts of different lengths one by one and together, with all beams equal; the largest
difference of two sums of the same beam stands for DOUBT of pipeline/candidates/beam_search.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def _model(folder: Path, hidden: int, layers: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=8000, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=8, initializer_range=0.06, bos_token_id=0, eos_token_id=1, pad_token_id=2))  # fmt: skip
    model.save_pretrained(folder)
    return folder


def _adapters(base: Path, folder: Path, count: int) -> list[Path]:
    import torch
    from peft import LoraConfig, get_peft_model

    from pipeline.checkpoint import open_checkpoint
    from pipeline.load_model import load_model

    made = []
    for number in range(count):
        torch.manual_seed(number)
        bare = load_model(open_checkpoint(str(base))).model
        model = get_peft_model(bare, LoraConfig(r=8, target_modules="all-linear"))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.02
        made.append(folder / f"adapter{number}")
        model.save_pretrained(made[-1])
    return made


def _one_way(base: Path, adapters: list[Path], shared: bool, out: Path) -> None:
    """Runs in a process of its own: logits of every adapter to `out`, seconds and peak memory to standard output."""
    import torch

    from pipeline.checkpoint import open_checkpoint
    from pipeline.evaluation.adapters_on_base import ModelsOnBase
    from pipeline.load_model import load_model

    torch.set_num_threads(1)
    ids, found = torch.arange(10, 60)[None], []
    bare = open_checkpoint(str(base))
    before = _peak_mib()
    began = time.monotonic()
    if shared:
        with ModelsOnBase(bare, [open_checkpoint(str(one)) for one in adapters]) as models:
            for name in models.names[1:]:
                with models.using(name) as loaded, torch.inference_mode():
                    found.append(loaded.core(ids).logits)
    else:
        for one in adapters:
            loaded = load_model(open_checkpoint(str(one)), base=bare)
            with torch.inference_mode():
                found.append(loaded.core(ids).logits)
    peak = _peak_mib()
    torch.save(found, out)
    seconds = round(time.monotonic() - began, 2)
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "before_mib": before}))


def _peak_mib() -> int:
    """Of this process since it began; getrusage would count what started it too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10


def _beams(base: Path, prompts: int, tokens: int) -> dict[str, Any]:
    import random

    from pipeline.candidates.beam_search import beam_candidates
    from pipeline.candidates.prompting import Prompt
    from pipeline.checkpoint import open_checkpoint
    from pipeline.load_model import load_model

    rng = random.Random(0)
    tokenizer = SimpleNamespace(pad_token_id=2, eos_token_id=1)
    loaded = replace(load_model(open_checkpoint(str(base))), tokenizer=tokenizer)
    asked = [Prompt(tuple(rng.randrange(3, 8000) for _ in range(rng.randint(8, 60))), "", "") for _ in range(prompts)]
    told: dict[str, Any] = {}
    results = []
    for together in (1, 4, 8, 16):
        began = time.monotonic()
        results.append(beam_candidates(loaded, asked, num_beams=5, num_return_sequences=1, max_new_tokens=tokens,
                                       together=together))  # fmt: skip
        told[f"seconds_together_{together}"] = round(time.monotonic() - began, 2)
        told[f"equal_{together}"] = [[b.ids for b in one] for one in results[-1]] == [
            [b.ids for b in one] for one in results[0]
        ]
        pairs = zip(results[0], results[-1], strict=True)
        told[f"largest_difference_{together}"] = max(
            abs(a.score - b.score) * len(a.ids) for x, y in pairs for a, b in zip(x, y, strict=True)
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        shared, out, base, *adapters = options.way
        _one_way(Path(base), [Path(one) for one in adapters], shared == "shared", Path(out))
        return
    import subprocess

    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        base = _model(folder / "base", options.hidden, options.layers)
        adapters = _adapters(base, folder, options.adapters)
        size = sum(one.stat().st_size for one in base.glob("*.safetensors"))
        print(json.dumps({"base_mib": size >> 20, "adapters": len(adapters)}))
        for way in ("alone", "shared"):
            argv = [sys.executable, __file__, "--way", way, str(folder / f"{way}.pt"), str(base), *map(str, adapters)]
            print(way, subprocess.run(argv, check=True, capture_output=True, text=True, env=os.environ).stdout.strip())
        alone, shared = (torch.load(folder / f"{way}.pt") for way in ("alone", "shared"))
        print("equal bit by bit:", all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True)))
        print(json.dumps(_beams(base, options.prompts, options.tokens), indent=1))


if __name__ == "__main__":
    main()
