"""How far a long run is, in a small JSON file that a page reads while the run goes on.

    {"stage": slug, "done": n, "total": n or null, "of": "rows|answers|batches|..."}
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

_SECONDS = 0.5  # between two writings of one stage
_MOST_BYTES = 4096


class ProgressFile:
    """path: None writes nothing. of: what is counted. A folder that is missing is made. A progress that can't be
    written (disk full, folder gone) stops no run. Raises Refused where something else stands at `path`."""

    def __init__(self, path: Path | None, of: str = "rows") -> None:
        if path is not None and _holds_something(path):
            raise Refused("progress_is_other_file", path=path)
        self.path = path
        self.of = of
        self._stage = ""
        self._written = 0.0

    def at(self, stage: str, done: int, total: int | None = None, *, of: str | None = None) -> None:
        """stage: slug of what is being done. Written where the stage is new, where it is done, else at most twice a
        second; a reader never sees half a file."""
        self.of = of or self.of
        at = time.monotonic()
        ended = total is not None and done >= total
        if self.path is None or (stage == self._stage and not ended and at - self._written < _SECONDS):
            return
        self._stage, self._written = stage, at
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path) as temporary:
                temporary.write_text(json.dumps({"stage": stage, "done": done, "total": total, "of": self.of}))
        except OSError:
            pass


def _holds_something(path: Path) -> bool:
    """Whether a file is there that is no progress: data, a device, a folder."""
    try:
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            return False
    except (OSError, ValueError):  # nothing can be written there either
        return False
    return not path.is_file() or read_progress_file(path) is None


def read_progress_file(path: Path) -> Mapping[str, Any] | None:
    """What was written last; None where there is no such file or it isn't one."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("done"), int) else None
