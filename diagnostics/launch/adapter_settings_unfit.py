"""RUN016: LoRA and quantisation settings that don't fit the model or each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds

_HEADS = ("lm_head", "embed_out", "output")
_ROWS = ("embed_tokens", "lm_head", "shared", "wte")


def adapter_settings_unfit(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        lora_target_modules and lora_modules_to_save against the names of the model's own parts; quantised loading with
        full training; LoRA fields that nothing reads; lora_alpha against lora_r.
    Why it matters:
        A name that fits nothing ends the run after the model is loaded, or leaves a part out silently. Quantised
        weights can't be trained themselves. New rows of a resized vocabulary that stay frozen never learn their tokens.
    How it is measured:
        Names by config.json or the headers of the weights, without loading the model.
    Known false alarms:
        Architectures whose parts are named otherwise once loaded (experts that are fused).
    Fix:
        lora_target_modules: all-linear, or names from the list that is shown.
    References:
        https://huggingface.co/docs/peft/package_reference/lora
        https://github.com/huggingface/peft/issues/349
    """
    bits = [name for name in ("load_in_4bit", "load_in_8bit") if subject.get(name, False)]
    found = False
    if len(bits) > 1:
        found = True
        yield error("both_quantisations", *((name, True) for name in bits))
    if bits and not subject.lora:
        found = True
        yield error("quantised_without_adapter", (bits[0], True), ("use_peft", False), field=bits[0])
    if bits and subject.on_cpu:
        found = True
        yield warning("quantised_on_cpu", (bits[0], True), field=bits[0])
    if not subject.lora:
        unread = [
            name for name in subject.asked.fields if name.startswith("lora_") or name in ("use_dora", "use_rslora")
        ]
        # `use_peft: false` set by hand says that they are meant to rest
        if unread and "use_peft" not in subject.asked.fields:
            found = True
            yield warning("fields_unread", *((name, subject.get(name)) for name in unread), names=", ".join(unread))
        if not found:
            yield ok("full")
        return
    yield from _targets(subject)
    r, alpha = int(subject.get("lora_r", 16)), float(subject.get("lora_alpha", 32))
    if alpha == 0:
        yield error("alpha_zero", ("lora_alpha", 0))
    elif not 0.25 <= alpha / r <= 8 and not subject.get("use_rslora", False):
        yield info("alpha_unusual", ("lora_alpha", alpha), ("lora_r", r), r=r, alpha=alpha)
    saved = [str(one) for one in subject.get("lora_modules_to_save") or ()]
    if subject.get("resize_vocab", False) and saved and not any(name.endswith(_ROWS) for name in saved):
        yield info("rows_added_to_saved", ("lora_modules_to_save", saved))


def _targets(subject: RecipeSubject) -> Iterator[Observation]:
    given = subject.get("lora_target_modules")
    targets: Any = [str(one) for one in given] if isinstance(given, list) else given
    if targets == ["all-linear"] or targets == "all-linear" or targets is None:
        yield ok("targets", names="all-linear" if targets else "peft")
        return
    names = [targets] if isinstance(targets, str) else targets
    paths = [m.name.removesuffix(".weight") for m in subject.shape.matrices]
    head = [name for name in names if name in _HEADS]
    absent = [n for n in names if n not in head and not any(p == n or p.endswith(f".{n}") for p in paths)]
    modules = sorted({path.rpartition(".")[2] for path in paths if path.rpartition(".")[2] != "*"})
    evidence = ("lora_target_modules", names)
    numbers = {"names": ", ".join(absent), "known": ", ".join(modules[:24])}
    if head and subject.method in ("dpo", "kto", "sft", "grpo", "rloo"):
        yield error("head_targeted", evidence, names=", ".join(head))
    if len(names) == 1 and absent and any(sign in names[0] for sign in r"\*+?[(|^$"):
        yield info("targets_by_expression", evidence, names=names[0])
    elif absent and len(absent) == len(names):
        yield error("no_target_there", evidence, **numbers)
    elif absent:
        yield warning("some_targets_absent", evidence, **numbers)
    elif not head:
        yield ok("targets", names=", ".join(names))
