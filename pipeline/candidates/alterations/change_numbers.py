"""Other numbers than the right ones: digits, numerals in words, percentages, years, dates, units.

The numbers of a list, of code, links and names (GPT-4, COVID-19) stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from random import Random
from typing import Literal

from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task
from pipeline.candidates.alterations.answer_lists import lists_in
from pipeline.candidates.alterations.answer_text import Spans, fixed_spans, sentences
from pipeline.candidates.alterations.sql_text import number_places, sql_in
from pipeline.config_files import load_config

Form = Literal["digits", "chinese", "word"]

_DIGITS = re.compile(r"(?<![A-Za-z0-9_.,#\\])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\d_]|\.\d|[,，]\d{3})")
_CLOCK = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")
_MARK = re.compile(r"(?:^|\n)[ \t>*#(（]*\d{1,3}[.．、)）:：](?!\d)")
_CITED = re.compile(r"\[\d{1,3}\]")
_CHINESE = "零一二两三四五六七八九十百千万亿"
_CHINESE_NUMBER = re.compile(rf"百分之[{_CHINESE}]+|[{_CHINESE}]+")
_NAME_BEFORE = re.compile(r"[A-Za-z][-‑]$")
_UNIT_AFTER = re.compile(r"\s?(%|％|percent|per cent)")
_YEAR_AFTER = re.compile(r"\s?年(?!级|代?龄|轻|纪)")
_MOST_SCANNED = 200_000  # characters


@dataclass(frozen=True)
class Number:
    """A number as it stands in a text. unit: the unit after it, with the space between, and the others of its kind."""

    start: int
    end: int
    text: str
    form: Form
    value: Decimal
    kind: Literal["plain", "percent", "year", "month", "day", "hour", "minute"]
    weight: float
    unit: str = ""
    unit_others: tuple[str, ...] = ()


def change_numbers(task: Task, rng: Random) -> Altered:
    """Changes a share of the numbers, results first; the same number changes wherever it stands. Never to an equal
    value, and a percentage, month or hour to a possible one."""
    found = numbers_in(task.answer, task.question)
    if task.free and sql_in(task.answer, "") is None:
        found = [one for one in found if _said_in(task.question, one)]
    if sql_in(task.answer, "") is None:
        found = [one for one in found if not _soft(task, one)]
    if len(sentences(task.answer)) > _SHORT_ANSWER:
        # "three ideas" in a long text: nobody would miss one.
        found = [one for one in found if one.form == "digits" or one.weight >= 2]
    if not found:
        raise NothingToAlter("no_number")
    groups: dict[tuple[str, str], list[Number]] = {}
    for one in found:
        groups.setdefault((one.text, one.unit), []).append(one)
    names = list(groups)
    most = min(task.parameters["most_changes"], max(1, round(task.parameters["share"] * len(names))))
    best = max(max(one.weight for one in places) for places in groups.values())
    picked: list[tuple[str, str]] = []
    # Later draws may go beyond the numbers that matter most.
    pool = [n for n in names if max(o.weight for o in groups[n]) >= (best if task.attempt < 6 else 0)]
    picked.append(rng.choice(pool))
    if best < RESULT:  # an equation with two numbers changed may be right again
        others = [n for n in names if n not in picked]
        picked += rng.sample(others, min(len(others), most - 1))
    changes: list[tuple[int, int, str]] = []
    facts = []
    for name in picked:
        places = groups[name]
        first = places[0]
        other_units = first.unit_others if first.kind == "plain" and best < RESULT else ()
        if other_units and task.parameters["units"] and rng.random() < 0.25:
            unit = rng.choice(other_units)
            gap = first.unit[: len(first.unit) - len(first.unit.lstrip())]
            new, length = first.text + gap + unit, len(first.text) + len(first.unit)
            changes += [(one.start, one.start + length, new) for one in places]
            facts.append([first.text + first.unit, new])
            continue
        if (other := _other(first, task.parameters["size"], rng)) is not None:
            changes += [(one.start, one.end, other) for one in places]
            facts.append([first.text, other])
    if not changes:
        raise NothingToAlter("no_number", again=True)
    text = task.answer
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return Altered(text, facts={"changed": facts})


def _soft(task: Task, one: Number) -> bool:
    """Whether another number would do as well: in what is said to be wrong, in an example, or in advice of which the
    question gives no number."""
    before, after = task.answer[max(0, one.start - _LOOKED_AT) : one.start], task.answer[one.end : one.end + _LOOKED_AT]
    before = _SENTENCE_END.split(before)[-1]
    if _cues("said_to_be_wrong").search(before + _SENTENCE_END.split(after)[0]):
        return True
    if one.weight >= RESULT or _said_in(task.question, one):
        return False
    if _cues("example_before").search(before):
        return True
    return one.kind == "plain" and _cues("advice").search(task.question[:_QUESTION_READ]) is not None


@cache
def _cues(name: str) -> re.Pattern[str]:
    table = load_config("alterations.yaml")[name]
    return re.compile("|".join([*map(re.escape, table["zh"]), *(rf"(?i:\b{re.escape(one)}\b)" for one in table["en"])]))


RESULT = 8.0  # weight of a number that is the answer, or follows "=" and the like
_QUESTION_READ = 400  # characters
_LOOKED_AT = 200  # characters on both sides of a number
_SENTENCE_END = re.compile(r"[。！？；\n]|[.!?;] ")
_SHORT_ANSWER = 4  # sentences


def _said_in(question: str, one: Number) -> bool:
    return re.search(rf"(?<!\d){re.escape(one.text)}(?!\d)", question, re.I) is not None


def numbers_in(text: str, question: str = "") -> list[Number]:
    """Numbers that say something, in order. weight: results weigh most, then those with a unit or in the question."""
    text = text[:_MOST_SCANNED]
    if (sql := sql_in(text, "")) is not None:
        return [
            Number(sql.start + a, sql.start + b, said, "digits", Decimal(said), "plain", 1.0)
            for a, b in number_places(sql.text)
            if (said := sql.text[a:b])
        ]
    taken = [*fixed_spans(text).spans, *(one.span() for one in _MARK.finditer(text))]
    taken += [one.span() for one in _CITED.finditer(text)]
    for one in lists_in(text):
        at = one.start
        for marker, body, separator in zip(one.markers, one.bodies, one.separators, strict=True):
            taken.append((at, at + len(marker)))
            at += len(marker) + len(body) + len(separator)
    found: list[Number] = []
    fixed = Spans([span for span in taken if span[1] > span[0]])
    clocks = [clock for clock in _CLOCK.finditer(text) if not fixed.touch(*clock.span())]
    for clock in clocks:
        found.append(Number(clock.start(1), clock.end(1), clock[1], "digits", Decimal(clock[1]), "hour", 2.0))
    fixed = Spans([*fixed.spans, *(clock.span() for clock in clocks)])
    free = Spans(())
    asked = {one.text for one in [*_digits(question, free), *_chinese(question, free), *_in_words(question, free)]}
    found += _digits(text, fixed)
    found += _chinese(text, fixed)
    found += _in_words(text, fixed)
    if asked:
        found = [
            replace(one, weight=one.weight + 1) if one.text in asked and one.weight < RESULT else one for one in found
        ]
    return sorted(found, key=lambda one: one.start)


def numbers_said(text: str) -> set[int]:
    """Whole numbers from 2 to 100 that a question names, in digits or words."""
    text = text[:4_000]
    said = {int(one) for one in re.findall(r"(?<![\d.])\d{1,3}(?![\d.])", text)}
    said |= {_chinese_value(one) for one in re.findall(rf"[{_CHINESE}]+(?=[个种位名条点项句步道首部本件只座款])", text)}
    words = load_config("alterations.yaml")["numerals"]["en"]
    said |= {int(words[one]) for one in re.findall(r"[a-z]+", text.lower()) if one in words}
    return {n for n in said if 2 <= n <= 100}


@cache
def _table() -> tuple[re.Pattern[str], re.Pattern[str], dict[str, tuple[str, ...]], re.Pattern[str]]:
    config = load_config("alterations.yaml")
    results = re.compile(rf"(?:{'|'.join(map(re.escape, config['results']))})\s*[$¥￥\"“(（*]{{0,3}}\s*$", re.I)
    names = re.compile(rf"(?:{'|'.join(map(re.escape, config['names_before']))})[ -]?$")
    others: dict[str, tuple[str, ...]] = {}
    for language in ("zh", "en"):
        for group in config["units"][language]:
            for unit in group:
                others.setdefault(unit, tuple(one for one in group if one != unit))
    ranked = sorted(others, key=len, reverse=True)
    zh = "|".join(re.escape(one) for one in ranked if ord(one[0]) >= 0x2E80)
    en = "|".join(re.escape(one) for one in ranked if ord(one[0]) < 0x2E80)
    return results, names, others, re.compile(rf"\s?(?:(?:{zh})|(?:{en})(?![A-Za-z]))")


def _unit_after(text: str, end: int) -> tuple[str, tuple[str, ...]]:
    _, _, others, units = _table()
    found = units.match(text, end)
    return (found.group(), others[found.group().strip()]) if found else ("", ())


def _digits(text: str, fixed: Spans) -> list[Number]:
    results, names, _, _ = _table()
    found = []
    for one in _DIGITS.finditer(text):
        start, end = one.span()
        before = text[max(0, start - 16) : start]
        after = text[end : end + 1]
        if fixed.touch(start, end) or _NAME_BEFORE.search(before) or names.search(before):
            continue
        unit, others = _unit_after(text, end)
        if (not unit and _named_so(before)) or _counts_off(text, start, end) or after in _OR_SO:
            continue
        letters = after.isascii() and after.isalpha()
        if letters and not unit and not _UNIT_AFTER.match(text, end):
            continue
        if after == "-" and text[end + 1 : end + 2].isalpha() and text[end + 1 : end + 2].isascii():
            continue  # 3-dimensional, 24-hour
        value = _decimal(one.group())
        if value is None:
            continue
        kind: Literal["plain", "percent", "year", "month", "day", "hour", "minute"] = "plain"
        whole = one.group().isdigit()
        weight = 1.0
        if _UNIT_AFTER.match(text, end):
            kind, weight = "percent", 3.0
        elif whole and len(one.group()) == 4 and 1000 <= value <= 2100 and (
            _YEAR_AFTER.match(text, end) or (not unit and value >= 1400)
        ):
            kind, weight = "year", 3.0
        elif whole and after == "月" and 1 <= value <= 12:
            kind, weight = "month", 2.5
        elif whole and after in ("日", "号") and 1 <= value <= 31:
            kind, weight = "day", 2.0
        elif unit:
            weight = 3.0
        if results.search(before) or text.strip(" .。\n") == one.group():
            weight = RESULT
        found.append(Number(start, end, one.group(), "digits", value, kind, weight, unit, others))
    return found


_ACRONYM = re.compile(r"(?<![A-Za-z])[A-Za-z]*[A-Z][A-Za-z]*[A-Z][A-Za-z]* $")
_OR_SO = ("多", "余", "几")  # 60多天: another number than a round one is no word
_CURRENCY = re.compile(r"(?:USD|EUR|RMB|CNY|GBP|JPY|HKD|TWD|AUD|CAD|CHF|INR|KRW|SGD|RUB|BRL|AND|OR|IS|ARE|OF|IN) $")
_BEGINS = re.compile(r"(?:^|[\n。！？；;!?])[ \t]*$")


def _named_so(before: str) -> bool:
    """Whether a number after this belongs to a name: OAuth 2.0, RTX 4060."""
    return _ACRONYM.search(before) is not None and _CURRENCY.search(before) is None


def _counts_off(text: str, start: int, end: int) -> bool:
    """Whether a number at the beginning of a Chinese sentence only numbers it: 。1传统媒体"""
    after = text[end : end + 1]
    if end - start > 2 or not after or ord(after) < 0x2E80 or not after.isalpha():
        return False
    if _BEGINS.search(text[max(0, start - 3) : start]) is None:
        return False
    return _measures().match(text, end) is None and not _unit_after(text, end)[0]  # 3个人


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "")) if len(text) < 40 else None
    except InvalidOperation:
        return None


def _chinese(text: str, fixed: Spans) -> list[Number]:
    measures = _measures()
    found = []
    for one in _CHINESE_NUMBER.finditer(text):
        start, end = one.span()
        said = one.group()
        percent = said.startswith("百分之")
        value = _chinese_value(said.removeprefix("百分之"))
        if fixed.touch(start, end) or value < 2 or _spelled(value, said) is None:
            continue
        before = text[max(0, start - 1) : start]
        measure = measures.match(text, end)
        if not percent and (measure is None or before in ("第", "十", "几", "数", "星", "周", "礼", "初")):
            # A numeral that is the whole answer, or stands right after a result's mark.
            if text.strip(" 。\n") != said and not _table()[0].search(text[max(0, start - 8) : start]):
                continue
        elif not percent and measure is not None and before == "期":
            continue
        weight = 3.0 if percent else 1.5
        if text.strip(" 。\n") == said or _table()[0].search(text[max(0, start - 8) : start]):
            weight = RESULT
        kind: Literal["percent", "month", "plain"] = "percent" if percent else "plain"
        if measure is not None and measure.group() == "月":
            kind = "month"
        found.append(Number(start, end, said, "chinese", Decimal(value), kind, weight))
    return found


@cache
def _measures() -> re.Pattern[str]:
    measures = sorted(load_config("alterations.yaml")["measures_zh"], key=len, reverse=True)
    # 三大 and 五百 are numbers, 大家 and 点儿 are not what they are counted by.
    return re.compile(rf"(?:{'|'.join(measures)})(?!家|儿|然|别|起)")


def _chinese_value(said: str) -> int:
    """0 for what is no well-formed numeral up to 99 999 999."""
    total, part, digit = 0, 0, 0
    for character in said:
        place = "零一二三四五六七八九".find(character.replace("两", "二"))
        if place >= 0:
            if digit:
                return 0  # 二三, 一九四九: not one number
            digit = place
        elif character in "十百千":
            part += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[character]
            digit = 0
        elif character == "万":
            total, part, digit = (part + digit) * 10_000, 0, 0
        else:
            return 0
    return total + part + digit


def _spelled(value: int, like: str) -> str | None:
    """A whole number below 100 million in Chinese, with 两 where `like` has it; None where that isn't how `like` would
    be written, so that a number of another style is left alone."""
    text = _in_chinese(value)
    if value == 2 and like == "两":
        return "两"
    return text if text == like.removeprefix("百分之") else None


def _in_chinese(value: int) -> str:
    if value >= 10_000:
        high, low = divmod(value, 10_000)
        gap = "零" if 0 < low < 1000 else ""
        return _in_chinese(high) + "万" + (gap + _in_chinese(low) if low else "")
    text, zero = "", False
    for size, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // size % 10
        if digit:
            text += ("零" if zero and text else "") + "零一二三四五六七八九"[digit] + name
            zero = False
        else:
            zero = True
    return text[1:] if text.startswith("一十") else text


def _in_words(text: str, fixed: Spans) -> list[Number]:
    words = load_config("alterations.yaml")["numerals"]["en"]
    results = _table()[0]
    found = []
    for one in _english().finditer(text):
        start, end = one.span()
        value = Decimal(str(words[one.group().lower()]))
        if fixed.touch(start, end):
            continue
        result = results.search(text[max(0, start - 16) : start]) or text.strip(" .\n") == one.group()
        found.append(Number(start, end, one.group(), "word", value, "plain", RESULT if result else 1.5))
    return found


@cache
def _english() -> re.Pattern[str]:
    words = sorted(load_config("alterations.yaml")["numerals"]["en"], key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])(?! of (?:us|them|you)\b)(?! (?:or|to) \w)", re.I)


def _other(one: Number, size: str, rng: Random) -> str | None:
    """Another number written the same way."""
    for _ in range(20):
        value = _other_value(one, size, rng)
        if value == one.value:
            continue
        new = _written(value, one)
        if new is not None and new != one.text:
            return new
    return None


def _other_value(one: Number, size: str, rng: Random) -> Decimal:
    value = one.value
    ranges = {"month": (1, 12), "day": (1, 28), "hour": (0, 23), "minute": (0, 59)}
    if one.kind in ranges:
        return Decimal(rng.randint(*ranges[one.kind]))
    if one.kind == "year":
        moved = value + rng.choice((-1, 1)) * rng.randint(1, 9 if size == "little" else 40)
        return moved if moved <= 2024 or value > 2024 else value - rng.randint(1, 40)
    digits = -int(value.as_tuple().exponent) if "." in one.text else 0
    step = Decimal(1).scaleb(-digits)
    if one.kind == "percent" and 0 <= value <= 100:
        if size == "little":
            moved = value + rng.choice((-1, 1)) * max(step, (value * rng.randint(4, 15) / 100).quantize(step))
        else:
            moved = Decimal(rng.randint(1, 99)) + (rng.randint(0, 10**digits - 1) * step if digits else 0)
            if abs(moved - value) < 8:
                return value
        return moved if 0 < moved <= 100 else value
    if value == 0:
        return Decimal(rng.randint(1, 9)) * step
    little = size == "little" or (size == "any" and (one.weight >= RESULT or rng.random() < 0.3))
    if not digits and value <= 12:
        return max(Decimal(1), value + rng.choice((-1, 1)) * rng.randint(1, 3 if little else max(3, int(value))))
    if little:
        moved = value * Decimal(100 + rng.choice((-1, 1)) * rng.randint(3, 15)) / 100
        return moved.quantize(step) if digits else Decimal(round(moved)) + (round(moved) == value)
    factor = rng.choice((2, 3, 4, 5, 10) if value > 100 else (2, 3))
    moved = value * factor if rng.random() < 0.5 or value < 2 * factor else value / factor
    if digits:
        return moved.quantize(step)
    # A round number stays round.
    size_of = 10 ** (len(str(int(value))) - len(str(int(value)).rstrip("0")))
    rounded = int(moved / size_of) * size_of if moved >= size_of else round(moved)
    return Decimal(rounded or 1)


def _written(value: Decimal, one: Number) -> str | None:
    if value < 0 or not value.is_finite():
        return None
    if one.form == "chinese":
        whole = int(value)
        if not 1 <= whole < 100_000_000 or (whole == 1 and one.kind == "plain" and one.weight < RESULT):
            return None
        text = "两" if whole == 2 and _two_is_liang(one) else _in_chinese(whole)
        return f"百分之{text}" if one.text.startswith("百分之") else text
    if one.form == "word":
        words: dict[str, float] = load_config("alterations.yaml")["numerals"]["en"]
        plain = [word for word, number in words.items() if number >= 2 and word not in ("twice", "triple")]
        odd = {"half": "twice", "twice": "half", "triple": "half"}
        if one.text.lower() in odd:
            return None if one.text.lower() == "half" else _cased(odd[one.text.lower()], one.text)
        nearest = min(plain, key=lambda word: (abs(words[word] - float(value)), word))
        return _cased(nearest, one.text) if nearest != one.text.lower() else None
    digits = len(one.text.partition(".")[2])
    text = f"{value:,.{digits}f}" if "," in one.text else f"{value:.{digits}f}"
    width = len(one.text) if one.text.startswith("0") and one.text.isdigit() else 0
    return text.zfill(width)


def _two_is_liang(one: Number) -> bool:
    return one.kind == "plain" and not one.text.startswith("百分之") and one.value < 10


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like[:1].isupper() else word


