"""Whether an answer gives the right number, as a careful reader would take it: right, wrong, or None where it can't be
told. What said_answers says of where a right text must stand holds here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from pipeline.candidates.reward_functions import Number, final_answer, numbers_in, same_value
from pipeline.candidates.text_measures import width
from pipeline.evaluation.said_answers import CLOSERS, LAST, LINKS, NEAR, QUESTION, SENTENCES

_DIGIT = re.compile(r"\d|[零〇一二两三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾½⅓⅔¼¾⅕⅛]")
_SCALES = {"thousand": 1000, "k": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNITS = {word: number for number, word in enumerate((
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"))}  # fmt: skip
_TENS = {word: 10 * number for number, word in enumerate(
    ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)}  # fmt: skip
_WORD = "|".join([*sorted(_UNITS, key=len, reverse=True), *_TENS, "hundred", "thousand", "million", "billion"])
_NUMBER_WORDS = re.compile(rf"\b(?:{_WORD})(?:(?:[\s-]|\sand\s)(?:{_WORD}))*\b", re.IGNORECASE)
_SCALED = re.compile(r"(\d[\d,]*(?:\.\d+)?)(?:\s*(thousand|million|billion|trillion)|(k))\b", re.IGNORECASE)
_MINUS = re.compile(r"(?<![\d)]\s)\b(?:minus|negative)\s+(?=\d)", re.IGNORECASE)
# A date is its year; its day and month are in brackets of their own, as what was left out.
_DATES = re.compile(
    r"(?P<zh>\d{4}|[〇零一二三四五六七八九]{4})年\s*(?P<zh_rest>[\d一二三四五六七八九十]{1,3}月(?:[\d一二三四五六七八九十]{1,3}[日号])?)"
    r"|(?P<iso>\d{4})[-/](?P<iso_rest>\d{1,2}[-/]\d{1,2})(?!\d)"
    r"|(?P<day>\d{1,2})(?:st|nd|rd|th)?\s+(?P<m1>[A-Z][a-z]{2,8})\.?,?\s+(?P<y1>\d{4})(?!\d)"
    r"|(?P<m2>[A-Z][a-z]{2,8})\.?\s+(?P<day2>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y2>\d{4})(?!\d)"
)
_YEAR = re.compile(r"\d{4}|[〇零一二三四五六七八九]{4}年")  # in all of them
_MARK = "[$¥￥€£*`\"'“‘「\\s]*"
_DENIED_NUMBER = re.compile(
    r"(?:\bnot\b|n't\b|\bnever\b|\bcannot\b|\brather\s+than\b|\binstead\s+of\b|≠|!=|\\neq?\b|不是|并非|而非|不等于|不为|并不是)"
    rf"{_MARK}(?:(?:be|equal(?:\s+to)?|exactly|the|an?)\s+)*{_MARK}[-−]?[\d零〇一二两三四五六七八九十百千万亿][\d,.%]*",
    re.IGNORECASE,
)
_DENIALS = ("not", "n't", "never", "rather", "instead", "≠", "!=", "\\ne", "不是", "并非", "而非", "不等于", "不为")
"""One of these is in whatever _DENIED_NUMBER finds."""
_BOUND = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower)\s+than|at\s+(?:least|most)|up\s+to|over|under|above|below)"
    rf"|至少|至多|最多|最少|大于|小于|超过|不到|不足|多于|少于|高于|低于|≥|≤|[<>])[有是为]?{_MARK}$",
    re.IGNORECASE,
)
_RANGE = re.compile(
    rf"(?:\d\S{{0,6}}\s*(?:-|–|—|~|～|到|至|\bto\b)|\bbetween\b[^.]{{0,40}}\band\b|(?:\bor\b|或者?|还是)){_MARK}$",
    re.IGNORECASE,
)
_RANGE_ON = re.compile(r"^\S{0,6}\s*(?:-(?=\d)|–|—|~|～|到|至|\bto\b(?=\s*\d)|\bor\b(?=\s*\d)|或)", re.IGNORECASE)
_AFTER = re.compile(r"^[\d,.]*\s*[多余几]")  # 200多人
_POWER = re.compile(
    r"(?:(?P<times>\d+(?:\.\d+)?)\s*(?:[×x*·]|\\times|\\cdot)\s*)?(?<!\d)10\s*\^\s*\{?(?P<power>[-−]?\d{1,2})\}?",
    re.IGNORECASE,
)
# Numbers in words that aren't read.
_OTHER_NUMERALS = re.compile(
    r"第[一二三四五六七八九十]|[一二三四五六七八九]成|半|\b(?:first|half|quarters?|thirds?|twice|once)\b", re.IGNORECASE
)
_REASON = re.compile(r"\b(?:after|because|since|when|if|although|while)\b|因为|由于", re.IGNORECASE)
_RESULT = re.compile(r"\b(?:so|then|therefore|thus|leaves|left)\b|[=＝]|所以|因此|还剩|剩下", re.IGNORECASE)
_ASIDE = re.compile(r"[(（\[][^()（）\[\]]*[)）\]]")


def says_number(text: str, gold: str) -> bool | None:
    """Whether an answer gives the number of the right answer: that of the result it names, else the last one of its
    last sentence with numbers. Numbers that it denies, and the days of dates, are none of its results; a bound (at
    least 5), a range or a choice is none either. False for an answer without a number."""
    wanted = _wanted(gold)
    if wanted is None:
        return None
    text = text[-LAST:]
    named = final_answer(text)
    if named is not None:
        found = _number_said(named, wanted, ends=True)
        if found != "none":
            return found
        if _DENIED_NUMBER.search(named):
            return False
    for sentence in _sentences_from_end(text):
        found = _number_said(sentence, wanted) if _DIGIT.search(sentence) else "none"
        if found != "none":
            return found
    found = _number_said(text, wanted, words=True)
    return found if found != "none" else None if _OTHER_NUMERALS.search(text) else False


def is_one_number(right: str) -> bool:
    """Whether a right answer is one number with at most its unit (`$1,200`, `5 apples`, 二十五, 1e5), or names one as
    its result. H2O is none."""
    named = final_answer(right)
    text = (right if named is None else named).strip()
    if len(text) > _ONE or _IN_NAME.search(text) or len(numbers_in(text)) != 1:
        return False
    if not any(char.isdigit() for char in text):
        return _ZH_ALONE.fullmatch(text.strip(CLOSERS)) is not None
    return width(re.sub(r"[\d\s.,，%$¥€£+\-−/\\{}]", "", text)) <= _UNIT


_ONE = 200  # characters of a text that is one number
_UNIT = 8  # columns of what stands beside it
_IN_NAME = re.compile(r"(?<!\d)[A-Za-z]\d")
_ZH_ALONE = re.compile("[负零〇一壹二贰两三叁四肆五伍六陆七柒八捌九玖十百千万亿点分之拾佰仟萬億]+")


def _sentences_from_end(text: str) -> Iterator[str]:
    """reversed(SENTENCES.split(text)), perhaps with empty ones between: a long answer is seldom needed as a whole."""
    end, window = len(text), NEAR
    while end > 0:
        start = max(0, end - window)
        pieces = SENTENCES.split(text[start:end])
        if start and start + len(pieces[0]) == end:
            window *= 4
            continue
        yield from reversed(pieces[1:] if start else pieces)
        end = start + len(pieces[0]) if start else 0


@dataclass(frozen=True)
class _Wanted:
    """number: the right one. bound: the right answer itself is one (`at least 5`)."""

    number: Number
    bound: bool


@lru_cache(1024)  # each right answer stands beside several answers
def _wanted(gold: str) -> _Wanted | None:
    named = final_answer(gold)
    found = (_numbers(named) if named is not None else []) or _numbers(gold)
    return _Wanted(found[-1], _BOUND.search(gold) is not None) if found else None


def _number_said(
    text: str, wanted: _Wanted, *, ends: bool = False, words: bool = False
) -> bool | None | Literal["none"]:  # fmt: skip
    """`none`: there is no number in it. ends: of a named result the first number counts as well as the last (`5 apples,
    2 of them green`). words: numbers in English words count."""
    text = text[-NEAR:]
    left_out: list[str] = []

    def without(found: re.Match[str]) -> str:
        left_out.append(found.group())
        return " "

    def dated(found: re.Match[str]) -> str:
        year = next(found[name] for name in ("zh", "iso", "y1", "y2") if found[name])
        left_out.append(found.group().replace(year, " "))
        return f" {year} "

    whole = _digits(text, words=words or (ends and not _DIGIT.search(text)))
    shown = whole
    if _DIGIT.search(whole):
        shown = _DENIED_NUMBER.sub(" ", shown) if _holds(shown, _DENIALS) else shown
        shown = _DATES.sub(dated, shown) if _YEAR.search(shown) else shown
    bare = _ASIDE.sub(without, shown)
    said = numbers_in(bare)
    if not said and bare != shown:
        bare, said = shown, numbers_in(shown)
    if not said:
        return False if shown != whole else "none"
    if QUESTION.search(text):
        return None
    last = _main(bare) or said[-1]
    for number in (last, *([said[0]] if ends else [])):
        if same_value(number, wanted.number):
            before, after = bare[: number.start], bare[number.start :]
            rest = re.sub(r"^[-−+]?[\d,.]+", "", after)
            unsure = _RANGE.search(before) or _RANGE_ON.match(rest) or (not wanted.bound and _BOUND.search(before))
            return None if unsure or _AFTER.match(rest) else True
    others = [*said, *(number for part in left_out for number in numbers_in(part))]
    near = any(same_value(number, wanted.number) for number in others)
    return None if near or _OTHER_NUMERALS.search(text) else False


def _main(text: str) -> Number | None:
    """The last number of what a sentence says before it gives a reason (`16 are left after 4 were given away`)."""
    parts = _REASON.split(text, maxsplit=1)
    if len(parts) < 2 or _RESULT.search(parts[1]):
        return None
    said = numbers_in(parts[0])
    return said[-1] if said else None


def _numbers(text: str) -> list[Number]:
    return numbers_in(_digits(text)) or numbers_in(_digits(text, words=True))


def _digits(text: str, *, words: bool = False) -> str:
    """A text with `1.2 million`, `70k` and `minus 3` as digits. words: English numerals too."""
    if words:
        text = _NUMBER_WORDS.sub(_worth, text)
    if not _DIGIT.search(text):  # long texts without one are common, and these patterns slow
        return text
    text = _SCALED.sub(_scaled, text)
    text = _POWER.sub(_power, text) if "^" in text else text
    return _MINUS.sub("-", text) if _holds(text, ("minus", "negative")) else text


def _holds(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words may be in a text, upper or lower case: much faster than their pattern."""
    lower = text.lower()
    for word in words:
        if word in lower:
            return True
    return not text.isascii() and _OTHER_CASES.search(text) is not None


_OTHER_CASES = re.compile("[ſıİ\u212a]")  # that patterns take for s, i and k


def _scaled(found: re.Match[str]) -> str:
    value = Fraction(found[1].replace(",", "")) * _SCALES[(found[2] or found[3]).casefold()]
    return str(value.numerator) if value.denominator == 1 else found.group()


def _power(found: re.Match[str]) -> str:
    """The digits of `6.02 × 10^23`, where it is a whole number."""
    value = Fraction(found["times"] or 1) * Fraction(10) ** int(found["power"].replace("−", "-"))
    return str(value.numerator) if value.denominator == 1 else found.group()


def _worth(found: re.Match[str]) -> str:
    """The digits of English numerals: `twenty-one`, `one hundred and five`. `one` is mostly no number (`this one`)
    but alone or behind a word that says what something is."""
    written, before = found.group(), found.string[: found.start()]
    if written.casefold() == "one" and before.strip(CLOSERS) and not LINKS.search(before):
        return "1" if re.search(r"\b(?:only|just|exactly)\s+$", before, re.IGNORECASE) else written
    total, part = 0, 0
    for word in re.findall(r"[a-z]+", written.casefold()):
        if word in _UNITS or word in _TENS:
            part += _UNITS.get(word, _TENS.get(word, 0))
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in _SCALES:
            total, part = total + max(part, 1) * _SCALES[word], 0
    return str(total + part)
