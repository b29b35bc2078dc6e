"""Tasks with one right answer, made up without end: corrections, SQL, sums, translations, JSON, labels, code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random

from benchmarks.planted_pairs_code import WRITTEN
from benchmarks.planted_pairs_material import Facts, Lang, Material
from benchmarks.planted_pairs_talk import ANIMAL, COUNTRY, INVENTION, Row, asked, joined

# --- grammar correction: the worse answer is the text as it was, half corrected, or corrected too far

_EN_ERRORS: tuple[tuple[str, str], ...] = (
    (r" the ", " "), (r" a ", " "), (r" a ", " an "), (r" is ", " are "), (r" are ", " is "), (r" has ", " have "),
    (r" to ", " for "), (r" in ", " on "), (r" of ", " from "), (r" with ", " by "), (r"(\w{3,})ies\b", r"\1ys"),
    (r" than ", " then "), (r"\bits\b", "it's"), (r" it ", " he "), (r"(\w{4,})ed\b", r"\1"), (r"(\w{4,})ing\b", r"\1"),
    (r"(\w{3,})s\b", r"\1"), (r"(\w{2,})ie", r"\1ei"), (r"([a-z])([bdlmnprt])\2", r"\1\2"), (r", ", " "),
    (r" and ", " an "), (r" for ", " since "), (r" every ", " each "), (r"ough", "uogh"),
    (r" (in|on|to|of|at|with) ", r" \1 \1 "), (r" (can|will) ", r" \1 to "), (r" more ", " more of "),
     (r"([a-z]{3})ly\b", r"\1"),
)  # fmt: skip
_ZH_ERRORS: tuple[tuple[str, str], ...] = (
    ("的", "地"), ("地", "的"), ("得", "的"), ("在", "再"), ("再", "在"), ("做", "作"), ("已", "以"), ("像", "象"),
    ("了", ""), ("把", ""), ("的", ""), ("，", ""), ("就", "就就"), ("一个", "一只"), ("不要", "要不"), ("要", "要要"),
    ("先", "现"), ("放", "方"), ("到", "道"), ("和", "合"), ("会", "回"), ("时候", "时侯"), ("很", "狠"), ("水", ""),
    ("没有", "没又"), ("可以", "可已"), ("看", "看看"), ("最", ""), ("都", "多"), ("是", "事"), ("一", ""), ("不", ""),
    ("上", ""), ("再", ""), ("用", ""), ("有", ""),
)  # fmt: skip
_FIX: dict[tuple[Lang, str], tuple[str, ...]] = {
    ("en", "first"): ("Fix the grammar: {x}", "Remove all grammatical errors from this text: {x}",
                      "Correct this sentence.\n\n{x}", "Improve the grammaticality: {x}"),
    ("en", "second"): ("Proofread: {x}", "Please write this without mistakes: {x}",
                       "{x}\n\nMake this correct English."),
    ("zh", "first"): ("改正下面句子里的错误：{x}", "请修改病句：{x}", "下面这段话有错别字，请改正。\n{x}", "校对：{x}"),
    ("zh", "second"): ("帮我检查一下这句话：{x}", "{x}\n请把上面的话改通顺。", "找出并改正错误：{x}"),
}  # fmt: skip
_SWAPS: dict[Lang, tuple[tuple[str, str], ...]] = {
    "en": ((" before ", " prior to "), (" about ", " roughly "), (" because ", " since "), (" often ", " frequently "),
           (" use ", " utilise "), (" enough ", " sufficient "), (" so that ", " in order that "), (" big ", " large "),
           (" after ", " following "), (" needs ", " requires "), (" get ", " obtain "), (" keep ", " maintain ")),
    "zh": (("大约", "大概"), ("一定要", "务必"), ("马上", "立刻"), ("如果", "假如"), ("不要", "切勿"), ("常常", "经常"),
           ("可以", "能够"), ("因为", "由于"), ("先", "首先"), ("但是", "可是"), ("所有", "全部"), ("放在", "置于")),
}  # fmt: skip


def _once(rng: Random, text: str, swap: tuple[str, str], plain: bool) -> str:
    """The text with one of the places changed."""
    found = list(re.finditer(re.escape(swap[0]) if plain else swap[0], text))
    if not found:
        return text
    one = rng.choice(found)
    return text[: one.start()] + (swap[1] if plain else one.expand(swap[1])) + text[one.end() :]


def _spoiled(lang: Lang, rng: Random, text: str, count: int) -> str:
    errors = list(_EN_ERRORS if lang == "en" else _ZH_ERRORS)
    for _ in range(40):
        if not count:
            break
        new = _once(rng, text, rng.choice(errors), lang == "zh")
        count -= new != text
        text = new
    return text


def sentences(m: Material) -> list[str]:
    """Sentences of this material that stand for themselves."""
    said = [text for topic in m.topics for point in topic.points for text in (point.text, point.more)]
    return said + [topic.empty for topic in m.topics]


def corrections(m: Material, rng: Random, n: int) -> list[Row]:
    pool, rows, seen = sentences(m), [], set()
    while len(rows) < n:
        said = rng.sample(pool, rng.choices((1, 2, 3), (2, 6, 2))[0])
        right = joined(m.lang, said)
        if frozenset(said) in seen:
            continue
        wrong = _spoiled(m.lang, rng, right, rng.choice((1, 2, 2, 3, 4)))
        if wrong == right:
            continue
        seen.add(frozenset(said))
        way = rng.choices(("as it was", "half", "other error", "reworded"), (15, 40, 15, 30))[0]
        worse = wrong
        if way == "half":
            worse = _spoiled(m.lang, rng, right, 1)
        elif way == "other error":
            worse = _spoiled(m.lang, rng, wrong, 1)
        elif way == "reworded":
            for swap in rng.sample(_SWAPS[m.lang], len(_SWAPS[m.lang])):
                worse = _once(rng, worse, swap, True)
            if worse == wrong:
                worse = _spoiled(m.lang, rng, right, 1)
        if worse != right:
            rows.append(asked(rng.choice(_FIX[m.lang, m.half]).format(x=wrong), right, worse, right[:12]))
    return rows


# --- text to SQL

# table: what a row is in English, in Chinese; columns: name, English, Chinese, values (none: a number)
Columns = tuple[tuple[str, str, str, str], ...]
SCHEMAS: dict[str, tuple[tuple[str, str, str, Columns], ...]] = {
    "first": (
        ("employees", "employees", "员工", (
            ("name", "name", "姓名", ""), ("department", "department", "部门", "sales,research,legal,logistics"),
            ("city", "city", "城市", "Berlin,Lyon,Porto,Turin"), ("salary", "salary", "工资", "#2400-9000"),
            ("age", "age", "年龄", "#19-66"), ("hired_on", "hiring date", "入职日期", "@"))),
        ("orders", "orders", "订单", (
            ("order_id", "number", "编号", ""), ("status", "status", "状态", "paid,open,returned,shipped"),
            ("country", "country", "国家", "Peru,Japan,Ghana,Poland"), ("amount", "amount", "金额", "#15-2000"),
            ("items", "number of items", "件数", "#1-40"), ("ordered_on", "order date", "下单日期", "@"))),
        ("books", "books", "图书", (
            ("title", "title", "书名", ""), ("genre", "genre", "类别", "novel,poetry,history,travel"),
            ("language", "language", "语言", "Polish,Thai,Greek,Arabic"),
            ("pages", "number of pages", "页数", "#60-900"),
            ("price", "price", "价格", "#4-80"), ("published_on", "publication date", "出版日期", "@"))),
        ("flights", "flights", "航班", (
            ("flight_no", "flight number", "航班号", ""), ("origin", "origin", "出发地", "Oslo,Cairo,Lima,Hanoi"),
            ("airline", "airline", "航空公司", "Norda,Sunjet,Alpair,Kiwi"),
            ("delay", "delay in minutes", "延误分钟数", "#0-300"),
            ("seats", "number of seats", "座位数", "#48-400"), ("departs_on", "departure date", "起飞日期", "@"))),
    ),
    "second": (
        ("patients", "patients", "患者", (
            ("full_name", "full name", "全名", ""), ("ward", "ward", "病区", "A1,B2,C3,D4"),
            ("blood_type", "blood type", "血型", "A,B,AB,O"), ("weight_kg", "weight", "体重", "#40-130"),
            ("visits", "number of visits", "就诊次数", "#1-30"), ("admitted_on", "admission date", "入院日期", "@"))),
        ("songs", "songs", "歌曲", (
            ("song", "title of the song", "歌名", ""), ("label", "label", "厂牌", "Moon,Blue,Delta,Root"),
            ("mood", "mood", "情绪", "calm,angry,happy,sad"), ("seconds", "length in seconds", "秒数", "#90-600"),
            ("plays", "number of plays", "播放次数", "#10-90000"), ("released_on", "release date", "发行日期", "@"))),
        ("machines", "machines", "机器", (
            ("serial", "serial number", "序列号", ""), ("hall", "hall", "车间", "north,south,east,west"),
            ("maker", "maker", "厂家", "Brandt,Okuma,Fuji,Liebig"), ("hours_run", "hours run", "运行小时", "#10-50000"),
            ("faults", "number of faults", "故障次数", "#0-90"), ("serviced_on", "service date", "保养日期", "@"))),
    ),
}  # fmt: skip
_SQL_ASK: dict[Lang, dict[str, tuple[str, ...]]] = {
    "en": {
        "count": ("How many {rows} have {t_en} {t}?", "Count the {rows} whose {t_en} is {t}."),
        "avg": ("What is the average {n_en} of {rows} with {t_en} {t}?", "Average {n_en} where {t_en} is {t}, please."),
        "group": ("Show the total {n_en} for each {t_en}.",
                  "For every {t_en}, what do the {rows} add up to in {n_en}?"),
        "top": ("List the {k} {rows} with the highest {n_en}.", "Which {k} {rows} have the largest {n_en}?"),
        "more": ("Give the {key_en} of {rows} whose {n_en} is above {v}.", "Which {rows} exceed {v} in {n_en}?"),
        "since": ("Which {rows} have a {d_en} in or after {y} and {t_en} {t}?",
                  "Find {key_en} and {n_en} of {rows} since {y} with {t_en} {t}."),
        "having": ("Which {t_en} has more than {k} {rows}?", "Name each {t_en} that occurs more than {k} times."),
        "between": ("Which {rows} have a {n_en} from {v} to {w}?", "{rows_up} with {n_en} between {v} and {w}?"),
    },
    "zh": {
        "count": ("{t_zh}为{t}的{rows_zh}有多少？", "统计{t_zh}是{t}的{rows_zh}数量。"),
        "avg": ("{t_zh}为{t}的{rows_zh}平均{n_zh}是多少？", "求{t_zh}等于{t}时{n_zh}的平均值。"),
        "group": ("按{t_zh}统计{n_zh}的总和。", "每个{t_zh}的{rows_zh}，{n_zh}加起来是多少？"),
        "top": ("列出{n_zh}最高的{k}条{rows_zh}。", "{n_zh}排前{k}的{rows_zh}是哪些？"),
        "more": ("{n_zh}超过{v}的{rows_zh}，给出{key_zh}。", "哪些{rows_zh}的{n_zh}大于{v}？"),
        "since": ("{d_zh}在{y}年以后、{t_zh}为{t}的{rows_zh}有哪些？",
                  "查{y}年起{t_zh}是{t}的{rows_zh}的{key_zh}和{n_zh}。"),
        "having": ("哪些{t_zh}的{rows_zh}超过{k}条？", "找出出现次数多于{k}次的{t_zh}。"),
        "between": ("{n_zh}在{v}到{w}之间的{rows_zh}有哪些？", "{n_zh}从{v}到{w}的{rows_zh}？"),
    },
}  # fmt: skip


_VALUES = {
    half: [v for table in tables for c in table[3] if c[3] and c[3][0] not in "#@" for v in c[3].split(",")]
    for half, tables in SCHEMAS.items()
}


def sql(m: Material, rng: Random, n: int) -> list[Row]:
    rows, seen = [], set()
    while len(rows) < n:
        question, schema, right, worse = _query(m, rng)
        # no two that differ in a number or a value only
        form = re.sub(rf"\d+|\b({'|'.join(_VALUES[m.half])})\b", "#", question)
        if form in seen or right == worse:
            continue
        seen.add(form)
        rows.append(asked(f"{question}\n\n{schema}", right, worse, question))
    return rows


def _query(m: Material, rng: Random) -> tuple[str, str, str, str]:
    table, rows_en, rows_zh, columns = rng.choice(SCHEMAS[m.half])
    key, day = columns[0], columns[-1]
    text = rng.choice([c for c in columns if c[3] and c[3][0] not in "#@"])
    number, other = rng.sample([c for c in columns if c[3].startswith("#")], 2)
    low, high = map(int, number[3][1:].split("-"))
    v = rng.randint(low, high - 1)
    values = {
        "rows": rows_en, "rows_up": rows_en.capitalize(), "rows_zh": rows_zh, "key_en": key[1], "key_zh": key[2],
        "t_en": text[1], "t_zh": text[2], "t": rng.choice(text[3].split(",")), "n_en": number[1], "n_zh": number[2],
        "d_en": day[1], "d_zh": day[2], "v": v, "w": rng.randint(v + 1, high), "k": rng.randint(3, 25),
        "y": rng.randint(2008, 2024),
    }  # fmt: skip
    kind = rng.choice(list(_SQL_ASK["en"]))
    where = f"{text[0]} = '{values['t']}'"
    since = f"{day[0]} >= '{values['y']}-01-01'"
    k, w = values["k"], values["w"]
    right, *wrong = {
        "count": (f"SELECT COUNT(*) FROM {table} WHERE {where}", f"SELECT COUNT(*) FROM {table}",
                  f"SELECT * FROM {table} WHERE {where}", f"SELECT SUM({key[0]}) FROM {table} WHERE {where}"),
        "avg": (f"SELECT AVG({number[0]}) FROM {table} WHERE {where}",
                f"SELECT AVG({other[0]}) FROM {table} WHERE {where}",
                f"SELECT SUM({number[0]}) FROM {table} WHERE {where}",
                f"SELECT {text[0]}, AVG({number[0]}) FROM {table} GROUP BY {text[0]}"),
        "group": (f"SELECT {text[0]}, SUM({number[0]}) FROM {table} GROUP BY {text[0]}",
                  f"SELECT {text[0]}, SUM({number[0]}) FROM {table}",
                  f"SELECT {text[0]}, COUNT({number[0]}) FROM {table} GROUP BY {text[0]}",
                  f"SELECT {text[0]}, SUM({number[0]}) FROM {table} GROUP BY {text[0]}, {key[0]}"),
        "top": (f"SELECT {key[0]} FROM {table} ORDER BY {number[0]} DESC LIMIT {k}",
                f"SELECT {key[0]} FROM {table} ORDER BY {number[0]} LIMIT {k}",
                f"SELECT {key[0]} FROM {table} ORDER BY {other[0]} DESC LIMIT {k}",
                f"SELECT MAX({number[0]}) FROM {table} LIMIT {k}"),
        "more": (f"SELECT {key[0]} FROM {table} WHERE {number[0]} > {v}",
                 f"SELECT {key[0]} FROM {table} WHERE {number[0]} >= {v}",
                 f"SELECT {key[0]} FROM {table} WHERE {other[0]} > {v}",
                 f"SELECT {key[0]}, {number[0]} FROM {table} WHERE {number[0]} < {v}"),
        "since": (f"SELECT {key[0]}, {number[0]} FROM {table} WHERE {since} AND {where}",
                  f"SELECT {key[0]}, {number[0]} FROM {table} WHERE {since} OR {where}",
                  f"SELECT {key[0]}, {number[0]} FROM {table} WHERE {since}",
                  f"SELECT {key[0]}, {other[0]} FROM {table} WHERE {since.replace('>=', '<')} AND {where}"),
        "having": (f"SELECT {text[0]} FROM {table} GROUP BY {text[0]} HAVING COUNT(*) > {k}",
                   f"SELECT {text[0]} FROM {table} WHERE COUNT(*) > {k} GROUP BY {text[0]}",
                   f"SELECT {text[0]} FROM {table} GROUP BY {text[0]} HAVING COUNT(*) >= {k}",
                   f"SELECT {text[0]}, COUNT(*) FROM {table} GROUP BY {text[0]} ORDER BY 2 DESC"),
        "between": (f"SELECT * FROM {table} WHERE {number[0]} BETWEEN {v} AND {w}",
                    f"SELECT * FROM {table} WHERE {number[0]} > {v} OR {number[0]} < {w}",
                    f"SELECT * FROM {table} WHERE {number[0]} IN ({v}, {w})",
                    f"SELECT {key[0]} FROM {table} WHERE {other[0]} BETWEEN {v} AND {w}"),
    }[kind]  # fmt: skip
    ask = rng.choice(_SQL_ASK[m.lang][kind]).format(**values)
    shown = rng.sample(columns, len(columns))
    shown = [c for c in shown if c[0] in right or rng.random() < 0.7]
    types = ["TEXT" if not c[3] or c[3][0] not in "#@" else "INTEGER" if c[3][0] == "#" else "DATE" for c in shown]
    schema = f"CREATE TABLE {table} ({', '.join(f'{c[0]} {t}' for c, t in zip(shown, types, strict=True))})"
    if rng.random() < 0.3:
        schema = f"{table}: {', '.join(c[0] for c in shown)}"
    end = rng.choice((";", ";", ""))
    return ask, schema, right + end, rng.choice(wrong) + rng.choice((";", ";", ""))


# --- sums in words, with the steps

_SUM: dict[Lang, dict[str, tuple[str, ...]]] = {
    "en": {
        "start": ("{who} has {a} {what}.", "There are {a} {what} on {who}'s shelf.",
                  "{who} begins the day with {a} {what}.", "A shop run by {who} keeps {a} {what} in store."),
        "+": ("A delivery brings {b} more.", "{other} adds {b}.", "Another {b} turn up in a drawer.",
              "On the market {b} more are bought."),
        "-": ("Then {b} are given to {other}.", "Sadly {b} of them break.", "{other} borrows {b}.",
              "In the evening {b} are sold."),
        "*": ("Overnight the number grows to {b} times what it was.", "{who} buys until there are {b} times as many."),
        "/": ("All of them are shared equally among {b} people, and {who} keeps one share.",
              "They are packed into {b} equal boxes; only one box stays."),
        "ask": ("How many {what} are left?", "How many {what} does {who} have in the end?",
                "What is the final number of {what}?"),
        "first": ("At first there are {r}.", "We begin with {r}.", "Start: {r}."),
        "step": ("That gives {x} {o} {b} = {r}.", "Then {x} {o} {b} = {r}.", "Next: {x} {o} {b} = {r}."),
        "end": ("The answer is {r}.", "So {r} {what} remain.", "Answer: {r}"),
    },
    "zh": {
        "start": ("{who}有{a}个{what}。", "{who}的架子上放着{a}个{what}。", "早上{who}有{a}个{what}。",
                  "{who}开的店里存着{a}个{what}。"),
        "+": ("后来又送来{b}个。", "{other}又添了{b}个。", "抽屉里又找到{b}个。", "去市场又买了{b}个。"),
        "-": ("然后给了{other}{b}个。", "可惜坏了{b}个。", "{other}借走了{b}个。", "晚上卖掉了{b}个。"),
        "*": ("第二天数量变成原来的{b}倍。", "{who}一直买到原来的{b}倍。"),
        "/": ("全部平均分给{b}个人，{who}留下一份。", "平均装进{b}个箱子，只留一箱。"),
        "ask": ("还剩多少个{what}？", "{who}最后有多少个{what}？", "最后{what}的数量是多少？"),
        "first": ("开始有{r}个。", "先有{r}个。", "起始：{r}。"),
        "step": ("得到{x}{o}{b}={r}。", "接着{x}{o}{b}={r}。", "然后{x}{o}{b}={r}。"),
        "end": ("答案是{r}。", "所以剩下{r}个{what}。", "答：{r}"),
    },
}  # fmt: skip


def sums(m: Material, rng: Random, n: int) -> list[Row]:
    goods = [name for _, members in m.facts.lists[:3] for name in members] + list(m.things)
    goods = [name for name in goods if m.lang == "zh" or name[-1] not in "hsy"]  # whose plural takes an s
    words, rows, seen = _SUM[m.lang], [], set()
    while len(rows) < n:
        who, other = rng.sample([*m.facts.names, *m.people], 2)
        what = rng.choice(goods)
        what = f"{what}s" if m.lang == "en" else what
        value = a = rng.randint(6, 240)
        story, steps = [rng.choice(words["start"])], []
        for _ in range(amount := rng.choice((2, 2, 3, 3, 4, 5))):
            signs = ["+", "-"] + (["*"] if value < 200 else [])
            signs += ["/"] if any(value % d == 0 for d in range(2, 9)) else []
            sign = rng.choice(signs)
            choices = {"+": range(2, 61), "-": range(1, max(2, value)), "*": (2, 3)}.get(sign)
            b = rng.choice(choices or [d for d in range(2, 9) if value % d == 0])
            before = value
            value = {"+": value + b, "-": value - b, "*": value * b, "/": value // b}[sign]
            steps.append((before, sign, b, value))
            story.append(rng.choice(words[sign]).format(b=b, who=who, other=other, what=what))
            if value < 3:
                break
        problem = joined(m.lang, [story[0].format(a=a, who=who, what=what), *story[1:]])
        problem = joined(m.lang, (problem, rng.choice(words["ask"]).format(what=what, who=who)))
        if problem in seen or len(steps) < min(2, amount):
            continue
        seen.add(problem)
        right, worse = (_worked(m.lang, rng, a, steps, what, wrong) for wrong in (False, True))
        rows.append(asked(problem, right, worse, problem))
    return rows


def _worked(lang: Lang, rng: Random, a: int, steps: list[tuple[int, str, int, int]], what: str, wrong: bool) -> str:
    """The way to the result: with a slip that is carried on, a step left out, or a sign mistaken if `wrong`."""
    words, said = _SUM[lang], []
    if rng.random() < 0.5:
        said.append(rng.choice(words["first"]).format(r=a))
    slip = rng.randrange(len(steps)) if wrong else -1
    how = rng.choice(("slip", "slip", "sign", "skip")) if len(steps) > 1 else "slip"
    value: float = a
    for i, (_, sign, b, _) in enumerate(steps):
        before = value
        if i == slip and how == "skip":
            continue
        used = {"+": "-", "-": "+", "*": "+", "/": "-"}[sign] if i == slip and how == "sign" else sign
        value = {"+": value + b, "-": value - b, "*": value * b, "/": value / b}[used]
        value = int(value) if value == int(value) else round(value, 2)
        if i == slip and how == "slip":
            value += rng.choice((-10, -2, -1, 1, 2, 10))
        shown = {"*": "×", "/": "÷"}.get(used, used)
        said.append(rng.choice(words["step"]).format(x=before, o=shown, b=b, r=value))
    said.append(rng.choice(words["end"]).format(r=value, what=what))
    return ("\n" if rng.random() < 0.4 else " " if lang == "en" else "").join(said)


# --- translation into the language of the set

_INTO: dict[Lang, tuple[str, ...]] = {
    "en": ("Translate into English: {x}", "{x}\n\nTranslate to English.", "What does this mean in English? {x}"),
    "zh": ("翻译成中文：{x}", "{x}\n\n请译成中文。", "这段话用中文怎么说？{x}"),
}


def translations(m: Material, rng: Random, n: int) -> list[Row]:
    rows, seen = [], set()
    from_lang: Lang = "zh" if m.lang == "en" else "en"
    while len(rows) < n:
        count = rng.choices((1, 2, 3), (1, 5, 3))[0]
        parts = [_both(m, rng) for _ in range(count)]
        source = joined(from_lang, [p[0] for p in parts])
        form = tuple(sorted(p[3] for p in parts))  # no two that differ in a name or number only
        if form in seen or len(set(form)) < count:
            continue
        seen.add(form)
        right = [p[1] for p in parts]
        worse = list(right)
        spot = rng.randrange(count)
        way = rng.choices(("wrong", "clumsy", "left out", "wordy", "kept"), (8, 5, 2, 3, 1))[0]
        if way == "left out" and count > 1:
            worse.pop(spot)
        elif way == "clumsy":
            worse[spot] = _spoiled(m.lang, rng, worse[spot], 3)
        elif way == "wordy":
            worse[spot] = f"{worse[spot]} ({parts[spot][2]})"
        elif way == "kept" and count > 1:
            worse[spot] = parts[spot][0]
        else:
            worse[spot] = parts[spot][2]
        if worse == right:
            continue
        question = rng.choice(_INTO[m.lang]).format(x=source)
        rows.append(asked(question, joined(m.lang, right), joined(m.lang, worse), source))
    return rows


def _both(m: Material, rng: Random) -> tuple[str, str, str, str]:
    """A sentence in the other language, in this one, in this one with something wrong; and what it was made from."""
    here, there = m.facts, m.facts_elsewhere
    way = rng.choices(("sentence", "country", "animal", "invention"), (6, 3, 2, 1))[0]
    if way == "sentence":
        i = rng.randrange(len(here.parallel))
        slots = {s: rng.randrange(len(getattr(here, f"{s}s"))) for s in ("name", "place")}
        day = rng.randrange(7)
        plain = {"number": rng.randint(3, 29), "hour": rng.randint(2, 11)}

        def filled(facts: Facts, template: str, shift: int) -> str:
            words = {s: getattr(facts, f"{s}s")[(j + shift) % len(getattr(facts, f"{s}s"))] for s, j in slots.items()}
            numbers = {k: v + shift for k, v in plain.items()}
            return template.format(**words, **numbers, day=facts.weekdays[(day + shift) % 7])

        shift = rng.choice((1, 2, 3))
        mine = here.parallel[i]
        return filled(there, there.parallel[i], 0), filled(here, mine, 0), filled(here, mine, shift), mine
    kind = {"country": "countries", "animal": "animals", "invention": "inventions"}[way]
    said = {"country": COUNTRY, "animal": ANIMAL, "invention": INVENTION}[way]
    fields = [f for f, t in said["en"] if "{name}" in t]
    field = rng.choice(fields)
    a, b = rng.sample(range(len(getattr(here, kind))), 2)
    one = vars(getattr(here, kind)[a])
    wrong = {**one, field: getattr(getattr(here, kind)[b], field)}
    mine = rng.choice([t for f, t in said[m.lang] if f == field])
    theirs = rng.choice([t for f, t in said["zh" if m.lang == "en" else "en"] if f == field])
    return theirs.format(**vars(getattr(there, kind)[a])), mine.format(**one), mine.format(**wrong), f"{field} {a}"


# --- text to JSON

_FORM: dict[Lang, tuple[str, ...]] = {
    "en": ("Extract the fields {fields} from this message as JSON:\n{x}", "{x}\n\nReturn {fields} as one JSON object."),
    "zh": ("从下面的消息中提取{fields}，输出JSON：\n{x}", "{x}\n\n把{fields}整理成一个JSON对象。"),
}
_SAYS: dict[Lang, dict[str, tuple[str, ...]]] = {
    "en": {
        "name": ("{v} speaking.", "This is {v}.", "My name is {v} and I wrote last week."),
        "city": ("I live in {v}.", "Please deliver to {v}.", "We moved to {v} in spring."),
        "item": ("I ordered this: {v}.", "It is about the {v}.", "The {v} stopped working."),
        "quantity": ("I need {v} of them.", "There should be {v} in the box.", "Make it {v}, please."),
        "price": ("I was charged {v} euros.", "The bill says {v} euros.", "We agreed on {v} euros."),
        "day": ("Call me on {v}.", "It would suit me on {v}.", "I am at home on {v}."),
    },
    "zh": {
        "name": ("我是{v}。", "这里是{v}。", "我叫{v}，上周写过信。"),
        "city": ("我住在{v}。", "请送到{v}。", "我们春天搬到了{v}。"),
        "item": ("我订的是{v}。", "是关于{v}的事。", "{v}不能用了。"),
        "quantity": ("一共要{v}个。", "盒子里应该有{v}个。", "请改成{v}个。"),
        "price": ("扣了我{v}元。", "账单上写着{v}元。", "说好的是{v}元。"),
        "day": ("请{v}打给我。", "{v}我方便。", "{v}我在家。"),
    },
}  # fmt: skip
_TALK: dict[Lang, tuple[str, ...]] = {
    "en": ("Hello!", "Good morning.", "Thank you for the quick reply.", "Sorry to bother you again.", "Best wishes",
           "I have tried the hotline twice.", "The parcel was damp.", "My neighbour recommended you."),
    "zh": ("你好！", "早上好。", "谢谢你这么快回复。", "又来打扰了。", "祝好。", "热线我打了两次。",
           "包裹是湿的。", "邻居推荐的你们。"),
}  # fmt: skip


def extractions(m: Material, rng: Random, n: int) -> list[Row]:
    rows = []
    for _ in range(n):
        known = {
            "name": rng.choice([*m.people, *m.facts.names]), "city": rng.choice([*m.towns, *m.facts.places]),
            "item": rng.choice(m.things), "quantity": rng.randint(2, 60), "price": rng.randint(5, 900),
            "day": rng.choice(m.facts.weekdays),
        }  # fmt: skip
        fields = rng.sample(list(known), rng.choice((3, 4, 4, 5)))
        said = [rng.choice(_SAYS[m.lang][f]).format(v=known[f]) for f in fields]
        said += rng.sample(_TALK[m.lang], rng.choice((1, 2, 3)))
        rng.shuffle(said)
        order = rng.sample(fields, len(fields))
        right = {f: known[f] for f in order}
        worse: dict[str, object] = dict(right)
        hit = rng.choice(order)
        way = rng.choice(("absent", "text", "null", "other", "extra"))
        if way == "absent":
            del worse[hit]
        elif way == "text":
            worse = {k: str(v) for k, v in worse.items()} | {hit: f"{known[hit]}."}
        elif way == "null":
            worse[hit] = None
        elif way == "other":
            worse[hit] = rng.choice(m.things)
        else:
            worse["note"] = said[0]
        indent = rng.choice((None, None, 2))
        if worse == right:
            worse[hit] = None
        texts = [json.dumps(x, ensure_ascii=False, indent=indent) for x in (right, worse)]
        prompt = rng.choice(_FORM[m.lang]).format(fields=", ".join(order), x=joined(m.lang, said))
        rows.append(asked(prompt, texts[0], texts[1], prompt))
    return rows


# --- answers of one word

_LABEL: dict[Lang, dict[str, tuple[str, ...]]] = {
    "en": {
        "feel": ("Is this review positive or negative?\n{x}", "Sentiment of this text: {x}",
                 "{x}\nAnswer positive or negative."),
        "lies": ("Does {a} lie in {b}? Answer yes or no.", "Yes or no: is {a} a country in {b}?"),
        "city": ("What is the capital of {a}? One word.", "Capital of {a}?"),
        "kind": ("Which of these is it: mammal, bird, reptile, amphibian? {a}", "Is the {a} a bird? Answer yes or no."),
        "words": ("positive", "negative", "yes", "no"),
    },
    "zh": {
        "feel": ("这条评论是正面还是负面？\n{x}", "判断情感：{x}", "{x}\n请回答正面或负面。"),
        "lies": ("{a}在{b}吗？回答是或否。", "判断对错：{a}是{b}的国家。请答是或否。"),
        "city": ("{a}的首都是哪里？只写名字。", "{a}首都？"),
        "kind": ("下面的动物属于哪一类：哺乳动物、鸟类、爬行动物、两栖动物？{a}", "{a}是鸟类吗？回答是或否。"),
        "words": ("正面", "负面", "是", "否"),
    },
}  # fmt: skip


def labels(m: Material, rng: Random, n: int) -> list[Row]:
    words, rows, seen = _LABEL[m.lang], [], set()
    good, bad, yes, no = words["words"]
    form = ""
    while len(rows) < n:
        way = rng.choices(("feel", "lies", "city", "kind"), (80, 10, 6, 4))[0]
        country, other = rng.sample(m.facts.countries, 2)
        animal = rng.choice(m.facts.animals)
        if way == "feel":
            happy = rng.random() < 0.5
            said = rng.sample(m.praise if happy else m.blame, rng.choice((2, 2, 3)))
            text = joined(m.lang, said).format(thing=rng.choice(m.things))
            question, pair = rng.choice(words[way]).format(x=text), (good, bad) if happy else (bad, good)
            form = " ".join(sorted(said))
        elif way == "lies":
            place = rng.choice((country, other)).continent
            question = rng.choice(words[way]).format(a=country.name, b=place)
            pair = (yes, no) if place == country.continent else (no, yes)
        elif way == "city":
            question, pair = rng.choice(words[way]).format(a=country.name), (country.capital, other.capital)
        else:
            question = rng.choice(words[way]).format(a=animal.name)
            wrong = rng.choice([a.kind for a in m.facts.animals if a.kind != animal.kind])
            pair = (yes, no) if animal.kind in ("bird", "鸟类") else (no, yes)
            if question.endswith(animal.name):
                pair = (animal.kind, wrong)
        form = form if way == "feel" else question
        if form not in seen:
            seen.add(form)
            rows.append(asked(question, pair[0], pair[1], question))
    return rows


# --- code

_KEEP = (
    ("even", "are even", "偶数", "x % 2 == 0", "x % 2 == 1"), ("positive", "are positive", "正数", "x > 0", "x >= 0"),
    ("small", "are below {n}", "小于{n}的数", "x < {n}", "x <= {n}"),
    ("large", "are above {n}", "大于{n}的数", "x > {n}", "x < {n}"),
    ("multiples", "can be divided by {n}", "能被{n}整除的数", "x % {n} == 0", "x / {n} == 0"),
    ("odd", "are odd", "奇数", "x % 2 == 1", "x % 2 == 0"),
    ("two_digit", "have two digits", "两位数", "10 <= x <= 99", "10 < x < 99"),
)  # fmt: skip
_FOLD = (
    ("sum", "the sum of", "的和", "sum({it})", "sum({it}) - 1"),
    ("count", "the count of", "的个数", "len({it})", "len(numbers)"),
    ("largest", "the largest of", "的最大值", "max({it}, default=None)", "max(numbers)"),
    ("smallest", "the smallest of", "的最小值", "min({it}, default=None)", "min({it})"),
    ("list", "a list of", "组成的列表", "{it}", "set({it})"),
    ("squares", "the squares of", "的平方", "[x * x for x in {it}]", "[x * 2 for x in {it}]"),
    ("average", "the mean of", "的平均值", "statistics.fmean({it})", "sum({it}) // len(numbers)"),
)
_CODE_ASK: dict[Lang, tuple[str, ...]] = {
    "en": ("Write a Python function `{f}` that returns {fold} the numbers that {keep}.",
           "I need `{f}(numbers)` in Python: {fold} those numbers in a list which {keep}.",
           "Python, please: {fold} all entries that {keep}, as a function called `{f}`."),
    "zh": ("写一个Python函数 `{f}`，返回列表中{keep}{fold}。", "用Python实现 `{f}(numbers)`：求{keep}{fold}。",
           "请用Python写函数 `{f}`，输入是数字列表，输出{keep}{fold}。"),
}  # fmt: skip
_CODE_SAY: dict[Lang, tuple[str, ...]] = {
    "en": ("Tell me if you need tests as well.", "It runs on Python 3.8 and later.", "I kept it short.",
           "Nothing has to be installed for this.", "You may want to rename it."),
    "zh": ("需要测试的话告诉我。", "Python 3.8 以上都能运行。", "尽量写得短一点。",
           "不用安装别的东西。", "名字可以自己改。"),
}  # fmt: skip


def code(m: Material, rng: Random, n: int) -> list[Row]:
    """Half of the rows from the list of tasks, half put together."""
    rows, seen = [], set()
    tasks = rng.sample(WRITTEN[m.half], min(len(WRITTEN[m.half]), n // 2))
    for en, zh, right, worse in tasks:
        worse += rng.choice(("", "", "\n\n# TODO: try it with other input", "\n\nif __name__ == '__main__':\n    pass"))
        rows.append(asked(en if m.lang == "en" else zh, _told(m.lang, rng, right), _told(m.lang, rng, worse), en))
    while len(rows) < n:
        keep, fold = rng.choice(_KEEP), rng.choice(_FOLD)
        template = rng.randrange(len(_CODE_ASK[m.lang]))
        if (keep[0], fold[0]) in seen:
            continue
        seen.add((keep[0], fold[0]))
        limit = rng.randint(3, 400)
        name = rng.choice(("", "", "get_", "find_", "compute_")) + f"{fold[0]}_{keep[0]}"
        words = (fold[1], keep[1]) if m.lang == "en" else (fold[2], keep[2])
        ask = _CODE_ASK[m.lang][template].format(f=name, fold=words[0], keep=words[1].format(n=limit))
        right = _function(rng, name, keep[3].format(n=limit), fold[3])
        if rng.random() < 0.5:
            worse = _function(rng, name, keep[4].format(n=limit), fold[3])
        else:
            worse = _function(rng, name, keep[3].format(n=limit), fold[4])
        used = f"\n\nprint({name}({rng.sample(range(2 * limit), 4)}))"
        right, worse = right + used * (rng.random() < 0.15), worse + used * (rng.random() < 0.35)
        rows.append(asked(ask, _told(m.lang, rng, right), _told(m.lang, rng, worse), f"{fold[0]} {keep[0]}"))
    rng.shuffle(rows)
    return rows


def _told(lang: Lang, rng: Random, text: str) -> str:
    """Code as a chat model gives it: in a fence, with a sentence before or after it or none."""
    block = f"```python\n{text}\n```"
    if rng.random() < 0.45:
        return block
    said = rng.choice(_CODE_SAY[lang])
    return f"{block}\n\n{said}" if rng.random() < 0.6 else f"{said}\n\n{block}"


def _function(rng: Random, name: str, condition: str, folded: str) -> str:
    """The same function in one of three ways. folded: with `{it}` where the numbers kept are named."""
    head = "import statistics\n\n" if "statistics" in folded else ""
    hint = ": list[int]" if rng.random() < 0.4 else ""
    doc = f'    """Keep x where {condition}."""\n' if rng.random() < 0.3 else ""
    start = f"{head}def {name}(numbers{hint}):\n{doc}"
    way = rng.choice(("one", "kept", "loop"))
    if way == "one" or "{it" not in folded:
        kept = f"[x for x in numbers if {condition}]"
        return f"{start}    return {folded.format(it=kept)}"
    if way == "kept":
        return f"{start}    kept = [x for x in numbers if {condition}]\n    return {folded.format(it='kept')}"
    loop = f"    kept = []\n    for x in numbers:\n        if {condition}:\n            kept.append(x)"
    return f"{start}{loop}\n    return {folded.format(it='kept')}"


TASKS: dict[str, Callable[[Material, Random, int], list[Row]]] = {
    "gec": corrections, "sql": sql, "maths": sums, "translation": translations, "json": extractions, "labels": labels,
    "code": code,
}  # fmt: skip
