"""CKP012: the result of the training run lies in another folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint, PathNotFound, open_checkpoint
from pipeline.file_store import LocalFolder

# What a Trainer leaves with what it saves; a model that was only downloaded or merged by hand has none.
_MARKS = ("trainer_state.json", "training_args.bin")
_SAME_FIELDS = ("model_type", "vocab_size", "hidden_size", "d_model", "n_embd", "num_hidden_layers", "n_layer")
_MOST_FOLDERS = 200


def result_lies_elsewhere(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """The result of the training run lies in another folder.

    What it checks:
        A folder with weights that no trainer wrote, and in it (or beside it) a newer checkpoint of the same model that
        one did.
    Why it matters:
        When the run writes to model_save/sft and the next stage reads model_save, it works with the weights from
        before the run: the rejected answers come from a model that was never fine-tuned.
    How it is measured:
        By trainer_state.json and training_args.bin, the date of the weights, and the sizes in config.json. Beside it
        only a run whose configuration names this very folder as its start counts.
    Known false alarms:
        Copied and downloaded folders have any date, so a result must be newer by hours, and it stays a warning. A
        final model saved into the run's own folder is newer than the checkpoints in it and is not reported.
    Fix:
        Give the folder named here; point the next stage at it too.
    References:
        https://github.com/charent/ChatLM-mini-Chinese
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "folder" or not isinstance(checkpoint.store, LocalFolder):
        raise NotMeasured("is_an_adapter" if checkpoint.kind == "adapter" else "no_file_dates")
    if not checkpoint.weight_names:
        raise NotMeasured("no_weights")
    own = [m for m in _MARKS if m in checkpoint.store.names()]
    if own or checkpoint.chosen_folder is not None:
        yield ok("is_a_result", marks=named(own) or checkpoint.chosen_folder or "")
        return
    here = checkpoint.store.path
    written = _written(checkpoint)
    inside = _results(checkpoint, [here / f for f in checkpoint.store.folders()[:_MOST_FOLDERS]], deeper=True)
    newer = [(when - written, path) for path, when in inside if when - written > limits["result_newer_seconds"]]
    if newer:
        late, path = max(newer)
        yield warning("newer_result_inside", (str(path), {"newer_by_hours": round(late / 3600, 1)}),
                      folder=str(path.relative_to(here)), hours=late / 3600, marks=" / ".join(_MARKS))  # fmt: skip
        return
    begun = _begun_here(checkpoint)
    if begun is not None:
        yield info("run_began_here", (str(begun), str(here)), folder=begun.name)
    else:
        yield ok()


def _written(checkpoint: Checkpoint) -> float:
    return max((checkpoint.store.modified(n) or 0.0 for n in checkpoint.weight_names), default=0.0)


def _results(checkpoint: Checkpoint, folders: list[Path], *, deeper: bool) -> list[tuple[Path, float]]:
    """Folders among these that hold the same model as a trainer wrote it, and when."""
    found = []
    for folder in folders:
        try:
            candidate = open_checkpoint(str(folder))
            store = candidate.store
            if not isinstance(store, LocalFolder) or not candidate.weight_names or candidate.kind != "folder":
                continue
            if any(m in store.names() for m in _MARKS) and _same_model(checkpoint, candidate):
                found.append((store.path if deeper else folder, _written(candidate)))
        except (PathNotFound, OSError):
            continue
    return found


def _same_model(left: Checkpoint, right: Checkpoint) -> bool:
    both = [(left.config.get(key), right.config.get(key)) for key in _SAME_FIELDS]
    return left.config.value is not None and any(a is not None for a, _ in both) and all(a == b for a, b in both)


def _begun_here(checkpoint: Checkpoint) -> Path | None:
    """A run beside this folder whose configuration says that it started from this very folder."""
    if not isinstance(checkpoint.store, LocalFolder):
        return None
    try:
        here = checkpoint.store.path.resolve()
        beside = [p for p in (here.parent / f for f in LocalFolder(here.parent).folders()[:_MOST_FOLDERS]) if p != here]
    except OSError:
        return None
    for folder, _ in _results(checkpoint, beside, deeper=False):
        start = open_checkpoint(str(folder)).config.get("_name_or_path")
        if isinstance(start, str) and start:
            for base in (Path(start), folder / start, folder.parent / start):
                try:
                    if base.resolve() == here:
                        return folder
                except (OSError, ValueError):
                    continue
    return None
