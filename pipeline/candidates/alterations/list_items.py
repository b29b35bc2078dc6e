"""Lists with items left out, and steps or sentences in another order."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from pipeline.answer_overlap import units
from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task, drawn_share
from pipeline.candidates.alterations.answer_lists import AnswerList, bare_lines, lists_in
from pipeline.candidates.alterations.answer_text import Span, sentences
from pipeline.candidates.alterations.change_numbers import numbers_said
from pipeline.candidates.alterations.sql_text import sql_in
from pipeline.config_files import load_config

_HEAD = 60  # characters before a list that may say what it is
_LEAST_SENTENCES = 3  # of a paragraph whose sentences are put in another order


def drop_items(task: Task, rng: Random) -> Altered:
    """Takes items out of the list that the answer mostly is, or that has as many as the question asks for."""
    if sql_in(task.answer, "") is not None:
        raise NothingToAlter("sql")
    asked = numbers_said(task.question)
    least_part = task.parameters["least_part"] * len(task.answer)
    found = [one for one in lists_in(task.answer) if len(one) in asked or one.end - one.start >= least_part]
    if not found and (lines := bare_lines(task.answer)) is not None:
        found = [lines]
    if not found:
        raise NothingToAlter("no_list")
    chosen = rng.choice(_largest(found))
    share = drawn_share(rng, task.parameters["least_dropped"], task.parameters["most_dropped"])
    count = min(len(chosen) - 1, max(1, round(share * len(chosen))))
    # The line that heads bare lines stays.
    first = 1 if chosen.kind == "lines" and len(chosen) > 2 else 0
    dropped = set(rng.sample(range(first, len(chosen)), min(count, len(chosen) - first)))
    kept = [n for n in range(len(chosen)) if n not in dropped]
    return Altered(chosen.put_together(kept), facts={"items": len(chosen), "dropped": sorted(n + 1 for n in dropped)})


def _largest(found: list[AnswerList]) -> list[AnswerList]:
    most = max(one.end - one.start for one in found)
    return [one for one in found if 2 * (one.end - one.start) >= most]


def reorder_items(task: Task, rng: Random) -> Altered:
    """Another order of steps, of items that were asked for in an order, or of sentences that lean on each other. A list
    whose order says nothing is left alone unless `force` is set."""
    if sql_in(task.answer, "") is not None:
        raise NothingToAlter("sql")
    found = lists_in(task.answer)
    ordered = [one for one in found if task.parameters["force"] or _order_matters(task, one)]
    if ordered:
        chosen = rng.choice(_largest(ordered))
        order = _other_order(len(chosen), task.parameters["least_moved"], rng)
        same = [chosen.bodies[n].strip() for n in order] == [body.strip() for body in chosen.bodies]
        if not same:
            return Altered(chosen.put_together(order), facts={"order": [n + 1 for n in order]})
    paragraphs = _leaning(task)
    if not paragraphs:
        raise NothingToAlter("unordered_list" if found else "no_order")
    paragraph, leaning = rng.choice(paragraphs)
    return _sentences_moved(task, paragraph, leaning, rng)


def _other_order(count: int, least_moved: float, rng: Random) -> list[int]:
    """An order in which at least two items, and that share of all, stand elsewhere."""
    moved = max(2, min(count, round(rng.uniform(least_moved, 1.0) * count)))
    places = sorted(rng.sample(range(count), moved))
    turned = places[1:] + places[:1] if rng.random() < 0.5 else places[::-1]
    order = list(range(count))
    for place, one in zip(places, turned, strict=True):
        order[place] = one
    return order


@cache
def _words(name: str) -> re.Pattern[str]:
    """Any of the words of `order`; English ones as whole words."""
    table = load_config("alterations.yaml")["order"][name]
    english = "|".join(re.escape(word) for word in table["en"])
    return re.compile(rf"{'|'.join(map(re.escape, table['zh']))}|(?i:(?<!\w)(?:{english})(?!\w))")


def _order_matters(task: Task, one: AnswerList) -> bool:
    after = sum(_words("after").match(body.lstrip(" *_“\"")) is not None for body in one.bodies)
    if one.kind == "steps":
        return True
    if one.kind == "enumeration":
        return _words("asked").search(task.question) is not None and _sorted(task.question)
    head = one.head[-_HEAD:].rstrip().rsplit("\n", 1)[-1]
    heads = _words("headed").search(head) is not None
    asked = _words("asked").search(task.question) is not None
    if len(one) < _LEAST_SENTENCES:
        return False
    return after >= 2 or (heads and (after > 0 or asked)) or (asked and (after > 0 or _sorted(task.question)))


_SORTED = re.compile(
    r"顺序|排序|排列|先后|排名|从[大小高低早晚]到|时间线|时间轴|年表|"
    r"(?i:\b(?:order|sort|rank|timeline|chronolog|ascend|descend|alphabetic))"
)


def _sorted(question: str) -> bool:
    return _SORTED.search(question) is not None


def _leaning(task: Task) -> list[tuple[list[Span], list[int]]]:
    """Paragraphs of three or more sentences, with the numbers of those that lean on the one before."""
    found = []
    text = task.answer
    paragraph: list[Span] = []
    listed = [(one.start, one.end) for one in lists_in(text) if one.kind != "enumeration"]
    for one in [*sentences(text), None]:
        broken = one is None or (paragraph and "\n" in text[paragraph[-1].end : one.start])
        if broken:
            leaning = [n for n, s in enumerate(paragraph) if n and _words("leaning").match(s.of(text).lstrip("“\"*"))]
            if len(paragraph) >= _LEAST_SENTENCES and leaning:
                found.append((paragraph, leaning))
            paragraph = []
        if one is not None and not any(start <= one.start < end for start, end in listed):
            paragraph.append(one)
    return found


def _sentences_moved(task: Task, paragraph: list[Span], leaning: list[int], rng: Random) -> Altered:
    text = task.answer
    order = list(range(len(paragraph)))
    first = rng.choice(leaning)
    order.remove(first)
    if len(order) > 3 and rng.random() < 0.7:
        order[1:] = [order[1 + n] for n in _other_order(len(order) - 1, task.parameters["least_moved"], rng)]
    elif rng.random() < 0.5:
        order.reverse()
    order.insert(0, first)
    gaps = [text[a.end : b.start] for a, b in zip(paragraph, paragraph[1:], strict=False)] + [""]
    said = [paragraph[n].of(text) for n in order]
    if units(said[0]) == units(paragraph[0].of(text)):
        raise NothingToAlter("no_order", again=True)
    spaced = "".join(one + gap for one, gap in zip(said, gaps, strict=True))
    return Altered(
        text[: paragraph[0].start] + spaced + text[paragraph[-1].end :], facts={"order": [n + 1 for n in order]}
    )


def leans(sentence: str) -> bool:
    """Whether a sentence leans on the one before it."""
    return _words("leaning").match(sentence.lstrip("“\"*")) is not None
