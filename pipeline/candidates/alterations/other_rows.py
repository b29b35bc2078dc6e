"""Answers that were written for something else: for a near question, for any other, or for a reader of another
language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property, lru_cache
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from pipeline.answer_overlap import units
from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task, language_of
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.entities import translations
from pipeline.candidates.alterations.sql_text import sql_in
from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reference_rows import CountedRows, ReferenceRows, terms
from pipeline.config_files import load_config

_LOOKED_THROUGH = 60  # nearest rows
_STRANGERS = 40  # rows drawn for a random answer
_MOST_SAME = 0.7  # units that an answer for something else may share with the right one
_KEY_SHARE = 0.85  # of the rarest term's weight; what is as rare is what a question is about
_COMPARED = 4_000  # characters of two answers
_SHORT = 12  # units of an answer within which the right one may be hidden
_FEW_KEYS = 6
_SHORT_ANSWER = 60  # units
_QUESTION = 60  # characters of a question quoted in a reply
_SEPARATORS = re.compile(r"\s*[、，,；;\n]\s*|\s+(?:and|or|和|与)\s+")

_ENGLISH_ASKED = re.compile(r"(?i)(?:do you say|translate(?: the word)?|what is) (.{1,60}?) (?:in|into|to) \w+\W*$")


def near_answer(task: Task, rng: Random) -> Altered:
    """The answer to the nearest question that is another one; later candidates take the next ones."""
    least, most = task.parameters["least_near"], task.parameters["most_near"]
    rows, compared = task.reference.rows, _compared(task)
    fit = []
    for place, near in compared.nearest:
        if near < least:
            break
        if near <= most and not compared.may_be_right(place):
            fit.append((rows[place], near))
            if len(fit) > task.place + task.attempt:
                break
    if not fit:
        raise NothingToAlter("no_near_row")
    row, near = fit[min(task.place + task.attempt, len(fit) - 1)]
    return Altered(row.gold or "", facts={"row": row.index, "near": round(near, 3)})


def random_answer(task: Task, rng: Random) -> Altered:
    """Any other row's answer in the same language. Off topic: useless as a reject, there to compare others with."""
    rows, compared = task.reference.rows, _compared(task)
    for _ in range(min(_STRANGERS, len(rows))):
        place = rng.randrange(len(rows))
        row = rows[place]
        if row.index != task.row.index and not compared.may_be_right(place):
            return Altered(row.gold or "", facts={"row": row.index})
    raise NothingToAlter("no_other_row")


class _Answers:
    """The answers of the reference rows, taken apart once: what each comparison with one of them asks for."""

    def __init__(self, reference: ReferenceRows) -> None:
        self.reference = reference
        golds = [(row.gold or "")[:_COMPARED] for row in reference.rows]
        self.languages = [language_of(gold) if gold.strip() else _NO_ANSWER for gold in golds]
        self.units = CountedRows(units(gold) for gold in golds)
        self.last: _Compared | None = None

    @cached_property
    def listed(self) -> CountedRows:
        return CountedRows(dict.fromkeys(_listed(row.gold or ""), 1) for row in self.reference.rows)

    def in_language(self, language: str) -> list[SourceRow]:
        return [row for row, own in zip(self.reference.rows, self.languages, strict=True) if own == language]


_NO_ANSWER = "no answer"
_answers_of: WeakKeyDictionary[ReferenceRows, _Answers] = WeakKeyDictionary()


def _answers(reference: ReferenceRows) -> _Answers:
    if (found := _answers_of.get(reference)) is None:
        found = _answers_of[reference] = _Answers(reference)
    return found


def _compared(task: Task) -> _Compared:
    """The same one for all candidates of a row."""
    answers = _answers(task.reference)
    if answers.last is None or answers.last.row is not task.row:
        answers.last = _Compared(task, answers)
    return answers.last


class _Compared:
    """A row beside the reference rows, each looked at once."""

    def __init__(self, task: Task, answers: _Answers) -> None:
        self.row, self._language, self._answers = task.row, task.language, answers
        self._answer = task.answer
        self._terms = terms(task.question)
        self._asked = task.reference.lacking(self._terms)
        self._keys = _keys(task.reference, self._terms)
        self._lacks_keys = task.reference.lacking(dict.fromkeys(self._keys, 1))
        self._units = answers.units.lacking(units(task.answer[:_COMPARED]))
        self._judged: dict[int, bool] = {}

    @cached_property
    def nearest(self) -> list[tuple[int, float]]:
        """Places of the nearest other questions, each with the cosine of the two."""
        reference = self._answers.reference
        near = reference.nearest_places(self._terms, _LOOKED_THROUGH + 8)
        return [one for one in near if reference.rows[one[0]].index != self.row.index][:_LOOKED_THROUGH]

    def may_be_right(self, place: int) -> bool:
        """Whether that row's answer may answer this question too: its question lacks nothing that this one is about,
        its answer holds the right one, or lists the same kind of things. Doubt counts as yes, and so does another
        language."""
        if (known := self._judged.get(place)) is None:
            known = self._judged[place] = self._may_be_right(place)
        return known

    def _may_be_right(self, place: int) -> bool:
        language = self._answers.languages[place]
        if language == _NO_ANSWER or self._language not in (None, language):
            return True
        mine, theirs, shared = self._units.total, self._answers.units.totals[place], self._units.shared(place)
        if shared == min(mine, theirs) <= _SHORT:
            return True
        if mine > 2 * _SHORT and 2 * shared > _MOST_SAME * (mine + theirs):
            return True
        if not self._asked(place) or (self._keys and not self._lacks_keys(place)):
            return True
        if self._keys and len(self._keys) < _FEW_KEYS and theirs < _SHORT_ANSWER and self._said(place):
            return True
        return bool(self._same_kind[place]) if self._same_kind is not None else False

    def _said(self, place: int) -> bool:
        """Whether that row's answer speaks of what this question is about."""
        gold = (self._answers.reference.rows[place].gold or "")[:_COMPARED]
        lowered = gold.lower()
        return all(key in lowered for key in self._keys) and not self._keys - set(terms(gold))

    @cached_property
    def _same_kind(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """The rows whose answers list an item of this one, or one that stands beside such an item in any answer. None
        where this answer is no list."""
        mine = _listed(self._answer)
        if not mine:
            return None
        listed = self._answers.listed
        rows = np.repeat(np.arange(len(listed.totals)), listed.totals)
        kind = np.zeros(len(listed.numbers), bool)
        kind[[listed.numbers[item] for item in mine if item in listed.numbers]] = True
        for _ in range(2):
            holding = np.zeros(len(listed.totals), bool)
            holding[rows[kind[listed.held]]] = True
            kind[listed.held[holding[rows]]] = True
        return holding


def _keys(reference: ReferenceRows, asked: Mapping[str, int]) -> set[str]:
    """What a question is about: its rarest terms."""
    weight = reference.weight
    most = max(map(weight, asked), default=0.0)
    return {term for term in asked if weight(term) >= _KEY_SHARE * most}


@lru_cache(maxsize=64)
def _listed(answer: str) -> frozenset[str]:
    """The items of an answer that is nothing but an enumeration of short ones."""
    if len(answer) > 300:
        return frozenset()
    for one in lists_in(answer):
        if one.kind == "enumeration" and one.end - one.start >= 0.8 * len(answer.strip(" 。.")):
            return frozenset(body.strip().lower() for body in one.bodies)
    return frozenset()


def wrong_language(task: Task, rng: Random) -> Altered:
    """The answer in another language, as far as that can be had without a model: the words that were to be translated,
    left as they are (`copy`); a short answer translated word by word (`words`); a reply that says it will only use the
    other language (`reply`); another row's answer in it, off topic (`other_row`)."""
    if task.language not in ("zh", "en"):
        raise NothingToAlter("no_words_for_language")
    if sql_in(task.answer, "") is not None:
        raise NothingToAlter("sql")
    other = "en" if task.language == "zh" else "zh"
    way = task.parameters["way"]
    for name, made in _ways(task, other, rng):
        if way in ("any", name) and made is not None and (name != "other_row" or way == name):
            return Altered(made, facts={"way": name})
    raise NothingToAlter("no_translation")


def _ways(task: Task, other: str, rng: Random) -> Iterator[tuple[str, str | None]]:
    first = task.place + task.attempt == 0
    alone = task.parameters["way"] != "any"
    if first or alone:
        yield "copy", _untranslated(task, other)
        yield "words", _word_by_word(task.answer, other)
    yield "reply", _reply(task, other, rng)
    rows = _answers(task.reference).in_language(other) if task.parameters["way"] == "other_row" else []
    yield "other_row", rng.choice(rows).gold if rows else None


@cache
def _asks() -> re.Pattern[str]:
    table = load_config("alterations.yaml")["asks_translation"]
    return re.compile("|".join(map(re.escape, [*table["zh"], *table["en"]])), re.I)


def _untranslated(task: Task, other: str) -> str | None:
    """What was to be translated: the quoted words of the question, or what follows its colon."""
    question = task.question
    if not _asks().search(question):
        return None
    quoted = re.findall(r"[“\"「']([^“”\"「」'\n]{1,300})[”\"」']", question)
    after = re.search(r"[:：\n]\s*(\S.*)$", question, re.S)
    english = _ENGLISH_ASKED.search(question)
    for text in [*quoted, *([after[1]] if after else []), *([english[1]] if english else [])]:
        if language_of(text) == other:
            return text.strip()
    return None


def _word_by_word(answer: str, other: str) -> str | None:
    """An answer that consists of known words alone, or of enumerated ones."""
    plain = answer.strip().rstrip("。.")
    table = translations()
    if len(plain) > 200:
        return None
    found = [table.get(one.strip().lower()) or table.get(one.strip()) for one in _SEPARATORS.split(plain)]
    if not found or any(one is None for one in found):
        return None
    return ("、" if other == "zh" else ", ").join(one for one in found if one is not None)


def _reply(task: Task, other: str, rng: Random) -> str:
    question = " ".join(task.question.split())
    if len(question) > _QUESTION:
        question = question[:_QUESTION].rstrip() + "…"
    reply: str = rng.choice(load_config("alterations.yaml")["replies"][other])
    return reply.replace("{question}", question.rstrip("。."))
