"""A process with all it started: how much memory they hold, and their end.

Workers that torch's elastic launcher starts lead sessions of their own, so a signal to the launcher's process group
doesn't reach them: they are found as children.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil

from pipeline.running_process import Process

_LOOK_SECONDS = 0.05


def tree_of(root: Process) -> list[psutil.Process]:
    """The process and its descendants, those that live. Empty where the root is gone."""
    if not root.alive:
        return []
    with suppress(psutil.Error):
        top = psutil.Process(root.pid)
        return [top, *top.children(recursive=True)]
    return []


def memory_of(processes: list[psutil.Process]) -> int:
    """Bytes in memory, all together; pages that several share are counted for each."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def end_tree(processes: list[psutil.Process], firm_seconds: float) -> None:
    """SIGTERM to all and their process groups, SIGKILL to those that live after `firm_seconds`. Returns when none does.

    processes: as `tree_of` gave them; children of a launcher that is gone meanwhile are in it.
    """
    _signal(processes, signal.SIGTERM)
    left = _left(processes, firm_seconds)
    grown = {child for process in left for child in _children(process)}
    _signal([*left, *grown], signal.SIGKILL)
    _left([*left, *grown], firm_seconds)


def _left(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that live after so long, or none as soon as none does. Not psutil.wait_procs, which takes the exit status
    of a child away from the Popen that started it: that would read 0."""
    until = time.monotonic() + seconds
    while left := [process for process in processes if _lives(process)]:
        if time.monotonic() >= until:
            break
        time.sleep(_LOOK_SECONDS)
    return left


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    mine = os.getpgid(0) if hasattr(os, "getpgid") else None
    for process in processes:
        with suppress(psutil.Error, OSError):
            # workers that were started after the list was made are in the group of one of these
            if mine is not None and os.getpgid(process.pid) == process.pid != mine:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
    if number is signal.SIGTERM:
        time.sleep(0.05)
