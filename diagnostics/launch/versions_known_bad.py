"""RUN021: versions of libraries in which something is broken that no message tells of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.config_files import CONFIGS, load_config
from pipeline.json_file import parse_json
from pipeline.training.environment import older, versions

# Of rows in configs/training_ranges.yaml
OUTCOMES = {name: name for name in ("accumulation_wrong", "end_masked", "prompts_cut", "precompute_crashes",
                                    "adapter_too_old", "pickle_refused")}  # fmt: skip


def versions_known_bad(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The installed trl, transformers, peft and torch against versions with faults that spoil a run silently.
    Why it matters:
        Losses that grow with gradient accumulation, end tokens that are masked, prompts cut twice: nothing in the log
        names them.
    How it is measured:
        Versions by the packages' own metadata, against configs/training_ranges.yaml; trl and transformers also against
        those that the fields of recipes were read from.
    Known false alarms:
        A version with the repair put back into it.
    Fix:
        Install the version that is named, or a later one.
    References:
        https://github.com/huggingface/transformers/issues/34263
        https://github.com/huggingface/trl/issues/884
        https://github.com/huggingface/trl/pull/2209
    """
    installed = versions()
    if not installed:
        raise NotMeasured("no_versions")
    found = False
    has = _has(subject)
    rows: list[Mapping[str, Any]] = load_config("training_ranges.yaml")["versions"]
    for row in rows:
        here = installed.get(row["package"])
        if here is not None and older(here, row["below"]) and set(row["when"]) <= has:
            found = True
            numbers = {"package": row["package"], "here": here, "below": row["below"]}
            yield warning(OUTCOMES[row["outcome"]], (row["package"], here), **numbers)
    known = parse_json((CONFIGS / "training_fields.json").read_bytes())["versions"]
    for name in ("trl", "transformers"):
        here = installed.get(name)
        if here is not None and older(here, known[name]):
            found = True
            yield warning("fields_differ", (name, here), package=name, here=here, below=known[name])
    if not found:
        yield ok(versions=", ".join(f"{name} {number}" for name, number in installed.items()))


def _has(subject: RecipeSubject) -> set[str]:
    deepspeed = subject.spread is not None and subject.spread.engine == "deepspeed"
    return {
        name for name, there in (
            ("accumulation", int(subject.get("gradient_accumulation_steps", 1)) > 1), ("lora", subject.lora),
            ("deepspeed", deepspeed), ("precompute", subject.get("precompute_ref_log_probs", False)),
        ) if there
    }  # fmt: skip
