"""Candidates that say the same: as another candidate of their row, or as its chosen answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

from pipeline.candidates.candidate import Candidate

Mode = Literal["exact", "normalized", "sql"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Full and half width forms only: NFKC as a whole makes 102 of 10².
_WIDTHS = {code: unicodedata.normalize("NFKC", chr(code)) for code in (0x3000, *range(0xFF01, 0xFFEF))}
_FORMS = str.maketrans({**{chr(code): to for code, to in _WIDTHS.items()}, "‘": "'", "’": "'", "“": '"', "”": '"'})
_OPENERS = " \"'「『《"
_ENDS = " \"'」』》.。!！?？,，;；:：、…~"
_BESIDE_WIDE = re.compile(r"(?<=[\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U000323af]) | (?=[\u2e80-\ua4cf\uf900-\ufaff])")


@lru_cache(maxsize=64)  # the answers of a row are compared again and again
def normal_form(text: str) -> str:
    """Equal for texts that differ only in white space, case, width of characters, quotes and marks at their ends.

    A minus sign, a percent sign and a leading decimal point stay: they change what is said.
    """
    folded = unicodedata.normalize("NFC", text.translate(_FORMS)).casefold()
    spaced = _BESIDE_WIDE.sub("", " ".join(folded.split()))
    return spaced.lstrip(_OPENERS).rstrip(_ENDS) or spaced


def same_text(left: str, right: str) -> Literal["exact", "normalized"] | None:
    """How two texts are the same; None where they aren't."""
    if left == right:
        return "exact"
    return "normalized" if normal_form(left) == normal_form(right) else None


def sql_fact(measures: Mapping[str, Any], name: str) -> Any:
    """What was measured of a candidate as SQL (`parses`, `equal_canonical`, `same_result`, ...): in the table `sql`, or
    by that name with or without `sql_` before it. None where it wasn't."""
    table = measures.get("sql")
    if isinstance(table, Mapping) and name in table:
        return table[name]
    return measures.get(f"sql_{name}", measures.get(name))


def is_gold_sql(measures: Mapping[str, Any]) -> bool:
    """Whether a candidate is the chosen answer as SQL, or gives its result."""
    return any(sql_fact(measures, name) is True for name in ("same_result", "equal_canonical", "equal_text"))


def mark_duplicates(candidates: Sequence[Candidate], chosen: str | None, mode: Mode = "normalized") -> None:
    """Write `duplicate_of` (the number of the first candidate that says the same, or "chosen") and `duplicate_kind`
    (`exact`, `normalized` or `sql`) into the measures of every candidate; both None for one that is its first.

    mode: what counts as the same among candidates; `sql` needs the SQL fact `canonical`. Against the chosen answer
    normalised text and equal SQL always count: neither can be a reject.
    """
    keys: dict[str, Callable[[Candidate], Any]] = {"exact": lambda one: one.text}
    if mode != "exact":
        keys["normalized"] = lambda one: normal_form(one.text)
    if mode == "sql":
        keys["sql"] = lambda one: sql_fact(one.measures, "canonical")
    seen: dict[tuple[str, Any], int] = {}
    for candidate in sorted(candidates, key=lambda one: one.number):
        candidate.measures |= {"duplicate_of": None, "duplicate_kind": None}
        if candidate.problem is not None:
            continue
        better = chosen if candidate.chosen is None else None
        kind: str | None = None if better is None else same_text(candidate.text, better)
        if kind is None and better is not None and sql_fact(candidate.measures, "equal_canonical") is True:
            kind = "sql"
        if kind is not None:
            candidate.measures |= {"duplicate_of": "chosen", "duplicate_kind": kind}
        for name, key in keys.items():
            value = key(candidate)
            if value is None:
                continue
            first = seen.setdefault((name, value), candidate.number)
            if first != candidate.number and candidate.measures["duplicate_of"] is None:
                candidate.measures |= {"duplicate_of": first, "duplicate_kind": name}
