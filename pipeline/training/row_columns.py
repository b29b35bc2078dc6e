"""A pair as the row that a method's trainer reads: `prompt` with `completion`, with `chosen` and `rejected`, or with an
answer to check. https://huggingface.co/docs/trl/dataset_formats

Rows are all text or all lists of messages: `datasets` gives a column one type. Text joins turns with line breaks, as
answers are generated from such models (pipeline/prompt_formats.py, `plain`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.pairs.asked_alone import read_asked
from pipeline.pairs.format import with_system
from pipeline.pairs.pair import Message, Pair, Side, content_text
from pipeline.pairs.turns import side_turns

PREFERENCE = ("dpo", "orpo", "simpo", "cpo", "reward")
ONLINE = ("grpo", "rloo")
COLUMNS = {
    "sft": ("prompt", "completion"), "kto": ("prompt", "completion", "label"),
    **dict.fromkeys(PREFERENCE, ("prompt", "chosen", "rejected")), **dict.fromkeys(ONLINE, ("prompt", "answer")),
}  # fmt: skip
ASKED = "asked"  # flag of a pair whose row says nothing of which answer is better
_ROLES = ("system", "user", "assistant")
# What TRL calls its own columns and arguments of rewards; `images` would make it look for pictures
_OWN_NAMES = (
    "prompt", "prompts", "completion", "completions", "completion_ids", "answer", "chosen", "rejected", "label",
    "image", "images", "tools", "trainer_state",
)  # fmt: skip


class CannotUse(Exception):
    """A pair that the method has no use for: (reason, detail). The reasons stand in words/*/training.yaml."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def training_rows(pair: Pair, method: str, *, conversational: bool, supervised: bool) -> list[dict[str, Any]]:
    """The rows of one pair: two for KTO where it has both sides, else one. supervised: its source holds answers to
    learn, so a single side says nothing of what is wanted. Raises CannotUse."""
    if pair.status == "discarded" or str(pair.extra.get("status", "")).strip().lower() == "discarded":
        raise CannotUse("discarded")
    supervised = supervised or ASKED in pair.flags
    prompt = _prompt(pair, conversational)
    if method in ONLINE:
        return [{"prompt": prompt, "answer": _answer_to_check(pair), **_columns_beside(pair)}]
    if method == "sft":
        if pair.chosen is None:
            raise CannotUse("unwanted_answer" if pair.rejected is not None else "no_answer")
        return [{"prompt": prompt, "completion": _side(pair.chosen, conversational, wanted=True)}]
    if method == "kto":
        if supervised:
            raise CannotUse("answers_to_learn" if pair.chosen is not None else "no_answer")
        found = [(side, wanted) for side, wanted in ((pair.chosen, True), (pair.rejected, False)) if side is not None]
        if not found:
            raise CannotUse("no_answer")
        return [{"prompt": prompt, "completion": _side(s, conversational, wanted=w), "label": w} for s, w in found]
    if pair.chosen is None or pair.rejected is None:
        if pair.chosen is None and pair.rejected is None:
            raise CannotUse("no_answer")
        raise CannotUse("answers_to_learn" if supervised else "one_side")
    if pair.chosen == pair.rejected:
        raise CannotUse("same_answers")
    chosen = _side(pair.chosen, conversational, wanted=True)
    return [{"prompt": prompt, "chosen": chosen, "rejected": _side(pair.rejected, conversational, wanted=False)}]


def asked(value: Any) -> Pair | None:
    """Reads a record that only asks, or that holds an answer to learn among pairs; None for one that asks nothing."""
    pair = read_asked(value)
    if pair is not None:
        pair.flags.append(ASKED)
    return pair


def prompt_key(prompt: Any) -> str:
    """The same for prompts that differ in capitals and white space alone."""
    text = prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']} {turn['content']}" for turn in prompt)
    return " ".join(text.casefold().split())


def _prompt(pair: Pair, conversational: bool) -> Any:
    turns = [_turn(turn, conversational) for turn in with_system(pair)]
    if not any(turn["content"].strip() for turn in turns if turn["role"] != "system"):
        raise CannotUse("no_prompt")
    return turns if conversational else "\n".join(turn["content"] for turn in turns if turn["content"])


def _side(side: Side, conversational: bool, *, wanted: bool) -> Any:
    """An empty unwanted answer is one that the model has given; an empty wanted one would teach it to say nothing."""
    turns = [_turn(turn, conversational) for turn in side_turns(side)]
    if not conversational and len(turns) != 1:
        raise CannotUse("several_turns")
    if not turns or turns[-1]["role"] != "assistant":
        raise CannotUse("no_answer")
    if wanted and not turns[-1]["content"].strip():
        raise CannotUse("empty_answer")
    return turns if conversational else turns[0]["content"]


def _turn(turn: Message, conversational: bool) -> dict[str, str]:
    role, content = turn.get("role"), turn.get("content")
    if role not in _ROLES and not (conversational and role == "tool"):
        raise CannotUse("other_role", str(role))
    if isinstance(content, list):
        if any(not isinstance(part, Mapping) or not isinstance(part.get("text"), str) for part in content):
            raise CannotUse("not_text", str(role))
        content = content_text(content)
    if not isinstance(content, str) or turn.get("tool_calls") or turn.get("images"):
        raise CannotUse("not_text", str(role))
    return {"role": str(role), "content": content}


def _answer_to_check(pair: Pair) -> str:
    """What a reward compares with; empty where the row has none."""
    for given in (pair.extra.get("answer"), pair.extra.get("solution"), pair.extra.get("gold_sql")):
        if isinstance(given, (str, int, float)) and not isinstance(given, bool):
            return str(given)
    chosen = pair.chosen
    return chosen if isinstance(chosen, str) else content_text(chosen[-1].get("content")) if chosen else ""


def _columns_beside(pair: Pair) -> dict[str, str]:
    """Other columns of the row, for rewards that read them, as text: a column of several types would be none."""
    found: dict[str, str] = {} if pair.id is None else {"id": pair.id}
    for name, value in pair.extra.items():
        if name in _OWN_NAMES or not isinstance(value, (str, int, float)):
            continue
        found[str(name)] = value if isinstance(value, str) else json.dumps(value)
    return found
