"""Asks `python -m diagnostics`, which judges, as a process: this layer only makes, and may not import it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import processes


class AskingCancelled(Exception):
    """The caller's event was set before the diagnosis ended."""


@dataclass(frozen=True)
class Told:
    """status: the exit status. shown: standard output. last_line: of standard error, else the status, for where no
    report came."""

    status: int
    shown: bytes
    last_line: str


def ask_diagnostics(words: Sequence[str], cancel: threading.Event | None = None) -> Told:
    """words: the command and its options. Ended at once when cancel is set, with AskingCancelled."""
    from pipeline.training.launch_line import project_path

    argv = [sys.executable, "-m", "diagnostics", *words]
    child = processes.start(argv, stdout=processes.PIPE, stderr=processes.PIPE, env=project_path())
    try:
        while True:
            try:
                shown, told = child.communicate(timeout=0.2)
                break
            except processes.TimeoutExpired:
                if cancel is not None and cancel.is_set():
                    raise AskingCancelled from None
    except BaseException:  # Ctrl-C in the terminal reaches both
        child.kill()
        child.communicate()
        raise
    lines = told.decode("utf-8", errors="replace").strip().splitlines()
    return Told(child.returncode, shown, lines[-1].removeprefix("diagnostics: ") if lines else str(child.returncode))
