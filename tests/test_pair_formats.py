"""Every format of preference data: known by its content, read into one pair, and written back without loss."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pipeline.pairs.all_formats import FORMATS, format_of, under_own_names
from pipeline.pairs.format import CannotHold
from pipeline.pairs.pair import Pair, text_of
from pipeline.pairs.rated_formats import read_pku
from pipeline.pairs.turns import NotThisShape

U = {"role": "user", "content": "为什么？"}
A = {"role": "assistant", "content": "因为。"}
B = {"role": "assistant", "content": "不知道。"}
ONE = Pair([U], "因为。", "不知道。")
TALK = [U, A, {"role": "user", "content": "真的吗？"}]
SHAREGPT = [{"from": "human", "value": "为什么？"}]
TRANSCRIPT = "\n\nHuman: 为什么？\n\nAssistant: "

RECORDS: list[tuple[str, dict[str, Any], Pair]] = [
    ("trl", {"prompt": "为什么？", "chosen": "因为。", "rejected": "不知道。"}, ONE),
    ("trl", {"prompt": "为什么？", "chosen": "因为。", "rejected": ""}, replace(ONE, rejected="")),
    ("trl-conversational", {"prompt": [U], "chosen": [A], "rejected": [B]}, ONE),
    (
        "trl-conversational",
        {"prompt": [{"role": "system", "content": "简短"}, U], "chosen": [A], "rejected": [B]},
        replace(ONE, system="简短"),
    ),
    ("trl-implicit", {"chosen": [U, A], "rejected": [U, B]}, ONE),
    ("llamafactory-alpaca", {"instruction": "为什么？", "input": "", "chosen": "因为。", "rejected": "不知道。"}, ONE),
    (
        "llamafactory-alpaca",
        {"instruction": "真的吗？", "chosen": "a", "rejected": "b", "history": [["为什么？", "因为。"]], "system": "s"},
        Pair(TALK, "a", "b", "s"),
    ),
    (
        "llamafactory-sharegpt",
        {
            "conversations": SHAREGPT,
            "chosen": {"from": "gpt", "value": "因为。"},
            "rejected": {"from": "gpt", "value": "不知道。"},
        },
        ONE,
    ),
    ("llamafactory-sharegpt", {"conversations": SHAREGPT, "chosen": "因为。", "rejected": "不知道。"}, ONE),
    ("kto", {"prompt": "为什么？", "completion": "因为。", "label": True}, replace(ONE, rejected=None)),
    ("kto", {"messages": [U, B], "label": False}, replace(ONE, chosen=None)),
    ("kto", {"instruction": "为什么？", "output": "不知道。", "kto_tag": "false"}, replace(ONE, chosen=None)),
    ("hh", {"chosen": f"{TRANSCRIPT}因为。", "rejected": f"{TRANSCRIPT}不知道。"}, ONE),
    (
        "ultrafeedback",
        {
            "prompt": "为什么？",
            "prompt_id": "7f",
            "chosen": [U, A],
            "rejected": [U, B],
            "messages": [U, A],
            "score_chosen": 8.5,
            "score_rejected": 3,
        },
        replace(ONE, id="7f", score_chosen=8.5, score_rejected=3.0),
    ),
    (
        "pku-saferlhf",
        {"prompt": "为什么？", "response_0": "因为。", "response_1": "不知道。", "better_response_id": 0},
        ONE,
    ),
    (
        "distilabel",
        {"prompt": "为什么？", "chosen": [U, A], "rejected": [U, B], "chosen_rating": 5.0, "rejected_rating": 1.0},
        replace(ONE, score_chosen=5.0, score_rejected=1.0),
    ),
    (
        "distilabel",
        {"instruction": "为什么？", "generations": ["不知道。", "因为。"], "ratings": [1, 5]},
        replace(ONE, score_chosen=5.0, score_rejected=1.0),
    ),
    (
        "argilla",
        {
            "instruction": "为什么？",
            "generations-0": "因为。",
            "generations-0-rating": 4,
            "generations-1": "不知道。",
            "generations-1-rating": 2,
        },
        replace(ONE, score_chosen=4.0, score_rejected=2.0),
    ),
    ("ms-swift", {"messages": [U, A], "rejected_response": "不知道。"}, ONE),
    ("ms-swift", {"messages": [U, A], "rejected_messages": [U, B]}, ONE),
    ("openai", {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [B]}, ONE),
]


@pytest.mark.parametrize(("name", "record", "pair"), RECORDS)
def test_known_and_read(name: str, record: dict[str, Any], pair: Pair) -> None:
    found = format_of(record)
    assert found is not None and (found[0].name, found[1]) == (name, {})
    assert FORMATS[name].read(record) == pair


PAIRS = {
    "one question": ONE,
    "system": replace(ONE, system="简短"),
    "talk": Pair(TALK, "a", "b"),
    "scored": replace(ONE, id="x-1", score_chosen=9.0, score_rejected=0.5),
    "empty side": replace(ONE, rejected=""),
    "spaces": Pair([{"role": "user", "content": "  a\n"}], "\n\n b ", "c\r\n"),
    "own columns": replace(ONE, extra={"topic": "数学", "tags": ["a", "b"], "weight": 0.5}),
    "tools": Pair(
        [U, {"role": "tool_call", "content": '{"name": "f"}'}, {"role": "tool", "content": "7"}], "因为。", "不知道。"
    ),
    "answer of several turns": Pair([U], [{"role": "tool_call", "content": "f()"}, A], "不知道。"),
}


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "kto"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_a_format_can_hold_comes_back(name: str, pair: Pair) -> None:
    try:
        written = FORMATS[name].write(pair)
    except CannotHold as reason:
        assert reason.args[0] in {
            "prompt_of_several_turns", "answer_of_several_turns", "system", "roles", "scores_absent",
        }  # fmt: skip
        assert name in {"trl", "llamafactory-alpaca", "llamafactory-sharegpt", "hh", "pku-saferlhf", "argilla"}
        return
    assert not written.dropped
    record = json.loads(json.dumps(written.records[0]))
    assert FORMATS[name].read(record) == pair
    assert format_of(record) is not None


def test_kto_holds_each_side_in_a_row() -> None:
    rows = FORMATS["kto"].write(replace(ONE, system="s", id="1")).records
    assert [row["label"] for row in rows] == [True, False]
    read = [FORMATS["kto"].read(json.loads(json.dumps(row))) for row in rows]
    assert (read[0].chosen, read[0].rejected, read[1].chosen, read[1].rejected) == ("因为。", None, None, "不知道。")
    assert all(one.prompt == [U] and one.system == "s" and one.id == "1" and not one.paired for one in read)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "kto"])
def test_one_side_is_no_pair(name: str) -> None:
    with pytest.raises(CannotHold, match="one_side_only"):
        FORMATS[name].write(replace(ONE, rejected=None))


def test_two_axes_are_asked_for() -> None:
    record = {"prompt": "为什么？", "response_0": "因为。", "response_1": "不知道。", "better_response_id": 0, "safer_response_id": 1}  # fmt: skip
    with pytest.raises(NotThisShape, match="axes_disagree"):
        read_pku(record)
    better, safer = read_pku(record, "better_response_id"), read_pku(record, "safer_response_id")
    assert (better.chosen, safer.chosen) == ("因为。", "不知道。")
    for pair, axis in ((better, "better_response_id"), (safer, "safer_response_id")):
        assert FORMATS["pku-saferlhf"].write(pair).records == [record]
        assert read_pku(FORMATS["pku-saferlhf"].write(pair).records[0], axis) == pair
    assert read_pku({**record, "safer_response_id": 0}).chosen == "因为。"


def test_more_than_two_answers_are_kept() -> None:
    record = {"instruction": "为什么？", "generations": ["b", "c", "a"], "ratings": [3, 1, 5]}
    pair = FORMATS["distilabel"].read(record)
    assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) == ("a", "c", 5.0, 1.0)
    assert FORMATS["distilabel"].write(pair).records == [record]
    edited = FORMATS["distilabel"].write(replace(pair, chosen="better"))
    assert edited.records == [{"instruction": "为什么？", "generations": ["better", "c"], "ratings": [5.0, 1.0]}]
    assert edited.dropped == ["generations", "ratings"]
    with pytest.raises(NotThisShape, match="ratings_tie"):
        FORMATS["distilabel"].read({**record, "ratings": [3, 3, 3]})


def test_other_names_of_columns() -> None:
    record = {"Prompt": "a", "chosen_response": "b", "reject": "c", "note": "d"}
    found = format_of(record)
    assert found is not None and found[0].name == "trl"
    assert found[1] == {"Prompt": "prompt", "chosen_response": "chosen", "reject": "rejected"}
    pair = found[0].read(under_own_names(record, found[1]))
    assert (text_of(pair.prompt), pair.chosen, pair.rejected, pair.extra) == ("a", "b", "c", {"note": "d"})
    mine = {"q": "a", "good": "b", "bad": "c"}
    assert format_of(mine) is None
    given = format_of(mine, {"q": "prompt", "good": "chosen", "bad": "rejected"})
    assert given is not None and given[0].read(under_own_names(mine, given[1])).rejected == "c"


@pytest.mark.parametrize("record", [None, 3, "text", [], {}, {"text": "only"}, {"prompt": "a", "completion": "b"}])
def test_what_is_no_pair(record: Any) -> None:
    assert format_of(record) is None


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [None, 3, float("nan"), [], {}, [3], [{"role": 3}], "[{", {"from": "gpt"}, [None] * 3])
def test_hostile_columns_are_refused_in_one_way(name: str, value: Any) -> None:
    for _, record, _ in RECORDS:
        for column in record:
            damaged = {**record, column: value}
            if format_of(damaged) and FORMATS[name].recognise(damaged):
                try:
                    pair = FORMATS[name].read(damaged)
                except NotThisShape:
                    continue
                assert isinstance(pair.prompt, list)
