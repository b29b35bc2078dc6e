"""WGT004: an adapter whose matrices are still where they started."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds

if TYPE_CHECKING:
    from pipeline.weight_scan import TensorScan

# One of the factors of each kind starts at zero so that a fresh adapter changes nothing (peft/tuners/*/layer.py).
_STARTS_AT_ZERO = re.compile(
    r"\.(lora_B|lora_E|lora_embedding_A|hada_w2_b|vera_lambda_b|boft_R|oft_R|oft_embedding_R|randlora_lambda|"
    r"miss_block|bone_block|fourierft_spectrum|shira_weight)\b"
)
_OTHER_FACTOR = re.compile(r"\.(lora_A|lora_embedding_B)\b")
_STARTS_AT_ONE = re.compile(r"\.ia3_l\b")
# Untouched where the data never reaches them.
_MAY_STAY_UNUSED = re.compile(r"experts?\b|visual|vision|image|audio|speech|mm_|multi_modal")
_SHOWN = 8


def adapter_never_trained(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An adapter whose matrices are still where they started.

    What it checks:
        In every adapted module: whether a factor of the update is exactly zero, which makes the update zero.
    Why it matters:
        LoRA starts with B = 0, so the fresh adapter changes nothing. If B is still zero after training, no step ever
        reached it, and base plus adapter answers exactly like the base.
    How it is measured:
        Absolute maximum of every factor that PEFT starts at zero (lora_B and its like in other methods; IA3 vectors
        start at one), and of lora_A.
    Known false alarms:
        PiSSA, OLoRA, LoftQ and their like start elsewhere; an untrained adapter of these kinds is not seen here.
        Experts and image towers that the data never used stay at zero rightly; they are only mentioned.
    Fix:
        Look at `print_trainable_parameters()` and the gradient norm of the run. With gradient checkpointing call
        `model.enable_input_require_grads()` or set `gradient_checkpointing_kwargs={"use_reentrant": False}`.
    References:
        https://github.com/tloen/alpaca-lora/issues/357
        https://github.com/locuslab/open-unlearning/issues/178
        https://huggingface.co/docs/peft/developer_guides/troubleshooting
    """
    if subject.checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    modules = _modules(subject.weight_scan.tensors)
    if not modules:
        raise NotMeasured("no_trained_from_zero")
    silent = sorted(name for name, largest in modules.items() if largest == 0.0)
    largest = max(modules.values())
    subject.metrics["weights.adapter_modules"] = len(modules)
    subject.metrics["weights.adapter_modules_zero"] = len(silent)
    evidence = [(f"{subject.checkpoint.weight_names[0]}:{name}", 0.0) for name in silent[:_SHOWN]]
    if len(silent) == len(modules):
        saved = subject.checkpoint.adapter_config.get("modules_to_save")
        parts = tuple(f".{m}." for m in saved) if isinstance(saved, list) else ()
        others = [n for n in subject.weight_scan.tensors if any(p in n for p in parts)]
        if others:
            yield warning("only_full_copies", *evidence, modules=len(modules), copies=len(others), first=others[0])
        else:
            yield error("never_trained", *evidence, modules=len(modules), first=silent[0])
    elif silent and all(_MAY_STAY_UNUSED.search(n) for n in silent):
        yield info("unused_modules", *evidence, silent=len(silent), modules=len(modules), first=silent[0])
    elif silent:
        yield warning("some_modules_silent", *evidence, silent=len(silent), modules=len(modules), first=silent[0])
    elif largest < limits["lora_b_trained_min"]:
        yield warning("barely_trained", modules=len(modules), largest=largest, limit=limits["lora_b_trained_min"])
    else:
        yield ok(modules=len(modules), largest=largest)


def _modules(tensors: Mapping[str, TensorScan]) -> dict[str, float]:
    """Module -> largest element of its factor that started at zero; 0 where the product is still zero."""
    found: dict[str, float] = {}
    for name, scan in tensors.items():
        if not scan.has_values or scan.nan or scan.inf:
            continue
        if match := _STARTS_AT_ZERO.search(name):
            module = name[: match.start()]
            found[module] = min(scan.largest, found.get(module, scan.largest))
        elif match := _STARTS_AT_ONE.search(name):
            found[name[: match.start()]] = 0.0 if scan.constant and scan.largest == 1.0 else scan.largest
        elif (match := _OTHER_FACTOR.search(name)) and scan.zero:
            found[name[: match.start()]] = 0.0
    return found
