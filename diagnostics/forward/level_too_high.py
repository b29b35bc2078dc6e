"""FWD002: how surprised the model is by the right answers."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import standing
from diagnostics.forward.loss_far_above_log import loss_curve
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def level_too_high(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The mean negative log-likelihood of the right answers, per token, under the prompt format that fits best, beside
        ln(vocabulary), which is what a model that knows nothing leaves, and beside the model's own uncertainty.
    Why it matters:
        It tells "not trained enough" from "other weights" and "other tokenizer" before a single word is generated.
    How it is measured:
        Teacher forcing on the rows of --data (built-in questions without); answer tokens only. The rows are grouped by
        writing system and the group the model knows best is judged. Loss about as large as the entropy of the
        predictions: the model is unsure and knows it, as in the middle of training. Loss far above the entropy: it is
        sure of something else, as with another tokenizer, damaged weights, or rows it can't know.
    Known false alarms:
        No loss value universally means "trained", so only levels near ln(vocabulary) are called bad. Rows of a task the
        model was never meant for look the same as a fault: give rows like those it was trained on. With the built-in
        questions only a good level says something.
    Fix:
        Resume the training run, or load the weights the run really wrote.
    References:
        ln(vocabulary) is the cross-entropy of the uniform distribution
        https://arxiv.org/abs/1706.04599
    """
    found = standing(subject, limits)
    label = subject.autopsy.fitting.label
    subject.metrics["forward.nats_per_token"] = round(found.nats, 4)
    subject.metrics["forward.nats_per_token_all_rows"] = round(found.all_nats, 4)
    subject.metrics["forward.entropy_per_token"] = round(found.entropy, 4)
    subject.metrics["forward.accuracy"] = round(found.accuracy, 4)
    subject.metrics["forward.ln_vocabulary"] = round(found.ln_vocabulary, 4)
    numbers = {
        "nats": found.nats, "entropy": found.entropy, "ln_v": found.ln_vocabulary, "accuracy": 100 * found.accuracy,
        "rows": found.rows, "total": found.total, "share": 100 * found.share, "format": label,
    }  # fmt: skip
    evidence = (f"nats per answer token, format {label}", round(found.nats, 3))
    if found.source == "probes" and found.level != "knows":
        raise NotMeasured("probes_not_known", nats=round(found.nats, 2), ln_v=round(found.ln_vocabulary, 2))
    unsure = found.entropy >= limits["level_unsure"] * found.nats
    if found.level == "nothing" and found.rows >= min(limits["forward_rows_min"], found.total):
        flat = found.share <= limits["level_uniform"] and found.entropy >= limits["entropy_flat"] * found.ln_vocabulary
        # Rows of another style can lie near ln(vocabulary); hardly a sound model is worse than guessing.
        make = error if flat or found.share > limits["level_uniform"] else warning
        yield make("uniform" if flat else "sure_of_something_else", evidence,
                    ("entropy of the predictions", round(found.entropy, 3)), **numbers)  # fmt: skip
    elif found.level == "little":
        if unsure:
            yield warning("unsure", evidence, ("entropy of the predictions", round(found.entropy, 3)), **numbers)
        else:
            yield info("mostly_unknown", evidence, ("entropy of the predictions", round(found.entropy, 3)), **numbers)
    elif found.level == "partly" and unsure and (falling := _still_falling(subject, limits)):
        yield warning("still_falling", evidence, ("fall of the training loss over the last quarter", round(falling, 3)),
                      falling=falling, **numbers)  # fmt: skip
    elif found.level == "partly" and unsure:
        yield info("half_way", evidence, ("entropy of the predictions", round(found.entropy, 3)), **numbers)
    else:
        well = found.share < limits["level_well"]
        yield ok("knows" if well else "knows_most" if found.level == "knows" else "partly", evidence, **numbers)


def _still_falling(subject: CheckpointSubject, limits: Thresholds) -> float:
    """By how much the log's loss fell over its last quarter; 0 without a log or when it had levelled off."""
    try:
        curve = loss_curve(subject)
    except NotMeasured:
        return 0.0
    least = max(limits["log_fall_nats"], limits["log_fall_share"] * (curve.last or 0.0))
    return curve.still_falling if curve.still_falling >= least else 0.0
