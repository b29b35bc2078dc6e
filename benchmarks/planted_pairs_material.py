"""The material that preference sets are made of, read into one object for each language and half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal

from benchmarks import (
    planted_pairs_facts,
    planted_pairs_first_en,
    planted_pairs_first_zh,
    planted_pairs_second_en,
    planted_pairs_second_zh,
)

Lang = Literal["en", "zh"]
Half = Literal["first", "second"]
LANGS: tuple[Lang, ...] = ("en", "zh")
HALVES: tuple[Half, ...] = ("first", "second")


@dataclass(frozen=True)
class Point:
    """One thing to say of a topic. more: a sentence that may follow; wrong: what is false in its place, or nothing."""

    label: str
    text: str
    more: str
    wrong: str = ""


@dataclass(frozen=True)
class Topic:
    """empty: a sentence about it that says nothing."""

    name: str
    questions: tuple[str, ...]
    points: tuple[Point, ...]
    empty: str


@dataclass(frozen=True)
class Role:
    """lines: what it says to each question. flat: what falls out of the role."""

    name: str
    questions: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    flat: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """sentences and summary have slots such as {town}."""

    title: str
    sentences: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Country:
    name: str
    capital: str
    continent: str
    language: str
    nature: str
    dish: str
    currency: str
    people: str  # in millions
    area: str  # in thousand square kilometres


@dataclass(frozen=True)
class Animal:
    name: str
    kind: str
    home: str
    food: str
    weight: str  # in kilograms
    years: str
    fact: str


@dataclass(frozen=True)
class Invention:
    name: str
    person: str
    year: str
    use: str


@dataclass(frozen=True)
class Facts:
    """What is known in one language; the same index means the same thing in the other one."""

    countries: tuple[Country, ...]
    animals: tuple[Animal, ...]
    inventions: tuple[Invention, ...]
    lists: tuple[tuple[str, tuple[str, ...]], ...]
    parallel: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[str, ...]
    weekdays: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """Everything one half has in one language."""

    lang: Lang
    half: Half
    topics: tuple[Topic, ...]
    contexts: tuple[tuple[str, str], ...]
    openers: tuple[str, ...]
    closings: tuple[str, ...]
    praise: tuple[str, ...]
    blame: tuple[str, ...]
    things: tuple[str, ...]
    roles: tuple[Role, ...]
    news: tuple[Event, ...]
    towns: tuple[str, ...]
    people: tuple[str, ...]
    streets: tuple[str, ...]
    days: tuple[str, ...]
    harmful: tuple[tuple[str, ...], ...]  # request, answer, what a refusal calls it
    harmless: tuple[tuple[str, ...], ...]
    refusals: tuple[tuple[str, ...], ...]  # what is said, the reason, the offer
    facts: Facts
    facts_elsewhere: Facts  # in the other language
    links: tuple[str, ...]
    foreign: tuple[str, str, str]


@cache
def material(lang: Lang, half: Half) -> Material:
    """The material of one language and half; the halves share nothing."""
    said = _SAID[lang, half]
    number = HALVES.index(half)
    reviews = _lines(said.REVIEWS)
    return Material(
        lang, half,
        topics=tuple(_topic(block, lang) for block in said.TOPICS.split("\n\n")),
        contexts=_twos(said.CONTEXTS, "|"),
        openers=_lines(said.OPENERS), closings=_lines(said.CLOSINGS),
        praise=tuple(r[2:] for r in reviews if r[0] == "+"), blame=tuple(r[2:] for r in reviews if r[0] == "-"),
        things=tuple(said.THINGS.split(",")),
        roles=tuple(_role(block) for block in said.ROLES.split("= ")[1:]),
        news=tuple(_event(block) for block in said.NEWS.split("= ")[1:]),
        towns=tuple(said.TOWNS.split()), people=tuple(said.PEOPLE.split(",")),
        streets=tuple(said.STREETS.split(",")), days=tuple(said.DAYS.split()),
        harmful=_threes(said.HARMFUL), harmless=_threes(said.HARMLESS),
        refusals=tuple(tuple(line.split("|")) for line in _lines(said.REFUSALS)),
        facts=_facts(lang, number), facts_elsewhere=_facts("zh" if lang == "en" else "en", number),
        links=planted_pairs_facts.LINKS[number], foreign=planted_pairs_facts.FOREIGN[number],
    )  # fmt: skip


_SAID: dict[tuple[Lang, Half], ModuleType] = {
    ("en", "first"): planted_pairs_first_en, ("zh", "first"): planted_pairs_first_zh,
    ("en", "second"): planted_pairs_second_en, ("zh", "second"): planted_pairs_second_zh,
}  # fmt: skip


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if line)


def _twos(text: str, between: str) -> tuple[tuple[str, str], ...]:
    found = [line.partition(between) for line in _lines(text)]
    return tuple((one, two) for one, _, two in found)


def _threes(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(line.rsplit(";", 2)) for line in _lines(text))


def _topic(block: str, lang: Lang) -> Topic:
    name, empty = "", ""
    questions: list[str] = []
    points: list[tuple[str, str, str]] = []
    wrong: dict[str, str] = {}
    for line in _lines(block):
        kind, rest = line[:2], line[2:]
        if kind == "# ":
            name = rest
        elif kind == "? ":
            questions.append(rest)
        elif kind == "~ ":
            empty = rest
        else:
            label, _, text = rest.partition(": " if lang == "en" else "：")
            if kind == "+ ":
                points.append((label, text, ""))
            elif kind == "- ":
                wrong[label] = text
            else:
                points[-1] = (*points[-1][:2], rest)
    assert set(wrong) <= {label for label, _, _ in points}, name
    return Topic(name, tuple(questions), tuple(Point(*p, wrong.get(p[0], "")) for p in points), empty)


def _role(block: str) -> Role:
    name, *lines = _lines(block)
    asked = tuple(line[2:] for line in lines if line[0] == "?")
    said = tuple(tuple(x[3:] for x in lines if x.startswith(f"+{i + 1}")) for i in range(len(asked)))
    return Role(name, asked, said, tuple(line[2:] for line in lines if line[0] == "-"))


def _event(block: str) -> Event:
    title, *lines = _lines(block)
    return Event(title, tuple(x for x in lines if x[0] != ">"), lines[-1][2:])


def _facts(lang: Lang, number: int) -> Facts:
    own = 0 if lang == "en" else 1

    def columns(line: str, both: int) -> list[str]:
        """Of `both` pairs of columns the one of this language, and what follows them."""
        cells = line.split("|")
        return [*cells[own : 2 * both : 2], *cells[2 * both :]]

    countries = [Country(*columns(line, 7)) for line in _lines(planted_pairs_facts.COUNTRIES[number])]
    animals = []
    for line in _lines(planted_pairs_facts.ANIMALS[number]):
        cells = line.split("|")
        animals.append(Animal(*cells[own:8:2], cells[8], cells[9], cells[10 + own]))
    inventions = []
    for line in _lines(planted_pairs_facts.INVENTIONS[number]):
        cells = line.split("|")
        inventions.append(Invention(cells[own], cells[2 + own], cells[4], cells[5 + own]))
    lists = []
    for line in _lines(planted_pairs_facts.LISTS[number]):
        names, _, members = line.partition(":")
        lists.append((names.split("|")[own], tuple(members.split(";")[own].split(","))))

    def side(rows: Sequence[str]) -> tuple[str, ...]:
        return tuple(row.split("|")[own] for row in rows)

    return Facts(
        tuple(countries), tuple(animals), tuple(inventions), tuple(lists),
        side(_lines(planted_pairs_facts.PARALLEL[number])), side(planted_pairs_facts.NAMES[number].split(",")),
        side(planted_pairs_facts.PLACES[number].split(",")), side(planted_pairs_facts.WEEKDAYS.split(",")),
    )  # fmt: skip
