"""People's votes between two answers whose models they don't know.

Which answer stands on the left is drawn for each case and voter, cases come in an order drawn for each voter, so that
the first hundred votes are a random sample of the rows. Votes are appended to `votes.jsonl`, one line each, by any
number of voters and processes; nothing in it is ever rewritten.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from pipeline.evaluation.results import now
from pipeline.refusal import Refused

Vote = Literal["left", "right", "tie", "skip"]
Outcome = Literal["win", "tie", "loss"]
VOTES: tuple[Vote, ...] = ("left", "right", "tie", "skip")
FILE = "votes.jsonl"
REPEAT_EVERY = 10
"""After so many votes a case of before is shown again with its sides exchanged."""
MOST_LINE = 64 * 2**20


@dataclass(frozen=True)
class BlindCase:
    """What a voter sees. number: of this vote, from 1."""

    id: str
    prompt: str
    left: str
    right: str
    category: str = ""
    reference: str | None = None
    number: int = 0


@dataclass(frozen=True)
class VoteCounts:
    """cases: rows with two different answers. equal: rows whose answers are the same, which nobody has to judge.
    unusable: lines of the rows file without both answers. voted, skipped: by this voter. repeats: shown a second time,
    of which `same` got the same verdict. voters: people with a vote. shared: cases with the votes of several people;
    agreed: of those, where all said the same."""

    cases: int
    equal: int
    unusable: int
    voted: int
    skipped: int
    repeats: int
    same: int
    voters: int
    shared: int
    agreed: int

    @property
    def left(self) -> int:
        """Cases that this voter hasn't seen."""
        return self.cases - self.voted - self.skipped


@dataclass(frozen=True)
class _Cast:
    """A vote that stands. after_left: whether the after model's answer was on the left."""

    vote: Vote
    after_left: bool

    @property
    def outcome(self) -> Outcome | None:
        if self.vote in ("tie", "skip"):
            return "tie" if self.vote == "tie" else None
        return "win" if (self.vote == "left") == self.after_left else "loss"


class BlindVotes:
    """The cases of one comparison and one voter's way through them. See open_votes. Safe for several threads."""

    def __init__(
        self, rows_file: Path, folder: Path, seed: int, voter: str, before: str | None, after: str | None,
        repeat_every: int,
    ) -> None:  # fmt: skip
        self.rows_file, self.file, self.seed, self.voter = rows_file, folder / FILE, seed, voter
        self.before, self.after = before, after
        self._repeat_every = repeat_every
        self._lock = threading.RLock()
        self._offsets = array("q")
        self._numbers = array("q")
        self._places: dict[str, int] = {}
        self._ids: list[str] = []
        self._equal: set[int] = set()
        self._unusable = 0
        self._scan()
        self._order = list(range(len(self._ids)))
        Random(f"{seed} order {voter}").shuffle(self._order)
        self._cursor = 0
        self._first: dict[str, dict[str, _Cast]] = {}  # by voter, then by case
        self._again: dict[str, dict[str, _Cast]] = {}
        self._history: dict[str, list[tuple[str, bool]]] = {}
        self._read = 0
        self._catch_up()

    # --- voting ---

    def next(self) -> BlindCase | None:
        """The case to judge now, the same until it is voted on; None when all are done."""
        with self._lock:
            self._catch_up()
            mine = self._first.get(self.voter, {})
            number = len(self._own()) + len(self._again.get(self.voter, {})) + 1
            if (known := self._due_again()) is not None:
                return self._case(known, number, again=True)
            while self._cursor < len(self._order):
                place = self._order[self._cursor]
                if place not in self._equal and self._ids[place] not in mine:
                    return self._case(self._ids[place], number, again=False)
                self._cursor += 1
            return None

    def vote(self, case: BlindCase | str, vote: Vote) -> bool:
        """Writes a vote down. False for a case that this voter has voted on (a key hit twice). Raises Refused for a
        case that isn't of these rows, and where nothing can be written."""
        if vote not in VOTES:
            raise ValueError(vote)
        with self._lock:
            self._catch_up()
            name, again = self._named(case if isinstance(case, str) else case.id)
            held = (self._again if again else self._first).get(self.voter, {})
            if name in held:
                return False
            lines = [] if again else self._passed(name)
            lines.append(
                {"case": name, "row": self._numbers[self._places[name]], "voter": self.voter, "vote": vote,
                 "after_left": self._after_left(name, again), "again": again, "at": now()}
            )  # fmt: skip
            self._append(lines)
            self._catch_up()
            return True

    def undo(self) -> BlindCase | None:
        """Takes this voter's last vote back and gives its case, which comes next; None where there is none."""
        with self._lock:
            self._catch_up()
            history = [cast for cast in self._history.get(self.voter, []) if cast[0] in self._places]
            if not history:
                return None
            name, again = history[-1]
            self._append([{"undo": name, "voter": self.voter, "again": again, "at": now()}])
            self._cursor = 0
            return self.next()

    def reveal(self, case: BlindCase | str) -> Mapping[str, str] | None:
        """Names of the models on the `left` and the `right`, and this voter's `vote`; None before the vote."""
        with self._lock:
            self._catch_up()
            name, again = self._named(case if isinstance(case, str) else case.id)
            cast = (self._again if again else self._first).get(self.voter, {}).get(name)
            if cast is None:
                return None
            row = self._row(name)
            models = [row["after_name"], row["before_name"]]
            left, right = models if cast.after_left else models[::-1]
            return {"left": left, "right": right, "vote": cast.vote}

    # --- what came of it ---

    def outcomes(self) -> dict[int, Outcome]:
        """By row number: what people say of the after model. Several voters: the side that more of them took, a tie
        where as many took each. Rows with equal answers that came up between votes are ties."""
        with self._lock:
            self._catch_up()
            points: Counter[str] = Counter()
            for votes in self._first.values():
                for name, cast in votes.items():
                    if cast.outcome is not None and name in self._places:
                        points[name] += {"win": 1, "tie": 0, "loss": -1}[cast.outcome]
            return {
                int(self._numbers[self._places[name]]): "win" if sum_ > 0 else "loss" if sum_ < 0 else "tie"
                for name, sum_ in points.items()
            }

    def judged(self) -> int:
        """Cases with a verdict of anybody; rows with equal answers, which nobody has to judge, aren't among them."""
        with self._lock:
            self._catch_up()
            named = {name for votes in self._first.values() for name, cast in votes.items() if cast.outcome is not None}
            return sum(name in self._places and self._places[name] not in self._equal for name in named)

    def counts(self) -> VoteCounts:
        """How far this voter is, and how far the votes agree with one another."""
        with self._lock:
            self._catch_up()
            mine = self._own().values()
            repeats = same = 0
            by_case: dict[str, list[Outcome]] = {}
            voters = set()
            for voter, votes in self._first.items():
                for name, cast in votes.items():
                    place = self._places.get(name)
                    if place is None or place in self._equal or cast.outcome is None:
                        continue
                    voters.add(voter)
                    by_case.setdefault(name, []).append(cast.outcome)
                    again = self._again.get(voter, {}).get(name)
                    if again is not None and again.outcome is not None:
                        repeats += 1
                        same += again.outcome == cast.outcome
            shared = [said for said in by_case.values() if len(said) > 1]
            return VoteCounts(
                len(self._ids) - len(self._equal), len(self._equal), self._unusable,
                sum(c.vote != "skip" for c in mine), sum(c.vote == "skip" for c in mine), repeats, same, len(voters),
                len(shared), sum(len(set(said)) == 1 for said in shared),
            )  # fmt: skip

    # --- cases ---

    def _scan(self) -> None:
        """Where each usable row stands; texts stay in the file."""
        try:
            with open(self.rows_file, "rb") as file:
                offset = 0
                for line in file:
                    if line.strip():
                        self._take(line, offset)
                    offset += len(line)
        except OSError as failed:
            raise Refused("votes_rows_unreadable", path=self.rows_file, why=failed.strerror or failed) from None
        if not self._ids:
            raise Refused("votes_rows_none", path=self.rows_file)

    def _take(self, line: bytes, offset: int) -> None:
        row = self._parsed(line)
        if row is None:
            self._unusable += 1
            return
        if self.after is not None and row["after_name"] != self.after:
            return
        if self.after is None:
            self.after = row["after_name"]
        if row["id"] in self._places:
            return
        place = len(self._ids)
        self._places[row["id"]] = place
        self._ids.append(row["id"])
        self._offsets.append(offset)
        self._numbers.append(row["row"])
        if row["after"].split() == row["before"].split():
            self._equal.add(place)

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        """A row with both answers, None for what is none."""
        try:
            value = json.loads(line)
            answers, after = value["answers"], value["after"]
            before = self.before or next(name for name in answers if name != after)
            row, prompt, texts = int(value["row"]), str(value["prompt"]), (answers[before], answers[after])
        except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
            return None
        if not all(isinstance(text, str) for text in texts):
            return None
        named = json.dumps([row, before, after, prompt, *texts])  # ASCII: half a character is no UTF-8
        return {
            "id": hashlib.sha256(named.encode()).hexdigest()[:16], "row": row, "prompt": prompt, "before": texts[0],
            "after": texts[1], "before_name": str(before), "after_name": str(after),
            "category": str(value.get("category") or ""), "reference": value.get("reference"),
        }  # fmt: skip

    def _row(self, name: str) -> dict[str, Any]:
        """Raises Refused where the file has changed."""
        try:
            with open(self.rows_file, "rb") as file:
                file.seek(self._offsets[self._places[name]])
                row = self._parsed(file.readline(MOST_LINE))
        except OSError as failed:
            raise Refused("votes_rows_unreadable", path=self.rows_file, why=failed.strerror or failed) from None
        if row is None or row["id"] != name:
            raise Refused("votes_rows_changed", path=self.rows_file)
        return row

    def _case(self, name: str, number: int, *, again: bool) -> BlindCase:
        row = self._row(name)
        texts = [row["after"], row["before"]]
        left, right = texts if self._after_left(name, again) else texts[::-1]
        reference = row["reference"]
        return BlindCase(
            self._shown_name(name) if again else name, row["prompt"], left, right, row["category"],
            reference if isinstance(reference, str) else None, number,
        )  # fmt: skip

    def _after_left(self, name: str, again: bool) -> bool:
        """A repeat stands the other way round than the vote it repeats."""
        if again:
            return not self._first[self.voter][name].after_left
        return Random(f"{self.seed} side {self.voter} {name}").random() < 0.5

    def _due_again(self) -> str | None:
        """The case to show a second time now: the oldest that was decided and is far enough back."""
        if not self._repeat_every:
            return None
        own, again = self._own(), self._again.get(self.voter, {})
        if len(own) // self._repeat_every <= len(again):
            return None
        far = list(own)[: -self._repeat_every // 2]
        return next((name for name in far if name not in again and own[name].vote != "skip"), None)

    @staticmethod
    def _shown_name(name: str) -> str:
        """What a repeat is called, so that nobody sees that it is one."""
        return hashlib.sha256(f"{name} again".encode()).hexdigest()[:16]

    def _named(self, shown: str) -> tuple[str, bool]:
        """The case and whether it is its repeat. Raises Refused."""
        if shown in self._places:
            return shown, False
        for name in self._first.get(self.voter, {}):
            if self._shown_name(name) == shown and name in self._places:
                return name, True
        raise Refused("votes_case_unknown", path=self.rows_file)

    def _own(self) -> dict[str, _Cast]:
        """This voter's votes on cases of these rows, in the order they were cast, ties by equal answers left out."""
        mine = self._first.get(self.voter, {})
        return {n: cast for n, cast in mine.items() if n in self._places and self._places[n] not in self._equal}

    def _passed(self, name: str) -> list[dict[str, Any]]:
        """Ties for the rows with equal answers that lie before this case in the order: without them the votes would
        tell of the rows with different answers only."""
        mine = self._first.get(self.voter, {})
        until = self._order.index(self._places[name])
        return [
            {"case": self._ids[place], "row": self._numbers[place], "voter": self.voter, "vote": "tie",
             "after_left": True, "again": False, "equal": True, "at": now()}
            for place in self._order[:until] if place in self._equal and self._ids[place] not in mine
        ]  # fmt: skip

    # --- the file ---

    def _append(self, lines: list[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":  # what broke off stays a line by itself
                    data = b"\n" + data
                written = os.write(file, data)
                if written < len(data):
                    os.ftruncate(file, size)
                    raise OSError(None, "disk full")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as failed:
            raise Refused("output_failed", path=self.file, why=failed.strerror or failed) from None

    def _catch_up(self) -> None:
        """Takes in what stands in the file since the last look, whole lines only."""
        try:
            with open(self.file, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._read:  # another file: begin anew
                    self._read = 0
                    self._first, self._again, self._history = {}, {}, {}
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    self._take_line(line)
        except FileNotFoundError:
            return
        except OSError as failed:
            raise Refused("votes_unreadable", path=self.file, why=failed.strerror or failed) from None

    def _take_line(self, line: bytes) -> None:
        try:
            value = json.loads(line)
            voter, again = str(value["voter"]), value.get("again") is True
            held = (self._again if again else self._first).setdefault(voter, {})
            history = self._history.setdefault(voter, [])
            if "undo" in value:
                held.pop(str(value["undo"]), None)
                if (key := (str(value["undo"]), again)) in history:
                    history.remove(key)
                return
            name, vote = str(value["case"]), value["vote"]
            if vote not in VOTES or name in held:
                return
            held[name] = _Cast(vote, value["after_left"] is True)
            if value.get("equal") is not True:
                history.append((name, again))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # a line that broke off
            return


def open_votes(
    rows_file: Path, folder: Path, seed: int = 0, *, voter: str = "", before: str | None = None,
    after: str | None = None, repeat_every: int = REPEAT_EVERY,
) -> BlindVotes:  # fmt: skip
    """rows_file: of a comparison, one ComparisonCase a line. folder: where votes.jsonl is or will be. before, after:
    names of the models; by default the after model of the first row, and the first other one that has an answer.
    repeat_every: 0 shows nothing twice.

    Votes are kept by the texts they are about: those on a row whose answers have changed since count no more. Raises
    Refused for rows that can't be read or hold nothing to vote on.
    """
    return BlindVotes(rows_file, folder, seed, voter, before, after, repeat_every)
