"""RUN015: a reference that isn't the model as it is at the start."""

from __future__ import annotations

import os
from collections.abc import Iterator

from diagnostics.recipe_subject import REFERENCED, RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import open_checkpoint
from pipeline.refusal import Refused


def reference_unfit(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the reference that rewards are measured from is the model at its start, and whether the fields that
        concern it go together.
    Why it matters:
        With another reference the first loss is far from ln 2 and training pulls towards, or away from, that other
        model. The commonest way there: an SFT adapter that is trained on, with the bare base as its reference.
    How it is measured:
        ref_model_name_or_path, adapter_name_or_path, precompute_ref_log_probs, sync_ref_model and beta of the recipe.
        An SFT adapter named in adapter_name_or_path is merged before the training, so that the reference has it too.
    Known false alarms:
        A stronger reference taken on purpose.
    Fix:
        Leave ref_model_name_or_path out: the model at its start is the reference.
    References:
        https://github.com/hiyouga/LlamaFactory/issues/8459
        https://github.com/huggingface/trl/issues/1340
        https://github.com/huggingface/trl/issues/1365
    """
    if subject.method not in REFERENCED and not (
        subject.method in ("grpo", "rloo") and subject.get("sync_ref_model", False)
    ):
        raise NotMeasured("no_reference", method=subject.method)
    found = False
    reference, model = subject.get("ref_model_name_or_path"), str(subject.get("model_name_or_path") or "")
    synced, precomputed = (
        bool(subject.get("sync_ref_model", False)),
        bool(subject.get("precompute_ref_log_probs", False)),
    )
    if synced and precomputed:
        found = True
        yield error("synced_and_precomputed", ("sync_ref_model", True), ("precompute_ref_log_probs", True))
    if synced and subject.lora:
        found = True
        yield error("synced_with_adapter", ("sync_ref_model", True), ("use_peft", True))
    if reference:
        found = True
        evidence = ("ref_model_name_or_path", reference)
        try:
            kind = open_checkpoint(str(reference)).kind
        except Refused:
            kind = "none"
        if kind == "adapter":
            yield error("reference_is_adapter", evidence, reference=reference)
        elif kind == "none":
            yield error("reference_not_there", evidence, reference=reference)
        elif _same(str(reference), model) and subject.get("adapter_name_or_path"):
            yield warning("reference_without_adapter", evidence, reference=reference)
        elif _same(str(reference), model):
            yield info("reference_named_needlessly", evidence, reference=reference)
        else:
            yield warning("reference_is_another", evidence, reference=reference)
    if not found:
        yield ok("adapter_off", model=model) if subject.lora else ok("copy", model=model)


def _same(one: str, other: str) -> bool:
    return one == other or (os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other))
