"""Two or more models' answers to the same prompts, judged by everything that can judge them, and what comes of it.

Judges, the strongest first: what is right by the data (task), people, a judge model, a reward model. The first that
judged enough prompts decides; those that say the opposite are named. Without any there is no verdict.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config_files import load_config
from pipeline.evaluation.answer_file import AnswerFile
from pipeline.evaluation.answer_measures import AnswerMeasures, Likelihoods, Tokens, changes
from pipeline.evaluation.intervals import contest, contest_of_outcomes
from pipeline.evaluation.matched_answers import Matching, Side, match
from pipeline.evaluation.results import (
    CASES,
    ComparisonCase,
    ComparisonResult,
    Contest,
    MeasureChange,
    ModelNamed,
    now,
    to_json,
)
from pipeline.evaluation.task_check import TaskCheck
from pipeline.pairs.pair import Pair, text_of
from pipeline.refusal import Refused, Sentence
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.reward_scorer import RewardScorer

ORDER = ("task", "people", "judge", "reward")
"""Who decides, the first that judged enough."""
_OPPOSITE = {"better": "worse", "worse": "better"}
_TIE = 1e-6  # rewards are kept with six decimals

Tick = Callable[[str, int, int | None], None]
"""Stage, done, total."""


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


@dataclass
class Contestant:
    """One model's answers. model.role: before for the first, after for the others."""

    model: ModelNamed
    file: AnswerFile

    @property
    def name(self) -> str:
        return self.model.name


@dataclass
class _Against:
    """One after model beside `before`, and what judges have said so far: scores by judge (before, after), NaN where
    unjudged; outcomes of judges that give no scores."""

    after: Contestant
    matching: Matching
    scores: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    outcomes: dict[str, list[Any]] = field(default_factory=dict)
    unjudged: dict[str, Counter[str]] = field(default_factory=dict)
    measured: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ((), ())  # type: ignore[assignment]
    likelihoods: list[Likelihoods | None] | None = None
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def sides(self) -> list[Side]:
        return self.matching.sides


class Comparison:
    """before and afters with their answers. Judges are asked one by one; `result` gives what there is at any time.

    references: a file with prompts and what is right, for files that lack either. tokens: how repetition is counted.
    Raises Refused where answers have nothing in common.
    """

    def __init__(
        self, before: Contestant, afters: Sequence[Contestant], *, references: AnswerFile | None = None,
        tokens: Tokens | None = None, cancel: threading.Event | None = None, tick: Tick = _silent,
    ) -> None:  # fmt: skip
        self.before, self.tick = before, tick
        self.cancel = cancel or threading.Event()
        self.against = [_Against(one, match(before.file, one.file, references)) for one in afters]
        self.reward_model: ModelNamed | None = None
        self.decoding: dict[str, Any] = {}
        self.more_models: list[ModelNamed] = []
        self.judging: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.interrupted = False
        self.beta = float(load_config("evaluation.yaml")["compare"]["beta"])
        self.counts_tokens = tokens is not None
        self._measures = AnswerMeasures(tokens)

    @property
    def answers(self) -> int:
        """Sides of all after models together."""
        return sum(len(one.sides) for one in self.against)

    # --- judges ---

    def measure(self) -> None:
        """What needs no judge."""
        began, done = time.monotonic(), 0
        for one in self.against:
            before, after = [], []
            for side in one.sides:
                before.append(self._measures.of(side, side.before, side.stopped_before))
                after.append(self._measures.of(side, side.after, side.stopped_after))
                done += 1
                self.tick("measuring", done, self.answers)
            one.measured = before, after
        self.seconds["measuring"] = round(time.monotonic() - began, 3)

    def check(self, task: TaskCheck) -> None:
        """Right or wrong by what the data says. Leaves no contest where nothing can be checked. Raises Refused."""
        began, done = time.monotonic(), 0
        checks: dict[int, str] = {}
        stopped = self.cancel.is_set()  # while models answered: what they did is still checked, which takes no time
        for one in self.against:
            scores = np.full((2, len(one.sides)), math.nan)
            unjudged: Counter[str] = Counter()
            for at, side in enumerate(one.sides):
                if self.cancel.is_set() and not stopped:
                    self.interrupted = True
                    break
                done += 1
                self.tick("checking", done, self.answers)
                check = checks.get(side.row)
                if check is None:
                    check = checks[side.row] = task.check_of(side.pair, side.references)
                    task.used[check] += 1
                if check in ("text", "no_reference"):
                    unjudged[f"reference_{'is_text' if check == 'text' else 'absent'}"] += 1
                    continue
                right = task.right(check, side.pair, side.references, (side.before, side.after))
                if None in right:
                    unjudged["not_decidable"] += 1
                    continue
                scores[:, at] = [float(bool(found)) for found in right]
            if np.isfinite(scores).any():
                one.scores["task"], one.unjudged["task"] = (scores[0], scores[1]), unjudged
        self.decoding["task_checks"] = dict(task.used)
        self.seconds["checking"] = round(time.monotonic() - began, 3)

    def reward(self, scorer: RewardScorer, model: ModelNamed) -> None:
        """Rewards of all answers of all models in one go, equal ones once; length_free_reward beside them. Raises
        Refused where prompts are missing, or nothing gets a score."""
        from pipeline.evaluation.answers_of_rows import RowAnswers
        from pipeline.evaluation.score_rows import WindowScorer
        from pipeline.score_answers import NotScored

        if any(side.pair is None for one in self.against for side in one.sides):
            raise Refused("compare_prompts_needed", judge="--reward-model")
        began = time.monotonic()
        texts: dict[int, tuple[Pair, dict[str, None]]] = {}
        for one in self.against:
            for side in one.sides:
                assert side.pair is not None
                held = texts.setdefault(side.row, (side.pair, {}))[1]
                held[side.before] = held[side.after] = None
        found: dict[int, dict[str, tuple[float, str]]] = {}

        def rows() -> Iterator[RowAnswers]:
            for row, (pair, answers) in texts.items():
                yield RowAnswers(row, pair.line, None, pair, several=tuple(answers), listed="answers")

        self.reward_model = model
        try:
            for scored in WindowScorer(scorer, self.cancel).rows(
                rows(), lambda done: self.tick("scoring", done, len(texts))
            ):
                answers = texts[scored.answers.index][1]
                found[scored.answers.index] = dict(
                    zip(answers, zip(scored.scores, scored.problems, strict=True), strict=True)
                )
        except NotScored as failed:
            raise Refused("compare_scoring_failed", path=model.source, why=failed.detail or failed.reason) from None
        self.interrupted |= self.cancel.is_set()
        for one in self.against:
            scores = np.full((2, len(one.sides)), math.nan)
            unjudged: Counter[str] = Counter()
            for at, side in enumerate(one.sides):
                known = found.get(side.row, {})
                both = [known.get(text, (math.nan, "interrupted")) for text in (side.before, side.after)]
                scores[:, at] = [score for score, _ in both]
                if problem := next((problem for score, problem in both if not math.isfinite(score)), ""):
                    unjudged[problem] += 1
            if not np.isfinite(scores[0] + scores[1]).any() and not self.interrupted:
                raise Refused("compare_no_reward", path=model.source, why=_commonest(unjudged))
            one.scores["reward"], one.unjudged["reward"] = (scores[0], scores[1]), unjudged
        self._length_free()
        self.seconds["scoring"] = round(time.monotonic() - began, 3)

    def _length_free(self) -> None:
        """Rewards less what they give for length alone: slope * log2(characters), by the differences within prompts of
        all models, with the difference between the models held fixed."""
        pairs = []
        for one in self.against:
            before, after = one.scores["reward"]
            longer = _log_lengths(one.sides)
            pairs.append((after - before, longer[1] - longer[0]))
        slope = _slope(pairs)
        if slope is None:
            return
        self.decoding["reward_per_doubling_of_length"] = round(slope, 6)
        for one in self.against:
            before, after = one.scores["reward"]
            longer = _log_lengths(one.sides)
            one.scores["length_free_reward"] = (before - slope * longer[0], after - slope * longer[1])
            one.unjudged["length_free_reward"] = one.unjudged["reward"]

    def judge(self, endpoint: Endpoint, *, journal: Path | None = None, concurrency: int | None = None,
              most_cost: float | None = None, note: Callable[[str], None] | None = None,
              lang: str = "en") -> None:  # fmt: skip
        """A judge model behind HTTP, both orders asked. most_cost: for all after models together. Raises Refused where
        prompts are missing."""
        from pipeline.evaluation.judge_endpoint import JudgeAccount, judge_answers, judging_fields

        if any(side.pair is None for one in self.against for side in one.sides):
            raise Refused("compare_prompts_needed", judge="--judge")
        began, spent, requests = time.monotonic(), 0.0, 0
        for one in self.against:
            account, left, sides = JudgeAccount(), most_cost, one.sides
            if most_cost is not None and requests:
                left = most_cost - spent if most_cost - spent >= spent / requests else 0.0
            judged = judge_answers(
                [_asked(side.pair) for side in sides], [side.before for side in sides], [side.after for side in sides],
                endpoint, references=[side.references[0] if side.references else None for side in sides],
                journal=journal, concurrency=concurrency, most_cost=left, cancel=self.cancel,
                progress=lambda done, total: self.tick("judging", done, total), note=note, note_lang=lang,
                account=account,
            )  # fmt: skip
            spent, requests = spent + account.cost, requests + account.requests
            if account.stopped is not None and account.stopped.entry == "judge_budget_spent":
                account.stopped = replace(account.stopped, params={"cost": f"{spent:.2f}"})
            one.outcomes["judge"] = [answer.outcome for answer in judged]
            one.unjudged["judge"] = Counter(answer.problem for answer in judged if answer.outcome is None)
            one.reasons = {at: answer.reason for at, answer in enumerate(judged) if answer.reason}
            if account.stopped is not None and account.stopped.entry != "judge_interrupted":
                said = gone_again(account.stopped)
                remark = {lang: f"{one.after.name}: {said.said(lang)}" for lang in ("en", "zh")}
                self.decoding.setdefault("remarks", []).append(remark)
            fields = to_json(judging_fields(judged, endpoint, account))
            self.judging[one.after.name] = fields
        self.more_models.append(ModelNamed(endpoint.model or "judge", endpoint.url, "judge"))
        self.interrupted |= self.cancel.is_set()
        self.seconds["judging"] = round(time.monotonic() - began, 3)

    def votes(self, rows_file: Path, folder: Path) -> None:
        """What people said in blind votes about the rows of an earlier, equal comparison. Raises Refused."""
        from pipeline.evaluation.blind_votes import open_votes

        for one in self.against:
            said = open_votes(rows_file, folder, before=self.before.name, after=one.after.name).outcomes()
            outcomes = [said.get(at) for at in range(len(one.sides))]
            if any(outcome is not None for outcome in outcomes):
                one.outcomes["people"] = outcomes
                one.unjudged["people"] = Counter({"no_vote": sum(outcome is None for outcome in outcomes)})

    def likelihoods(self, name: str, found: Mapping[tuple[int, int], Likelihoods]) -> None:
        """Of the after model of that name, by (row of before, sample)."""
        one = next(one for one in self.against if one.after.name == name)
        one.likelihoods = [found.get((side.row, side.sample)) for side in one.sides]

    # --- what came of it ---

    def result(self, rows_file: str = "") -> ComparisonResult:
        contests: list[Contest] = []
        measures: list[MeasureChange] = []
        for one in self.against:
            contests += self._contests(one)
            if one.measured[0]:
                measures += changes(
                    one.sides, *one.measured, (self.before.name, one.after.name), likelihoods=one.likelihoods,
                    beta=self.beta,
                )  # fmt: skip
        first = self.against[0].after.name
        decided = deciding(contests, first, self._prompts(self.against[0]))
        return ComparisonResult(
            models=(self.before.model, *(one.after.model for one in self.against), *self.more_models),
            verdict=None if decided is None else decided.verdict,
            decided_by=None if decided is None else decided.by,
            contests=tuple(contests), measures=tuple(measures), prompts=self._account(), decoding=dict(self.decoding),
            reward_model=self.reward_model, disagreeing=disagreeing(contests, decided),
            cases=tuple(self._cases(contests)), rows_file=rows_file, interrupted=self.interrupted,
            seconds=dict(self.seconds), created=now(), judge=dict(self.judging),
        )  # fmt: skip

    def write_rows(self, path: Path) -> None:
        """One ComparisonCase a line, by after model, then in the order of `before`. Raises OSError."""
        with written_whole(path) as temporary, open(temporary, "wb") as file:
            for one in self.against:
                for at in range(len(one.sides)):
                    line = json.dumps(to_json(self._case(one, at)), ensure_ascii=False, allow_nan=False)
                    file.write(line.encode("utf-8", "replace") + b"\n")

    def _prompts(self, one: _Against) -> int:
        return len({side.prompt for side in one.sides})

    def _contests(self, one: _Against) -> list[Contest]:
        sides = one.sides
        names = {"before_name": self.before.name, "after_name": one.after.name}
        lengths = [_lengths(texts) for texts in ((side.before for side in sides), (side.after for side in sides))]
        labels = [side.category for side in sides]
        prompts = [side.prompt for side in sides]
        found = []
        for by in (*ORDER, "length_free_reward"):
            more: dict[str, Any] = {
                **names, "by": by, "categories": labels if any(labels) else None, "prompts": prompts,
            }  # fmt: skip
            if by in ("reward", "judge", "people"):
                more["lengths"] = (lengths[0], lengths[1])
            if by in one.scores:
                made = contest(*one.scores[by], tie=_TIE if "reward" in by else 0.0, **more)
            elif by in one.outcomes:
                made = contest_of_outcomes(one.outcomes[by], **more)
            else:
                continue
            reasons = {reason: count for reason, count in one.unjudged[by].items() if count}
            found.append(replace(made, unjudged=reasons))
        return found

    def _account(self) -> dict[str, Any]:
        told = [one.matching.as_json() for one in self.against]
        files = [self.before, *(one.after for one in self.against)]
        account: dict[str, Any] = dict(told[0])
        if len(told) > 1:
            account["by_after"] = {one.after.name: found for one, found in zip(self.against, told, strict=True)}
        account["rows"] = {one.name: len(one.file.rows) for one in files}
        account["empty"] = {one.name: sum(not text.strip() for row in one.file.rows for text in row.answers)
                            for one in files}  # fmt: skip
        account["left_out"] = {one.name: dict(one.file.left_out) for one in files if one.file.left_out}
        account["left_out_lines"] = {one.name: dict(one.file.lines) for one in files if one.file.lines}
        account["columns"] = {one.name: dict(one.file.columns) for one in files if one.file.columns}
        account["equal"] = {one.after.name: sum(side.before == side.after for side in one.sides)
                            for one in self.against}  # fmt: skip
        return account

    def _case(self, one: _Against, at: int) -> ComparisonCase:
        side, names = one.sides[at], (self.before.name, one.after.name)
        scores = {by: {name: _finite(held[at]) for name, held in zip(names, both, strict=True)}
                  for by, both in one.scores.items()}  # fmt: skip
        outcome = {by: said for by in (*one.scores, *one.outcomes) if (said := self._outcome(one, by, at))}
        measures = (
            {name: {k: v for k, v in held[at].items() if v not in (None, "")}
             for name, held in zip(names, one.measured, strict=True)} if one.measured[0] else {}
        )  # fmt: skip
        if one.likelihoods is not None and (nats := one.likelihoods[at]) is not None:
            for name, reward in zip(names, nats.implicit_rewards(self.beta), strict=True):
                measures.setdefault(name, {})["implicit_reward"] = _finite(reward)
            measures[names[1]] |= {"kl_per_token": _finite(nats.kl), "kl_k3_per_token": _finite(nats.kl_k3)}
        if at in one.reasons:
            measures.setdefault(names[1], {})["judge_reason"] = one.reasons[at]
        return ComparisonCase(
            at, "" if side.pair is None else text_of(side.pair.prompt), one.after.name, side.category,
            side.references[0] if side.references else None, dict(zip(names, (side.before, side.after), strict=True)),
            scores, outcome, measures,
        )  # fmt: skip

    @staticmethod
    def _outcome(one: _Against, by: str, at: int) -> str | None:
        if by in one.outcomes:
            said: str | None = one.outcomes[by][at]
            return said
        before, after = (float(held[at]) for held in one.scores[by])
        if not math.isfinite(before) or not math.isfinite(after):
            return None
        return "tie" if abs(after - before) <= _TIE else "win" if after > before else "loss"

    def _cases(self, contests: Sequence[Contest]) -> list[ComparisonCase]:
        """The clearest losses and wins of each after model by its decider; where nothing judged, what repeats most."""
        room = CASES // len(self.against)
        found = []
        for one in self.against:
            decided = deciding(contests, one.after.name, self._prompts(one))
            gap = self._gaps(one, None if decided is None else decided.by)
            order = np.argsort(gap, kind="stable")
            losses = [int(at) for at in order[: room // 2] if gap[at] < 0]
            wins = [int(at) for at in order[::-1][: room - len(losses)] if gap[at] > 0]
            found += [self._case(one, at) for at in (*losses, *wins)]
        return found

    @staticmethod
    def _gaps(one: _Against, by: str | None) -> Any:
        """How far each answer is better than before's, 0 where that isn't known. Equal ones go by the reward."""
        gaps = np.zeros(len(one.sides))
        if by is None and one.measured[0]:
            before, after = ([float(m["rep_4"]) + float(m["loops"]) for m in held] for held in one.measured)
            return np.array(before) - np.array(after)
        finer = one.scores.get("reward")
        if finer is not None and (by == "reward" or by is None):
            return np.nan_to_num(finer[1] - finer[0])
        if by in one.scores:
            gaps = np.nan_to_num(one.scores[by][1] - one.scores[by][0])
        elif by in one.outcomes:
            gaps = np.array([{"win": 1.0, "loss": -1.0}.get(said or "", 0.0) for said in one.outcomes[by]])
        if finer is not None:
            apart = np.nan_to_num(finer[1] - finer[0])
            gaps = gaps + np.where(gaps != 0, 0.001 * np.tanh(apart), 0.0)
        return gaps


def deciding(contests: Sequence[Contest], after: str, prompts: int) -> Contest | None:
    """The contest whose verdict is that of an after model: the first of ORDER that judged enough of its prompts, else
    the one of ORDER that judged most."""
    mine = [one for by in ORDER for one in contests if one.after == after and one.by == by and one.n]
    least = float(load_config("evaluation.yaml")["compare"]["least_share"]) * prompts
    return next((one for one in mine if one.n >= least), max(mine, key=lambda one: one.n, default=None))


def disagreeing(contests: Sequence[Contest], decided: Contest | None) -> tuple[str, ...]:
    """Who says the opposite of the decider about the same model."""
    if decided is None:
        return ()
    return tuple(
        one.by for one in contests
        if one.after == decided.after and one.by in ORDER and one.verdict == _OPPOSITE.get(decided.verdict)
    )  # fmt: skip


def gone_again(why: Sentence) -> Sentence:
    """Why a server answers nothing any more, for a command that goes on by itself, without --resume."""
    return replace(why, entry=f"{why.entry}_again") if why.entry.startswith("endpoint_") else why


def _asked(pair: Pair | None) -> list[dict[str, Any]]:
    assert pair is not None
    return [*([{"role": "system", "content": pair.system}] if pair.system else []), *pair.prompt]


def _lengths(texts: Iterator[str]) -> Any:
    """In characters, runs of white space as one: answers that differ in no more are equal, so equally long too."""
    return np.array([len(" ".join(text.split())) for text in texts], dtype=float)


def _log_lengths(sides: Sequence[Side]) -> tuple[Any, Any]:
    return tuple(
        np.log2(np.maximum(_lengths(texts), 1))
        for texts in ((side.before for side in sides), (side.after for side in sides))
    )


def _slope(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Of reward differences over log-length differences, each after model with a mean of its own. None where lengths
    hardly differ."""
    over = under = 0.0
    n = 0
    for rewards, lengths in pairs:
        known = np.isfinite(rewards) & np.isfinite(lengths)
        if known.sum() < 3:
            continue
        r, x = rewards[known] - rewards[known].mean(), lengths[known] - lengths[known].mean()
        over, under, n = over + float((r * x).sum()), under + float((x * x).sum()), n + int(known.sum())
    return over / under if n and under / n > 1e-4 else None


def _finite(value: Any) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _commonest(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
