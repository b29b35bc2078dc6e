"""Where the sets of pairs lie that visitors work on, and how a page finds one again: by an id that can't be guessed.

On one's own machine in the user's data folder, for good; in public below the temporary folder, for a day after the last
change. Whoever knows an id may read and edit that set, so ids are random, and listed only on one's own machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostics.report_store import ID, new_id
from pipeline.data_folder import data_folder
from pipeline.whole_file import written_whole
from ui.allowed_paths import is_public
from ui.interface_words import words
from ui.private_folder import KEPT_SECONDS, private_folder
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.pair_workspace import Workspace

PUBLIC_WORKSPACES = 200
MAX_OPEN = 16
MAX_RECENT = 6
MAX_NAME = 40  # characters of an editor's name
PAIRS, ABOUT, EDITORS, CHANGED = "pairs.sqlite", "about.json", "editors.json", "changed"


@dataclass(frozen=True)
class About:
    """What is known of a set beside its pairs.

    format: of most of its rows. left_out: rows of the file that gave no pair, left_out_why: most of them. strategies:
    of its rejected answers. tokenizer, max_length: what its texts are judged by. suffix: of its file. demo: an example.
    """

    name: str
    format: str = ""
    left_out: int = 0
    left_out_why: str = ""
    strategies: tuple[str, ...] = ()
    tokenizer: str = ""
    max_length: int | None = None
    suffix: str = ".jsonl"
    demo: bool = False


@dataclass
class _Handle:
    workspace: Workspace
    users: int = 0
    used: float = field(default_factory=time.monotonic)


_open: dict[str, _Handle] = {}
_lock = threading.Lock()


def lasting() -> bool:
    """Whether a set is still there in a week."""
    return not is_public()


def _root() -> Path:
    if is_public():
        return private_folder("pairs")
    root = data_folder() / "pairs"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def new_folder() -> tuple[str, Path]:
    """An id and its new folder. Raises OSError, BadCase where a public machine has no room for one more."""
    root = _root()
    _tidy(root)
    if is_public() and sum(1 for _ in root.iterdir()) >= PUBLIC_WORKSPACES:
        raise BadCase("pairs_too_many")
    made = new_id()
    folder = root / made
    folder.mkdir(mode=0o700)
    return made, folder


def _tidy(root: Path) -> None:
    """Remove examples that nobody changed for a day, and imports that an end of the app broke off."""
    for folder in root.iterdir():
        with suppress(OSError, BadCase):
            old = time.time() - folder.stat().st_mtime > KEPT_SECONDS and folder.name not in _open
            if old and (not (folder / PAIRS).is_file() or about(folder.name).demo):
                shutil.rmtree(folder, ignore_errors=True)


def folder_of(set_id: Any) -> Path:
    """The folder of a set. Raises BadCase where there is none under this id."""
    if isinstance(set_id, str) and ID.fullmatch(set_id):
        with suppress(OSError):
            folder = _root() / set_id
            if folder.is_dir():
                return folder
    raise BadCase("pairs_gone")


def remove_folder(set_id: str) -> None:
    """For an import that came to nothing."""
    with suppress(BadCase):
        shutil.rmtree(folder_of(set_id), ignore_errors=True)


@contextmanager
def opened(set_id: Any) -> Iterator[Workspace]:
    """The workspace under this id. Raises BadCase where there is none, Refused where it can't be read."""
    from pipeline.pair_workspace import Workspace

    folder = folder_of(set_id)
    if not (folder / PAIRS).is_file():
        raise BadCase("pairs_gone")
    with _lock:
        handle = _open.get(set_id)
        if handle is None:
            handle = _open[set_id] = _Handle(Workspace.open(folder / PAIRS))
        handle.users += 1
        handle.used = time.monotonic()
        idle = sorted((h.used, i) for i, h in _open.items() if not h.users)
        closed = [_open.pop(i).workspace for _, i in idle[: max(0, len(_open) - MAX_OPEN)]]
    for workspace in closed:
        workspace.close()
    try:
        yield handle.workspace
    finally:
        with _lock:
            handle.users -= 1


def touch(set_id: str) -> None:
    """It was changed: kept for another day where it is kept for a day only."""
    with suppress(OSError, BadCase):
        folder = folder_of(set_id)
        (folder / CHANGED).touch()
        os.utime(folder)


def changed_at(set_id: str) -> float:
    """When it was changed last, 0 where it never was. Raises BadCase."""
    try:
        return (folder_of(set_id) / CHANGED).stat().st_mtime
    except OSError:
        return 0.0


def about(set_id: Any) -> About:
    """Raises BadCase."""
    try:
        held = json.loads((folder_of(set_id) / ABOUT).read_text(encoding="utf-8"))
        return About(**{**held, "strategies": tuple(held["strategies"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise BadCase("pairs_gone") from None


def keep_about(set_id: str, known: About, **changes: Any) -> About:
    """Write what is known, with `changes`. Raises OSError, BadCase."""
    known = replace(known, **changes)
    _write(folder_of(set_id) / ABOUT, asdict(known))
    return known


def _write(path: Path, value: Any) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=True), encoding="ascii")


def recent() -> list[tuple[str, str, float]]:
    """(id, name, when changed) of the sets on one's own machine, the last ones first; none in public."""
    if is_public():
        return []
    found = []
    with suppress(OSError):
        for folder in _root().iterdir():
            with suppress(OSError):
                found.append(((folder / PAIRS).stat().st_mtime, folder.name))
    shown = []
    for when, set_id in sorted(found, reverse=True)[: 4 * MAX_RECENT]:
        with suppress(BadCase):
            known = about(set_id)
            if not known.demo:
                shown.append((set_id, known.name, when))
    return shown[:MAX_RECENT]


def without_places(line: str) -> str:
    """A sentence without the folders that sets lie in: who reads it may be a visitor."""
    for root in (_root(), _root().resolve()):
        line = re.sub(re.escape(str(root)) + r"(/[A-Za-z0-9_-]{22,64}/?)?", "", line)
    return line


# --- who edits ---


def checked_editor(editor: Any) -> str:
    """A browser's own id, as it made it; `?` for anything else."""
    return editor if isinstance(editor, str) and ID.fullmatch(editor) else "?"


def name_editor(set_id: str, editor: str, name: str) -> None:
    """Remember how an editor of this set wants to be called. Raises OSError, BadCase."""
    name = " ".join(name.split())[:MAX_NAME]
    known = _editors(set_id)
    key = _short(editor)
    if known.get(key, "") != name:
        known = {**known, key: name}
        _write(folder_of(set_id) / EDITORS, dict(list(known.items())[-200:]))


def editor_name(set_id: str, editor: str, lang: str, me: str = "") -> str:
    """What is shown of an editor: the name, else a short sign, `you` for oneself. The id stays with its browser."""
    said = words(lang)
    if not editor:
        return str(said["pairs_file"])
    if editor == me:
        return str(said["pairs_you"])
    return _editors(set_id).get(_short(editor)) or str(said["pairs_somebody"]).format(sign=_short(editor)[:4])


def _editors(set_id: str) -> dict[str, str]:
    try:
        held = json.loads((folder_of(set_id) / EDITORS).read_text(encoding="ascii"))
        return {str(k): str(v)[:MAX_NAME] for k, v in held.items()}
    except (OSError, ValueError, AttributeError, BadCase):
        return {}


def _short(editor: str) -> str:
    return hashlib.sha256(editor.encode()).hexdigest()[:16]
