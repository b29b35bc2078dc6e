"""What the diagnosis says of a result, asked as a process of its own: this layer makes, that one judges."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.diagnostics_child import AskingCancelled as AskingCancelled
from pipeline.diagnostics_child import ask_diagnostics
from pipeline.refusal import Refused


@dataclass(frozen=True)
class Asked:
    """status: 0 nothing wrong, 1 errors found, 2 not usable. shown: the report as asked for, report: as JSON."""

    status: int
    shown: bytes
    report: Mapping[str, Any]


def ask_diagnosis(
    result_path: Path, *, lang: str = "en", format: str = "text", cancel: threading.Event | None = None
) -> Asked:
    """What `python -m diagnostics evaluation RESULT.json` says, in about a second.

    format: text (without the figures, which the caller has printed), json, md or html. Raises Refused
    (`diagnosis_failed`) where no report came, AskingCancelled.
    """
    with tempfile.TemporaryDirectory(prefix="dpo-doctor-evaluation-") as made:
        beside = Path(made) / "report.json"
        told = ask_diagnostics(
            ["evaluation", str(result_path), "--format", format, "--lang", lang, "--json", str(beside), "--no-figures"],
            cancel,
        )  # fmt: skip
        try:
            report = json.loads(beside.read_bytes())
        except (OSError, ValueError):
            raise Refused("diagnosis_failed", why=told.last_line) from None
        return Asked(told.status, told.shown, report)
