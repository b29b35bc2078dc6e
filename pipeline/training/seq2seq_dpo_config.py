"""Settings of the preference trainer for encoder-decoders: those of TRL's DPOConfig that have a meaning there, by its
names and with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

REFERENCE_FREE = ("simpo", "sft")  # losses that don't look at a reference
LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sigmoid_norm", *REFERENCE_FREE,
)  # fmt: skip
ADAPTER_REFERENCES = ("base", "start")


@dataclass
class Seq2SeqConfig(TrainingArguments):
    """What both trainers for encoder-decoders have. Defaults that differ from transformers' are TRL's."""

    # Text in the command line, not a type that argparse can make
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs"]

    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments of from_pretrained, where the model is given as a path."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Whether code that comes with the model may run."})
    disable_dropout: bool = field(default=True, metadata={"help": "Whether no activation is dropped."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that tokenise the rows."})
    max_length: int | None = field(
        default=1024, metadata={"help": "Most tokens of a prompt, and most of an answer: each side has its own room."}
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Most tokens of a prompt; by itself max_length."}
    )
    max_completion_length: int | None = field(
        default=None, metadata={"help": "Most tokens of an answer; by itself max_length."}
    )
    pad_to_multiple_of: int | str | None = field(
        default="auto", metadata={"help": "Pad to a multiple of this; auto pads no more than needed."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    gradient_checkpointing: bool = field(
        default=True, metadata={"help": "Compute activations twice instead of keeping them: slower, less memory."}
    )
    bf16: bool | None = field(  # type: ignore[assignment]  # None until __post_init__, as in TRL
        default=None, metadata={"help": "Mixed precision in bfloat16; by itself on, unless fp16 is."}
    )
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Further settings of the learning rate's schedule."}
    )

    def __post_init__(self) -> None:
        self.bf16 = not self.fp16 if self.bf16 is None else self.bf16
        super().__post_init__()
        if isinstance(self.pad_to_multiple_of, str):
            number = self.pad_to_multiple_of.strip().lower()
            self.pad_to_multiple_of = None if number in ("auto", "none", "null", "") else int(number)
        for name in ("max_length", "max_prompt_length", "max_completion_length", "pad_to_multiple_of"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise ValueError(f"{name} is {given}, must be at least 1")

    @property
    def padded_to(self) -> int | None:
        """pad_to_multiple_of as a number."""
        return self.pad_to_multiple_of if isinstance(self.pad_to_multiple_of, int) else None

    @property
    def prompt_room(self) -> int | None:
        """Most tokens of a prompt, None without a limit."""
        return self.max_length if self.max_prompt_length is None else self.max_prompt_length

    @property
    def answer_room(self) -> int | None:
        """Most tokens of an answer, None without a limit."""
        return self.max_length if self.max_completion_length is None else self.max_completion_length


@dataclass
class Seq2SeqDPOConfig(Seq2SeqConfig):
    """Settings of Seq2SeqDPOTrainer. simpo_gamma is CPOConfig's; reference_free and adapter_reference are own."""

    learning_rate: float = field(default=1e-6, metadata={"help": "The highest learning rate."})
    precompute_ref_log_probs: bool = field(
        default=False,
        metadata={"help": "Whether the reference reads every row once before training and is then let go."},
    )
    precompute_ref_batch_size: int | None = field(
        default=None, metadata={"help": "Pairs at a time then; by itself as many as in training and evaluation."}
    )
    loss_type: list[str] = field(
        default_factory=lambda: ["sigmoid"],
        metadata={"help": f"One of {', '.join(LOSS_TYPES)}, or several that are added up."},
    )
    loss_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each loss type; by itself 1 each."}
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "How probably a pair is the wrong way round. With `sigmoid` this is conservative DPO."},
    )
    beta: float = field(
        default=0.1, metadata={"help": "How dear it is to leave the reference; tau with `ipo`, a scale with `simpo`."}
    )
    simpo_gamma: float = field(
        default=0.5, metadata={"help": "With `simpo`: how far chosen must lead, in units of the reward."}
    )
    discopop_tau: float = field(default=0.05, metadata={"help": "With `discopop`: the temperature of the mixture."})
    reference_free: bool = field(
        default=False, metadata={"help": "Take a reference to which all answers are equally probable."}
    )
    adapter_reference: str | None = field(
        default=None,
        metadata={
            "help": "For a policy that is an adapter trained already: `start` keeps a frozen copy of it as the "
            "reference, `base` takes the model without it.",
            "choices": [None, *ADAPTER_REFERENCES],
        },
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "Token that fills up short rows; by itself the tokenizer's."}
    )

    def __post_init__(self) -> None:
        if isinstance(self.loss_type, str):
            self.loss_type = [self.loss_type]
        unknown = [name for name in self.loss_type if name not in LOSS_TYPES]
        if unknown or not self.loss_type:
            raise ValueError(f"loss_type {', '.join(unknown) or '[]'}: choose from {', '.join(LOSS_TYPES)}")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"{len(self.loss_weights)} loss_weights for {len(self.loss_type)} loss types")
        if "robust" in self.loss_type and not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing {self.label_smoothing}: robust needs at least 0 and less than 0.5")
        if "exo_pair" in self.loss_type and not 0 < self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing}: exo_pair needs more than 0, such as 1e-3")
        if self.beta == 0 and {"ipo", "simpo", "sppo_hard"} & set(self.loss_type):
            raise ValueError("beta is 0, and this loss divides by it")
        if self.adapter_reference not in (None, *ADAPTER_REFERENCES):
            raise ValueError(f"adapter_reference {self.adapter_reference}: choose from {', '.join(ADAPTER_REFERENCES)}")
        super().__post_init__()

    @property
    def needs_reference(self) -> bool:
        """Whether any of the losses compares with a reference."""
        return not (self.reference_free or set(self.loss_type) <= set(REFERENCE_FREE))
