"""A result document as the dataclasses it was written from; anything else is refused with the place that is wrong."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from pipeline.evaluation import results
from pipeline.evaluation.results import AbilitiesResult, ComparisonResult, ReplayResult, Result, ScoresResult
from pipeline.refusal import Refused

_OF_KIND: Mapping[str, type[Result]] = {
    "scores": ScoresResult, "comparison": ComparisonResult, "replay": ReplayResult, "abilities": AbilitiesResult,
}  # fmt: skip


def typed_result(document: Mapping[str, Any], path: object = "") -> Result:
    """What `results.to_json` gave, typed again. A number that is null there is NaN where None isn't allowed.

    Unknown fields are left out: they are of a newer version. Raises Refused (`result_unreadable`) for a field that is
    missing or of another type. path: said in the refusal.
    """
    try:
        made: Result = _typed(_OF_KIND[document["kind"]], document, "")
    except (KeyError, ValueError, RecursionError) as failed:
        raise Refused("result_unreadable", path=path, why=str(failed)[:200]) from None
    return made


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind, vars(results))


def _typed(wanted: Any, value: Any, at: str) -> Any:
    origin = typing.get_origin(wanted)
    if wanted is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        inner = [one for one in typing.get_args(wanted) if one is not types.NoneType]
        return _typed(inner[0], value, at)
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _object(wanted, value, at)
    if origin is tuple:
        one = typing.get_args(wanted)[0]
        return tuple(_typed(one, v, f"{at}[{i}]") for i, v in enumerate(_of(list, value, at)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        one = typing.get_args(wanted)[1]
        return {str(k): _typed(one, v, f"{at}.{k}"[:100]) for k, v in _of(dict, value, at).items()}
    if origin is typing.Literal:
        if value not in typing.get_args(wanted):
            raise ValueError(f"{at}: {value!r}"[:150])
        return value
    if wanted is float:
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{at} is no number")
        return float(value)
    if wanted is int and isinstance(value, bool):
        raise ValueError(f"{at} is no number")
    return _of(wanted, value, at)


def _object(wanted: type, value: Any, at: str) -> Any:
    given = _of(dict, value, at)
    hints = _hints(wanted)
    made = {}
    for one in fields(wanted):
        if one.name in given:
            made[one.name] = _typed(hints[one.name], given[one.name], f"{at}.{one.name}".lstrip("."))
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ValueError(f"{at}.{one.name} is missing".lstrip("."))
    return wanted(**made)


def _of(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{at or 'the document'} is no {kind.__name__}")
    return value
