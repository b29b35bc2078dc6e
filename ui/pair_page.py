"""What every answer to the page's script is made of: one page of rows, one pair, the head, and checks of what is asked.

The script puts the HTML it gets into the parts of the page. Nothing is remembered between two questions: each tells the
set, the view and the pair, all of it is checked here, and one page of rows is touched at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.refusal import Refused
from ui import (
    pair_export,
    pair_filters,
    pair_head,
    pair_health,
    pair_jobs,
    pair_table,
    pair_tokens_shown,
    pair_view,
    pair_workspaces,
)
from ui.interface_words import known, words
from ui.pair_table import PAGE
from ui.running_diagnosis import one_line
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.pair_workspace import Held, View, Workspace

Asked = dict[str, Any]
Answer = dict[str, Any]
"""parts: HTML by the name of its place. now: what is shown. toast: a line for a moment. state: of the whole tab."""


def guarded(question: Callable[[Asked, str], Answer]) -> Callable[[Any], Answer]:
    """Whatever is asked, and whatever goes wrong, the answer is a line that says so."""

    def answered(asked: Any) -> Answer:
        asked = asked if isinstance(asked, dict) else {}
        given = asked.get("lang")
        lang = known(given if isinstance(given, str) else "")
        try:
            return question(asked, lang)
        except BadCase as bad:
            return {"toast": _said(bad, lang), "bad": True, "gone": bad.entry == "pairs_gone"}
        except Refused as refused:
            return {"toast": pair_workspaces.without_places(refused.said(lang)), "bad": True}
        except Exception as error:
            return {"toast": words(lang)["pairs_failed_text"].format(error=one_line(error)), "bad": True}

    answered.__name__ = answered.__qualname__ = question.__name__.removeprefix("_")
    answered.__doc__ = question.__doc__
    return answered


def _said(bad: BadCase, lang: str) -> str:
    return str(words(lang)[bad.entry]).format(**pair_jobs.said_params(dict(bad.params), lang))


def listed(
    workspace: Workspace, set_id: str, view: View, offset: int, position: int | None, lang: str, *,
    at_end: bool = False, advance: bool = False, me: str = "", above: str = "",
) -> Answer:  # fmt: skip
    """Filters, one page of rows, and a pair: the one asked for where it is on the page, else the page's first.

    at_end: else the page's last. advance: the pair asked for may also stand on one of the pages beside this one, or on
    none. me: the editor who looks. above: HTML above the pair.
    """
    matching = workspace.count(view)
    offset = min(offset, max(0, (matching - 1) // PAGE * PAGE))
    rows = workspace.page(view, offset, PAGE)
    places = [row.position for row in rows]
    if advance and position not in places:
        for other in (offset + PAGE, offset - PAGE):
            beside = workspace.page(view, other, PAGE) if 0 <= other < matching else []
            if any(row.position == position for row in beside):
                rows, offset, places = beside, other, [row.position for row in beside]
                break
    if position not in places and not (advance and position is not None):
        position = places[-1 if at_end else 0] if places else None
    about = pair_workspaces.about(set_id)
    flags = workspace.flags()
    parts = {
        "filters": pair_filters.bar(view, about, workspace.counts(), flags, workspace.measures(), matching, lang),
        "list": pair_table.table(rows, offset, matching, position, lang),
        "pair": pair_view.nothing_chosen(lang),
    }
    now: Answer = {"offset": offset, "position": None, "revision": 0, "matching": matching}
    if position is not None:
        place = _of(offset + places.index(position), matching, lang) if position in places else ""
        large = shown(workspace, set_id, workspace.get(position), lang, me=me, place=place, above=above)
        parts |= large["parts"]
        now |= large["now"]
    return {"parts": parts, "now": now}


def shown(
    workspace: Workspace, set_id: str, held: Held, lang: str, *, me: str, place: str = "", above: str = ""
) -> Answer:  # fmt: skip
    """One pair large."""
    count = pair_tokens_shown.counter(pair_workspaces.about(set_id).tokenizer)
    stale = bool(held.editor) and pair_health.older_than(set_id, held.changed_at)
    card = pair_view.pair_card(held, workspace.revisions(held.position), set_id, lang, me=me, place=place, count=count,
                               above=above, stale=stale)  # fmt: skip
    return {"parts": {"pair": card}, "now": {"position": held.position, "revision": held.revision}}


def around(workspace: Workspace, set_id: str, lang: str, *, form: bool) -> dict[str, str]:
    """form: also that for exporting, which a page that has it keeps with what was typed and came of it."""
    export = {"export": pair_export.form(pair_workspaces.about(set_id), lang)} if form else {}
    return head_parts(workspace, set_id, lang) | {"start": "", "help": pair_head.keys(lang), "bulk": ""} | export


def head_parts(workspace: Workspace, set_id: str, lang: str) -> dict[str, str]:
    """What every change of a set shows in."""
    about = pair_workspaces.about(set_id)
    return {"head": pair_head.head(workspace, set_id, about, lang), "notice": pair_head.notice(workspace, lang)}


def again(workspace: Workspace, asked: Asked, position: int, lang: str, above: str = "") -> Answer:
    """The same view after something was changed, with this pair."""
    view = pair_filters.checked_view(asked.get("view"), workspace)
    answer = listed(workspace, asked["id"], view, whole(asked.get("offset")), position, lang, advance=True,
                     me=editor_of(asked), above=above)  # fmt: skip
    answer["parts"] |= head_parts(workspace, asked["id"], lang)
    return answer


def _of(place: int, matching: int, lang: str) -> str:
    return str(words(lang)["pairs_place"]).format(n=f"{place + 1:,}", of=f"{matching:,}")


# --- checks of what is asked ---


def whole(value: Any) -> int:
    """A number from 0; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def place_of(asked: Asked) -> int | None:
    value = asked.get("position")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def text_of_field(value: Any, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def names_of(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)][:20] if isinstance(value, list) else []


def editor_of(asked: Asked) -> str:
    return pair_workspaces.checked_editor(asked.get("editor"))
