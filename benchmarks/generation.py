"""How fast answers are made, as ratios in one run on one model: `python benchmarks/generation.py [--answers N]`.

Against the best plain batch of transformers' `generate` (prompts sorted by length, the best of 8, 16, 32, 64 at a
time), against one call a row with `num_return_sequences`, and on decoders against continuous batching. Useful tokens
are those up to and with the end token; answers are 5 to 200 tokens long and sampled. Each way runs in a process of its
own, so that its peak of memory is its own. The models are random but for one thing: the end token becomes likely at a
length that depends on the prompt, so that lengths vary as real ones do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.processes import PIPE, start

VOCABULARY, END, START, PAD = 8000, 2, 1, 0
SHORTEST, LONGEST = 5, 200
TEMPERATURE, TOP_K, TOP_P = 0.8, 50, 0.95
PLAIN_BATCHES = (8, 16, 32, 64)
ARCHITECTURES = ("decoder", "t5")


def make_model(architecture: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    ids = {"vocab_size": VOCABULARY, "eos_token_id": END, "pad_token_id": PAD}
    if architecture == "t5":
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                d_model=256, d_kv=32, d_ff=768, num_layers=6, num_heads=8, decoder_start_token_id=PAD,
                initializer_factor=0.3, **ids,
            )  # fmt: skip
        )
    else:
        model = transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(
                hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
                num_key_value_heads=4, head_dim=32, bos_token_id=START, **ids,
            )  # fmt: skip
        )
    model.generation_config.max_length = None
    return model.eval()


def make_prompts(count: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of 8 to 120 tokens, and the length of each answer to them, three a prompt."""
    rng = random.Random(3)
    prompts = [[rng.randrange(10, VOCABULARY) for _ in range(rng.randint(8, 120))] for _ in range(count)]
    # lengths as chat answers have them: most short, some long
    lengths = [[min(LONGEST, SHORTEST + int(rng.expovariate(1 / 55))) for _ in range(3)] for _ in range(count)]
    return prompts, lengths


class EndAt:
    """A logits processor that lets each row end at its own length, and not before."""

    def __init__(self, lengths: list[int], prompt: int) -> None:
        import torch

        self.lengths, self.prompt = torch.tensor(lengths), prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        scores[:, END] = -float("inf")
        now = input_ids.shape[1] - self.prompt + 1
        for row in (self.lengths == now).nonzero()[:, 0].tolist():
            scores[row] = -float("inf")
            scores[row, END] = 0.0
        return scores


def plain(model: Any, prompts: list[list[int]], lengths: list[list[int]], batch: int, together: int) -> int:
    """`generate` on batches of prompts sorted by length; together: answers a prompt in one call."""
    import torch
    from transformers import LogitsProcessorList

    asked = [(p, row[k : k + together]) for p, row in zip(prompts, lengths, strict=True) for k in range(0, 3, together)]
    asked.sort(key=lambda one: len(one[0]))
    t5 = model.config.is_encoder_decoder
    useful = 0
    for at in range(0, len(asked), batch):
        part = asked[at : at + batch]
        widest = max(len(p) for p, _ in part)
        fill = [[PAD] * (widest - len(p)) for p, _ in part]
        ids = torch.tensor([(p + f if t5 else f + p) for (p, _), f in zip(part, fill, strict=True)])
        wanted = [length for _, row in part for length in row]
        out = model.generate(
            ids, attention_mask=(ids != PAD).long(), do_sample=True, temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P,
            max_new_tokens=LONGEST, num_return_sequences=together,
            logits_processor=LogitsProcessorList([EndAt(wanted, 1 if t5 else widest)]),
        )  # fmt: skip
        made = out[:, 1:] if t5 else out[:, widest:]
        useful += sum((row == END).nonzero()[0, 0].item() + 1 for row in made)
    return useful


def ours(model: Any, prompts: list[list[int]], lengths: list[list[int]], slots: int | None) -> int:
    from pipeline.generation import slot_engine
    from pipeline.generation.answers import AnswerMaker
    from pipeline.generation.decoding import Decoding
    from pipeline.load_model import LoadedModel

    class Ending(slot_engine.SlotEngine):
        """The same end of answers as for the others."""

        def _choose(self, scores: Any, rows: Any, batch: Any) -> Any:
            scores[:, END] = -float("inf")
            for i in (i for i, row in enumerate(rows) if len(row.made) + 1 == row.wanted.key[2]):
                scores[i] = -float("inf")
                scores[i, END] = 0.0
            return super()._choose(scores, rows, batch)

    loaded = LoadedModel(model, None, bool(model.config.is_encoder_decoder), "cpu", "float32", None)
    maker = AnswerMaker(loaded, longest=120 + LONGEST, slots=slots)
    assert maker.in_slots
    decoding = Decoding(temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P)
    works = (
        slot_engine.Work(
            tuple(prompt),
            tuple(slot_engine.Wanted((i, k, length), decoding, 1000 * i + k, LONGEST) for k, length in enumerate(row)),
        )
        for i, (prompt, row) in enumerate(zip(prompts, lengths, strict=True))
    )
    return sum(len(done.ids) for done in Ending(loaded, slots=maker.slots).run(works))


def continuous(model: Any, prompts: list[list[int]], lengths: list[list[int]]) -> int:
    """transformers' continuous batching, each answer bounded by its length as `max_new_tokens`."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    config = GenerationConfig(
        do_sample=True, temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P, eos_token_id=-1, pad_token_id=PAD,
        max_new_tokens=LONGEST,
    )  # fmt: skip
    model.set_attn_implementation("sdpa")
    done = 0
    with model.continuous_batching_context_manager(
        generation_config=config,
        # enough for 128 answers at once; by itself it would take most of the machine's memory
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=512, max_batch_tokens=512),
    ) as manager:
        asked = {}
        for i, (prompt, row) in enumerate(zip(prompts, lengths, strict=True)):
            for k, length in enumerate(row):
                asked[manager.add_request(prompt, max_new_tokens=length, request_id=f"{i}_{k}")] = length
        waiting = set(asked)
        while waiting:
            result = manager.get_result(timeout=60)
            if result is None:
                raise TimeoutError("continuous batching gave nothing for a minute")
            if result.is_finished():
                waiting.discard(result.request_id)
                done += len(result.generated_tokens)
    return done


def one(architecture: str, way: str, count: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = make_model(architecture)
    name, _, number = way.partition(":")
    ways: dict[str, Any] = {
        "ours": lambda p, n: ours(model, p, n, int(number) if number else None),
        "plain": lambda p, n: plain(model, p, n, int(number), 1),
        "row": lambda p, n: plain(model, p, n, 1, 3),
        "continuous": lambda p, n: continuous(model, p, n),
    }
    # continuous batching works in a thread of its own and sets its own mode
    with torch.inference_mode(name != "continuous"):
        if name != "continuous":
            ways[name](*make_prompts(2))  # the first call pays for what is loaded late
        before = time.perf_counter(), time.process_time()
        useful = ways[name](*make_prompts(count))
        wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"tokens": useful, "wall": wall, "cpu": cpu, "peak_mib": peak}


def measured(architecture: str, way: str, count: int) -> dict[str, float] | None:
    argv = [sys.executable, __file__, "--one", architecture, way, "--prompts", str(count)]
    child = start(argv, stdout=PIPE, env={"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **os.environ})
    said, _ = child.communicate(timeout=3000)
    lines = said.decode().strip().splitlines()
    if child.returncode or not lines:
        return None
    found = dict(json.loads(lines[-1]))
    return found if found["tokens"] else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=96, help="three answers are made to each")
    parser.add_argument("--architecture", choices=ARCHITECTURES, action="append")
    parser.add_argument("--one", nargs=2, metavar=("ARCHITECTURE", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one, options.prompts)))
        return
    for architecture in options.architecture or ARCHITECTURES:
        ways = ["ours", *(f"plain:{n}" for n in PLAIN_BATCHES), "row"]
        ways += ["continuous"] if architecture == "decoder" else []
        found = {way: measured(architecture, way, options.prompts) for way in ways}
        print(f"\n{architecture}: {options.prompts} prompts x 3 answers, useful tokens a second of processor time")
        mine = found["ours"]
        assert mine is not None
        rates = {way: r["tokens"] / r["cpu"] for way, r in found.items() if r is not None}
        for way in ways:
            result = found[way]
            if result is None:
                print(f"  {way:12s} didn't run")
                continue
            times, wall, peak = rates["ours"] / rates[way], result["wall"], result["peak_mib"]
            print(f"  {way:12s} {rates[way]:8.0f} tokens/s   ours is {times:5.2f} times that   wall {wall:6.1f} s   "
                  f"peak {peak:5.0f} MiB   {result['tokens']:.0f} tokens", flush=True)  # fmt: skip
        best = max(rate for way, rate in rates.items() if way.startswith("plain"))
        print(f"  against the best plain batch {rates['ours'] / best:.2f} (wanted 2.5), "
              f"against a call a row {rates['ours'] / rates['row']:.2f} (wanted 4)")  # fmt: skip


if __name__ == "__main__":
    main()
