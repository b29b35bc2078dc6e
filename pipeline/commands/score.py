"""`python -m pipeline score`: the rewards of a preference set or of answers, and what they say of model and data."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.demo_given import without_demo_name
from pipeline.commands.long_run import add_files, stoppable
from pipeline.commands.output_place import can_be_written
from pipeline.commands.terminal import EXIT_DONE, EXIT_INTERRUPTED, Progress, say, whole_number, write_result
from pipeline.pairs.all_formats import columns_given, format_named
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.open_source import open_source
from pipeline.pairs.rated_formats import AXES
from pipeline.pairs.write_pairs import SUFFIXES
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.open_makers import ModelFiles
    from pipeline.candidates.reward_scorer import RewardScorer
    from pipeline.evaluation.answer_file import AnsweredRow
    from pipeline.evaluation.ask_diagnosis import Asked
    from pipeline.evaluation.kept_rewards import KeptRewards
    from pipeline.evaluation.score_sets import Tick, ToScore

_PROGRAM = "python -m pipeline score"
_OTHER = {"train": "held_out", "held_out": "train"}  # what --data is beside a second set


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score", help="rewards of a preference set or of answers, and what they say",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Gives every answer its reward by a reward model (a sequence classifier with one label) and "
                    "writes the rows with them:\nscore_chosen and score_rejected of pairs, score of a single answer, "
                    "scores of a list. Then says how the rewards stand:\naccuracy, ties, calibration, length bias, "
                    "suspect labels, training against held-out data.\nThe figures are also in OUTPUT.scores.json. "
                    "A run that was stopped or killed goes on with the same command.",
        epilog="examples:\n"
               "  python -m pipeline score --reward-model ./rm --data pairs.jsonl --output scored.jsonl\n"
               "  python -m pipeline score --reward-model ./rm --data train.jsonl --held-out test.jsonl "
               "--output scored.jsonl --suspects suspects.jsonl\n"
               "  python -m pipeline score --reward-model ./rm --data batch_output.jsonl --prompts batch_input.jsonl "
               "--output scored.jsonl\n"
               "  python -m pipeline score --reward-model ./rm-lora --base ./base --data answers.json "
               "--output answers_scored.json --format json\n"
               "exit status: 0 nothing wrong, 1 an error found, 2 can't be used, 3 interrupted with partial results",
    )  # fmt: skip
    add = parser.add_argument
    add("--reward-model", required=True, metavar="PATH", help="folder, adapter, weight file or Hub id")
    add_files(add)
    add("--data", required=True, metavar="FILE",
        help="pairs or answers (also .xlsx): data file, dataset_info.json:NAME, or a data set of the Hub")  # fmt: skip
    add("--prompts", metavar="FILE",
        help="prompts of answers that come without them, by their ids (batch files, MT-Bench)")  # fmt: skip
    second = parser.add_mutually_exclusive_group()
    second.add_argument("--held-out", metavar="FILE",
                        help="pairs the model was not trained on; --data is its training set")  # fmt: skip
    second.add_argument("--train", metavar="FILE", help="its training set; --data was held out")
    add("--output", required=True, metavar="FILE", help="the rows with their rewards: " + ", ".join(SUFFIXES))
    add("--suspects", metavar="FILE", help="also write the pairs whose label the model contradicts with confidence")
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--from", dest="source_format", metavar="FORMAT", help="default: recognised")
    add("--column", metavar="NAME=COLUMN", action="append", default=[], help="as in prompt=question (repeatable)")
    add("--axis", choices=tuple(AXES), help="which label of PKU-SafeRLHF decides where both differ")
    add("--category", metavar="COLUMN", help="figures by its values too; default: recognised")
    add("--split", metavar="NAME", default="train", help="of a data set of the Hub; default train")
    add("--max-samples", metavar="N", help="only the first N rows of each set")
    run_group = parser.add_argument_group("run")
    add = run_group.add_argument
    add("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights")
    add("--seed", metavar="N", default="0", help="taken as by all commands; nothing is drawn by chance here")
    add("--progress", metavar="FILE", help="JSON that says how far the run is")
    add("--overwrite", action="store_true", help="replace what an earlier run left at OUTPUT")
    add("--format", choices=("text", "json"), default="text", help="of what is said on standard output")
    add("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the figures and what is judged of them. Returns the exit status."""
    from pipeline.evaluation.run_progress_file import ProgressFile

    whole_number("--seed", options.seed, 0, 2**53, "not_a_seed")  # nothing is drawn by chance; all commands take it
    sets = _sets(options)
    line = Progress("pipeline", in_files=True)
    held = ProgressFile(Path(options.progress) if options.progress else None)

    def tick(stage: str, done: int, total: int | None) -> None:
        held.at(stage, done, total)
        if line.due():
            said = {"done": f"{done:,}", "total": "?" if total is None else f"{total:,}"}
            line.show(Sentence(f"score_stage_{stage}", said, "evaluation").said(options.lang))

    with stoppable(options.lang, 0) as cancel:
        try:
            return _scored(options, sets, cancel, tick, line)
        finally:
            line.clear()


def _scored(
    options: argparse.Namespace, sets: list[ToScore], cancel: threading.Event, tick: Tick, line: Progress
) -> int:
    from pipeline.candidates.open_makers import default_device
    from pipeline.commands.score_account import score_text
    from pipeline.evaluation.kept_rewards import KeptRewards
    from pipeline.evaluation.results import CASES, to_json, write_result_file
    from pipeline.evaluation.reward_model import find_reward_model, named, open_reward_model
    from pipeline.evaluation.score_sets import look_at, result_of, score_sets

    def note(text: str) -> None:
        line.clear()
        say("pipeline", text)

    began = time.monotonic()
    tick("loading", 0, None)
    files = find_reward_model(
        without_demo_name(options.reward_model, "model"), adapter=options.adapter, base=options.base,
        tokenizer=options.tokenizer, model_config=options.model_config,
    )  # fmt: skip
    look_at(sets)
    device = default_device(options.device)
    with open_reward_model(files, device=device, dtype=options.dtype, note=note) as scorer:
        loaded = time.monotonic()
        kept = KeptRewards(sets[0].output, _made_by(scorer, files), overwrite=options.overwrite)
        if kept.found:
            note(Sentence("score_goes_on", {"path": kept.path.name}, "evaluation").said(options.lang))
        scorer.kept = kept
        try:
            done = score_sets(scorer, sets, cancel=cancel, tick=tick)
        except OSError as failed:
            raise _failed(failed, options, kept) from None
        finally:
            kept.close()
        form = scorer.form
    if not done:
        raise KeyboardInterrupt
    scored = time.monotonic()
    tick("measuring", 0, None)
    failed_early = next((one.failed for one in done if one.failed is not None), None)
    interrupted = cancel.is_set() or failed_early is not None
    suspects = Path(options.suspects) if options.suspects else None
    place = result_place(sets[0].output)
    seconds = {"loading": round(loaded - began, 3), "scoring": round(scored - loaded, 3)}
    try:
        result = result_of(done, named(files), form, interrupted=interrupted, seconds=seconds, suspects_file=suspects)
        write_result_file(result, place)
    except OSError as failed:
        raise _failed(failed, options, kept) from None
    if not interrupted:
        kept.drop()
    tick("judging", 0, None)
    asked = _asked(place, options)
    line.clear()
    written = [*(one.wanted.output for one in done), place]
    if suspects is not None and result.sets[0].suspect_count:
        written.append(suspects)
    if options.format == "json":
        report = asked.report if asked is not None else None
        write_result(json_text({**to_json(result), "report": report}, indent=1) + "\n")
    else:
        text = score_text(result, options.lang, written)
        write_result(text + ("\n" + asked.shown.decode("utf-8", errors="replace") if asked is not None else ""))
    for one in result.sets:
        if len(one.suspects) < min(one.suspect_count, CASES):
            say("pipeline", Sentence("score_data_changed", {"path": one.path}).said(options.lang))
    if interrupted:
        rows = f"{sum(one.numbers.scored for one in done):,}"
        if failed_early is not None:
            say("pipeline", failed_early.said(options.lang))
        say("pipeline", Sentence("score_stopped", {"rows": rows, "path": options.output}).said(options.lang))
        return EXIT_INTERRUPTED
    return asked.status if asked is not None and asked.status == 1 else EXIT_DONE


def _failed(failed: OSError, options: argparse.Namespace, kept: KeptRewards) -> Refused:
    kept.close()
    entry = "score_failed_again" if kept.path.exists() else "output_failed"
    return Refused(entry, path=options.output, why=failed.strerror or failed)


def _made_by(scorer: RewardScorer, files: ModelFiles) -> dict[str, Any]:
    """All but the texts that a reward depends on."""
    import torch
    import transformers

    loaded = scorer.loaded
    return {"model": files.fingerprint(), "dtype": loaded.dtype, "device": loaded.device, "better": scorer.better,
            "torch": torch.__version__, "transformers": transformers.__version__}  # fmt: skip


def _asked(place: Path, options: argparse.Namespace) -> Asked | None:
    from pipeline.evaluation.ask_diagnosis import ask_diagnosis

    try:
        return ask_diagnosis(place, lang=options.lang)
    except Refused as reason:  # the result is there all the same
        say("pipeline", reason.said(options.lang))
        return None


# --- what was asked, looked at before anything is read ---


def _sets(options: argparse.Namespace) -> list[ToScore]:
    """Raises Refused for data that isn't there, and for places that can't be written or hold something else."""
    from pipeline.evaluation.score_sets import ToScore

    can_be_written(Path(options.output), others_beside=True)
    if options.suspects is not None:
        can_be_written(Path(options.suspects), others_beside=True)
    if options.source_format is not None:
        format_named(options.source_format)
    output = Path(os.path.realpath(options.output))  # a link stays one; all files lie beside what it leads to
    most = whole_number("--max-samples", options.max_samples, 1, 2**40) if options.max_samples else None
    second = next((role for role in _OTHER if getattr(options, role) is not None), None)
    given = [(options.data, "--data", "data" if second is None else _OTHER[second], output)]
    if second is not None:
        place = output.with_name(f"{output.stem}.{second}{output.suffix}")
        given.append((getattr(options, second), f"--{second.replace('_', '-')}", second, place))
    columns = columns_given(options.column)
    asked = _prompts(options.prompts) if options.prompts is not None else None
    sets = []
    for name, option, role, place in given:
        source = open_source(
            without_demo_name(name, "data"), option=option, program=_PROGRAM, format=options.source_format,
            columns=columns, axis=options.axis, split=options.split, output=options.output,
        )  # fmt: skip
        sets.append(ToScore(source, role, place, most, options.category, asked))
    read = [(one.source.path, option, name) for one, (name, option, _, _) in zip(sets, given, strict=True)]
    if second is not None and _same(read[0][0], read[1][0]):
        raise Refused("score_same_file", data=options.data, option=read[1][1], other=read[1][2])
    if options.prompts is not None:
        read.append((Path(without_demo_name(options.prompts, "data")), "--prompts", options.prompts))
    goes_on = not options.overwrite and _was_stopped(output)
    written = [("--output", one.output) for one in sets] + [("--output", result_place(output))]
    written += [(f"--{name}", Path(given)) for name in ("suspects", "progress") if (given := getattr(options, name))]
    for number, (option, path) in enumerate(written):
        for data, from_option, name in read:
            if _same(path, data):
                if option == "--output":
                    raise Refused("output_is_input", path=path, option=from_option, given=name)
                raise Refused("score_one_place", option=option, path=path, other=from_option)
        for other, there in written[:number]:
            if os.path.realpath(path) == os.path.realpath(there) or _same(path, there):
                raise Refused("score_one_place", option=option, path=path, other=other)
        if path.exists() and not options.overwrite and not goes_on and option != "--progress":
            raise Refused("score_exists", path=path)
    return sets


def _prompts(given: str) -> Mapping[str, AnsweredRow]:
    """By their ids. Raises Refused."""
    from pipeline.evaluation.answer_file import read_prompts_file
    from pipeline.evaluation.matched_answers import by_id

    path = Path(without_demo_name(given, "data"))
    if not path.is_file():
        raise Refused("option_not_found", option="--prompts", path=given)
    found = by_id(read_prompts_file(path))
    if found is None:
        raise Refused("score_prompts_without_ids", path=given)
    return found


def result_place(output: Path) -> Path:
    """`OUTPUT.scores.json`."""
    return output.with_name(f"{output.name}.scores.json")


def _was_stopped(output: Path) -> bool:
    """Whether what lies here is of a run that wasn't finished: its rewards are kept, and no whole result is beside."""
    from pipeline.evaluation.kept_rewards import kept_place
    from pipeline.evaluation.results import read_result_file

    if not kept_place(output).is_file():
        return False
    place = result_place(output)
    try:
        return not place.exists() or read_result_file(place).get("interrupted") is True
    except (Refused, OSError):
        return False


def _same(one: Path | None, other: Path | None) -> bool:
    try:
        return bool(one and other and one.exists() and other.exists() and os.path.samefile(one, other))
    except OSError as failed:  # a name too long once something is added to it
        raise Refused("output_failed", path=one, why=failed.strerror or failed) from None
