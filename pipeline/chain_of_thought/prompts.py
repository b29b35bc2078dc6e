"""The question as it is put to a model that is to reason before it answers, in the question's own language."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pipeline.candidates.candidate import SourceRow
from pipeline.chain_of_thought.final_answers import Kind, kind_of, right_answer
from pipeline.config_files import load_config
from pipeline.pairs.pair import content_text
from pipeline.script_of_text import script_counts

CONFIG = "chain_of_thought.yaml"
Lang = Literal["en", "zh"]


def language(row: SourceRow) -> Lang:
    """The language of the last turn."""
    counts = script_counts(row.question)
    han = 2 * counts["han"]
    letters = han + sum(count for script, count in counts.items() if script != "han")
    return "zh" if letters and han >= load_config(CONFIG)["chinese_share"] * letters else "en"


def marker(lang: Lang) -> str:
    """`Final answer:` or `最终答案：`."""
    return f"{load_config(CONFIG)['markers'][lang]}{'：' if lang == 'zh' else ':'}"


def asking(row: SourceRow, *, answers: Kind | Literal["auto"] = "auto", hint: bool = False) -> SourceRow:
    """The same row with what asks for reasoning behind its last turn. answers: the kind of all right answers, `auto`
    tells it row by row. hint: the right answer is shown, to be explained (https://arxiv.org/abs/2203.14465, section
    3.3, "rationalization")."""
    lang = language(row)
    texts = load_config(CONFIG)["instructions"][lang]
    gold = row.gold or ""
    kind = kind_of(gold) if answers == "auto" else answers
    behind = str(texts["sql" if kind == "sql" else "text"]).replace("{marker}", marker(lang))
    if hint:
        shown = right_answer(gold, kind)
        behind = f"{str(texts['hint']).replace('{answer}', shown)}\n\n{behind}"
    *before, last = row.pair.prompt
    content: Any = last.get("content")
    if isinstance(content, list) and any(not isinstance(part, dict) or "text" not in part for part in content):
        asked: Any = [*content, {"type": "text", "text": f"\n\n{behind}"}]
    else:
        asked = f"{content_text(content).rstrip()}\n\n{behind}"
    return replace(row, pair=replace(row.pair, prompt=[*before, {**last, "content": asked}]))
