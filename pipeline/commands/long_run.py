"""What commands that run for hours do alike: a model or a server opened, Ctrl-C and kills, one line for what fails."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.terminal import Progress, say
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.open_makers import ModelFiles
    from pipeline.candidates.run import Run, RunResult

SAMPLE_ROWS = 32  # rows that the prompt format is told by
_NO_MEMORY = ("out of memory", "can't allocate memory")  # as CUDA and the CPU say it


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


def open_endpoint(url: str, options: argparse.Namespace) -> Endpoint:
    from pipeline.candidates.endpoint import Endpoint, Price

    price = None
    if options.price_in is not None or options.price_out is not None:
        price = Price.given(f"{options.price_in or 0},{options.price_out or 0}")
    model = options.endpoint_model if url == options.model else None
    return Endpoint(url, model, key_env=options.api_key_env, price=price)


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


def run_safely(made: Run, options: argparse.Namespace, line: Progress) -> RunResult:
    """Runs; whatever a library raises is one line, and what was done is kept."""
    from pipeline.commands.generate_account import progress_line

    def tick(state: Mapping[str, Any]) -> None:
        if not made.shard.rank and line.due():
            line.show(progress_line(state, options.lang))

    made.progress.tick = tick
    try:
        return made(resume=options.resume, overwrite=options.overwrite)
    except (Refused, BrokenPipeError):
        raise
    except OSError as failed:
        raise Refused("run_failed", path=options.output, why=failed.strerror or failed) from None
    except MemoryError:
        raise Refused("run_out_of_memory", path=options.output) from None
    except Exception as failed:  # torch, tokenizers, drivers each have their own
        if any(words in str(failed).lower() for words in _NO_MEMORY):
            raise Refused("run_out_of_memory", path=options.output) from None
        said = " ".join(str(failed).split())[:200]
        raise Refused("run_failed", path=options.output, why=f"{type(failed).__name__}: {said}") from None
