"""What every alteration is given, and what it says where it can't be applied."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reference_rows import ReferenceRows
from pipeline.config_files import load_config
from pipeline.script_of_text import main_script

_LOOKED_AT = 400  # characters of a question


@cache
def _free() -> re.Pattern[str]:
    table = load_config("alterations.yaml")["free_text"]
    english = "|".join(table["en"])
    return re.compile(rf"{'|'.join(table['zh'])}|(?i:(?<!\w)(?:{english})(?!\w))")


class NothingToAlter(Exception):
    """The alteration has nothing to work on in this row. detail: an entry of `nothing_to_alter` in
    words/*/candidates.yaml. again: another draw may find something."""

    def __init__(self, detail: str, *, again: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.again = again


@dataclass(frozen=True)
class Task:
    """One answer to alter. question: the last turn. answer: the right one. language: see `language_of`. place: of the
    candidate among those of its strategy, from 0. attempt: from 0, larger where earlier draws gave what was there
    already. parameters: all of the alteration's, those not asked for at their defaults."""

    row: SourceRow
    question: str
    answer: str
    language: str | None
    reference: ReferenceRows
    parameters: Mapping[str, Any]
    place: int = 0
    attempt: int = 0

    @property
    def free(self) -> bool:
        """Whether the question asks for a text of one's own: only what it gives can then be wrong in the answer."""
        return _free().search(self.question[:_LOOKED_AT]) is not None


@dataclass(frozen=True)
class Altered:
    """text: the worse answer. cut: it breaks off, as an answer does that met the limit. facts: how it was altered, kept
    with the candidate."""

    text: str
    cut: bool = False
    facts: Mapping[str, Any] | None = None


Alteration = Callable[[Task, Random], Altered]
"""Draws from the generator alone. Raises NothingToAlter."""


def language_of(text: str) -> str | None:
    """`zh` and `en` for Chinese and Latin script, else the name of the script; None for a text without letters."""
    script = main_script(text[:4000])
    return {"han": "zh", "latin": "en"}.get(script or "", script)


def drawn_share(rng: Random, least: float, most: float) -> float:
    return rng.uniform(min(least, most), max(least, most))
