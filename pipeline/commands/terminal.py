"""What every command does alike: arguments that are refused in one line, results, notes and progress.

program: the word a line on standard error begins with.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
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

    def print_help(self, file: object = None) -> None:
        write_result(self.format_help())  # argparse itself keeps silent when it can't be written


def run_command(
    program: str,
    parser: Callable[[], Parser],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str],
    *,
    stopped: str,
) -> int:
    """Parses and runs. Returns the exit status; a line on standard error explains what was refused. stopped: the entry
    of refusals.yaml for a Ctrl-C that `run` doesn't answer itself."""
    lang = _language(argv)
    try:
        options = parser().parse_args(argv)
        lang = getattr(options, "lang", lang)
        return run(options)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    except Refused as reason:
        say(program, reason.said(lang))
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        say(program, Sentence(stopped).said(lang))
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `... | head`
        drop_stdout()
        return EXIT_DONE


def _language(argv: Sequence[str]) -> str:
    """The language asked for, also where the other arguments make no sense."""
    named = [after for before, after in zip(argv, argv[1:], strict=False) if before == "--lang"]
    named += [word.partition("=")[2] for word in argv if word.startswith("--lang=")]
    return "zh" if "zh" in named else "en"


def whole_number(option: str, text: str, least: int, most: int, entry: str = "not_a_number") -> int:
    """The number an option was given. Raises Refused with that entry for what is none, and for one out of bounds."""
    try:
        number = int(text) if len(text) < 40 else most + 1
    except ValueError:
        raise Refused(entry, option=option, value=text, least=least) from None
    if number > most and entry == "not_a_number":
        raise Refused("number_too_large", option=option, value=text, most=f"{most:,}")
    if not least <= number <= most:
        raise Refused(entry, option=option, value=text, least=least)
    return number


def say(program: str, line: str) -> None:
    """One line on standard error, where there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # it writes what its encoding can't in backslashes
            print(f"{program}: {line}", file=sys.stderr, flush=True)


def write_result(text: str, output: str | None = None) -> None:
    """The result, in the file `output` or on standard output. Raises Refused where it can't be put there,
    BrokenPipeError from `| head`."""
    if output is not None:
        try:
            Path(output).write_text(text, encoding="utf-8", errors="replace")  # file names may be no text
        except OSError as failed:
            raise Refused("output_failed", path=output, why=failed.strerror or failed) from None
        return
    if sys.stdout is None:
        raise Refused("stdout_closed")
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:  # a terminal of another encoding shows what it can
            sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "ascii", errors="json_escapes"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as failed:
        drop_stdout()
        raise Refused("stdout_failed", why=failed.strerror or failed) from None


def _json_escapes(failed: UnicodeError) -> tuple[str, int]:
    """Escapes for what an encoding lacks that JSON knows too; those of Python it doesn't."""
    assert isinstance(failed, UnicodeEncodeError)
    return json.dumps(failed.object[failed.start : failed.end])[1:-1], failed.end


codecs.register_error("json_escapes", _json_escapes)


def drop_stdout() -> None:
    """Nothing more can be written there, not even by the interpreter at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """One changing line on a terminal's standard error. in_files: whether a file gets a line now and then."""

    def __init__(self, program: str, *, in_files: bool = False) -> None:
        self._program = program
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._there = self._terminal or (in_files and sys.stderr is not None)
        self._every = SHOWN_EVERY if self._terminal else LINE_EVERY
        self._next = time.monotonic() + self._every

    def due(self) -> bool:
        """Whether a new state may be shown; cheap enough to be asked for every row."""
        return self._there and time.monotonic() >= self._next

    def show(self, text: str) -> None:
        self._next = time.monotonic() + self._every
        if self._terminal:
            self._put(f"\r\x1b[K{text[:100]}")
        elif self._there:
            self._put(f"{self._program}: {text}\n")

    def clear(self) -> None:
        if self._terminal:
            self._put("\r\x1b[K")

    @staticmethod
    def _put(text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone; the work goes on
            print(text, end="", file=sys.stderr, flush=True)
