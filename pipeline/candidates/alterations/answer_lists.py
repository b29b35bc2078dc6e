"""The lists in an answer: numbered, bulleted, within a line, or enumerated by commas; taken apart so that they can be
put together again with fewer items or in another order, the numbering right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from pipeline.candidates.alterations.answer_text import code_spans, sentences

Kind = Literal["steps", "numbered", "bulleted", "enumeration", "lines"]

_CHINESE_DIGITS = "零一二三四五六七八九十"
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
_NUMBER = r"\d{1,3}|[一二三四五六七八九十]{1,3}"
# At the start of a line, or of an item within it. step: such markers say that order matters.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("steps", rf"第(?P<n>{_NUMBER})步\s?[:：,，、.]?\s?"),
    ("steps", r"(?:Step|STEP|步骤)\s?(?P<n>\d{1,2}|[一二三四五六七八九十]{1,2})\s?[:：.,、-]?\s?"),
    ("numbered", r"(?P<n>\d{1,3})[.．](?!\d)\s?"),
    ("numbered", r"(?P<n>\d{1,3})[、)）](?!\d)\s?"),
    ("numbered", r"(?P<n>\d{1,3})[:：](?!\d)\s?"),
    ("numbered", r"[（(](?P<n>\d{1,3})[)）]\s?"),
    ("numbered", r"[（(](?P<n>[一二三四五六七八九十]{1,3})[)）]\s?"),
    ("numbered", r"(?P<n>[一二三四五六七八九十]{1,3})[、.．]\s?"),
    ("numbered", rf"第(?P<n>{_NUMBER})[点条个]?[:：,，、]\s?"),
    ("numbered", rf"(?P<n>[{_CIRCLED}])\s?"),
)
_LINE = re.compile(r"[^\n]+")
_HEAD = r"(?P<indent>[ \t]*)(?P<lead>(?:#{1,6} +)?(?:\*\*|__)?)"
_NUMBERED = tuple((kind, re.compile(_HEAD + shape)) for kind, shape in _FAMILIES)
_BULLET = re.compile(r"(?P<indent>[ \t]*)(?P<mark>[-*+•·●○◦▪–—])[ \t]+")
_INLINE = tuple(
    (kind, re.compile(rf"(?<![\dA-Za-z.第（(]){shape}"))
    for kind, shape in _FAMILIES
    if not shape.startswith("(?P<n>[一")
)
_LEAST_INLINE = 2

_ITEM_ZH = r"(?:[“\"《「][^“”\"《》「」\n]{1,20}[”\"》」]|[^、，,。；;：:！!？?“”\"《》「」（）()\n]{1,12})"
_ENUMERATION_ZH = re.compile(rf"{_ITEM_ZH}(?:、{_ITEM_ZH})+")
_LAST_ZH = re.compile(r"以及|和|与|及|或")
_OPENS_ZH = re.compile(r"(?:^|[：:，,。；;\n]|包括了?|例如|比如|诸如|分别[是为]|有|是|为|如|含有|涉及|[吃买用])$")
_OPENED_ZH = re.compile(r".{2,}?(?:包括|例如|比如|诸如|分别是|分别为|有|是|如)(?=.)")
_CLOSES_ZH = re.compile(r"(?:$|[。；;，,！!？?\n]|等)")
_WORDS_EN = r"[A-Za-z0-9][\w’'&/-]*(?: [\w’'&/-]+){0,3}"
_ENUMERATION_EN = re.compile(rf"(?<![\w’'-]){_WORDS_EN}(?:, (?!and |or ){_WORDS_EN})+(?:,? (?:and|or) {_WORDS_EN})?")
_LAST_EN = re.compile(r"(?:,? |^)(?:and|or) ")
# In a sentence rather than in an item.
_PROSE = re.compile(
    r"(?i)\b(?:i|it|he|she|they|we|you|is|am|are|was|were|be|has|have|as|therefore|then|but|so|which|that|who|if|when"
    r"|because|not|sorry|yes|no|well|however|please|this|there)\b"
)
_OPENS_EN = re.compile(r"(?:^|[:\n]|\b(?:such as|including|includes?|like|are)) ?$")
_CLOSES_EN = re.compile(r"(?:$|[.!?;\n])")
_MOST_LINE = 200  # characters of an item that is a bare line


@dataclass(frozen=True)
class AnswerList:
    """A list within a text: head + (marker + body + separator)... + tail. Markers and separators belong to places, not
    to bodies: what comes second is numbered two."""

    kind: Kind
    head: str
    markers: tuple[str, ...]
    bodies: tuple[str, ...]
    separators: tuple[str, ...]  # the last one is empty
    tail: str
    start: int
    end: int

    def __len__(self) -> int:
        return len(self.bodies)

    def put_together(self, order: Sequence[int]) -> str:
        """The whole text with these bodies in this order."""
        last = len(order) - 1
        # What stands before the last item ("和", ", and ") stays before the last one.
        between = [*self.separators[: max(0, last - 1)], self.separators[len(self) - 2]][:last] + [""]
        items = (self.markers[n] + self.bodies[one] + between[n] for n, one in enumerate(order))
        return self.head + "".join(items) + self.tail


@lru_cache(maxsize=16)  # one answer is altered in many ways
def lists_in(text: str) -> tuple[AnswerList, ...]:
    """Every list of two or more items outside code, the outermost of nested ones; the same text may be part of two."""
    found = [*_numbered_lines(text), *_bulleted(text), *_within_lines(text), *_enumerations(text)]
    code = code_spans(text)
    return tuple(one for one in found if len(one) > 1 and not code.touch(one.start, one.start + 1))


def bare_lines(text: str) -> AnswerList | None:
    """The lines of a text as a list, None where it has fewer than three or lines as long as paragraphs."""
    spans = [one.span() for one in _LINE.finditer(text) if one.group().strip()]
    if len(spans) < 3 or code_spans(text).spans or any(end - start > _MOST_LINE for start, end in spans):
        return None
    return _of(text, "lines", [(s, s, e) for s, e in spans])


def _of(text: str, kind: Kind, items: Sequence[tuple[int, int, int]]) -> AnswerList:
    """items: start of the marker, start of the body, end of the body."""
    separators = [text[one[2] : other[0]] for one, other in pairwise(items)] + [""]
    start, end = items[0][0], items[-1][2]
    return AnswerList(
        kind, text[:start], tuple(text[a:b] for a, b, _ in items), tuple(text[b:c] for _, b, c in items),
        tuple(separators), text[end:], start, end,
    )  # fmt: skip


def _value(number: str) -> int:
    if number.isascii() and number.isdigit():
        return int(number)
    if number in _CIRCLED:
        return _CIRCLED.index(number) + 1
    tens, ten, ones = number.rpartition("十")
    if not ten:
        return _CHINESE_DIGITS.find(number)
    return 10 * (_CHINESE_DIGITS.find(tens) if tens else 1) + (_CHINESE_DIGITS.find(ones) if ones else 0)


def _numbered_lines(text: str) -> Iterator[AnswerList]:
    code = code_spans(text)
    lines = [one.span() for one in _LINE.finditer(text) if not code.touch(*one.span())]
    for kind, shape in _NUMBERED:
        marked = []
        for start, _ in lines:
            if (one := shape.match(text, start)) is not None:
                marked.append((one.start(), one.end(), _value(one["n"]), len(one["indent"])))
        for run in _ascending(marked):
            yield _of(text, "steps" if kind == "steps" else "numbered", _line_items(text, run))


def _ascending(marked: Sequence[tuple[int, int, int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Runs whose numbers go up by one, or are all 1, at one depth; what is deeper belongs to the item before."""
    run: list[tuple[int, int, int, int]] = []
    for one in marked:
        if run and one[3] > run[0][3] + 1:
            continue
        step = one[2] - run[-1][2] if run else None
        if run and (step == 1 or one[2] == run[-1][2] == run[0][2] == 1):
            run.append(one)
            continue
        if len(run) > 1:
            yield [(a, b) for a, b, _, _ in run]
        run = [one]
    if len(run) > 1:
        yield [(a, b) for a, b, _, _ in run]


def _line_items(text: str, heads: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    items = []
    for (start, body), (following, _) in pairwise(heads):
        items.append((start, body, body + len(text[body:following].rstrip())))
    # The last item goes on for as many paragraphs as the longest of the others, and no further.
    most = max(len(re.findall(r"\n[ \t]*\n", text[b:e])) for _, b, e in items)
    start, body = heads[-1]
    end = len(text)
    for number, gap in enumerate(re.finditer(r"\n[ \t]*\n(?=\S)", text[body:])):
        if number >= most:
            end = body + gap.start()
            break
    if not any("\n" in text[b:e] for _, b, e in items) and (line := text.find("\n", body, end)) >= 0:
        end = line  # every other item is one line: what follows the last is no part of it
    items.append((start, body, body + len(text[body:end].rstrip())))
    return items


def _bulleted(text: str) -> Iterator[AnswerList]:
    code = code_spans(text)
    groups: dict[tuple[str, int], list[list[tuple[int, int]]]] = {}
    previous_end = 0
    for start, end in (one.span() for one in _LINE.finditer(text)):
        if code.touch(start, end):
            continue
        bullet = _BULLET.match(text, start)
        apart = re.search(r"\n[ \t]*\n", text[previous_end:start]) is not None
        if bullet is None:
            if not text[start].isspace() and (apart or text[start].isalnum() or ord(text[start]) > 0x2E80):
                for runs in groups.values():
                    runs.append([])
        else:
            key = bullet["mark"], len(bullet["indent"])
            for (_, depth), runs in groups.items():
                if depth > key[1]:  # what was deeper has ended with its item
                    runs.append([])
            groups.setdefault(key, [[]])[-1].append((start, bullet.end()))
        previous_end = end
    for runs in groups.values():
        for run in runs:
            if len(run) > 1:
                yield _of(text, "bulleted", _line_items(text, run))


def _within_lines(text: str) -> Iterator[AnswerList]:
    code = code_spans(text)
    for start, end in (one.span() for one in _LINE.finditer(text)):
        if code.touch(start, end) or end - start < 12:
            continue
        line = text[start:end]
        for kind, shape in _INLINE:
            marked = [(one.start(), one.end(), _value(one["n"]), 0) for one in shape.finditer(line)]
            for run in _ascending(marked):
                first = line[run[0][1] : run[1][0]]
                if len(run) < 3 and not re.search(r"[；;。.，,]\s*$", first):
                    continue
                if any(len(line[b:c].strip(" ，,；;。.、")) < 2 for (_, b), (c, _) in pairwise(run)):
                    continue
                items = [(a, b, b + len(line[b:c].rstrip())) for (a, b), (c, _) in pairwise(run)]
                a, b = run[-1]
                alone = all(len(sentences(line[p:q])) < 2 for _, p, q in items)
                last = sentences(line[b:])
                items.append((a, b, b + last[0].end if alone and last else len(line.rstrip())))
                # The mark that ends an item belongs to its place: the last one alone ends with a full stop.
                shifted = []
                for p, q, r in items:
                    kept = len(line[q:r].rstrip(" ，,；;。.、"))
                    shifted.append((start + p, start + q, start + q + kept))
                yield _of(text, "steps" if kind == "steps" else "numbered", shifted)
                break


def _enumerations(text: str) -> Iterator[AnswerList]:
    for one in _ENUMERATION_ZH.finditer(text):
        items = _split(text, one.start(), one.end(), "、", _LAST_ZH)
        # A first or last item runs into the sentence around it, unless something sets it apart.
        if not _OPENS_ZH.search(text[max(0, one.start() - 4) : one.start()]):
            opened = _OPENED_ZH.match(text[items[0][0] : items[0][1]])
            items = [(items[0][0] + opened.end(), items[0][1]), *items[1:]] if opened else items[1:]
        elif items[0][1] - items[0][0] > 2 + max(b - a for a, b in items[1:]):
            opened = _OPENED_ZH.match(text[items[0][0] : items[0][1]])
            items = [(items[0][0] + opened.end(), items[0][1]), *items[1:]] if opened else items
        if items and not _CLOSES_ZH.match(text, one.end()):
            items = items[:-1]
        else:
            shortened = text[items[-1][0] : items[-1][1]].find("等") if items else -1
            if shortened > 0:
                items[-1] = (items[-1][0], items[-1][0] + shortened)
        items = [(a, b) for a, b in items if b > a]
        if len(items) > 1:
            yield _of(text, "enumeration", [(a, a, b) for a, b in items])
    for one in _ENUMERATION_EN.finditer(text):
        before, closed = text[max(0, one.start() - 12) : one.start()], _CLOSES_EN.match(text, one.end())
        if _OPENS_EN.search(before) and closed:
            items = _split(text, one.start(), one.end(), ", ", _LAST_EN)
            if len(items) > 1 and not any(text[a:b].count(" ") > 3 or _PROSE.search(text, a, b) for a, b in items):
                yield _of(text, "enumeration", [(a, a, b) for a, b in items])


def _split(text: str, start: int, end: int, comma: str, last: re.Pattern[str]) -> list[tuple[int, int]]:
    items = []
    at = start
    while at <= end:
        stop = text.find(comma, at, end)
        items.append((at, stop if stop >= 0 else end))
        if stop < 0:
            break
        at = stop + len(comma)
    a, b = items[-1]
    joined = last.search(text[a:b])
    if joined and joined.end() < b - a:
        rest = (a + joined.end(), b)
        items[-1:] = [(a, a + joined.start()), rest] if joined.start() else [rest]
    return items
