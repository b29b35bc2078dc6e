"""A limited process that answers one line of JSON to each line of JSON, and is killed where it takes too long."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline.processes import DEVNULL, PIPE, start


class ChildFailed(Exception):
    """(problem, detail): `timeout`, or `crashed` with how it ended."""


class LineChild:
    """One child process and the pipe to it. The limits are those of `pipeline.processes.start`."""

    def __init__(
        self, argv: Sequence[str], *, memory_bytes: int, cpu_seconds: int, env: Mapping[str, str]
    ) -> None:  # fmt: skip
        self.process = start(
            argv, memory_bytes=memory_bytes, cpu_seconds=cpu_seconds, env=env, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        self.answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.asked = 0
        self.busy = 0.0  # seconds that answers took
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError, OSError):
            for line in self.process.stdout:
                self.answers.put(line)
        self.answers.put(b"")  # the end: the child is gone

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One request, one answer. Raises ChildFailed, after which this child is dead."""
        assert self.process.stdin is not None
        self.asked += 1
        started = time.monotonic()
        try:
            self.process.stdin.write(json.dumps({"id": self.asked, **request}).encode("ascii") + b"\n")
            self.process.stdin.flush()
            line = self.answers.get(timeout=seconds)
        except queue.Empty:
            self.end()
            raise ChildFailed("timeout", f"no answer within {seconds:g} s") from None
        except OSError:
            line = b""
        self.busy += time.monotonic() - started
        if not line:
            self.end()
            raise ChildFailed("crashed", _exit_reason(self.process.returncode))
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        import signal

        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"exit status {code}"
