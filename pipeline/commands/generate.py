"""`python -m pipeline generate`: answers that may become rejected, made, measured and chosen."""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.candidates.plan import Plan, is_address, make_plan
from pipeline.candidates.presets import Preset, default_preset, find_preset, preset_names
from pipeline.candidates.strategies import RunSettings, parse_strategies, run_number, temperatures
from pipeline.commands.long_run import (
    SAMPLE_ROWS,
    add_course,
    add_device,
    add_files,
    add_server,
    find_files,
    is_no_input,
    open_endpoint,
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
from pipeline.pairs.all_formats import columns_given, format_named
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.open_source import open_source
from pipeline.pairs.rated_formats import AXES
from pipeline.pairs.write_pairs import SUFFIXES
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.correction import Corrector
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.open_makers import ModelFiles
    from pipeline.candidates.policy import Policy
    from pipeline.candidates.reference_rows import ReferenceRows
    from pipeline.candidates.row_databases import RowDatabases
    from pipeline.candidates.run import Measure, Run
    from pipeline.candidates.shards import Shard
    from pipeline.candidates.source_rows import SourceRows

PREVIEW_ROWS = 50
OTHERS = 16  # rows whose prompts and answers the words of a candidate are held against
_PROGRAM = "python -m pipeline generate"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "generate", help="answers that may become rejected: made, measured, chosen",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Makes several answers to every row, measures them and, with --choose, takes those that are good "
                    "rejects.\nEvery candidate with how it was made and judged stands beside the output, in "
                    "OUTPUT.candidates.jsonl.\nStrategies: greedy, sampling, beam, diverse_beam, correction, endpoint, "
                    + ", ".join(_alterations()) + ".\nPresets: " + ", ".join(preset_names()) + ".",
        epilog="examples:\n"
               "  python -m pipeline generate --data train.json --output pairs.json --choose on_topic\n"
               "  python -m pipeline generate --model ./outputs/sft --data train.json --output pairs.json "
               "--choose on_topic --preview\n"
               "  python -m pipeline generate --model ./base --adapter ./lora --data sql.json --output pairs.json "
               "--preset text2sql --database shop.sqlite --max-samples 500\n"
               "  python -m pipeline generate --model ./outputs/sft --strategy greedy --strategy "
               "sampling:temperature=0.9,n=3 --strategy cut_short --data train.json --output pairs.jsonl\n"
               "  python -m pipeline generate --model http://127.0.0.1:8000/v1 --data train.json --output pairs.json "
               "--num-candidates 4 --choose varied --resume\n"
               "several processes share the rows, one GPU each; without a GPU accelerate needs --multi_gpu too:\n"
               "  accelerate launch --num_processes 4 -m pipeline generate --model ./outputs/sft --data train.json "
               "--output pairs.json\n"
               "  accelerate launch --multi_gpu --num_processes 2 -m pipeline generate --device cpu "
               "--model ./outputs/sft --data train.json --output pairs.json\n"
               "  torchrun --nproc_per_node 2 -m pipeline generate --model ./outputs/sft --data train.json "
               "--output pairs.json\n"
               "On several machines (--num_machines, --nnodes) all have to see the folder of --output.",
    )  # fmt: skip
    add = parser.add_argument
    add("--data", required=True, metavar="FILE",
        help="rows to answer: data file, dataset_info.json:NAME, or a data set of the Hub")  # fmt: skip
    add("--output", required=True, metavar="FILE", help=", ".join(SUFFIXES))
    add("--model", metavar="PATH_OR_URL", help="checkpoint, or the address of a server (http://HOST:PORT/v1); without "
                                               "one only strategies that need none")  # fmt: skip
    add_files(add)
    add("--weaker-model", metavar="PATH", help="an early checkpoint or a smaller model of the family, for presets")
    add_device(add)
    how = parser.add_argument_group("how candidates are made")
    add = how.add_argument
    add("--strategy", metavar="NAME[:KEY=VALUE,...]", action="append", default=[],
        help="as in sampling:temperature=0.9,n=3, greedy:model=./checkpoint-100 (repeatable)")  # fmt: skip
    add("--preset", metavar="NAME_OR_FILE", help="strategies and policy for one purpose")
    add("--num-candidates", metavar="N", help="a row, of each strategy that can give several; default 1")
    add("--max-new-tokens", metavar="N", help="of one answer; default 256")
    add("--temperature", metavar="T")
    add("--temperature-ladder", metavar="T,T,...", help="temperatures that the samples of a row are spread over")
    add("--top-p", metavar="P")
    add("--top-k", metavar="K")
    add("--num-beams", metavar="N")
    add("--seed", metavar="N", default="0", help="candidate c of row i is drawn with seed + 1000 i + c; default 0")
    add("--system", metavar="TEXT", help="system message for rows without their own")
    add("--prompt-format", metavar="NAME", default="auto",
        help="auto (the declared template, or what the model was trained on where that is another one), declared, "
             "plain, or a name of configs/prompt_formats.yaml")  # fmt: skip
    add("--thinking", action="store_true", help="let a reasoning model think; default: off where the template knows it")
    add("--replace", metavar="OLD=NEW", action="append", default=[],
        help="the strategy correction: the model's own answer is rejected, the same with NEW chosen")  # fmt: skip
    add("--corrector", metavar="URL", help="a server whose model corrects instead")
    add_server(add)
    judged = parser.add_argument_group("how they are measured and chosen")
    add = judged.add_argument
    add("--choose", metavar="POLICY", help="name, NAME:key=value,... or a YAML file; default: keep all that are usable")
    add("--dedup", choices=("exact", "normalized", "sql"), help="what counts as the same answer; default normalized")
    add("--reward", metavar="NAME_OR_PATH", help="exact_answer, number, sql, regex:PATTERN, or a reward model")
    add("--embedding-model", metavar="PATH", help="tells by meaning whether an answer is on topic")
    add("--database", metavar="PATH", help="SQLite file to execute SQL on, read-only, or a folder of them by db_id")
    add("--dialect", metavar="NAME", help="of the SQL, as sqlglot names it; default sqlite")
    add("--preview", metavar="N", nargs="?", const=str(PREVIEW_ROWS),
        help=f"make and choose for the first N rows only, and show it; default {PREVIEW_ROWS}; kept")  # fmt: skip
    add("--choose-only", action="store_true", help="choose anew from a finished OUTPUT.candidates.jsonl")
    data = parser.add_argument_group("data and output")
    add = data.add_argument
    add("--to", metavar="FORMAT", help="default: instruction,input,chosen,rejected in .json; else the data's columns")
    add("--from", dest="source_format", metavar="FORMAT", help="default: recognised")
    add("--column", metavar="NAME=COLUMN", action="append", default=[], help="as in prompt=question (repeatable)")
    add("--axis", choices=tuple(AXES), help="which label of PKU-SafeRLHF decides where both differ")
    add_course(add)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the account. Returns the exit status."""
    from pipeline.candidates.shards import Shard
    from pipeline.commands.generate_account import preview_text, run_json, run_text

    shard = Shard.from_environment()
    asked = _asked(options)
    if options.choose_only:
        if shard.rank:
            return EXIT_DONE
        return _choose_again(options, asked)
    with stoppable(options.lang, shard.rank) as cancel:
        made = _run_of(options, asked, shard, cancel)
        line = Progress("pipeline", in_files=True)
        try:
            result = run_safely(made, options, line)
        except KeyboardInterrupt:
            line.clear()
            rows = f"{made.progress.rows:,}"
            say("pipeline", Sentence("run_interrupted", {"rows": rows, "path": options.output}).said(options.lang))
            return EXIT_INTERRUPTED
        finally:
            line.clear()
            made.makers.close()
    if shard.rank:
        return EXIT_DONE if result.outcome == "done" or result.outcome == "preview" else EXIT_INTERRUPTED
    if result.outcome == "preview":
        write_result(preview_text(made, result, asked.policy, options))
        return EXIT_DONE
    if options.format == "json":
        write_result(json_text(run_json(made, result), indent=2) + "\n")
    else:
        write_result(run_text(made, result, options.lang))
    if result.outcome == "done":
        return EXIT_DONE
    entry = stopped_entry(result)
    say("pipeline", Sentence(entry, {"rows": f"{result.rows:,}", "path": options.output}).said(options.lang))
    return EXIT_INTERRUPTED


# --- what was asked, looked at before anything is read ---


@dataclass(frozen=True)
class _Asked:
    """words: strategies as they were named. policy: None keeps every usable candidate."""

    output: Path
    plan: Plan
    policy: Policy | None
    dedup: str
    dialect: str | None
    reward: str | None
    ladder: tuple[float, ...]
    seed: int
    max_new_tokens: int
    preset: Preset | None
    most: int | None
    preview: int | None


def _asked(options: argparse.Namespace) -> _Asked:
    from pipeline.candidates.policy import parse_policy
    from pipeline.candidates.reward_functions import reward_function

    can_be_written(Path(options.output), others_beside=True)
    output = Path(os.path.realpath(options.output))  # a link stays one; all files lie beside what it leads to
    if options.resume and options.overwrite:
        raise Refused("resume_or_overwrite")
    if options.to is not None and format_named(options.to).kind != "pairs":
        raise Refused("format_holds_no_pairs", value=options.to)
    if options.source_format is not None:
        format_named(options.source_format)
    preset, words = _strategies(options)
    chosen = options.choose or (preset.choose if preset is not None and options.preset else None)
    policy = parse_policy(chosen) if chosen else None
    extra = preset.options if preset is not None else {}
    reward = options.reward or extra.get("reward")
    if policy is not None and policy.needs_reward and reward is None:
        raise Refused("choose_needs_reward", policy=policy.name)
    function = reward_function(reward) if reward is not None else None
    ladder_text = options.temperature_ladder or extra.get("temperature_ladder")
    ladder = temperatures(ladder_text, given="--temperature-ladder") if ladder_text else ()
    count = options.num_candidates or extra.get("num_candidates")
    n = whole_number("--num-candidates", count, 1, 1000) if count else 1
    parameters: dict[str, Any] = {"max_new_tokens": whole_number("--max-new-tokens", options.max_new_tokens or "256", 1,
                                                                  10**6)}  # fmt: skip
    for name in ("temperature", "top_p", "top_k", "num_beams"):
        if (text := getattr(options, name)) is not None:
            parameters[name] = run_number("--" + name.replace("_", "-"), name, text)
    strategies = parse_strategies(words, RunSettings(n, ladder, parameters), _alterations())
    if any(one.kind == "correction" for one in strategies) and not (options.replace or options.corrector):
        raise Refused("correction_needs_rules")
    if options.replace and options.corrector:
        raise Refused("correction_two_ways")
    own = "" if options.model is None else "endpoint" if is_address(options.model) else "model"
    scorers = [] if options.choose_only else [
        name for name, wanted in (("reward", reward is not None and function is None),
                                  ("embedding", options.embedding_model is not None)) if wanted
    ]  # fmt: skip
    return _Asked(
        output, make_plan(strategies, own, scorers), policy, options.dedup or extra.get("dedup") or "normalized",  # type: ignore[arg-type]
        options.dialect or extra.get("dialect"), reward, ladder,
        whole_number("--seed", options.seed, 0, 2**53, "not_a_seed"), parameters["max_new_tokens"], preset,
        whole_number("--max-samples", options.max_samples, 1, 2**40) if options.max_samples else None,
        whole_number("--preview", options.preview, 1, 10**6) if options.preview else None,
    )  # fmt: skip


def _strategies(options: argparse.Namespace) -> tuple[Preset | None, list[str]]:
    preset = None
    if options.preset:
        preset = find_preset(options.preset, weaker=options.weaker_model)
        for word in preset.left_out if not options.strategy else ():
            note = Sentence("strategy_left_out", {"given": word}, "candidates")
            say("pipeline", note.said(options.lang))
    words = list(options.strategy) or list(preset.strategies if preset is not None else ())
    if (options.replace or options.corrector) and not any(word.partition(":")[0] == "correction" for word in words):
        words.append("correction")
    if not words:
        preset = find_preset(default_preset(with_model=options.model is not None))
        words = [*preset.strategies]
    if options.weaker_model and not any(f"model={options.weaker_model}" in word for word in words):
        raise Refused("weaker_model_unused", path=options.weaker_model)
    return preset, words


def _alterations() -> Mapping[str, Mapping[str, Any]]:
    return dict(load_config("alterations.yaml")["parameters"])


# --- what is opened ---


def _source(options: argparse.Namespace, asked: _Asked) -> tuple[SourceRows, SourceRows]:
    """The rows to answer, and all rows of the data."""
    from pipeline.candidates.source_rows import SourceRows

    source = open_source(
        options.data, option="--data", program=_PROGRAM, format=options.source_format,
        columns=columns_given(options.column), axis=options.axis, split=options.split, output=options.output,
    )  # fmt: skip
    is_no_input(asked.output, options.data, source.path)
    return SourceRows(source, most=asked.most), SourceRows(source)


def _run_of(options: argparse.Namespace, asked: _Asked, shard: Shard, cancel: threading.Event) -> Run:
    from pipeline.candidates.open_makers import check_room, default_device
    from pipeline.candidates.run import Place, Run
    from pipeline.candidates.run_progress import RunProgress
    from pipeline.candidates.write_candidates import chooser, default_format

    plan = asked.plan
    files, endpoint, corrector, more = _models(options, asked)
    rows, everything = _source(options, asked)
    needs_torch = files is not None or plan.scorers or any(group.source == "model" for group in plan.side)
    device = shard.device(default_device(options.device)) if needs_torch else "cpu"
    for option, model in (*([("--model", files)] if files is not None else []), *more):
        check_room(model, device, options.dtype, option)
    dialect, databases = _sql(options, asked)
    reference, sample, total = _look_around(everything, asked.most, databases)
    rows.known_count(total)
    settings = _settings(options, asked, rows, files, endpoint, corrector)

    def note(line: str) -> None:
        if not shard.rank:
            say("pipeline", line)

    if databases is not None and (without := databases.check()):
        told = {"n": f"{without:,}", "rows": f"{databases.rows:,}", "path": options.database}
        note(Sentence("run_rows_without_database", told, "candidates").said(options.lang))
    makers = open_makers(
        options, seed=asked.seed, max_new_tokens=asked.max_new_tokens, reference=reference, sample=sample, files=files,
        endpoint=endpoint, device=device, note=note, corrector=corrector, reward=asked.reward,
        embedding=options.embedding_model,
    )  # fmt: skip
    place = Place(asked.output)
    own, others = place.progress_paths(shard)
    progress = RunProgress(own, others=others)
    return Run(
        place, rows, plan, makers, _measure(asked, reference, dialect, databases, options),
        chooser(asked.policy, asked.dedup),
        options.to or default_format(asked.output, everything.opened), settings, progress, shard, cancel,
        asked.preview, _choice(options, asked), lambda sentence: note(sentence.said(options.lang)),
    )  # fmt: skip


def _models(
    options: argparse.Namespace, asked: _Asked
) -> tuple[ModelFiles | None, Endpoint | None, Corrector | None, list[tuple[str, ModelFiles]]]:
    """What --model is, who corrects, and every other checkpoint that the run will need, with the option that names it:
    what isn't there is told now and not after hours of answers."""
    from pipeline.candidates.correction import EndpointCorrector, Replacements, Rule
    from pipeline.candidates.open_makers import REWARD, SCORERS, find_embedder, find_model

    files, endpoint = None, None
    others: list[tuple[str, ModelFiles]] = []
    corrector: Corrector | None = None
    if options.model is not None and is_address(options.model):
        endpoint = own_endpoint(options)
    elif options.model is not None:
        files = find_files(options.model, options.adapter, options)
    elif options.adapter is not None:
        raise Refused("adapter_without_model", path=options.adapter)
    for group in asked.plan.side:
        if group.source == "model" and (group.model is not None or files is not None):
            others.append(("--model", find_files(group.model or options.model, group.adapter, options)))
    for name in asked.plan.scorers:
        if name == REWARD and asked.reward is not None:
            others.append((SCORERS[name], find_model(asked.reward, option=SCORERS[name])))
        elif options.embedding_model is not None:
            others.append((SCORERS[name], find_embedder(options.embedding_model)))
    if options.replace:
        corrector = Replacements([Rule.given(text) for text in options.replace])
    elif options.corrector:
        corrector = EndpointCorrector(open_endpoint(options.corrector, options), seed=asked.seed)
    return files, endpoint, corrector, others


def _sql(options: argparse.Namespace, asked: _Asked) -> tuple[str | None, RowDatabases | None]:
    """The dialect where answers are SQL, and the databases."""
    from pipeline.candidates.row_databases import RowDatabases
    from pipeline.sql.parse_sql import dialect_named

    if asked.dialect is not None:
        dialect_named(asked.dialect)
    databases = None if options.database is None else RowDatabases(options.database)
    wanted = asked.dialect is not None or databases is not None or asked.dedup == "sql" or asked.reward == "sql"
    return (asked.dialect or "sqlite" if wanted else None), databases


def _look_around(
    everything: SourceRows, most: int | None, databases: RowDatabases | None
) -> tuple[ReferenceRows, list[Any], int | None]:
    """One pass over the data: other rows to hold answers against, rows to tell the prompt format by, and how many there
    are. Of a data set of the Hub only its beginning."""
    from itertools import islice

    from pipeline.candidates.reference_rows import MOST_ROWS, ReferenceRows

    sample: list[Any] = []

    def kept() -> Iterator[Any]:
        rows = everything if everything.source.path is not None else islice(everything, MOST_ROWS)
        for row in rows:
            if len(sample) < SAMPLE_ROWS:
                sample.append(row)
            if databases is not None and (most is None or row.index < most):
                databases.count(row)
            yield row

    reference = ReferenceRows.gather(kept())
    total = everything.count() if everything.source.path is not None else None
    if not sample:
        raise Refused("data_asks_nothing", path=everything.name)
    return reference, sample, total if most is None or total is None else min(most, total)


def _settings(
    options: argparse.Namespace, asked: _Asked, rows: SourceRows, files: ModelFiles | None, endpoint: Endpoint | None,
    corrector: Corrector | None,
) -> dict[str, Any]:  # fmt: skip
    """What decides on the candidates and their measures. The policy is none of it: it is applied last, to all rows."""
    return settings_of(
        options, plan=asked.plan, rows=rows, seed=asked.seed, files=files, endpoint=endpoint, dialect=asked.dialect,
        axis=options.axis, correction=None if corrector is None else corrector.account(), reward=asked.reward,
        embedding_model=options.embedding_model,
    )  # fmt: skip


def _measure(
    asked: _Asked, reference: ReferenceRows, dialect: str | None, databases: RowDatabases | None,
    options: argparse.Namespace,
) -> Measure:
    from pipeline.candidates.reward_functions import reward_function
    from pipeline.candidates.text_measures import measure_texts
    from pipeline.candidates.write_candidates import MeasuredRow

    function = reward_function(asked.reward) if asked.reward is not None else None
    by_database: Any = None
    if dialect is not None:
        from pipeline.sql.measure_sql import measure_sql

        by_database = measure_sql

    def measure(held: MeasuredRow) -> None:
        row = held.row
        measure_texts(row, held.candidates, reference.others(row.index, OTHERS))
        if by_database is not None and row.gold is not None:
            by_database(row.gold, held.candidates, None if databases is None else databases.of(row), dialect)
        if function is not None:
            function.measure(row, held.candidates)
            held.chosen_measures |= function.chosen_measures(row.gold)

    return measure


def _choice(options: argparse.Namespace, asked: _Asked) -> dict[str, Any]:
    """What the pairs of a finished run depend on besides its candidates."""
    policy = None if asked.policy is None else asked.policy.as_json()
    return {"policy": policy, "dedup": asked.dedup, "to": options.to}


# --- the run itself ---


def _choose_again(options: argparse.Namespace, asked: _Asked) -> int:
    from pipeline.candidates.run import Place, RunResult, account
    from pipeline.candidates.write_candidates import chooser, default_format, rows_again, write_run
    from pipeline.commands.generate_account import choose_text

    place = Place(asked.output)
    if not place.candidates.is_file():
        raise Refused("option_not_found", option="--choose-only", path=place.candidates)
    info = place.read_info() or {}
    if info.get("state") not in (None, "done"):
        raise Refused("run_unfinished", path=asked.output)
    rows, everything = _source(options, asked)
    held = rows_again(rows, place.candidates)
    first = next(iter(everything), None)
    if first is None:
        raise Refused("data_asks_nothing", path=everything.name)
    format = options.to or default_format(asked.output, everything.opened)
    try:
        with tempfile.TemporaryDirectory(dir=asked.output.parent, prefix=f".{asked.output.name}.") as folder:
            written = write_run(held, asked.output, format, chooser(asked.policy, asked.dedup), Path(folder))
    except OSError as failed:
        raise Refused("output_failed", path=asked.output, why=failed.strerror or failed) from None
    told = account(written)
    if info:
        place.write_info({**info, "account": told, "choice": _choice(options, asked)})
    result = RunResult("done", written, written.rows, written.rows)
    write_result(choose_text(result, asked.output, options))
    return EXIT_DONE
