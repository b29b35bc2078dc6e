"""Trains decoders and encoder-decoders of 0.3M parameters on sixteen rows in about two seconds each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROWS = [
    ("列出5种不同的水果。", "苹果、香蕉、橘子、菠萝、草莓。"),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("写一句关于春天的话。", "春天来了，花开满园，鸟儿歌唱。"),
    ("Name three primary colors.", "The three primary colors are red, yellow and blue."),
    ("中国的首都是哪里？", "中国的首都是北京。"),
    ("How many days are in a week?", "There are seven days in a week."),
    ("太阳从哪边升起？", "太阳从东边升起，从西边落下。"),
    ("Give an antonym of hot.", "An antonym of hot is cold."),
    ("一年有几个季节？", "一年有四个季节：春、夏、秋、冬。"),
    ("What do bees make?", "Bees make honey from the nectar of flowers."),
    ("写出三种交通工具。", "汽车、火车和飞机是三种常见的交通工具。"),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare."),
    ("如何保持健康？", "多运动、早睡觉、少吃糖，并定期体检。"),
    ("What is two plus two?", "Two plus two equals four."),
    ("月亮为什么会发光？", "月亮本身不发光，它反射太阳的光。"),
    ("Where do fish live?", "Fish live in rivers, lakes and the sea."),
]
SPECIAL = ["<pad>", "</s>", "<unk>", "<|user|>", "<|assistant|>", "<|im_end|>", "<extra_id_0>"]
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% else %}"
    "<|assistant|>{{ m['content'] }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_rows(path: Path, rows: Sequence[tuple[str, str]] = ROWS) -> str:
    """A data file of these rows; returns its path."""
    path.write_text(json.dumps([{"instruction": q, "output": a} for q, a in rows], ensure_ascii=False), "utf-8")
    return str(path)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        [text for row in ROWS for text in row],
        trainers.BpeTrainer(
            vocab_size=700, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )  # fmt: skip
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=SPECIAL[3:], model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    wrapped.chat_template = TEMPLATE
    return wrapped


def train(
    folder: Path, kind: str, *, answer: Callable[[str], str] = lambda text: text, end: str = "</s>", steps: int = 70,
    prompt: str = "<|user|>{}<|assistant|>",
) -> Path:  # fmt: skip
    """Save a `llama` or `t5` trained on ROWS to `folder`. answer: what is learned instead of each answer; end: text
    tokenised behind it; prompt: what stands around each question."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=96, intermediate_size=192, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, bos_token_id=None,
            eos_token_id=1, pad_token_id=0,
        ))  # fmt: skip
    else:
        model = T5ForConditionalGeneration(T5Config(
            vocab_size=len(tokenizer), d_model=96, d_kv=24, d_ff=192, num_layers=2, num_heads=4, dropout_rate=0.0,
            decoder_start_token_id=0, eos_token_id=1, pad_token_id=0,
        ))  # fmt: skip

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    prompts = [ids(prompt.format(q)) for q, _ in ROWS]
    answers = [ids(answer(a)) + (ids(end) if end else []) for _, a in ROWS]

    def padded(rows: list[list[int]], fill: int) -> Any:
        widest = max(len(r) for r in rows)
        return torch.tensor([r + [fill] * (widest - len(r)) for r in rows])

    if kind == "llama":
        inputs = padded([p + a for p, a in zip(prompts, answers, strict=True)], 0)
        labels = padded([[-100] * len(p) + a for p, a in zip(prompts, answers, strict=True)], -100)
        mask = padded([[1] * (len(p) + len(a)) for p, a in zip(prompts, answers, strict=True)], 0)
    else:
        inputs, labels, mask = padded(prompts, 0), padded(answers, -100), padded([[1] * len(p) for p in prompts], 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, steps)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=inputs, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
