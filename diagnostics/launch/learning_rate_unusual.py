"""RUN012: the learning rate against what works with this method, all weights or an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.config_files import load_config


def learning_rate_unusual(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        learning_rate against the rates that work with this method, for all weights or for an adapter.
    Why it matters:
        Preference training wants a rate 10 to 100 times below that of SFT: with 1e-5 and all weights trained, DPO ends
        in repetition. An adapter wants about ten times the rate of full training: with the rate of full training it
        learns next to nothing.
    How it is measured:
        By the table of configs/training_ranges.yaml, wider for T5 and its like, for Adafactor, and for models below 0.1
        billion parameters, where rates differ by orders of magnitude.
    Known false alarms:
        Very large batches stand higher rates; other optimizers (SGD, Lion) want others and are not judged.
    Fix:
        Take a rate inside the usual range that is named.
    References:
        https://github.com/princeton-nlp/SimPO#hyperparameters
        https://github.com/eric-mitchell/direct-preference-optimization/issues/36
        https://thinkingmachines.ai/blog/lora
    """
    table: Mapping[str, Any] = load_config("training_ranges.yaml")
    rate = float(subject.get("learning_rate", 0.0))
    kind = "lora" if subject.lora else "full"
    optimizer = str(subject.get("optim", ""))
    evidence = ("learning_rate", rate)
    numbers: dict[str, Any] = {"rate": f"{rate:g}", "method": subject.method}
    if rate == 0:
        yield error("zero", evidence, **numbers)
        return
    if not optimizer.startswith(("adamw", "paged_adamw", "adafactor", "stable_adamw", "ademamix", "apollo", "galore")):
        raise NotMeasured("optimizer_unjudged", optimizer=optimizer)
    row = table["rates"][subject.method][kind]
    factor, high_factor = 1.0, 1.0
    try:
        factor = float(table["encoder_decoder_factor"]) if subject.encoder_decoder else 1.0
        if subject.shape.parameters < float(table["small_model_parameters"]):
            high_factor = float(table["small_model_factor"])
    except NotMeasured:
        pass  # without the model: as for a decoder of usual size
    if optimizer == "adafactor":
        factor *= float(table["adafactor_factor"])
    # an encoder-decoder stands larger rates, and works with those of decoders too
    low, high = row["usual"][0], row["usual"][1] * factor * high_factor
    least, most = row["limit"][0], row["limit"][1] * factor * high_factor
    numbers |= {"low": f"{low:g}", "high": f"{high:g}", "least": f"{least:g}", "most": f"{most:g}"}
    if rate >= 1:
        yield error("destroys", evidence, **numbers)
    elif rate > most and kind == "lora":
        yield warning("high_adapter", evidence, **numbers)
    elif rate > most and subject.method == "sft":
        yield warning("high", evidence, **numbers)
    elif rate > most:
        yield warning("high_preference", evidence, **numbers)
    elif rate < least and kind == "lora":
        yield warning("low_adapter", evidence, **numbers)
    elif rate < least:
        yield warning("low", evidence, **numbers)
    elif rate > high:
        yield info("above_usual", evidence, **numbers)
    elif rate < low:
        yield info("below_usual", evidence, **numbers)
    else:
        yield ok(**numbers)
