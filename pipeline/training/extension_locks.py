"""Locks that killed processes left in torch's folder of compiled extensions, where DeepSpeed builds its operators.

torch's `FileBaton` (torch.utils.file_baton) makes a file `lock` beside what it builds, holds it open while it builds
and removes it after; a process that was killed in between leaves it, and every later one waits without a word. A lock
that no process of this machine holds open is abandoned, unless the folder is shared with another machine or container:
so only those go that a run which has ended made itself, or that are older than any build takes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

LOCK = "lock"


def extensions_root(env: Mapping[str, str] | None = None) -> Path:
    """Where a process started with `env` on top of this one's builds extensions (torch.utils.cpp_extension)."""
    known = {**os.environ, **(env or {})}
    if named := known.get("TORCH_EXTENSIONS_DIR"):
        return Path(named).absolute()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/torch_extensions").expanduser()
    return Path(known.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "torch_extensions"


def free_abandoned(root: Path, *, made_since: float | None = None, older_than: float = 0.0) -> list[Path]:
    """Remove the abandoned locks below `root`; returns them.

    made_since: only those made after this time (seconds since 1970); older_than: only those at least so many seconds
    old.
    """
    now = time.time()
    found: dict[Path, os.stat_result] = {}
    for pattern in (f"*/{LOCK}", f"*/*/{LOCK}"):  # the folder of a Python and device lies between, unless it was named
        with suppress(OSError):
            for path in root.glob(pattern):
                with suppress(OSError):
                    made = path.stat()
                    if now - made.st_mtime >= older_than and (made_since is None or made.st_mtime >= made_since):
                        found[path] = made
    held = _held() if found else set()
    freed = []
    for path, made in found.items():
        if (made.st_dev, made.st_ino) not in held:
            with suppress(OSError):
                path.unlink()
                freed.append(path)
    return freed


def _held() -> set[tuple[int, int]]:
    """(device, inode) of the locks that a process has open. Other users' processes can't be looked at: their locks
    don't lie in this user's folder."""
    held = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            for file in process.open_files():
                if os.path.basename(file.path) == LOCK:
                    with suppress(OSError):
                        at = os.stat(file.path)
                        held.add((at.st_dev, at.st_ino))
    return held
