"""What single rows of a token embedding or output head look like beside the others, without reading the matrix.

Signs of rows that no gradient ever reached, after "Fishing for Magikarp" (arXiv 2405.05417) and what
`resize_token_embeddings` leaves: zero rows, rows equal to one another, rows at the mean of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.checkpoint import Checkpoint
from pipeline.weight_file import TensorInfo
from pipeline.weight_values import VALUE_BYTES, Float32, WeightBytes, pieces

# Enough for the mean row to within 1/45 of the rows' spread.
SAMPLED_ROWS = 2048
BLOCK_ROWS = 64
MAX_ASKED = 8192
# Rows held at once, as float32; of very wide rows fewer are looked at.
MAX_HELD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class RowFacts:
    """One row. norm: Euclidean. twins: other compared rows with the same bits. from_mean: distance to the mean row
    as a share of the median distance of sampled rows."""

    norm: float
    twins: tuple[int, ...]
    from_mean: float


@dataclass(frozen=True)
class EmbeddingRows:
    """Facts of the rows asked for, by row number, and what is usual in this matrix."""

    tensor: TensorInfo
    median_norm: float
    facts: Mapping[int, RowFacts]


def measure_rows(
    checkpoint: Checkpoint, tensor: TensorInfo, wanted: Iterable[int], compared: Iterable[int] = ()
) -> EmbeddingRows | None:
    """Facts of the rows `wanted` of a local checkpoint's matrix [tokens, width].

    compared: further rows that `wanted` ones may be twins of. Rows beyond the matrix are left out. None when the
    matrix can't be read or is quantised, or no sampled row is finite; rows with NaN or infinity get no facts.
    """
    if tensor.dtype not in VALUE_BYTES or tensor.strided or len(tensor.shape) != 2 or not tensor.numel:
        return None
    count, width = tensor.shape
    at_most = min(MAX_ASKED, max(64, MAX_HELD_BYTES // (4 * width)))
    asked = [row for row in dict.fromkeys(wanted) if 0 <= row < count][:at_most]
    known = set(asked)
    others = [row for row in dict.fromkeys(compared) if 0 <= row < count and row not in known]
    with WeightBytes(checkpoint) as source:
        usual = _usual(source, tensor, at_most)
        rows = source.rows(tensor, asked)
        if usual is None or rows is None:
            return None
        mean, median_norm, spread = usual
        twins = _twins(source, tensor, asked, others)
    norms = _norms(rows)
    rows -= mean
    far = _norms(rows)
    # a row with NaN is damaged, whether it was trained can't be told: it gets no facts
    facts = {
        row: RowFacts(float(norms[n]), twins.get(row, ()), float(far[n]) / spread if spread > 0 else 1.0)
        for n, row in enumerate(asked) if np.isfinite(norms[n])
    }  # fmt: skip
    return EmbeddingRows(tensor, median_norm, facts)


def _norms(rows: Float32) -> Float32:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))  # np.linalg.norm makes copies of all rows


def _usual(source: WeightBytes, tensor: TensorInfo, at_most: int) -> tuple[Float32, float, float] | None:
    """Mean row [width], median norm and median distance from the mean, of rows in evenly spaced blocks."""
    count, width = tensor.shape
    blocks = list(pieces(count, min(BLOCK_ROWS, count), min(SAMPLED_ROWS, at_most)))
    if not source.holds(tensor):
        return None
    sample = np.empty((sum(length for _, length in blocks), width), np.float32)
    filled = 0
    for first, length in blocks:
        values = source.values(tensor, first * width, length * width)
        if values is None:
            return None
        sample[filled : filled + length] = values.reshape(length, width)
        filled += length
    sample = sample[np.isfinite(sample).all(axis=1)]  # rows with NaN have no norm, and would spoil the mean
    if not len(sample):
        return None
    mean = sample.mean(axis=0)
    median_norm = float(np.median(_norms(sample)))
    sample -= mean
    return mean, median_norm, float(np.median(_norms(sample)))


def _twins(source: WeightBytes, tensor: TensorInfo, asked: list[int], others: list[int]) -> dict[int, tuple[int, ...]]:
    """Row -> the other rows with the same bits, for rows of `asked` that have such."""
    import xxhash

    width = tensor.shape[1] * VALUE_BYTES[tensor.dtype]
    buffer = np.empty(width, np.uint8)
    groups: dict[bytes, list[int]] = {}
    for row in (*asked, *others):
        if source.fill(tensor, row * width, buffer):
            groups.setdefault(xxhash.xxh3_128_digest(buffer.data), []).append(row)
    wanted = set(asked)
    return {
        row: tuple(r for r in group if r != row)
        for group in groups.values() if len(group) > 1 for row in group if row in wanted
    }  # fmt: skip
