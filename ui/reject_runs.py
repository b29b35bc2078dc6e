"""Runs that make rejected answers, as ui/command_runs.py keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ui import command_runs
from ui.command_runs import ABOUT, AT_ONCE, POLITE_SECONDS, CommandRuns, Status, lasting, read_object
from ui.visitor_case import BadCase

__all__ = ["ABOUT", "AT_ONCE", "OUTPUT", "POLITE_SECONDS", "About", "Status", "lasting"]

OUTPUT = "rejects.json"
MAX_SHOWN = 12
_EXITS = {"done": 0, "stopped": 3, "failed": 2}


@dataclass(frozen=True)
class About:
    """What was asked. arguments: of `python -m pipeline`, with the paths of this machine. command: the same as a line
    to copy. demo: names of demo models that are built first. preview: only so many rows, 0 for a whole run. asked: the
    form it came from. partner: id of the run it is compared with.
    """

    name: str
    arguments: tuple[str, ...]
    command: str
    created: float
    demo: tuple[str, ...] = ()
    preview: int = 0
    model: str = ""
    data: str = ""
    partner: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


def _last_word(folder: Path) -> int | None:
    return _EXITS.get(str(read_object(folder / f"{OUTPUT}.progress.json").get("state")))


_runs = CommandRuns("rejects", _last_word)
folder_of, check_room, status, stop, remove = (
    _runs.folder_of, _runs.check_room, _runs.status, _runs.stop, _runs.remove,
)  # fmt: skip
log_end = _runs.log_end


def output_of(run_id: Any) -> Path:
    """Raises BadCase."""
    return folder_of(run_id) / OUTPUT


def candidates_of(run_id: Any) -> Path:
    """Raises BadCase."""
    return folder_of(run_id) / f"{OUTPUT}.candidates.jsonl"


def work_of(run_id: Any) -> Path:
    """Where a run keeps what isn't written yet. Raises BadCase."""
    return folder_of(run_id) / f"{OUTPUT}.work"


def place_for(run_id: str | None) -> tuple[str, Path]:
    """An id for a run, the one given where it is free, and where its output will lie. Raises OSError."""
    made, folder = _runs.place_for(run_id)
    return made, folder / OUTPUT


def has_begun(run_id: Any) -> bool:
    """Whether its command has written anything yet that it can go on from. Raises BadCase."""
    return (folder_of(run_id) / f"{OUTPUT}.run.json").is_file()


def start(run_id: str, about: About, build: Callable[[Callable[[str], None]], None] | None = None) -> None:
    """Begin a new run. build: makes what it needs first, telling each step. Raises OSError."""
    _runs.start(run_id, asdict(about), about.command, about.arguments, build)


def begin(
    run_id: str, arguments: Sequence[str], build: Callable[[Callable[[str], None]], None] | None = None
) -> None:  # fmt: skip
    """Start the process of a run that has its folder, or prepare what it needs and start it then. Raises BadCase where
    it is live already, OSError."""
    _runs.begin(run_id, arguments, build)


def about(run_id: Any) -> About:
    """Raises BadCase."""
    try:
        held = json.loads((folder_of(run_id) / ABOUT).read_text(encoding="utf-8"))
        return About(**{**held, "arguments": tuple(held["arguments"]), "demo": tuple(held["demo"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise BadCase("rejects_gone") from None


def keep_about(run_id: str, known: About, **changes: Any) -> About:
    """Write what is known, with `changes`. Raises OSError, BadCase."""
    known = replace(known, **changes)
    command_runs.keep_about(folder_of(run_id), asdict(known), known.command)
    return known


def policy_of(known: About) -> str:
    """The policy as the command names it."""
    given = known.arguments
    return given[given.index("--choose") + 1] if "--choose" in given[:-1] else "all"


def progress(run_id: Any) -> dict[str, Any]:
    """What the command wrote last of how far it is; empty before it did. Raises BadCase."""
    return read_object(folder_of(run_id) / f"{OUTPUT}.progress.json")


def account(run_id: Any) -> dict[str, Any]:
    """What a finished run wrote, in numbers; empty before. Raises BadCase."""
    held = read_object(folder_of(run_id) / f"{OUTPUT}.run.json").get("account")
    return held if isinstance(held, dict) else {}


def recent(seen: Sequence[str] = ()) -> list[tuple[str, About, Status]]:
    """Runs that a page may list, newest first: on one's own machine all, in public those its browser has seen."""
    found = []
    for run_id in _runs.listed(seen):
        with suppress(BadCase):
            found.append((run_id, about(run_id), status(run_id)))
    return sorted(found, key=lambda one: -one[1].created)[:MAX_SHOWN]
