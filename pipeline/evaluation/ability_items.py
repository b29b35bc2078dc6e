"""Questions by ability: the built-in ones of configs/abilities/, and those of a file of one's own.

An item with options is answered by the likelihood of each, so the order of the options says nothing; one without is
answered in words and checked as a replay checks a case. Rows of a file: question, options and answer (`options` a list,
an object of `text` and `label`, a cell that holds a JSON list or has | between them, or columns A, B, C, D), or
question and answer. The answer is an option's text, its letter, its label or its place from 0.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import SourceRow
from pipeline.config_files import load_config
from pipeline.evaluation.replay_cases import ReplayCase, read_cases
from pipeline.pairs.pair import Message, Pair
from pipeline.refusal import Refused

LANGS = ("en", "zh")
BUILT_IN = "built_in"
_LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Item:
    """One question. turns: as models are asked. options: empty where the answer is written. right: place of the right
    option, -1 without options. answer: what is right. source: built_in, or the file. case: how a written answer is
    checked."""

    number: int
    ability: str
    lang: str
    source: str
    turns: tuple[Message, ...]
    options: tuple[str, ...]
    right: int
    answer: str
    system: str | None = None
    case: ReplayCase | None = None

    @property
    def question(self) -> str:
        return str(self.turns[-1].get("content", ""))

    @property
    def chance(self) -> float:
        """Share right by guessing."""
        return 1 / len(self.options) if self.options else 0.0

    def row(self, question: str | None = None) -> SourceRow:
        """As a model is asked; without what is right, which would be looked at for the prompt format."""
        last = {**self.turns[-1], "content": question} if question is not None else self.turns[-1]
        return SourceRow(self.number, Pair([*self.turns[:-1], last], None, None, system=self.system))


@dataclass(frozen=True)
class FileItems:
    """left_out: rows that are no item, by reason: those of read_cases, `no_right_answer` (none given, or none of the
    options), `cannot_check` (a sentence or longer, which has many right wordings)."""

    items: tuple[Item, ...]
    left_out: Mapping[str, int]


def ability_names() -> tuple[str, ...]:
    """Of the built-in set, in its order."""
    return tuple(name for name, held in load_config("abilities/en.yaml").items() if isinstance(held, list))


def built_in_items(names: Sequence[str] = (), *, most: int | None = None) -> list[Item]:
    """All of them, or of the abilities named; most: of each. Raises Refused for a name that is none."""
    known = ability_names()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise Refused("ability_unknown", value=name, near=near, all=", ".join(known))
    found: list[Item] = []
    for lang in LANGS:
        held = load_config(f"abilities/{lang}.yaml")
        for name in known:
            if names and name not in names:
                continue
            for question, right, *wrong in _asked(held, name)[:most]:
                turns = ({"role": "user", "content": question},)
                # the right one isn't always first, so that a tie is no gift
                place = len(found) % (len(wrong) + 1)
                options = (*wrong[:place], right, *wrong[place:])
                found.append(Item(len(found), name, lang, BUILT_IN, turns, options, place, right))
    return found


def _asked(held: Mapping[str, Any], name: str) -> list[list[str]]:
    found: list[list[str]] = []
    for entry in held[name]:
        if isinstance(entry, Mapping):
            for question, *answers in entry["ask"]:
                text = str(held["passage"]).format(passage=entry["passage"], question=question)
                found.append([text, *answers])
        else:
            found.append(list(entry))
    return found


def plain_question(item: Item) -> str:
    """For a model without a chat template, which goes on with a text."""
    lang = item.lang if item.lang in LANGS else ("zh" if _is_chinese(item.question) else "en")
    return str(load_config(f"abilities/{lang}.yaml")["plain"]).format(question=item.question)


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)


# --- a file ------------------------------------------------------------------------------------------------------


def read_items(path: Path, *, first: int = 0, most: int | None = None, option: str = "--items") -> FileItems:
    """Of a file that read_cases reads; `category` names the ability, else the file does. first: number of the first
    item; most: of each ability. Raises Refused where nothing in it can be asked and checked."""
    from pipeline.evaluation.replay_judging import CaseJudge

    read = read_cases(path, option=option)
    left_out, held = Counter(read.left_out), Counter[tuple[str, str]]()
    judge, found = CaseJudge(), list[Item]()
    for case in read.cases:
        item = _item(case, judge, first + len(found), path)
        if isinstance(item, str):
            left_out[item] += 1
            continue
        held[item.ability, item.lang] += 1
        if most is None or held[item.ability, item.lang] <= most:
            found.append(item)
    if not found:
        raise Refused("items_none", path=path, why=", ".join(f"{why} {n}" for why, n in left_out.most_common(3)))
    return FileItems(tuple(found), dict(left_out))


def _item(case: ReplayCase, judge: Any, number: int, path: Path) -> Item | str:
    """Or why the row is none."""
    from pipeline.evaluation.replay_judging import is_short

    pair = case.row.pair
    extra = {str(name).strip().casefold(): value for name, value in pair.extra.items()}
    names = load_config("evaluation.yaml")["abilities"]["columns"]
    options, labels = _options(extra, names["options"])
    answer = case.answers[0] if case.answers else next(
        (str(extra[name]) for name in names["answer"] if extra.get(name) not in (None, "")), "")  # fmt: skip
    lang = str(next((extra[name] for name in names["lang"] if extra.get(name)), "")).strip().casefold()[:12]
    ability = case.category or path.name.split(".")[0]
    if options:
        right = _right(answer, options, labels)
        if right is None:
            return "no_right_answer"
        return Item(number, ability, lang, str(path), tuple(pair.prompt), options, right, options[right], pair.system)
    if not answer:
        return "no_right_answer"
    if judge.check_of(case) == "repetition":
        if not any(map(is_short, case.answers)):
            return "cannot_check"
        case = replace(case, check="exact")  # some of its wordings are short, so they all are wordings of one answer
    return Item(number, ability, lang, str(path), tuple(pair.prompt), (), -1, answer, pair.system, case)


def _options(extra: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Their texts and labels; empty where there are fewer than two different ones."""
    value = next((extra[name] for name in names if extra.get(name) not in (None, "", [])), None)
    labels: Sequence[Any] = ()
    if isinstance(value, str):
        value = _cell(value)
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), Sequence) and not isinstance(value.get("text"), str):
            value, labels = value["text"], value.get("label") or ()
        else:
            labels, value = list(value), list(value.values())
    if value is None:
        pairs = [(letter, extra[letter.casefold()]) for letter in _LETTERS
                 if extra.get(letter.casefold()) not in (None, "")]  # fmt: skip
        labels, value = [letter for letter, _ in pairs], [text for _, text in pairs]
    if not isinstance(value, Sequence):
        return (), ()
    texts = tuple(str(one).strip() for one in value if isinstance(one, (str, int, float)))
    if len(texts) != len(value) or len(set(texts)) != len(texts) or len(texts) < 2 or "" in texts:
        return (), ()
    return texts, tuple(str(one) for one in labels) if len(labels) == len(texts) else ()


def _cell(text: str) -> Any:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text.split("|") if "|" in text else text.splitlines()


def _right(answer: str, options: Sequence[str], labels: Sequence[str]) -> int | None:
    said = answer.strip()
    if said in options:
        return options.index(said)
    if said in labels:
        return labels.index(said)
    letter = said.strip("().（）、 ").upper()
    if len(letter) == 1 and letter in _LETTERS[: len(options)]:
        return _LETTERS.index(letter)
    return int(said) if said.isdecimal() and int(said) < len(options) else None
