"""What a tokenizer and a model that the user gave tell about pairs; measured once, on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diagnostics.run_checks import NotMeasured
from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.pairs.pair import Pair

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel
    from pipeline.pair_likelihoods import PairLikelihoods
    from pipeline.pair_token_counts import PairTokens
    from pipeline.pair_tokens import TokenisedSample

MAX_LENGTH = 1024  # DPOConfig's default (TRL 1.16)
ASKED = 256  # pairs a model is asked about
_TRIAL = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]


@dataclass
class PairModel:
    """tokenizer, model: what `open_checkpoint` takes; the model's own tokenizer where none is given.

    again: the rows anew, `rows` of them. format: of the file, as it decides how a trainer lays pairs out. note: told one
    line of progress. stopped: reading was interrupted, nothing long begins any more.
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

    def open(self) -> None:
        """Say now that a path leads nowhere. Raises `Refused`."""
        _ = self.checkpoint
        if self.model is None and self.tokenizer is not None:
            open_checkpoint(self.tokenizer)

    @property
    def answered(self) -> PairLikelihoods | None:
        """The model's answers where it was asked and gave some."""
        found = self.__dict__.get("_likelihoods_outcome")
        return None if found is None or isinstance(found, NotMeasured) else found

    @cached_property
    def _tokenizer_outcome(self) -> Any:
        from pipeline.load_model import load_tokenizer
        from pipeline.probe import open_probe

        given = self.checkpoint
        if given is None:
            if self.tokenizer is None:
                return NotMeasured("no_tokenizer_given")
            given = open_checkpoint(self.tokenizer)
        with open_probe(given.tokenizer) as probe:  # a template that never ends must not hold this process
            if probe.problem is not None:
                return NotMeasured("tokenizer_not_loaded")
            if probe.template is not None and (problem := probe.render(_TRIAL).problem):
                return NotMeasured("template_failed", detail=problem)
        loaded, problem = load_tokenizer(given)
        return loaded if loaded is not None else NotMeasured("tokenizer_not_loaded", detail=problem)

    def _loaded_tokenizer(self) -> Any:
        found = self._tokenizer_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found

    @property
    def _encoder_decoder(self) -> bool:
        config = self.checkpoint.config.value if self.checkpoint is not None else None
        return bool(config and config.get("is_encoder_decoder"))

    @cached_property
    def _tokens_outcome(self) -> PairTokens | NotMeasured:
        from pipeline.pair_token_counts import pair_tokens
        from pipeline.pair_tokens import TokenisedSample, layout_for

        try:
            tokenizer = self._loaded_tokenizer()
        except NotMeasured as reason:
            return reason
        self._sample = TokenisedSample(ASKED, self.seed)
        return pair_tokens(
            self.again(), tokenizer, layout=layout_for(self.format, tokenizer), max_length=self.max_length,
            encoder_decoder=self._encoder_decoder, sample=self._sample, cancel=self.cancel,
            progress=lambda done: self.note(f"tokens: {done:,}"),
        )  # fmt: skip

    @property
    def tokens(self) -> PairTokens:
        """What the trainer makes of every row. Raises NotMeasured without a tokenizer that loads."""
        found = self._tokens_outcome
        if isinstance(found, NotMeasured):
            raise found
        if self.cancel is not None and self.cancel.is_set():
            raise NotMeasured("cancelled")
        return found

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
            return self._asked(loaded, pair_likelihoods)
        except NotMeasured as reason:
            return reason
        except ModelNotLoaded as failed:
            return NotMeasured(failed.reason_id, detail=failed.detail)
        except NotScored as failed:
            return NotMeasured("model_not_scored", detail=failed.detail or failed.reason)

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
        found = self._likelihoods_outcome
        if isinstance(found, NotMeasured):
            raise found
        return found
