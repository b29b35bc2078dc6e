"""`score`: one reward model over one set or two, the rows with their rewards written, and what the rewards say."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.candidates.reward_scorer import RewardScorer
from pipeline.evaluation.answer_file import AnsweredRow
from pipeline.evaluation.answers_of_rows import AnswerRows, RowAnswers, opened_source
from pipeline.evaluation.intervals import spread_of
from pipeline.evaluation.results import CASES, ModelNamed, ScoredSet, ScoresResult, Suspect, now
from pipeline.evaluation.reward_statistics import SuspectPair, accuracy_gap, statistics_of, statistics_of_answers
from pipeline.evaluation.score_rows import ScoredRow, WindowScorer
from pipeline.evaluation.scored_numbers import NAMED, ScoredNumbers, prompt_digest
from pipeline.pairs.all_formats import free_name
from pipeline.pairs.open_source import OpenSource
from pipeline.pairs.pair import text_of
from pipeline.pairs.write_pairs import WriteReport, write_records
from pipeline.record_files import Unreadable
from pipeline.refusal import Refused, Sentence
from pipeline.score_answers import NotScored

SHOWN_TEXT = 4000  # characters of each text of a suspect in the result; the rows have all of it

@dataclass(frozen=True)
class ToScore:
    """role: data | train | held_out. output: its file of rows. asked: by id, prompts of answers that have none."""

    source: OpenSource
    role: str
    output: Path
    most: int | None = None
    category: str | None = None
    asked: Mapping[str, AnsweredRow] | None = None

    def rows(self, most: int | None = None) -> AnswerRows:
        """most: fewer than wanted."""
        return AnswerRows(self.source, most=most or self.most, asked=self.asked)


@dataclass
class SetScored:
    """What became of one set. failed: what ended it early beside the caller's wish; then the rows before are there."""

    wanted: ToScore
    rows: AnswerRows
    numbers: ScoredNumbers
    written: WriteReport
    failed: Refused | None = None


Tick = Callable[[str, int, int | None], None]
"""Told the stage, rows done and rows in all: loading, scoring_ROLE, measuring, judging."""


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


def look_at(sets: Sequence[ToScore]) -> None:
    """Reads the first answer of every set, before a model is loaded for hours. Raises Refused for what can't be read or
    holds none, and where no record has the category's column."""
    for one in sets:
        for row in one.rows(1):
            if not row.reason:
                break
        if one.category is not None and one.source.path is not None and not _has_column(one.source, one.category):
            raise Refused("score_category_absent", name=one.category, path=one.source.name)


def _has_column(source: OpenSource, name: str) -> bool:
    try:
        held = (record.value for record in opened_source(source).records())
        return any(isinstance(value, dict) and name in value for value in held)
    except (Unreadable, OSError):
        return True  # said where the rows are read


def score_sets(
    scorer: RewardScorer, sets: Sequence[ToScore], *, cancel: threading.Event, tick: Tick = _silent
) -> list[SetScored]:
    """Scores the sets one after the other, equal answers once over all of them. Of those that `cancel` or a failure
    kept from being scored none is in the list. Raises as score_set does; a later set's refusal ends the run there."""
    windows = WindowScorer(scorer, cancel)
    found: list[SetScored] = []
    for wanted in sets:
        try:
            one = score_set(wanted, windows, tick=tick)
        except Refused as refused:
            if not found:
                raise
            found[-1].failed = refused
            break
        if one.numbers.scored:
            found.append(one)
        if cancel.is_set() or one.failed is not None:
            break
    return found


def score_set(wanted: ToScore, scorer: WindowScorer, *, tick: Tick = _silent) -> SetScored:
    """Scores one set and writes its rows with all their columns. Raises Refused where nothing of it got a score, then
    nothing is written; OSError.

    A failure after the first scored rows ends the set as an interrupt does.
    """
    rows = wanted.rows()
    total = _count(wanted)
    numbers = ScoredNumbers(wanted.category)
    done = SetScored(wanted, rows, numbers, WriteReport())
    stage = f"scoring_{wanted.role}"
    tick(stage, 0, total)

    def scored() -> Iterator[dict[str, Any]]:
        try:
            for row in scorer.rows(rows, lambda at: tick(stage, at, total)):
                numbers.add(row)
                if row.answers.value is not None:
                    yield with_scores(row)
        except (Refused, NotScored) as failed:
            refused = failed if isinstance(failed, Refused) else _as_refused(failed)
            if not numbers.scored:
                raise refused from None
            done.failed = refused
        if not numbers.scored:
            raise _Nothing

    try:
        done.written = write_records(scored(), wanted.output)
    except _Nothing:
        if numbers.unscored:
            reason, n = numbers.unscored.most_common(1)[0]
            raise Refused("score_nothing", path=wanted.source.name, n=f"{n:,}", why=_why(reason)) from None
    return done


class _Nothing(Exception):
    """Nothing was scored, so nothing is written."""


def _as_refused(failed: NotScored) -> Refused:
    return Refused("score_model_failed", why=failed.detail or failed.reason)


def _why(reason: str) -> Sentence:
    return Sentence(f"score_unscored_{reason}", {}, "evaluation")


def _count(wanted: ToScore) -> int | None:
    """Records of a file, None for the Hub's; what can't be read is said when its rows are."""
    if wanted.source.path is None:
        return wanted.most
    try:
        count = sum(1 for _ in opened_source(wanted.source).records())
    except (Unreadable, OSError):
        return None
    return count if wanted.most is None else min(count, wanted.most)


def with_scores(row: ScoredRow) -> dict[str, Any]:
    """The row's own columns and its rewards: score_chosen and score_rejected, score, scores; null where there is none.
    Columns of the data that are called so get a number: `score_2`."""
    answers, scores = row.answers, [score if score == score else None for score in row.scores]
    assert answers.value is not None
    added: dict[str, Any] = {}
    if answers.paired:
        added = dict(zip(("score_chosen", "score_rejected"), scores, strict=True))
    elif answers.pair is not None:
        left = iter(scores)
        if answers.one is not None:
            added["score"] = next(left)
        if answers.several:
            added["scores"] = [next(left) if one is not None else None for one in answers.several]
    taken = {*answers.value, *added}
    return {**{free_name(n, taken) if n in added else n: held for n, held in answers.value.items()}, **added}


# --- what the rewards say ---


def shared_prompts(train: ScoredNumbers, held_out: ScoredNumbers) -> tuple[int, int, tuple[int, ...]]:
    """Distinct prompts of the held-out set that are in the training set too, distinct prompts of the held-out set, and
    the lines of the first held-out rows with such a prompt."""
    import numpy

    ours, theirs = numpy.array(held_out.prompts, dtype=numpy.uint64), numpy.array(train.prompts, dtype=numpy.uint64)
    distinct = numpy.unique(ours)
    both = numpy.isin(distinct, theirs)
    rows = numpy.isin(ours, distinct[both])
    lines = numpy.array(held_out.prompt_lines, dtype=numpy.int64)[rows][:NAMED]
    return int(both.sum()), len(distinct), tuple(int(line) for line in lines)


def finished(done: SetScored, *, suspects_file: Path | None = None) -> tuple[ScoredSet, int]:
    """The set as a result holds it, with the texts of its worst suspects: the data is read once more for them.

    suspects_file: all suspects as a data file with the data's own columns; the number returned is that of its rows, 0
    where none is written. Raises Refused, OSError.
    """
    wanted, numbers = done.wanted, done.numbers
    left_out = Counter(done.rows.left_out)
    left_out.update(done.written.left_out)
    paired = len(numbers.chosen) > 0
    if paired and numbers.alone:
        left_out["no_other_side"] = numbers.alone
    name = wanted.source.path.name if wanted.source.path is not None else wanted.source.name
    column, labels = numbers.categories.found()
    if len(labels) != len(numbers.chosen):
        column, labels = "", []
    found = (
        statistics_of(numbers.chosen, numbers.rejected, numbers.chosen_chars, numbers.rejected_chars,
                      categories=labels or None, prompts=numbers.asked)
        if paired else statistics_of_answers(numbers.answers, numbers.answer_chars)
    )  # fmt: skip
    doubted = found.suspects.pairs if found.suspects is not None else ()
    texts, written = _texts(done, doubted, suspects_file)
    figures = found.figures
    if paired and len(numbers.answers):  # sides that stand apart are answers too
        figures["answers"] = spread_of(numbers.answers)
    one = ScoredSet(
        name=name, role=wanted.role, path=str(wanted.source.path or wanted.source.name),
        holds="pairs" if paired else "answers", rows=numbers.rows, scored=numbers.scored,
        unscored=dict(numbers.unscored.most_common()), unscored_rows=dict(numbers.unscored_rows.most_common()),
        left_out=dict(left_out.most_common()), suspects=texts,
        rows_file=wanted.output.name, category_column=column if found.by_category else "",
        lines={reason: tuple(lines) for reason, lines in {**done.rows.lines, **numbers.lines}.items()}, **figures,
    )  # fmt: skip
    return one, written


def _texts(
    done: SetScored, doubted: Sequence[SuspectPair], path: Path | None
) -> tuple[tuple[Suspect, ...], int]:  # fmt: skip
    """The worst suspects with their texts, and how many rows of all of them were written. The data is read once more:
    a suspect whose row has another prompt now, or can't be read any more, is left out of both."""
    if not doubted:
        return (), 0
    numbers = done.numbers
    shown = doubted[:CASES]
    sides: dict[int, tuple[str, str, str]] = {}
    wanted = {int(place) for one in shown for place in (numbers.row[one.index], numbers.rejected_row[one.index])}
    all_of = {int(numbers.row[one.index]): one for one in doubted} | {
        int(numbers.rejected_row[one.index]): one for one in doubted
    }

    def unchanged() -> Iterator[RowAnswers]:
        last = max(all_of)
        with suppress(Refused):
            for row in done.wanted.rows():
                one = all_of.get(row.index)
                if one is not None and row.pair is not None and prompt_digest(row.pair) == numbers.asked[one.index]:
                    yield row
                if row.index >= last:
                    return

    def rows() -> Iterator[dict[str, Any]]:
        for row in unchanged():
            if row.pair is None or row.value is None:
                continue
            if row.index in wanted:
                alone = text_of(row.one)  # of rows that are one side: which one, the numbers know
                texts = (text_of(row.pair.chosen), text_of(row.pair.rejected)) if row.paired else (alone, alone)
                sides[row.index] = text_of(row.pair.prompt), *texts
            place = all_of[row.index].index
            if row.paired:
                scores = [numbers.chosen[place], numbers.rejected[place]]
            else:
                is_chosen = numbers.row[place] == row.index
                scores = [numbers.chosen[place] if is_chosen else numbers.rejected[place]]
            yield with_scores(ScoredRow(row, scores, [""] * len(scores)))

    written = 0
    if path is not None:
        written = write_records(rows(), path).rows
    else:
        for _ in rows():
            pass
    found = []
    for one in shown:
        first, second = int(numbers.row[one.index]), int(numbers.rejected_row[one.index])
        if first in sides and second in sides:
            prompt, chosen, rejected = *sides[first][:2], sides[second][2]
            found.append(Suspect(
                first, int(numbers.line[one.index]), one.margin, one.probability,
                *(text[:SHOWN_TEXT] for text in (prompt, chosen, rejected)),
            ))  # fmt: skip
    return tuple(found), written


def result_of(
    sets: Sequence[SetScored], model: ModelNamed, form: str, *, interrupted: bool, seconds: Mapping[str, float],
    suspects_file: Path | None = None,
) -> ScoresResult:  # fmt: skip
    """All figures. suspects_file: of the first set. Raises Refused, OSError."""
    found = [finished(one, suspects_file=suspects_file if number == 0 else None)[0] for number, one in enumerate(sets)]
    by_role = {one.role: number for number, one in enumerate(found)}
    gap = shared = of = None
    if "train" in by_role and "held_out" in by_role:
        train, held_out = by_role["train"], by_role["held_out"]
        both = found[train].accuracy, found[held_out].accuracy
        if both[0] is not None and both[1] is not None:
            gap = accuracy_gap(both[0], both[1])
        shared, of, lines = shared_prompts(sets[train].numbers, sets[held_out].numbers)
        if lines:
            held = found[held_out]
            found[held_out] = replace(held, lines={**held.lines, "shared_prompt": lines})
    return ScoresResult(
        model, form, tuple(found), gap, shared, of, rows_file=found[0].rows_file, interrupted=interrupted,
        seconds=dict(seconds), created=now(),
    )  # fmt: skip
