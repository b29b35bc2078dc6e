"""What models can do before and after: the same questions to each, right answers counted, differences paired.

Of an item with options the model's answer is the option with the highest log-likelihood per byte behind the question
(`acc_bytes` of lm-evaluation-harness, https://github.com/EleutherAI/lm-evaluation-harness), so that models that follow
no instruction can be measured too. Items without options are answered greedily and checked.

Of sixteen abilities one would often seem lost by chance. So an ability is called lost or gained only where its interval
says so at a level corrected for their number (Bonferroni), or where it does uncorrected and all languages of the
ability together do at one corrected for the number of those. The interval that is told is the uncorrected one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config
from pipeline.evaluation.ability_items import Item, plain_question
from pipeline.evaluation.adapters_on_base import ModelsOnBase
from pipeline.evaluation.results import (
    CASES,
    AbilitiesResult,
    Ability,
    AbilityChange,
    Difference,
    ModelNamed,
    Share,
    now,
)

if TYPE_CHECKING:
    from pipeline.candidates.prompting import Prompting
    from pipeline.load_model import LoadedModel

SAMPLE_ROWS = 32
_MOST_LOST = 64  # items that show a loss for any number of abilities
Told = Callable[[str, str, int, int], None]
"""Of how far it is: stage (`loading`, `answering`), model, items done, items in all."""


@dataclass(frozen=True)
class Answered:
    """One item answered by one model. right: None where it couldn't be asked or told. scores: nats per byte of each
    option, negative."""

    answer: str
    right: bool | None
    scores: tuple[float, ...] = ()
    problem: str = ""


@dataclass
class Outside:
    """Answers that another program made: items and, by model name, what became of them."""

    ability: str
    source: str
    chance: float
    questions: list[str]
    answers: dict[str, list[Answered]] = field(default_factory=dict)
    expected: list[str] = field(default_factory=list)


class Abilities:
    """The first of `names` is before, the others after, all of them of `models`. `run` asks; `result` gives what there
    is at any time, so that an interrupted run loses nothing."""

    def __init__(
        self, models: ModelsOnBase, names: Sequence[str], items: Sequence[Item], *, max_new_tokens: int,
        prompt_format: str = "auto", system: str | None = None, thinking: bool = False, batch_size: int | None = None,
        told: Told = lambda stage, model, done, total: None, note: Callable[[str], None] = lambda line: None,
        lang: str = "en",
    ) -> None:  # fmt: skip
        self.models, self.names, self.items = models, tuple(names), tuple(items)
        self.max_new_tokens, self.prompt_format, self.system = max_new_tokens, prompt_format, system
        self.thinking, self.batch_size, self.told, self.note, self.lang = thinking, batch_size, told, note, lang
        self.answers: dict[str, dict[int, Answered]] = {name: {} for name in names}
        self.formats: dict[str, str] = {}
        self.outside: list[Outside] = []
        self.interrupted = False
        self.seconds: dict[str, float] = {}
        self._fingerprints: dict[str, str] = {}
        self._began = time.monotonic()

    def run(self, *, cancel: threading.Event | None = None) -> None:
        """Raises Refused for a model that can't be loaded or fails on every item, NotScored, GenerationFailed; sets
        `interrupted` where `cancel` was set."""
        from pipeline.candidates.candidate import Cancelled
        from pipeline.score_answers import NotScored

        cancel = cancel or threading.Event()
        try:
            # before comes first where loading order leaves it, as nothing can be told without it
            order = sorted(self.models.order, key=lambda name: (self.models.placed[name].way == "apart",
                                                                name != self.names[0]))  # fmt: skip
            for name in order if self.items else ():
                if name not in self.names:
                    continue
                if cancel.is_set():
                    raise Cancelled
                began = time.monotonic()
                self.told("loading", name, 0, len(self.items))
                with self.models.using(name) as loaded:
                    self._ask(name, loaded, cancel)
                self.seconds[name] = round(time.monotonic() - began, 2)
        except Cancelled:
            self.interrupted = True
        except NotScored as failed:
            if failed.reason != "cancelled":
                raise
            self.interrupted = True
        finally:
            self.models.close()

    # --- one model ---

    def _ask(self, name: str, loaded: LoadedModel, cancel: threading.Event) -> None:
        from pipeline.candidates.prompting import choose_prompting

        placed = self.models.placed[name]
        self._fingerprints[name] = placed.files.fingerprint()
        sample = [item.row() for item in self.items[:SAMPLE_ROWS]]
        with choose_prompting(
            loaded, placed.tokenizer, sample, format=self.prompt_format, system=self.system, thinking=self.thinking
        ) as prompting:
            self.formats[name] = prompting.label
            for remark in prompting.remarks:
                self.note(f"{name}: {remark.said(self.lang)}")
            for _, items in groups(self.items):
                chosen = [item for item in items if item.options]
                self._choose(name, loaded, prompting, chosen, cancel)
                self._write(name, loaded, prompting, [item for item in items if not item.options], cancel)

    def _choose(
        self, name: str, loaded: LoadedModel, prompting: Prompting, items: Sequence[Item], cancel: threading.Event
    ) -> None:  # fmt: skip
        """By the likelihood of the options."""
        from pipeline.candidates.prompting import Problem
        from pipeline.score_answers import Piece, score_answers

        plain = not prompting.declared and prompting.name.startswith("plain")
        rows = [item.row(plain_question(item) if plain else None) for item in items]
        longest = max((len(option) for item in items for option in item.options), default=1)
        pieces: list[Piece] = []
        places: list[tuple[Item, list[int]]] = []
        held = self.answers[name]
        for item, prompt in zip(items, prompting.prompts(rows, new_tokens=longest), strict=True):
            if isinstance(prompt, Problem):
                held[item.number] = Answered("", None, (), prompt.problem)
                continue
            # "Answer:" is followed by a space in English and by none in Chinese
            gap = " " if plain and prompt.text.rstrip().endswith(":") else ""
            ids = prompting.answer_ids(prompt, [gap + option for option in item.options])
            if not all(ids):
                held[item.number] = Answered("", None, (), "empty_option")
                continue
            places.append((item, list(range(len(pieces), len(pieces) + len(ids)))))
            pieces += [Piece(prompt.ids, tuple(one)) for one in ids]
        done = len(held)
        each = max(1, len(pieces) // max(1, len(places)))
        scores = score_answers(
            loaded, pieces, cancel=cancel,
            progress=lambda n: self.told("answering", name, done + n // each, len(self.items)),
        ) if pieces else []  # fmt: skip
        for item, own in places:
            per_byte = tuple(-scores[place].total / len(option.encode("utf-8", "surrogatepass"))
                             for place, option in zip(own, item.options, strict=True))  # fmt: skip
            held[item.number] = _picked(item, per_byte)
        self.told("answering", name, len(held), len(self.items))

    def _write(
        self, name: str, loaded: LoadedModel, prompting: Prompting, items: Sequence[Item], cancel: threading.Event
    ) -> None:  # fmt: skip
        """In words, the likeliest token each time."""
        if not items:
            return
        from pipeline.candidates.candidate import CandidateStrategy
        from pipeline.candidates.candidate import Counter as Made
        from pipeline.candidates.model_maker import ModelMaker
        from pipeline.candidates.prompting import Prompt
        from pipeline.evaluation.replay_judging import Answered as Written
        from pipeline.evaluation.replay_judging import CaseJudge

        judge, held = CaseJudge(), self.answers[name]
        by_number = {item.number: item for item in items}
        rows = [item.row() for item in items]
        ids: dict[int, tuple[int, ...]] = {}

        def kept(candidate: Any, content: Sequence[int]) -> None:
            ids[candidate.row] = tuple(content)

        sample = prompting.prompts(rows[:SAMPLE_ROWS])
        strategy = CandidateStrategy("greedy", "greedy", 1, {"max_new_tokens": self.max_new_tokens})
        maker = ModelMaker(
            loaded, prompting, [strategy], seed=0, max_new_tokens=self.max_new_tokens, batch_size=self.batch_size,
            longest=max((len(one.ids) for one in sample if isinstance(one, Prompt)), default=512), told=kept,
        )  # fmt: skip
        for row, [made] in maker.make(rows, cancel=cancel, counter=Made()):
            item = by_number[row.index]
            problem = made.problem if made.problem not in (None, "empty_answer") else ""
            assert item.case is not None
            if problem:
                held[item.number] = Answered(made.text, None, (), problem)
            else:
                # an answer that goes on is right all the same where it is: ends are another measure
                written = Written(made.text, ids.pop(row.index, ()), True, made.tokens, "")
                status = judge.judge(item.case, written, name).status
                held[item.number] = Answered(made.text, status == "right")  # what can't be told isn't shown to be right
            self.told("answering", name, len(held), len(self.items))

    # --- what came of it ---

    @property
    def comparable(self) -> bool:
        """Whether before and one after have answered one item."""
        before, *afters = (self.answers[name] for name in self.names)
        return any(before.keys() & after.keys() for after in afters) or bool(self.outside)

    def result(self) -> AbilitiesResult:
        """Of what has been answered so far."""
        before, *afters = self.names
        by_ability: list[tuple[tuple[str, str, str], list[_Asked]]] = []
        for kind, items in groups(self.items):
            by_ability.append((kind, [
                _Asked(item.question, item.answer, item.chance, item.number,
                       {model: self.answers[model].get(item.number) for model in self.names}) for item in items
            ]))  # fmt: skip
        for one in self.outside:
            by_ability.append(((one.ability, "", one.source), [
                _Asked(question, expected, one.chance, place,
                       {model: held[place] for model, held in one.answers.items()})
                for place, (question, expected) in enumerate(zip(one.questions, one.expected, strict=True))
            ]))  # fmt: skip
        every = [asked for _, some in by_ability for asked in some]
        together = _all_languages(by_ability)
        of, of_together = len(by_ability), len(together)
        abilities = [_ability(kind, asked, self.names, of, together.get((kind[0], kind[2]), ()), of_together)
                     for kind, asked in by_ability]
        overall = {after: change(every, before, after, whole=True) for after in afters}
        problems = Counter(f"{model}: {answered.problem}" for model, held in self.answers.items()
                           for answered in held.values() if answered.problem)  # fmt: skip
        return AbilitiesResult(
            models=tuple(self._named(name) for name in self.names), abilities=tuple(abilities), overall=overall,
            interrupted=self.interrupted, created=now(), formats=dict(self.formats), left_out=dict(problems),
            seconds={"all": round(time.monotonic() - self._began, 2), **self.seconds},
        )  # fmt: skip

    def rows(self) -> Iterator[dict[str, Any]]:
        """One object an item, for the file of rows."""
        for item in self.items:
            held = {name: answers[item.number] for name, answers in self.answers.items() if item.number in answers}
            yield {
                "item": item.number, "ability": item.ability, "lang": item.lang, "source": item.source,
                "prompt": item.question, "options": list(item.options), "expected": item.answer,
                "answers": {name: one.answer for name, one in held.items()},
                "right": {name: one.right for name, one in held.items()},
                "scores": {name: list(one.scores) for name, one in held.items() if one.scores},
                "problems": {name: one.problem for name, one in held.items() if one.problem},
            }  # fmt: skip
        for one in self.outside:
            for place, (question, expected) in enumerate(zip(one.questions, one.expected, strict=True)):
                yield {
                    "item": place, "ability": one.ability, "lang": "", "source": one.source, "prompt": question,
                    "expected": expected, "answers": {name: held[place].answer for name, held in one.answers.items()},
                    "right": {name: held[place].right for name, held in one.answers.items()},
                }  # fmt: skip

    def _named(self, name: str) -> ModelNamed:
        role = "before" if name == self.names[0] else "after"
        return ModelNamed(name, self.models.placed[name].source, role, self._fingerprints.get(name, ""))


def groups(items: Sequence[Item]) -> list[tuple[tuple[str, str, str], list[Item]]]:
    """Items of one ability, language and source together, in the order they come."""
    found: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        found.setdefault((item.ability, item.lang, item.source), []).append(item)
    return list(found.items())


def _picked(item: Item, per_byte: tuple[float, ...]) -> Answered:
    if not all(map(math.isfinite, per_byte)):
        return Answered("", None, (), "not_finite")
    best = max(per_byte)
    if per_byte.count(best) == len(per_byte):  # a model that finds all alike says nothing
        return Answered("", False, per_byte)
    place = per_byte.index(best)
    return Answered(item.options[place], place == item.right, per_byte)


# --- figures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    question: str
    expected: str
    chance: float
    number: int
    answers: Mapping[str, Answered | None]

    def right(self, model: str) -> bool | None:
        held = self.answers.get(model)
        return None if held is None else held.right


def _all_languages(
    by_ability: Sequence[tuple[tuple[str, str, str], list[_Asked]]]
) -> dict[tuple[str, str], list[_Asked]]:  # fmt: skip
    """By name and source, of abilities that are asked in several languages."""
    kinds = Counter((name, source) for (name, _, source), _ in by_ability)
    found: dict[tuple[str, str], list[_Asked]] = {}
    for (name, _, source), asked in by_ability:
        if kinds[name, source] > 1:
            found.setdefault((name, source), []).extend(asked)
    return found


def _ability(
    kind: tuple[str, str, str], asked: Sequence[_Asked], names: Sequence[str], of: int, together: Sequence[_Asked],
    of_together: int,
) -> Ability:  # fmt: skip
    """of: abilities in all. together: the same ability in all languages, of so many."""
    from pipeline.evaluation.intervals import share_of

    before, *afters = names
    scores: dict[str, Share] = {}
    for model in names:
        told = [right for one in asked if (right := one.right(model)) is not None]
        if told:
            scores[model] = share_of(sum(told), len(told))
    chance = math.fsum(one.chance for one in asked) / len(asked)
    changes = tuple(change(asked, before, after, of=of, together=together, of_together=of_together)
                    for after in afters)  # fmt: skip
    return Ability(*kind, len(asked), chance, scores, changes, _lost(asked, before, afters))


def _lost(asked: Sequence[_Asked], before: str, afters: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """What was right before and is wrong after."""
    return tuple([
        {"item": one.number, "row": one.number, "model": after, "prompt": one.question, "expected": one.expected,
         "before": held.answer, "answer": lost.answer}
        for after in afters for one in asked
        if (held := one.answers.get(before)) is not None and held.right
        and (lost := one.answers.get(after)) is not None and lost.right is False
    ][:CASES])  # fmt: skip


def change(
    asked: Sequence[_Asked], before: str, after: str, *, whole: bool = False, of: int = 1,
    together: Sequence[_Asked] = (), of_together: int = 1,
) -> AbilityChange:  # fmt: skip
    """whole: of all items together, where smaller losses can be ruled out. of: abilities among which this is one, for
    which its verdict is corrected; together, of_together: as of `_ability`. The interval: Tango's, as of a win rate."""
    from pipeline.evaluation.intervals import bonferroni

    told = _told(asked, before, after)
    if not told:
        return AbilityChange(after, None, "cannot_tell")
    apart = sure = _difference(told)
    if of > 1:
        sure = _difference(told, bonferroni(of))
        if together and _same_side(apart, _difference(_told(together, before, after), bonferroni(of_together))):
            sure = apart
    chance = math.fsum(luck for *_, luck in told) / len(told)
    known = above_chance(sum(was for was, *_ in told), len(told), chance)
    knows = above_chance(sum(is_now for _, is_now, _ in told), len(told), chance)
    return AbilityChange(after, apart, verdict(apart, known, knows, whole=whole, sure=sure), shown_loss(len(told), of))


def _told(asked: Sequence[_Asked], before: str, after: str) -> list[tuple[bool, bool, float]]:
    """Of items that both answered: right before, right after, chance."""
    pairs = [(one.right(before), one.right(after), one.chance) for one in asked]
    return [(was, now_is, luck) for was, now_is, luck in pairs if was is not None and now_is is not None]


def _difference(told: Sequence[tuple[bool, bool, float]], confidence: float | None = None) -> Difference:
    from pipeline.evaluation.intervals import win_rate

    gained = sum(now_is and not was for was, now_is, _ in told)
    lost = sum(was and not now_is for was, now_is, _ in told)
    share = win_rate(gained, len(told) - gained - lost, lost, confidence=confidence)
    return Difference(2 * share.value - 1, 2 * share.low - 1, 2 * share.high - 1, len(told))


def _same_side(one: Difference, other: Difference) -> bool:
    return (one.high < 0 and other.high < 0) or (one.low > 0 and other.low > 0)


def verdict(
    difference: Difference, known: bool, knows: bool, *, whole: bool = False, sure: Difference | None = None
) -> str:  # fmt: skip
    """known, knows: whether the model before, after is above chance. sure: with the interval at the level that a loss
    or gain needs, where that is another."""
    sure = sure or difference
    if sure.low > 0 and knows:
        return "gained"
    if not known:
        return "cannot_tell"
    if sure.high < 0:
        return "lost"
    return "kept" if difference.low > -_limit("kept_within_all" if whole else "kept_within") else "no_difference"


def shown_loss(n: int, of: int = 1) -> float | None:
    """Smallest share of n items that, lost and none gained, is called a loss of one of so many abilities by its own
    items. None: not even all of them."""
    import numpy as np

    from pipeline.evaluation.intervals import bonferroni, win_rate_limits

    lost = np.arange(1, min(n, _MOST_LOST) + 1)
    _, high = win_rate_limits(np.zeros(len(lost)), n - lost, lost, confidence=bonferroni(of))
    shown = np.flatnonzero(high < 0.5)
    return float(lost[shown[0]] / n) if len(shown) else None


def above_chance(right: int, n: int, chance: float) -> bool:
    """Whether guessing would get so many right too seldom: the one-sided binomial test."""
    from scipy.stats import binom

    if not n:
        return False
    return bool(binom.sf(right - 1, n, chance) <= _limit("guessing")) if right else False


def _limit(name: str) -> float:
    return float(load_config("evaluation.yaml")["abilities"][name]["value"])

