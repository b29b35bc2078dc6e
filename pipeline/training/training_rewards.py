"""Rewards of online methods (GRPO, RLOO) by name: what pipeline/candidates judges answers with, as TRL calls it.

A name with dots is TRL's way to run any code of the user's; it isn't taken: a recipe may come from somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pipeline.refusal import Refused
from pipeline.training.recipe import Recipe

OWN = ("exact_answer", "regular_expression", "sql_execution")
TRLS = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward", "get_soft_overlong_punishment")

RewardFunction = Callable[..., list[float]]
Judge = Callable[[str, str | None, Mapping[str, Any]], bool | None]


def reward_functions(recipe: Recipe) -> list[Any]:
    """What TRL's trainers take as `reward_funcs`, in TRL's order: the model's path, then the functions.

    Raises Refused where none is named, for an unknown name, a pattern that is none, a database that isn't there.
    """
    found: list[Any] = []
    if model := recipe.get("reward_model_name_or_path"):
        found.append(model)
    names = recipe.get("reward_funcs", [])
    for name in [names] if isinstance(names, str) else names:
        found.append(_by_name(name, recipe))
    if not found:
        raise Refused("train_reward_missing", names=", ".join((*OWN, *TRLS)))
    return found


def check_columns(recipe: Recipe, columns: Iterable[str]) -> None:
    """Raises Refused where a reward needs the right answers and the rows have none."""
    names = recipe.get("reward_funcs", [])
    for name in [names] if isinstance(names, str) else names:
        if name in ("exact_answer", "sql_execution") and "answer" not in columns:
            raise Refused("train_reward_without_answers", name=name)


def _by_name(name: str, recipe: Recipe) -> Any:
    if name == "exact_answer":
        return _judging(name, right_answer)
    if name == "regular_expression":
        from pipeline.candidates.reward_functions import REGEX, reward_function

        pattern = recipe.get("reward_pattern")
        if not pattern:
            raise Refused("train_reward_without_pattern")
        made = reward_function(REGEX + pattern)
        assert made is not None
        return _judging(name, made.judge)
    if name == "sql_execution":
        return _sql(recipe.get("reward_database"))
    if name in TRLS:
        from trl import rewards

        made = getattr(rewards, name)
        # The numbers of TRL's own scripts
        return made(max_completion_len=1280, soft_punish_cache=256) if name == "get_soft_overlong_punishment" else made
    if "." in name:
        raise Refused("train_reward_is_code", value=name, names=", ".join((*OWN, *TRLS)))
    import difflib

    near = difflib.get_close_matches(name, (*OWN, *TRLS), n=1, cutoff=0.0)[0]
    raise Refused("train_reward_unknown", value=name, near=near, names=", ".join((*OWN, *TRLS)))


def completion_text(completion: Any) -> str:
    """A completion as TRL gives it, text or a list of messages, as text."""
    if isinstance(completion, str):
        return completion
    from pipeline.pairs.pair import content_text

    return "\n".join(content_text(m.get("content")) for m in completion if isinstance(m, Mapping))


def right_answer(text: str, gold: str | None, measures: Mapping[str, Any] | None = None) -> bool | None:
    """Whether an answer says the right one; for a number, whether it is the same number. As replays judge it."""
    from pipeline.evaluation.said_answers import says
    from pipeline.evaluation.said_numbers import is_one_number, says_number

    if gold is None:
        return None
    return says_number(text, gold) if is_one_number(gold) else says(text, gold)


def _judging(name: str, judge: Judge) -> RewardFunction:
    def reward(completions: Sequence[Any], answer: Sequence[Any] | None = None, **columns: Any) -> list[float]:
        golds = [None] * len(completions) if answer is None else answer
        return [
            float(judge(completion_text(made), None if gold is None else completion_text(gold), {}) is True)
            for made, gold in zip(completions, golds, strict=True)
        ]

    reward.__name__ = name  # as TRL calls it in its logs: rewards/NAME/mean
    return reward


def _sql(given: str | None) -> RewardFunction:
    """1 where a query gives what the right one gives, on the database that the row is about; texts or normal forms that
    are equal need none."""
    from pipeline.candidates.row_databases import COLUMNS
    from pipeline.sql.measure_sql import measure_sql
    from pipeline.sql.run_query import Databases, checked_database

    folder, file = None, None
    if given is not None:
        import os

        if os.path.isdir(given):
            folder = Databases(given)
        else:
            file = checked_database(given)

    def reward(completions: Sequence[Any], answer: Sequence[Any], **columns: Any) -> list[float]:
        named: Sequence[Any] = next((columns[c] for c in COLUMNS if c in columns), [None] * len(completions))
        rewards = []
        for made, gold, name in zip(completions, answer, named, strict=True):
            database = file if folder is None else folder.find(str(name).strip()) if name is not None else None
            (measure,) = measure_sql(completion_text(gold), [completion_text(made)], database)
            rewards.append(float(measure.is_no_reject and not measure.refused))
        return rewards

    reward.__name__ = "sql_execution"
    return reward
