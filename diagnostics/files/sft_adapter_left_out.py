"""ADP006: an adapter trained on top of another one that its base does not contain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.adapter_base_unknown import last_part
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import Checkpoint, PathNotFound, open_checkpoint
from pipeline.file_store import LocalFolder
from pipeline.json_file import JsonFile

# Model cards of the Trainer and of TRL: "This model is a fine-tuned version of [NAME](URL)".
_CARD = re.compile(r"fine-?tuned version of \[([^\]\n]{1,200})\]", re.IGNORECASE)
# A name that says it is the result of a training stage rather than a base.
_A_STAGE = re.compile(r"sft|lora|adapter|finetun|fine-tun|instruction-tun", re.IGNORECASE)
_CARD_BYTES = 2**16


def sft_adapter_left_out(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An adapter trained on top of another one that its base does not contain.

    What it checks:
        Whether a preference-trained adapter names the raw base although it began from an SFT adapter.
    Why it matters:
        Loaded on the raw base the DPO adapter lacks the SFT half of what it was trained with: the model goes on writing
        turns of its own, and scores far below the SFT model.
    How it is measured:
        By the model card ("fine-tuned version of ..."), or by a sibling adapter of the same base whose log has losses
        but no rewards, while the log of this one has rewards.
    Known false alarms:
        Siblings may be rivals rather than stages; so it stays a warning.
    Fix:
        Merge the SFT adapter into the base first (PeftModel.from_pretrained(base, sft).merge_and_unload()), save that,
        and put the DPO adapter on it.
    References:
        https://github.com/huggingface/alignment-handbook/issues/39
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    declared = checkpoint.adapter_config.get("base_model_name_or_path")
    if not isinstance(declared, str) or not declared:
        raise NotMeasured("no_adapter_base", detail="")
    card = _card(checkpoint)
    if card and last_part(card) != last_part(declared):
        evidence = (("README.md", card), (checkpoint.adapter_config.where("base_model_name_or_path"), declared))
        if _A_STAGE.search(card) and not _A_STAGE.search(declared):
            yield warning("card_names_stage", *evidence, card=card, declared=declared)
        else:
            yield info("card_names_other", *evidence, card=card, declared=declared)
        return
    preference = _has_rewards(checkpoint.trainer_state)
    if preference is None and not card:
        raise NotMeasured("no_training_record")
    sibling = _supervised_sibling(checkpoint, declared) if preference else None
    if sibling is not None:
        yield warning("sibling_adapter", (str(sibling), declared), sibling=sibling.name, declared=declared)
    else:
        yield ok(declared=declared)


def _card(checkpoint: Checkpoint) -> str:
    store = checkpoint.store
    if "README.md" not in store.names():
        return ""
    try:
        with store.open("README.md") as file:
            text = file.read(_CARD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    found = _CARD.search(text)
    return found.group(1).strip("` ") if found else ""


def _has_rewards(state: JsonFile) -> bool | None:
    """Whether a log comes from preference training; None without a log."""
    history = state.get("log_history")
    if not isinstance(history, list):
        return None
    rows = [row for row in history if isinstance(row, dict)]
    return any(str(key).removeprefix("eval_").startswith("rewards/") for row in rows for key in row) if rows else None


def _supervised_sibling(checkpoint: Checkpoint, declared: str) -> Path | None:
    """An adapter beside this one (or beside its run) of the same base, trained without rewards."""
    if not isinstance(checkpoint.store, LocalFolder):
        return None
    here = checkpoint.store.path.resolve()
    run = here.parent if re.match(r"checkpoint-\d+$", here.name) else here
    try:
        beside = [run.parent / f for f in LocalFolder(run.parent).folders()[:200]]
    except OSError:
        return None
    for folder in beside:
        if folder in (run, here):
            continue
        try:
            other = open_checkpoint(str(folder))
        except PathNotFound:
            continue
        same = other.kind == "adapter" and other.adapter_config.get("base_model_name_or_path") == declared
        if same and _has_rewards(other.trainer_state) is False:
            return folder
    return None
