"""What the diagnosis says of a result, asked as a process of its own: this layer makes, that one judges."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import processes
from pipeline.refusal import Refused


class AskingCancelled(Exception):
    """`cancel` was set before there was an answer."""


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
    from pipeline.training.launch_line import project_path

    with tempfile.TemporaryDirectory(prefix="dpo-doctor-evaluation-") as made:
        beside = Path(made) / "report.json"
        argv = [sys.executable, "-m", "diagnostics", "evaluation", str(result_path), "--format", format, "--lang", lang,
                "--json", str(beside), "--no-figures"]  # fmt: skip
        child = processes.start(argv, stdout=processes.PIPE, stderr=processes.PIPE, env=project_path())
        while True:
            try:
                shown, told = child.communicate(timeout=0.2)
                break
            except processes.TimeoutExpired:
                if cancel is not None and cancel.is_set():
                    child.kill()
                    child.communicate()
                    raise AskingCancelled from None
            except BaseException:  # Ctrl-C in the terminal reaches both
                child.kill()
                child.communicate()
                raise
        try:
            report = json.loads(beside.read_bytes())
        except (OSError, ValueError):
            lines = told.decode("utf-8", errors="replace").strip().splitlines()
            why = lines[-1].removeprefix("diagnostics: ") if lines else child.returncode
            raise Refused("diagnosis_failed", why=why) from None
        return Asked(child.returncode, shown, report)
