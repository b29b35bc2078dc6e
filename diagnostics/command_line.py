"""The commands of `python -m diagnostics`: arguments to a report, a status, and one line for what can't be done."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands import terminal
from pipeline.commands.terminal import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_UNUSABLE,
    Parser,
    whole_number,
    write_result,
)
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from diagnostics.report import Report

EXIT_PROBLEMS = 1


def _parser() -> Parser:
    parser = Parser(
        prog="python -m diagnostics",
        description="Why an SFT -> DPO pipeline goes wrong: ranked root causes with evidence.",
        epilog="example: python -m diagnostics checkpoint ./my_model --data train.jsonl",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = Parser(add_help=False)
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
    checkpoint.add_argument("--max-rows", default="64", metavar="N")
    checkpoint.add_argument("--seed", default="0", metavar="N")
    checkpoint.add_argument("--device", choices=("cpu", "cuda"), default="cpu")

    log = commands.add_parser(
        "log", parents=[common], help="diagnose one training run by its log",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Diagnose one training run by its log: trainer_state.json, trainer_log.jsonl, logging.jsonl, "
                    "TensorBoard events, CSV, or any text with losses. Several files of one run are joined in order.",
        epilog="examples:\n"
               "  python -m diagnostics log outputs/sft/trainer_state.json\n"
               "  python -m diagnostics log 'logs/chat_trainer_*.log' --lang zh\n"
               "  python -m diagnostics log dpo.log --format json --output report.json\n"
               "  python -m diagnostics log own.txt --pattern 'it (?P<step>\\d+) .* L=(?P<loss>\\S+)'\n"
               "  python -m diagnostics log own.csv --column loss=objective --column step=n",
    )  # fmt: skip
    log.add_argument("files", metavar="FILE", nargs="+", help="file, folder of a run, or glob")
    log.add_argument("--pattern", metavar="REGEX",
                     help="expression for the lines of a log that isn't understood, with groups such as "
                          "(?P<step>...), (?P<loss>...), (?P<eval_loss>...); it is remembered")  # fmt: skip
    log.add_argument("--column", metavar="NAME=COLUMN", action="append", default=[],
                     help="which column or key is the metric NAME, as in loss=objective (repeatable)")  # fmt: skip
    log.add_argument("--vocab-size", metavar="N", help="of the model: ln(N) is the loss of a model that knows nothing")

    pairs = commands.add_parser(
        "pairs", parents=[common], help="diagnose a set of preference pairs or supervised rows",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Diagnose a set of preference pairs or supervised rows before anything is trained on it: .json, "
                    ".jsonl, .csv, .parquet in any of the usual formats.",
        epilog="examples:\n"
               "  python -m diagnostics pairs pairs.jsonl\n"
               "  python -m diagnostics pairs pairs.json --tokenizer ./outputs/sft --max-length 2048 --lang zh\n"
               "  python -m diagnostics pairs pairs.csv --column prompt=question --column chosen=good "
               "--column rejected=bad\n"
               "  python -m diagnostics pairs pairs.jsonl --model ./outputs/sft --format json --output report.json",
    )  # fmt: skip
    pairs.add_argument("path", metavar="FILE")
    pairs.add_argument("--tokenizer", metavar="PATH", help="of the model to be trained: what a trainer cuts")
    pairs.add_argument("--model", metavar="PATH", help="the model to be trained: how probable it finds both sides")
    pairs.add_argument("--max-length", metavar="N", help="tokens of prompt and answer together; default 1024")
    pairs.add_argument("--from", dest="source_format", metavar="FORMAT", help="default: recognised by content")
    pairs.add_argument("--column", metavar="NAME=COLUMN", action="append", default=[],
                       help="which column is NAME, as in prompt=question (repeatable)")  # fmt: skip
    pairs.add_argument("--axis", choices=("better", "safer"), help="which label of PKU-SafeRLHF decides")
    pairs.add_argument("--seed", default="0", metavar="N")
    pairs.add_argument("--device", choices=("cpu", "cuda"), default="cpu")

    recipe = commands.add_parser(
        "recipe", parents=[common], help="what is to be checked before a training run starts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Checks a training recipe before anything is trained: its fields, the rows as the trainer will see "
                    "them, the model, and whether this machine has the memory, disk and packages.",
        epilog="examples:\n"
               "  python -m diagnostics recipe dpo_lora\n"
               "  python -m diagnostics recipe mine.yaml --set learning_rate=5e-6 --set data=pairs.jsonl --lang zh\n"
               "  python -m diagnostics recipe mine.yaml --accelerate zero3 --depth forward --format json",
    )  # fmt: skip
    recipe.add_argument("recipe", metavar="RECIPE", help="a name, or a file")
    recipe.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="changes",
                        help="a field of the recipe (repeatable)")  # fmt: skip
    recipe.add_argument("--rows", metavar="FOLDER", help="a job's folder, with data/train.jsonl")
    recipe.add_argument("--accelerate", metavar="NAME_OR_FILE", help="how the run is spread")
    recipe.add_argument("--depth", choices=("files", "weights", "forward"), default="files",
                        help="how deep to look at the model; default: files")  # fmt: skip
    recipe.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    recipe.add_argument("--json", metavar="FILE", help="the report as JSON too, in this file")

    evaluation = commands.add_parser(
        "evaluation", parents=[common], help="judge the result of an evaluation: did it help?",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judges the result file of python -m pipeline score, compare, replay or abilities: overfitted or "
                    "biased reward models, models that got worse, cases that broke, abilities that were lost.",
        epilog="examples:\n"
               "  python -m diagnostics evaluation rewards.jsonl.scores.json\n"
               "  python -m diagnostics evaluation after.comparison.json --format html --output report.html --lang zh",
    )  # fmt: skip
    evaluation.add_argument("path", metavar="RESULT")
    evaluation.add_argument("--no-figures", dest="figures", action="store_false",
                            help="as text, only what is judged: without tables and cases")  # fmt: skip
    evaluation.add_argument("--json", metavar="FILE", help="the report as JSON too, in this file")

    explain = commands.add_parser(
        "explain", parents=[common], help="documentation of one check or cause",
        epilog="examples: python -m diagnostics explain TOK004; python -m diagnostics explain eos_is_plain_text; "
               "python -m diagnostics explain all",
    )  # fmt: skip
    explain.add_argument("code", metavar="CODE", help="TOK004, undertrained, ... or: all")
    return parser


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; a line on standard error explains every 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    return terminal.run_command("diagnostics", _parser, _run, given, stopped="interrupted")


def _run(options: argparse.Namespace) -> int:
    commands = {"explain": _explain, "checkpoint": _checkpoint, "log": _log, "pairs": _pairs, "recipe": _recipe,
                "evaluation": _evaluation}  # fmt: skip
    return commands[options.command](options)


def _check_output(output: str | None, inputs: Sequence[tuple[str, str]] = ()) -> None:
    """Before anything is measured: can the result be written, and does it leave what was given alone? Raises Refused.

    inputs: (option, path) of everything given; the option is empty for the checkpoint.
    """
    if output is None:
        if sys.stdout is None:
            raise Refused("stdout_closed")
        return
    try:
        target = Path(output).resolve()
        if target.is_dir():
            raise Refused("output_is_folder", path=output)
        if not target.parent.is_dir():
            raise Refused("output_no_folder", path=output, folder=target.parent)
        if not os.access(target if target.exists() else target.parent, os.W_OK):
            raise Refused("output_failed", path=output, why=os.strerror(errno.EACCES))
        for option, given in inputs:
            if _would_change(target, given):
                entry = "output_is_input" if option else "output_is_checkpoint"
                raise Refused(entry, path=output, option=option, given=given)
    except (OSError, ValueError, RuntimeError) as failed:  # a loop of links, a null byte
        raise Refused("output_failed", path=output, why=getattr(failed, "strerror", None) or failed) from None


def _would_change(target: Path, given: str) -> bool:
    """Whether writing to `target`, whose links are resolved, changes the file or folder given."""
    try:
        place = Path(given).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # no such path here: a Hub id, or said elsewhere
        return False
    if target == place or place in target.parents:
        return True
    try:
        written = target.stat()
        return any(os.path.samestat(written, seen) for seen in _files_of(place))  # other names of the same file
    except OSError:
        return False


def _files_of(place: Path) -> Iterator[os.stat_result]:
    """The given file, or what lies directly in the given folder and in its folders; links lead to what they name."""
    if not place.is_dir():
        yield place.stat()
        return
    folders = [(place, True)]
    for folder, deeper in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if deeper and entry.is_dir():
                        folders.append((folder / entry.name, False))
                    else:
                        yield entry.stat()
        except OSError:
            continue


def _is_file(option: str, path: str) -> None:
    """Raises Refused with what lies there instead."""
    from pipeline.checkpoint import HUB_ID

    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise Refused("file_is_folder", option=option, path=path)
    if os.path.exists(path):
        raise Refused("file_is_special", option=option, path=path)
    is_hub_id = HUB_ID.match(path) and not Path(path).suffix
    raise Refused("file_is_hub_id" if is_hub_id else "file_not_found", option=option, path=path)


def _check_prompts(path: str) -> None:
    """Raises Refused when not one prompt can be read there."""
    from pipeline.prompt_file import read_prompts

    found = read_prompts(path, limit=1)
    if found.problem is not None:
        own = f"prompts_{found.problem}"
        entry = own if own in ("prompts_no_known_columns", "prompts_unknown_format") else found.problem
        raise Refused("prompts_unusable", path=path, why=Sentence(entry, {"detail": found.detail}))


def _checkpoint(options: argparse.Namespace) -> int:
    max_rows = whole_number("--max-rows", options.max_rows, 1, 2**31)
    seed = whole_number("--seed", options.seed, -(2**63), 2**63 - 1, "not_a_seed")
    inputs = [("", options.path)]
    inputs += [(f"--{name}", path) for name in ("data", "log") for path in getattr(options, name)]
    apart = ("tokenizer", "model_config", "base", "prompts")
    inputs += [(f"--{name.replace('_', '-')}", path) for name in apart if (path := getattr(options, name)) is not None]
    _check_output(options.output, inputs)
    for option, path in inputs:
        if option in ("--data", "--log", "--prompts"):
            _is_file(option, path)
    if options.prompts is not None:
        _check_prompts(options.prompts)

    from diagnostics.diagnose_checkpoint import depth_for, diagnose_checkpoint

    def diagnose(progress: _Progress) -> Report:
        depth = options.depth or depth_for(options.path, model_config=options.model_config)
        return diagnose_checkpoint(
            options.path, tokenizer=options.tokenizer, model_config=options.model_config, base=options.base,
            data=options.data, log=options.log, prompts=options.prompts, depth=depth, max_rows=max_rows,
            seed=seed, device=options.device, thresholds=options.threshold, lang=options.lang,
            on_event=progress.event, on_note=progress.show,
        )  # fmt: skip

    return _report(diagnose, options)


def _log(options: argparse.Namespace) -> int:
    vocab_size = None
    if options.vocab_size is not None:
        vocab_size = whole_number("--vocab-size", options.vocab_size, 2, 2**31)
    _check_output(options.output, [("FILE", path) for path in options.files])
    from diagnostics.diagnose_log import diagnose_log
    from pipeline.logs.own_format import OwnFormat, columns_of

    own = OwnFormat(options.pattern or "", columns_of(options.column)) if options.pattern or options.column else None

    def diagnose(progress: _Progress) -> Report:
        return diagnose_log(
            options.files, vocab_size=vocab_size, thresholds=options.threshold, lang=options.lang,
            own=own, on_event=progress.event,
        )  # fmt: skip

    return _report(diagnose, options)


def _pairs(options: argparse.Namespace) -> int:
    max_length = None
    if options.max_length is not None:
        max_length = whole_number("--max-length", options.max_length, 1, 2**31)
    seed = whole_number("--seed", options.seed, -(2**63), 2**63 - 1, "not_a_seed")
    inputs = [("", options.path)]
    inputs += [(f"--{n}", path) for n in ("tokenizer", "model") if (path := getattr(options, n)) is not None]
    _check_output(options.output, inputs)
    from diagnostics.diagnose_pairs import diagnose_pairs
    from pipeline.pairs.all_formats import columns_given

    columns = columns_given(options.column)

    def diagnose(progress: _Progress) -> Report:
        return diagnose_pairs(
            options.path, tokenizer=options.tokenizer, model=options.model, max_length=max_length,
            format=options.source_format, columns=columns, axis=options.axis, seed=seed,
            device=options.device, thresholds=options.threshold, lang=options.lang, on_event=progress.event,
            on_rows=lambda rows: progress.show(f"{rows:,}"), on_note=progress.show,
        ).report  # fmt: skip

    return _report(diagnose, options)


def _recipe(options: argparse.Namespace) -> int:
    inputs = [("RECIPE", options.recipe)]
    inputs += [(f"--{n}", path) for n in ("rows", "accelerate") if (path := getattr(options, n)) is not None]
    for written in (options.output, options.json):
        _check_output(written, inputs)
    from diagnostics.diagnose_recipe import diagnose_recipe

    def diagnose(progress: _Progress) -> Report:
        return diagnose_recipe(
            options.recipe, changes=options.changes, rows=options.rows, accelerate=options.accelerate,
            depth=options.depth, device=options.device, thresholds=options.threshold, lang=options.lang,
            on_event=progress.event, on_note=progress.show,
        )  # fmt: skip

    return _report(diagnose, options)


def _evaluation(options: argparse.Namespace) -> int:
    for written in (options.output, options.json):
        _check_output(written, [("RESULT", options.path)])
    _is_file("RESULT", options.path)
    from diagnostics.diagnose_evaluation import diagnose_evaluation

    def diagnose(progress: _Progress) -> Report:
        return diagnose_evaluation(
            Path(options.path), thresholds=options.threshold, lang=options.lang, on_event=progress.event
        )

    return _report(diagnose, options)


def _report(diagnose: Callable[[_Progress], Report], options: argparse.Namespace) -> int:
    """Diagnoses and writes the report, after Ctrl-C what it has by then, in the form asked for. Returns the exit
    status."""
    from diagnostics.judge import Interrupted

    interrupted = False
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # from here on there is something to save
        signal.signal(signal.SIGINT, signal.default_int_handler)
    progress = _Progress("diagnostics")
    try:
        report = diagnose(progress)
    except Interrupted as partial:
        report, interrupted = partial.report, True
    finally:
        progress.clear()
    from diagnostics import render

    texts = {"json": lambda: report.dumps() + "\n", "md": lambda: render.to_markdown(report),
             "html": lambda: render.to_html(report),
             "text": lambda: render.to_text(report, figures=getattr(options, "figures", True))}  # fmt: skip
    if (beside := getattr(options, "json", None)) is not None:
        write_result(texts["json"](), beside)
    write_result(texts[options.format](), options.output)
    if interrupted:
        return EXIT_INTERRUPTED
    if report.verdict == "not_usable":
        return EXIT_UNUSABLE
    return EXIT_PROBLEMS if report.verdict == "problems" else EXIT_DONE


class _Progress(terminal.Progress):
    """Nothing of it in a file."""

    def event(self, event: object) -> None:
        kind, code, done, total = (getattr(event, n) for n in ("kind", "code", "done", "total"))
        if kind == "check":
            self.show(f"{done + 1}/{total} {getattr(event, 'depth', '')} {code}")


def _explain(options: argparse.Namespace) -> int:
    from diagnostics.explain import explain

    _check_output(options.output)
    write_result(explain(options.code, options.lang, options.format), options.output)
    return EXIT_DONE
