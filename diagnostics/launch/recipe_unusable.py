"""RUN010: whether the recipe, how it is spread and its data can be used at all."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, ok
from diagnostics.thresholds import Thresholds
from diagnostics.words import in_both_languages

PORT = "accelerate_port_taken"  # said by RUN022


def recipe_unusable(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the recipe is one, names a model that is there, rows that can be read, and an accelerate file that runs
        on this machine.
    Why it matters:
        A mistyped field is otherwise found after the minutes in which the model is loaded, or silently ignored.
    How it is measured:
        Recipe and accelerate file are read as the launch reads them; fields have the names, types and choices of the
        installed TRL, peft and transformers.
    Known false alarms:
        None known.
    Fix:
        As the sentence says.
    References:
        https://huggingface.co/docs/trl/dpo_trainer
        https://huggingface.co/docs/accelerate/basic_tutorials/launch
    """
    if subject.problem is not None:
        outcome = "unusable" if subject.recipe is None else "model_unusable"
        why = in_both_languages(subject.problem.sentence)
        yield error("unusable", why=why) if outcome == "unusable" else error("model_unusable", why=why)
        return
    quiet = True
    refused = subject.spread_problem
    if refused is not None and refused.sentence.entry != PORT:
        quiet = False
        yield error("spread_unusable", why=in_both_languages(refused.sentence))
    if subject.rows_problem is not None:
        quiet = False
        yield error("rows_unusable", why=in_both_languages(subject.rows_problem.sentence))
    if quiet:
        yield ok(method=subject.method, set=len(subject.asked.fields))
