"""Folders for files of visitors: below the temporary folder, readable by this user alone, emptied after a day."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

KEPT_SECONDS = 24 * 3600


def private_folder(purpose: str) -> Path:
    """The folder for one purpose (`uploads`, `downloads`), made where needed; what is older than a day is removed.

    Raises OSError, also when a folder of that name belongs to someone else (the temporary folder is shared).
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"dpo-doctor-{purpose}-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (folder.is_symlink() or folder.stat().st_uid != user):
        raise PermissionError(f"{folder} belongs to another user")
    for old in folder.iterdir():
        try:
            if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue
    return folder
