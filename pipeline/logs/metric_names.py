"""What programs call a metric, and the one name it has here: configs/metric_names.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pipeline.config_files import load_config

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_SEPARATORS = re.compile(r"[\s.\-]+|/{2,}")
_AROUND_SLASH = re.compile(r"\s+/\s*|/\s+")  # as notebooks show names
# A best value so far, a target and the like stand beside the metric itself and are no point of its curve.
NOT_NOW = frozenset(
    (
        "best",
        "min",
        "max",
        "minimum",
        "maximum",
        "lowest",
        "highest",
        "last",
        "prev",
        "previous",
        "target",
        "final",
        "initial",
        "old",
        "init",
        "最佳",
        "最低",
        "最好",
    )
)


# Names that stand for a metric of preference training beside a chosen answer, for anything elsewhere.
_OF_PAIRS = frozenset(("margin", "acc", "accuracy", "chosen", "rejected", "r_chosen", "r_rejected"))
_SPEEDS = frozenset(
    ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "jit_compilation_time")
)


@dataclass(frozen=True)
class Meaning:
    """What a name stands for. kind: `metric`, `place` (step, epoch, ...), `summary` (a mean over the whole run),
    `speed` (how fast something ran), `other` (a number no table knows). name: as used here, `eval_` in front for
    evaluation. rank: of several names of one place the lowest counts."""

    kind: str
    name: str
    rank: int = 0

    @property
    def is_eval(self) -> bool:
        return self.kind == "metric" and self.name.startswith("eval_")


@dataclass(frozen=True)
class _Table:
    metrics: dict[str, str]
    places: dict[str, str]
    ranks: dict[str, int]
    summaries: frozenset[str]
    splits: dict[str, str]
    bare: frozenset[str]
    not_in_text: frozenset[str]
    settings: dict[str, str]


@cache
def _table() -> _Table:
    read = load_config("metric_names.yaml")

    def by_alias(entries: dict[str, list[str]]) -> dict[str, str]:
        # the name itself first: an alias listed elsewhere must not take it
        found = {plain(name): name for name in entries}
        for name, aliases in entries.items():
            for alias in aliases:
                found.setdefault(plain(str(alias)), name)
        return found

    return _Table(
        by_alias(read["metrics"]),
        by_alias(read["places"]),
        {plain(str(alias)): rank for aliases in read["places"].values() for rank, alias in enumerate(aliases)},
        frozenset(read["summaries"]),
        {plain(word): split for split, words in read["splits"].items() for word in words},
        frozenset(plain(n) for n in read["in_text_bare"]),
        frozenset(plain(n) for n in read["not_in_text"]),
        by_alias(read["settings"]),
    )


@cache
def plain(name: str) -> str:
    """A name as names are compared: lower case, `_` for blanks and hyphens, `/` for ` / `, without brackets and what
    they hold."""
    bare = _BRACKETS.sub("", name).strip().lower()
    return _SEPARATORS.sub("_", _AROUND_SLASH.sub("/", bare)).strip("_: ")


@cache
def _split_off(name: str) -> tuple[str, str]:
    """(split, rest) of a plain name: `eval/loss`, `val_loss`, `loss/validation`, `eval_g0_loss` → its group kept."""
    splits = _table().splits
    for mark in ("/", "_"):
        head, found, tail = name.partition(mark)
        if found and head in splits and tail:
            return splits[head], tail
    head, found, tail = name.partition("/")
    inner, mark, last = head.rpartition("_")
    if found and mark and inner and last in splits and tail:  # rewards_train/chosen
        return splits[last], f"{inner}/{tail}"
    for mark in ("/", "_"):
        head, found, tail = name.rpartition(mark)
        if found and tail in splits and head:
            return splits[tail], head
    for word in ("训练", "验证", "评估", "测试", "评测", "校验"):
        if name.startswith(word) and len(name) > len(word):
            return splits[word], name[len(word) :].removeprefix("集").lstrip("_/的")
    return "", name


@cache
def meaning(name: str) -> Meaning:
    """What the key of a record stands for. A key no table knows keeps its own name."""
    table = _table()
    key = plain(name)
    if key.removeprefix("train/") in table.summaries:
        return Meaning("summary", key)
    if key in table.places:
        return Meaning("place", table.places[key], table.ranks.get(key, 0))
    split, rest = _split_off(key)
    known = table.metrics.get(key) if split != "eval" else None
    if known is None:
        known = table.metrics.get(rest)
    if known is None and rest in table.places:
        return Meaning("place", table.places[rest], 100 + table.ranks.get(rest, 0))
    if rest in table.summaries or rest in _SPEEDS or key.startswith("train/train_"):
        return Meaning("speed", key)
    if known is not None:
        return Meaning("metric", f"eval_{known}" if split == "eval" else known)
    if split == "eval":  # one of several evaluation sets: eval_g0_loss, eval_wiki/loss
        head, found, tail = rest.rpartition("_")
        if found and tail in table.metrics:
            return Meaning("metric", f"eval_{head}_{table.metrics[tail]}")
        return Meaning("other", f"eval_{rest}")
    return Meaning("other", name if len(name) <= 80 else name[:80])


@cache
def meaning_in_text(words: tuple[str, ...], separated: bool, pair: bool = False) -> Meaning | None:
    """What the words right before a number stand for: the longest run of them at the end that is a known name.

    separated: a colon or equals sign stands between. Without one only few names count (`loss 2.3`). pair: the line
    speaks of a chosen answer, so that `margin 0.3` and `acc 0.8` are what they seem.
    """
    table = _table()
    for length in range(min(4, len(words)), 0, -1):
        key = plain("_".join(words[-length:]))
        before = plain(words[-length - 1]) if len(words) > length else ""
        if not key or (key in table.not_in_text and not (pair and key in _OF_PAIRS)):
            continue
        split, rest = _split_off(key)
        known = table.metrics.get(key) if split != "eval" else None
        known = known or table.metrics.get(rest)
        place = None if known else table.places.get(key)
        if known is None and place is None:
            continue
        if before in NOT_NOW or (length > 1 and plain(words[-length]) in NOT_NOW):
            return None
        if not separated and not ({key, rest} & table.bare or (pair and key in _OF_PAIRS)):
            return None
        if place is not None:
            return Meaning("place", place)
        if before in table.splits:
            split = table.splits[before]
        return Meaning("metric", f"eval_{known}" if split == "eval" else str(known))
    return None


@cache
def setting_name(name: str) -> str | None:
    """The setting a key of a configuration names (`--learning_rate`, `pref_beta`), None for others."""
    return _table().settings.get(plain(name.lstrip("-")))


def is_eval_word(word: str) -> bool:
    """Whether a word says that evaluation is meant."""
    return _table().splits.get(plain(word)) == "eval"
