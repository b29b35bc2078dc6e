"""`python -m pipeline demo`: the tiny models the diagnosis can be tried on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.commands.terminal import EXIT_DONE, EXIT_INTERRUPTED, EXIT_UNUSABLE, say, write_result


def add_parser(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", help="train the tiny demo models, healthy and sick, in about a minute",
        epilog="example: python -m pipeline demo --output /tmp/demo",
    )  # fmt: skip
    demo.add_argument("--output", metavar="DIR", help="folder to build in; default: the user's cache folder")
    demo.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the folder. Returns the exit status."""
    from pipeline.demo.build import build_demo

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        demo = build_demo(Path(options.output) if options.output else None, progress=progress)
    except OSError as error:
        say("pipeline", f"demo: {error}")
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        say("pipeline", "demo: interrupted; run it again and it starts over")
        return EXIT_INTERRUPTED
    write_result(f"{demo.root}\n")
    return EXIT_DONE
