"""What a pass over the rows has done so far, on disk row by row: whatever ends the process, only the row in the making
is lost.

Rows stand in the order in which they were ready, one line each with its number and a checksum, in one part file for
each process; an index of where they stand is all that is held in memory, 8 bytes a row.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import zlib
from array import array
from pathlib import Path
from typing import Any

from pipeline.refusal import Refused

SYNC_SECONDS = 1.0  # between two times that the system is asked to bring what was written to the disk
_PART = re.compile(r"(?P<name>.+)-(?P<rank>\d{1,5})\.rows")
_LINE = re.compile(rb"(\d{1,10}) ([0-9a-f]{8}) ")
_RANK_BITS = 17  # of a place in the index: offset << 17 | process
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Journal:
    """The rows of one pass. Raises OSError where the folder can't be read or written.

    rank: of this process, which writes its own part and reads those of all. A part that ends within a line, or holds a
    damaged one, is as if that row had not been done.
    """

    def __init__(self, folder: Path, name: str, rank: int = 0) -> None:
        self._folder, self._name, self._rank = folder, name, rank
        self._at = array("q")
        self._files: dict[int, int] = {}
        self._scanned: dict[int, int] = {}
        self.rows = 0
        self._synced = time.monotonic()
        self._own: int | None = None
        self._end = 0
        for part, path in sorted(_parts(folder, name).items()):
            self._scan(part, path)

    def __contains__(self, row: int) -> bool:
        return row < len(self._at) and self._at[row] >= 0

    def end(self) -> int:
        """One more than the largest row that is there."""
        return len(self._at)

    def read(self, row: int) -> Any | None:
        """What was written of a row; None where it isn't there. Raises OSError."""
        if row not in self:
            return None
        place = self._at[row]
        rank, offset = place & (1 << _RANK_BITS) - 1, place >> _RANK_BITS
        file = self._file(rank)
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = os.pread(file, 1 << 16, offset + len(line))
            if not piece:
                return None
            ended = piece.find(b"\n") + 1
            line += piece[:ended] if ended else piece
        return json.loads(line[_LINE.match(line).end() :])  # type: ignore[union-attr]

    def write(self, row: int, value: Any) -> None:
        """One row that is done. Raises Refused where the disk is full, with all rows before it safe, and OSError."""
        if self._own is None:
            path = self._folder / f"{self._name}-{self._rank}.rows"
            self._own = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            os.ftruncate(self._own, self._end)  # what stands behind the last whole line
        # In ASCII, as half a character is no UTF-8; what JSON doesn't know (a date, a sentence) is its text.
        text = json.dumps(value, separators=(",", ":"), default=str).encode()
        line = b"%d %08x %s\n" % (row, _checksum(row, text), text)
        try:
            written = os.pwrite(self._own, line, self._end)
            while written < len(line):
                written += os.pwrite(self._own, line[written:], self._end + written)
        except OSError as failed:
            os.ftruncate(self._own, self._end)
            if failed.errno in _FULL:
                raise Refused("candidates_disk_full", path=self._folder, why=os.strerror(failed.errno)) from None
            raise
        self._note(row, self._rank, self._end)
        self._end += len(line)
        if (now := time.monotonic()) - self._synced > SYNC_SECONDS:
            self._synced = now
            os.fsync(self._own)

    def close(self) -> None:
        """What was written is on the disk then."""
        if self._own is not None:
            os.fsync(self._own)
            os.close(self._own)
            self._own = None
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def refresh(self) -> None:
        """Sees what the other processes have written since."""
        for part, path in sorted(_parts(self._folder, self._name).items()):
            if part != self._rank or self._own is None:
                self._scan(part, path)

    def _file(self, rank: int) -> int:
        if rank == self._rank and self._own is not None:
            return self._own
        if rank not in self._files:
            self._files[rank] = os.open(self._folder / f"{self._name}-{rank}.rows", os.O_RDONLY)
        return self._files[rank]

    def _note(self, row: int, rank: int, offset: int) -> None:
        if row in self:  # what came first stays
            return
        if row >= len(self._at):
            self._at.extend([-1] * (row + 1 - len(self._at)))
        self._at[row] = offset << _RANK_BITS | rank
        self.rows += 1

    def _scan(self, rank: int, path: Path) -> None:
        offset = self._scanned.get(rank, 0)
        with open(path, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                head = _LINE.match(line)
                if head is not None and _checksum(int(head[1]), line[head.end() : -1]) == int(head[2], 16):
                    self._note(int(head[1]), rank, offset)
                offset += len(line)
        self._scanned[rank] = offset
        if rank == self._rank:
            self._end = offset


def _checksum(row: int, text: bytes) -> int:
    return zlib.crc32(text, row)


def _parts(folder: Path, name: str) -> dict[int, Path]:
    """The part files of a pass by process."""
    found = {}
    for path in folder.iterdir():
        part = _PART.fullmatch(path.name)
        if part is not None and part["name"] == name and int(part["rank"]) < 1 << _RANK_BITS:
            found[int(part["rank"])] = path
    return found
