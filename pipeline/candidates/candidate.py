"""One candidate answer, the row it answers and the strategy it was made by, as the whole project knows them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pipeline.pairs.pair import Pair, Side, content_text, text_of
from pipeline.sample_answers import GenerationCancelled

SEED_STEP = 1000
"""Candidate `number` of row `index` is drawn with seed + 1000 * index + number: whatever else runs, and in whatever
order, it is the same one. So a row has at most 1000 candidates."""

Cancelled = GenerationCancelled
"""One exception for the caller's event, whoever makes the answers."""

Kind = Literal["greedy", "sampling", "beam", "diverse_beam", "alteration", "endpoint", "correction"]
Choice = Literal["rejected", "chosen"]


@dataclass(frozen=True)
class SourceRow:
    """A row to answer. index: its place among the rows of the data that can be answered, from 0. pair: prompt, system
    and, where the data has one, the right answer as `chosen`."""

    index: int
    pair: Pair

    @property
    def question(self) -> str:
        """The text of the last turn."""
        return content_text(self.pair.prompt[-1].get("content")) if self.pair.prompt else ""

    @property
    def gold(self) -> str | None:
        """The right answer's text, None where the data gives none."""
        return None if self.pair.chosen is None else text_of(self.pair.chosen)


@dataclass(frozen=True)
class CandidateStrategy:
    """One way of making candidates. name: as asked for (`sampling`, `cut_short`). candidates: how many a row. first:
    the number of its first one among the row's candidates. parameters: what the kind knows, for a model the fields of
    GenerationConfig (`temperature`, `top_p`, `top_k`, `num_beams`, `max_new_tokens`).

    model, adapter: of another checkpoint or endpoint than the run's, None for the run's own.
    """

    name: str
    kind: Kind
    candidates: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    model: str | None = None
    adapter: str | None = None

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.candidates)


@dataclass
class Candidate:
    """One answer to one row, and how it was made.

    number: among all candidates of the row, from 0. text: the answer without special tokens; empty where there is a
    problem. prompt: what was sent, special tokens visible; prompt_format: what that form is called. ended: it came to
    its end by itself, False: cut off at the limit, None: can't be known. tokens: of the answer with its end token.
    chosen: a better answer that came with it, for strategies that correct. problem: why there is no answer
    (`prompt_too_long`, `endpoint_failed`, `nothing_to_alter`, ...), with problem_detail.

    measures: numbers and facts by name. choice: what the policy made of it; why: entries of words/*/candidates.yaml
    with what stands in their places.
    """

    row: int
    number: int
    strategy: str
    text: str
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    model: str | None = None
    fingerprint: str | None = None
    prompt_format: str | None = None
    prompt: str | None = None
    ended: bool | None = None
    tokens: int | None = None
    chosen: Side | None = None
    problem: str | None = None
    problem_detail: str = ""
    measures: dict[str, Any] = field(default_factory=dict)
    choice: Choice | None = None
    why: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Counter:
    """What a run has done so far, for whoever shows it. Only ever added to, by the thread that makes candidates."""

    candidates: int = 0
    tokens: int = 0
    problems: int = 0
    cost: float = 0.0


class Maker(Protocol):
    """Makes the candidates of rows by one or more strategies."""

    def make(
        self, rows: Iterable[SourceRow], *, cancel: threading.Event, counter: Counter
    ) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        """Each row once with all its candidates, in the order they are ready. Rows are taken from `rows` only as they
        are needed, and the number taken but not yet given back is bounded. Raises Cancelled soon after `cancel` is
        set. What goes wrong with one candidate is its `problem`, never an exception."""
        ...


Note = Callable[[str], None]
