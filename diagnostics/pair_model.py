"""What a tokenizer and a model that the user gave tell about pairs; measured once, on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnostics.run_checks import NotMeasured
from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.pairs.pair import Pair, text_of

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel
    from pipeline.pair_likelihoods import PairLikelihoods
    from pipeline.pair_token_counts import PairTokens
    from pipeline.pair_tokens import TokenisedSample

MAX_LENGTH = 1024  # DPOConfig's default (TRL 1.16)
ASKED = 256  # pairs a model is asked about
# Of a tokenizer in pipeline.probe: it would do the same here.
_FATAL = ("timeout", "memory", "crashed", "encode_timeout", "encode_memory", "encode_crashed")
_TRIED = 16  # rows that a template is tried on
_TRIED_CHARACTERS = 100_000
_TRIAL = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]


def _unusable(problem: str, detail: str) -> NotMeasured:
    return NotMeasured("tokenizer_unusable", problem=problem, detail=_in_brackets(detail))


def _in_brackets(detail: str) -> str:
    return f" ({detail[:200]})" if detail else ""


@dataclass
class PairModel:
    """tokenizer, model: what `open_checkpoint` takes; the model's own tokenizer where none is given.

    again: the rows anew, `rows` of them. format: of the file, as it decides how a trainer lays pairs out. note: told
    one line of progress. stopped: reading was interrupted, nothing long begins any more.
    """

    again: Callable[[], Iterable[Pair]]
    tokenizer: str | None = None
    model: str | None = None
    max_length: int = MAX_LENGTH
    rows: int = 0
    format: str = ""
    stopped: bool = False
    seed: int = 0
    device: str = "cpu"
    cancel: threading.Event | None = None
    note: Callable[[str], None] = lambda text: None
    _sample: Any = field(default=None, repr=False)

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """Of the model. Raises `Refused` for a path that leads nowhere."""
        return open_checkpoint(self.model, tokenizer=self.tokenizer) if self.model is not None else None

    @cached_property
    def _with_tokenizer(self) -> Checkpoint | None:
        """What the tokenizer is loaded from; None where nothing was given. Raises `Refused`."""
        if self.checkpoint is not None or self.tokenizer is None:
            return self.checkpoint
        return open_checkpoint(self.tokenizer)

    def open(self) -> None:
        """Say now that a path leads nowhere. Raises `Refused`."""
        _ = self._with_tokenizer

    @property
    def answered(self) -> PairLikelihoods | None:
        """The model's answers where it was asked and gave some."""
        found = self.__dict__.get("_likelihoods_outcome")
        return None if found is None or isinstance(found, NotMeasured) else found

    @cached_property
    def _tokenizer_outcome(self) -> Any:
        from pipeline.load_model import load_tokenizer
        from pipeline.probe import FATAL, open_probe

        given = self._with_tokenizer
        if given is None:
            return NotMeasured("no_tokenizer_given")
        with open_probe(given.tokenizer) as probe:  # what never ends or takes all memory must not do so in this process
            if probe.problem in _FATAL:
                return _unusable(probe.problem, probe.detail)
            if probe.template is not None and self._lays_out_by_template:
                for messages in (_TRIAL, *self._first_prompts()):
                    made = probe.render(messages)
                    if made.problem in FATAL or (made.problem and messages is _TRIAL):
                        return NotMeasured("template_failed", problem=made.problem, detail=_in_brackets(made.detail))
            loaded, problem = load_tokenizer(given)
            if loaded is None:
                return _unusable(probe.problem or "failed", probe.detail if probe.problem else problem)
        return loaded

    @property
    def _lays_out_by_template(self) -> bool:
        """Whether rows of this format reach the trainer through a chat template (pipeline.pair_tokens.layout_for)."""
        return self.format != "trl"

    def _first_prompts(self) -> Iterator[list[dict[str, Any]]]:
        """The prompts of a few rows, as a template that is well with one question may stumble over others."""
        for pair in islice(self.again(), _TRIED):
            asked = [{"role": str(turn.get("role")), "content": text_of([turn])} for turn in pair.prompt]
            if asked and sum(len(turn["content"]) for turn in asked) < _TRIED_CHARACTERS:
                yield [*asked, _TRIAL[-1]]

    def _loaded_tokenizer(self) -> Any:
        found = self._tokenizer_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found

    def _encoder_decoder(self, tokenizer: Any) -> bool:
        """By config.json; where a tokenizer stands alone, by whether it puts an end token behind any text, as those of
        encoder-decoders do."""
        given = self._with_tokenizer
        config = given.config.value if given is not None else None
        if config is not None:
            return bool(config.get("is_encoder_decoder"))
        end = tokenizer.eos_token_id
        return end is not None and not tokenizer.chat_template and tokenizer("a")["input_ids"][-1:] == [end]

    @cached_property
    def _tokens_outcome(self) -> PairTokens | NotMeasured:
        from pipeline.pair_token_counts import pair_tokens
        from pipeline.pair_tokens import TokenisedSample, layout_for

        try:
            tokenizer = self._loaded_tokenizer()
        except NotMeasured as reason:
            return reason
        self._sample = TokenisedSample(ASKED, self.seed)
        found = pair_tokens(
            self.again(), tokenizer, layout=layout_for(self.format, tokenizer), max_length=self.max_length,
            encoder_decoder=self._encoder_decoder(tokenizer), sample=self._sample, cancel=self.cancel,
            progress=lambda done: self.note(f"tokens: {done:,}"),
        )  # fmt: skip
        if self.cancel is not None and self.cancel.is_set():
            return NotMeasured("cancelled")
        return found if len(found) == self.rows else NotMeasured("rows_changed")

    @property
    def tokens(self) -> PairTokens:
        """What the trainer makes of every row. Raises NotMeasured without a tokenizer that loads."""
        self._unless_stopped()
        found = self._tokens_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found

    def _unless_stopped(self) -> None:
        if self.stopped or (self.cancel is not None and self.cancel.is_set()):
            raise NotMeasured("cancelled")

    @cached_property
    def _likelihoods_outcome(self) -> PairLikelihoods | NotMeasured:
        from pipeline.load_model import ModelNotLoaded, load_model
        from pipeline.pair_likelihoods import pair_likelihoods
        from pipeline.score_answers import NotScored

        if self.checkpoint is None:
            return NotMeasured("no_model_given")
        try:
            _ = self.tokens
            loaded = load_model(self.checkpoint, base=self._base(), device=self.device, note=self.note)
            if loaded.random_parts:
                return NotMeasured("parts_stay_random", n=len(loaded.random_parts))
            found = self._asked(loaded, pair_likelihoods)
        except NotMeasured as reason:
            return reason
        except ModelNotLoaded as failed:
            own = {"no_adapter_base": "adapter_base_not_here"}  # there is no --base here
            return NotMeasured(own.get(failed.reason_id, failed.reason_id), detail=failed.detail)
        except NotScored as failed:
            return NotMeasured(failed.reason, detail=failed.detail)
        if not len(found) and found.left_out["too_long"]:
            return NotMeasured("rows_too_long")
        if len(found) and not any(np.isfinite(values).any() for values in found.logp.values()):
            return NotMeasured("logits_not_finite")
        return found

    def _base(self) -> Checkpoint | None:
        from diagnostics.checkpoint_subject import CheckpointSubject

        assert self.checkpoint is not None
        return CheckpointSubject(self.checkpoint).base if self.checkpoint.kind == "adapter" else None

    def _asked(self, loaded: LoadedModel, ask: Callable[..., PairLikelihoods]) -> PairLikelihoods:
        from pipeline.cpu_threads import suit_threads

        sample: TokenisedSample = self._sample
        restore = suit_threads(sum(p.numel() for p in loaded.model.parameters()))
        try:
            return ask(
                loaded, sample.pairs, max_pairs=ASKED, others_for=("chosen", "rejected"), seed=self.seed,
                cancel=self.cancel, progress=lambda done, total: self.note(f"model: {done}/{total}"),
            )  # fmt: skip
        finally:
            restore()

    @property
    def likelihoods(self) -> PairLikelihoods:
        """What the model thinks of up to ASKED rows. Raises NotMeasured without a model that runs."""
        self._unless_stopped()
        found = self._likelihoods_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found
