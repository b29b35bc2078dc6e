"""PRF015, SFT008: answers that say the same again and again."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds

_LEAST = 60  # characters of a loop


def answers_loop(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers repeat themselves: the same stretch over and over, up to the length limit.
    Why it matters:
        Loops in chosen or supervised answers are learned. Loops in rejects are an easy mark: the model learns not to
        loop, which may be wanted, but nothing about the answer.
    How it is measured:
        The share of stretches of 10 characters that stood in the answer before (rep-10); from `loop_repeated` on an
        answer of more than 60 characters is a loop.
    Known false alarms:
        Tables, code with equal lines, verse with a refrain.
    Fix:
        Drop or regenerate the answers that loop; if the model that wrote them loops on its own prompts, diagnose it
        first. To train against loops, mix such pairs with others.
    References:
        https://arxiv.org/abs/2202.06417
        https://arxiv.org/abs/1908.04319
    """
    table = subject.table
    quiet = True
    for side in subject.answers:
        rows = (table.features["repeated"][side] >= limits["loop_repeated"]) & (table.chars[side] > _LEAST)
        subject.metrics[f"pairs.loops.{side}"] = round(float(rows.mean()), 4)
        found = subject.found(rows, table.there[side])
        if not found.count:
            continue
        quiet = False
        if side == "chosen":
            yield found.observed("chosen_loops", side=side)
        else:
            severe = found.share >= limits["rejected_loops_warn"] and found.count >= limits["data_rows_least"]
            yield found.observed("rejected_loops", side=side, severity="warning" if severe else "info")
    if quiet:
        yield ok(of=table.rows)
