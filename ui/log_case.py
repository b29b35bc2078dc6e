"""From what a visitor typed, pasted and dropped to the files of one log, or to the one line that says why not."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ui import uploads
from ui.allowed_paths import is_allowed, is_public
from ui.visitor_case import BadCase, named_lines

PUBLIC_BYTES = 128 * 2**20  # of one file, on a machine that many share
PASTED_CHARACTERS = 8 * 2**20


@dataclass(frozen=True)
class LogCase:
    """One log that may be read here. grows: it is a file of this machine, so it can be followed."""

    paths: tuple[str, ...]
    grows: bool = False

    @property
    def max_bytes(self) -> int | None:
        return PUBLIC_BYTES if is_public() else None


def path_is_open() -> bool:
    """Whether visitors may name paths at all: not in public, unless somebody opened folders."""
    return not is_public() or bool(os.environ.get("DPO_DOCTOR_ROOTS"))


def checked_log(path: str = "", pasted: str = "", token: str = "") -> LogCase:
    """One log from the form: dropped files, else pasted text, else paths, one a line. Raises BadCase.

    token: of the folder that keeps the dropped files. Several files or paths are parts of the same run.
    """
    dropped = uploads.files(token)
    if token and not dropped:
        raise BadCase("upload_gone")
    if dropped:
        return LogCase(dropped)
    if pasted and pasted.strip():
        return _pasted(pasted)
    named = named_lines(path)
    if not named:
        raise BadCase("no_log")
    return LogCase(_files(named), grows=True)


def _pasted(text: str) -> LogCase:
    if len(text) > PASTED_CHARACTERS:
        raise BadCase("pasted_too_long")
    try:
        return LogCase((uploads.keep_text(text, "pasted.log"),))
    except OSError as error:
        raise BadCase("bad_setting", error=error.strerror or str(error)) from None


def _files(named: Sequence[str]) -> tuple[str, ...]:
    """The paths as they were given, once every file they lead to may be read by this visitor."""
    from pipeline.logs.read_log import find_files

    for path in named:
        if is_public() and (glob.has_magic(path) or not path_is_open() or not is_allowed(path)):
            raise BadCase("log_path_refused", path=path)
    for path in named:
        try:
            found = find_files([path])
        except FileNotFoundError:
            raise BadCase("log_not_found" if not Path(path).is_dir() else "no_log_inside", path=path) from None
        except (OSError, ValueError) as error:
            raise BadCase("bad_setting", error=str(error)) from None
        for file in found:
            if not is_allowed(str(file)):
                raise BadCase("log_path_refused", path=path)
    return tuple(named)
