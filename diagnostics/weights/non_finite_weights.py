"""WGT001: NaN and infinity among the stored weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds

if TYPE_CHECKING:
    from pipeline.weight_scan import TensorScan

_MASK = re.compile(r"mask|(?:^|\.)(?:attn|attention)\.bias$")
_SHOWN = 5  # tensors named in the evidence


def non_finite_weights(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """NaN and infinity among the stored weights.

    What it checks:
        Every element of every floating-point tensor, down to the last one.
    Why it matters:
        One NaN reaches every logit of every token behind it. Greedy decoding then answers with token 0 for ever and
        raises nothing; sampling fails, or with `remove_invalid_values` gives random tokens.
    How it is measured:
        Integer maxima of the raw bit patterns: all patterns from infinity on are not finite. Where one is found, NaN
        and infinities of that tensor are counted.
    Known false alarms:
        Attention masks saved as buffers hold minus infinity on purpose; tensors named so are only mentioned.
    Fix:
        Take the last checkpoint before the loss became NaN; train on in bf16 instead of fp16, with a lower learning
        rate or clipped gradients.
    References:
        https://github.com/sleekmike/Finetune_GPT-J_6B_8-bit/issues/7
        https://github.com/OpenBMB/MiniCPM-V/issues/549
    """
    scan = subject.weight_scan
    bad = [t for t in scan.tensors.values() if t.nan or t.inf]
    masks = [t for t in bad if not t.nan and _MASK.search(t.tensor.name)]
    bad = [t for t in bad if t not in masks]
    with_nan = [t for t in bad if t.nan]
    subject.metrics["weights.tensors"] = len(scan.tensors)
    subject.metrics["weights.bytes"] = scan.bytes_read
    subject.metrics["weights.nan"] = sum(t.nan for t in bad)
    subject.metrics["weights.inf"] = sum(t.inf for t in bad)
    if with_nan:
        yield error(
            "nan_in_weights", *map(_evidence, with_nan[:_SHOWN]), nan=sum(t.nan for t in with_nan),
            elements=sum(t.tensor.numel for t in with_nan), bad_tensors=len(with_nan), tensors=len(scan.tensors),
            first=with_nan[0].tensor.name, index=_index(with_nan[0]),
        )  # fmt: skip
    infinite = [t for t in bad if not t.nan]
    if infinite:
        # In float16 infinity is what a number too large for it becomes; in wider formats nothing sound does.
        cast = all(t.tensor.dtype == "F16" for t in infinite)
        yield error(
            "infinity_in_half" if cast else "infinity_in_weights",
            *map(_evidence, infinite[:_SHOWN]), inf=sum(t.inf for t in infinite),
            bad_tensors=len(infinite), tensors=len(scan.tensors), first=infinite[0].tensor.name,
            index=_index(infinite[0]), dtype=infinite[0].tensor.dtype,
        )  # fmt: skip
    if masks:
        yield info("mask_holds_infinity", *map(_evidence, masks[:_SHOWN]), masks=len(masks), first=masks[0].tensor.name)
    if scan.unread:
        yield info("part_unread", unread=len(scan.unread), first=scan.unread[0])
    if not bad:
        yield ok(tensors=len(scan.tensors), gigabytes=scan.bytes_read / 1e9)


def _index(scan: TensorScan) -> str:
    return str(scan.index_of(scan.first_bad or 0))


def _evidence(scan: TensorScan) -> tuple[str, dict[str, object]]:
    seen: dict[str, object] = {"nan": scan.nan, "inf": scan.inf, "elements": scan.tensor.numel}
    if scan.first_bad is not None:
        seen["first_at"] = scan.index_of(scan.first_bad)
    return (f"{scan.tensor.file}:{scan.tensor.name}", seen)
