"""One small conversation rendered by the checkpoint's own template, and what the template writes around it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pipeline.config_files import load_config
from pipeline.probe import Probe, Rendered

# Plain sentences that no template strips, trims or takes for a command.
QUESTION = "Which colour has a ripe banana"
ANSWER = "A ripe banana is yellow"
NEXT_QUESTION = "And which colour has a cherry"


@dataclass(frozen=True)
class Marker:
    """A control token in rendered text. `id`: None when it is no token, or when that can't be known from the files
    here. `is_token`: None when it can't be known."""

    text: str
    id: int | None
    is_token: bool | None


@dataclass(frozen=True)
class RenderedTurns:
    """What the template makes of a question, and of a question with its answer.

    closed, open: the question without and with add_generation_prompt. answered: with the answer. continued: with a
    further question. Each None when it could not be rendered; `failed` is the first problem met.
    after: the markers behind the answer, in order; between: those between the answer and a further question.
    next_turn: the first marker of a following turn.
    end: the marker that ends an answer, from `after`, else `next_turn`; `end_is_next_turn` says which.
    """

    closed: str | None = None
    open: str | None = None
    answered: str | None = None
    continued: str | None = None
    failed: Rendered | None = None
    content_lost: bool = False
    after: tuple[Marker, ...] = ()
    between: tuple[Marker, ...] = ()
    next_turn: Marker | None = None

    @property
    def end(self) -> Marker | None:
        return self.after[0] if self.after else self.next_turn

    @property
    def end_is_next_turn(self) -> bool:
        return not self.after and self.next_turn is not None


def rendered_turns(probe: Probe) -> RenderedTurns:
    """Render by the probe's template. Cheap to call again: the probe keeps what it rendered."""
    turns = _render(probe, as_parts=False)
    if turns.content_lost or (turns.failed is not None and turns.failed.problem == "raised"):
        parts = _render(probe, as_parts=True)  # templates of image models want content as a list of parts
        if parts.failed is None and not parts.content_lost:
            turns = parts
    if turns.answered is None or ANSWER not in turns.answered:
        return turns
    tail = turns.answered.rpartition(ANSWER)[2]
    after = tuple(markers_in(probe, tail))
    between: tuple[Marker, ...] = ()
    if turns.continued is not None and ANSWER in turns.continued and NEXT_QUESTION in turns.continued:
        between = tuple(markers_in(probe, turns.continued.partition(ANSWER)[2].partition(NEXT_QUESTION)[0]))
    skip = len(after) if between[: len(after)] == after else 0
    next_turn = between[skip] if len(between) > skip else None
    return replace(turns, after=after, between=between, next_turn=next_turn)


def _render(probe: Probe, as_parts: bool) -> RenderedTurns:
    def message(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}

    asked = [message("user", QUESTION)]
    answered = [*asked, message("assistant", ANSWER)]
    seen = [
        probe.render(asked),
        probe.render(asked, add_generation_prompt=True),
        probe.render(answered),
        probe.render([*answered, message("user", NEXT_QUESTION)]),
    ]
    closed, opened, with_answer, continued = (r.text for r in seen)
    failed = next((r for r in seen if r.problem is not None), None)
    lost = with_answer is not None and (QUESTION not in with_answer or ANSWER not in with_answer)
    return RenderedTurns(closed, opened, with_answer, continued, failed, lost)


@cache
def _shape() -> re.Pattern[str]:
    return re.compile(load_config("chat_markers.yaml")["marker_shape"])


def markers_in(probe: Probe, text: str) -> list[Marker]:
    """Control tokens in rendered text, in order: declared tokens, and what has the shape of one."""
    known = [t for t in {*probe.added, *probe.special_texts} if t.strip() and t in text]
    patterns = [re.escape(t) for t in sorted(known, key=len, reverse=True)]
    pattern = re.compile("|".join([*patterns, _shape().pattern]))
    texts = [m.group(0) for m in pattern.finditer(text)]
    ids = token_ids_as_written(probe, sorted(set(texts)))
    return [Marker(t, *ids[t]) for t in texts]


def token_ids_as_written(probe: Probe, texts: Sequence[str]) -> Mapping[str, tuple[int | None, bool | None]]:
    """Text -> (id, is one token) as it is tokenised after a letter, the way a template or a data row holds it."""
    if not texts:
        return {}
    if probe.problem is not None:
        return {
            t: (probe.added.get(t), True if t in probe.added or t in probe.special_texts else None) for t in texts
        }
    alone = probe.encode([f"a{t}" for t in texts])
    bare = probe.encode(["a"])[0]
    exact = probe.token_ids(texts)
    found: dict[str, tuple[int | None, bool | None]] = {}
    for text, ids, number in zip(texts, alone, exact, strict=True):
        one = number is not None and ids[:-1] == bare and ids[-1:] == [number]
        found[text] = (number if one else None, one)
    return found
