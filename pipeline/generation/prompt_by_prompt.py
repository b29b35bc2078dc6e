"""Answers of models that slots don't suit: transformers' own `generate`, one prompt with all its answers at a time.

Slower, but an answer depends on nothing outside its prompt here either: its row in the batch is always the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.generation.decoding import Settings, Uniforms, penalise, take
from pipeline.generation.slot_engine import Finished, Work
from pipeline.load_model import LoadedModel
from pipeline.sample_answers import GenerationCancelled, StopOnEvent, generation_config, stop_ids, without_advice


def answer_prompt_by_prompt(
    loaded: LoadedModel, works: Iterable[Work], *, cancel: threading.Event | None = None
) -> Iterator[Finished]:
    """Every wanted answer once, prompt by prompt. Raises GenerationCancelled within a step once `cancel` is set."""
    for work in works:
        if work.wanted:
            yield from _answers(loaded, work, cancel)


def _answers(loaded: LoadedModel, work: Work, cancel: threading.Event | None) -> list[Finished]:
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    stops = stop_ids(loaded.core)
    pad = stops[0] if stops else 0
    ids = torch.tensor([list(work.ids)] * len(work.wanted), device=loaded.device)
    choice = _Choice(work, 1 if loaded.is_encoder_decoder else len(work.ids), stops)
    longest = max(w.max_new_tokens for w in work.wanted)
    with generation_config(loaded.core, {"do_sample": False}, longest, pad), torch.inference_mode(), without_advice():
        out = loaded.core.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), logits_processor=LogitsProcessorList([choice]),
            stopping_criteria=StoppingCriteriaList([StopOnEvent(cancel)]),
        )  # fmt: skip
    if cancel is not None and cancel.is_set():
        raise GenerationCancelled
    made = out[:, choice.prompt :].tolist()
    return [_finished(work, i, row, stops, choice.bad) for i, row in enumerate(made)]


def _finished(work: Work, place: int, row: list[int], stops: tuple[int, ...], bad: dict[int, int]) -> Finished:
    wanted = work.wanted[place]
    row = row[: min(wanted.max_new_tokens, bad.get(place, len(row)))]
    end = next((i for i, token in enumerate(row) if token in stops), None)
    if end is not None:
        return Finished(wanted.key, tuple(row[: end + 1]), row[end])
    return Finished(wanted.key, tuple(row), None, finite=place not in bad)


class _Choice:
    """A logits processor that takes each row's next token and leaves `generate` no other."""

    def __init__(self, work: Work, prompt: int, stops: tuple[int, ...]) -> None:
        self.work, self.prompt, self.stops = work, prompt, stops
        self.uniforms = [Uniforms(w.seed) for w in work.wanted]
        self.settings: Settings | None = None
        self.bad: dict[int, int] = {}  # row: the first place whose scores weren't finite

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        wanted = self.work.wanted
        if self.settings is None:
            self.settings = Settings([w.decoding for w in wanted], scores.device)
        place = input_ids.shape[1] - self.prompt
        scores = scores.float()
        sound = torch.isfinite(scores.amax(-1)) & ~torch.isnan(scores).any(-1)
        if not bool(sound.all()):
            scores = torch.where(sound[:, None], scores, 0.0)
            for i in (~sound).nonzero()[:, 0].tolist():
                self.bad.setdefault(i, place)
        for i in self.settings.penalised:
            penalise(scores[i], wanted[i].decoding, input_ids[i].tolist(), place, self.stops)
        drawn = torch.tensor([u.at(place) for u in self.uniforms], dtype=torch.float64, device=scores.device)
        tokens, _ = take(scores, self.settings, drawn, 0.0)
        return torch.full_like(scores, -float("inf")).scatter_(1, tokens[:, None], 0.0)
