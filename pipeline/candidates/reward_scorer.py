"""Scores answers with a reward model: a sequence classifier with one label, as TRL's RewardTrainer trains them.

The text is what TRL makes of a row: the model's chat template around the whole talk, without one the prompt and the
answer joined and closed with the end token; an encoder without a template (DeBERTa) takes both as a pair of texts. The
score is read where the library's own class reads it. Nothing is cut: a text that is too long has no score. Templates
come from strangers and are rendered in the limited process of `pipeline.probe`.
https://huggingface.co/docs/trl/reward_trainer; trl/trainer/reward_trainer.py
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reward_reader import Kept, RewardPiece, RewardReader
from pipeline.candidates.text_batches import token_limit
from pipeline.checkpoint import TokenizerFiles
from pipeline.config_files import load_config
from pipeline.load_model import LoadedModel, ModelNotLoaded
from pipeline.pairs.pair import Message, Pair, Side, content_text, text_of
from pipeline.pairs.turns import side_turns
from pipeline.probe import open_probe
from pipeline.score_answers import NotScored

Form = Literal["chat_template", "text_pair", "joined"]


class RewardScorer:
    """loaded: by load_model with head="reward". Close it; also a context manager.

    form: how prompt and answer become one text. limit: the most tokens of a text, None: any number. unscored: how many
    answers got no score so far, by reason, as `why_none` has it. kept: where set, scores of an earlier run are taken
    from there and new ones told to it.

    Raises ModelNotLoaded: `no_tokenizer`; `labels_unclear` for a classifier whose labels don't say which is better.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        if loaded.head != "reward":
            raise ModelNotLoaded("no_reward_head", type(loaded.core).__name__)
        if loaded.tokenizer is None:
            raise ModelNotLoaded("no_tokenizer", loaded.tokenizer_problem)
        self.loaded = loaded
        self.better = _better_label(loaded.core.config)
        self.form: Form = _form(loaded)
        self.limit = token_limit(loaded)
        self.unscored: Counter[str] = Counter()
        self.kept: Kept | None = None
        self._rows = int(loaded.core.get_input_embeddings().weight.shape[0])
        declared = loaded.core.config.get_text_config().pad_token_id
        pad = declared if isinstance(declared, int) and 0 <= declared < self._rows else None
        if pad is None and self.form == "text_pair":
            pad = loaded.tokenizer.pad_token_id
        self._eos: int | None = loaded.tokenizer.eos_token_id
        self._reader = RewardReader(loaded, pad, self.better, self._eos)
        self._probe = open_probe(TokenizerFiles(None), templates_only=True) if self.form == "chat_template" else None

    def close(self) -> None:
        """End the process that renders."""
        if self._probe is not None:
            self._probe.close()

    def __enter__(self) -> RewardScorer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def score(self, row: SourceRow, answers: Sequence[str]) -> list[float]:
        """A score for each answer, higher is better, NaN where there is none. Only answers of this row share a batch,
        so a score doesn't depend on other rows. Raises NotScored where the model fails."""
        return self.score_pieces(self.reward_pieces(row, answers))

    def reward_pieces(self, row: SourceRow, answers: Sequence[str]) -> list[RewardPiece]:
        """What the model reads, one for each answer."""
        return self.pieces([(row.pair, answer) for answer in answers])

    def pieces(self, asked: Sequence[tuple[Pair, Side]]) -> list[RewardPiece]:
        """What the model reads of each answer under the prompt of its pair; many at once cost little more than one."""
        if self._probe is None:
            return self._tokenized([("\n".join(t["content"] for t in _asked(pair)), text_of(a)) for pair, a in asked])
        talks = [[*_asked(pair), *_turns(side_turns(answer))] for pair, answer in asked]
        tokenizer = self.loaded.tokenizer
        names = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        made = self._probe.render_many(talks, variables=names, template=_template(tokenizer))
        texts = [one.text for one in made if one.text is not None]
        encoded = iter(self._encoded(texts, add_special_tokens=False))
        return [
            RewardPiece((), problem="template_failed", detail=f"{one.problem} {one.detail}".strip())
            if one.text is None else self._checked(*next(encoded))
            for one in made
        ]  # fmt: skip

    def score_pieces(
        self, pieces: Sequence[RewardPiece], *, cancel: threading.Event | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[float]:  # fmt: skip
        """A score for each piece, in order, NaN where there is none; equal ones are scored once. progress: told after
        each batch how many are done. Raises NotScored: `forward_failed`, `cancelled`."""
        found: dict[RewardPiece, float] = {}
        for batch, scores in self.score_batches(pieces):
            found.update(zip(batch, scores, strict=True))
            progress(len(found))
            if cancel is not None and cancel.is_set():
                raise NotScored("cancelled")
        scores = [found.get(piece, math.nan) for piece in pieces]
        for piece, score in zip(pieces, scores, strict=True):
            if not math.isfinite(score):
                self.unscored[self.why_none(piece, score)] += 1
        return [score if math.isfinite(score) else math.nan for score in scores]

    def score_batches(self, pieces: Iterable[RewardPiece]) -> Iterator[tuple[list[RewardPiece], list[float]]]:
        """Pieces with their scores (NaN or infinite: none), a batch at a time, equal ones once and those with a problem
        never. Raises NotScored: `forward_failed`."""
        return self._reader.batches(pieces, self.kept)

    def why_none(self, piece: RewardPiece, score: float) -> str:
        """Why a piece that was scored has no finite score: its own problem, `no_memory`, `weights_not_finite`,
        `overflow` or `not_finite`."""
        if piece.problem is not None:
            return piece.problem
        return "no_memory" if piece in self._reader.no_memory else self._reader.why_not_finite(score)

    def _tokenized(self, asked: Sequence[tuple[str, str]]) -> list[RewardPiece]:
        """What the tokenizer makes of prompts with their answers without a template."""
        if not asked:
            return []
        if self.form == "text_pair":
            return [self._checked(*one) for one in self._encoded([a for a, _ in asked], [b for _, b in asked])]
        end, decoder = self.loaded.tokenizer.eos_token or "", not self.loaded.is_encoder_decoder
        texts = [a + b + (end if decoder and not b.endswith(end) else "") for a, b in asked]
        made = []
        for ids, types in self._encoded(texts):
            if not decoder and self._eos is not None and self._eos not in ids:
                ids = [*ids, self._eos]
            made.append(self._checked(ids, types))
        return made

    def _encoded(self, *texts: list[str], **how: Any) -> list[tuple[list[int], list[int]]]:
        """Ids and type ids of each text, or of each pair of texts."""
        if not texts[0]:
            return []
        # half a character, which JSON can hold, is nothing a tokenizer takes
        whole = [[one.encode("utf-8", "replace").decode() for one in column] for column in texts]
        encoded = self.loaded.tokenizer(*whole, truncation=False, verbose=False, **how)
        types = encoded.get("token_type_ids") if "token_type_ids" in self.loaded.tokenizer.model_input_names else None
        return list(zip(encoded["input_ids"], types or [[]] * len(texts[0]), strict=True))

    def _checked(self, given: Sequence[int], types: Sequence[int]) -> RewardPiece:
        ids = tuple(given)
        piece = RewardPiece(ids, tuple(types) if types and self.form == "text_pair" else ())
        if not ids:
            return RewardPiece((), problem="empty")
        if self.limit is not None and len(ids) > self.limit:
            return RewardPiece((), problem="too_long", detail=f"{len(ids)} > {self.limit}")
        if max(ids) >= self._rows:
            return RewardPiece((), problem="ids_beyond_embedding", detail=f"{max(ids)} >= {self._rows}")
        return piece


def _asked(pair: Pair) -> list[dict[str, str]]:
    """The prompt's turns as text, the system's first."""
    system = [{"role": "system", "content": pair.system}] if pair.system else []
    return [*system, *_turns(pair.prompt)]


def _turns(turns: Sequence[Message]) -> list[Message]:
    """With text as content; what stands beside it (tool calls) as JSON has it, as it goes to another process."""
    found = []
    for turn in turns:
        if len(turn) > 2:
            turn = json.loads(json.dumps(turn, default=str))
        found.append({**turn, "content": content_text(turn.get("content"))})
    return found


def _better_label(config: Any) -> int:
    """Which of two labels is the better answer's, 0 where there is one label. Raises ModelNotLoaded."""
    labels = [str(name) for _, name in sorted((config.id2label or {}).items())]
    if len(labels) == 1:
        return 0
    table = load_config("reward_models.yaml")
    better = [place for place, name in enumerate(labels) if name.lower() in table["better_labels"]]
    worse = [place for place, name in enumerate(labels) if name.lower() in table["worse_labels"]]
    if len(labels) == 2 and len(better) == len(worse) == 1:
        return better[0]
    raise ModelNotLoaded("labels_unclear", f"{len(labels)}: {', '.join(labels[:5])}")


def _template(tokenizer: Any) -> str | None:
    held = tokenizer.chat_template  # by name where there are several
    held = held.get("default") if isinstance(held, dict) else held
    return held if isinstance(held, str) and held else None


def _form(loaded: LoadedModel) -> Form:
    from transformers.models.auto import modeling_auto as auto

    if _template(loaded.tokenizer):
        return "chat_template"
    encoder = type(loaded.core.config) in auto.MODEL_FOR_MASKED_LM_MAPPING.keys()  # noqa: SIM118 - it has no __iter__
    return "text_pair" if encoder and not loaded.is_encoder_decoder else "joined"
