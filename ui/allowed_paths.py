"""What a visitor may name. On one's own machine everything; in public only the Hub, uploads and the demo models.

Guarded here, inside the handlers: an endpoint that is hidden from the API page still answers plain HTTP.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.checkpoint import HUB_ID


def is_public() -> bool:
    """True on a Hugging Face Space and where DPO_DOCTOR_PUBLIC=1 says so."""
    return bool(os.environ.get("SPACE_ID")) or os.environ.get("DPO_DOCTOR_PUBLIC", "") not in ("", "0")


def without_folders(line: str) -> str:
    """A line as a visitor may see it: in public without the folders of this machine."""
    return re.sub(r"(?<![\w:/])/(?:[^\s/:]+/)+", "", line) if is_public() else line


def is_allowed(named: str, own_roots: tuple[Path, ...] = ()) -> bool:
    """May a visitor have `named` read? own_roots: folders of this run, such as its uploads and the demo models.

    In public: a Hub id that is not at the same time a file here (`configs/words` looks like one), or what lies,
    links followed, below DPO_DOCTOR_ROOTS (separated like PATH) or own_roots.
    """
    if not is_public():
        return True
    try:
        exists = os.path.lexists(named)
    except ValueError:  # an embedded null byte
        return False
    if not exists:
        return HUB_ID.match(named) is not None
    roots = [Path(r) for r in os.environ.get("DPO_DOCTOR_ROOTS", "").split(os.pathsep) if r] + list(own_roots)
    try:
        real = Path(named).resolve(strict=True)
        return any(real.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError):
        return False
