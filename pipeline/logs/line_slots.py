"""The numbers of a line of text that mean something, told by the words in front of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.logs.metric_names import Meaning, is_eval_word, meaning_in_text
from pipeline.logs.own_format import OwnFormat

# A number that stands for itself: not inside a word, a version or a path.
NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?"
    r"|(?:[nN]a[nN]|NAN|[iI]nf(?:inity)?|INF))(?![A-Za-z0-9_])"
)
# The words before a number: name, brackets with an explanation, quote, separator, wrappers.
_BEFORE = re.compile(
    r"([A-Za-z_\u4e00-\u9fff@][\w/@.\-]*(?:[ \t]{1,2}[A-Za-z_\u4e00-\u9fff@][\w/@.\-]*){0,4})(?:\s*\([^()]{0,60}\))?"
    r"['\"`*]*\s*(:|=|：|->|=>|\||为|是|\bis\b|\bof\b)?\s*['\"`*]*(?:[A-Za-z_.]+\d*\()?['\"\[({]*\s*$"
)
_FRACTION_BEFORE = re.compile(r"(?:\]\s*[(\[]|[(\[]|\|\s*|^|\s)$")
TIME = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[ T_](\d\d):(\d\d):(\d\d)(?:[,.](\d{1,6}))?")
# `eval 20: train 1.0542 | val 1.1876`: two losses that are not named.
_BOTH = re.compile(
    rf"(?i)(?:\b(step|iter|iteration|epoch|eval)\s*[:=#]?\s*(\d+)\b[^\d\n]{{1,6}})?\btrain\s*[:=]?\s*({NUMBER.pattern})"
    rf"[\s|,;/]+val(?:id(?:ation)?)?\s*[:=]?\s*({NUMBER.pattern})"
)
# torchtune's bar: `1|20|Loss: 1.49: 10%|...`, the epoch and the step of the run.
_EPOCH_AND_STEP = re.compile(r"\s*(\d+)\|(\d+)\|(?=[A-Za-z])")
# A bar that counts examples, files or bytes shows no steps.
TQDM = re.compile(r"(?:^|[\s:])(\d+)/(\d+) \[[\d:?]+<(?![^\]\n]{0,40} ?(?:examples|files|shards|[kKMG]?i?B)/s)")


@dataclass(frozen=True)
class Slot:
    """One number of a line that means something. place: `step` or `epoch`, empty for a metric; name: of the metric;
    start, end: where it stands."""

    place: str
    name: str
    start: int
    end: int
    percent: bool = False
    any_number: bool = False  # a step of a record may be any number, one of a sentence is whole


def only_settings(names: set[str]) -> bool:
    """Whether these metrics alone could as well be a line of a configuration."""
    return names <= {
        "learning_rate", "entropy", "kl", "completions/mean_length", "grad_norm", "loss_scale", "skipped_steps",
        "completions/max_length", "num_tokens",
    }  # fmt: skip


def own_columns(own: OwnFormat) -> list[tuple[bytes, re.Pattern[str], Meaning]]:
    """(bytes that stand in the line, expression whose group is the number, meaning) of each column given."""
    return [
        (
            column.encode(),
            re.compile(rf"(?<![\w/.]){re.escape(column)}['\"\])]*\s*[:=|]?\s*['\"\[(]*(?={NUMBER.pattern})"),
            what,
        )
        for column, what in own.column_meanings.items()
    ]


def slots_of(line: str, own: Sequence[tuple[bytes, re.Pattern[str], Meaning]] = ()) -> list[Slot]:
    """The numbers of a line that mean something, in order; of two with one meaning the first.

    own: names that the user gave a meaning to; they go first."""
    slots: list[Slot] = []
    taken: set[str] = set()
    told: set[int] = set()
    for _, pattern, given in own:
        if (named := pattern.search(line)) and (number := NUMBER.match(line, named.end())):
            place = given.name if given.kind == "place" else ""
            slots.append(Slot(place, given.name, number.start(), number.end()))
            taken.add(given.name)
            told.add(number.start())
    if (both := _BOTH.search(line)) is not None and not re.search(r"(?i)loss|acc|ppl|perplex", line):
        place = (both[1] or "").lower()
        if both[2] and place:
            slots.append(
                Slot(*(("epoch", "epoch") if place == "epoch" else ("step", "step")), both.start(2), both.end(2))
            )
        return [*slots, Slot("", "loss", both.start(3), both.end(3)), Slot("", "eval_loss", both.start(4), both.end(4))]
    if (led := _EPOCH_AND_STEP.match(line)) is not None:
        slots += [Slot(n, n, led.start(k), led.end(k)) for k, n in ((1, "epoch"), (2, "step")) if n not in taken]
        taken |= {"epoch", "step"}
        told |= {led.start(1), led.start(2)}
    end = 0
    line_is_eval: bool | None = None
    after_epoch = False
    pair = "chosen" in line
    for found in NUMBER.finditer(line):
        gap = line[end : found.start()]
        end = found.end()
        if found.start() in told:
            continue
        follows = line[end : end + 1]
        if follows == "%" and line[end + 1 : end + 2] == "|":
            continue  # a progress bar whose title may well be `loss`
        what = _counted(gap, line[end : end + 8]) or _meaning_before(gap, pair)
        if what is None and taken & {"step", "epoch"} and gap.rstrip().endswith(" is"):  # MindSpore: `loss is 2.3`
            what = _meaning_before(f"{gap.rstrip()[:-3]}:", pair)
        if what is None:
            # A bare fraction is a place: `(20/4292)` behind an epoch, `9/24604 [` of a progress bar.
            if (
                follows == "/"
                and (line[end + 1 : end + 2].isdigit() or line[end + 1 : end + 2] == " ")
                and _FRACTION_BEFORE.search(gap)
                and "step" not in taken
            ):
                total = re.match(r"/ {0,6}(\d+)\s*(\[|\]|\)|\(|,|:|batches\b|steps\b|$)", line[end : end + 40])
                if total and (after_epoch or total[2] == "["):
                    slots.append(Slot("step", "step", found.start(), end))
                    taken.add("step")
            continue
        kind, name = what
        if kind == "place":
            after_epoch = after_epoch or name == "epoch"
            if (
                name in ("step", "epoch")
                and name not in taken
                and "." not in line[found.start() : end]
                or name == "epoch"
            ):
                if name in taken:
                    continue
                slots.append(Slot(name, name, found.start(), end))
                taken.add(name)
            continue
        if not name.startswith("eval_"):
            if line_is_eval is None:
                line_is_eval = _line_is_eval(line)
            if line_is_eval and not re.search(r"(?i)train", gap):
                name = f"eval_{name}"
        if name in taken:
            continue
        taken.add(name)
        slots.append(
            Slot("", name, found.start(), end, follows == "%" and "accura" in name or follows == "%" and "acc" in gap)
        )
    return sorted(slots, key=lambda slot: slot.start) if own else slots


_COUNTED = (
    ("步", "step"),
    ("次迭代", "step"),
    ("轮", "epoch"),
    ("个epoch", "epoch"),
    ("epoch", "epoch"),
    ("个周期", "epoch"),
)


def _counted(gap: str, after: str) -> tuple[str, str] | None:
    """`第100步`, `第 1 轮`."""
    if not gap.rstrip().endswith("第"):
        return None
    after = after.lstrip().lower()
    return next((("place", place) for word, place in _COUNTED if after.startswith(word)), None)


_GAPS: dict[tuple[str, bool], tuple[str, str] | None] = {}


def _meaning_before(gap: str, pair: bool) -> tuple[str, str] | None:
    if len(gap) > 120:
        gap = gap[-120:]
    if (gap, pair) in _GAPS:
        return _GAPS[gap, pair]
    result = None
    found = _BEFORE.search(gap)
    if found is not None:
        words = tuple(found[1].split())
        if len(words) > 1 and words[-1].lower() == "value":  # GPT-NeoX: `lm_loss value: 1.6`
            words = words[:-1]
        what = meaning_in_text(words, found[2] is not None and found[2] not in ("of", "|"), pair)
        if what is not None:
            result = (what.kind, what.name)
    if len(_GAPS) > 20_000:
        _GAPS.clear()
    _GAPS[gap, pair] = result
    return result


# The module, function and line that a logger writes: `__main__:train:120`, `train.py:88`.
_WHERE = re.compile(r"(?<![\w.])[A-Za-z_][\w.]*:[\w.<>]+:\d+|[\w/.]+\.py:\d+(?::\w+)?")
_EVAL_HEAD = re.compile(
    r"(?i)(?:^|[\s\[(|:>*#=\-])(eval\w*|valid\w*|val|test(?:ing)?|验证\w*|评估\w*|测试\w*)(?=[\s\])|:>*=\-]|$)"
)


def _line_is_eval(line: str) -> bool:
    """Whether the line says at its head that evaluation is meant: `[eval] step 100 loss 2.1`, `Validation: loss=2`."""
    named = _WHERE.search(line[:120])
    head = line[named.end() if named is not None else 0 :][:120]
    number = NUMBER.search(head)
    found = _EVAL_HEAD.search(head)
    if found is None or re.search(r"(?i)\btrain", head[: found.start() + 1]):
        return False
    return is_eval_word(found[1]) and (number is None or found.start() < 60)
