"""How two answers differ: words in spaced scripts, single characters in Chinese and its like. Exact, at a bounded cost.

The longest common subsequence is found with whole rows as integers (Crochemore, Iliopoulos, Pinzon and Reid 2001, "A
fast and practical bit-vector algorithm for the longest common subsequence problem"): its cost depends on the lengths
alone, so that an answer that repeats itself for ever is no dearer than any other.
"""

from __future__ import annotations

import html
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import regex

from ui.safe_html import SPECIAL_TOKEN, tag, with_specials

MAX_CELLS = 200_000_000  # tokens of one side times tokens of the other: 25 MB of rows
MAX_CHARACTERS = 40_000  # of one side are shown; a longer one is cut, and says so
LEAST_SHARED = 0.35  # of the shorter side: with less in common the marks would only be confetti
TOKEN = regex.compile(
    rf"{html.unescape(SPECIAL_TOKEN)}"
    r"|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
    r"|(?:(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])[\p{L}\p{N}_]\p{M}*)+"
    r"|\n|[^\S\n]+|\X"
)
SENTENCE = regex.compile(r"[^\n。！？!?；;]*[\n。！？!?；;]|[^\n。！？!?；;]+")


class TooLong(Exception):
    """Comparing both texts would cost more than MAX_CELLS."""


Span = tuple[bool, str]
"""(whether this part is also in the other text, the part)"""


@dataclass(frozen=True)
class Difference:
    """Both texts in parts. note: entry of interface.yaml, why there are no marks; empty where there are.

    cut: how many characters of each side are not shown.
    """

    chosen: list[Span]
    rejected: list[Span]
    note: str = ""
    cut: tuple[int, int] = (0, 0)


def difference(chosen: str, rejected: str, limit: int = MAX_CHARACTERS) -> Difference:
    """Compare two answers. limit: characters of each side that are looked at and shown."""
    cut = (max(0, len(chosen) - limit), max(0, len(rejected) - limit))
    a, b = chosen[:limit], rejected[:limit]
    if a == b:
        return Difference([(True, a)], [(True, b)], "pairs_same_sides" if a and not any(cut) else "", cut)
    if not a.strip() or not b.strip():
        return Difference([(True, a)], [(True, b)], "", cut)
    try:
        runs = _joined(list(_runs(a, b)))
    except TooLong:
        return Difference([(True, a)], [(True, b)], "pairs_too_long_to_compare", cut)
    shared = sum(len(x) for same, x, _ in runs if same and not x.isspace())
    if shared < LEAST_SHARED * min(len(a), len(b)):
        return Difference([(True, a)], [(True, b)], "pairs_little_shared", cut)
    return Difference([(same, x) for same, x, _ in runs if x], [(same, y) for same, _, y in runs if y], "", cut)


def spans_html(spans: Sequence[Span], side: str) -> str:
    """Parts as HTML. side: `chosen` marks what only stands there as <ins>, any other as <del>."""
    name, css = ("ins", "dd-only-chosen") if side == "chosen" else ("del", "dd-only-rejected")
    return "".join(with_specials(part) if same else tag(name, css, _seen(part)) for same, part in spans)


def _seen(part: str) -> str:
    """A part in which white space is all that differs is shown by signs: an underlined space says nothing."""
    if part.isspace():
        return with_specials(part.replace(" ", "␣").replace("\t", "⇥").replace("\n", "⏎\n"))
    return with_specials(part)


Run = tuple[bool, str, str]
"""(same, text of the first, text of the second)"""


def _runs(a: str, b: str) -> Iterator[Run]:
    """By tokens where that is affordable, else by sentences and inside the changed ones by tokens."""
    first, second = TOKEN.findall(a), TOKEN.findall(b)
    if _affordable(first, second):
        yield from _compared(first, second)
        return
    for same, x, y in _merged(list(_compared(SENTENCE.findall(a), SENTENCE.findall(b)))):
        first, second = TOKEN.findall(x), TOKEN.findall(y)
        if same or not (x and y):
            yield same, x, y
        elif _affordable(first, second):
            yield from _compared(first, second)
        else:
            raise TooLong


def _affordable(a: Sequence[str], b: Sequence[str]) -> bool:
    start, end = _ends(a, b)
    return (len(a) - start - end) * (len(b) - start - end) <= MAX_CELLS


def _compared(a: Sequence[str], b: Sequence[str]) -> Iterator[Run]:
    start, end = _ends(a, b)
    middle = slice(start, len(a) - end), slice(start, len(b) - end)
    if start:
        yield True, "".join(a[:start]), "".join(b[:start])
    x, y = a[middle[0]], b[middle[1]]
    i = j = 0
    for n, m in [*_common(x, y), (len(x), len(y))]:
        if n > i or m > j:
            yield False, "".join(x[i:n]), "".join(y[j:m])
        if n < len(x) and m < len(y):
            yield True, x[n], y[m]
        i, j = n + 1, m + 1
    if end:
        yield True, "".join(a[len(a) - end :]), "".join(b[len(b) - end :])


def _ends(a: Sequence[str], b: Sequence[str]) -> tuple[int, int]:
    """How many tokens both begin and end with."""
    most = min(len(a), len(b))
    start = next((n for n in range(most) if a[n] != b[n]), most)
    end = next((n for n in range(most - start) if a[-1 - n] != b[-1 - n]), most - start)
    return start, end


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places (in a, in b) of a longest common subsequence. len(a) * len(b) bits of memory."""
    whole = (1 << len(b)) - 1
    places: dict[Hashable, int] = {}
    for n, token in enumerate(b):
        places[token] = places.get(token, 0) | 1 << n
    rows, row = [], whole  # a zero bit n: the best of b[:n + 1] is one longer than that of b[:n]
    for token in a:
        hit = row & places.get(token, 0)
        row = ((row + hit) | (row - hit)) & whole
        rows.append(row)
    found = []
    i, j = len(a) - 1, len(b) - 1
    while i >= 0 and j >= 0:
        before = rows[i - 1] if i else whole
        if rows[i] >> j & 1:  # b[j] adds nothing
            j -= 1
        elif before >> j & 1:  # only since a[i] does it add one: they are the same
            found.append((i, j))
            i, j = i - 1, j - 1
        else:
            i -= 1
    return found[::-1]


def _joined(runs: list[Run]) -> list[Run]:
    """Neighbours of one kind together; a match of less than half of the changes on both of its sides is chance."""
    merged = _merged(runs)
    while True:
        kept = []
        for n, (same, x, y) in enumerate(merged):
            inner = same and 0 < n < len(merged) - 1
            chance = inner and 2 * len(x.strip()) <= min(_size(merged[n - 1]), _size(merged[n + 1]))
            kept.append((same and not chance, x, y))
        again = _merged(kept)
        if len(again) == len(merged):
            return again
        merged = again


def _size(run: Run) -> int:
    return max(len(run[1]), len(run[2]))


def _merged(runs: Sequence[Run]) -> list[Run]:
    """Neighbours of one kind as one."""
    out: list[tuple[bool, list[str], list[str]]] = []
    for same, x, y in runs:
        if not out or out[-1][0] != same:
            out.append((same, [], []))
        out[-1][1].append(x)
        out[-1][2].append(y)
    return [(same, "".join(xs), "".join(ys)) for same, xs, ys in out]
