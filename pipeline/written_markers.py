"""Finds the frame of a conversation inside an answer: end markers written as characters, turns of other speakers.

The lists stand in configs/written_markers.yaml and configs/chat_markers.yaml.
"""

from __future__ import annotations

import re
from functools import cache

from pipeline.config_files import load_config


@cache
def _ends() -> tuple[str, ...]:
    """Names of tokens that end a turn or a text."""
    table = load_config("chat_markers.yaml")
    return (*table["document_ends"], *table["turn_ends"])


@cache
def _end_pattern() -> re.Pattern[str]:
    """Any end marker; word-piece decoders put spaces inside brackets, so `[ EOS ]` counts."""
    parts = []
    for marker in (*_ends(), *load_config("written_markers.yaml")["more_markers"]):
        inner = marker[1:-1]
        parts.append(rf"{re.escape(marker[0])}\s?{re.escape(inner)}\s?{re.escape(marker[-1])}")
    return re.compile("|".join(parts))


@cache
def _turn_patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    table = load_config("written_markers.yaml")

    def any_of(name: str) -> re.Pattern[str]:
        # A marker token may follow the answer directly; a name with a colon counts at the start of a line only.
        tokens = [p for p in table[name] if p.startswith((r"<", r"\["))]
        lines = [p for p in table[name] if not p.startswith((r"<", r"\["))]
        groups = [rf"(?:^|\n)[ \t>*]*(?:{'|'.join(lines)})"] if lines else []
        return re.compile("|".join([*tokens, *groups]), re.IGNORECASE)

    return any_of("user_turns"), any_of("question_starts"), any_of("answer_starts"), any_of("assistant_turns")


@cache
def _one(name: str) -> re.Pattern[str]:
    return re.compile(str(load_config("written_markers.yaml")[name]))


def written_end_marker(text: str) -> str | None:
    """The first end marker in `text` (an answer without its special tokens), as written; None when there is none."""
    found = _end_pattern().search(text)
    return found.group(0) if found else None


def other_turn(answer: str) -> str | None:
    """The marker of a new turn inside an answer (special tokens visible): a user's turn, a question with its
    answer, or a second answer of the assistant. None when there is none.

    A marker at the very beginning only labels the answer, so something must stand before it.
    """
    start = len(answer) - len(answer.lstrip())
    user, question, reply, assistant = _turn_patterns()
    for pattern in (user, assistant):
        for found in pattern.finditer(answer):
            if answer[start : found.start()].strip():
                return found.group(0).strip()
    asked = next((m for m in question.finditer(answer) if answer[start : m.start()].strip()), None)
    if asked is not None and reply.search(answer, asked.end()):
        return asked.group(0).strip()
    return None


def ends_like_a_turn(token: str) -> bool:
    """Whether a token's name says that it ends a turn or a text."""
    return token in _ends()


def continues_legitimately(text: str) -> bool:
    """Whether `text`, right after an end-like token, is the next channel of the same answer."""
    return bool(_one("continues_after").match(text))


def starts_with_sentinel(text: str) -> str | None:
    """The span-corruption placeholder that an answer (special tokens visible) begins with."""
    found = _one("sentinel").match(text)
    return found.group(0).strip() if found else None
