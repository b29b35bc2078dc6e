"""The one table of checks: code, name, function, depth. Within a depth the cheapest come first.

A code is never reused. Names of findings, sentences and documentation all hang on the code.
"""

from __future__ import annotations

from diagnostics.run_checks import Check

CHECKPOINT_CHECKS: tuple[Check, ...] = (
    # files: layout and weight headers
    # files: adapters
    # files: tokenizer and template
    # files: generation settings
    # weights
    # forward
    # samples
)
