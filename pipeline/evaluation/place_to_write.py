"""Where a result is written when its place is taken: by a program that has the file open, by a folder."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# What may be true of one name alone; of a full disk the next name is too, and each try may take minutes.
_OF_THE_NAME = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


def write_where_possible(path: Path, write: Callable[[Path], None]) -> tuple[Path, str]:
    """Write at `path`, or under another name beside it where that can't be (name-2, name-3, ...), or in the folder for
    temporary files where the folder takes nothing. write: makes the file whole or raises OSError. Another name is one
    that nothing has yet.

    Returns the place and what was in the way of `path`: `open`, `read_only`, `folder`, `special` or what the system
    says; empty where nothing was. Raises OSError where it can be written nowhere.
    """
    why, last = "", OSError(0, "")
    refused: set[Path] = set()
    for place in _places(path):
        if place.parent in refused:
            continue
        if place != path and os.path.lexists(place):  # someone's own
            continue
        reason = in_the_way(place)
        if not reason:
            try:
                write(place)
            except OSError as failed:
                reason, last = failed.strerror or str(failed), failed
                if failed.errno not in _OF_THE_NAME or not _takes_files(place.parent):
                    refused.add(place.parent)
        if not reason:
            return place, why
        why = why or reason
    raise last


def _places(path: Path) -> Iterator[Path]:
    yield path
    for folder in (path.parent, Path(tempfile.gettempdir())):
        for number in range(2, 100):
            yield folder / f"{path.stem}-{number}{path.suffix}"


def _takes_files(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def in_the_way(path: Path) -> str:
    """Why a file isn't to be replaced here: `folder`, `open`, `read_only`, `special`; empty where it may be.

    Excel (`~$NAME`) and LibreOffice (`.~lock.NAME#`) keep a file beside what they have open, and Linux would let it be
    replaced under them.
    """
    try:
        if path.is_dir():
            return "folder"
        if any(os.path.lexists(path.with_name(name)) for name in (f"~${path.name}", f".~lock.{path.name}#")):
            return "open"
        if path.exists() and not path.is_file():
            return "special"
        if path.exists() and not os.access(path, os.W_OK):
            return "read_only"
    except (OSError, ValueError):
        return "special"
    return ""
