"""How far a checkpoint has moved from its base, tensor by tensor and layer by layer.

Whether two tensors are equal is decided exactly, on all bytes; distances and cosines are measured on up to
`SAMPLE_ELEMENTS` elements of each tensor, in evenly spaced pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median

import numpy as np

from pipeline.checkpoint import Checkpoint
from pipeline.weight_file import TensorInfo
from pipeline.weight_names import bare_name, by_bare_name, embedding_tensor, head_tensor, layer_of
from pipeline.weight_scan import TensorScan, WeightScan
from pipeline.weight_values import VALUE_BYTES, WeightBytes, as_stored, pieces

PIECE_ELEMENTS = 64 * 1024
# One percent accuracy of a relative distance needs some 10,000 elements; 16 pieces of 65,536 also see uneven layers.
SAMPLE_ELEMENTS = 2**20


@dataclass(frozen=True)
class TensorPair:
    """One tensor and its counterpart in the base.

    elements: how many both have (rows of a resized embedding in common). relative: |ours - base| / |base|.
    cosine: between the two, None where one of them is zero. resized: only the leading rows could be compared.
    """

    name: str
    base_name: str
    layer: str
    elements: int
    equal: bool
    relative: float
    cosine: float | None
    matrix: bool
    resized: bool = False


@dataclass(frozen=True)
class LayerDistance:
    layer: str
    relative: float
    cosine: float | None


@dataclass(frozen=True)
class Distance:
    """pairs: what both have. only_ours, only_base: names without a counterpart or of another shape."""

    pairs: tuple[TensorPair, ...]
    only_ours: tuple[str, ...]
    only_base: tuple[str, ...]
    elements: int  # of all our tensors with values

    @property
    def covered(self) -> float:
        """Share of our elements that have a counterpart."""
        return sum(p.elements for p in self.pairs) / self.elements if self.elements else 0.0

    @property
    def typical(self) -> float:
        """Median of the matrices' relative distances."""
        return median(p.relative for p in self.matrices) if self.matrices else 0.0

    @property
    def matrices(self) -> tuple[TensorPair, ...]:
        """Without norms and biases, and without a head that was compared with an embedding."""
        return tuple(p for p in self.pairs if p.matrix and bare_name(p.name) == bare_name(p.base_name))

    @cached_property
    def layers(self) -> tuple[LayerDistance, ...]:
        """Matrices of each layer, in the order they are stored; the cosine of a layer is its median."""
        groups: dict[str, list[TensorPair]] = {}
        for pair in self.matrices:
            groups.setdefault(pair.layer, []).append(pair)
        found = []
        for layer, members in groups.items():
            weight = sum(p.elements for p in members)
            squares = sum(p.relative**2 * p.elements for p in members)
            cosines = [p.cosine for p in members if p.cosine is not None]
            found.append(LayerDistance(layer, math.sqrt(squares / weight), median(cosines) if cosines else None))
        return tuple(sorted(found, key=lambda d: [int(p) if p.isdigit() else -1 for p in d.layer.split(".")]))


def distance_to_base(
    ours: Checkpoint, scan: WeightScan, base: Checkpoint, base_scan: WeightScan,
    note: Callable[[str], None] = lambda text: None,
) -> Distance:  # fmt: skip
    """Compare two scanned local checkpoints. Quantised tensors have no values and are left out."""
    mine, theirs = by_bare_name(scan.tensors), by_bare_name(base_scan.tensors)
    work: list[tuple[TensorScan, TensorScan]] = []
    only_ours = []
    for bare, name in mine.items():
        left = scan.tensors[name]
        right = base_scan.tensors.get(theirs.get(bare, ""))
        if right is None and left.tensor == head_tensor({name: left.tensor}):
            infos = {n: t.tensor for n, t in base_scan.tensors.items()}
            tied = embedding_tensor(infos) if head_tensor(infos) is None else None
            right = base_scan.tensors[tied.name] if tied is not None else None
        if right is None or _shared(left.tensor, right.tensor) is None:
            only_ours.append(name)
        elif left.tensor.dtype in VALUE_BYTES and right.tensor.dtype in VALUE_BYTES:
            work.append((left, right))
    note(f"distance to the base: {len(work)} tensors")
    with WeightBytes(ours) as source, WeightBytes(base) as base_source, ThreadPoolExecutor(2) as pool:
        pairs = [p for p in pool.map(lambda two: _compare(source, base_source, *two), work) if p is not None]
    matched = {p.base_name for p in pairs}
    elements = sum(s.tensor.numel for s in scan.tensors.values() if s.tensor.dtype in VALUE_BYTES)
    return Distance(tuple(pairs), tuple(only_ours), tuple(n for n in base_scan.tensors if n not in matched), elements)


def compare_within(checkpoint: Checkpoint, scan: WeightScan, name: str, other: str) -> TensorPair | None:
    """Two tensors of one checkpoint, as `distance_to_base` compares; None when their shapes don't fit together."""
    left, right = scan.tensors[name], scan.tensors[other]
    if _shared(left.tensor, right.tensor) is None:
        return None
    with WeightBytes(checkpoint) as source:
        return _compare(source, source, left, right)


def _shared(left: TensorInfo, right: TensorInfo) -> int | None:
    """Elements that both hold in the same place: all, or the common leading rows of a resized matrix."""
    if left.strided or right.strided or not left.numel or not right.numel:
        return None
    if left.shape == right.shape:
        return left.numel
    if len(left.shape) == len(right.shape) == 2 and left.shape[1] == right.shape[1]:
        return min(left.shape[0], right.shape[0]) * left.shape[1]
    return None


def _compare(source: WeightBytes, base_source: WeightBytes, left: TensorScan, right: TensorScan) -> TensorPair | None:
    count = _shared(left.tensor, right.tensor)
    assert count is not None
    resized = left.tensor.shape != right.tensor.shape
    made = partial(
        TensorPair, left.tensor.name, right.tensor.name, layer_of(left.tensor.name), count,
        matrix=sum(n > 1 for n in left.tensor.shape) >= 2, resized=resized,
    )  # fmt: skip
    if not resized and left.tensor.dtype == right.tensor.dtype and left.digest == right.digest:
        return made(equal=True, relative=0.0, cosine=None if left.zero else 1.0)
    sums = np.zeros(4)
    for first, length in pieces(count, PIECE_ELEMENTS, SAMPLE_ELEMENTS):
        one, two = source.values(left.tensor, first, length), base_source.values(right.tensor, first, length)
        if one is None or two is None:
            return None
        with np.errstate(all="ignore"):
            difference = one - two
            sums += [np.dot(difference, difference), np.dot(two, two), np.dot(one, one), np.dot(one, two)]
    if not np.isfinite(sums).all():  # what holds NaN has no distance
        return None
    comparable = resized or left.tensor.dtype != right.tensor.dtype  # else the digests have said it
    equal = comparable and _equal_after_cast(source, base_source, left.tensor, right.tensor, count)
    cosine = float(sums[3] / math.sqrt(sums[1] * sums[2])) if sums[1] > 0 and sums[2] > 0 else None
    relative = math.sqrt(sums[0] / sums[1]) if sums[1] > 0 else 0.0 if sums[0] == 0 else 1.0
    return made(equal=equal, relative=0.0 if equal else relative, cosine=cosine)


def _equal_after_cast(
    source: WeightBytes, base_source: WeightBytes, left: TensorInfo, right: TensorInfo, count: int
) -> bool:
    """Whether the base, cast to our dtype as a save in another precision does, is what we hold. All elements, up to
    the first that differs."""
    if left.dtype not in ("F32", "F16", "BF16"):
        return False
    for first, length in pieces(count, PIECE_ELEMENTS):
        one, two = source.values(left, first, length), base_source.values(right, first, length)
        if one is None or two is None:
            return False
        if not np.array_equal(as_stored(one, left.dtype), as_stored(two, left.dtype)):
            return False
    return True
