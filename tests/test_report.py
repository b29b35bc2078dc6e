"""The report: JSON round trip, schema, and renderings in which the subject's text stays text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from diagnostics.render import to_html, to_markdown, to_text
from diagnostics.report import Cause, Evidence, Finding, Report, Skipped, Subject
from diagnostics.words import say

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text(encoding="utf-8"))
HOSTILE = "<script>alert(1)</script>\x1b[31m`x`[a](javascript:1)</style>\u202egnp|"


@pytest.fixture
def report() -> Report:
    finding = Finding(
        "TOK004", "stop-ids-disagree", "error", "terminator_not_stopped_on",
        {"terminator": HOSTILE, "id": 5, "stops": [1, 2], "where": "config.json"},
        (Evidence("generation_config.json:eos_token_id", HOSTILE), Evidence("x", float("nan"))),
    )  # fmt: skip
    return say(
        Report(
            subject=Subject("checkpoint", HOSTILE, None, "sha256:" + "0" * 64), verdict="problems",
            causes=(Cause("stop_token_mismatch", 0.9, ("TOK004",), (), "give_data"),),
            findings=(finding,), skipped=(Skipped("FWD002", "no_data"),), metrics={"a": float("inf")},
            samples=({"prompt": HOSTILE, "strategy": "greedy", "text": HOSTILE},),
            curves={"format_autopsy": [{"format": HOSTILE, "label": HOSTILE, "nats": 1.5, "best": True}]},
            created="2026-11-21T01:02:03Z", versions={"transformers": "5"}, tool_version="0.1.0", depth="files",
        ),
        "en",
    )  # fmt: skip


def test_json_round_trip_and_schema(report: Report) -> None:
    document = json.loads(report.dumps())
    jsonschema.validate(document, SCHEMA)
    again = Report.from_json(document)
    assert again.dumps() == report.dumps()
    assert document["metrics"]["a"] == "Infinity"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_html_shows_hostile_text_as_text(report: Report, lang: str) -> None:
    page = to_html(say(report, lang))
    assert "<script" not in page and "javascript:1)" in page
    assert page.count("</style>") == 1 and "\x1b" not in page and "\u202e" not in page
    assert "default-src 'none'" in page


def test_markdown_and_text_are_inert(report: Report) -> None:
    markdown, text = to_markdown(report), to_text(report)
    for shown in (markdown, text):
        assert "\x1b" not in shown and "\u202e" not in shown
    outside_code = "".join(markdown.split("`")[::2])
    assert "](javascript" not in outside_code.replace("\\", "\\\\") or "\\]\\(javascript" in markdown
    assert "stop_token_mismatch" in text and "90%" in text


def test_language_changes_without_measuring_again(report: Report) -> None:
    chinese = say(report, "zh")
    assert chinese.findings[0].message != report.findings[0].message
    assert say(chinese, "en") == report
    assert replace(chinese, lang="en", findings=(), causes=(), skipped=()) == replace(
        report, findings=(), causes=(), skipped=()
    )


def test_one_is_not_plural(report: Report) -> None:
    assert "1 error ·" in to_text(report) and "1 errors" not in to_text(report)
    assert "0 warnings" in to_text(report)


def test_an_interrupted_report_stays_one(report: Report) -> None:
    stopped = say(replace(report, interrupted=True, skipped=(Skipped("FWD002", "cancelled"),)), "en")
    document = json.loads(stopped.dumps())
    jsonschema.validate(document, SCHEMA)
    assert Report.from_json(document).interrupted
    del document["interrupted"]  # as an older version wrote it
    assert not Report.from_json(document).interrupted
    for shown in (to_text(stopped), to_markdown(stopped), to_html(stopped)):
        assert "The run was interrupted" in shown and "FWD002" in shown


@pytest.mark.parametrize(("lang", "said"), [("en", "was not judged"), ("zh", "还没有判断")])
def test_answers_nobody_judged_are_not_called_fine(report: Report, lang: str, said: str) -> None:
    """A tiny model knows none of the built-in questions: without rows of its own the report says so first."""
    unasked = replace(report, verdict="healthy", causes=(), findings=(), skipped=(Skipped("FWD002", "probes_not_known"),))
    for rendered in (to_text(say(unasked, lang)), to_markdown(say(unasked, lang)), to_html(say(unasked, lang))):
        assert said in rendered
