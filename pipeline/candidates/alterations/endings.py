"""What is added to an answer or put in its place: a sentence from elsewhere, an empty phrase, the same words again."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from random import Random

from pipeline.answer_overlap import units
from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task, drawn_share, language_of
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.answer_text import finish, sentences
from pipeline.candidates.alterations.list_items import leans
from pipeline.candidates.alterations.sql_text import sql_in
from pipeline.candidates.reference_rows import terms
from pipeline.config_files import load_config
from pipeline.pair_measures.written_signs import ends_finished

_SENTENCE = (8, 120)  # characters of a Chinese sentence taken from another row; of others twice as many
_MOST_SHARED = 0.12  # of a sentence's rarity that the row may share, for it to have nothing to do with it
_ENDS = "。！？.!?"


def irrelevant_ending(task: Task, rng: Random) -> Altered:
    """The whole answer, and a sentence that has nothing to do with it."""
    if task.language not in ("zh", "en"):
        raise NothingToAlter("no_words_for_language")
    if sql_in(task.answer, "") is not None or task.answer.rstrip().endswith("```"):
        raise NothingToAlter("sql")
    source = task.parameters["source"]
    added: list[str] = []
    for _ in range(task.parameters["sentences"]):
        from_rows = source == "rows" or (source == "any" and rng.random() < 0.6)
        sentence = _strange(task, rng) if from_rows else None
        if sentence is None and source != "rows":
            sentence = rng.choice(load_config("alterations.yaml")["irrelevant"][task.language])
        if sentence is not None and sentence not in added and sentence not in task.answer:
            added.append(sentence)
    if not added:
        raise NothingToAlter("no_other_row")
    text = task.answer.rstrip()
    listed = any(one.end >= len(text) - 1 and one.kind not in ("enumeration", "lines") for one in lists_in(text))
    text = text if listed else finish(text, task.language)
    gap = "\n\n" if listed and "\n" in text else "" if task.language == "zh" else " "
    joined = ("" if task.language == "zh" else " ").join(added)
    return Altered(text + gap + joined, facts={"added": joined})


def _strange(task: Task, rng: Random) -> str | None:
    """A sentence of a random other row's answer that stands by itself and shares next to nothing with this row."""
    least, most = (n * (1 if task.language == "zh" else 2) for n in _SENTENCE)
    mine = terms(f"{task.question}\n{task.answer}")
    rows = task.reference.rows
    for _ in range(min(24, len(rows))):
        row = rng.choice(rows)
        gold = (row.gold or "")[:4000]
        if row.index == task.row.index or language_of(gold) != task.language:
            continue
        fit = _standing_alone(gold, least, most)
        if not fit:
            continue
        sentence = rng.choice(fit)
        theirs = terms(sentence)
        whole = sum(task.reference.weight(term) for term in theirs)
        shared = sum(task.reference.weight(term) for term in theirs if term in mine)
        if whole and shared / whole <= _MOST_SHARED:
            return sentence
    return None


@lru_cache(maxsize=2_048)  # of each reference row once
def _standing_alone(gold: str, least: int, most: int) -> tuple[str, ...]:
    """Sentences within the lengths that need none beside them, are no item of a list and don't speak to the reader."""
    listed = [(one.start, one.end) for one in lists_in(gold)]
    return tuple(
        said
        for span in sentences(gold)
        if least <= span.end - span.start <= most
        and gold[span.end - 1] in _ENDS
        and "\n" not in (said := span.of(gold))
        and not leans(said)
        and not _addressing().search(said)
        and not any(start < span.end and span.start < end for start, end in listed)
    )


@cache
def _addressing() -> re.Pattern[str]:
    table = load_config("alterations.yaml")["addressing"]
    return re.compile(rf"{'|'.join(table['zh'])}|(?i:\b(?:{'|'.join(table['en'])})\b)")


def vague(task: Task, rng: Random) -> Altered:
    """The first sentences of a longer answer and an empty phrase; instead of a short one the phrase alone."""
    if task.language not in ("zh", "en") or sql_in(task.answer, "") is not None:
        raise NothingToAlter("no_words_for_language")
    phrases = load_config("alterations.yaml")["vague"]
    found = sentences(task.answer)
    if len(found) >= 3:
        left = drawn_share(rng, 0.1, task.parameters["most_left"]) * len(task.answer)
        kept = max((s.end for s in found[:-1] if s.end <= left), default=found[0].end)
        start = task.answer[:kept].rstrip("：: \n")
        last = found[max(n for n, s in enumerate(found) if s.end <= kept)]
        if kept <= 0.6 * len(task.answer) and ends_finished(last.of(task.answer)):
            phrase = rng.choice(phrases["after"][task.language])
            gap = "" if task.language == "zh" else " "
            return Altered(finish(start, task.language) + gap + phrase, facts={"phrase": phrase})
    language = language_of(task.question) or task.language
    phrase = rng.choice(phrases["alone"][language if language in ("zh", "en") else task.language])
    return Altered(phrase, facts={"phrase": phrase})


def repeat(task: Task, rng: Random) -> Altered:
    """The answer up to a sentence, clause or item, which then comes again and again."""
    text = task.answer
    spans = [(s.start, s.end) for s in sentences(text)]
    for one in lists_in(text):
        at = one.start
        for marker, body, separator in zip(one.markers, one.bodies, one.separators, strict=True):
            spans.append((at, at + len(marker) + len(body)))
            at += len(marker) + len(body) + len(separator)
    spans = sorted({(a, b) for a, b in spans if 0 < b - a <= 300})
    if not spans:
        raise NothingToAlter("too_short")
    # A loop sets in after something was said, where there is something.
    later = [one for one in spans if one[0] >= 0.15 * len(text)] or spans
    start, end = rng.choice(later)
    times = rng.randint(*sorted((task.parameters["least_times"], task.parameters["most_times"])))
    phrase = text[start:end]
    gap = _gap(text, start, end, task.language)
    rounds = max(2, min(times, task.parameters["most_characters"] // max(1, len(phrase + gap))))
    looped = gap.join([phrase] * rounds)
    if task.parameters["cut"]:
        part = phrase[: rng.randint(1, max(1, len(phrase) - 1))].rstrip()
        if task.language == "en" and " " in phrase and len(part) < len(phrase) and phrase[len(part)].isalnum():
            part = part.rpartition(" ")[0] or part
        looped += gap + part
    facts = {"times": rounds, "phrase_units": sum(units(phrase).values())}
    return Altered(text[:start] + looped, cut=task.parameters["cut"], facts=facts)


def _gap(text: str, start: int, end: int, language: str | None) -> str:
    """What stood before the phrase, or after it: the loop reads like the text."""
    before = text[start - 1 : start]
    if before == "\n":
        return "\n"
    if text[end - 1] in "。！？":
        return ""
    if text[end - 1] in ".!?":
        return " "
    if before in "、，,;；" and before:
        return before
    following = text[end : end + 1]
    if following in ("、", "，"):
        return following
    if following == "," or text[max(0, start - 2) : start] == ", ":
        return ", "
    return "，" if language == "zh" else ", "
