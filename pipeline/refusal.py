"""One line, in either language, for what can't be done as it was asked: a wrong argument, a path that leads nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config_files import load_config

MAX_SHOWN = 400  # characters of one name or path inside a line


@dataclass(frozen=True)
class Sentence:
    """An entry of configs/words/LANG/WORDS.yaml with what stands in its places. `str()` is the English one. entry: with
    the section it stands in before it where the file has sections: `skipped/too_large`."""

    entry: str
    params: Mapping[str, Any] = field(default_factory=dict)
    words: str = "refusals"

    def said(self, lang: str) -> str:
        """One line in `lang`, names and paths of the user in it shortened and without control characters."""
        template = load_config(f"words/{lang}/{self.words}.yaml")
        for name in self.entry.split("/"):
            template = template[name]
        return str(template).format(**{name: _shown(value, lang) for name, value in self.params.items()})

    def __str__(self) -> str:
        return self.said("en")


def _shown(value: Any, lang: str) -> str:
    text = value.said(lang) if isinstance(value, Sentence) else str(value)
    if len(text) > MAX_SHOWN:
        text = f"{text[: MAX_SHOWN // 2]}…{text[-MAX_SHOWN // 2 :]}"
    return "".join(c if c.isprintable() or c == "\u3000" else c.encode("unicode_escape").decode() for c in text)


class Refused(Exception):
    """What was asked can't be done. Carries one line; `str()` is the English one."""

    def __init__(self, entry: str, **params: Any) -> None:
        self.sentence = Sentence(entry, params)
        super().__init__(entry)

    def said(self, lang: str) -> str:
        return self.sentence.said(lang)

    def __str__(self) -> str:
        return str(self.sentence)
