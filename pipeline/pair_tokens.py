"""Pairs as token ids, exactly as TRL's DPOTrainer makes and cuts them.

Follows trl/trainer/dpo_trainer.py 1.16: `_prepare_dataset` (extract_prompt, add_eos, tokenize_fn, the filter on
max_length) and DataCollatorForPreference (the cut). A pair with one side alone is tokenised as KTOTrainer does.

An encoder-decoder has no trainer in TRL. There the prompt is encoded as the encoder's input and each answer as a
target, apart from it; an end token is put behind an answer that has none; the cut takes each of the three to
`max_length` by itself, and no row is dropped, as a long prompt takes no room from the answer.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from pipeline.pairs.format import CannotHold, one_question, plain, whole, with_system
from pipeline.pairs.pair import Message, Pair, Side, text_of
from pipeline.pairs.turns import common_start, side_turns

Layout = Literal["trl", "trl-conversational", "trl-implicit"]
"""How a pair reaches TRL, by the name of its format: text with EOS behind it, or messages through the chat template
with a prompt of their own or without."""

SideName = Literal["chosen", "rejected"]
Ids = tuple[int, ...]

TRUNCATION_MODES = ("keep_start", "keep_end")
MAX_CHARACTERS = 2_000_000  # of one pair: a token needs about 100 bytes while it is made
_BATCH_PAIRS = 256
_BATCH_CHARACTERS = 500_000


def layout_for(format: str, tokenizer: Any) -> Layout:
    """In which layout pairs of a file in `format` (a name of pipeline/pairs/all_formats.py) are trained on: TRL's own
    three as they are, all others through the chat template, where the tokenizer has one."""
    if format == "trl" or not getattr(tokenizer, "chat_template", None):
        return "trl"
    return "trl-implicit" if format == "trl-implicit" else "trl-conversational"


@dataclass(frozen=True, slots=True)
class TokenisedPair:
    """Ids of one pair before the cut.

    position: its place in the order given, from 0. prompt: up to where the prompt alone and the prompt with either
    answer agree. chosen, rejected: from there on, None where the pair has no such side. prompt_lost: how many ids at
    the end of the prompt alone are missing in `prompt`. apart: for an encoder-decoder.
    problem: why there are no ids, else "": reasons of CannotHold, `no_sides`, `empty_prompt`, `no_chat_template`,
    `no_end_token`, `template_failed`, `not_encodable`, `too_long`; detail: what the library said.
    """

    pair: Pair
    position: int
    prompt: Ids = ()
    chosen: Ids | None = None
    rejected: Ids | None = None
    prompt_lost: int = 0
    max_length: int | None = None
    truncation_mode: str = "keep_start"
    apart: bool = False
    problem: str = ""
    detail: str = ""

    @property
    def dropped(self) -> bool:
        """Whether the trainer leaves the row out because its prompt alone fills `max_length`."""
        if self.problem or self.apart or self.max_length is None or self.truncation_mode != "keep_start":
            return False
        return len(self.prompt) >= self.max_length

    def kept(self, side: SideName) -> tuple[Ids, Ids]:
        """(prompt, answer) of one side after the cut, both empty where the row is dropped or has no such side."""
        answer = self.chosen if side == "chosen" else self.rejected
        if answer is None or self.dropped:
            return (), ()
        if self.max_length is None:
            return self.prompt, answer
        if self.truncation_mode == "keep_start":
            room = self.max_length if self.apart else self.max_length - len(self.prompt)
            return self.prompt[: self.max_length], answer[:room]
        room = self.max_length if self.apart else max(0, self.max_length - len(answer))
        return self.prompt[len(self.prompt) - min(room, len(self.prompt)) :], answer[-self.max_length :]


def tokenise_pairs(
    pairs: Iterable[Pair], tokenizer: Any, *, layout: Layout | None = None, max_length: int | None = 1024,
    truncation_mode: str = "keep_start", encoder_decoder: bool = False, cancel: threading.Event | None = None,
) -> Iterator[TokenisedPair]:  # fmt: skip
    """One TokenisedPair for each pair, in order; what can't be tokenised comes with its problem. Memory holds one
    batch at a time.

    tokenizer: of transformers; its chat template runs in this process, so one that isn't trusted is tried in
    pipeline/probe.py first. layout: None takes the chat template where there is one. max_length,
    truncation_mode: as DPOConfig has them; None cuts nothing. cancel: when set, no further batch is made.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length is {max_length}, must be at least 1")
    if truncation_mode not in TRUNCATION_MODES:
        raise ValueError(f"truncation_mode is {truncation_mode!r}, must be one of {TRUNCATION_MODES}")
    encode = _Encoder(tokenizer, layout or layout_for("", tokenizer), encoder_decoder)
    position = 0
    for batch in _batches(pairs):
        if cancel is not None and cancel.is_set():
            return
        for pair, made in zip(batch, encode(batch), strict=True):
            if isinstance(made, _Problem):
                yield TokenisedPair(pair, position, problem=made.reason, detail=made.detail)
            else:
                yield TokenisedPair(pair, position, *made, max_length, truncation_mode, encoder_decoder)
            position += 1


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Groups bounded in number and characters; a longer pair stands alone."""
    batch: list[Pair] = []
    characters = 0
    for pair in pairs:
        size = _characters(pair)
        if batch and (len(batch) >= _BATCH_PAIRS or characters + size > _BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(pair)
        characters += size
    if batch:
        yield batch


def _characters(pair: Pair) -> int:
    sides = (pair.prompt, pair.chosen, pair.rejected)
    return len(pair.system or "") + sum(len(side) if isinstance(side, str) else len(text_of(side)) for side in sides)


@dataclass(frozen=True, slots=True)
class _Problem:
    reason: str
    detail: str = ""


_Made = tuple[Ids, Ids | None, Ids | None, int]  # prompt, chosen, rejected, prompt_lost
_Input = str | list[Message]


@dataclass(frozen=True, slots=True)
class _Request:
    """What is encoded of one pair: its prompt, and each answer there is with the prompt in front (apart: alone)."""

    prompt: _Input
    answers: tuple[_Input | None, _Input | None]
    variables: Mapping[str, Any]


class _Encoder:
    """Ids of a batch of pairs in one layout. Calls the tokenizer as trl.data_utils._tokenize does, many at once."""

    def __init__(self, tokenizer: Any, layout: Layout, apart: bool) -> None:
        self.tokenizer, self.layout, self.apart = tokenizer, layout, apart
        self.template = bool(getattr(tokenizer, "chat_template", None))
        self.direct = _is_plain_backend(tokenizer)
        self.end_text: str | None = tokenizer.eos_token
        self.end: int | None = tokenizer.eos_token_id

    def __call__(self, pairs: Sequence[Pair]) -> list[_Made | _Problem]:
        requests = [self._request(pair) for pair in pairs]
        good = [r for r in requests if isinstance(r, _Request)]
        prompts = iter(self._encode([(r.prompt, r.variables) for r in good], prompt=True))
        answers = iter(self._encode([(a, r.variables) for r in good for a in r.answers if a is not None], prompt=False))
        made: list[_Made | _Problem] = []
        for request in requests:
            if isinstance(request, _Problem):
                made.append(request)
                continue
            prompt = next(prompts)
            chosen, rejected = (None if a is None else next(answers) for a in request.answers)
            made.append(self._joined(prompt, chosen, rejected))
        return made

    def _request(self, pair: Pair) -> _Request | _Problem:
        if pair.chosen is None and pair.rejected is None:
            return _Problem("no_sides")
        if _characters(pair) > MAX_CHARACTERS:
            return _Problem("too_long")
        try:
            if self.apart:
                return self._apart(pair)
            if self.layout == "trl":
                return self._text(pair)
            return self._conversation(pair)
        except CannotHold as reason:
            return _Problem(str(reason.args[0]))
        except (ValueError, TypeError, RecursionError) as failed:
            return _Problem("template_failed", _one_line(failed))

    def _text(self, pair: Pair) -> _Request | _Problem:
        end = self.end_text
        if not end:
            return _Problem("no_end_token")
        prompt = one_question(pair)

        def answered(side: Side | None) -> str | None:
            text = None if side is None else plain(side)
            return None if text is None else prompt + (text if text.endswith(end) else text + end)

        return _Request(prompt, (answered(pair.chosen), answered(pair.rejected)), {})

    def _conversation(self, pair: Pair) -> _Request | _Problem:
        if not self.template:
            return _Problem("no_chat_template")
        prompt = with_system(pair)
        answers = tuple(None if side is None else whole(prompt, side) for side in (pair.chosen, pair.rejected))
        if self.layout == "trl-implicit" and answers[0] is not None and answers[1] is not None:
            prompt = answers[0][: common_start(*answers)]  # type: ignore[arg-type]
        if not prompt:
            return _Problem("empty_prompt")
        return _Request(prompt, answers, _template_variables(pair))  # type: ignore[arg-type]

    def _apart(self, pair: Pair) -> _Request | _Problem:
        turns = with_system(pair)
        if not turns:
            return _Problem("empty_prompt")
        texts = (None if side is None else text_of(side_turns(side)) for side in (pair.chosen, pair.rejected))
        prompt: _Input = turns if self.template and self.layout != "trl" else text_of(turns)
        chosen, rejected = texts
        return _Request(prompt, (chosen, rejected), _template_variables(pair))

    def _encode(self, inputs: Sequence[tuple[_Input, Mapping[str, Any]]], *, prompt: bool) -> list[Ids | _Problem]:
        """Ids of each input: all that need no variables of their own in one call, one by one where that fails."""
        found: dict[int, Ids | _Problem] = {}
        for texts in (True, False):
            together = [
                n for n, (what, variables) in enumerate(inputs) if isinstance(what, str) is texts and not variables
            ]
            try:
                if together:
                    ids = self._ids([inputs[n][0] for n in together], prompt, {})
                    found.update(zip(together, map(tuple, ids), strict=True))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # a Rust panic of tokenizers is no Exception
                continue
        return [found[n] if n in found else self._alone(*one, prompt) for n, one in enumerate(inputs)]

    def _alone(self, what: _Input, variables: Mapping[str, Any], prompt: bool) -> Ids | _Problem:
        try:
            return tuple(self._ids([what], prompt, variables)[0])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failed:
            return _Problem("not_encodable" if isinstance(what, str) else "template_failed", _one_line(failed))

    def _ids(self, what: Sequence[_Input], prompt: bool, variables: Mapping[str, Any]) -> list[list[int]]:
        if isinstance(what[0], str):
            if self.apart and not prompt:
                return self.tokenizer(text_target=list(what), verbose=False)["input_ids"]
            return self._text_ids(what, special=True)
        if self.direct:
            texts = self.tokenizer.apply_chat_template(
                list(what), tokenize=False, add_generation_prompt=prompt, **{"tools": None, **variables}
            )  # fmt: skip
            return self._text_ids(texts, special=False)
        return self.tokenizer.apply_chat_template(
            list(what), tokenize=True, return_dict=True, add_generation_prompt=prompt,
            tokenizer_kwargs={"return_attention_mask": False, "verbose": False}, **{"tools": None, **variables},
        )["input_ids"]  # fmt: skip

    def _text_ids(self, texts: Sequence[_Input], special: bool) -> list[list[int]]:
        if not self.direct:
            return self.tokenizer(text=list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        # Sets the backend as every call does: no truncation or padding that its file declares. Then without offsets
        # and token texts, which nobody reads here: that takes a quarter off.
        self.tokenizer(text="", verbose=False)
        backend = self.tokenizer.backend_tokenizer
        return [made.ids for made in backend.encode_batch_fast(list(texts), add_special_tokens=special)]

    def _joined(
        self, prompt: Ids | _Problem, chosen: Ids | _Problem | None, rejected: Ids | _Problem | None
    ) -> _Made | _Problem:  # fmt: skip
        if isinstance(prompt, _Problem):
            return prompt
        if isinstance(chosen, _Problem):
            return chosen
        if isinstance(rejected, _Problem):
            return rejected
        if self.apart:
            end = self.end
            chosen, rejected = (
                ids if ids is None or end is None or ids[-1:] == (end,) else (*ids, end) for ids in (chosen, rejected)
            )
            return prompt, chosen, rejected, 0
        length = min(_agreeing(prompt, ids) for ids in (chosen, rejected) if ids is not None)
        chosen, rejected = (None if ids is None else ids[length:] for ids in (chosen, rejected))
        return prompt[:length], chosen, rejected, len(prompt) - length


def _is_plain_backend(tokenizer: Any) -> bool:
    """Whether nothing stands between a call of this tokenizer and the tokenizers library."""
    from transformers import PreTrainedTokenizerBase, TokenizersBackend

    kind = type(tokenizer)
    return (
        isinstance(tokenizer, TokenizersBackend)
        and kind.__call__ is PreTrainedTokenizerBase.__call__
        and kind.apply_chat_template is PreTrainedTokenizerBase.apply_chat_template
        and kind._encode_plus is TokenizersBackend._encode_plus
    )


def _template_variables(pair: Pair) -> dict[str, Any]:
    """What TRL hands to the template beside the messages: the row's `tools` and `chat_template_kwargs`."""
    tools = pair.extra.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    given = pair.extra.get("chat_template_kwargs") or {}
    return {**({} if tools is None else {"tools": tools}), **given}


def _agreeing(ids: Ids, other: Ids) -> int:
    """How many ids both begin with."""
    if other[: len(ids)] == ids:
        return len(ids)
    return next((n for n, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b), min(len(ids), len(other)))


def _one_line(failed: BaseException) -> str:
    lines = str(failed).strip().splitlines() or [""]
    return f"{type(failed).__name__}: {lines[0]}"[:200]


class TokenisedSample:
    """Up to `size` pairs of a stream that a model can be asked about, each as likely as any other (reservoir sampling,
    the same ones for one seed). left_out: pairs with a problem or with no token left on a side, by reason."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.left_out, self.seen = size, Counter[str](), 0
        self._random = Random(seed)
        self._held: list[TokenisedPair] = []

    @property
    def pairs(self) -> list[TokenisedPair]:
        """Those kept so far, in the order of their positions."""
        return sorted(self._held, key=lambda one: one.position)

    def add(self, one: TokenisedPair) -> None:
        reason = one.problem or ("dropped" if one.dropped else "")
        if not reason and (one.chosen is None or one.rejected is None):
            reason = "one_side_only"
        if not reason and not (one.kept("chosen")[1] and one.kept("rejected")[1]):
            reason = "nothing_left"
        if reason:
            self.left_out[reason] += 1
            return
        self.seen += 1
        if len(self._held) < self.size:
            self._held.append(one)
            return
        place = self._random.randrange(self.seen)
        if place < self.size:
            self._held[place] = one

    def passing(self, stream: Iterable[TokenisedPair]) -> Iterator[TokenisedPair]:
        """The stream itself, looked at while it passes."""
        for one in stream:
            self.add(one)
            yield one
