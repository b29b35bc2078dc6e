"""CKP001: what lies at the given path."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, ok
from diagnostics.thresholds import Thresholds


def not_a_checkpoint(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What lies at the given path.

    What it checks:
        Whether the path is a model folder, a folder of such folders, an adapter, a weight file, or something else.
    Why it matters:
        A wrong path is the cheapest mistake of all, and frameworks answer it with a long traceback or, worse, by
        loading another model of the same name.
    How it is measured:
        By the names in the folder and the first bytes of the file, never by the suffix alone.
    Known false alarms:
        A format this project does not read (GGUF, TensorFlow) is no checkpoint to it, though it may be a good model.
    Fix:
        Give the folder that holds config.json and the weights, or the weight file itself.
    References:
        https://huggingface.co/docs/safetensors/index#format
    """
    checkpoint = subject.checkpoint
    where = checkpoint.store.label
    if checkpoint.problem is not None:
        yield error(checkpoint.problem, (where, checkpoint.detail or checkpoint.problem), given=checkpoint.given,
                    detail=checkpoint.detail)  # fmt: skip
        return
    yield ok(checkpoint.kind, (where, checkpoint.kind), given=checkpoint.given)
