"""What scoring in batches gains over one answer at a time, in one process on one model:
`python benchmarks/scoring.py [--model PATH --data FILE] [--rows N] [--threads N] [--device cuda]`, `--memory ROWS`.

The loop for comparison is the plain one: chat template, tokenizer and model for each answer by itself. Ours is all that
`score` does to get rewards and write rows: reading, rendering in the limited process, tokenising, batches by length,
writing. Both are given the same threads; rewards must agree within 1e-4 in float32. Without --model a random decoder of
each of three sizes reads pairs whose lengths are spread as in chat data.

--memory scores that many short pairs with the smallest model and says what the process held at most.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = {"tiny": (64, 2, 4), "small": (128, 3, 4), "medium": (384, 6, 6)}  # hidden numbers, layers, heads


def random_model(folder: Path, name: str) -> Path:
    import torch
    from tiny_answering_models import TEMPLATE, _tokenizer
    from transformers import Qwen3Config, Qwen3ForSequenceClassification

    torch.manual_seed(0)
    hidden, layers, heads = SIZES[name]
    tokenizer = _tokenizer()
    tokenizer.chat_template = TEMPLATE
    model = Qwen3ForSequenceClassification(
        Qwen3Config(
            hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=heads, head_dim=hidden // heads, vocab_size=len(tokenizer), num_labels=1,
            pad_token_id=0, max_position_embeddings=2048,
        )
    )  # fmt: skip
    model.eval().save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return folder / name


def mixed_pairs(path: Path, rows: int, *, short: bool = False) -> Path:
    """Questions of 5 to 40 words, answers of 2 to 150, most of them short; with `short` of a few words each."""
    draws = random.Random(1)
    words = ("red", "blue", "yellow", "apple", "banana", "three", "primary", "colors", "name", "list", "fruit")

    def text(least: int, most: int, mean: float) -> str:
        return " ".join(draws.choices(words, k=min(most, least + int(draws.expovariate(1 / mean)))))

    with open(path, "w", encoding="utf-8") as file:
        for n in range(rows):
            asked, most = f"{n} {text(2, 6, 2) if short else text(5, 40, 10)}", 4 if short else 150
            row = {"prompt": asked, "chosen": text(2, most, 30), "rejected": text(2, most, 25)}
            file.write(json.dumps(row) + "\n")
    return path


def ours(model: Path, data: Path, output: Path, device: str) -> tuple[list[float], tuple[float, float]]:
    """Rewards, chosen and rejected in turn, and seconds of the processor and of the clock without loading the model."""
    from pipeline.evaluation.reward_model import find_reward_model, open_reward_model
    from pipeline.evaluation.score_sets import ToScore, score_sets
    from pipeline.pairs.open_source import open_source

    with open_reward_model(find_reward_model(str(model)), device=device) as scorer:
        began = time.process_time(), time.perf_counter()
        [done] = score_sets(scorer, [ToScore(open_source(str(data)), "data", output)], cancel=threading.Event())
        seconds = time.process_time() - began[0], time.perf_counter() - began[1]
    numbers = done.numbers
    return [reward for both in zip(numbers.chosen, numbers.rejected, strict=True) for reward in both], seconds


def one_by_one(model: Path, data: Path, device: str) -> tuple[list[float], tuple[float, float], float]:
    """The same by a plain loop, and the mean tokens of an answer with its prompt."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from pipeline.pairs.read_pairs import PairFile

    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(model).eval().to(device)
    found, tokens = [], 0
    began = time.process_time(), time.perf_counter()
    with torch.inference_mode():
        for pair in PairFile(data):
            for side in (pair.chosen, pair.rejected):
                talk = [*pair.prompt, {"role": "assistant", "content": side}]
                ids = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)["input_ids"].to(device)
                tokens += ids.shape[1]
                found.append(float(loaded(input_ids=ids).logits[0, 0]))
    seconds = time.process_time() - began[0], time.perf_counter() - began[1]
    return found, seconds, tokens / len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=int, metavar="ROWS")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if options.memory:
            data = mixed_pairs(folder / "pairs.jsonl", options.memory, short=True)
            _, (_, seconds) = ours(random_model(folder, "tiny"), data, folder / "out.jsonl", options.device)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{options.memory:,} pairs, {data.stat().st_size / 2**20:.0f} MiB: {seconds:.1f} s, "
                  f"{options.memory / seconds:,.0f} rows a second, at most {peak:,.0f} MiB held")  # fmt: skip
            return
        models = [Path(options.model)] if options.model else [random_model(folder, name) for name in SIZES]
        data = Path(options.data) if options.data else mixed_pairs(folder / "pairs.jsonl", options.rows)
        for model in models:
            rewards, fast = ours(model, data, folder / "out.jsonl", options.device)
            alone, slow, tokens = one_by_one(model, data, options.device)
            apart = max(abs(one - other) for one, other in zip(rewards, alone, strict=True))
            rows = len(alone) // 2
            print(f"{model.name:10s} {tokens:5.0f} tokens an answer   one by one {rows / slow[1]:8,.1f} rows/s   "
                  f"in batches {rows / fast[1]:8,.1f} rows/s   ratio {slow[1] / fast[1]:5.2f} (processor "
                  f"{slow[0] / fast[0]:5.2f})   rewards apart by {apart:.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
