"""GEN012: NaN or infinity among the scores while generating."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import error, ok
from diagnostics.thresholds import Thresholds


def scores_not_finite(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the model's raw scores hold NaN or infinity at any step of any answer.
    Why it matters:
        Nothing raises: greedy decoding of NaN takes token 0 for ever, and remove_invalid_values turns NaN into zero, so
        that sampling writes random tokens without a word. Only plain sampling crashes.
    How it is measured:
        The scores are read as the model returns them, before generate() changes anything. One step is enough.
    Known false alarms:
        Minus infinity for forbidden tokens is normal and not counted.
    Fix:
        Load in float32 or bfloat16. If it stays, the weights hold the bad values (WGT001, WGT002). Take
        remove_invalid_values out of generation_config.json: it hides the fault.
    References:
        https://github.com/huggingface/transformers/issues/11735
        https://github.com/charent/ChatLM-mini-Chinese
    """
    grid = subject.generations
    answers = [a for of in grid.answers.values() for a in of]
    wrong = [a for a in answers if a.non_finite]
    subject.metrics["gen.non_finite_answers"] = float(len(wrong))
    if not wrong:
        yield ok(n=len(answers))
        return
    hidden = bool(grid.own.strategy.settings.get("remove_invalid_values"))
    evidence = [(where(grid, a), quoted(a)) for a in wrong[:3]]
    numbers = {"n": len(wrong), "total": len(answers), "steps": sum(a.non_finite for a in wrong)}
    if hidden:
        setting = ("generation_config.json:remove_invalid_values", True)
        yield error("hidden_by_settings", setting, *evidence, **numbers)
    else:
        yield error("not_finite", *evidence, **numbers)
