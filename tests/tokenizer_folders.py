"""Small real tokenizers in the layouts that checkpoints have, for the tests of probe, tokenizer and template checks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "Which colour has a ripe banana? A ripe banana is yellow. And which colour has a cherry?",
    "List five kinds of fruit: apples, bananas, oranges, pineapples and strawberries.",
    "The train leaves at 7:45 and costs $12.50.", "Answer in one word.", "user assistant system model",
    "列出五种不同的水果。苹果、香蕉、橘子、菠萝、草莓。", "火车七点四十五分出发，票价八十元。",
    "请用一句话回答下面的问题。", "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z [ ] < > | / _ # 0 1 2",
] * 4  # fmt: skip
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def special(text: str, **flags: bool) -> AddedToken:
    return AddedToken(text, special=True, normalized=False, **flags)


@cache
def _byte_level(tokens: tuple[str, ...], size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([special(t) for t in tokens])
    return tokenizer.to_str()


def byte_level(*tokens: str, size: int = 420) -> Tokenizer:
    """Byte-level BPE as GPT-2, Qwen and Llama 3 have it, `tokens` added at the end."""
    return Tokenizer.from_str(_byte_level(tokens, size))


@cache
def _unigram(size: int, english: bool) -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([t for t in CORPUS if not english or t.isascii()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer.to_str()


def unigram(size: int = 300, english: bool = False) -> Tokenizer:
    """Unigram with metaspace and </s> at the end, as T5 has it."""
    return Tokenizer.from_str(_unigram(size, english))


def write_json(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def added_tokens_decoder(tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """As tokenizer_config.json lists them."""
    return {
        str(i): {"content": t.content, "lstrip": t.lstrip, "rstrip": t.rstrip, "normalized": t.normalized,
                 "single_word": t.single_word, "special": t.special}
        for i, t in tokenizer.get_added_tokens_decoder().items()
    }  # fmt: skip


def chat_folder(folder: Path, **changes: Any) -> Path:
    """A sound decoder checkpoint without weights: ChatML, <|im_end|> everywhere. `changes` per file:
    config, generation_config, tokenizer_config (None for a key deletes it), tokenizer (a Tokenizer)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = changes.get("tokenizer") or byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    end, text = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    rows = -(-tokenizer.get_vocab_size() // 64) * 64
    files = {
        "config": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": rows,
                   "eos_token_id": end},
        "generation_config": {"eos_token_id": [end, text], "pad_token_id": text, "do_sample": True, "temperature": 0.7},
        "tokenizer_config": {
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "chat_template": CHATML, "added_tokens_decoder": added_tokens_decoder(tokenizer),
        },
    }  # fmt: skip
    for name, content in files.items():
        merged = {**content, **changes.get(name, {})}
        write_json(folder, f"{name}.json", {k: v for k, v in merged.items() if v is not None})
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def t5_folder(folder: Path, **changes: Any) -> Path:
    """A sound encoder-decoder checkpoint without weights. `changes` as for `chat_folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = changes.get("tokenizer") or unigram()
    rows = -(-tokenizer.get_vocab_size() // 64) * 64
    files = {
        "config": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True,
                   "vocab_size": rows, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0},
        "generation_config": {"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0, "max_length": 512},
        "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>",
                             "unk_token": "<unk>"},
    }  # fmt: skip
    for name, content in files.items():
        merged = {**content, **changes.get(name, {})}
        write_json(folder, f"{name}.json", {k: v for k, v in merged.items() if v is not None})
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def data_file(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Rows of instruction and output."""
    write_json(path.parent, path.name, [{"instruction": q, "output": a} for q, a in rows])
    return path
