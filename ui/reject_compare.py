"""Two runs over the same rows beside each other: whose rejects are on topic, in all and row by row."""

from __future__ import annotations

from array import array
from typing import Any

from ui import reject_runs
from ui.charts import finite_number
from ui.interface_words import words
from ui.pair_difference import difference, spans_html
from ui.reject_head import failure, run_name, state_sign, state_word, step
from ui.reject_index import Rows, Tally
from ui.reject_live import rows_of
from ui.reject_view import LONG, gold_of, question_of, shown_reject, strategy_name, text_of_side
from ui.safe_html import tag, text, with_specials

PAGE = 8  # rows shown at once


def page(ids: tuple[str, str], offset: int, lang: str) -> tuple[str, dict[str, Any]]:
    """Both runs: their rates, then rows from `offset`. Also what is shown. Raises BadCase."""
    said = words(lang)
    ids = tuple(sorted(ids, key=lambda run_id: reject_runs.about(run_id).created))  # type: ignore[assignment]
    indexes = [rows_of(run_id) for run_id in ids]
    for index in indexes:
        index.update()
    total = min(len(index) for index in indexes)
    offset = max(0, min(offset, (total - 1) // PAGE * PAGE)) if total else 0
    columns = [_column(run_id, index, lang) for run_id, index in zip(ids, indexes, strict=True)]
    live = any(reject_runs.status(run_id).live for run_id in ids)
    rows = [_row(indexes, place, lang) for place in range(offset, min(total, offset + PAGE))]
    back = tag("button", "dd-small", text(said["rejects_back"]), type="button", data_new=True)
    head = tag("div", "dd-head-row", tag("div", "dd-head-title", tag("h2", "", text(said["rejects_compare_title"])),
                                         tag("p", "dd-dim", text(said["rejects_compare_text"]))),
               tag("div", "dd-head-tools", back))  # fmt: skip
    top = tag("section", "dd-card dd-compare-head", head, tag("div", "dd-compare-cols", *columns))
    if not total:
        waiting = said["rejects_compare_waiting" if live else "rejects_no_rows"]
        return top + tag("div", "dd-none", tag("p", "dd-dim", text(waiting))), _now(0, 0, live)
    line = said["rejects_page"].format(first=f"{offset + 1:,}", last=f"{offset + len(rows):,}", of=f"{total:,}")
    moves = step("previous", "‹", "K", offset == 0, said), step("next", "›", "J", offset + PAGE >= total, said)
    bar = tag("div", "dd-filter-row dd-rows-bar", tag("span", "dd-matching", text(line)), tag("div", "dd-move", *moves))
    return top + bar + "".join(rows), _now(offset, total, live)


def _now(offset: int, total: int, live: bool) -> dict[str, Any]:
    return {"place": offset, "matching": total, "live": live, "step": PAGE}


def _column(run_id: str, index: Rows, lang: str) -> str:
    said = words(lang)
    about, status = reject_runs.about(run_id), reject_runs.status(run_id)
    whole = _summed(index)
    measured = whole.on_topic + whole.off_topic
    rate = whole.on_topic / measured if measured else None
    now = tag("span", f"dd-run-state dd-state-{status.state}", state_sign(status), text(state_word(status, said)))
    big = tag("div", "dd-rate", text("–" if rate is None else f"{rate:.0%}"))
    shares = (
        (whole.on_topic, "on"),
        (whole.off_topic, "off"),
        (whole.candidates - whole.problems - measured, "unknown"),
    )
    bar = tag("div", "dd-shares", *(tag("i", f"dd-topic-{name}", style=f"flex:{n}") for n, name in shares if n > 0),
              aria_hidden="true")  # fmt: skip
    facts = [said["rejects_rate_of"].format(n=f"{measured:,}", of=f"{whole.candidates:,}")] if whole.candidates else []
    length, rep = whole.median("length_ratio"), whole.mean("rep_4")
    if length is not None:
        facts.append(f"{said['rejects_measure_length_ratio']} × {length:.1f}")
    if rep is not None:
        facts.append(f"{said['rejects_measure_rep_4']} {rep:.0%}")
    if whole.ended + whole.cut:
        facts.append(said["rejects_ended_share"].format(n=f"{whole.ended / (whole.ended + whole.cut):.0%}"))
    failed = status.state == "failed"
    line = failure(reject_runs.progress(run_id), status, lang) if failed else ""
    why = tag("p", "dd-run-why", text(line), role="alert") if failed else ""
    opened = tag("button", "dd-link", text(run_name(about, lang)), type="button", data_open=run_id)
    return tag("div", "dd-compare-col", tag("div", "dd-compare-name", opened, now),
               tag("p", "dd-dim", text(about.model)), big, tag("p", "dd-rate-line", text(said["rejects_rate"])), bar,
               tag("p", "dd-dim", text(" · ".join(facts))), why)  # fmt: skip


def _summed(index: Rows) -> Tally:
    """Of the rejects that were taken where a policy took any, else of all candidates."""
    if index.taken.candidates:
        return index.taken
    whole = Tally()
    for tally in list(index.strategies.values()):
        whole.candidates += tally.candidates
        whole.problems += tally.problems
        whole.on_topic += tally.on_topic
        whole.off_topic += tally.off_topic
        whole.ended += tally.ended
        whole.cut += tally.cut
        for name, value in tally.sums.items():
            whole.sums[name] = whole.sums.get(name, 0.0) + value
        whole.numbers.update(tally.numbers)
        for name, bins in tally.bins.items():
            held = whole.bins.setdefault(name, array("Q", [0] * len(bins)))
            for place, n in enumerate(bins):
                held[place] += n
    return whole


def _row(indexes: list[Rows], place: int, lang: str) -> str:
    said = words(lang)
    first = indexes[0].row(place)
    number = int(finite_number(first[0].get("row")) or 0) if first else place
    other = indexes[1].place_of(number)
    both = [first, indexes[1].row(other) if other is not None else []]
    gold = gold_of(first) or gold_of(both[1])
    asked = question_of(first[0]) if first else ""
    cells = []
    for records in both:
        reject = shown_reject(records)
        if reject is None:
            cells.append(tag("div", "dd-compare-cell", tag("p", "dd-dim", text(said["rejects_none_here"]))))
            continue
        answer = text_of_side(reject.get("text"))
        spans = difference(gold, answer, LONG).rejected if gold is not None else [(True, answer)]
        measures = reject.get("measures")
        topic = measures.get("on_topic") if isinstance(measures, dict) else None
        mark = ""
        if isinstance(topic, bool):
            word = said["rejects_on_topic" if topic else "rejects_off_topic"]
            mark = tag("span", f"dd-measure dd-{'ok' if topic else 'error'}", text(word))
        made = tag("span", "dd-dim", text(strategy_name(str(reject.get("strategy", "")), lang)))
        shown = spans_html(spans, "rejected") or tag("span", "dd-dim", text(said["empty_answer"]))
        cells.append(tag("div", "dd-compare-cell", tag("div", "dd-answer", shown, tabindex=0),
                         tag("div", "dd-cand-chips", mark, made)))  # fmt: skip
    right = tag("div", "dd-dim", text(said["rejects_gold"]), ": ", with_specials((gold or "–")[:2000]))
    question = tag(
        "div", "dd-compare-asked", tag("div", "", tag("b", "", with_specials(asked[:2000])), right),
        tag("span", "dd-n", text(said["rejects_preview_row"].format(n=f"{number + 1:,}"))),
    )  # fmt: skip
    return tag("article", "dd-card dd-compare-row", question, tag("div", "dd-compare-cols", *cells))
