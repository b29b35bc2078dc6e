"""ADP002: the model that an adapter is made for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def adapter_base_unknown(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """The model that an adapter is made for.

    What it checks:
        Which base adapter_config.json names, whether it can be found, and whether --base is another one.
    Why it matters:
        An adapter is a difference. On another model of the same shape it loads without a word and spoils the answers.
    How it is measured:
        --base first, then base_model_name_or_path as a path, beside the adapter, and on the Hub. Names are compared by
        their last part; whether the sizes fit is ADP003.
    Known false alarms:
        A base that was moved or renamed has another name and the same weights; another name alone is only mentioned.
    Fix:
        Give the base: --base PATH, and write its place into base_model_name_or_path.
    References:
        https://huggingface.co/docs/peft/developer_guides/checkpoint
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    config = checkpoint.adapter_config
    declared = config.get("base_model_name_or_path")
    declared = declared[:300] if isinstance(declared, str) else ""
    evidence = (config.where("base_model_name_or_path"), declared or None)
    base = subject.base
    if base is None:
        yield info("not_here" if declared else "none_named", evidence, declared=declared)
        return
    if base.problem is not None or base.kind == "none":
        yield warning("not_a_model", evidence, (base.given, base.problem), base=base.given)
    elif base.kind == "adapter":
        yield warning("base_is_adapter", evidence, (base.given, base.kind), base=base.given)
    elif not base.weight_names:
        yield info("without_weights", evidence, (base.given, "-"), base=base.given)
    elif subject.base_path is not None and declared and last_part(declared) != last_part(base.given):
        yield info("other_name", evidence, ("--base", base.given), declared=declared, base=base.given)
    else:
        yield ok(base=base.given)


def last_part(name: str) -> str:
    """`qwen2.5-0.5b` of a path, a Hub id or a cache folder."""
    cached = re.search(r"models--[^/]+?--([^/]+)/snapshots/", name.replace("\\", "/"))
    return (cached.group(1) if cached else re.split(r"[/\\]", name.rstrip("/\\"))[-1]).partition("@")[0].lower()
