"""Beams of several prompts searched together are those of each prompt alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import pipeline.candidates.beam_search as beam_search
from pipeline.candidates.beam_search import beam_candidates
from pipeline.candidates.candidate import Cancelled, CandidateStrategy, Counter, SourceRow
from pipeline.candidates.model_maker import ModelMaker
from pipeline.candidates.prompting import Prompt, choose_prompting
from pipeline.checkpoint import open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.evaluation.replay_cases import read_cases
from pipeline.load_model import LoadedModel, load_model

SETTINGS: dict[str, Any] = {"num_beams": 5, "num_return_sequences": 2, "max_new_tokens": 24}


def asked(demo: DemoFolder, name: str, count: int = 18) -> tuple[LoadedModel, list[SourceRow], list[Prompt]]:
    checkpoint = open_checkpoint(str(demo.cases[name].checkpoint))
    loaded = load_model(checkpoint)
    rows = [case.row for case in read_cases(demo.cases[name].held_out_file, most=count).cases]
    with choose_prompting(loaded, checkpoint, [], format="declared" if "decoder" in name else "plain") as prompting:
        prompts = [prompt for prompt in prompting.prompts(rows) if isinstance(prompt, Prompt)]
    assert len({len(prompt.ids) for prompt in prompts}) > 2  # padding is needed
    return loaded, rows, prompts


@pytest.mark.parametrize("name", ["healthy_decoder", "never_stops_decoder", "healthy_t5"])
def test_together_is_alone(demo: DemoFolder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, _, prompts = asked(demo, name)
    alone = beam_candidates(loaded, prompts, **SETTINGS)
    batches: list[int] = []
    padded = beam_search._padded
    monkeypatch.setattr(beam_search, "_padded", lambda batch, *a, **k: batches.append(len(batch)) or padded(batch, *a, **k))
    for together in (4, 18):
        batches.clear()
        found = beam_candidates(loaded, prompts, together=together, **SETTINGS)
        assert [[b.ids for b in one] for one in found] == [[b.ids for b in one] for one in alone]
        assert [[b.ended for b in one] for one in found] == [[b.ended for b in one] for one in alone]
        assert [b.score for one in found for b in one] == pytest.approx([b.score for one in alone for b in one], abs=1e-5)
        assert max(batches) == together and (name == "healthy_t5" or batches.count(1) < 9)


def test_penalties_are_searched_alone(demo: DemoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """They look at the ids of the prompt, which padding would change."""
    loaded, _, prompts = asked(demo, "healthy_decoder", 6)
    seen: list[int] = []
    padded = beam_search._padded
    monkeypatch.setattr(beam_search, "_padded", lambda batch, *a, **k: seen.append(len(batch)) or padded(batch, *a, **k))
    for more in ({"repetition_penalty": 1.2}, {"no_repeat_ngram_size": 2}):
        beam_candidates(loaded, prompts, together=6, **SETTINGS, **more)
    assert seen == [1] * 12


def test_a_maker_searches_together(demo: DemoFolder) -> None:
    loaded, rows, _ = asked(demo, "healthy_decoder", 12)
    strategy = CandidateStrategy("beam", "beam", 1, {"num_beams": 3, "max_new_tokens": 16})
    checkpoint = open_checkpoint(str(demo.cases["healthy_decoder"].checkpoint))
    made = {}
    with choose_prompting(loaded, checkpoint, [], format="declared") as prompting:
        for size in (1, 24):
            ids: dict[int, tuple[int, ...]] = {}
            maker = ModelMaker(loaded, prompting, [strategy], batch_size=size,
                               told=lambda candidate, content, ids=ids: ids.update({candidate.row: tuple(content)}))  # fmt: skip
            assert maker.together == max(1, size // 3)
            counter = Counter()
            found = {row.index: one.text for row, [one] in maker.make(rows, cancel=threading.Event(), counter=counter)}
            assert len(found) == counter.candidates == len(ids) == 12
            assert all(loaded.tokenizer.decode(list(ids[place])).strip() == text for place, text in found.items())
            made[size] = found
        assert made[1] == made[24]
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Cancelled):
            list(maker.make(rows, cancel=cancel, counter=Counter()))
