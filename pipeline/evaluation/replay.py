"""Bad cases answered by a base and by what stands beside it, and what became of each: fixed, broken, still bad."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.candidates.candidate import Candidate, CandidateStrategy, Kind
from pipeline.candidates.candidate import Counter as Made
from pipeline.config_files import load_config
from pipeline.evaluation.adapters_on_base import ModelsOnBase
from pipeline.evaluation.format_of_first import FormatOfFirst, FormatTaken
from pipeline.evaluation.replay_answers import KeptAnswers, made_by
from pipeline.evaluation.replay_cases import ReplayCase, ReplayCases
from pipeline.evaluation.replay_judging import REP, Answered, CaseJudge, RepeatCounts
from pipeline.evaluation.results import ModelNamed, Replayed, ReplayResult, ReplaySummary, now
from pipeline.free_memory import lacked_memory
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

LANGUAGES = ("en", "zh")
_SAID = 200  # characters of what a library says
SAMPLE_ROWS = 32  # cases that the prompt format is told by
STATUSES = ("right", "wrong", "repeats", "unended", "empty", "failed", "unchecked")
CHANGES = ("broken", "fixed", "still_bad", "still_good")
"""The regressions first, as they are listed."""
_PARAMETERS = ("num_beams", "length_penalty", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
               "no_repeat_ngram_size")  # fmt: skip


@dataclass(frozen=True)
class ReplayDecoding:
    """How answers are made. kind: `beam` (num_beams > 1), `greedy` or `sampling` (temperature > 0); parameters: fields
    of GenerationConfig."""

    kind: Kind
    max_new_tokens: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    prompt_format: str = "auto"
    system: str | None = None
    thinking: bool = False
    batch_size: int | None = None

    @classmethod
    def of(
        cls, *, greedy: bool = False, num_beams: int | None = None, temperature: float = 0.0,
        max_new_tokens: int | None = None, more: Mapping[str, Any] | None = None, **others: Any,
    ) -> ReplayDecoding:  # fmt: skip
        """Five beams without drawing unless asked otherwise. Raises Refused for beams that are to draw."""
        usual = load_config("evaluation.yaml")["replay"]
        if temperature > 0 and (num_beams or 1) > 1:
            raise Refused("replay_beams_draw", temperature=temperature, beams=num_beams)
        tokens = max_new_tokens or int(usual["max_new_tokens"])
        given = {name: value for name, value in (more or {}).items() if value is not None}
        if temperature > 0:
            return cls("sampling", tokens, {"temperature": temperature, **given}, **others)
        beams = 1 if greedy else num_beams or int(usual["num_beams"])
        given = {name: value for name, value in given.items() if name not in ("top_p", "top_k", "min_p")}
        if beams == 1:
            return cls("greedy", tokens, {k: v for k, v in given.items() if k != "length_penalty"}, **others)
        return cls("beam", tokens, {"num_beams": beams, **given}, **others)

    @property
    def strategy(self) -> CandidateStrategy:
        return CandidateStrategy(
            self.kind, self.kind, 1, {**self.parameters, "max_new_tokens": self.max_new_tokens}
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        shown = {name: self.parameters[name] for name in _PARAMETERS if name in self.parameters}
        return {"strategy": self.kind, "num_beams": 1, "temperature": 0.0, **shown,
                "max_new_tokens": self.max_new_tokens, "seed": self.seed}  # fmt: skip


@dataclass
class _OfModel:
    """What one model has done so far. rows: by case."""

    rows: dict[int, Replayed] = field(default_factory=dict)
    repeats: RepeatCounts = field(default_factory=RepeatCounts.none)
    seconds: float = 0.0


@dataclass(frozen=True)
class Unusable:
    """A model that was asked for and isn't among those that can be loaded. place: among all, the base being 0."""

    place: int
    name: str
    source: str
    role: Literal["adapter", "after"]
    why: Sentence


Told = Callable[[str, str, int, int], None]
"""Of how far it is: stage (`loading`, `answering`), model, cases done, cases in all."""


class Replay:
    """One replay. `run` makes the answers; `result` gives what there is at any time, so that an interrupted or failed
    run loses nothing.

    kept: where answers are put as they are made, and taken from where they were made before; they are judged anew.
    reused: answers taken from there, by model. unusable: models that are said to be not measured. unmeasured: why a
    model has no answers, or only some.
    """

    def __init__(
        self, models: ModelsOnBase, cases: ReplayCases, judge: CaseJudge, decoding: ReplayDecoding, *,
        bundle: str = "", told: Told = lambda stage, model, done, total: None,
        kept: KeptAnswers | None = None, dtype: str | None = None,
        note: Callable[[str], None] = lambda line: None, lang: str = "en", unusable: Sequence[Unusable] = (),
    ) -> None:  # fmt: skip
        self.unusable = tuple(sorted(unusable, key=lambda one: one.place))
        self.unmeasured: dict[str, Sentence] = {one.name: one.why for one in self.unusable}
        self.models, self.cases, self.judge, self.decoding = models, cases, judge, decoding
        self.bundle, self.told, self.kept, self.note, self.lang = bundle, told, kept, note, lang
        self.reused: dict[str, int] = {}
        self.interrupted = False
        self._checks = Counter(judge.check_of(case) for case in cases.cases)  # whatever is refused is refused now
        self._done = {name: _OfModel() for name in models.names}
        self._formats: dict[str, str] = {}
        self._fingerprints: dict[str, str] = {}
        self._format = FormatOfFirst(decoding.prompt_format, system=decoding.system, thinking=decoding.thinking)
        self._remarks: list[Sentence] = list(models.remarks)
        self._made_by = {
            **decoding.as_json(), "parameters": dict(decoding.parameters), "dtype": dtype,
            "format": decoding.prompt_format, "system": decoding.system, "thinking": decoding.thinking,
        }  # fmt: skip
        self._prompts = _digest(cases)
        self._began = time.monotonic()

    @property
    def rows_made(self) -> int:
        return sum(len(one.rows) for one in self._done.values())

    def run(self, *, cancel: threading.Event | None = None) -> None:
        """All models, the base first. One that can't be loaded or can't answer is `unmeasured`, and the others have
        their turn; of the base raises Refused, GenerationFailed. Sets `interrupted` where `cancel` was set."""
        from pipeline.candidates.candidate import Cancelled

        cancel = cancel or threading.Event()
        try:
            for name in self.models.order:
                if cancel.is_set():
                    raise Cancelled
                began = time.monotonic()
                try:
                    self._ask(name, cancel)
                except Cancelled:
                    raise
                except Exception as failed:  # torch, tokenizers, drivers each have their own
                    if name == self.models.names[0]:
                        raise
                    self._without(name, failed)
                self._done[name].seconds = time.monotonic() - began
        except Cancelled:
            self.interrupted = True
        except BaseException:
            self.interrupted = True
            raise
        finally:
            self.models.close()

    def _ask(self, name: str, cancel: threading.Event) -> None:
        if not self._from_kept(name):
            self.told("loading", name, len(self._done[name].rows), len(self.cases.cases))
            with self.models.using(name) as loaded:
                self._answer(name, loaded, cancel)

    def _without(self, name: str, failed: Exception) -> None:
        self.models.close()  # what is in memory may be what failed
        why = Sentence("model_lacks_memory", {}, "evaluation")
        if isinstance(failed, Refused):
            why = failed.sentence
        elif not lacked_memory(failed):
            said = " ".join(str(failed).split())[:_SAID]
            why = Sentence("model_failed", {"why": f"{type(failed).__name__}: {said}"}, "evaluation")
        self.unmeasured[name] = why
        self.note(Sentence("replay/goes_on", {"model": name, "why": why}, "evaluation").said(self.lang))

    def _from_kept(self, name: str) -> bool:
        """Takes what was answered before. Returns whether that is everything."""
        files, by_index = self.models.placed[name].files, {case.index: case for case in self.cases.cases}
        self._fingerprints[name] = files.fingerprint()
        if self.kept is None:
            return False
        asked, answers = self.kept.of(self._by(name))
        if asked is None or self._format.is_another(asked):
            return False
        known = {case: answer for case, answer in answers.items() if case in by_index}
        whole = len(known) == len(by_index)
        if whole and self._format.first is None and not self._format.again(asked):
            return False
        for case, answer in known.items():
            self._take(name, by_index[case], answer)
        if known:
            self._formats[name], self.reused[name] = asked.label, len(known)
        return whole

    def _by(self, name: str) -> str:
        return made_by(self._fingerprints[name], self._made_by, self._prompts)

    def _answer(self, name: str, loaded: LoadedModel, cancel: threading.Event) -> None:
        from pipeline.candidates.model_maker import ModelMaker
        from pipeline.candidates.prompting import Prompt

        placed, decoding, cases = self.models.placed[name], self.decoding, self.cases.cases
        by_index = {case.index: case for case in cases}
        rows = [case.row for case in cases]
        ids: dict[int, tuple[int, ...]] = {}

        def told(candidate: Candidate, content: Sequence[int]) -> None:
            ids[candidate.row] = tuple(content)

        chosen, asked = self._format.choose(loaded, placed.tokenizer, rows[:SAMPLE_ROWS])
        with chosen as prompting:
            self._begin(name, asked)
            for remark in prompting.remarks:
                self._remarks.append(Sentence("of_model", {"model": name, "said": remark}, "evaluation"))
                self.note(self._remarks[-1].said(self.lang))
            sample = prompting.prompts(rows[:SAMPLE_ROWS])
            longest = max((len(one.ids) for one in sample if isinstance(one, Prompt)), default=512)
            maker = ModelMaker(
                loaded, prompting, [decoding.strategy], seed=decoding.seed, max_new_tokens=decoding.max_new_tokens,
                batch_size=decoding.batch_size, longest=longest, told=told,
            )  # fmt: skip
            held = self._done[name].rows
            self.told("answering", name, len(held), len(cases))
            open_rows = [row for row in rows if row.index not in held]
            for row, [candidate] in maker.make(open_rows, cancel=cancel, counter=Made()):
                answer = _answered(candidate, ids.pop(row.index, ()))
                if self.kept is not None:
                    self.kept.add(self._by(name), row.index, answer)
                self._take(name, by_index[row.index], answer)

    def _begin(self, name: str, asked: FormatTaken) -> None:
        """Answers made in another format than the one there is now are none of this replay."""
        if self._formats.get(name, asked.label) != asked.label:
            self._done[name] = _OfModel()
            self.reused.pop(name, None)
        self._formats[name] = asked.label
        if self.kept is not None:
            self.kept.begin(self._by(name), name, asked)

    def _take(self, name: str, case: ReplayCase, answer: Answered) -> None:
        held = self._done[name]
        held.rows[case.index] = self.judge.judge(case, answer, name)
        held.repeats.add(answer.ids)
        self.told("answering", name, len(held.rows), len(self.cases.cases))

    # --- what came of it ---

    def result(self) -> ReplayResult:
        """Of what has been answered so far, the regressions first."""
        names = self.models.names
        base = self._done[names[0]].rows
        rows = []
        for case in self.cases.cases:
            for name in names:
                row = self._done[name].rows.get(case.index)
                if row is not None:
                    change = None if name == names[0] else change_of(base.get(case.index), row)
                    rows.append(replace(row, change=change))
        models = [self._named(name) for name in names]
        for one in self.unusable:
            models.insert(one.place, ModelNamed(one.name, one.source, one.role))
        answered = [name for name in names if name == names[0] or self._done[name].rows]
        return ReplayResult(
            models=tuple(models),
            summary=tuple(self._summary(name, [row for row in rows if row.model == name]) for name in answered),
            rows=tuple(listed_first(rows)),
            unmeasured={name: {lang: why.said(lang) for lang in LANGUAGES} for name, why in self.unmeasured.items()},
            decoding=self._how(),
            cases=len(self.cases.cases), left_out=dict(self.cases.left_out), bundle=self.bundle,
            interrupted=self.interrupted,
            seconds={"all": round(time.monotonic() - self._began, 2),
                     **{name: round(one.seconds, 2) for name, one in self._done.items()}},
            created=now(),
        )  # fmt: skip

    def _how(self) -> dict[str, Any]:
        how = {**self.decoding.as_json(), "prompt_format": dict(self._formats), "checks": dict(self._checks)}
        if self.reused:
            how["reused"] = dict(self.reused)
        if self._remarks:
            how["remarks"] = [{lang: one.said(lang) for lang in LANGUAGES} for one in self._remarks]
        return how

    def _named(self, name: str) -> ModelNamed:
        placed = self.models.placed[name]
        role = "base" if placed.way == "base" else "adapter" if placed.adapter is not None else "after"
        return ModelNamed(name, placed.source, role, self._fingerprints.get(name, ""))

    def _summary(self, name: str, rows: Sequence[Replayed]) -> ReplaySummary:
        held = self._done[name]
        return summary_of(
            name, rows, base=self.models.names[0], pooled=held.repeats.shares, seconds=round(held.seconds, 2)
        )


def change_of(before: Replayed | None, after: Replayed) -> Literal["fixed", "broken", "still_bad", "still_good"] | None:
    """None where it can't be told of either whether it is good."""
    if before is None or before.good is None or after.good is None:
        return None
    if before.good:
        return "still_good" if after.good else "broken"
    return "fixed" if after.good else "still_bad"


def summary_of(
    name: str, rows: Sequence[Replayed], *, base: str, pooled: Mapping[str, float] | None = None, seconds: float = 0.0
) -> ReplaySummary:  # fmt: skip
    """Counts of one model's rows. base: name of the model that `change` is against."""
    from pipeline.evaluation.intervals import contest_of_outcomes, share_of

    statuses, changes = Counter(row.status for row in rows), Counter(row.change for row in rows)
    good = sum(row.good is True for row in rows)
    bad = sum(row.good is False for row in rows)
    outcomes: dict[str | None, Literal["win", "tie", "loss"] | None] = {
        "fixed": "win", "broken": "loss", "still_good": "tie", "still_bad": "tie", None: None
    }  # fmt: skip
    contest = None
    if name != base and any(row.change is not None for row in rows):
        contest = contest_of_outcomes(
            [outcomes[row.change] for row in rows], before_name=base, after_name=name, by="task",
            categories=[row.category for row in rows] if any(row.category for row in rows) else None,
        )  # fmt: skip
    return ReplaySummary(
        name, len(rows), **{status: statuses[status] for status in STATUSES}, good=good, bad=bad,
        **{change: changes[change] for change in ("fixed", "broken", "still_bad", "still_good")},
        similarity=_mean([row.similarity for row in rows]), chrf=_mean([row.chrf for row in rows]),
        rep={key: value for n in REP if (value := _mean([r.rep.get(key := f"rep_{n}") for r in rows])) is not None},
        rep_pooled=dict(pooled or {}), good_share=share_of(good, good + bad) if good + bad else None, change=contest,
        seconds=seconds,
    )  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def listed_first(rows: Sequence[Replayed]) -> list[Replayed]:
    """Rows with the cases of regressions first, then what was fixed, what is still bad, the rest; rows of a case stay
    together and in their order."""
    ranks: dict[int, int] = {}
    for row in rows:
        rank = CHANGES.index(row.change) if row.change in CHANGES else len(CHANGES)
        ranks[row.case] = min(rank, ranks.get(row.case, len(CHANGES)))
    return sorted(rows, key=lambda row: (ranks[row.case], row.case))


def _answered(candidate: Candidate, ids: tuple[int, ...]) -> Answered:
    failed = candidate.problem not in (None, "empty_answer")
    problem = f"{candidate.problem}: {candidate.problem_detail}".rstrip(": ") if failed else ""
    return Answered(candidate.text, ids, candidate.ended, candidate.tokens, problem)


def _digest(cases: ReplayCases) -> str:
    """Of all that is asked, in its order."""
    found = hashlib.sha256()
    for case in cases.cases:
        asked = [case.index, case.row.pair.system, case.row.pair.prompt]
        found.update(json.dumps(asked, sort_keys=True, default=str).encode())
    return found.hexdigest()
