"""The main job on the demo: every sick case named first, nothing wrong found with the sound ones."""

from __future__ import annotations

import json

import jsonschema
import pytest

from diagnostics.diagnose_checkpoint import diagnose_checkpoint
from diagnostics.report import Report
from docs.example_report import EXAMPLE, make_example
from pipeline.config_files import CONFIGS, load_config
from pipeline.demo.build import DemoFolder

SCHEMA = json.loads((CONFIGS / "report.schema.json").read_text(encoding="utf-8"))
CASES = sorted(load_config("demo.yaml")["cases"])


@pytest.mark.parametrize("name", CASES)
def test_right_cause_first(demo: DemoFolder, name: str) -> None:
    case = demo.cases[name]
    report = diagnose_checkpoint(
        str(case.checkpoint), tokenizer=str(case.tokenizer) if case.tokenizer else None,
        model_config=str(case.model_config) if case.model_config else None, base=str(case.base) if case.base else None,
        data=[str(case.data_file)], log=[str(case.log_file)] if case.log_file else [], depth="samples",
    )  # fmt: skip
    jsonschema.validate(json.loads(report.dumps()), SCHEMA)
    seen = [(f.code, f.outcome, f.message) for f in report.findings if f.severity in ("warning", "error")]
    crashed = [s.reason for s in report.skipped if s.reason_id == "check_crashed"]
    assert not crashed
    if case.expected_cause is None:
        assert report.verdict == "healthy", seen
        assert report.causes == ()
    else:
        assert [c.id for c in report.causes][:1] == [case.expected_cause], seen


def test_two_runs_say_the_same(demo: DemoFolder) -> None:
    case = demo.cases["healthy_decoder"]

    def run() -> dict:
        document = json.loads(diagnose_checkpoint(str(case.checkpoint), data=[str(case.data_file)], depth="samples").dumps())
        return {k: v for k, v in document.items() if k not in ("created", "seconds")}

    assert run() == run()


def test_shown_example_is_what_the_tool_makes_now(demo: DemoFolder) -> None:
    stored, made = Report.from_json(json.loads(EXAMPLE.read_text(encoding="utf-8"))), make_example(demo)
    assert made.verdict == stored.verdict == "problems"
    # a cause near the least confidence that is reported may come or go with the last digits
    assert {c.id for c in made.causes if c.confidence >= 0.5} == {c.id for c in stored.causes if c.confidence >= 0.5}
    assert made.causes[0].id == "eos_is_plain_text"
    assert made.causes[0].title == stored.causes[0].title and made.causes[0].fix == stored.causes[0].fix
    # Another processor trains slightly other weights: what was found must be the same, the last digits need not be.
    assert [(f.code, f.severity) for f in made.findings] == [(f.code, f.severity) for f in stored.findings]
    assert [s.code for s in made.skipped] == [s.code for s in stored.skipped]
    assert set(made.metrics) == set(stored.metrics)
