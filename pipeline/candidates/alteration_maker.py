"""Makes candidates out of the right answers alone, without a model."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from pipeline.candidates.alterations.all_alterations import ALTERATIONS
from pipeline.candidates.alterations.alteration import Altered, NothingToAlter, Task, language_of
from pipeline.candidates.candidate import (
    SEED_STEP,
    Cancelled,
    Candidate,
    CandidateStrategy,
    Counter,
    SourceRow,
)
from pipeline.candidates.reference_rows import ReferenceRows
from pipeline.config_files import load_config
from pipeline.refusal import Refused

# Letters, digits and what SQL and sums turn on; the rest is how a text is written.
_SAID = re.compile(r"[^\W_]+|[<>=!+*/%-]+")


class AlterationMaker:
    """A Maker of strategies of the kind `alteration`, named as in ALTERATIONS.

    Raises Refused for an alteration there isn't, and for a parameter it doesn't have or that is out of its bounds
    (configs/alterations.yaml).
    """

    def __init__(self, strategies: Sequence[CandidateStrategy], *, seed: int, reference: ReferenceRows) -> None:
        self._strategies = [(one, parameters_of(one.name, one.parameters)) for one in strategies]
        self._seed = seed
        self._reference = reference
        self._attempts: int = load_config("alterations.yaml")["attempts"]

    def make(
        self, rows: Iterable[SourceRow], *, cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        for row in rows:
            made: list[Candidate] = []
            for strategy, parameters in self._strategies:
                if cancel.is_set():
                    raise Cancelled
                made += self._candidates(row, strategy, parameters)
            counter.candidates += len(made)
            counter.problems += sum(one.problem is not None for one in made)
            yield row, made

    def _candidates(
        self, row: SourceRow, strategy: CandidateStrategy, parameters: Mapping[str, Any]
    ) -> list[Candidate]:
        answer = row.gold or ""
        seen = {_said(answer)}
        made = []
        detail = ""
        for number in strategy.numbers:
            seed = self._seed + SEED_STEP * row.index + number
            one = Candidate(row.index, number, strategy.name, "", parameters=dict(parameters), seed=seed)
            made.append(one)
            if not answer.strip():
                one.problem, one.problem_detail = "nothing_to_alter", "no_answer"
                continue
            altered, detail = self._altered(row, strategy, parameters, number, seed, seen)
            if altered is None:
                one.problem, one.problem_detail = "nothing_to_alter", detail
                continue
            seen.add(_said(altered.text))
            one.text = altered.text
            one.ended = not altered.cut
            one.parameters |= {"altered": dict(altered.facts or {})}
        return made

    def _altered(
        self, row: SourceRow, strategy: CandidateStrategy, parameters: Mapping[str, Any], number: int, seed: int,
        seen: set[str],
    ) -> tuple[Altered | None, str]:  # fmt: skip
        """A text that isn't there yet, or None and why. Later attempts draw from the seed and their number alone."""
        answer, detail = row.gold or "", "no_more"
        language = language_of(answer) or language_of(row.question)
        for attempt in range(self._attempts):
            task = Task(
                row, row.question, answer, language, self._reference, parameters, number - strategy.first, attempt
            )
            rng = Random(seed if attempt == 0 else f"{seed}:{attempt}")
            try:
                altered = ALTERATIONS[strategy.name](task, rng)
            except NothingToAlter as nothing:
                if attempt == 0:
                    detail = nothing.detail
                if nothing.again:
                    continue
                break
            except RecursionError:
                return None, "too_deep"
            if altered.text.strip() and _said(altered.text) not in seen:
                return altered, ""
        return None, detail


def parameters_of(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of an alteration: those asked for, checked, and the others' defaults. Raises Refused."""
    if name not in ALTERATIONS:
        raise Refused("alteration_unknown", name=name, known=", ".join(sorted(ALTERATIONS)))
    known: dict[str, dict[str, Any]] = load_config("alterations.yaml")["parameters"][name]
    for parameter, value in asked.items():
        if parameter not in known:
            names = ", ".join(known) or "-"
            raise Refused("alteration_parameter_unknown", name=name, parameter=parameter, known=names)
        _check(name, parameter, value, known[parameter])
    return {one: asked.get(one, rule["default"]) for one, rule in known.items()}


def _check(name: str, parameter: str, value: Any, rule: Mapping[str, Any]) -> None:
    default = rule["default"]
    if "one_of" in rule:
        fits, wanted = value in rule["one_of"], ", ".join(rule["one_of"])
    elif isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true, false"
    elif isinstance(default, str):
        fits, wanted = isinstance(value, str) and _dialect(value), "sqlite, mysql, postgres, ..."
    else:
        number = isinstance(value, (int, float) if isinstance(default, float) else int) and not isinstance(value, bool)
        fits, wanted = number and rule["least"] <= value <= rule["most"], f"{rule['least']} - {rule['most']}"
    if not fits:
        raise Refused("alteration_parameter_value", name=name, parameter=parameter, value=value, wanted=wanted)


def _dialect(name: str) -> bool:
    from sqlglot.dialects.dialect import Dialect

    return Dialect.get(name) is not None


def _said(text: str) -> str:
    """What a text says without how it is written: width, case, space and punctuation."""
    return " ".join(_SAID.findall(unicodedata.normalize("NFKC", text).casefold()))
