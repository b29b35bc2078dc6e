"""What every command does alike: arguments that are refused in one line, results, notes and progress."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
from typing import NoReturn

from pipeline.refusal import Refused, Sentence

EXIT_DONE, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 2, 3
SHOWN_EVERY = 0.2  # seconds between two states of the line on a terminal
LINE_EVERY = 10.0  # seconds between two lines where standard error is a file
# What argparse says, by the entry of refusals.yaml that says it in both languages.
_ARGPARSE_SAYS = {
    "argument_missing": r"the following arguments are required: (?P<names>.+)",
    "argument_unknown": r"unrecognized arguments: (?P<names>.+)",
    "argument_without_value": r"argument (?P<option>\S+): expected (?:one|at least one) argument",
    "argument_choice": r"argument (?P<option>\S+): invalid choice: (?P<value>.*) \(choose from (?P<choices>.+)\)",
    "argument_ambiguous": r"ambiguous option: (?P<option>.+) could match (?P<choices>.+)",
    "argument_wrong": r"(?P<detail>.+)",
}


class Parser(argparse.ArgumentParser):
    """Raises Refused instead of printing a page of usage."""

    def error(self, message: str) -> NoReturn:
        for entry, says in _ARGPARSE_SAYS.items():
            if (found := re.fullmatch(says, message, re.DOTALL)) is not None:
                line = Sentence(entry, {name: text.replace("'", "") for name, text in found.groupdict().items()})
                raise Refused("see_help", line=line, program=self.prog)
        raise AssertionError(message)


def say(line: str) -> None:
    """One line on standard error, where there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"pipeline: {line}", file=sys.stderr, flush=True)


def write_result(text: str) -> None:
    """The result, on standard output. Raises Refused where it can't be put there, BrokenPipeError from `| head`."""
    if sys.stdout is None:
        raise Refused("stdout_closed")
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:  # a terminal of another encoding shows what it can
            sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "ascii", errors="backslashreplace"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as failed:
        drop_stdout()
        raise Refused("stdout_failed", why=failed.strerror or failed) from None


def drop_stdout() -> None:
    """Nothing more can be written there, not even by the interpreter at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """One changing line on a terminal's standard error; a line now and then where it is a file."""

    def __init__(self) -> None:
        self._there = sys.stderr is not None
        self._terminal = self._there and sys.stderr.isatty()
        self._every = SHOWN_EVERY if self._terminal else LINE_EVERY
        self._next = time.monotonic() + self._every

    def due(self) -> bool:
        """Whether a new state may be shown; cheap enough to be asked for every row."""
        return self._there and time.monotonic() >= self._next

    def show(self, text: str) -> None:
        self._next = time.monotonic() + self._every
        if self._terminal:
            self._put(f"\r\x1b[K{text[:100]}")
        else:
            self._put(f"pipeline: {text}\n")

    def clear(self) -> None:
        if self._terminal:
            self._put("\r\x1b[K")

    @staticmethod
    def _put(text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone; the work goes on
            print(text, end="", file=sys.stderr, flush=True)
