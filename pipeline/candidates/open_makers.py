"""Opens what each pass of a run needs: models, with one in memory at a time, endpoints, alterations and scorers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.candidates.candidate import Candidate, CandidateStrategy, Maker, SourceRow
from pipeline.candidates.plan import Group
from pipeline.candidates.reference_rows import ReferenceRows
from pipeline.candidates.run import Measure, Opened
from pipeline.candidates.write_candidates import MeasuredRow
from pipeline.checkpoint import Checkpoint, PathNotFound, open_base, open_checkpoint
from pipeline.free_memory import free_memory
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.correction import Corrector
    from pipeline.candidates.endpoint import Endpoint
    from pipeline.candidates.prompting import Prompting
    from pipeline.load_model import LoadedModel

_ROOM = 0.9  # of the free memory that weights may take
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
LENGTHS_OF = 256  # rows whose prompts tell how long prompts are, for the memory that answers take
REWARD, EMBEDDING = "reward", "embedding"
SCORERS = {REWARD: "--reward", EMBEDDING: "--embedding-model"}  # by the options that name them


@dataclass(frozen=True)
class ModelFiles:
    """A checkpoint that writes, with the adapter on it."""

    checkpoint: Checkpoint
    adapter: Checkpoint | None = None

    @property
    def name(self) -> str:
        return self.checkpoint.given if self.adapter is None else f"{self.checkpoint.given} + {self.adapter.given}"

    def fingerprint(self) -> str:
        from pipeline.candidates.model_fingerprint import model_fingerprint

        return model_fingerprint(self.checkpoint, self.adapter)


def find_model(
    model: str, *, adapter: str | None = None, base: str | None = None, tokenizer: str | None = None,
    model_config: str | None = None, option: str = "--model",
) -> ModelFiles:  # fmt: skip
    """Where a model and its adapter lie, before anything is loaded. A model that is an adapter itself stands on `base`,
    or on what its configuration names. Raises Refused, above all for an adapter that isn't one: the base alone would
    write other answers."""
    found = open_checkpoint(model, tokenizer=tokenizer, model_config=model_config)
    if found.problem is not None:
        why = Sentence(found.problem, {"detail": found.detail})
        raise Refused("model_unusable", option=option, path=model, why=why)
    if found.kind == "adapter":
        if adapter is not None:
            raise Refused("model_is_adapter", path=model, adapter=adapter)
        return ModelFiles(_base_of(found, base, tokenizer), found)
    if adapter is None:
        return ModelFiles(found)
    try:
        put_on = open_checkpoint(adapter)
    except PathNotFound as reason:
        if reason.sentence.entry.startswith("hub_"):
            raise
        raise Refused("adapter_not_found", path=adapter) from None
    if put_on.problem is not None or put_on.kind != "adapter" or not put_on.weight_names:
        raise Refused("adapter_is_none", path=adapter)
    return ModelFiles(found, put_on)


def find_embedder(given: str) -> ModelFiles:
    """Where an embedding model lies, before anything is loaded. Raises Refused for a folder without one."""
    found = open_checkpoint(given)
    parts = Path(given) / "modules.json"  # of sentence-transformers, whose old folders have the model in one below
    if found.problem is not None and not parts.is_file():
        why = Sentence(found.problem, {"detail": found.detail})
        raise Refused("model_unusable", option=SCORERS[EMBEDDING], path=given, why=why)
    return ModelFiles(found)


def _base_of(adapter: Checkpoint, base: str | None, tokenizer: str | None) -> Checkpoint:
    named = base or str(adapter.adapter_config.get("base_model_name_or_path") or "")
    folder = adapter.local_folder()
    places = [named, *([str(folder / named)] if folder is not None and base is None else [])] if named else []
    for place in places:  # a path relative to the adapter's own folder is common after a move
        try:
            return open_base(place)
        except PathNotFound:
            if base is not None:
                raise
    raise Refused("adapter_base_needed", path=adapter.given, base=named)


def check_room(files: ModelFiles, device: str, dtype: str | None, option: str = "--model") -> None:
    """Raises Refused for a model that doesn't fit into memory, with what would."""
    numbers = sum(tensor.numel for tensor in files.checkpoint.tensors.values())
    declared = str(files.checkpoint.config.get("dtype") or files.checkpoint.config.get("torch_dtype") or "")
    narrow = declared.removeprefix("torch.")
    chosen = dtype or ("float32" if device == "cpu" or numbers < 3e9 else narrow if narrow in _BYTES else "bfloat16")
    free = free_memory(device)
    needed = numbers * _BYTES[chosen]
    if free is None or needed <= _ROOM * free:
        return
    half = numbers * _BYTES["bfloat16"]
    way = Sentence("model_needs_server", {"path": files.checkpoint.given})
    if option != "--model":
        way = Sentence("scorer_too_large")
    if half < needed and half <= _ROOM * free:
        way = Sentence("model_fits_half", {"needed": f"{half / 2**30:.1f}"})
    raise Refused(
        "model_too_large", option=option, path=files.checkpoint.given, needed=f"{needed / 2**30:.1f}", dtype=chosen,
        free=f"{free / 2**30:.1f}", device=device, way=way,
    )  # fmt: skip


@dataclass
class OpenMakers:
    """Makers of one run. own: the run's model. endpoint: where it is behind HTTP instead. other: opens the files of
    another checkpoint. endpoint_at: an endpoint at an address. sample: rows that prompt formats are told by.

    reward, embedding: paths of models that score.
    """

    seed: int
    reference: ReferenceRows
    sample: Sequence[SourceRow]
    own: ModelFiles | None
    other: Callable[[str, str | None], ModelFiles]
    endpoint: Endpoint | None
    endpoint_at: Callable[[str], Endpoint]
    corrector: Corrector | None
    device: str = "cpu"
    dtype: str | None = None
    prompt_format: str = "auto"
    system: str | None = None
    thinking: bool = False
    max_new_tokens: int = 256
    batch_size: int | None = None
    concurrency: int | None = None
    reward: str | None = None
    embedding: str | None = None
    lang: str = "en"
    note: Callable[[str], None] = lambda line: None
    _held: tuple[str, LoadedModel, Prompting, str] | None = None

    @contextmanager
    def open(self, group: Group) -> Iterator[Opened]:
        """As of Makers. Raises Refused."""
        if group.source == "alteration":
            from pipeline.candidates.alteration_maker import AlterationMaker

            yield Opened(AlterationMaker(group.strategies, seed=self.seed, reference=self.reference))
        elif group.source == "endpoint":
            self.close()
            yield Opened(self._requests(group.strategies))
        elif group.source == "correction":
            yield Opened(self._correcting(group))
        else:
            files = self._files(group)
            loaded, prompting, fingerprint = self._load(files)
            maker = self._writer(loaded, prompting, group.strategies, files, fingerprint) if group.strategies else None
            measure = None
            if group.name == "main":
                from pipeline.candidates.likelihood_measures import LikelihoodMeasures

                measures = LikelihoodMeasures(loaded, prompting, self.reference)
                measure = _likelihoods(measures)
            yield Opened(maker, measure)
            if group.name == "main":
                self.close()

    @contextmanager
    def scorer(self, name: str) -> Iterator[Measure]:
        """As of Makers. Raises Refused."""
        from pipeline.load_model import ModelNotLoaded

        self.close()
        given = self.reward if name == REWARD else self.embedding
        assert given is not None
        try:
            if name == REWARD:
                from pipeline.candidates.reward_scorer import RewardScorer
                from pipeline.load_model import load_model

                files = find_model(given, option=SCORERS[name])
                loaded = load_model(
                    files.adapter or files.checkpoint, head="reward", base=files.checkpoint if files.adapter else None,
                    device=self.device, dtype=self.dtype, note=self.note,
                )  # fmt: skip
                with RewardScorer(loaded) as scorer:
                    yield _rewards(scorer)
                return
            from pipeline.candidates.embedder import load_embedder

            yield _embeddings(load_embedder(given, device=self.device, dtype=self.dtype, note=self.note))
        except ModelNotLoaded as reason:
            raise _not_loaded(given, reason, SCORERS[name]) from None

    def close(self) -> None:
        """Lets go of the model in memory."""
        if self._held is None:
            return
        self._held[2].close()
        self._held = None
        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def _files(self, group: Group) -> ModelFiles:
        if group.model is None and group.adapter is None:
            assert self.own is not None
            return self.own
        model = group.model
        if model is None:
            assert self.own is not None
            model = self.own.checkpoint.given
        return self.other(model, group.adapter)

    def _requests(self, strategies: Sequence[CandidateStrategy]) -> Maker:
        from pipeline.candidates.endpoint_maker import EndpointMaker

        places: dict[str | None, Endpoint] = {}
        for strategy in strategies:
            if strategy.model is not None:
                places[strategy.model] = self.endpoint_at(strategy.model)
            elif self.endpoint is not None:
                places[None] = self.endpoint
        return EndpointMaker(
            strategies, places, seed=self.seed, concurrency=self.concurrency, system=self.system,
            thinking=self.thinking, note=self.note, lang=self.lang,
        )  # fmt: skip

    def _correcting(self, group: Group) -> Maker:
        from pipeline.candidates.correction import CorrectionMaker

        [strategy] = group.strategies
        assert self.corrector is not None
        greedy = replace(strategy, kind="greedy")
        if self.endpoint is not None:
            own = self._requests([greedy])
        else:
            assert self.own is not None
            loaded, prompting, fingerprint = self._load(self.own)
            own = self._writer(loaded, prompting, [greedy], self.own, fingerprint)
        return CorrectionMaker(
            strategy, own, self.corrector, concurrency=self.concurrency, note=self.note, lang=self.lang
        )

    def _load(self, files: ModelFiles) -> tuple[LoadedModel, Prompting, str]:
        """Raises Refused. The model stays in memory until another is needed."""
        from pipeline.candidates.prompting import choose_prompting
        from pipeline.load_model import ModelNotLoaded, load_model

        if self._held is not None and self._held[0] == files.name:
            return self._held[1:]
        self.close()
        check_room(files, self.device, self.dtype)
        whole = files.checkpoint if files.adapter is None else files.adapter
        base = None if files.adapter is None else files.checkpoint
        try:
            loaded = load_model(whole, base=base, device=self.device, dtype=self.dtype, note=self.note)
        except ModelNotLoaded as reason:
            raise _not_loaded(files.name, reason) from None
        if loaded.adapter_missing_keys or loaded.adapter_unexpected_keys:
            assert files.adapter is not None
            lost = len(loaded.adapter_missing_keys) + len(loaded.adapter_unexpected_keys)
            raise Refused("adapter_does_not_fit", path=files.adapter.given, base=files.checkpoint.given, n=lost)
        if loaded.random_parts:
            names = ", ".join(loaded.random_parts[:3])
            raise Refused("model_partly_random", path=files.name, n=len(loaded.random_parts), names=names)
        if loaded.tokenizer is not None and not loaded.tokenizer.encode("A a 1 。", add_special_tokens=False):
            raise Refused("model_without_tokenizer", path=files.name, why=Sentence("tokenizer_empty"))
        tokenizer = whole if whole.tokenizer.store is not None else files.checkpoint
        prompting = choose_prompting(
            loaded, tokenizer, self.sample, format=self.prompt_format, system=self.system, thinking=self.thinking
        )
        for remark in prompting.remarks:
            self.note(remark.said(self.lang))
        self._held = (files.name, loaded, prompting, files.fingerprint())
        return self._held[1:]

    def _writer(
        self, loaded: LoadedModel, prompting: Prompting, strategies: Sequence[CandidateStrategy], files: ModelFiles,
        fingerprint: str,
    ) -> Maker:  # fmt: skip
        from pipeline.candidates.model_maker import ModelMaker
        from pipeline.candidates.prompting import Prompt

        sample = prompting.prompts(self.sample[:LENGTHS_OF])
        longest = max((len(one.ids) for one in sample if isinstance(one, Prompt)), default=512)
        maker = ModelMaker(
            loaded, prompting, strategies, seed=self.seed, max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size, longest=longest, model=files.name, fingerprint=fingerprint,
        )  # fmt: skip
        if not maker.in_slots:
            self.note(Sentence("note_prompt_by_prompt", {}, "candidates").said(self.lang))
        if loaded.dtype not in ("float32", "float64"):
            self.note(Sentence("note_half_precision", {"dtype": loaded.dtype}, "candidates").said(self.lang))
        return maker


def _not_loaded(path: str, reason: Any, option: str = "--model") -> Refused:
    return Refused("model_unusable", option=option, path=path, why=reason.sentence)


def _answered(held: MeasuredRow) -> list[Candidate]:
    return [one for one in held.candidates if one.problem is None and one.text.strip()]


def _likelihoods(measures: Any) -> Measure:
    from pipeline.score_answers import NotScored

    def measure(held: MeasuredRow) -> None:
        there = _answered(held)
        try:
            found, chosen = measures.measure(held.row, [one.text for one in there], [one.ended for one in there])
        except NotScored:
            return
        for candidate, added in zip(there, found, strict=True):
            candidate.measures |= added
        held.chosen_measures |= chosen or {}

    return measure


def _rewards(scorer: Any) -> Measure:
    def measure(held: MeasuredRow) -> None:
        there = _answered(held)
        gold = held.row.gold
        scores = scorer.score(held.row, [*(one.text for one in there), *([gold] if gold is not None else [])])
        if gold is not None:
            held.chosen_measures |= _reward(scores.pop())
        for candidate, score in zip(there, scores, strict=True):
            candidate.measures |= _reward(score)

    return measure


def _reward(score: float) -> Mapping[str, float]:
    return {"reward": round(score, 4)} if score == score else {}


def _embeddings(embedder: Any) -> Measure:
    def measure(held: MeasuredRow) -> None:
        there = _answered(held)
        asked = [held.row.question] * len(there)
        for candidate, near in zip(there, embedder.similarity(asked, [one.text for one in there]), strict=True):
            if near == near:
                candidate.measures["embedding_similarity"] = round(near, 4)

    return measure


def default_device(given: str | None) -> str:
    """`cuda` where there is one, unless another was asked for. Raises Refused for one that can't be used."""
    if given in ("cpu", None) and (given == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") == ""):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return given or "cuda"
    if given is None:
        return "cpu"
    raise Refused("no_gpu")


