"""Files that appear when they are whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """A new file beside `path` to write in the block; it takes the place of `path` at its end, on disk before that.

    Where the block fails, what was there before stays and nothing else is left. mode: as of os.open, less the umask.
    Raises OSError.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
