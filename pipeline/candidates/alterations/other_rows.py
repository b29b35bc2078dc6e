"""Answers that were written for something else: for a near question, for any other, or for a reader of another
language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from random import Random

from pipeline.answer_overlap import same_units, units
from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task, language_of
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.entities import translations
from pipeline.candidates.alterations.sql_text import sql_in
from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reference_rows import ReferenceRows, terms
from pipeline.config_files import load_config

_LOOKED_THROUGH = 60  # nearest rows
_STRANGERS = 40  # rows drawn for a random answer
_MOST_SAME = 0.7  # units that an answer for something else may share with the right one
_KEY_SHARE = 0.85  # of the rarest term's weight; what is as rare is what a question is about
_COMPARED = 4_000  # characters of two answers
_SHORT = 12  # units of an answer within which the right one may be hidden
_QUESTION = 60  # characters of a question quoted in a reply
_SEPARATORS = re.compile(r"\s*[、，,；;\n]\s*|\s+(?:and|or|和|与)\s+")

_ENGLISH_ASKED = re.compile(r"(?i)(?:do you say|translate(?: the word)?|what is) (.{1,60}?) (?:in|into|to) \w+\W*$")


def near_answer(task: Task, rng: Random) -> Altered:
    """The answer to the nearest question that is another one; later candidates take the next ones."""
    least, most = task.parameters["least_near"], task.parameters["most_near"]
    fit = []
    for row, near in task.reference.nearest(task.row, _LOOKED_THROUGH):
        if near < least:
            break
        if near <= most and not may_be_right(task, row):
            fit.append((row, near))
            if len(fit) > task.place + task.attempt:
                break
    if not fit:
        raise NothingToAlter("no_near_row")
    row, near = fit[min(task.place + task.attempt, len(fit) - 1)]
    return Altered(row.gold or "", facts={"row": row.index, "near": round(near, 3)})


def random_answer(task: Task, rng: Random) -> Altered:
    """Any other row's answer in the same language. Off topic: useless as a reject, there to compare others with."""
    rows = task.reference.rows
    for _ in range(min(_STRANGERS, len(rows))):
        row = rng.choice(rows)
        if row.index != task.row.index and not may_be_right(task, row):
            return Altered(row.gold or "", facts={"row": row.index})
    raise NothingToAlter("no_other_row")


def may_be_right(task: Task, row: SourceRow) -> bool:
    """Whether another row's answer may answer this question too: its question lacks nothing that this one is about, its
    answer holds the right one, or lists the same kind of things. Doubt counts as yes, and so does another language."""
    gold, answer = (row.gold or "")[:_COMPARED], task.answer[:_COMPARED]
    if not gold.strip() or language_of(gold) != task.language and task.language is not None:
        return True
    mine, theirs = units(answer), units(gold)
    shorter, longer = sorted((mine, theirs), key=lambda bag: sum(bag.values()))
    if sum(shorter.values()) <= _SHORT and not shorter - longer:
        return True
    if same_units(answer, gold) > _MOST_SAME and sum(mine.values()) > 2 * _SHORT:
        return True
    asked, others = terms(task.question), terms(row.question)
    if not terms(_plain(task.question)) - terms(_plain(row.question)):
        return True
    keys = _keys(task, asked)
    if keys and not keys - set(others):
        return True
    if keys and len(keys) < 6 and sum(theirs.values()) < 60 and not keys - set(terms(gold)):
        return True
    listed = _listed(task.answer)
    return bool(listed) and bool(_mates(task, listed) & _listed(gold))


def _plain(text: str) -> str:
    return text.strip(" ?？。.!！")


def _keys(task: Task, asked: Mapping[str, int]) -> set[str]:
    """What a question is about: its rarest terms."""
    weight = task.reference.weight
    most = max(map(weight, asked), default=0.0)
    return {term for term in asked if weight(term) >= _KEY_SHARE * most}


@lru_cache(maxsize=4096)
def _listed(answer: str) -> frozenset[str]:
    """The items of an answer that is nothing but an enumeration of short ones."""
    if len(answer) > 300:
        return frozenset()
    for one in lists_in(answer):
        if one.kind == "enumeration" and one.end - one.start >= 0.8 * len(answer.strip(" 。.")):
            return frozenset(body.strip().lower() for body in one.bodies)
    return frozenset()


def _mates(task: Task, listed: frozenset[str]) -> set[str]:
    """These items, and all that stand beside one of them in another row's enumeration."""
    beside = _enumerated(task.reference)
    return set(listed).union(*(beside.get(item, frozenset()) for item in listed))


@lru_cache(maxsize=2)
def _enumerated(reference: ReferenceRows) -> dict[str, set[str]]:
    """Items of the rows' enumerations, each with all that stand beside it anywhere."""
    beside: dict[str, set[str]] = {}
    for row in reference.rows:
        listed = _listed(row.gold or "")
        for item in listed:
            beside.setdefault(item, set()).update(listed)
    return beside


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
    rows = [row for row in task.reference.rows if language_of(row.gold or "") == other]
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
