"""PRF010: signs that the worse answer stands in `chosen`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diagnostics.pairs.topics import topics
from diagnostics.pairs_subject import PairsSubject, percent, sure_share
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds
from pipeline.pair_measures.pair_table import LEAST_SENTENCES

# What shows that an answer is broken, by the outcome that names it on the chosen side.
OUTCOMES = {
    "empty": "chosen_empty", "loops": "chosen_loops", "off_topic": "chosen_off_topic", "template": "chosen_template",
    "damaged": "chosen_damaged", "breaks_off": "chosen_breaks_off", "unfinished": "chosen_unfinished",
}  # fmt: skip
# The least share of chosen answers, where it isn't `broken_chosen_share`.
_LEAST = {"breaks_off": "cut_swapped", "unfinished": "cut_swapped", "off_topic": "off_topic_swapped"}


def sides_swapped(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether scores contradict the sides, and whether answers that are visibly broken stand in `chosen`.
    Why it matters:
        A model trained on exchanged sides learns to prefer the bad answers, with a fine-looking loss and accuracy.
    How it is measured:
        Where both scores are there: the share of rows whose chosen answer has the lower one, and of equal ones. And the
        share of answers on each side that are empty, loop, are off topic, hold template marks, are damaged, break off
        or end without a full stop (those of more than 24 letters or 12 Chinese characters): rejects are often broken,
        chosen answers should not be. The lower end of the interval of the chosen side's share must reach
        `broken_chosen_share` (`cut_swapped`, `off_topic_swapped` for ends and topics), and be `broken_times` the
        rejected side's.
    Known false alarms:
        Scores where less is better (loss, rank, toxicity). Sets of corrections whose rejected side is a human's.
    Fix:
        Exchange chosen and rejected in these rows; look at how the columns were assigned from ranks or labels.
    References:
        https://github.com/OpenBMB/UltraFeedback/issues/8
    """
    table = subject.table
    scored = np.isfinite(table.scores["chosen"]) & np.isfinite(table.scores["rejected"])
    if scored.any():
        less = scored & (table.scores["chosen"] < table.scores["rejected"])
        equal = scored & (table.scores["chosen"] == table.scores["rejected"])
        found = subject.found(less, scored)
        if less.any():
            evidence = [
                (f"line {int(table.line[row])}: scores", [float(table.scores[s][row]) for s in ("chosen", "rejected")])
                for row in np.flatnonzero(less)[:5]
            ]
            if found.share > 0.5 and found.count >= limits["data_rows_least"]:
                yield found.observed("scores_reversed", evidence=evidence, severity="error")
            else:
                yield found.observed("some_scores_reversed", evidence=evidence, error="scores_reversed_error")
        if equal.any():
            tied = subject.found(equal, scored)
            yield tied.observed("scores_equal", severity="warning" if tied.share >= limits["ties_warn"] else "info")
    signs = {side: broken(subject, side, limits) for side in ("chosen", "rejected")}
    worst: tuple[float, str] | None = None
    for sign in OUTCOMES:
        better, worse = signs["chosen"][sign], signs["rejected"][sign]
        of = {side: int(table.there[side].sum()) for side in signs}
        share = float(better.sum()) / max(1, of["chosen"])
        other = float(worse.sum()) / max(1, of["rejected"])
        sure = sure_share(share, of["chosen"])
        if sign == "off_topic" and not topics(subject, limits).chosen_is_off:
            continue
        times = 1.0 if sign == "off_topic" else limits["broken_times"]
        if sure >= limits[_LEAST.get(sign, "broken_chosen_share")] and share >= times * other:
            worst = max(worst or (0.0, ""), (share - other, sign))
    if worst is not None:
        rows = signs["chosen"][worst[1]]
        found = subject.found(rows, table.there["chosen"])
        other = percent(float(signs["rejected"][worst[1]].sum()) / max(1, int(table.there["rejected"].sum())))
        yield found.observed(OUTCOMES[worst[1]], side="chosen", severity="error", other=other)
    elif not scored.any():
        subject.need_rows(table.rows)
        yield ok("ok", of=table.rows)
    elif not (table.scores["chosen"] < table.scores["rejected"])[scored].any():
        yield ok("ok_scores", of=int(scored.sum()))


def broken(subject: PairsSubject, side: str, limits: Thresholds) -> dict[str, np.ndarray]:
    """By sign, (n,) which answers of a side show it."""
    table = subject.table
    there = table.there[side]
    letters = table.chars[side] * (1 + table.features["chinese"][side])  # a Chinese character says as much as two
    return {
        "empty": table.flagged(f"empty_{side}"),
        "loops": there & (table.features["repeated"][side] >= limits["loop_repeated"]),
        "template": table.flagged(f"template_{side}"),
        "damaged": table.flagged(f"replaced_{side}", f"misread_{side}"),
        "breaks_off": table.flagged(f"cut_{side}"),
        "unfinished": (table.features["finished"][side] == 0) & (letters > LEAST_SENTENCES),
        "off_topic": there & (np.nan_to_num(table.prompt_fit[side], nan=1.0) < limits["fit_of_chance"]),
    }
