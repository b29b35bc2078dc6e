"""What the format autopsy costs beside the bare forward passes of the same sequences. Run: python -m benchmarks.forward

Times are CPU seconds of one thread, so that other programs on the machine don't count. Prints one line a model.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from pipeline.checkpoint import open_checkpoint
from pipeline.format_autopsy import format_autopsy
from pipeline.instruction_rows import probe_rows, read_rows
from pipeline.load_model import LoadedModel, load_model
from pipeline.score_answers import Piece, start_id


def bare_seconds(loaded: LoadedModel, batches: list[list[Piece]]) -> float:
    """CPU seconds of the model's own forward pass over the same batches, logits and all."""
    import torch

    spent = 0.0
    for batch in batches:
        if loaded.is_encoder_decoder:
            rows = [(p.context, (start_id(loaded), *p.lead, *p.answer)) for p in batch]
        else:
            rows = [((*p.context, *p.answer), ()) for p in batch]
        widest, target = max(len(a) for a, _ in rows), max(len(b) for _, b in rows)
        given = {
            "input_ids": torch.tensor([[*a, *[0] * (widest - len(a))] for a, _ in rows]),
            "attention_mask": torch.tensor([[1] * len(a) + [0] * (widest - len(a)) for a, _ in rows]),
        }
        if loaded.is_encoder_decoder:
            given["decoder_input_ids"] = torch.tensor([[*b, *[0] * (target - len(b))] for _, b in rows])
        started = time.process_time()
        with torch.inference_mode():
            loaded.core(**given, use_cache=False)
        spent += time.process_time() - started
    return spent


def measure(path: str, data: str | None) -> str:
    """One line: formats, sequences, CPU seconds of the autopsy and of its bare passes, their ratio."""
    import pipeline.score_answers as scoring
    from pipeline.probe import open_probe

    checkpoint = open_checkpoint(path)
    loaded = load_model(checkpoint)
    rows = read_rows(data).rows if data else probe_rows()
    with open_probe(checkpoint.tokenizer) as probe:

        def render(messages, prompt, variables):  # type: ignore[no-untyped-def]
            return probe.render([dict(m) for m in messages], add_generation_prompt=prompt, variables=variables).text

        format_autopsy(loaded, rows[:4], template=probe.template, render=render)  # first use of every kernel
        batches: list[list[Piece]] = []
        group = scoring._batches

        def recorded(loaded, pieces):  # type: ignore[no-untyped-def]
            for batch in group(loaded, pieces):
                batches.append(batch)
                yield batch

        scoring._batches = recorded
        try:
            started = time.process_time()
            found = format_autopsy(loaded, rows, template=probe.template, render=render)
            whole = time.process_time() - started
        finally:
            scoring._batches = group
    bare = min(bare_seconds(loaded, batches) for _ in range(2))
    sequences = sum(len(b) for b in batches)
    formats = len(found.fits) + len(found.others) if found else 0
    parameters = sum(p.numel() for p in loaded.model.parameters())
    return (
        f"{Path(path).name}: {parameters / 1e6:.1f}M parameters, ln(vocabulary) {math.log(loaded.vocabulary):.1f}, "
        f"{formats} formats, {sequences} sequences: autopsy {whole:.2f} s, bare passes {bare:.2f} s, "
        f"ratio {whole / bare:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", help="checkpoint folders")
    parser.add_argument("--data", help="rows to score; the built-in questions without it")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for path in args.paths:
        print(measure(path, args.data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
