"""PRF017, SFT010: patterns of personal data, for information."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds
from pipeline.config_files import load_config


def personal_data(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether texts hold what looks like e-mail addresses, telephone numbers, identity or card numbers.
    Why it matters:
        Models learn such data by heart and give it away. It is information: whether it is a real person's only you
        know.
    How it is measured:
        Patterns in configs/text_signs.yaml; identity and card numbers only with a valid check digit.
    Known false alarms:
        Invented examples, support addresses, numbers that happen to fit.
    Fix:
        Replace what is real with placeholders before training.
    References:
        https://arxiv.org/abs/2012.07805
    """
    table = subject.table
    kinds = [kind for kind in load_config("text_signs.yaml")["personal"] if f"personal_{kind}" in table.flags]
    if not kinds:
        yield ok(of=table.rows)
        return
    counts = {kind: int(table.flags[f"personal_{kind}"].sum()) for kind in kinds}
    rows = table.flagged(*(f"personal_{kind}" for kind in kinds))
    yield subject.found(rows).observed("found", evidence=list(counts.items()), severity="info", kinds=counts)
