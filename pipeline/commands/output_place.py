"""Whether a file of data can be written where it was asked for, looked at before anything is read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.pairs.write_pairs import SUFFIXES
from pipeline.refusal import Refused


def can_be_written(output: Path, *, others_beside: bool = False) -> None:
    """Raises Refused for a name that says no file type, and for a place where nothing can be written.

    others_beside: files of a run will stand beside the name itself, which may be a link, and be replaced whole.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise Refused("suffix_unknown", path=output)
    try:
        if output.is_dir():
            raise Refused("output_is_folder", path=output)
        if output.exists() and not output.is_file():
            raise Refused("file_is_special", option="--output", path=output)
        place = Path(os.path.realpath(output))
        if not place.parent.is_dir() or (others_beside and not output.parent.is_dir()):
            raise Refused("output_no_folder", path=output, folder=place.parent)
        written = [output.parent] if others_beside else [place.parent, *([place] if place.exists() else [])]
        if not all(os.access(one, os.W_OK) for one in written):
            raise Refused("output_failed", path=output, why=os.strerror(errno.EACCES))
    except (OSError, ValueError) as failed:  # a loop of links, a null byte
        raise Refused("output_failed", path=output, why=getattr(failed, "strerror", None) or failed) from None
