"""Words turned into their opposites: 增加 becomes 减少, always becomes never."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from random import Random

from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task
from pipeline.candidates.alterations.answer_text import Spans, fixed_spans, sentences
from pipeline.candidates.alterations.change_numbers import RESULT, numbers_in
from pipeline.candidates.alterations.sql_text import sql_in
from pipeline.config_files import load_config

_MOST_SCANNED = 100_000  # characters
_OPENING, _CLOSING, _NEGATIONS = "“\"", "”\"", "不没未无非"
_ASKS = re.compile(r"[?？]\s*$")
_NEGATED = re.compile(r"(?i)(?:\b(?:not|never|hardly|without|nor|no)|n['’]t) $")
_BEFORE = 10  # characters before a word
_LOOKED_AT = 200  # characters on both sides of a word
_SENTENCE_END = re.compile(r"[。！？.!?\n]")


def opposite_words(task: Task, rng: Random) -> Altered:
    """Turns a share of the words, no two of one sentence: two would cancel out. Questions stay."""
    if sql_in(task.answer, "") is not None:
        raise NothingToAlter("sql")
    if task.free:
        raise NothingToAlter("free_text")
    text = task.answer
    found = _found(text)
    if any(one.weight >= RESULT and one.form == "digits" for one in numbers_in(text, task.question)):
        found = []  # what the sentences around a result say decides nothing: it would still be right
    if not found:
        raise NothingToAlter("no_opposite")
    best = min(rank for _, _, _, rank in found)
    by_sentence: dict[int, list[tuple[int, int, str, int]]] = {}
    ends = [one.start() for one in _SENTENCE_END.finditer(text)]
    for one in found:
        if one[3] == best or task.attempt > 3:
            by_sentence.setdefault(bisect_left(ends, one[0]), []).append(one)
    most = min(task.parameters["most_changes"], max(1, round(task.parameters["share"] * len(by_sentence))))
    changes = [rng.choice(by_sentence[s]) for s in rng.sample(sorted(by_sentence), min(most, len(by_sentence)))]
    facts = []
    for start, end, new, _ in sorted(changes, reverse=True):
        old = text[start:end]
        new = new[:1].upper() + new[1:] if old[:1].isupper() else new
        facts.append([old, new])
        text = text[:start] + new + text[end:]
    return Altered(text, facts={"changed": facts[::-1]})


def _found(text: str) -> list[tuple[int, int, str, int]]:
    """(start, end, the opposite, 1 where the word is only taken for want of others)."""
    scanned = text[:_MOST_SCANNED]
    words = _words()
    fixed = Spans([*fixed_spans(scanned).spans, *(one.span() for one in words.within.finditer(scanned))])
    whole = scanned.strip(" \n。.!！“”\"'").lower()
    courtesy = words.courtesy
    left = Spans([
        s for s in sentences(scanned) if _ASKS.search(said := s.of(scanned)) or courtesy.search(said)
    ])  # fmt: skip
    found = []
    for pattern in (words.chinese, words.english, words.alone):
        for one in pattern.finditer(scanned):
            start, end = one.span()
            word, before, after = one.group().lower(), scanned[max(0, start - 1) : start], scanned[end : end + 1]
            last = word in words.last
            if pattern is words.alone and word != whole and not (before in _OPENING and after in _CLOSING and before):
                continue
            if pattern is words.chinese and before in _NEGATIONS and before:
                continue
            if pattern is words.english and _NEGATED.search(scanned[max(0, start - _BEFORE) : start]):
                continue  # "not always" has no opposite in "not never"
            if pattern is not words.alone and not last and _beside_opposite(scanned, start, end, words.opposite[word]):
                continue
            if not fixed.touch(start, end) and not left.touch(start, end):
                found.append((start, end, words.opposite[word], int(last)))
    return _outside_given_quotes(scanned, found)


def _beside_opposite(text: str, start: int, end: int, opposite: str) -> bool:
    """Whether the sentence holds the opposite as well: pros and cons would be pros and pros."""
    before, after = text[max(0, start - _LOOKED_AT) : start], text[end : end + _LOOKED_AT]
    around = f"{_SENTENCE_END.split(before)[-1]}\0{_SENTENCE_END.split(after)[0]}".lower()
    if not opposite.isascii():
        return opposite in around
    return re.search(rf"(?<!\w){re.escape(opposite)}(?!\w)", around) is not None


def _outside_given_quotes(text: str, found: list[tuple[int, int, str, int]]) -> list[tuple[int, int, str, int]]:
    """“大”的反义词是“小”: of words in quotes the last one alone, which is the answer."""
    quoted = [one for one in found if text[max(0, one[0] - 1) : one[0]] in tuple(_OPENING)]
    given = set(quoted[:-1])
    return [one for one in found if one not in given]


@dataclass(frozen=True)
class _Words:
    chinese: re.Pattern[str]
    english: re.Pattern[str]
    alone: re.Pattern[str]
    within: re.Pattern[str]
    courtesy: re.Pattern[str]
    opposite: dict[str, str]
    last: frozenset[str]


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


def _parted(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Chinese ones, others."""
    every = list(words)
    return [word for word in every if ord(word[0]) >= 0x2E80], [word for word in every if ord(word[0]) < 0x2E80]


@cache
def _words() -> _Words:
    config = load_config("alterations.yaml")
    opposite: dict[str, str] = {}
    for language in ("zh", "en"):
        for one, other in [*config["opposites"][language], *config["opposites_alone"][language]]:
            opposite.setdefault(one, other)
            opposite.setdefault(other, one)
    running = {word for language in ("zh", "en") for pair in config["opposites"][language] for word in pair}
    zh, en = _parted(running)
    zh_within, en_within = _parted(word for language in ("zh", "en") for word in config["opposites_within"][language])
    courtesy = config["courtesy"]
    zh_alone, en_alone = _parted(set(opposite) - running)
    return _Words(
        re.compile(_any_of(zh)),
        re.compile(rf"(?i)(?<![\w'’-])(?:{_any_of(en)})(?![\w-]|['’]\w)"),
        re.compile(rf"{_any_of(zh_alone)}|(?i:\b(?:{_any_of(en_alone)})\b)"),
        re.compile(rf"{_any_of(zh_within)}|(?i:\b(?:{_any_of(en_within)})\b)"),
        re.compile(rf"{_any_of(courtesy['zh'])}|(?i:\b(?:{_any_of(courtesy['en'])})\b)"),
        opposite,
        frozenset(config["opposites_last"]["zh"]) | frozenset(config["opposites_last"]["en"]),
    )
