"""Where an answer's sentences and clauses end, and what in it is code, a link or a formula."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import NamedTuple

from pipeline.config_files import load_config

CLOSERS = "\"'”’」』）)]}》〉*`"
_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(?:.*?\n)??[ \t]*\1[^\n]*$|^[ \t]*(?:```|~~~).*\Z", re.M | re.S)
_INLINE = re.compile(
    r"`[^`\n]{1,200}`|https?://[^\s<>\"'，。；、）)]+|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,63}"
    r"|\$\$[^$]{1,400}\$\$|\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)|</?[A-Za-z][^<>\n]{0,200}>|\{\{?[^{}\n]{1,80}\}\}?"
)
_TABLE_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.M)
_END = re.compile(r"[。！？…]+|[!?]+|\.+|\n+")
_CLAUSE_END = re.compile(r"[，；、：]|[,;:](?=\s)")
_WORD_BEFORE = re.compile(r"[A-Za-z.]{1,12}$")
# The number of a list item, or an initial.
_MARK_BEFORE = re.compile(r"(?:^|\n|[.!?。；;:：]\s)[ \t*#(]*\d{1,3}$|(?:^|[\s(])[A-Z]$|(?:^|\n)[ \t]*[a-z]$")


class Span(NamedTuple):
    start: int
    end: int

    def of(self, text: str) -> str:
        return text[self.start : self.end]


class Spans:
    """Stretches of a text, none within another, to ask whether something lies in one."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        joined: list[list[int]] = []
        for start, end in sorted(spans):
            if joined and start <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], end)
            else:
                joined.append([start, end])
        self.spans = [Span(*one) for one in joined]
        self._starts = [one.start for one in self.spans]

    def touch(self, start: int, end: int) -> bool:
        """Whether any of them shares a character with text[start:end]."""
        place = bisect_right(self._starts, max(start, end - 1)) - 1
        return place >= 0 and self.spans[place].end > start


@lru_cache(maxsize=16)
def code_spans(text: str) -> Spans:
    """Fenced code and tables."""
    if "```" not in text and "~~~" not in text and "|" not in text:
        return Spans(())
    fences = [one.span() for one in _FENCE.finditer(text)] if "```" in text or "~~~" in text else []
    tables = [one.span() for one in _TABLE_ROW.finditer(text)] if "|" in text else []
    return Spans([*fences, *tables])


@lru_cache(maxsize=16)
def fixed_spans(text: str) -> Spans:
    """What no alteration of words may touch: code, tables, links, addresses, formulas, tags, placeholders."""
    return Spans([*code_spans(text).spans, *(one.span() for one in _INLINE.finditer(text))])


@cache
def abbreviations() -> frozenset[str]:
    return frozenset(load_config("alterations.yaml")["abbreviations"])


@lru_cache(maxsize=16)
def sentences(text: str) -> tuple[Span, ...]:
    """Sentences with their final marks, without the white space around; lines end them. Code and tables are none."""
    code = code_spans(text)
    found: list[Span] = []
    start = 0
    for mark in _END.finditer(text):
        end = mark.end()
        if code.touch(mark.start(), end) or not _ends_sentence(text, mark):
            continue
        if mark.group()[0] != "\n":
            while end < len(text) and text[end] in CLOSERS:
                end += 1
        else:
            end = mark.start()
        _add(found, text, start, end, code)
        start = max(mark.end(), end)
    _add(found, text, start, len(text), code)
    return tuple(found)


def _add(found: list[Span], text: str, start: int, end: int, code: Spans) -> None:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end = start + len(piece.strip())
    if end > start and not code.touch(start, end) and any(map(str.isalnum, text[start:end])):
        found.append(Span(start, end))


def _ends_sentence(text: str, mark: re.Match[str]) -> bool:
    if mark.group()[0] != ".":
        return True
    after = text[mark.end() : mark.end() + 2].lstrip(CLOSERS)
    if after and not after[0].isspace():  # 3.5, e.g., a.b; Chinese written with Latin stops
        return ord(after[0]) >= 0x2E80 and mark.group() == "." and not text[mark.start() - 1 : mark.start()].isdigit()
    before = text[max(0, mark.start() - 12) : mark.start()]
    if mark.group() == "." and _MARK_BEFORE.search(before):
        return False
    word = _WORD_BEFORE.search(before)
    return not (mark.group() == "." and word and word.group().lower() in abbreviations())


def clause_ends(text: str) -> list[int]:
    """Places right before a comma, semicolon or colon: an answer that ends there stops within a sentence, but after
    whole words."""
    code = code_spans(text)
    return [one.start() for one in _CLAUSE_END.finditer(text) if not code.touch(*one.span())]


def finish(text: str, language: str | None) -> str:
    """The text with a full stop where it ends without any mark."""
    text = text.rstrip()
    if not text or not (text[-1].isalnum() or text[-1] in "》)）%℃"):
        return text
    return text + ("。" if language in ("zh", "japanese") else ".")
