"""How likely the loaded model finds the candidates of a row: under its own prompt, and under other rows' prompts.

An answer that has to do with its prompt is likelier under it than under another; one that is off topic isn't. The other
prompts come from a small pool, the same for the whole run, and stay read; a candidate costs only its own tokens, once
for each prompt. What goes through the model together depends on the row alone, so the numbers are the same, bit by bit,
in any order of rows, in any of several processes, and in a run that was killed and resumed. What arithmetic doesn't
allow: on another machine or with another number of threads sums are added in another order, which can turn the last of
the three digits kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.prompting import Problem, Prompt, Prompting
from pipeline.config_files import load_config
from pipeline.sample_answers import stop_ids
from pipeline.score_answers import Piece, position_limit, score_answers
from pipeline.script_of_text import main_script
from pipeline.shared_prompt_scores import SharedPrompts, shares_prompts

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

DIGITS = 3
_ANY = "any"  # no name of a script


class OtherRows(Protocol):
    """Rows of the same data whose prompts are tried, in an order that is the same for every process."""

    @property
    def rows(self) -> Sequence[SourceRow]: ...


@dataclass(frozen=True)
class _Answer:
    """Tokens of one answer. whole: with its end token where it ended; start: the part that topics are told by."""

    whole: tuple[int, ...]
    start: tuple[int, ...]


@dataclass(frozen=True)
class _Asked:
    """What is scored of one row. prompts: the row's own first. pieces: by (prompt, answer)."""

    answers: tuple[_Answer, ...]
    prompts: tuple[Prompt, ...]
    pieces: dict[tuple[int, int], Piece]


class LikelihoodMeasures:
    """Measures rows by one model in one prompt format. others: how many other rows' prompts each answer is tried under,
    in the row's writing system where there are any, as another language alone makes an answer unlikely."""

    def __init__(self, loaded: LoadedModel, prompting: Prompting, reference: OtherRows, *, others: int = 4) -> None:
        table = load_config("candidate_likelihood.yaml")
        self.loaded, self.prompting, self.reference, self.others = loaded, prompting, reference, others
        self.topic_tokens = int(table["topic_tokens"])
        self.pool = int(table["pool"])
        stops, own = stop_ids(loaded.core), loaded.tokenizer.eos_token_id
        self.end: int | None = own if own in stops else stops[0] if stops else own
        self.limit = position_limit(loaded)
        self.scores = SharedPrompts(loaded, room=int(table["kept_mib"]) << 20) if shares_prompts(loaded) else None
        self._pools: dict[str | None, list[tuple[int, Prompt]]] | None = None

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
        asked = self._asked(row, texts, ended)
        nats = dict(zip(asked.pieces, self._nats(asked), strict=True))
        found = self._measured(asked, nats) or [{} for _ in range(len(texts) + (row.gold is not None))]
        chosen = found.pop() if row.gold is not None else None
        for measures in found:
            if chosen and "logp_per_token" in chosen and "logp_per_token" in measures:
                measures["margin_logp"] = round(chosen["logp_per_token"] - measures["logp_per_token"], DIGITS)
        return found, chosen

    def _asked(self, row: SourceRow, texts: Sequence[str], ended: Sequence[bool | None]) -> _Asked:
        prompt = self.prompting.prompt(row)
        if isinstance(prompt, Problem):
            return _Asked((), (), {})
        gold = row.gold
        given = [*texts, *([] if gold is None else [gold])]
        answers = self._answers(prompt, given, [*(e is not False for e in ended), *([True] * (gold is not None))])
        prompts = (prompt, *self._other_prompts(row, prompt)) if any(answer.whole for answer in answers) else ()
        pieces = {}
        for p, one in enumerate(prompts):
            for a, answer in enumerate(answers):
                ids = answer.whole if p == 0 else answer.start
                if ids and self._fits(one, ids):
                    pieces[p, a] = Piece(one.ids, ids, self.prompting.maker.lead)
        return _Asked(tuple(answers), prompts, pieces)

    def _answers(self, prompt: Prompt, texts: Sequence[str], ended: Sequence[bool]) -> list[_Answer]:
        made = []
        for ids, end in zip(self.prompting.answer_ids(prompt, texts), ended, strict=True):
            closing = (self.end,) if end and self.end is not None else ()
            made.append(_Answer((*ids, *closing), ids[: self.topic_tokens]))
        return made

    def _other_prompts(self, row: SourceRow, own: Prompt) -> list[Prompt]:
        """Drawn from the pool of the row's script, and where that is too small from the one of all scripts."""
        pools = self._pools = self._made_pools() if self._pools is None else self._pools
        kept: list[Prompt] = []
        for pool in (pools.get(main_script(row.question), []), pools[_ANY]):
            for index, prompt in Random(row.index).sample(pool, len(pool)):
                if index != row.index and prompt.ids != own.ids and prompt not in kept:
                    kept.append(prompt)
        return kept[: self.others]

    def _made_pools(self) -> dict[str | None, list[tuple[int, Prompt]]]:
        """The first prompts of each script, no two the same, with the numbers of their rows."""
        pools: dict[str | None, list[tuple[int, Prompt]]] = {_ANY: []}
        wanted: dict[str | None, list[SourceRow]] = {_ANY: []}
        for row in self.reference.rows:
            for name in (main_script(row.question), _ANY):
                rows = wanted.setdefault(name, [])
                if len(rows) < 2 * self.pool:  # some have no prompt, some the same one
                    rows.append(row)
        for name, rows in wanted.items():
            distinct: dict[tuple[int, ...], tuple[int, Prompt]] = {}
            for row, prompt in zip(rows, self.prompting.prompts(rows), strict=True):
                if not isinstance(prompt, Problem):
                    distinct.setdefault(prompt.ids, (row.index, prompt))
            pools[name] = list(distinct.values())[: self.pool]
        return pools

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
                elsewhere = [sum(n) for p in range(1, len(asked.prompts)) if (n := nats.get((p, a)))]
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

    def _nats(self, asked: _Asked) -> list[tuple[float, ...]]:
        pieces = list(asked.pieces.values())
        if self.scores is not None:
            return self.scores.nats(pieces, keep={prompt.ids for prompt in asked.prompts[1:]})
        return [score.nats for score in score_answers(self.loaded, pieces)]
