"""What a word of a command names as data: a file, an entry of a dataset_info.json, or a data set of the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.pairs.dataset_info import FILE_NAME, read_dataset_info
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairFile, PairSource
from pipeline.pairs.write_pairs import SUFFIXES
from pipeline.record_files import Unreadable
from pipeline.refusal import Refused, Sentence


@dataclass(frozen=True)
class OpenSource:
    """name: as it was given. open: the pairs from the beginning, at each call. path: of the file, None for the Hub."""

    name: str
    open: Callable[[], PairSource]
    path: Path | None = None


def open_source(
    given: str,
    *,
    option: str = "FILE",
    program: str = "python -m pipeline convert",
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    axis: str | None = None,
    split: str = "train",
    output: str | None = None,
) -> OpenSource:
    """Raises Refused for what leads nowhere, for folders and devices, and for a dataset_info.json that is `output` too.

    option, program: how the place of `given` in the command is called. The others are those of PairSource and HubPairs.
    """
    how: dict[str, Any] = {"format": format, "columns": columns, "axis": axis}
    if not given:
        raise Refused("see_help", line=Sentence("argument_missing", {"names": option}), program=program)
    path = Path(given)
    if os.path.isfile(path):
        if path.name == FILE_NAME:
            names = list(read_dataset_info(path).entries)
            raise Refused("info_name_needed", path=given, names=", ".join(names[:20]))
        return OpenSource(given, lambda: PairFile(path, **how), path)
    listed, _, name = given.rpartition(":")
    if listed and os.path.isfile(listed):
        if output is not None and os.path.exists(output) and os.path.samefile(listed, output):
            raise Refused("output_is_input", path=output, option=FILE_NAME, given=listed)
        info = read_dataset_info(Path(listed))
        source = info.source(name, axis=axis)
        return OpenSource(given, lambda: info.source(name, axis=axis), getattr(source, "path", None))
    if os.path.isdir(path):
        raise Refused("data_is_folder", path=given)
    try:
        path.stat()
        raise Refused("file_is_special", option=option, path=given)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a null byte
        pass
    except OSError as failed:
        raise Refused("data_unusable", path=given, why=failed.strerror or failed) from None
    from pipeline.pairs.hub_pairs import HubPairs, hub_id

    if hub_id(given) is None or path.suffix.lower() in (*SUFFIXES, ".tsv", ".gz", ".txt", ".xlsx"):
        raise Refused("data_not_found", path=given)
    return OpenSource(given, lambda: HubPairs(given, split=split, **how))


@contextmanager
def refusing(source: PairSource) -> Iterator[None]:
    """What the readers raise, as one line with the name of the source."""
    try:
        yield
    except Unreadable as reason:
        problem, detail = reason.args
        if problem == "empty" or (problem == "no_known_columns" and not source.reasons["unknown_columns"]):
            problem = "no_rows"
        why = Sentence(problem, {"detail": detail})
        raise Refused("data_unusable", path=source.name, why=why) from None
    except OSError as failed:
        raise Refused("data_unusable", path=source.name, why=failed.strerror or failed) from None


def rows_of(source: PairSource) -> Iterator[Pair]:
    """Its pairs, what the readers raise said in one line. Raises Refused, also where a choice was not made."""
    pairs = iter(source)
    while True:
        with refusing(source):
            pair = next(pairs, None)
        ask_for_axis(source)
        if pair is None:
            return
        yield pair


def ask_for_axis(source: PairSource) -> None:
    """Raises Refused where a choice that only the user can make was not made."""
    if source.reasons["axes_disagree"]:
        line = next((one.line for one in source.left_out if one.reason == "axes_disagree"), 0)
        raise Refused("axis_needed", path=source.name, line=line)
