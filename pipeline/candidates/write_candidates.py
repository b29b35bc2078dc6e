"""The two files of a run: the pairs, in any format, and beside them every candidate with how it was made and judged.

Neither holds a time or a date, so that a run that was interrupted writes the same bytes as one that wasn't.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.choose import ChosenPair, choose, mark_topics
from pipeline.candidates.duplicates import is_gold_sql, mark_duplicates
from pipeline.candidates.policy import Policy
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.llamafactory_formats import alpaca_prompt, alpaca_record
from pipeline.pairs.pair import Pair, text_of
from pipeline.pairs.read_pairs import PairSource
from pipeline.pairs.turns import NotThisShape
from pipeline.pairs.write_pairs import WriteReport, write_pairs
from pipeline.record_files import Unreadable, records
from pipeline.refusal import Refused

_FIELDS = tuple(one.name for one in fields(Candidate))
_MADE = ("strategy", "parameters", "seed", "model", "fingerprint", "prompt_format")
SEVERAL_DETAILS = ("nothing_to_alter",)  # problems whose details are reasons, of which one would stand for all
_FORMATS = {  # what pairs are written as, by the supervised format that was read
    "alpaca": "llamafactory-alpaca", "messages": "trl-conversational", "prompt-completion": "trl", "prompt": "trl",
    "kto": "trl", "trl-implicit": "trl-conversational",
}  # fmt: skip

@dataclass
class MeasuredRow:
    """A row with its candidates. chosen_measures: what was measured of the data's own chosen answer."""

    row: SourceRow
    candidates: list[Candidate]
    chosen_measures: dict[str, Any] = field(default_factory=dict)


Choose = Callable[[MeasuredRow], list[ChosenPair]]
"""Judges a row's candidates and gives its pairs."""


def candidates_path(output: Path) -> Path:
    """`OUTPUT.candidates.jsonl`."""
    return output.with_name(f"{output.name}.candidates.jsonl")


def default_format(output: Path, source: PairSource | None) -> str:
    """instruction, input, chosen, rejected for .json; for the others the columns that the data had."""
    given = source.format.name if source is not None and source.format is not None else "prompt"
    if output.suffix.lower() == ".json":
        return "llamafactory-alpaca"
    if given == "prompt-completion" and source is not None and source.recognised is not None:
        told = source.recognised.reason.params
        if {"prompt", "answer"} <= told.keys():
            asked, answered = str(told["prompt"]), str(told["answer"])
            if answered != "rejected" and asked != "rejected":
                return f"prompt={asked},chosen={answered},rejected=rejected"
    return _FORMATS.get(given, given)


# --- candidates as records ---


def to_record(candidate: Candidate) -> dict[str, Any]:
    """All fields that are not at their default."""
    record = {name: getattr(candidate, name) for name in _FIELDS}
    return {name: value for name, value in record.items() if value not in (None, "", {}, []) or name == "text"}


def from_record(record: Mapping[str, Any]) -> Candidate:
    """Raises TypeError for what is no such record."""
    return Candidate(**{name: record[name] for name in _FIELDS if name in record})


def row_line(held: MeasuredRow, candidate: Candidate, pair: ChosenPair | None = None) -> dict[str, Any]:
    """A line of the candidates file. chosen: the row's right answer; corrected: the better answer that came with this
    candidate; paired_with: what stands against it in its pair, `data`, `correction` or the number of a candidate."""
    line: dict[str, Any] = {"row": candidate.row, "number": candidate.number, **asked(held.row.pair)}
    line["chosen"] = held.row.gold
    if held.chosen_measures:
        line["chosen_measures"] = finite(held.chosen_measures)
    record = {name: getattr(candidate, name) for name in _FIELDS if name not in ("row", "number", "chosen")}
    if candidate.chosen is not None:
        line["corrected"] = candidate.chosen
    if pair is not None:
        corrected = candidate.chosen is not None and pair.chosen == candidate.chosen
        against = "correction" if corrected else "data"
        line["paired_with"] = against if pair.chosen_candidate is None else pair.chosen_candidate
    return line | finite(record)


def asked(pair: Pair) -> dict[str, Any]:
    """The prompt as instruction, input, history and system; as messages where it is another talk."""
    try:
        record, _ = alpaca_record(pair, {})
    except Exception:  # CannotHold, and turns that lack what a turn has
        record = {"instruction": text_of(pair.prompt[-1:]), "input": "", "messages": pair.prompt}
    if pair.system is not None:
        record["system"] = pair.system
    return record


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON doesn't know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(held) for name, held in value.items()}
    return [finite(held) for held in value] if isinstance(value, (list, tuple)) else value


def read_candidates(path: Path) -> Iterator[tuple[int, list[Candidate], dict[str, Any]]]:
    """Each row of a candidates file: its number, its candidates, and its first line. Raises Refused."""
    return ((index, candidates, lines[0]) for index, candidates, lines in _rows_of(path))


def _rows_of(path: Path) -> Iterator[tuple[int, list[Candidate], list[dict[str, Any]]]]:
    try:
        lines = ((record.line, record.value) for record in records(path))
        for index, group in groupby(lines, lambda held: held[1].get("row") if isinstance(held[1], dict) else None):
            held = list(group)
            if not isinstance(index, int):
                raise Refused("candidates_broken", path=path, line=held[0][0])
            try:
                found = [from_record({**line, "chosen": line.get("corrected")}) for _, line in held]
            except TypeError:
                raise Refused("candidates_broken", path=path, line=held[0][0]) from None
            yield index, found, [line for _, line in held]
    except Unreadable as reason:
        raise Refused("candidates_broken", path=path, line=1) from reason
    except OSError as failed:
        raise Refused("data_unusable", path=path, why=failed.strerror or failed) from None


def pairs_made(path: Path) -> Iterator[Pair]:
    """The pairs of a run from its candidates file, each with how both sides were made as its source. Columns beside the
    pair stand in the output alone. Raises Refused."""
    for index, candidates, lines in _rows_of(path):
        first = lines[0]
        row = SourceRow(index, Pair(_turns(first), first.get("chosen"), None, system=first.get("system")))
        held = MeasuredRow(row, candidates, dict(first.get("chosen_measures") or {}))
        by_number = {one.number: one for one in candidates}
        for one, line in zip(candidates, lines, strict=True):
            against = line.get("paired_with")
            if against is None:
                continue
            best = by_number.get(against) if isinstance(against, int) else None
            better = one.chosen if against == "correction" else best.text if best is not None else row.pair.chosen
            if better is not None:
                number = None if best is None else best.number
                yield as_pair(held, ChosenPair(index, better, one.text, one.number, number))


def _turns(line: Mapping[str, Any]) -> list[Any]:
    """The prompt of a line."""
    if isinstance(line.get("messages"), list):
        return list(line["messages"])
    try:
        turns, _ = alpaca_prompt(line)
    except NotThisShape:
        return [{"role": "user", "content": str(line.get("instruction") or "")}]
    return list(turns)


def rows_again(rows: Iterable[SourceRow], path: Path) -> Iterator[MeasuredRow]:
    """The rows of a candidates file, each with its row of the data, without any choice. Raises Refused: a file that is
    none, or whose rows aren't those of the data."""
    found = read_candidates(path)
    due = next(found, None)
    for row in rows:
        if due is None:
            return
        index, candidates, line = due
        if row.index < index:
            continue
        same = asked(row.pair)["instruction"] == line.get("instruction") and row.gold == line.get("chosen")
        if row.index != index or not same:
            break
        for candidate in candidates:
            candidate.choice, candidate.why = None, []
        yield MeasuredRow(row, candidates, dict(line.get("chosen_measures") or {}))
        due = next(found, None)
    if due is not None:
        raise Refused("candidates_other_data", path=path, row=due[0])


# --- pairs ---


def usable(candidate: Candidate) -> bool:
    """Whether it is an answer at all, no copy of another, and not known to be right."""
    measures = candidate.measures
    return (
        candidate.problem is None and bool(candidate.text.strip()) and measures.get("duplicate_of") is None
        and measures.get("correct") is not True and not is_gold_sql(measures)
    )  # fmt: skip


def chooser(policy: Policy | None, dedup: str) -> Choose:
    """The pairs of a row by a policy, copies marked first; without one every usable candidate."""

    def chosen(held: MeasuredRow) -> list[ChosenPair]:
        mark_duplicates(held.candidates, held.row.gold, dedup)  # type: ignore[arg-type]
        if policy is None:
            return every_usable(held)
        return choose(held.row, held.candidates, policy, chosen_measures=held.chosen_measures)

    return chosen


def every_usable(held: MeasuredRow) -> list[ChosenPair]:
    """The pairs of a row without a policy. A candidate without a better answer gives none."""
    found = []
    mark_topics(held.candidates, held.chosen_measures)
    for candidate in held.candidates:
        better = held.row.pair.chosen if candidate.chosen is None else candidate.chosen
        if better is not None and usable(candidate):
            found.append(ChosenPair(held.row.index, better, candidate.text, candidate.number))
    return found


def as_pair(held: MeasuredRow, chosen: ChosenPair) -> Pair:
    """With how each side was made as its source: the strategy, and all that makes it again."""
    by_number = {one.number: one for one in held.candidates}
    worse = by_number[chosen.candidate]
    best = None if chosen.chosen_candidate is None else by_number[chosen.chosen_candidate]
    pair = held.row.pair
    made: dict[str, Any] = {"rejected": _made(worse)}
    if best is not None:
        made["chosen"] = _made(best)
    elif worse.chosen is not None and chosen.chosen == worse.chosen:
        made["chosen"] = {"strategy": worse.strategy}
    elif "chosen" in pair.source:
        made["chosen"] = pair.source["chosen"]
    own = held.chosen_measures if chosen.chosen == pair.chosen else {}
    return replace(
        pair, chosen=chosen.chosen, rejected=chosen.rejected, source=made, flags=[], status="new",
        extra=dict(pair.extra), score_chosen=_score(own if best is None else best.measures),
        score_rejected=_score(worse.measures),
    )  # fmt: skip


def _made(candidate: Candidate) -> dict[str, Any]:
    held = {name: getattr(candidate, name) for name in _MADE}
    return {name: value for name, value in held.items() if value not in (None, {})}


def _score(measures: Mapping[str, Any]) -> float | None:
    score = measures.get("reward")
    return float(score) if isinstance(score, (int, float)) and math.isfinite(score) else None


@dataclass
class Written:
    """rows: with candidates. without_pair: of those, rows of which no pair came; without_gold: rows of which none can
    come, as nothing stands for the chosen answer. strategies: rejected answers of the pairs by how they were made.
    choices: how often each was made. problems: of candidates; details: of the first one of each. reasons: entries of
    `why`, the first of each candidate."""

    report: WriteReport = field(default_factory=WriteReport)
    format: str = ""
    rows: int = 0
    candidates: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    without_pair: int = 0
    without_gold: int = 0
    strategies: Counter[str] = field(default_factory=Counter)
    choices: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, held: MeasuredRow, pairs: Sequence[ChosenPair]) -> None:
        self.rows += 1
        self.candidates += len(held.candidates)
        by_number = {one.number: one for one in held.candidates}
        for candidate in held.candidates:
            if candidate.problem is not None:
                self.problems[candidate.problem] += 1
                if candidate.problem not in SEVERAL_DETAILS:
                    self.details.setdefault(candidate.problem, candidate.problem_detail)
            if candidate.choice is not None:
                self.choices[candidate.choice] += 1
            self.reasons.update(str(one["entry"]) for one in candidate.why[:1])
        self.strategies.update(by_number[one.candidate].strategy for one in pairs)
        self.without_pair += not pairs
        self.without_gold += (
            held.row.gold is None and not pairs and all(one.chosen is None for one in held.candidates)
        )  # fmt: skip


def write_run(
    rows: Iterable[MeasuredRow],
    output: Path,
    format: str,
    choose: Choose,
    folder: Path,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> Written:
    """Both files, each whole or not at all, from rows in their order. folder: where they are made, on the disk of
    `output`; what a killed process leaves is there and nowhere else. Raises Refused, OSError, what `rows` raises."""
    written = Written(format=format)
    beside = folder / candidates_path(output).name
    made = folder / output.name
    with open(beside, "w", encoding="utf-8", newline="\n") as lines:

        def pairs() -> Iterator[Pair]:
            for held in rows:
                chosen = sorted(choose(held), key=lambda pair: pair.candidate)
                paired = {one.candidate: one for one in chosen}
                lines.writelines(
                    f"{json_text(row_line(held, one, paired.get(one.number)))}\n" for one in held.candidates
                )
                written.add(held, chosen)
                progress(written.rows)
                yield from (as_pair(held, one) for one in chosen)

        written.report = write_pairs(pairs(), made, format)
        lines.flush()
        os.fsync(lines.fileno())
    with contextlib.suppress(OSError):  # readable for whom it was before
        made.chmod(output.stat().st_mode & 0o777)
    with contextlib.suppress(OSError):
        beside.chmod(made.stat().st_mode & 0o777)
    os.replace(beside, candidates_path(output))
    os.replace(made, output)
    for name in ("source", "flags", "status"):  # how each was made stands in the other file
        del written.report.dropped[name]
    return written
