"""The three layouts TRL takes for preference data: text, conversational, and without a prompt of their own.

https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

from pipeline.pairs.format import (
    Format,
    Record,
    Written,
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
    if not isinstance(record.get("prompt"), str):
        raise NotThisShape("prompt_is_no_text")
    chosen, rejected = sides(record)
    turns = [{"role": "user", "content": record["prompt"]}]
    return build(record, turns, chosen, rejected, ("prompt", "chosen", "rejected"))


def _write_text(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    return rest(pair, {"prompt": one_question(pair), "chosen": plain(chosen), "rejected": plain(rejected)})


def _is_conversational(record: Record) -> bool:
    return all(bool(as_turns(record.get(k))) for k in ("prompt", "chosen", "rejected"))


def _read_conversational(record: Record) -> Pair:
    turns = as_turns(record.get("prompt"))
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
TRL_CONVERSATIONAL = Format("trl-conversational", _is_conversational, _read_conversational, _write_conversational)
TRL_IMPLICIT = Format("trl-implicit", _is_implicit, _read_implicit, _write_implicit)
