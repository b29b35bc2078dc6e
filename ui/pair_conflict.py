"""Two people changed one pair: what the other one made of it beside one's own, and the ways on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.pairs.pair import text_of
from ui.interface_words import words
from ui.pair_difference import difference, spans_html
from ui.pair_view import as_data, shown_time
from ui.pair_workspaces import editor_name
from ui.safe_html import tag, text

if TYPE_CHECKING:
    from pipeline.pair_workspace import Conflict, Held


def text_conflict(found: Conflict, side: str, mine: list[str], set_id: str, lang: str) -> str:
    """For an edit that came too late. mine: the texts that were typed, of the turns of `side`."""
    said = words(lang)
    theirs = text_of(found.pair.prompt) if side == "prompt" else text_of(getattr(found.pair, side))
    heads = said["pairs_theirs"].format(who=editor_name(set_id, found.editor, lang)), said["pairs_mine"]
    line = said["pairs_conflict_text"].format(side=said[f"pairs_part_{side}"])
    buttons = (
        _button("theirs", "pairs_take_theirs", said),
        _button("mine", "pairs_keep_mine", said),
        _button("merge", "pairs_merge", said),
    )
    return _block(
        found, set_id, lang, tag("p", "", text(line)), _beside(heads, theirs, "\n".join(mine), said),
        tag("div", "dd-conflict-do", *buttons), data_side=side, data_mine=as_data(mine),
    )  # fmt: skip


def action_conflict(found: Conflict, before: Held | None, do: str, set_id: str, lang: str) -> str:
    """For accept, discard or swap of a pair that looks otherwise now. before: what was seen, to show what changed."""
    said = words(lang)
    changed = []
    for side in ("prompt", "chosen", "rejected") if before is not None else ():
        old, new = (text_of(getattr(pair, side)) for pair in (before.pair, found.pair))  # type: ignore[union-attr]
        if old != new:
            name = said[f"pairs_part_{side}"]
            heads = f"{name} · {said['pairs_now']}", f"{name} · {said['pairs_you_saw']}"
            changed.append(_beside(heads, new, old, said))
    status = said["pairs_conflict_status"].format(status=said[f"pairs_status_{found.pair.status}"])
    buttons = _button("theirs", "pairs_leave_it", said), _button("again", f"pairs_{do}_anyway", said)
    line = tag("p", "", text(said[f"pairs_wanted_{do}"]), " ", text(status))
    return _block(found, set_id, lang, line, *changed, tag("div", "dd-conflict-do", *buttons), data_do=do)


def _beside(heads: tuple[str, str], first: str, second: str, said: Any) -> str:
    """Two versions of a text, with what differs marked."""
    both = difference(first, second)
    columns = []
    for head, spans, side in zip(heads, (both.chosen, both.rejected), ("chosen", "rejected"), strict=True):
        body = spans_html(spans, side) or text(said["pairs_empty"])
        columns.append(tag("div", "", tag("h4", "", text(head)), tag("div", "dd-answer", body, tabindex=0)))
    note = tag("p", "dd-dim", text(said[both.note])) if both.note else ""
    return tag("div", "dd-answers", *columns) + note


def _block(found: Conflict, set_id: str, lang: str, *inner: str, **data: str) -> str:
    said = words(lang)
    who, when = editor_name(set_id, found.editor, lang), shown_time(found.changed_at)
    title = tag("h4", "", text(said["pairs_conflict"].format(who=who, when=when)))
    return tag("section", "dd-conflict", title, *inner, role="alert", data_conflict=str(found.revision), **data)


def _button(do: str, entry: str, said: Any) -> str:
    return tag("button", "dd-do", text(said[entry]), type="button", data_solve=do)
