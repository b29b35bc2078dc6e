"""What is done to one pair: accepting, discarding, swapping, editing, and taking that back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.pairs.pair import Message, Side
from pipeline.refusal import Refused
from ui import pair_conflict, pair_filters, pair_workspaces
from ui.interface_words import words
from ui.pair_page import Answer, Asked, again, editor_of, guarded, place_of, whole
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.pair_workspace import Conflict, Held, Saved

MAX_EDITED = 2_000_000  # characters of one edit
SIDES = ("prompt", "chosen", "rejected")


@guarded
def pairs_act(asked: Asked, lang: str) -> Answer:
    """Accept, discard or swap a pair, and go on to the next one after the first two; or undo and redo."""
    do = asked.get("do")
    if do in ("undo", "redo"):
        return _undone(asked, do, lang)
    position, revision, editor = place_of(asked), whole(asked.get("revision")), editor_of(asked)
    if do not in ("accept", "discard", "swap") or position is None:
        raise BadCase("pairs_no_answer")
    with pair_workspaces.opened(asked.get("id")) as workspace:
        view = pair_filters.checked_view(asked.get("view"), workspace)
        done: Saved | Conflict = getattr(workspace, do)(position, revision, editor)
        if _conflicts(done):
            try:
                before = workspace.get(position, revision)
            except Refused:
                before = None
            above = pair_conflict.action_conflict(done, before, do, asked["id"], lang)  # type: ignore[arg-type]
            return again(workspace, asked, position, lang, above) | {"conflict": True}
        pair_workspaces.touch(asked["id"])
        following = workspace.next(position, view) if do != "swap" else None
        answer = again(workspace, asked, position if following is None else following, lang)
        last = do != "swap" and following is None
        return answer | {"toast": words(lang)["pairs_last_one" if last else f"pairs_done_{do}"]}


@guarded
def pairs_save(asked: Asked, lang: str) -> Answer:
    """Save the edited texts of one side, or say who was quicker."""
    side, texts, position = asked.get("side"), asked.get("texts"), place_of(asked)
    if side not in SIDES or position is None or not isinstance(texts, list) or len(texts) > 1000:
        raise BadCase("pairs_no_answer")
    typed = [t if isinstance(t, str) else "" for t in texts]
    if sum(map(len, typed)) > MAX_EDITED:
        raise BadCase("pairs_edit_too_long")
    with pair_workspaces.opened(asked.get("id")) as workspace:
        held = workspace.get(position)
        changes = _edited(held, side, typed)
        done = workspace.save(position, whole(asked.get("revision")), editor=editor_of(asked), **changes)
        if _conflicts(done):
            above = pair_conflict.text_conflict(done, side, typed, asked["id"], lang)  # type: ignore[arg-type]
            return again(workspace, asked, position, lang, above) | {"conflict": True}
        pair_workspaces.touch(asked["id"])
        return again(workspace, asked, position, lang) | {
            "toast": words(lang)["pairs_saved" if done.changed else "pairs_nothing_changed"]
        }  # type: ignore[union-attr]


def _edited(held: Held, side: str, typed: list[str]) -> dict[str, Any]:
    """Arguments of `save`: the typed texts in the places of the texts of the turns they were made from."""
    pair = held.pair
    if side == "prompt":
        changes: dict[str, Any] = {}
        if pair.system is not None and typed:
            changes["system"], typed = _as_written(typed[0], pair.system), typed[1:]
        turns = _turns(pair.prompt, typed)
        return changes | {"prompt": turns if turns is not None else "\n".join(typed)}
    found: Side | None = getattr(pair, side)
    if found is None or isinstance(found, str):
        return {side: _as_written("\n".join(typed), found or "")}
    turns = _turns(found, typed)
    return {side: turns if turns is not None else "\n".join(typed)}


def _turns(turns: list[Message], typed: list[str]) -> list[Message] | None:
    """None where they are not as many as when the edit began."""
    places = [n for n, turn in enumerate(turns) if isinstance(turn.get("content"), str)]
    if not turns or len(places) != len(typed):
        return None
    made = list(turns)
    for n, content in zip(places, typed, strict=True):
        made[n] = {**turns[n], "content": _as_written(content, turns[n]["content"])}
    return made


def _as_written(typed: str, before: str) -> str:
    """A browser ends every line with one sign: where the text had two, it has them again."""
    return typed.replace("\n", "\r\n") if "\r\n" in before and "\n" not in before.replace("\r\n", "") else typed


def _undone(asked: Asked, do: str, lang: str) -> Answer:
    from pipeline.pair_workspace import Undone

    said = words(lang)
    with pair_workspaces.opened(asked.get("id")) as workspace:
        done = workspace.undo(editor_of(asked)) if do == "undo" else workspace.redo(editor_of(asked))
        if not isinstance(done, Undone):
            return {"toast": said[f"pairs_no_{do}" if done is None else "pairs_undo_conflict"], "bad": done is not None}
        pair_workspaces.touch(asked["id"])
        line = said[f"pairs_{do}ne"].format(action=said[f"pairs_did_{done.action}"], n=f"{done.rows:,}")
        if done.left:
            line += " " + said["pairs_undo_left"].format(n=f"{done.left:,}")
        return again(workspace, asked, done.position, lang) | {"toast": line}


def _conflicts(done: Any) -> bool:
    from pipeline.pair_workspace import Conflict

    return isinstance(done, Conflict)
