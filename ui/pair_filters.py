"""Which pairs a page looks at: checked from what its browser asks for, and the bar that shows and changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from diagnostics.words import family_words
from pipeline.pairs.pair import Status
from ui.interface_words import words
from ui.pair_workspaces import About
from ui.safe_html import tag, text

if TYPE_CHECKING:
    from pipeline.pair_workspace import Counts, View, Workspace

MAX_SEARCH = 500
STATUSES: tuple[str, ...] = get_args(Status)
SORTS = ("position", "prompt_chars", "chosen_chars", "rejected_chars", "length_ratio", "similarity", "score_chosen",
         "score_rejected")  # fmt: skip


def columns(workspace: Workspace) -> set[str]:
    """What can be filtered by a range, sorted by and drawn."""
    from pipeline.pair_workspace import COLUMNS

    return {*COLUMNS, *workspace.measures()}


def checked_view(asked: Any, workspace: Workspace) -> View:
    """The view a browser asks for; what can't be meant is left out."""
    from pipeline.pair_workspace import View

    asked = asked if isinstance(asked, dict) else {}
    known = columns(workspace)

    def named(key: str, most: int = 200) -> str | None:
        value = asked.get(key)
        return value[:most] if isinstance(value, str) and value else None

    given = asked.get("ranges")
    ranges = {}
    for column, ends in given.items() if isinstance(given, dict) else ():
        if column in known and isinstance(ends, list) and len(ends) == 2:
            low, high = (_number(end) for end in ends)
            if low is not None or high is not None:
                ranges[column] = (low, high)
    status, sort, strategy = named("status"), named("sort"), named("strategy")
    return View(
        search=named("search", MAX_SEARCH) or "", finding=named("finding"),
        strategy="" if strategy == NO_STRATEGY else strategy,
        status=status if status in STATUSES else None, ranges=ranges,  # type: ignore[arg-type]
        sort=sort if sort in known else "position", descending=asked.get("descending") is True,
    )  # fmt: skip


NO_STRATEGY = "\u2014"  # stands for rows that name none


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        return None
    return float(value)


def is_whole(view: View) -> bool:
    """Whether nothing is filtered."""
    return not (view.search or view.finding or view.strategy is not None or view.status or view.ranges)


def finding_name(finding: str, lang: str) -> str:
    """A finding such as `PRF005/nearly_repeated` in a few words; one of another version by the title of its check."""
    code, _, outcome = finding.partition("/")
    return str(words(lang)["pairs_found"].get(outcome) or family_words(code, lang).get("title", finding))


def column_name(column: str, lang: str) -> str:
    """A column of a workspace in words; a measure of another version by its own name."""
    return str(words(lang).get(f"pairs_column_{column}", column.replace("_", " ")))


def bar(
    view: View, known: About, counts: Counts, flags: Mapping[str, int], measures: Sequence[str], matching: int,
    lang: str,
) -> str:  # fmt: skip
    """Search, choices, what is filtered with a way to undo each, and how many pairs that leaves."""
    said = words(lang)
    search = tag("input", "dd-search", type="search", value=view.search, placeholder=said["pairs_search"],
                 aria_label=said["pairs_search"], data_view="search", maxlength=MAX_SEARCH)  # fmt: skip
    found = [("", said["pairs_any_finding"])]
    found += [(f, f"{finding_name(f, lang)} · {n:,}") for f, n in flags.items()]
    if view.finding and view.finding not in flags:
        found.append((view.finding, f"{finding_name(view.finding, lang)} · 0"))
    numbers = {"new": counts.new, "accepted": counts.accepted, "edited": counts.edited, "discarded": counts.discarded}
    states = [("", said["pairs_any_status"])] + [(s, f"{said[f'pairs_status_{s}']} · {numbers[s]:,}") for s in STATUSES]
    sorts = [(s, said[f"pairs_sort_{s}"]) for s in SORTS if s != "similarity" or "similarity" in measures]
    choices = [_select("finding", found, view.finding or "", said["pairs_finding"]) if len(found) > 1 else "",
               _select("status", states, view.status or "", said["pairs_status"])]  # fmt: skip
    if known.strategies:
        made = [("", said["pairs_any_strategy"]), *((s, said.get(f"strategy_{s}", s)) for s in known.strategies),
                (NO_STRATEGY, said["pairs_no_strategy"])]  # fmt: skip
        chosen = NO_STRATEGY if view.strategy == "" else view.strategy or ""
        choices.append(_select("strategy", made, chosen, said["pairs_strategy"]))
    choices.append(_select("sort", sorts, view.sort, said["pairs_sort"]))
    turned = tag("button", "dd-small dd-turn", "↓" if view.descending else "↑", type="button", data_turn=True,
                 aria_label=said["pairs_descending" if view.descending else "pairs_ascending"],
                 title=said["pairs_descending" if view.descending else "pairs_ascending"])  # fmt: skip
    first = tag("div", "dd-filter-row", tag("label", "dd-search-box", search, tag("kbd", "", "/")), *choices, turned)
    return first + _matching(view, counts.total, matching, lang)


def _matching(view: View, total: int, matching: int, lang: str) -> str:
    said = words(lang)
    line = said["pairs_all_shown"].format(n=f"{total:,}")
    if not is_whole(view):
        line = said["pairs_matching"].format(n=f"{matching:,}", of=f"{total:,}")
    chips = [_chip(column, said["pairs_range"].format(column=column_name(column, lang), low=_end(low), high=_end(high)),
                   said) for column, (low, high) in view.ranges.items()]  # fmt: skip
    parts = [tag("span", "dd-matching", text(line), role="status"), *chips]
    if not is_whole(view):
        parts.append(tag("button", "dd-link", text(said["pairs_clear"]), type="button", data_clear=True))
    parts.append(tag("button", "dd-small dd-wide-open", text(said["pairs_wide"]), tag("kbd", "", "T"), type="button",
                     data_wide=True, aria_pressed="false"))  # fmt: skip
    parts.append(tag("button", "dd-small dd-bulk-open", text(said["pairs_bulk_open"].format(n=f"{matching:,}")),
                     type="button", data_toggle="bulk", aria_expanded="false", disabled=not matching))  # fmt: skip
    return tag("div", "dd-filter-row dd-filter-state", *parts)


def _chip(column: str, line: str, said: Mapping[str, Any]) -> str:
    return tag("button", "dd-range-chip", text(line), tag("span", "", "×"), type="button", data_unrange=column,
               title=said["pairs_unrange"], aria_label=f"{said['pairs_unrange']}: {line}")  # fmt: skip


def _end(value: float | None) -> str:
    return "…" if value is None else f"{value:,.10g}" if float(value).is_integer() else f"{value:.3g}"


def _select(key: str, choices: Sequence[tuple[str, str]], chosen: str, label: str) -> str:
    options = (tag("option", "", text(name), value=value, selected=value == chosen) for value, name in choices)
    active = " dd-active" if chosen and key != "sort" else ""
    return tag("select", f"dd-select{active}", *options, data_view=key, aria_label=label, title=label)
