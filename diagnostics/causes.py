"""From findings to ranked root causes, by the table configs/causes.yaml.

Each finding adds or takes away evidence in log-odds (nats) for the causes that list it; a cause's confidence is
the logistic function of its sum. A cause whose evidence another, surer cause explains loses part of it. The
table is plain so that a person can read and change it; benchmarks/planted_faults.py measures what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diagnostics.report import Cause, Finding, Skipped
from diagnostics.thresholds import Thresholds
from pipeline.config_files import load_config

BESIDE = 0.5  # the share that findings beside the strongest count: a model that answers badly fails many checks at once
LEAST_AGAINST = 0.2  # the share of the evidence against a cause that counts beside the strongest evidence for it


def rank_causes(findings: Sequence[Finding], skipped: Sequence[Skipped], limits: Thresholds) -> tuple[Cause, ...]:
    """Causes supported by at least one warning or error, most probable first; none for a healthy subject."""
    table: Mapping[str, Mapping[str, Any]] = load_config("causes.yaml")
    if not any(f.severity in ("warning", "error") for f in findings):
        return ()
    told = {f.signal for f in findings} | {f"{s.code}/{s.reason_id}" for s in skipped}
    sums: dict[str, float] = {}
    asides: dict[str, float] = {}
    supporting: dict[str, list[tuple[float, str]]] = {}
    opposing: dict[str, list[tuple[float, str]]] = {}
    for cause, row in table.items():
        if told.intersection(row.get("impossible_when") or ()):
            continue
        total = float(row["prior"])
        bad = False
        for_, against = row.get("for") or {}, row.get("against") or {}
        apart = row.get("apart") or ()
        counted: dict[str, float] = {}
        for finding in findings:
            weight = _weight(for_, finding)
            if weight and weight > counted.get(finding.code, 0.0):
                counted[finding.code] = weight  # one check counts once, by its strongest outcome
                supporting.setdefault(cause, []).append((weight, finding.code))
                bad = bad or finding.severity in ("warning", "error")
            if weight := _weight(against, finding):
                opposing.setdefault(cause, []).append((weight, finding.code))
        # The more directly a finding shows the cause itself, the less signs to the contrary weigh: ids beyond the
        # embedding are beyond it however well the model answers.
        main = [weight for code, weight in counted.items() if code not in apart]
        aside = [weight for code, weight in counted.items() if code in apart]
        opposed = sum(w for w, _ in opposing.get(cause, ())) * max(LEAST_AGAINST, 1 - max(main, default=0.0) / 10)
        if bad:
            strongest = max(main, default=0.0)
            sums[cause] = total + strongest + BESIDE * (sum(main) - strongest) - opposed
            asides[cause] = total + sum(aside) if aside else -math.inf
    first = {cause: _logistic(total) for cause, total in sums.items()}
    explained = {  # what stands apart is neither explained by other causes nor explains them
        cause: max(asides[cause], total - sum(
            float(strength) * first.get(other, 0.0)
            for other, strength in (table[cause].get("explained_by") or {}).items()
            if first.get(other, 0.0) > first[cause] or sums.get(other, -9.0) > total
        ))
        for cause, total in sums.items()
    }  # fmt: skip
    ranked = sorted(explained, key=lambda c: (-explained[c], c))
    kept = [c for c in ranked if _logistic(explained[c]) >= limits["cause_confidence_min"]]
    result = []
    for place, cause in enumerate(kept):
        neighbours = [c for c in kept[max(0, place - 1) : place + 2] if c != cause]
        confidence = _logistic(explained[cause])
        close = any(abs(_logistic(explained[n]) - confidence) < limits["causes_close"] for n in neighbours)
        result.append(
            Cause(
                cause,
                round(min(confidence, 0.98), 2),  # nothing seen from outside is certain
                _codes(supporting.get(cause, ())),
                () if asides[cause] >= explained[cause] else _codes(opposing.get(cause, ())),
                _next_test(table[cause], skipped) if close or confidence < limits["cause_sure"] else None,
            )
        )
    return tuple(result)


def _weight(row: Mapping[str, Any], finding: Finding) -> float:
    """Weight of a finding: its outcome by name, first at this severity alone (`PRF005/nearly_repeated@warning: 4`), or
    any warning/error of its code (`TOK004: 2`). An outcome that is weighed as a warning counts nothing as information:
    a single odd row speaks for nothing."""
    if finding.severity == "info" and f"{finding.signal}@warning" in row:
        return 0.0
    exact = row.get(f"{finding.signal}@{finding.severity}", row.get(finding.signal))
    if exact is not None:
        return float(exact)
    if finding.severity in ("warning", "error"):
        return float(row.get(finding.code, 0.0))
    return 0.0


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _codes(weighted: Sequence[tuple[float, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(code for _, code in sorted(weighted, key=lambda w: -w[0])))


def _next_test(row: Mapping[str, Any], skipped: Sequence[Skipped]) -> str | None:
    """The first test of the row that was not run yet. Each names the check whose skipping makes it worthwhile."""
    not_run = {s.code for s in skipped}
    for test, codes in (row.get("next_tests") or {}).items():
        if not codes or not_run.intersection(codes):
            return str(test)
    return None
