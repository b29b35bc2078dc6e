"""Strategies as a command names them: `sampling:temperature=0.9,n=3`, `greedy:model=./checkpoint-100`, `cut_short`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.candidates.candidate import SEED_STEP, CandidateStrategy, Kind
from pipeline.refusal import Refused

MODEL_KINDS: tuple[Kind, ...] = ("greedy", "sampling", "beam", "diverse_beam", "correction")
SEARCHES: tuple[Kind, ...] = ("beam", "diverse_beam")
SEVERAL = ("sampling", "beam", "diverse_beam", "endpoint")  # kinds that --num-candidates is about
_WHOLE = {"n": (1, SEED_STEP), "top_k": (0, 10**6), "num_beams": (2, 256), "num_beam_groups": (2, 256),
          "max_new_tokens": (1, 10**6), "no_repeat_ngram_size": (0, 1000)}  # fmt: skip
_NUMBERS = {"temperature": (0.0, 100.0), "top_p": (0.0, 1.0), "min_p": (0.0, 1.0), "repetition_penalty": (0.0, 100.0),
            "length_penalty": (-100.0, 100.0), "diversity_penalty": (0.0, 100.0)}  # fmt: skip
_TEXTS = ("model", "adapter", "url")
_LENGTH = ("max_new_tokens", "repetition_penalty", "no_repeat_ngram_size")
_KEYS: dict[Kind, tuple[str, ...]] = {
    "greedy": (*_LENGTH, "model", "adapter"),
    "sampling": ("n", "temperature", "top_p", "top_k", "min_p", *_LENGTH, "model", "adapter"),
    "beam": ("n", "num_beams", "length_penalty", *_LENGTH, "model", "adapter"),
    "diverse_beam": ("n", "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", *_LENGTH, "model",
                     "adapter"),
    "correction": _LENGTH,
    "endpoint": ("n", "temperature", "top_p", "top_k", "min_p", *_LENGTH, "model", "url"),
    "alteration": ("n",),
}  # fmt: skip
# What the options of the whole run say, by the kinds that they mean.
_FROM_RUN: dict[str, tuple[Kind, ...]] = {
    "max_new_tokens": (*MODEL_KINDS, "endpoint"), "temperature": ("sampling", "endpoint"),
    "top_p": ("sampling", "endpoint"), "top_k": ("sampling", "endpoint"), "num_beams": SEARCHES,
}  # fmt: skip
NEUTRAL: Mapping[Kind, Mapping[str, Any]] = {
    "sampling": {"temperature": 0.8, "top_p": 0.95},
    "endpoint": {"temperature": 0.8, "top_p": 0.95},
    "beam": {"num_beams": 4},
    "diverse_beam": {"num_beams": 4, "diversity_penalty": 1.0},
}
"""What stands where neither the strategy nor the run says anything; configs/sampling.yaml says why."""


@dataclass(frozen=True)
class RunSettings:
    """What the options of a run say for all strategies that don't say it themselves. n: candidates a row of each
    strategy that can give several. ladder: temperatures that the samples of a row are spread over."""

    n: int = 1
    ladder: tuple[float, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


def parse_strategies(
    words: Sequence[str], settings: RunSettings, alterations: Mapping[str, Mapping[str, Any]]
) -> list[CandidateStrategy]:
    """The strategies in the order asked for, with the numbers of their candidates. Raises Refused: an unknown name or
    key, a value that is none, more than 1000 candidates a row, the same thing asked for twice.

    alterations: by name, what their parameters may be: `default` with `least` and `most`, or with `one_of`.
    """
    found: list[CandidateStrategy] = []
    asked: set[str] = set()
    for word in words:
        for strategy in _parsed(word, settings, alterations):
            key = repr((strategy.name, sorted(strategy.parameters.items()), strategy.model, strategy.adapter))
            if key in asked:
                raise Refused("strategy_twice", given=word)
            asked.add(key)
            found.append(replace(strategy, first=sum(one.candidates for one in found)))
    total = sum(one.candidates for one in found)
    if total > SEED_STEP:
        raise Refused("candidates_too_many", n=f"{total:,}", most=f"{SEED_STEP:,}")
    return found


def _parsed(
    word: str, settings: RunSettings, alterations: Mapping[str, Mapping[str, Any]]
) -> list[CandidateStrategy]:  # fmt: skip
    name, _, rest = word.partition(":")
    name = name.strip()
    kind: Kind | None = "alteration" if name in alterations else None
    kind = kind or next((one for one in _KEYS if one == name and one != "alteration"), None)
    if kind is None:
        names = [*MODEL_KINDS, "endpoint", *alterations]
        near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))
        raise Refused("strategy_unknown", value=name, near=near, all=", ".join(names))
    own = alterations[name] if kind == "alteration" else {}
    given = _given(word, rest, (*_KEYS[kind], *own), own)
    n = int(given.pop("n", settings.n if kind in SEVERAL else 1))
    model, adapter, url = (given.pop(key, None) for key in _TEXTS)
    ladder = given.pop("temperature", None) or (settings.ladder if kind == "sampling" else ())
    parameters: dict[str, Any] = dict(NEUTRAL.get(kind, {}))
    parameters |= {key: value for key, value in settings.parameters.items() if kind in _FROM_RUN[key]}
    parameters |= given
    if kind == "endpoint":
        model, adapter = url, model
    strategy = CandidateStrategy(name, kind, n, parameters, model=model, adapter=adapter)
    if kind in SEARCHES:
        return [_searched(word, strategy)]
    if kind not in ("sampling", "endpoint") or not ladder:
        return [strategy]
    rungs = [(t, n // len(ladder) + (place < n % len(ladder))) for place, t in enumerate(ladder)]
    return [
        replace(strategy, candidates=max(1, share), parameters={**parameters, "temperature": temperature})
        for temperature, share in rungs
    ]


def _searched(word: str, strategy: CandidateStrategy) -> CandidateStrategy:
    """A beam search gives at most as many answers as it has beams; groups divide them."""
    parameters = dict(strategy.parameters)
    if strategy.candidates > parameters["num_beams"]:
        parameters["num_beams"] = strategy.candidates
    if strategy.kind == "diverse_beam":
        parameters.setdefault("num_beam_groups", parameters["num_beams"])
        if parameters["num_beams"] % parameters["num_beam_groups"]:
            raise Refused("strategy_beam_groups", given=word, beams=parameters["num_beams"])
    return replace(strategy, parameters=parameters)


def _given(word: str, rest: str, keys: Sequence[str], own: Mapping[str, Any]) -> dict[str, Any]:
    """What stands behind the colon; a temperature is a tuple of one or more. own: what an alteration's keys may be."""
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, text = (one.strip() for one in part.partition("="))
        if key not in keys:
            raise Refused("strategy_key_unknown", given=word, key=key, all=", ".join(keys))
        if not equals or not text:
            raise Refused("strategy_value_wrong", given=word, key=key, value=text, range="KEY=VALUE")
        if key in found:
            raise Refused("strategy_key_twice", given=word, key=key)
        if key in own:
            found[key] = _of_alteration(word, key, text, own[key])
        elif key in _TEXTS:
            found[key] = text
        elif key == "temperature":
            found[key] = temperatures(text, given=word, between="/")
        else:
            found[key] = _number(word, key, text)
    return found


def _of_alteration(word: str, key: str, text: str, rule: Mapping[str, Any]) -> Any:
    default = rule["default"]
    if isinstance(default, bool):
        rule = {"one_of": ["true", "false"]}
    if "least" not in rule:
        options = rule.get("one_of")
        if options is not None and text not in options:
            raise Refused("strategy_value_wrong", given=word, key=key, value=text, range=", ".join(options))
        return text == "true" if isinstance(default, bool) else text
    try:
        value = int(text) if isinstance(default, int) and len(text) < 20 else float(text)
    except ValueError:
        value = math.nan
    if not rule["least"] <= value <= rule["most"]:
        span = f"{rule['least']}-{rule['most']}"
        raise Refused("strategy_value_wrong", given=word, key=key, value=text, range=span)
    return value


def temperatures(text: str, *, given: str, between: str = ",") -> tuple[float, ...]:
    """`0.5,0.8,1.1`. Raises Refused."""
    return tuple(float(_number(given, "temperature", part.strip())) for part in text.split(between))


def _number(word: str, key: str, text: str) -> float | int:
    least, most = _WHOLE[key] if key in _WHOLE else _NUMBERS[key]
    try:
        value: float | int = int(text) if key in _WHOLE and len(text) < 20 else float(text)
    except ValueError:
        value = math.nan
    open_end = key in ("top_p", "repetition_penalty")  # nothing is left, or divided by
    if not (least < value if open_end else least <= value) or not value <= most:
        raise Refused("strategy_value_wrong", given=word, key=key, value=text, range=f"{least}-{most}")
    return value


def run_number(option: str, key: str, text: str) -> float | int:
    """The value of an option of the run that is a parameter of strategies too. Raises Refused."""
    return _number(option, key, text)
