"""PRF016, SFT009: text that was decoded wrongly or broken on its way."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def text_damaged(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether texts hold U+FFFD (bytes that were no UTF-8), UTF-8 that was read as another encoding (`ä½ å¥½`, `â€™`),
        or half characters (lone surrogates).
    Why it matters:
        Such text is tokenised into rare pieces, and the model learns to write it. Half characters make tokenizers and
        Arrow fail in the middle of a run.
    How it is measured:
        U+FFFD anywhere; sequences that only arise when UTF-8 is read as Windows-1252, Latin-1 or GBK
        (configs/text_signs.yaml).
    Known false alarms:
        Texts about encodings. An answer cut at a token limit may end in one U+FFFD.
    Fix:
        Read the source again as UTF-8; what is in the file now can often be repaired with ftfy. Drop rows with U+FFFD.
    References:
        https://github.com/rspeer/python-ftfy
    """
    table = subject.table
    quiet = True
    for kind in ("replaced", "misread", "half_characters"):
        names = [f"{kind}_{side}" for side in ("prompt", *subject.answers)]
        rows = table.flagged(*names)
        if not rows.any():
            continue
        quiet = False
        found = subject.found(rows)
        if kind == "replaced":
            yield found.observed("replaced", flags=names, warn="damage_warn", error="damage_error")
        elif kind == "misread":
            yield found.observed("misread", flags=names, warn="damage_warn", error="damage_error")
        else:
            yield found.observed("half_characters", flags=names, warn="damage_warn", error="damage_error")
    if quiet:
        yield ok(of=table.rows)
