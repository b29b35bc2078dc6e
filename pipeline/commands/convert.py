"""`python -m pipeline convert`: preference and supervised data from any format into any other."""

from __future__ import annotations

import argparse
import errno
import math
import os
from pathlib import Path
from typing import Any

from pipeline.commands.output_place import can_be_written
from pipeline.commands.terminal import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_UNUSABLE,
    Progress,
    say,
    whole_number,
    write_result,
)
from pipeline.pairs.all_formats import EVERY_FORMAT, columns_given, format_named
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.convert_pairs import (
    Conversion,
    Given,
    NewEntry,
    NothingWritten,
    as_json,
    as_text,
    convert,
)
from pipeline.pairs.dataset_info import entries_for, llamafactory_layout, read_dataset_info
from pipeline.pairs.mix_pairs import STRATEGIES
from pipeline.pairs.open_source import open_source
from pipeline.pairs.rated_formats import AXES
from pipeline.pairs.write_pairs import SUFFIXES, WriteReport
from pipeline.refusal import Refused, Sentence


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "convert", help="preference and supervised data from any format into any other",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Preference and supervised data from any format into any other. The format read is recognised by "
                    "what stands in the rows.\nFormats: " + ", ".join(EVERY_FORMAT)
                    + ";\nor columns of your own naming: prompt=question,chosen=good,rejected=bad",
        epilog="examples:\n"
               "  python -m pipeline convert pairs.csv --to trl --output pairs.jsonl\n"
               "  python -m pipeline convert table.csv --column prompt=question --column chosen=good "
               "--column rejected=bad --to llamafactory-sharegpt --output data/mine.json "
               "--dataset-info data/dataset_info.json\n"
               "  python -m pipeline convert a.json b.csv --weight 3 --weight 1 --seed 7 --to trl --output mix.jsonl\n"
               "  python -m pipeline convert data/dataset_info.json:mine --to kto --output kto.jsonl\n"
               "  python -m pipeline convert owner/name --split train --to trl --output pairs.parquet",
    )  # fmt: skip
    parser.add_argument("files", metavar="FILE", nargs="+",
                        help="data file, dataset_info.json:NAME, or a data set of the Hub "
                             "(owner/name[:config][@revision])")  # fmt: skip
    parser.add_argument("--to", required=True, metavar="FORMAT")
    parser.add_argument("--output", required=True, metavar="FILE", help=", ".join(SUFFIXES))
    parser.add_argument("--from", dest="source_format", metavar="FORMAT", help="default: recognised")
    parser.add_argument("--column", metavar="NAME=COLUMN", action="append", default=[],
                        help="which column of the files is NAME, as in prompt=question (repeatable)")  # fmt: skip
    parser.add_argument("--axis", choices=tuple(AXES), help="which label of PKU-SafeRLHF decides where both differ")
    parser.add_argument("--weight", metavar="W", action="append", default=[],
                        help="draw the rows of several files by weight; one for each file")  # fmt: skip
    parser.add_argument("--seed", metavar="N", help="of that drawing; default 0")
    parser.add_argument("--strategy", choices=STRATEGIES,
                        help="when that drawing ends: with the first file, when each has ended once (short ones begin "
                             "anew), or when every row was given once; default first_exhausted")  # fmt: skip
    parser.add_argument("--split", metavar="NAME", default="train", help="of a data set of the Hub; default train")
    parser.add_argument("--dataset-info", metavar="FILE", help="LLaMA-Factory's dataset_info.json, to add the file to")
    parser.add_argument("--name", metavar="NAME", help="of that entry; default: the name of the file")
    parser.add_argument("--replace-entry", action="store_true", help="where an entry of that name differs")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of the account on standard output")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the account of the conversion. Returns the exit status."""
    output = Path(options.output)
    format_named(options.to)
    if options.source_format is not None:
        format_named(options.source_format)
    can_be_written(output)
    given = _given(options)
    entry = _entry(options, output)
    seed = whole_number("--seed", options.seed or "0", 0, 2**63 - 1)
    progress = Progress("pipeline", in_files=True)

    def tick(rows: int) -> None:
        if progress.due():
            progress.show(Sentence("convert_progress", {"rows": f"{rows:,}"}, "formats").said(options.lang))

    done: Conversion | None = None
    failed: Sentence | None = None
    status = EXIT_DONE
    try:
        done = convert(
            given, output, options.to, seed=seed, strategy=options.strategy or STRATEGIES[0], entry=entry,
            progress=tick,
        )  # fmt: skip
    except NothingWritten as nothing:
        done, failed, status = nothing.args[0], Sentence("nothing_written", {"path": output}), EXIT_UNUSABLE
    except Refused as refused:
        failed, status = refused.sentence, EXIT_UNUSABLE
    except OSError as broken:
        why = broken.strerror or broken
        failed, status = Sentence("output_failed", {"path": output, "why": why}), EXIT_UNUSABLE
    except KeyboardInterrupt:
        failed, status = Sentence("convert_interrupted", {"path": output}), EXIT_INTERRUPTED
    progress.clear()
    try:
        _show(done, failed, options)
    except Refused:
        if failed is not None:
            raise
        raise Refused("account_failed", path=output) from None
    if failed is not None:
        say("pipeline", failed.said(options.lang))
    return status


def _show(done: Conversion | None, failed: Sentence | None, options: argparse.Namespace) -> None:
    """The account. As JSON there is one in any case, of what failed too."""
    if options.format == "json":
        error = None if failed is None else {"reason": failed.entry, "line": failed.said(options.lang)}
        account = as_json(done or Conversion(Path(options.output), options.to, [], WriteReport()), options.lang)
        write_result(json_text({**account, "error": error}, indent=2) + "\n")
    elif done is not None:
        write_result(as_text(done, options.lang))


# --- what was asked, looked at before anything is read ---


def _given(options: argparse.Namespace) -> list[Given]:
    """What to read. Raises Refused for what isn't there, and for weights that don't fit."""
    columns = columns_given(options.column)
    weights = [_weight(text) for text in options.weight]
    if weights and len(weights) != len(options.files):
        raise Refused("weights_count", weights=len(weights), files=len(options.files))
    if not weights and (options.seed is not None or options.strategy is not None):
        raise Refused("strategy_without_weight")
    found = []
    for number, file in enumerate(options.files):
        source = open_source(
            file, format=options.source_format, columns=columns, axis=options.axis, split=options.split,
            output=options.output,
        )  # fmt: skip
        found.append(Given(file, source.open, source.path, weights[number] if weights else None))
    return found


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight <= 0:
        raise Refused("weight_wrong", value=text)
    return weight


def _entry(options: argparse.Namespace, output: Path) -> NewEntry | None:
    """Raises Refused for a list that can't be read, or a file it can't describe, before anything is converted."""
    if options.dataset_info is None:
        if options.name is not None or options.replace_entry:
            raise Refused("info_without_output")
        return None
    path = Path(options.dataset_info)
    if not path.parent.is_dir():
        raise Refused("output_no_folder", path=path, folder=path.parent)
    if path.absolute() == output.absolute():
        raise Refused("output_is_input", path=output, option="--dataset-info", given=path)
    info = read_dataset_info(path, absent_is_empty=True)
    place = Path(os.path.realpath(path))
    if not os.access(place.parent, os.W_OK) or (place.exists() and not os.access(place, os.W_OK)):
        raise Refused("info_unwritable", path=path, why=os.strerror(errno.EACCES))
    name = options.name or output.stem
    entries_for(name, output, llamafactory_layout(options.to), (), beside=path)
    return NewEntry(info, name, options.replace_entry)
