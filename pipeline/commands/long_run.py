"""What commands that run for hours do alike: a model or a server opened, Ctrl-C and kills, one line for what fails."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.terminal import Progress, say, whole_number
from pipeline.free_memory import lacked_memory
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.candidate import SourceRow
    from pipeline.candidates.correction import Corrector
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.open_makers import ModelFiles, OpenMakers
    from pipeline.candidates.plan import Plan
    from pipeline.candidates.reference_rows import ReferenceRows
    from pipeline.candidates.run import Run, RunResult
    from pipeline.candidates.source_rows import SourceRows

SAMPLE_ROWS = 32  # rows that the prompt format is told by


Add = Callable[..., Any]
"""`add_argument` of a parser or of a group."""


def add_files(add: Add) -> None:
    """What belongs to --model."""
    add("--adapter", metavar="PATH", help="LoRA to put on the model")
    add("--base", metavar="PATH", help="of a model that is an adapter itself; default: what its files name")
    add("--tokenizer", metavar="PATH", help="tokenizer given apart from the weights")
    add("--model-config", metavar="FILE", help="config.json given apart from the weights")


def add_device(add: Add) -> None:
    """Where a model of one's own runs."""
    add("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights")
    add("--batch-size", metavar="N", help="answers at once; default: found from free memory")


def add_server(add: Add) -> None:
    """How a model behind HTTP is asked."""
    add("--endpoint-model", metavar="NAME", help="which of a server's models, such as a LoRA it serves")
    add("--concurrency", metavar="N", help="requests to a server at once")
    add("--price-in", metavar="P", help="of a million tokens of prompts")
    add("--price-out", metavar="P", help="of a million tokens of answers")
    add("--api-key-env", metavar="NAME", help="environment variable that holds the server's key")


def add_course(add: Add) -> None:
    """Which rows a run takes, how it begins, and what it prints."""
    add("--split", metavar="NAME", default="train", help="of a data set of the Hub; default train")
    add("--max-samples", metavar="N", help="only the first N rows")
    add("--resume", action="store_true", help="go on where an interrupted run ended")
    add("--overwrite", action="store_true", help="replace what an earlier run left at OUTPUT")
    add("--format", choices=("text", "json"), default="text", help="of the account on standard output")
    add("--lang", choices=("en", "zh"), default="en")


def is_no_input(output: Path, given: str, data: Path | None) -> None:
    """Raises Refused where a run at `output` would write over its own data. given: as --data was given."""
    from pipeline.candidates.run import Place

    for path in Place(output).files:
        try:
            same = path.exists() and data is not None and os.path.samefile(data, path)
        except OSError as failed:  # a name too long once something is added to it
            raise Refused("output_failed", path=path, why=failed.strerror or failed) from None
        if same:
            raise Refused("output_is_input", path=output, option="--data", given=given)


def find_files(model: str, adapter: str | None, options: argparse.Namespace) -> ModelFiles:
    """--tokenizer and --model-config belong to the run's own model, and to others that lack what they give."""
    from pipeline.candidates.open_makers import find_model

    return find_model(
        model, adapter=adapter, base=options.base, tokenizer=options.tokenizer, model_config=options.model_config
    )


def open_makers(
    options: argparse.Namespace, *, seed: int, max_new_tokens: int, reference: ReferenceRows,
    sample: Sequence[SourceRow], files: ModelFiles | None, endpoint: Endpoint | None, device: str,
    note: Callable[[str], None], corrector: Corrector | None = None, reward: str | None = None,
    embedding: str | None = None,
) -> OpenMakers:  # fmt: skip
    """The makers of a run, with what both commands have options for."""
    from pipeline.candidates.open_makers import OpenMakers

    return OpenMakers(
        seed, reference, sample, files, lambda model, adapter: find_files(model, adapter, options), endpoint,
        lambda url: open_endpoint(url, options), corrector, device=device, dtype=options.dtype,
        prompt_format=options.prompt_format, system=options.system, thinking=options.thinking,
        max_new_tokens=max_new_tokens,
        batch_size=whole_number("--batch-size", options.batch_size, 1, 10**6) if options.batch_size else None,
        concurrency=whole_number("--concurrency", options.concurrency, 1, 10**6) if options.concurrency else None,
        reward=reward, embedding=embedding, lang=options.lang, note=note,
    )  # fmt: skip


def own_endpoint(options: argparse.Namespace) -> Endpoint:
    """--model where it is an address. Raises Refused for an adapter put on it."""
    if options.adapter is not None:
        raise Refused("adapter_at_endpoint", path=options.adapter)
    return open_endpoint(options.model, options)


def open_endpoint(url: str, options: argparse.Namespace) -> Endpoint:
    from pipeline.candidates.endpoint import Endpoint, Price

    price = None
    if options.price_in is not None or options.price_out is not None:
        price = Price.given(f"{options.price_in or 0},{options.price_out or 0}")
    model = options.endpoint_model if url == options.model else None
    return Endpoint(url, model, key_env=options.api_key_env, price=price)


def settings_of(
    options: argparse.Namespace, *, plan: Plan, rows: SourceRows, seed: int, files: ModelFiles | None,
    endpoint: Endpoint | None, dialect: str | None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """What decides on the answers of a run, which one that goes on must not change. more: of the command's own."""
    strategies = [
        {"name": one.name, "kind": one.kind, "candidates": one.candidates, "first": one.first, "model": one.model,
         "adapter": one.adapter, **one.parameters}
        for one in plan.strategies
    ]  # fmt: skip
    held = {
        "data": rows.identity(), "from": options.source_format, "columns": options.column, "split": options.split,
        "strategies": strategies, "seed": seed, "model": options.model, "adapter": options.adapter,
        "fingerprint": None if files is None else files.fingerprint(),
        "endpoint": None if endpoint is None else [endpoint.url, endpoint.model], "tokenizer": options.tokenizer,
        "dtype": options.dtype, "prompt_format": options.prompt_format, "system": options.system,
        "thinking": options.thinking, "dialect": dialect, "database": options.database, **more,
    }  # fmt: skip
    return {name: value for name, value in held.items() if value is not None and value != [] and value is not False}


@contextmanager
def stoppable(lang: str, rank: int) -> Iterator[threading.Event]:
    """An event that Ctrl-C and a polite kill set; a second Ctrl-C is an interrupt as usual."""
    cancel = threading.Event()

    def stop(number: int, frame: object) -> None:
        if cancel.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not cancel.is_set() and not rank:
            say("pipeline", Sentence("run_stopping", {}, "candidates").said(lang))
        cancel.set()

    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped_entry(result: RunResult) -> str:
    """The entry of refusals.yaml that says how a run ended which isn't done, of `rows` and `path`."""
    if result.outcome == "failed":
        return "run_part_failed"
    return "run_stopped" if result.rows else "run_stopped_early"


@contextmanager
def failing_in_one_line(path: object, *, goes_on: str = "") -> Iterator[None]:
    """Whatever a library raises becomes Refused, with the path of the output it happened to. goes_on: `_again` for a
    command that goes on where it was by itself, without --resume; `_anew` for one that begins again."""
    try:
        yield
    except (Refused, BrokenPipeError):
        raise
    except OSError as failed:
        raise Refused(f"run_failed{goes_on}", path=path, why=failed.strerror or failed) from None
    except Exception as failed:  # torch, tokenizers, drivers each have their own
        raise library_failed(failed, path, goes_on) from None


def library_failed(failed: Exception, path: object, goes_on: str = "") -> Refused:
    """What a library raised, in one line; what is Refused stays so. As failing_in_one_line."""
    if isinstance(failed, Refused):
        return failed
    if lacked_memory(failed):
        return Refused(f"run_out_of_memory{goes_on}", path=path)
    said = " ".join(str(failed).split())[:200]
    return Refused(f"run_failed{goes_on}", path=path, why=f"{type(failed).__name__}: {said}")


def run_safely(made: Run, options: argparse.Namespace, line: Progress) -> RunResult:
    """Runs; whatever a library raises is one line, and what was done is kept."""
    from pipeline.commands.generate_account import progress_line

    def tick(state: Mapping[str, Any]) -> None:
        if not made.shard.rank and line.due():
            line.show(progress_line(state, options.lang))

    made.progress.tick = tick
    with failing_in_one_line(options.output):
        return made(resume=options.resume, overwrite=options.overwrite)
