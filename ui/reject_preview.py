"""What a policy would take from the rows of a preview: counts by strategy and by reason, and a few of its pairs.

Choosing takes no model, so another policy is told at once; the rows are kept, and the whole run goes on from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.candidates.policy import describe, parse_policy
from pipeline.config_files import load_config
from pipeline.refusal import Refused
from ui import reject_runs
from ui.interface_words import known, words
from ui.pair_difference import difference, spans_html
from ui.reject_head import policy_select
from ui.reject_index import Rows
from ui.reject_live import LiveRows
from ui.reject_runs import About, Status
from ui.reject_view import gold_of, picked_of, question_of, strategy_name, text_of_side
from ui.safe_html import tag, text, with_specials

MOST_REASONS = 8
SHOWN = 400  # characters of a text in an example


def panel(run_id: str, about: About, status: Status, index: Rows, lang: str) -> str:
    """Empty but for a preview that is done."""
    if not about.preview or status.state != "done" or not isinstance(index, LiveRows):
        return ""
    index.update()
    said, told = words(lang), index.told
    pairs = sum(told.strategies.values())
    line = said["rejects_preview_pairs"].format(
        pairs=f"{pairs:,}", rows=f"{told.rows - told.without_pair:,}", of=f"{told.rows:,}",
        candidates=f"{told.candidates:,}",
    )  # fmt: skip
    head = tag("div", "dd-preview-head", tag("h3", "dd-h", text(said["rejects_preview_title"])),
               tag("label", "dd-choose-again", tag("span", "dd-dim", text(said["rejects_policy_short"])),
                   policy_select(about, lang, data_at_once=True)))  # fmt: skip
    by_strategy = [(strategy_name(name, lang), n) for name, n in told.strategies.most_common()]
    counts = tag("div", "dd-preview-counts", _bars(said["rejects_preview_strategies"], by_strategy, "rejected", lang),
                 _bars(said["rejects_preview_reasons"], _reasons(told.reasons, lang), "left", lang))  # fmt: skip
    examples = [html for row in index.examples if (html := _example(index, row, lang))]
    shown = ""
    if examples:
        title = tag("h4", "dd-preview-title", text(said["rejects_preview_examples"]))
        shown = title + tag("div", "dd-preview-examples", *examples)
    return tag("section", "dd-card dd-preview", head, tag("p", "", text(line)), counts, _rules(about, lang), shown)


def _rules(about: About, lang: str) -> str:
    try:
        lines = describe(parse_policy(reject_runs.policy_of(about)), known(lang)).splitlines()
    except (Refused, KeyError):
        return ""
    listed = tag("ul", "dd-policy-lines", *(tag("li", "", text(line)) for line in lines))
    return tag("details", "dd-more-facts", tag("summary", "", text(words(lang)["rejects_preview_rules"])), listed,
               id="dd-rejects-preview-rules")  # fmt: skip


def _reasons(reasons: Counter[str], lang: str) -> list[tuple[str, int]]:
    """Why candidates were left, in a few words each; entries of the same words are one."""
    held = load_config(f"words/{known(lang)}/candidates.yaml")
    found: Counter[str] = Counter()
    for entry, n in reasons.items():
        if not entry.startswith(("why_taken", "why_best")):
            found[str(held.get(entry.replace("why_", "short_", 1), entry.removeprefix("why_").replace("_", " ")))] += n
    return found.most_common()


def _bars(title: str, counts: Iterable[tuple[str, int]], css: str, lang: str) -> str:
    """A line for each, longest first."""
    listed = list(counts)
    most = max((n for _, n in listed), default=0)
    rows = [
        tag("li", "", tag("span", "", text(name)), tag("span", "dd-num", text(f"{n:,}")),
            tag("i", f"dd-bar-{css}", style=f"width:{100 * n / most:.0f}%", aria_hidden="true"))
        for name, n in listed[:MOST_REASONS]
    ]  # fmt: skip
    rest = sum(n for _, n in listed[MOST_REASONS:])
    if rest:
        other = words(lang)["rejects_preview_other"]
        rows.append(tag("li", "", tag("span", "", text(other)), tag("span", "dd-num", text(f"{rest:,}"))))
    body = tag("ul", "dd-count-bars", *rows) if rows else tag("p", "dd-dim", text(words(lang)["rejects_preview_none"]))
    return tag("div", "", tag("h4", "dd-preview-title", text(title)), body)


def _example(index: LiveRows, row: int, lang: str) -> str:
    said = words(lang)
    place = index.place_of(row)
    records: list[dict[str, Any]] = index.row(place) if place is not None else []
    picked, gold = picked_of(records), gold_of(records)
    if picked is None:
        return ""
    answer = text_of_side(picked.get("text"))[:SHOWN]
    spans = difference(gold[:SHOWN], answer, SHOWN).rejected if gold is not None else [(True, answer)]
    facts = (
        (said["rejects_gold"], with_specials((gold or "–")[:SHOWN])),
        (strategy_name(str(picked.get("strategy", "")), lang), spans_html(spans, "rejected")),
    )  # fmt: skip
    lines = (tag("p", "", tag("span", "dd-dim", text(name)), tag("span", "", shown)) for name, shown in facts)
    opened = tag("button", "dd-link", text(said["rejects_preview_row"].format(n=f"{row + 1:,}")), type="button",
                 data_example=str(row))  # fmt: skip
    asked = tag("header", "", tag("b", "", with_specials(question_of(records[0])[:SHOWN])), opened)
    return tag("article", "", asked, *lines)
