"""What measuring candidates by likelihood costs beside making them, as ratios in one run on one model:
`python benchmarks/candidate_measures.py [--rows N]`.

Each row has eight sampled candidates and a right answer, measured under their own prompt and under other rows'. Making
is the slot engine's work, for the demo's models with all that ModelMaker does around it. The random models of about 30
million parameters read prompts of 8 to 120 tokens and end after 5 to 200. Both halves are processor seconds of one
thread in one process. The demo's answers have six tokens: there measuring is mostly reading the row's prompt once more.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.generation import END, LONGEST, PAD, SHORTEST, START, TEMPERATURE, TOP_K, TOP_P, VOCABULARY
from pipeline.candidates.candidate import CandidateStrategy, Counter, SourceRow
from pipeline.candidates.likelihood_measures import LikelihoodMeasures
from pipeline.candidates.prompting import Prompt
from pipeline.candidates.reference_rows import ReferenceRows
from pipeline.pairs.pair import Pair

CANDIDATES = 8
DEMO, RANDOM = ("demo_decoder", "demo_t5"), ("random_decoder", "random_t5")
Measured = tuple[SourceRow, list[str], list[bool | None]]


class TokenTexts:
    """Texts of random models: their token ids as numbers. Does what Prompting does."""

    maker = SimpleNamespace(lead=())

    def prompts(self, rows: Sequence[SourceRow]) -> list[Prompt]:
        return [Prompt(ids_of(row.question), row.question, "ids") for row in rows]

    def prompt(self, row: SourceRow) -> Prompt:
        return self.prompts([row])[0]

    def answer_ids(self, prompt: Prompt, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return [ids_of(text) for text in texts]


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


def random_model(architecture: str) -> Any:
    """About 30 million parameters."""
    import torch
    import transformers

    from pipeline.load_model import LoadedModel

    torch.manual_seed(0)
    ids = {"vocab_size": VOCABULARY, "eos_token_id": END, "pad_token_id": PAD}
    if architecture == "random_t5":
        model: Any = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                d_model=384,
                d_kv=48,
                d_ff=1024,
                num_layers=6,
                num_heads=8,
                decoder_start_token_id=PAD,
                initializer_factor=0.3,
                **ids,
            )  # fmt: skip
        )
    else:
        model = transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(
                hidden_size=512,
                intermediate_size=1536,
                num_hidden_layers=7,
                num_attention_heads=8,
                num_key_value_heads=4,
                head_dim=64,
                bos_token_id=START,
                **ids,
            )  # fmt: skip
        )
    model.generation_config.max_length = None
    tokenizer = SimpleNamespace(eos_token_id=END)
    return LoadedModel(model.eval(), tokenizer, bool(model.config.is_encoder_decoder), "cpu", "float32", None)


def made_by_random(architecture: str, rows: int) -> tuple[Any, list[Measured], float]:
    """The measures, what is to be measured, and the seconds that making it took."""
    from pipeline.generation.answers import AnswerMaker
    from pipeline.generation.decoding import Decoding
    from pipeline.generation.slot_engine import SlotEngine, Wanted, Work

    class Ending(SlotEngine):
        """Each answer ends at its own length."""

        def _choose(self, scores: Any, rows: Any, batch: Any) -> Any:
            scores[:, END] = -float("inf")
            for i in (i for i, row in enumerate(rows) if len(row.made) + 1 == row.wanted.key[2]):
                scores[i] = -float("inf")
                scores[i, END] = 0.0
            return super()._choose(scores, rows, batch)

    loaded = random_model(architecture)
    draws = random.Random(3)

    def drawn(least: int, most: int) -> str:
        return " ".join(str(draws.randrange(10, VOCABULARY)) for _ in range(draws.randint(least, most)))

    def length() -> int:  # as chat answers have them: most short, some long
        return min(LONGEST, SHORTEST + int(draws.expovariate(1 / 55)))

    asked = [
        SourceRow(index, Pair([{"role": "user", "content": drawn(8, 120)}], drawn(5, 80), None))
        for index in range(rows + 32)
    ]
    slots = AnswerMaker(loaded, longest=120 + LONGEST).slots
    decoding = Decoding(temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P)
    works = [
        Work(
            ids_of(row.question),
            tuple(Wanted((row.index, k, length()), decoding, 1000 * row.index + k, LONGEST) for k in range(CANDIDATES)),
        )
        for row in asked[:rows]
    ]
    list(Ending(loaded, slots=slots).run(works[:1]))  # the first call pays for what is loaded late
    began = time.process_time()
    texts: dict[int, list[str]] = {}
    for done in Ending(loaded, slots=slots).run(works):
        texts.setdefault(done.key[0], []).append(" ".join(map(str, done.ids[:-1])))
    seconds = time.process_time() - began
    measures = LikelihoodMeasures(loaded, TokenTexts(), ReferenceRows(asked[rows:]))  # type: ignore[arg-type]
    return measures, [(row, sorted(texts[row.index]), [True] * CANDIDATES) for row in asked[:rows]], seconds


def made_by_demo(architecture: str, rows: int) -> tuple[Any, list[Measured], float]:
    from candidate_rows import source_rows

    from pipeline.candidates.model_maker import ModelMaker
    from pipeline.candidates.prompting import choose_prompting
    from pipeline.checkpoint import open_checkpoint
    from pipeline.demo.build import build_demo
    from pipeline.load_model import load_model

    case = build_demo().cases["healthy_t5" if architecture == "demo_t5" else "healthy_decoder"]
    checkpoint = open_checkpoint(str(case.checkpoint))
    loaded = load_model(checkpoint)
    asked = source_rows(case.data_file, rows)
    prompting = choose_prompting(loaded, checkpoint, asked, format="plain" if loaded.is_encoder_decoder else "declared")
    strategy = CandidateStrategy("sampling", "sampling", CANDIDATES, {"temperature": 1.0, "top_p": 0.95})
    maker = ModelMaker(loaded, prompting, [strategy], max_new_tokens=64)
    cancel = threading.Event()
    list(maker.make(asked[:1], cancel=cancel, counter=Counter()))
    began = time.process_time()
    found = list(maker.make(asked, cancel=cancel, counter=Counter()))
    seconds = time.process_time() - began
    measures = LikelihoodMeasures(loaded, prompting, ReferenceRows.gather(source_rows(case.data_file, 400)))
    kept = [(row, [one for one in made if one.problem is None]) for row, made in found]
    return measures, [(row, [one.text for one in made], [one.ended for one in made]) for row, made in kept], seconds


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=48, help="of each model; eight candidates are made to each")
    parser.add_argument("--model", choices=(*DEMO, *RANDOM), action="append")
    parser.add_argument("--profile", action="store_true", help="also print where measuring spends its time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.rows} rows x {CANDIDATES} candidates, processor seconds of one thread")
    for name in options.model or (*DEMO, *RANDOM):
        make = made_by_demo if name in DEMO else made_by_random
        measures, asked, making = make(name, options.rows)
        measures.measure(*asked[0])
        measures._pools = None
        began = time.process_time()
        for one in asked:
            measures.measure(*one)
        measuring = time.process_time() - began
        tokens = sum(len(measures.prompting.answer_ids(measures.prompting.prompt(r), t)[i]) + 1
                     for r, t, _ in asked for i in range(len(t)))  # fmt: skip
        print(f"  {name:15s} {tokens:7d} tokens   making {making:7.2f} s   measuring {measuring:7.2f} s   "
              f"measuring / making {measuring / making:5.2f} (wanted < 1)", flush=True)  # fmt: skip
        if options.profile:
            from torch.profiler import ProfilerActivity, profile

            with profile(activities=[ProfilerActivity.CPU]) as seen:
                for one in asked[:8]:
                    measures.measure(*one)
            print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40))


if __name__ == "__main__":
    main()
