"""`python -m pipeline bundle`: one bad case kept together: its pairs, cases, settings, trainings and replays."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands import replay as replay_command
from pipeline.commands.terminal import EXIT_DONE, EXIT_INTERRUPTED, say, write_result
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.evaluation.bundles import Bundle

_WORDS = "evaluation"
_DECODING = ("greedy", "num_beams", "temperature", "top_p", "top_k", "max_new_tokens", "repetition_penalty",
             "no_repeat_ngram_size", "length_penalty")  # fmt: skip


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "bundle", help="one bad case kept together: pairs, cases, settings, trainings, replays",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A bundle is a folder; NAME is one below the folder of bundles, or a path.",
        epilog="examples:\n"
               "  python -m pipeline bundle create loops --pairs pairs.json --model ./outputs/sft --check repetition\n"
               "  python -m pipeline bundle create sql --pairs pairs.json --cases bad.xlsx --model ./outputs/sft "
               "--recipe dpo_text2sql --set beta=0.3\n"
               "  python -m pipeline bundle train loops --foreground\n"
               "  python -m pipeline bundle replay loops\n"
               "  python -m pipeline bundle list",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="a new one from pairs, cases or both")
    add = create.add_argument
    add("name", metavar="NAME")
    add("--pairs", metavar="FILE", help="preference pairs in any format; the cases too, where none are given")
    add("--cases", metavar="FILE", help="rows of text and standard answer")
    add("--model", metavar="PATH", default="", help="what is trained, and the base of replays")
    add("--recipe", metavar="NAME_OR_FILE", default="dpo_repetition_badcase")
    add("--set", metavar="KEY=VALUE", action="append", default=[], dest="changes", help="a field of the recipe")
    add("--check", default="auto", choices=("auto", *replay_command._checks()), help="how its cases are judged")
    add("--note", metavar="TEXT", default="", help="what the bad case is")
    for name in _DECODING:
        option = "--" + name.replace("_", "-")
        add(option, action="store_true") if name == "greedy" else add(option, metavar="N")
    train = actions.add_parser("train", help="start its recipe on its pairs; the run is remembered")
    add = train.add_argument
    add("name", metavar="NAME")
    add("--set", metavar="KEY=VALUE", action="append", default=[], dest="changes", help="a field of the recipe")
    add("--accelerate", metavar="NAME_OR_FILE")
    add("--foreground", action="store_true", help="follow the run until it ends")
    add("--insist", action="store_true", help="start although the checks found errors")
    again = actions.add_parser("replay", help="its cases through its model and what its runs made")
    add = again.add_argument
    add("name", metavar="NAME")
    add("--model", metavar="PATH", help="the base; default: the bundle's")
    add("--adapter", metavar="PATH", action="append", default=[], help="beside those of its runs (repeatable)")
    add("--also", metavar="PATH", action="append", default=[], help="a whole model beside them (repeatable)")
    add("--output", metavar="FILE", help="default: replays/replay-DATE.xlsx of the bundle")
    replay_command.add_options(again)
    again.set_defaults(check=None)
    link = actions.add_parser("add", help="remember a run that was started elsewhere")
    link.add_argument("name", metavar="NAME")
    link.add_argument("job", metavar="JOB")
    for action, said in (("list", "all of them"), ("show", "what is in one"), ("remove", "delete one")):
        one = actions.add_parser(action, help=said)
        if action != "list":
            one.add_argument("name", metavar="NAME")
        if action == "remove":
            one.add_argument("--yes", action="store_true", help="its trainings and replays go too")
    for name, one in actions.choices.items():
        if name != "replay":
            one.add_argument("--format", choices=("text", "json"), default="text")
            one.add_argument("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns the exit status: of train as `train`, of replay as `replay`, else 0."""
    from pipeline.evaluation.bundles import list_bundles, open_bundle, remove_bundle

    action = options.action
    if action == "list":
        return _list(options, list_bundles())
    if action == "create":
        return _create(options)
    bundle = open_bundle(options.name)
    if action == "show":
        return _show(options, bundle)
    if action == "train":
        return _train(options, bundle)
    if action == "replay":
        return _replay(options, bundle)
    if action == "add":
        from pipeline.evaluation.bundles import add_run

        return _show(options, add_run(bundle, options.job))
    if not options.yes:
        raise Refused("bundle_remove_sure", name=options.name, path=bundle.folder)
    remove_bundle(bundle)
    _account(options, {"removed": str(bundle.folder)}, _said("removed", options.lang, path=bundle.folder))
    return EXIT_DONE


def _create(options: argparse.Namespace) -> int:
    from pipeline.evaluation.bundles import create_bundle
    from pipeline.training.recipe import parse_changes

    decoding: dict[str, Any] = {}
    for name in _DECODING:
        value = getattr(options, name)
        if value:
            decoding[name] = value if value is True else _as_number(name, value)
    bundle = create_bundle(
        options.name, pairs=Path(options.pairs) if options.pairs else None,
        cases=Path(options.cases) if options.cases else None, model=options.model, recipe=options.recipe,
        changes=parse_changes(options.changes), decoding=decoding, check=options.check, note=options.note,
    )  # fmt: skip
    return _show(options, bundle)


def _as_number(name: str, text: str) -> float | int:
    from pipeline.candidates.strategies import run_number

    return run_number("--" + name.replace("_", "-"), name, text)


def _train(options: argparse.Namespace, bundle: Bundle) -> int:
    from pipeline.commands.train import EXIT_PROBLEMS, follow
    from pipeline.evaluation.bundles import train_bundle
    from pipeline.training.job_folder import read_status
    from pipeline.training.job_words import failure_said
    from pipeline.training.recipe import parse_changes

    bundle, started = train_bundle(
        bundle, changes=parse_changes(options.changes), accelerate=options.accelerate, insist=options.insist,
        lang=options.lang,
    )  # fmt: skip
    job = started.job
    errors = [f for f in started.report.get("findings", ()) if f.get("severity") == "error"]
    for finding in errors:
        say("pipeline", f"{finding['code']} {finding['message']} {finding.get('fix') or ''}".strip())
    place = {"job": job.id, "folder": str(job.folder), "output": str(job.output)}
    if started.refused:
        line = Sentence("train_refused", {"count": len(errors)}).said(options.lang)
        _account(options, {**place, "state": "refused", "report": started.report}, line)
        return EXIT_PROBLEMS
    if not options.foreground:
        line = Sentence("train_started", {"job": job.id, "folder": job.folder}).said(options.lang)
        _account(options, {**place, "state": read_status(job).state}, line)
        return EXIT_DONE
    follow(job, options.lang)
    status = read_status(job)
    _account(options, {**place, **status.as_json()}, failure_said(status, options.lang))
    return {"done": EXIT_DONE, "stopped": EXIT_INTERRUPTED}.get(status.state, EXIT_PROBLEMS)


def _replay(options: argparse.Namespace, bundle: Bundle) -> int:
    from pipeline.evaluation.bundles import go_on_with, next_replay

    settings = bundle.settings
    model = options.model or settings.model
    if not model:
        raise Refused("bundle_without_model", name=bundle.name)
    asked = any(getattr(options, name) for name in _DECODING)
    for name, value in settings.decoding.items() if not asked else ():
        setattr(options, name, value if isinstance(value, bool) else str(value))
    options.check = options.check or settings.check
    output = Path(options.output) if options.output else next_replay(bundle)
    replay_command.can_be_output(output, bundle.cases)
    cases = replay_command.cases_of(options, bundle.cases)
    adapters: list[str] = []
    whole: list[str] = []
    for made in bundle.trained():
        (adapters if (Path(made) / "adapter_config.json").is_file() else whole).append(made)
    models, unusable = replay_command.models_of(
        options, model, [*adapters, *options.adapter], [*whole, *options.also]
    )  # fmt: skip
    if not options.output:
        go_on_with(bundle, output)
    if len(models.names) == 1:
        say("pipeline", _said("nothing_trained", options.lang, name=bundle.name))
    options.output = str(output)
    return replay_command.replay_and_write(
        options, models, cases, replay_command.decoding_of(options), output, bundle=bundle.name,
        unusable=unusable,
    )  # fmt: skip


def _list(options: argparse.Namespace, found: list[Bundle]) -> int:
    held = [_json(one) for one in found]
    if not found:
        _account(options, held, _said("none", options.lang))
        return EXIT_DONE
    lines = [
        _said("line", options.lang, name=one["name"], cases=one["cases"], pairs=one["pairs"], runs=len(one["runs"]),
              replays=len(one["replays"]), note=one["note"]).rstrip(" :：")
        for one in held
    ]  # fmt: skip
    _account(options, held, "\n".join(lines))
    return EXIT_DONE


def _show(options: argparse.Namespace, bundle: Bundle) -> int:
    held = _json(bundle)
    lines = [_said("line", options.lang, name=bundle.name, cases=held["cases"], pairs=held["pairs"],
                   runs=len(held["runs"]), replays=len(held["replays"]), note=held["note"]).rstrip(" :："),
             _said("place", options.lang, path=bundle.folder),
             _said("settings", options.lang, model=held["model"] or "-", recipe=held["recipe"], check=held["check"],
                   changes=", ".join(f"{k}={v}" for k, v in held["changes"].items()) or "-")]  # fmt: skip
    lines += [_said("run", options.lang, **one) for one in held["runs"]]
    lines += [_said("replay", options.lang, path=path) for path in held["replays"]]
    _account(options, held, "\n".join(lines))
    return EXIT_DONE


def _json(bundle: Bundle) -> dict[str, Any]:
    from pipeline.evaluation.bundles import rows_in

    return {
        **asdict(bundle.settings), "folder": str(bundle.folder), "pairs": rows_in(bundle.pairs),
        "cases": rows_in(bundle.cases), "runs": [asdict(one) for one in bundle.runs],
        "replays": [str(path) for path in bundle.replays],
    }  # fmt: skip


def _said(entry: str, lang: str, **params: Any) -> str:
    return Sentence(f"bundle/{entry}", params, _WORDS).said(lang)


def _account(options: argparse.Namespace, held: Any, text: str) -> None:
    shown = json.dumps(held, ensure_ascii=False, indent=1, default=str) if options.format == "json" else text
    write_result(shown + "\n")
