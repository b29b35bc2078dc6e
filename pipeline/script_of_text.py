"""Which writing systems a text uses, and signs that it is no text: replacement and control characters.

Language is judged by script only. It tells Chinese from English and Russian from Arabic, not English from French.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections import Counter
from functools import lru_cache

# First code point, last code point, script. Source: Unicode Blocks.txt and Scripts.txt, the scripts in wide use.
# Kana and bopomofo beside Han: "kana" marks Japanese, Han alone Chinese.
_RANGES = (
    (0x0041, 0x005A, "latin"), (0x0061, 0x007A, "latin"), (0x00AA, 0x00AA, "latin"), (0x00BA, 0x00BA, "latin"),
    (0x00C0, 0x00D6, "latin"), (0x00D8, 0x00F6, "latin"), (0x00F8, 0x02AF, "latin"), (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"), (0x0531, 0x058F, "armenian"), (0x0591, 0x05F4, "hebrew"),
    (0x0600, 0x06FF, "arabic"), (0x0750, 0x077F, "arabic"), (0x0900, 0x097F, "devanagari"),
    (0x0980, 0x09FF, "bengali"), (0x0A00, 0x0A7F, "gurmukhi"), (0x0A80, 0x0AFF, "gujarati"),
    (0x0B80, 0x0BFF, "tamil"), (0x0C00, 0x0C7F, "telugu"), (0x0C80, 0x0CFF, "kannada"),
    (0x0D00, 0x0D7F, "malayalam"), (0x0D80, 0x0DFF, "sinhala"), (0x0E00, 0x0E7F, "thai"), (0x0E80, 0x0EFF, "lao"),
    (0x0F00, 0x0FFF, "tibetan"), (0x1000, 0x109F, "myanmar"), (0x10A0, 0x10FF, "georgian"),
    (0x1100, 0x11FF, "hangul"), (0x1200, 0x139F, "ethiopic"), (0x1780, 0x17FF, "khmer"), (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "greek"), (0x2E80, 0x2FDF, "han"), (0x3005, 0x3007, "han"), (0x3041, 0x30FF, "kana"),
    (0x3100, 0x312F, "han"), (0x3130, 0x318F, "hangul"), (0x31F0, 0x31FF, "kana"), (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"), (0xA960, 0xA97F, "hangul"), (0xAC00, 0xD7FF, "hangul"), (0xF900, 0xFAFF, "han"),
    (0xFB1D, 0xFB4F, "hebrew"), (0xFB50, 0xFDFF, "arabic"), (0xFE70, 0xFEFC, "arabic"), (0xFF21, 0xFF3A, "latin"),
    (0xFF41, 0xFF5A, "latin"), (0xFF66, 0xFF9D, "kana"), (0xFFA0, 0xFFDC, "hangul"), (0x20000, 0x323AF, "han"),
)  # fmt: skip
_STARTS = tuple(first for first, _, _ in _RANGES)
_WHITE = "\n\r\t"
REPLACEMENT = "\ufffd"


@lru_cache(maxsize=2**15)
def script_of(char: str) -> str | None:
    """Script of one letter; None for digits, punctuation, symbols, space and scripts not listed."""
    code = ord(char)
    place = bisect_right(_STARTS, code) - 1
    if place < 0 or code > _RANGES[place][1]:
        return None
    return _RANGES[place][2] if unicodedata.category(char)[0] in "LM" else None


def script_counts(text: str) -> Counter[str]:
    """Letters of each script."""
    found: Counter[str] = Counter()
    for char, count in Counter(text).items():
        if (script := script_of(char)) is not None:
            found[script] += count
    return found


def script_shares(text: str) -> dict[str, float]:
    """Share of each script among the letters; empty for a text without letters."""
    counts = script_counts(text)
    total = sum(counts.values())
    return {script: count / total for script, count in counts.items()} if total else {}


def main_script(text: str, *, least_letters: int = 1, least_share: float = 0.0) -> str | None:
    """The script of most letters: `japanese` where kana stands beside Han. None below the two minima.

    A Han character says about as much as two Latin letters, so Han, kana and Hangul count double.
    """
    counts = script_counts(text)
    letters = sum(counts.values())
    if letters < max(1, least_letters):
        return None
    if counts["kana"] > 0.1 * (counts["kana"] + counts["han"]):
        counts["japanese"] = counts.pop("kana") + counts.pop("han", 0)
    weighed = {s: c * (2 if s in ("han", "japanese", "kana", "hangul") else 1) for s, c in counts.items()}
    script, weight = max(weighed.items(), key=lambda item: (item[1], item[0]))
    return script if weight >= least_share * sum(weighed.values()) else None


def script_entropy(text: str) -> float:
    """Entropy in nats over the scripts of the letters: 0 for one script, 0.69 for two in equal parts.

    Word salad of a multilingual vocabulary mixes many scripts and reaches 1 and more; a Chinese text with English
    terms stays below 0.69.
    """
    return -sum(share * math.log(share) for share in script_shares(text).values())


def garbled_share(text: str) -> float:
    """Share of characters that no writer types: U+FFFD (bytes that were no UTF-8), control, private, unassigned.

    Line breaks and tabs are fine. 0 for an empty text.
    """
    bad = sum(c == REPLACEMENT or (unicodedata.category(c) in ("Cc", "Co", "Cn") and c not in _WHITE) for c in text)
    return bad / len(text) if text else 0.0


def without_cut_character(text: str) -> str:
    """`text` without U+FFFD at its end: a byte-level answer cut at the length limit often ends inside a character."""
    return text.rstrip(REPLACEMENT)
