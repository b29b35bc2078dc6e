"""A small part of the planted preference sets: 27 faults and 12 healthy kinds in both languages, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.planted_pairs_cases import FAULTS, Case
from benchmarks.planted_pairs_healthy import KINDS, most_rows
from benchmarks.planted_pairs_material import LANGS

ROWS = 120  # at most: each is judged in a fraction of a second
# A fault, and the kind of set it is planted in.
PLANTED = {
    "identical_in_part": "chat", "identical_but_white_space": "maths", "scores_contradict": "scored",
    "exchanged_loops": "talk", "exchanged_off_topic": "chat", "another_rows_answer": "sft",
    "fluent_but_unrelated": "facts", "few_fixed_topics": "chat", "refused_always": "sft", "other_language": "facts",
    "chosen_begins_alike": "maths", "markdown_against_plain": "scored", "rejected_loops": "chat", "one_emoji": "sft",
    "chosen_three_times_as_long": "talk", "rejected_ten_times_as_long": "chat", "both_orders": "sql",
    "rows_twice": "gec", "rows_nearly_twice": "chat", "prompt_before_both": "sft", "chatml_runs_on": "sql",
    "nothing_rejected": "hh", "end_in_half": "chat", "both_cut_off": "talk", "differ_beyond_the_cut": "facts",
    "read_as_latin": "chat", "cut_in_the_middle": "gec",
}  # fmt: skip
HEALTHY = ("chat", "gec", "sft", "sql", "translation", "safety", "maths", "talk", "labels", "scored", "kto", "hh")


def planted_cases() -> list[Case]:
    """Every fault of PLANTED in both languages; `expected` holds the first causes that are right."""
    known = {fault.name: fault for fault in FAULTS}
    return [
        Case(name, base, lang, "first", known[name].expected, min(ROWS, most_rows(KINDS[base], "first")))
        for name, base in PLANTED.items()
        for lang in LANGS
    ]


def healthy_cases() -> list[Case]:
    """Sets of which nothing is to be said, in both languages."""
    return [
        Case("", base, lang, "first", rows=min(ROWS, most_rows(KINDS[base], "first")))
        for base in HEALTHY
        for lang in LANGS
    ]


def options(case: Case, folder: Path) -> dict[str, Any]:
    """Write the file of a case below the folder: the arguments of `diagnose_pairs`."""
    return case.write(folder)
