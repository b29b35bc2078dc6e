"""PRF007, SFT005: answers that repeat their prompt."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject, sure_share
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def prompt_in_answers(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers begin with the prompt, or hold all of it.
    Why it matters:
        The trainer puts the prompt before the answer, so it stands there twice and its second copy is trained as an
        answer: the model learns to repeat questions. It happens when generated ids are decoded without cutting off the
        prompt, or when whole conversations stand in `chosen` and `rejected`.
    How it is measured:
        Both texts in lower case with white space as one space; prompts of at least 8 characters; an answer that is the
        prompt and nothing more doesn't count.
    Known false alarms:
        Tasks whose answer quotes the text they were given (correcting, continuing a text, filling in code).
    Fix:
        Decode only what was generated: `output_ids[:, input_ids.shape[1]:]`; or cut the prompt off both sides.
    References:
        https://github.com/allenai/reward-bench/issues/140
    """
    table = subject.table
    quiet = True
    for side in subject.answers:
        begins, holds = table.flagged(f"starts_with_prompt_{side}"), table.flagged(f"holds_prompt_{side}")
        for rows, flag in ((begins, "starts_with_prompt"), (begins | holds, "holds_prompt")):
            found = subject.found(rows, table.there[side])
            if not rows.any() or (flag == "holds_prompt" and not holds.any()):
                continue
            quiet = False
            if flag == "starts_with_prompt":
                yield found.observed(
                    f"{side}_starts_with_prompt", side=side, flags=[f"{flag}_{side}"],
                    warn="prompt_repeated_warn", error="prompt_repeated_error",
                )  # fmt: skip
            else:
                few = sure_share(found.share, found.of) < limits["prompt_held_sure"]
                yield found.observed(
                    f"{side}_holds_prompt", side=side, flags=[f"{flag}_{side}"], severity="info" if few else None,
                    warn="prompt_held_warn", error="prompt_repeated_error",
                )  # fmt: skip
    if quiet:
        yield ok(of=table.rows)
