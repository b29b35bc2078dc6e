"""FWD010: rows that are known by heart while others like them are not known at all."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import standing
from diagnostics.forward.loss_far_above_log import loss_curve
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def rows_known_by_heart(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the loss is near zero on some rows and, with full confidence, far off on others; and whether the log's
        evaluation loss rose while the training loss went on falling.
    Why it matters:
        A model that learned its rows by heart repeats them for every question that looks alike.
    How it is measured:
        Nats per token row by row, within one writing system. "By heart": below `heart_nats`. "Not at all": above
        `heart_far_share` of ln(vocabulary), with an entropy of less than a quarter of it: the model is sure of another
        answer. The log's last evaluation loss is held against its lowest one. A training loss near zero at the end of
        the log beside rows the model is confidently wrong about says the same.
    Known false alarms:
        Rows of two tasks, one of them never trained, look alike; without a log that shows the same, it is only
        information. A task with one right answer is rightly near zero on every row.
    Fix:
        Go back to the checkpoint with the lowest evaluation loss; fewer epochs, more data.
    References:
        https://arxiv.org/abs/2202.07646
    """
    scores = subject.answer_scores
    found = standing(subject, limits)
    if found.source != "data":
        raise NotMeasured("no_data")
    try:
        curve = loss_curve(subject)
    except NotMeasured:
        curve = None
    rose = 0.0
    if curve is not None and len(curve.evaluation) >= 2 and curve.best_evaluation and curve.last_evaluation:
        rose = curve.last_evaluation / curve.best_evaluation - 1
    nats = scores.row_nats()
    groups = scores.groups()
    places = max(groups.values(), key=len) if found.script not in groups else groups[found.script]
    if len(places) < limits["forward_rows_min"]:
        places = list(range(len(nats)))
    heart = [p for p in places if nats[p] <= limits["heart_nats"]]
    far_from = limits["heart_far_share"] * found.ln_vocabulary
    off = [
        p for p in places
        if nats[p] >= far_from and sum(scores.scores[p].entropy) <= 0.25 * scores.scores[p].total
    ]  # fmt: skip
    heart_share, off_share = len(heart) / len(places), len(off) / len(places)
    subject.metrics["forward.rows_by_heart"] = round(heart_share, 4)
    numbers = {
        "heart": round(100 * heart_share), "off": round(100 * off_share), "rows": len(places),
        "below": limits["heart_nats"], "above": far_from, "rose": round(100 * rose),
        "best": curve.best_evaluation if curve and curve.best_evaluation else 0.0,
        "last": curve.last_evaluation if curve and curve.last_evaluation else 0.0,
        "train": curve.last if curve and curve.last is not None else 0.0,
    }  # fmt: skip
    evidence = [("nats per token, by heart", [round(nats[p], 3) for p in heart[:5]]),
                ("nats per token, not at all", [round(nats[p], 2) for p in off[:5]])]  # fmt: skip
    some = limits["heart_group_share"]
    gap = curve is not None and curve.last is not None and curve.last_evaluation is not None and (
        curve.last_evaluation - curve.last >= limits["eval_gap"]
    )  # fmt: skip
    by_heart = curve is not None and curve.last is not None and curve.last <= limits["heart_train_loss"]
    bound = limits["heart_eval_share"] * found.ln_vocabulary
    tested = curve is not None and curve.last_evaluation is not None and curve.last_evaluation >= bound
    # The model is sure of something else on rows like those it knows by heart, here or in its own evaluation.
    lost = found.nats >= bound and found.entropy <= 0.25 * found.nats
    # An evaluation that ended well speaks against it: then these rows, this tokenizer or these weights are not its.
    fine = curve is not None and curve.last_evaluation is not None and curve.last_evaluation < bound / 2
    # Where no evaluation was ever good, these rows are of another kind than the training rows.
    learned = curve is not None and curve.best_evaluation is not None and curve.best_evaluation < bound
    if by_heart and not fine and (lost or (tested and off_share >= some)):
        yield warning("known_by_heart", *evidence, here=found.nats, **numbers)
    elif rose >= limits["eval_rose"] and gap and (learned or by_heart):
        sure = heart_share >= some or off_share >= some
        make = error if sure and rose >= 2 * limits["eval_rose"] else warning
        yield make("evaluation_rose", *evidence, **numbers)
    elif heart_share >= some and off_share >= some:
        yield info("two_kinds_of_rows", *evidence, **numbers)
    else:
        yield ok("ok", **numbers)
