"""Rewards as they are computed, on disk batch by batch, so that a scoring that was stopped or killed goes on.

One file beside the output, OUTPUT.kept-0.rows: first what the rewards are made by (model, dtype, device, versions),
then each batch in its turn as a digest of its token ids with its rewards. What a batch holds depends on the data and
the model alone, so batches after those kept are the same as in a run that was never stopped, and so are their rewards
to the last bit. A batch that isn't kept, or not with all of its rewards, is scored.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.candidates.journal import Journal
from pipeline.candidates.reward_reader import RewardPiece
from pipeline.refusal import Refused

KEPT = ".kept"
_MADE_BY = 0  # row of the journal; batches follow


class KeptRewards:
    """made_by: all but the texts that a reward depends on; what was kept by anything else is dropped. found: batches
    that an earlier run left. Raises Refused where nothing can be read or written, and without `overwrite` where another
    kind of file is in the way."""

    def __init__(self, output: Path, made_by: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = kept_place(output)
        made = {"rewards": json.loads(json.dumps(made_by))}
        self._first = self._next = _MADE_BY + 1
        self._digests: list[str] = []
        self._journal: Journal | None = None
        try:
            there = self.path.exists() and self.path.stat().st_size > 0
            self._journal = self._opened(output)
            before = self._journal.read(_MADE_BY)
            if there and not overwrite and not (isinstance(before, dict) and "rewards" in before):
                raise Refused("compare_answers_in_the_way", path=self.path)
            if before != made:
                self._journal.close()
                self.path.unlink(missing_ok=True)
                self._journal = self._opened(output)
                self._journal.write(_MADE_BY, made)
        except OSError as failed:
            raise Refused("output_failed", path=self.path, why=failed.strerror or failed) from None
        self.found = self._journal.rows - 1

    def __len__(self) -> int:
        """Batches that are kept by now."""
        return self._journal.rows - 1 if self._journal is not None else 0

    def of(self, batches: Sequence[Sequence[RewardPiece]]) -> list[list[float] | None]:
        """The rewards of these batches, which follow on those asked for before, None where they aren't there. `add` is
        told those of the others, by their place here."""
        self._digests = [_digest(batch) for batch in batches]
        self._first, self._next = self._next, self._next + len(batches)
        return [self._read(self._first + at, digest, len(batch))
                for at, (digest, batch) in enumerate(zip(self._digests, batches, strict=True))]  # fmt: skip

    def add(self, place: int, rewards: Sequence[float]) -> None:
        """Where the disk is full or fails nothing more is kept, and the run goes on; its end says what can't be
        written."""
        if self._journal is None or not all(map(math.isfinite, rewards)):
            return
        try:
            self._journal.write(self._first + place, [self._digests[place], list(rewards)])
        except (OSError, Refused):
            self.close()

    def close(self) -> None:
        """A file without a batch is no use to anyone."""
        if self._journal is not None:
            empty, journal, self._journal = not len(self), self._journal, None
            with suppress(OSError):
                journal.close()
                if empty:
                    self.path.unlink(missing_ok=True)

    def drop(self) -> None:
        """The run is whole: nothing is left to go on with."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _opened(self, output: Path) -> Journal:
        return Journal(output.parent, f"{output.name}{KEPT}")

    def _read(self, row: int, digest: str, n: int) -> list[float] | None:
        try:
            held = self._journal.read(row) if self._journal is not None else None
        except (OSError, ValueError):
            return None
        if not isinstance(held, list) or len(held) != 2 or held[0] != digest:
            return None
        rewards = held[1]
        return [float(one) for one in rewards] if isinstance(rewards, list) and len(rewards) == n else None


def kept_place(output: Path) -> Path:
    """Of the file that is there while a run isn't finished."""
    return output.with_name(f"{output.name}{KEPT}-0.rows")


def _digest(batch: Sequence[RewardPiece]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for piece in batch:
        for ids in (piece.ids, piece.type_ids):
            digest.update(len(ids).to_bytes(4, "big"))
            digest.update(array("q", ids).tobytes())
    return digest.hexdigest()
