"""The one way to many answers of a loaded model: slots where the model suits them, as many as the memory holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.config_files import load_config
from pipeline.free_memory import free_memory, left_in_container
from pipeline.generation.prompt_by_prompt import answer_prompt_by_prompt
from pipeline.generation.slot_cache import SPARE
from pipeline.generation.slot_engine import Finished, SlotEngine, Work, fits_slots
from pipeline.load_model import LoadedModel


class AnswerMaker:
    """Makes answers with one model, which is looked at once. in_slots: whether it suits them; if not, prompts are
    answered one by one. slots: how many answers at a time, from the free memory unless given."""

    def __init__(self, loaded: LoadedModel, *, longest: int, slots: int | None = None) -> None:
        """longest: tokens of the longest prompt with its answer that is expected; longer ones work too."""
        self.loaded = loaded
        self.in_slots = fits_slots(loaded)
        self.slots = (slots or slots_for(loaded, longest)) if self.in_slots else 1

    def run(self, works: Iterable[Work], *, cancel: threading.Event | None = None) -> Iterator[Finished]:
        """Every wanted answer once, in the order they end. Takes from `works` only what is needed next. Raises
        Cancelled within a step once `cancel` is set."""
        if not self.in_slots:
            return answer_prompt_by_prompt(self.loaded, works, cancel=cancel)
        return SlotEngine(self.loaded, slots=self.slots).run(works, cancel=cancel)


def slots_for(loaded: LoadedModel, longest: int, *, free: int | None = None) -> int:
    """How many answers fit beside the model. longest: tokens of prompt and answer. free: bytes, None asks the device.

    Counted: keys and values of all layers over the longest sequence and the spare columns, twice while a buffer grows,
    and the scores in the few copies that sampling makes of them.
    """
    table = load_config("generation.yaml")["slots"]
    most = int(table["most_on_cpu" if loaded.device.startswith("cpu") else "most_on_gpu"])
    room = free if free is not None else _room(loaded.device)
    if room is None:
        return most
    tokens = 2 * (longest + SPARE) * bytes_per_token(loaded)
    scores = int(table["copies_of_scores"]) * 4 * loaded.vocabulary
    return max(1, min(most, int(room * float(table["share_of_memory"]) / (tokens + scores))))


def _room(device: str) -> int | None:
    free, allowed = free_memory(device), None if device.startswith("cuda") else left_in_container()
    return min((one for one in (free, allowed) if one is not None), default=None)


def bytes_per_token(loaded: LoadedModel) -> int:
    """Bytes of keys and values one token takes in all layers; an upper bound where the configuration is unusual."""
    config = loaded.core.config
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    heads = _number(text, "num_attention_heads", "num_heads", "n_head") or 1
    hidden = _number(text, "hidden_size", "d_model", "n_embd") or 1
    width = _number(text, "head_dim", "d_kv") or -(-hidden // heads)
    layers = _number(text, "num_decoder_layers", "decoder_layers", "num_hidden_layers", "num_layers", "n_layer") or 1
    kept = _number(text, "num_key_value_heads") or heads
    size = {"float64": 8, "float32": 4}.get(loaded.dtype, 2)
    sides = 2 if loaded.is_encoder_decoder else 1  # the encoder's keys and values are kept too
    return 2 * sides * layers * kept * width * size


def _number(config: Any, *names: str) -> int | None:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None
