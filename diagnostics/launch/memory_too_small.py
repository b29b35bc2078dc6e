"""RUN025: memory that the run needs against what this machine has."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from diagnostics.words import in_both_languages
from pipeline.refusal import Sentence
from pipeline.training.environment import free_ram
from pipeline.training.memory_needed import Change, gigabytes, what_fits


def memory_too_small(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        An estimate of the memory that weights, reference, gradients, optimizer and activations take, against what is
        free on each GPU, or of main memory.
    Why it matters:
        Most runs that end for want of memory end at their longest row, often hours in.
    How it is measured:
        By documented formulae, part by part, with the lengths of the rows where they are known; see
        pipeline/training/memory_needed.py.
    Known false alarms:
        An estimate within a tenth or two of what there is may be wrong either way, so it is only a warning.
    Fix:
        The changes that are named, which change no result first.
    References:
        https://arxiv.org/abs/1910.02054
        https://arxiv.org/abs/2205.05198
    """
    needed = subject.memory
    subject.metrics |= {"memory.device": needed.device, "memory.host": needed.host}
    ram = free_ram()
    cpu = needed.settings.device == "cpu"
    gpus = subject.gpus[: subject.settings.on_host]
    if not cpu and not gpus:
        raise NotMeasured("no_gpu_seen")
    if cpu and ram is None:
        raise NotMeasured("memory_unknown")
    there = (ram or 0) if cpu else min(gpu.free for gpu in gpus)
    asked = needed.host if cpu else needed.device
    subject.metrics["memory.free"] = there
    if not cpu and ram is not None and needed.host > ram:
        yield warning("host_too_small", ("main memory", ram), needed=gigabytes(needed.host), free=gigabytes(ram))
    share = asked / max(there, 1)
    numbers = {"needed": gigabytes(asked), "free": gigabytes(there)}
    evidence = (("free", there), ("needed", asked), *((part.name, part.bytes) for part in needed.parts))
    room = there if share > limits["memory_share_error"] else int(there * 0.9)
    offered = what_fits(needed, room, ram) if share > limits["memory_share_warn"] else []
    changes = [in_both_languages(_said(change)) for change in offered[:4]]
    if share > limits["memory_share_error"] and not (offered and offered[-1].fits):
        yield error("fits_in_no_way", *evidence, changes=changes, **numbers)
    elif share > limits["memory_share_error"]:
        yield error("too_small", *evidence, changes=changes, **numbers)
    elif share > limits["memory_share_warn"]:
        yield warning("tight", *evidence, changes=changes, **numbers)
    else:
        yield ok(**numbers)
    if not cpu and any(gpu.free < limits["gpu_free_share"] * gpu.total for gpu in gpus):
        busy = min(gpus, key=lambda gpu: gpu.free / max(gpu.total, 1))
        yield info(
            "gpu_in_use", (busy.name, busy.free), name=busy.name, free=gigabytes(busy.free), total=gigabytes(busy.total)
        )


def _said(change: Change) -> Sentence:
    def shown(value: object) -> str:
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    why = Sentence(f"memory/change/{change.entry}", {}, "training")
    params = {"field": change.field, "before": shown(change.before), "after": shown(change.after),
              "size": gigabytes(change.device), "why": why}  # fmt: skip
    return Sentence("memory/change_line", params, "training")
