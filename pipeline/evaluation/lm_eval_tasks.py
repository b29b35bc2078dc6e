"""Tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), where it is installed.

Run as a process of its own, once a model, with its samples kept: `python -m lm_eval --model hf ... --log_samples`. Its
files `samples_TASK_TIME.jsonl` say of every document what was right, so that before and after are paired. Only measures
that are 0 or 1 of each document are read; tasks with others (perplexity, BLEU) have no right and wrong. Asked as the
task says, without a chat template.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import processes
from pipeline.config_files import load_config
from pipeline.evaluation.abilities import Answered, Outside
from pipeline.refusal import Refused

if TYPE_CHECKING:
    from pipeline.evaluation.adapters_on_base import Placed

SOURCE = "lm_eval"
MEASURES = ("exact_match", "acc_norm", "acc_bytes", "acc", "accuracy", "em", "math_verify", "pass@1", "pass_at_1",
            "prompt_level_strict_acc")  # fmt: skip
"""Of one document, the first that it has."""
_MOST_LINE = 2**24  # characters of one sample
_TEXT = 4000  # characters kept of a question or an answer
# Names that are no task, each with the nearest one that is; a name may be a pattern or the path of a task's YAML.
_UNKNOWN = """
import difflib, json, os, sys
from lm_eval.tasks import TaskManager
tasks = TaskManager(include_path=sys.argv[1] or None)
absent = [name for name in sys.argv[2:] if not os.path.isfile(name) and not tasks.match_tasks([name])]
print(json.dumps([[name, difflib.get_close_matches(name, tasks.all_tasks, n=1, cutoff=0.5)] for name in absent]))
"""


@dataclass(frozen=True)
class Sample:
    """One document of a task, answered. choices: options that it has, 0 where the answer is written."""

    question: str
    expected: str
    answer: str
    right: bool
    choices: int


Samples = dict[str, dict[str, dict[str, Sample]]]
"""By task, by filter (the way an answer is read out of what was written), by document."""


@dataclass
class Ran:
    """tasks: those that before and another model did. left_out: documents of a task that have no right or wrong."""

    tasks: list[Outside] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False


def need_lm_eval(tasks: Sequence[str] = (), folder: str | None = None,
                 cancel: threading.Event | None = None) -> None:  # fmt: skip
    """Raises Refused where it isn't installed, or a task isn't known to it. folder: with tasks of one's own."""
    if importlib.util.find_spec("lm_eval") is None:
        raise Refused("lm_eval_absent")
    if folder is not None and not Path(folder).is_dir():
        raise Refused("lm_eval_no_folder", path=folder)
    if not tasks:
        return
    with tempfile.TemporaryDirectory(prefix="dpo-doctor-lm-eval-") as place:
        ended = _run([sys.executable, "-P", "-c", _UNKNOWN, folder or "", *tasks], Path(place), cancel)
    if ended is None:
        return
    try:
        unknown = json.loads(ended.last_line)
    except ValueError:
        unknown = None
    if ended.status or not isinstance(unknown, list):
        raise Refused("lm_eval_cannot_start", why=ended.last_line)
    for name, near in unknown:
        if near:
            raise Refused("lm_eval_task_near", value=name, near=near[0])
        raise Refused("lm_eval_task_unknown", value=name)


def run_lm_eval(
    tasks: Sequence[str], models: Mapping[str, Placed], *, device: str, dtype: str | None = None,
    limit: int | None = None, batch_size: int | None = None, folder: str | None = None,
    cancel: threading.Event | None = None, told: Callable[[str, int], None] = lambda model, done: None,
) -> Ran:  # fmt: skip
    """The first of `models` is before. told: the model's name, models done. Where `cancel` was set, what the models did
    that were done. Raises Refused for a model with which it fails, and where no task tells right from wrong."""
    found: dict[str, Samples] = {}
    untold: dict[str, int] = {}
    ran = Ran()
    for done, (name, placed) in enumerate(models.items()):
        told(name, done)
        with tempfile.TemporaryDirectory(prefix="dpo-doctor-lm-eval-") as given:
            place = Path(given)
            argv = command(tasks, placed, place, device=device, dtype=dtype, limit=limit, batch_size=batch_size,
                           folder=folder)  # fmt: skip
            ended = _run(argv, place, cancel)
            if ended is None:
                ran.interrupted = True
                break
            found[name], untold = read_samples(place)
            if ended.status or not (found[name] or untold):
                raise Refused("lm_eval_failed", tasks=", ".join(tasks), model=name, why=ended.last_line)
            if not found[name]:
                raise Refused("lm_eval_no_right", tasks=", ".join(untold))
    if len(found) > 1:
        for task in next(iter(found.values())):
            if made := paired(task, {name: held.get(task, {}) for name, held in found.items()}):
                ran.tasks.append(made)
        ran.left_out = {f"{task}: no_right_or_wrong": count for task, count in untold.items()}
    return ran


def command(
    tasks: Sequence[str], placed: Placed, place: Path, *, device: str, dtype: str | None = None,
    limit: int | None = None, batch_size: int | None = None, folder: str | None = None,
) -> list[str]:  # fmt: skip
    """The argument list of one model. Its folders get short names in `place`: the harness splits arguments at commas,
    and names the folder of its results after the model's whole path."""
    given = [f"pretrained={_linked(placed.checkpoint, place / 'model')}"]
    if placed.adapter is not None:
        given.append(f"peft={_linked(placed.adapter, place / 'adapter')}")
    if placed.tokenizer is not placed.checkpoint:
        given.append(f"tokenizer={_linked(placed.tokenizer, place / 'adapter')}")
    if dtype is not None:
        given.append(f"dtype={dtype}")
    # -P: a file in the working folder that is called like a package isn't that package
    argv = [sys.executable, "-P", "-m", "lm_eval", "--model", "hf", "--model_args", ",".join(given), "--tasks",
            ",".join(tasks), "--device", device, "--output_path", str(place / "results"), "--log_samples",
            "--batch_size", str(batch_size or 8)]  # fmt: skip
    if folder is not None:
        argv += ["--include_path", folder]
    return [*argv, "--limit", str(limit)] if limit is not None else argv


def _linked(checkpoint: Any, link: Path) -> str:
    folder = checkpoint.local_folder()
    if folder is None:
        return str(checkpoint.given)
    try:
        if not link.is_symlink():
            link.symlink_to(folder.resolve(), target_is_directory=True)
    except OSError:  # Windows without the right to
        return str(folder)
    return str(link)


@dataclass(frozen=True)
class _Ended:
    status: int
    last_line: str


def _run(argv: Sequence[str], place: Path, cancel: threading.Event | None) -> _Ended | None:
    """None where `cancel` was set. Raises Refused where it takes longer than it may."""
    seconds = float(load_config("evaluation.yaml")["abilities"]["lm_eval_seconds"])
    until = time.monotonic() + seconds
    with open(place / "output.txt", "wb") as output:
        child = processes.start(argv, stdout=output, stderr=processes.STDOUT)
        try:
            while child.poll() is None:
                with suppress(processes.TimeoutExpired):
                    child.wait(timeout=0.2)
                if cancel is not None and cancel.is_set():
                    return None
                if time.monotonic() > until:
                    raise Refused("lm_eval_too_long", hours=round(seconds / 3600, 1))
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    if cancel is not None and cancel.is_set():  # Ctrl-C in a terminal ends the child as well
        return None
    said = (place / "output.txt").read_bytes()[-2**16:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return _Ended(child.returncode, lines[-1][:300] if lines else f"status {child.returncode}")


# --- its files ---------------------------------------------------------------------------------------------------


def read_samples(place: Path) -> tuple[Samples, dict[str, int]]:
    """Of all files below; and the documents that have no right or wrong, by task."""
    found: Samples = {}
    untold: dict[str, int] = {}
    for path in sorted(place.rglob("samples_*.jsonl")):
        task = path.stem.removeprefix("samples_").rpartition("_")[0] or path.stem
        for line in _lines(path):
            measure = _measure(line)
            document = line.get("doc_id")
            if not isinstance(document, int):
                continue
            if measure is None:
                untold[task] = untold.get(task, 0) + 1
                continue
            held = found.setdefault(task, {}).setdefault(str(line.get("filter", "none")), {})
            # the number alone would pair other documents where the data has changed; the hash alone, repeated ones
            held[f"{document} {line.get('doc_hash', '')}"] = _sample(line, *measure)
    return found, untold


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        while line := file.readline(_MOST_LINE):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def _measure(line: Mapping[str, Any]) -> tuple[str, bool] | None:
    """The measure and whether it says right."""
    name = next((name for name in MEASURES if name in line), None)
    value = None if name is None else line[name]
    if name is None or not isinstance(value, (bool, int, float)) or value not in (0, 1):
        return None
    return name, bool(value)


def _sample(line: Mapping[str, Any], measure: str, right: bool) -> Sample:
    options = _options(line)
    lengths = {"acc_norm": [len(text) for text in options],
               "acc_bytes": [len(text.encode("utf-8", "surrogatepass")) for text in options]}.get(measure)  # fmt: skip
    answer = _answer(line, options, lengths)
    expected = answer if right and options else _target(line, options)
    return Sample(_question(line), expected[:_TEXT].strip(), answer[:_TEXT].strip(), right, len(options))


def paired(task: str, held: Mapping[str, Mapping[str, Mapping[str, Sample]]]) -> Outside | None:
    """Documents that every model did, by model and filter. Of several filters the one by which most is right in all
    models together: what is lost by a stricter one alone is the form of answers. None: no document has a right or
    wrong."""
    models = list(held)
    filters = [name for name in held[models[0]] if all(name in held[model] for model in models)]
    if not filters:
        return None
    chosen = max(filters, key=lambda name: sum(one.right for model in models for one in held[model][name].values()))
    samples = {model: held[model][chosen] for model in models}
    made = Outside(task, SOURCE, 0.0, [], {model: [] for model in models}, [])
    chances = []
    for key, first in samples[models[0]].items():
        if not all(key in samples[model] for model in models):
            continue
        chances.append(1 / first.choices if first.choices > 1 else 0.0)
        made.questions.append(first.question)
        made.expected.append(next((one.expected for model in models if (one := samples[model][key]).right),
                                  first.expected))  # fmt: skip
        for model in models:
            made.answers[model].append(Answered(samples[model][key].answer, samples[model][key].right))
    if not chances:
        return None
    made.chance = sum(chances) / len(chances)
    return made


def _options(line: Mapping[str, Any]) -> list[str]:
    """The options of a choice: what stands second in each request, or first where that differs (an option within the
    sentence, as in Winogrande). Empty where there are none."""
    arguments = line.get("arguments")
    requests = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    found: tuple[list[str], list[str]] = ([], [])
    for one in requests if isinstance(requests, list) else ():
        parts = list(one.values()) if isinstance(one, Mapping) else one
        if isinstance(parts, list) and len(parts) > 1 and isinstance(parts[0], str) and isinstance(parts[1], str):
            for texts, text in zip(found, parts, strict=False):
                texts.append(text)
    contexts, options = found
    if len(options) < 2:
        return []
    return contexts if len(set(options)) == 1 and len(set(contexts)) > 1 else options


def _question(line: Mapping[str, Any]) -> str:
    document = line.get("doc")
    if isinstance(document, Mapping):
        for name in ("question", "query", "prompt", "text", "input", "sentence", "ctx", "problem"):
            if isinstance(document.get(name), str):
                return str(document[name])[:_TEXT]
    return json.dumps(document, ensure_ascii=False, default=str)[:_TEXT]


def _target(line: Mapping[str, Any], options: Sequence[str]) -> str:
    target = str(line.get("target"))
    place = int(target) if target.isdecimal() and len(target) < 4 else len(options)
    return options[place] if len(options) > 1 and place < len(options) else target


def _answer(line: Mapping[str, Any], options: Sequence[str], lengths: Sequence[int] | None) -> str:
    """What was written, or the likeliest option, in all or by its length."""
    answers = line.get("filtered_resps")
    if not isinstance(answers, list) or not answers:
        return ""
    if options:
        scores = [_number(one[0] if isinstance(one, list) and one else one) for one in answers[: len(options)]]
        if len(scores) < len(options) or None in scores:
            return ""
        apart = [(score or 0.0) / max(1, length) for score, length in
                 zip(scores, lengths or [1] * len(scores), strict=True)]  # fmt: skip
        return options[apart.index(max(apart))]
    first = answers[0]
    return str(first[0] if isinstance(first, list) and first else first)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
