"""Time of a T5's preference training beside TRL's DPO on a decoder with as many parameters and the same rows, in turns
in one process. Run: python -m benchmarks.seq2seq_dpo

Prints one line for each way of training (all weights, LoRA, reference computed before): CPU seconds of a step on one
thread, and the ratio by pair, by token of the rows (prompt and both answers) and by token that is read.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from random import Random
from typing import Any

VOCABULARY = 8000


def tokenizer_for(rows: list[dict[str, str]]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for row in rows for text in row.values() for word in text.split()})
    vocabulary = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def rows_of(count: int, prompt: int, answer: int) -> list[dict[str, str]]:
    rng = Random(0)

    def text(length: int) -> str:
        return " ".join(f"w{rng.randrange(VOCABULARY - 10)}" for _ in range(rng.randint(length // 2, length * 3 // 2)))

    return [{"prompt": text(prompt), "chosen": text(answer), "rejected": text(answer)} for _ in range(count)]


def models(width: int, layers: int) -> tuple[Any, Any]:
    """(T5, Llama) with the same number of parameters within one percent, embeddings tied in both."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    t5 = T5ForConditionalGeneration(T5Config(
        vocab_size=VOCABULARY, d_model=width, d_kv=width // 4, num_heads=4, d_ff=width * 4, num_layers=layers,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    ))  # fmt: skip
    wanted = t5.num_parameters()
    deep, best = 2 * layers, None
    for inner in range(width, 12 * width, 8):  # the width of its inner layer makes up the difference
        size = VOCABULARY * width + deep * (4 * width * width + 3 * width * inner + 2 * width) + width
        if best is None or abs(size - wanted) < abs(best[0] - wanted):
            best = (size, inner)
    assert best is not None and abs(best[0] - wanted) < 0.01 * wanted
    decoder = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=best[1], num_hidden_layers=deep,
        num_attention_heads=4, pad_token_id=0, eos_token_id=1, bos_token_id=None, tie_word_embeddings=True,
    ))  # fmt: skip
    return t5, decoder


def step_seconds(trainers: tuple[Any, Any], rounds: int) -> tuple[list[float], list[float]]:
    """CPU seconds of forward, backward and optimizer of each trainer, in turns on the same rows."""
    import torch

    loops = []
    for trainer in trainers:
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        loops.append((trainer, iter(trainer.get_train_dataloader())))
    spent: tuple[list[float], list[float]] = ([], [])
    torch.manual_seed(0)
    for _ in range(rounds):
        for (trainer, batches), seconds in zip(loops, spent, strict=True):
            batch = next(batches)
            started = time.process_time()
            trainer.training_step(trainer.model, batch)
            trainer.optimizer.step()
            trainer.model.zero_grad()
            seconds.append(time.process_time() - started)
    return tuple(found[2:] for found in spent)  # type: ignore[return-value]  # the first ones meet every kernel


def compare(way: str, width: int, layers: int, size: int, prompt: int, answer: int, rounds: int) -> str:
    import trl
    from datasets import Dataset
    from peft import LoraConfig

    from pipeline.training.seq2seq_dpo import Seq2SeqDPOTrainer
    from pipeline.training.seq2seq_dpo_config import Seq2SeqDPOConfig

    rows = rows_of(size * rounds, prompt, answer)
    tokenizer = tokenizer_for(rows)
    t5, decoder = models(width, layers)
    parameters = t5.num_parameters(), decoder.num_parameters()
    adapters: dict[str, Any] = {"SEQ_2_SEQ_LM": None, "CAUSAL_LM": None}
    if way == "lora":
        adapters = {t: LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type=t) for t in adapters}
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "output_dir": folder, "per_device_train_batch_size": size, "bf16": False, "use_cpu": True, "report_to": [],
            "activation_checkpointing": False, "precompute_ref_log_probs": way == "precomputed", "max_length": None,
            "disable_tqdm": True,
        }  # fmt: skip
        ours = Seq2SeqDPOTrainer(
            t5, args=Seq2SeqDPOConfig(**common), train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            peft_config=adapters["SEQ_2_SEQ_LM"],
        )  # fmt: skip
        theirs = trl.DPOTrainer(
            decoder, None if way != "full" else models(width, layers)[1], trl.DPOConfig(**common),
            train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            peft_config=adapters["CAUSAL_LM"],
        )  # fmt: skip
        spent = step_seconds((ours, theirs), rounds)
        lengths = [sum(sum(len(row[c]) for row in ours.train_dataset) for c in columns)
                   for columns in (("prompt_ids",), ("chosen_ids", "rejected_ids"))]  # fmt: skip
    one, other = (statistics.median(found) for found in spent)
    prompts, answers = lengths
    read = (prompts + answers) / (2 * prompts + answers)  # T5 reads a prompt once, a decoder with each answer
    return (
        f"{way}: T5 {parameters[0] / 1e6:.1f}M {one:.3f} s, decoder {parameters[1] / 1e6:.1f}M {other:.3f} s a step of "
        f"{size} pairs; ratio by pair and by token of the rows {one / other:.2f}, "
        f"by token read {one / other / read:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4, help="of the encoder; the decoder has as many")
    parser.add_argument("--pairs", type=int, default=8, help="at a time")
    parser.add_argument("--prompt", type=int, default=48, help="tokens on average")
    parser.add_argument("--answer", type=int, default=32, help="tokens on average")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for way in ("full", "precomputed", "lora"):
        print(compare(way, args.width, args.layers, args.pairs, args.prompt, args.answer, args.rounds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
