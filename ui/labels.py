"""Labels of native components in both languages: the browser's at first paint, the chosen one after that."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.interface_words import words


class Labels:
    """Remembers which words stand on which component.

    `labels.said(gr.Textbox, label="path")` makes the component; `labels.components` and `labels.updates(lang)` are
    the outputs and values of a handler that changes the language. A property given as a list of entries becomes
    choices: `choices=["depth_auto", ...]` with the part behind the last underscore as value.
    """

    def __init__(self) -> None:
        self._key = gr.I18n(en={})  # only makes keys; `translations` holds the words
        self._said: list[tuple[Any, dict[str, str | list[str]]]] = []

    def said(self, make: Any, said: dict[str, str | list[str]], **rest: Any) -> Any:
        component = make(**{prop: self._first(entry) for prop, entry in said.items()}, **rest)
        self._said.append((component, said))
        return component

    @property
    def components(self) -> list[Any]:
        return [component for component, _ in self._said]

    def updates(self, lang: str) -> list[Any]:
        table = words(lang)

        def one(entry: str | list[str]) -> Any:
            return [(table[e], e.rsplit("_", 1)[1]) for e in entry] if isinstance(entry, list) else table[entry]

        return [gr.update(**{prop: one(entry) for prop, entry in said.items()}) for _, said in self._said]

    def translations(self) -> gr.I18n:
        """The words used, for `launch(i18n=...)`. A browser that says plain `zh` gets them from the load handler."""
        entries = [entry for _, said in self._said for entry in said.values()]
        used = {e for entry in entries for e in ([entry] if isinstance(entry, str) else entry)}
        english, chinese = ({e: str(words(lang)[e]) for e in sorted(used)} for lang in ("en", "zh"))
        return gr.I18n(en=english, **{"zh-CN": chinese, "zh-TW": chinese})

    def _first(self, entry: str | list[str]) -> Any:
        return [(self._key(e), e.rsplit("_", 1)[1]) for e in entry] if isinstance(entry, list) else self._key(entry)
