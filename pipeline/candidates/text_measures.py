"""What the text of a candidate shows by itself, beside the chosen answer, and beside other rows.

Written into `Candidate.measures` under these names; a measure that needs something absent (a chosen answer, other
rows) is None:

- `length`: characters. `length_ratio`: to the chosen answer's, characters of scripts without spaces counting double.
- `rep_2`, `rep_3`, `rep_4`: share of repeated n-grams, by token ids where given, else by units.
- `loop`: {text, repeats, share, at_end} of a stretch that only says one thing again.
- `script`, `same_script`: writing system of most letters, and whether the chosen answer's is the same.
- `refusal`: it declines. `template_text`: the first marker of a template inside it. `empty`: nothing but white space.
- `answer_of_row`: it is the right answer to that row.
- `similarity`: 1 - Levenshtein distance / longer length, over units. Between 0 and 1.
- `overlap`: rarity-weighted cosine with prompt and chosen answer together. `overlap_gain`: by how much that is more
  than the mean with other rows' prompts and answers; about 0 for an answer to another question. `overlap_units`: of
  the smaller of the two texts, since few units share something with nobody or everybody.

Units are words and marks; in scripts without spaces single characters.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.policy import judging_limits
from pipeline.candidates.word_overlap import Overlap, WordOverlap
from pipeline.config_files import load_config
from pipeline.pair_measures.written_signs import end_marker, refuses, template_marker
from pipeline.pairs.pair import text_of
from pipeline.repetition import longest_loop, repeated_share
from pipeline.script_of_text import main_script, script_counts

_SPACELESS = (
    r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_UNIT = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+|[^\w\s]|_")
_WIDE = re.compile(rf"[{_SPACELESS}\uac00-\ud7af]")

MOST_COMPARED = 20_000  # units of one text that similarity looks at: 0.05 s for two such texts
_MOST_LOOPED = 4_000  # units at the end of a text in which loops are looked for: 15 ms
_MOST_SCRIPT = 4_000  # first characters of a text, of any other row as well
_LAST = (16, 64, 256)  # last units, in some of which a text that has begun to loop shows it
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\uff21-\uff3a\uff41-\uff5a]+")
_DOUBLE = frozenset(("han", "kana", "hangul"))
_PLACES = 4


def text_units(text: str) -> list[str]:
    """Words and marks; single characters of scripts without spaces. No white space."""
    return _UNIT.findall(text)


def similarity(left: str, right: str) -> float:
    """1 for equal units in equal order, 0 for nothing in common. Of longer texts the first MOST_COMPARED units."""
    return _Coded.of(text_units(right)).similarity(text_units(left))


@dataclass(frozen=True)
class _Coded:
    """A text with one character a unit, as rapidfuzz compares strings faster than lists of strings."""

    numbers: Mapping[str, int]
    text: str

    @classmethod
    def of(cls, units: Sequence[str]) -> _Coded:
        numbers: dict[str, int] = {}
        return cls(numbers, _coded(units, numbers))

    def similarity(self, units: Sequence[str]) -> float:
        from rapidfuzz.distance import Levenshtein

        return round(float(Levenshtein.normalized_similarity(_coded(units, dict(self.numbers)), self.text)), _PLACES)


def _coded(units: Sequence[str], numbers: dict[str, int]) -> str:
    return "".join([chr(numbers.setdefault(unit, len(numbers))) for unit in units[:MOST_COMPARED]])


def width(text: str) -> int:
    """Length that compares across languages: a character of a script without spaces says as much as two letters."""
    return len(text) + len(_WIDE.findall(text))


def length_ratio(text: str, chosen: str) -> float | None:
    """None for an empty chosen answer."""
    return _ratio(text, width(chosen))


def _ratio(text: str, wide: int) -> float | None:
    return round(width(text) / wide, _PLACES) if wide else None


def written_script(text: str) -> str | None:
    """The script a text is written in; None for texts with too few letters to be in a language, such as "4" and "A".

    Latin letters stand in texts of every script, as names, terms and code; so another script counts from a smaller
    share on.
    """
    limits = judging_limits()
    text = text[:_MOST_SCRIPT]
    counts = script_counts(text)
    weighed = {script: count * (2 if script in _DOUBLE else 1) for script, count in counts.items()}
    total = sum(weighed.values())
    if total < limits["script_least_letters"]:
        return None
    others = total - weighed.get("latin", 0)
    if others >= limits["script_share"] * total and (letters := _LATIN.sub("", text)):
        return main_script(letters)
    return main_script(text)


def same_script(text: str, chosen: str | None, question: str) -> bool | None:
    """Whether a text is written as the chosen answer is. Without one, as the question, unless that speaks of a language
    (a translation is asked for in another script than it comes in). None where that can't be told."""
    return _as_wanted(written_script(text), written_script(question if chosen is None else chosen), chosen, question)


def _as_wanted(script: str | None, wanted: str | None, chosen: str | None, question: str) -> bool | None:
    if script is None or wanted is None:
        return None
    if chosen is None and script != wanted and _names_language().search(question):
        return None
    return script == wanted


@lru_cache(maxsize=1)
def _names_language() -> re.Pattern[str]:
    return re.compile(load_config("choice_policies.yaml")["language_named"])


def loop_in(text: str) -> dict[str, Any] | None:
    """The stretch that says one thing over and over, where it fills much of the text or is how the text ends."""
    return _loop(text, text_units(text))



def _loop(text: str, units: Sequence[str]) -> dict[str, Any] | None:
    limits = judging_limits()
    units = units[-_MOST_LOOPED:]
    least_repeated = limits["loop_share"] / 2  # of pairs of units; below, no stretch can fill that share
    if repeated_share(units, 2) < least_repeated and all(repeated_share(units[-last:], 2) < 0.5 for last in _LAST):
        return None
    found = longest_loop(units, min_repeats=limits["loop_repeats"])
    if found is None:
        return None
    spans = [match.span() for match in _UNIT.finditer(text)][-_MOST_LOOPED:]
    first, last = spans[found.start], spans[found.start + found.length - 1]
    if last[1] - first[0] < limits["loop_length"]:
        return None
    unit = text[first[0] : spans[found.start + found.period - 1][1]]
    ends_so = found.at_end and found.repeats >= limits["loop_repeats_at_end"] and any(map(str.isalnum, unit))
    if found.share < limits["loop_share"] and not ends_so:
        return None
    return {
        "text": unit[:200], "repeats": round(found.repeats, 1), "share": round(found.share, _PLACES),
        "at_end": found.at_end,
    }  # fmt: skip


def template_text(text: str, *allowed: str) -> str | None:
    """The first marker of a template, a role or an end as it is written; None for none.

    allowed: texts of the row. Words with a colon that people write too (`User:`) are fine where these have them.
    """
    marker, only_templates = template_marker(text, text.lower())
    if marker and not only_templates and any(marker in other for other in allowed):
        marker = ""
    return marker or end_marker(text) or None


def _script_of(row: SourceRow) -> str | None:
    return written_script(row.question if row.gold is None else row.gold)


_overlap = WordOverlap(_script_of)


class _Beside:
    """What candidates of a row are held against. chosen: a right answer, None where there is none."""

    def __init__(self, row: SourceRow, chosen: str | None) -> None:
        self.question, self.prompt, self.chosen = row.question, text_of(row.pair.prompt), chosen
        self.script = written_script(row.question if chosen is None else chosen)
        self.width = 0 if chosen is None else width(chosen)
        self.coded = None if chosen is None else _Coded.of(text_units(chosen))

    def measures(self, text: str, ids: Sequence[Hashable] | None, overlap: Overlap) -> dict[str, Any]:
        units = text_units(text)
        script = written_script(text)
        return {
            "length": len(text),
            "length_ratio": None if self.chosen is None else _ratio(text, self.width),
            **{f"rep_{n}": round(repeated_share(ids or units, n), _PLACES) for n in (2, 3, 4)},
            "loop": _loop(text, units),
            "script": script,
            "same_script": _as_wanted(script, self.script, self.chosen, self.question),
            "refusal": refuses(text),
            "similarity": None if self.coded is None else self.coded.similarity(units),
            "overlap": overlap.own,
            "overlap_gain": overlap.gain,
            "overlap_units": overlap.units,
            "template_text": template_text(text, self.prompt, self.chosen or ""),
            "empty": not text.strip(),
        }


def measure_texts(
    row: SourceRow, candidates: Sequence[Candidate], others: Sequence[SourceRow], *,
    token_ids: Mapping[int, Sequence[int]] | None = None,
) -> None:  # fmt: skip
    """Write the measures named above into every candidate that has an answer.

    others: rows to hold overlap against, any number; those with the same prompt or in another script don't count.
    token_ids: of the answers, by candidate number. A candidate that came with a better answer of its own is measured
    against that one.
    """
    least = int(judging_limits()["overlap_least_others"])
    groups: dict[str | None, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.problem is None:
            chosen = row.gold if candidate.chosen is None else text_of(candidate.chosen)
            groups.setdefault(chosen, []).append(candidate)
    for chosen, members in groups.items():
        beside = _Beside(row, chosen)
        overlaps = _overlap.measure(row, chosen, beside.script, others, least, [one.text for one in members])
        for candidate, overlap in zip(members, overlaps, strict=True):
            candidate.measures |= beside.measures(candidate.text, (token_ids or {}).get(candidate.number), overlap)
            altered = candidate.parameters.get("altered")
            if isinstance(altered, Mapping) and "row" in altered:
                candidate.measures["answer_of_row"] = altered["row"]
