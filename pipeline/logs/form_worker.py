"""A second process that matches learned forms over pieces of a long log ahead of the reader.

Started as `python -m pipeline.logs.form_worker`. Matching is a pure function of the forms and the piece, so what comes
back is what the reader itself would have found; where forms were learned in between, the reader matches again. Python
runs one regular expression at a time, so a second core needs a second process. Only starts for long files, where its
start-up is earned back many times.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pipeline.logs.line_forms import Form, LineForms

# A file this long takes about half a second alone.
LONG_FILE = 48 * 2**20
_SIZE = struct.Struct("<Q")
ROOT = Path(__file__).resolve().parents[2]


class FormWorker:
    """The other process, seen from the reader. A worker that died is no loss: the reader goes on alone."""

    def __init__(self) -> None:
        from pipeline.processes import DEVNULL, PIPE, start

        self._process = start(
            [sys.executable, "-m", "pipeline.logs.form_worker"], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=ROOT,
        )  # fmt: skip
        for stream in (self._process.stdin, self._process.stdout):
            _widen(stream)
        self._sent: bytes | None = None
        self._version = -1
        self._alive = True

    def send(self, piece: bytes, forms: LineForms) -> None:
        """Have `piece` matched; `take` gets the result. One piece at a time."""
        if not self._alive or self._sent is not None:
            return
        known = None if forms.version == self._version else forms.forms
        try:
            assert self._process.stdin is not None
            _write(self._process.stdin, pickle.dumps(known, protocol=5))
            _write(self._process.stdin, piece)
        except (OSError, ValueError):
            self.close()
            return
        self._version = forms.version
        self._sent = piece

    def waits_for(self, piece: bytes) -> bool:
        """Whether `piece` is being matched."""
        return self._sent is piece

    def take(self, piece: bytes, forms: LineForms) -> Any:
        """What `LineForms.matched` gives for `piece`; None where that is not known under the forms of now."""
        if not self._alive or self._sent is None:
            return None
        sent, self._sent = self._sent, None
        try:
            assert self._process.stdout is not None
            answer = _read(self._process.stdout)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            self.close()
            return None
        if sent is not piece or self._version != forms.version:
            return None
        return pickle.loads(answer)  # of our own process, never of a file

    def close(self) -> None:
        """Ends the process."""
        self._alive = False
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        with suppress(OSError):
            self._process.kill()
        with suppress(Exception):
            self._process.wait(timeout=5)


def worth_a_worker(size: int) -> bool:
    """Whether a file of this many bytes is long enough, on a machine with a second core."""
    return size >= LONG_FILE and (os.cpu_count() or 1) > 1


def _widen(stream: IO[bytes] | None) -> None:
    """Room for a whole piece in the pipe, where the system allows it: the reader need not wait for the worker."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        if stream is not None:
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, 2**20)  # type: ignore[attr-defined,unused-ignore]


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(_SIZE.pack(len(message)))
    stream.write(message)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes | None:
    """One message; None at the end of the stream."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    message = stream.read(size)
    return message if len(message) == size else None


def main() -> None:
    """Answers pieces until the reader closes its end."""
    forms = LineForms()
    while (given := _read(sys.stdin.buffer)) is not None and (piece := _read(sys.stdin.buffer)) is not None:
        known: Sequence[Form] | None = pickle.loads(given)  # from our own reader
        if known is not None:
            forms.set(known)
        _write(sys.stdout.buffer, pickle.dumps(forms.matched(piece), protocol=5))


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):
        main()
