"""Whether a name, a label, a letter or another short text is what an answer says, as a careful reader would take it:
right, wrong, or None where it can't be told. Numbers: said_numbers.

An answer may hold the right text and say the opposite ("it is not 5", 不是北京), leave it open ("5 or 6", 至少8个), or
name it by the way ("a city near Paris"). So the right text must stand where an answer says its result: alone, named as
the result, or at the end of one statement behind a word that says so (is, 是, a colon). tests/judged_answers.py holds
answers that people judged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from pipeline.candidates.duplicates import normal_form
from pipeline.candidates.policy import judging_limits
from pipeline.candidates.reward_functions import exact_answer, final_answer
from pipeline.candidates.text_measures import width

CLOSERS = " \"'“”‘’「」『』《》()（）*`。.!！?？,，;；:：…~"
LAST = 100_000  # characters of an answer that are looked at
NEAR = 2_000  # of them, the last ones, at which patterns look that a hostile text could make slow
SENTENCES = re.compile(r"(?<=[。！？!?\n])|(?<=\.)\s")
QUESTION = re.compile(r"[?？][\s\"'”’」』)）]*$")
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
LINKS = re.compile(
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
    text, right = (unicodedata.normalize("NFKC", one[-LAST:]) for one in (text, right))
    wanted, polar = _letters_of(right), _polar_word(right)
    if wanted is not None and (chosen := _chosen(text)) is not None:
        return chosen == wanted
    if polar is not None and (said := _polarity(text)) is not None and said[0] == polar[0]:
        return said[1] == polar[1]
    found = exact_answer(text, right)
    if found is False and polar is not None:  # yes and no have many other words
        return None
    if found is not None or not right.strip():
        return found or _told_by_its_end(text, right)
    if head := _head(final_answer(text)):
        return normal_form(head) == normal_form(right) or None
    return _statement(text, right)


def right_by_one(found: Sequence[bool | None]) -> bool | None:
    """Beside several right answers: right where it is by one of them, wrong where it is by all."""
    return True if True in found else None if None in found or not found else False


# --- names, labels ---


def _told_by_its_end(text: str, right: str) -> bool | None:
    """Of an answer that doesn't hold the right text: whether it is what a right answer in a sentence ends with."""
    said, wanted = (normal_form(one).strip(CLOSERS) for one in (text, right))
    if not said or not wanted:
        return None if not wanted else False
    if not wanted.endswith(said) or len(said) == len(wanted):
        return False
    before = SENTENCES.split(wanted[: -len(said)])[-1]
    return bool(LINKS.search(before) and not _NEGATED.search(before))


def _head(named: str | None) -> str:
    """A named result up to what explains it: `Paris, of course`."""
    if named is None or _OPEN.search(named) or _BUT.search(named):
        return ""
    return re.split(r"[,，;；(（。]|\s(?:because|since|as|which)\s|因为", named, maxsplit=1)[0].strip(CLOSERS)


def _statement(text: str, right: str) -> bool | None:
    """Of a short answer: whether it is a statement that ends with the right text."""
    if width(text) > judging_limits()["short_answer"] or QUESTION.search(text):
        return None
    said, wanted = (normal_form(one).strip(CLOSERS) for one in (text, right))
    if not wanted or not said.endswith(wanted):
        return None
    before = SENTENCES.split(said[: -len(wanted)])[-1]
    if _DENIED.search(before):
        return False
    if _NEGATED.search(before) or _OPEN.search(said) or len(_LINK_WORDS.findall(before)) > 1:
        return None
    return True if LINKS.search(before) or _LEAD.match(before) else None


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

_Polarity = tuple[str, bool]
"""A word and whether it is said or denied."""


def _letters_of(right: str) -> frozenset[str] | None:
    """Of a right answer that is nothing but letters of options, several in their order."""
    whole = _IS_OPTION.fullmatch(right)
    letters = whole[1] if whole is not None else ""
    return frozenset(letters) if letters and "".join(sorted(set(letters))) == letters else None


def _chosen(text: str) -> frozenset[str] | None:
    """The letters an answer chooses among options; None where it chooses none for certain."""
    listed = re.findall(r"(?m)^[ \t]{0,8}(?:\*\*)?[(（]?([A-H])[)）.．、:：]", text)
    first = _FIRST_OPTION.match(text[:NEAR])
    text = " ".join(text[-NEAR:].split())  # runs of white space would take the patterns long
    short = text if len(text) <= _BARE else ""
    if (bare := _BARE_OPTION.fullmatch(short)) is not None and bare[1].isupper():
        return frozenset(bare[1])
    if _SEVERAL.fullmatch(short):
        return frozenset(re.findall(r"(?<![A-Za-z])[A-H](?![A-Za-z])", text))
    if first is not None and len(set(listed)) <= 1:
        return frozenset(first[1])
    if _OPEN.search(text):
        return None
    shown = _NOT_CHOSEN.sub(" ", text)
    chosen = [found[1] for found in _CHOSEN.finditer(shown) if found[1].isupper()]
    if named := final_answer(shown):
        if _SEVERAL.fullmatch(named[:_BARE]):
            return frozenset(re.findall(r"[A-H]", named))
        whole = _IS_OPTION.match(named)
        chosen += [whole[1]] if whole is not None and whole[1].isupper() else []
    different = {frozenset(one) for one in chosen}
    return different.pop() if len(different) == 1 else None


def _polar_word(text: str) -> _Polarity | None:
    """Of an answer that is nothing but yes or no."""
    word = normal_form(text[-NEAR:]).strip(CLOSERS) if len(text) < NEAR else ""
    return (_YES[word], True) if word in _YES else (_NO[word], False) if word in _NO else None


def _polarity(text: str) -> _Polarity | None:
    """Yes or no, by the word an answer begins with or ends with."""
    if (alone := _polar_word(text)) is not None:
        return alone
    if width(text) > judging_limits()["short_answer"] or QUESTION.search(text) or _OPEN.search(text):
        return None
    if (first := _FIRST_WORD.match(text)) is not None:
        word = first[1].casefold()
        return (_YES[word], True) if word in _YES else (_NO[word], False)
    if len(SENTENCES.split(text.strip())) > 2 or (last := _LAST_WORD.search(text)) is None:
        return None
    before, word = text[: last.start()], (last[2] or last[3]).casefold()
    if _NEGATED.search(before) or not (LINKS.search(before) or last[3] or last[1]) and before.strip(" ,."):
        return None
    value = word in _YES
    return (_YES if value else _NO)[word], value is not bool(last[1])
