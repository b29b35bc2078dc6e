"""Whether an answer is right, told without a model: by its text, its number, a pattern, or what a database says.

`exact_answer`, `number`, `regex:PATTERN` and `sql`; anything else that `--reward` names is a reward model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.duplicates import is_gold_sql, normal_form, sql_fact
from pipeline.candidates.policy import judging_limits
from pipeline.config_files import load_config
from pipeline.pairs.pair import text_of
from pipeline.refusal import Refused

NAMES = ("exact_answer", "number", "sql")
REGEX = "regex:"
MAX_PATTERN = 1_000  # characters
_SECONDS = 1.0  # for one search with a pattern of the user's
_LOOKED_THROUGH = 100_000  # last characters of an answer

Judge = Callable[[str, str | None, Mapping[str, Any]], bool | None]


@dataclass(frozen=True)
class RewardFunction:
    """name: as asked for. judge: (answer, right answer, measures) -> right, wrong, or None where it can't be told."""

    name: str
    judge: Judge

    def chosen_measures(self, gold: str | None) -> dict[str, Any]:
        """`correct` and `reward` of the data's chosen answer: right by what it is, but for a pattern, which looks."""
        if gold is None:
            return {}
        return _as_measures(self.judge(gold, gold, {}) if self.name.startswith(REGEX) else True)

    def measure(self, row: SourceRow, candidates: Sequence[Candidate]) -> None:
        """Write `correct` (None: can't be told) and, where it is known, `reward` 1 or 0 into the measures."""
        for candidate in candidates:
            if candidate.problem is None:
                gold = row.gold if candidate.chosen is None else text_of(candidate.chosen)
                candidate.measures |= _as_measures(self.judge(candidate.text, gold, candidate.measures))


def _as_measures(correct: bool | None) -> dict[str, Any]:
    return {"correct": correct} if correct is None else {"correct": correct, "reward": float(correct)}


def reward_function(given: str) -> RewardFunction | None:
    """The reward function asked for; None where the words name a model (a path or an id of the Hub). Raises Refused:
    `reward_unknown` for a name that is neither, `reward_regex_wrong`."""
    judges: dict[str, Judge] = {"exact_answer": _says, "number": _says_number, "sql": _sql}
    given = given.strip()
    if given in judges:
        return RewardFunction(given, judges[given])
    if given.startswith(REGEX):
        return RewardFunction(given, _by_pattern(given[len(REGEX) :]))
    if "/" in given or "\\" in given or Path(given).exists():
        return None
    near = difflib.get_close_matches(given, [*NAMES, REGEX], n=1, cutoff=0.0)[0]
    raise Refused("reward_unknown", value=given, near=near, all=", ".join([*NAMES, "regex:PATTERN"]))


def final_answer(text: str) -> str | None:
    """What an answer names as its result (`\\boxed{}`, `####`, "the answer is", 答案是): the last such place. None for
    an answer that names none."""
    text = text[-_LOOKED_THROUGH:]
    found: tuple[int, str] | None = None
    for pattern in _final_patterns():
        try:
            for match in pattern.finditer(text, timeout=_SECONDS):
                if found is None or match.start() > found[0]:
                    found = match.start(), match.group(1)
        except TimeoutError:
            continue
    return None if found is None else found[1].strip(" \t*$`")


@cache
def _final_patterns() -> tuple[Any, ...]:
    import regex

    return tuple(regex.compile(pattern) for pattern in load_config("choice_policies.yaml")["final_answers"])


def exact_answer(text: str, gold: str | None) -> bool | None:
    """Whether the whole answer, or the result it names, is the right text but for white space, case, width and marks at
    the ends. None where the right text stands somewhere in an answer that names no result, and without a right text."""
    if gold is None or not gold.strip():
        return None
    named, wanted = final_answer(text), final_answer(gold)
    rights = {normal_form(gold), *([] if wanted is None else [normal_form(wanted)])}
    if normal_form(text) in rights or (named is not None and normal_form(named) in rights):
        return True
    said = normal_form(text if named is None else named)
    return None if any(_stands_in(right, said) for right in rights) else False


def _stands_in(piece: str, text: str) -> bool:
    """Whether a text holds a piece as words of its own."""
    at = text.find(piece)
    while at >= 0:
        ends = (text[at - 1 : at] + piece[:1], piece[-1:] + text[at + len(piece) : at + len(piece) + 1])
        if not any(len(pair) == 2 and pair.isascii() and pair.isalnum() for pair in ends):
            return True
        at = text.find(piece, at + 1)
    return False


class Number(NamedTuple):
    """A number as written. percent: with a percent sign, value being what stands before it. decimals: after the point,
    None for fractions and numbers in words. start: its place in the text."""

    value: Fraction
    percent: bool
    decimals: int | None
    start: int


_ZH_DIGITS = dict(zip("零〇一壹二贰两三叁四肆五伍六陆七柒八捌九玖", map(int, "001122233445566778899"), strict=True))
_ZH_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 10**8}
_ZH_FORMS = str.maketrans("拾佰仟萬億", "十百千万亿")
_ZH = "".join(_ZH_DIGITS) + "".join(_ZH_UNITS)
_ZH_NUMBER = rf"[{_ZH}]{{1,40}}(?:点[{''.join(_ZH_DIGITS)}]{{1,40}})?"
_ARABIC = r"(?:\d{1,3}(?:,\d{3}){1,30}(?!\d)|\d{1,100})(?:\.\d{1,100})?|\.\d{1,100}"
_SIGN = r"(?:(?<![\w)])[-−+]|负)?"
_NUMBER = re.compile(
    rf"(?=[-−+负.\\\d{_ZH}])(?P<sign>{_SIGN})(?:"  # what may begin one first, which most of a text can't
    rf"\\[dt]?frac\{{(?P<tex_over>\d{{1,50}})\}}\{{(?P<tex_under>\d{{1,50}})\}}"
    rf"|百分之(?P<zh_percent>{_ARABIC}|{_ZH_NUMBER})"
    rf"|(?P<zh_under>{_ZH_NUMBER})分之(?P<zh_over>{_ZH_NUMBER})"
    rf"|(?:(?P<whole>\d{{1,50}})[ ])?(?P<over>\d{{1,50}})[ ]?[/⁄][ ]?(?P<under>\d{{1,50}})(?!\d|/|\.\d)"
    rf"|(?P<arabic>{_ARABIC})(?:[eE](?P<power>[-+]?\d{{1,2}})(?!\w))?[ ]?(?P<unit>[%万亿千百](?!分))?"
    rf"|(?P<zh>{_ZH_NUMBER})"
    r")"
)
# Where a numeral is part of another word: 一起, 统一, 十分, 万一.
_IN_WORDS = re.compile(
    r"一(?=[起下样些定般共直切旦致会儿边同律向面])|(?<=[第统唯任])一|(?<!分)之一|十分(?!之)|千万(?=[不别要])|万一(?=[你我他有出发])"
)
_FORMS = {**str.maketrans("０１２３４５６７８９．，％－", "0123456789.,%-"), **_ZH_FORMS}
_UNICODE_FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}


def numbers_in(text: str) -> list[Number]:
    """Every number of a text, in order: digits with thousands separators, decimals, powers of ten, fractions, percent,
    and Chinese numerals. Digits of more than 100 places are read in part."""
    if not text.isascii():
        text = text.translate(_FORMS)
        for char, written in _UNICODE_FRACTIONS.items():
            text = text.replace(char, f" {written}")
        text = _IN_WORDS.sub(lambda match: "·" * len(match.group()), text)
    found = []
    for match in _NUMBER.finditer(text):
        read = _read(match.groups())
        if read is not None:
            found.append(Number(*read, match.start()))
    return found


@lru_cache(1 << 14)  # the numbers of a task are few, and a Fraction takes longer than all the rest
def _read(groups: tuple[str | None, ...]) -> tuple[Fraction, bool, int | None] | None:
    """Value, percent and decimals. groups: of _NUMBER."""
    part = dict(zip(_PARTS, groups, strict=True))
    sign = -1 if part["sign"] in ("-", "−", "负") else 1
    percent, decimals = False, None
    if arabic := part["arabic"]:
        digits = arabic.replace(",", "")
        value = Fraction(f"0{digits}") * Fraction(10) ** int(part["power"] or 0)
        decimals = len(digits.partition(".")[2])
        if part["unit"] == "%":
            percent = True
        elif part["unit"]:
            value *= _ZH_UNITS[part["unit"]]
            decimals = None
    elif part["zh_percent"]:
        value, percent = _either(part["zh_percent"]), True
    else:
        over = part["tex_over"] or part["over"] or part["zh_over"]
        under = part["tex_under"] or part["under"] or part["zh_under"]
        value = _chinese(part["zh"]) if part["zh"] else _either(over or "")
        if under:
            if not _either(under):
                return None
            value = value / _either(under) + int(part["whole"] or 0)
    return sign * value, percent, decimals


_PARTS = tuple(sorted(_NUMBER.groupindex, key=_NUMBER.groupindex.__getitem__))


def _either(written: str) -> Fraction:
    return Fraction(written.replace(",", "")) if written[0] in "0123456789" else _dotted(written)


def _dotted(written: str) -> Fraction:
    return Fraction(f"0{written}") if written.startswith(".") else _chinese(written)


def _chinese(written: str) -> Fraction:
    """The value of a Chinese numeral: 一千二百三十四, 二〇二四, 三点五, 两万五 (25,000)."""
    whole, _, after = written.partition("点")
    point = Fraction("".join(str(_ZH_DIGITS[char]) for char in after) or "0") / 10 ** len(after)
    if len(whole) > 1 and not any(char in _ZH_UNITS for char in whole):
        return int("".join(str(_ZH_DIGITS[char]) for char in whole)) + point
    return _chinese_whole(whole) + point


def _chinese_whole(written: str) -> int:
    for mark in ("亿", "万", "千", "百", "十"):
        if mark not in written:
            continue
        before, _, after = written.rpartition(mark)
        unit = _ZH_UNITS[mark]
        # 三百五 is 350: a single digit right behind a unit counts tenths of it.
        tenths = unit >= 100 and len(after) == 1 and _ZH_DIGITS.get(after)
        return (_chinese_whole(before) or 1) * unit + (tenths * unit // 10 if tenths else _chinese_whole(after))
    return int("".join(str(_ZH_DIGITS[char]) for char in written) or "0")


def same_value(left: Number, right: Number) -> bool:
    """Equal within the tolerance of configs/choice_policies.yaml, or when the left one is rounded to as many decimals
    as the right one has (at least two). 50%, 0.5 and 50 are the same where only one of them is in percent."""
    if _near(left.value, right.value):
        return True
    if left.percent != right.percent:
        pair = (left.value / 100, right.value) if left.percent else (left.value, right.value / 100)
        if _near(*pair):
            return True
    longer = left.decimals is None or left.decimals > (right.decimals or 0)
    if right.decimals is None or right.decimals < 2 or not longer or left.percent != right.percent:
        return False
    return round(left.value, right.decimals) == right.value


def _near(one: Fraction, other: Fraction) -> bool:
    """|one - other| <= tolerance · max(|one|, |other|), times both denominators: whole numbers are faster by far."""
    left, right = one.numerator * other.denominator, other.numerator * one.denominator
    if left == right:
        return True
    tolerance = _fraction(judging_limits()["number_tolerance"])
    return abs(left - right) * tolerance.denominator <= tolerance.numerator * max(abs(left), abs(right))


_fraction = lru_cache(16)(Fraction)


def _says(text: str, gold: str | None, measures: Mapping[str, Any]) -> bool | None:
    """As replays and comparisons read texts."""
    from pipeline.evaluation.said_answers import says

    return None if gold is None else says(text, gold)


def _says_number(text: str, gold: str | None, measures: Mapping[str, Any]) -> bool | None:
    """As replays and comparisons read numbers."""
    from pipeline.evaluation.said_numbers import says_number

    return None if gold is None else says_number(text, gold)


def _by_pattern(pattern: str) -> Judge:
    """A pattern with a group says where the result stands, which must be the right one's (or the whole right answer);
    one without a group is found in right answers only."""
    import regex

    if not pattern or len(pattern) > MAX_PATTERN:
        raise Refused("reward_regex_wrong", pattern=pattern, why=f"1-{MAX_PATTERN}")
    try:
        compiled = regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, ValueError) as failed:
        raise Refused("reward_regex_wrong", pattern=pattern, why=str(failed).partition("\n")[0]) from None

    def search(text: str) -> Any:
        return compiled.search(text[-_LOOKED_THROUGH:], timeout=_SECONDS, concurrent=True)

    def judge(text: str, gold: str | None, measures: Mapping[str, Any]) -> bool | None:
        try:
            found = search(text)
            if not compiled.groups:
                return found is not None
            if gold is None:
                return None
            right = search(gold)
        except TimeoutError:
            return None
        if found is None or found.group(1) is None:
            return False
        wanted = gold if right is None or right.group(1) is None else right.group(1)
        said = found.group(1)
        if normal_form(said) == normal_form(wanted):
            return True
        numbers = [numbers_in(part) for part in (said, wanted)]
        return len(numbers[0]) == len(numbers[1]) == 1 and same_value(numbers[0][0], numbers[1][0])

    return judge


def _sql(text: str, gold: str | None, measures: Mapping[str, Any]) -> bool | None:
    """What was measured on the database, or by comparing both queries."""
    if is_gold_sql(measures):
        return True
    if sql_fact(measures, "same_result") is False or sql_fact(measures, "parses") is False:
        return False
    return None
