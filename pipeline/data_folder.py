"""Where what belongs to one user lies: reports, remembered forms of logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def data_folder() -> Path:
    """$DPO_DOCTOR_HOME, else the platform's folder for data of programs. It need not exist yet."""
    if named := os.environ.get("DPO_DOCTOR_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "dpo-doctor"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "dpo-doctor"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "dpo-doctor"
