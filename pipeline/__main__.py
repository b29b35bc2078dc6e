"""`python -m pipeline`: demo. Results go to standard output, progress to standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Makes things: demo models.", epilog="example: python -m pipeline demo"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="train the tiny demo models, healthy and sick, in about a minute",
        epilog="example: python -m pipeline demo --output /tmp/demo",
    )  # fmt: skip
    demo.add_argument("--output", metavar="DIR", help="folder to build in; default: the user's cache folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 2 can't be done, 3 interrupted."""
    options = _parser().parse_args(argv)
    from pipeline.demo.build import build_demo

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        demo = build_demo(Path(options.output) if options.output else None, progress=progress)
    except OSError as error:
        print(f"pipeline: demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pipeline: demo: interrupted; run it again and it starts over", file=sys.stderr)
        return 3
    print(demo.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
