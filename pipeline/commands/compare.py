"""`python -m pipeline compare`: the same prompts before and after, judged by what can judge."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.demo_given import without_demo_name
from pipeline.commands.judged_result import holds_result, say_judged
from pipeline.commands.long_run import add_device, add_server, failing_in_one_line, stoppable
from pipeline.commands.named_model import name_and_path
from pipeline.commands.terminal import EXIT_INTERRUPTED, Progress, say, whole_number
from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.evaluation.answer_file import AnswerFile
    from pipeline.evaluation.answers_of_models import CompareDecoding, ModelAnswers, ModelGiven
    from pipeline.evaluation.compare_answers import Comparison, Contestant
    from pipeline.evaluation.task_check import TaskCheck

_FILES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".xlsx", ".txt", ".gz")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "compare", help="answers before and after: better, worse, or no difference shown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compares two or more models on the same prompts: files of answers, checkpoints, adapters, "
                    "servers. Judged by\nwhat the data says is right where that can be checked, by people's votes, "
                    "a judge model and a reward model, whichever\nare given; measures that need no judge (repetition, "
                    "ends, length, script, ...) stand beside. Models answer the prompts of\n--prompts, all with the "
                    "same decoding; their answers are kept beside the result and used again.",
        epilog="examples:\n"
               "  python -m pipeline compare --before sft.jsonl --after dpo.jsonl\n"
               "  python -m pipeline compare --before sft.jsonl --after dpo.jsonl --reward-model ./rm "
               "--output result.json\n"
               "  python -m pipeline compare --before ./outputs/sft --after ./outputs/dpo --after OLD=./outputs/dpo1 "
               "--prompts held_out.jsonl\n"
               "  python -m pipeline compare --before ./sft --after http://127.0.0.1:8000/v1 --prompts held_out.jsonl "
               "--judge http://127.0.0.1:8001/v1\n"
               "exit status: 0 nothing wrong, 1 an error found (worse), 2 can't be used, 3 interrupted with what was "
               "done saved",
    )  # fmt: skip
    usual = load_config("evaluation.yaml")["compare"]
    add = parser.add_argument
    add("--before", required=True, metavar="[NAME=]WHAT", help="file of answers, checkpoint, adapter, http://HOST/v1")
    add("--after", required=True, action="append", metavar="[NAME=]WHAT", help="the same (repeatable)")
    add("--output", metavar="RESULT.json", help="default: AFTER.comparison.json beside the first after; rows beside it")
    add("--prompts", metavar="FILE",
        help="prompts that models answer, and what is right; default: of a file of answers")  # fmt: skip
    add("--references", metavar="FILE", help="what is right, for files that don't say it, matched by prompt")
    add("--column", metavar="NAME=COLUMN", action="append", default=[],
        help="prompt, answer, reference or category, as in answer=text (repeatable)")  # fmt: skip
    add("--category", metavar="COLUMN", help="figures by its values too; default: recognised")
    add("--max-samples", metavar="N", help="only the first N rows of each file")
    judges = parser.add_argument_group("judges")
    add = judges.add_argument
    add("--reward-model", metavar="PATH")
    add("--reward-base", metavar="PATH", help="of a reward model that is an adapter; default: what its files name")
    add("--check", metavar="NAME", default="auto", help="exact_answer, number, sql, regex:PATTERN, demo (the "
                                                       "built-in questions), none; default: by the form of what is "
                                                       "right, row by row")  # fmt: skip
    add("--database", metavar="PATH", help="SQLite file to execute SQL on, read-only, or a folder of them by db_id")
    add("--dialect", metavar="NAME", default="sqlite", help="of the SQL, as sqlglot names it; default sqlite")
    add("--judge", metavar="URL",
        help="a server whose model judges, each pair in both orders; URL#MODEL names the model")  # fmt: skip
    add("--most-cost", metavar="P", help="of judging, by the server's price; nothing is asked beyond it")
    add("--votes", metavar="FOLDER", help="people's blind votes on these rows: the folder of votes.jsonl, or that file")
    how = parser.add_argument_group("how models answer")
    add = how.add_argument
    add("--base", metavar="PATH", help="of models that are adapters; default: what their files name")
    add("--temperature", metavar="T", help="above 0: drawn; default: greedy")
    add("--top-p", metavar="P", help="of drawing; default 1")
    add("--num-beams", metavar="N", help="beam search")
    add("--max-new-tokens", metavar="N", help=f"default {usual['max_new_tokens']}")
    add("--samples", metavar="N", help="drawn answers to each prompt; default 1")
    add("--seed", metavar="N", default="0", help="of drawing; default 0")
    add("--system", metavar="TEXT", help="system message for prompts without their own")
    add("--prompt-format", metavar="NAME", default="auto", help="as of `generate`")
    add("--thinking", action="store_true", help="let reasoning models think")
    add("--beta", metavar="B", help=f"of DPO's implicit reward; default {usual['beta']}")
    add("--no-likelihoods", action="store_true", help="leave out implicit reward and KL, which read all answers again")
    add_device(add)
    add_server(add)
    run_group = parser.add_argument_group("run")
    add = run_group.add_argument
    add("--progress", metavar="FILE", help="JSON that says how far the run is")
    add("--overwrite", action="store_true", help="replace files in the way, and make answers anew")
    add("--format", choices=("text", "json"), default="text", help="of what is said on standard output")
    add("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def is_answers(source: str) -> bool:
    """Whether it names a file of answers and no model, by how it ends."""
    return Path(source).suffix.lower() in _FILES and not os.path.isdir(source)


@dataclass(frozen=True)
class _Given:
    """One of before and afters. kind: file | model | server."""

    name: str
    source: str
    kind: str
    option: str


def run(options: argparse.Namespace) -> int:
    """Prints the verdict and what is judged of it. Returns the exit status."""
    from pipeline.candidates.endpoint import EndpointGone
    from pipeline.evaluation.compare_answers import gone_again
    from pipeline.evaluation.run_progress_file import ProgressFile

    line = Progress("pipeline", in_files=True)
    held = ProgressFile(Path(options.progress) if options.progress else None)

    def tick(stage: str, done: int, total: int | None) -> None:
        held.at(stage, done, total)
        if line.due():
            said = {"done": f"{done:,}", "total": "?" if total is None else f"{total:,}"}
            line.show(Sentence(f"compare/stages/{stage}", said, "evaluation").said(options.lang))

    def note(text: str) -> None:
        line.clear()
        say("pipeline", text)

    with stoppable(options.lang, 0) as cancel:
        try:
            with failing_in_one_line(options.output or options.after[0], goes_on="_again"):
                return _Run(options, cancel, tick, note)()
        except EndpointGone as gone:
            said = gone_again(gone.sentence)
            raise Refused(said.entry, **said.params) from None
        finally:
            line.clear()


class _Run:
    def __init__(
        self, options: argparse.Namespace, cancel: threading.Event, tick: Callable[[str, int, int | None], None],
        note: Callable[[str], None],
    ) -> None:  # fmt: skip
        from pipeline.evaluation.answer_file import columns_given

        self.options, self.cancel, self.tick, self.note = options, cancel, tick, note
        self.seed = whole_number("--seed", options.seed, 0, 2**53, "not_a_seed")
        self.most = whole_number("--max-samples", options.max_samples, 1, 2**40) if options.max_samples else None
        self.columns = columns_given(options.column)
        self.given = _given(options.before, options.after)
        self.output = result_place(options.output, self.given[1])
        self.task = _task(options)
        self.decoding = _decoding(options, self.seed)
        self.beta = _number("--beta", options.beta) if options.beta is not None else None
        self.most_cost = _number("--most-cost", options.most_cost) if options.most_cost is not None else None
        self.began = time.monotonic()

    def __call__(self) -> int:
        from pipeline.evaluation.reward_model import find_reward_model

        options = self.options
        self._place_is_free()
        reward = None
        if options.reward_model is not None:
            reward = find_reward_model(without_demo_name(options.reward_model, "model"), base=options.reward_base)
        judge = self._endpoint(options.judge) if options.judge is not None else None
        if judge is not None and self.most_cost is not None and judge.price is None:
            raise Refused("compare_cost_without_price", value=options.most_cost)
        references, prompts = self._asked(options.references, "--references"), None
        files = {one.name: self._answers(one) for one in self.given if one.kind == "file"}
        made: ModelAnswers | None = None
        if any(one.kind != "file" for one in self.given):
            prompts = self._prompts(files)
            made = self._make(prompts)
        elif options.prompts is not None:
            prompts = self._asked(options.prompts, "--prompts")
        compared = self._compared(files, made, references or prompts)
        if compared is None:
            say("pipeline", Sentence("compare_stopped_early", {"path": self.output}, "evaluation").said(options.lang))
            return EXIT_INTERRUPTED
        self._judge(compared, made, reward, judge)
        return self._finish(compared)

    # --- what is compared ---

    def _answers(self, one: _Given) -> AnswerFile:
        from pipeline.evaluation.answer_file import read_answers

        self.tick("reading", 0, None)
        return read_answers(
            Path(one.source), name=one.name, option=one.option, columns=self.columns, category=self.options.category,
            most=self.most,
        )  # fmt: skip

    def _asked(self, path: str | None, option: str) -> AnswerFile | None:
        from pipeline.evaluation.answer_file import read_prompts_file

        if path is None:
            return None
        path = without_demo_name(path, "data")
        if not os.path.isfile(path):
            raise Refused("option_not_found", option=option, path=path)
        asked = {name: column for name, column in self.columns.items() if name != "answer"}
        return read_prompts_file(
            Path(path), option=option, columns=asked, category=self.options.category, most=self.most
        )  # fmt: skip

    def _prompts(self, files: dict[str, AnswerFile]) -> AnswerFile:
        """Of --prompts, else those of the first file of answers that has them."""
        found = self._asked(self.options.prompts, "--prompts")
        if found is not None:
            return found
        for held in files.values():
            if held.with_prompts == len(held.rows):
                return replace(held, rows=[replace(row, index=at) for at, row in enumerate(held.rows)])
        raise Refused("compare_prompts_for_models", model=next(one.source for one in self.given if one.kind != "file"))

    def _make(self, prompts: AnswerFile) -> ModelAnswers:
        from pipeline.candidates.open_makers import default_device
        from pipeline.evaluation.adapters_on_base import files_beside
        from pipeline.evaluation.answers_of_models import ModelAnswers, ModelGiven

        models: list[ModelGiven] = []
        first = None
        for one in self.given:
            if one.kind == "server":
                models.append(ModelGiven(one.name, one.source, endpoint=self._endpoint(one.source)))
            elif one.kind == "model":
                files = files_beside(one.source, first, base=self.options.base, option=one.option)
                first = files.checkpoint if first is None else first
                models.append(ModelGiven(one.name, one.source, files))
        made = ModelAnswers(
            models, prompts, self.decoding, self.output.with_suffix(""), device=default_device(self.options.device),
            dtype=self.options.dtype, overwrite=self.options.overwrite, cancel=self.cancel, tick=self.tick,
            note=self.note, lang=self.options.lang,
        )  # fmt: skip
        made.run(before=self.given[0].name, likelihoods=not self.options.no_likelihoods)
        return made

    def _endpoint(self, url: str) -> Endpoint:
        from pipeline.candidates.endpoint import Endpoint, Price

        options, price = self.options, None
        if options.price_in is not None or options.price_out is not None:
            price = Price.given(f"{options.price_in or 0},{options.price_out or 0}")
        name = options.endpoint_model if "#" not in url and url != options.judge else None
        return Endpoint(url, name, key_env=options.api_key_env, price=price)

    def _compared(
        self, files: dict[str, AnswerFile], made: ModelAnswers | None, references: AnswerFile | None
    ) -> Comparison | None:
        """None where an interrupt left nothing to compare."""
        from pipeline.evaluation.compare_answers import Comparison, Contestant
        from pipeline.evaluation.results import ModelNamed

        contestants: list[Contestant] = []
        for at, one in enumerate(self.given):
            file: AnswerFile = files[one.name] if one.name in files else made.file(one.name)  # type: ignore[union-attr]
            fingerprint = "" if made is None else made.fingerprints.get(one.name, "")
            contestants.append(
                Contestant(ModelNamed(one.name, one.source, "after" if at else "before", fingerprint), file)
            )
        if self.cancel.is_set():
            contestants = [one for at, one in enumerate(contestants) if one.file.rows or not at]
            if len(contestants) < 2 or not contestants[0].file.rows:
                return None
        for held in contestants:
            if not held.file.rows:
                reasons = ", ".join(f"{reason} {count}" for reason, count in held.file.left_out.items())
                raise Refused("compare_no_answers", model=held.name, why=reasons or 0)
        made_before = made is not None and self.given[0].name not in files
        found = Comparison(
            contestants[0], contestants[1:], references=references, cancel=self.cancel, tick=self.tick,
            tokens=self._tokens(made) if made_before and made is not None else None,
        )  # fmt: skip
        found.interrupted = self.cancel.is_set() or len(contestants) < len(self.given)
        if self.beta is not None:
            found.beta = self.beta
        if made is not None:
            found.decoding |= {**self.decoding.as_json(), "prompt_formats": dict(made.formats), "reused": made.reused,
                               "answers": {name: made.place(name).name for name in made.models}}  # fmt: skip
            found.seconds |= {f"answering {name}": took for name, took in made.seconds.items()}
        return found

    def _tokens(self, made: ModelAnswers) -> Any:
        """How repetition is counted: in the tokens of `before`, for all models alike."""
        from pipeline.load_model import load_tokenizer
        from pipeline.prompt_formats import whole_characters

        files = made.models[self.given[0].name].files
        if files is None:
            return None
        own = files.adapter is not None and files.adapter.tokenizer.store is not None
        tokenizer, _ = load_tokenizer(files.adapter if own and files.adapter is not None else files.checkpoint)
        if tokenizer is None:
            return None
        return lambda text: tokenizer(whole_characters(text), add_special_tokens=False, verbose=False)["input_ids"]

    # --- judges ---

    def _judge(self, compared: Comparison, made: ModelAnswers | None, reward: Any, judge: Endpoint | None) -> None:
        from pipeline.candidates.open_makers import default_device
        from pipeline.evaluation.reward_model import named, open_reward_model

        compared.decoding["repetition_over"] = "tokens" if compared.counts_tokens else "units"
        compared.measure()
        compared.check(self.task)
        if made is not None and not self.cancel.is_set():
            for name, found in made.likelihoods(self.given[0].name):
                compared.likelihoods(name, found)
                estimates = ("kl_per_token: k1, mean of answers; kl_k3_per_token: k3, mean of all their tokens; both "
                             "over the tokens that the answers' texts are made of again")  # fmt: skip
                compared.decoding |= {"beta": compared.beta, "kl_estimate": estimates}
            if made.remarks:
                compared.decoding["remarks"] = [{lang: one.said(lang) for lang in ("en", "zh")} for one in made.remarks]
        if reward is not None and not self.cancel.is_set():
            self.tick("loading", 0, None)
            device = default_device(self.options.device)
            with open_reward_model(reward, device=device, dtype=self.options.dtype, note=self.note) as scorer:
                compared.reward(scorer, named(reward))
        if judge is not None and not self.cancel.is_set():
            journal = self.output.with_suffix(".judge.jsonl")
            compared.judge(judge, journal=journal, concurrency=self.decoding.concurrency, most_cost=self.most_cost,
                           note=self.note, lang=self.options.lang)  # fmt: skip
        if self.options.votes is not None:
            compared.write_rows(self._rows_place)
            compared.votes(self._rows_place, _votes_folder(self.options.votes))
        compared.interrupted |= self.cancel.is_set()

    @property
    def _rows_place(self) -> Path:
        return self.output.with_suffix(".rows.jsonl")

    def _place_is_free(self) -> None:
        """Raises Refused for a place that can't be written, or holds anything but a former comparison."""
        from pipeline.commands.output_place import can_be_written

        can_be_written(self.output, others_beside=True)
        if self.output.suffix.lower() != ".json":
            raise Refused("compare_output_suffix", path=self.output)
        for one in self.given:
            if one.kind == "file" and self.output.exists() and os.path.samefile(one.source, self.output):
                raise Refused("output_is_input", path=self.output, option=one.option, given=one.source)
        if self.output.exists() and not self.options.overwrite and not holds_result(self.output, "comparison"):
            raise Refused("compare_output_in_the_way", path=self.output)

    # --- the end ---

    def _finish(self, compared: Comparison) -> int:
        from pipeline.commands.compare_account import account_text
        from pipeline.evaluation.results import write_result_file

        rows, options = self._rows_place, self.options
        self.tick("writing", 0, None)
        compared.write_rows(rows)
        compared.seconds["all"] = round(time.monotonic() - self.began, 3)
        result = compared.result(rows.name)
        write_result_file(result, self.output)
        if not self.cancel.is_set():
            self.tick("diagnosing", 0, None)
        return say_judged(
            result, self.output, lambda: account_text(result, options.lang, [str(self.output), str(rows)]),
            format=options.format, lang=options.lang, cancel=self.cancel,
        )  # fmt: skip


# --- what was asked ---


def _given(before: str, afters: Sequence[str]) -> list[_Given]:
    """Raises Refused for a file that isn't there and for names given twice."""
    from pipeline.evaluation.adapters_on_base import short_names

    said = [(before, "--before"), *((one, "--after") for one in afters)]
    names: list[str | None] = []
    sources = []
    for word, _ in said:
        name, path = name_and_path(word)
        names.append(name)
        sources.append(without_demo_name(path, "model"))
    shortened = iter(short_names([_stem(source) for name, source in zip(names, sources, strict=True) if not name]))
    whole = [name or next(shortened) for name in names]
    for name in whole:
        if whole.count(name) > 1:
            raise Refused("compare_name_twice", name=name)
    found = []
    for name, source, (_, option) in zip(whole, sources, said, strict=True):
        kind = "server" if source.startswith(("http://", "https://")) else "model"
        if kind == "model" and is_answers(source):
            kind = "file"
            if not os.path.isfile(source):
                raise Refused("compare_no_file", option=option, path=source)
        found.append(_Given(name, source, kind, option))
    return found


def _stem(source: str) -> str:
    if source.startswith(("http://", "https://")):
        address, _, model = source.partition("#")
        return model or address.split("//", 1)[1].split("/", 1)[0]
    path = Path(source)
    if path.suffix.lower() in _FILES:
        name = path.name
        while Path(name).suffix.lower() in (*_FILES, ".answers"):
            name = Path(name).stem
        return str(path.with_name(name or path.name))
    return source


def result_place(output: str | None, after: _Given) -> Path:
    """--output, else AFTER.comparison.json: beside the file, for a model in the working folder."""
    if output is not None:
        return Path(output)
    if after.kind == "file":
        path = Path(after.source)
        return path.with_name(f"{Path(_stem(after.source)).name}.comparison.json")
    return Path(f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in after.name)}.comparison.json")


def _task(options: argparse.Namespace) -> TaskCheck:
    from pipeline.candidates.row_databases import RowDatabases
    from pipeline.evaluation.task_check import TaskCheck

    databases = RowDatabases(options.database) if options.database is not None else None
    return TaskCheck(options.check, databases=databases, dialect=options.dialect)


def _decoding(options: argparse.Namespace, seed: int) -> CompareDecoding:
    from pipeline.candidates.candidate import SEED_STEP
    from pipeline.candidates.strategies import run_number
    from pipeline.evaluation.answers_of_models import CompareDecoding

    usual = load_config("evaluation.yaml")["compare"]

    def whole(option: str, text: str | None, most: int) -> int | None:
        return whole_number(option, text, 1, most) if text else None

    return CompareDecoding.of(
        temperature=float(run_number("--temperature", "temperature", options.temperature))
        if options.temperature else None,
        num_beams=whole("--num-beams", options.num_beams, 256),
        top_p=float(run_number("--top-p", "top_p", options.top_p)) if options.top_p else None,
        samples=whole("--samples", options.samples, SEED_STEP) or 1, seed=seed,
        max_new_tokens=whole("--max-new-tokens", options.max_new_tokens, 10**6) or int(usual["max_new_tokens"]),
        prompt_format=options.prompt_format, system=options.system, thinking=options.thinking,
        batch_size=whole("--batch-size", options.batch_size, 10**6),
        concurrency=whole("--concurrency", options.concurrency, 10**6),
    )  # fmt: skip


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise Refused("compare_not_positive", option=option, value=text)
    return value


def _votes_folder(given: str) -> Path:
    path = Path(given)
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    raise Refused("option_not_found", option="--votes", path=given)
