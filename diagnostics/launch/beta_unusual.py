"""RUN011: beta against what works with this method and loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.config_files import load_config


def beta_unusual(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        beta (lambda in ORPO) against the values that are in use with this method and loss.
    Why it matters:
        In DPO beta says how dear it is to leave the reference: 0 gives no gradient at all, a small one lets the model
        drift into nonsense, a large one keeps it where it is: the same margin in rewards is reached with hardly any
        change of the answers. The same number means something else to IPO, SimPO or ORPO.
    How it is measured:
        By the table of configs/training_ranges.yaml; 0.1 to 0.2 is usual for DPO.
    Known false alarms:
        Runs with a beta of 0.01 or 0.5 can be sound: what is unusual is a warning, not an error.
    Fix:
        beta 0.1 for DPO, KTO, CPO and ORPO, 2 to 10 for SimPO.
    References:
        https://arxiv.org/abs/2305.18290
        https://huggingface.co/blog/pref-tuning
        https://github.com/princeton-nlp/SimPO#hyperparameters
    """
    table: Mapping[str, Any] = load_config("training_ranges.yaml")
    beta = subject.get("beta")
    losses = _losses(subject)
    judged = [loss for loss in losses if loss not in table["loss_unjudged"]]
    if beta is None or subject.method not in table["betas"] or not judged:
        raise NotMeasured("no_beta", method=subject.method)
    row = table["betas"][table["loss_rows"].get(judged[0], subject.method)]
    (low, high), (least, most) = row["usual"], row["limit"]
    what = judged[0] if judged[0] != subject.method else subject.method
    numbers = {"beta": beta, "low": low, "high": high, "loss": what, "method": subject.method}
    evidence = ("beta", beta)
    if beta == 0 and row["zero"] == "no_signal" and "sft" not in losses:
        yield error("no_signal", evidence, **numbers)
    elif beta == 0 and row["zero"] in ("no_signal", "sft_only"):
        yield warning("sft_only", evidence, **numbers)
    elif beta > most:
        yield warning("far_too_large", evidence, **numbers)
    elif beta < least:
        yield warning("far_too_small", evidence, **numbers)
    elif beta > high:
        yield warning("large", evidence, **numbers)
    elif beta < low:
        yield warning("small", evidence, **numbers)
    else:
        yield ok(**numbers)
    if subject.method == "simpo" or "simpo" in losses:
        gamma = subject.get("simpo_gamma", 0.0)
        # the margin is gamma itself; its authors give gamma / beta, 0.2 to 0.5 and 1.4 to 1.6 at most
        if gamma > beta > 0:
            yield info("margin_above_beta", ("simpo_gamma", gamma), gamma=gamma, beta=beta)


def _losses(subject: RecipeSubject) -> list[str]:
    """Those of a preference method; its own name where it has one alone."""
    if subject.method not in ("dpo", "cpo"):
        return [subject.method]
    given = subject.get("loss_type", "sigmoid")
    return [given] if isinstance(given, str) else [str(one) for one in given]
