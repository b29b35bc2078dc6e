"""Every format of preference data: known by its content, read into one pair, and written back without loss."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.pairs.all_formats import (
    EVERY_FORMAT,
    FORMATS,
    SUPERVISED,
    UnknownFormat,
    columns_given,
    format_named,
    format_of,
    under_own_names,
)
from pipeline.pairs.format import CannotHold
from pipeline.pairs.pair import Pair, text_of
from pipeline.pairs.rated_formats import read_pku
from pipeline.pairs.turns import NotThisShape
from pipeline.refusal import Refused

ROOT = Path(__file__).resolve().parent.parent
WORDS = {
    lang: yaml.safe_load((ROOT / "configs" / "words" / lang / "formats.yaml").read_text(encoding="utf-8"))
    for lang in ("en", "zh")
}
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
    ("trl-conversational", {"prompt": "为什么？", "chosen": [A], "rejected": [B]}, ONE),
    ("trl-conversational", {"prompt": [U], "chosen": "因为。", "rejected": [B]}, ONE),
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
        "alpaca-farm",
        {"instruction": "为什么？", "input": "", "output_1": "因为。", "output_2": "不知道。", "preference": 1},
        ONE,
    ),
    (
        "alpaca-farm",
        {"instruction": "a", "input": "b", "output_1": "w", "output_2": "l", "preference": "1.02"},
        Pair([{"role": "user", "content": "a\nb"}], "w", "l", extra={"preference": "1.02", "input": "b"}),
    ),
    (
        "alpaca-farm",
        {"instruction": "为什么？", "output_1": "不知道。", "output_2": "因为。", "preference": 2},
        replace(ONE, extra={"preference": 2}),
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


LEARN = Pair([U], "因为。", None)
SUPERVISED_RECORDS: list[tuple[str, dict[str, Any], Pair]] = [
    ("alpaca", {"instruction": "为什么？", "input": "", "output": "因为。"}, LEARN),
    ("alpaca", {"instruction": "为什么？", "response": "因为。", "id": 3}, replace(LEARN, id="3")),
    (
        "alpaca",
        {"instruction": "真的吗？", "input": "细节", "output": "a", "history": [["为什么？", "因为。"]], "system": "s"},
        Pair([*TALK[:2], {"role": "user", "content": "真的吗？\n细节"}], "a", None, "s", extra={"input": "细节"}),
    ),
    ("alpaca", {"instruction": "为什么？", "chosen": "因为。"}, LEARN),
    ("messages", {"messages": [{"role": "system", "content": "s"}, *TALK, A]}, Pair(TALK, "因为。", None, "s")),
    ("messages", {"conversations": [*SHAREGPT, {"from": "gpt", "value": "因为。"}]}, LEARN),
    ("messages", {"conversations": SHAREGPT, "output": "因为。"}, LEARN),
    ("messages", {"dialog": [U, A, TALK[2]]}, replace(LEARN, extra={"turns_after": [TALK[2]]})),
    (
        "messages",
        {"messages": [U, {"role": "tool_call", "content": "f()"}, {"role": "tool", "content": "7"}, A]},
        Pair([U, {"role": "tool_call", "content": "f()"}, {"role": "tool", "content": "7"}], "因为。", None),
    ),
    ("prompt-completion", {"prompt": "为什么？", "completion": "因为。"}, LEARN),
    ("prompt-completion", {"prompt": [U], "completion": [A]}, LEARN),
    ("prompt-completion", {"prompt": "为什么？", "answer": ""}, replace(LEARN, chosen="")),
    ("prompt-completion", {"prompt": "为什么？", "chosen": "因为。", "rejected": None}, LEARN),
    ("prompt-completion", {"query": "为什么？", "response": "因为。"}, LEARN),
    ("prompt-completion", {"text": "为什么？", "standard_answer": "因为。"}, LEARN),
    ("prompt-completion", {"question": "为什么？", "query": "SELECT 1"}, replace(LEARN, chosen="SELECT 1")),
    ("prompt-completion", {"问题": "为什么？", "回答": "因为。", "难度": 2}, replace(LEARN, extra={"难度": 2})),
    ("prompt-completion", {"input": "为什么？", "output": "因为。", "label": "easy"}, replace(LEARN, extra={"label": "easy"})),
]


@pytest.mark.parametrize(("name", "record", "pair"), RECORDS + SUPERVISED_RECORDS)
def test_known_and_read(name: str, record: dict[str, Any], pair: Pair) -> None:
    found = format_of(record)
    assert found is not None and (found.format.name, found.columns) == (name, {})
    assert EVERY_FORMAT[name].read(record) == pair


@pytest.mark.parametrize(("name", "record", "pair"), RECORDS + SUPERVISED_RECORDS)
def test_the_reason_is_said_in_both_languages(name: str, record: dict[str, Any], pair: Pair) -> None:
    found = format_of(record)
    assert found is not None
    for lang in WORDS:
        said = found.reason.said(lang)
        assert found.reason.entry in WORDS[lang] and "{" not in said and len(said) > 10
    assert all(str(value) in found.reason.said("zh") for value in found.reason.params.values())


def test_a_reason_names_what_tells_the_format() -> None:
    ultra = format_of({"prompt": "a", "chosen": [U, A], "rejected": [U, B]})
    assert ultra is not None
    assert str(ultra.reason) == "UltraFeedback: prompt is text, chosen and rejected are lists that repeat it"
    own = format_of({"q": "a", "good": "b", "reject": "c"}, {"q": "prompt", "good": "chosen"})
    assert own is not None
    assert str(own.reason).endswith("(columns: reject = rejected, q = prompt, good = chosen)")


def test_every_reason_for_a_row_left_out_has_words() -> None:
    """Both the reasons that readers and writers raise and the problems of records."""
    raised: dict[str, set[str]] = {"NotThisShape": set(), "CannotHold": set()}
    for path in (ROOT / "pipeline" / "pairs").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in raised:
                assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
                raised[node.func.id].add(node.args[0].value)  # type: ignore[attr-defined]
    assert len(raised["NotThisShape"]) > 10 and len(raised["CannotHold"]) > 5
    of_records = {"not_json", "cut_short", "too_many_cells", "not_csv", "duplicate_key"}
    of_files = {"not_an_object", "unknown_columns", "supervised_row", "preference_row"}
    for words in WORDS.values():
        assert not {f"row_{one}" for one in raised["NotThisShape"] | of_records | of_files} - words.keys()
        assert not {f"holds_{one}" for one in raised["CannotHold"]} - words.keys()


def test_labels_that_tell_nothing() -> None:
    record = {"instruction": "a", "output_1": "b", "output_2": "c"}
    for preference, reason in ((0, "ratings_tie"), (1.5, "ratings_tie"), (3, "label_absent"), (None, "label_absent")):
        with pytest.raises(NotThisShape, match=reason):
            FORMATS["alpaca-farm"].read({**record, "preference": preference})


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


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].kind == "pairs"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_a_format_can_hold_comes_back(name: str, pair: Pair) -> None:
    try:
        written = FORMATS[name].write(pair)
    except CannotHold as reason:
        assert reason.args[0] in {
            "prompt_of_several_turns", "answer_of_several_turns", "system", "roles", "scores_absent",
        }  # fmt: skip
        assert name in {"trl", "llamafactory-alpaca", "llamafactory-sharegpt", "hh", "pku-saferlhf", "argilla", "alpaca-farm"}
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


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].kind == "pairs"])
def test_one_side_is_no_pair(name: str) -> None:
    with pytest.raises(CannotHold, match="one_side_only"):
        FORMATS[name].write(replace(ONE, rejected=None))


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_a_supervised_format_can_hold_comes_back(name: str, pair: Pair) -> None:
    try:
        written = SUPERVISED[name].write(pair)
    except CannotHold as reason:
        assert name == "alpaca" and reason.args[0] in {"prompt_of_several_turns", "answer_of_several_turns"}
        return
    assert written.dropped == ["rejected"]
    record = json.loads(json.dumps(written.records[0]))
    read = SUPERVISED[name].read(record)
    if name == "messages" and isinstance(pair.chosen, list):  # there the last turn alone is the answer
        assert [*read.prompt, A] == [*pair.prompt, *pair.chosen]
    else:
        assert read == replace(pair, rejected=None, score_rejected=read.score_rejected)
    found = format_of(record)
    assert found is not None and found.format.name == name


@pytest.mark.parametrize("name", SUPERVISED)
def test_an_answer_to_learn_is_needed(name: str) -> None:
    with pytest.raises(CannotHold, match="answer_absent"):
        SUPERVISED[name].write(replace(ONE, chosen=None))


def test_a_talk_that_goes_on_is_written_again_as_it_was() -> None:
    record = {"messages": [U, A, TALK[2]]}
    assert SUPERVISED["messages"].write(SUPERVISED["messages"].read(record)).records == [record]


def test_two_axes_are_asked_for() -> None:
    record = {"prompt": "为什么？", "response_0": "因为。", "response_1": "不知道。", "better_response_id": 0, "safer_response_id": 1}  # fmt: skip
    with pytest.raises(NotThisShape, match="axes_disagree"):
        read_pku(record)
    better, safer = read_pku(record, "better_response_id"), read_pku(record, "safer")
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
    assert found is not None and found.format.name == "trl"
    assert found.columns == {"Prompt": "prompt", "chosen_response": "chosen", "reject": "rejected"}
    pair = found.format.read(under_own_names(record, found.columns))
    assert (text_of(pair.prompt), pair.chosen, pair.rejected, pair.extra) == ("a", "b", "c", {"note": "d"})
    mine = {"q": "a", "good": "b", "bad": "c"}
    assert format_of(mine) is None
    given = format_of(mine, {"q": "prompt", "good": "chosen", "bad": "rejected"})
    assert given is not None and given.format.read(under_own_names(mine, given.columns)).rejected == "c"


def test_of_two_columns_for_the_prompt_the_first_is_it() -> None:
    record = {"question": "a", "query": "b", "win": "c", "lose": "d"}
    found = format_of(record)
    assert found is not None
    pair = found.format.read(under_own_names(record, found.columns))
    assert (text_of(pair.prompt), pair.extra) == ("a", {"query": "b"})


def test_a_column_in_the_place_of_another_leaves_that_one_in() -> None:
    record = {"prompt": "template", "question": "a", "chosen": "b", "rejected": "c", "prompt_2": "x"}
    given = columns_given(["prompt=question"])
    found = format_of(record, given)
    assert found is not None and found.columns == {"question": "prompt"}
    pair = found.format.read(under_own_names(record, found.columns))
    assert (text_of(pair.prompt), pair.extra) == ("a", {"prompt_3": "template", "prompt_2": "x"})


@pytest.mark.parametrize(
    ("words", "entry"),
    [
        (["prompt"], "column_form"), (["=a"], "column_form"), (["prompt="], "column_form"),
        (["promt=q"], "column_name_unknown"), (["prompt=q", "chosen=q"], "column_twice"), (["id=a", "id=b"], "column_twice"),
    ],
)  # fmt: skip
def test_columns_that_can_not_be_meant(words: list[str], entry: str) -> None:
    with pytest.raises(Refused) as refused:
        columns_given(words)
    assert refused.value.sentence.entry == entry and words[-1] in refused.value.said("zh")


OWN = {
    "prompt=q,chosen=good,rejected=bad,score_chosen=points": replace(ONE, score_chosen=3.0),
    "instruction=q, chosen=good, rejected=bad": replace(ONE, system="s", id="7"),
    "prompt=question,completion=answer": LEARN,
    "instruction=任务,input=材料,output=答案": replace(LEARN, extra={"input": "么？"}, prompt=[{"role": "user", "content": "为什\n么？"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_columns_of_the_users_own(name: str) -> None:
    pair, format = OWN[name], format_named(name)
    [record] = format.write(pair).records
    own = {theirs.strip(): ours.strip() for ours, theirs in (one.split("=") for one in name.split(","))}
    assert own.keys() & {"q", "question", "任务"} <= record.keys() and not record.keys() & {"prompt", "chosen", "output"}
    assert format.read(record) == pair
    given = format_of(record, {theirs: ours for theirs, ours in own.items() if theirs in record})
    assert given is not None and given.format.read(under_own_names(record, given.columns)) == pair


@pytest.mark.parametrize("name", ["", "tlr", "prompt=q", "prompt=q,chosen=q,rejected=r", "prompt=q,chosen=,rejected=r", "a=b,chosen=c,rejected=r,prompt=p"])
def test_a_format_that_is_none_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownFormat) as refused:
        format_named(name)
    assert "llamafactory-sharegpt" in str(refused.value)


@pytest.mark.parametrize("record", [None, 3, "text", [], {}, {"text": "only"}, {"prompt": "a", "note": "b"}])
def test_what_is_no_pair(record: Any) -> None:
    assert format_of(record) is None


@pytest.mark.parametrize("name", EVERY_FORMAT)
@pytest.mark.parametrize("value", [None, 3, float("nan"), [], {}, [3], [{"role": 3}], "[{", {"from": "gpt"}, [None] * 3])
def test_hostile_columns_are_refused_in_one_way(name: str, value: Any) -> None:
    for _, record, _ in RECORDS + SUPERVISED_RECORDS:
        for column in record:
            damaged = {**record, column: value}
            format_of(damaged)
            if EVERY_FORMAT[name].recognise(damaged):
                assert EVERY_FORMAT[name].reason(damaged).said("zh")
                try:
                    pair = EVERY_FORMAT[name].read(damaged)
                except NotThisShape:
                    continue
                assert isinstance(pair.prompt, list)


def test_a_talk_with_a_label_ends_with_its_answer() -> None:
    """What a tool said belongs to the prompt; only the last turn is wanted or not."""
    talk = [
        {"role": "user", "content": "What is the weather in Oslo?"}, {"role": "tool_call", "content": "weather(Oslo)"},
        {"role": "tool", "content": "4 degrees"}, {"role": "assistant", "content": "It is 4 degrees."},
    ]  # fmt: skip
    found = format_of({"messages": talk, "label": True})
    assert found is not None
    pair = found.format.read({"messages": talk, "label": True})
    assert pair.prompt == talk[:3] and pair.chosen == "It is 4 degrees." and pair.rejected is None
    again = FORMATS["llamafactory-kto"].write(pair).records
    assert again == [{"messages": talk, "label": True}]
    several = Pair(talk[:1], talk[1:], None)
    with pytest.raises(CannotHold):
        FORMATS["llamafactory-kto"].write(several)
