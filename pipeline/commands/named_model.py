"""`NAME=PATH` where a command compares several models."""

from __future__ import annotations

import os


def name_and_path(word: str) -> tuple[str | None, str]:
    """`NAME=PATH`, or a path that may hold =."""
    name, equals, rest = word.partition("=")
    named = bool(equals and rest and name.strip() and not os.path.lexists(word) and not set(name) & set("/\\:."))
    return (name.strip(), rest) if named else (None, word)
