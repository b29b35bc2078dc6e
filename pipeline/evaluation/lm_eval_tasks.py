"""Tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), where it is installed.

Run as a process of its own, once a model, with its samples kept: `python -m lm_eval --model hf ... --log_samples`. Its
files `samples_TASK_TIME.jsonl` say of every document what was right, so that before and after are paired. Only measures
that are 0 or 1 of each document are read; tasks with others (perplexity, BLEU) have no right and wrong.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import processes
from pipeline.config_files import load_config
from pipeline.evaluation.abilities import Answered, Outside
from pipeline.refusal import Refused

if TYPE_CHECKING:
    from pipeline.candidates.open_makers import ModelFiles

SOURCE = "lm_eval"
MEASURES = ("exact_match", "acc_norm", "acc", "em", "pass@1", "prompt_level_strict_acc")
"""Of one document, the first that it has."""
_MOST_LINE = 2**24  # characters of one sample
_TEXT = 4000  # characters kept of a question or an answer


def need_lm_eval() -> None:
    """Raises Refused where it isn't installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise Refused("lm_eval_absent")


def run_lm_eval(
    tasks: Sequence[str], models: Mapping[str, ModelFiles], *, device: str, dtype: str | None = None,
    limit: int | None = None, batch_size: int | None = None, cancel: threading.Event | None = None,
    told: Callable[[str, int], None] = lambda model, done: None,
) -> list[Outside] | None:  # fmt: skip
    """One Outside for each task that all models did. None: `cancel` was set. told: the model's name, models done.
    Raises Refused where it isn't installed, for a model without a folder, and where it makes no result."""
    need_lm_eval()
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for done, (name, files) in enumerate(models.items()):
        told(name, done)
        with tempfile.TemporaryDirectory(prefix="dpo-doctor-lm-eval-") as place:
            argv = command(tasks, files, Path(place), device=device, dtype=dtype, limit=limit, batch_size=batch_size)
            said = _run(argv, Path(place), cancel)
            if said is None:
                return None
            for task, samples in read_samples(Path(place)).items():
                found.setdefault(task, {})[name] = samples
            if not any(name in held for held in found.values()):
                raise Refused("lm_eval_failed", tasks=", ".join(tasks), model=name, why=said)
    return [paired(task, held) for task, held in found.items() if held.keys() == models.keys()]


def command(
    tasks: Sequence[str], files: ModelFiles, place: Path, *, device: str, dtype: str | None = None,
    limit: int | None = None, batch_size: int | None = None,
) -> list[str]:  # fmt: skip
    """The argument list of one model."""
    given = [f"pretrained={_place(files.checkpoint)}"]
    if files.adapter is not None:
        given.append(f"peft={_place(files.adapter)}")
    if dtype is not None:
        given.append(f"dtype={dtype}")
    argv = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", ",".join(given), "--tasks",
            ",".join(tasks), "--device", device, "--output_path", str(place), "--log_samples",
            "--batch_size", str(batch_size or 8)]  # fmt: skip
    return [*argv, "--limit", str(limit)] if limit is not None else argv


def _place(checkpoint: Any) -> str:
    folder = checkpoint.local_folder()
    return str(folder) if folder is not None else str(checkpoint.given)


def _run(argv: Sequence[str], place: Path, cancel: threading.Event | None) -> str | None:
    """Its last line of output; None where `cancel` was set."""
    until = time.monotonic() + float(load_config("evaluation.yaml")["abilities"]["lm_eval_seconds"])
    with open(place / "output.txt", "wb") as output:
        child = processes.start(argv, stdout=output, stderr=processes.STDOUT)
        try:
            while child.poll() is None:
                with suppress(processes.TimeoutExpired):
                    child.wait(timeout=0.2)
                if cancel is not None and cancel.is_set():
                    return None
                if time.monotonic() > until:
                    break
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    lines = (place / "output.txt").read_bytes()[-4000:].decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"status {child.returncode}"


# --- its files ---------------------------------------------------------------------------------------------------


def read_samples(place: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Samples by task, then by document; those without a right or wrong are left out."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(place.rglob("samples_*.jsonl")):
        task = path.stem.removeprefix("samples_").rpartition("_")[0] or path.stem
        for sample in _lines(path):
            measure = _measure(sample)
            document = sample.get("doc_id")
            if measure is None or not isinstance(document, int):
                continue
            key = str(sample.get("doc_hash") or document)
            if sample.get("filter", "none") != "none" and key in found.get(task, {}):
                continue  # the same answer, read by another filter
            found.setdefault(task, {})[key] = {**sample, "right": measure}
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        while line := file.readline(_MOST_LINE):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def _measure(sample: Mapping[str, Any]) -> bool | None:
    value = next((sample[name] for name in MEASURES if name in sample), None)
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def paired(task: str, held: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Outside:
    """Documents that every model did."""
    models = list(held)
    common = [key for key in held[models[0]] if all(key in held[model] for model in models)]
    made = Outside(task, SOURCE, 0.0, [], {model: [] for model in models}, [])
    chances = []
    for key in common:
        first = held[models[0]][key]
        options = _requests(first)
        chances.append(1 / len(options) if len(options) > 1 else 0.0)
        made.questions.append(_question(first))
        made.expected.append(_target(first, options))
        for model in models:
            sample = held[model][key]
            made.answers[model].append(Answered(_answer(sample, options), sample["right"]))
    made.chance = sum(chances) / len(chances) if chances else 0.0
    return made


def _requests(sample: Mapping[str, Any]) -> list[str]:
    """The options of a choice: what stands second in each request."""
    arguments = sample.get("arguments")
    requests = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    found = []
    for one in requests if isinstance(requests, list) else ():
        parts = list(one.values()) if isinstance(one, Mapping) else one
        if isinstance(parts, list) and len(parts) > 1 and isinstance(parts[1], str):
            found.append(parts[1].strip()[:_TEXT])
    return found


def _question(sample: Mapping[str, Any]) -> str:
    document = sample.get("doc")
    if isinstance(document, Mapping):
        for name in ("question", "query", "prompt", "text", "input", "sentence", "ctx", "problem"):
            if isinstance(document.get(name), str):
                return str(document[name])[:_TEXT]
    return json.dumps(document, ensure_ascii=False, default=str)[:_TEXT]


def _target(sample: Mapping[str, Any], options: Sequence[str]) -> str:
    target = str(sample.get("target"))
    place = int(target) if target.isdecimal() and len(target) < 4 else len(options)
    return options[place] if len(options) > 1 and place < len(options) else target[:_TEXT]


def _answer(sample: Mapping[str, Any], options: Sequence[str]) -> str:
    """What was written, or the likeliest option."""
    answers = sample.get("filtered_resps")
    if not isinstance(answers, list) or not answers:
        return ""
    if len(options) > 1 and len(answers) == len(options):
        scores = [one[0] if isinstance(one, list) and one else None for one in answers]
        numbers = [_number(score) for score in scores]
        known = [number for number in numbers if number is not None]
        return options[numbers.index(max(known))] if len(known) == len(options) else ""
    return str(answers[0])[:_TEXT]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
