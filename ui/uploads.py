"""Files a visitor drops: copied into a folder of their own, and told apart by their names."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint import INDEX_NAMES, TOKENIZER_FILES, WEIGHT_SUFFIXES
from ui.private_folder import private_folder

CHECKPOINT_FILES = frozenset(
    (*TOKENIZER_FILES, *INDEX_NAMES, "config.json", "generation_config.json", "adapter_config.json",
     "trainer_state.json")
)  # fmt: skip
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
LOG_NAMES = re.compile(r"(^|[_.-])(log|logs|train_log|trainer_log|events)([_.-]|$)|\.(log|txt|out|err)$", re.IGNORECASE)
MAX_FILES = 64
NAME = "upload"  # what a report calls a checkpoint that was dropped
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


@dataclass(frozen=True)
class Upload:
    """One visitor's dropped files, by what they are taken as. token: names the folder, can't be guessed."""

    token: str
    folder: Path
    checkpoint: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def paths(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(str(self.folder / n) for n in names)


def keep(dropped: Sequence[str]) -> Upload:
    """Copy dropped files into a new private folder under their own, cleaned names. Raises OSError."""
    token, folder = _new_folder()
    refused = [os.path.basename(p) for p in dropped[MAX_FILES:]]
    for path in dropped[:MAX_FILES]:
        name = safe_name(path)
        if kind_of(name) is None:
            refused.append(name)
            continue
        shutil.copyfile(path, folder / name)
    return _sorted(token, folder, tuple(refused))


def found(token: str) -> Upload | None:
    """The files kept under this token, None when they are gone."""
    folder = _folder(token)
    return _sorted(token, folder, ()) if folder is not None else None


def keep_logs(dropped: Sequence[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Copy dropped files, all of them parts of one log. Returns (token, names, names refused). Raises OSError."""
    token, folder = _new_folder()
    for path in dropped[:MAX_FILES]:
        place = folder / safe_name(path)
        for number in range(2, MAX_FILES + 2):  # parts of a run often bear one name, each in a folder of its own
            if not place.exists():
                break
            place = folder / f"{number}_{safe_name(path)}"
        shutil.copyfile(path, place)
    names = tuple(sorted(p.name for p in folder.iterdir()))
    return token, names, tuple(safe_name(p) for p in dropped[MAX_FILES:])


def keep_text(text: str, name: str) -> str:
    """Pasted text as a file of its own; its path. Raises OSError."""
    path = _new_folder()[1] / name
    path.write_text(text, encoding="utf-8", errors="replace")
    return str(path)


def files(token: str) -> tuple[str, ...]:
    """Paths of all files kept under this token; none when they are gone."""
    folder = _folder(token)
    return tuple(sorted(str(p) for p in folder.iterdir())) if folder is not None else ()


def _new_folder() -> tuple[str, Path]:
    """A token that can't be guessed, and the new private folder that it names. Raises OSError."""
    token = secrets.token_urlsafe(16)
    folder = private_folder("uploads") / token / NAME
    folder.mkdir(mode=0o700, parents=True)
    return token, folder


def _folder(token: str) -> Path | None:
    """The folder that a token names, None when it is gone (a restart empties the temporary folder)."""
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        return None
    folder = private_folder("uploads") / token / NAME
    return folder if folder.is_dir() else None


def safe_name(path: str) -> str:
    """The last part of a path with nothing in it that a shell, a file system or a web page could take for more."""
    name = re.sub(r"[^\w.+-]", "_", path.replace("\\", "/").rsplit("/", 1)[-1]).lstrip(".")
    return name[-120:] or "file"


def kind_of(name: str) -> str | None:
    """`checkpoint`, `data`, `log`, or None for a file that is none of them."""
    if name in CHECKPOINT_FILES or name.endswith(WEIGHT_SUFFIXES):
        return "checkpoint"
    if LOG_NAMES.search(name):
        return "log"
    return "data" if name.endswith(DATA_SUFFIXES) else None


def _sorted(token: str, folder: Path, refused: tuple[str, ...]) -> Upload:
    names = sorted(p.name for p in folder.iterdir())
    kinds = {kind: tuple(n for n in names if kind_of(n) == kind) for kind in ("checkpoint", "data", "log")}
    return Upload(token, folder, kinds["checkpoint"], kinds["data"], kinds["log"], refused)
