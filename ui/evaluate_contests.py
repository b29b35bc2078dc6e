"""Which models a comparison holds and who decides between them, of a result as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config_files import load_config
from pipeline.evaluation.results import prompts_matched
from ui.charts import finite_number

ORDER = ("task", "people", "judge", "reward")
"""Who decides, the first that judged enough prompts, as pipeline/evaluation/compare_answers.py has it."""


VERDICTS = ("better", "worse", "no_difference")


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; none of what is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, (list, tuple)) else []


def names_of(result: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(name of the model before, names of those after it). Base models of adapters and judges stand among the models
    too."""
    models = objects(result.get("models"))
    held = {str(c.get("after", "")) for c in objects(result.get("contests"))}
    afters = [str(m.get("name", "")) for m in models[1:] if m.get("role") == "after" or m.get("name") in held]
    return str(models[0].get("name", "")) if models else "", list(dict.fromkeys(afters))


def first_shown(result: Mapping[str, Any]) -> str:
    """The model that a page opens with: the first that is worse, which a diagnosis speaks of, else the first."""
    _, afters = names_of(result)
    verdicts = {after: (deciding(result, after) or {}).get("verdict") for after in afters}
    return next((after for after in afters if verdicts[after] == "worse"), afters[0] if afters else "")


def contests_of(result: Mapping[str, Any], after: str) -> list[Mapping[str, Any]]:
    """Contests of one model that have a win rate, the one that decides first, then by ORDER."""
    own = [c for c in objects(result.get("contests")) if c.get("after") == after]
    mine = sorted((c for c in own if is_judged(c)), key=rank)
    entitled = [c for c in mine if c.get("by") in ORDER]
    prompts = prompts_matched(result.get("prompts"), after)
    least = float(load_config("evaluation.yaml")["compare"]["least_share"]) * prompts
    first = next((c for c in entitled if _n(c) >= least), max(entitled, key=_n, default=None))
    return mine if first is None else [first, *(c for c in mine if c is not first)]


def deciding(result: Mapping[str, Any], after: str) -> Mapping[str, Any] | None:
    """The contest whose verdict is that of a model; None where nothing judged."""
    return next((c for c in contests_of(result, after) if c.get("by") in ORDER), None)


def disagreeing(result: Mapping[str, Any], after: str) -> list[str]:
    """Who says the opposite of the one that decides."""
    first = deciding(result, after)
    opposite = {"better": "worse", "worse": "better"}.get(str(first.get("verdict"))) if first is not None else None
    return [str(c.get("by", "")) for c in contests_of(result, after) if opposite and c.get("verdict") == opposite]


def is_judged(contest: Mapping[str, Any]) -> bool:
    """Whether there is a verdict with its figures."""
    rate = contest.get("win_rate")
    told = isinstance(rate, Mapping) and finite_number(rate.get("value")) is not None
    return told and contest.get("verdict") in VERDICTS and finite_number(contest.get("n")) is not None


def rank(contest: Mapping[str, Any]) -> int:
    by = contest.get("by")
    return ORDER.index(by) if by in ORDER else len(ORDER)


def _n(contest: Mapping[str, Any]) -> float:
    return finite_number(contest.get("n")) or 0
