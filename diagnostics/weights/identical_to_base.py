"""WGT006: a training result that is the base itself."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds


def identical_to_base(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """A training result that is the base itself.

    What it checks:
        Whether every tensor is equal to its counterpart in `--base`, also after a change of dtype.
    Why it matters:
        A pipeline that samples from, or trains on, the untouched base while everybody believes it to be the SFT result
        gives answers as if SFT had done nothing. It happens when the trainer writes to another folder than the one
        that is read, or when a frozen or failed run saves what it loaded.
    How it is measured:
        xxh3-128 of all bytes of every tensor. Where the dtypes differ, all elements of the base cast to the dtype of
        the checkpoint, bit by bit.
    Known false alarms:
        None: equal is equal. If the base given is really the SFT result, the finding says just that.
    Fix:
        Point at the folder the trainer wrote to (it holds trainer_state.json or training_args.bin). If this is that
        folder, look at the run: frozen parameters, learning rate 0, an adapter that was never merged.
    References:
        https://github.com/charent/ChatLM-mini-Chinese
        https://github.com/yuanzhoulvpi2017/zero_nlp/issues/9
    """
    distance = subject.distance_to_base
    changed = [p for p in distance.pairs if not p.equal]
    equal = len(distance.pairs) - len(changed)
    subject.metrics["weights.equal_to_base"] = equal / len(distance.pairs)
    where = f"{subject.checkpoint.name} / {subject.local_base.name if subject.local_base else ''}"
    evidence = (where, {"equal": equal, "shared": len(distance.pairs), "only_here": len(distance.only_ours)})
    if not changed and distance.covered >= limits["base_covered_min"]:
        yield error("identical", evidence, tensors=equal, share=100 * distance.covered)
    elif not changed:
        yield info("shared_part_identical", evidence, tensors=equal, share=100 * distance.covered,
                   first=distance.only_ours[0] if distance.only_ours else "")  # fmt: skip
    elif len(changed) <= 2 < equal:
        yield info("nearly_identical", evidence, *((p.name, p.relative) for p in changed), changed=len(changed),
                   tensors=len(distance.pairs), names=[p.name for p in changed])  # fmt: skip
    else:
        yield ok(changed=len(changed), tensors=len(distance.pairs), equal=equal)
