"""Names, places, things and quoted words put in each other's place, so that the answer says something else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.answer_text import Span, Spans, fixed_spans, sentences
from pipeline.candidates.alterations.sql_change import ENTITIES, changed_sql
from pipeline.candidates.alterations.sql_text import sql_in
from pipeline.candidates.text_measures import width
from pipeline.config_files import load_config

# Two or more words for people and places; one alone only within a sentence.
_NAME = re.compile(r"(?<![\w'’.-])[A-Z][a-zà-öø-ÿ]+(?:[ -](?:of |the |de |van |von )?[A-Z][a-zà-öø-ÿ]+){0,3}(?![\w-])")
_TERM = re.compile(r"(?<![\w.+/-])(?<![A-Za-z] )[A-Z][A-Za-z0-9+#]{1,20}(?:-[A-Za-z0-9]{1,20})?(?![\w.+/-]| [A-Za-z])")
_NAME_ZH = re.compile(r"[\u4e00-\u9fff]{1,6}(?:·[\u4e00-\u9fff]{1,6}){1,3}")
_TITLE = re.compile(r"《([^《》\n]{1,40})》")
_WITHIN = re.compile(r"[a-z,] $")
_PLACED = re.compile(r"\b(?:in|at|near|from|to) $")  # a place, or a thing, rather than a person
_SHORT_ANSWER = 3  # sentences; a name in it is most likely what was asked for
_SHORT_TEXT = 60  # characters; only in as short an answer are names of classes (fruit, job) what it turns on
_SHORT_ITEM = 32  # letters of a list's longest item, a Chinese character counting two
_MOST_SCANNED = 100_000  # characters
_Change = tuple[list[tuple[int, int, str]], list[str]]
"""Stretches with what comes in their place, and the two names."""


@dataclass(frozen=True)
class Entity:
    """A word that names something. kind: its list in configs/alterations.yaml, or what it looks like."""

    start: int
    end: int
    text: str
    kind: str


def swap_entities(task: Task, rng: Random) -> Altered:
    """Replaces entities by others of their kind, or puts two in each other's place. In SQL: columns, tables and
    constants."""
    if sql_in(task.answer, "") is not None:
        return changed_sql(task, rng, 1, "", ENTITIES)
    text = task.answer
    found = entities_in(text, task.language)
    if not found:
        raise NothingToAlter("no_entity")
    groups: dict[str, list[Entity]] = {}
    for one in found:
        groups.setdefault(one.text, []).append(one)
    most = min(task.parameters["most_changes"], max(1, round(task.parameters["share"] * len(groups))))
    setting = _Setting(task, found, sentences(text), _enumerated(text), text.lower())
    weak = frozenset(load_config("alterations.yaml")["weak_kinds"])
    if task.free or not setting.short:
        groups = {n: p for n, p in groups.items() if setting.asked(n) or not (task.free or p[0].kind in weak)}
    if len(text) > _SHORT_TEXT:
        groups = {n: p for n, p in groups.items() if p[0].kind != "class"}
    names = sorted(groups, key=lambda name: (-setting.weight(groups[name]), rng.random()))
    if task.attempt:
        rng.shuffle(names)
    changes: list[tuple[int, int, str]] = []
    facts: list[list[str]] = []
    used: set[str] = set()
    for name in names:
        if len(facts) >= most:
            break
        if name in used:
            continue
        made = _exchanged(setting, groups, name, rng) or _replaced(setting, groups[name], rng)
        if made is None:
            continue
        edits, fact = made
        if any(a < e and s < b for s, e, _ in edits for a, b, _ in changes):
            continue
        changes += edits
        facts.append(fact)
        used |= set(fact)
    if not changes:
        raise NothingToAlter("no_entity", again=bool(groups))
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return Altered(text, facts={"changed": facts})


@dataclass(frozen=True)
class _Setting:
    task: Task
    found: Sequence[Entity]
    sentences: Sequence[Span]
    enumerated: Spans
    lowered: str

    def asked(self, name: str) -> bool:
        return name.lower() in self.task.question.lower()

    @property
    def short(self) -> bool:
        return len(self.sentences) <= _SHORT_ANSWER

    def weight(self, places: list[Entity]) -> float:
        """What an answer turns on first: in a short one what the question doesn't give, in a long one what it is
        about."""
        known = not places[0].kind.startswith("looks")
        asked = self.asked(places[0].text)
        return (2.0 if asked != self.short else 0.0) + (1.0 if known else 0.0) + min(len(places), 5) / 5

    def sentence_of(self, one: Entity) -> Span:
        for span in self.sentences:
            if span.start <= one.start < span.end:
                return span
        return Span(one.start, one.end)


@lru_cache(maxsize=16)  # of an answer and its question, at each draw
def entities_in(text: str, language: str | None) -> tuple[Entity, ...]:
    """Entities outside code and links, none within another, in order."""
    text = text[:_MOST_SCANNED]
    fixed = fixed_spans(text)
    found: list[Entity] = []
    taken = bytearray(len(text))

    def add(start: int, end: int, kind: str) -> None:
        if end > start and not any(taken[start:end]) and not fixed.touch(start, end):
            found.append(Entity(start, end, text[start:end], kind))
            taken[start:end] = b"\1" * (end - start)

    pattern, kinds = gazetteer()
    weak = frozenset(load_config("alterations.yaml")["weak_kinds"])
    for one in list(pattern.finditer(text))[:400]:
        kind = kinds.get(one.group()) or kinds.get(one.group().lower())
        if kind is None or not _whole_word(text, one.start(), one.end(), language):
            continue
        if one.group() not in kinds and _named_so(text, *one.span()):
            continue  # the Silver Queen is no metal
        if language == "zh" and kind in weak and one.group().isascii() and not _in_english(text, *one.span()):
            continue  # a term: train is no vehicle in "SFT train"
        add(*one.span(), kind)
    for one in list(_TITLE.finditer(text))[:50]:
        add(*one.span(1), "looks:title")
    if language == "zh":
        for one in list(_NAME_ZH.finditer(text))[:50]:
            add(*one.span(), "looks:name_zh")
        for one in list(_TERM.finditer(text))[:100]:
            # Of Latin words within Chinese those that are written as names; English phrases aren't taken apart.
            if sum(map(str.isupper, one.group())) >= 2 or one.group()[1:2].isdigit():
                add(*one.span(), "looks:term")
    else:
        named = list(_NAME.finditer(text))
        no_names = frozenset(load_config("alterations.yaml")["no_names"])
        within = {one.group() for one in named if _WITHIN.search(text[max(0, one.start() - 2) : one.start()])}
        for one in named[:200]:
            words = one.group().split()
            listed = text[one.end() : one.end() + 2] == ", " or text[max(0, one.start() - 2) : one.start()] == ", "
            if words[0] not in no_names and one.group() in within and not listed:
                placed = "place" if _PLACED.search(text[max(0, one.start() - 6) : one.start()]) else "name"
                add(*one.span(), f"looks:{placed}{min(len(words), 3)}")
    return tuple(sorted(found, key=lambda one: one.start))


_ENGLISH = re.compile(r"[A-Za-z ,'’-]*$")
_FUNCTION_WORD = re.compile(r"(?i)\b(?:an?|the|is|are|was|of|in|on|to|my|your|his|her|i|you|and)\b")
_NAME_AFTER, _NAME_SO_FAR = re.compile(r" [A-Z][a-z]"), re.compile(r"(?:[A-Z][a-z]*|[a-z]) $")
_QUOTES = "“”\"'‘’「」《》`"


def _named_so(text: str, start: int, end: int) -> bool:
    """Whether a word with a capital stands beside another one, or within a sentence: a part of a name."""
    return _NAME_AFTER.match(text, end) is not None or _NAME_SO_FAR.search(text[max(0, start - 24) : start]) is not None


def _in_english(text: str, start: int, end: int) -> bool:
    """Whether an English word in a Chinese text is quoted, or stands in an English phrase."""
    if text[max(0, start - 1) : start] in tuple(_QUOTES) or text[max(0, start - 1) : start] in ("(", "（"):
        return True
    before = _ENGLISH.search(text[max(0, start - 60) : start])
    after = re.match(r"[A-Za-z ,'’-]*", text[end : end + 60])
    return _FUNCTION_WORD.search(f"{before[0] if before else ''} {after[0] if after else ''}") is not None


def _wide(character: str) -> bool:
    return bool(character) and ord(character) >= 0x2E80


def _whole_word(text: str, start: int, end: int, language: str | None) -> bool:
    if _wide(text[start]):
        return True
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not ((before.isascii() and (before.isalnum() or before in "-_'")) or (
        after.isascii() and (after.isalnum() or after in "-_")
    ))


@cache
def gazetteer() -> tuple[re.Pattern[str], dict[str, str]]:
    """Expression of all words of `kinds`, the longest first, and the kind of each. English ones without capitals are
    found with a capital too, and in the regular plural."""
    kinds: dict[str, str] = {}
    for kind, pairs in load_config("alterations.yaml")["kinds"].items():
        for zh, en in pairs:
            kinds.setdefault(zh, kind)
            kinds.setdefault(en, kind)
            if en.islower() and kind not in ("colour", "season", "sport", "subject", "gender"):
                kinds.setdefault(_plural(en), kind)
                kinds.setdefault(en + "s", kind)
    forms = sorted(kinds, key=lambda word: (-len(word), word))
    parts: dict[str, list[str]] = {}
    for word in forms:
        first = f"[{word[0].upper()}{word[0]}]" if word[0].islower() and word.isascii() else re.escape(word[0])
        parts.setdefault(first, []).append(re.escape(word[1:]))
    firsts = "".join(sorted({one.strip("[]") for one in parts}))
    branches = "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in parts.items())
    return re.compile(rf"(?=[{firsts}])(?:{branches})"), kinds


def _plural(word: str) -> str:
    if word.endswith("man"):
        return f"{word[:-2]}en"
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return word + ("es" if word.endswith(("ch", "sh", "x", "z", "s")) else "s")


@cache
def _members(kind: str, side: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pair[side] for pair in load_config("alterations.yaml")["kinds"].get(kind, ())))


def _enumerated(text: str) -> Spans:
    """The enumerations, and the items of lists that are no longer than a name: in them any word of a kind may be as
    right as another."""
    spans = []
    for one in lists_in(text):
        if one.kind == "enumeration" or max(map(width, one.bodies)) <= _SHORT_ITEM:
            spans.append((one.start, one.end))
    return Spans(spans)


@cache
def _cues(name: str) -> re.Pattern[str]:
    table = load_config("alterations.yaml")[name]
    return re.compile("|".join([*map(re.escape, table["zh"]), *(rf"(?i:\b{re.escape(one)})" for one in table["en"])]))


def _example(setting: _Setting, one: Entity) -> bool:
    sentence = setting.sentence_of(one)
    return _cues("example_before").search(setting.task.answer[sentence.start : one.start]) is not None


def _replaced(setting: _Setting, places: list[Entity], rng: Random) -> _Change | None:
    """Another entity in its place: everywhere where it is what the answer turns on, else in one sentence only."""
    first = places[0]
    if all(_example(setting, one) for one in places):
        return None
    new = _other(setting, first, rng)
    if new is None:
        return None
    everywhere = setting.short or setting.asked(first.text)
    if not everywhere:
        spans = sorted({setting.sentence_of(one) for one in places})
        if len(spans) < 2 and first.kind.startswith("looks"):
            return None  # a name given once: another would be as good
        drawn = rng.choice(spans[1:] or spans)
        places = [one for one in places if drawn.start <= one.start < drawn.end]
    text = setting.task.answer
    return [_fitted(text, one, new) for one in places], [first.text, new]


def _fitted(text: str, one: Entity, new: str) -> tuple[int, int, str]:
    """With the capital of what it replaces, and the article before it right."""
    start, new = one.start, new[:1].upper() + new[1:] if one.text[:1].isupper() and one.text.isascii() else new
    article = re.search(r"\b([Aa])(n?) $", text[max(0, start - 4) : start])
    if article and new.isascii():
        vowel = new[0].lower() in "aeio" or new.startswith("umbr")
        if new.startswith("the "):
            new = new[4:]
        return start - len(article[2]) - 1, one.end, ("n " if vowel else " ") + new
    if new.startswith("the ") and re.search(r"\b[Tt]he $", text[max(0, start - 4) : start]):
        new = new[4:]
    return start, one.end, new


def _other(setting: _Setting, one: Entity, rng: Random) -> str | None:
    text, question = setting.task.answer, setting.task.question
    if one.kind.startswith("looks"):
        return _like_it(setting, one, rng)
    side = 0 if _wide(one.text[0]) else 1
    kind = one.kind
    if setting.enumerated.touch(one.start, one.end):
        beside = load_config("alterations.yaml")["beside"].get(kind)
        mostly = 2 * sum(span.end - span.start for span in setting.enumerated.spans) >= len(text)
        if beside is None or not mostly:
            return None  # one of several that a text names: as good as another
        kind = rng.choice(beside)
    plural = side == 1 and one.text.lower() not in map(str.lower, _members(one.kind, 1))
    lowered = f"{text}\n{question}".lower()
    pool = [word for word in _members(kind, side) if word.lower() not in lowered]
    pool = pool or [word for word in _members(kind, side) if word.lower() not in text.lower()]
    # One part of another's name (orange, sweet orange) may mean the same.
    pool = [word for word in pool if word.lower() not in one.text.lower() and one.text.lower() not in word.lower()]
    pool = [word for word in pool if not _same_name(word, one.text)]
    if not pool:
        return None
    new = rng.choice(pool)
    return _plural(new) if plural and not new.endswith("s") else new


@cache
def translations() -> dict[str, str]:
    """Each word of `kinds` in the other language, by its lower-case form."""
    table: dict[str, str] = {}
    for pairs in load_config("alterations.yaml")["kinds"].values():
        for zh, en in pairs:
            table.setdefault(zh, en)
            table.setdefault(en.lower(), zh)
    return table


def _same_name(one: str, other: str) -> bool:
    """Whether two words name one thing, in the same language or two; a plural is the same."""
    first, second = (_english_of(word).lower() for word in (one, other))
    return first == second or _plural(first) == second or first == _plural(second)


def _english_of(word: str) -> str:
    """One name for words that mean the same: tomato for 番茄 and 西红柿."""
    return translations().get(word, word) if _wide(word[0]) else word.lower()


def _like_it(setting: _Setting, one: Entity, rng: Random) -> str | None:
    """Another name of the same look: from the question or the answer."""
    near = [*entities_in(setting.task.question[:8000], setting.task.language), *setting.found]
    pool = sorted({e.text for e in near if e.kind == one.kind and not _one_in_other(e.text, one.text)})
    return rng.choice(pool) if pool else None


def _one_in_other(one: str, other: str) -> bool:
    words, others = set(re.findall(r"\w+", one.lower())), set(re.findall(r"\w+", other.lower()))
    return bool(words & others) or one.lower() in other.lower() or other.lower() in one.lower()


def _exchanged(
    setting: _Setting, groups: dict[str, list[Entity]], name: str, rng: Random
) -> _Change | None:
    """Two entities of a kind that each have sentences of their own, in each other's place everywhere. Names that the
    question doesn't give are left: a story is as good under other names."""
    places = groups[name]
    kind = places[0].kind
    own = {setting.sentence_of(one) for one in places}
    text = setting.task.answer
    partners = []
    for other, theirs in groups.items():
        if other == name or theirs[0].kind != kind or _one_in_other(name, other) or _same_name(name, other):
            continue
        if kind.startswith("looks") and not setting.short and not (setting.asked(name) or setting.asked(other)):
            continue
        spans = {setting.sentence_of(one) for one in theirs}
        alone = [s for s in own ^ spans if not _cues("symmetric").search(s.of(text))]
        if alone and not all(_example(setting, one) for one in places + theirs):
            partners.append(other)
    if not partners or rng.random() < 0.3:
        return None
    other = rng.choice(sorted(partners))
    pairs: Iterable[tuple[Entity, str]] = [(one, other) for one in places] + [(one, name) for one in groups[other]]
    edits = [_fitted(text, one, new) for one, new in pairs if not setting.enumerated.touch(one.start, one.end)]
    return (edits, [name, other]) if edits else None
