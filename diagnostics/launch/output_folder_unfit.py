"""RUN023: a folder to write to, and a checkpoint to go on from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.training.checkpoints import checkpoints_in, last_whole, why_not_whole
from pipeline.training.environment import existing_parent

_JOBS_OWN = {"recipe.yaml", "command.txt", "status.json", "log.txt", "metrics.jsonl", "accelerate.yaml", "checks.json",
             "asked.yaml", "data", "output", "stop", "waiting", ".job", "progress.json"}  # fmt: skip


def output_folder_unfit(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether output_dir can be written, holds no other run's result, and whether the checkpoint to resume from is
        whole.
    Why it matters:
        A run into a folder with older checkpoints mixes with them: save_total_limit deletes the older ones, and a later
        resume may take one of another run. A checkpoint that was being saved when its run was killed can't be resumed.
    How it is measured:
        By the folder's permissions and names; a checkpoint is whole where its trainer_state.json, weights and optimizer
        are there and can be read.
    Known false alarms:
        A folder prepared by hand on purpose.
    Fix:
        Name an empty output_dir, or resume from the whole checkpoint that is named.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#checkpoints
    """
    output = subject.output
    if output is None and subject.get("resume_from_checkpoint") is None:
        raise NotMeasured("own_folder")
    found = False
    resumes = False
    for seen in _resume(subject, output):
        found = found or seen.severity != "ok"
        resumes = True
        yield seen
    if output is None:
        return
    if output.exists() and not output.is_dir():
        yield error("not_a_folder", ("output_dir", str(output)), path=str(output))
        return
    place = existing_parent(output)
    if not os.access(place, os.W_OK | os.X_OK):
        yield error("not_writable", ("output_dir", str(output)), path=str(place))
        return
    older = checkpoints_in(output)
    if older and not resumes:
        found = True
        yield warning(
            "older_checkpoints", ("output_dir", str(output)), path=str(output), name=older[-1].name, found=len(older)
        )
    elif not resumes and (names := _others(output, subject)):
        found = True
        yield info("not_empty", ("output_dir", names[:5]), path=str(output), found=len(names))
    if not found:
        yield ok(path=str(output))


def _others(output: Path, subject: RecipeSubject) -> list[str]:
    own = _JOBS_OWN if subject.at is not None and output.absolute() == subject.at else {".job"}
    with suppress(OSError):
        return sorted(name for name in os.listdir(output) if name not in own)
    return []


def _resume(subject: RecipeSubject, output: Path | None) -> Iterator[Observation]:
    given = subject.get("resume_from_checkpoint")
    if given in (None, False) or str(given).lower() in ("", "false", "no"):
        return
    evidence = ("resume_from_checkpoint", given)
    if given is True or str(given).lower() in ("true", "yes", "last"):
        whole = last_whole(output) if output is not None else None
        if whole is None:
            yield error("nothing_to_resume", evidence, path=str(output or "?"))
        else:
            yield ok("resumes", path=str(whole))
        return
    path = Path(str(given)).expanduser()
    if not path.is_dir():
        yield error("resume_not_there", evidence, path=str(path))
    elif why := why_not_whole(path):
        other = last_whole(path.parent)
        yield error("resume_not_whole", evidence, path=str(path), why=why, other=str(other or "-"))
    else:
        yield ok("resumes", path=str(path))
