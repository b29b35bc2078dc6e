"""What one text shows by itself: markers of a template, end markers, damage, refusals, personal data.

The patterns stand in configs/text_signs.yaml, configs/chat_markers.yaml and configs/written_markers.yaml.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

from pipeline.config_files import load_config

# Something a pattern needs, in lower case: most texts hold none of these and pay for no expression.
_HINTS = (
    "<|", "<｜", "[|", "<start_of", "<end_of", "<turn", "[inst", "[/inst", "<<sys", "<extra_id", "<reserved", "###",
    "human:", "user", "instruction:", "customer:", "assistant", "ai:", "bot:", "用户", "人类", "提问者", "指令", "客户",
    "助手", "机器人", "you are a", "你是一", "你是由",
)  # fmt: skip
LEAST_DIGITS = 9  # of a text in which numbers of people are looked for
_GLUED = (3, 24)  # characters of half a mark
_FIRST = 200  # characters in which a refusal shows
_LOOKED_THROUGH = 20_000  # characters of one text that patterns see
# Every pattern of refusals holds one of these.
_DECLINING = (
    "sorry", "unable", "not", "afraid", "decline", "refuse", "n't", "n’t", "cant", "wont", "as an ai",
    "无法", "不能", "不便", "没办法", "不会", "帮不了", "拒绝", "不行",
)  # fmt: skip
_MISREAD = "ÃÂÐàáâãäåæçèéêëìíîï锟烫锛銆鈥紝鐨浣涓"  # every pattern of misread text begins with one of these
_SENTENCE_ENDS = ".!?。！？…"
_CLOSERS = "\"'”’」』）)]}>*`】》~～"
_FINISHING = frozenset(_SENTENCE_ENDS + _CLOSERS)
_SYMBOLS = ("So", "Sk", "Mn", "Me", "Cf")  # emoji with their variation marks, arrows, ticks
# After these the last character needn't end a sentence: code, a list, a table, a formula, a link, a colon.
_UNSENTENCED = frozenset("`|$:：;；")
_LINK = re.compile(r"https?://\S+$")


@cache
def _patterns(name: str) -> re.Pattern[str]:
    found: Any = load_config("text_signs.yaml")[name]
    return re.compile("|".join(f"(?:{one})" for one in found) if isinstance(found, list) else found)


@cache
def _markers() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Markers that only a template writes; words with a colon at the start of a line, which people write too."""
    written = load_config("written_markers.yaml")
    turns = [*written["user_turns"], *written["assistant_turns"]]
    tokens = [one for one in turns if one.startswith((r"<", r"\["))]
    lines = [one for one in turns if one not in tokens]
    shape = load_config("chat_markers.yaml")["marker_shape"]
    hard = [shape, *tokens, r"<<SYS>>", r"<extra_id_\d+>", r"<reserved_\d+>"]
    headings = [one for one in lines if one.startswith("#")]
    soft = [one for one in lines if not one.startswith("#")]
    return (
        re.compile("|".join([*hard, rf"(?:^|\n)[ \t]*(?:{'|'.join(headings)})"])),
        re.compile(rf"(?:^|\n)[ \t>*]*(?:{'|'.join(soft)})"),
    )


def hints_in(lowered: str) -> tuple[str, ...]:
    """What of `_HINTS` stands anywhere in many texts joined, in lower case: only these need a look text by text."""
    return tuple(hint for hint in _HINTS if hint in lowered)


def template_marker(
    text: str, lowered: str, hints: tuple[str, ...] = _HINTS, *, answer: bool = True
) -> tuple[str, bool]:
    """(the first marker of a template or role as it is written, whether only a template writes it). ("", False): none.

    lowered: the same text in lower case. hints: as `hints_in` gives them for texts that hold this one. answer: whether
    a system prompt at its beginning is out of place.
    """
    for hint in hints:
        if hint in lowered:
            break
    else:
        return "", False
    text = text[:_LOOKED_THROUGH]
    hard, soft = _markers()
    ended = text.rstrip()
    for found in hard.finditer(text):
        if found.end() < len(ended):  # one at the very end is an end marker and counted as such
            return found.group().strip(), True
    if answer and (leaked := _patterns("leaked_system").match(text)):
        return leaked.group().strip()[:40], True
    if len(_patterns("bare_roles").findall(text)) > 1:
        return "user / assistant", True
    if glued := _glued_role(text):
        return glued, True
    found_soft = soft.search(text)
    return (found_soft.group().strip(), False) if found_soft else ("", False)


def _glued_role(text: str) -> str:
    """A speaker's name between two halves of a mark that was decoded into letters, with both; empty for none."""
    for found in _patterns("glued_roles").finditer(text):
        start, end = found.span()
        least, most = _GLUED
        at = max(0, start - most) - 1
        while (at := text.find(text[end : end + 1] or "\0", at + 1, start - least + 1)) >= 0:
            half = text[at:start]
            if text.startswith(half, end) and not any(map(str.isspace, half)):
                return text[at : end + len(half)]
    return ""


@cache
def _end_marker() -> re.Pattern[str]:
    return re.compile(load_config("chat_markers.yaml")["end_marker_at_end"])


def end_marker(text: str) -> str:
    """The end marker that the text ends with, as it is written; empty for none."""
    tail = text[-60:].rstrip()
    if not tail or tail[-1] not in ">]dDP+":
        return ""
    found = _end_marker().search(tail)
    return found.group().strip() if found else ""


def ends_finished(text: str) -> bool:
    """Whether the text ends as a sentence, a list, code or a table does; True for an empty one."""
    tail = text[-80:].rstrip()
    if not tail or tail[-1] in _FINISHING or unicodedata.category(tail[-1]) in _SYMBOLS:
        return True
    return tail[-1] in _UNSENTENCED or tail[-1].isdigit() or ("http" in tail and _LINK.search(tail) is not None)


def written_in_sentences(text: str) -> bool:
    """Whether sentences end within the text, so that its last one should end too."""
    return any(text.find(mark, 0, -2) >= 0 for mark in ("。", "！", "？", ". ", "! ", "? ", ".\n"))


def refuses(text: str) -> bool:
    """Whether an answer declines."""
    first = text[:_FIRST]
    lowered = first.lower()
    return any(word in lowered for word in _DECLINING) and _patterns("refusals").search(first) is not None


def misread(text: str) -> str:
    """A stretch that was decoded with the wrong encoding, as it stands; empty for none."""
    if text.isascii() or not any(character in text for character in _MISREAD):
        return ""
    found = _patterns("misread").search(text[:_LOOKED_THROUGH])
    return found.group()[:20] if found else ""


@cache
def _personal() -> tuple[tuple[str, re.Pattern[str], str, int, str], ...]:
    table = load_config("text_signs.yaml")["personal"]
    return tuple(
        (name, re.compile(row["matches"]), row.get("has", ""), row.get("digits", 0), row.get("check", ""))
        for name, row in table.items()
    )


def personal_data(text: str, digits: int) -> str:
    """The kind of personal data in a text, the first of configs/text_signs.yaml; empty for none. digits: of the text,
    to spare the search."""
    for name, pattern, literal, least, check in _personal():
        if digits < least or (literal and literal not in text):
            continue
        for found in pattern.finditer(text[:_LOOKED_THROUGH]):
            if not check or _CHECKS[check](found.group()):
                return name
    return ""


def _luhn(number: str) -> bool:
    """ISO/IEC 7812-1."""
    found = [int(c) for c in number if c.isdigit()][::-1]
    return sum(found[::2] + [sum(divmod(2 * d, 10)) for d in found[1::2]]) % 10 == 0


def _gb11643(number: str) -> bool:
    """Check character of a Chinese identity number (GB 11643-1999)."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))
    return "10X98765432"[total % 11] == number[-1].upper()


_CHECKS = {"luhn": _luhn, "gb11643": _gb11643}
