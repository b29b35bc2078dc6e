"""Words of the interface, and which language a visitor reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostics.words import LANGUAGES
from pipeline.config_files import load_config


def known(lang: str) -> str:
    """The language itself where its words are here, else `en`."""
    return lang if lang in LANGUAGES else "en"


def words(lang: str) -> Mapping[str, Any]:
    """configs/words/LANG/interface.yaml. An unknown language reads English."""
    return load_config(f"words/{known(lang)}/interface.yaml")


def browser_language(accept_language: str | None) -> str:
    """`zh` where the browser's Accept-Language prefers any Chinese to English, else `en`."""
    ranked = []
    for place, part in enumerate((accept_language or "").lower().split(",")):
        tag, _, quality = part.strip().partition(";q=")
        try:
            ranked.append((-float(quality or 1), place, tag.strip()))
        except ValueError:
            continue
    for _, _, tag in sorted(ranked):
        if tag.split("-")[0] in LANGUAGES:
            return tag.split("-")[0]
    return "en"
