"""The alterations by the names that strategies have."""

from __future__ import annotations

from pipeline.candidates.alterations.alteration import Alteration
from pipeline.candidates.alterations.change_numbers import change_numbers
from pipeline.candidates.alterations.cut_short import cut_short
from pipeline.candidates.alterations.endings import irrelevant_ending, repeat, vague
from pipeline.candidates.alterations.entities import swap_entities
from pipeline.candidates.alterations.list_items import drop_items, reorder_items
from pipeline.candidates.alterations.opposite_words import opposite_words
from pipeline.candidates.alterations.other_rows import near_answer, random_answer, wrong_language
from pipeline.candidates.alterations.sql_change import sql_change

ALTERATIONS: dict[str, Alteration] = {
    "cut_short": cut_short,
    "drop_items": drop_items,
    "reorder_items": reorder_items,
    "swap_entities": swap_entities,
    "change_numbers": change_numbers,
    "opposite_words": opposite_words,
    "irrelevant_ending": irrelevant_ending,
    "wrong_language": wrong_language,
    "near_answer": near_answer,
    "random_answer": random_answer,
    "repeat": repeat,
    "vague": vague,
    "sql_change": sql_change,
}
