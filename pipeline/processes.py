"""The only module that starts processes. Takes an argument list, never a shell string."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
Stream = int | IO[bytes] | None
TimeoutExpired = subprocess.TimeoutExpired
Child = subprocess.Popen[bytes]


def start(
    argv: Sequence[str], *, memory_bytes: int | None = None, cpu_seconds: int | None = None,
    env: Mapping[str, str] | None = None, cwd: str | Path | None = None, stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None, stderr: Stream = None, own_session: bool = False,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start `argv` and return at once. Raises OSError when the program can't be started.

    memory_bytes: address space the process may take (Linux; elsewhere it is not limited).
    cpu_seconds: processor time it may use before the system ends it (Linux).
    env: added to this process's environment. own_session: it outlives this process and its terminal.
    """
    if isinstance(argv, (str, bytes)) or not argv:
        raise TypeError("argv is a list of arguments, not a command line")
    process = subprocess.Popen(
        list(argv), stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd,
        env={**os.environ, **env} if env else None, start_new_session=own_session,
    )  # fmt: skip
    _limit(process.pid, memory_bytes, cpu_seconds)
    return process


def _limit(pid: int, memory_bytes: int | None, cpu_seconds: int | None) -> None:
    """Set limits from outside: a preexec_fn is unsafe in a program with threads (the app has many)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    prlimit = getattr(resource, "prlimit", None)  # Linux only
    if prlimit is None:
        return
    with suppress(OSError, ValueError):  # already gone, or the system forbids it: the caller's timeout remains
        if memory_bytes is not None:
            prlimit(pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        if cpu_seconds is not None:
            prlimit(pid, resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
