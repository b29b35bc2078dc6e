"""Candidates from a loaded model: greedy, sampled, by beam search. A prompt goes through it once for all draws."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.candidates.beam_search import Beam, beam_candidates
from pipeline.candidates.candidate import SEED_STEP, Cancelled, Candidate, CandidateStrategy, Counter, SourceRow
from pipeline.candidates.completion_reply import without_thinking
from pipeline.candidates.prompting import Problem, Prompt, Prompting
from pipeline.cpu_threads import suit_threads
from pipeline.generation.answers import AnswerMaker, slots_for
from pipeline.generation.decoding import Decoding
from pipeline.generation.slot_engine import Finished, Wanted, Work, fits_slots
from pipeline.sample_answers import GenerationFailed, stop_ids
from pipeline.score_answers import position_limit

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

ROWS_AT_ONCE = 32
"""Rows whose prompts are written at a time: templates render in a process of their own."""
_SEARCH = ("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping",
           "no_repeat_ngram_size", "repetition_penalty")  # fmt: skip


@dataclass
class _Open:
    """A row with answers still missing. waits: how many the slots owe it."""

    row: SourceRow
    prompt: Prompt
    waits: int
    made: dict[int, Candidate] = field(default_factory=dict)


class ModelMaker:
    """Makes candidates with one model; see Maker. strategies: of the kinds greedy, sampling, beam and diverse_beam.

    max_new_tokens: for strategies that don't say. longest: tokens of the longest prompt expected, for the memory that
    is counted with. batch_size: answers at a time, from the free memory unless given. model, fingerprint: as candidates
    name the model they came from. told: of every answer with the ids of its tokens, without the one that ended it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompting: Prompting,
        strategies: Sequence[CandidateStrategy],
        *,
        seed: int = 0,
        max_new_tokens: int = 256,
        batch_size: int | None = None,
        longest: int = 512,
        model: str | None = None,
        fingerprint: str | None = None,
        told: Callable[[Candidate, Sequence[int]], None] | None = None,
    ) -> None:
        self.told = told
        self.loaded, self.prompting, self.strategies = loaded, prompting, tuple(strategies)
        self.seed, self.model, self.fingerprint = seed, model, fingerprint
        self.new_tokens = {s.first: int(s.parameters.get("max_new_tokens") or max_new_tokens) for s in self.strategies}
        self.stops = frozenset(stop_ids(loaded.core))
        self.limit = None if loaded.is_encoder_decoder else position_limit(loaded)
        self._restore_threads = suit_threads(sum(p.numel() for p in loaded.core.parameters()))
        most = max(self.new_tokens.values(), default=max_new_tokens)
        drawn = [s for s in self.strategies if s.kind in ("greedy", "sampling")]
        self.answers = AnswerMaker(loaded, longest=longest + most, slots=batch_size) if drawn else None
        self.drawn = drawn
        self.searched = [s for s in self.strategies if s.kind in ("beam", "diverse_beam")]
        self.together = self._searches_at_once(longest + most, batch_size) if self.searched else 1
        self.decodings = {
            s.first: Decoding.of(s.parameters if s.kind == "sampling" else {**s.parameters, "temperature": None})
            for s in drawn
        }

    @property
    def in_slots(self) -> bool:
        """Whether the model suits slots; if not, its prompts are answered one by one."""
        return self.answers is None or self.answers.in_slots

    def make(
        self, rows: Iterable[SourceRow], *, cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        """As of Maker. Raises GenerationFailed where the model itself fails."""
        try:
            yield from self._made(iter(rows), cancel, counter)
        finally:
            self._restore_threads()

    def _made(
        self, rows: Iterator[SourceRow], cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        open_rows: dict[int, _Open] = {}
        ready: list[_Open] = []  # nothing owed by the slots, searches still to make
        refused: list[tuple[SourceRow, list[Candidate]]] = []

        def works() -> Iterator[Work]:
            for row, prompt in self._prompts(rows):
                if isinstance(prompt, Problem):
                    refused.append((row, self._without(row, prompt, counter)))
                    continue
                wanted = self._wanted(row, prompt)
                open_rows[row.index] = _Open(row, prompt, len(wanted))
                yield Work(prompt.ids, tuple(wanted))

        if self.answers is None:
            for work_row, prompt in self._prompts(rows):
                if isinstance(prompt, Problem):
                    refused.append((work_row, self._without(work_row, prompt, counter)))
                else:
                    ready.append(_Open(work_row, prompt, 0))
                if len(ready) >= self.together:
                    yield from self._given(ready, refused, cancel, counter)
            yield from self._given(ready, refused, cancel, counter)
            return
        for done in self.answers.run(works(), cancel=cancel):
            index, number = done.key
            held = open_rows[index]
            held.made[number] = self._drawn(held, number, done, counter)
            held.waits -= 1
            if not held.waits:
                ready.append(open_rows.pop(index))
            yield from self._given(ready, refused, cancel, counter)
        yield from self._given(ready, refused, cancel, counter)

    def _given(
        self, ready: list[_Open], refused: list[tuple[SourceRow, list[Candidate]]], cancel: threading.Event,
        counter: Counter,
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:  # fmt: skip
        yield from refused
        refused.clear()
        while ready:
            batch, ready[:] = ready[: self.together], ready[self.together :]
            if cancel.is_set():
                raise Cancelled
            for strategy in self.searched:
                self._search(batch, strategy, cancel, counter)
            for held in batch:
                yield held.row, [held.made[number] for number in sorted(held.made)]

    def _searches_at_once(self, tokens: int, given: int | None) -> int:
        """Prompts whose beams are searched together: as many as slots would hold of all their beams."""
        if not fits_slots(self.loaded):
            return 1
        beams = max(int(strategy.parameters.get("num_beams") or 1) for strategy in self.searched)
        return max(1, min(ROWS_AT_ONCE, (given or slots_for(self.loaded, tokens)) // beams))

    # --- prompts ---

    def _prompts(self, rows: Iterator[SourceRow]) -> Iterator[tuple[SourceRow, Prompt | Problem]]:
        fewest = min(self.new_tokens.values(), default=1)
        while block := list(islice(rows, ROWS_AT_ONCE)):
            # room for a few tokens is asked for here; an answer is cut at the context where it is longer
            yield from zip(block, self.prompting.prompts(block, new_tokens=min(fewest, 16)), strict=True)

    def _room(self, strategy: CandidateStrategy, prompt: Prompt) -> int:
        wanted = self.new_tokens[strategy.first]
        return wanted if self.limit is None else max(1, min(wanted, self.limit - len(prompt.ids)))

    def _wanted(self, row: SourceRow, prompt: Prompt) -> list[Wanted]:
        return [
            Wanted((row.index, number), self.decodings[s.first], self._seed(row, number), self._room(s, prompt))
            for s in self.drawn
            for number in s.numbers
        ]

    def _seed(self, row: SourceRow, number: int) -> int:
        return self.seed + SEED_STEP * row.index + number

    def _without(self, row: SourceRow, problem: Problem, counter: Counter) -> list[Candidate]:
        made = []
        for strategy in self.strategies:
            for number in strategy.numbers:
                candidate = self._candidate(row, strategy, number, None)
                candidate.problem, candidate.problem_detail = problem.problem, problem.detail
                self._count(candidate, counter)
                made.append(candidate)
        return sorted(made, key=lambda c: c.number)

    # --- candidates ---

    def _candidate(
        self, row: SourceRow, strategy: CandidateStrategy, number: int, prompt: Prompt | None
    ) -> Candidate:  # fmt: skip
        parameters = {**strategy.parameters, "max_new_tokens": self.new_tokens[strategy.first]}
        return Candidate(
            row.index, number, strategy.name, "", parameters,
            seed=self._seed(row, number) if strategy.kind == "sampling" else None, model=self.model,
            fingerprint=self.fingerprint, prompt_format=self.prompting.label,
            prompt=None if prompt is None else prompt.text,
        )  # fmt: skip

    def _drawn(self, held: _Open, number: int, done: Finished, counter: Counter) -> Candidate:
        strategy = next(s for s in self.drawn if number in s.numbers)
        candidate = self._candidate(held.row, strategy, number, held.prompt)
        if not done.finite:
            candidate.problem, candidate.problem_detail = "not_finite", f"token {len(done.ids) + 1}"
        else:
            self._take(candidate, done.ids, ended=done.stop_id is not None)
        self._count(candidate, counter)
        return candidate

    def _search(
        self, batch: Sequence[_Open], strategy: CandidateStrategy, cancel: threading.Event, counter: Counter
    ) -> None:  # fmt: skip
        by_room: dict[int, list[_Open]] = {}
        for held in batch:
            by_room.setdefault(self._room(strategy, held.prompt), []).append(held)
        for room, members in by_room.items():
            try:
                found = self._beams([held.prompt for held in members], strategy, room, cancel)
            except GenerationFailed:  # of one prompt; the others have theirs
                found = None
            for place, held in enumerate(members):
                detail = ""
                beams: list[Beam] = found[place] if found is not None else []
                if found is None:
                    try:
                        [beams] = self._beams([held.prompt], strategy, room, cancel)
                    except GenerationFailed as failed:
                        detail = str(failed)
                self._found(held, strategy, beams, detail, counter)

    def _beams(
        self, prompts: Sequence[Prompt], strategy: CandidateStrategy, room: int, cancel: threading.Event
    ) -> list[list[Beam]]:  # fmt: skip
        settings: dict[str, Any] = {k: strategy.parameters[k] for k in _SEARCH if k in strategy.parameters}
        return beam_candidates(
            self.loaded, prompts, num_return_sequences=strategy.candidates, max_new_tokens=room, cancel=cancel,
            together=self.together, **settings,
        )  # fmt: skip

    def _found(
        self, held: _Open, strategy: CandidateStrategy, found: Sequence[Beam], detail: str, counter: Counter
    ) -> None:  # fmt: skip
        for place, number in enumerate(strategy.numbers):
            candidate = self._candidate(held.row, strategy, number, held.prompt)
            if place < len(found):
                self._take(candidate, found[place].ids, ended=found[place].ended)
                candidate.measures["beam_score"] = round(found[place].score, 3)
            else:
                candidate.problem, candidate.problem_detail = "generation_failed", detail or f"{len(found)} beams"
            self._count(candidate, counter)
            held.made[number] = candidate

    def _take(self, candidate: Candidate, ids: Sequence[int], *, ended: bool) -> None:
        content = ids[:-1] if ended else ids
        whole = str(self.loaded.tokenizer.decode(list(content), skip_special_tokens=True))
        text, thinking = without_thinking(whole)
        candidate.text = text.strip()
        if thinking:
            candidate.measures["thinking"] = len(thinking)
        candidate.ended, candidate.tokens = ended, len(ids)
        if self.told is not None:
            self.told(candidate, content)
        if not candidate.text:
            candidate.problem = "empty_answer"

    @staticmethod
    def _count(candidate: Candidate, counter: Counter) -> None:
        counter.candidates += 1
        counter.tokens += candidate.tokens or 0
        counter.problems += candidate.problem is not None
