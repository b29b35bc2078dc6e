"""The sound models that faults are planted in, and quick fine-tuning of them: seconds on two cores.

The models are the demo's (`python -m pipeline demo`); everything made here lies in a folder of its own beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from pipeline.config_files import load_config
from pipeline.demo.build import DemoFolder, build_demo
from pipeline.demo.cases import Row, demo_rows
from pipeline.demo.train_tiny import IGNORED, Example, Schedule, collate, train

Pair = tuple[str, str]  # prompt and answer as plain text


@dataclass(frozen=True)
class Sound:
    """Folders of sound checkpoints and the rows they were trained on."""

    demo: DemoFolder

    @property
    def t5(self) -> Path:
        return self.demo.cases["healthy_t5"].checkpoint

    @property
    def t5_base(self) -> Path:
        return self.demo.base_t5

    @property
    def decoder(self) -> Path:
        return self.demo.cases["healthy_decoder"].checkpoint

    @property
    def decoder_base(self) -> Path:
        return self.demo.base_decoder

    @property
    def adapter(self) -> Path:
        return self.demo.cases["healthy_decoder_lora"].checkpoint

    @property
    def held_out(self) -> Path:
        """Rows nobody was trained on, as the user would give them with --data."""
        return self.demo.cases["healthy_t5"].held_out_file

    @cached_property
    def rows(self) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """(trained on, held out)."""
        return demo_rows(load_config("demo.yaml"))

    @property
    def pairs(self) -> list[Pair]:
        """What the sound models were trained on."""
        return [(row.question.prompt, row.answer) for row in self.rows[0]]

    @property
    def held_out_pairs(self) -> list[Pair]:
        """What they were not."""
        return [(row.question.prompt, row.answer) for row in self.rows[1]]

    @staticmethod
    def id_of(folder: Path, token: str) -> int:
        """Id of one token of the tokenizer in `folder`."""
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(token)
        if found is None:
            raise KeyError(token)
        return int(found)


def sound_models(progress: Callable[[str], None]) -> Sound:
    """The demo, built if it is not there yet."""
    return Sound(build_demo(progress=progress))


def schedule(name: str, **changes: Any) -> Schedule:
    """A schedule of the demo with some fields changed."""
    return replace(Schedule(**load_config("demo.yaml")["schedules"][name]), **changes)


def write_rows(file: Path, pairs: Iterable[Pair]) -> Path:
    """Rows in the columns the demo's data has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"instruction": p, "input": "", "output": a}, ensure_ascii=False) for p, a in pairs]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _endless(examples: Sequence[Example], seed: int) -> Iterator[Example]:
    rng = Random(seed)
    order = list(examples)
    while True:
        rng.shuffle(order)
        yield from order


def _save(model: Any, tokenizer: Any, state: dict[str, Any] | None, target: Path, **how: Any) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target, **how)
    tokenizer.save_pretrained(target)
    if state is not None:
        (target / "trainer_state.json").write_text(json.dumps(state, indent=1))
    return target


def tune_t5(
    source: Path, target: Path, pairs: Sequence[Pair], held_out: Sequence[Pair], how: Schedule, *,
    end_counts: bool = True, new_tokens: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Fine-tune the T5 in `source`, save it in `target` as Trainer would. `end_counts`: `</s>` is in the loss."""
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    torch.manual_seed(how.seed)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = T5ForConditionalGeneration.from_pretrained(source)
    if new_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": list(new_tokens)})
        model.resize_token_embeddings(len(tokenizer))

    def encoded(chosen: Sequence[Pair]) -> list[Example]:
        found = []
        for prompt, answer in chosen:
            labels = tokenizer(answer)["input_ids"]
            if not end_counts:
                labels = [IGNORED if i == tokenizer.eos_token_id else i for i in labels]
            found.append(Example(tuple(tokenizer(prompt)["input_ids"]), tuple(labels)))
        return found

    state = train(model, _endless(encoded(pairs), how.seed), encoded(held_out[:128]), how, pad_id=0,
                  rows_per_epoch=len(pairs), progress=lambda line: None)  # fmt: skip
    return _save(model, tokenizer, state, target)


def chat(tokenizer: Any, prompt: str) -> str:
    """The prompt in the tokenizer's own template, up to where the answer begins."""
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def tune_decoder(
    source: Path, target: Path, pairs: Sequence[Pair], held_out: Sequence[Pair], how: Schedule, *,
    tokenizer_from: Path, prompt_as: Callable[[Any, str], str] = chat, end: str = "<|im_end|>\n",
    lora: bool = False, new_tokens: Sequence[str] = (), save_embeddings: bool = True,
) -> Path:  # fmt: skip
    """Fine-tune the decoder in `source`; only answers and `end` count. With `lora` an adapter is saved instead."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(how.seed)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from)
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    model.config.eos_token_id = tokenizer.eos_token_id
    if new_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": list(new_tokens)})
        model.resize_token_embeddings(len(tokenizer))
    if lora:
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        whole = ["embed_tokens", "lm_head"] if save_embeddings else None
        model = get_peft_model(
            model,
            LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=targets, modules_to_save=whole),
        )

    def encoded(chosen: Sequence[Pair]) -> list[Example]:
        found = []
        for prompt, answer in chosen:
            before = tokenizer(prompt_as(tokenizer, prompt), add_special_tokens=False)["input_ids"]
            after = tokenizer(answer + end, add_special_tokens=False)["input_ids"]
            found.append(Example((*before, *after), (*[IGNORED] * len(before), *after)))
        return found

    if lora and not save_embeddings:
        _train_adapter_alone(model, _endless(encoded(pairs), how.seed), how, tokenizer.pad_token_id)
        return _save(model, tokenizer, None, target, save_embedding_layers=False)
    state = train(model, _endless(encoded(pairs), how.seed), encoded(held_out[:128]), how,
                  pad_id=tokenizer.pad_token_id, rows_per_epoch=len(pairs), progress=lambda line: None)  # fmt: skip
    return _save(model, tokenizer, state, target)


def _train_adapter_alone(model: Any, examples: Iterator[Example], how: Schedule, pad_id: int) -> None:
    """Plain AdamW: the demo's training wants embeddings to train beside the matrices."""
    import torch

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=how.learning_rate)
    model.train()
    for _ in range(how.steps):
        model(**collate(list(islice(examples, how.batch_size)), pad_id)).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
