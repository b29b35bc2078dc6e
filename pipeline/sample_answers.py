"""Generates answers of a loaded checkpoint: prompts x strategies -> raw token ids, text, why each answer ended.

Sampling draws with one generator for each row (seed + 1000 * row), so an answer doesn't depend on what else was in
its batch. How much is generated depends on the size of the model alone, never on the clock: two runs agree.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

SEED_STEP = 1000


class GenerationFailed(Exception):
    """`generate` refused or crashed. Carries one line."""


class GenerationCancelled(Exception):
    """The caller's cancel event was set."""


@dataclass(frozen=True)
class Asked:
    """One prompt as the model gets it. ids: exactly the tokens of the prompt; gold: the answer the data gives."""

    id: str
    question: str
    ids: tuple[int, ...]
    gold: str | None = None
    gold_tokens: int | None = None


@dataclass(frozen=True)
class Strategy:
    """A name and fields of GenerationConfig; see configs/sampling.yaml."""

    name: str
    settings: Mapping[str, Any]

    @property
    def beams(self) -> int:
        return int(self.settings.get("num_beams") or 1)

    @property
    def samples(self) -> bool:
        return bool(self.settings.get("do_sample"))


@dataclass(frozen=True)
class Answer:
    """One answer. ids: every new token up to and with the stop token; text shows special tokens, plain drops them.

    stop_id: the token that ended it, None when it was cut off after `cap` tokens.
    non_finite: steps at which the raw scores held NaN or infinity. nats: mean -log p of its tokens under the
    untouched distribution; None for beams.
    """

    row: int
    strategy: str
    ids: tuple[int, ...]
    text: str
    plain: str
    stop_id: int | None
    cap: int
    seed: int | None = None
    non_finite: int = 0
    nats: float | None = None

    @property
    def ended(self) -> bool:
        return self.stop_id is not None

    @property
    def content_ids(self) -> tuple[int, ...]:
        """Tokens without the stop token."""
        return self.ids[:-1] if self.ended else self.ids


@dataclass(frozen=True)
class Budget:
    """How much to generate for a model of some size."""

    prompts: int
    max_new_tokens: int
    batch: int
    beams: bool


@dataclass(frozen=True)
class OwnSettings:
    """Decoding settings of the checkpoint's files. max_new_tokens: the limit in new tokens, None where it depends on
    the prompt (`max_length` of a decoder) or nothing is declared; declared: whether the files set any limit."""

    strategy: Strategy
    max_length: int | None
    max_new_tokens: int | None
    same_as_greedy: bool

    def limit(self, prompt_tokens: int, is_encoder_decoder: bool) -> int:
        """New tokens that `generate()` without arguments would allow after a prompt of this length."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None:
            return DEFAULT_NEW_TOKENS
        return max(1, self.max_length - (1 if is_encoder_decoder else prompt_tokens))

    @property
    def limit_declared(self) -> bool:
        return self.max_length is not None or self.max_new_tokens is not None


DEFAULT_NEW_TOKENS = 20  # GenerationConfig's max_length when nothing is set, counted from the end of the prompt


def strategies() -> tuple[Strategy, ...]:
    """The presets of configs/sampling.yaml."""
    presets = load_config("sampling.yaml")["strategies"]
    return tuple(Strategy(name, dict(preset["settings"])) for name, preset in presets.items())


def budget_for(parameters: int, device: str) -> Budget:
    """How much a model of this size is asked."""
    table = load_config("sampling.yaml")
    if not device.startswith("cpu"):
        return Budget(**table["gpu_budget"])
    row = next((r for r in table["budgets"] if parameters <= r["parameters"]), table["budgets"][-1])
    return Budget(**{name: value for name, value in row.items() if name != "parameters"})


def stop_ids(model: Any) -> tuple[int, ...]:
    """Ids that `generate()` stops on: generation_config's, else config's. `model` may be wrapped by PEFT."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    for config in (getattr(core, "generation_config", None), core.config):
        found = getattr(config, "eos_token_id", None)
        if found is not None:
            return tuple(int(i) for i in (found if isinstance(found, (list, tuple)) else (found,)))
    return ()


def pad_id(loaded: LoadedModel) -> int:
    """What fills the places that nobody looks at: the tokenizer's, else a stop id."""
    pad, stops = loaded.tokenizer.pad_token_id, stop_ids(loaded.core)
    return int(pad) if pad is not None else (stops[0] if stops else 0)


def own_settings(loaded: LoadedModel) -> OwnSettings:
    """What the files tell `generate()` to do, within the bounds of configs/sampling.yaml."""
    table = load_config("sampling.yaml")
    declared = getattr(loaded.core, "generation_config", None)
    values = {name: getattr(declared, name, None) for name in table["own_fields"]}
    settings = {name: value for name, value in values.items() if value is not None}
    if int(settings.get("num_beams") or 1) > table["max_own_beams"]:
        settings["num_beams"] = table["max_own_beams"]
    if not settings.get("do_sample"):  # ignored without sampling, so no difference
        for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"):
            settings.pop(name, None)
    neutral = {
        "do_sample": False, "num_beams": 1, "length_penalty": 1.0, "early_stopping": False, "repetition_penalty": 1.0,
        "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
        "renormalize_logits": False, "remove_invalid_values": False, "min_length": 0, "min_new_tokens": 0,
    }  # fmt: skip
    changed = {name for name, value in settings.items() if neutral.get(name) != value}
    if int(settings.get("num_beams") or 1) == 1:
        changed -= {"length_penalty", "early_stopping"}
    length, new = getattr(declared, "max_length", None), getattr(declared, "max_new_tokens", None)
    return OwnSettings(Strategy("own", settings), _number(length), _number(new), not changed)


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


def answer_all(
    loaded: LoadedModel, asked: Sequence[Asked], strategy: Strategy, *, max_new_tokens: int, seed: int = 0,
    batch_size: int = 8, padding_side: str | None = None, cancel: threading.Event | None = None,
) -> list[Answer]:  # fmt: skip
    """One answer for each prompt, in order.

    padding_side: None pads left for decoders and right for encoder-decoders, which is what both were made for.
    Raises GenerationFailed with what `generate` said, GenerationCancelled when `cancel` is set.
    """
    side = padding_side or ("right" if loaded.is_encoder_decoder else "left")
    answers: list[Answer] = []
    for start in range(0, len(asked), batch_size):
        if cancel is not None and cancel.is_set():
            raise GenerationCancelled
        batch = asked[start : start + batch_size]
        answers += _answer_batch(loaded, batch, start, strategy, max_new_tokens, seed, side, cancel)
    return answers


def _answer_batch(
    loaded: LoadedModel, batch: Sequence[Asked], first: int, strategy: Strategy, max_new_tokens: int, seed: int,
    side: str, cancel: threading.Event | None,
) -> list[Answer]:  # fmt: skip
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    model = loaded.core
    stops = stop_ids(model)
    pad = pad_id(loaded)
    widest = max(len(a.ids) for a in batch)
    rows, mask = [], []
    for a in batch:
        fill = widest - len(a.ids)
        rows.append([pad] * fill + list(a.ids) if side == "left" else list(a.ids) + [pad] * fill)
        mask.append([0] * fill + [1] * len(a.ids) if side == "left" else [1] * len(a.ids) + [0] * fill)
    input_ids = torch.tensor(rows, device=loaded.device)
    attention = torch.tensor(mask, device=loaded.device)
    draws = strategy.samples and strategy.beams == 1
    seeds: list[int | None] = [None] * len(batch)
    if strategy.samples:  # beams that sample share the generator of their batch
        seeds = [seed + SEED_STEP * (first + i) if draws else seed for i in range(len(batch))]
    watch = _ScoreWatch(len(batch))
    processors: list[Any] = [watch.after_step] if strategy.beams == 1 else []
    settings = {k: v for k, v in strategy.settings.items() if not (draws and k in _SAMPLING_FIELDS)}
    if draws:
        settings["do_sample"] = False  # the draw is made by _Draw: argmax of scores plus noise is a sample
    hook = model.register_forward_hook(watch.after_forward)
    try:
        if draws:
            processors += [*_narrowing(strategy.settings), _Draw([int(s or 0) for s in seeds])]
        with (
            generation_config(model, settings, max_new_tokens, pad), torch.inference_mode(), _own_random_state(seed),
            without_advice(),
        ):  # fmt: skip
            out = model.generate(
                input_ids=input_ids, attention_mask=attention,
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([StopOnEvent(cancel)]),
            )  # fmt: skip
    except Exception as refused:
        raise GenerationFailed(f"{type(refused).__name__}: {refused}".splitlines()[0][:300]) from None
    finally:
        hook.remove()
    if cancel is not None and cancel.is_set():
        raise GenerationCancelled
    new = out[:, 1:] if loaded.is_encoder_decoder else out[:, widest:]
    return [
        _as_answer(loaded, first + i, strategy.name, ids, stops, max_new_tokens, seeds[i], watch, i)
        for i, ids in enumerate(new.tolist())
    ]


def _as_answer(
    loaded: LoadedModel, row: int, name: str, ids: list[int], stops: tuple[int, ...], cap: int, seed: int | None,
    watch: _ScoreWatch, place: int,
) -> Answer:  # fmt: skip
    end = next((i for i, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[: end + 1]
    decode = loaded.tokenizer.decode
    logs = watch.logs[place][: len(kept) - 1]  # nobody asks about the very last token once the batch is done
    return Answer(
        row, name, tuple(kept), str(decode(kept, skip_special_tokens=False)),
        str(decode(kept, skip_special_tokens=True)), None if end is None else ids[end], cap, seed,
        watch.bad_steps(place, len(kept)), -sum(logs) / len(logs) if logs else None,
    )  # fmt: skip


_SAMPLING_FIELDS = frozenset(
    ("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
)


def _narrowing(settings: Mapping[str, Any]) -> list[Any]:
    """transformers' own processors that reshape the distribution before a draw, in the order `generate` uses."""
    from transformers.generation import logits_process as made

    temperature, top_k, top_p = settings.get("temperature", 1.0), settings.get("top_k", 50), settings.get("top_p", 1.0)
    steps: list[Any] = []
    if temperature is not None and temperature != 1.0:
        steps.append(made.TemperatureLogitsWarper(float(temperature)))
    if top_k:
        steps.append(made.TopKLogitsWarper(int(top_k)))
    if top_p is not None and top_p < 1.0:
        steps.append(made.TopPLogitsWarper(float(top_p)))
    if settings.get("min_p") is not None:
        steps.append(made.MinPLogitsWarper(float(settings["min_p"])))
    typical, epsilon, eta = (settings.get(n) for n in ("typical_p", "epsilon_cutoff", "eta_cutoff"))
    if typical is not None and typical < 1.0:
        steps.append(made.TypicalLogitsWarper(float(typical)))
    if epsilon:
        steps.append(made.EpsilonLogitsWarper(float(epsilon)))
    if eta:
        steps.append(made.EtaLogitsWarper(float(eta)))
    return steps


class _Draw:
    """Adds Gumbel noise from one generator a row: the argmax is then an exact draw from the softmax."""

    def __init__(self, seeds: Sequence[int]) -> None:
        import torch

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp_(1e-20, 1.0 - 1e-7)))
        return scores.float() + noise.to(scores.device)


class _ScoreWatch:
    """Looks at the raw scores of every step: are they finite, and how probable was the token taken.

    A forward hook, because a logits processor comes after `remove_invalid_values` has hidden NaN. NaN is replaced
    by a very low score: greedy would take id 0 without a word and sampling would crash the whole batch.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.bad: list[list[bool]] = [[] for _ in range(rows)]
        self.logs: list[list[float]] = [[] for _ in range(rows)]
        self._last: Any = None
        self._pending: Any = None

    def after_forward(self, module: Any, inputs: Any, output: Any) -> None:
        import torch

        logits = getattr(output, "logits", None)
        if logits is None or logits.dim() != 3:
            return
        last = logits[:, -1, :]
        wrong = torch.isnan(last) | (last == float("inf"))
        per_row = (wrong.any(-1) | (~torch.isfinite(last)).all(-1)).view(self.rows, -1).any(-1).tolist()
        for row, is_bad in enumerate(per_row):
            self.bad[row].append(bool(is_bad))
        if any(per_row):
            most = torch.finfo(logits.dtype).max / 4
            torch.nan_to_num_(logits, nan=-most, posinf=most, neginf=-most)
        self._last = torch.log_softmax(logits[:, -1, :].float(), dim=-1)

    def after_step(self, input_ids: Any, scores: Any) -> Any:
        """A logits processor without effect: by the next step, the token taken at the one before is known."""
        if self._pending is not None:
            taken = self._pending.gather(1, input_ids[:, -1:].to(self._pending.device))
            for row, value in enumerate(taken.flatten().tolist()):
                self.logs[row].append(float(value))
        self._pending = self._last
        return scores

    def bad_steps(self, row: int, steps: int) -> int:
        return sum(self.bad[row][:steps])


class StopOnEvent:
    """Stopping criterion: ends every row once the caller's event is set."""

    def __init__(self, cancel: threading.Event | None) -> None:
        self.cancel = cancel

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        stop = self.cancel is not None and self.cancel.is_set()
        return torch.full((input_ids.shape[0],), stop, dtype=torch.bool, device=input_ids.device)


@contextmanager
def generation_config(model: Any, settings: Mapping[str, Any], max_new_tokens: int, pad: int) -> Iterator[None]:
    """The model's generation settings replaced for one call.

    Passing a GenerationConfig isn't enough: `generate` fills what it leaves open from the model's own.
    """
    from transformers import GenerationConfig

    declared = model.generation_config
    kept = {name: getattr(declared, name, None) for name in load_config("sampling.yaml")["architecture_fields"]}
    model.generation_config = GenerationConfig(
        **{**kept, **settings, "max_new_tokens": max_new_tokens, "pad_token_id": pad}
    )
    try:
        yield
    finally:
        model.generation_config = declared


@contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Beam search with sampling draws from the global generator: seeded here, and put back afterwards."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def without_advice() -> Iterator[None]:
    """transformers warns about right padding and unused settings, both tried here on purpose."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
