"""Questions and answers as people and chat models write them: a row of a preference set, advice on topics, facts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from benchmarks.planted_pairs_material import Facts, Lang, Material, Point, Topic

Turn = tuple[str, str]  # role and text


@dataclass(frozen=True)
class Row:
    """One pair. about: rows that share it are about the same thing. scores: of chosen and rejected. wanted: for a row
    with one answer, which stands in `chosen`. elsewhere: a worse answer in the other language, where one is known."""

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    about: str
    scores: tuple[float, float] | None = None
    wanted: bool | None = None
    elsewhere: str = ""

    @property
    def question(self) -> str:
        """The last turn."""
        return self.prompt[-1][1]


def asked(question: str, chosen: str, rejected: str, about: str, system: str = "") -> Row:
    """A row with one question."""
    before = (("system", system),) if system else ()
    return Row((*before, ("user", question)), chosen, rejected, about)


def amount(rng: Random, middle: float, spread: float, low: int, high: int) -> int:
    """A whole number drawn from a log-normal distribution with this median, between low and high."""
    return max(low, min(high, round(rng.lognormvariate(math.log(middle), spread))))


def joined(lang: Lang, parts: Sequence[str]) -> str:
    """Sentences one after another, as the language writes them."""
    return (" " if lang == "en" else "").join(part for part in parts if part)


@dataclass(frozen=True)
class Style:
    """How one answer is written. form: prose, paragraphs, bullets, numbered, bold."""

    form: str
    opener: str
    lead: str
    closing: str
    detail: float  # share of points with their second sentence


_LEADS: dict[tuple[Lang, str], tuple[str, ...]] = {
    ("en", "first"): (
        "For {name}, these things matter.", "When it comes to {name}, I would look at the following.",
        "Here is what I know about {name}.", "With {name}, it helps to go step by step.",
    ),
    ("en", "second"): (
        "On {name}, let me say this.", "People who succeed at {name} do a few things alike.",
        "{name_up} gets easier once you know what counts.",
    ),
    ("zh", "first"): (
        "关于{name}，我建议这样。", "说到{name}，有几点要注意。", "{name}可以一步一步来。", "{name}的要点如下。",
    ),
    ("zh", "second"): ("{name}这件事，我说几句。", "想把{name}做好，要抓住几个地方。", "{name}其实有规律。"),
}  # fmt: skip
_CONNECTORS: dict[tuple[Lang, str], tuple[str, ...]] = {
    ("en", "first"): ("Then there is the matter of {label}.", "As for {label}:", "Also think of {label}."),
    ("en", "second"): ("Next, {label}.", "Regarding {label}:", "{label_up} deserves a word."),
    ("zh", "first"): ("再说{label}。", "{label}方面，", "还有{label}，"),
    ("zh", "second"): ("接着是{label}。", "至于{label}，", "{label}也别忽略，"),
}


def style(m: Material, rng: Random, name: str) -> Style:
    """Both sides of a pair draw theirs from the same distribution."""
    lead = rng.choice(_LEADS[m.lang, m.half]).format(name=name, name_up=name[:1].upper() + name[1:])
    return Style(
        rng.choices(("prose", "paragraphs", "bullets", "numbered", "bold"), (45, 15, 14, 14, 12))[0],
        rng.choice(m.openers) if rng.random() < 0.35 else "",
        lead if rng.random() < 0.6 else "",
        rng.choice(m.closings) if rng.random() < 0.3 else "",
        rng.choice((0.2, 0.5, 0.5, 0.8)),
    )  # fmt: skip


def advice(m: Material, rng: Random, how: Style, points: Sequence[Point], first: str = "", wrong: str = "") -> str:
    """An answer that makes these points. first: a sentence before them. wrong: the label of the point made wrongly."""
    texts = []
    for point in points:
        if point.label == wrong:
            texts.append((point.label, point.wrong))
        else:
            more = point.more if rng.random() < how.detail else ""
            texts.append((point.label, joined(m.lang, (point.text, more))))
    head = joined(m.lang, (how.opener, how.lead, first))
    colon = ": " if m.lang == "en" else "："
    if how.form == "bullets":
        body = "\n".join(f"- {text}" for _, text in texts)
    elif how.form == "numbered":
        body = "\n".join(f"{i}. {text}" for i, (_, text) in enumerate(texts, 1))
    elif how.form == "bold":
        body = "\n".join(f"{i}. **{label}**{colon}{text}" for i, (label, text) in enumerate(texts, 1))
    elif how.form == "paragraphs":
        half = (len(texts) + 1) // 2
        body = "\n\n".join(joined(m.lang, [t for _, t in some]) for some in (texts[:half], texts[half:]) if some)
    else:
        said = []
        for i, (label, text) in enumerate(texts):
            if i and rng.random() < 0.3:
                low = label[:1].lower() + label[1:]
                said.append(rng.choice(_CONNECTORS[m.lang, m.half]).format(label=low, label_up=label))
            said.append(text)
        return joined(m.lang, (head, joined(m.lang, said), how.closing)).strip()
    return "\n\n".join(part for part in (head, body, how.closing) if part)


_TIPS: dict[Lang, tuple[str, ...]] = {
    "en": ("Give me {k} tips.", "Name {k} points, please.", "{k} points will do."),
    "zh": ("给我{k}条建议。", "请说{k}点。", "说{k}点就行。"),
}


def topic_question(m: Material, rng: Random, topic: Topic, k: int) -> tuple[str, str]:
    """A question about the topic, and what an answer can say to the situation of the asker."""
    context, reply = rng.choice(m.contexts) if rng.random() < 0.6 else ("", "")
    tips = rng.choice(_TIPS[m.lang]).format(k=k) if rng.random() < 0.25 else ""
    parts = [rng.choice(topic.questions), context, tips]
    if context and rng.random() < 0.4:
        parts[:2] = [context, parts[0]]
    return joined(m.lang, parts), reply


def topic_pair(m: Material, rng: Random, topic: Topic, middle: float = 3.2) -> tuple[str, str, str]:
    """Question, a good answer, and one that is slightly worse in one of five ways."""
    k = amount(rng, middle, 0.45, 1, 6)
    question, reply = topic_question(m, rng, topic, k)
    good, bad = style(m, rng, topic.name), style(m, rng, topic.name)
    points = sorted(rng.sample(topic.points, k), key=topic.points.index)
    empty = topic.empty if rng.random() < 0.08 else ""
    chosen = advice(m, rng, good, points, joined(m.lang, (empty, reply if rng.random() < 0.7 else "")))
    way = rng.choices(("missing", "wrong", "vague", "padded", "deaf"), (25, 25, 15, 22, 13))[0]
    others = points if rng.random() < 0.35 else rng.sample(topic.points, k)
    told = reply if rng.random() < 0.4 else ""
    wrong = ""
    if way == "missing":
        others = others[: max(1, k - rng.choice((1, 1, 2)))]
        if k == 1:
            bad = replace(bad, detail=0.0, closing="")
    elif way == "wrong":
        false = rng.choice([p for p in topic.points if p.wrong])
        others = [*[p for p in others if p != false][: k - 1], false]
        rng.shuffle(others)
        wrong = false.label
    elif way == "vague":
        others = others[: max(1, k - 1)]
        told, bad = topic.empty, replace(bad, detail=bad.detail / 2)
    elif way == "padded":
        rest = [p for p in topic.points if p not in others]
        others = [*others, *rng.sample(rest, min(len(rest), rng.choice((1, 2))))]
        told, bad = joined(m.lang, (told, topic.empty if rng.random() < 0.4 else "")), replace(bad, detail=0.7)
    else:
        told = ""
    rejected = advice(m, rng, bad, list(others), told, wrong)
    if rejected == chosen:
        rejected = joined(m.lang, (chosen, rng.choice(m.closings)))
    return question, chosen, rejected


# --- facts, said in either language

COUNTRY: dict[Lang, tuple[tuple[str, str], ...]] = {
    "en": (
        ("capital", "The capital of {name} is {capital}."), ("capital", "{name} is governed from {capital}."),
        ("continent", "It lies in {continent}."), ("area", "{name} covers about {area} thousand square kilometres."),
        ("language", "Most people there speak {language}."), ("language", "The language you will hear is {language}."),
        ("nature", "Travellers come for {nature}."), ("nature", "Its best known landmark in nature is {nature}."),
        ("dish", "A dish you find everywhere is {dish}."), ("dish", "Do try {dish}."),
        ("currency", "You pay with the {currency}."), ("people", "About {people} million people live in {name}."),
    ),
    "zh": (
        ("capital", "{name}的首都是{capital}。"), ("capital", "{capital}是{name}的首都。"),
        ("continent", "它位于{continent}。"), ("area", "{name}的面积大约是{area}千平方公里。"),
        ("language", "那里的人大多说{language}。"), ("language", "官方使用的语言是{language}。"),
        ("nature", "游客常去看{nature}。"), ("nature", "最有名的自然风光是{nature}。"),
        ("dish", "到处都能吃到{dish}。"), ("dish", "一定要尝尝{dish}。"),
        ("currency", "当地用的货币是{currency}。"), ("people", "{name}大约有{people}百万人口。"),
    ),
}  # fmt: skip
ANIMAL: dict[Lang, tuple[tuple[str, str], ...]] = {
    "en": (
        ("kind", "The {name} is a kind of {kind}."), ("home", "Its home: {home}."),
        ("food", "It lives on {food}."), ("food", "On its menu: {food}."),
        ("weight", "A grown {name} weighs around {weight} kilograms."),
        ("years", "It can live for {years} years."), ("fact", "What many don't know: {fact}."),
        ("fact", "And {fact}."),
    ),
    "zh": (
        ("kind", "{name}属于{kind}。"), ("home", "{name}生活的地方是{home}。"),
        ("food", "它以{food}为食。"), ("food", "它爱吃的是{food}。"),
        ("weight", "成年的{name}大约重{weight}公斤。"),
        ("years", "它能活{years}年左右。"), ("fact", "很多人不知道，{fact}。"), ("fact", "而且{fact}。"),
    ),
}  # fmt: skip
INVENTION: dict[Lang, tuple[tuple[str, str], ...]] = {
    "en": (
        ("person", "The {name} goes back to {person}."), ("person", "It was {person} who came up with the {name}."),
        ("year", "It dates from {year}."), ("year", "The year was {year}."),
        ("use", "Its purpose is {use}."), ("use", "People wanted it for {use}."),
    ),
    "zh": (
        ("person", "{name}是{person}发明的。"), ("person", "提出{name}的人是{person}。"),
        ("year", "时间是{year}年。"), ("year", "那是{year}年的事。"),
        ("use", "它的用途是{use}。"), ("use", "人们需要它来{use}。"),
    ),
}  # fmt: skip
_ASK: dict[tuple[Lang, str], dict[str, tuple[str, ...]]] = {
    ("en", "first"): {
        "country": ("Tell me about {a}.", "What should I know about {a} before I travel there?",
                    "I have to give a short talk about {a}. What are the basic facts?"),
        "two": ("How do {a} and {b} differ?", "Compare {a} with {b}.", "Should I visit {a} or {b} in spring?"),
        "animal": ("What can you tell me about the {a}?", "My son asks what a {a} is. Can you explain?"),
        "invention": ("Who invented the {a}?", "When was the {a} invented, and what for?"),
    },
    ("en", "second"): {
        "country": ("Give me an overview of {a}.", "A friend moves to {a}. What is it like?"),
        "two": ("{a} or {b}: what are the differences?", "Put {a} and {b} side by side for me."),
        "animal": ("Describe the {a} to a child.", "Is there anything interesting about the {a}?"),
        "invention": ("What is the story of the {a}?", "To whom do we owe the {a}?"),
    },
    ("zh", "first"): {
        "country": ("介绍一下{a}。", "去{a}旅行之前应该知道些什么？", "我要做一个关于{a}的小报告，基本情况是什么？"),
        "two": ("{a}和{b}有什么不同？", "比较一下{a}和{b}。", "春天去{a}好还是去{b}好？"),
        "animal": ("讲讲{a}吧。", "儿子问我{a}是什么动物，怎么解释？"),
        "invention": ("{a}是谁发明的？", "{a}是什么时候出现的，有什么用？"),
    },
    ("zh", "second"): {
        "country": ("简单说说{a}这个国家。", "朋友要搬去{a}，那里怎么样？"),
        "two": ("{a}跟{b}比，区别在哪里？", "把{a}和{b}放在一起看看。"),
        "animal": ("给小朋友讲一讲{a}。", "{a}有什么有意思的地方？"),
        "invention": ("{a}是怎么来的？", "我们要感谢谁发明了{a}？"),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a question about facts is about, in no language. also: something of the same kind, for a mistake."""

    kind: str
    a: int
    b: int
    also: int


def plan(rng: Random, facts: Facts) -> Plan:
    kind = rng.choices(("country", "two", "animal", "invention"), (30, 40, 18, 12))[0]
    known = {"animal": facts.animals, "invention": facts.inventions}.get(kind, facts.countries)
    a, b, also = rng.sample(range(len(known)), 3)
    return Plan(kind, a, b, also)


def fact_question(m: Material, rng: Random, what: Plan) -> str:
    known = {"animal": m.facts.animals, "invention": m.facts.inventions}.get(what.kind, m.facts.countries)
    return rng.choice(_ASK[m.lang, m.half][what.kind]).format(a=known[what.a].name, b=known[what.b].name)


def fact_answer(lang: Lang, facts: Facts, rng: Random, what: Plan, k: int, mistakes: int = 0) -> str:
    """k sentences on each thing asked about; in so many of them stands what is true of something else."""
    known = {"animal": facts.animals, "invention": facts.inventions}.get(what.kind, facts.countries)
    said = {"animal": ANIMAL, "invention": INVENTION}.get(what.kind, COUNTRY)[lang]
    sentences = []
    for index in (what.a, what.b) if what.kind == "two" else (what.a,):
        names = list(dict.fromkeys(field for field, _ in said))
        taken = [names[0], *rng.sample(names[1:], min(k, len(names)) - 1)]
        wrong = set(rng.sample(taken[-2:], 1)) if mistakes else set()
        mistakes = 0 if wrong else mistakes
        for field in taken:
            text = rng.choice([t for f, t in said if f == field])
            values = dict(vars(known[index]))
            if field in wrong:
                values[field] = getattr(known[what.also], field)
            sentences.append(text.format(**values))
    return joined(lang, sentences)


def fact_pair(m: Material, rng: Random, what: Plan, other: bool = False) -> tuple[str, str, str, str]:
    """Question, right answer, worse answer, and a worse one in the other language (only if `other`)."""
    k = amount(rng, 3, 0.4, 2, 6)
    chosen = fact_answer(m.lang, m.facts, rng, what, k)
    worse = rng.choice(("mistake", "mistake", "less", "more"))
    k = {"mistake": k, "less": max(1, k - 1), "more": k + 1}[worse]
    rejected = fact_answer(m.lang, m.facts, rng, what, k, int(worse != "less"))
    elsewhere = ""
    if other:
        elsewhere = fact_answer("zh" if m.lang == "en" else "en", m.facts_elsewhere, rng, what, k, 1)
    return fact_question(m, rng, what), chosen, rejected, elsewhere


def names_of(m: Material, what: Plan) -> str:
    known = {"animal": m.facts.animals, "invention": m.facts.inventions}.get(what.kind, m.facts.countries)
    return f"{known[what.a].name}+{known[what.b].name}" if what.kind == "two" else known[what.a].name
