"""`python -m pipeline`: convert, generate, cot, train, jobs, demo.

Results go to standard output, progress to standard error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 2 can't be done, 3 interrupted; a line on standard error
    explains every 2 and 3."""
    from pipeline.commands import abilities, bundle, compare, convert, cot, demo, generate, jobs, replay, score, train
    from pipeline.commands.terminal import Parser, run_command

    def parser() -> Parser:
        made = Parser(
            prog="python -m pipeline",
            description="Makes things: converted data, reject candidates, reasoning, trained models, demo models.",
            epilog="example: python -m pipeline convert pairs.csv --to trl --output pairs.jsonl",
        )  # fmt: skip
        commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for module in (convert, generate, cot, train, jobs, score, replay, bundle, compare, abilities, demo):
            module.add_parser(commands)
        return made

    if signal.getsignal(signal.SIGINT) is _leave:  # from here on it is told what became of the work
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command("pipeline", parser, lambda options: int(options.run(options)), given, stopped="stopped")


def _leave(number: int, frame: FrameType | None) -> None:
    """Ctrl-C during imports, where a KeyboardInterrupt leaves a traceback."""
    os.write(2, b"pipeline: interrupted before anything was done\n")
    os._exit(3)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the caller has it ignored
        signal.signal(signal.SIGINT, _leave)
    sys.exit(main())
