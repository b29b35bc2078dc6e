"""One page of pairs as a table: what each asks, how long its answers are, what was found in it, what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ui.interface_words import words
from ui.pair_filters import finding_name
from ui.safe_html import tag, text

if TYPE_CHECKING:
    from pipeline.pair_workspace import RowShown

PAGE = 50
SIGNS = {"new": "○", "accepted": "✓", "edited": "✎", "discarded": "✕"}


def table(rows: Sequence[RowShown], offset: int, matching: int, chosen: int | None, lang: str) -> str:
    """A page of rows. offset: of the first one in the view. chosen: position of the pair shown large."""
    said = words(lang)
    if not rows:
        return tag("div", "dd-none", tag("b", "", text(said["pairs_none_title"])),
                   tag("p", "dd-dim", text(said["pairs_none_text"])),
                   tag("button", "dd-button", text(said["pairs_clear"]), type="button", data_clear=True))  # fmt: skip
    heads = (("#", "dd-n"), (said["pairs_head_prompt"], ""), (said["pairs_chosen"], "dd-wide"),
             (said["pairs_rejected"], "dd-wide"), (said["pairs_head_chars"], "dd-num"),
             (said["pairs_head_scores"], "dd-num dd-wide"), (said["pairs_finding"], "dd-wide"),
             ("⚑", "dd-mid"), ("○", "dd-mid"))  # fmt: skip
    spoken = {"⚑": said["pairs_finding"], "○": said["pairs_status"]}
    head = tag("tr", "", *(tag("th", css, text(name), scope="col", aria_label=spoken.get(name), title=spoken.get(name))
                           for name, css in heads))  # fmt: skip
    shown = chosen if any(row.position == chosen for row in rows) else rows[0].position
    body = (_row(row, row.position == chosen, row.position == shown, lang) for row in rows)
    grid = tag(
        "table",
        "dd-pairs-table",
        tag("thead", "", head),
        tag("tbody", "", *body),
        aria_label=said["pairs_tab"],
        role="grid",
    )
    return tag("div", "dd-pairs-rows", grid) + _pager(offset, len(rows), matching, lang)


def _row(row: RowShown, current: bool, focusable: bool, lang: str) -> str:
    said = words(lang)
    answers = tag("div", "dd-row-answers", _excerpt(row.chosen, said), tag("i", "", "│"), _excerpt(row.rejected, said))
    names = [finding_name(f, lang) for f in row.flags]
    flags = (
        tag("span", "dd-flags", f"⚑ {len(names)}", title="\n".join(names), aria_label=", ".join(names)) if names else ""
    )
    now = said[f"pairs_status_{row.status}"]
    status = tag("span", f"dd-status dd-status-{row.status}", SIGNS[row.status], title=now, aria_label=now)
    made = said.get(f"strategy_{row.strategy}", row.strategy)
    scores = [f"{s:.3g}" for s in (row.score_chosen, row.score_rejected) if s is not None]
    cells = (
        tag("td", "dd-n", f"{row.position + 1}"),
        tag("td", "", tag("div", "dd-row-prompt", text(_line(row.prompt)) or "–"), answers),
        tag("td", "dd-wide", tag("div", "dd-three", _excerpt(row.chosen, said))),
        tag("td", "dd-wide", tag("div", "dd-three", _excerpt(row.rejected, said))),
        tag("td", "dd-num", _chars(row.chosen_chars), tag("i", "", " │ "), _chars(row.rejected_chars)),
        tag("td", "dd-num dd-wide", text(" │ ".join(scores))),
        tag("td", "dd-wide dd-dim", text(" · ".join(part for part in (*names, made) if part))),
        tag("td", "dd-mid", flags), tag("td", "dd-mid", status),
    )  # fmt: skip
    return tag(
        "tr", f"dd-row-{row.status}" + (" dd-current" if current else ""), *cells, data_row=str(row.position),
        data_revision=str(row.revision), tabindex=0 if focusable else -1, aria_selected=str(current).lower(),
    )  # fmt: skip


def _excerpt(side: str | None, said: Any) -> str:
    if side is None:
        return tag("span", "dd-dim", text(said["pairs_no_side"]))
    return tag("span", "", text(_line(side)) or text(said["empty_answer"]))


def _line(excerpt: str) -> str:
    return " ".join(excerpt.split())


def _chars(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def _pager(offset: int, shown: int, matching: int, lang: str) -> str:
    said = words(lang)
    last = max(0, (matching - 1) // PAGE * PAGE)

    def button(sign: str, to: int, entry: str, off: bool) -> str:
        return tag("button", "dd-small", sign, type="button", data_offset=str(to), aria_label=said[entry],
                   title=said[entry], disabled=off)  # fmt: skip

    line = said["pairs_page"].format(first=f"{offset + 1:,}", last=f"{offset + shown:,}", of=f"{matching:,}")
    return tag("div", "dd-pager",
               button("«", 0, "pairs_first_page", offset == 0),
               button("‹", max(0, offset - PAGE), "pairs_previous_page", offset == 0),
               tag("span", "dd-dim", text(line)),
               button("›", offset + PAGE, "pairs_next_page", offset + shown >= matching),
               button("»", last, "pairs_last_page", offset + shown >= matching))  # fmt: skip
