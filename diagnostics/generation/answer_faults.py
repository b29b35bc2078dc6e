"""What is wrong with one answer, by the thresholds; and how loudly a share of such answers may be said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, warning
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.answer_overlap import same_units
from pipeline.repetition import longest_loop
from pipeline.sample_answers import Answer
from pipeline.script_of_text import garbled_share, script_counts, script_entropy, without_cut_character
from pipeline.written_markers import continues_legitimately, ends_like_a_turn, written_end_marker

Tell = Callable[..., Observation]


@dataclass(frozen=True)
class Faults:
    """Faults of one answer. cut: reached the limit although the gold answer is much shorter."""

    loop: bool
    empty: bool
    garbled: bool
    cut: bool

    @property
    def any(self) -> bool:
        return self.loop or self.empty or self.garbled or self.cut


_longest_loop = lru_cache(maxsize=4096)(longest_loop)  # several checks ask about the same answers


def is_loop(items: tuple[int, ...] | str, limits: Thresholds) -> bool:
    """Whether most of a text says one thing over and over, by token ids or by characters."""
    loop = _longest_loop(items, min_repeats=limits["gen_loop_repeats"])
    return loop is not None and loop.length >= limits["gen_loop_length"] and loop.share >= limits["gen_loop_share"]


def room_to_end(grid: AnswerGrid, row: int, limits: Thresholds) -> bool:
    """Whether the limit left this answer much more room than its gold answer needs."""
    gold = grid.asked[row].gold_tokens
    return gold is not None and grid.cap >= limits["gen_room"] * (gold + 1)


def gold_is_garbled(grid: AnswerGrid, row: int, limits: Thresholds) -> bool:
    gold = grid.asked[row].gold
    return gold is not None and is_garbled(gold, limits)


def is_garbled(text: str, limits: Thresholds) -> bool:
    """Replacement and control characters, or letters of many scripts in one answer."""
    text = without_cut_character(text)
    if garbled_share(text) >= limits["gen_garbled_characters"]:
        return True
    letters = sum(script_counts(text).values())
    return letters >= limits["gen_entropy_letters"] and script_entropy(text) >= limits["gen_script_entropy"]


def faults_of(grid: AnswerGrid, answer: Answer, limits: Thresholds) -> Faults:
    """The faults of one answer; what its gold answer has too is none."""
    gold = grid.asked[answer.row].gold
    content = tuple(i for i in before_other_end(grid, answer) if i not in grid.special)
    if written_end_marker(answer.plain) is not None or said_all(grid, answer, limits):
        loop = is_loop(own_words(grid, answer), limits)  # what follows the answer is nobody's text
    else:
        loop = is_loop(content, limits) or is_loop(answer.plain, limits)
    loop = loop and not (gold and is_loop(gold, limits))
    empty = not answer.plain.strip() and not (gold is not None and not gold.strip())
    garbled = is_garbled(own_words(grid, answer), limits) and not gold_is_garbled(grid, answer.row, limits)
    return Faults(loop, empty, garbled, not answer.ended and room_to_end(grid, answer.row, limits))


def other_end_place(grid: AnswerGrid, answer: Answer) -> int | None:
    """Where an answer holds a token that ends turns by its name, isn't a stop id, and is followed by at least three
    more tokens that are no further channel of the same answer. (Gemma writes <end_of_turn>, a line break, <eos>.)"""
    ids = answer.content_ids
    for place, token in enumerate(ids[:-3]):
        name = grid.token_names.get(token)
        if name is not None and token not in grid.stops and ends_like_a_turn(name):
            return None if continues_legitimately(answer.text.split(name, 1)[-1]) else place
    return None


def own_words(grid: AnswerGrid, answer: Answer) -> str:
    """The text that was meant as the answer: up to an end marker written out, and of an answer that ran on although
    its gold answer is known, one and a half times the gold's length. What comes later only says that it ran on."""
    text = answer.plain
    if (marker := written_end_marker(text)) is not None:
        text = text.split(marker)[0]
    gold = grid.asked[answer.row].gold
    if not answer.ended and gold is not None:
        text = text[: max(24, len(gold) * 3 // 2)]
    return text


def said_all(grid: AnswerGrid, answer: Answer, limits: Thresholds) -> bool:
    """Whether an answer that was cut off begins with all of its gold answer: it was complete and ran on."""
    gold = grid.asked[answer.row].gold
    if answer.ended or not gold or len(answer.plain) <= len(gold):
        return False
    return same_units(answer.plain[: len(gold)], gold) >= limits["gen_said_all"]


def before_other_end(grid: AnswerGrid, answer: Answer) -> tuple[int, ...]:
    """The tokens of an answer up to where the model meant to end it."""
    place = other_end_place(grid, answer)
    return answer.content_ids if place is None else answer.content_ids[:place]


def share(flags: Sequence[bool]) -> float:
    """Share of true ones; 0 of none."""
    return sum(flags) / len(flags) if flags else 0.0


def enough(grid: AnswerGrid, limits: Thresholds) -> None:
    """Raises NotMeasured where too few prompts were asked to speak of a share, and where the scores are NaN: what
    such a model writes is no answer, and GEN012 says so."""
    least = int(limits["gen_answers_min"])
    if share([a.non_finite > 0 for a in grid.answers["greedy"]]) > 0.5:
        raise NotMeasured("scores_not_finite")
    if len(grid.asked) < least:
        raise NotMeasured("too_few_answers", n=len(grid.asked), least=least)


def loud(grid: AnswerGrid, limits: Thresholds) -> tuple[Tell, Tell]:
    """(how to say something bad, how to say something doubtful).

    Built-in prompts may be foreign to what a model was made for, and a base model owes nobody an answer: what they
    show is said one step more quietly than what the user's own prompts show, and of a model so small that it was
    surely made for something narrower it is only told.
    """
    if grid.source != "probes":
        return error, warning
    return (info if grid.parameters < limits["gen_probes_parameters"] else warning), info


def quoted(answer: Answer, limit: int = 160) -> str:
    """The answer with special tokens visible, for evidence."""
    return answer.text if len(answer.text) <= limit else answer.text[:limit] + "…"


def where(grid: AnswerGrid, answer: Answer) -> str:
    """How evidence names an answer: `greedy answer to row 3`."""
    return f"{answer.strategy}:{grid.asked[answer.row].id}"
