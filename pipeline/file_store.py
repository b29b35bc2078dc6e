"""Where a checkpoint's files lie: a local folder, one local file, or (see hub_files.py) a Hub repository.

Everything above this module asks a `FileStore` and never cares where the bytes come from.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol


class FileStore(Protocol):
    """Read-only access to the files of one checkpoint folder. Names are relative, top level only."""

    @property
    def label(self) -> str:
        """What the user would recognise: the path or the repository id."""

    def names(self) -> list[str]:
        """All regular files, sorted."""

    def folders(self) -> list[str]:
        """Direct sub-folders, sorted."""

    def size(self, name: str) -> int:
        """Bytes. Raises OSError."""

    def modified(self, name: str) -> float | None:
        """Seconds since the epoch, None where the store has no such thing."""

    def open(self, name: str) -> BinaryIO:
        """A seekable binary file. Raises OSError."""

    def local_path(self, name: str) -> Path | None:
        """The file on this machine, fetched if small and remote; None where only ranges can be read."""

    def sub(self, folder: str) -> FileStore:
        """The store of a direct sub-folder."""


@dataclass
class LocalFolder:
    """Top level of one folder. Symbolic links are followed for files (the Hub cache is made of them)."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path)

    @cached_property
    def _entries(self) -> tuple[dict[str, os.stat_result], list[str], list[str], list[str]]:
        files: dict[str, os.stat_result] = {}
        folders: list[str] = []
        broken: list[str] = []
        special: list[str] = []
        denied: OSError | None = None
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    info = entry.stat()  # follows links; a dangling or looping one raises
                except OSError as error:
                    if isinstance(error, PermissionError):
                        denied = error
                    if entry.is_symlink():
                        broken.append(entry.name)
                    continue
                if stat.S_ISREG(info.st_mode):
                    files[entry.name] = info
                elif stat.S_ISDIR(info.st_mode):
                    folders.append(entry.name)
                else:
                    special.append(entry.name)
        if denied is not None and not files and not folders:  # a folder that may be listed but not entered
            raise denied
        return files, sorted(folders), sorted(broken), sorted(special)

    def names(self) -> list[str]:
        return sorted(self._entries[0])

    def folders(self) -> list[str]:
        return self._entries[1]

    def broken_links(self) -> list[str]:
        """Names whose link leads nowhere: a Hub cache that lost its blobs, a folder copied without them."""
        return self._entries[2]

    def special_files(self) -> list[str]:
        """Names of pipes, sockets and devices: nothing that could be read to its end."""
        return self._entries[3]

    def size(self, name: str) -> int:
        known = self._entries[0].get(name)
        return known.st_size if known else os.stat(self.path / name).st_size

    def modified(self, name: str) -> float | None:
        known = self._entries[0].get(name)
        return known.st_mtime if known else None

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")

    def local_path(self, name: str) -> Path | None:
        return self.path / name

    def sub(self, folder: str) -> LocalFolder:
        return LocalFolder(self.path / folder)


@dataclass(frozen=True)
class LocalFile:
    """A store that holds exactly one file: a bare state dict."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        return [self.path.name]

    def folders(self) -> list[str]:
        return []

    def size(self, name: str) -> int:
        return os.stat(self.path.parent / name).st_size

    def modified(self, name: str) -> float | None:
        return os.stat(self.path.parent / name).st_mtime

    def open(self, name: str) -> BinaryIO:
        return open(self.path.parent / name, "rb")

    def local_path(self, name: str) -> Path | None:
        return self.path.parent / name

    def sub(self, folder: str) -> LocalFolder:
        return LocalFolder(self.path.parent / folder)
