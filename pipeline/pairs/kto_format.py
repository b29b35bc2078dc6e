"""KTO's rows: one answer and whether it is wanted.

TRL reads `prompt`, `completion` and `label`, text or turns; LLaMA-Factory reads turns only as `messages` with the
answer at the end. https://huggingface.co/docs/trl/dataset_formats, unpaired preference;
https://github.com/hiyouga/LLaMA-Factory, data/README.md, KTO dataset
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.pairs.format import (
    CannotHold,
    Format,
    Record,
    Written,
    asks_once,
    build,
    rest,
    two_columns_in_turns,
    whole,
    with_system,
)
from pipeline.pairs.llamafactory_formats import alpaca_prompt
from pipeline.pairs.pair import Pair, Side
from pipeline.pairs.turns import NotThisShape, as_side, as_turns, read_side, side_turns

_LABELS: dict[Any, bool] = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
_ANSWERS = ("completion", "response", "output")
_TALKS = ("messages", "conversations")
_NAMES = ("label", "kto_tag")


def _is_kto(record: Record) -> bool:
    labelled = any(_label(record, name) is not None for name in _NAMES)
    answered = any(record.get(name) is not None for name in (*_ANSWERS, *_TALKS))
    return labelled and answered and "chosen" not in record and "rejected" not in record


def _label(record: Record, name: str) -> bool | None:
    value = record.get(name)
    value = value.strip().lower() if isinstance(value, str) else value
    return _LABELS.get(value) if isinstance(value, (bool, int, str)) else None


def _told_by(record: Record) -> tuple[str, dict[str, Any]]:
    label = next(name for name in _NAMES if _label(record, name) is not None)
    answer = next((name for name in (*_TALKS, *_ANSWERS) if record.get(name) is not None), "")
    return "", {"answer": answer, "label": label}


def _read(record: Record) -> Pair:
    name = next((n for n in _NAMES if _label(record, n) is not None), None)
    if name is None:
        raise NotThisShape("label_absent")
    used, second = {name}, ""
    side: Side | None
    for talk in _TALKS:
        if turns := as_turns(record.get(talk)):
            prompt, answer = turns[:-1], turns[-1:]  # the last turn alone is the answer, as LLaMA-Factory takes it
            side = as_side(answer) if answer[0]["role"] != "user" else None
            used.add(talk)
            break
    else:
        column = next((n for n in _ANSWERS if record.get(n) is not None), "")
        side = read_side(record.get(column))
        used.add(column)
        asked = record.get("prompt")
        if asked is None and record.get("instruction") is not None:
            prompt, second = alpaca_prompt(record)
            used |= {"instruction", "input", "history"}
        else:
            prompt = as_turns(asked) or ([{"role": "user", "content": asked}] if isinstance(asked, str) else [])
            used.add("prompt")
    if not prompt:
        raise NotThisShape("prompt_absent")
    if side is None:
        raise NotThisShape("side_absent", "completion")
    wanted = _label(record, name)
    pair = build(record, prompt, side if wanted else None, None if wanted else side, used)
    if second:
        pair.extra["input"] = second
    return pair


def _answers(pair: Pair) -> list[tuple[Side, bool]]:
    """The sides that are there, and whether they are wanted. Raises CannotHold."""
    found = [(side, wanted) for side, wanted in ((pair.chosen, True), (pair.rejected, False)) if side is not None]
    if not found:
        raise CannotHold("answer_absent")
    return found


def _rows(pair: Pair, records: list[dict[str, Any]]) -> Written:
    found = [rest(pair, record, system=False) for record in records]
    return Written([record for one in found for record in one.records], found[0].dropped)


def _write(pair: Pair) -> Written:
    """Two rows of a pair, one of a pair with one side; text where everything is text, else turns."""
    answers = _answers(pair)
    text = pair.system is None and asks_once(pair) and all(isinstance(side, str) for side, _ in answers)
    prompt = pair.prompt[0]["content"] if text else with_system(pair)
    completions = [(side if text else side_turns(side), wanted) for side, wanted in answers]
    written = _rows(pair, [{"prompt": prompt, "completion": one, "label": wanted} for one, wanted in completions])
    return replace(written, text=text)


def _write_talk(pair: Pair) -> Written:
    """The same rows as LLaMA-Factory reads them, which tells an unwanted answer by its having no wanted one: a wanted
    answer without a text would be learned as unwanted."""
    answers = _answers(pair)
    talks = [(whole(with_system(pair), side), wanted) for side, wanted in answers]
    if any(not isinstance(side, str) and len(side) != 1 for side, _ in answers):
        raise CannotHold("answer_of_several_turns")
    if any(wanted and not talk[-1]["content"] for talk, wanted in talks):
        raise CannotHold("wanted_answer_empty")
    return _rows(pair, [{"messages": talk, "label": wanted} for talk, wanted in talks])


def _is_talk(record: Record) -> bool:
    return _is_kto(record) and any(record.get(name) is not None for name in _TALKS)


KTO = Format("kto", _is_kto, _read, _write, "one-sided", _told_by, two_columns_in_turns)
KTO_TALK = Format("llamafactory-kto", _is_talk, _read, _write_talk, "one-sided", _told_by)
