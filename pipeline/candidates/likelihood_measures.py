"""How likely the loaded model finds the candidates of a row: under its own prompt, and under other rows' prompts.

An answer that has to do with its prompt is likelier under it than under another; one that is off topic isn't. A prompt
goes through the model once and all answers are scored on top of its cache. What is batched with what depends on the
row alone, so a run that was killed and resumed gives the same numbers. What arithmetic doesn't allow: on another
machine, with another number of threads or in another block of rows, sums are added in another order, which can turn the
last of the three digits kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.prompting import Problem, Prompt, Prompting
from pipeline.config_files import load_config
from pipeline.sample_answers import stop_ids
from pipeline.score_answers import Piece, position_limit, score_answers
from pipeline.script_of_text import main_script
from pipeline.shared_prompt_scores import shared_prompt_nats, shares_prompts

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

DIGITS = 3
KNOWN_PROMPTS = 4096  # of other rows, as they come again


class OtherRows(Protocol):
    """Rows of the same data whose prompts are tried."""

    def others(self, index: int, count: int) -> list[SourceRow]:
        """Up to `count` rows other than row `index`, always the same ones."""
        ...


@dataclass(frozen=True)
class _Answer:
    """Tokens of one answer. whole: with its end token where it ended; start: the part that topics are told by."""

    whole: tuple[int, ...]
    start: tuple[int, ...]


@dataclass(frozen=True)
class _Asked:
    """What is scored of one row. pieces: by (prompt, answer), the row's own prompt 0."""

    answers: tuple[_Answer, ...]
    prompts: int
    pieces: dict[tuple[int, int], Piece]


class LikelihoodMeasures:
    """Measures rows by one model in one prompt format. others: how many other rows' prompts each answer is tried under,
    in the row's writing system where there are any, as another language alone makes an answer unlikely."""

    def __init__(self, loaded: LoadedModel, prompting: Prompting, reference: OtherRows, *, others: int = 4) -> None:
        table = load_config("candidate_likelihood.yaml")
        self.loaded, self.prompting, self.reference, self.others = loaded, prompting, reference, others
        self.topic_tokens = int(table["topic_tokens"])
        self.drawn = int(table["others_drawn"])
        stops, own = stop_ids(loaded.core), loaded.tokenizer.eos_token_id
        self.end: int | None = own if own in stops else stops[0] if stops else own
        self.limit = position_limit(loaded)
        self.shared = shares_prompts(loaded)
        self._known: dict[int, tuple[Prompt | Problem, str | None]] = {}

    def measure(
        self, row: SourceRow, texts: Sequence[str], ended: Sequence[bool | None]
    ) -> tuple[list[dict[str, float]], dict[str, float] | None]:  # fmt: skip
        """Measures of each text, and of the row's right answer (None where the data gives none).

        logp: log-probability of the answer's tokens in nats, with the end token unless it is known not to have ended.
        logp_per_token. topic_gain: nats per token by which the answer's beginning is likelier under this prompt than
        under the others, on average; about 0 for an answer to something else. topic_gain_least: the same over the other
        prompt that it is likeliest under. margin_logp: logp_per_token of the right answer minus the text's. A measure
        that can't be taken is left out: for an answer without a token, one that the context has no room for, where no
        other prompt can be tried, where the scores aren't finite. Raises NotScored.
        """
        return self.measure_block([(row, texts, ended)])[0]

    def measure_block(
        self, block: Sequence[tuple[SourceRow, Sequence[str], Sequence[bool | None]]]
    ) -> list[tuple[list[dict[str, float]], dict[str, float] | None]]:  # fmt: skip
        """`measure` of several rows at once, which small models are faster with. The numbers are the same, bit by bit,
        whenever the same rows come together: take blocks by the rows' index, as 16k to 16k + 15."""
        asked = [self._asked(row, texts, ended) for row, texts, ended in block]
        nats = iter(self._nats([piece for one in asked for piece in one.pieces.values()]))
        made = []
        for (row, texts, _), one in zip(block, asked, strict=True):
            by_place = {place: next(nats) for place in one.pieces}
            found = self._measured(one, by_place) or [{} for _ in range(len(texts) + (row.gold is not None))]
            chosen = found.pop() if row.gold is not None else None
            for measures in found:
                if chosen and "logp_per_token" in chosen and "logp_per_token" in measures:
                    measures["margin_logp"] = round(chosen["logp_per_token"] - measures["logp_per_token"], DIGITS)
            made.append((found, chosen))
        return made

    def _asked(self, row: SourceRow, texts: Sequence[str], ended: Sequence[bool | None]) -> _Asked:
        prompt = self.prompting.prompt(row)
        if isinstance(prompt, Problem):
            return _Asked((), 0, {})
        gold = row.gold
        given = [*texts, *([] if gold is None else [gold])]
        answers = self._answers(prompt, given, [*(e is not False for e in ended), *([True] * (gold is not None))])
        prompts = [prompt, *self._other_prompts(row, prompt)]
        pieces = {}
        for p, one in enumerate(prompts):
            for a, answer in enumerate(answers):
                ids = answer.whole if p == 0 else answer.start
                if ids and self._fits(one, ids):
                    pieces[p, a] = Piece(one.ids, ids, self.prompting.maker.lead)
        return _Asked(tuple(answers), len(prompts), pieces)

    def _answers(self, prompt: Prompt, texts: Sequence[str], ended: Sequence[bool]) -> list[_Answer]:
        made = []
        for ids, end in zip(self.prompting.answer_ids(prompt, texts), ended, strict=True):
            closing = (self.end,) if end and self.end is not None else ()
            made.append(_Answer((*ids, *closing), ids[: self.topic_tokens]))
        return made

    def _other_prompts(self, row: SourceRow, own: Prompt) -> list[Prompt]:
        drawn = self.reference.others(row.index, max(self.drawn, self.others))
        unknown = [other for other in drawn if other.index not in self._known]
        if len(self._known) + len(unknown) > KNOWN_PROMPTS:
            self._known.clear()
            unknown = drawn
        made = self.prompting.prompts(unknown)
        scripts = [main_script(other.question) for other in unknown]
        self._known.update((o.index, (p, s)) for o, p, s in zip(unknown, made, scripts, strict=True))
        script = main_script(row.question)
        kept: list[Prompt] = []
        for prompt, _ in sorted((self._known[other.index] for other in drawn), key=lambda known: known[1] != script):
            if not isinstance(prompt, Problem) and prompt.ids != own.ids and prompt not in kept:
                kept.append(prompt)
        return kept[: self.others]

    def _measured(
        self, asked: _Asked, nats: Mapping[tuple[int, int], tuple[float, ...]]
    ) -> list[dict[str, float]]:  # fmt: skip
        found: list[dict[str, float]] = []
        for a, answer in enumerate(asked.answers):
            measures: dict[str, float] = {}
            own = nats.get((0, a))
            if own and math.isfinite(sum(own)):
                measures["logp"] = -sum(own)
                measures["logp_per_token"] = -sum(own) / len(own)
                length = len(answer.start)
                elsewhere = [sum(n) for p in range(1, asked.prompts) if (n := nats.get((p, a)))]
                if elsewhere and length and all(map(math.isfinite, elsewhere)):
                    here = sum(own[:length])
                    measures["topic_gain"] = (sum(elsewhere) / len(elsewhere) - here) / length
                    measures["topic_gain_least"] = (min(elsewhere) - here) / length
            found.append({name: round(value, DIGITS) + 0.0 for name, value in measures.items()})
        return found

    def _fits(self, prompt: Prompt, ids: Sequence[int]) -> bool:
        if self.limit is None:
            return True
        apart = self.loaded.is_encoder_decoder
        longest = max(len(prompt.ids), len(ids) + 1) if apart else len(prompt.ids) + len(ids)
        return longest <= self.limit

    def _nats(self, pieces: Sequence[Piece]) -> list[tuple[float, ...]]:
        if self.shared:
            return shared_prompt_nats(self.loaded, pieces)
        return [score.nats for score in score_answers(self.loaded, pieces)]
