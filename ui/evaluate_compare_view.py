"""The page of a comparison: which model is better, how sure that is, where, what needs no judge, and the cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.repetition import longest_loop
from ui import evaluate_votes
from ui.charts import finite_number
from ui.evaluate_cases import OUTCOMES, Cases, Wanted, cases_of
from ui.evaluate_contests import contests_of, deciding, disagreeing, first_shown, is_judged, names_of, objects
from ui.evaluate_panel import Headline, Shown
from ui.evaluate_plots import Bar, Points, histogram, interval_bars, number, scatter
from ui.interface_words import words
from ui.pair_difference import Span, difference, spans_html
from ui.safe_html import prose, tag, text, with_specials

TONES = {"win": "good", "tie": "even", "loss": "bad"}
VERDICT_TONES = {"better": "healthy", "worse": "problems", "no_difference": "neutral"}
LONG = 12_000  # characters of one answer that are shown
SHORT = 40  # characters: that two short answers share little needs no saying
PAGE = 5  # cases at once
ORDER_OF_CASES = ("loss", "win", "tie")
MOST_CATEGORIES = 60
FEW_VALUES = 4  # different scores of one judge: with no more than that a scatter is a handful of spots
SAME_POINTS = ("length_free_reward",)  # that differ from another judge's by a little only
DECODING = ("temperature", "top_p", "num_beams", "max_new_tokens", "samples")
LOOP = 4.0  # times that a stretch has to be said to be marked
LOOP_SHARE = 0.2  # of the answer, so that `...` and the like aren't


# --- what is in a result -----------------------------------------------------------------------------------------


def by_name(by: str, lang: str) -> str:
    """Who judged, in words; one that is unknown by its own name."""
    return str(words(lang)["compare_by"].get(by, by.replace("_", " ")))


def headline(result: Mapping[str, Any], lang: str) -> Headline:
    """For the list: the verdict of each model with its win rate."""
    said = words(lang)
    before, afters = names_of(result)
    found = [(after, deciding(result, after)) for after in afters]
    judged = [(after, one) for after, one in found if one is not None]
    if not judged:
        return Headline(str(said["compare_line_unjudged"]))
    lines = []
    for after, one in judged[:3]:
        share = number(_get(one, "win_rate", "value"), percent=True)
        line = str(said[f"compare_line_{one.get('verdict')}"]).format(after=after, before=before, share=share)
        lines.append(line)
    verdicts = {one.get("verdict") for _, one in judged}
    tone = "problems" if "worse" in verdicts else "healthy" if "better" in verdicts else "neutral"
    return Headline(" · ".join(lines), tone)


# --- the page ----------------------------------------------------------------------------------------------------


def view(one: Shown, lang: str) -> str:
    """The whole result; of several models one, with the others to be chosen."""
    return tag("div", "dd-compare", compared(one, first_shown(one.result), lang), data_part="compare")


def overview(one: Shown, after: str, lang: str) -> str:
    """Every model in one row, where there are several."""
    said = words(lang)
    _, afters = names_of(one.result)
    if len(afters) < 2:
        return ""
    bars = []
    for name in afters:
        contest = deciding(one.result, name)
        if contest is not None:
            note = str(said["compare_verdicts"].get(contest.get("verdict"), ""))
            bar = _bar(name, contest["win_rate"], _tone(contest), note, ask="after", sent=name)
            bars.append(replace(bar, pressed=name == after))
    rest = [name for name in afters if name not in {bar.name for bar in bars}]
    more = (tag("button", "dd-small", text(name), type="button", data_ask="after", data_value=name) for name in rest)
    head = tag("h3", "dd-h", text(said["compare_models"])) + tag("p", "dd-dim", text(said["compare_models_info"]))
    return tag("section", "dd-card", head, interval_bars(bars, lang), *more)


def compared(one: Shown, after: str, lang: str) -> str:
    """Which models there are, and one of them against the one before it in figures."""
    hidden = tag("input", "", type="hidden", name="after", value=after) + tag("input", "", type="hidden", name="voter")
    parts = (
        overview(one, after, lang),
        verdict(one, after, lang),
        win_rates(one.result, after, lang),
        *scatters(one, cases_of(one), after, lang),
        tag("div", "", data_part="case"),
        categories(one.result, after, lang),
        measures(one.result, after, lang),
    )
    return tag("div", "dd-compare-one", hidden, *parts)


def cases(one: Shown, lang: str, after: str = "") -> str:
    """The blind vote and the cases of one model, by default the one that `view` opens with."""
    after = after or first_shown(one.result)
    decided = deciding(one.result, after)
    by = str(decided.get("by", "")) if decided is not None else ""
    listed = cases_page(cases_of(one), one, Wanted(after, by), 0, lang)
    return tag("div", "dd-compare", tag("div", "", evaluate_votes.card(one, after, lang), data_part="votes"),
               tag("div", "dd-compare-cases", listed, data_part="listed"))  # fmt: skip


def verdict(one: Shown, after: str, lang: str) -> str:
    """Better, worse or neither, in a sentence; how sure; how many more prompts would decide."""
    said, result = words(lang), one.result
    before, _ = names_of(result)
    contest = deciding(result, after)
    if contest is None:
        return tag("section", "dd-card dd-verdict dd-evaluate-verdict", tag("h2", "", text(said["compare_unjudged"])),
                   tag("p", "dd-lead", prose(said["compare_unjudged_info"])))  # fmt: skip
    found = str(contest.get("verdict"))
    rate = contest["win_rate"]
    named = {"before": before, "after": after, "by": by_name(str(contest.get("by", "")), lang)}
    figures = {"share": _percent(rate.get("value")), "low": _percent(rate.get("low")),
               "high": _percent(rate.get("high")), "n": _prompts(contest)}  # fmt: skip
    lines = [str(said["compare_rate_line"]).format(**named, **figures)]
    needed, shown_from = finite_number(contest.get("needed")), finite_number(contest.get("shown_from"))
    if found == "no_difference":
        if shown_from is not None:
            lines.append(str(said["compare_shown_from"]).format(share=_percent(shown_from), n=figures["n"]))
        if needed is not None:
            lines.append(str(said["compare_needed"]).format(n=f"{needed:,.0f}"))
    eyebrow = tag("p", "dd-eyebrow", text(str(said["compare_eyebrow"]).format(**named, n=figures["n"])))
    title = tag("h2", "", text(str(said[f"compare_{found}"]).format(**named)))
    against = disagreeing(result, after)
    notes = [tag("p", "dd-lead", text(line)) for line in lines]
    if against:
        names = ", ".join(by_name(by, lang) for by in against)
        notes.append(tag("p", "dd-compare-against", text(str(said["compare_disagreeing"]).format(names=names))))
    if result.get("interrupted"):
        notes.append(tag("p", "dd-banner", text(said["compare_interrupted"])))
    css = f"dd-card dd-verdict dd-evaluate-verdict dd-{VERDICT_TONES.get(found, 'neutral')}"
    return tag("section", css, eyebrow, title, *notes, facts(result, lang))


def facts(result: Mapping[str, Any], lang: str) -> str:
    """What was compared: prompts in common and left out, decoding."""
    said = words(lang)
    prompts = result.get("prompts")
    shown = []
    for name in ("matched", "only_before", "only_after", "twice"):
        value = finite_number(prompts.get(name)) if isinstance(prompts, Mapping) else None
        if value:
            shown.append(str(said[f"compare_prompts_{name}"]).format(n=f"{value:,.0f}"))
    if isinstance(prompts, Mapping) and prompts.get("matched_by") == "position":
        shown.append(str(said["compare_by_position"]))
    decoding = result.get("decoding")
    if isinstance(decoding, Mapping) and decoding:
        shown += _decoding(decoding, said)
    return tag("p", "dd-facts", text(" · ".join(shown))) if shown else ""


def _decoding(decoding: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """How models answered: the way, then its numbers by the names that options have."""
    way = decoding.get("strategy")
    plain = [str(said["replay_decodings"].get(way, way))] if isinstance(way, str) else []
    plain += [f"{name} {decoding[name]}" for name in DECODING
              if isinstance(decoding.get(name), (int, float)) and (name, decoding[name]) != ("samples", 1)]  # fmt: skip
    return plain


def win_rates(result: Mapping[str, Any], after: str, lang: str) -> str:
    """Each judge's win rate around one half, raw and at equal lengths; wins, ties and losses; means of the scores."""
    said = words(lang)
    found = contests_of(result, after)
    if not found:
        return ""
    first, bars = found[0], []
    for contest in found:
        name = _first_large(by_name(str(contest.get("by", "")), lang))
        n = str(said["compare_n_prompts"]).format(n=_prompts(contest))
        bars.append(_bar(name, contest["win_rate"], _tone(contest), n))
        share = contest.get("length_controlled")
        if isinstance(share, Mapping):
            bars.append(_bar(str(said["compare_length_controlled"]).format(by=name), share, _tone_of(share), ""))
    head = tag("h3", "dd-h", text(said["compare_win_rate"]))
    about = tag("p", "dd-dim", text(str(said["compare_win_rate_info"]).format(after=after)))
    scale = interval_bars(bars, lang, below=str(said["compare_side_worse"]), above=str(said["compare_side_better"]))
    unjudged = _unjudged(first, said)
    return tag("section", "dd-card dd-compare-rates", head, about, scale, outcomes(first, lang), unjudged,
               _means(found, lang))  # fmt: skip


def outcomes(contest: Mapping[str, Any], lang: str) -> str:
    """Wins, ties and losses as one bar; each part shows its cases."""
    said = words(lang)
    counts = {name: int(finite_number(contest.get(f"{name}es" if name == "loss" else f"{name}s")) or 0)
              for name in OUTCOMES}  # fmt: skip
    total = sum(counts.values())
    if not total:
        return ""
    parts = (tag("i", f"dd-tone-{TONES[name]}", style=f"flex:{n}") for name, n in counts.items() if n)
    legend = []
    for name, n in counts.items():
        line = str(said[f"compare_count_{name}"]).format(n=f"{n:,}", share=_percent(n / total))
        legend.append(tag("button", f"dd-outcome dd-tone-{TONES[name]}", tag("i", ""), text(line), type="button",
                          data_ask="outcome", data_value=name, disabled=not n))  # fmt: skip
    return tag("div", "dd-outcomes", tag("div", "dd-outcome-bar", *parts, aria_hidden="true"),
               tag("div", "dd-outcome-legend", *legend))  # fmt: skip


def _unjudged(contest: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    left = contest.get("unjudged")
    n = sum(int(finite_number(v) or 0) for v in left.values()) if isinstance(left, Mapping) else 0
    if not n or not isinstance(left, Mapping):
        return ""
    reasons = said["compare_reasons"]
    named = ((reasons.get(name, str(name).replace("_", " ")), value) for name, value in left.items() if value)
    why = ", ".join(f"{reason} {value:,}" for reason, value in named)
    return tag("p", "dd-dim", text(str(said["compare_unjudged_n"]).format(n=f"{n:,}", why=why)))


def _means(contests: Sequence[Mapping[str, Any]], lang: str) -> str:
    """Mean scores before and after, with their difference."""
    said = words(lang)
    rows = []
    for contest in contests:
        before, after, apart = contest.get("before_mean"), contest.get("after_mean"), contest.get("difference")
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            continue
        cells = [number(before.get("mean")), number(after.get("mean")), _difference(apart)]
        name = _first_large(by_name(str(contest.get("by", "")), lang))
        rows.append(tag("tr", "", tag("th", "", text(name), scope="row"),
                        *(tag("td", "dd-num", text(cell)) for cell in cells)))  # fmt: skip
    if not rows:
        return ""
    first = contests[0]
    head = [said["compare_mean_score"], first.get("before", ""), first.get("after", ""), said["compare_difference"]]
    return _table(head, rows)


def scatters(one: Shown, cases: Cases, after: str, lang: str) -> list[str]:
    """Scores before against after of every judge that gives more than a few different ones, and their differences."""
    said = words(lang)
    before, afters = names_of(one.result)
    shown = []
    for contest in contests_of(one.result, after):
        by = str(contest.get("by", ""))
        if by in SAME_POINTS:
            continue
        judged, name = cases.judged.get(by), by_name(str(contest.get("by", "")), lang)
        groups, apart = [], []
        if judged is not None:
            places = cases.points(after, by)
            for outcome, of in places.items():
                groups.append(Points([judged.before[p] for p in of], [judged.after[p] for p in of], of,
                                     str(said["compare_outcomes"][outcome]), TONES[outcome]))  # fmt: skip
                apart += [a - b for p in of if (a := judged.after[p]) != (b := judged.before[p])]
        if not any(len(group.x) for group in groups) and by == "reward":
            groups, apart = _kept_points(one, afters.index(after) if after in afters else 0, said)
        if len({*(round(v, 9) for group in groups for v in (*group.x[:200], *group.y[:200]))}) <= FEW_VALUES:
            continue
        drawn = scatter(groups, lang, x_title=str(said["compare_score_of"]).format(by=name, name=before),
                        y_title=str(said["compare_score_of"]).format(by=name, name=after), x_name=before, y_name=after,
                        set_name=by)  # fmt: skip
        spread = histogram(apart, lang, x_title=str(said["compare_apart"]).format(by=name, before=before, after=after),
                           height=420)  # fmt: skip
        head = tag("h3", "dd-h", text(str(said["compare_scatter"]).format(by=name)))
        about = tag("p", "dd-dim", text(said["compare_scatter_info"]))
        title = tag("h3", "dd-h", text(said["compare_spread"]))
        under = tag("p", "dd-dim", text(str(said["compare_spread_info"]).format(after=after)))
        plots = [tag("section", "dd-card", head, about, drawn)] if drawn else []
        plots += [tag("section", "dd-card", title, under, spread)] if spread else []
        shown.append(tag("div", "dd-evaluate-plots", *plots) if plots else "")
    return shown


def _kept_points(one: Shown, series: int, said: Mapping[str, Any]) -> tuple[list[Points], list[float]]:
    """Points that a stored report kept of a result without its file of rows: [x, y, row, series]."""
    kept = one.report.curves.get("points") if one.report is not None else None
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in OUTCOMES}
    for point in kept.get("points", ()) if isinstance(kept, Mapping) else ():
        if isinstance(point, (list, tuple)) and len(point) == 4 and point[3] == series:
            x, y = finite_number(point[0]), finite_number(point[1])
            if x is not None and y is not None:
                found["win" if y > x else "loss" if y < x else "tie"].append((x, y, int(point[2])))
    groups = [Points([p[0] for p in of], [p[1] for p in of], [p[2] for p in of], str(said["compare_outcomes"][name]),
                     TONES[name]) for name, of in found.items()]  # fmt: skip
    return groups, [y - x for of in found.values() for x, y, _ in of if y != x]


def categories(result: Mapping[str, Any], after: str, lang: str) -> str:
    """The win rate in each category, the largest first; empty without any."""
    said = words(lang)
    contest = deciding(result, after)
    held = contest.get("by_category") if contest is not None else None
    if not isinstance(held, Mapping) or not held:
        return ""
    ranked = sorted(((str(k), v) for k, v in held.items() if isinstance(v, Mapping) and is_judged(v)),
                    key=lambda one: -(finite_number(one[1].get("n")) or 0))  # fmt: skip
    bars = [_bar(name or str(said["compare_no_category"]), one["win_rate"], _tone(one),
                 str(said["compare_n_prompts"]).format(n=_prompts(one)), ask="category", sent=name)
            for name, one in ranked[:MOST_CATEGORIES]]  # fmt: skip
    head = tag("h3", "dd-h", text(said["compare_categories"]))
    about = tag("p", "dd-dim", text(said["compare_categories_info"]))
    more = len(ranked) - MOST_CATEGORIES
    note = tag("p", "dd-dim", text(str(said["compare_more_categories"]).format(n=more))) if more > 0 else ""
    return tag("section", "dd-card", head, about, interval_bars(
        bars, lang, below=str(said["compare_side_worse"]), above=str(said["compare_side_better"])), note)  # fmt: skip


def measures(result: Mapping[str, Any], after: str, lang: str) -> str:
    """What needs no judge: before, after, their difference and what that means."""
    said = words(lang)
    mine = [m for m in objects(result.get("measures")) if m.get("after_name") == after]
    rows: list[str] = []
    alike: list[str] = []
    for one in mine:
        name = str(one.get("name", ""))
        wanted = said["compare_wanted"].get(one.get("wanted"), "")
        label = tag("th", "", text(said["compare_measures"].get(name, name.replace("_", " "))),
                    tag("span", "dd-dim", text(wanted)) if wanted else "", scope="row")  # fmt: skip
        found = str(one.get("verdict", ""))
        told = tag("span", f"dd-measured dd-measured-{found}", text(said["compare_verdicts"].get(found, found)))
        cells = [tag("td", "dd-num", text(number(_get(one, side, "mean")))) for side in ("before", "after")]
        cells += [tag("td", "dd-num", text(_difference(one.get("difference")))), tag("td", "dd-left", told)]
        (alike if found == "no_difference" else rows).append(tag("tr", "", label, *cells))
    if not mine:
        return ""
    head = [said["compare_measure"], mine[0].get("before_name", ""), after, said["compare_difference"],
            said["compare_verdict"]]  # fmt: skip
    title = tag("h3", "dd-h", text(said["compare_measures_title"]))
    about = tag("p", "dd-dim", text(said["compare_measures_info"]))
    shown = _table(head, rows, left=(4,)) if rows else ""
    rest = ""
    if alike:
        line = str(said["compare_measures_alike"]).format(n=len(alike))
        rest = tag("details", "dd-more-facts", tag("summary", "", text(line)), _table(head, alike, left=(4,)),
                   id="dd-compare-alike")  # fmt: skip
    return tag("section", "dd-card", title, about, shown, rest)


def _table(head: Sequence[Any], rows: Sequence[str], left: Sequence[int] = ()) -> str:
    cells = (tag("th", "dd-left" if n in left else "", text(cell), scope="col") for n, cell in enumerate(head))
    inner = tag("thead", "", tag("tr", "", *cells)), tag("tbody", "", *rows)
    table = tag("table", "dd-evaluate-table dd-compare-table", *inner)
    return tag("div", "dd-scroll", table, tabindex=0)


def _difference(value: Any) -> str:
    """A mean difference with its interval."""
    if not isinstance(value, Mapping) or finite_number(value.get("mean")) is None:
        return "–"
    shown = number(value.get("mean"), signed=True)
    low, high = finite_number(value.get("low")), finite_number(value.get("high"))
    return shown if low is None or high is None else f"{shown} ({number(low)} … {number(high)})"


def _bar(name: str, share: Mapping[str, Any], tone: str, note: str, *, ask: str = "", sent: str = "") -> Bar:
    value = finite_number(share.get("value"))
    value = float("nan") if value is None else value
    return Bar(name, value, share.get("low"), share.get("high"), note, tone, ask, sent)


def _prompts(contest: Mapping[str, Any]) -> str:
    return f"{finite_number(contest.get('n')) or 0:,.0f}"


def _first_large(line: str) -> str:
    return line[:1].upper() + line[1:]


def _tone(contest: Mapping[str, Any]) -> str:
    return {"better": "good", "worse": "bad"}.get(str(contest.get("verdict")), "even")


def _tone_of(share: Mapping[str, Any]) -> str:
    low, high = finite_number(share.get("low")), finite_number(share.get("high"))
    return "good" if low is not None and low > 0.5 else "bad" if high is not None and high < 0.5 else "even"


def _percent(value: Any) -> str:
    return number(value, percent=True)


def _get(value: Mapping[str, Any], *names: str) -> float | None:
    found: Any = value
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return finite_number(found)


# --- cases -------------------------------------------------------------------------------------------------------


def cases_page(cases: Cases, one: Shown, wanted: Wanted, offset: int, lang: str) -> str:
    """The filters, and a page of the cases that pass them from `offset` on."""
    said = words(lang)
    if not len(cases):
        return ""
    places = cases.matching(wanted)
    offset = max(0, min(offset, (len(places) - 1) // PAGE * PAGE)) if places else 0
    head = tag("h3", "dd-h", text(said["compare_cases"])) + tag("p", "dd-dim", text(said["compare_cases_info"]))
    row = []
    if wanted.by in cases.judged:
        outcomes = {"": said["compare_any_outcome"], **{n: said["compare_outcomes_cases"][n] for n in ORDER_OF_CASES}}
        options = (tag("option", "", text(shown), value=name, selected=name == wanted.outcome)
                   for name, shown in outcomes.items())  # fmt: skip
        row.append(tag("select", "dd-select", *options, name="outcome", data_ask="filter",
                       aria_label=said["compare_filter_outcome"]))  # fmt: skip
    named = [name for name in cases.categories if name]
    if named:
        listed = [tag("option", "", text(said["compare_any_category"]), value="")]
        listed += [tag("option", "", text(name), value=name, selected=name == wanted.category) for name in named[:500]]
        row.append(tag("select", "dd-select", *listed, name="category", data_ask="filter",
                       aria_label=said["compare_filter_category"]))  # fmt: skip
    row.append(tag("input", "dd-compare-search", type="search", name="search", value=wanted.search, data_ask="filter",
                   placeholder=said["compare_search"], aria_label=said["compare_search"]))  # fmt: skip
    filters = tag("div", "dd-filter-row", *row)
    if not places:
        none = tag("div", "dd-none", tag("p", "dd-dim", text(said["compare_no_cases"])))
        return tag("section", "dd-card", head, filters, none)
    shown = [case_card(cases.case(place), place, wanted.by, one, lang) for place in places[offset : offset + PAGE]]
    last = offset + len(shown)
    line = str(said["compare_page"]).format(first=f"{offset + 1:,}", last=f"{last:,}", of=f"{len(places):,}")
    moves = [_step("previous", "‹", offset - PAGE, offset <= 0, said),
             _step("next", "›", offset + PAGE, offset + PAGE >= len(places), said)]  # fmt: skip
    bar = tag("div", "dd-filter-row dd-rows-bar", tag("span", "dd-matching", text(line)), tag("div", "dd-move", *moves))
    again = tag("div", "dd-filter-row dd-rows-bar", tag("div", "dd-move", *moves)) if len(places) > PAGE else ""
    return tag("section", "dd-card", head, filters, bar) + "".join(shown) + again


def _step(way: str, sign: str, to: int, end: bool, said: Mapping[str, Any]) -> str:
    return tag("button", "dd-small", sign, type="button", data_ask="page", data_value=str(to), disabled=end,
               aria_label=said[f"compare_{way}"], title=said[f"compare_{way}"])  # fmt: skip


def case_card(
    case: Mapping[str, Any], place: int, by: str, one: Shown, lang: str, *, tools: str = "", opened: bool = False
) -> str:  # fmt: skip
    """One prompt with both answers beside each other: what differs is marked, and what repeats itself. opened: by a
    click on its point, outside the list."""
    said = words(lang)
    before, _ = names_of(one.result)
    after = str(case.get("after", ""))
    answers = case.get("answers") if isinstance(case.get("answers"), Mapping) else {}
    texts = [_text(answers.get(name) if isinstance(answers, Mapping) else None) for name in (before, after)]
    apart = difference(texts[1], texts[0], LONG)
    outcome = case.get("outcome")
    found = outcome.get(by) if isinstance(outcome, Mapping) else None
    chip = ""
    if found in TONES:
        chip = tag("span", f"dd-outcome-chip dd-tone-{TONES[found]}", text(said["compare_outcomes"][found]))
    category = case.get("category")
    row = finite_number(case.get("row"))
    about = [tag("span", "dd-dim", text(str(category)))] if category else []
    if row is not None:
        about.append(tag("span", "dd-dim dd-num", text(str(said["compare_row"]).format(n=f"{row + 1:,.0f}"))))
    head = tag("div", "dd-case-head", tag("span", "dd-case-facts", chip, *about), tools)
    prompt = tag("div", "dd-answer dd-compare-prompt", with_specials(_text(case.get("prompt"))[:LONG]), tabindex=0)
    sides = []
    for n, (name, spans) in enumerate(((before, apart.rejected), (after, apart.chosen))):
        better = {"win": n == 1, "loss": n == 0}.get(str(found), False)
        shown = marked(spans, "chosen" if n else "rejected", said) or tag("span", "dd-dim", text(said["empty_answer"]))
        facts = tag("span", "dd-dim", text(_side_facts(case, name, texts[n], lang)))
        title = tag("header", "", tag("b", "", text(name)), facts)
        sides.append(tag("div", "dd-case-side" + (" dd-better" if better else ""), title,
                         tag("div", "dd-case-text", shown, tabindex=0)))  # fmt: skip
    notes = []
    if apart.note and texts[0] != texts[1] and min(map(len, texts)) > SHORT:
        notes.append(tag("p", "dd-dim", text(said[apart.note])))
    if any(apart.cut):
        notes.append(tag("p", "dd-dim", text(str(said["pairs_cut"]).format(n=f"{max(apart.cut):,}"))))
    reason = _judge_reason(case, after)
    if reason:
        why = tag("span", "dd-label", text(said["compare_judge_reason"]))
        notes.append(tag("p", "dd-compare-reference", why, tag("span", "", with_specials(reason[:2000]))))
    reference = case.get("reference")
    if reference:
        right = tag("span", "dd-label", text(said["compare_reference"]))
        notes.append(tag("p", "dd-compare-reference", right, tag("span", "", with_specials(_text(reference)[:2000]))))
    css = "dd-card dd-compare-case" + (" dd-case-card" if opened else "")
    return tag("article", css, head, prompt, tag("div", "dd-case-sides", *sides), *notes, data_place=str(place))


def _judge_reason(case: Mapping[str, Any], after: str) -> str:
    measures = case.get("measures")
    own = measures.get(after) if isinstance(measures, Mapping) else None
    return _text(own.get("judge_reason")) if isinstance(own, Mapping) else ""


def _side_facts(case: Mapping[str, Any], name: str, answer: str, lang: str) -> str:
    """Scores of one answer by whoever judged, and its length."""
    scores = case.get("scores")
    shown = []
    for by, of in scores.items() if isinstance(scores, Mapping) else ():
        value = finite_number(of.get(name)) if isinstance(of, Mapping) else None
        if value is not None and by not in SAME_POINTS:
            shown.append(f"{by_name(str(by), lang)} {number(value)}")
    shown.append(str(words(lang)["pairs_chars"]).format(n=f"{len(answer):,}"))
    return " · ".join(shown)


def marked(spans: Sequence[Span], side: str, said: Mapping[str, Any]) -> str:
    """Parts of an answer with the stretch that only says the same again marked; empty for an empty answer."""
    whole = "".join(part for _, part in spans)
    if not whole.strip():
        return ""
    loop = longest_loop(whole, min_repeats=LOOP)
    if loop is None or loop.share < LOOP_SHARE:
        return spans_html(spans, side)
    ends = (loop.start, loop.start + loop.length)
    first, rest = _cut(spans, ends[0])
    inside, last = _cut(rest, loop.length)
    title = str(said["compare_repeats"]).format(n=f"{loop.repeats:.0f}")
    again = tag("span", "dd-loop", spans_html(inside, side), title=title)
    return spans_html(first, side) + again + spans_html(last, side)


def _cut(spans: Sequence[Span], at: int) -> tuple[list[Span], list[Span]]:
    """Before and from a place in the text."""
    first: list[Span] = []
    last: list[Span] = []
    for same, part in spans:
        here = max(0, min(len(part), at))
        at -= len(part)
        first += [(same, part[:here])] if part[:here] else []
        last += [(same, part[here:])] if part[here:] else []
    return first, last


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
