"""Answers of two models with a known difference or none, and judges of them: the files of planted_comparisons.py."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.candidates.endpoint import Endpoint
from pipeline.candidates.reward_reader import RewardPiece
from pipeline.candidates.reward_scorer import RewardScorer
from pipeline.evaluation.answer_file import read_answers
from pipeline.evaluation.compare_answers import Comparison, Contestant
from pipeline.evaluation.judge_endpoint import JudgeAccount, Judged, judging_fields
from pipeline.evaluation.results import ModelNamed, to_json
from pipeline.pairs.pair import Pair, text_of

Array = NDArray[np.float64]
Random = np.random.Generator
ENGLISH = ["river", "stone", "light", "garden", "market", "winter", "paper", "music", "window", "bridge", "doctor",
           "letter", "silver", "morning", "travel", "answer", "because", "therefore", "between", "without", "children",
           "machine", "number", "village", "history", "question", "reason", "kitchen", "mountain", "science", "teacher",
           "weather", "yellow", "friend", "people", "quiet", "strong", "little", "planet", "forest"]  # fmt: skip
CHINESE = list("今天我们可以先看一下这个问题原因然后再说明具体做法学校老师认为时间地点人物经过城市农村")


@dataclass
class Row:
    """One row of both files. kind: category, "" for none. chinese: the language of prompt and answers. cut: which
    answer after was cut off."""

    prompt: str
    kind: str
    chinese: bool
    before: list[str]
    after: list[str]
    cut: bool = False


Gain = Callable[[Row], float]
"""What the later model is better by on a prompt: log odds for tasks, standard deviations of the others."""


@dataclass(frozen=True)
class Judges:
    """Who judges, each by what after is better by. longer: what a doubling of length is worth to judge and reward.
    first: what the judge likes the answer that stands first."""

    task: Gain | float | None = None
    reward: Gain | float | None = None
    judge: Gain | float | None = None
    longer: float = 0.0
    first: float = 0.0


@dataclass(frozen=True)
class Answers:
    """words: of an answer before, more or less; times: as many after. repeated: rows of a prompt; samples: answers of a
    row. same: share of answers that are equal. chinese: share of Chinese prompts. kinds: categories; the first has a
    share of its own. after: what becomes of an answer after; cut: share of those that are cut off, None: the files
    don't say how answers ended."""

    n: int
    words: float = 15
    times: float = 1.0
    repeated: int = 1
    samples: int = 1
    same: float = 0.0
    chinese: float = 0.0
    kinds: int = 0
    after: Callable[[Random, Row, str], str] | None = None
    cut: float | None = None


def text(random: Random, words: float, chinese: bool) -> str:
    count = max(3, round(words * math.exp(random.normal(0, 0.4))))
    if chinese:
        return "".join(random.choice(CHINESE, 2 * count)) + "。"
    return " ".join(random.choice(ENGLISH, count)).capitalize() + "."


def rows_of(given: Answers, random: Random) -> list[Row]:
    rows = []
    for number in range(given.n):
        chinese = bool(random.random() < given.chinese)
        asked = text(random, 6, chinese)
        prompt = f"请说明第{number}个题目：{asked}" if chinese else f"Question {number}: {asked}"
        # The first kind is a quarter of the prompts of few kinds and never less than an eighth
        first = random.random() < max(0.125, 0.5 / max(given.kinds, 1))
        kind = f"kind {0 if first else random.integers(1, given.kinds)}" if given.kinds else ""
        for _ in range(given.repeated):
            row = Row(prompt, kind, chinese, [], [], cut=bool(random.random() < (given.cut or 0)))
            for _ in range(given.samples):
                row.before.append(text(random, given.words, chinese))
                equal = random.random() < given.same
                after = row.before[-1] if equal else text(random, given.words * given.times, chinese)
                row.after.append(given.after(random, row, after) if given.after else after)
            rows.append(row)
    return rows


def compared(rows: Sequence[Row], folder: Path, *, ends: bool) -> Comparison:
    """Both files, read, matched and measured. ends: they say how answers ended."""
    contestants = []
    for name, side in (("sft", "before"), ("dpo", "after")):
        path = folder / f"{side}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for row in rows:
                line: dict[str, Any] = {"prompt": row.prompt, "response": getattr(row, side)}
                if row.kind:
                    line["category"] = row.kind
                if ends:
                    line["finish_reason"] = ["length" if row.cut and side == "after" else "stop"] * len(row.before)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        contestants.append(Contestant(ModelNamed(name, name, side), read_answers(path, name=name)))
    made = Comparison(contestants[0], contestants[1:])
    made.measure()
    return made


class _Scores:
    """In place of a reward model: one score for each prompt and answer."""

    def __init__(self, scores: Mapping[tuple[str, str], float]) -> None:
        self._values = list(scores.values())
        self._places = {key: RewardPiece((place,)) for place, key in enumerate(scores)}

    def pieces(self, asked: Sequence[tuple[Pair, Any]]) -> list[RewardPiece]:
        return [self._places[text_of(pair.prompt), answer] for pair, answer in asked]

    def score_batches(self, pieces: Iterable[RewardPiece]) -> Iterator[tuple[list[RewardPiece], list[float]]]:
        yield list(pieces), [self._values[piece.ids[0]] for piece in pieces]


def judged(made: Comparison, rows: Sequence[Row], judges: Judges, random: Random) -> None:
    """Verdicts on all answers. Those of a prompt share how hard it is and which model it suits; equal answers get
    the same."""
    pairs = [(row, before, after) for row in rows for before, after in zip(row.before, row.after, strict=True)]
    own: dict[str, Array] = {}
    hard, suits = np.array([own.setdefault(row.prompt, random.normal(0, 1, 2)) for row, _, _ in pairs]).T
    equal = np.array([before == after for _, before, after in pairs])
    sizes = np.log2(np.array([[len(before) + 1, len(after) + 1] for _, before, after in pairs])).T
    one, n = made.against[0], len(pairs)

    def gain(by: Gain | float) -> Array:
        return np.array([by(row) if callable(by) else by for row, _, _ in pairs])

    if judges.task is not None:
        odds = 0.3 + 1.5 * hard + np.stack([-suits / 2, suits / 2 + gain(judges.task)])
        right = (random.random((2, n)) < 1 / (1 + np.exp(-odds))).astype(float)
        one.scores["task"], one.unjudged["task"] = (right[0], np.where(equal, right[0], right[1])), Counter()
    if judges.judge is not None:
        better = 0.4 * suits + random.normal(0, 0.7, n) + gain(judges.judge) + judges.longer * (sizes[1] - sizes[0])
        seen = better + np.array([[-judges.first], [judges.first]]) + random.normal(0, 0.5, (2, n))
        orders = np.where(equal | (np.abs(seen) < 0.2), "tie", np.where(seen > 0, "win", "loss")).T.tolist()
        said = [Judged(first if first == second else "tie", first, second) for first, second in orders]
        one.outcomes["judge"], one.unjudged["judge"] = [verdict.outcome for verdict in said], Counter()
        made.judging[one.after.name] = to_json(judging_fields(said, Endpoint("http://127.0.0.1/v1#judge"),
                                                              JudgeAccount()))  # fmt: skip
        made.more_models.append(ModelNamed("judge", "http://127.0.0.1/v1", "judge"))
    if judges.reward is not None:
        scores = hard + judges.longer * sizes + random.normal(0, 0.7, (2, n))
        scores[1] += 0.7 * suits + gain(judges.reward)
        found: dict[tuple[str, str], float] = {}
        for at, (row, before, after) in enumerate(pairs):
            found.setdefault((row.prompt, before), float(scores[0, at]))
            found.setdefault((row.prompt, after), float(scores[1, at]))
        made.reward(cast(RewardScorer, _Scores(found)), ModelNamed("reward", "reward", "reward"))
