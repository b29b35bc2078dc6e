"""KTO's rows: one answer and whether it is wanted.

TRL writes `completion` and `label`, LLaMA-Factory `messages` and `kto_tag` or `label`.
"""

from __future__ import annotations

from typing import Any

from pipeline.pairs.format import Format, Record, Written, build, rest, with_system
from pipeline.pairs.llamafactory_formats import alpaca_prompt
from pipeline.pairs.pair import Pair, Side
from pipeline.pairs.turns import NotThisShape, answer_apart, as_side, as_turns, read_side, side_turns

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
            prompt, answer = answer_apart(turns)
            side = as_side(answer) if answer else None
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


def _write(pair: Pair) -> Written:
    """Two rows of a pair, one of a pair with one side; text where everything is text."""
    written = Written([])
    text = (
        pair.system is None
        and [turn["role"] for turn in pair.prompt] == ["user"]
        and isinstance(pair.prompt[0]["content"], str)
        and not isinstance(pair.chosen, list)
        and not isinstance(pair.rejected, list)
    )
    prompt: Any = pair.prompt[0]["content"] if text else with_system(pair)
    for side, wanted in ((pair.chosen, True), (pair.rejected, False)):
        if side is None:
            continue
        record = {"prompt": prompt, "completion": side if text else side_turns(side), "label": wanted}
        one = rest(pair, record, system=False)
        written.records += one.records
        written.dropped = one.dropped
    return written


KTO = Format("kto", _is_kto, _read, _write, "one-sided", _told_by)
