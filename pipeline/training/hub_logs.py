"""The output of a job on Hugging Face, followed into a file: one line there is one line of the job's.

The Hub sends the whole log from its beginning each time it is asked. What the file holds already is counted and
compared with what comes, so that following goes on where it ended, after a cut connection or a restart of the app, with
no line twice and none lost. Where the Hub's log is another one than the file's, the file is put aside and written anew.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any, Final

from pipeline.refusal import Refused
from pipeline.training.hub_calls import Unsure, api, hidden, said, settings, usable_token
from pipeline.training.hub_jobs import HubRun, found_job

PUT_ASIDE = ".before"
_FOLLOWED: Final[dict[tuple[str, Path], LogFollower]] = {}
_LOCK = threading.Lock()


class LogFollower:
    """Follows on a thread of its own. lines: in the file; problem: why it ended before the job did."""

    def __init__(self, run: HubRun, token: str, path: Path) -> None:
        self.run, self.path = run, path
        self.lines = 0
        self.problem: Refused | None = None
        self._token = token
        self._stopped = False
        self._over = False  # the thread has ended or is about to
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"hub-log {run.job_id}")

    @property
    def alive(self) -> bool:
        """Whether lines still come."""
        return not (self._stopped or self._ended.is_set())

    def stop(self) -> None:
        """No line is written after this returns. The connection of a silent job stays open until its next line, or its
        end: the library can't be woken."""
        with self._lock:
            self._stopped = True

    def wait(self, seconds: float | None = None) -> bool:
        """Until the job's output is over. False where that took longer."""
        return self._ended.wait(seconds)

    def _begin(self) -> LogFollower:
        self._thread.start()
        return self

    def _revived(self) -> bool:
        """Goes on with a connection that was still open, if it was."""
        with self._lock:
            if self._over:
                return False
            self._stopped = False
            return True

    def _follow(self) -> None:
        try:
            while not self._once():
                pass
        except _Stopped:
            pass
        except Exception as failed:  # of the library, the transport, the disk
            what = said(failed, self._token)
            if isinstance(what, Unsure):
                what = Refused("hub_jobs_log_cut", job=self.run.job_id, reason=what.args[0])
            self.problem = what
        finally:
            with self._lock:
                self._over = True
            self._ended.set()

    def _once(self) -> bool:
        """From the beginning of the Hub's log to its end. False where it is another log than the file's."""
        self.lines, known = _kept(self.path)
        whole = self.lines
        seen, digest = 0, hashlib.blake2b()
        client = api(self._token, self.run.endpoint)
        events = client.fetch_job_logs(job_id=self.run.job_id, namespace=self.run.namespace, follow=True)
        with open(self.path, "ab", buffering=0) as file:
            for event in events:
                line = line_of(event, self._token)
                with self._lock:
                    if self._stopped:
                        self._over = True
                        raise _Stopped
                    seen += 1
                    if seen > whole:
                        file.write(line)
                        self.lines += 1
                        continue
                digest.update(line)
                if seen == whole and digest.hexdigest() != known:
                    os.replace(self.path, f"{self.path}{PUT_ASIDE}")
                    return False
        return True


class _Stopped(Exception):
    pass


def follow_logs(run: HubRun, token: str | None, path: Path) -> LogFollower:
    """Write the job's output to `path` until it ends or `stop()`. One thread for a job and file, however often it is
    asked for. Raises Refused for a job that never started."""
    token = usable_token(token)
    run = found_job(run, token)
    key = (run.job_id, path.absolute())
    with _LOCK:
        for other in [k for k, f in _FOLLOWED.items() if f._ended.is_set()]:
            del _FOLLOWED[other]
        old = _FOLLOWED.get(key)
        if old is not None and old._revived():
            return old
        _FOLLOWED[key] = new = LogFollower(run, token, path)._begin()
    return new


def line_of(event: Any, token: str) -> bytes:
    """One line for a file: no line ends within, no control characters but tab and progress bars' return, no token."""
    text = hidden(str(event), token)
    longest = int(settings()["longest_line"])
    if len(text) > longest:
        text = f"{text[:longest]}…"
    clean = text.rstrip("\r\n") if text.isprintable() else "".join(map(_shown, text.rstrip("\r\n")))
    return clean.encode("utf-8", errors="backslashreplace") + b"\n"


def _shown(character: str) -> str:
    wide_space = character.isspace() and character > "\xa0" and character not in "\u2028\u2029"
    if character in "\t\r" or character.isprintable() or wide_space:
        return character
    return character.encode("unicode_escape").decode()


def _kept(path: Path) -> tuple[int, str]:
    """(whole lines, digest over them); a last line that was cut short is removed."""
    digest, lines, end = hashlib.blake2b(), 0, 0
    if not path.exists():
        return 0, digest.hexdigest()
    with open(path, "r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(end)
                break
            digest.update(line)
            lines, end = lines + 1, end + len(line)
    return lines, digest.hexdigest()


