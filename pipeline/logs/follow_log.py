"""A log that is still being written: what was added since the last look is read, nothing twice.

Text is read on from where the last read ended; the line that is not finished yet is held back. Files of other formats
are read whole when they changed. What comes out is what one read of the whole files would give.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.json_file import collector_paused
from pipeline.logs.own_format import OwnFormat, remembered_formats
from pipeline.logs.raw_text import RawText
from pipeline.logs.read_log import (
    BLOCK,
    FIRST,
    LogProblem,
    LogReader,
    find_files,
    first_bytes,
    fitting_form,
    format_of,
    in_order,
    is_judged,
    read_log,
)
from pipeline.logs.training_log import TrainingLog
from pipeline.record_files import GZIP


@dataclass
class _Followed:
    """One file as it was when it was last looked at. at: bytes read of a text, 0 for other formats."""

    identity: tuple[int, int]
    size: int
    changed: int
    at: int = 0


class LogFollower:
    """The log of one run while it grows.

    paths: files, folders or globs as for `read_log`; what appears later is taken up. own: the form of a log that no
    reader knows; forms remembered are tried as long as nothing else is understood. Not safe for several threads.
    """

    def __init__(self, paths: Sequence[str | Path], *, name: str = "", own: OwnFormat | None = None) -> None:
        self.paths = [Path(path) for path in paths]
        self.own = own
        self._name = name
        self._files: dict[Path, _Followed] = {}
        self._reader: LogReader | None = None
        self._raw: RawText | None = None
        self._log: TrainingLog | None = None
        self._tried = 0

    def read_more(self) -> bool:
        """Reads what is new. Whether anything was; a file that can't be read now is tried again next time."""
        files = self._present()
        states = {path: state for path in files if (state := _state(path)) is not None}
        if self._reader is not None and list(states) == list(self._files):
            changed = [path for path, state in states.items() if not _alike(state, self._files[path])]
            if not changed:
                return False
            last = next(reversed(states))
            if changed == [last] and self._grew(states[last], self._files[last]):
                return self._read_on(last, states[last])
        elif not states and not self._files:
            return False
        self._read_anew(states)
        return True

    def log(self, *, ended: bool = False) -> TrainingLog:
        """What was read so far; `problem` is `empty` where there is nothing yet. ended: nothing more will be written,
        so an unfinished last line counts too."""
        if ended and self._files:
            return read_log(list(self._files), name=self._name, own=self.own)
        if self._reader is None:
            return TrainingLog(self._name or (self.paths[0].name if self.paths else ""), problem="empty")
        if self._log is None:
            self._log = self._reader.log()
            self._try_remembered()
        return self._log

    def _present(self) -> list[Path]:
        found: dict[Path, None] = {}
        for path in self.paths:
            try:
                found |= dict.fromkeys(find_files([path]))
            except OSError:  # not there yet
                continue
        return in_order(list(found)) if len(found) > 1 else list(found)

    def _grew(self, now: _Followed, before: _Followed) -> bool:
        return before.at > 0 and now.identity == before.identity and now.size > before.size and self._raw is not None

    def _read_anew(self, states: dict[Path, _Followed]) -> None:
        names = list(states)
        shown = self._name or (
            names[0].name if len(names) == 1 else f"{names[0].name} +{len(names) - 1}" if names else ""
        )
        self._reader, self._raw, self._log = LogReader(shown, own=self.own), None, None
        self._files = {}
        for number, path in enumerate(names):
            state = states[path]
            if number == len(names) - 1 and _is_text(path, self.own):
                self._files[path] = state
                self._begin(path, state)
                continue
            self._reader.read_file(path)
            self._files[path] = state

    def _begin(self, path: Path, state: _Followed) -> None:
        """The last file, a text: from now on only what is added to it is read."""
        assert self._reader is not None
        self._reader.name_file(path)
        self._raw = RawText()
        state.at = 0
        try:
            self._feed(path, state)
        except OSError:
            state.size = -1  # looked at again next time

    def _read_on(self, path: Path, state: _Followed) -> bool:
        state.at = self._files[path].at
        if state.at < FIRST:  # so little that its format and encoding may still turn out otherwise
            self._read_anew({p: _state(p) or s for p, s in self._files.items()} | {path: state})
            return True
        self._log = None
        try:
            self._feed(path, state)
        except OSError:
            return False
        self._files[path] = state
        return True

    def _feed(self, path: Path, state: _Followed) -> None:
        assert self._reader is not None and self._raw is not None
        with open(path, "rb") as file, collector_paused():
            file.seek(state.at)
            while piece := file.read(BLOCK):
                self._reader.feed(piece, self._raw)
                state.at += len(piece)
            self._reader.grow(state.at)
            if state.at < FIRST:
                self._reader.feed(b"", self._raw, decide=True)
            if self._raw.not_text:
                self._reader.problem(path, LogProblem("not_text", path.name))

    def _try_remembered(self) -> None:
        """Forms given before, where nothing is understood; again when twice as much is there."""
        assert self._log is not None and self._reader is not None
        if self.own is not None or self._log.problem not in (None, "no_metrics") or is_judged(self._log):
            return
        if self._log.size < max(2 * self._tried, 1):
            return
        self._tried = self._log.size
        fitting = fitting_form(in_order(list(self._files)), remembered_formats())
        if fitting is not None:
            self.own = fitting[0]
            self._read_anew({path: _state(path) or state for path, state in self._files.items()})
            self._log = self._reader.log()


def _state(path: Path) -> _Followed | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(info.st_mode):
        return None
    return _Followed((info.st_dev, info.st_ino), info.st_size, info.st_mtime_ns)


def _alike(now: _Followed, before: _Followed) -> bool:
    return (now.identity, now.size, now.changed) == (before.identity, before.size, before.changed)


def _is_text(path: Path, own: OwnFormat | None) -> bool:
    """Whether a file is a plain text; one that is empty may become any."""
    first = first_bytes(path)
    return not first.startswith(GZIP) and format_of(first, own.column_meanings if own else ()) == "text"
