"""Preference pairs written for the tests of the tab Pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def rows(n: int = 8) -> list[dict[str, Any]]:
    """Pairs that are told apart by their numbers; the rejected answer of every second one is empty."""
    return [
        {"prompt": f"Question number {i}?", "chosen": f"The right answer to it is {i * 11}.",
         "rejected": "" if i % 2 else f"The wrong answer to it is {i * 7}.", "score_chosen": 9 - i % 3, "score_rejected": i % 4}
        for i in range(n)
    ]  # fmt: skip


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n", encoding="utf-8")
    return path
