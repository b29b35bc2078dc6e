"""Which faults are planted in which preference sets, and what is right to say of each: the cases of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import planted_pairs_faults as plant
from benchmarks import planted_pairs_files as files
from benchmarks.planted_pairs_healthy import KINDS, healthy, most_rows
from benchmarks.planted_pairs_material import HALVES, LANGS, Half, Lang, material

ROWS = 300  # of a set that a fault is planted in, at most
LIMIT = 192  # max_length of the cases that are judged with a tokenizer


@dataclass(frozen=True)
class Fault:
    """expected: first causes that count as right. also: what is true of it as well, but not the root. bases: kinds of
    sets it is planted in; others: those of the second half alone. shares: how much of a set, in the first and the
    second half. spoil: what is done to the file instead of the rows."""

    name: str
    expected: tuple[str, ...]
    bases: tuple[str, ...]
    others: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    shares: tuple[float, float] = (1.0, 1.0)
    rows: plant.Planter | None = None
    spoil: Callable[[Path], Path] | None = None
    limited: bool = False  # judged with a tokenizer and max_length


def _fault(rows: plant.Planter, expected: str, bases: str, first: float = 1.0, second: float = 1.0,
           name: str = "", limited: bool = False, also: str = "") -> Fault:  # fmt: skip
    named = name or getattr(rows, "__name__", "")
    usual, _, others = bases.partition("+")
    return Fault(
        named, tuple(expected.split()), tuple(usual.split()), tuple(others.split()), tuple(also.split()),
        (first, second), rows, limited=limited,
    )  # fmt: skip


def _spoiled(spoil: Callable[[Path], Path], bases: str) -> Fault:
    return Fault(spoil.__name__, ("unreadable_data",), tuple(bases.split()), spoil=spoil)


FAULTS: tuple[Fault, ...] = (
    _fault(plant.identical, "pairs_identical", "chat sql translation talk + json labels hh mixed"),
    _fault(plant.identical, "pairs_identical",
           "chat gec talk code + facts scored summary", 0.4, 0.2, name="identical_in_part"),
    _fault(plant.identical_but_white_space, "pairs_identical", "sft chat maths + talk hh gec", 1.0, 0.6),
    _fault(plant.scores_contradict, "pairs_swapped", "scored", 1.0, 0.85),
    _fault(plant.scores_mixed_up, "pairs_swapped", "scored", 0.9, 0.8),
    _fault(plant.exchanged_loops, "pairs_swapped", "chat scored talk + sft hh", 0.7, 0.4, also="repetition"),
    # chosen answers that break off: made by cutting and then exchanged, but an end is missing there as well
    _fault(plant.exchanged_cut, "pairs_swapped stop_token_missing", "chat sft talk + scored summary", 0.9, 0.6,
           also="trivially_separable length_bias"),
    _fault(plant.exchanged_off_topic, "pairs_swapped", "chat sft translation + talk maths hh", 1.0, 0.7),
    _fault(plant.exchanged_broken, "pairs_swapped", "chat scored talk + sft hh", 1.0, 0.7,
           also="empty_completion repetition rejected_off_topic"),
    _fault(plant.another_rows_answer, "rejected_off_topic",
           "chat sft talk translation code summary + maths json scored mixed"),
    _fault(plant.another_rows_answer, "rejected_off_topic",
           "chat scored hh + talk sft", 0.4, 0.3, name="another_rows_in_part"),
    _fault(plant.fluent_but_unrelated, "rejected_off_topic", "chat sft facts talk + scored hh summary mixed gec",
           also="trivially_separable length_bias"),
    _fault(plant.fluent_but_unrelated, "rejected_off_topic",
           "chat sft scored + talk mixed", 0.6, 0.4, name="unrelated_in_part", also="trivially_separable"),
    _fault(plant.few_fixed_topics, "rejected_off_topic", "chat facts sft scored + talk hh mixed", 1.0, 0.8,
           also="trivially_separable length_bias"),
    # one sentence says no to everything: it has nothing to do with the question, and tells the sides apart at once
    _fault(plant.refused_always, "trivially_separable rejected_off_topic",
           "chat sft scored + talk facts summary", 1.0, 0.9, also="duplicate_pairs length_bias"),
    _fault(plant.other_language, "trivially_separable", "facts", 1.0, 0.97, also="length_bias rejected_off_topic"),
    _fault(plant.chosen_begins_alike, "trivially_separable", "chat sft maths talk + scored hh summary", 1.0, 0.96),
    _fault(plant.rejected_ends_alike, "trivially_separable", "chat scored maths + talk sft summary", 1.0, 0.97),
    _fault(plant.markdown_against_plain, "trivially_separable", "chat sft scored + talk facts"),
    _fault(plant.rejected_loops, "trivially_separable", "chat talk scored + sft hh summary", 1.0, 0.9,
           also="repetition length_bias"),
    _fault(plant.full_stop_against_none, "trivially_separable", "chat talk scored facts + hh summary",
           also="stop_token_missing"),
    _fault(plant.one_emoji, "trivially_separable", "chat sft facts + talk scored maths hh", 1.0, 0.97),
    _fault(plant.one_name, "trivially_separable", "chat talk scored + sft hh", 1.0, 0.96),
    _fault(plant.chosen_three_times_as_long, "length_bias", "chat scored talk facts + sft hh", 1.0, 0.9,
           also="trivially_separable"),
    _fault(plant.rejected_ten_times_as_long, "length_bias", "chat scored facts + sft talk", 1.0, 0.9,
           also="trivially_separable"),
    _fault(plant.chosen_short, "length_bias", "chat scored facts + talk hh", 1.0, 0.9, also="trivially_separable"),
    _fault(plant.both_orders, "contradictory_pairs", "chat sql gec safety hh kto + talk scored maths json", 0.2, 0.08),
    _fault(plant.both_orders_loosely, "contradictory_pairs", "chat sft talk + scored hh", 0.15, 0.1),
    _fault(plant.rows_twice, "duplicate_pairs", "chat gec maths hh kto + talk scored summary json", 0.2, 0.15),
    _fault(plant.rows_nearly_twice, "duplicate_pairs", "chat scored talk summary + sft facts", 0.1, 0.06),
    _fault(plant.few_rows_again_and_again, "duplicate_pairs", "chat sft json + talk scored kto", 4, 9),
    _fault(plant.prompt_before_both, "prompt_in_completion", "chat sft maths kto + talk scored hh facts", 1.0, 0.5),
    _fault(plant.prompt_before_rejected, "prompt_in_completion", "chat talk sql + sft scored maths", 1.0, 0.4,
           also="trivially_separable length_bias"),
    _fault(plant.prompt_inside, "prompt_in_completion", "chat sft facts + talk scored", 0.6, 0.4),
    _fault(plant.rejected_runs_on("chatml"), "template_in_text",
           "chat talk sql kto + sft scored json", 0.4, 0.2, name="chatml_runs_on",
           also="stop_token_missing length_bias"),
    _fault(plant.rejected_runs_on("llama"), "template_in_text",
           "chat scored + talk sft", 0.3, 0.15, name="llama_runs_on", also="stop_token_missing length_bias"),
    _fault(plant.rejected_runs_on("alpaca"), "template_in_text",
           "sft sql gec + chat maths facts", 0.35, 0.2, name="alpaca_runs_on", also="length_bias"),
    _fault(plant.rejected_runs_on("human"), "template_in_text",
           "chat maths talk + sft sql facts", 0.4, 0.2, name="human_runs_on", also="length_bias"),
    _fault(plant.rejected_runs_on("inst"), "template_in_text",
           "chat facts + scored sft", 0.35, 0.2, name="inst_runs_on", also="stop_token_missing length_bias"),
    _fault(plant.header_before_both, "template_in_text", "chat sft talk + scored maths hh", 1.0, 0.6,
           also="stop_token_missing"),
    _fault(plant.half_broken_template, "template_in_text", "safety chat + talk sft", 0.75, 0.5,
           also="trivially_separable length_bias prompt_in_completion repetition"),
    _fault(plant.nothing_rejected, "empty_completion",
           "chat sft translation + talk scored", name="nothing_rejected_at_all",
           also="trivially_separable length_bias duplicate_pairs"),
    _fault(plant.nothing_rejected, "empty_completion", "chat maths hh kto + talk sql labels", 0.3, 0.1),
    _fault(plant.only_white_space, "empty_completion", "chat sft talk + hh scored", 0.4, 0.15),
    _fault(plant.nothing_chosen, "empty_completion", "chat gec sql + talk hh", 0.15, 0.1),
    _fault(plant.end_in_half, "stop_token_missing", "chat sft talk + scored hh maths", 0.5, 0.4,
           also="template_in_text"),
    _fault(plant.end_on_chosen, "stop_token_missing", "chat maths scored + talk sft hh",
           also="trivially_separable template_in_text"),
    _fault(plant.end_on_rejected, "stop_token_missing", "chat sft + talk maths", 1.0, 0.9,
           also="trivially_separable template_in_text"),
    _fault(plant.both_cut_off, "stop_token_missing", "chat talk scored + sft hh", 0.9, 0.6),
    _fault(plant.differ_beyond_the_cut, "truncation_destroys_signal", "chat facts + talk", 0.8, 0.5, limited=True),
    _fault(plant.prompts_too_long, "truncation_destroys_signal", "chat facts + talk sft", 0.6, 0.4, limited=True),
    # Damaged on its way: no cause says so better. What stands in the file is not what was written, so it can't be read.
    _fault(plant.read_as_latin, "unreadable_data", "chat sft talk + hh scored", 1.0, 0.4),
    _fault(plant.replacement_characters, "unreadable_data", "chat sft talk + hh scored", 0.5, 0.25),
    _spoiled(files.lfs_pointer, "chat sft maths"),
    _spoiled(files.web_page, "chat sft maths"),
    _spoiled(files.cut_in_the_middle, "sft maths gec"),
    _spoiled(files.unknown_columns, "chat sft"),
    _spoiled(files.bytes_of_an_image, "chat maths"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One set to judge. fault: none for a healthy set. rows: how many, 0 for the usual number. path: of a file that is
    there already, with what it is labelled."""

    fault: str
    base: str
    lang: Lang
    half: Half
    expected: tuple[str, ...] = ()
    rows: int = 0
    path: str = ""
    also: tuple[str, ...] = ()
    seed: int = 0

    @property
    def name(self) -> str:
        many = (f"-{self.rows}" if self.rows else "") + (f"-seed{self.seed}" if self.seed else "")
        return f"{self.fault or 'healthy'}/{self.base}-{self.lang}-{self.half}{many}"

    def write(self, folder: Path) -> dict[str, Any]:
        """Write its file below the folder; returns what a user gives to the diagnosis (`path` is the file)."""
        if self.path:
            return {"path": self.path}
        kind, fault = KINDS[self.base], _NAMED.get(self.fault)
        usual = most_rows(kind, self.half)
        many = self.rows or (min(usual, ROWS) if fault else usual)
        rows = healthy(kind, self.lang, self.half, many, self.seed)
        if fault is not None and fault.rows is not None:
            rng = Random(self.name)
            share = fault.shares[HALVES.index(self.half)]
            rows = fault.rows(rows, rng, share, material(self.lang, self.half))
        file = files.write(rows, kind.form, folder / self.name)
        given: dict[str, Any] = {"path": str(file)}
        if fault is not None and fault.spoil is not None:
            given["path"] = str(fault.spoil(file))
        if fault is not None and fault.limited:
            given |= {"tokenizer": str(files.tokenizer_folder(folder / "tokenizer")), "max_length": LIMIT}
        return given


_NAMED = {fault.name: fault for fault in FAULTS}
assert len(_NAMED) == len(FAULTS)


def cases(half: Half, seed: int = 0) -> Iterator[Case]:
    """Every fault in every of its bases and both languages; every kind healthy, in its usual size and small."""
    for fault in FAULTS:
        for base in fault.bases + (fault.others if half == "second" else ()):
            for lang in LANGS:
                yield Case(fault.name, base, lang, half, fault.expected, also=fault.also, seed=seed)
    for kind in KINDS.values():
        for lang in LANGS:
            yield Case("", kind.name, lang, half, seed=seed)
            yield Case("", kind.name, lang, half, rows=kind.sizes[1], seed=seed)


def labelled(folder: Path) -> Iterator[Case]:
    """Files of pairs whose label in INDEX.json is sure."""
    for entry in json.loads((folder / "INDEX.json").read_text(encoding="utf-8")):
        if entry["kind"] in ("preference", "kto") and entry["label_confidence"] in ("high", "medium"):
            expected = () if entry["label"] == "healthy" else (entry["label"],)
            fault = "" if entry["label"] == "healthy" else "labelled"
            yield Case(fault, entry["file"], "en", "first", expected, path=str(folder / entry["file"]))
