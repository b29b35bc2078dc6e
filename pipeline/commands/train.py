"""`python -m pipeline train`: a recipe checked, launched and watched."""

from __future__ import annotations

import argparse
import codecs
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.commands.terminal import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    Progress,
    say,
    write_result,
)
from pipeline.refusal import Refused, Sentence

EXIT_PROBLEMS = 1
FOLLOW_SECONDS = 0.3  # between two looks at a run in the foreground


def add_parser(commands: Any) -> None:
    from pipeline.training.recipe import recipe_names

    parser = commands.add_parser(
        "train", help="launch SFT, DPO, KTO, a reward model, GRPO ... from a recipe, through accelerate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Checks a recipe, its data and this machine, then trains through accelerate launch. The run goes on"
                    "\nby itself: `python -m pipeline jobs` shows, follows, stops and resumes it.\nRecipes: "
                    + ", ".join(recipe_names()),
        epilog="examples:\n"
               "  python -m pipeline train dpo_lora --dry-run\n"
               "  python -m pipeline train dpo_lora --set model_name_or_path=./outputs/sft --set data=pairs.jsonl\n"
               "  python -m pipeline train dpo_full_zero3 --accelerate zero3 --set num_processes=2 --foreground\n"
               "  python -m pipeline train mine.yaml --set learning_rate=5e-6 --set output_dir=./outputs/dpo",
    )  # fmt: skip
    parser.add_argument("recipe", metavar="RECIPE", help="a name, or a file")
    parser.add_argument("--accelerate", metavar="NAME_OR_FILE",
                        help="how it is spread: a name of configs/accelerate, or an accelerate file")  # fmt: skip
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="changes",
                        help="a field of the recipe (repeatable)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true",
                        help="only the checks, what the trainer will see, memory, time and the command")  # fmt: skip
    parser.add_argument("--foreground", action="store_true",
                        help="follow the run until it ends; Ctrl-C stops it politely")  # fmt: skip
    parser.add_argument("--insist", action="store_true", help="start although the checks found errors")
    parser.add_argument("--export", metavar="KIND=DIR", action="append", default=[],
                        help="write it for another program instead of training: trl, llamafactory, script")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of the account on standard output")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns the exit status: 0 started, or in the foreground done; 1 the checks found errors, or the run failed; 2
    can't be started; 3 stopped."""
    from pipeline.training.recipe import parse_changes, read_recipe

    recipe = read_recipe(options.recipe).changed(parse_changes(options.changes))
    if options.export:
        return _export(options, recipe)
    return _dry_run(options, recipe) if options.dry_run else _train(options, recipe)


def _train(options: argparse.Namespace, recipe: Any) -> int:
    from pipeline.training.job_folder import COMMAND, read_status
    from pipeline.training.job_words import failure_said
    from pipeline.training.start_job import Cancelled, start_job

    with _interrupt_kept() as interrupted:
        try:
            started = start_job(
                recipe, accelerate=options.accelerate, insist=options.insist, note=_note(options.lang),
                cancel=interrupted, lang=options.lang,
            )  # fmt: skip
        except Cancelled:
            raise KeyboardInterrupt from None
    job = started.job
    place = {"job": job.id, "folder": str(job.folder), "output": str(job.output)}
    problems = _errors(started.report)
    for finding in problems:
        say("pipeline", f"{finding['code']} {finding['message']} {finding.get('fix') or ''}".strip())
    if started.refused:
        line = Sentence("train_refused", {"count": len(problems)}).said(options.lang)
        last_word(options, line)
        _account(options, {**place, "state": "refused", "report": started.report}, line)
        return EXIT_PROBLEMS
    command = job.path(COMMAND).read_text(encoding="utf-8").strip()
    if not options.foreground:
        line = Sentence("train_started", {"job": job.id, "folder": job.folder}).said(options.lang)
        state = read_status(job).state
        _account(options, {**place, "state": state, "command": command, "report": started.report}, line)
        return EXIT_DONE
    say("pipeline", Sentence("train_follows", {"job": job.id, "folder": job.folder}).said(options.lang))
    follow(job, options.lang)
    status = read_status(job)
    line = failure_said(status, options.lang)
    last_word(options, line)
    _account(options, {**place, "command": command, **status.as_json()}, line)
    return {"done": EXIT_DONE, "stopped": EXIT_INTERRUPTED}.get(status.state, EXIT_PROBLEMS)


@contextmanager
def _interrupt_kept() -> Iterator[threading.Event]:
    """Ctrl-C as usual, and an event that stays: an exception raised in the callbacks of an import or of the garbage
    collector is swallowed there."""
    interrupted = threading.Event()

    def stop(number: int, frame: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where the caller has it ignored
    if not usual or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def last_word(options: argparse.Namespace, line: str) -> None:
    """On standard error too where the account goes elsewhere: what stood there last may be a launcher's traceback."""
    if options.format == "json" or sys.stdout is None or not sys.stdout.isatty():
        say("pipeline", line)


def follow(job: Any, lang: str = "en") -> None:
    """Its log on standard error until it is over. The first Ctrl-C stops it politely, the second at once."""
    from pipeline.training.job_folder import LOG, read_status
    from pipeline.training.stop_job import stop_job

    place = 0
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a look may end within a character
    while True:
        try:
            over = not read_status(job).live
            with suppress(OSError):  # the log was removed, or nobody reads standard error any more: the run goes on
                with job.path(LOG).open("rb") as log:
                    log.seek(place)
                    new = log.read()
                place += len(new)
                if new and sys.stderr is not None:
                    sys.stderr.write(decoder.decode(new))
                    sys.stderr.flush()
            if over:
                return
            time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:
            say("pipeline", Sentence("train_stopping").said(lang))
            try:
                stop_job(job)
            except Refused:
                continue


def _dry_run(options: argparse.Namespace, recipe: Any) -> int:
    """Everything that is looked at before a start; nothing is left behind."""
    from pipeline.training.run_needs import estimate
    from pipeline.training.start_job import check, command_of, settle, spread_of, write_rows_of

    note = _note(options.lang)
    settled = settle(recipe, note)
    with tempfile.TemporaryDirectory(prefix="dpo-doctor-dry-run-") as made:
        folder = Path(made)
        spread = spread_of(settled.recipe, options.accelerate)
        (folder / "accelerate.yaml").write_text(spread.as_yaml(), encoding="utf-8")
        (folder / "recipe.yaml").write_text(settled.recipe.as_yaml(), encoding="utf-8")
        note("data")
        rows = write_rows_of(settled, folder, note)
        note("checks")
        files = (folder / "recipe.yaml", folder, folder / "accelerate.yaml")
        checked = check(*files, options.lang, format=options.format)
        command = command_of("{job}", "{job}/accelerate.yaml", spread)
    needs = estimate(settled.recipe, spread, rows.train, checked.report)
    if options.format == "json":
        shown = {"recipe": settled.recipe.as_yaml(), "accelerate": spread.as_yaml(), "command": command,
                 "rows": rows.as_json(), "report": checked.report,
                 "memory": needs and needs.needed.as_json(), "time": needs and needs.time.as_json()}  # fmt: skip
        write_result(json.dumps(shown, ensure_ascii=False, indent=1) + "\n")
    else:
        parts = {"recipe": settled.recipe.as_yaml(), "accelerate": spread.as_yaml(), "command": command}
        texts = [f"# {name}\n{text.rstrip()}\n" for name, text in parts.items()]
        if needs is not None:
            texts.insert(0, needs.as_text(options.lang))
        write_result("\n".join([checked.shown.decode("utf-8", errors="replace"), rows.as_text(options.lang), *texts]))
    return checked.status


def _export(options: argparse.Namespace, recipe: Any) -> int:
    from pipeline.training.hand_over import hand_over

    made = []
    for given in options.export:
        kind, equals, folder = given.partition("=")
        if not equals or not folder:
            raise Refused("export_form", given=given)
        made.append(hand_over(recipe, kind, Path(folder), accelerate=options.accelerate))
    if options.format == "json":
        write_result(json.dumps([one.as_json() for one in made], ensure_ascii=False, indent=1) + "\n")
    else:
        write_result("".join(one.as_text(options.lang) for one in made))
    return EXIT_DONE


def _account(options: argparse.Namespace, held: Mapping[str, Any], line: str) -> None:
    write_result(json.dumps(held, ensure_ascii=False, indent=1) + "\n" if options.format == "json" else line + "\n")


def _errors(report: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return [f for f in (report or {}).get("findings", ()) if f.get("severity") == "error"]


def _note(lang: str) -> Any:
    """Shows what is being done: one of the three words of start_job, or a line of the work itself."""
    progress = Progress("pipeline")
    known = {"demo": "train_demo", "data": "train_data", "checks": "train_checks"}

    def note(text: str) -> None:
        progress.show(Sentence(known[text]).said(lang) if text in known else text)

    return note
