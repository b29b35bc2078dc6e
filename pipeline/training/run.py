"""The process that trains, one for each rank: `accelerate launch ... -m pipeline.training.run JOB`, or by hand.

Reads JOB/recipe.yaml and JOB/data, writes metrics.jsonl, progress.json and the trainer's own folder. Ends with 0 when
it is done or was told to stop, 2 for what can't be used, 1 for everything else; a failure's last line is `error: ...`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.refusal import Refused
from pipeline.training.job_folder import DATA, EVAL_ROWS, RECIPE, TRAIN_ROWS, WAITING, Job
from pipeline.training.progress_file import ProgressFile
from pipeline.training.recipe import Recipe, parse_recipe

_POLL = 0.05  # seconds between two looks at the mark that says wait
_NO_PID = 5.0  # so long may the mark be without the id of a process


class StoppedEarly(Exception):
    """Told to stop before the first step: there is nothing to save."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        _say(f"error: usage: python -m pipeline.training.run JOB_FOLDER (given: {' '.join(arguments) or '-'})")
        return 2
    folder = Path(arguments[0]).absolute()
    job = Job(folder.name, folder)
    first = os.environ.get("RANK", "0") == "0"
    terminated = _Terminated()
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        progress = ProgressFile(folder, writes=first)
        recipe = read_job_recipe(job)
        progress.phase("importing")
        return _train(job, recipe, progress, terminated)
    except StoppedEarly:
        with suppress(Refused):
            progress.phase("stopped")
        _say("stopped before the first step; nothing was saved")
        return 0
    except Refused as refused:
        _say(f"error: {refused}")
        return 2
    except KeyboardInterrupt:
        _say("error: interrupted")
        return 3
    except Exception as failed:
        traceback.print_exc()
        lines = [line.strip() for line in str(failed).splitlines() if line.strip()]
        _say(f"error: {type(failed).__name__}: {' '.join(lines[:2])[:500]}")
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read_job_recipe(job: Job) -> Recipe:
    """Raises Refused."""
    path = job.path(RECIPE)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as failed:
        raise Refused("job_file_gone", job=job.id, path=path, why=failed.strerror or failed) from None
    except UnicodeDecodeError:
        raise Refused("job_file_gone", job=job.id, path=path, why="UTF-8") from None
    if not job.path(TRAIN_ROWS).is_file():
        raise Refused("job_file_gone", job=job.id, path=job.path(TRAIN_ROWS), why="-")
    return parse_recipe(text, path.stem).settled


class _Terminated:
    """Whether SIGTERM came, and what it is to end: nothing but a note once steps are being made."""

    def __init__(self) -> None:
        self.came = False
        self.asked: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self.asked is None:
            raise StoppedEarly
        self.asked.by_signal = True


def _train(job: Job, recipe: Recipe, progress: ProgressFile, terminated: _Terminated) -> int:
    from pipeline.checkpoint import open_checkpoint

    _settle_environment()
    output = Path(recipe.get("output_dir") or job.output).absolute()
    model = str(recipe.get("model_name_or_path") or "")
    encoder_decoder = bool(model) and open_checkpoint(model, model_config=recipe.get("model_config")).is_encoder_decoder
    kinds = _imported(recipe, encoder_decoder)
    resume = resume_point(recipe, output)
    _wait_for_start(job, progress)
    from pipeline.training.policy_model import open_policy
    from pipeline.training.step_records import Asked, StepRecords

    asked = Asked(job.folder, main=progress.writes)
    _may_begin(asked)
    records = StepRecords(job.folder, progress, asked)
    progress.phase("loading")
    _make_folder(output)
    makes = os.environ.get("LOCAL_RANK", "0") == "0"
    policy = open_policy(recipe, output, makes=makes, note=_say if makes else lambda line: None)
    _suit_threads(policy.model, recipe)
    data = _rows(job)
    if encoder_decoder:
        from pipeline.training.encoder_decoder_trainers import build_seq2seq_trainer

        trainer, settings = build_seq2seq_trainer(recipe, policy, kinds, output, data, progress)
    else:
        from pipeline.training.decoder_trainers import build_trainer

        trainer, settings = build_trainer(recipe, policy, kinds, output, data, progress)
    trainer.add_callback(records)
    records.counts_on(trainer, resume)
    _may_begin(asked)
    terminated.asked = asked
    trainer.train(resume_from_checkpoint=resume)
    training = settings.training
    if records.stopped:
        step = trainer.state.global_step
        trainer.end()
        progress.phase("stopped")
        records.close()
        _say(f"stopped after step {step} of {trainer.state.max_steps}")
        return 0
    progress.phase("saving")
    trainer.save_model(training.output_dir)
    trainer.save_state()
    if training.push_to_hub:
        trainer.push_to_hub()
    if progress.writes:
        _end_files(recipe, policy, job, output)
    trainer.end()
    progress.phase("done")
    records.close()
    if progress.writes:
        _say(f"done: {trainer.state.global_step} steps, saved in {training.output_dir}")
    return 0


def _settle_environment() -> None:
    """Before the libraries are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # `datasets` forks while it tokenises


def _imported(recipe: Recipe, encoder_decoder: bool) -> Any:
    """The trainer's classes. The seconds this takes are those in which the checks before the start run."""
    import datasets  # noqa: F401
    import peft  # noqa: F401

    if encoder_decoder:
        from pipeline.training.encoder_decoder_trainers import seq2seq_trainer_class

        return seq2seq_trainer_class(recipe.method)
    from pipeline.training.decoder_trainers import trainer_class

    return trainer_class(recipe.method)


def _wait_for_start(job: Job, progress: ProgressFile) -> None:
    """While JOB/waiting is there the checks still run. Raises Refused where the one who checks is gone."""
    mark = job.path(WAITING)
    began = time.monotonic()
    if mark.exists():
        progress.phase("waiting")
    while True:
        try:
            written = mark.read_text(encoding="utf-8", errors="replace").split()
        except FileNotFoundError:
            return
        except OSError as failed:
            raise Refused("job_folder_failed", path=mark, why=failed.strerror or failed) from None
        pid = int(written[0]) if written and written[0].isascii() and written[0].isdigit() else 0
        if pid:
            import psutil

            if not psutil.pid_exists(pid) or _is_zombie(pid):
                if not mark.exists():  # it took the mark away and ended
                    return
                raise Refused("train_starter_gone", path=mark, pid=pid)
        elif time.monotonic() - began > _NO_PID:
            raise Refused("train_starter_gone", path=mark, pid="?")
        time.sleep(_POLL)


def _is_zombie(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _may_begin(asked: Any) -> None:
    if asked.file.exists():
        raise StoppedEarly


def resume_point(recipe: Recipe, output: Path) -> str | None:
    """The checkpoint to go on from; None to begin at the start. Raises Refused for one that isn't whole."""
    from pipeline.training.checkpoints import last_whole, why_not_whole

    given = recipe.get("resume_from_checkpoint")
    if given is None or given is False or str(given).lower() in ("", "false", "no"):
        return None
    if given is True or str(given).lower() in ("true", "yes", "last"):
        found = last_whole(output)
        if found is None:
            raise Refused("train_nothing_to_resume", path=output)
        return str(found)
    if why := why_not_whole(Path(given)):
        raise Refused("train_resume_not_whole", path=given, why=why)
    return str(given)


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        raise Refused("job_folder_failed", path=output, why=failed.strerror or failed) from None


def _suit_threads(model: str, recipe: Recipe) -> None:
    """One thread for a tiny model on a CPU, by the size of its files; what the user set stays."""
    import torch

    if "OMP_NUM_THREADS" in os.environ or (torch.cuda.is_available() and not recipe.get("use_cpu", False)):
        return
    size = 0
    with suppress(OSError):
        size = sum(p.stat().st_size for p in Path(model).iterdir() if p.suffix in (".safetensors", ".bin"))
    if size:
        from pipeline.cpu_threads import suit_threads

        suit_threads(size // 2)


def _rows(job: Job) -> dict[str, Any]:
    """`train`, and `test` where rows are held out. Raises Refused for files that are no rows."""
    import datasets

    names = {"train": job.path(TRAIN_ROWS), "test": job.path(EVAL_ROWS)}
    files = {split: str(path) for split, path in names.items() if path.is_file() and path.stat().st_size}
    if "train" not in files:
        raise Refused("train_rows_unreadable", path=names["train"], why="0 bytes")
    try:
        with _without_patterns(job.path(DATA), files) as plain:
            return dict(datasets.load_dataset("json", data_files=plain))
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as failed:
        cause = failed.__cause__ or failed
        raise Refused("train_rows_unreadable", path=names["train"], why=str(cause).partition("\n")[0]) from None


@contextmanager
def _without_patterns(folder: Path, files: dict[str, str]) -> Iterator[dict[str, str]]:
    """The files by names that `datasets` takes as they are: it reads patterns, variables and addresses in them."""
    if not re.search(r"[*?\[\]{}$%~]|::|://", str(folder)):
        yield files
        return
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="rows-") as made:
        link = Path(made, DATA)
        try:
            link.symlink_to(folder, target_is_directory=True)
        except OSError:  # Windows without the right to make links
            shutil.copytree(folder, link)
        yield {split: str(link / Path(path).name) for split, path in files.items()}


def _end_files(recipe: Recipe, policy: Any, job: Job, output: Path) -> None:
    """What is beside the weights at the end. Failing here must not make a trained model a failure."""
    import shutil

    if policy.prepared is not None:
        if recipe.get("use_peft", False):
            _say(f"the adapter's base is {policy.prepared}: keep it with the adapter, or merge them")
        else:
            shutil.rmtree(policy.prepared, ignore_errors=True)
    if recipe.get("plot_loss", True):
        from pipeline.training.curves_page import write_curves

        try:
            write_curves(job.folder, output)
        except OSError as failed:
            _say(f"the curves could not be drawn: {failed.strerror or failed}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
