"""Which process one was, so that it is known again: pids are given out anew."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Process:
    """pid with the time it began, as pids are given out again. began: seconds since 1970, which a clock that is set
    moves; since_boot: seconds since the machine's start, which nothing moves, 0 where the system doesn't tell."""

    pid: int
    began: float
    since_boot: float = 0.0

    @property
    def alive(self) -> bool:
        import psutil

        try:
            process = psutil.Process(self.pid)
            if self.since_boot and (now := _since_boot(self.pid)):
                same = now == self.since_boot and abs(process.create_time() - self.began) < _CLOCK_SET
            else:
                same = abs(process.create_time() - self.began) < 2
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


_CLOCK_SET = 86_400.0  # seconds a clock may be set by; a process of another start of the machine is further away


def _since_boot(pid: int) -> float:
    """The 22nd field of /proc/PID/stat; the name before it may hold anything, so it is counted from its end."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # no /proc, or no sysconf
        return 0.0


def this_process(pid: int | None = None) -> Process:
    """Raises psutil.Error for a process that is gone."""
    import psutil

    process = psutil.Process(pid if pid is not None else os.getpid())
    return Process(process.pid, process.create_time(), _since_boot(process.pid))


def process_of(value: Any) -> Process | None:
    """From `pid`, `began`, `since_boot`; None for what doesn't hold them."""
    if not isinstance(value, Mapping):
        return None
    pid, began, since = value.get("pid"), value.get("began"), value.get("since_boot", 0.0)
    if not isinstance(pid, int) or not isinstance(began, (int, float)):
        return None
    return Process(pid, float(began), float(since) if isinstance(since, (int, float)) else 0.0)
