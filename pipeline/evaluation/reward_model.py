"""A reward model opened for an evaluation: every reason against it is one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.evaluation.results import ModelNamed
from pipeline.refusal import Refused, Sentence

if TYPE_CHECKING:
    from pipeline.candidates.open_makers import ModelFiles
    from pipeline.candidates.reward_scorer import RewardScorer

OPTION = "--reward-model"
# Refusals that speak of answers that are generated.
_SAID_OF_REWARDS = ("model_is_adapter", "adapter_not_found", "adapter_is_none")
_NO_HEAD = ("head_random", "no_reward_head")


def find_reward_model(
    path: str, *, adapter: str | None = None, base: str | None = None, tokenizer: str | None = None,
    model_config: str | None = None,
) -> ModelFiles:  # fmt: skip
    """Where it lies, before anything is loaded. Raises Refused."""
    from pipeline.candidates.open_makers import find_model

    try:
        return find_model(
            path, adapter=adapter, base=base, tokenizer=tokenizer, model_config=model_config, option=OPTION
        )
    except Refused as reason:
        if reason.sentence.entry in _SAID_OF_REWARDS:
            raise Refused(f"reward_{reason.sentence.entry}", **reason.sentence.params) from None
        raise


@contextmanager
def open_reward_model(
    files: ModelFiles, *, device: str = "cpu", dtype: str | None = None, note: Callable[[str], None] = lambda line: None
) -> Iterator[RewardScorer]:
    """Loads it; threads suit its size inside of the block. Raises Refused, above all where its rewards would mean
    nothing: no trained head, labels that don't say which is better, a model that writes."""
    from pipeline.candidates.open_makers import check_room
    from pipeline.candidates.reward_scorer import RewardScorer
    from pipeline.cpu_threads import suit_threads
    from pipeline.load_model import ModelNotLoaded, load_model

    check_room(files, device, dtype, OPTION)
    whole, base = (files.checkpoint, None) if files.adapter is None else (files.adapter, files.checkpoint)
    try:
        loaded = load_model(whole, head="reward", base=base, device=device, dtype=dtype, note=note)
        scorer = RewardScorer(loaded)
    except ModelNotLoaded as reason:
        raise _refused(files, reason.reason_id, reason.detail, reason.sentence) from None
    former = suit_threads(sum(tensor.numel for tensor in files.checkpoint.tensors.values()))
    try:
        with scorer:
            yield scorer
    finally:
        former()


def _refused(files: ModelFiles, reason: str, detail: str, why: Sentence) -> Refused:
    path = files.name
    if reason == "labels_unclear":
        return Refused("reward_labels_unclear", path=path, labels=detail)
    declared = next((str(name) for name in files.checkpoint.config.get("architectures") or ()), "")
    if reason in _NO_HEAD and files.adapter is not None:
        return Refused("reward_adapter_without_head", path=path, detail=detail)
    if reason in _NO_HEAD and declared.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return Refused("reward_model_writes", path=path, architecture=declared)
    if reason == "head_random":
        return Refused("reward_head_random", path=path, detail=detail)
    return Refused("model_unusable", option=OPTION, path=path, why=why)


def named(files: ModelFiles) -> ModelNamed:
    """As a result names it: by its folder, or by both folders where it is an adapter."""
    given = (files.adapter or files.checkpoint).given
    return ModelNamed(Path(given).name or given, files.name, "reward", files.fingerprint())
