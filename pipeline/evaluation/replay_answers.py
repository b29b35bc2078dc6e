"""Answers of a replay as they are made, so that one that was interrupted or killed goes on where it was.

One file of JSON lines for all models: `{"by", "model", "format"}` where a model begins, `{"by", "case", "text", "ids",
"ended", "tokens"}` for each answer. `by` says what an answer was made by: model, decoding and prompts; lines of others
stay for whoever asks that again. Answers that couldn't be made aren't kept, so they are tried again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.evaluation.format_of_first import FormatTaken
from pipeline.evaluation.replay_judging import Answered
from pipeline.refusal import Refused

ANSWERS = ".replay.answers.jsonl"
"""Ending of the file beside a result, after its stem."""
_LOOKED_AT = 20  # lines of a file by which it is known to be one of these


class KeptAnswers:
    """overwrite: what the file holds is dropped. Raises Refused where another kind of file is in the way, or nothing
    can be read."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._cut = False  # the last line stands there in part
        try:
            if overwrite:
                path.unlink(missing_ok=True)
            elif path.exists() and path.stat().st_size and not self._is_ours():
                raise Refused("compare_answers_in_the_way", path=path)
            elif path.exists():
                self._open()  # another replay of this bundle may look for answers that nobody uses
        except OSError as failed:
            raise Refused("output_failed", path=path, why=failed.strerror or failed) from None

    def of(self, by: str) -> tuple[FormatTaken | None, dict[int, Answered]]:
        """The format and the answers made by that, by case."""
        asked: FormatTaken | None = None
        found: dict[int, Answered] = {}
        for line in self._lines():
            if line.get("by") != by:
                continue
            if "format" in line:
                if asked is not None and (new := FormatTaken.read(line["format"])) != asked:
                    asked, found = new, {}  # begun again in another format
                else:
                    asked = FormatTaken.read(line["format"])
            elif (read := _answered(line)) is not None:
                found[read[0]] = read[1]
        return asked, found

    def begin(self, by: str, model: str, asked: FormatTaken) -> None:
        self._write({"by": by, "model": model, "format": asked.as_json()})

    def add(self, by: str, case: int, answer: Answered) -> None:
        if not answer.problem:
            self._write({"by": by, "case": case, "text": answer.text, "ids": list(answer.ids), "ended": answer.ended,
                         "tokens": answer.tokens})  # fmt: skip

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(OSError):
                file.close()

    def drop(self) -> None:
        """The replay is whole: nothing is left to go on with."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    # --- the file ---

    def _write(self, line: Mapping[str, Any]) -> None:
        """Where the disk is full the replay goes on; what is written at its end says so."""
        data = json.dumps(line).encode() + b"\n"
        with suppress(OSError):
            file = self._open()
            data = b"\n" + data if self._cut else data
            self._cut = file.write(data) < len(data)  # a disk that fills takes the first part, and says nothing

    def _open(self) -> BinaryIO:
        if self._file is not None:
            return self._file
        file = self._file = open(self.path, "ab+", buffering=0)  # noqa: SIM115
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for `left_by_another`
        if size := file.seek(0, 2):
            file.seek(size - 1)
            self._cut = file.read(1) != b"\n"  # stays one by itself
        return file

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            with open(self.path, "rb") as file:
                for raw in file:
                    try:
                        line = json.loads(raw)
                    except (ValueError, RecursionError):  # cut short by what ended the run
                        continue
                    if isinstance(line, dict):
                        yield line
        except FileNotFoundError:
            return
        except OSError as failed:
            raise Refused("output_failed", path=self.path, why=failed.strerror or failed) from None

    def _is_ours(self) -> bool:
        return any("by" in line and ("format" in line or "case" in line)
                   for line, _ in zip(self._lines(), range(_LOOKED_AT), strict=False))  # fmt: skip


def left_by_another(path: Path) -> bool:
    """Whether no replay is writing these answers any more."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def made_by(model: str, decoding: Mapping[str, Any], prompts: str) -> str:
    """Digest of all that an answer depends on. model: its fingerprint; prompts: digest of what is asked."""
    whole = json.dumps([model, decoding, prompts], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:20]


def _answered(line: Mapping[str, Any]) -> tuple[int, Answered] | None:
    try:
        ids = tuple(int(one) for one in line["ids"])
        ended = line["ended"] if isinstance(line["ended"], bool) else None
        tokens = line["tokens"] if isinstance(line["tokens"], int) else None
        return int(line["case"]), Answered(str(line["text"]), ids, ended, tokens)
    except (KeyError, TypeError, ValueError):
        return None
