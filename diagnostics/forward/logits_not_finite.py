"""FWD008: numbers that overflow while the model runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds

ROWS = 4


def logits_not_finite(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether all logits are finite, in float32 and, for a model declared float16, in float16 too; on short inputs and
        on a long one.
    Why it matters:
        With NaN in its logits greedy decoding writes token 0 for ever without an error; with remove_invalid_values it
        writes random words.
    How it is measured:
        Four rows and one input of up to 512 tokens made of them. The largest output of any module is recorded: above
        65,504 it can't be held in float16. A model declared float16 with up to 3e8 parameters is also run in float16.
    Known false alarms:
        Module outputs above 65,504 need not break a model that is run in bfloat16 or float32: that is only information.
    Fix:
        Load in bfloat16 or float32 and write that dtype into config.json.
    References:
        https://github.com/huggingface/transformers/issues/5651
        IEEE 754 binary16
    """
    from pipeline.logits_range import logits_range
    from pipeline.score_answers import NotScored

    loaded = subject.loaded
    if loaded.tokenizer is None:
        raise NotMeasured("tokenizer_not_loaded", problem=loaded.tokenizer_problem)
    rows, _ = subject.asked_rows
    texts = [(row.question, row.answer) for row in rows[:ROWS]]
    half_declared = loaded.declared_dtype == "float16"
    try:
        seen = logits_range(loaded, texts, try_half=half_declared)
    except NotScored as reason:
        raise NotMeasured(reason.reason, detail=reason.detail) from None
    largest = "inf" if math.isinf(seen.largest) else f"{seen.largest:,.0f}"
    subject.metrics["forward.largest_activation"] = seen.largest
    numbers = {"tokens": seen.tokens, "largest": largest, "where": seen.where, "percent": 100 * seen.bad_share,
               "limit": f"{limits['fp16_max']:,.0f}", "dtype": loaded.dtype}  # fmt: skip
    evidence = (f"largest output: {seen.where}", largest)
    if not seen.finite:
        yield error("not_finite", evidence, **numbers)
    elif seen.half_finite is False:
        yield error("overflows_in_half", evidence, **numbers)
    elif half_declared and seen.half_finite is None and seen.largest > limits["fp16_max"]:
        yield warning("too_large_for_half", evidence, **numbers)
    elif seen.largest > limits["fp16_max"]:
        yield info("no_float16", evidence, **numbers)
    else:
        yield ok("ok_in_half" if seen.half_finite else "ok", **numbers)
