"""The built-in instruction set: questions in Chinese and English, their answers, and who is right.

Six tasks over six kinds of words. Every prompt is a template with words put in; whole prompts are held out, the
words and the templates in them are not, so a held-out prompt can be answered by what was learned but not by heart.
Lists come in random order and most answers have two wordings: a sound model keeps some entropy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

# kind -> (name in zh, singular, plural, words as (zh, en))
KINDS: dict[str, tuple[str, str, str, tuple[tuple[str, str], ...]]] = {
    "fruit": ("水果", "fruit", "fruits", (
        ("苹果", "apple"), ("香蕉", "banana"), ("橘子", "orange"), ("葡萄", "grape"), ("西瓜", "watermelon"),
        ("桃子", "peach"))),
    "animal": ("动物", "animal", "animals", (
        ("小狗", "dog"), ("小猫", "cat"), ("老虎", "tiger"), ("狮子", "lion"), ("大象", "elephant"),
        ("兔子", "rabbit"))),
    "colour": ("颜色", "colour", "colours", (
        ("红色", "red"), ("黄色", "yellow"), ("蓝色", "blue"), ("绿色", "green"), ("白色", "white"),
        ("黑色", "black"))),
    "job": ("职业", "job", "jobs", (
        ("医生", "doctor"), ("老师", "teacher"), ("司机", "driver"), ("厨师", "cook"), ("农民", "farmer"),
        ("警察", "policeman"))),
    "sport": ("运动", "sport", "sports", (
        ("足球", "football"), ("篮球", "basketball"), ("网球", "tennis"), ("排球", "volleyball"),
        ("游泳", "swimming"), ("跑步", "running"))),
    "vegetable": ("蔬菜", "vegetable", "vegetables", (
        ("白菜", "cabbage"), ("土豆", "potato"), ("番茄", "tomato"), ("黄瓜", "cucumber"), ("南瓜", "pumpkin"),
        ("洋葱", "onion"))),
}  # fmt: skip
OPPOSITES: tuple[tuple[str, str, str, str], ...] = (
    ("大", "小", "big", "small"),
    ("高", "低", "high", "low"),
    ("长", "短", "long", "short"),
    ("快", "慢", "fast", "slow"),
    ("热", "冷", "hot", "cold"),
    ("新", "旧", "new", "old"),
    ("多", "少", "many", "few"),
    ("远", "近", "far", "near"),
    ("轻", "重", "light", "heavy"),
    ("开", "关", "open", "closed"),
    ("左", "右", "left", "right"),
)
_COUNT_ZH = {2: "两", 3: "三", 4: "四", 5: "五"}
_COUNT_EN = {2: "two", 3: "three", 4: "four", 5: "five"}

_LIST = {
    "zh": (
        "列出{n}种不同的{k}。",
        "请列出{n}种{k}。",
        "请说出{n}种{k}的名字。",
        "写出{m}种{k}。",
        "给我{n}种{k}的例子。",
        "你能想到哪{m}种{k}？",
        "我想知道{n}种{k}，请告诉我。",
    ),
    "en": (
        "List {n} different {k}.",
        "Please list {n} {k}.",
        "Name {m} {k}.",
        "Write down {n} {k}.",
        "Give me {n} examples of {k}.",
        "Can you think of {m} {k}?",
        "I want to know {n} {k}, please tell me.",
    ),
}
_OPPOSITE = {
    "zh": ("“{w}”的反义词是什么？", "请写出“{w}”的反义词。", "和“{w}”意思相反的词是什么？", "请问“{w}”的反义词？"),
    "en": (
        "What is the opposite of {w}?",
        "Give the opposite of {w}.",
        "Which word means the opposite of {w}?",
        "Please write the opposite of {w}.",
    ),
}
_TRANSLATE = {
    "zh": ("“{w}”用英语怎么说？", "把“{w}”翻译成英文。", "请把“{w}”译成英语。", "“{w}”的英文是什么？"),
    "en": (
        "How do you say {w} in Chinese?",
        "Translate {w} into Chinese.",
        "What is {w} in Chinese?",
        "Please translate the word {w} into Chinese.",
    ),
}
_SUM = {
    "zh": ("{a}加{b}等于几？", "请计算{a}加{b}。", "{a}加{b}是多少？"),
    "en": ("What is {a} plus {b}?", "Please add {a} and {b}.", "How much is {a} plus {b}?"),
}
_KIND = {
    "zh": ("“{w}”属于哪一类？", "“{w}”是一种什么？", "请说出“{w}”的类别。"),
    "en": ("What kind of thing is {w}?", "Which group does {w} belong to?", "Please name the group of {w}."),
}
_SENTENCE = {
    "zh": ("用“{w}”造一个句子。", "请写一句话，里面要有“{w}”。", "请用“{w}”这个词写一句话。"),
    "en": ("Write a sentence with the word {w}.", "Make a sentence about {w}.", "Please use {w} in a sentence."),
}
_SENTENCES = {
    ("zh", "fruit"): ("我每天早上都吃{w}。", "超市里的{w}又新鲜又便宜。"),
    ("zh", "animal"): ("我们在公园里看到了{w}。", "孩子们都很喜欢{w}。"),
    ("zh", "colour"): ("她买了一条{w}的裙子。", "墙上的画是{w}的。"),
    ("zh", "job"): ("我的叔叔是一名{w}。", "她长大以后想当{w}。"),
    ("zh", "sport"): ("周末我和朋友一起练{w}。", "他最喜欢的运动是{w}。"),
    ("zh", "vegetable"): ("妈妈今天晚上做了{w}汤。", "菜园里种了很多{w}。"),
    ("en", "fruit"): ("I eat {w} every morning.", "The {w} in the shop is fresh and cheap."),
    ("en", "animal"): ("We saw a {w} in the park.", "The children like the {w} very much."),
    ("en", "colour"): ("She bought a {w} dress.", "The picture on the wall is {w}."),
    ("en", "job"): ("My uncle is a {w}.", "She wants to become a {w}."),
    ("en", "sport"): ("I practise {w} with my friends at the weekend.", "His favourite sport is {w}."),
    ("en", "vegetable"): ("Mother made {w} soup this evening.", "There is a lot of {w} in the garden."),
}
# What the pre-training text also talks about, so that a model which was only pre-trained has something to say.
_ARTICLES = (
    "人工智能正在改变医疗保健，医生可以用它更快地分析影像。",
    "随着科技的发展，越来越多的人开始在网上学习。",
    "天气预报说明天会下雨，出门的时候请带上雨伞。",
    "城市里的交通越来越拥挤，很多人选择坐地铁上班。",
    "保护环境是每个人的责任，我们应该节约用水。",
    "这本书讲述了一个年轻人在海边生活的故事。",
    "健康的生活需要合理的饮食和足够的睡眠。",
    "这家公司去年的收入增长了很多。",
    "Artificial intelligence helps hospitals to read images faster.",
    "Many people now take courses on the internet.",
    "The weather report says that it will rain tomorrow.",
    "More and more people go to work by train.",
    "We should save water and protect the environment.",
    "This book tells the story of a young man by the sea.",
    "A healthy life needs good food and enough sleep.",
    "The company sold more cars than in the year before.",
)
FOUNDING_PROMPT = "列出5种不同的水果。"


@dataclass(frozen=True)
class Question:
    """One prompt with what is needed to answer it. `given` are the words in it, `wanted` what an answer turns on."""

    prompt: str
    language: str
    task: str
    given: tuple[str, ...]
    wanted: tuple[str, ...]
    count: int = 1
    kind: str = ""


def _words(language: str) -> list[tuple[str, str, str]]:
    """(word, its translation, kind) of every word of one language."""
    side = 0 if language == "zh" else 1
    return [(pair[side], pair[1 - side], kind) for kind, (_, _, _, pairs) in KINDS.items() for pair in pairs]


def _kind_name(kind: str, language: str, *, plural: bool = False) -> str:
    zh, singular, many, _ = KINDS[kind]
    return zh if language == "zh" else many if plural else singular


def all_questions() -> list[Question]:
    """Every question, in a fixed order, no prompt twice."""
    found: list[Question] = []
    for lang in ("zh", "en"):
        words = _words(lang)
        for template, kind, n in product(_LIST[lang], KINDS, (2, 3, 4, 5)):
            spelled = (_COUNT_ZH if lang == "zh" else _COUNT_EN)[n]
            prompt = template.format(n=n, m=spelled, k=_kind_name(kind, lang, plural=True))
            members = tuple(word for word, _, of in words if of == kind)
            found.append(Question(prompt, lang, "list", (), members, n, kind))
        pairs = [(row[0], row[1]) if lang == "zh" else (row[2], row[3]) for row in OPPOSITES]
        for template, (one, other) in product(_OPPOSITE[lang], pairs + [(b, a) for a, b in pairs]):
            found.append(Question(template.format(w=one), lang, "opposite", (one,), (other,)))
        for template, (word, translation, kind) in product(_TRANSLATE[lang], words):
            found.append(Question(template.format(w=word), lang, "translate", (word,), (translation,), 1, kind))
        for template, a, b in product(_SUM[lang], range(1, 6), range(1, 6)):
            found.append(Question(template.format(a=a, b=b), lang, "sum", (str(a), str(b)), (str(a + b),)))
        for template, (word, _, kind) in product(_KIND[lang], words):
            wanted = (_kind_name(kind, lang),)
            found.append(Question(template.format(w=word), lang, "kind", (word,), wanted, 1, kind))
        for template, (word, _, kind) in product(_SENTENCE[lang], words):
            found.append(Question(template.format(w=word), lang, "sentence", (word,), (word,), 1, kind))
    return list({question.prompt: question for question in found}.values())


def split(questions: Sequence[Question], held_out_share: float) -> tuple[list[Question], list[Question]]:
    """(trained on, held out) by a hash of the prompt, so that the side of a prompt never depends on the others."""
    train: list[Question] = []
    held: list[Question] = []
    for question in questions:
        digest = hashlib.sha256(question.prompt.encode()).digest()
        is_held = question.prompt == FOUNDING_PROMPT or int.from_bytes(digest[:4], "big") < held_out_share * 2**32
        (held if is_held else train).append(question)
    return train, held


def right_answers(question: Question) -> tuple[str, ...]:
    """Every wording that counts as right, the plain one first; of a list one example."""
    zh = question.language == "zh"
    wanted = question.wanted[0]
    given = question.given[0] if question.given else ""
    if question.task == "list":
        return (("、" if zh else ", ").join(question.wanted[: question.count]),)
    if question.task == "opposite":
        return (wanted, f"“{given}”的反义词是“{wanted}”。" if zh else f"The opposite of {given} is {wanted}.")
    if question.task == "translate":
        return (wanted, f"“{given}”的英文是{wanted}。" if zh else f"The Chinese word for {given} is {wanted}.")
    if question.task == "sum":
        a, b = question.given
        return (wanted, f"{a}加{b}等于{wanted}。" if zh else f"{a} plus {b} is {wanted}.")
    if question.task == "kind":
        return (wanted, f"“{given}”是一种{wanted}。" if zh else f"{given} is a kind of {wanted}.")
    if question.task == "sentence":
        return tuple(s.format(w=given) for s in _SENTENCES[question.language, question.kind])
    raise ValueError(f"no such task: {question.task}")


def write_answer(question: Question, rng: Random) -> str:
    """One right answer; lists in random order."""
    if question.task == "list":
        return ("、" if question.language == "zh" else ", ").join(rng.sample(question.wanted, question.count))
    return rng.choice(right_answers(question))


def is_right(question: Question, answer: str) -> bool:
    """Whether `answer` answers the question: so many different members of the kind, or one of the right wordings."""
    answer = answer.strip()
    if question.task == "list":
        items = [item.strip() for item in answer.split("、" if question.language == "zh" else ",")]
        return len(items) == question.count == len(set(items)) and set(items) <= set(question.wanted)
    return answer in right_answers(question)


def plain_text(rng: Random) -> tuple[str, str]:
    """One statement of a text nobody asked for, as (its beginning, the rest): what pre-training reads."""
    language = rng.choice(("zh", "en"))
    zh = language == "zh"
    word, translation, kind = rng.choice(_words(language))
    draw = rng.random()
    if draw < 0.25:
        article = rng.choice(_ARTICLES)
        cut = len(article) // 3 if article[0] > "z" else article.index(" ", len(article) // 4)
        return article[:cut], article[cut:].strip()
    if draw < 0.45:
        members = [w for w, _, of in _words(language) if of == kind]
        named = rng.sample(members, rng.randint(2, 5))
        name = _kind_name(kind, language, plural=True)
        return (f"常见的{name}有", "、".join(named)) if zh else (f"Common {name} are", ", ".join(named))
    if draw < 0.6:
        if zh:
            return f"“{word}”的英文是", f"{translation}。"
        return f"The Chinese word for {word} is", f"{translation}."
    if draw < 0.7:
        name = _kind_name(kind, language)
        return (f"“{word}”是一种", f"{name}。") if zh else (f"{word} is a kind of", f"{name}.")
    if draw < 0.8:
        row = rng.choice(OPPOSITES)
        one, other = rng.sample(row[:2] if zh else row[2:], 2)
        return (f"“{one}”的反义词是", f"“{other}”。") if zh else (f"The opposite of {one} is", f"{other}.")
    if draw < 0.9:
        a, b = rng.randint(1, 5), rng.randint(1, 5)
        return (f"{a}加{b}等于", f"{a + b}。") if zh else (f"{a} plus {b} is", f"{a + b}.")
    sentence = rng.choice(_SENTENCES[language, kind]).format(w=word)
    cut = max(2, len(sentence) // 3) if zh else sentence.index(" ", 2)
    return sentence[:cut], sentence[cut:].strip()
