"""`python -m pipeline replay`: bad cases answered by a base and by adapters on it; what is fixed, what is broken."""

from __future__ import annotations

import argparse
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.demo_given import without_demo_name
from pipeline.commands.long_run import add_device, library_failed, stoppable
from pipeline.commands.terminal import EXIT_INTERRUPTED, EXIT_UNUSABLE, Progress, say, whole_number, write_result
from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    from pipeline.candidates.row_databases import RowDatabases
    from pipeline.evaluation.adapters_on_base import ModelsOnBase
    from pipeline.evaluation.ask_diagnosis import Asked
    from pipeline.evaluation.replay import ReplayDecoding, Unusable
    from pipeline.evaluation.replay_cases import ReplayCases
    from pipeline.evaluation.results import ReplayResult, ReplaySummary

SUFFIXES = (".xlsx", ".json")
_RESULT, _ROWS = ".replay.json", ".rows.jsonl"
_WORDS = "evaluation"
_SHOWN = 60  # characters of a text in a line
_ROW_SHARE = 0.7  # of the bytes of a result that rows may take
_COLUMNS = ("good", "bad", "fixed", "broken", "still_bad", "right", "wrong", "repeats", "unended", "empty", "failed",
            "unchecked")  # fmt: skip


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "replay", help="bad cases through a base and adapters: fixed, broken, still bad",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Answers every case with the base and with each adapter on it (the base is loaded once), five "
                    "beams and nothing\ndrawn unless asked otherwise, and says what became of each case. Cases are "
                    "rows of text and standard answer:\n.json .jsonl .csv .tsv .parquet .xlsx. With --output FILE.xlsx"
                    " the whole result stands beside it in\nFILE.replay.json.",
        epilog="examples:\n"
               "  python -m pipeline replay --model ./outputs/sft --adapter ./outputs/dpo --cases bad_cases.xlsx "
               "--output replay.xlsx\n"
               "  python -m pipeline replay --model ./base --adapter ./run/checkpoint-100 --adapter "
               "./run/checkpoint-200 --cases cases.json --check repetition --output replay.json\n"
               "  python -m pipeline replay --model ./base --also ./merged --cases sql.jsonl --database shop.sqlite "
               "--greedy --output replay.xlsx --lang zh",
    )  # fmt: skip
    add = parser.add_argument
    add("--model", required=True, metavar="PATH", help="the base that changes are told against; an adapter stands on "
                                                       "what its files name")  # fmt: skip
    add("--adapter", metavar="PATH", action="append", default=[], help="on the base (repeatable)")
    add("--also", metavar="PATH", action="append", default=[], help="a whole model beside it (repeatable)")
    add("--cases", required=True, metavar="FILE", help="rows of text and standard answer")
    add("--output", required=True, metavar="FILE", help="FILE.xlsx or FILE.json")
    add("--bundle", metavar="NAME", help="a copy of the whole result goes into this bundle")
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a replay can be told beside its models, cases and output."""
    usual = load_config("evaluation.yaml")["replay"]
    add = parser.add_argument
    add("--base", metavar="PATH", help="of a --model that is an adapter itself; default: what its files name")
    add("--tokenizer", metavar="PATH", help="tokenizer given apart from the weights of --model")
    add("--model-config", metavar="FILE", help="config.json given apart from the weights of --model")
    add_device(add)
    how = parser.add_argument_group("how answers are made")
    add = how.add_argument
    add("--greedy", action="store_true", help="the likeliest token each time, instead of beams")
    add("--num-beams", metavar="N", help=f"default {usual['num_beams']}")
    add("--temperature", metavar="T", help="above 0: drawn instead of searched; default 0")
    add("--top-p", metavar="P")
    add("--top-k", metavar="K")
    add("--repetition-penalty", metavar="P")
    add("--no-repeat-ngram-size", metavar="N")
    add("--length-penalty", metavar="P", help="of beams")
    add("--max-new-tokens", metavar="N", help=f"default {usual['max_new_tokens']}")
    add("--seed", metavar="N", default="0")
    add("--system", metavar="TEXT", help="system message for cases without their own")
    add("--prompt-format", metavar="NAME", default="auto", help="as of generate; each model's own by default")
    add("--thinking", action="store_true", help="let a reasoning model think")
    judged = parser.add_argument_group("how they are judged")
    add = judged.add_argument
    add("--check", metavar="CHECK", default="auto", choices=("auto", *_checks()),
        help="auto (by the standard answer: a query, a number, a word or two; of longer ones only loops, missing ends "
             "and emptiness are bad), " + ", ".join(_checks()) + "; a column check goes before")  # fmt: skip
    add("--pattern", metavar="PATTERN", help="of --check pattern; with a group it says where the result stands")
    add("--similarity", metavar="S", help=f"from which --check similarity says right; default "
                                          f"{usual['similarity_least']}")  # fmt: skip
    add("--database", metavar="PATH", help="SQLite file to execute SQL on, read-only, or a folder of them by db_id")
    add("--dialect", metavar="NAME", default="sqlite", help="of the SQL, as sqlglot names it")
    rest = parser.add_argument_group("cases and output")
    add = rest.add_argument
    add("--column", metavar="NAME=COLUMN", action="append", default=[],
        help="what a column is: text, standard_answer, category, check, pattern, system (repeatable)")  # fmt: skip
    add("--max-samples", metavar="N", help="only the first N cases")
    add("--progress", metavar="FILE", help="how far it is, as JSON, for another program")
    add("--overwrite", action="store_true", help="replace a file in the way, and use no answers of a run that stopped")
    add("--format", choices=("text", "json"), default="text", help="of the account on standard output")
    add("--lang", choices=("en", "zh"), default="en")


def _checks() -> tuple[str, ...]:
    from pipeline.evaluation.replay_cases import CHECKS

    return CHECKS


def run(options: argparse.Namespace) -> int:
    """Returns the exit status: 0 done and nothing wrong, 1 the diagnosis found errors (cases were broken), 2 can't be
    used, 3 interrupted with what there is written."""
    from pipeline.evaluation.bundles import keep_replay, open_bundle

    output = Path(options.output)
    asked = Path(without_demo_name(options.cases, "data"))
    can_be_output(output, asked)
    decoding = decoding_of(options)
    cases = cases_of(options, asked)
    bundle = open_bundle(options.bundle) if options.bundle else None
    models, unusable = models_of(options, options.model, options.adapter, options.also)
    written: dict[str, Path] = {}
    status = replay_and_write(
        options, models, cases, decoding, output, bundle=bundle.name if bundle is not None else "", written=written,
        unusable=unusable,
    )  # fmt: skip
    if bundle is not None and status in (0, 1):
        place = keep_replay(bundle, written["result"])
        say("pipeline", Sentence("bundle/kept", {"path": place}, _WORDS).said(options.lang))
    return status


def replay_and_write(
    options: argparse.Namespace, models: ModelsOnBase, cases: ReplayCases, decoding: ReplayDecoding, output: Path, *,
    bundle: str = "", written: dict[str, Path] | None = None, unusable: Sequence[Unusable] = (),
) -> int:  # fmt: skip
    """Runs, writes and says it. written: takes the files written, by `output` and `result`. unusable: models that
    can't be replayed. As `run`."""
    from pipeline.evaluation.replay import Replay
    from pipeline.evaluation.replay_answers import ANSWERS, KeptAnswers
    from pipeline.evaluation.run_progress_file import ProgressFile

    _may_be_replaced(output, options)
    lang, line = options.lang, Progress("pipeline", in_files=True)
    progress = ProgressFile(Path(options.progress) if options.progress else None, of="answers")
    _checked_dialect(options.dialect)
    judge = judge_of(options, cases)
    for remark in models.remarks:
        say("pipeline", remark.said(lang))
    for placed in models.placed.values():
        if placed.way == "apart" and placed.adapter is not None:
            params = {"name": placed.name, "why": Sentence(placed.why, {}, _WORDS)}
            say("pipeline", Sentence("replay/apart", params, _WORDS).said(lang))
    for lacking in unusable:
        params = {"model": lacking.name, "why": lacking.why}
        say("pipeline", Sentence("replay/goes_on", params, _WORDS).said(lang))
    all_answers = len(models.names) * len(cases.cases)
    order = {name: number for number, name in enumerate(models.order)}

    def told(stage: str, model: str, done: int, total: int) -> None:
        progress.at(stage, order[model] * total + done, all_answers)
        if line.due():
            line.show(Sentence(f"replay/progress_{stage}", {"model": model, "done": f"{done:,}", "total": f"{total:,}"},
                               _WORDS).said(lang))  # fmt: skip

    kept = KeptAnswers(_beside(output, ANSWERS), overwrite=options.overwrite)
    with stoppable(lang, 0) as cancel:
        replay = Replay(
            models, cases, judge, decoding, bundle=bundle, told=told, kept=kept, dtype=options.dtype,
            note=lambda text: say("pipeline", text), lang=lang, unusable=unusable,
        )  # fmt: skip
        failed: Exception | None = None
        try:
            replay.run(cancel=cancel)
        except KeyboardInterrupt:
            replay.interrupted = True
        except Exception as stopped:  # a model that can't be loaded, torch, drivers
            if not replay.rows_made:
                raise library_failed(stopped, options.output, "_again") from None
            failed = stopped
        finally:
            line.clear()
            kept.close()
        if not replay.rows_made:
            raise KeyboardInterrupt
        progress.at("writing", all_answers, all_answers)
        result = replay.result()
        result, places = _write(result, output, options)
    if not replay.interrupted and failed is None and not replay.unmeasured:
        kept.drop()
    if written is not None:
        written.update(places)
    asked = _diagnosed(places["result"], options)
    _account(options, result, places, asked, cases)
    if failed is not None:
        why = library_failed(failed, options.output, "_again").said(lang)
        say("pipeline", Sentence("replay/failed", {"rows": f"{replay.rows_made:,}", "why": why}, _WORDS).said(lang))
        return EXIT_UNUSABLE if isinstance(failed, Refused) else EXIT_INTERRUPTED
    if replay.interrupted:
        say("pipeline", Sentence("replay/interrupted", {"rows": f"{replay.rows_made:,}"}, _WORDS).said(lang))
        return EXIT_INTERRUPTED
    if replay.unmeasured:
        params = {"count": len(replay.unmeasured), "of": len(result.models)}
        say("pipeline", Sentence("replay/incomplete", params, _WORDS).said(lang))
        return EXIT_INTERRUPTED
    if asked is not None and asked.status in (0, 1):
        return asked.status
    return int(any(one.broken for one in result.summary))


# --- what was asked ---


def _beside(output: Path, ending: str) -> Path:
    return output.with_name(output.stem + ending)


def can_be_output(output: Path, cases: Path) -> None:
    """Whether a replay of these cases may be written there, with what stands beside it. Raises Refused."""
    from pipeline.evaluation.replay_answers import ANSWERS

    if output.suffix.lower() not in SUFFIXES:
        raise Refused("replay_suffix", path=output)
    try:
        if not output.parent.is_dir():
            raise Refused("output_no_folder", path=output, folder=output.parent)
        written = [output, *(_beside(output, ending) for ending in (_RESULT, _ROWS, ANSWERS))]
        if cases.exists() and any(one.exists() and os.path.samefile(one, cases) for one in written):
            raise Refused("output_is_input", path=output, option="--cases", given=cases)
    except (OSError, ValueError) as failed:
        raise Refused("output_failed", path=output, why=getattr(failed, "strerror", None) or failed) from None


def _may_be_replaced(output: Path, options: argparse.Namespace) -> None:
    """Raises Refused for a file that is none of a former replay, but with --overwrite."""
    from pipeline.commands.judged_result import holds_result
    from pipeline.evaluation.place_to_write import in_the_way
    from pipeline.evaluation.replay_workbook import is_replay_workbook

    sheet = output.suffix.lower() == ".xlsx"
    for path in (output, _beside(output, _RESULT)) if sheet else (output,):
        if options.overwrite or not path.is_file() or in_the_way(path):  # what can't be replaced is written elsewhere
            continue
        ours = is_replay_workbook(path) if path.suffix.lower() == ".xlsx" else holds_result(path, "replay")
        if not ours:
            raise Refused("replay_output_in_the_way", path=path)


def decoding_of(options: argparse.Namespace) -> ReplayDecoding:
    """Raises Refused."""
    from pipeline.candidates.strategies import run_number
    from pipeline.evaluation.replay import ReplayDecoding

    def number(name: str) -> Any:
        text = getattr(options, name)
        return None if text is None else run_number("--" + name.replace("_", "-"), name, text)

    beams = options.num_beams
    more = ("top_p", "top_k", "repetition_penalty", "no_repeat_ngram_size", "length_penalty")
    tokens = options.max_new_tokens
    return ReplayDecoding.of(
        greedy=options.greedy, num_beams=whole_number("--num-beams", beams, 1, 256) if beams else None,
        temperature=number("temperature") or 0.0,
        max_new_tokens=whole_number("--max-new-tokens", tokens, 1, 10**6) if tokens else None,
        more={name: number(name) for name in more},
        seed=whole_number("--seed", options.seed, 0, 2**53, "not_a_seed"), prompt_format=options.prompt_format,
        system=options.system, thinking=options.thinking,
        batch_size=whole_number("--batch-size", options.batch_size, 1, 10**6) if options.batch_size else None,
    )  # fmt: skip


def cases_of(options: argparse.Namespace, path: Path) -> ReplayCases:
    """Raises Refused."""
    from pipeline.evaluation.replay_cases import columns_of_cases, read_cases

    most = whole_number("--max-samples", options.max_samples, 1, 2**40) if options.max_samples else None
    return read_cases(path, columns=columns_of_cases(options.column), most=most)


def judge_of(options: argparse.Namespace, cases: ReplayCases) -> Any:
    """Raises Refused."""
    from pipeline.candidates.row_databases import RowDatabases
    from pipeline.evaluation.replay_judging import CaseJudge

    least = None
    if options.similarity is not None:
        try:
            least = float(options.similarity)
        except ValueError:
            least = -1.0
        if not 0 <= least <= 1:
            raise Refused("replay_similarity", value=options.similarity)
    databases: RowDatabases | None = None
    if options.database:
        databases = RowDatabases(options.database)
        for case in cases.cases:
            databases.count(case.row)
        databases.check()
    return CaseJudge(
        check=options.check, pattern=options.pattern or "", least=least, databases=databases, dialect=options.dialect
    )


def models_of(
    options: argparse.Namespace, model: str, adapters: Sequence[str], also: Sequence[str]
) -> tuple[ModelsOnBase, tuple[Unusable, ...]]:  # fmt: skip
    """Those that can be replayed, and those that are there and can't be. Nothing is loaded yet. Raises Refused for the
    base, where none of the others can be, and for a path that leads nowhere."""
    from pipeline.candidates.open_makers import default_device, find_model
    from pipeline.checkpoint import open_checkpoint
    from pipeline.evaluation.adapters_on_base import ModelsOnBase, short_names
    from pipeline.evaluation.replay import Unusable

    found = find_model(
        without_demo_name(model, "model"), base=options.base, tokenizer=options.tokenizer,
        model_config=options.model_config,
    )  # fmt: skip
    others = [found.adapter] if found.adapter is not None else []
    others += [open_checkpoint(without_demo_name(path, "model")) for path in (*adapters, *also)]
    names = short_names([found.checkpoint.given, *(one.given for one in others)])

    def placed(places: Sequence[int]) -> ModelsOnBase:
        return ModelsOnBase(
            found.checkpoint, [others[at - 1] for at in places], names=[names[0], *(names[at] for at in places)],
            device=default_device(options.device), dtype=options.dtype, at_once=False,
            note=lambda text: say("pipeline", text),
        )  # fmt: skip

    unusable: dict[int, Unusable] = {}
    for at, one in enumerate(others, 1):
        try:
            placed([at])
        except Refused as reason:
            role: Any = "adapter" if one.kind == "adapter" else "after"
            unusable[at] = Unusable(at, names[at], one.given, role, reason.sentence)
            if len(others) == 1 or not os.path.exists(one.given):
                raise
    if others and len(unusable) == len(others):
        raise Refused("replay_none_usable", count=len(others), why=unusable[1].why)
    return placed([at for at in range(1, len(names)) if at not in unusable]), tuple(unusable.values())


def _checked_dialect(name: str) -> None:
    from pipeline.sql.parse_sql import dialect_named

    dialect_named(name)


# --- what is written ---


def _write(
    result: ReplayResult, output: Path, options: argparse.Namespace
) -> tuple[ReplayResult, dict[str, Path]]:  # fmt: skip
    """The result as it was written, and where. Raises Refused where nothing can be written anywhere."""
    from pipeline.evaluation.place_to_write import write_where_possible
    from pipeline.evaluation.replay_workbook import write_workbook
    from pipeline.evaluation.results import MOST_BYTES, write_result_file

    sheet = output.suffix.lower() == ".xlsx"
    held = result
    bytes_in_all = sum(map(len, _row_lines(result))) * 1.2  # indented in the result
    try:
        if bytes_in_all > _ROW_SHARE * MOST_BYTES:
            share, rows = _ROW_SHARE * MOST_BYTES / bytes_in_all, _place_of_rows(output)
            held = replace(result, rows=result.rows[: int(len(result.rows) * share)], rows_file=rows.name)
            with written_whole(rows) as temporary, open(temporary, "wb") as file:
                file.writelines(_row_lines(result))
        wanted = _beside(output, _RESULT) if sheet else output
        place, why = write_where_possible(wanted, lambda path: write_result_file(held, path))
        _told_elsewhere(wanted, place, why, options.lang)
        places = {"result": place, "output": place}
        if sheet:
            rows_in = held.rows_file or place.name
            book, why = write_where_possible(
                output, lambda path: write_workbook(result, path, lang=options.lang, whole_in=rows_in)
            )
            _told_elsewhere(output, book, why, options.lang)
            places["output"] = book
    except OSError as failed:
        raise Refused("output_failed", path=output, why=failed.strerror or failed) from None
    return held, places


def _place_of_rows(output: Path) -> Path:
    """Where all rows of a large result go: nothing is there, or rows of a former replay."""
    names = [_ROWS, *(f"-{number}{_ROWS}" for number in range(2, 100))]
    places = [_beside(output, name) for name in names]
    return next((path for path in places if not os.path.lexists(path) or _holds_rows(path)), places[0])


def _holds_rows(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            row = json.loads(file.readline(1 << 24))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"case", "model", "answer", "status"} <= set(row)


def _row_lines(result: ReplayResult) -> Iterator[bytes]:
    from pipeline.evaluation.results import to_json

    for row in result.rows:
        line = json.dumps(to_json(row), ensure_ascii=False, allow_nan=False) + "\n"
        yield line.encode("utf-8", errors="replace")


def _told_elsewhere(path: Path, instead: Path, why: str, lang: str) -> None:
    if not why:
        return
    known = load_config(f"words/{lang}/{_WORDS}.yaml")["replay"]["in_the_way"]
    params = {"path": path, "why": known.get(why, why), "instead": instead}
    say("pipeline", Sentence("replay/written_elsewhere", params, _WORDS).said(lang))


def _diagnosed(path: Path, options: argparse.Namespace) -> Asked | None:
    from pipeline.evaluation.ask_diagnosis import ask_diagnosis

    try:
        return ask_diagnosis(path, lang=options.lang, format="text")
    except Refused as reason:
        say("pipeline", reason.said(options.lang))
        return None


# --- what is said ---


def _account(
    options: argparse.Namespace, result: ReplayResult, places: Mapping[str, Path], asked: Asked | None,
    cases: ReplayCases,
) -> None:  # fmt: skip
    from pipeline.evaluation.results import to_json

    if options.format == "json":
        shown = {**to_json(result), "output": str(places["output"]), "result_file": str(places["result"]),
                 "report": asked.report if asked is not None else None}  # fmt: skip
        write_result(json.dumps(shown, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        return
    text = replay_text(result, options.lang, cases=cases, path=places["output"])
    for place in dict.fromkeys(places.values()):
        text += Sentence("replay/written", {"path": place}, _WORDS).said(options.lang) + "\n"
    if asked is not None:
        text += "\n" + asked.shown.decode("utf-8", errors="replace")
    write_result(text)


def replay_text(
    result: ReplayResult, lang: str, *, cases: ReplayCases | None = None, path: Path | None = None
) -> str:  # fmt: skip
    """The figures for a terminal, the regressions first among the cases."""
    from pipeline.evaluation.format_of_first import formats_said
    from pipeline.evaluation.replay import listed_first
    from pipeline.evaluation.replay_cases import left_out_said, unmeasured_said

    words = load_config(f"words/{lang}/{_WORDS}.yaml")
    book = words["replay_workbook"]

    def said(entry: str, **params: Any) -> str:
        return Sentence(f"replay/{entry}", params, _WORDS).said(lang)

    decoding = Sentence(f"replay/decoding/{result.decoding['strategy']}", result.decoding, _WORDS)
    lines = [said("head", cases=f"{result.cases:,}", models=len(result.models), decoding=decoding)]
    checks = ", ".join(f"{book['checks'].get(k, k)} {n}" for k, n in result.decoding.get("checks", {}).items())
    lines.append(said("checks", checks=checks))
    if formats := result.decoding.get("prompt_format"):
        lines.append(said("asked_in", formats=formats_said(formats)))
        if len(set(formats.values())) > 1:
            lines.append(Sentence("prompt_formats_differ", {}, _WORDS).said(lang))
    lines += [str(remark.get(lang, "")) for remark in result.decoding.get("remarks") or ()]
    if reused := result.decoding.get("reused"):
        lines.append(said("reused", count=f"{sum(reused.values()):,}", of=f"{len(result.rows):,}"))
    if cases is not None and cases.columns:
        lines.append(said("columns", columns=", ".join(f"{name} = {what}" for name, what in cases.columns.items())))
    if result.left_out:
        why = ", ".join(f"{left_out_said(reason, lang)} {count}" for reason, count in result.left_out.items())
        lines.append(said("left_out", count=f"{sum(result.left_out.values()):,}", why=why))
    lines += ["", *_table(result, book)]
    lines += unmeasured_said(result.unmeasured, result.answered, result.cases, lang)
    base = result.models[0].name
    for one in result.summary:
        if one.change is not None:
            lines += ["", said(one.change.verdict, model=one.model, base=base, fixed=one.fixed, broken=one.broken)]
            if one.change.needed:
                lines.append(said("needed", needed=f"{one.change.needed:,}"))
    broken = [row for row in listed_first(result.rows) if row.change == "broken"]
    if broken:
        most = int(load_config("evaluation.yaml")["replay"]["shown_regressions"])
        lines += ["", said("regressions", base=base)]
        lines += [
            "  " + said("regression", case=row.case + 1, model=row.model, status=book["statuses"][row.status],
                        text=_short(row.text), answer=_short(row.answer))
            for row in broken[:most]
        ]  # fmt: skip
        if len(broken) > most:
            lines.append("  " + said("more_regressions", count=f"{len(broken) - most:,}", path=path or ""))
    return "\n".join(lines) + "\n\n"


def _table(result: ReplayResult, book: Mapping[str, Any]) -> list[str]:
    named = book["columns"]
    shown = [name for name in _COLUMNS if name in ("good", "bad", "fixed", "broken", "still_bad")
             or any(getattr(one, name) for one in result.summary)]  # fmt: skip
    grid = [[named["model"], *(named[name] for name in shown)]]
    for one in result.summary:
        grid.append([one.model, *(_figure(one, name, result.models[0].name) for name in shown)])
    widths = [max(_wide(row[place]) for row in grid) for place in range(len(grid[0]))]
    return [
        "  ".join([_padded(row[0], widths[0], left=True), *(map(_padded, row[1:], widths[1:]))]) for row in grid
    ]


def _figure(one: ReplaySummary, name: str, base: str) -> str:
    return "-" if one.model == base and name in ("fixed", "broken", "still_bad") else f"{getattr(one, name):,}"


def _wide(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _padded(text: str, width: int, left: bool = False) -> str:
    gap = " " * (width - _wide(text))
    return text + gap if left else gap + text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
