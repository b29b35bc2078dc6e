"""The right answer, ended too early: after a whole sentence or item, or in the middle of one."""

from __future__ import annotations

import re
from random import Random

from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.answer_text import clause_ends, code_spans, sentences
from pipeline.candidates.alterations.sql_text import clause_starts, sql_in
from pipeline.candidates.text_measures import width

_WORD_END = re.compile(r"(?<=\w)(?=[\s，,、])")
_TAKEN_UP = " \t\n，,、；;：:"


def cut_short(task: Task, rng: Random) -> Altered:
    """Leaves a share of the answer between `least_left` and `most_left`; where there is no place to cut within the
    bounds, the place nearest to them."""
    text, style = task.answer, task.parameters["style"]
    clean, mid = _clean_places(task), _mid_places(text)
    if width(text) < task.parameters["least_mid"]:
        mid = []  # what is left of a short sentence is about nothing
    if style == "any":
        style = "clean" if clean and (rng.random() < 0.6 or not mid) else "mid"
    places = clean if style == "clean" else mid
    if not places:
        raise NothingToAlter("too_short")
    least, most = sorted((task.parameters["least_left"], task.parameters["most_left"]))
    wanted = rng.uniform(least, most) * len(text)
    within = [p for p in places if least * len(text) <= p <= most * len(text)]
    near = sorted(within or places, key=lambda p: (abs(p - wanted), p))
    place = near[min(task.attempt, len(near) - 1)]
    kept = text[:place].rstrip(_TAKEN_UP if style == "clean" else " \t\n")
    return Altered(kept, cut=style == "mid", facts={"style": style, "left": round(len(kept) / len(text), 3)})


def _clean_places(task: Task) -> list[int]:
    text = task.answer
    if (sql := sql_in(text, "")) is not None:
        return [sql.start + at for at in clause_starts(sql.text)]
    places = {one.end for one in sentences(text)}
    for one in lists_in(text):
        at = one.start
        for marker, body, separator in zip(one.markers, one.bodies, one.separators, strict=True):
            at += len(marker) + len(body)
            places.add(at)
            at += len(separator)
    if len(places) < 3:
        # Few sentences: a clause is the next best, where it can stand by itself.
        places |= {p for p in clause_ends(text) if text[p] in "；;，,"}
    first, last = _worded(text)
    return sorted(p for p in places if first < p < last)


def _mid_places(text: str) -> list[int]:
    """Ends of words; between any two characters where a script has no spaces. Neither right before a full stop."""
    ends = {one.end for one in sentences(text)}
    code = code_spans(text)
    places = {one.start() for one in _WORD_END.finditer(text)}
    places |= {n for n in range(2, len(text)) if ord(text[n]) >= 0x2E80 and ord(text[n - 1]) >= 0x2E80}
    first, last = _worded(text)
    return sorted(
        p
        for p in places
        if first < p < last and text[p - 1].isalnum() and not ({p, p + 1, p + 2} & ends) and not code.touch(p, p + 1)
    )


def _worded(text: str) -> tuple[int, int]:
    """Where the first word begins and the last one ends: a cut outside these leaves nothing, or takes nothing away."""
    first = next((n for n, character in enumerate(text) if character.isalnum()), len(text))
    last = next((n for n in range(len(text), 0, -1) if text[n - 1].isalnum()), 0)
    return first, last
