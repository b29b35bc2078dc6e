"""RUN028: the token that fills up short rows, and what it does to the loss."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def padding_unsound(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether there is a pad token, and whether it is the end token too.
    Why it matters:
        Where labels are masked by comparing with the pad token (transformers' DataCollatorForLanguageModeling), pad =
        eos hides every end token from the loss, and the model never learns to stop.
    How it is measured:
        By the tokenizer as the trainer will have it. TRL 1.16 and the project's own trainers mask padding by its place,
        so there the end token is learned also where it is the pad token; TRL's experimental ORPO and CPO do too.
    Known false alarms:
        None known.
    Fix:
        Set pad_token to a reserved token that no text uses.
    References:
        https://github.com/huggingface/transformers/issues/22794
        https://huggingface.co/docs/trl/sft_trainer
    """
    tokenizer = subject.tokenizer
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    named = subject.get("pad_token")
    if named and named not in tokenizer.get_vocab():
        yield error("unknown_token", ("pad_token", named), token=named)
    elif named and named != tokenizer.eos_token:
        yield ok(token=named)
    elif pad is None and end is None:
        yield error("neither", ("pad_token", None), ("eos_token", None))
    elif pad is None:
        yield info(
            "pad_becomes_end", ("pad_token", None), ("eos_token", tokenizer.eos_token), token=tokenizer.eos_token
        )
    elif pad == end:
        yield info("pad_is_end", ("pad_token", tokenizer.pad_token), token=tokenizer.pad_token)
    elif pad == getattr(tokenizer, "unk_token_id", None):
        yield warning("pad_is_unknown", ("pad_token", tokenizer.pad_token), token=tokenizer.pad_token)
    else:
        yield ok(token=tokenizer.pad_token)
