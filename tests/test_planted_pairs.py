"""Faults planted in realistic preference sets are each named first, and sound sets of many kinds stay quiet."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_pairs_small import healthy_cases, options, planted_cases

from benchmarks.planted_pairs_cases import Case
from diagnostics.diagnose_pairs import diagnose_pairs

PLANTED, HEALTHY = planted_cases(), healthy_cases()


def test_enough_is_planted() -> None:
    for lang in ("en", "zh"):
        assert len({case.fault for case in PLANTED if case.lang == lang}) >= 20


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: case.name)
def test_planted_fault_is_named_first(case: Case, tmp_path: Path) -> None:
    report = diagnose_pairs(**options(case, tmp_path)).report
    said = [(f.code, f.outcome, f.message) for f in report.findings if f.severity in ("warning", "error")]
    assert not [s for s in report.skipped if s.reason_id == "check_crashed"]
    assert report.causes and report.causes[0].id in case.expected, (report.causes, said)
    assert report.verdict != "healthy"


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_sound_set_is_quiet(case: Case, tmp_path: Path) -> None:
    report = diagnose_pairs(**options(case, tmp_path)).report
    assert report.verdict == "healthy", [(f.code, f.message) for f in report.findings if f.severity != "ok"]
    assert report.causes == ()
