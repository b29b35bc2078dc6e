"""Many answers at a time: every row that ends leaves its slot to the next prompt.

A prompt goes through the model once for all its answers. What an answer is depends on its prompt, its decoding and its
seed alone: not on the order, on the number of slots or on what else is in them. The scores of a row do differ in their
last digits with the shape of the batch; so where such a difference could turn a choice (two scores nearly equal, a
random number next to a border), the row's scores are computed once more by themselves, and those decide: where it is
greedy in the very steps of transformers' `generate` for one row, so that both give the same. That holds in float32,
whose differences are small against DOUBT; in half precision they are not, and answers may differ with the batch.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.generation.decoding import Decoding, Settings, Uniforms, penalise, take
from pipeline.generation.slot_cache import Slots, prefill_cache
from pipeline.load_model import LoadedModel
from pipeline.sample_answers import GenerationCancelled, stop_ids
from pipeline.score_answers import start_id

DOUBT = 3e-6
"""By what share of the largest score two computations of one row may differ in float32. Seen on random models of 2 to
24 layers: up to 8e-7."""
PREFILL_TOKENS = 8192  # prompt tokens, padding included, that go through the model at once
PREFILL_PROMPTS = 64


@dataclass(frozen=True)
class Wanted:
    """One answer to make. key: the caller's. seed: of its draws; unused where greedy."""

    key: Any
    decoding: Decoding
    seed: int
    max_new_tokens: int


@dataclass(frozen=True)
class Work:
    """A prompt as token ids with all answers wanted to it."""

    ids: tuple[int, ...]
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Finished:
    """An answer. ids: up to and with the stop token; stop_id: that token, None where it was cut off at its limit.
    alone: how many of its tokens were decided alone. finite: False where scores were NaN or infinite; it ends there."""

    key: Any
    ids: tuple[int, ...]
    stop_id: int | None
    alone: int = 0
    finite: bool = True


@dataclass
class _Row:
    """An answer under way."""

    work: Work
    wanted: Wanted
    uniforms: Uniforms | None
    made: list[int] = field(default_factory=list)
    alone: int = 0
    shadow: _Alone | None = None


@dataclass
class _Ready:
    """A row whose prompt is prefilled: it waits for a slot."""

    row: _Row
    cache: Any
    place: int
    length: int
    encoder_length: int


class SlotEngine:
    """Makes answers with one loaded model. slots: how many at a time."""

    def __init__(self, loaded: LoadedModel, *, slots: int) -> None:
        self.loaded = loaded
        self.model = loaded.core
        self.encoder = loaded.is_encoder_decoder
        self.slots = max(1, slots)
        self.stops = frozenset(stop_ids(self.model))
        self.doubt = DOUBT if loaded.dtype in ("float32", "float64") else 0.0
        self.scale = 1.0
        self.start = start_id(loaded) if self.encoder else 0
        accepted = set(inspect.signature(self.model.forward).parameters)
        self.gives_positions = "position_ids" in accepted and not self.encoder
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def run(self, works: Iterable[Work], *, cancel: threading.Event | None = None) -> Iterator[Finished]:
        """Every wanted answer once, in the order they end. Takes from `works` only what the slots need next. Raises
        GenerationCancelled within a step once `cancel` is set."""
        import torch

        # entered and left around each stretch of work, never across a yield: the caller's own mode is its own
        source, ready, slots = iter(works), deque[_Ready](), Slots(self.slots, self.loaded.device, encoder=self.encoder)
        batch = _Batch(slots)
        more = True
        while True:
            ended: list[Finished] = []
            if cancel is not None and cancel.is_set():
                raise GenerationCancelled
            with torch.inference_mode():
                while (more or ready) and batch.wants(self.slots, bool(ready)):
                    if ready:
                        batch.fill(ready, self.slots)
                        continue
                    group = self._next_works(source, self.slots - batch.live)
                    more = bool(group)
                    for one in self._prefill(group) if group else ():
                        done = isinstance(one, Finished)
                        (ended if done else ready).append(one)  # type: ignore[arg-type]
                    if ended:
                        break
                if not ended and batch.live:
                    if not more and not ready:
                        batch.close_up()
                    ended = self._step(batch)
            yield from ended
            if not ended and not batch.live and not ready and not more:
                return

    def _next_works(self, source: Iterator[Work], answers: int) -> list[Work]:
        """Prompts for that many free slots, few enough to go through the model at once."""
        group: list[Work] = []
        widest, wanted = 0, 0
        while wanted < answers and len(group) < PREFILL_PROMPTS:
            work = next(source, None)
            if work is None:
                break
            group.append(work)
            wanted += len(work.wanted)
            widest = max(widest, len(work.ids))
            if widest * (len(group) + 1) > PREFILL_TOKENS:
                break
        return group

    # --- prompts ---

    def _prefill(self, group: Sequence[Work]) -> list[_Ready | Finished]:
        cache = prefill_cache(encoder=self.encoder)
        scores = self._read(group, cache)
        rows, places = [], []
        for place, work in enumerate(group):
            for wanted in work.wanted:
                rows.append(_Row(work, wanted, Uniforms(wanted.seed) if wanted.decoding.draws else None))
                places.append(place)
        if not rows:
            return []
        self.scale = max(self.scale, float(scores.abs().nan_to_num(0, 0, 0).max()))
        import torch

        tokens, finite = self._choose(scores[torch.tensor(places, device=scores.device)], rows, None)
        made: list[_Ready | Finished] = []
        for row, place, token, sound in zip(rows, places, tokens, finite, strict=True):
            done = self._took(row, token, sound)
            own = 1 if self.encoder else len(row.work.ids)
            made.append(done or _Ready(row, cache, place, own, len(row.work.ids) if self.encoder else 0))
        return made

    def _read(self, group: Sequence[Work], cache: Any) -> Any:
        """Scores of what follows each prompt, (prompts, vocabulary) in float32; the cache is filled."""
        import torch

        widest = max(len(w.ids) for w in group)
        fill = [widest - len(w.ids) for w in group]
        if self.encoder:
            ids = [[*w.ids, *[0] * n] for w, n in zip(group, fill, strict=True)]
            mask = [[1] * len(w.ids) + [0] * n for w, n in zip(group, fill, strict=True)]
        else:
            ids = [[0] * n + list(w.ids) for w, n in zip(group, fill, strict=True)]
            mask = [[0] * n + [1] * len(w.ids) for w, n in zip(group, fill, strict=True)]
        device = self.loaded.device
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device),
        }  # fmt: skip
        if self.encoder:
            inputs["decoder_input_ids"] = torch.full((len(group), 1), self.start, device=device)
        elif self.gives_positions:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        out = self.model(**inputs, past_key_values=cache, use_cache=True, **self.last_only)
        return out.logits[:, -1].float()

    # --- one step of all slots ---

    def _step(self, batch: _Batch) -> list[Finished]:
        scores = self._next_scores(batch.slots, batch.tokens, len(batch.rows))
        live = [(i, row) for i, row in enumerate(batch.rows) if row is not None]
        if len(live) < len(batch.rows):
            import torch

            scores = scores[torch.tensor([i for i, _ in live], device=scores.device)]
        tokens, finite = self._choose(scores, [row for _, row in live], batch)
        ended = []
        for (slot, row), token, sound in zip(live, tokens, finite, strict=True):
            batch.tokens[slot] = token
            done = self._took(row, token, sound)
            if done is not None:
                ended.append(done)
                batch.free(slot, clean=sound)
        return ended

    def _next_scores(self, slots: Slots, tokens: Sequence[int], rows: int) -> Any:
        """Scores after one more token in each of the first `rows` slots, (rows, vocabulary) in float32."""
        import torch

        slots.step_fits()
        cache, masks = slots.cache(rows)
        ids = torch.tensor(tokens[:rows], device=self.loaded.device)[:, None]
        if self.encoder:
            from transformers.modeling_outputs import BaseModelOutput

            width = masks["attention_mask"].shape[1]
            unread = torch.zeros(1, 1, 1, device=ids.device).expand(rows, width, 1)  # its keys and values are there
            out = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=unread), decoder_input_ids=ids,
                past_key_values=cache, use_cache=True, **masks,
            )  # fmt: skip
        else:
            if self.gives_positions:
                masks["position_ids"] = (slots.columns.now - slots.starts[:rows])[:, None]
            out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **masks, **self.last_only)
        slots.columns.now += 1
        return out.logits[:, -1].float()

    # --- choosing ---

    def _choose(self, scores: Any, rows: Sequence[_Row], batch: _Batch | None) -> tuple[list[int], list[bool]]:
        """The next token of every row, and whether its scores were finite."""
        import torch

        settings = None if batch is None else batch.settings
        if settings is None:
            settings = Settings([row.wanted.decoding for row in rows], scores.device)
            if batch is not None:
                batch.settings = settings
        sound = torch.isfinite(scores.amax(-1)) & ~torch.isnan(scores).any(-1)
        finite = sound.tolist()
        if not all(finite):
            scores = torch.where(sound[:, None], scores, 0.0)
        for i in settings.penalised:
            self._penalise(scores[i], rows[i])
        uniforms = None
        if not settings.none_draw:
            drawn = [row.uniforms.at(len(row.made)) if row.uniforms else 0.0 for row in rows]
            uniforms = torch.tensor(drawn, device=scores.device, dtype=torch.float64)
        tokens, unsure = take(scores, settings, uniforms, self.doubt * self.scale)
        chosen = [int(t) for t in tokens.tolist()]
        if self.doubt:
            for i in (i for i, open_ in enumerate(unsure.tolist()) if open_ and finite[i]):
                chosen[i] = self._alone(rows[i])
        return chosen, finite

    def _penalise(self, scores: Any, row: _Row) -> None:
        before = [self.start, *row.made] if self.encoder else [*row.work.ids, *row.made]
        penalise(scores, row.wanted.decoding, before, len(row.made), tuple(self.stops))

    def _alone(self, row: _Row) -> int:
        """The next token of a row by its own scores."""
        import torch

        if row.uniforms is not None:  # one pass over all is as good as many steps: nothing but itself must agree
            scores = score_all(self.loaded, row.work.ids, row.made)[None]
        else:
            if row.shadow is None:
                row.shadow = _Alone(self, row.work)
            scores = row.shadow.scores_after(row.made).clone()
        if row.wanted.decoding.penalised:
            self._penalise(scores[0], row)
        uniforms = None
        if row.uniforms is not None:
            uniforms = torch.tensor([row.uniforms.at(len(row.made))], device=scores.device, dtype=torch.float64)
        token, _ = take(scores, Settings([row.wanted.decoding], scores.device), uniforms, 0.0)
        row.alone += 1
        return int(token[0])

    def _took(self, row: _Row, token: int, finite: bool) -> Finished | None:
        """Adds the token; the answer where it is done."""
        if not finite:
            return Finished(row.wanted.key, tuple(row.made), None, row.alone, finite=False)
        row.made.append(token)
        stop = token if token in self.stops else None
        if stop is None and len(row.made) < row.wanted.max_new_tokens:
            return None
        return Finished(row.wanted.key, tuple(row.made), stop, row.alone)


class _Batch:
    """The rows in the slots. rows[i] is None where slot i waits for one; tokens: the last token of each."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.rows: list[_Row | None] = []
        self.tokens: list[int] = []
        self.live = 0
        self.settings: Settings | None = None

    def wants(self, most: int, prefilled: bool) -> bool:
        """Whether enough slots are free to take rows in. A prefill of its own for each row that ends would cost more
        than a few empty slots."""
        free = most - self.live
        return free > 0 and (free >= max(1, most // (16 if prefilled else 8)) or not self.live)

    def fill(self, ready: deque[_Ready], most: int) -> None:
        """Puts rows that wait into free slots: those of one prefill together."""
        free = [i for i, row in enumerate(self.rows) if row is None]
        free += range(len(self.rows), most)
        taken: list[_Ready] = []
        while ready and len(taken) < len(free) and ready[0].cache is (taken or [ready[0]])[0].cache:
            taken.append(ready.popleft())
        places = free[: len(taken)]
        for place, one in zip(places, taken, strict=True):
            while place >= len(self.rows):
                self.rows.append(None)
                self.tokens.append(0)
            self.rows[place], self.tokens[place] = one.row, one.row.made[-1]
        self.slots.columns.rows = len(self.rows)
        self.slots.put(
            places, taken[0].cache, [r.place for r in taken], [r.length for r in taken],
            [r.encoder_length for r in taken] if self.slots.encoder else (),
        )  # fmt: skip
        self.live += len(taken)
        self.settings = None

    def free(self, slot: int, *, clean: bool) -> None:
        self.rows[slot] = None
        self.tokens[slot] = 0
        self.slots.free(slot, clean=clean)
        self.live -= 1
        self.settings = None

    def close_up(self) -> None:
        """Nothing comes after: drops empty slots once they are a quarter."""
        if len(self.rows) - self.live < max(1, len(self.rows) // 4):
            return
        live = [i for i, row in enumerate(self.rows) if row is not None]
        self.slots.keep(live)
        self.rows, self.tokens = [self.rows[i] for i in live], [self.tokens[i] for i in live]


class _Alone:
    """One row by itself, in the steps of transformers' `generate`: its prompt, then token after token."""

    def __init__(self, engine: SlotEngine, work: Work) -> None:
        self.engine = engine
        self.cache = prefill_cache(encoder=engine.encoder)
        self.encoded: Any = None
        self.length = len(work.ids)
        self.scores = engine._read([work], self.cache) if not engine.encoder else self._first(work)
        self.read = 0

    def _first(self, work: Work) -> Any:
        import torch

        device = self.engine.loaded.device
        ids = torch.tensor([list(work.ids)], device=device)
        self.mask = torch.ones_like(ids)
        self.encoded = self.engine.model.get_encoder()(input_ids=ids, attention_mask=self.mask, return_dict=True)
        return self._decoded(torch.full((1, 1), self.engine.start, device=device))

    def _decoded(self, ids: Any) -> Any:
        out = self.engine.model(
            encoder_outputs=self.encoded, attention_mask=self.mask, decoder_input_ids=ids, past_key_values=self.cache,
            use_cache=True,
        )  # fmt: skip
        return out.logits[:, -1].float()

    def scores_after(self, made: Sequence[int]) -> Any:
        """Scores after the prompt and these tokens, (1, vocabulary). Only ever asked for more of the same row."""
        import torch

        engine = self.engine
        for place in range(self.read, len(made)):
            ids = torch.tensor([[made[place]]], device=engine.loaded.device)
            if engine.encoder:
                self.scores = self._decoded(ids)
                continue
            seen = self.length + place + 1
            inputs: dict[str, Any] = {"attention_mask": torch.ones((1, seen), dtype=torch.long, device=ids.device)}
            if engine.gives_positions:
                inputs["position_ids"] = torch.tensor([[seen - 1]], device=ids.device)
            out = engine.model(input_ids=ids, past_key_values=self.cache, use_cache=True, **inputs, **engine.last_only)
            self.scores = out.logits[:, -1].float()
        self.read = len(made)
        return self.scores


def fits_slots(loaded: LoadedModel) -> bool:
    """Whether this model reads slots right: two prompts of unlike length that join one after the other give the scores
    that each gives alone. Models with learned decoder positions (BART), or with a state instead of keys and values
    (Mamba), don't."""
    import torch

    engine = SlotEngine(loaded, slots=2)
    accepted = inspect.signature(loaded.core.forward).parameters
    if "past_key_values" not in accepted or getattr(
        loaded.core.generation_config, "forced_bos_token_id", None
    ) is not None:  # fmt: skip
        return False
    vocabulary = min(loaded.vocabulary, 1000)
    if vocabulary <= 16:
        return False
    prompts = [tuple(3 + (7 * i * i + n) % (vocabulary - 3) for i in range(n)) for n in (9, 4)]
    works = [Work(ids, ()) for ids in prompts]
    forced = [[5, 6, 7, 4], [8, 5]]
    lengths = [1, 1] if engine.encoder else [len(p) for p in prompts]
    widths = [len(p) for p in prompts] if engine.encoder else []
    try:
        with torch.inference_mode():
            slots = Slots(2, loaded.device, encoder=engine.encoder)
            first, second = (prefill_cache(encoder=engine.encoder) for _ in range(2))
            engine._read(works[:1], first)
            slots.put([0], first, [0], lengths[:1], widths[:1])
            for token in forced[0][:2]:
                engine._next_scores(slots, [token], 1)
            engine._read(works[1:], second)
            slots.columns.rows = 2
            slots.put([1], second, [0], lengths[1:], widths[1:])
            for tokens in zip(forced[0][2:], forced[1], strict=True):
                scores = engine._next_scores(slots, tokens, 2)
            whole = [score_all(loaded, ids, made) for ids, made in zip(prompts, forced, strict=True)]
    except Exception:  # a cache it can't use, an argument it doesn't take
        return False
    expected = torch.stack(whole)
    if not bool(torch.isfinite(expected).all()):
        return True  # nothing can be told; each row shows for itself that it isn't finite
    loose = 1e-3 if loaded.dtype in ("float32", "float64") else 5e-2
    return bool((scores - expected).abs().max() <= loose * expected.abs().max().clamp(min=1.0))


def score_all(loaded: LoadedModel, ids: Sequence[int], made: Sequence[int]) -> Any:
    """Scores after a prompt and an answer's first tokens, (vocabulary,), in one pass without any cache."""
    import torch

    if loaded.is_encoder_decoder:
        target = torch.tensor([[start_id(loaded), *made]], device=loaded.device)
        out = loaded.core(
            input_ids=torch.tensor([list(ids)], device=loaded.device), decoder_input_ids=target, use_cache=False
        )  # fmt: skip
    else:
        out = loaded.core(input_ids=torch.tensor([[*ids, *made]], device=loaded.device), use_cache=False)
    return out.logits[0, -1].float()
