"""Bad cases answered by a base and by what stands beside it, and what became of each: fixed, broken, still bad."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.candidates.candidate import Candidate, CandidateStrategy, Kind
from pipeline.candidates.candidate import Counter as Made
from pipeline.config_files import load_config
from pipeline.evaluation.adapters_on_base import ModelsOnBase
from pipeline.evaluation.replay_cases import ReplayCase, ReplayCases
from pipeline.evaluation.replay_judging import REP, Answered, CaseJudge, RepeatCounts
from pipeline.evaluation.results import ModelNamed, Replayed, ReplayResult, ReplaySummary, now
from pipeline.refusal import Refused

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

SAMPLE_ROWS = 32  # cases that the prompt format is told by
STATUSES = ("right", "wrong", "repeats", "unended", "empty", "failed", "unchecked")
CHANGES = ("broken", "fixed", "still_bad", "still_good")
"""The regressions first, as they are listed."""
_USUAL = {"declared": "declared", "plain''": "plain"}  # formats that are no surprise, as they are asked for
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


Told = Callable[[str, str, int, int], None]
"""Of how far it is: stage (`loading`, `answering`), model, cases done, cases in all."""


class Replay:
    """One replay. `run` makes the answers; `result` gives what there is at any time, so that an interrupted or failed
    run loses nothing.

    row_made: told of every row as it is made, without `change`.
    """

    def __init__(
        self, models: ModelsOnBase, cases: ReplayCases, judge: CaseJudge, decoding: ReplayDecoding, *,
        bundle: str = "", told: Told = lambda stage, model, done, total: None,
        row_made: Callable[[Replayed], None] = lambda row: None,
        note: Callable[[str], None] = lambda line: None, lang: str = "en",
    ) -> None:  # fmt: skip
        self.models, self.cases, self.judge, self.decoding = models, cases, judge, decoding
        self.bundle, self.told, self.row_made, self.note, self.lang = bundle, told, row_made, note, lang
        self.interrupted = False
        self._checks = Counter(judge.check_of(case) for case in cases.cases)  # whatever is refused is refused now
        self._done = {name: _OfModel() for name in models.names}
        self._formats: dict[str, str] = {}
        self._fingerprints: dict[str, str] = {}
        # Of the base: its template, and the format it is asked in. A training may leave a model that answers a little
        # better in another format; whoever declares the same template is asked in the same one.
        self._usual: tuple[str | None, str] | None = None
        self._began = time.monotonic()

    @property
    def rows_made(self) -> int:
        return sum(len(one.rows) for one in self._done.values())

    def run(self, *, cancel: threading.Event | None = None) -> None:
        """All models, the base first. Raises Refused for a model that can't be loaded, GenerationFailed for one that
        can't answer; sets `interrupted` where `cancel` was set."""
        from pipeline.candidates.candidate import Cancelled

        cancel = cancel or threading.Event()
        try:
            for name in self.models.order:
                if cancel.is_set():
                    raise Cancelled
                began = time.monotonic()
                self.told("loading", name, 0, len(self.cases.cases))
                with self.models.using(name) as loaded:
                    self._answer(name, loaded, cancel)
                self._done[name].seconds = time.monotonic() - began
        except Cancelled:
            self.interrupted = True
        except BaseException:
            self.interrupted = True
            raise
        finally:
            self.models.close()

    def _answer(self, name: str, loaded: LoadedModel, cancel: threading.Event) -> None:
        from pipeline.candidates.model_maker import ModelMaker
        from pipeline.candidates.prompting import Prompt, choose_prompting
        from pipeline.declared_tokens import chat_template

        placed, decoding, cases = self.models.placed[name], self.decoding, self.cases.cases
        by_index = {case.index: case for case in cases}
        rows = [case.row for case in cases]
        ids: dict[int, tuple[int, ...]] = {}
        self._fingerprints[name] = placed.files.fingerprint()

        def kept(candidate: Candidate, content: Sequence[int]) -> None:
            ids[candidate.row] = tuple(content)

        template = chat_template(placed.tokenizer.tokenizer).text
        format = decoding.prompt_format
        if format == "auto" and self._usual is not None and self._usual[0] == template:
            format = self._usual[1]
        with choose_prompting(
            loaded, placed.tokenizer, rows[:SAMPLE_ROWS], format=format, system=decoding.system,
            thinking=decoding.thinking,
        ) as prompting:  # fmt: skip
            if placed.way == "base" and not prompting.found and prompting.name in _USUAL:
                self._usual = template, _USUAL[prompting.name]
            self._formats[name] = prompting.label
            for remark in prompting.remarks:
                self.note(f"{name}: {remark.said(self.lang)}")
            sample = prompting.prompts(rows[:SAMPLE_ROWS])
            longest = max((len(one.ids) for one in sample if isinstance(one, Prompt)), default=512)
            maker = ModelMaker(
                loaded, prompting, [decoding.strategy], seed=decoding.seed, max_new_tokens=decoding.max_new_tokens,
                batch_size=decoding.batch_size, longest=longest, told=kept,
            )  # fmt: skip
            self.told("answering", name, 0, len(cases))
            for row, [candidate] in maker.make(rows, cancel=cancel, counter=Made()):
                self._take(name, by_index[row.index], candidate, ids.pop(row.index, ()))

    def _take(self, name: str, case: ReplayCase, candidate: Candidate, ids: tuple[int, ...]) -> None:
        failed = candidate.problem not in (None, "empty_answer")
        problem = f"{candidate.problem}: {candidate.problem_detail}".rstrip(": ") if failed else ""
        answer = Answered(candidate.text, ids, candidate.ended, candidate.tokens, problem)
        row = self.judge.judge(case, answer, name)
        held = self._done[name]
        held.rows[case.index] = row
        held.repeats.add(ids)
        self.row_made(row)
        self.told("answering", name, len(held.rows), len(self.cases.cases))

    # --- what came of it ---

    def result(self) -> ReplayResult:
        """Of what has been answered so far."""
        names = self.models.names
        base = self._done[names[0]].rows
        rows = []
        for case in self.cases.cases:
            for name in names:
                row = self._done[name].rows.get(case.index)
                if row is not None:
                    change = None if name == names[0] else change_of(base.get(case.index), row)
                    rows.append(replace(row, change=change))
        return ReplayResult(
            models=tuple(self._named(name) for name in names),
            summary=tuple(self._summary(name, [row for row in rows if row.model == name]) for name in names),
            rows=tuple(rows),
            decoding={**self.decoding.as_json(), "prompt_format": dict(self._formats), "checks": dict(self._checks)},
            cases=len(self.cases.cases), left_out=dict(self.cases.left_out), bundle=self.bundle,
            interrupted=self.interrupted,
            seconds={"all": round(time.monotonic() - self._began, 2),
                     **{name: round(one.seconds, 2) for name, one in self._done.items()}},
            created=now(),
        )  # fmt: skip

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


def row_json(row: Replayed) -> dict[str, Any]:
    """One line of the file of rows."""
    return asdict(row)
