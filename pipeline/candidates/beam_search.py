"""Beam search and diverse beam search, with the beams that each prompt has alone.

Diverse: groups of beams, each kept from the tokens that the groups before it took at the same place (Hamming
diversity), https://arxiv.org/abs/1610.02424, algorithm 1. transformers 5 has no such search of its own; plain beams are
the case of one group and equal its beams in every token. What goes into the model, its cache and its processors of
scores are transformers' (`generate` with `custom_generate`). Its own loop is not used for plain beams either: it gives
a score only together with those of every step, beams x vocabulary numbers each.

Padding and other prompts in a batch change the last digits of the scores and with them, where two beams are nearly
equal, the beams. So plain beams of several prompts are searched together in full precision only, and a prompt in whose
search two scores came within DOUBT of each other where that decides is searched again alone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.candidates.candidate import Cancelled
from pipeline.candidates.prompting import Prompt
from pipeline.refusal import Refused
from pipeline.sample_answers import GenerationFailed, generation_config, pad_id, stop_ids, without_advice

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

NEVER = -1.0e9  # a score that no beam reaches
# By how much two sums of log-probabilities of about -100 may differ, alone and among others, in float32. Of sums of
# -400 up to 1e-4 was seen (benchmarks/replay_adapters.py).
DOUBT = 1e-4


@dataclass(frozen=True)
class Beam:
    """One answer. ids: with the end token where it ended. score: what it was ranked by, the sum of its tokens'
    log-probabilities (less the penalties) over length ** length_penalty. group: of diverse beams, from 0."""

    ids: tuple[int, ...]
    ended: bool
    score: float
    group: int = 0


def beam_candidates(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, num_beams: int, num_return_sequences: int,
    num_beam_groups: int = 1, diversity_penalty: float = 0.0, length_penalty: float = 1.0,
    early_stopping: bool | str = False, no_repeat_ngram_size: int = 0, repetition_penalty: float = 1.0,
    max_new_tokens: int, cancel: threading.Event | None = None, together: int = 1,
) -> list[list[Beam]]:  # fmt: skip
    """The best `num_return_sequences` beams of each prompt, best first; of groups the best of each, then the second of
    each. Fewer where the vocabulary allows no more. together: prompts searched at a time, where that gives the same.

    The other names mean what they mean in GenerationConfig. Raises Refused for numbers that don't go together,
    GenerationFailed with what the model said, Cancelled.
    """
    import torch

    check_beams(num_beams, num_return_sequences, num_beam_groups, diversity_penalty)
    settings = {
        "num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping,
        "no_repeat_ngram_size": no_repeat_ngram_size, "repetition_penalty": repetition_penalty,
    }  # fmt: skip
    suits = num_beam_groups == 1 and not no_repeat_ngram_size and repetition_penalty == 1.0 and together > 1
    if not suits or loaded.dtype not in ("float32", "float64"):
        together = 1

    def searched(batch: Sequence[Prompt]) -> list[list[Beam] | None]:
        search = _Search(
            num_beams, num_beam_groups, diversity_penalty, length_penalty, early_stopping, max_new_tokens,
            stop_ids(loaded.core), pad_id(loaded), cancel, num_return_sequences if len(batch) > 1 else 0,
        )  # fmt: skip
        ids, mask = _padded(batch, pad_id(loaded), left=not loaded.is_encoder_decoder)
        try:
            with (
                generation_config(loaded.core, settings, max_new_tokens, pad_id(loaded)), torch.inference_mode(),
                without_advice(),
            ):  # fmt: skip
                found: list[list[Beam] | None] = loaded.core.generate(
                    input_ids=torch.tensor(ids, device=loaded.device),
                    attention_mask=torch.tensor(mask, device=loaded.device), custom_generate=search.run,
                )
        except Cancelled:
            raise
        except Exception as refused:
            raise GenerationFailed(f"{type(refused).__name__}: {refused}".splitlines()[0][:300]) from None
        return found

    made: dict[int, list[Beam]] = {}
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place].ids)) if together > 1 else []
    for start in range(0, len(by_length), together):
        places = by_length[start : start + together]
        if len(places) < 2:
            continue
        try:
            found = searched([prompts[place] for place in places])
        except GenerationFailed:  # alone it is told which of them it is, or there is memory enough
            continue
        made |= {place: beams for place, beams in zip(places, found, strict=True) if beams is not None}
    for place, prompt in enumerate(prompts):
        if place not in made:
            [beams] = searched([prompt])
            assert beams is not None
            made[place] = beams
    return [made[place][:num_return_sequences] for place in range(len(prompts))]


def _padded(batch: Sequence[Prompt], pad: int, *, left: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Ids and mask of equal length."""
    longest = max(len(prompt.ids) for prompt in batch)
    ids, mask = [], []
    for prompt in batch:
        gap = longest - len(prompt.ids)
        ids.append([pad] * gap + list(prompt.ids) if left else list(prompt.ids) + [pad] * gap)
        mask.append([0] * gap + [1] * len(prompt.ids) if left else [1] * len(prompt.ids) + [0] * gap)
    return ids, mask


def check_beams(num_beams: int, num_return_sequences: int, num_beam_groups: int, diversity_penalty: float) -> None:
    """Raises Refused for numbers that don't go together."""
    if num_beams < 1 or not 1 <= num_return_sequences <= num_beams:
        raise Refused("beams_too_few", wanted=num_return_sequences, beams=num_beams)
    if num_beam_groups < 1 or num_beams % num_beam_groups:
        raise Refused("beam_groups_uneven", beams=num_beams, groups=num_beam_groups)
    if num_beam_groups > 1 and not diversity_penalty > 0:
        raise Refused("beam_groups_without_penalty")


@dataclass
class _Group:
    """Beams that compete with each other. running: their scores, (beams,). finished: answers that ended or reached the
    limit, best first, at most as many as there are beams. open: whether a running beam may still beat them."""

    running: Any
    finished: list[Beam] = field(default_factory=list)
    open: bool = True
    done: bool = False
    unsure: bool = False


class _Search:
    """One search of one or more prompts; `run` is what `generate` calls. wanted: of beams, where nearly equal scores
    are looked out for; 0 where they aren't."""

    def __init__(
        self, beams: int, groups: int, diversity: float, length_penalty: float, early: bool | str, limit: int,
        stops: Sequence[int], pad: int, cancel: threading.Event | None, wanted: int = 0,
    ) -> None:  # fmt: skip
        self.wanted = wanted
        self.size = beams // groups
        self.count = groups
        self.diversity, self.length_penalty, self.early = diversity, length_penalty, early
        self.limit, self.stops, self.pad, self.cancel = limit, frozenset(stops), pad, cancel

    def run(
        self, model: Any, input_ids: Any, logits_processor: Any, stopping_criteria: Any, generation_config: Any,
        **model_kwargs: Any,
    ) -> list[list[Beam] | None]:  # fmt: skip
        """The beams of each prompt, None for one that has to be searched alone. input_ids: the prompts (the decoder's
        start in an encoder-decoder), each once for each beam. The limit and the stop ids stand in for
        stopping_criteria."""
        import torch

        sequences, first, beams = input_ids, input_ids.shape[1], self.size * self.count
        # One beam of each group is alive at first, so that no two of them are the same.
        start = torch.full((self.size,), NEVER, device=input_ids.device)
        start[0] = 0.0
        all_groups = [
            [_Group(start.clone()) for _ in range(self.count)] for _ in range(input_ids.shape[0] // beams)
        ]  # fmt: skip
        alive = list(all_groups)
        for step in range(self.limit):
            if self.cancel is not None and self.cancel.is_set():
                raise Cancelled
            inputs = model.prepare_inputs_for_generation(
                sequences, next_sequence_length=1 if step and model_kwargs.get("use_cache") else None,
                is_first_iteration=not step, **model_kwargs,
            )  # fmt: skip
            outputs = model(**inputs, return_dict=True)
            model_kwargs = model._update_model_kwargs_for_generation(
                outputs, model_kwargs, is_encoder_decoder=model.config.is_encoder_decoder
            )
            logits = outputs.logits[:, -1, :].to(copy=True, dtype=torch.float32)
            del outputs
            scores = logits_processor(sequences, torch.log_softmax(logits, dim=-1))
            parents, tokens, going = [], [], []
            for place, groups in enumerate(alive):
                rows = slice(place * beams, (place + 1) * beams)
                parent, token = self._step(groups, scores[rows], sequences[rows, first:])
                if all(group.done for group in groups) or any(group.unsure for group in groups):
                    continue
                going.append(groups)
                parents.append(parent + rows.start)
                tokens.append(token)
            if not going:
                break
            if len(going) < len(alive):  # their rows go, from what the model is given too
                kept, held = torch.cat(parents), sequences.shape[0]
                model_kwargs = {name: _rows_of(value, kept, held) for name, value in model_kwargs.items()}
            alive, kept = going, torch.cat(parents)
            sequences = torch.cat((sequences[kept], torch.cat(tokens)[:, None]), dim=1)
            self._reorder(model, model_kwargs, kept)
        return [self._ranked(groups) for groups in all_groups]

    def _ranked(self, groups: Sequence[_Group]) -> list[Beam] | None:
        ranked = [beam for rank in zip(*(self._padded(g) for g in groups), strict=True) for beam in rank]
        found = [beam for beam in ranked if beam is not None]
        close = any(
            one.score - other.score < DOUBT for one, other in zip(found[: self.wanted], found[1:], strict=False)
        )  # fmt: skip
        unsure = any(group.unsure for group in groups)
        return None if self.wanted and (unsure or close or len(found) < self.wanted) else found

    def _padded(self, group: _Group) -> list[Beam | None]:
        return [*group.finished, *[None] * (self.size - len(group.finished))]

    def _reorder(self, model: Any, model_kwargs: dict[str, Any], parents: Any) -> None:
        cache = model_kwargs.get("past_key_values")
        if cache is None:
            return
        if hasattr(model, "_reorder_cache"):
            model_kwargs["past_key_values"] = model._reorder_cache(cache, parents)
        else:
            cache.reorder_cache(parents)

    def _step(self, groups: Sequence[_Group], scores: Any, made: Any) -> tuple[Any, Any]:
        """One token further. scores: log-probabilities, (beams, vocabulary); made: new tokens so far, (beams, step).
        Gives the beam that each next beam continues and its token, both (beams,)."""
        import torch

        taken = torch.zeros(scores.shape[-1], device=scores.device)
        parents, tokens = [], []
        for number, group in enumerate(groups):
            rows = slice(number * self.size, (number + 1) * self.size)
            if group.done:  # its rows stay in the batch, and nobody looks at them
                parents.append(torch.arange(rows.start, rows.stop, device=scores.device))
                tokens.append(torch.full((self.size,), self.pad, device=scores.device))
                continue
            own = scores[rows] - self.diversity * taken if number else scores[rows]
            beam, token, over = self._group_step(group, own, made[rows], number)
            parents.append(beam + rows.start)
            tokens.append(token)
            taken += torch.bincount(torch.cat((token, over)), minlength=taken.shape[0])
        return torch.cat(parents), torch.cat(tokens)

    def _group_step(self, group: _Group, scores: Any, made: Any, number: int) -> tuple[Any, Any, Any]:
        """The same for one group, and the last tokens of the answers that end here. As transformers decides: the best
        continuations, twice as many as beams and more where there are several stop ids, so that enough of them go on;
        an answer counts as finished only if it ends among the best `size`."""
        import torch

        size, length = self.size, made.shape[1] + 1
        total = (scores + group.running[:, None]).reshape(-1)
        values, places = total.topk(min(max(2, 1 + len(self.stops)) * size, total.shape[0]))
        beams, tokens = places // scores.shape[-1], places % scores.shape[-1]
        ended = [token in self.stops for token in tokens.tolist()]
        hits = [end or length >= self.limit for end in ended]
        full = len(group.finished) == size
        if group.open and not (full and self.early is True):
            reached = values / length**self.length_penalty  # float32, as its ties are decided
            for place, value in enumerate(reached.tolist()[:size]):
                if hits[place] and value > NEVER and math.isfinite(value):
                    ids = (*made[beams[place]].tolist(), int(tokens[place]))
                    group.finished.append(Beam(ids, ended[place], value, number))
            group.finished.sort(key=lambda beam: -beam.score)
            del group.finished[size:]
        going = values + torch.tensor(hits, device=values.device).float() * NEVER
        kept = going.topk(size)[1]
        group.running = going[kept]
        if self.wanted:
            group.unsure = self._close(values, hits, going)
        full = len(group.finished) == size
        longest = self.limit if self.early == "never" and self.length_penalty > 0 else length
        best = float(group.running[0] / longest**self.length_penalty)
        if self.wanted and group.open and full and abs(best - group.finished[-1].score) < DOUBT:
            group.unsure = True
        group.open = group.open and not (full and best <= group.finished[-1].score)
        group.done = not group.open or (full and self.early is True) or all(hits)
        return beams[kept], tokens[kept], tokens[:size][torch.tensor(hits[:size], device=tokens.device)]

    def _close(self, values: Any, hits: Sequence[bool], going: Any) -> bool:
        """Whether other last digits could let other beams go on, or other answers count as finished. values: of the
        best continuations, best first; going: the same without those that end here."""
        size = self.size
        if values.shape[0] <= size:
            return True
        doubt = DOUBT * max(1.0, abs(float(values[0])) / 100)
        if not all(hits):
            least, next_one = going.topk(size + 1)[0][-2:].tolist()
            alive = least > NEVER / 2  # the first step has one beam
            if alive and (next_one < NEVER / 2 or least - next_one < doubt):
                return True
        ranked = values.tolist()
        inside, outside = ranked[size - 1], ranked[size]
        return any(
            hit and value > NEVER / 2 and (value - outside if place < size else inside - value) < doubt
            for place, (hit, value) in enumerate(zip(hits, ranked, strict=True))
        )


def _rows_of(value: Any, rows: Any, held: int) -> Any:
    """Of what goes into the model, the part of these rows; a cache is put in order apart."""
    import torch
    from transformers.utils.generic import ModelOutput

    if isinstance(value, torch.Tensor):
        return value[rows] if value.dim() and value.shape[0] == held else value
    if isinstance(value, ModelOutput):
        return type(value)(**{name: _rows_of(part, rows, held) for name, part in value.items()})
    return value
