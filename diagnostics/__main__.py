"""`python -m diagnostics`: a command to a report. Results go to standard output, progress to standard error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    from diagnostics.command_line import run_command  # imported where Ctrl-C already leaves quietly

    return run_command(argv)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ctrl-C while there is nothing to save, as during imports, where a KeyboardInterrupt leaves a traceback."""
    os.write(2, b"diagnostics: interrupted before anything was measured\n")
    os._exit(3)


def _leave_quietly(number: int, frame: FrameType | None) -> None:
    os._exit(3)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the caller has it ignored
        signal.signal(signal.SIGINT, _leave)
    status = main()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave_quietly)  # the result is out; only threads are waited for
    if status == 3:  # after Ctrl-C inside exec(), as in an import, the interpreter itself would end by the signal
        os._exit(status)
    sys.exit(status)
