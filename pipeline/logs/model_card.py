"""What a model card says beside its table: `It achieves the following results on the evaluation set`, then bullets."""

from __future__ import annotations

import re

from pipeline.logs.line_slots import NUMBER

# https://github.com/huggingface/transformers/blob/main/src/transformers/modelcard.py
RESULTS_FOLLOW = re.compile(r"(?i)\bfollowing results? on the (?:evaluation|validation|test|dev|eval)\b")
_BULLET = re.compile(
    rf"\s*[-*•+]\s+[*_`]*([A-Za-z][\w /.@()\-]{{0,80}}?)[*_`]*\s*:\s*[*_`]*({NUMBER.pattern})[*_`]*\s*$"
)


def bullet(line: str) -> tuple[str, float] | None:
    """Name and number of `- Loss: 0.0052`; None for any other line."""
    found = _BULLET.match(line)
    return (found[1].strip(), float(found[2].replace(",", ""))) if found is not None else None
