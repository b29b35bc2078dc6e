"""PRF009, SFT007: end markers written out as text, and answers that break off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation, Severity
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def end_markers(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers end with a marker written out as text (`</s>`, `<|im_end|>`, `[EOS]`), on all rows or only some
        or only on one side; and whether answers break off within a sentence.
    Why it matters:
        The trainer appends its own end token: a marker in the text stands there twice, or is learned as letters. Where
        only some answers have one, or one side only, the model learns that ending is optional, or that ending is what
        makes an answer better. Answers cut off at a length limit teach never to end.
    How it is measured:
        The last 60 characters of each answer against the list of end markers in configs/chat_markers.yaml. Broken off
        is an answer of more than 24 characters, with sentences inside, whose last character ends neither a sentence nor
        a list, code, table or quotation.
    Known false alarms:
        Chat in which nobody writes full stops; verse, titles, SQL. Sets rendered beforehand have a marker everywhere.
    Fix:
        Strip the marker from every answer and let the trainer append the end token once. Drop answers that break off or
        generate them again with a larger max_new_tokens.
    References:
        https://github.com/huggingface/trl/issues/2382
    """
    table = subject.table
    marked = {side: subject.found(table.flagged(f"end_marker_{side}"), table.there[side]) for side in subject.answers}
    shares = {side: found.share for side, found in marked.items()}
    uneven = max(shares.values()) - min(shares.values()) >= limits["end_marker_uneven"]
    quiet = True
    for side, found in marked.items():
        if not found.count:
            continue
        quiet = False
        flag = f"end_marker_{side}"
        numbers: dict[str, Any] = {"mark": table.commonest_sign(flag), "where": side}
        if uneven and found.share == max(shares.values()):
            yield found.observed("on_one_side", side=side, flags=[flag], severity="error", **numbers)
        elif found.share >= limits["end_marker_everywhere"]:
            yield found.observed("everywhere", side=side, flags=[flag], severity="info", **numbers)
        else:
            yield found.observed("on_some", side=side, flags=[flag], error="end_marker_error", **numbers)
    cut = {side: subject.found(table.flagged(f"cut_{side}"), table.there[side]) for side in subject.answers}
    for side, found in cut.items():
        if found.share < limits["cut_worth_saying"] or not found.count:
            continue
        quiet = False
        if side == "chosen":
            yield found.observed(
                "chosen_break_off", side=side, flags=["cut_chosen"], warn="cut_warn", error="cut_error"
            )
        else:
            severity: Severity = "warning" if found.share >= limits["cut_rejected_warn"] else "info"
            yield found.observed("rejected_break_off", side=side, flags=["cut_rejected"], severity=severity)
    subject.metrics |= {f"pairs.broken_off_share.{side}": round(found.share, 4) for side, found in cut.items()}
    if quiet:
        yield ok(of=table.rows)
