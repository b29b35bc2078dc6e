"""Both languages say everything a check can find, with the same placeholders."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

from diagnostics.check_table import ALL_CHECKS, CHECKPOINT_CHECKS, LOG_CHECKS, PAIR_CHECKS, SUPERVISED_CHECKS
from diagnostics.explain import SECTIONS, docstring_sections
from diagnostics.report import Skipped
from diagnostics.run_checks import DEPTHS
from diagnostics.words import fill, say_skipped

ROOT = Path(__file__).resolve().parent.parent
WORDS = ROOT / "configs" / "words"
FIELDS = re.compile(r"\{(\w+)(?::[^{}]*)?\}")


def _load(lang: str, name: str) -> dict:
    return yaml.safe_load((WORDS / lang / f"{name}.yaml").read_text(encoding="utf-8"))


def _outcomes(function: object) -> set[tuple[str, str]]:
    """(severity, outcome) of every ok/info/warning/error call with a literal outcome in the function's source; what
    grades itself by the share of rows may be an error. OUTCOMES of its module are named by a table there."""
    found = {("error", outcome) for outcome in getattr(inspect.getmodule(function), "OUTCOMES", {}).values()}
    for node in ast.walk(ast.parse(inspect.getsource(function))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "observed":
            first = node.args[0]
            severity = "info" if _severity(node) == "info" else "error"
            if isinstance(first, ast.Constant):
                found.add((severity, first.value))
            elif isinstance(first, ast.JoinedStr):  # f"{side}_...": of either side
                rest = "".join(part.value for part in first.values if isinstance(part, ast.Constant))
                found |= {(severity, side + rest) for side in ("chosen", "rejected")}
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ok", "info", "warning", "error"):
            first = node.args[0] if node.args else None
            if first is None and node.func.id == "ok":
                found.add(("ok", "ok"))
            elif isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add((node.func.id, first.value))
    return found


def _severity(call: ast.Call) -> str:
    given = next((k.value for k in call.keywords if k.arg == "severity"), None)
    return str(given.value) if isinstance(given, ast.Constant) else ""


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda c: c.code)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_outcome_has_words(check, lang: str) -> None:
    entry = _load(lang, check.code[:3])[check.code]
    assert entry["title"] and entry["about"]
    for severity, outcome in _outcomes(check.function):
        assert outcome in entry, f"{lang} {check.code}/{outcome}"
        if severity in ("warning", "error"):
            assert entry.get(f"fix_{outcome}") or entry.get("fix"), f"{lang} {check.code}/{outcome} has no fix"


@pytest.mark.parametrize("family", sorted(p.stem for p in (WORDS / "en").glob("*.yaml")))
def test_languages_hold_the_same_entries(family: str) -> None:
    english, chinese = _load("en", family), _load("zh", family)

    def compare(left: object, right: object, path: str) -> None:
        assert type(left) is type(right), path
        if isinstance(left, dict):
            assert left.keys() == right.keys(), path
            for key in left:
                compare(left[key], right[key], f"{path}/{key}")
        elif isinstance(left, str) and not path.endswith(("/about", "/title")):
            assert set(FIELDS.findall(left)) == set(FIELDS.findall(right)), path

    compare(english, chinese, family)


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda c: c.code)
def test_every_check_is_documented(check) -> None:
    sections = docstring_sections(check)
    assert set(SECTIONS) <= set(sections), f"{check.code} lacks {set(SECTIONS) - set(sections)}"
    assert all(sections[s] for s in SECTIONS)


def test_codes_are_unique_and_depths_known() -> None:
    codes = [c.code for c in ALL_CHECKS]
    assert len(codes) == len(set(codes))
    for table in (CHECKPOINT_CHECKS, LOG_CHECKS, PAIR_CHECKS, SUPERVISED_CHECKS):
        depths = [DEPTHS.index(c.depth) for c in table]
        assert depths == sorted(depths), "cheapest first"


def test_words_can_not_reach_attributes() -> None:
    assert fill("{a}", {"a": "{b}", "b": "x"}) == "{b}"
    assert fill("{a.__class__} {missing} {n:.2f}", {"a": 1, "n": 1.234}) == "{a.__class__} {missing} 1.23"
    assert len(fill("{a}", {"a": "x" * 10_000})) < 1000


def test_thresholds_say_where_they_come_from() -> None:
    for name, entry in yaml.safe_load((ROOT / "configs" / "thresholds.yaml").read_text(encoding="utf-8")).items():
        float(entry["value"])
        assert entry["means"] and entry["source"], name


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_problems_are_said_in_words(lang: str) -> None:
    """An id such as not_text stays inside."""
    said = say_skipped(Skipped("TOK010", "data_not_read", {"problem": "not_text", "detail": "rows.jsonl"}), lang).reason
    assert "not_text" not in said and "UTF-8" in said and "rows.jsonl" in said
