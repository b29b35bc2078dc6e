"""What the text of a candidate shows, duplicates, and reward functions, in both languages."""

from __future__ import annotations

import random
import time

import pytest

from pipeline.answer_overlap import cosine, rarity
from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.choose import judge_topic
from pipeline.candidates.duplicates import mark_duplicates, normal_form
from pipeline.candidates.reference_rows import terms
from pipeline.candidates.reward_functions import (
    exact_answer,
    final_answer,
    numbers_in,
    reward_function,
)
from pipeline.candidates.text_measures import loop_in, measure_texts, same_script, similarity
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

# Prompt, right answer, an answer that is on topic and wrong.
ENGLISH = [
    ("Why is the sky blue?", "Air molecules scatter short blue wavelengths of sunlight much more than long red ones.", "The sky is blue because the oceans reflect their blue colour up into the air all day."),
    ("How do I boil an egg?", "Put the egg in boiling water for eight minutes, then cool it under cold water.", "Place the egg in cold water for two minutes and wait until the egg floats to the top."),
    ("What does a tax accountant do?", "A tax accountant prepares returns, advises on deductions and represents clients in audits.", "A tax accountant mostly sells insurance to clients and collects the tax for the city."),
    ("Explain what a binary search tree is.", "A binary search tree keeps smaller keys in the left subtree and larger keys in the right subtree.", "A binary search tree is a list in which each key is compared with every other key in turn."),
    ("Give me tips for growing tomatoes.", "Give tomatoes full sun, deep watering twice a week and a stake to climb on.", "Tomatoes like deep shade, so keep the tomatoes away from sun and water them hourly."),
    ("Who wrote Hamlet and when?", "William Shakespeare wrote Hamlet around the year 1600 in London for his company.", "Hamlet was written by Christopher Marlowe in 1750 and was his first play in London."),
    ("How does a refrigerator cool food?", "A refrigerant evaporates inside coils and carries the heat out through a compressor.", "A refrigerator blows stored winter air over food with a fan so that heat stays inside coils."),
    ("What is the offside rule in football?", "A player is offside when nearer to the goal line than the ball and the second last opponent.", "A player is offside in football whenever he stands in his own half without the ball."),
]  # fmt: skip
CHINESE = [
    ("天空为什么是蓝色的？", "因为空气分子对波长较短的蓝光散射得更强，所以我们看到蓝色的天空。", "因为海洋把蓝色反射到空中，所以天空看起来是蓝色的。"),
    ("怎么煮鸡蛋？", "把鸡蛋放进沸水里煮八分钟，然后用冷水冲凉再剥壳。", "把鸡蛋放进冷水里泡两分钟，等鸡蛋浮起来就可以吃了。"),
    ("会计师主要做什么工作？", "会计师负责编制财务报表、申报税务并为企业提供审计服务。", "会计师主要负责给企业销售保险，偶尔替客户收取税务罚款。"),
    ("请解释什么是二叉搜索树。", "二叉搜索树的左子树只含较小的键，右子树只含较大的键。", "二叉搜索树是一种列表，每个键都要与其他所有键逐一比较。"),
    ("种番茄有什么技巧？", "番茄需要充足的阳光，每周浇透两次水，并搭架让它攀爬。", "番茄喜欢阴凉，要避开阳光，并且每小时给番茄浇一次水。"),
    ("《哈姆雷特》是谁写的？", "《哈姆雷特》由莎士比亚在一六〇〇年前后写成，是他的四大悲剧之一。", "《哈姆雷特》是马洛在十八世纪写的喜剧，是他的第一部作品。"),
    ("冰箱是怎样制冷的？", "制冷剂在蒸发器里汽化吸热，再由压缩机把热量带到箱外。", "冰箱把冬天储存的冷空气用风扇吹到食物上，热量留在箱里。"),
    ("足球的越位规则是什么？", "进攻球员比球和倒数第二名防守球员更靠近球门线时就是越位。", "球员在自己半场没有拿到球就算越位，足球裁判会判罚点球。"),
]  # fmt: skip
# More rows, prompt and right answer.
ENGLISH_OTHERS = [
    ("Name a large river in Africa.", "The Nile flows north through eleven countries into the Mediterranean."),
    ("What is compound interest?", "Compound interest is paid on the sum and on earlier interest too."),
    ("How long do cats sleep?", "Adult cats sleep between twelve and sixteen hours, mostly by day."),
    ("Suggest a birthday gift for my mother.", "A framed photo album of family holidays would please her."),
    ("Why do leaves change colour?", "Chlorophyll breaks down in autumn and yellow pigments appear."),
    ("Write a haiku about snow.", "Silent flakes descend, white upon the sleeping field, dawn forgets the road."),
    ("What causes earthquakes?", "Tectonic plates slip along faults and release stored stress."),
    ("How many strings has a violin?", "A violin has four strings tuned in fifths from G to E."),
]
CHINESE_OTHERS = [
    ("非洲有哪条大河？", "尼罗河向北流经十一个国家，最后注入地中海。"), ("什么是复利？", "复利是指本金和之前的利息一起继续计算利息。"),
    ("猫每天睡多久？", "成年猫每天大约睡十二到十六个小时，多在白天。"), ("送妈妈什么生日礼物好？", "可以送一本装有全家旅行照片的相册。"),
    ("树叶为什么会变色？", "秋天叶绿素分解，黄色素就显现出来了。"), ("写一首关于雪的俳句。", "静雪飘田野，白茫茫掩去小路，黎明无声来。"),
    ("地震是怎么产生的？", "板块沿断层滑动，释放长期积累的应力。"), ("小提琴有几根弦？", "小提琴有四根弦，按五度从低到高定音。"),
]  # fmt: skip


def _row(index: int, question: str, gold: str | None) -> SourceRow:
    return SourceRow(index, Pair([{"role": "user", "content": question}], gold, None))


def _measured(row: SourceRow, *texts: str, others: list[SourceRow] | None = None, **options) -> list[Candidate]:
    candidates = [Candidate(row.index, number, "sampling", text) for number, text in enumerate(texts)]
    measure_texts(row, candidates, others or [], **options)
    return candidates


@pytest.mark.parametrize("data, more", [(ENGLISH, ENGLISH_OTHERS), (CHINESE, CHINESE_OTHERS)], ids=["en", "zh"])
def test_wrong_answers_are_on_topic_and_those_of_other_rows_are_not(data, more) -> None:
    rows = [_row(i, question, gold) for i, (question, gold, _) in enumerate(data)]
    own, foreign = [], []
    for i, row in enumerate(rows):
        stranger = data[(i + 3) % len(data)][2]
        others = [rows[j] for j in range(len(rows)) if j not in (i, (i + 3) % len(data))]
        others += [_row(100 + j, *asked) for j, asked in enumerate(more)]
        for candidate, verdicts in zip(_measured(row, data[i][2], stranger, others=others), (own, foreign), strict=True):
            verdicts.append(judge_topic(candidate.measures)[0])
    assert own.count(False) == 0 and own.count(True) >= 6
    assert foreign.count(True) <= 1 and foreign.count(False) >= 6


@pytest.mark.parametrize("gold, said", [("4", "four"), ("Beijing", "北京"), ("北京", "是首都"), ("是", "对")])
def test_short_answers_without_a_shared_word_are_not_known_to_be_off_topic(gold: str, said: str) -> None:
    others = [_row(i + 1, question, answer) for i, (question, answer, _) in enumerate(ENGLISH + CHINESE)]
    others += [_row(100 + i, *asked) for i, asked in enumerate(ENGLISH_OTHERS + CHINESE_OTHERS)]
    (candidate,) = _measured(_row(0, "2+2?", gold), said, others=others)
    assert candidate.measures["overlap_gain"] is None or candidate.measures["overlap_gain"] < 0.01
    assert judge_topic(candidate.measures)[0] is None


def test_overlap_is_the_cosine_of_rare_terms_whatever_was_seen_before() -> None:
    rows = [_row(i, asked[0], asked[1]) for i, asked in enumerate([*ENGLISH, *ENGLISH_OTHERS, *CHINESE, *CHINESE_OTHERS])]
    bags = [terms(row.question) + terms(row.gold or "") for row in rows]
    rng = random.Random(4)
    for _ in range(60):
        row, *others = rng.sample(range(16), 9)
        text = " ".join([rows[row].gold or "", rows[others[0]].question, "zebra zebra", "the"][rng.randint(0, 1) :])
        (candidate,) = _measured(rows[row], text, others=[rows[other] for other in [*others, row, 20, 25]])
        weight = rarity([bags[row], *(bags[other] for other in others)])
        own, *theirs = (cosine(terms(text), bags[other], weight) for other in (row, *others))
        assert candidate.measures["overlap"] == pytest.approx(own, abs=6e-5)
        assert candidate.measures["overlap_gain"] == pytest.approx(own - sum(theirs) / len(theirs), abs=6e-5)


def test_model_evidence_decides_where_words_do_not() -> None:
    assert judge_topic({"topic_gain": 0.5, "overlap_gain": -0.1, "overlap_units": 50, "similarity": 0.0})[0] is True
    verdict, why = judge_topic({"topic_gain": 0.01})
    assert verdict is False and why == {"entry": "why_off_topic_topic_gain", "params": {"value": 0.01, "least": 0.02}}
    for unknown in ({}, {"topic_gain": None}, {"topic_gain": float("nan")}, {"topic_gain": 0.05}, {"embedding_similarity": 0.5}):
        assert judge_topic(unknown) == (None, None)


def test_nothing_is_made_up_without_a_chosen_answer_or_other_rows() -> None:
    (candidate,) = _measured(_row(0, "Why?", None), "Because the moon pulls the water of the sea up and down.")
    absent = {name for name, value in candidate.measures.items() if value is None}
    assert absent == {"length_ratio", "similarity", "overlap_gain", "same_script", "loop", "template_text"}
    failed = Candidate(0, 1, "sampling", "", problem="endpoint_failed")
    measure_texts(_row(0, "Why?", "So."), [failed], [])
    assert failed.measures == {}


def test_similarity_counts_words_of_english_and_characters_of_chinese() -> None:
    assert similarity("the cat sat on the mat", "the dog sat on the mat") == pytest.approx(5 / 6, abs=1e-4)
    assert similarity("我喜欢吃苹果", "我喜欢吃香蕉") == pytest.approx(4 / 6, abs=1e-4)
    assert similarity("今日は暑い", "今日は寒い") == pytest.approx(4 / 5, abs=1e-4)
    assert similarity("", "") == 1 and similarity("a", "") == 0 and similarity("same", "same") == 1
    assert similarity("SELECT a FROM t", "SELECT  a\nFROM t") == 1


def test_lengths_compare_across_languages() -> None:
    row = _row(0, "Translate into Chinese: the weather is good today", "今天天气很好")
    chinese, english = _measured(row, "今天天气不好", "bad weather!")
    assert chinese.measures["length"] == 6 and chinese.measures["length_ratio"] == 1
    assert english.measures["length"] == 12 and english.measures["length_ratio"] == 1


@pytest.mark.parametrize(
    "text, chosen, question, expected",
    [
        ("The weather is good", "今天天气很好", "今天天气怎么样？", False),
        ("今天天气很好", "今天天气不错", "Translate: nice weather", True),
        ("用 Python 写一个函数", "请用 sort 函数", "怎么排序？", True),
        ("只要 train loss 或 preference accuracy 好看，就说明 SFT 已经成功", "可以这样回答：DPO 用成对数据", "?", True),
        ("The preference accuracy says that SFT is done", "可以这样回答：DPO 用 prompt、chosen 和 rejected", "?", False),
        ("4", "四个", "2+2?", None),
        ("A", "选A", "选哪个？", None),
        ("nice weather today", None, "把“今天天气很好”翻译成英文", None),
        ("nice weather today", None, "今天天气怎么样？", False),
        ("今天天气很好", None, "今天天气怎么样？", True),
        ("", "好的好的", "?", None),
    ],
)
def test_script_is_compared_with_the_chosen_answer(text, chosen, question, expected) -> None:
    assert same_script(text, chosen, question) is expected


def test_loops_and_repeats() -> None:
    assert loop_in("好的，我知道了。" * 12) == {"text": "好的，我知道了。", "repeats": 12.0, "share": 1.0, "at_end": True}
    story = " ".join(f"word{i}" for i in range(120))
    late = loop_in(f"{story} and so on" + " and so on" * 10)
    assert late is not None and late["text"] == "and so on" and late["at_end"] and late["share"] < 0.4
    for sound in (story, "1. 苹果\n2. 香蕉\n3. 西瓜", "a | b | c\n---|---|---", "哈哈哈", "", f"{story}\nSignature: {'_' * 30}"):
        assert loop_in(sound) is None
    by_words, by_ids = _measured(_row(0, "q", "g"), "a b c d e f", "a b c d e f", token_ids={1: [5, 5, 5, 5, 5, 5]})
    assert by_words.measures["rep_4"] == 0 and by_ids.measures["rep_4"] == pytest.approx(2 / 3, abs=1e-4)


def test_refusals_and_markers() -> None:
    row = _row(0, "User: said what? Tell me.", "It was said.")
    refusing, zh, marked, named, ended, sound = _measured(
        row, "I'm sorry, I can't help with that.", "抱歉，我无法回答这个问题。", "Sure<|im_end|>\n<|im_start|>user\nmore",
        "He wrote:\nUser: hello", "Fine.</s>", "It was not said."
    )  # fmt: skip
    assert refusing.measures["refusal"] and zh.measures["refusal"] and not sound.measures["refusal"]
    assert marked.measures["template_text"] and ended.measures["template_text"] == "</s>"
    assert named.measures["template_text"] is None and sound.measures["template_text"] is None  # the prompt has it too


def test_a_correction_is_what_its_candidate_is_measured_against() -> None:
    row = _row(0, "Who are you?", None)
    corrected = Candidate(0, 0, "correction", "I am Llama", chosen="I am Athene")
    measure_texts(row, [corrected], [])
    assert corrected.measures["similarity"] == pytest.approx(2 / 3, abs=1e-4)


@pytest.mark.parametrize("unit", ["这是一个很长的回答", "some words of a long answer "])
def test_long_answers_take_bounded_time(unit: str) -> None:
    long = "".join(f"{unit}{i}" for i in range(100_000 // len(unit)))[:100_000]
    row = _row(0, "q" * 1000, long[::-1])
    others = [_row(i, f"{i} {long}", long) for i in range(1, 9)]
    start = time.perf_counter()
    (candidate,) = _measured(row, long, others=others)
    assert time.perf_counter() - start < 5
    assert 0 <= candidate.measures["similarity"] <= 1 and candidate.measures["length"] == 100_000


# --- duplicates ---


@pytest.mark.parametrize(
    "left, right",
    [("Paris.", " paris"), ("Ａ１，好！", "a1,好"), ("你 好", "你好"), ("“是的”。", '"是的"'), ("ｶﾞｽ", "ガス"), ("x\n y", "x y")],
)
def test_the_same_in_another_form(left: str, right: str) -> None:
    assert normal_form(left) == normal_form(right)


@pytest.mark.parametrize("left, right", [("-5", "5"), ("50%", "50"), (".5", "5"), ("10²", "102"), ("a b", "ab"), ("?", "!")])
def test_forms_that_say_something_else(left: str, right: str) -> None:
    assert normal_form(left) != normal_form(right)


def _candidates(*texts: str, **canonical: str) -> list[Candidate]:
    made = [Candidate(0, number, "sampling", text) for number, text in enumerate(texts)]
    for number, form in canonical.items():
        made[int(number[1:])].measures["sql"] = {"canonical": form}
    return made


def _marks(candidates: list[Candidate]) -> list[tuple[object, object]]:
    return [(one.measures["duplicate_of"], one.measures["duplicate_kind"]) for one in candidates]


def test_duplicates_by_mode() -> None:
    texts = ("select 1", "select 1", "SELECT 1;", "select 1 as x", "Gold ", "Gold")
    found = {}
    for mode in ("exact", "normalized", "sql"):
        made = _candidates(*texts, n0="S", n1="S", n2="S", n3="S")
        mark_duplicates(made, "gold", mode)
        found[mode] = _marks(made)
    assert found["exact"][:4] == [(None, None), (0, "exact"), (None, None), (None, None)]
    assert found["normalized"][:4] == [(None, None), (0, "exact"), (0, "normalized"), (None, None)]
    assert found["sql"][:4] == [(None, None), (0, "exact"), (0, "normalized"), (0, "sql")]
    assert all(marks[4:] == [("chosen", "normalized")] * 2 for marks in found.values())


def test_duplicates_do_not_depend_on_order_and_skip_what_failed() -> None:
    made = _candidates("a", "a", "a")
    made[0].problem = "endpoint_failed"
    mark_duplicates(made[::-1], None)
    assert _marks(made) == [(None, None), (None, None), (1, "exact")]
    equal = _candidates("select 2")
    equal[0].measures["sql"] = {"equal_canonical": True}
    mark_duplicates(equal, "SELECT 2 -- two", "exact")
    assert _marks(equal) == [("chosen", "sql")]


# --- reward functions ---


@pytest.mark.parametrize(
    "text, values",
    [
        ("1,234.5元", ["2469/2"]), ("三千二百一十五", ["3215"]), ("两万五", ["25000"]), ("三百零五", ["305"]), ("三百五", ["350"]),
        ("一亿三千万", ["130000000"]), ("二〇二四", ["2024"]), ("三点五", ["7/2"]), ("负三", ["-3"]), ("1.2亿", ["120000000"]),
        ("-3", ["-3"]), ("5-3=2", ["5", "3", "2"]), ("3/4", ["3/4"]), ("1 1/2.", ["3/2"]), ("三分之二", ["2/3"]), ("½", ["1/2"]),
        (r"\frac{3}{4}", ["3/4"]), ("1e3", ["1000"]), ("３．５", ["7/2"]), ("一起，第一", []), ("4/0", []), ("", []), ("叁佰", ["300"]),
    ],
)  # fmt: skip
def test_numbers_are_read(text: str, values: list[str]) -> None:
    assert [str(number.value) for number in numbers_in(text)] == values


@pytest.mark.parametrize(
    "text, gold, right",
    [
        ("3+4 is 7. #### 7", "#### 7", True), ("The answer is 42 apples in 3 boxes.", "42", True), ("答案：四十二", "42", True),
        (r"所以 \boxed{\frac{3}{4}}", "0.75", True), ("大约50%", "0.5", True), ("50", "50%", True), ("50%", "5000%", False),
        ("3.3333", "3.33", True), ("1001", "1000", False), ("没有", "4", False), ("There are 42 apples in 3 boxes", "42", None),
        ("We had 42. Then it was 3.", "42", False), ("7", "seven", True), ("7", "many", None), ("-5", "5", False), ("1" * 5000, "2", False),
    ],
)  # fmt: skip
def test_the_last_number_decides(text: str, gold: str, right: bool | None) -> None:
    assert reward_function("number").judge(text, gold, {}) is right


@pytest.mark.parametrize(
    "text, gold, right",
    [
        (" paris. ", "Paris", True), ("答案是：北京。", "北京", True), ("The capital is Paris, I think", "Paris", None),
        ("Lyon", "Paris", False), ("comparison", "paris", False), ("<answer>b</answer>", "B", True), ("x", "", None), ("x", None, None),
    ],
)  # fmt: skip
def test_exact_answers(text: str, gold: str | None, right: bool | None) -> None:
    assert exact_answer(text, gold) is right


def test_the_last_result_named_counts() -> None:
    assert final_answer("The answer is 3.\nNo: the answer is 4") == "4"
    assert final_answer("The answer to the question depends.") is None


def test_patterns_are_bounded_in_time_and_compare_their_group() -> None:
    judge = reward_function(r"regex:result=(\S+)").judge
    assert judge("result=7.0", "result=7", {}) is True and judge("result=8", "7", {}) is False
    assert judge("none", "7", {}) is False and judge("result=7", None, {}) is None
    start = time.perf_counter()
    assert reward_function("regex:(a+)+$").judge("a" * 50_000 + "b", None, {}) is None
    assert time.perf_counter() - start < 10


def test_rewards_are_written_where_they_are_known() -> None:
    row = _row(0, "2+2?", "4")
    right, wrong, unclear = (Candidate(0, i, "s", text) for i, text in enumerate(("4", "5", "4 or 5?")))
    number = reward_function("number")
    number.measure(row, [right, wrong, unclear])
    assert right.measures == {"correct": True, "reward": 1.0} and wrong.measures == {"correct": False, "reward": 0.0}
    assert unclear.measures == {"correct": None}
    assert number.chosen_measures("4") == {"correct": True, "reward": 1.0} and number.chosen_measures(None) == {}
    assert reward_function("regex:five").chosen_measures("4") == {"correct": False, "reward": 0.0}
    queries = [Candidate(0, i, "s", "select 1", measures={"sql": facts}) for i, facts in enumerate(
        ({"parses": True, "same_result": True}, {"parses": True, "same_result": False}, {"parses": False}, {"parses": True})
    )]  # fmt: skip
    reward_function("sql").measure(row, queries)
    assert [one.measures["correct"] for one in queries] == [True, False, False, None]


def test_what_is_no_reward_function() -> None:
    assert reward_function("owner/reward-model") is None and reward_function("./model") is None
    with pytest.raises(Refused, match="exact_answer"):
        reward_function("exact_anwser")
    with pytest.raises(Refused, match="can't be used"):
        reward_function("regex:(")
