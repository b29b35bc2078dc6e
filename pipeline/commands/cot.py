"""`python -m pipeline cot`: reasoning for answers that are known, written by a model and kept where it ends in them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.candidates.plan import Plan, is_address
from pipeline.candidates.problem_words import problem_said
from pipeline.candidates.row_databases import RowDatabases
from pipeline.candidates.strategies import run_number
from pipeline.commands.long_run import (
    SAMPLE_ROWS,
    add_course,
    add_device,
    add_files,
    add_server,
    find_files,
    is_no_input,
    open_makers,
    own_endpoint,
    run_safely,
    settings_of,
    stoppable,
    stopped_entry,
)
from pipeline.commands.output_place import can_be_written
from pipeline.commands.terminal import EXIT_DONE, EXIT_INTERRUPTED, Progress, say, whole_number, write_result
from pipeline.config_files import load_config
from pipeline.pairs.all_formats import SUPERVISED, columns_given, format_named
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.open_source import open_source
from pipeline.pairs.write_pairs import SUFFIXES
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    import threading

    from pipeline.candidates.candidate import SourceRow
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.open_makers import ModelFiles
    from pipeline.candidates.run import Run, RunResult
    from pipeline.candidates.shards import Shard
    from pipeline.candidates.source_rows import SourceRows
    from pipeline.chain_of_thought.attempts import Judging
    from pipeline.chain_of_thought.run import Account, Hint

_PROGRAM = "python -m pipeline cot"
_CONFIG = "chain_of_thought.yaml"


def add_parser(commands: Any) -> None:
    defaults = load_config(_CONFIG)["sampling"]
    parser = commands.add_parser(
        "cot", help="reasoning for answers that are known: written by a model, kept where it ends in the right answer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Asks a model to reason before it answers, and keeps what ends in the right answer of the data: "
                    "the same text or number, or SQL that is the same\nor, with --database, gives the same result. "
                    "Rows without a right answer are counted and left out.\nEvery attempt with what became of it "
                    "stands beside the output, in OUTPUT.candidates.jsonl.\nHow it is asked and judged: "
                    "configs/chain_of_thought.yaml.",
        epilog="examples:\n"
               "  python -m pipeline cot --model http://127.0.0.1:8000/v1 --data train.json --output reasoned.json\n"
               "  python -m pipeline cot --model ./large --data sql.json --output reasoned.json --database shop.sqlite "
               "--num-candidates 8 --think\n"
               "  python -m pipeline cot --model http://127.0.0.1:8000/v1 --data train.json --output reasoned.jsonl "
               "--hint failed --keep all --to messages --resume",
    )  # fmt: skip
    add = parser.add_argument
    add("--model", required=True, metavar="PATH_OR_URL", help="checkpoint, or the address of a server "
                                                              "(http://HOST:PORT/v1)")  # fmt: skip
    add("--data", required=True, metavar="FILE",
        help="rows with right answers: data file, dataset_info.json:NAME, or a data set of the Hub")  # fmt: skip
    add("--output", required=True, metavar="FILE", help=", ".join(SUFFIXES))
    add("--answers", choices=("auto", "text", "number", "sql"), default="auto",
        help="what the right answers are; default: told row by row")  # fmt: skip
    add("--database", metavar="PATH", help="SQLite file or folder of files that SQL is executed on, read-only")
    add("--dialect", metavar="NAME", help="of the SQL, as sqlglot names it; default sqlite")
    add("--num-candidates", metavar="N", default=str(defaults["candidates"]),
        help=f"attempts a row; default {defaults['candidates']}")  # fmt: skip
    add("--keep", choices=("first", "all"), default="first", help="of a row's right attempts; default first")
    add("--hint", choices=("failed", "always"), nargs="?", const="always",
        help="show the right answer and ask for an explanation: to every row, or (failed) where no attempt without it "
             "was right. Reasoning that says it was told is left out")  # fmt: skip
    add("--think", action="store_true", help="put the reasoning into <think></think> before the answer")
    add("--to", metavar="FORMAT", default="alpaca", help=f"{', '.join(SUPERVISED)}; default alpaca")
    how = parser.add_argument_group("how attempts are made")
    add = how.add_argument
    add("--temperature", metavar="T", default=str(defaults["temperature"]),
        help=f"0: one greedy attempt; default {defaults['temperature']}")  # fmt: skip
    add("--top-p", metavar="P", default=str(defaults["top_p"]), help=f"default {defaults['top_p']}")
    add("--max-new-tokens", metavar="N", default=str(defaults["max_new_tokens"]),
        help=f"of one attempt; default {defaults['max_new_tokens']}")  # fmt: skip
    add("--seed", metavar="N", default="0", help="attempt c of row i is drawn with seed + 1000 i + c; default 0")
    add("--system", metavar="TEXT", help="system message for rows without their own")
    add("--prompt-format", metavar="NAME", default="auto", help="of a checkpoint; as of generate")
    add("--thinking", action="store_true", help="let a reasoning model think; default: off where the template knows it")
    add_files(add)
    add_device(add)
    add_server(add)
    data = parser.add_argument_group("data and output")
    add = data.add_argument
    add("--from", dest="source_format", metavar="FORMAT", help="default: recognised")
    add("--column", metavar="NAME=COLUMN", action="append", default=[], help="as in prompt=question (repeatable)")
    add_course(add)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the account. Returns the exit status."""
    from pipeline.candidates.shards import Shard
    from pipeline.chain_of_thought.run import account_of

    shard = Shard.from_environment()
    asked = _asked(options)
    with stoppable(options.lang, shard.rank) as cancel:
        made = _run_of(options, asked, shard, cancel)
        line = Progress("pipeline", in_files=True)
        try:
            result = run_safely(made, options, line)
        finally:
            line.clear()
            made.makers.close()
    if shard.rank:
        return EXIT_DONE if result.outcome == "done" else EXIT_INTERRUPTED
    account = account_of(made.place.candidates, _rows_read(result))
    if options.format == "json":
        write_result(json_text(_as_json(made, result, account), indent=2) + "\n")
    elif result.rows or result.outcome == "done":
        write_result(_as_text(result, account, options))
    if result.outcome == "done":
        return EXIT_DONE
    entry = stopped_entry(result)
    say("pipeline", Sentence(entry, {"rows": f"{result.rows:,}", "path": options.output}).said(options.lang))
    return EXIT_INTERRUPTED


def _rows_read(result: RunResult) -> int:
    if result.already:
        return int(result.info.get("account", {}).get("rows_written", 0))
    return result.rows


# --- what was asked, looked at before anything is read ---


@dataclass(frozen=True)
class _Asked:
    output: Path
    plan: Plan
    judging: Judging
    hint: Hint
    seed: int
    max_new_tokens: int
    most: int | None
    databases: RowDatabases | None
    dialect: str


def _asked(options: argparse.Namespace) -> _Asked:
    from pipeline.chain_of_thought.attempts import Judging
    from pipeline.chain_of_thought.run import make_plan

    output = Path(options.output)
    can_be_written(output, others_beside=True)
    if options.resume and options.overwrite:
        raise Refused("resume_or_overwrite")
    if format_named(options.to).kind != "supervised":
        raise Refused("cot_format", value=options.to, all=", ".join(SUPERVISED))
    if options.source_format is not None:
        format_named(options.source_format)
    databases = None if options.database is None else RowDatabases(options.database)
    most_tokens = whole_number("--max-new-tokens", options.max_new_tokens, 1, 10**6)
    temperature = run_number("--temperature", "temperature", options.temperature)
    attempts = whole_number("--num-candidates", options.num_candidates, 1, 500)
    if not temperature:  # all greedy attempts are the same
        attempts = 1
    parameters = {
        "temperature": temperature, "top_p": run_number("--top-p", "top_p", options.top_p),
        "max_new_tokens": most_tokens,
    }  # fmt: skip
    hint: Hint = options.hint or "never"
    most = whole_number("--max-samples", options.max_samples, 1, 2**40) if options.max_samples else None
    dialect = options.dialect or "sqlite"
    judging = Judging(options.answers, _sql_facts(databases, dialect), options.keep, options.think)
    return _Asked(
        output, make_plan("endpoint" if is_address(options.model) else "model", hint, attempts, parameters), judging,
        hint, whole_number("--seed", options.seed, 0, 2**53, "not_a_seed"), most_tokens,
        most, databases, dialect,
    )  # fmt: skip


def _sql_facts(databases: RowDatabases | None, dialect: str) -> Any:
    """Compares two queries as pipeline.sql does, which is loaded when the first one comes."""
    from pipeline.candidates.candidate import Candidate
    from pipeline.sql.parse_sql import dialect_named

    dialect_named(dialect)

    def facts(row: SourceRow, right: str, query: str) -> Mapping[str, Any]:
        from pipeline.sql.measure_sql import measure_sql

        one = Candidate(0, 0, "sql", f"```sql\n{query}\n```")
        [found] = measure_sql(right, [one], None if databases is None else databases.of(row), dialect)
        return found.facts()

    return facts


# --- what is opened ---


def _run_of(options: argparse.Namespace, asked: _Asked, shard: Shard, cancel: threading.Event) -> Run:
    from pipeline.candidates.open_makers import check_room, default_device
    from pipeline.candidates.reference_rows import ReferenceRows
    from pipeline.candidates.run import Place, Run
    from pipeline.candidates.run_progress import RunProgress
    from pipeline.candidates.source_rows import SourceRows
    from pipeline.chain_of_thought.run import AskingMakers, judged, kept_rows

    files: ModelFiles | None = None
    endpoint: Endpoint | None = None
    if is_address(options.model):
        endpoint = own_endpoint(options)
    else:
        files = find_files(options.model, options.adapter, options)
    source = open_source(
        options.data, option="--data", program=_PROGRAM, format=options.source_format,
        columns=columns_given(options.column), split=options.split, output=options.output,
    )  # fmt: skip
    is_no_input(asked.output, options.data, source.path)
    rows = SourceRows(source, most=asked.most)
    sample = list(islice(rows, SAMPLE_ROWS))
    if not sample:
        raise Refused("data_asks_nothing", path=rows.name)
    device = shard.device(default_device(options.device)) if files is not None else "cpu"
    if files is not None:
        check_room(files, device, options.dtype)

    def note(line: str) -> None:
        if not shard.rank:
            say("pipeline", line)

    makers = open_makers(
        options, seed=asked.seed, max_new_tokens=asked.max_new_tokens, reference=ReferenceRows(()), sample=sample,
        files=files, endpoint=endpoint, device=device, note=note,
    )  # fmt: skip
    place = Place(asked.output)
    own, others = place.progress_paths(shard)
    settings = _settings(options, asked, rows, files, endpoint)
    return Run(
        place, rows, asked.plan, AskingMakers(makers, asked.judging, asked.hint, place, shard.rank),
        judged(asked.judging), kept_rows(asked.judging), options.to, settings, RunProgress(own, others=others), shard,
        cancel, None, {}, lambda sentence: note(sentence.said(options.lang)),
    )  # fmt: skip


def _settings(
    options: argparse.Namespace, asked: _Asked, rows: SourceRows, files: ModelFiles | None, endpoint: Endpoint | None
) -> dict[str, Any]:
    """What decides on the attempts and on what is kept of them."""
    from pipeline.chain_of_thought.run import instructions_digest

    return settings_of(
        options, plan=asked.plan, rows=rows, seed=asked.seed, files=files, endpoint=endpoint, dialect=asked.dialect,
        answers=options.answers, keep=options.keep, hint=asked.hint, think=options.think, to=options.to,
        instructions=instructions_digest(),
    )  # fmt: skip


# --- the account ---


def _as_json(made: Run, result: RunResult, account: Account) -> dict[str, Any]:
    return {
        "output": str(made.place.output), "candidates": str(made.place.candidates), "outcome": result.outcome,
        "format": made.format, **account.as_json(), "tokens": made.progress.counter.tokens,
        "cost": round(made.progress.counter.cost, 6),
    }  # fmt: skip


def _as_text(result: RunResult, account: Account, options: argparse.Namespace) -> str:
    def said(entry: str, **params: Any) -> str:
        return Sentence(entry, params, "candidates").said(options.lang)

    lines = [
        said("cot_written", written=f"{account.written:,}", kept=f"{account.kept:,}", asked=f"{account.asked:,}",
             path=options.output),
    ]  # fmt: skip
    if account.hinted:
        lines.append(said("cot_written_hinted", n=f"{account.hinted:,}"))
    if account.without_answer:
        lines.append(said("cot_rows_without_answer", n=f"{account.without_answer:,}", rows=f"{account.rows:,}"))
    lines.append(said("cot_attempts", n=f"{account.attempts:,}"))
    kinds = sorted(account.verdicts)
    for verdict, count in account.of_all.most_common():
        split = ", ".join(
            f"{said(f'cot_kind_{kind}')} {account.verdicts[kind][verdict]:,}" for kind in kinds
            if account.verdicts[kind][verdict]
        )  # fmt: skip
        lines.append(f"  {count:>7,}  {said(f'cot_is_{verdict}')}" + (f" ({split})" if len(kinds) > 1 else ""))
    for problem, count in account.problems.most_common():
        lines.append(f"  {'':>7}  {problem_said(problem, options.lang)}: {count:,}")
    if account.long_answers:
        longest = load_config(_CONFIG)["long_answer"]
        lines.append(said("cot_long_answers", n=f"{account.long_answers:,}", characters=longest))
    lines.append(said("cot_beside", path=f"{options.output}.candidates.jsonl"))
    return "\n".join(lines) + "\n"
