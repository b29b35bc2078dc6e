"""`python -m diagnostics`: checkpoint, explain. Results go to standard output, progress to standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

EXIT_FINE, EXIT_PROBLEMS, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 1, 2, 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m diagnostics",
        description="Why an SFT -> DPO pipeline goes wrong: ranked root causes with evidence.",
        epilog="example: python -m diagnostics checkpoint ./my_model --data train.jsonl",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--format", choices=("text", "json", "md", "html"), default="text")
    common.add_argument("--output", metavar="FILE", help="write the report there instead of standard output")
    common.add_argument("--lang", choices=("en", "zh"), default="en")
    common.add_argument("--threshold", metavar="NAME=VALUE", action="append", default=[],
                        help="another limit than configs/thresholds.yaml has (repeatable)")  # fmt: skip

    checkpoint = commands.add_parser(
        "checkpoint", parents=[common], help="diagnose one checkpoint",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Diagnose one checkpoint: folder, folder of checkpoints, LoRA adapter, bare state dict, Hub id.",
        epilog="examples:\n"
               "  python -m diagnostics checkpoint ./outputs/sft --data train.jsonl\n"
               "  python -m diagnostics checkpoint best.bin --model-config config.json --tokenizer my_tokenizer/\n"
               "  python -m diagnostics checkpoint Qwen/Qwen3-0.6B --depth files --format json",
    )  # fmt: skip
    checkpoint.add_argument("path", metavar="PATH_OR_REPO")
    checkpoint.add_argument("--tokenizer", metavar="PATH", help="tokenizer given apart from the weights")
    checkpoint.add_argument("--model-config", metavar="FILE", help="config.json given apart from the weights")
    checkpoint.add_argument("--base", metavar="PATH", help="the model the training started from")
    checkpoint.add_argument("--log", metavar="FILE", action="append", default=[], help="training log (repeatable)")
    checkpoint.add_argument("--data", metavar="FILE", action="append", default=[], help="training rows (repeatable)")
    checkpoint.add_argument("--depth", choices=("files", "weights", "forward", "samples"),
                            help="how deep to look; default: samples where the model is small enough for this machine, "
                                 "files for a Hub id")  # fmt: skip
    checkpoint.add_argument("--prompts", metavar="FILE", help="prompts to generate from, one a line or as rows")
    checkpoint.add_argument("--max-rows", type=_positive, default=64, metavar="N")
    checkpoint.add_argument("--seed", type=int, default=0, metavar="N")
    checkpoint.add_argument("--device", choices=("cpu", "cuda"), default="cpu")

    explain = commands.add_parser(
        "explain", parents=[common], help="documentation of one check or cause",
        epilog="examples: python -m diagnostics explain TOK004; python -m diagnostics explain eos_is_plain_text; "
               "python -m diagnostics explain all",
    )  # fmt: skip
    explain.add_argument("code", metavar="CODE", help="TOK004, undertrained, ... or: all")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; a line on standard error explains every 2."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "explain":
            return _explain(options)
        return _checkpoint(options)
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FINE


def _refuse(line: str) -> int:
    print(f"diagnostics: {line}", file=sys.stderr)
    return EXIT_UNUSABLE


def _write(text: str, output: str | None) -> int | None:
    """Put the result where it was asked for. Returns an exit status when it can't be put there."""
    if output is None:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:  # a terminal of another encoding shows what it can
            sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "ascii", errors="backslashreplace"))
        sys.stdout.flush()
        return None
    try:
        Path(output).write_text(text, encoding="utf-8", errors="replace")  # file names may be no text
    except OSError as error:
        return _refuse(f"--output {output}: {error.strerror or error}")
    return None


def _checkpoint(options: argparse.Namespace) -> int:
    from diagnostics.diagnose_checkpoint import Interrupted, depth_for, diagnose_checkpoint
    from diagnostics.thresholds import UnknownThreshold
    from pipeline.checkpoint import PathNotFound

    for name in ("log", "data"):
        for path in getattr(options, name):
            if not os.path.isfile(path):
                return _refuse(f"--{name} {path}: no such file")
    if options.prompts and not os.path.isfile(options.prompts):
        return _refuse(f"--prompts {options.prompts}: no such file")
    interrupted = False
    try:
        depth = options.depth or depth_for(options.path, model_config=options.model_config)
        progress = _Progress()
        report = diagnose_checkpoint(
            options.path, tokenizer=options.tokenizer, model_config=options.model_config, base=options.base,
            data=options.data, log=options.log, prompts=options.prompts, depth=depth, max_rows=options.max_rows,
            seed=options.seed, device=options.device, thresholds=options.threshold, lang=options.lang,
            on_event=progress.event, on_note=progress.note,
        )  # fmt: skip
    except Interrupted as partial:
        report, interrupted = partial.report, True
    except (PathNotFound, UnknownThreshold) as error:
        return _refuse(str(error))
    finally:
        _Progress.clear()
    from diagnostics import render

    texts = {"json": lambda: report.dumps() + "\n", "md": lambda: render.to_markdown(report),
             "html": lambda: render.to_html(report), "text": lambda: render.to_text(report)}  # fmt: skip
    failed = _write(texts[options.format](), options.output)
    if failed is not None:
        return failed
    if interrupted:
        return EXIT_INTERRUPTED
    if report.verdict == "not_usable":
        return EXIT_UNUSABLE
    return EXIT_PROBLEMS if report.verdict == "problems" else EXIT_FINE


class _Progress:
    """One changing line on a terminal's standard error; nothing where it is a file."""

    def event(self, event: object) -> None:
        kind, code, done, total = (getattr(event, n) for n in ("kind", "code", "done", "total"))
        if kind == "check":
            self._show(f"{done + 1}/{total} {getattr(event, 'depth', '')} {code}")

    def note(self, text: str) -> None:
        self._show(text)

    def _show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)

    @staticmethod
    def clear() -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _explain(options: argparse.Namespace) -> int:
    from diagnostics.explain import UnknownCode, explain

    try:
        text = explain(options.code, options.lang, options.format)
    except UnknownCode as error:
        return _refuse(str(error))
    return _write(text, options.output) or EXIT_FINE


if __name__ == "__main__":
    sys.exit(main())
