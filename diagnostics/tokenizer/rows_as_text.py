"""The rows given with --data, as the checks of tokenizer and template look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diagnostics.checkpoint_subject import CheckpointSubject

# A whole book in one row would say no more than its first chapters, and cost minutes.
MAX_CHARACTERS = 100_000

if TYPE_CHECKING:
    from pipeline.instruction_rows import InstructionRow


def data_rows(subject: CheckpointSubject) -> Sequence[InstructionRow]:
    """Up to `max_rows` rows, spread over the data. Raises NotMeasured without data or when none could be read."""
    from pipeline.instruction_rows import spread

    return spread(subject.rows.rows, subject.max_rows)


def texts_of_rows(subject: CheckpointSubject) -> list[str]:
    """Every turn and answer of the rows, one after another; of very long ones the beginning."""
    return [
        text[:MAX_CHARACTERS]
        for row in data_rows(subject)
        for text in (*(m["content"] for m in row.messages), row.answer)
    ]
