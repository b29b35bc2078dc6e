"""Keys and values of all slots in one preallocated buffer a layer, filled from the right.

Every slot's newest token stands in the same column, before `now`; a slot that joined later begins further right. That
is what a batch padded on the left looks like, which models know how to read: positions come from the mask or are given,
relative positions (T5, ALiBi) and sliding windows are right as they are. A row that ends leaves its slot to a prompt
whose keys and values are copied in so that they end in the same column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache

SPARE = 256
"""Columns a buffer is larger than what is in use: how many steps pass between two moves to its left end."""


class Columns:
    """Which part of the buffers is in use: slots 0..rows-1, columns first..now-1; the next token goes to `now`."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = 0
        self.now = 0

    @property
    def width(self) -> int:
        return self.now - self.first


class _Buffered(CacheLayerMixin):
    """A layer whose keys and values stand in buffers that Slots makes and fills."""

    is_sliding = False

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns
        self.buffers: list[Any] = []

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        raise AssertionError("slots are filled by Slots.put")

    def get_max_length(self) -> int:
        return -1


class SlotLayer(_Buffered):
    """One layer's keys and values, (slots, heads, columns, width of a head), as attention asks for them."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        at = self.columns
        keys, values = self.buffers
        keys[: at.rows, :, at.now] = key_states[:, :, 0]
        values[: at.rows, :, at.now] = value_states[:, :, 0]
        view = (slice(0, at.rows), slice(None), slice(at.first, at.now + 1))
        return keys[view], values[view]

    def get_seq_length(self) -> int:
        return self.columns.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.columns.width + query_length, 0


class CrossLayer(_Buffered):
    """One layer's keys and values of the encoder's output, filled from the left."""

    def show(self) -> None:
        """Sets `keys` and `values`, which attention reads directly, to the part in use."""
        at = self.columns
        self.keys, self.values = (b[: at.rows, :, : at.now] for b in self.buffers)
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.columns.now

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.columns.now, 0


class Slots:
    """The buffers of all layers, and which columns belong to whom.

    starts: (slots,) first column of each slot's own tokens; a slot without a row starts at `now` and sees one token.
    encoder_lengths: (slots,) tokens of each slot's encoder input, empty for decoders.
    """

    def __init__(self, slots: int, device: Any, *, encoder: bool) -> None:
        import torch

        self.slots = slots
        self.device = device
        self.columns, self.cross_columns = Columns(), Columns()
        self.starts = torch.zeros(slots, dtype=torch.long, device=device)
        self.encoder_lengths = torch.zeros(slots if encoder else 0, dtype=torch.long, device=device)
        self.own: list[SlotLayer] = []
        self.cross: list[CrossLayer] = []
        self.encoder = encoder

    # --- taking rows in ---

    def put(
        self, slots: Sequence[int], source: Any, rows: Sequence[int], lengths: Sequence[int],
        encoder_lengths: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Copies prompts' keys and values into `slots`. source: the cache of their prefill, padded on the left (the
        encoder's on the right), of which row rows[i] with its last lengths[i] columns goes to slots[i]."""
        import torch

        own = source.self_attention_cache if self.encoder else source
        if not self.own:
            self._build(len(own.layers), source)
        widest = max(lengths)
        self._make_room(widest)
        at = self.columns
        where, taken = (torch.tensor(list(i), device=self.device) for i in (slots, rows))
        for layer, given in zip(self.own, own.layers, strict=True):
            for buffer, states in zip(layer.buffers, (given.keys, given.values), strict=True):
                buffer[where, :, at.now - widest : at.now] = states[taken, :, -widest:]
        self.starts[where] = at.now - torch.tensor(list(lengths), device=self.device)
        at.first = min(at.first, at.now - widest)  # another prompt may be put in before the next step, and move all
        if self.encoder:
            widest = max(encoder_lengths)
            self._widen(widest)
            for cross, given in zip(self.cross, source.cross_attention_cache.layers, strict=True):
                for buffer, states in zip(cross.buffers, (given.keys, given.values), strict=True):
                    buffer[where, :, :widest] = states[taken, :, :widest]
            self.encoder_lengths[where] = torch.tensor(list(encoder_lengths), device=self.device)

    def _build(self, layers: int, source: Any) -> None:
        own = source.self_attention_cache if self.encoder else source
        self.own = [SlotLayer(self.columns) for _ in range(layers)]
        for layer, given in zip(self.own, own.layers, strict=True):
            layer.buffers = [self._room(states, SPARE) for states in (given.keys, given.values)]
        if self.encoder:
            self.cross = [CrossLayer(self.cross_columns) for _ in range(layers)]
            for cross, given in zip(self.cross, source.cross_attention_cache.layers, strict=True):
                cross.buffers = [self._room(states, 1) for states in (given.keys, given.values)]

    def _room(self, like: Any, columns: int) -> Any:
        # zeros, not empty: a masked column still enters the product, and 0 * NaN is NaN
        return like.new_zeros((self.slots, like.shape[1], columns, like.shape[3]))

    @property
    def capacity(self) -> int:
        return int(self.own[0].buffers[0].shape[2]) if self.own else 0

    def _make_room(self, length: int) -> None:
        """At least `length` columns before `now`."""
        if length > self.columns.now:
            self._move(max(length, self.columns.width))

    def step_fits(self) -> None:
        """A column for the next token."""
        if self.columns.now >= self.capacity:
            self._move(self.columns.width)

    def _move(self, now: int) -> None:
        """Moves what is in use so that it ends before column `now`, into larger buffers where it must."""
        at = self.columns
        width, shift = at.width, now - at.now
        larger = now + SPARE // 4 > self.capacity
        for layer in self.own:
            for i, buffer in enumerate(layer.buffers):
                target = self._room(buffer, now + SPARE) if larger else buffer
                if width:
                    part = buffer[: at.rows, :, at.first : at.now]
                    target[: at.rows, :, now - width : now] = part if larger else part.clone()
                layer.buffers[i] = target
        self.starts += shift
        at.first, at.now = now - width, now

    def _widen(self, length: int) -> None:
        if length <= int(self.cross[0].buffers[0].shape[2]):
            return
        for layer in self.cross:
            for i, buffer in enumerate(layer.buffers):
                layer.buffers[i] = self._room(buffer, length)
                layer.buffers[i][:, :, : buffer.shape[2]] = buffer

    # --- letting rows go ---

    def keep(self, live: Sequence[int]) -> None:
        """Moves the slots `live`, ascending, to the front: the rest is given up."""
        import torch

        at = self.columns
        where = torch.tensor(list(live), device=self.device)
        count = len(live)
        for layer in self.own:
            for buffer in layer.buffers:
                buffer[:count, :, at.first : at.now] = buffer[where, :, at.first : at.now]
        self.starts[:count] = self.starts[where]
        if self.encoder:
            for cross in self.cross:
                for buffer in cross.buffers:
                    buffer[:count, :, : self.cross_columns.now] = buffer[where, :, : self.cross_columns.now]
            self.encoder_lengths[:count] = self.encoder_lengths[where]
        at.rows = count

    def free(self, slot: int, *, clean: bool) -> None:
        """The slot has no row until another is put in. clean: False where its numbers are not finite: a masked NaN
        would spoil the next row all the same."""
        self.starts[slot] = self.columns.now
        if self.encoder:
            self.encoder_lengths[slot] = 1
        if not clean:
            for buffers in [layer.buffers for layer in self.own] + [layer.buffers for layer in self.cross]:
                for buffer in buffers:
                    buffer[slot] = 0

    # --- one step ---

    def cache(self, rows: int) -> tuple[Any, dict[str, Any]]:
        """The cache for one step of the first `rows` slots, and the masks that go with it."""
        import torch

        at = self.columns
        at.rows = self.cross_columns.rows = rows
        at.first = int(self.starts[:rows].min()) if rows else at.now
        seen = torch.arange(at.first, at.now + 1, device=self.device)[None, :] >= self.starts[:rows, None]
        if not self.encoder:
            return Cache(layers=list(self.own)), {"attention_mask": seen.long()}
        self.cross_columns.now = int(self.encoder_lengths[:rows].max())
        for cross in self.cross:
            cross.show()
        made = EncoderDecoderCache(Cache(layers=list(self.own)), Cache(layers=list(self.cross)))
        made.is_updated = dict.fromkeys(range(len(self.cross)), True)
        read = torch.arange(self.cross_columns.now, device=self.device)[None, :] < self.encoder_lengths[:rows, None]
        return made, {"decoder_attention_mask": seen.long(), "attention_mask": read.long()}


def prefill_cache(*, encoder: bool) -> Any:
    """An empty cache without windows: a layer with a window must keep everything until it is copied."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache()) if encoder else DynamicCache()
