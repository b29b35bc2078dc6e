"""FWD006: a training result that knows the answers no better than its base."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import require_known, standing
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok, warning
from diagnostics.thresholds import Thresholds


def no_better_than_base(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the checkpoint finds the right answers likelier than the model its training started from.
    Why it matters:
        If it doesn't, either training did nothing, or this is the base under another name.
    How it is measured:
        Both models score the same tokens under the formats that fit this checkpoint best; each counts with its own best
        format. The mean difference per token comes with its 95% interval over rows. Only when the base is as good under
        the checkpoint's format too, training changed nothing. An adapter is switched off for the comparison.
    Known false alarms:
        After preference training, or for rows of a task the training didn't cover, the answers need not have become
        likelier; where the base knows them well already, only that is said. A vocabulary of another size is not
        compared.
    Fix:
        Point at the folder the supervised run wrote, and check that its loss fell.
    References:
        https://github.com/charent/ChatLM-mini-Chinese
    """
    found = standing(subject, limits)
    if found.source == "probes":
        require_known(subject, limits)
    seen = subject.beside_base
    assert seen.difference is not None and seen.same_format is not None
    difference = seen.difference  # base minus checkpoint: positive when training helped
    subject.metrics["forward.base_nats_per_token"] = round(seen.base_nats, 4)
    subject.metrics["forward.gain_over_base"] = round(difference.mean, 4)
    least = limits["gain_over_base_min"]
    numbers = {
        "own": seen.own_nats, "base": seen.base_nats, "mean": difference.mean, "low": difference.low,
        "high": difference.high, "gain": -difference.mean, "rows": difference.rows,
    }  # fmt: skip
    evidence = ("base minus checkpoint, nats per token", [round(difference.low, 3), round(difference.high, 3)])
    if seen.largest < limits["same_nats"]:
        same = "adapter_adds_nothing" if subject.loaded.adapter else "same_as_base"
        yield warning(same, evidence, **numbers)
    elif seen.base_nats < limits["level_well"] * found.ln_vocabulary and difference.low > -limits["much_worse"]:
        yield info("base_knew", evidence, **numbers)  # nothing was left to gain
    elif all(-least < d.low and d.high < least for d in (difference, seen.same_format)):
        yield warning("no_better", evidence, **numbers)
    elif subject.loaded.adapter and found.level != "knows" and difference.high < -limits["adapter_harm"]:
        yield warning("adapter_spoils", evidence, **numbers)
    elif difference.high < -limits["much_worse"] and found.source == "data":
        yield warning("much_worse", evidence, **numbers)
    elif difference.high < 0 and found.source == "data":
        yield info("worse", evidence, **numbers)
    elif difference.low <= 0:
        yield info("undecided", evidence, **numbers)
    else:
        yield ok("ok", **numbers)
