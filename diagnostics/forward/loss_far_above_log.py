"""FWD007: a model that is worse than its training log says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import Standing, standing
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.last_loss import LossCurve, read_loss_curve


def loss_curve(subject: CheckpointSubject) -> LossCurve:
    """The loss curve of --log, else of the trainer_state.json beside the weights. Raises NotMeasured."""
    found = [subject.log_curves[place] for place in range(len(subject.log_paths))]
    if not found and subject.checkpoint.trainer_state.present:
        folder = subject.local_checkpoint.local_folder()
        if folder is not None:
            found = [read_loss_curve(Path(folder) / "trainer_state.json")]
    if not found:
        raise NotMeasured("no_log")
    usable = [curve for curve in found if curve.problem is None and curve.train]
    if not usable:
        raise NotMeasured("log_without_loss", problem=found[0].problem or "no_loss")
    return max(usable, key=lambda curve: len(curve.train))


def loss_far_above_log(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the loss on the given rows is about where the training log ended.
    Why it matters:
        If the log ends at 0.3 and the model measures 3, what was saved, or how it is asked, isn't what was trained: an
        older step, the base, or another prompt format.
    How it is measured:
        Nats per token of the answers, under the format that fits best, beside the mean of the last tenth of the logged
        training losses and the last evaluation loss. Where the measured loss is nearer to the beginning of the log than
        to its end, on a logarithmic scale, and the model is unsure, the weights are from its beginning. A loss whose
        whole 95% interval lies well above the log's last evaluation, with an unsure model, is that of an earlier step.
        Where both fit, the fall of the logged loss over the last quarter says whether the run had come to its end.
    Known false alarms:
        Rows that weren't trained on are harder. A logged loss may be a mean over prompt and padding too, or a sum over
        accumulation steps, so only a large distance counts, and only rows of --data are compared.
    Fix:
        Load the last checkpoint of that run, and compare its fingerprint with this one.
    References:
        https://github.com/charent/ChatLM-mini-Chinese
        https://github.com/huggingface/transformers/issues/35204
    """
    curve = loss_curve(subject)
    found = standing(subject, limits)
    if found.source != "data":
        raise NotMeasured("no_data")
    first, last = curve.first, curve.last
    assert first is not None and last is not None
    logged = max(last, curve.last_evaluation or 0.0)  # rows that were kept out of training are no harder than that
    subject.metrics["forward.logged_loss"] = round(logged, 4)
    here = found.known_nats
    numbers = {"nats": here, "last": last, "first": first, "logged": logged, "rows": found.rows, "log": curve.path}
    evidence = [("nats per answer token here", round(here, 3)), (f"{curve.path}: last training loss", round(last, 4))]
    if curve.last_evaluation is not None:
        evidence.append((f"{curve.path}: last evaluation loss", round(curve.last_evaluation, 4)))
    # Above where the log began, the two don't average over the same tokens: padding or prompts count in one of them.
    above = here >= logged * limits["log_factor"] and here >= logged + limits["log_distance"]
    far = above and here <= first * limits["log_scale"]
    fell = first >= last * limits["log_factor"] and first >= last + limits["log_distance"]
    unsure = found.entropy >= limits["level_unsure"] * found.nats
    tested = curve.last_evaluation
    # Its own evaluation ended so low that no way of averaging explains the distance.
    beyond = above and tested is not None and here >= limits["log_factor"] ** 3 * max(tested, logged)
    ends_above_chance = logged >= limits["loss_above_chance"] * found.ln_vocabulary
    if ends_above_chance and found.share > limits["level_uniform"]:
        yield error("log_above_chance", *evidence, ln_v=found.ln_vocabulary, **numbers)
    # No step of this run is worse than random weights, nor sure of something else on nearly all of its rows.
    elif above and (found.share > limits["level_uniform"] or (not unsure and found.share >= limits["log_foreign"])):
        yield warning("not_this_run", *evidence, ln_v=found.ln_vocabulary, **numbers)
    elif far and unsure and fell and math.log(first / here) < math.log(here / max(logged, 0.05)):
        outcome = "adapter_like_its_beginning" if subject.loaded.adapter else "like_its_beginning"
        yield warning(outcome, *evidence, **numbers)
    elif unsure and (beyond or (far and here >= logged * 2 * limits["log_factor"])):
        yield warning("far_above", *evidence, **numbers)
    elif _like_an_earlier_step(curve, found, limits) and unsure and here <= first * limits["log_scale"]:
        outcome = "adapter_earlier_step" if subject.loaded.adapter else "earlier_step"
        yield warning(outcome, *evidence, tested=curve.last_evaluation, **numbers)
    elif above:
        yield info("above" if unsure else "rows_not_trained_on", *evidence, **numbers)
    elif curve.still_falling >= max(limits["log_fall_sure"], limits["log_fall_share"] * last):
        yield warning("still_falling", *evidence, falling=curve.still_falling, **numbers)
    else:
        yield ok("ok", **numbers)


def _like_an_earlier_step(curve: LossCurve, found: Standing, limits: Thresholds) -> bool:
    """Clearly worse than the run's last evaluation, which is a loss on rows kept out of training too."""
    tested = curve.last_evaluation
    if tested is None or len(curve.evaluation) < 2:
        return False
    low = found.low + found.known_nats - found.nats
    return found.known_nats >= limits["earlier_factor"] * tested and low >= tested + limits["earlier_nats"]
