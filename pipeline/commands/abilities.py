"""`python -m pipeline abilities`: what a model could do before and what it can do after."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.demo_given import without_demo_name
from pipeline.commands.judged_result import holds_result, say_judged
from pipeline.commands.long_run import add_device, failing_in_one_line, stoppable
from pipeline.commands.named_model import name_and_path
from pipeline.commands.terminal import EXIT_INTERRUPTED, Progress, say, whole_number
from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.evaluation.abilities import Abilities
    from pipeline.evaluation.adapters_on_base import ModelsOnBase



def add_parser(commands: Any) -> None:
    from pipeline.evaluation.ability_items import ability_names

    usual = load_config("evaluation.yaml")["abilities"]
    parser = commands.add_parser(
        "abilities", help="what a model can still do: kept, lost, gained",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Asks the same questions before and after: a small built-in set in English and Chinese, your own, "
                    "and tasks of\nlm-evaluation-harness where it is installed. Options are chosen by likelihood, so "
                    "that models that follow no\ninstruction can be measured too. Where the model before is no better "
                    "than guessing nothing can be told. Adapters\nshare one base in memory.",
        epilog="examples:\n"
               "  python -m pipeline abilities --before ./outputs/sft --after ./outputs/dpo\n"
               "  python -m pipeline abilities --before ./base --after ./run/checkpoint-100 --after "
               "./run/checkpoint-200 --abilities arithmetic --abilities reading --output kept.json\n"
               "  python -m pipeline abilities --before demo:healthy_decoder --after demo:undertrained_decoder --items "
               "own_questions.jsonl\n"
               "  python -m pipeline abilities --before ./outputs/sft --after ./outputs/dpo --abilities none --lm-eval "
               "arc_easy --lm-eval my_task --lm-eval-folder ./tasks\n"
               "rows of --items: question, options, answer; or question, answer. A column category names the ability.\n"
               "exit status: 0 nothing wrong, 1 an error found (abilities lost), 2 can't be used, 3 interrupted with "
               "what was done saved",
    )  # fmt: skip
    add = parser.add_argument
    add("--before", required=True, metavar="[NAME=]PATH", help="checkpoint or adapter")
    add("--after", required=True, action="append", metavar="[NAME=]PATH", help="the same (repeatable)")
    add("--output", metavar="RESULT.json", help="default: AFTER.abilities.json in the working folder; rows beside it")
    what = parser.add_argument_group("what is asked")
    add = what.add_argument
    add("--abilities", metavar="NAME", action="append", default=[],
        help=f"of the built-in set (repeatable): {', '.join(ability_names())}; none: only --items and --lm-eval; "
             "default: all")  # fmt: skip
    add("--items", metavar="FILE", action="append", default=[], help="questions of your own beside them (repeatable)")
    add("--lm-eval", metavar="TASK", action="append", default=[],
        help="a task of lm-evaluation-harness, where that is installed: name or YAML file (repeatable)")  # fmt: skip
    add("--lm-eval-folder", metavar="FOLDER", help="where tasks of your own for it lie (its --include_path)")
    add("--max-samples", metavar="N", help="only the first N items of each ability")
    how = parser.add_argument_group("how it is asked")
    add = how.add_argument
    add("--base", metavar="PATH", help="of models that are adapters; default: what their files name")
    add("--max-new-tokens", metavar="N", help=f"of written answers; default {usual['max_new_tokens']}")
    add("--system", metavar="TEXT", help="system message for items without their own")
    add("--prompt-format", metavar="NAME", default="auto", help="as of generate; each model's chat template by default")
    add("--thinking", action="store_true", help="let a reasoning model think")
    add_device(add)
    run_group = parser.add_argument_group("run")
    add = run_group.add_argument
    add("--seed", metavar="N", default="0", help="taken for uniformity with other commands; nothing here is drawn")
    add("--progress", metavar="FILE", help="how far it is, as JSON, for another program")
    add("--overwrite", action="store_true", help="replace a file in the way")
    add("--format", choices=("text", "json"), default="text", help="of the account on standard output")
    add("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what became of each ability and what is judged of it. Returns the exit status."""
    from pipeline.evaluation.run_progress_file import ProgressFile

    line = Progress("pipeline", in_files=True)
    held = ProgressFile(Path(options.progress) if options.progress else None, of="items")

    def tick(stage: str, done: int, total: int | None, model: str = "") -> None:
        held.at(stage, done, total)
        if line.due():
            said = {"done": f"{done:,}", "total": "?" if total is None else f"{total:,}", "model": model}
            line.show(Sentence(f"abilities/stages/{stage}", said, "evaluation").said(options.lang))

    def note(text: str) -> None:
        line.clear()
        say("pipeline", text)

    with stoppable(options.lang, 0) as cancel:
        try:
            with failing_in_one_line(options.output or options.after[0], goes_on="_anew"):
                return _Run(options, cancel, tick, note)()
        finally:
            line.clear()


class _Run:
    def __init__(
        self, options: argparse.Namespace, cancel: threading.Event, tick: Callable[..., None],
        note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.options, self.cancel, self.tick, self.note = options, cancel, tick, note
        whole_number("--seed", options.seed, 0, 2**53, "not_a_seed")
        usual = load_config("evaluation.yaml")["abilities"]
        self.most = whole_number("--max-samples", options.max_samples, 1, 2**40) if options.max_samples else None
        self.tokens = int(usual["max_new_tokens"])
        if options.max_new_tokens:
            self.tokens = whole_number("--max-new-tokens", options.max_new_tokens, 1, 10**6)
        self.files: list[str] = []
        self.batch = whole_number("--batch-size", options.batch_size, 1, 10**6) if options.batch_size else None
        named = [name_and_path(options.before), *map(name_and_path, options.after)]
        self.given = [(name, without_demo_name(source, "model")) for name, source in named]
        self.tasks = [task.strip() for given in options.lm_eval for task in given.split(",") if task.strip()]
        self.failed: Refused | None = None  # of the harness, whose failure takes nothing from what was asked before
        self.began = time.monotonic()

    def __call__(self) -> int:
        from pipeline.evaluation.abilities import Abilities

        options = self.options
        self.tick("reading", 0, None)
        items, left_out = self._items()
        models, names = self._models()
        self.output = Path(options.output) if options.output else Path(_as_file_name(names[1]) + ".abilities.json")
        self._place_is_free()
        if self.tasks:
            from pipeline.evaluation.lm_eval_tasks import need_lm_eval

            self.tick("lm_eval", 0, None, ", ".join(self.tasks))
            need_lm_eval(self.tasks, options.lm_eval_folder, self.cancel)
        for remark in models.remarks:
            self.note(remark.said(options.lang))
        asked = Abilities(
            models, names, items, max_new_tokens=self.tokens, prompt_format=options.prompt_format,
            system=options.system, thinking=options.thinking, batch_size=self.batch, lang=options.lang, note=self.note,
            told=lambda stage, model, done, total: self._told(names, stage, model, done, total),
        )  # fmt: skip
        asked.run(cancel=self.cancel)
        if self.tasks and not self.cancel.is_set():
            try:
                left_out = {**left_out, **self._lm_eval(asked, models, names)}
            except Refused as reason:
                if not asked.comparable:
                    raise
                self.failed = reason
        if not asked.comparable:
            if not self.cancel.is_set():
                raise Refused("abilities_nothing_asked", why=", ".join(asked.result().left_out) or 0)
            self.note(Sentence("abilities_stopped_early", {"path": self.output}).said(options.lang))
            return EXIT_INTERRUPTED
        if len(set(asked.formats.values())) > 1:
            formats = "; ".join(f"{name}: {form}" for name, form in asked.formats.items())
            self.note(Sentence("abilities/formats_differ", {"formats": formats}, "evaluation").said(options.lang))
        status = self._finish(asked, left_out)
        if self.failed is not None:
            raise self.failed
        return status

    def _told(self, names: Sequence[str], stage: str, model: str, done: int, total: int) -> None:
        self.tick(stage, names.index(model) * total + done, len(names) * total, model)

    # --- what was asked ---

    def _items(self) -> tuple[list[Any], dict[str, int]]:
        from pipeline.evaluation.ability_items import built_in_items, read_items

        options = self.options
        wanted = [name.strip() for given in options.abilities for name in given.split(",") if name.strip()]
        items = []
        if wanted != ["none"]:
            items += built_in_items(wanted, most=self.most)
        left_out: dict[str, int] = {}
        self.files += [without_demo_name(path, "data") for path in options.items]
        for path in self.files:
            read = read_items(Path(path), first=len(items), most=self.most)
            items += read.items
            for why, count in read.left_out.items():
                left_out[why] = left_out.get(why, 0) + count
        if not items and not self.tasks:
            raise Refused("abilities_nothing_wanted")
        return items, left_out

    def _models(self) -> tuple[ModelsOnBase, list[str]]:
        """All of them, and the names of before and the afters. Nothing is loaded yet. Raises Refused."""
        from pipeline.candidates.open_makers import default_device
        from pipeline.checkpoint import Checkpoint
        from pipeline.evaluation.adapters_on_base import ModelsOnBase, Placed, files_beside, place_of, short_names

        sources = [source for _, source in self.given]
        for source in sources:
            if source.startswith(("http://", "https://")):
                raise Refused("abilities_no_server", url=source)
        short = iter(short_names([source for name, source in self.given if name is None]))
        names = [next(short) if name is None else name for name, _ in self.given]
        for name in names:
            if names.count(name) > 1:
                raise Refused("compare_name_twice", name=name)
        found = files_beside(sources[0], None, base=self.options.base, option="--before")
        others, every, apart = list[Checkpoint](), names[:1], list[Placed]()
        for name, path in zip(names[1:], sources[1:], strict=True):
            files = files_beside(path, found.checkpoint, base=self.options.base, option="--after")
            if files.adapter is None or place_of(files.checkpoint) == place_of(found.checkpoint):
                others.append(files.adapter or files.checkpoint)
                every.append(name)
            else:
                apart.append(Placed(name, files.checkpoint, files.adapter, "apart"))
        if found.adapter is not None:  # its base is loaded, and asked nothing
            others.insert(0, found.adapter)
            every.insert(0, next(name for n in range(len(names) + 1) if (name := "base" + "'" * n) not in names))
        models = ModelsOnBase(
            found.checkpoint, others, names=every, apart=apart, device=default_device(self.options.device),
            dtype=self.options.dtype, note=self.note,
        )  # fmt: skip
        return models, names

    def _lm_eval(self, asked: Abilities, models: ModelsOnBase, names: Sequence[str]) -> dict[str, int]:
        """What was left out."""
        from pipeline.evaluation.lm_eval_tasks import run_lm_eval

        ran = run_lm_eval(
            self.tasks, {name: models.placed[name] for name in names}, device=models.device, dtype=models.dtype,
            limit=self.most, batch_size=self.batch, folder=self.options.lm_eval_folder, cancel=self.cancel,
            told=lambda model, done: self.tick("lm_eval", done, len(names), model),
        )  # fmt: skip
        asked.outside += ran.tasks
        asked.interrupted |= ran.interrupted
        return ran.left_out

    def _place_is_free(self) -> None:
        """Raises Refused for a place that can't be written, or holds anything but a former result of this."""
        from pipeline.commands.output_place import can_be_written

        can_be_written(self.output, others_beside=True)
        if self.output.suffix.lower() != ".json":
            raise Refused("compare_output_suffix", path=self.output)
        for path in self.files:
            if self.output.exists() and os.path.samefile(path, self.output):
                raise Refused("output_is_input", path=self.output, option="--items", given=path)
        if self.output.exists() and not self.options.overwrite and not holds_result(self.output, "abilities"):
            raise Refused("abilities_output_in_the_way", path=self.output)

    # --- the end ---

    def _finish(self, asked: Abilities, left_out: Mapping[str, int]) -> int:
        from pipeline.commands.abilities_account import account_text
        from pipeline.evaluation.results import to_json, write_result_file
        from pipeline.whole_file import written_whole

        options, rows = self.options, self.output.with_suffix(".rows.jsonl")
        self.tick("writing", 0, None)
        with written_whole(rows) as temporary, open(temporary, "w", encoding="utf-8", errors="replace") as file:
            for row in asked.rows():
                file.write(json.dumps(to_json(row), ensure_ascii=False, allow_nan=False) + "\n")
        made = asked.result()
        seconds = {**made.seconds, "all": round(time.monotonic() - self.began, 2)}
        result = replace(made, rows_file=rows.name, seconds=seconds, left_out={**left_out, **made.left_out})
        write_result_file(result, self.output)
        if not self.cancel.is_set():
            self.tick("diagnosing", 0, None)
        return say_judged(
            result, self.output, lambda: account_text(result, options.lang, [str(self.output), str(rows)]),
            format=options.format, lang=options.lang, cancel=self.cancel,
        )  # fmt: skip


def _as_file_name(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
