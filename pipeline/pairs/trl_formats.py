"""The three layouts TRL takes for preference data: text, conversational, and without a prompt of their own.

https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

from typing import Any

from pipeline.pairs.format import (
    Format,
    Record,
    Written,
    asked_text,
    both,
    build,
    one_question,
    plain,
    rest,
    sides,
    whole,
    with_system,
)
from pipeline.pairs.pair import Pair
from pipeline.pairs.turns import NotThisShape, as_side, as_turns, common_start, side_turns


def _is_text(record: Record) -> bool:
    return all(isinstance(record.get(k), str) for k in ("prompt", "chosen", "rejected"))


def _read_text(record: Record) -> Pair:
    turns = [{"role": "user", "content": asked_text(record, "prompt")}]
    chosen, rejected = sides(record)
    return build(record, turns, chosen, rejected, ("prompt", "chosen", "rejected"))


def _write_text(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    return rest(pair, {"prompt": one_question(pair), "chosen": plain(chosen), "rejected": plain(rejected)})


def _is_conversational(record: Record) -> bool:
    sides = [record.get("chosen"), record.get("rejected")]
    if as_turns(record.get("prompt")):
        return all(isinstance(side, str) or bool(as_turns(side)) for side in sides)
    # what the sides answer stands apart as text: neither of the layouts that TRL documents, but seen
    answers = [as_turns(side) for side in sides]
    return isinstance(record.get("prompt"), str) and all(turns and turns[0]["role"] != "user" for turns in answers)


def _told_by(record: Record) -> tuple[str, dict[str, Any]]:
    if isinstance(record["prompt"], str) and not as_turns(record["prompt"]):
        return "text_prompt", {}
    texts = [name for name in ("chosen", "rejected") if not as_turns(record[name])]
    return ("text_answer", {"names": ", ".join(texts)}) if texts else ("", {})


def _read_conversational(record: Record) -> Pair:
    asked = record.get("prompt")
    turns = as_turns(asked) or ([{"role": "user", "content": asked}] if isinstance(asked, str) else None)
    if not turns:
        raise NotThisShape("prompt_is_no_conversation")
    chosen, rejected = sides(record)
    return build(record, turns, chosen, rejected, ("prompt", "chosen", "rejected"))


def _write_conversational(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    record = {"prompt": with_system(pair), "chosen": side_turns(chosen), "rejected": side_turns(rejected)}
    return rest(pair, record, system=False)


def _is_implicit(record: Record) -> bool:
    return "prompt" not in record and all(len(as_turns(record.get(k)) or ()) > 1 for k in ("chosen", "rejected"))


def _read_implicit(record: Record) -> Pair:
    chosen, rejected = as_turns(record.get("chosen")), as_turns(record.get("rejected"))
    if not chosen or not rejected:
        raise NotThisShape("side_is_no_conversation")
    same = common_start(chosen, rejected)
    if not same:
        raise NotThisShape("nothing_in_common")
    return build(record, chosen[:same], as_side(chosen[same:]), as_side(rejected[same:]), ("chosen", "rejected"))


def _write_implicit(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    before = with_system(pair)
    return rest(pair, {"chosen": whole(before, chosen), "rejected": whole(before, rejected)}, system=False)


TRL = Format("trl", _is_text, _read_text, _write_text)
TRL_CONVERSATIONAL = Format(
    "trl-conversational", _is_conversational, _read_conversational, _write_conversational, told_by=_told_by
)
TRL_IMPLICIT = Format("trl-implicit", _is_implicit, _read_implicit, _write_implicit)
