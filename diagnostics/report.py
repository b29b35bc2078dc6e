"""The data model of a report and its JSON form (schema 1, see configs/report.schema.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Severity = Literal["ok", "info", "warning", "error"]
Verdict = Literal["healthy", "warnings", "problems", "not_usable"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Json = Any


@dataclass(frozen=True)
class Evidence:
    """Where a number or string was read, and what it was."""

    where: str
    value: Json

    def to_json(self) -> dict[str, Json]:
        return {"where": self.where, "value": self.value}


@dataclass(frozen=True)
class Observation:
    """What a check yields: the table adds code and name, the words make the sentence.

    outcome: a slug that names the sentence in configs/words/*/FAMILY.yaml and the evidence in configs/causes.yaml.
    params: the numbers and strings of that sentence.
    """

    severity: Severity
    outcome: str
    params: Mapping[str, Json] = field(default_factory=dict)
    evidence: Sequence[Evidence] = ()


@dataclass(frozen=True)
class Finding:
    """One thing measured by one check. `message` and `fix` are in the language of the report."""

    code: str
    check: str
    severity: Severity
    outcome: str
    params: Mapping[str, Json] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    message: str = ""
    fix: str = ""

    @property
    def signal(self) -> str:
        """Name of this piece of evidence in the table of causes: `TOK004/terminator_not_stopped_on`."""
        return f"{self.code}/{self.outcome}"

    def to_json(self) -> dict[str, Json]:
        return {
            "code": self.code, "check": self.check, "severity": self.severity, "message": self.message,
            "evidence": [e.to_json() for e in self.evidence], "fix": self.fix, "outcome": self.outcome,
            "params": dict(self.params),
        }  # fmt: skip


@dataclass(frozen=True)
class Skipped:
    """A check that measured nothing, and why."""

    code: str
    reason_id: str
    params: Mapping[str, Json] = field(default_factory=dict)
    reason: str = ""

    def to_json(self) -> dict[str, Json]:
        return {"code": self.code, "reason": self.reason, "reason_id": self.reason_id, "params": dict(self.params)}


@dataclass(frozen=True)
class Cause:
    """One root cause with its evidence, as codes of findings of the same report."""

    id: str
    confidence: float
    supporting: tuple[str, ...] = ()
    opposing: tuple[str, ...] = ()
    next_test_id: str | None = None
    title: str = ""
    explanation: str = ""
    fix: str = ""
    next_test: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "id": self.id, "confidence": self.confidence, "title": self.title, "explanation": self.explanation,
            "supporting": list(self.supporting), "opposing": list(self.opposing), "fix": self.fix,
            "next_test": self.next_test, "next_test_id": self.next_test_id,
        }  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What was looked at. kind: checkpoint | log | pairs | recipe | scores | comparison | replay | abilities |
    evaluation (a file that holds none of the four results) | case."""

    kind: str
    name: str
    revision: str | None = None
    fingerprint: str = ""

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, "name": self.name, "revision": self.revision, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Report:
    """Everything one diagnosis says. Sentences are in `lang`; outcome ids let them be said in the other one."""

    subject: Subject
    verdict: Verdict
    causes: tuple[Cause, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Json]] = ()
    curves: Mapping[str, Json] = field(default_factory=dict)
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    tool_version: str = ""
    lang: str = "en"
    depth: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    interrupted: bool = False  # checks were left out because the run was stopped

    def to_json(self) -> dict[str, Json]:
        return {
            "schema": 1, "subject": self.subject.to_json(), "created": self.created,
            "tool": {"version": self.tool_version, "versions": dict(self.versions)}, "verdict": self.verdict,
            "causes": [c.to_json() for c in self.causes], "findings": [f.to_json() for f in self.findings],
            "skipped": [s.to_json() for s in self.skipped], "metrics": dict(self.metrics),
            "samples": [dict(s) for s in self.samples], "curves": dict(self.curves), "lang": self.lang,
            "depth": self.depth, "seconds": dict(self.seconds), "thresholds": dict(self.thresholds),
            "interrupted": self.interrupted,
        }  # fmt: skip

    def dumps(self) -> str:
        """The JSON document. Not-a-number and infinity become strings: JSON has no word for them."""
        return json.dumps(finite(self.to_json()), ensure_ascii=False, indent=1, allow_nan=False)

    @staticmethod
    def from_json(data: Mapping[str, Json]) -> Report:
        """The report that `to_json` wrote. Raises KeyError or TypeError for anything else."""
        subject, tool = data["subject"], data["tool"]
        return Report(
            subject=Subject(subject["kind"], subject["name"], subject["revision"], subject["fingerprint"]),
            verdict=data["verdict"],
            causes=tuple(
                Cause(
                    c["id"], c["confidence"], tuple(c["supporting"]), tuple(c["opposing"]), c.get("next_test_id"),
                    c["title"], c["explanation"], c["fix"], c["next_test"],
                )
                for c in data["causes"]
            ),
            findings=tuple(
                Finding(
                    f["code"], f["check"], f["severity"], f["outcome"], f["params"],
                    tuple(Evidence(e["where"], e["value"]) for e in f["evidence"]), f["message"], f["fix"],
                )
                for f in data["findings"]
            ),
            skipped=tuple(Skipped(s["code"], s["reason_id"], s["params"], s["reason"]) for s in data["skipped"]),
            metrics=data["metrics"], samples=data["samples"], curves=data["curves"], created=data["created"],
            versions=tool["versions"], tool_version=tool["version"], lang=data["lang"], depth=data["depth"],
            seconds=data["seconds"], thresholds=data.get("thresholds", {}),
            interrupted=bool(data.get("interrupted", False)),
        )  # fmt: skip


def finite(value: Json) -> Json:
    """`value` with every float JSON can't hold as the string `NaN`, `Infinity` or `-Infinity`."""
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if value is None or isinstance(value, int):
        return value
    return str(value).encode("utf-8", errors="replace").decode()  # a file name may hold what no encoding can write


def verdict_of(findings: Sequence[Finding], usable: bool = True, interrupted: bool = False) -> Verdict:
    """`healthy` only when no finding is a warning or an error, and the run was not interrupted."""
    if not usable:
        return "not_usable"
    found = {f.severity for f in findings}
    return "problems" if "error" in found else "warnings" if "warning" in found or interrupted else "healthy"
