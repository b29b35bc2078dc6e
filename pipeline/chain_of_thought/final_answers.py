"""The final answer of a text that reasons, and whether it is the right one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pipeline.candidates.duplicates import normal_form
from pipeline.candidates.reward_functions import Number, final_answer, numbers_in, same_value
from pipeline.config_files import load_config

Kind = Literal["text", "number", "sql"]

_LOOKED_THROUGH = 100_000  # last characters of a text
_BLOCK = re.compile(r"```[ \t]*(?P<language>[\w+-]*)[^\n`]*\n(?P<content>.*?)(?:\n[ \t]*)?```", re.DOTALL)
_SQL = re.compile(r"\s*(?:--[^\n]*\n\s*)*\(*\s*(?:SELECT|WITH)\b", re.IGNORECASE)
_THINKING = re.compile(r"\A\s*(?:<think>)?(?P<thought>.*?)</think>", re.DOTALL)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){1,500})\}")
_AROUND = " \t\n\r$€£¥￥*`.。!！,，()[]"
# A number as it is written, at its place in a text.
_WRITTEN = re.compile(
    r"[-−+负]?(?:\\[dt]?frac\{\d+\}\{\d+\}|百分之)?(?:[\d０-９.,，/⁄½⅓⅔¼¾⅕⅛]|(?<=\d) (?=\d))*(?:[eE][-+]?\d+)?"
    r"[ ]?[%％万亿千百十零〇一二三四五六七八九两点分之]*"
)
_UNIT = re.compile(r"[^\d\n,;:!?，。；：！？=]{0,24}")
# "(B)", "B.", "B: Paris", "选项 B", "选 B": a letter of a multiple choice.
_CHOICE = re.compile(r"[\s*(（\[【]*(?:(?:option|choice|answer|选项|答案|选)[\s:：]*)?[*(（\[【]*([A-Ja-j])(?![\w'’])[*)）\]】]*\s*(?:[.、:：,，)）。]|$|\n)", re.IGNORECASE)  # fmt: skip  # noqa: E501
_CHOICE_GOLD = re.compile(r"[(（]?([A-J])(?:[)）]|[.、:：]\s|$)")


@dataclass(frozen=True)
class Parts:
    """reasoning: all that stands before the final answer, of `<think>` too where little else does. final: None where
    the text names none. several: it names one before, too."""

    reasoning: str
    final: str | None
    several: bool = False


def kind_of(gold: str) -> Kind:
    """What the right answer is: a query, a number with or without a unit, or a text."""
    named = right_answer(gold, "text")
    if _SQL.match(_unfenced(named)):
        return "sql"
    return "number" if _as_number(named) is not None else "text"


def right_answer(gold: str, kind: Kind) -> str:
    """The final answer in a right answer that may explain itself (`... #### 72`, `\\boxed{72}`, 最终答案：72)."""
    if kind == "sql":
        return _unfenced(gold)
    named = parts_of(gold, kind).final or final_answer(gold)
    return named.strip() if named and named.strip() else gold.strip()


def parts_of(text: str, kind: Kind) -> Parts:
    """Where the reasoning ends and what the final answer is: behind the last marker, else the last ```sql block of a
    query, else the last `\\boxed{}`. Of a marker only what stands on its own line counts, or on the next ones where
    nothing does."""
    text = text[-_LOOKED_THROUGH:]
    thought = ""
    if (thinking := _THINKING.match(text)) is not None:
        thought, text = thinking["thought"].strip(), text[thinking.end() :]
    marks = list(_marker().finditer(text))
    if marks:
        before, behind = text[: marks[-1].start()].rstrip(" \t#*>_-\n"), text[marks[-1].end() :]
        final = _query(behind) if kind == "sql" else _cleaned(behind)
    else:
        block = _last_block(text) if kind == "sql" else None
        boxed = list(_BOXED.finditer(text)) if kind != "sql" else []
        if block is not None:
            before, final = text[: block.start()].rstrip(), block["content"].strip()
        elif boxed:
            box = boxed[-1]
            before, final = f"{text[: box.start()]}{box[1]}{text[box.end() :]}".rstrip(), box[1].strip()
        else:
            before, final = text.strip(), ""
    reasoning = before.strip()
    if thought and (len(reasoning) < len(thought) / 4):  # the answer alone, or a summary, behind the thinking
        reasoning = f"{thought}\n\n{reasoning}".strip()
    return Parts(reasoning, final or None, len(marks) > 1)


def agrees(final: str, gold: str, kind: Kind) -> bool:
    """Whether a final answer is the right one (`right_answer`), for texts and numbers. SQL is compared elsewhere."""
    if normal_form(final) == normal_form(gold):
        return True
    if (letter := _CHOICE_GOLD.match(gold)) is not None and kind == "text":
        chosen = _CHOICE.match(final)
        return chosen is not None and chosen[1].upper() == letter[1]
    wanted = _as_number(gold) if kind == "number" else None
    if wanted is None:
        found = numbers_in(gold) if kind == "number" else []
        return bool(found) and _same_number(final, found[-1], "")
    return _same_number(final, *wanted)


def _same_number(final: str, wanted: Number, unit: str) -> bool:
    """The only number of the final answer; `2 x 36 = 72` says what stands behind the last sign. Another unit than the
    right one is another answer."""
    behind = final.rpartition("=")[2]
    said = behind if numbers_in(behind) else final
    found = numbers_in(said)
    if len({(one.value, one.percent) for one in found}) != 1 or not same_value(found[0], wanted):
        return False
    begins = _as_number(said)
    return begins is None or not unit or not begins[1] or _singular(begins[1]) == _singular(unit)


def _singular(unit: str) -> str:
    return normal_form(unit).removesuffix("s")


def _as_number(text: str) -> tuple[Number, str] | None:
    """A number and the unit behind it, of a text that holds little else; None for any other."""
    text = text.strip(_AROUND)
    found = numbers_in(text)
    if len(found) != 1 or text[: found[0].start].strip(_AROUND) not in ("", "≈", "~"):
        return None
    written = _WRITTEN.match(text, found[0].start)
    unit = text[written.end() if written is not None else found[0].start :].strip(_AROUND)
    return (found[0], unit) if _UNIT.fullmatch(unit) else None


@cache
def _marker() -> re.Pattern[str]:
    words = "|".join(re.escape(word) for word in load_config("chain_of_thought.yaml")["markers"].values())
    ends = r"[ \t*_]{0,8}(?:[:：]|是[:：]?|为[:：]?|\bis\b[:：]?|(?=\n))[ \t*_]{0,8}"
    return re.compile(rf"(?:{words}){ends}", re.IGNORECASE)


def _cleaned(behind: str) -> str:
    """The first line that holds something, or the inside of a block, without marks of emphasis."""
    block = _BLOCK.match(behind.lstrip())
    if block is not None:
        return block["content"].strip()
    line = next((line.strip() for line in behind.splitlines() if line.strip(" \t*_#>`-:：")), "")
    boxed = _BOXED.search(line)
    line = boxed[1] if boxed is not None else line
    line = re.sub(r"^(?:\*\*|__|`|\$+|\\\(|\\\[|\s)+|(?:\*\*|__|`|\$+|\\\)|\\\]|\s)+$", "", line.removesuffix("."))
    return line.removesuffix(".").strip()


def _query(behind: str) -> str:
    block = _BLOCK.search(behind)
    if block is not None:
        return block["content"].strip()
    opened = re.match(r"\s*```[ \t]*\w*[^\n`]*\n", behind)  # a block that was never closed
    rest = behind[opened.end() :] if opened is not None else behind
    return rest.strip().strip("`").strip() if _SQL.match(rest.strip().strip("`")) else ""


def _last_block(text: str) -> Any:
    found = [block for block in _BLOCK.finditer(text) if block["language"].lower() in ("sql", "sqlite", "mysql", "")]
    found = [block for block in found if block["language"] or _SQL.match(block["content"])]
    return found[-1] if found else None


def _unfenced(text: str) -> str:
    block = _last_block(text)
    return block["content"].strip() if block is not None else text.strip()
