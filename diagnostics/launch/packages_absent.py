"""RUN020: packages that the recipe asks for and that aren't installed."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.training.environment import packages_missing, packages_needed


def packages_absent(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether every package that a field of the recipe needs is installed: trl, peft, deepspeed, bitsandbytes,
        trackers of report_to, flash attention, vllm.
    Why it matters:
        What is missing is found after the model is loaded, or at the end of the first epoch.
    How it is measured:
        By name in this environment; nothing is imported.
    Known false alarms:
        A launch that uses another environment than this program.
    Fix:
        Install it, or change the field that asks for it.
    References:
        https://huggingface.co/docs/trl/installation
    """
    missing = packages_missing(subject.asked, subject.spread)
    for package in missing:
        yield error("absent", (package.reason, package.name), name=package.name, field=package.reason)
    if str(subject.get("attn_implementation", "")).startswith("kernels-community/"):
        yield info("kernel_fetched", ("attn_implementation", subject.get("attn_implementation")))
    if not missing:
        needed = packages_needed(subject.asked, subject.spread)
        yield ok(names=", ".join(dict.fromkeys(package.name for package in needed)))
