"""TOK010: text that the tokenizer can't hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.rows_as_text import data_rows, texts_of_rows
from pipeline.probe import Probe

SENTENCES = {
    "en": ["Name five kinds of fruit.", "The train leaves at 7:45 and costs $12.50."],
    "zh": ["列出五种不同的水果。", "火车七点四十五分出发，票价八十元。"],
}
BYTE_PIECE = re.compile(r"^<0x[0-9A-F]{2}>$")


@dataclass(frozen=True)
class Coverage:
    """Shares of all tokens of some texts: unknown ones, and single bytes of characters the vocabulary lacks."""

    tokens: int
    characters: int
    unknown: float
    bytes: float
    example: str  # a text with unknown tokens


def text_does_not_survive(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How much of the data (else of a few English and Chinese sentences) becomes the unknown token or single bytes.
    Why it matters:
        What is unknown to the tokenizer can't be learned nor written; a language in single bytes costs three times the
        length. Data that a tokenizer hardly knows often means that the tokenizer is another model's.
    How it is measured:
        Texts are encoded; unknown and byte tokens are counted as shares of all tokens.
    Known false alarms:
        Without --data an uncovered language is only mentioned: many models are for one language.
    Fix:
        Use the tokenizer the model was trained with; if it is that one, choose a base model that covers the language.
    References:
        https://arxiv.org/abs/2012.15613
    """
    probe = subject.probe
    if probe.problem is not None:
        raise NotMeasured("tokenizer_not_loaded")
    try:
        texts = [t for t in texts_of_rows(subject) if t.strip()]
    except NotMeasured:
        yield from _languages(probe, limits)
        return
    seen = _coverage(probe, texts)
    subject.metrics["data.unknown_token_share"] = round(seen.unknown, 4)
    subject.metrics["data.tokens_per_character"] = round(seen.tokens / max(1, seen.characters), 3)
    params = {"percent": 100 * seen.unknown, "n": seen.tokens, "example": seen.example[:120]}
    evidence = ("--data", seen.example[:300])
    if seen.unknown >= limits["unknown_share_bad"]:
        yield error("data_unknown", evidence, **params)
    elif seen.unknown >= limits["unknown_share"]:
        # accents and emoji in questions are lost without harm; in answers the model learns to write the unknown token
        answers = _coverage(probe, [row.answer for row in data_rows(subject) if row.answer.strip()])
        if answers.unknown >= limits["unknown_share"]:
            yield warning("data_unknown", evidence, **params)
        else:
            yield info("prompts_unknown", evidence, **params)
    elif seen.bytes >= limits["byte_share"]:
        yield info("data_in_bytes", percent=100 * seen.bytes, per=seen.tokens / max(1, seen.characters))
    else:
        yield ok("data_ok", n=seen.tokens, percent=100 * seen.unknown, per=seen.tokens / max(1, seen.characters))


def _languages(probe: Probe, limits: Thresholds) -> Iterator[Observation]:
    seen = {language: _coverage(probe, texts) for language, texts in SENTENCES.items()}
    poor = {k: c for k, c in seen.items() if c.unknown >= limits["unknown_share"] or c.bytes >= limits["byte_share"]}
    for language, found in poor.items():
        yield info("language_not_covered", (SENTENCES[language][0], found.tokens), language=language,
                   percent=100 * found.unknown, bytes=100 * found.bytes)  # fmt: skip
    if not poor:
        yield ok("languages_ok", languages=list(seen), en=seen["en"].tokens / seen["en"].characters,
                 zh=seen["zh"].tokens / seen["zh"].characters)  # fmt: skip


def _coverage(probe: Probe, texts: Sequence[str]) -> Coverage:
    unk = probe.special["unk"][1] if "unk" in probe.special else None
    # unk is also eos in GPT-2 and its kin, whose byte-level pieces know every text.
    counts_unknown = unk is not None and probe.special["unk"][0] != probe.special.get("eos", ("",))[0]
    encoded = probe.encode(texts)
    every = sorted({i for ids in encoded for i in ids})
    pieces = dict(zip(every, probe.tokens(every), strict=True))
    tokens = sum(len(ids) for ids in encoded)
    unknown = [ids.count(unk) if counts_unknown and unk is not None else 0 for ids in encoded]
    single = sum(bool(BYTE_PIECE.match(pieces[i] or "")) for ids in encoded for i in ids)
    worst = max(range(len(texts)), key=lambda n: unknown[n], default=0)
    example = texts[worst] if texts and (unknown[worst] or not sum(unknown)) else ""
    total = max(1, tokens)
    return Coverage(tokens, sum(len(t) for t in texts), sum(unknown) / total, single / total, example)
