"""Why candidates have no answer, for people."""

from __future__ import annotations

import re
from typing import Any

from pipeline.config_files import load_config
from pipeline.refusal import Sentence

_DETAIL = re.compile(r" ?[(（]\{detail\}[)）]")
_MOST = 200  # characters of a detail


def problem_said(problem: str, lang: str, detail: str = "") -> str:
    """The words of a candidate's `problem`, with its `problem_detail` where one is given. A problem of another version,
    without words here, by its own name."""
    held = load_config(f"words/{lang}/candidates.yaml")
    entry = f"problem_{problem}"
    if problem == "nothing_to_alter" and detail in held["nothing_to_alter"]:
        return Sentence(f"nothing_to_alter/{detail}", {}, "candidates").said(lang)
    if not isinstance(held.get(entry), str):
        return problem.replace("_", " ")
    if detail:
        return Sentence(entry, {"detail": detail[:_MOST]}, "candidates").said(lang)
    return _DETAIL.sub("", held[entry])


def with_problem_said(params: dict[str, Any], lang: str) -> dict[str, Any]:
    """The places of a `why`, with a problem's words instead of its name."""
    named = params.get("problem")
    return {**params, "problem": problem_said(named, lang)} if isinstance(named, str) else params
