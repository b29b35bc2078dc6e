"""Whether a short answer or a number is what an answer says, as a careful reader would take it: right, wrong, or None
where it can't be told.

An answer may hold the right text and say the opposite ("it is not 5", 不是北京), leave it open ("5 or 6", 至少8个), or
name it by the way ("a city near Paris"). So the right text must stand where an answer says its result: alone, named as
the result, or at the end of one statement behind a word that says so (is, 是, a colon). tests/judged_answers.py holds
answers that people judged.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from pipeline.candidates.duplicates import normal_form
from pipeline.candidates.policy import judging_limits
from pipeline.candidates.reward_functions import Number, exact_answer, final_answer, numbers_in, same_value
from pipeline.candidates.text_measures import width

CLOSERS = " \"'“”‘’「」『』《》()（）*`。.!！?？,，;；:：…~"
_LAST = 100_000  # characters of an answer that are looked at
_NEAR = 2_000  # of them, the last ones, at which patterns look that a hostile text could make slow
_SENTENCES = re.compile(r"(?<=[。！？!?\n])|(?<=\.)\s")
_QUESTION = re.compile(r"[?？][\s\"'”’」』)）]*$")
_NEGATED = re.compile(r"n't\b|\b(?:not|never|no|cannot|neither|nor)\b|[不没非未无]", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:n't|\b(?:not|never|neither))\s+(?:(?:an?|the|really|actually|exactly|even)\s+)*[\"'“‘「『《*`]*$"
    r"|(?:不是|并非|而非|不等于|不为|不叫|并不|[^\w]不|^不|[^差]不)[\"“‘「『《*`]*$",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|might|may|could|doubt(?:ful)?|unsure|uncertain|hardly|unlikely)\b"
    r"|\b(?:people|many|some|others|they|you|one)\s+(?:\w+\s+)?(?:say|think|believe|claim|guess)\b"
    r"|[或]|还是|可能|也许|大概|不确定|难说|怀疑|未必|有人|除了|其次",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:but|however|although|though)\b|但|不过|然而", re.IGNORECASE)
# A word that says what something is, at the end of what stands before the right text.
_LINKS = re.compile(
    r"(?:\b(?:is|are|was|were|be|means|equals|called|named)\b|\b(?:it|that|this|he|she|what)'s\b|[=:：叫]|等于"
    r"|(?<![还但可于要总或])[是为]|\b(?:is|are|was|were|been)\s+(?:\w+\s+)?\w+ed\s+by\b"
    r"|\b(?:written|made|built|drawn|sung|won|shot|led)\s+by\b)[\s\"'“‘「『《*`]*"
    r"(?:(?:an?|the|a\s+kind\s+of|one)\s+)?(?:一?[种个名位只类])?[\s\"'“‘「『《*`]*$",
    re.IGNORECASE,
)
_LINK_WORDS = re.compile(r"\b(?:is|are|was|were)\b|'s\s(?=an?\b|the\b)|(?<![还但可于要总或])是", re.IGNORECASE)
_LEAD = re.compile(r"^[\W_]*(?:(?:an?|the|just|simply|一?[个种名位只类])[\s\"'“‘*`]*)?$", re.IGNORECASE)


def says(text: str, right: str) -> bool | None:
    """Whether an answer says what a name, a label, a letter or another short text says."""
    text, right = (unicodedata.normalize("NFKC", one[-_LAST:]) for one in (text, right))
    polar = _polarity(right, right)
    for judged, wanted in ((_option, _option(right, right)), (_polarity, polar)):
        said = judged(text, right) if wanted is not None else None
        if said is not None and wanted is not None and (found := _same_sort(said, wanted)) is not None:
            return found
    found = exact_answer(text, right)
    if found is False and polar is not None:  # yes and no have many other words
        return None
    if found is not None or not right.strip():
        return found or _told_by_its_end(text, right)
    if head := _head(final_answer(text)):
        return normal_form(head) == normal_form(right) or None
    return _statement(text, right)


def says_number(text: str, gold: str) -> bool | None:
    """Whether an answer gives the number of the right answer: that of the result it names, else the last one of its
    last sentence with numbers. Numbers that it denies, and the days of dates, are none of its results; a bound (at
    least 5), a range or a choice is none either. False for an answer without a number."""
    wanted = _wanted(gold)
    if wanted is None:
        return None
    text = text[-_LAST:]
    named = final_answer(text)
    if named is not None:
        found = _number_said(named, wanted, ends=True)
        if found != "none":
            return found
        if _DENIED_NUMBER.search(named):
            return False
    for sentence in reversed(_SENTENCES.split(text)):
        found = _number_said(sentence, wanted) if _DIGIT.search(sentence) else "none"
        if found != "none":
            return found
    found = _number_said(text, wanted, words=True)
    return found if found != "none" else None if _OTHER_NUMERALS.search(text) else False


# --- names, labels ---


def _told_by_its_end(text: str, right: str) -> bool | None:
    """Of an answer that doesn't hold the right text: whether it is what a right answer in a sentence ends with."""
    said, wanted = (normal_form(one).strip(CLOSERS) for one in (text, right))
    if not said or not wanted:
        return None if not wanted else False
    if not wanted.endswith(said) or len(said) == len(wanted):
        return False
    before = _SENTENCES.split(wanted[: -len(said)])[-1]
    return bool(_LINKS.search(before) and not _NEGATED.search(before))


def _head(named: str | None) -> str:
    """A named result up to what explains it: `Paris, of course`."""
    if named is None or _OPEN.search(named) or _BUT.search(named):
        return ""
    return re.split(r"[,，;；(（。]|\s(?:because|since|as|which)\s|因为", named, maxsplit=1)[0].strip(CLOSERS)


def _statement(text: str, right: str) -> bool | None:
    """Of a short answer: whether it is a statement that ends with the right text."""
    if width(text) > judging_limits()["short_answer"] or _QUESTION.search(text):
        return None
    said, wanted = (normal_form(one).strip(CLOSERS) for one in (text, right))
    if not wanted or not said.endswith(wanted):
        return None
    before = _SENTENCES.split(said[: -len(wanted)])[-1]
    if _DENIED.search(before):
        return False
    if _NEGATED.search(before) or _OPEN.search(said) or len(_LINK_WORDS.findall(before)) > 1:
        return None
    return True if _LINKS.search(before) or _LEAD.match(before) else None


# --- letters of options, yes and no ---

_BARE = 60  # characters of an answer that is nothing but letters of options
_LETTERS = r"[(\[（【]?\s*(?:\\text\{)?([A-H]{1,8})(?![A-Za-z'’])\s*\}?[)\]）】]?"
_IS_OPTION = re.compile(rf"[\s*`\"'“”‘’]*{_LETTERS}[\s.。*`\"'“”‘’]*")
_BARE_OPTION = re.compile(
    rf"[\W_]*(?:(?:the\s+)?(?:option|choice|answer)\b|选项|答案|选)?[\s:：*]*{_LETTERS}项?[\W_]*", re.IGNORECASE
)
_FIRST_OPTION = re.compile(r"\s*(?:\*\*)?[(（【\[]?([A-H])[)）】\].．、:：]\s*(?:\*\*)?\s*\S")
_SEVERAL = re.compile(r"[\W_]*([A-H])(?:\s*(?:,|、|，|/|&|and|和|与|及)\s*([A-H]))+[\W_]*")
_CHOSEN = re.compile(
    r"(?:\b(?:answer|option|choice)\s*(?:is|would\s+be|should\s+be|:|：)\s*(?:option\s+)?(?:\*\*)?"
    r"|\b(?:choose|pick|select|go\s+with)\s+(?:(?:the\s+)?(?:option|answer)\s+)?|\boption\s+(?=\(?[A-H]\)?\s+is\b)"
    r"|(?:答案|结果)\s*(?:应该?)?(?:是|为|:|：)\s*(?:选项?)?|选(?:项|择)?\s*[:：]?\s*(?:\*\*)?)" + _LETTERS,
    re.IGNORECASE,
)
_NOT_CHOSEN = re.compile(
    r"(?:\b(?:not|never|than|of)\s+(?:option\s+)?|不是|而非|不选|不能选|非|不为)\s*[(（]?[A-H]{1,8}(?![A-Za-z])[)）]?",
)

_YES = {"yes": "yes", "true": "true", "correct": "correct", "right": "correct", "是": "是", "是的": "是", "对": "对",
        "对的": "对", "正确": "对", "没错": "对"}  # fmt: skip
_NO = {"no": "yes", "false": "true", "incorrect": "correct", "wrong": "correct", "否": "是", "不是": "是", "不": "是",
       "不对": "对", "错": "对", "错误": "对", "不正确": "对"}  # fmt: skip
_FIRST_WORD = re.compile(
    r"[\W_]*(yes|no|true|false|correct|incorrect|是的|不是|不对|不正确|没错)(?![A-Za-z])(?=[\W_]|$)", re.IGNORECASE
)
_LAST_WORD = re.compile(
    r"(?:(\bnot|n't|不|并不|不太)\s*(?:是)?\s*)?(?:\b(yes|no|true|false|correct|incorrect|wrong)\b"
    r"|(?<![不])(正确|错误|不正确|不对)的?)[\W_]*$",
    re.IGNORECASE,
)

_Sort = tuple[str, bool | frozenset[str]]


def _option(text: str, right: str) -> _Sort | None:
    """The letters an answer chooses among options; None where it chooses none for certain. text is right: only where
    that is nothing but letters, several in their order."""
    if text is right:
        whole = _IS_OPTION.fullmatch(text)
        letters = whole[1] if whole is not None else ""
        return ("option", frozenset(letters)) if letters and "".join(sorted(set(letters))) == letters else None
    listed = re.findall(r"(?m)^[ \t]{0,8}(?:\*\*)?[(（]?([A-H])[)）.．、:：]", text)
    first = _FIRST_OPTION.match(text[:_NEAR])
    text = " ".join(text[-_NEAR:].split())  # runs of white space would take the patterns long
    short = text if len(text) <= _BARE else ""
    if (bare := _BARE_OPTION.fullmatch(short)) is not None and bare[1].isupper():
        return "option", frozenset(bare[1])
    if _SEVERAL.fullmatch(short):
        return "option", frozenset(re.findall(r"(?<![A-Za-z])[A-H](?![A-Za-z])", text))
    if first is not None and len(set(listed)) <= 1:
        return "option", frozenset(first[1])
    if _OPEN.search(text):
        return None
    shown = _NOT_CHOSEN.sub(" ", text)
    chosen = [found[1] for found in _CHOSEN.finditer(shown) if found[1].isupper()]
    if named := final_answer(shown):
        if _SEVERAL.fullmatch(named[:_BARE]):
            return "option", frozenset(re.findall(r"[A-H]", named))
        whole = _IS_OPTION.match(named)
        chosen += [whole[1]] if whole is not None and whole[1].isupper() else []
    return ("option", frozenset(chosen[0])) if len({frozenset(one) for one in chosen}) == 1 else None


def _polarity(text: str, right: str) -> _Sort | None:
    """Yes or no, by the word an answer begins with or ends with. text is right: only where it is such a word."""
    word = normal_form(text[-_NEAR:]).strip(CLOSERS) if len(text) < _NEAR else ""
    for words, value in ((_YES, True), (_NO, False)):
        if word in words:
            return words[word], value
    if text is right or width(text) > judging_limits()["short_answer"] or _QUESTION.search(text) or _OPEN.search(text):
        return None
    if (first := _FIRST_WORD.match(text)) is not None:
        word = first[1].casefold()
        return (_YES[word], True) if word in _YES else (_NO[word], False)
    if len(_SENTENCES.split(text.strip())) > 2 or (last := _LAST_WORD.search(text)) is None:
        return None
    before, word = text[: last.start()], (last[2] or last[3]).casefold()
    if _NEGATED.search(before) or not (_LINKS.search(before) or last[3] or last[1]) and before.strip(" ,."):
        return None
    value = word in _YES
    return (_YES if value else _NO)[word], value is not bool(last[1])


def _same_sort(said: _Sort, wanted: _Sort) -> bool | None:
    return said[1] == wanted[1] if said[0] == wanted[0] else None


# --- numbers ---

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
_MARK = "[$¥￥€£*`\"'“‘「\\s]*"
_DENIED_NUMBER = re.compile(
    r"(?:\bnot\b|n't\b|\bnever\b|\bcannot\b|\brather\s+than\b|\binstead\s+of\b|≠|!=|\\neq?\b|不是|并非|而非|不等于|不为|并不是)"
    rf"{_MARK}(?:(?:be|equal(?:\s+to)?|exactly|the|an?)\s+)*{_MARK}[-−]?[\d零〇一二两三四五六七八九十百千万亿][\d,.%]*",
    re.IGNORECASE,
)
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
    text = text[-_NEAR:]
    left_out: list[str] = []

    def without(found: re.Match[str]) -> str:
        left_out.append(found.group())
        return " "

    def dated(found: re.Match[str]) -> str:
        year = next(found[name] for name in ("zh", "iso", "y1", "y2") if found[name])
        left_out.append(found.group().replace(year, " "))
        return f" {year} "

    whole = _digits(text, words=words or (ends and not _DIGIT.search(text)))
    shown = _DATES.sub(dated, _DENIED_NUMBER.sub(" ", whole))
    bare = _ASIDE.sub(without, shown)
    said = numbers_in(bare)
    if not said and bare != shown:
        bare, said = shown, numbers_in(shown)
    if not said:
        return False if shown != whole else "none"
    if _QUESTION.search(text):
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
    text = _POWER.sub(_power, _SCALED.sub(_scaled, text))
    return _MINUS.sub("-", text)


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
    if written.casefold() == "one" and before.strip(CLOSERS) and not _LINKS.search(before):
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
