"""Supervised training of encoder-decoders: transformers' Seq2SeqTrainer on rows of prompt and completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accelerate.logging import get_logger
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from pipeline.refusal import Refused
from pipeline.training.seq2seq_dpo import disable_dropout, open_model, suit_model, wrapped
from pipeline.training.seq2seq_dpo_config import Seq2SeqConfig
from pipeline.training.seq2seq_pairs import IGNORED, PROMPT, tokenised_rows

logger = get_logger(__name__)
_ANSWER = "completion_ids"


@dataclass
class Seq2SeqSFTConfig(Seq2SeqConfig, Seq2SeqTrainingArguments):
    """Settings of supervised training, with the defaults of TRL's SFTConfig."""

    learning_rate: float = field(default=2e-5, metadata={"help": "The highest learning rate."})
    disable_dropout: bool = field(default=False, metadata={"help": "Whether nothing is dropped."})


def build_sft_trainer(
    model: Any, tokenizer: Any, args: Seq2SeqSFTConfig, train_dataset: Dataset,
    eval_dataset: Dataset | Mapping[str, Dataset] | None = None, peft_config: Any = None,
    callbacks: list[Any] | None = None,
) -> Seq2SeqTrainer:  # fmt: skip
    """A trainer for `model`, a path, a model or a PeftModel, on columns `prompt` and `completion`: texts, or turns. The
    end token stands behind each answer that isn't cut. Raises Refused."""
    model, tokenizer = open_model(model, tokenizer, args)
    suit_model(model, tokenizer, args)

    def read(rows: Dataset, name: str) -> Dataset:
        made, counts = tokenised_rows(
            rows, tokenizer, answers={_ANSWER: "completion"}, prompt_room=args.prompt_room,
            answer_room=args.answer_room, processes=args.dataset_num_proc, what=name,
        )  # fmt: skip
        if not len(made):
            raise Refused("seq2seq_no_rows", name=name)
        if counts:
            logger.warning(f"{name}: of {len(rows)} rows " + ", ".join(f"{k} {n}" for k, n in sorted(counts.items())))
        return made.rename_columns({PROMPT: "input_ids", _ANSWER: "labels"})

    with args.main_process_first(desc="tokenising"):
        train = read(train_dataset, "train")
        if isinstance(eval_dataset, Mapping):
            held_out: Any = {name: read(rows, f"eval_{name}") for name, rows in eval_dataset.items()}
        else:
            held_out = None if eval_dataset is None else read(eval_dataset, "eval")
    model = wrapped(model, peft_config, args)
    if args.disable_dropout:
        disable_dropout(model)
    collator = DataCollatorForSeq2Seq(
        tokenizer, model=model, label_pad_token_id=IGNORED, pad_to_multiple_of=args.padded_to
    )
    return Seq2SeqTrainer(
        model=model, args=args, data_collator=collator, train_dataset=train, eval_dataset=held_out,
        processing_class=tokenizer, callbacks=callbacks,
    )  # fmt: skip
