"""RUN027: whether the trainer will teach the model to stop, and anything at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import percent
from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.stop_ids import stop_ids
from pipeline.training.row_columns import ONLINE
from pipeline.training.token_preview import preview


def stop_token_untaught(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        What the trainer will see of the rows, as tokens: how many are trained on, and whether the last of each answer
        is one that `generate` stops on. The first rows stand in the report.
    Why it matters:
        Where the loss never covers the token that generation waits for, the model learns everything but to stop. Rows
        whose prompt fills max_length have no token left to learn from; a reward model's trainer leaves out longer rows.
    How it is measured:
        Rows become tokens exactly as TRL makes and cuts them; stop ids are those of generation_config.json.
    Known false alarms:
        A model that will be given another generation_config.json afterwards.
    Fix:
        Use a chat template that ends the assistant's turn with a stop token, or set eos_token; raise max_length.
    References:
        https://github.com/huggingface/trl/issues/3318
        https://huggingface.co/docs/trl/sft_trainer#train-on-completion-only
    """
    try:
        stops = frozenset(stop_ids(subject.checkpoint).ids)
    except NotMeasured:
        stops = frozenset()
    tokenizer = subject.tokenizer
    if tokenizer.eos_token_id is not None and not stops:
        stops = frozenset({tokenizer.eos_token_id})
    mode = subject.get("truncation_mode", "keep_start")
    shown = preview(
        subject.rows, tokenizer, subject.method, max_length=subject.max_length, truncation_mode=mode,
        encoder_decoder=subject.encoder_decoder, stops=stops,
    )  # fmt: skip
    subject.samples += shown
    subject.metrics |= {f"rows.tokens.{name}": round(value, 1) for name, value in subject.lengths.items()}
    if subject.method in ONLINE:
        raise NotMeasured("answers_are_generated")
    tokens = subject.tokens
    usable = tokens.problem == 0
    of = int(usable.sum())
    if not of:
        raise NotMeasured("not_tokenised")
    answers = np.maximum(tokens.n_chosen, tokens.n_rejected)
    length = subject.max_length
    whole = tokens.n_prompt + answers
    if length is not None and not subject.encoder_decoder:
        subject.metrics["rows.cut_share"] = round(float((whole > length)[usable].mean()), 4)
    numbers: dict[str, Any] = {"of": of, "max_length": length}
    nothing = (tokens.nothing_left if subject.method != "reward" else whole > (length or 2**31)) & usable
    gone = int(nothing.sum())
    if gone == of:
        yield error("nothing_trained", ("rows", gone), rows=gone, **numbers)
        return
    if gone and subject.method == "reward":
        share = percent(gone / of)
        evidence = ("rows", gone)
        if gone / of >= limits["cut_rows_warn"]:
            yield warning("rows_left_out", evidence, rows=gone, percent=share, **numbers)
        else:
            yield info("rows_left_out", evidence, rows=gone, percent=share, **numbers)
    sides = [
        side for one in shown if not one["dropped"] for side in one["sides"] if side["trained"] and not side["cut"]
    ]
    if not sides:
        yield ok("trained", rows=of - gone, **numbers)
        return
    ends = sorted({tokenizer.decode([i]) for i in stops})
    if any(side["stop"] is not None for side in sides):
        stop = next(side["stop"] for side in sides if side["stop"] is not None)
        yield ok(rows=of - gone, stop=stop, **numbers)
        return
    last = sides[0]["pieces"][-1]["text"] if sides[0]["pieces"] else ""
    shown_ends = (("ends of answers", last), ("generate stops on", ends))
    closed = tokens.closed_chosen[usable].any() or tokens.closed_rejected[usable].any()
    if subject.method == "reward":
        yield info("reward_without_end", *shown_ends, last=last)
    elif closed:
        yield error("other_stop_token", *shown_ends, last=last, ends=", ".join(ends), **numbers)
    else:
        yield error("stop_not_trained", *shown_ends, last=last, ends=", ".join(ends), **numbers)
