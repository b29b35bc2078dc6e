"""From what a visitor typed and dropped to the source of one set of pairs, or to the one line that says why not."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from pipeline.checkpoint import HUB_ID
from pipeline.config_files import CONFIGS
from pipeline.pairs.hub_pairs import hub_id
from ui import examples, uploads
from ui.allowed_paths import is_allowed, is_public
from ui.interface_words import known
from ui.log_case import PUBLIC_BYTES, path_is_open
from ui.visitor_case import BadCase, named_lines

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".gz")
SIDES = ("prompt", "chosen", "rejected")
COLUMNS = (*SIDES, "system", "id", "score_chosen", "score_rejected")
"""What a column of a file may be said to stand for."""
EXAMPLES = ("healthy", "sick")


@dataclass(frozen=True)
class GivenSet:
    """One set of pairs that may be read here: files of this machine, or a split of a data set of the Hub.

    columns: names of the file by what they stand for. axis: of PKU's two. demo: one of the examples. made: pairs that
    were made here, as a source, instead of either.
    """

    name: str
    paths: tuple[Path, ...] = ()
    hub: str = ""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict)
    axis: str = ""
    tokenizer: str = ""
    max_length: int | None = None
    demo: bool = False
    made: Any = None


def checked_source(
    path: str, token: str = "", tokenizer: str = "", max_length: float | None = None, split: str = ""
) -> GivenSet:  # fmt: skip
    """A source from form fields. token: of the folder that keeps the dropped files. split: of a data set of the Hub.
    Raises BadCase.

    Dropped files come before a path; several of either are parts of one set.
    """
    tokenizer = checked_tokenizer(tokenizer)
    length = int(max_length) if isinstance(max_length, (int, float)) and 0 < max_length < 10**7 else None
    dropped = uploads.files(token)
    if token and not dropped:
        raise BadCase("upload_gone")
    if dropped:
        files = tuple(Path(p) for p in dropped)
        return GivenSet(_name(files), _sized(files), tokenizer=tokenizer, max_length=length)
    named = named_lines(path)
    if not named:
        raise BadCase("no_pairs")
    if len(named) == 1 and not _exists(named[0]) and (found := hub_id(named[0])) is not None:
        return GivenSet(found.repo.partition("/")[2], hub=named[0], split=(split or "").strip()[:100] or "train",
                        tokenizer=tokenizer, max_length=length)  # fmt: skip
    for one in named:
        if is_public() and (not path_is_open() or not is_allowed(one)):
            raise BadCase("pairs_path_refused", path=one)
    files = tuple(file for one in named for file in _inside(one))
    return GivenSet(_name(files), _sized(files), tokenizer=tokenizer, max_length=length)


def checked_file(given: Mapping[str, Any]) -> GivenSet:
    """A file that a client of the API uploaded, as its path in the server's own upload folder. Raises BadCase."""
    path, name = given.get("path"), given.get("orig_name")
    if not isinstance(path, str) or not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise BadCase("upload_gone")
    name = uploads.safe_name(name if isinstance(name, str) and name else path)
    return GivenSet(name, _sized((Path(path),)))


def checked_tokenizer(given: str) -> str:
    """A tokenizer that may be read here. Raises BadCase."""
    named = (named_lines(given) or ("",))[0]
    if named and not is_allowed(named, examples.demo_roots()):
        raise BadCase("path_refused", path=named)
    if named and not _exists(named) and not HUB_ID.match(named):
        raise BadCase("file_not_found", option="tokenizer", path=named)
    return named


def example(name: str, lang: str) -> GivenSet:
    """One of the sets that come with the app. Raises BadCase."""
    if name not in EXAMPLES:
        raise BadCase("no_pairs")
    path = CONFIGS / "examples" / f"pairs_{name}_{known(lang)}.jsonl"
    return GivenSet(path.name, (path,), demo=True)


def checked_columns(given: Any, there: Collection[str]) -> dict[str, str]:
    """Names of the file by what a visitor says they stand for. Raises BadCase where that makes no pair."""
    chosen = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
    wanted = {column: name for column, name in chosen.items() if column in COLUMNS and name in there}
    if "prompt" not in wanted or not {"chosen", "rejected"} & set(wanted):
        raise BadCase("pairs_columns_missing")
    if len(set(wanted.values())) < len(wanted):
        raise BadCase("pairs_columns_twice")
    return {name: column for column, name in wanted.items()}


def _exists(named: str) -> bool:
    try:
        return os.path.lexists(named)
    except ValueError:
        return False


def _inside(named: str) -> list[Path]:
    """The file itself, or the data files of a folder."""
    if not _exists(named):
        raise BadCase("pairs_not_found", path=named)
    path = Path(named)
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not files:
        raise BadCase("no_pairs_inside", path=named)
    for file in files:
        if not is_allowed(str(file)):
            raise BadCase("pairs_path_refused", path=str(file))
    return files


def _sized(files: tuple[Path, ...]) -> tuple[Path, ...]:
    if is_public():
        check_size(sum(f.stat().st_size for f in files))
    for file in files:
        if not file.is_file():
            raise BadCase("pairs_not_found", path=str(file))
    return files


def check_size(size: int) -> None:
    """Raises BadCase where a public machine doesn't take that much."""
    if is_public() and size > PUBLIC_BYTES:
        raise BadCase("pairs_too_large", most=str(PUBLIC_BYTES >> 20))


def _name(files: tuple[Path, ...]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} + {len(files) - 1}"
