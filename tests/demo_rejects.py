"""Rejected answers as a user of the demo gets them: sampled from one of its models, one for each prompt."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from diagnostics.checkpoint_subject import CheckpointSubject
from pipeline.checkpoint import open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.instruction_rows import read_rows
from pipeline.load_model import load_model

BATCH = 40


def write_rejects(demo: DemoFolder, name: str, path: Path, *, rows: int = 120) -> Path:
    """`instruction,input,chosen,rejected` rows with what the demo's model `name` answers."""
    case = demo.cases[name]
    checkpoint = open_checkpoint(
        str(case.checkpoint), tokenizer=str(case.tokenizer) if case.tokenizer else None,
        model_config=str(case.model_config) if case.model_config else None,
    )  # fmt: skip
    loaded = load_model(checkpoint, base=CheckpointSubject(checkpoint).base)
    tokenizer, found = loaded.tokenizer, read_rows(case.data_file, limit=rows).rows
    tokenizer.padding_side = "left"
    answers: list[str] = []
    torch.manual_seed(0)
    for start in range(0, len(found), BATCH):
        prompts = [row.question for row in found[start : start + BATCH]]
        if not loaded.is_encoder_decoder:
            prompts = [
                tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
                for p in prompts
            ]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=loaded.is_encoder_decoder)
        made = loaded.model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=48, do_sample=True,
            temperature=0.8,
        )  # fmt: skip
        new = made if loaded.is_encoder_decoder else made[:, batch["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    pairs = [
        {"instruction": row.question, "input": "", "chosen": row.answer, "rejected": answer}
        for row, answer in zip(found, answers, strict=True)
    ]
    path.write_text(json.dumps(pairs, ensure_ascii=False, indent=1), encoding="utf-8")
    return path
