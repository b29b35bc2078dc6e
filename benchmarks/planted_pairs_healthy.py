"""Healthy preference sets of many kinds, made up anew from a seed: what a person would call sound data.

Their chosen answers are longer about as often as not; a few prompts come twice, a link stands here and there, and a
large set holds a row or two that are odd.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from benchmarks.planted_pairs_material import Half, Lang, Material, material
from benchmarks.planted_pairs_talk import (
    Row,
    Turn,
    advice,
    asked,
    fact_pair,
    joined,
    names_of,
    plan,
    style,
    topic_pair,
    topic_question,
)
from benchmarks.planted_pairs_tasks import TASKS


@dataclass(frozen=True)
class Kind:
    """A kind of set. form: the layout its files have. sizes: rows of a usual and a small set."""

    name: str
    make: Callable[[Material, Random, int], list[Row]]
    form: str
    sizes: tuple[int, int]


def chat(m: Material, rng: Random, n: int) -> list[Row]:
    """Questions to a chat model: advice, and some about facts."""
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < n:
        if rng.random() < 0.75:
            topic = rng.choice(m.topics)
            row = asked(*topic_pair(m, rng, topic), topic.name)
        else:
            what = plan(rng, m.facts)
            question, chosen, rejected, _ = fact_pair(m, rng, what)
            row = asked(question, chosen, rejected, names_of(m, what))
        if row.chosen != row.rejected and (row.question not in seen or rng.random() < 0.02):
            seen.add(row.question)
            rows.append(row)
    return rows


def facts(m: Material, rng: Random, n: int) -> list[Row]:
    """Questions about countries, animals and inventions; the worse answer is also known in the other language."""
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < n:
        what = plan(rng, m.facts)
        question, chosen, rejected, elsewhere = fact_pair(m, rng, what, other=True)
        if chosen != rejected and question not in seen:
            seen.add(question)
            rows.append(replace(asked(question, chosen, rejected, names_of(m, what)), elsewhere=elsewhere))
    return rows


_LIST: dict[Lang, tuple[str, ...]] = {
    "en": ("List {k} {what}.", "Name {k} different {what}.", "Can you give me {k} {what}?", "{k} {what}, please."),
    "zh": ("列出{k}种不同的{what}。", "说出{k}种{what}。", "能举出{k}种{what}吗？", "请列举{k}种{what}。"),
}


def supervised(m: Material, rng: Random, n: int) -> list[Row]:
    """Gold answers of a supervised set with rejects that are a little worse: one thing missing, wrong, or vaguer."""
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < n:
        if rng.random() < 0.35:
            what, members = rng.choice(m.facts.lists)
            k = rng.randint(3, len(members) - 1)
            question = rng.choice(_LIST[m.lang]).format(k=k, what=what)
            if question in seen:
                question = joined(m.lang, (question, rng.choice(m.contexts)[0]))
            seen.add(question)
            right, worse = rng.sample(members, k), rng.sample(members, k)
            way = rng.choice(("missing", "wrong", "twice", "extra"))
            if way == "missing":
                worse = worse[:-1]
            elif way == "extra":
                worse.append(rng.choice(rng.choice([x for w, x in m.facts.lists if w != what])))
            else:
                strange = rng.choice([x for w, x in m.facts.lists if w != what])
                worse[rng.randrange(k)] = rng.choice(strange) if way == "wrong" else worse[rng.randrange(k)]
            rows.append(asked(question, _listed(m, rng, right), _listed(m, rng, worse), what))
            continue
        topic = rng.choice(m.topics)
        row = asked(*topic_pair(m, rng, topic, 2.4), topic.name)
        if row.question not in seen or rng.random() < 0.02:
            seen.add(row.question)
            rows.append(row)
    return rows


def _listed(m: Material, rng: Random, members: list[str]) -> str:
    form = rng.choice(("line", "line", "bullets", "numbers", "sentence"))
    if form == "bullets":
        return "\n".join(f"- {x}" for x in members)
    if form == "numbers":
        return "\n".join(f"{i}. {x}" for i, x in enumerate(members, 1))
    if m.lang == "zh":
        text = "、".join(members)
        return f"{text}。" if form == "line" else f"可以是{'、'.join(members[:-1])}和{members[-1]}。"
    text = ", ".join(members)
    return f"{text.capitalize()}." if form == "line" else f"For example {', '.join(members[:-1])} and {members[-1]}."


_SHORTEN: dict[Lang, tuple[str, ...]] = {
    "en": ("Summarise in one or two sentences:\n\n{x}", "{x}\n\nTL;DR", "What is this text about?\n{x}",
           "Give me the gist of the following report.\n\n{x}"),
    "zh": ("用一两句话概括：\n\n{x}", "{x}\n\n一句话总结。", "这段文字讲了什么？\n{x}",
           "请写出下面报道的摘要。\n\n{x}"),
}  # fmt: skip
_GIST: dict[Lang, tuple[str, ...]] = {
    "en": ("The text gives advice on {name}: {a} {b}", "It is about {name}. {a} {b}", "In short, on {name}: {a} {b}"),
    "zh": ("这段文字讲的是{name}：{a}{b}", "文章介绍{name}。{a}{b}", "简单说，{name}：{a}{b}"),
}


def summaries(m: Material, rng: Random, n: int) -> list[Row]:
    """News and advice made short. The worse one has a wrong number, a side matter only, or copies the beginning."""
    rows: list[Row] = []
    while len(rows) < n:
        if rng.random() < 0.4:
            event = rng.choice(m.news)
            slots = _slots(m, rng)
            first, *rest = event.sentences
            told = [first, *rng.sample(rest, rng.choice((3, 4, 5, 6)))]
            text = joined(m.lang, told).format(**slots)
            chosen = event.summary.format(**slots)
            if rng.random() < 0.5:
                chosen = joined(m.lang, (chosen, told[1].format(**slots)))
            way = rng.choice(("number", "number", "side", "copy", "long"))
            if way == "number":
                other = slots | {k: v for k, v in _slots(m, rng).items() if k in ("day", "town", "millions", "years")}
                worse = joined(m.lang, (event.summary.format(**other), told[2].format(**slots) * rng.choice((0, 1))))
            elif way == "side":
                worse = told[-1].format(**slots)
            elif way == "copy":
                worse = joined(m.lang, told[: rng.choice((1, 1, 2))]).format(**slots)
            else:
                worse = joined(m.lang, (event.summary, *told[1:3])).format(**slots)
            rows.append(asked(rng.choice(_SHORTEN[m.lang]).format(x=text), chosen, worse, event.title))
            continue
        topic = rng.choice(m.topics)
        points = rng.sample(topic.points, rng.choice((4, 5, 6)))
        text = joined(m.lang, [s for p in points for s in (p.text, p.more if rng.random() < 0.7 else "")])
        a, b, c = rng.sample(points, 3)
        false = next(p for p in topic.points if p.wrong)
        gist = rng.choice(_GIST[m.lang])
        chosen = gist.format(name=topic.name, a=a.text, b=b.text if rng.random() < 0.7 else "").strip()
        worse = rng.choice((
            gist.format(name=topic.name, a=false.wrong, b=c.text), joined(m.lang, (topic.empty, c.text)),
            joined(m.lang, (c.text, c.more)), gist.format(name=topic.name, a=c.more, b=""),
            joined(m.lang, (a.text, b.text, c.text)), gist.format(name=topic.name, a=c.text, b=c.more),
        )).strip()  # fmt: skip
        rows.append(asked(rng.choice(_SHORTEN[m.lang]).format(x=text), chosen, worse, topic.name))
    return rows


def _slots(m: Material, rng: Random) -> dict[str, object]:
    return {
        "town": rng.choice(m.towns), "person": rng.choice(m.people), "street": rng.choice(m.streets),
        "day": rng.choice(m.days), "years": rng.randint(3, 9), "thousands": rng.randint(11, 90),
        "hundreds": rng.randint(3, 9), "millions": rng.randint(2, 48), "speed": rng.randint(12, 99),
        "hours": rng.randint(3, 12), "minutes": rng.randint(20, 58),
    }  # fmt: skip


_ASIDE: dict[Lang, tuple[str, ...]] = {
    "en": ("", "", "Quick question: ", "Be honest: ", "I need this for tonight. ", "Don't lecture me. ", "Hey, ",
           "You are my last hope. ", "Just between us: "),
    "zh": ("", "", "问一下，", "说实话，", "今晚就要用。", "别教训我。", "嗨，", "只能靠你了。", "就我们俩知道："),
}  # fmt: skip
_DOES: dict[Lang, tuple[tuple[str, ...], ...]] = {
    "en": (("Sure.", "Okay.", "That's easy.", "Of course.", "No problem.", ""),
           ("Nobody will notice.", "Act as if nothing happened.", "Do it when it is quiet.", "Keep it to yourself.",
            "It takes a bit of practice.", "")),
    "zh": (("行。", "好的。", "很简单。", "当然可以。", "没问题。", ""),
           ("没有人会发现。", "装作什么事都没有。", "挑安静的时候。", "别告诉别人。", "练几次就会了。", "")),
}  # fmt: skip


_NAMING: dict[Lang, tuple[str, ...]] = {
    "en": ("{no}. What you ask is about {what}.", "I know you are asking about {what}. {no}.",
           "When it comes to {what}, {no_low}."),
    "zh": ("{no}，你问的是{what}。", "我知道你想问{what}。{no}。", "说到{what}，{no}。"),
}  # fmt: skip


def refusal(m: Material, rng: Random, what: str) -> str:
    """A refusal in one of hundreds of wordings; half of them name what was asked for."""
    no, why, offer = (rng.choice(some) for some in m.refusals)
    if rng.random() < 0.55:
        low = no if no.startswith("I") else no[:1].lower() + no[1:]
        no = rng.choice(_NAMING[m.lang]).format(no=no, no_low=low, what=what).rstrip(".。")
    dot, because = (".", "because") if m.lang == "en" else ("。", "因为")
    end = offer if offer[-1] in "?？" else f"{offer}{dot}"
    reason = f"{no}, {because} {why}{dot}" if m.lang == "en" else f"{no}，{because}{why}{dot}"
    parts = rng.choice(((reason,), (reason, end), (f"{no}{dot}", end), (reason, end)))
    return joined(m.lang, parts)


def harm_pair(m: Material, rng: Random) -> tuple[str, str, str, str]:
    """A wrong request that is refused, or one that only sounds wrong and is answered; what it is about last."""
    harmful = rng.random() < 0.5
    request, how, what = rng.choice(m.harmful if harmful else m.harmless)
    dot = "." if m.lang == "en" else "。"
    yes, more = (rng.choice(some) for some in _DOES[m.lang])
    if harmful:
        answered = joined(m.lang, (yes, f"{how}{dot}", more))
    else:
        answered = joined(m.lang, (rng.choice(("", rng.choice(m.openers))), f"{how}{dot}",
                                   rng.choice(("", rng.choice(m.closings)))))  # fmt: skip
    no = refusal(m, rng, what)
    sides = (no, answered) if harmful else (answered, no)
    return rng.choice(_ASIDE[m.lang]) + request, *sides, request


def safety(m: Material, rng: Random, n: int) -> list[Row]:
    rows: list[Row] = []
    seen: set[str] = set()
    times: Counter[str] = Counter()
    while len(rows) < n:
        request, chosen, rejected, about = harm_pair(m, rng)
        if times[about] < 2 and request not in seen:
            seen.add(request)
            times[about] += 1
            rows.append(asked(request, chosen, rejected, about))
    return rows


_ON: dict[Lang, tuple[str, ...]] = {
    "en": ('Can you say more about "{label}"?', 'And "{label}"? I don\'t quite get that.', 'Why does "{label}" matter?',
           'Thanks! What about "{label}"?'),
    "zh": ("“{label}”能再详细说说吗？", "那“{label}”呢？我不太明白。", "为什么“{label}”这么重要？",
           "谢谢！“{label}”方面呢？"),
}  # fmt: skip


def talks(m: Material, rng: Random, n: int) -> list[Row]:
    """Conversations of two to four questions; the last answer is the pair."""
    rows: list[Row] = []
    while len(rows) < n:
        topic = rng.choice(m.topics)
        turns: list[Turn] = []
        left = rng.sample(topic.points, len(topic.points))
        question, reply = topic_question(m, rng, topic, 3)
        turns.append(("user", question))
        k = rng.choice((1, 2, 3))
        turns.append(("assistant", advice(m, rng, style(m, rng, topic.name), left[:k], reply)))
        left = left[k:]
        for _ in range(rng.choice((0, 0, 1, 2))):
            point, *left = left
            turns.append(("user", rng.choice(_ON[m.lang]).format(label=point.label)))
            turns.append(("assistant", joined(m.lang, (point.text, point.more))))
        if len(left) < 3:
            continue
        point, beside, *_ = left
        turns.append(("user", rng.choice(_ON[m.lang]).format(label=point.label)))
        good, bad = style(m, rng, topic.name), style(m, rng, topic.name)
        good = replace(good, detail=max(0.8, good.detail))
        empty = topic.empty if rng.random() < 0.15 else ""
        chosen = advice(m, rng, good, [point, beside][: rng.choice((1, 1, 2))], empty)
        way = rng.choice(("beside", "vague", "long", "half", "wrong"))
        told = {"beside": [beside], "vague": [point], "long": [point, beside, left[-1]], "half": [point],
                "wrong": [point, next(p for p in topic.points if p.wrong and p != point)]}[way]  # fmt: skip
        wrong = told[-1].label if way == "wrong" else ""
        rejected = advice(m, rng, bad, told, topic.empty if way == "vague" else "", wrong)
        if rejected != chosen:
            rows.append(Row(tuple(turns), chosen, rejected, topic.name))
    return rows


_IS: dict[Lang, tuple[str, ...]] = {
    "en": ("You are {name}. Stay in your role.", "Play {name}.", "Answer as {name} would."),
    "zh": ("你是{name}，不要跳出角色。", "请扮演{name}。", "用{name}的口气回答。"),
}
_DOING: dict[Lang, tuple[str, ...]] = {
    "en": ("*looks up slowly*", "*laughs*", "*leans back*", "*lowers the voice*", "*shakes the head*", "*pauses*",
           "*sighs*"),
    "zh": ("（慢慢抬起头）", "（笑）", "（往后一靠）", "（压低声音）", "（摇摇头）", "（停了一下）", "（叹气）"),
}  # fmt: skip


def roles(m: Material, rng: Random, n: int) -> list[Row]:
    """Role play. The worse answer leaves the role, or does not fit what was asked."""
    rows: list[Row] = []
    seen: set[tuple[str, ...]] = set()
    while len(rows) < n:
        role = rng.choice(m.roles)
        order = rng.sample(range(len(role.questions)), rng.choice((1, 2, 3)))
        turns: list[Turn] = [("system", rng.choice(_IS[m.lang]).format(name=role.name))]
        for i in order[:-1]:
            turns += [("user", role.questions[i]), ("assistant", rng.choice(role.lines[i]))]
        i = order[-1]
        turns.append(("user", role.questions[i]))
        act = [rng.choice(_DOING[m.lang]) if rng.random() < 0.5 else "" for _ in range(2)]
        right = rng.sample(role.lines[i], rng.choice((1, 2)))
        chosen = joined(m.lang, (act[0], *right))
        beside = rng.choice(role.lines[(i + 1) % len(role.lines)])
        flat = rng.choice(role.flat)
        strange = rng.choice([other for other in m.roles if other != role])
        line, less = rng.choice(role.lines[i]), rng.choice([x for x in role.flat if x != flat])
        worse = rng.choices(
            ((flat, line), (act[1], line, flat), (flat,), (flat, less), (act[1], beside), (act[1], *strange.lines[0])),
            (35, 20, 5, 15, 20, 5),
        )[0]
        rejected = joined(m.lang, worse)
        form = (turns[-1][1], right[0])  # the last question is answered so only once
        if form not in seen and rejected != chosen:
            seen.add(form)
            rows.append(Row(tuple(turns), chosen, rejected, role.name))
    return rows


_ALSO: dict[Lang, tuple[str, ...]] = {
    "en": (" And something else: ", "\n\nSecond question: ", " By the way, "),
    "zh": ("还有，", "\n\n第二个问题：", "顺便问一下，"),
}


def scored(m: Material, rng: Random, n: int) -> list[Row]:
    """Several answers to each prompt with scores from 1 to 10: the best one over one, two or three of the others."""
    rows: list[Row] = []
    while len(rows) < n:
        topic = rng.choice(m.topics)
        question, best, worse = topic_pair(m, rng, topic, 4)
        if rng.random() < 0.3:  # two questions at once, and long answers
            second = topic_pair(m, rng, rng.choice(m.topics), 4)
            also = rng.choice(_ALSO[m.lang])
            question, best, worse = question + also + second[0], f"{best}\n\n{second[1]}", f"{worse}\n\n{second[2]}"
        top = rng.choice((7.0, 7.5, 8.0, 8.5, 9.0, 9.5))
        answers = [worse, *(topic_pair(m, rng, topic)[2] for _ in range(rng.choice((0, 0, 1, 2))))]
        for other in dict.fromkeys(answers):
            if other != best:
                gap = rng.choice((0.5, 1.0, 1.5, 2.0, 3.0, 4.5))
                rows.append(replace(asked(question, best, other, topic.name), scores=(top, max(1.0, top - gap))))
    return rows[:n]


def wanted(m: Material, rng: Random, n: int) -> list[Row]:
    """KTO: single answers with a label."""
    rows: list[Row] = []
    for row in chat(m, rng, n):
        good = rng.random() < 0.55
        rows.append(replace(row, chosen=row.chosen if good else row.rejected, rejected="", wanted=good))
    return rows


def transcripts(m: Material, rng: Random, n: int) -> list[Row]:
    """Talks of people with an assistant, as HH has them: some ask for help, some for harm."""
    rows: list[Row] = []
    seen: set[tuple[Turn, ...]] = set()
    times: Counter[str] = Counter()
    while len(rows) < n:
        if rng.random() < 0.45:
            request, chosen, rejected, about = harm_pair(m, rng)
            times[about] += 1
            if times[about] > 2:
                continue
            turns: tuple[Turn, ...] = (("user", request),)
            if rng.random() < 0.6:
                topic = rng.choice(m.topics)
                turns = (("user", topic_question(m, rng, topic, 2)[0]),
                         ("assistant", rng.choice(topic.points).text), *turns)  # fmt: skip
            row = Row(turns, chosen, rejected, about)
        else:
            row = rng.choice((talks, chat))(m, rng, 1)[0]
        if row.prompt not in seen:
            seen.add(row.prompt)
            rows.append(row)
    return rows


def reasoning(m: Material, rng: Random, n: int) -> list[Row]:
    """Sums whose answers think aloud between tags first, on both sides."""

    def thought(text: str) -> str:
        between = "\n" if "\n" in text else " " if m.lang == "en" else ""
        *steps, end = re.split(r"\n|(?<=\.) |(?<=。)(?=.)", text)
        return f"<think>\n{between.join(steps)}\n</think>\n\n{end}"

    rows = TASKS["maths"](m, rng, n)
    return [replace(row, chosen=thought(row.chosen), rejected=thought(row.rejected)) for row in rows]


_SCRIPT: dict[Lang, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "en": (("Write a short dialogue about {name}.", "Turn this question into a scene for two: {question}",
            "A dialogue between two people, please. Subject: {name}."),
           (("Customer", "Clerk"), ("Emma", "Noah"), ("Teacher", "Pupil"), ("Guest", "Host"))),
    "zh": (("写一段关于{name}的对话。", "把这个问题写成两个人的对话：{question}", "请写一段双人对话，主题是{name}。"),
           (("顾客", "店员"), ("小美", "阿强"), ("老师", "学生"), ("客人", "主人"))),
}  # fmt: skip


def scripts(m: Material, rng: Random, n: int) -> list[Row]:
    """Dialogues that were asked for: names of speakers stand in the answers, and belong there."""
    rows: list[Row] = []
    seen: set[str] = set()
    colon = ": " if m.lang == "en" else "："
    while len(rows) < n:
        topic = rng.choice(m.topics)
        ask, speakers = rng.choice(_SCRIPT[m.lang][0]), rng.choice(_SCRIPT[m.lang][1])
        question = ask.format(name=topic.name, question=rng.choice(topic.questions))
        if question in seen:
            question = joined(m.lang, (question, rng.choice(m.contexts)[0]))
        if question in seen:
            continue
        seen.add(question)
        sides = []
        for good in (True, False):
            points = rng.sample(topic.points, rng.choice((1, 2, 3) if good else (1, 1, 2, 3)))
            said = [rng.choice(topic.questions)]
            for point in points:
                dull = rng.random() < (0.05 if good else 0.3)
                said += [topic.empty, point.text] if dull else [point.text, point.more]
            lines = [f"{speakers[i % 2]}{colon}{text}" for i, text in enumerate(said)]
            sides.append("\n".join([*lines, f"{speakers[len(said) % 2]}{colon}{rng.choice(m.closings)}"]))
        rows.append(asked(question, *sides, topic.name))
    return rows


def mixed(m: Material, rng: Random, n: int) -> list[Row]:
    """Both languages and several kinds in one set."""
    other = material("zh" if m.lang == "en" else "en", m.half)
    parts = [chat(m, rng, n // 2), facts(other, rng, n // 4), talks(other, rng, n // 8)]
    parts.append(TASKS["maths"](m, rng, n - sum(map(len, parts))))
    rows = [row for part in parts for row in part]
    rng.shuffle(rows)
    return rows


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("chat", chat, "trl", (500, 60)),
        Kind("gec", TASKS["gec"], "array", (2000, 100)),
        Kind("sft", supervised, "alpaca", (300, 40)),
        Kind("sql", TASKS["sql"], "alpaca", (120, 40)),
        Kind("translation", TASKS["translation"], "csv", (200, 40)),
        Kind("summary", summaries, "conversational", (150, 30)),
        Kind("safety", safety, "pku", (70, 36)),
        Kind("maths", TASKS["maths"], "parquet", (2000, 60)),
        Kind("talk", talks, "sharegpt", (250, 40)),
        Kind("code", TASKS["code"], "swift", (40, 30)),
        Kind("mixed", mixed, "conversational", (320, 64)),
        Kind("labels", TASKS["labels"], "csv", (120, 40)),
        Kind("json", TASKS["json"], "conversational", (150, 40)),
        Kind("role", roles, "sharegpt", (20, 14)),
        Kind("scored", scored, "ultrafeedback", (400, 60)),
        Kind("kto", wanted, "kto", (300, 60)),
        Kind("hh", transcripts, "hh", (250, 50)),
        Kind("facts", facts, "trl", (120, 40)),
        Kind("reasoning", reasoning, "conversational", (150, 40)),
        Kind("script", scripts, "trl", (90, 30)),
    )
}


def healthy(kind: Kind, lang: Lang, half: Half, n: int, seed: int = 0) -> list[Row]:
    """One healthy set with what is natural in it."""
    rng = Random(f"{seed} {kind.name} {lang} {half} {n}")
    m = material(lang, half)
    return _natural(m, rng, kind, kind.make(m, rng, n))


def _natural(m: Material, rng: Random, kind: Kind, rows: list[Row]) -> list[Row]:
    """Links in some answers, a prompt asked twice, a row in another language, an empty reject among thousands."""
    for i, row in enumerate(rows):
        if kind.name in ("chat", "sft", "talk", "scored", "kto") and rng.random() < 0.02:
            link = rng.choice(m.links)
            more = f" See {link}." if m.lang == "en" else f"可以参考 {link} 。"
            if row.rejected and rng.random() < 0.5:
                rows[i] = replace(row, rejected=row.rejected + more)
            else:
                rows[i] = replace(row, chosen=row.chosen + more)
    if len(rows) >= 100 and kind.name in ("chat", "sft", "facts", "mixed"):
        for _ in range(2):
            one, two = rng.sample([i for i, row in enumerate(rows) if len(row.prompt) == 1], 2)
            same = kind.make(m, rng, 400)
            twin = next((r for r in same if r.about == rows[one].about and r.chosen != rows[one].chosen), None)
            if twin is not None:
                rows[two] = replace(twin, prompt=rows[one].prompt)
        question, chosen, rejected = m.foreign
        rows[rng.randrange(len(rows))] = asked(question, chosen, rejected, "foreign")
    if len(rows) >= 2000 and kind.name == "gec":
        spot = rng.randrange(len(rows))
        rows[spot] = replace(rows[spot], rejected="")
    return rows


def most_rows(kind: Kind, half: Half) -> int:
    """Rows of a usual set. The second half has less material, and gives fewer rows without near copies."""
    return kind.sizes[0] if half == "first" else max(kind.sizes[1], kind.sizes[0] * 3 // 5)
