"""CKP008: tensor names that still carry the wrapper they were trained in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import clipped
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.architecture import Architecture

# torch.compile, FSDP, activation checkpointing, DeepSpeed: they may sit in front of any part of a name.
_ANYWHERE = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
# DataParallel, PEFT, TRL's value head, trainers' own modules: in front of the whole name.
_IN_FRONT = re.compile(r"^(module|base_model\.model|pretrained_model|policy|actor|student)\.")
_LORA = re.compile(r"\.(lora_[AB]|base_layer)\.")
_DIGITS = re.compile(r"\d+")
Rename = Callable[[str], str]


@dataclass(frozen=True)
class Wrapping:
    """`prefix` stands in the names (as the user would search for it), `example` is one of them."""

    prefix: str
    example: str
    bare: str
    found: int


def names_wrapped(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Tensor names that still carry the wrapper they were trained in.

    What it checks:
        Whether the names begin with what torch.compile, DataParallel, FSDP or PEFT put before them, and whether the
        weights lie one level down, beside the optimiser's state.
    Why it matters:
        No name fits then. from_pretrained, and load_state_dict(strict=False), report it as a warning at most and leave
        the whole model random: the next stage trains or answers from nothing.
    How it is measured:
        A name is wrapped when it has no place in the model that config.json makes, and has one without the prefix. For
        unknown model types only the wrappers' own words count. A base model's prefix too little or too much is what
        from_pretrained itself adds or removes; it is only mentioned.
    Known false alarms:
        None known: the same renaming as the library's is tried first.
    Fix:
        Save the unwrapped model: `accelerator.unwrap_model(model).save_pretrained(...)`, `model._orig_mod`, or
        `model.merge_and_unload()` for PEFT. To repair the file, rename its keys.
    References:
        https://github.com/karpathy/nanoGPT/issues/325
        https://github.com/FareedKhan-dev/train-llm-from-scratch/issues/36
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind == "adapter":
        raise NotMeasured("is_an_adapter")
    if not checkpoint.tensors:
        raise NotMeasured("no_weights")
    nested = next((f for f in checkpoint.weight_files if f.nested_under), None)
    if nested is not None:
        judged = error if checkpoint.kind == "folder" else info
        outcome = "nested_state" if checkpoint.kind == "folder" else "nested_state_file"
        yield judged(outcome, (nested.name, nested.nested_under), file=nested.name, key=nested.nested_under)
    names = list(checkpoint.tensors)
    lora = [n for n in names if _LORA.search(n)]
    if lora:
        yield error("unmerged_adapter", (checkpoint.weight_names[0], lora[:10]), found=len(lora),
                    example=clipped(lora[0]))  # fmt: skip
        return
    found = subject.wrapping
    if found is not None:
        yield error("wrapped", (checkpoint.weight_names[0], found.example), prefix=found.prefix, found=found.found,
                    of=len(names), example=found.example, bare=found.bare)  # fmt: skip
        return
    shifted = _shifted(subject)
    if shifted is not None:
        yield info("prefix_is_mended", (checkpoint.weight_names[0], shifted[0]), example=shifted[0], place=shifted[1])
    elif nested is None:
        yield ok(found=len(names), example=clipped(names[0]))


def find_wrapping(subject: CheckpointSubject) -> Wrapping | None:
    """The wrapper in the names; None when they land in the model as they are, or nothing known stands in them."""
    names = list(subject.checkpoint.tensors)
    try:
        architecture = subject.architecture
    except NotMeasured:
        if any(_ANYWHERE.search(n) for n in names) or all(_bare(n) != n for n in names):
            return _wrapping(names, _bare)
        return None
    if not subject.landing.unexpected:
        return None
    # Names that differ in their numbers only land alike: one of them is tried for all.
    alike: dict[str, tuple[str, int]] = {}
    for name in names:
        pattern = _DIGITS.sub("0", name)
        first, count = alike.get(pattern, (name, 0))
        alike[pattern] = (first, count + 1)
    tried = list(alike.values())
    most = sum(count for name, count in tried if architecture.land(name) is not None)
    best = None
    for bare in _unwrapped([name for name, _ in tried], architecture):
        landed = sum(count for name, count in tried if architecture.land(bare(name)) is not None)
        if landed > most:
            best, most = bare, landed
    return None if best is None else _wrapping(names, best)


def _wrapping(names: list[str], bare: Rename) -> Wrapping | None:
    changed = [(n, b) for n in names if n != (b := bare(n))]
    if not changed:
        return None
    example, name = changed[0]
    inside = _ANYWHERE.search(example)
    prefix = example[: len(example) - len(name)] if example.endswith(name) else f"{inside.group(1) if inside else '?'}."
    return Wrapping(clipped(prefix), clipped(example), clipped(name), len(changed))


def _bare(name: str) -> str:
    """A name without the wrappers' own words."""
    plain = _ANYWHERE.sub("", name)
    for _ in range(3):
        plain = _IN_FRONT.sub("", plain)
    return plain


def _unwrapped(names: list[str], architecture: Architecture) -> Iterator[Rename]:
    """Ways to take away what may wrap the names, the likeliest first."""
    yield _bare
    # Any other prefix that all names share: a trainer's own attribute.
    shared = os.path.commonprefix([_bare(n).split(".") for n in names])
    for depth in range(1, min(len(shared), 5) + 1):
        yield _without(".".join(shared[:depth]) + ".")
    # `model.model.model.layers...` beside `model.model.lm_head...`
    once = f"{architecture.prefix}."
    for times in (2, 3):
        yield _without(once * times, once)


def _without(front: str, otherwise: str = "") -> Rename:
    def bare(name: str) -> str:
        plain = _bare(name)
        return plain.removeprefix(front if plain.startswith(front) else otherwise)

    return bare


def _shifted(subject: CheckpointSubject) -> tuple[str, str] | None:
    """A name to which from_pretrained adds the model's prefix, or from which it takes one, and where that leads."""
    try:
        prefix = f"{subject.architecture.prefix}."
    except NotMeasured:
        return None
    for place, name in subject.landing.landed.items():
        if prefix + name == place or name == prefix + place:
            return name, place
    return None
