"""Measures over generated text: repetition, writing systems, markers of the conversation's frame, overlap."""

from __future__ import annotations

import pytest

from pipeline.answer_overlap import largest_same_share, same_units, topic_fit
from pipeline.repetition import distinct, diversity, longest_loop, pooled_repeated_share, repeated_share
from pipeline.script_of_text import garbled_share, main_script, script_entropy, without_cut_character
from pipeline.written_markers import other_turn, starts_with_sentinel, written_end_marker


def test_rep_n_counts_repeats_of_token_ids_and_of_characters() -> None:
    assert repeated_share([1, 2, 3, 4, 5, 6], 4) == 0.0
    assert repeated_share([1, 2] * 4, 2) == pytest.approx(1 - 2 / 7)
    # A Chinese loop is one word between spaces: over characters it is seen, over words it would be 0.
    assert repeated_share("好的好的" * 10, 4) > 0.9
    assert repeated_share([1, 2], 4) == 0.0


def test_pooled_repeats_weigh_long_texts_more_and_never_compare_texts() -> None:
    assert pooled_repeated_share(["abcdefgh", "abcdefgh"], 4) == 0.0
    assert pooled_repeated_share(["aaaaaaaa", "abcdefgh"], 4) == pytest.approx(1 - (1 + 5) / 10)
    assert distinct(["abcdefgh", "abcdefgh"], 4) == 0.5
    assert diversity("abcdefgh") == 1.0 and diversity("a" * 30) < 1e-3


@pytest.mark.parametrize(
    ("text", "period", "length"),
    [("abcabcabcabcx", 3, 12), ("car " * 8, 4, 32), ("x" * 20, 1, 20), ("苹果、" * 5, 3, 15)],
)
def test_loops_are_found_with_their_unit(text: str, period: int, length: int) -> None:
    loop = longest_loop(text)
    assert loop is not None and (loop.period, loop.length) == (period, length)
    assert loop.repeats == length / period


@pytest.mark.parametrize("text", ["", "a", "The cat sat on the mat.", "我们在公园里看到了小狗。", "abab"])
def test_ordinary_text_has_no_loop(text: str) -> None:
    assert longest_loop(text) is None


def test_a_loop_in_the_middle_is_not_at_the_end() -> None:
    loop = longest_loop("start " + "ha" * 10 + " and then an end")
    assert loop is not None and not loop.at_end and loop.start == 6


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("苹果、香蕉", "han"), ("使用Python编程很有趣", "han"), ("これは日本語です", "japanese"),
        ("안녕하세요", "hangul"),
        ("Привет, мир", "cyrillic"), ("The capital of France", "latin"), ("12 + 3 = 15", None), ("", None),
    ],
)  # fmt: skip
def test_main_script(text: str, script: str | None) -> None:
    assert main_script(text) == script


def test_word_salad_has_more_entropy_than_a_text_with_foreign_terms() -> None:
    assert script_entropy("使用 PyTorch 训练 transformer 模型") < 0.7
    assert script_entropy("abcд中קあก") > 1.5


def test_a_character_cut_at_the_end_is_no_garbage() -> None:
    assert garbled_share(without_cut_character("苹果、香\ufffd\ufffd")) == 0.0
    assert garbled_share("苹\ufffd果\x00") == 0.5
    assert garbled_share("two\nlines\tand a tab") == 0.0


@pytest.mark.parametrize("text", ["苹果[EOS]", "hello </s>", "[ EOS ] x", "x<|im_end|>"])
def test_end_markers_written_out_are_found(text: str) -> None:
    assert written_end_marker(text) is not None


@pytest.mark.parametrize("text", ["use <b>bold</b>", "a[0] = eos", "</span>", "5 < 6 and 7 > 6"])
def test_markup_is_no_end_marker(text: str) -> None:
    assert written_end_marker(text) is None


@pytest.mark.parametrize(
    "answer",
    [
        "Paris.\nHuman: and Spain?", "巴黎。\n用户：西班牙呢？", "Paris.<|im_end|>\n<|im_start|>user\nSpain?",
        "4\n\nQuestion: 3+3?\nAnswer: 6", "好的。\n### 指令：继续", "Paris.\nAssistant: Paris.",
    ],
)  # fmt: skip
def test_a_second_turn_inside_an_answer_is_found(answer: str) -> None:
    assert other_turn(answer) is not None


@pytest.mark.parametrize(
    "answer",
    ["Answer: 5", "Assistant: hello", "The user: a person who uses it.", "Q: is a letter", "Human rights matter.", ""],
)
def test_a_label_at_the_start_is_no_second_turn(answer: str) -> None:
    assert other_turn(answer) is None


def test_sentinels_count_at_the_start_only() -> None:
    assert starts_with_sentinel("<pad> <extra_id_0></s>") == "<pad> <extra_id_0>"
    assert starts_with_sentinel("The token <extra_id_0> is special") is None


GOLDS = [
    "苹果、香蕉、橘子和菠萝", "The capital of France is Paris", "春天来了，花开满园",
    "The primary colors are red and blue", "中国的首都是北京", "There are seven days in a week",
    "太阳从东边升起来", "Bees make honey from flowers",
]  # fmt: skip


def test_topic_fit_tells_own_answers_from_somebody_elses() -> None:
    own, shifted = topic_fit(GOLDS, GOLDS), topic_fit(GOLDS[2:] + GOLDS[:2], GOLDS)
    assert own is not None and own.fit == 1.0 and own.overlap == pytest.approx(1.0)
    assert shifted is not None and shifted.fit < 0.55 and shifted.upper < 0.7
    same = topic_fit(["人工智能正在改变医疗行业"] * len(GOLDS), GOLDS)
    assert same is not None and abs(same.fit - 0.5) < 0.15


def test_topic_fit_says_nothing_about_labels() -> None:
    assert topic_fit(["yes", "no"] * 8, ["no", "yes"] * 8) is None
    assert topic_fit(["the same answer here"] * 8, ["the same answer here"] * 8) is None


def test_same_answers_are_counted_without_case_and_space() -> None:
    assert largest_same_share(["A  b", "a b", "c"]) == (2 / 3, "a b")
    assert largest_same_share([]) == (0.0, "")
    assert same_units("中国的首都是北京", "中国的首都是北京。") == 1.0
