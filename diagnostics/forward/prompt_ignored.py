"""FWD005: answers that are as likely under another question."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import standing
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def prompt_ignored(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How much likelier the right answers are under their own prompt than under the prompt of another row.
    Why it matters:
        A model that doesn't care which question was asked answers beside the point, however fluent it is: a base model,
        an early step, or a run that never saw its prompts.
    How it is measured:
        Every answer is scored again under a prompt of similar length whose answer is another one in the same writing
        system, in the format that fits best. The mean difference per token comes with its 95% interval over rows.
    Known false alarms:
        Rows whose answers are nearly all the same can't tell and are not measured. Long free text depends on the prompt
        mostly in its first words, so the share stays far below one in sound models.
    Fix:
        Train longer, or load the weights the supervised run wrote.
    References:
        https://arxiv.org/abs/2104.08315
    """
    from pipeline.answer_level import prompt_dependence
    from pipeline.score_answers import NotScored

    autopsy = subject.autopsy
    found = standing(subject, limits)
    if found.source == "probes" and found.level != "knows":
        raise NotMeasured("probes_not_known", nats=round(found.nats, 2), ln_v=round(found.ln_vocabulary, 2))
    if found.level == "nothing":
        raise NotMeasured("knows_too_little", nats=round(found.nats, 2), ln_v=round(found.ln_vocabulary, 2))
    enough = len(autopsy.understood) >= 2 * limits["forward_rows_min"]
    rows = autopsy.understood if enough else range(len(autopsy.rows))
    try:
        seen = prompt_dependence(subject.loaded, autopsy, list(rows))
    except NotScored as reason:
        raise NotMeasured(reason.reason, detail=reason.detail) from None
    if seen.alike > limits["answers_alike"]:
        raise NotMeasured("answers_alike", percent=round(100 * seen.alike))
    difference = seen.difference
    if difference is None or difference.rows < limits["forward_rows_min"]:
        raise NotMeasured("too_few_partners", n=0 if difference is None else difference.rows)
    share = difference.mean / seen.swapped if seen.swapped > 0 else 0.0
    highest = difference.high / seen.swapped if seen.swapped > 0 else 0.0
    subject.metrics["forward.prompt_dependence"] = round(difference.mean, 4)
    subject.metrics["forward.prompt_dependence_share"] = round(share, 4)
    numbers = {
        "own": seen.own, "swapped": seen.swapped, "mean": difference.mean, "low": difference.low,
        "high": difference.high, "rows": difference.rows, "share": 100 * share,
    }  # fmt: skip
    evidence = ("nats per token gained by the right prompt", [round(difference.low, 3), round(difference.high, 3)])
    if highest < limits["prompt_share_none"]:
        yield warning("ignored", evidence, **numbers)
    elif share < limits["prompt_share_little"]:
        yield info("hardly_matters", evidence, **numbers)
    else:
        yield ok("ok", **numbers)
