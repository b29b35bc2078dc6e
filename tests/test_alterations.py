"""Right answers made worse without a model: really worse, reproducible, and never where a change would be as right."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter as Bag
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import yaml

from pipeline.candidates.alteration_maker import AlterationMaker
from pipeline.candidates.alterations.all_alterations import ALTERATIONS
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.answer_text import sentences
from pipeline.candidates.alterations.change_numbers import numbers_in
from pipeline.candidates.alterations.sql_change import schema_in
from pipeline.candidates.alterations.sql_text import parsed, sql_in
from pipeline.candidates.candidate import Cancelled, Candidate, CandidateStrategy, Counter, SourceRow
from pipeline.candidates.reference_rows import CountedRows, ReferenceRows
from pipeline.config_files import load_config
from pipeline.demo.instructions import all_questions, is_right, write_answer
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

ROOT = Path(__file__).resolve().parent.parent


def _row(index: int, question: str, answer: object) -> SourceRow:
    return SourceRow(index, Pair([{"role": "user", "content": question}], answer, None))  # type: ignore[arg-type]


def _made(
    rows: Sequence[SourceRow], name: str, n: int = 1, seed: int = 0, reference: Iterable[SourceRow] | None = None,
    **parameters: object,
) -> list[list[Candidate]]:  # fmt: skip
    gathered = ReferenceRows.gather(rows if reference is None else reference)
    maker = AlterationMaker([CandidateStrategy(name, "alteration", n, parameters)], seed=seed, reference=gathered)
    return [made for _, made in maker.make(rows, cancel=threading.Event(), counter=Counter())]


def _texts(question: str, answer: str, name: str, n: int = 8, **parameters: object) -> list[str]:
    return [one.text for one in _made([_row(0, question, answer)], name, n, **parameters)[0] if one.problem is None]


def _why(question: str, answer: object, name: str, **parameters: object) -> str | None:
    one = _made([_row(0, question, answer)], name, **parameters)[0][0]
    assert (one.problem is None) == bool(one.text)
    return one.problem_detail if one.problem == "nothing_to_alter" else None


QUESTIONS = all_questions()


@pytest.fixture(scope="module")
def demo_rows() -> list[SourceRow]:
    rng = random.Random(11)
    return [_row(n, question.prompt, write_answer(question, rng)) for n, question in enumerate(QUESTIONS)]


# --- the demo's tasks: no altered answer is right -----------------------------------------------------------------

# (language, task): share of rows that must be alterable, where the alteration is made for such answers.
LEAST = {
    "drop_items": {("zh", "list"): 1.0, ("en", "list"): 1.0},
    "swap_entities": {("zh", "list"): 1.0, ("zh", "kind"): 1.0, ("en", "translate"): 0.9, ("zh", "sentence"): 0.9},
    "change_numbers": {("zh", "sum"): 1.0, ("en", "sum"): 1.0},
    "opposite_words": {("zh", "opposite"): 0.9, ("en", "opposite"): 0.6},
    "cut_short": {("zh", "list"): 0.7, ("en", "list"): 0.7},
    "near_answer": {(lang, task): 0.95 for lang in ("zh", "en") for task in ("list", "opposite", "kind", "translate")},
    "random_answer": {("zh", "list"): 1.0, ("en", "sentence"): 1.0},
    "wrong_language": {("zh", "translate"): 1.0, ("en", "translate"): 1.0, ("en", "list"): 1.0},
    "irrelevant_ending": {("zh", "list"): 1.0, ("en", "opposite"): 1.0},
    "repeat": {("zh", "list"): 1.0, ("en", "sum"): 1.0},
    "vague": {("zh", "sum"): 1.0, ("en", "kind"): 1.0},
}


@pytest.mark.parametrize("name", sorted(ALTERATIONS))
def test_no_altered_answer_of_the_demo_is_right(name: str, demo_rows: list[SourceRow]) -> None:
    made = _made(demo_rows, name, 2, seed=5)
    whole: dict[tuple[str, str], list[bool]] = {}
    for question, row, candidates in zip(QUESTIONS, demo_rows, made, strict=True):
        texts = [one.text for one in candidates if one.problem is None]
        assert not [text for text in texts if is_right(question, text)], (question.prompt, row.gold, texts)
        assert len(set(texts)) == len(texts) and row.gold not in texts
        whole.setdefault((question.language, question.task), []).append(candidates[0].problem is None)
    for kind, least in LEAST.get(name, {}).items():
        assert sum(whole[kind]) >= least * len(whole[kind]), (kind, sum(whole[kind]), len(whole[kind]))
    if name in ("reorder_items", "sql_change"):  # fruits in another order are as right; nothing there is SQL
        assert not any(flag for flags in whole.values() for flag in flags)


def test_a_word_that_the_question_leaves_free_is_no_error() -> None:
    for question, answer in (
        ("用“葡萄”造一个句子。", "我每天早上都吃葡萄。"), ("Write a sentence with the word grape.", "I always eat grape."),
    ):  # fmt: skip
        assert _why(question, answer, "opposite_words") == "free_text"
        assert all("葡萄" not in text and "grape" not in text for text in _texts(question, answer, "swap_entities"))


# --- reproducible -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALTERATIONS))
def test_the_same_whatever_the_order_and_whatever_else_runs(name: str, demo_rows: list[SourceRow]) -> None:
    rows = demo_rows[::40] + [_row(5000, *SQL_ROW), _row(5001, *STEPS), _row(5002, *FACTS)]
    reference = ReferenceRows.gather(demo_rows)
    one = CandidateStrategy(name, "alteration", 3, first=4)
    other = CandidateStrategy("repeat", "alteration", 4)

    def run(strategies: list[CandidateStrategy], rows: list[SourceRow], seed: int) -> dict[tuple[int, int], Candidate]:
        maker = AlterationMaker(strategies, seed=seed, reference=reference)
        made = [c for _, all_of in maker.make(rows, cancel=threading.Event(), counter=Counter()) for c in all_of]
        return {(c.row, c.number): c for c in made if c.number >= 4}

    first = run([one], rows, 9)
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    assert first == run([other, one], shuffled, 9)
    assert {number for _, number in first} == {4, 5, 6}
    assert all(c.seed == 9 + 1000 * c.row + c.number for c in first.values())
    if name not in ("near_answer", "reorder_items", "sql_change", "change_numbers", "drop_items", "opposite_words"):
        texts = [c.text for c in first.values()]
        assert texts != [c.text for c in run([one], rows, 10).values()]


def test_candidates_of_a_row_differ_or_say_that_there_are_no_more() -> None:
    made = _made([_row(0, "1加2等于几？", "3")], "change_numbers", 20)[0]
    texts = [one.text for one in made if one.problem is None]
    assert 3 <= len(texts) == len(set(texts)) < 20 and "3" not in texts
    assert {one.problem_detail for one in made if one.problem} == {"no_more"}


def test_parameters_are_kept_with_the_candidate_and_checked() -> None:
    one = _made([_row(0, "?", "先洗手。再切菜。然后下锅。")], "cut_short", style="clean")[0][0]
    assert one.parameters["style"] == "clean" and one.parameters["altered"]["left"] < 1 and one.ended is True
    for name, parameters, entry in (
        ("cut_shorter", {}, "alteration_unknown"),
        ("cut_short", {"styl": "mid"}, "alteration_parameter_unknown"),
        ("cut_short", {"style": "middle"}, "alteration_parameter_value"),
        ("cut_short", {"most_left": 1.5}, "alteration_parameter_value"),
        ("repeat", {"most_times": 2.5}, "alteration_parameter_value"),
        ("repeat", {"cut": "yes"}, "alteration_parameter_value"),
        ("sql_change", {"dialect": "klingon"}, "alteration_parameter_value"),
    ):
        with pytest.raises(Refused) as refused:
            _made([], name, **parameters)
        assert refused.value.sentence.entry == entry
        assert refused.value.said("zh") != refused.value.said("en")


def test_cancelled_and_counted(demo_rows: list[SourceRow]) -> None:
    maker = AlterationMaker([CandidateStrategy("drop_items", "alteration", 2)], seed=0,
                            reference=ReferenceRows([]))  # fmt: skip
    cancel, counter = threading.Event(), Counter()
    making = maker.make(iter(demo_rows), cancel=cancel, counter=counter)
    for _ in range(200):
        next(making)
    assert counter.candidates == 400 and 0 < counter.problems < 400
    cancel.set()
    with pytest.raises(Cancelled):
        next(making)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_reason_and_every_alteration_has_words(lang: str) -> None:
    words = yaml.safe_load((ROOT / "configs" / "words" / lang / "candidates.yaml").read_text(encoding="utf-8"))
    sources = [*(ROOT / "pipeline" / "candidates" / "alterations").glob("*.py"),
               ROOT / "pipeline" / "candidates" / "alteration_maker.py"]  # fmt: skip
    raised = {r for p in sources for r in re.findall(r"NothingToAlter\(\s*\"(\w+)\"", p.read_text(encoding="utf-8"))}
    raised |= {"no_answer", "no_more", "too_deep", "unordered_list", "no_order"}
    assert raised == set(words["nothing_to_alter"])
    assert set(ALTERATIONS) == set(words["alterations"]) == set(load_config("alterations.yaml")["parameters"])


# --- one by one ---------------------------------------------------------------------------------------------------

STEPS = (
    "如何泡一杯绿茶？请给出步骤。",
    "步骤如下：\n1. 烧一壶热水。\n2. 然后把茶叶放进杯子。\n3. 接着倒入热水。\n4. 最后等待片刻再饮用。\n\n祝您愉快！",
)
TIPS = ("怎样保持健康？", "建议如下：\n1. 多喝水\n2. 早睡早起\n3. 坚持锻炼\n4. 少吃糖")
FACTS = (
    "介绍一下埃菲尔铁塔。",
    "埃菲尔铁塔位于法国的巴黎，建成于1889年，高330米。它每年接待约700万名游客，其中75%来自国外。",
)
SQL_ROW = (
    "CREATE TABLE singer (id INT, name TEXT, age INT, country TEXT);\nHow many French singers are older than 30?",
    "select count(*), max(age) from singer where country = 'France' and age > 30",
)


def test_cut_short_stays_within_its_bounds_and_ends_as_asked() -> None:
    answer = "第一句话在这里。第二句话比较长一些。第三句话也不短。第四句话很好。第五句话结束。"
    for text in _texts("?", answer, "cut_short", 4, style="clean", least_left=0.3, most_left=0.9):
        assert answer.startswith(text) and text.endswith("。") and 0.3 <= len(text) / len(answer) <= 0.9
    made = _made([_row(0, "?", answer)], "cut_short", 6, style="mid", least_left=0.3, most_left=0.9)[0]
    assert all(one.ended is False and one.text[-1] not in "。，" and answer.startswith(one.text) for one in made)
    english = "The cat sat on the mat, and then it slept. Dr. Smith paid 3.5 dollars. Nobody knew why."
    cut = set(_texts("?", english, "cut_short", 4, style="clean", most_left=0.95))
    assert cut <= {
        "The cat sat on the mat, and then it slept.",
        "The cat sat on the mat, and then it slept. Dr. Smith paid 3.5 dollars.",
        "The cat sat on the mat",
    }
    assert len(cut) >= 2
    assert _why("?", "好", "cut_short") == "too_short"


def test_dropped_items_leave_the_numbering_right() -> None:
    for text in _texts(*TIPS, "drop_items", 6):
        numbers = [int(n) for n in re.findall(r"^(\d)\.", text, re.M)]
        assert numbers == list(range(1, len(numbers) + 1)) and 1 <= len(numbers) < 4
        assert text.startswith("建议如下：\n1. ")
    for text in _texts("Name four animals.", "cats, dogs, cows and birds", "drop_items", 6):
        assert re.fullmatch(r"\w+( and \w+|(, \w+)* and \w+)?", text), text
    for text in _texts("说三点", "第一，便宜；第二，耐用；第三，好看。", "drop_items", 3):
        assert re.fullmatch(r"第一，\w+(；第二，\w+)?。", text), text
    assert _why("What is love?", "It is a feeling, as they say, of warmth.", "drop_items") == "no_list"


def test_only_what_has_an_order_is_put_in_another() -> None:
    assert _why(*TIPS, "reorder_items") == "unordered_list"
    assert _why("列出3种水果。", "苹果、香蕉、橘子", "reorder_items") == "unordered_list"
    assert _texts("列出3种水果。", "苹果、香蕉、橘子", "reorder_items", 1, force=True)
    for text in _texts("Sort the numbers in ascending order: 3, 1, 2", "1, 2, 3", "reorder_items", 3):
        assert sorted(text.split(", ")) == ["1", "2", "3"] and text != "1, 2, 3"
    for text in _texts(*STEPS, "reorder_items", 5):
        lines = text.split("\n")
        assert lines[0] == "步骤如下：" and lines[-1] == "祝您愉快！"
        assert [line[:2] for line in lines[1:5]] == ["1.", "2.", "3.", "4."]
        assert sorted(line[3:] for line in lines[1:5]) == sorted(line[3:] for line in STEPS[1].split("\n")[1:5])
        assert text != STEPS[1]
    story = "Tom went to the shop. He bought some bread. Then he walked home. It was a good day."
    for text in _texts("What did Tom do?", story, "reorder_items", 4):
        assert sorted(sentences(text), key=lambda s: s.of(text))
        assert {s.of(text) for s in sentences(text)} == {s.of(story) for s in sentences(story)}
        assert not text.startswith("Tom went")


def test_numbers_change_and_those_of_lists_and_names_stay() -> None:
    for text in _texts(*FACTS, "change_numbers", 8):
        found, before = numbers_in(text), numbers_in(FACTS[1])
        assert len(found) == len(before) == 4
        assert [(a.value, a.unit) for a in found] != [(b.value, b.unit) for b in before]
        assert 0 < found[3].value <= 100 and found[0].value <= 2024
    assert [n.text for n in numbers_in("1. 去图书馆\n2. 借3本书\n\nGPT-4 和 iPhone 12 见[5]。")] == ["3"]
    assert [n.text for n in numbers_in("他们三个人一起去了四川，一共用了二十天，第一，第二。统一的三明治")] == ["三", "二十"]
    assert [n.text for n in numbers_in("It costs $1,234.50 or 15%, see v2.3.1 and `x = 4` at 8:30.")] == ["1,234.50", "15", "8"]
    for text in _texts("How many legs has a dog?", "four", "change_numbers", 4):
        assert text in {"one", "two", "three", "five", "six", "seven"}
    for text in _texts("一年有几个月？", "十二个月", "change_numbers", 4):
        assert re.fullmatch(r"[一二两三四五六七八九十百]+个月", text) and text != "十二个月"
    made = _texts("算一算", "12 × 3 = 36，所以答案是36。", "change_numbers", 6)
    assert len(made) == 6 and all("36" not in text and text.startswith("12 × 3 = ") for text in made)
    assert _why("你好吗？", "我很好，一点问题也没有。", "change_numbers") == "no_number"


def test_swapped_entities_say_something_else() -> None:
    capital = ("What is the capital of France?", "The capital of France is Paris.")
    for text in _texts(*capital, "swap_entities", 6):
        assert text != capital[1] and re.fullmatch(r"The capital of .+ is .+\.", text)
        assert not ("France" in text and "Paris" in text)
    for text in _texts(*FACTS, "swap_entities", 5):
        assert "法国的巴黎" not in text and len(text) < len(FACTS[1]) + 20
    # An apple is an apple: articles and plurals come right.
    for text in _texts("What is this?", "This is a tiger.", "swap_entities", 12):
        assert re.fullmatch(r"This is (an [aeio]\w+|a [^aeio\W]\w+)\.", text), text
    # Two alike exchanged would say the same.
    pair = ("Who are friends?", "Paris and London are similar to each other.")
    assert "London and Paris are similar to each other." not in _texts(*pair, "swap_entities", 10)
    assert _why("你好吗？", "我很好，谢谢。", "swap_entities") == "no_entity"


def test_one_of_several_examples_is_no_entity_to_change() -> None:
    text = "旅行能开阔眼界。很多城市都值得一去，例如北京和上海。你会认识新朋友。你也会学到新东西。"
    assert _why("为什么要旅行？", text, "swap_entities") == "no_entity"


def test_opposites_change_one_word_of_a_sentence() -> None:
    answer = "锻炼可以增强体质，降低风险。不要经常熬夜。重要性不言而喻吗？"
    for text in _texts("锻炼有什么好处？", answer, "opposite_words", 5):
        assert sum(word in text for word in ("减弱体质", "提高风险", "锻炼不可以")) == 1
        assert "重要性不言而喻吗？" in text and "不要经常熬夜" in text
    assert _texts("“大”的反义词是什么？", "“大”的反义词是“小”。", "opposite_words", 3) == ["“大”的反义词是“大”。"]
    assert _texts("Is water wet?", "Yes", "opposite_words", 2) == ["No"]


def test_no_number_changes_where_another_is_as_right() -> None:
    # A hint in advice, an example, a sentence that says what is wrong, the number of a sentence, a name.
    for question, answer in (
        ("如何养成跑步的习惯？", "每天跑20分钟，坚持下去。"), ("How can I sleep better?", "Read for 10 minutes in bed."),
        ("什么是电池容量？", "电池能存多少电叫容量，例如手机电池有4000毫安时。"),
        ("怎样设置才对？", "需要避免的错误是：把显存写成 batch_size=4GB。"), ("有哪些媒体？", "1传统媒体的独立应用。2门户网站的应用。"),
        ("用什么授权？", "用 OAuth 2.0 授权。"), ("谁跑得远？", "John跑得更远。置信度：99%"),
    ):  # fmt: skip
        assert _why(question, answer, "change_numbers") == "no_number", answer
    texts = _texts("这本书什么时候出版？", "这本书是1930年出版的。", "change_numbers", 10)
    assert texts and all(re.fullmatch(r"这本书是\d{4}年出版的。", text) for text in texts)
    # Asked for, or a result: changed in advice too.
    assert _texts("怎样写500字的故事？", "先写提纲，再写500字。", "change_numbers", 2)
    assert _texts("怎样计算三角形的面积？底4高3。", "4×3÷2=6", "change_numbers", 2)


def test_no_name_changes_to_one_that_means_the_same_or_is_as_right() -> None:
    assert _why("写三种交通方式。", "1. 公共汽车\n2. 地铁\n3. 骑自行车", "swap_entities") == "no_entity"
    assert _why("Where did the ship go?", "The Silver Queen went home.", "swap_entities") == "no_entity"
    assert _why("样本怎么分？", "扩容后分成 SFT train 和 eval 两份。", "swap_entities") == "no_entity"
    for text in _texts("介绍交易。", "这是加拿大的交易。它按照Canada的规则进行。巴西没有参加。", "swap_entities", 12):
        assert "这是Canada的交易" not in text and "按照加拿大的规则" not in text
    plural = _texts("Who came?", "The engineers came home late.", "swap_entities", 20)
    assert plural and not [text for text in plural if re.search(r"mans\b|[^aeiou]ys\b|[sx]s ", text)]


def test_no_opposite_where_nothing_would_be_wrong() -> None:
    for question, answer in (
        ("方程的根是多少？", "方程可以写成 x(x-3)=0，所以x=3。"), ("怎么了？", "我很乐意提供更多信息。希望以上内容有助于您。"),
        ("How do I go on?", "I hope this is helpful. Let me know if you need more information."),
        ("私有化好吗？", "它有积极影响和消极影响。"), ("要避免什么？", "特别要避免的错误是只看损失。"),
    ):  # fmt: skip
        assert _why(question, answer, "opposite_words") == "no_opposite", answer
    assert not [text for text in _texts("Is he a hero?", "He does not always act like one.", "opposite_words", 6) if "never" in text]


def test_an_irrelevant_sentence_comes_after_the_whole_answer(demo_rows: list[SourceRow]) -> None:
    reference = [_row(100, "怎么养花？", "养花需要阳光。窗台上的植物每周浇两次水就足够了。但不要浇太多。")]
    for source in ("rows", "list"):
        for question, answer in (FACTS, ("列出2种水果", "苹果、香蕉")):
            one = _made([_row(0, question, answer)], "irrelevant_ending", reference=reference, source=source)[0][0]
            assert one.text.startswith(answer.rstrip("。") + "。") and one.text.endswith(one.parameters["altered"]["added"])
            assert "但不要" not in one.text
            assert source == "list" or "窗台上的植物每周浇两次水就足够了。" in one.text
    tips = _made([_row(0, *TIPS)], "irrelevant_ending", source="list")[0][0].text
    assert tips.startswith(TIPS[1] + "\n\n")


def test_wrong_language_without_a_model() -> None:
    assert _texts("把“你好，世界”翻译成英文。", "Hello, world", "wrong_language", 1) == ["你好，世界"]
    assert _texts("Translate into Chinese: The sky is blue", "天空是蓝色的", "wrong_language", 1) == ["The sky is blue"]
    assert _texts("列出3种水果。", "苹果、香蕉、橘子", "wrong_language", 1) == ["apple, banana, orange"]
    assert _texts("Name two sports.", "football and golf", "wrong_language", 1) == ["足球、高尔夫"]
    replies = _texts(*FACTS, "wrong_language", 5)
    assert len(set(replies)) == 5 and all("介绍一下埃菲尔铁塔" in text for text in replies)
    assert _why(*FACTS, "wrong_language", way="copy") == "no_translation"
    assert _why("Как дела?", "Хорошо, спасибо.", "wrong_language") == "no_words_for_language"


def test_the_near_answer_is_to_another_question() -> None:
    rows = [
        _row(0, "如何种植番茄？", "选择阳光充足的地方，把种子埋进土里一厘米深。"),
        _row(1, "如何种植番茄呢？", "找一个向阳的地块，保持土壤湿润，定期施肥。"),  # the same question
        _row(2, "如何种植黄瓜？", "搭好架子，让藤蔓向上爬，每天浇水。"),
        _row(3, "法国的首都是哪里？", "巴黎是法国的首都，也是最大的城市。"),
        _row(4, "写一首关于月亮的诗。", "月亮弯弯照九州，几家欢乐几家愁。"),
    ]
    made = _made(rows, "near_answer", 1)
    assert made[0][0].text == rows[2].gold and made[2][0].text in (rows[0].gold, rows[1].gold)
    assert made[3][0].problem_detail == "no_near_row"
    lists = [_row(n, q, a) for n, (q, a) in enumerate([
        ("列出3种水果", "苹果、香蕉、葡萄"), ("请给我3种水果的例子", "桃子、橘子、西瓜"), ("说出水果的名字", "苹果、西瓜、桃子"),
        ("列出3种动物", "老虎、狮子、大象"),
    ])]  # fmt: skip
    assert _made(lists, "near_answer")[0][0].text == "老虎、狮子、大象"
    assert {c.text for cs in _made(lists[:2], "near_answer", reference=lists[:3]) for c in cs} == {""}


def test_a_loop_reads_like_the_text_and_breaks_off() -> None:
    for text in _texts("列出3种水果。", "苹果、香蕉、橘子", "repeat", 4):
        assert re.search(r"(苹果|香蕉|橘子)(、\1){2,}", text), text
    for one in _made([_row(0, *STEPS)], "repeat", 4, most_characters=100)[0]:
        assert one.ended is False and len(one.text) < len(STEPS[1]) + 200
    assert all(one.ended for one in _made([_row(0, *FACTS)], "repeat", 3, cut=False)[0])


@pytest.mark.parametrize("answer", [
    "select count(*), max(age) from singer where country = 'France' and age > 30",
    "```sql\nSELECT DISTINCT T1.name, T1.age FROM singer AS T1 JOIN song AS T2 ON T1.id = T2.singer_id\n"
    "WHERE T2.year BETWEEN 1990 AND 2000 OR T1.name LIKE '%a%' GROUP BY T1.name HAVING count(*) >= 2\n"
    "ORDER BY T1.age DESC LIMIT 5;\n```",
    "SELECT name FROM singer WHERE id NOT IN (SELECT singer_id FROM song) UNION SELECT name FROM dancer;",
    "WITH old AS (SELECT * FROM singer WHERE age > 60) SELECT avg(age) FROM old;",
])  # fmt: skip
def test_changed_sql_parses_and_asks_for_something_else(answer: str) -> None:
    question = SQL_ROW[0] + "\nCREATE TABLE song (id INT, singer_id INT, year INT, title TEXT);"
    gold = sql_in(answer, "sqlite")
    assert gold is not None
    texts = _texts(question, answer, "sql_change", 12)
    assert len(texts) >= 6
    for text in texts:
        found = sql_in(text, "sqlite")
        assert found is not None and parsed(found.text, "sqlite") != parsed(gold.text, "sqlite"), text
        assert text.startswith("```") == answer.startswith("```")
    for name in ("swap_entities", "change_numbers"):
        for text in _texts(question, answer, name, 4):
            assert (found := sql_in(text, "sqlite")) is not None and parsed(found.text, "") != parsed(gold.text, "")
    for name in ("drop_items", "reorder_items", "opposite_words", "irrelevant_ending", "wrong_language"):
        assert _why(question, answer, name) == "sql"


def test_prose_is_no_sql_and_schemas_are_read() -> None:
    for text in ("Select the best option and update your notes.", "With love, from Rome.", "SELECT FROM WHERE (", "选择"):
        assert sql_in(text, "sqlite") is None
        assert _why("?", text, "sql_change") == "no_sql"
    assert schema_in(SQL_ROW[0]) == {"singer": ["id", "name", "age", "country"]}
    assert schema_in("Table pets, columns = [*,PetID,Weight]") == {"pets": ["PetID", "Weight"]} or schema_in(
        "Table pets, columns = [PetID,Weight]"
    ) == {"pets": ["PetID", "Weight"]}
    assert schema_in("# pets ( PetID , Weight )\n# dogs(a,b)") == {"pets": ["PetID", "Weight"], "dogs": ["a", "b"]}


# --- lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "kind", "bodies"), [
    ("1. a\n2. b\n3. c", "numbered", ["a", "b", "c"]),
    ("Here:\n\n1. One\n   - x\n   - y\n\n2. Two\n   - z\n\nThat is all.", "numbered", ["One\n   - x\n   - y", "Two\n   - z"]),
    ("（1）好的；（2）坏的；（3）一般的。", "numbered", ["好的", "坏的", "一般的"]),
    ("- a\n- b", "bulleted", ["a", "b"]),
    ("第一步：洗菜\n第二步：切菜", "steps", ["洗菜", "切菜"]),
    ("苹果、香蕉和橘子", "enumeration", ["苹果", "香蕉", "橘子"]),
    ("常见的水果有苹果、香蕉、橘子等。", "enumeration", ["苹果", "香蕉", "橘子"]),
    ("apple, banana, and orange", "enumeration", ["apple", "banana", "orange"]),
])  # fmt: skip
def test_lists_are_taken_apart_and_put_together(text: str, kind: str, bodies: list[str]) -> None:
    found = [one for one in lists_in(text) if one.kind == kind]
    assert [list(one.bodies) for one in found][:1] == [bodies]
    assert found[0].put_together(range(len(bodies))) == text


@pytest.mark.parametrize("text", ["1.5 million\n2.5 million", "I think, therefore I am, said he.", "```\n1. a\n2. b\n```", "7. x\n3. y"])
def test_what_only_looks_like_a_list_is_none(text: str) -> None:
    assert not lists_in(text)


# --- reference rows -----------------------------------------------------------------------------------------------


def test_reference_rows_depend_on_what_the_rows_say_alone() -> None:
    rows = [_row(n, f"question {n % 700} about thing{n % 700}", f"answer {n % 700}") for n in range(3000)]
    gathered = ReferenceRows.gather(rows, limit=100)
    assert len(gathered) == 100 and len({row.question for row in gathered.rows}) == 100
    shuffled = rows[:]
    random.Random(3).shuffle(shuffled)
    again = ReferenceRows.gather(iter(shuffled), limit=100)
    assert [row.index for row in again.rows] == [row.index for row in gathered.rows]
    assert all(row.index < 700 for row in gathered.rows)  # of equal rows the first
    assert gathered.others(5, 10) == gathered.others(5, 10) != gathered.others(6, 10)
    own = gathered.rows[0]
    assert own not in gathered.others(own.index, 99) and len(gathered.others(own.index, 500)) == 99
    near = gathered.nearest(own, 5)
    assert own not in [row for row, _ in near] and [n for _, n in near] == sorted((n for _, n in near), reverse=True)


def test_counted_rows_are_bags() -> None:
    rng = random.Random(7)
    bags = [Bag(rng.choices("abcdefgh", k=rng.randint(0, 9))) for _ in range(60)]
    rows = CountedRows(bags)
    for asked in (*bags[:20], Bag("xyz"), Bag("aaabz"), Bag()):
        lacking = rows.lacking(asked)
        assert [lacking(place) for place in range(60)] == [(asked - bag).total() for bag in bags]
        assert [lacking.shared(place) for place in range(60)] == [(asked & bag).total() for bag in bags]
    assert rows.totals == [bag.total() for bag in bags]


def test_two_thousand_reference_rows_cost_little() -> None:
    rng = random.Random(3)
    asked = [
        _row(n, f"请列出第{n % 50}组的成员", "、".join(f"成员{rng.randint(0, 5000)}" for _ in range(30))) for n in range(2500)
    ]
    reference = ReferenceRows.gather(asked)
    for name in ("near_answer", "random_answer"):
        maker = AlterationMaker([CandidateStrategy(name, "alteration", 4)], seed=0, reference=reference)
        list(maker.make(asked[:1], cancel=threading.Event(), counter=Counter()))  # takes the rows apart
        started = time.process_time()
        list(maker.make(asked[1:41], cancel=threading.Event(), counter=Counter()))
        assert time.process_time() - started < 40 * 0.02, name


def test_reference_rows_hold_no_more_than_they_may() -> None:
    def rows() -> Iterable[SourceRow]:
        for n in range(3000):
            yield _row(n, f"q{n}", "long " * (3600 if n % 2 else 5000))  # 18 and 25 thousand characters
        yield _row(9999, "no answer", None)
        yield _row(10000, "", "no question")

    gathered = ReferenceRows.gather(rows())
    total = sum(len(row.gold or "") for row in gathered.rows)
    assert 15_000_000 < total <= 20_000_000 and all(row.index % 2 for row in gathered.rows)
    assert not ReferenceRows.gather([]).rows and ReferenceRows([]).nearest(_row(0, "a", "b"), 3) == []


# --- whatever comes -----------------------------------------------------------------------------------------------

HOSTILE = [
    "", " \n ", "a", "。", "，，，、、、", "1" * 5000, "1. " * 5000, "、".join("苹果" for _ in range(5000)), "(" * 5000,
    "select " + "(" * 3000 + "1" + ")" * 3000, "```", "```sql\n", "“" * 3000, "\ud800\udfff", "\0\x07\ufffd" * 500,
    "a, " * 5000, "Ａｂｃ１２３", "- " * 3000, "\n" * 5000, "一二三四五六七八九十" * 500, "Is it? " * 2000,
    "Aa " * 5000, "A " * 5000, "$" * 3000, "<" * 3000, "{" * 3000, "《" * 2000 + "》" * 2000, "·" * 3000, "第一步" * 2000,
    "的。" * 5000, "x" * 100_000, "字" * 100_000, "9.9." * 3000, "百分之" * 3000, "- a\n" * 3000, "1) x " * 3000, "|" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALTERATIONS))
def test_hostile_answers_cost_little_and_break_nothing(name: str) -> None:
    rows = [_row(n, question, text) for n, text in enumerate(HOSTILE) for question in ("怎么做？", text[:20_000])[n % 2 :][:1]]
    rows += [_row(99, "x", None), _row(100, "call a tool", [{"role": "assistant", "content": None, "tool_calls": []}])]
    reference = ReferenceRows.gather([_row(1000 + n, f"问题{n} question", text) for n, text in enumerate(HOSTILE)])
    strategy = CandidateStrategy(name, "alteration", 1)
    for row in rows:
        started = time.perf_counter()
        maker = AlterationMaker([strategy], seed=0, reference=reference)
        (_, (one,)), = maker.make([row], cancel=threading.Event(), counter=Counter())  # fmt: skip
        assert (one.problem == "nothing_to_alter") == (not one.text)
        assert time.perf_counter() - started < 4, (name, (row.gold or "")[:20])
