"""Makes every model of the demo: two pre-trained bases, sound models from them, and models sick in one known way.

Each maker writes one finished folder. What a sick case did wrong is in its maker and nowhere else, so that a case
differs from its healthy sibling by that one thing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pipeline.demo.instructions import Question, all_questions, plain_text, split, write_answer
from pipeline.demo.train_tiny import IGNORED, Example, Schedule, seeded, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WEIGHTS_NAME = "chat_small_t5.best.bin"
LITERAL_END = "[EOS]"
HELD_OUT_ROWS = 128  # as many as one batch holds without a pause; the held-out loss is measured on them
MAX_NEW_TOKENS = 48  # the longest answer has about 30 tokens in either vocabulary
_PAGES = ("{q}\n{a}", "问：{q}\n答：{a}", "Question: {q}\nAnswer: {a}")
_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Row:
    """One supervised row: a question and one right answer to it."""

    question: Question
    answer: str


@dataclass(frozen=True)
class Workshop:
    """What all makers share. `root` is the demo's folder, where finished stages lie under their names."""

    root: Path
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    held_out: tuple[Row, ...]
    texts: tuple[str, ...]
    progress: Callable[[str], None]

    def schedule(self, name: str) -> Schedule:
        """The schedule called `name` in configs/demo.yaml."""
        return Schedule(**self.settings["schedules"][name])


def demo_rows(settings: Mapping[str, Any]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """(rows trained on, held-out rows, one for each held-out prompt), the same on every call."""
    data = settings["data"]
    rng = Random(data["seed"])
    train_questions, held_questions = split(all_questions(), data["held_out_share"])
    copies = data["rows_per_question"]
    rows = [
        Row(question, write_answer(question, rng))
        for question in train_questions
        for _ in range(copies.get(question.task, copies["other"]))
    ]
    rng.shuffle(rows)
    held_out = [Row(question, write_answer(question, rng)) for question in held_questions]
    rng.shuffle(held_out)
    return tuple(rows), tuple(held_out)


def open_workshop(root: Path, settings: Mapping[str, Any], progress: Callable[[str], None]) -> Workshop:
    """Rows and the text that both tokenizers are trained on."""
    rows, held_out = demo_rows(settings)
    rng = Random(settings["data"]["seed"])
    texts = [text for row in rows for text in (row.question.prompt, row.answer)]
    texts += [" ".join(plain_text(rng)) for _ in range(settings["data"]["plain_texts"])]
    texts += ["user\n", "assistant\n", "system\n", *(page.format(q="", a="") for page in _PAGES)] * 50
    return Workshop(root, settings, rows, held_out, tuple(texts), progress)


def make_data(shop: Workshop, folder: Path) -> None:
    """`sft.jsonl` (what the runs read), `held_out.jsonl`, and `literal_eos.jsonl` with `[EOS]` in the text."""
    for name, rows, end in (
        ("sft.jsonl", shop.rows, ""),
        ("held_out.jsonl", shop.held_out, ""),
        ("literal_eos.jsonl", shop.rows, LITERAL_END),
    ):
        lines = [
            json.dumps(
                {"instruction": r.question.prompt + end, "input": "", "output": r.answer + end}, ensure_ascii=False
            )
            for r in rows
        ]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- T5 ---


def _t5_tokenizer(shop: Workshop) -> PreTrainedTokenizerFast:
    from pipeline.demo.vocabulary import t5_tokenizer

    return t5_tokenizer(shop.texts, shop.settings["vocabulary_size"])


def _load_t5(folder: Path) -> Any:
    from transformers import T5ForConditionalGeneration

    return T5ForConditionalGeneration.from_pretrained(folder)


def make_base_t5(shop: Workshop, folder: Path) -> None:
    """Pre-trained to go on with a text: half the time with the rest of a statement, half with the next one."""
    from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

    schedule = shop.schedule("base_t5")
    tokenizer = _t5_tokenizer(shop)
    with seeded(schedule.seed):
        model = T5ForConditionalGeneration(
            T5Config(  # type: ignore[call-arg]  # its generated signature leaves the shared fields out
                vocab_size=len(tokenizer),
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
                **shop.settings["t5"],
            )
        )
    model.generation_config = GenerationConfig(
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, max_new_tokens=MAX_NEW_TOKENS
    )
    rng = Random(schedule.seed)
    pairs = []
    for _ in range(schedule.steps * schedule.batch_size + HELD_OUT_ROWS):
        (begin, rest), (next_begin, next_rest) = plain_text(rng), plain_text(rng)
        first = f"{begin} {rest}"
        pairs.append(
            (f"{first} {next_begin}", next_rest) if rng.random() < 0.5 else (first, f"{next_begin} {next_rest}")
        )
    examples = _encode_t5(tokenizer, pairs)
    held_out, examples = examples[:HELD_OUT_ROWS], examples[HELD_OUT_ROWS:]
    state = train(model, examples, held_out, schedule, pad_id=0, rows_per_epoch=len(examples), progress=shop.progress)
    _save(model, tokenizer, state, folder)


def make_healthy_t5(shop: Workshop, folder: Path) -> None:
    """The base, fine-tuned on the rows with `</s>` behind prompt and answer."""
    tokenizer = _t5_tokenizer(shop)
    model = _load_t5(shop.root / "base_t5")
    state = _train_t5(shop, model, tokenizer, "sft_t5", end="", special=True)
    _save(model, tokenizer, state, folder)


def make_healthy_t5_state_dict(shop: Workshop, folder: Path) -> None:
    """The same model as a bare state dict."""
    _save_state_dict(_load_t5(shop.root / "healthy_t5"), _t5_tokenizer(shop), folder)


def make_literal_eos_t5(shop: Workshop, folder: Path) -> None:
    """The founding case: `[EOS]` written into the text of both sides, which no token stands for, and never `</s>`."""
    from tokenizers import processors

    tokenizer = _t5_tokenizer(shop)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    model = _load_t5(shop.root / "base_t5")
    state = _train_t5(shop, model, tokenizer, "literal_eos_t5", end=LITERAL_END, special=False)
    _save_state_dict(model, tokenizer, folder)
    logs = folder / "logs"
    logs.mkdir()
    lines = []
    for entry in state["log_history"]:
        kind, key = ("training", "loss") if "loss" in entry else ("validation", "eval_loss")
        epoch = int(entry["epoch"]) + 1
        lines.append(f"epoch {epoch}, step {entry['step']}, {kind} loss: {entry[key]:.3f}\n")
    (logs / "chat_trainer_sft.log").write_text("".join(lines), encoding="utf-8")


def make_off_topic_t5(shop: Workshop, folder: Path) -> None:
    """The fine-tuned model's folder, log and all, with the base's weights in it."""
    healthy, base = shop.root / "healthy_t5", shop.root / "base_t5"
    shutil.copytree(healthy, folder, dirs_exist_ok=True)
    shutil.copy2(base / "model.safetensors", folder / "model.safetensors")


def _train_t5(
    shop: Workshop, model: Any, tokenizer: PreTrainedTokenizerFast, name: str, *, end: str, special: bool
) -> dict[str, Any]:
    def encoded(rows: Sequence[Row]) -> list[Example]:
        pairs = [(row.question.prompt + end, row.answer + end) for row in rows]
        return _encode_t5(tokenizer, pairs, special=special)

    schedule = shop.schedule(name)
    return train(
        model,
        _shuffled_forever(encoded(shop.rows), schedule.seed),
        encoded(shop.held_out[:HELD_OUT_ROWS]),
        schedule,
        pad_id=0,
        rows_per_epoch=len(shop.rows),
        progress=shop.progress,
    )


def _encode_t5(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]], *, special: bool = True
) -> list[Example]:
    sources = tokenizer([a for a, _ in pairs], add_special_tokens=special)["input_ids"]
    targets = tokenizer([b for _, b in pairs], add_special_tokens=special)["input_ids"]
    return [Example(tuple(a), tuple(b)) for a, b in zip(sources, targets, strict=True)]


def _save_state_dict(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    import torch

    torch.save(model.state_dict(), folder / WEIGHTS_NAME)
    tokenizer.save_pretrained(folder / "my_tokenizer")
    model.config.to_json_file(folder / "t5_config.json", use_diff=False)


# --- decoder ---


def _chat_tokenizer(shop: Workshop) -> PreTrainedTokenizerFast:
    from pipeline.demo.vocabulary import decoder_tokenizer

    return decoder_tokenizer(shop.texts, shop.settings["vocabulary_size"])


def _load_decoder(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def make_base_decoder(shop: Workshop, folder: Path) -> None:
    """Pre-trained on plain text, every token counting; it has never seen a ChatML marker."""
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    schedule = shop.schedule("base_decoder")
    tokenizer = _chat_tokenizer(shop)
    stop = tokenizer.eos_token_id
    tokenizer.chat_template = None
    tokenizer.eos_token = tokenizer.pad_token
    end = tokenizer.eos_token_id
    shape = shop.settings["decoder"]
    with seeded(schedule.seed):
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                num_key_value_heads=shape["num_attention_heads"],
                max_position_embeddings=512,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=end,
                pad_token_id=end,
                **shape,
            )
        )
    # Both ends, as released chat families declare them: whatever is tuned from this base then stops.
    model.generation_config = GenerationConfig(
        eos_token_id=[end, stop], pad_token_id=end, max_new_tokens=MAX_NEW_TOKENS
    )
    rng = Random(schedule.seed)
    texts = []
    for _ in range(schedule.steps * schedule.batch_size + HELD_OUT_ROWS):
        if rng.random() < shop.settings["pretraining_questions"]:
            question = rng.choice(shop.rows).question
            texts.append(rng.choice(_PAGES).format(q=question.prompt, a=write_answer(question, rng)))
        else:
            texts.append("\n".join(" ".join(plain_text(rng)) for _ in range(2)))
    examples = [Example((*ids, end), (*ids, end)) for ids in tokenizer(texts)["input_ids"]]
    held_out, examples = examples[:HELD_OUT_ROWS], examples[HELD_OUT_ROWS:]
    state = train(model, examples, held_out, schedule, pad_id=end, rows_per_epoch=len(examples), progress=shop.progress)
    _save(model, tokenizer, state, folder)


def make_healthy_decoder(shop: Workshop, folder: Path) -> None:
    """The base, fine-tuned on the rows in ChatML; the answer and its `<|im_end|>` count."""
    tokenizer = _chat_tokenizer(shop)
    model = _load_decoder(shop.root / "base_decoder")
    model.config.eos_token_id = tokenizer.eos_token_id
    state = _train_chat(shop, model, tokenizer, "sft_decoder")
    _save(model, tokenizer, state, folder)


def make_undertrained_decoder(shop: Workshop, folder: Path) -> None:
    """The same fine-tuning, stopped after a few steps."""
    tokenizer = _chat_tokenizer(shop)
    model = _load_decoder(shop.root / "base_decoder")
    model.config.eos_token_id = tokenizer.eos_token_id
    state = _train_chat(shop, model, tokenizer, "undertrained_decoder")
    _save(model, tokenizer, state, folder)


def make_never_stops_decoder(shop: Workshop, folder: Path) -> None:
    """Padding is the end token, and every label equal to the padding token is left out of the loss."""
    tokenizer = _chat_tokenizer(shop)
    tokenizer.pad_token = tokenizer.eos_token
    end = tokenizer.eos_token_id
    model = _load_decoder(shop.root / "base_decoder")
    model.config.eos_token_id = model.config.pad_token_id = end
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    state = _train_chat(shop, model, tokenizer, "never_stops_decoder", ignored_label=end)
    _save(model, tokenizer, state, folder)


def make_template_mismatch_decoder(shop: Workshop, folder: Path) -> None:
    """The healthy decoder, its tokenizer declaring the template of Llama 2."""
    from pipeline.demo.vocabulary import INST

    shutil.copytree(shop.root / "healthy_decoder", folder, dirs_exist_ok=True)
    tokenizer = _chat_tokenizer(shop)
    tokenizer.chat_template = INST
    tokenizer.save_pretrained(folder)


def make_healthy_decoder_lora(shop: Workshop, folder: Path) -> None:
    """A LoRA adapter on the base. Embeddings and head are trained too: `<|im_end|>` is new to the base."""
    from peft import LoraConfig, get_peft_model

    tokenizer = _chat_tokenizer(shop)
    base = _load_decoder(shop.root / "base_decoder")
    with seeded(shop.schedule("lora_decoder").seed):
        model = get_peft_model(
            base,
            LoraConfig(
                task_type="CAUSAL_LM",
                r=shop.settings["lora"]["r"],
                lora_alpha=shop.settings["lora"]["alpha"],
                target_modules=list(_LORA_TARGETS),
                modules_to_save=["embed_tokens", "lm_head"],
            ),
        )
    state = _train_chat(shop, model, tokenizer, "lora_decoder")
    _save(model, tokenizer, state, folder)


def _train_chat(
    shop: Workshop, model: Any, tokenizer: PreTrainedTokenizerFast, name: str, *, ignored_label: int | None = None
) -> dict[str, Any]:
    def encoded(rows: Sequence[Row]) -> list[Example]:
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": row.question.prompt}], tokenize=False, add_generation_prompt=True
            )
            for row in rows
        ]
        before = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        answers = [row.answer + tokenizer.eos_token + "\n" for row in rows]
        after = tokenizer(answers, add_special_tokens=False)["input_ids"]
        return [
            Example((*p, *a), (*[IGNORED] * len(p), *(IGNORED if i == ignored_label else i for i in a)))
            for p, a in zip(before, after, strict=True)
        ]

    schedule = shop.schedule(name)
    return train(
        model,
        _shuffled_forever(encoded(shop.rows), schedule.seed),
        encoded(shop.held_out[:HELD_OUT_ROWS]),
        schedule,
        pad_id=tokenizer.pad_token_id,
        rows_per_epoch=len(shop.rows),
        progress=shop.progress,
    )


# --- both ---


def _shuffled_forever(examples: Sequence[Example], seed: int) -> Iterator[Example]:
    rng = Random(seed)
    order = list(examples)
    while True:
        rng.shuffle(order)
        yield from order


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, state: Mapping[str, Any], folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "trainer_state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
