"""The cases of a result as samples of a report: a bounded number of each kind, long texts cut."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.evaluation.results import AbilitiesResult, ComparisonResult, ReplayResult, Result, ScoresResult

OF_A_KIND = 60
MOST_TEXT = 4000  # characters of one text
MOST_BYTES = 2 * 2**20  # of all samples together: a stored report has room for 4 MiB
_GROUPS = {"fixed": "fixed", "broken": "broken", "still_bad": "still_bad"}


def cases_of(result: Result) -> Iterator[dict[str, Any]]:
    """Samples with `kind`: suspect | loss | win | broken | fixed | still_bad | lost_item, in that order of importance.

    Every one has `prompt` and `sides`: two (name, text, note) that are read side by side.
    """
    left = MOST_BYTES
    counts: dict[str, int] = {}
    for sample in sorted(_all(result), key=lambda s: _ORDER.index(s["kind"])):
        counts[sample["kind"]] = counts.get(sample["kind"], 0) + 1
        if counts[sample["kind"]] > OF_A_KIND:
            continue
        cut = _cut(sample)
        left -= len(json.dumps(cut, ensure_ascii=False).encode("utf-8", errors="replace"))
        if left < 0:
            return
        yield cut


_ORDER = ("broken", "loss", "lost_item", "suspect", "still_bad", "win", "fixed")


def _all(result: Result) -> Iterator[dict[str, Any]]:
    if isinstance(result, ScoresResult):
        yield from _suspects(result)
    elif isinstance(result, ComparisonResult):
        yield from _compared(result)
    elif isinstance(result, ReplayResult):
        yield from _replayed(result)
    else:
        yield from _lost(result)


def _suspects(result: ScoresResult) -> Iterator[dict[str, Any]]:
    for one in result.sets:
        for s in one.suspects:
            yield {
                "kind": "suspect", "set": one.name, "row": s.row, "line": s.line, "prompt": s.prompt,
                "margin": s.margin, "probability": s.probability,
                "sides": [_side("chosen", s.chosen), _side("rejected", s.rejected)],
            }  # fmt: skip


def _compared(result: ComparisonResult) -> Iterator[dict[str, Any]]:
    before = result.models[0].name if result.models else ""
    for case in result.cases:
        outcomes = [case.outcome[by] for by in (result.decided_by or "", *case.outcome) if by in case.outcome]
        kind = next((o for o in outcomes if o in ("loss", "win")), None)
        if kind is None:
            continue
        sides = []
        for model in (before, case.after):
            scores = {by: own[model] for by, own in case.scores.items() if own.get(model) is not None}
            sides.append(_side(model, case.answers.get(model, ""), scores))
        yield {
            "kind": kind, "row": case.row, "prompt": case.prompt, "category": case.category,
            "reference": case.reference, "outcome": dict(case.outcome), "sides": sides,
        }  # fmt: skip


def _replayed(result: ReplayResult) -> Iterator[dict[str, Any]]:
    base = result.models[0].name if result.models else ""
    of_base = {row.case: row for row in result.rows if row.model == base}
    for row in result.rows:
        if row.model == base or row.change not in _GROUPS:
            continue
        first = of_base.get(row.case)
        yield {
            "kind": row.change, "row": row.case, "prompt": row.text, "category": row.category,
            "reference": row.standard_answer, "checked_by": row.checked_by,
            "sides": [
                _side(base, first.answer if first else "", status=first.status if first else ""),
                _side(row.model, row.answer, status=row.status),
            ],
        }  # fmt: skip


def _lost(result: AbilitiesResult) -> Iterator[dict[str, Any]]:
    before = result.models[0].name if result.models else ""
    for ability in result.abilities:
        for item in ability.lost_items:
            told = {str(k): v for k, v in item.items()}
            prompt = told.get("prompt", told.get("question", told.get("item", "")))
            yield {
                "kind": "lost_item", "ability": ability.name, "lang": ability.lang, "row": told.get("row"),
                "prompt": str(prompt), "reference": _text(told.get("expected", told.get("reference"))),
                "sides": [
                    _side(before, str(told.get("before", told.get("answer_before", "")))),
                    _side(str(told.get("model", "")), str(told.get("answer", told.get("after", "")))),
                ],
            }  # fmt: skip


def _side(name: str, text: str, scores: Mapping[str, Any] | None = None, status: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "text": text}
    if scores:
        made["scores"] = dict(scores)
    if status:
        made["status"] = status
    return made


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MOST_TEXT else value[:MOST_TEXT] + "…"
    if isinstance(value, Mapping):
        return {str(k)[:200]: _cut(v) for k, v in list(value.items())[:50]}
    if isinstance(value, (list, tuple)):
        return [_cut(v) for v in value[:50]]
    return value
