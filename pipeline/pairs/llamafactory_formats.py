"""LLaMA-Factory's two ranking layouts: alpaca's columns with an earlier `history`, and ShareGPT's turns.

https://github.com/hiyouga/LLaMA-Factory, data/README.md
"""

from __future__ import annotations

from typing import Any

from pipeline.pairs.format import CannotHold, Format, Record, Written, asked_text, both, build, plain, rest, sides
from pipeline.pairs.pair import Message, Pair
from pipeline.pairs.turns import NotThisShape, as_turns, side_turns, to_sharegpt

_ALPACA = ("instruction", "input", "chosen", "rejected", "history")


def _is_alpaca(record: Record) -> bool:
    return "instruction" in record and "chosen" in record and "rejected" in record


def _read_alpaca(record: Record) -> Pair:
    turns, second = alpaca_prompt(record)
    chosen, rejected = sides(record)
    pair = build(record, turns, chosen, rejected, _ALPACA)
    if second:
        pair.extra["input"] = second
    return pair


def alpaca_prompt(record: Record) -> tuple[list[Message], str]:
    """The turns that alpaca's columns ask with, and the `input` that its last turn ends with. Raises NotThisShape."""
    asked = asked_text(record, "instruction")
    second = record.get("input")
    if second is not None and not isinstance(second, str):
        raise NotThisShape("input_is_no_text")
    turns: list[Message] = []
    history = record.get("history") or None
    if history is not None and not isinstance(history, list):
        raise NotThisShape("history_is_no_pairs")
    for earlier in history or ():
        if not isinstance(earlier, (list, tuple)) or len(earlier) != 2:
            raise NotThisShape("history_is_no_pairs")
        turns += [{"role": "user", "content": earlier[0]}, {"role": "assistant", "content": earlier[1]}]
    # LLaMA-Factory joins both with one line end; the two texts are kept apart to be written again as they were.
    turns.append({"role": "user", "content": "\n".join(text for text in (asked, second) if text)})
    return turns, second if second and asked else ""


def _write_alpaca(pair: Pair) -> Written:
    chosen, rejected = both(pair)
    record, placed = alpaca_record(pair, {"chosen": plain(chosen), "rejected": plain(rejected)})
    return rest(pair, record, placed=placed)


def alpaca_record(pair: Pair, answers: dict[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The prompt in alpaca's columns with the answers behind it, and the columns of `extra` that it holds. Raises
    CannotHold."""
    texts = [turn["content"] for turn in pair.prompt]
    roles = [turn["role"] for turn in pair.prompt]
    if roles != [*["user", "assistant"] * (len(roles) // 2), "user"] or not all(isinstance(t, str) for t in texts):
        raise CannotHold("prompt_of_several_turns")
    asked, second = texts[-1], ""
    held = pair.extra.get("input")
    if isinstance(held, str) and held and asked.endswith(f"\n{held}"):
        asked, second = asked[: -len(held) - 1], held
    record: dict[str, Any] = {"instruction": asked, "input": second, **answers}
    if len(texts) > 1:
        record["history"] = [[texts[n], texts[n + 1]] for n in range(0, len(texts) - 1, 2)]
    return record, ("input",) if second else ()


def _is_sharegpt(record: Record) -> bool:
    return "chosen" in record and "rejected" in record and bool(as_turns(record.get("conversations")))


def _read_sharegpt(record: Record) -> Pair:
    turns = as_turns(record.get("conversations"))
    if not turns:
        raise NotThisShape("prompt_is_no_conversation")
    chosen, rejected = sides(record)
    return build(record, turns, chosen, rejected, ("conversations", "chosen", "rejected"))


def _write_sharegpt(pair: Pair) -> Written:
    answers = []
    for side in both(pair):
        turns = to_sharegpt(side_turns(side))
        if len(turns) != 1:
            raise CannotHold("answer_of_several_turns")
        answers.append(turns[0])
    return rest(pair, {"conversations": to_sharegpt(pair.prompt), "chosen": answers[0], "rejected": answers[1]})


ALPACA = Format("llamafactory-alpaca", _is_alpaca, _read_alpaca, _write_alpaca)
SHAREGPT = Format("llamafactory-sharegpt", _is_sharegpt, _read_sharegpt, _write_sharegpt)
