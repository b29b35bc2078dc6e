"""Rows that fit the demo's models, for every method: `demo:NAME` in the place of a data file.

The supervised rows are the demo's own. The others are made from its questions in less than a second, without a model,
and lie beside its models in a folder whose name changes with what makes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from pipeline.config_files import CONFIGS, load_config
from pipeline.demo.build import DemoNotBuilt, build_demo, default_root
from pipeline.demo.demo_names import PREFIX
from pipeline.demo.instructions import (
    KINDS,
    OPPOSITES,
    Question,
    all_questions,
    is_right,
    right_answers,
    split,
    write_answer,
)
from pipeline.refusal import Refused
from pipeline.training import demo_text2sql

SUPERVISED = ("sft", "held_out")  # files of the demo itself
DATABASE = "shop.sqlite"
_SEED = 31
_REPEATS = (4, 10)  # times that a loop says its piece again
_EXACT = ("opposite", "translate", "sum", "kind")  # tasks with one right word

Row = dict[str, Any]


def demo_data_names() -> list[str]:
    return [*SUPERVISED, *_MAKERS]


def demo_data(named: str, progress: Callable[[str], None] | None = None) -> Path:
    """The file of `demo:NAME`, made where it isn't there yet. Raises Refused for an unknown name or where it can't be
    written."""
    name = named.removeprefix(PREFIX)
    if name not in demo_data_names():
        raise Refused("demo_unknown", given=named, names=", ".join(PREFIX + n for n in demo_data_names()))
    try:
        root = build_demo(only=["data"], progress=progress).root
        if name in SUPERVISED:
            return root / "data" / f"{name}.jsonl"
        return _folder(root) / f"{name}.jsonl"
    except DemoNotBuilt as failed:
        raise Refused("demo_not_built", why=failed) from None
    except OSError as failed:
        raise Refused("demo_not_built", why=failed.strerror or failed) from None


def demo_database(progress: Callable[[str], None] | None = None) -> Path:
    """The SQLite file that the rows of `demo:text2sql` ask about. Raises Refused."""
    return demo_data(f"{PREFIX}text2sql", progress).with_name(DATABASE)


def _folder(root: Path) -> Path:
    """The folder of the made rows; it appears by one rename. Raises OSError."""
    folder = root / f"training_data-{_fingerprint()}"
    if folder.is_dir():
        return folder
    making = root / f".making-{os.getpid()}-{folder.name}"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        for name, make in _MAKERS.items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in make(Random(f"{_SEED} {name}")))
            (making / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        demo_text2sql.write_database(making / DATABASE)
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was not faster
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


@cache
def _fingerprint() -> str:
    digest = hashlib.sha256(default_root().name.encode())
    for path in (Path(__file__), Path(demo_text2sql.__file__), CONFIGS / "demo.yaml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


# --- wrong answers -----------------------------------------------------------------------------------------------


def wrong_answer(question: Question, rng: Random) -> str:
    """An answer in the form of a right one, on the topic, and wrong."""
    for _ in range(100):
        answer = _wrong(question, rng)
        if not is_right(question, answer):
            return answer
    raise ValueError(f"no wrong answer to {question.prompt!r}")  # the tables hold only one word


def _wrong(question: Question, rng: Random) -> str:
    zh, task = question.language == "zh", question.task
    if task == "list":
        return _wrong_list(question, rng)
    right = rng.choice(right_answers(question))
    wanted = question.wanted[0]
    if task == "sum":
        a, b = map(int, question.given)
        near = [n for n in (a + b - 2, a + b - 1, a + b + 1, a + b + 2, abs(a - b)) if n > 0]
        other = str(rng.choice(near))
        return _last_replaced(right, wanted, other)
    if task == "sentence":  # about another word of the kind, which the question didn't name
        return right.replace(wanted, rng.choice([w for w in _members(question.kind, zh) if w != wanted]))
    if task == "kind":
        others = [one[0] if zh else one[1] for one in KINDS.values()]
    elif task == "opposite":
        others = [w for row in OPPOSITES for w in (row[:2] if zh else row[2:])]
    else:  # the other language's words of the kind, and the word itself, untranslated
        others = [*_members(question.kind, not zh), question.given[0]]
    return _last_replaced(right, wanted, rng.choice([w for w in others if w != wanted]))


def _last_replaced(text: str, old: str, new: str) -> str:
    at = text.rindex(old)
    return text[:at] + new + text[at + len(old) :]


def _members(kind: str, zh: bool) -> list[str]:
    return [pair[0] if zh else pair[1] for pair in KINDS[kind][3]]


def _wrong_list(question: Question, rng: Random) -> str:
    """Too short, too long, one item twice, or one item of another kind."""
    items = rng.sample(question.wanted, question.count)
    rest = [w for w in question.wanted if w not in items]
    way = rng.choice(("short", "long", "twice", "other", "other"))
    if way == "short":
        items.pop()
    elif way == "long":
        items.append(rng.choice(rest))
    elif way == "twice":
        items[-1] = items[0]
    else:
        kind = rng.choice([k for k in KINDS if k != question.kind])
        items[rng.randrange(len(items))] = rng.choice(_members(kind, question.language == "zh"))
    return ("、" if question.language == "zh" else ", ").join(items)


# --- data sets ---------------------------------------------------------------------------------------------------


@cache
def demo_questions() -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """(trained on, held out), as the demo's models were."""
    trained, held_out = split(all_questions(), load_config("demo.yaml")["data"]["held_out_share"])
    return tuple(trained), tuple(held_out)


def _pairs_of(questions: tuple[Question, ...], rng: Random, copies: int) -> Iterator[Row]:
    rows = [
        {"prompt": one.prompt, "chosen": write_answer(one, rng), "rejected": wrong_answer(one, rng)}
        for one in questions
        for _ in range(copies)
    ]
    rng.shuffle(rows)
    yield from rows


def _pairs(rng: Random) -> Iterator[Row]:
    yield from _pairs_of(demo_questions()[0], rng, 2)


def _reward_pairs(rng: Random) -> Iterator[Row]:
    """More wrong answers to each question: a reward model has to learn what makes an answer wrong, not which are."""
    yield from _pairs_of(demo_questions()[0], rng, 12)


def _pairs_held_out(rng: Random) -> Iterator[Row]:
    yield from _pairs_of(demo_questions()[1], rng, 1)


def _repetition(rng: Random) -> Iterator[Row]:
    """What a model does that can't stop: its answer, or the last piece of it, over and over."""
    for row in _pairs_of(demo_questions()[0], rng, 1):
        answer = str(row["chosen"])
        zh = any(c > "⺀" for c in answer)
        comma = "、" if zh else ", "
        times = rng.randint(*_REPEATS)
        if comma in answer and rng.random() < 0.5:
            row["rejected"] = answer + (comma + answer.rsplit(comma, 1)[1]) * times
        else:
            row["rejected"] = ("" if zh else " ").join([answer] * times)
        yield row


def _kto(rng: Random) -> Iterator[Row]:
    """One answer for each question, right or wrong, not both."""
    rows = []
    for one in demo_questions()[0]:
        for _ in range(2):
            label = rng.random() < 0.5
            answer = write_answer(one, rng) if label else wrong_answer(one, rng)
            rows.append({"prompt": one.prompt, "completion": answer, "label": label})
    rng.shuffle(rows)
    yield from rows


def _verifiable(rng: Random) -> Iterator[Row]:
    """Questions with one right word. The demo's models also answer in whole sentences, which is not that word: answers
    to one prompt differ in their reward."""
    rows = [
        {"prompt": one.prompt, "answer": right_answers(one)[0]} for one in demo_questions()[0] if one.task in _EXACT
    ]
    rng.shuffle(rows)
    yield from rows


_MAKERS: Mapping[str, Callable[[Random], Iterator[Row]]] = {
    "pairs": _pairs, "pairs_held_out": _pairs_held_out, "reward_pairs": _reward_pairs, "repetition": _repetition,
    "kto": _kto, "verifiable": _verifiable, "text2sql": demo_text2sql.rows,
}  # fmt: skip
