"""GEN013: the length limit of the files cuts answers that would have ended."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import enough, quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.sample_answers import DEFAULT_NEW_TOKENS, Answer


def length_limit_too_low(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many answers are longer than generate() would allow with the checkpoint's own settings.
    Why it matters:
        Answers that all have the same length and stop in the middle of a sentence look like a broken model. The limit
        is one setting: 20 new tokens where none is set, or a small max_length, which counts the prompt in decoders.
    How it is measured:
        Greedy answers under a generous limit that ended by themselves, and gold answers, are held against the own limit
        (max_new_tokens; max_length less the prompt in decoders).
    Known false alarms:
        Without any declared limit the library's default of 20 applies to callers who pass none. Nearly every published
        model is like that, so it is only told.
    Fix:
        Pass max_new_tokens, and write it into generation_config.json.
    References:
        https://github.com/huggingface/transformers/issues/13424
        https://github.com/huggingface/autotrain-advanced/issues/544
    """
    grid = subject.generations
    enough(grid, limits)
    needs = [(a, need) for a in grid.answers["greedy"] if (need := _needed(grid, a)) is not None]
    if len(needs) < limits["gen_answers_min"]:
        raise NotMeasured("answers_do_not_end")
    cut = [(a, n) for a, n in needs if n > grid.own.limit(len(grid.asked[a.row].ids), grid.is_encoder_decoder)]
    rate = len(cut) / len(needs)
    subject.metrics["gen.cut_by_own_limit"] = round(rate, 4)
    if not grid.own.limit_declared:
        outcome = info if rate >= limits["gen_limit_share"] else ok
        yield outcome(
            "default_limit", n=len(cut), total=len(needs), limit=DEFAULT_NEW_TOKENS, longest=max(n for _, n in needs)
        )
        return
    name = "max_new_tokens" if grid.own.max_new_tokens is not None else "max_length"
    value = grid.own.max_new_tokens if grid.own.max_new_tokens is not None else grid.own.max_length
    numbers = {"field": name, "value": value, "n": len(cut), "total": len(needs), "longest": max(n for _, n in needs)}
    if rate < limits["gen_limit_share"]:
        yield ok("ok", **numbers)
        return
    evidence = [(f"generation_config.json:{name}", value), *[(where(grid, a), quoted(a)) for a, _ in cut[:2]]]
    tell = error if rate >= limits["gen_limit_share_bad"] else warning
    yield tell("cut", *evidence, **numbers)


def _needed(grid: AnswerGrid, answer: Answer) -> int | None:
    """Tokens a whole answer takes: the answer's own where it ended, else the gold's; None where neither is known."""
    if answer.ended:
        return len(answer.ids)
    gold = grid.asked[answer.row].gold_tokens
    return None if gold is None else gold + 1
