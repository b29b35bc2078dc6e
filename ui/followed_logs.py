"""Logs that are followed while they grow: one reader each, which never reads again what it has read.

Nobody has to say goodbye: what no page asked for since a minute is forgotten.
"""

from __future__ import annotations

import contextlib
import glob
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diagnostics.report import Report
from diagnostics.report_store import new_id, save

if TYPE_CHECKING:
    from pipeline.logs.own_format import OwnFormat

MAX_FOLLOWED = 20
FORGOTTEN_SECONDS = 60.0  # since the last page asked
SILENT_SECONDS = 900.0  # without a new line: the run has ended, or hangs
SAVED_EVERY = 10.0
JUDGED_SHARE = 0.2  # of the time may go into judging again; a long log is judged less often


class TooManyFollowed(Exception):
    """MAX_FOLLOWED logs are followed already."""


@dataclass
class FollowedLog:
    """One log that grows. id: of its stored report. vocab_size: as for `judge_log`. last_line: when the last new line
    was read (time.time())."""

    id: str
    paths: tuple[str, ...]
    reader: Any
    vocab_size: int | None = None
    report: Report | None = None
    last_line: float = field(default_factory=time.time)
    asked: float = field(default_factory=time.monotonic)
    _behind: bool = True
    _judged_at: float = -1e9
    _judging: float = 0.0
    _saved_at: float = -1e9
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def silent(self) -> bool:
        """Whether nothing came for so long that following ends."""
        return time.time() - self.last_line > SILENT_SECONDS

    def poll(self) -> bool:
        """Read what came since the last time; True where the report is a new one. Raises OSError, ValueError."""
        if not self._lock.acquire(blocking=False):  # a slow look is still going on
            return False
        try:
            self.asked = time.monotonic()
            if not any(os.path.exists(os.path.expanduser(p)) or glob.has_magic(p) for p in self.paths):
                raise FileNotFoundError(self.paths[0])
            if self.reader.read_more():
                self._behind = True
                self.last_line = time.time()
            if not self._behind or time.monotonic() - self._judged_at < self._judging / JUDGED_SHARE:
                return False
            from diagnostics.diagnose_log import judge_log

            started = time.monotonic()
            self.report = judge_log(self.reader.log(), vocab_size=self.vocab_size)
            self._behind = False
            self._judged_at = time.monotonic()
            self._judging = self._judged_at - started
            if self._judged_at - self._saved_at > SAVED_EVERY:
                self.keep()
            return True
        finally:
            self._lock.release()

    def keep(self) -> None:
        """Store the report as it is now, where it can be stored."""
        if self.report is None:
            return
        self._saved_at = time.monotonic()
        with contextlib.suppress(OSError):  # it is shown all the same
            save(self.report, self.id)


_followed: dict[str, FollowedLog] = {}


def follow(paths: Sequence[str], report_id: str = "", own: OwnFormat | None = None) -> FollowedLog:
    """Begin to follow a log. report_id: of a report already stored, which the following ones replace. own: the form of
    a log that no reader knows. Raises TooManyFollowed.
    """
    from diagnostics.diagnose_log import vocabulary_beside
    from pipeline.logs.follow_log import LogFollower

    for old in [f for f in list(_followed.values()) if time.monotonic() - f.asked > FORGOTTEN_SECONDS]:
        stop(old.id)
    if len(_followed) >= MAX_FOLLOWED:
        raise TooManyFollowed
    reader = LogFollower(list(paths), own=own)
    made = FollowedLog(report_id or new_id(), tuple(paths), reader, vocabulary_beside(paths))
    _followed[made.id] = made
    return made


def find_followed(report_id: str) -> FollowedLog | None:
    """The log that is followed under this id, None where nobody follows it any more."""
    return _followed.get(report_id)


def stop(report_id: str) -> None:
    """No longer follow this log; its last report is kept."""
    followed = _followed.pop(report_id, None)
    if followed is not None:
        followed.keep()
